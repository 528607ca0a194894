// What happens when an exporter throws, ends its thread, hangs or fails: spans are stored once all the same, and nobody
// waits longer than promised.
#include <gtest/gtest.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <stdexcept>
#include <thread>

#include "base/clock.h"
#include "memory_exporter.h"
#include "spanbox/recorder.h"

namespace spanbox {
namespace {

// Does harm in its next commit, before or after it has stored the batch.
class HarmfulExporter : public MemoryExporter {
 public:
  enum class Harm { kNone, kThrow, kStoreAndThrow, kEndThread, kCancelThread, kHang, kStoreAndHang };

  Status Commit(const SpanBatch& batch) override {
    const Harm harm = next_harm.exchange(Harm::kNone);
    if (harm == Harm::kThrow) throw std::bad_alloc();
    if (harm == Harm::kEndThread) pthread_exit(nullptr);
    if (harm == Harm::kCancelThread) pthread_cancel(pthread_self()), usleep(0);
    if (harm == Harm::kHang) Hang();
    const Status status = MemoryExporter::Commit(batch);
    // What it is given stays as it was, however long it has hung: the ring has gone on meanwhile.
    if (harm == Harm::kHang) last_refused = !status.ok();
    if (harm == Harm::kStoreAndThrow) throw std::runtime_error("after all was done");
    if (harm == Harm::kStoreAndHang) Hang();
    return status;
  }

  std::atomic<Harm> next_harm{Harm::kNone};
  std::atomic<bool> hanging{false}, let_go{false}, came_back{false}, last_refused{false};

 private:
  void Hang() {
    hanging = true;
    while (!let_go) usleep(1000);
    came_back = true;
  }
};
using Harm = HarmfulExporter::Harm;

class WatchdogTest : public testing::Test {
 protected:
  void Open(RecorderOptions options = Options()) {
    auto opened = Recorder::Open(exporter, dir.path(), options);
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    recorder = *std::move(opened);
  }
  static RecorderOptions Options() {
    RecorderOptions options;
    options.lane_bytes = 64 << 10;
    options.commit_interval_ns = 5'000'000;
    options.wedged_after_ns = 100'000'000;
    options.close_timeout_ns = kTestTimeoutNs;
    return options;
  }
  void RecordSpans(SpanId first, SpanId count) {
    for (SpanId id = first; id < first + count; ++id) {
      ASSERT_TRUE(recorder->Start(TestRow(id)));
      ASSERT_TRUE(recorder->End(id, SpanStatus::kOk, 7, {}));
    }
  }
  void Flush() { ASSERT_TRUE(recorder->Flush(kTestTimeoutNs).complete); }
  void ExpectAllStoredOnce(std::size_t count) {
    EXPECT_EQ(exporter->span_count(), count);
    EXPECT_EQ(exporter->by_id().size(), count);
    const Health health = recorder->GetHealth();
    EXPECT_EQ(health.recorded_spans, count);
    EXPECT_EQ(health.waiting_bytes, 0u);
  }
  void TearDown() override {
    exporter->let_go = true;
    recorder.reset();
    EXPECT_EQ(exporter->problems(), std::vector<std::string>());
  }

