// Writers that are faster than the collector are slowed down before there is no room; no call waits longer than it may,
// and nobody waits for a collector that does not move. Time is the writers' waiting, counted and not spent.
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "memory_exporter.h"
#include "record/pacer.h"

namespace spanbox {
namespace {

constexpr std::int64_t kMsNs = 1'000'000;

TEST(PacerTest, RecordOwesTheMoreTheLessRoomIsLeftAndNothingAtHalf) {
  constexpr std::uint64_t kHalf = 32u << 20;
  const auto owed = [](std::uint64_t room) { return Pacer().Charge(1000, room, kHalf, /*now_ns=*/0, kMsNs); };
  EXPECT_EQ(owed(kHalf - 1), 0);
  EXPECT_GT(owed(kHalf / 2), 0);
  EXPECT_GT(owed(kHalf / 4), 2 * owed(kHalf / 2));
  EXPECT_EQ(owed(1000), kMsNs);
  EXPECT_EQ(owed(0), kMsNs);
}

TEST(PacerTest, DebtIsSharedPaidByTimeAndNeverMoreThanOneWait) {
  constexpr std::uint64_t kHalf = 32u << 20, kRoom = kHalf / 4;
  Pacer pacer;
  const std::int64_t once = pacer.Charge(1000, kRoom, kHalf, 0, kMsNs);
  EXPECT_EQ(pacer.Charge(1000, kRoom, kHalf, 0, kMsNs), 2 * once);     // whoever wrote the first
  EXPECT_EQ(pacer.Charge(1000, kRoom, kHalf, once, kMsNs), 2 * once);  // as much has passed
  EXPECT_EQ(pacer.Charge(1000, kRoom, kHalf, kMsNs, kMsNs), once);
  for (int i = 0; i < 1000; ++i) pacer.Charge(1000, kRoom, kHalf, kMsNs, kMsNs);
  EXPECT_EQ(pacer.Charge(1000, kRoom, kHalf, kMsNs, kMsNs), kMsNs);
}

// A commit takes `commit_ns` of the time that writers wait; and they go on only while the collector is in a commit, so
// that it is not the machine that decides who is faster.
class PacedExporter : public MemoryExporter {
 public:
  Status Commit(const SpanBatch& batch) override {
    {
      std::unique_lock lock(mutex_);
      due_ns_ = now_ns_ + commit_ns_;
      in_commit_ = true;
      moved_.notify_all();
      moved_.wait(lock, [&] { return now_ns_ >= due_ns_ || released_; });
      in_commit_ = false;
    }
    return MemoryExporter::Commit(batch);
  }
  void Pass(std::int64_t ns) {
    std::unique_lock lock(mutex_);
    now_ns_ += ns;
    moved_.notify_all();
    moved_.wait(lock, [&] { return (in_commit_ && now_ns_ < due_ns_) || released_; });
  }
  void Release() {
    const std::scoped_lock lock(mutex_);
    released_ = true;
    moved_.notify_all();
  }

 private:
  const std::int64_t commit_ns_ = 50 * kMsNs;  // as long as 50 waits
  std::mutex mutex_;
  std::condition_variable moved_;
  std::int64_t now_ns_ = 0, due_ns_ = 0;
  bool in_commit_ = false, released_ = false;
};

thread_local std::int64_t waited_by_call_ns = 0;

class PacingTest : public testing::Test {
 protected:
  void Open(std::shared_ptr<SpanExporter> exporter, FullRingPolicy policy = FullRingPolicy::kWait) {
    RecorderOptions options;
    options.lane_bytes = 64 << 10;
    options.lanes = 2;
    options.max_ring_bytes = 2 << 20;
    options.commit_bytes = 64 << 10;
    options.commit_interval_ns = kMsNs;
    options.full_ring_policy = policy;
    options.close_timeout_ns = kTestTimeoutNs;
    options.wait = [this](std::int64_t ns) {
      waited_by_call_ns += ns;
      waited_ns += ns;
      ++waits;
      if (on_wait) on_wait(ns);
    };
    max_wait_ns = options.max_wait_ns;
    auto opened = Recorder::Open(std::move(exporter), dir.path(), options);
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    recorder = *std::move(opened);
  }

  // True: the span was accepted. No call has waited for longer than it may.
  bool Write(SpanId id) {
    const std::string output(400, 'o');
    const Field field{Column::kOutput, {}, Value::String(output)};
    waited_by_call_ns = 0;
    const bool started = recorder->Start(TestRow(id));
    EXPECT_LE(waited_by_call_ns, max_wait_ns);
    waited_by_call_ns = 0;
    const bool ended = started && recorder->End(id, SpanStatus::kOk, 7, std::span(&field, 1));
    EXPECT_LE(waited_by_call_ns, max_wait_ns);
    return ended;
  }

