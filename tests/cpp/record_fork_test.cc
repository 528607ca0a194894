// Forked children record into rings of their own and leave their parent's alone.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "memory_exporter.h"

namespace spanbox {
namespace {

class ForkTest : public testing::Test {
 protected:
  void SetUp() override {
#ifdef __SANITIZE_THREAD__
    GTEST_SKIP() << "ThreadSanitizer cannot follow threads started in a forked child (\"dup thread with used id\")";
#endif
    RecorderOptions options;
    options.lane_bytes = 64 << 10;
    options.lanes = 2;
    options.commit_interval_ns = 5'000'000;
    options.close_timeout_ns = kTestTimeoutNs;
    const pid_t parent = getpid();
    auto opened = Recorder::Open(
        [this, parent]() -> Result<std::shared_ptr<SpanExporter>> {
          if (getpid() == parent) return std::shared_ptr<SpanExporter>(exporter);
          if (child_exporter == nullptr) return Unavailable("this child stores nothing");
          return std::shared_ptr<SpanExporter>(child_exporter);
        },
        dir.path(), options);
    ASSERT_TRUE(opened.ok());
    recorder = *std::move(opened);
  }
  bool RecordSpan(SpanId id) { return recorder->Start(TestRow(id)) && recorder->End(id, SpanStatus::kOk, 7, {}); }
  template <typename Body>
  pid_t Fork(Body body) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(30);  // a deadlock in the child must fail the test, not hang it
      _exit(body() ? 0 : 1);
    }
    return child;
  }
  static bool Succeeded(pid_t child) {
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
  void TearDown() override {
    recorder.reset();
    EXPECT_EQ(exporter->problems(), std::vector<std::string>());
  }

  TempDir dir;
  std::shared_ptr<MemoryExporter> exporter = std::make_shared<MemoryExporter>();
  std::shared_ptr<MemoryExporter> child_exporter;
  std::unique_ptr<Recorder> recorder;
};

TEST_F(ForkTest, ChildHasARingAndACollectorOfItsOwn) {
  ASSERT_TRUE(RecordSpan(1));
  ASSERT_TRUE(recorder->Flush(kTestTimeoutNs).complete);
  child_exporter = std::make_shared<MemoryExporter>();
  const pid_t child = Fork([&] {
    if (recorder->GetHealth().collector_alive || recorder->GetHealth().recorded_spans != 0) return false;
    if (!RecordSpan(2) || dir.Files("-0.ring").size() != 2) return false;
    if (!recorder->Flush(kTestTimeoutNs).complete) return false;
    recorder.reset();
    return child_exporter->span_count() == 1 && dir.Files("-0.ring").size() == 1;
  });
  EXPECT_TRUE(Succeeded(child));
  ASSERT_TRUE(RecordSpan(3));
  ASSERT_TRUE(recorder->Flush(kTestTimeoutNs).complete);
  EXPECT_EQ(exporter->span_count(), 2u);
  EXPECT_EQ(dir.Files("-0.ring").size(), 1u);
}

TEST_F(ForkTest, ChildThatRecordsNothingLeavesNothing) {
  ASSERT_TRUE(RecordSpan(1));
  EXPECT_TRUE(Succeeded(Fork([&] { return recorder->Flush(0).complete; })));
  EXPECT_TRUE(Succeeded(Fork([&] {
    recorder.reset();
    return dir.Files("-0.ring").size() == 1;
  })));
  ASSERT_TRUE(RecordSpan(2));
  ASSERT_TRUE(recorder->Flush(kTestTimeoutNs).complete);
  EXPECT_EQ(exporter->span_count(), 2u);
}

TEST_F(ForkTest, SpansOfAKilledChildAreRescued) {
  ASSERT_TRUE(RecordSpan(1));
  const pid_t child = Fork([&] {
    RecordSpan(2);
    recorder->Start(TestRow(3));
    kill(getpid(), SIGKILL);
    return false;
  });
  EXPECT_FALSE(Succeeded(child));
  // By the parent's collector, without being asked.
  ASSERT_TRUE(exporter->WaitFor([&] { return exporter->span_count() == 3; }));
  const auto spans = exporter->by_id();
  EXPECT_EQ(spans.at(2).status, SpanStatus::kOk);
  EXPECT_EQ(spans.at(3).status, SpanStatus::kInterrupted);
}

TEST_F(ForkTest, ParentsRingDiesWithTheParentThoughAChildLives) {
  // A parent of our own, so that it can be killed while its child still lives.
  int alive[2], done[2];
  ASSERT_EQ(pipe(alive), 0);
  ASSERT_EQ(pipe(done), 0);
  const pid_t parent = Fork([&] {
    RecordSpan(1);
    const pid_t grandchild = fork();
    if (grandchild == 0) {
      char byte = 'x';
      if (write(alive[1], &byte, 1) != 1) _exit(1);
      close(done[1]);
      _exit(read(done[0], &byte, 1) >= 0 ? 0 : 1);  // lives until the test lets go
    }
    pause();
    return true;
  });
  char byte;
  ASSERT_EQ(read(alive[0], &byte, 1), 1);
  kill(parent, SIGKILL);
  waitpid(parent, nullptr, 0);
  const auto report = RecoverRings(*exporter, dir.path());
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->spans, 1u);
  for (const int fd : {alive[0], alive[1], done[0], done[1]}) close(fd);
}

TEST_F(ForkTest, ForksWhileThreadsRecordLoseAndRepeatNothing) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "this AddressSanitizer leaves its allocator locked in a child forked while a thread allocates";
#endif
  std::atomic<bool> stop{false};
  std::atomic<SpanId> next{1};
  std::atomic<std::uint64_t> accepted{0};
  std::vector<std::thread> writers;
  for (int t = 0; t < 4; ++t) {
    writers.emplace_back([&] {
      while (!stop) {
        accepted += RecordSpan(next++);
        std::this_thread::yield();
      }
    });
  }
  constexpr SpanId kForks = 40;
  for (SpanId i = 0; i < kForks; ++i) {
    const SpanId id = 1'000'000'000 + i;
    EXPECT_TRUE(Succeeded(Fork([&] {
      if (!RecordSpan(id)) return false;
      if (i % 4 != 0) return true;
      // And a child's child.
      return Succeeded(Fork([&] { return RecordSpan(id + 1'000'000'000); }));
    })));
  }
  stop = true;
  for (auto& writer : writers) writer.join();
  ASSERT_TRUE(recorder->Flush(kTestTimeoutNs).complete);
  ASSERT_TRUE(RecoverRings(*exporter, dir.path()).ok());
  ASSERT_TRUE(exporter->WaitFor([&] { return dir.Files("-0.ring").size() == 1; }));
  const auto spans = exporter->by_id();
  for (SpanId i = 0; i < kForks; ++i) {
    EXPECT_EQ(spans.count(1'000'000'000 + i), 1u) << i;
    if (i % 4 == 0) EXPECT_EQ(spans.count(2'000'000'000 + i), 1u) << i;
  }
  std::uint64_t parents = 0;
  for (const auto& [id, span] : spans) parents += id < 1'000'000'000 && span.status == SpanStatus::kOk;
  EXPECT_EQ(parents, accepted.load());
}

}  // namespace
}  // namespace spanbox