  TempDir dir;
  std::shared_ptr<HarmfulExporter> exporter = std::make_shared<HarmfulExporter>();
  std::unique_ptr<Recorder> recorder;
};

TEST_F(WatchdogTest, ExporterThatThrowsHasFailedAndIsAskedAgain) {
  Open();
  exporter->next_harm = Harm::kThrow;
  RecordSpans(1, 100);
  Flush();
  ExpectAllStoredOnce(100);
  EXPECT_EQ(recorder->GetHealth().commit_failures, 1u);
  EXPECT_EQ(recorder->GetHealth().collector_restarts, 0u);
}

TEST_F(WatchdogTest, CommitWhoseOutcomeIsNotKnownIsNotMadeTwice) {
  Open();
  RecordSpans(1, 10);
  ASSERT_TRUE(recorder->Start(TestRow(1'000)));  // open while it happens
  Flush();
  exporter->next_harm = Harm::kStoreAndThrow;
  RecordSpans(11, 90);
  Flush();
  ASSERT_TRUE(recorder->End(1'000, SpanStatus::kOk, 7, {}));
  Flush();
  ExpectAllStoredOnce(101);
}

TEST_F(WatchdogTest, CollectorThatEndedIsReplaced) {
  Open();
  RecordSpans(1, 50);
  Flush();
  exporter->next_harm = Harm::kEndThread;
  RecordSpans(51, 50);
  Flush();
  ExpectAllStoredOnce(100);
  const Health health = recorder->GetHealth();
  EXPECT_EQ(health.collector_restarts, 1u);
  EXPECT_TRUE(health.collector_alive);
  EXPECT_NE(health.last_error.find("ended in a commit"), std::string::npos) << health.last_error;
  EXPECT_EQ(health.stored_spans, health.recorded_spans);
}

TEST_F(WatchdogTest, CollectorCannotBeCancelled) {
  Open();
  exporter->next_harm = Harm::kCancelThread;
  RecordSpans(1, 50);
  Flush();
  ExpectAllStoredOnce(50);
  EXPECT_EQ(recorder->GetHealth().collector_restarts, 0u);
}

TEST_F(WatchdogTest, CollectorThatHangsIsReplacedAndDoesNoHarmWhenItComesBack) {
  Open();
  RecordSpans(1, 50);
  ASSERT_TRUE(recorder->Start(TestRow(1'000)));
  Flush();
  exporter->next_harm = Harm::kHang;
  RecordSpans(51, 50);
  Flush();
  EXPECT_TRUE(exporter->hanging);
  ExpectAllStoredOnce(100);
  Health health = recorder->GetHealth();
  EXPECT_EQ(health.collector_restarts, 1u);
  EXPECT_NE(health.last_error.find("made no progress for"), std::string::npos) << health.last_error;
  EXPECT_NE(health.last_error.find("in a commit; another one took over"), std::string::npos) << health.last_error;
  // The ring goes round several times before it comes back with its old batch.
  for (SpanId i = 0; i < 20; ++i) {
    RecordSpans(2'000 + i * 200, 200);
    Flush();
  }
  exporter->let_go = true;
  ASSERT_TRUE(exporter->WaitFor([&] { return exporter->last_refused.load(); }));
  ASSERT_TRUE(recorder->End(1'000, SpanStatus::kOk, 7, {}));
  Flush();
  ExpectAllStoredOnce(4'101);
  health = recorder->GetHealth();
  EXPECT_EQ(health.stored_spans, health.recorded_spans);
  EXPECT_EQ(health.dropped_spans, 0u);
}

TEST_F(WatchdogTest, CollectorThatStoredAndThenHangsIsNotRepeated) {
  Open();
  RecordSpans(1, 50);
  Flush();
  exporter->next_harm = Harm::kStoreAndHang;
  RecordSpans(51, 50);
  Flush();
  EXPECT_EQ(exporter->by_id().size(), 100u);
  EXPECT_EQ(recorder->GetHealth().collector_restarts, 1u);
  exporter->let_go = true;
  ASSERT_TRUE(exporter->WaitFor([&] { return recorder->GetHealth().stored_spans == 100; }));
  ExpectAllStoredOnce(100);
}

TEST_F(WatchdogTest, ThreadsThatHangAreNotFollowedByEverMoreOfTheirKind) {
  RecorderOptions options = Options();
  options.wedged_after_ns = 20'000'000;
  Open(options);
  exporter->Block(true);
  RecordSpans(1, 50);
  ASSERT_TRUE(exporter->WaitFor([&] { return recorder->GetHealth().collector_restarts == 3; }));
  EXPECT_FALSE(recorder->Flush(500'000'000).complete);
  EXPECT_EQ(recorder->GetHealth().collector_restarts, 3u);
  exporter->Block(false);
  Flush();
  ExpectAllStoredOnce(50);
}

TEST_F(WatchdogTest, FlushNeverWaitsBeyondItsTimeout) {
  RecorderOptions options = Options();
  options.wedged_after_ns = 3'600'000'000'000;
  Open(options);
  exporter->next_harm = Harm::kHang;
  RecordSpans(1, 10);
  ASSERT_TRUE(exporter->WaitFor([&] { return exporter->hanging.load(); }));
  const std::int64_t began = MonotonicNowNs();
  const FlushResult result = recorder->Flush(50'000'000);
  EXPECT_FALSE(result.complete);
  EXPECT_GT(result.waiting_bytes, 0u);
  EXPECT_GE(MonotonicNowNs() - began, 50'000'000);
  EXPECT_LT(MonotonicNowNs() - began, kTestTimeoutNs / 2);
  exporter->let_go = true;
  Flush();
  ExpectAllStoredOnce(10);
}

TEST_F(WatchdogTest, ErrorsAreRetriedWithPausesBetween) {
  Open();
  exporter->FailCommits(true);
  RecordSpans(1, 10);
  ASSERT_TRUE(exporter->WaitFor([&] { return exporter->attempts() >= 3; }));
  const std::int64_t began = MonotonicNowNs();
  const std::uint64_t before = exporter->attempts();
  // The first pause may be nearly over; the second one is all within.
  ASSERT_TRUE(exporter->WaitFor([&] { return exporter->attempts() >= before + 2; }));
  EXPECT_GE(MonotonicNowNs() - began, 400'000'000);
  EXPECT_EQ(recorder->GetHealth().collector_restarts, 0u);
  exporter->FailCommits(false);
  Flush();
  ExpectAllStoredOnce(10);
}

// --- the end of the recorder

// What it takes to destroy the recorder while the exporter hangs, and what is left in the folder.
TEST_F(WatchdogTest, EndDoesNotWaitForACommitThatHangsAndLeavesTheRingToRecovery) {
  RecorderOptions options = Options();
  options.wedged_after_ns = 3'600'000'000'000;
  options.close_timeout_ns = 50'000'000;
  Open(options);
  RecordSpans(1, 10);
  Flush();
  exporter->next_harm = Harm::kHang;
  RecordSpans(11, 300);
  ASSERT_TRUE(exporter->WaitFor([&] { return exporter->hanging.load(); }));
  const std::int64_t began = MonotonicNowNs();
  recorder.reset();
  EXPECT_GE(MonotonicNowNs() - began, options.close_timeout_ns);
  EXPECT_LT(MonotonicNowNs() - began, kTestTimeoutNs / 2);
  EXPECT_FALSE(dir.Files("-0.ring").empty());
  exporter->let_go = true;
  // The one left behind may store its batch, since nobody else has; the rest is the recoverer's.
  ASSERT_TRUE(exporter->WaitFor([&] {
    EXPECT_TRUE(RecoverRings(*exporter, dir.path()).ok());
    return dir.Files(".ring").empty();
  }));
  EXPECT_EQ(exporter->by_id().size(), 310u);
  EXPECT_EQ(exporter->span_count(), 310u);
}

TEST_F(WatchdogTest, EndWithAFullRingStopsBetweenTwoCommits) {
  RecorderOptions options = Options();
  options.close_timeout_ns = 0;
  Open(options);
  exporter->Block(true);
  RecordSpans(1, 20'000);
  ASSERT_TRUE(exporter->WaitFor([&] { return recorder->GetHealth().collector_restarts == 2; }));
  std::thread release([&] { exporter->Block(false); });
  recorder.reset();
  release.join();
  ASSERT_TRUE(exporter->WaitFor([&] {
    EXPECT_TRUE(RecoverRings(*exporter, dir.path()).ok());
    return dir.Files(".ring").empty();
  }));
  EXPECT_EQ(exporter->by_id().size(), 20'000u);
}

std::size_t CountIn(const char* folder) {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++count;
  return count;
}

TEST(RecorderLifeTest, AThousandRecordersLeaveNoThreadNorDescriptorBehind) {
  TempDir dir;
  std::size_t threads = 0, descriptors = 0;
  for (SpanId i = 1; i <= 1'000; ++i) {
    auto exporter = std::make_shared<MemoryExporter>();
    RecorderOptions options;
    options.close_timeout_ns = kTestTimeoutNs;
    auto recorder = *Recorder::Open(exporter, dir.path(), options);
    ASSERT_TRUE(recorder->Start(TestRow(i)));
    ASSERT_TRUE(recorder->End(i, SpanStatus::kOk, 1, {}));
    recorder.reset();
    ASSERT_EQ(exporter->span_count(), 1u);
    if (i == 10) threads = CountIn("/proc/self/task"), descriptors = CountIn("/proc/self/fd");
  }
  EXPECT_EQ(CountIn("/proc/self/task"), threads);
  EXPECT_EQ(CountIn("/proc/self/fd"), descriptors);
  EXPECT_TRUE(dir.Files("").empty());
}

}  // namespace
}  // namespace spanbox
