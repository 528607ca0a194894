// What a program sees of the recorder: spans arrive, once, whole; drops are counted; nothing throws or hangs.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "base/clock.h"
#include "memory_exporter.h"
#include "spanbox/recorder.h"

namespace spanbox {
namespace {

class RecorderTest : public testing::Test {
 protected:
  void Open(RecorderOptions options = SmallOptions()) {
    auto opened = Recorder::Open(exporter, dir.path(), options);
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    recorder = *std::move(opened);
  }
  static RecorderOptions SmallOptions() {
    RecorderOptions options;
    options.lane_bytes = 64 << 10;
    options.lanes = 2;
    options.commit_interval_ns = 5'000'000;
    options.close_timeout_ns = kTestTimeoutNs;
    return options;
  }
  void Flush() { ASSERT_TRUE(recorder->Flush(kTestTimeoutNs).complete); }
  bool RecordSpan(SpanId id, std::string_view output = "out") {
    if (!recorder->Start(TestRow(id))) return false;
    const Field field{Column::kOutput, {}, Value::String(output)};
    return recorder->End(id, SpanStatus::kOk, 7, std::span(&field, 1));
  }
  // recorded == stored + dropped, once nothing waits.
  void ExpectBalance() {
    const Health health = recorder->GetHealth();
    EXPECT_EQ(health.recorded_spans, health.stored_spans + health.dropped_spans);
    EXPECT_EQ(health.waiting_bytes, 0u);
  }
  void TearDown() override {
    recorder.reset();
    EXPECT_EQ(exporter->problems(), std::vector<std::string>());
  }