  TempDir dir;
  std::unique_ptr<Recorder> recorder;
  std::int64_t max_wait_ns = 0;
  std::function<void(std::int64_t)> on_wait;
  std::atomic<std::int64_t> waited_ns{0};
  std::atomic<std::uint64_t> waits{0};
};

// A writer of 165,000 spans a second lost 77 % of them.
TEST_F(PacingTest, OneWriterLosesNothingHoweverMuchFasterThanTheCollector) {
  const auto exporter = std::make_shared<PacedExporter>();
  Open(exporter);
  on_wait = [&](std::int64_t ns) { exporter->Pass(ns); };
  constexpr SpanId kSpans = 50'000;  // some 30 MB, into rings of 2
  SpanId written = 0;
  while (written < kSpans && Write(written + 1)) ++written;
  EXPECT_EQ(written, kSpans);
  EXPECT_GT(waits, 0u) << "there was room all the time: the test has tested nothing";
  exporter->Release();
  ASSERT_TRUE(recorder->Flush(kTestTimeoutNs).complete);
  EXPECT_EQ(recorder->GetHealth().dropped_spans, 0u);
  EXPECT_EQ(exporter->by_id().size(), kSpans);
  EXPECT_EQ(exporter->problems(), std::vector<std::string>());
}

TEST_F(PacingTest, NobodyWaitsBeforeHalfOfTheRingsIsFull) {
  const auto exporter = std::make_shared<MemoryExporter>();
  exporter->Block(true);
  Open(exporter);
  ASSERT_TRUE(Write(1));
  const std::uint64_t half = recorder->GetHealth().ring_bytes / 2;
  SpanId id = 1;
  // A lane apart: those of both files, and the one that threads without a lane share.
  while (recorder->GetHealth().waiting_bytes < half - (128 << 10)) ASSERT_TRUE(Write(++id));
  EXPECT_EQ(waits, 0u);
  exporter->Block(false);
}

TEST_F(PacingTest, CollectorThatDoesNotMoveIsWaitedForOnceAndNotAgain) {
  const auto exporter = std::make_shared<MemoryExporter>();
  exporter->Block(true);
  Open(exporter);
  SpanId id = 0;
  // Until not even a START finds room.
  while (id < 100'000 && (Write(id + 1) || recorder->Start(TestRow(1'000'000 + id)))) ++id;
  ASSERT_LT(id, 100'000u);
  EXPECT_GT(waits, 0u);
  const std::uint64_t waits_until_full = waits;
  for (int i = 0; i < 10'000; ++i) ASSERT_FALSE(recorder->Start(TestRow(2'000'000 + static_cast<SpanId>(i))));
  EXPECT_EQ(waits, waits_until_full);
  exporter->Block(false);
}

TEST_F(PacingTest, NoCallOfManyThreadsWaitsLongerThanItMay) {
  const auto exporter = std::make_shared<MemoryExporter>();
  exporter->Block(true);
  Open(exporter);
  std::vector<std::thread> writers;
  constexpr SpanId kEach = 3'000;
  std::atomic<std::uint64_t> written{0};
  for (SpanId t = 0; t < 8; ++t) {
    writers.emplace_back([&, t] {
      for (SpanId i = 1; i <= kEach; ++i) written += Write(t * kEach + i);
    });
  }
  for (auto& writer : writers) writer.join();
  EXPECT_GT(waits, 0u);
  exporter->Block(false);
  ASSERT_TRUE(recorder->Flush(kTestTimeoutNs).complete);
  const Health health = recorder->GetHealth();
  EXPECT_EQ(health.recorded_spans, 8 * kEach);
  EXPECT_EQ(health.stored_spans, written);
  EXPECT_EQ(health.dropped_spans, 8 * kEach - written);
}

TEST_F(PacingTest, WritersThatRatherDropNeverWait) {
  const auto exporter = std::make_shared<MemoryExporter>();
  exporter->Block(true);
  Open(exporter, FullRingPolicy::kDrop);
  for (SpanId id = 1; id <= 10'000; ++id) Write(id);
  EXPECT_GT(recorder->GetHealth().dropped_spans, 0u);
  EXPECT_EQ(waits, 0u);
  exporter->Block(false);
}

}  // namespace
}  // namespace spanbox