  TempDir dir;
  std::shared_ptr<MemoryExporter> exporter = std::make_shared<MemoryExporter>();
  std::unique_ptr<Recorder> recorder;
};

TEST_F(RecorderTest, SpanArrivesWholeAfterFlush) {
  Open();
  SpanRow row = TestRow(1, "chat");
  row.parent_id = 9;
  const Field input{Column::kInput, {}, Value::String("hello")};
  row.fields = std::span(&input, 1);
  ASSERT_TRUE(recorder->Start(row));
  const Field attribute{Column::kAttribute, "top_k", Value::Int(5)};
  ASSERT_TRUE(recorder->Fields(1, std::span(&attribute, 1)));
  const Field tokens{Column::kOutputTokens, {}, Value::Int(42)};
  ASSERT_TRUE(recorder->End(1, SpanStatus::kError, 250, std::span(&tokens, 1)));
  Flush();
  const auto spans = exporter->spans();
  ASSERT_EQ(spans.size(), 1u);
  EXPECT_EQ(spans[0].name, "chat");
  EXPECT_EQ(spans[0].trace_id, TestTrace());
  EXPECT_EQ(spans[0].parent_id, 9u);
  EXPECT_EQ(spans[0].status, SpanStatus::kError);
  EXPECT_EQ(spans[0].duration_ns, 250);
  const std::map<std::string, std::string> fields{{"input", "hello"}, {"top_k", "5"}, {"output_tokens", "42"}};
  EXPECT_EQ(spans[0].fields, fields);
  ExpectBalance();
}

TEST_F(RecorderTest, NothingIsMadeBeforeTheFirstRecordNorLeftAfterTheLast) {
  Open();
  EXPECT_TRUE(dir.Files(".ring").empty());
  EXPECT_FALSE(recorder->GetHealth().collector_alive);
  EXPECT_TRUE(recorder->Flush(0).complete);
  ASSERT_TRUE(RecordSpan(1));
  ASSERT_EQ(dir.Files("-0.ring").size(), 1u);
  struct stat info {};
  ASSERT_EQ(stat(dir.Files(".ring")[0].c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  recorder.reset();
  EXPECT_TRUE(dir.Files("").empty());
  EXPECT_EQ(exporter->span_count(), 1u);
  const auto rings = exporter->rings();
  for (const auto& [id, state] : rings) EXPECT_TRUE(state.retired);
}

TEST_F(RecorderTest, SpansAreStoredWithoutFlush) {
  Open();
  ASSERT_TRUE(RecordSpan(1));
  EXPECT_TRUE(exporter->WaitFor([&] { return exporter->span_count() == 1; }));
}

TEST_F(RecorderTest, OpenSpanIsHandedOverAndClosedByItsEnd) {
  Open();
  ASSERT_TRUE(recorder->Start(TestRow(1)));
  Flush();
  EXPECT_EQ(exporter->span_count(), 0u);
  EXPECT_EQ(exporter->rings().begin()->second.open.size(), 1u);
  EXPECT_EQ(recorder->GetHealth().open_spans, 1u);
  ASSERT_TRUE(recorder->End(1, SpanStatus::kOk, 5, {}));
  Flush();
  EXPECT_EQ(exporter->span_count(), 1u);
  EXPECT_EQ(exporter->rings().begin()->second.open.size(), 0u);
  EXPECT_EQ(recorder->GetHealth().open_spans, 0u);
  ExpectBalance();
}

TEST_F(RecorderTest, SpanMayEndInAnotherThreadWithFieldsFromAThird) {
  Open();
  for (SpanId id = 1; id <= 200; ++id) {
    ASSERT_TRUE(recorder->Start(TestRow(id)));
    std::thread([&] {
      const Field field{Column::kAttribute, "from", Value::String("third")};
      EXPECT_TRUE(recorder->Fields(id, std::span(&field, 1)));
    }).join();
    std::thread([&] { EXPECT_TRUE(recorder->End(id, SpanStatus::kOk, 5, {})); }).join();
  }
  Flush();
  const auto spans = exporter->spans();
  ASSERT_EQ(spans.size(), 200u);
  for (const auto& span : spans) {
    EXPECT_EQ(span.fields.count("from"), 1u) << span.span_id;
    EXPECT_EQ(span.duration_ns, 5);
  }
  ExpectBalance();
}

TEST_F(RecorderTest, LaneWrapsManyTimesWithoutLoss) {
  RecorderOptions options = SmallOptions();
  options.full_ring_policy = FullRingPolicy::kBlock;
  options.max_ring_bytes = 256 << 10;  // no second file
  Open(options);
  constexpr SpanId kSpans = 20'000;  // some 3 MiB through 64 KiB
  for (SpanId id = 1; id <= kSpans; ++id) ASSERT_TRUE(RecordSpan(id, std::string(id % 97, 'x')));
  Flush();
  const auto spans = exporter->by_id();
  ASSERT_EQ(spans.size(), kSpans);
  for (const auto& [id, span] : spans) ASSERT_EQ(span.fields.at("output").size(), id % 97);
  EXPECT_EQ(recorder->GetHealth().dropped_spans, 0u);
  ExpectBalance();
}

TEST_F(RecorderTest, ManyThreadsLoseNothing) {
  RecorderOptions options = SmallOptions();
  options.full_ring_policy = FullRingPolicy::kBlock;
  Open(options);
  constexpr int kThreads = 8;  // more than lanes: the overflow lane and new files serve the others
  constexpr SpanId kEach = 3'000;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (SpanId i = 1; i <= kEach; ++i) ASSERT_TRUE(RecordSpan(static_cast<SpanId>(t) * kEach + i));
    });
  }
  for (auto& thread : threads) thread.join();
  Flush();
  EXPECT_EQ(exporter->span_count(), kThreads * kEach);
  ExpectBalance();
}

TEST_F(RecorderTest, FullRingDropsAndCountsExactly) {
  RecorderOptions options = SmallOptions();
  options.full_ring_policy = FullRingPolicy::kDrop;
  options.max_ring_bytes = 256 << 10;
  Open(options);
  exporter->Block(true);
  constexpr SpanId kSpans = 2'000;
  std::uint64_t started = 0, ended = 0;
  for (SpanId id = 1; id <= kSpans; ++id) {
    if (!recorder->Start(TestRow(id))) continue;
    ++started;
    if (recorder->End(id, SpanStatus::kOk, 7, {})) ++ended;
  }
  const std::uint64_t dropped = kSpans - ended;
  ASSERT_GT(dropped, 0u);
  EXPECT_EQ(recorder->GetHealth().dropped_spans, dropped);
  EXPECT_EQ(recorder->GetHealth().recorded_spans, kSpans);
  exporter->Block(false);
  Flush();
  const Health health = recorder->GetHealth();
  EXPECT_EQ(health.stored_spans, ended);
  EXPECT_EQ(health.dropped_spans, dropped);
  ExpectBalance();
  // A span whose END was dropped does not stay running for ever.
  std::uint64_t interrupted = 0;
  for (const auto& span : exporter->spans()) interrupted += span.status == SpanStatus::kInterrupted;
  EXPECT_EQ(interrupted, started - ended);
  EXPECT_EQ(recorder->GetHealth().open_spans, 0u);
  // The store knows the drops too.
  std::uint64_t told = 0;
  const auto rings = exporter->rings();
  for (const auto& [lane, cursor] : rings.begin()->second.cursors) told += cursor.dropped_spans;
  EXPECT_EQ(told, dropped);
}

// On a slow disk a commit takes a second. 100,000 small spans were recorded meanwhile and 5,786 of them dropped,
// because room was made between commits.
TEST_F(RecorderTest, BurstIsKeptWholeWhileNothingIsCommitted) {
  RecorderOptions options;
  options.close_timeout_ns = kTestTimeoutNs;
  Open(options);
  exporter->Block(true);
  constexpr SpanId kSpans = 100'000;
  const std::string output(250, 'x');
  for (SpanId id = 1; id <= kSpans; ++id) RecordSpan(id, output);
  const Health health = recorder->GetHealth();
  EXPECT_EQ(health.dropped_spans, 0u);
  EXPECT_EQ(health.recorded_spans, kSpans);
  EXPECT_EQ(health.stored_spans, 0u);
  exporter->Block(false);
  Flush();
  EXPECT_EQ(exporter->by_id().size(), kSpans);
  ExpectBalance();
}

TEST_F(RecorderTest, WaitingForRoomIsBoundedAndNotRepeatedWhileNothingMoves) {
  RecorderOptions options = SmallOptions();
  options.max_ring_bytes = 256 << 10;
  options.max_wait_ns = 50'000'000;
  Open(options);
  exporter->Block(true);
  SpanId id = 1;
  const std::int64_t began = MonotonicNowNs();
  while (recorder->Start(TestRow(id))) ++id;
  EXPECT_GE(MonotonicNowNs() - began, options.max_wait_ns);
  const std::int64_t second = MonotonicNowNs();
  for (int i = 0; i < 1'000; ++i) EXPECT_FALSE(recorder->Start(TestRow(++id)));
  EXPECT_LT(MonotonicNowNs() - second, 1'000 * options.max_wait_ns / 10);
  exporter->Block(false);
  Flush();
  EXPECT_TRUE(recorder->Start(TestRow(++id)));
}

TEST_F(RecorderTest, EndOfADroppedStartIsDiscardedAndCountedOnce) {
  Open();
  std::string huge(recorder->MaxPayloadBytes() + 1, 'x');
  SpanRow row = TestRow(1, "dropped");
  const Field input{Column::kInput, {}, Value::String(huge)};
  row.fields = std::span(&input, 1);
  EXPECT_FALSE(recorder->Start(row));
  EXPECT_TRUE(recorder->End(1, SpanStatus::kOk, 1, {}));  // a careless caller
  ASSERT_TRUE(RecordSpan(2));
  Flush();
  ASSERT_TRUE(exporter->WaitFor([&] {
    const Health health = recorder->GetHealth();
    return health.recorded_spans == health.stored_spans + health.dropped_spans;
  }));
  EXPECT_EQ(recorder->GetHealth().dropped_spans, 1u);
  EXPECT_EQ(recorder->GetHealth().recorded_spans, 2u);
  EXPECT_EQ(exporter->span_count(), 1u);
  EXPECT_TRUE(exporter->WaitFor([&] { return exporter->rings().begin()->second.open.empty(); }));
}

TEST_F(RecorderTest, LargestPayloadFitsInEveryLane) {
  RecorderOptions options = SmallOptions();
  options.full_ring_policy = FullRingPolicy::kBlock;
  Open(options);
  const std::size_t overhead = 8 + 8 + 1 + 2 + 1 + 4;  // END and the head of its field
  const std::string output(recorder->MaxPayloadBytes() - overhead, 'y');
  for (SpanId id = 1; id <= 20; ++id) ASSERT_TRUE(RecordSpan(id, output));
  const std::string too_long = output + "y";
  EXPECT_FALSE(RecordSpan(21, too_long));
  Flush();
  EXPECT_EQ(exporter->span_count(), 21u);  // the last one interrupted
  EXPECT_EQ(recorder->GetHealth().dropped_spans, 1u);
  ExpectBalance();
}

TEST_F(RecorderTest, FailedCommitsAreRetriedAndLoseNothing) {
  Open();
  exporter->FailCommits(true);
  ASSERT_TRUE(RecordSpan(1));
  EXPECT_FALSE(recorder->Flush(50'000'000).complete);
  ASSERT_TRUE(exporter->WaitFor([&] { return recorder->GetHealth().commit_failures > 0; }));
  EXPECT_GT(recorder->Flush(0).waiting_bytes, 0u);
  const Health health = recorder->GetHealth();
  EXPECT_GT(health.commit_failures, 0u);
  EXPECT_NE(health.last_error.find("disk is full"), std::string::npos);
  EXPECT_GT(health.lag_ns, 0);
  ASSERT_TRUE(RecordSpan(2));
  exporter->FailCommits(false);
  Flush();
  EXPECT_EQ(exporter->span_count(), 2u);
  EXPECT_EQ(recorder->GetHealth().last_error, "");
  EXPECT_EQ(recorder->GetHealth().lag_ns, 0);
  ExpectBalance();
}

TEST_F(RecorderTest, ExporterFactoryIsCalledAgainUntilItSucceeds) {
  std::atomic<bool> ready{false};
  auto opened = Recorder::Open(
      [&]() -> Result<std::shared_ptr<SpanExporter>> {
        if (!ready) return Unavailable("the store is not there yet");
        return std::shared_ptr<SpanExporter>(exporter);
      },
      dir.path(), SmallOptions());
  ASSERT_TRUE(opened.ok());
  recorder = *std::move(opened);
  ASSERT_TRUE(RecordSpan(1));
  EXPECT_FALSE(recorder->Flush(20'000'000).complete);
  EXPECT_EQ(recorder->GetHealth().last_error, "the store is not there yet");
  ready = true;
  Flush();
  EXPECT_EQ(exporter->span_count(), 1u);
}

TEST_F(RecorderTest, WhereNoFileCanBeMadeSpansWaitInMemoryAndHealthSaysSo) {
  Open();
  std::filesystem::remove(dir.path());
  for (SpanId id = 1; id <= 100; ++id) EXPECT_TRUE(RecordSpan(id));
  const Health health = recorder->GetHealth();
  EXPECT_FALSE(health.crash_safe);
  EXPECT_NE(health.last_error.find("cannot create ring file"), std::string::npos) << health.last_error;
  EXPECT_NE(health.last_error.find("in memory"), std::string::npos) << health.last_error;
  Flush();
  EXPECT_EQ(exporter->span_count(), 100u);
  ExpectBalance();
  EXPECT_NE(recorder->GetHealth().last_error, "");  // it stays as it is
}

TEST_F(RecorderTest, ReleaseAndEnvironmentAreOnEveryRowUnlessTheSpanSaysOtherwise) {
  RecorderOptions options = SmallOptions();
  options.release = "1.2";
  options.environment = "test";
  Open(options);
  ASSERT_TRUE(RecordSpan(1));
  ASSERT_TRUE(recorder->Start(TestRow(2)));
  const Field own{Column::kRelease, {}, Value::String("canary")};
  ASSERT_TRUE(recorder->End(2, SpanStatus::kOk, 1, std::span(&own, 1)));
  Flush();
  const auto spans = exporter->by_id();
  EXPECT_EQ(spans.at(1).fields.at("release"), "1.2");
  EXPECT_EQ(spans.at(1).fields.at("environment"), "test");
  EXPECT_EQ(spans.at(2).fields.at("release"), "canary");
}

TEST_F(RecorderTest, ClosingInterruptsWhatIsStillOpen) {
  Open();
  ASSERT_TRUE(recorder->Start(TestRow(1)));
  recorder.reset();
  ASSERT_EQ(exporter->span_count(), 1u);
  EXPECT_EQ(exporter->spans()[0].status, SpanStatus::kInterrupted);
  EXPECT_TRUE(dir.Files(".ring").empty());
}

TEST_F(RecorderTest, WrongOptionsAreRefusedWithWhatWouldBeRight) {
  RecorderOptions options;
  options.lane_bytes = 100'000;
  EXPECT_EQ(Recorder::Open(exporter, dir.path(), options).status().code(), StatusCode::kInvalidArgument);
  options = {};
  options.lanes = 65;
  EXPECT_EQ(Recorder::Open(exporter, dir.path(), options).status().code(), StatusCode::kInvalidArgument);
  options = {};
  options.max_ring_bytes = 1000;
  const auto refused = Recorder::Open(exporter, dir.path(), options);
  EXPECT_NE(refused.status().message().find("at least"), std::string::npos);
  EXPECT_EQ(Recorder::Open(exporter, dir.path() + "/none", {}).status().code(), StatusCode::kNotFound);
}

Recorder* signal_recorder = nullptr;
void RecordInHandler(int) {
  const std::byte payload[40] = {};
  signal_recorder->Append(RecordType::kFields, payload);
}

TEST_F(RecorderTest, SignalHandlerThatRecordsInsideARecordDoesNoHarm) {
  RecorderOptions options = SmallOptions();
  options.full_ring_policy = FullRingPolicy::kBlock;
  Open(options);
  signal_recorder = recorder.get();
  struct sigaction action {
  }, before{};
  action.sa_handler = RecordInHandler;
  sigaction(SIGUSR1, &action, &before);
  std::atomic<bool> done{false};
  const pthread_t writer = pthread_self();
  // The first record of a thread makes files and takes a lane, which no signal handler may do.
  ASSERT_TRUE(RecordSpan(1));
  std::thread shooter([&] {
    while (!done) pthread_kill(writer, SIGUSR1), usleep(50);
  });
  for (SpanId id = 2; id <= 5'000; ++id) EXPECT_TRUE(RecordSpan(id));
  done = true;
  shooter.join();
  sigaction(SIGUSR1, &before, nullptr);
  Flush();
  EXPECT_EQ(exporter->span_count(), 5'000u);
}

}  // namespace
}  // namespace spanbox
