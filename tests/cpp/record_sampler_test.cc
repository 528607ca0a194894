// Sampling: which traces are chosen, that a verdict is one for the whole trace, and that every span is stored or
// counted.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <random>
#include <thread>

#include "memory_exporter.h"
#include "record/joiner.h"
#include "record/sampler.h"
#include "spanbox/recorder.h"

namespace spanbox {
namespace {

using Verdict = TraceSampler::Verdict;

TraceId TraceNumber(std::uint64_t number) {
  std::mt19937_64 random(number);
  TraceId id;
  for (std::uint8_t& byte : id.bytes) byte = static_cast<std::uint8_t>(random());
  return id;
}

SpanRow Span(std::uint64_t trace, SpanId id, SpanId parent = 0, std::string_view name = "work") {
  SpanRow row;
  row.trace_id = TraceNumber(trace);
  row.span_id = id;
  row.parent_id = parent;
  row.name = name;
  row.start_ns = 1000 + static_cast<std::int64_t>(id);
  row.duration_ns = 7;
  return row;
}

bool IsError(const SpanRow& row) { return row.status == SpanStatus::kError; }

// --- the head
// --------------------------------------------------------------------------------------------------------

TEST(HeadTest, ShareOfTracesIsTheRate) {
  for (const double rate : {0.01, 0.25, 0.9}) {
    int chosen = 0;
    constexpr int kTraces = 10'000;
    for (int i = 0; i < kTraces; ++i) chosen += HeadChosen(TraceNumber(static_cast<std::uint64_t>(i)), rate);
    // Five standard deviations of the binomial distribution: passes but once in a million choices of seeds.
    EXPECT_NEAR(chosen, rate * kTraces, 5 * std::sqrt(kTraces * rate * (1 - rate))) << rate;
  }
}

TEST(HeadTest, BoundsAreExact) {
  for (std::uint64_t i = 0; i < 1000; ++i) {
    EXPECT_TRUE(HeadChosen(TraceNumber(i), 1));
    EXPECT_FALSE(HeadChosen(TraceNumber(i), 0));
    EXPECT_FALSE(HeadChosen(TraceNumber(i), std::nan("")));
    if (HeadChosen(TraceNumber(i), 0.1)) EXPECT_TRUE(HeadChosen(TraceNumber(i), 0.2)) << "a higher rate keeps more";
  }
}

TEST(HeadTest, ChoiceIsPartOfTheInterface) {
  TraceId id;
  for (std::uint8_t i = 0; i < 16; ++i) id.bytes[i] = i;
  const double share = 0.4;
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  std::string here;
  for (std::uint64_t i = 0; i < 500; ++i) here += HeadChosen(TraceNumber(i), share) ? 'k' : 'd';
  const pid_t other = fork();
  if (other == 0) {
    std::string there;
    for (std::uint64_t i = 0; i < 500; ++i) there += HeadChosen(TraceNumber(i), share) ? 'k' : 'd';
    _exit(write(pipe_ends[1], there.data(), there.size()) == 500 ? 0 : 1);
  }
  close(pipe_ends[1]);
  std::string there(500, ' ');
  ASSERT_EQ(read(pipe_ends[0], there.data(), there.size()), 500);
  close(pipe_ends[0]);
  EXPECT_EQ(here, there);
  // XXH3 of the bytes 0 to 15 is 0x8355e3a6f61770db: 0.5130 of 2^64. Every version must agree.
  EXPECT_TRUE(HeadChosen(id, 0.5131));
  EXPECT_FALSE(HeadChosen(id, 0.513));
}

// --- the sampler
// -----------------------------------------------------------------------------------------------------

class SamplerTest : public testing::Test {
 protected:
  void Use(Sampling options) {
    options_ = std::move(options);
    sampler_.emplace(options_, memory_);
  }
  void Start(const SpanRow& row) { sampler_->Started(row.trace_id, row.parent_id, row.start_ns, row.name, now_ns_); }
  Verdict End(const SpanRow& row, std::uint64_t bytes = 100) { return sampler_->Ended(row, bytes, now_ns_); }
  Verdict StartAndEnd(const SpanRow& row) {
    Start(row);
    return End(row);
  }
  // "keep 1 2; drop 3", in the order of the first spans.
  std::string Decide() {
    auto decisions = sampler_->Decide(now_ns_);
    sampler_->Committed();
    std::ranges::sort(decisions, {}, [](const auto& decision) { return decision.spans.front(); });
    std::string text;
    for (const auto& decision : decisions) {
      text += text.empty() ? "" : "; ";
      text += decision.keep ? "keep" : "drop";
      for (const SpanId id : decision.spans) text += " " + std::to_string(id);
    }
    return text;
  }

  Sampling options_;
  SamplerMemory memory_;
  std::optional<TraceSampler> sampler_;
  std::int64_t now_ns_ = 0;
};

TEST_F(SamplerTest, ChosenTracesNeverWait) {
  Use({.rate = 0.5});
  for (std::uint64_t trace = 0; trace < 200; ++trace) {
    EXPECT_EQ(StartAndEnd(Span(trace, trace + 1)) == Verdict::kKeep, HeadChosen(TraceNumber(trace), 0.5));
  }
}

TEST_F(SamplerTest, TraceWaitsUntilNothingOfItRuns) {
  Use({.rate = 0, .keep = IsError});
  Start(Span(1, 1));
  Start(Span(1, 2, 1));
  EXPECT_EQ(End(Span(1, 1)), Verdict::kWait) << "the root has ended, a child still runs";
  EXPECT_EQ(Decide(), "");
  SpanRow child = Span(1, 2, 1);
  child.status = SpanStatus::kError;
  EXPECT_EQ(End(child), Verdict::kWait);
  StartAndEnd(Span(2, 3));
  EXPECT_EQ(Decide(), "keep 1 2; drop 3");
  EXPECT_EQ(sampler_->traces(), 0u);
  EXPECT_EQ(sampler_->waiting_bytes(), 0u);
}

TEST_F(SamplerTest, LateSpansFollowTheVerdict) {
  Use({.rate = 0, .keep = IsError});
  SpanRow error = Span(1, 1);
  error.status = SpanStatus::kError;
  StartAndEnd(error);
  StartAndEnd(Span(2, 2));
  EXPECT_EQ(Decide(), "keep 1; drop 2");
  EXPECT_EQ(StartAndEnd(Span(1, 3)), Verdict::kKeep);
  SpanRow late = Span(2, 4);
  late.status = SpanStatus::kError;
  EXPECT_EQ(StartAndEnd(late), Verdict::kDrop) << "half a trace is worse than none";
  EXPECT_EQ(Decide(), "");
}

TEST_F(SamplerTest, MarkedTraceIsKept) {
  Use({.rate = 0});
  const auto with = [&](std::uint64_t trace, Value value) {
    const Field field{Column::kAttribute, "keep", value};
    SpanRow row = Span(trace, trace);
    row.fields = std::span(&field, 1);
    StartAndEnd(row);
  };
  with(1, Value::Bool(true));
  with(2, Value::Bool(false));
  with(3, Value::String("true"));
  EXPECT_EQ(Decide(), "keep 1; drop 2; drop 3");
}

TEST_F(SamplerTest, RateByNameIsOfTheFirstSpan) {
  Use({.rate = 0, .name_rates = {{"vital", 1}, {"health", 0}}});
  Start(Span(1, 1, 0, "vital"));
  EXPECT_EQ(StartAndEnd(Span(1, 2, 1, "health")), Verdict::kWait);
  EXPECT_EQ(Decide(), "keep 2") << "chosen while it runs";
  EXPECT_EQ(StartAndEnd(Span(1, 3, 1, "health")), Verdict::kKeep);
  // The parent is of another process, and a lane was read before another: the earliest span is the first one.
  StartAndEnd(Span(2, 5, 99, "vital"));
  StartAndEnd(Span(2, 4, 98, "health"));
  EXPECT_EQ(Decide(), "drop 5 4");
  StartAndEnd(Span(3, 6, 0, "other"));
  EXPECT_EQ(Decide(), "drop 6");
}

TEST_F(SamplerTest, FirstOfANameAndAnErrorTypeIsKept) {
  Use({.rate = 0, .first_of_kind = true});
  const auto run = [&](std::uint64_t trace, std::string_view name, std::string_view error) {
    const Field field{Column::kErrorType, {}, Value::String(error)};
    SpanRow row = Span(trace, trace, 0, name);
    if (!error.empty()) row.fields = std::span(&field, 1);
    if (!error.empty()) row.status = SpanStatus::kError;
    StartAndEnd(row);
  };
  run(1, "a", "");
  run(2, "a", "");
  EXPECT_EQ(Decide(), "keep 1; drop 2") << "also within one round";
  run(3, "a", "");
  run(4, "a", "TimeoutError");
  run(5, "b", "");
  EXPECT_EQ(Decide(), "drop 3; keep 4; keep 5");
  run(6, "a", "TimeoutError");
  EXPECT_EQ(Decide(), "drop 6");
}

TEST_F(SamplerTest, OldTraceIsDecidedByWhatIsKnown) {
  Use({.rate = 0, .keep = IsError, .max_trace_age_ns = 1000});
  Start(Span(1, 1));
  StartAndEnd(Span(1, 2, 1));
  now_ns_ = 1000;
  EXPECT_EQ(Decide(), "");
  now_ns_ = 1001;
  EXPECT_EQ(Decide(), "drop 2");
  EXPECT_EQ(End(Span(1, 1)), Verdict::kDrop);
}

TEST_F(SamplerTest, OldestTracesMakeRoom) {
  Use({.rate = 0, .keep = IsError, .max_waiting_bytes = 10'000});
  for (std::uint64_t trace = 1; trace <= 3; ++trace) {
    Start(Span(trace, 10 * trace));
    Start(Span(trace, 10 * trace + 1, 10 * trace));
    SpanRow child = Span(trace, 10 * trace + 1, 10 * trace);
    if (trace == 2) child.status = SpanStatus::kError;
    End(child, 4000);
  }
  EXPECT_EQ(Decide(), "drop 11") << "the oldest, and no more than needed";
  EXPECT_LE(sampler_->waiting_bytes(), 10'000u);
  End(Span(2, 20));
  End(Span(3, 30));
  EXPECT_EQ(Decide(), "keep 21 20; drop 31 30");
}

TEST_F(SamplerTest, MemoryIsBounded) {
  Use({.rate = 0, .first_of_kind = true});
  Start(Span(0, 1));  // runs all the while
  std::vector<std::string> names;
  for (std::uint64_t i = 1; i <= 2 * SamplerMemory::kMaxVerdicts; ++i) {
    StartAndEnd(Span(i, i + 1, 0, "name " + std::to_string(i)));
    if (i % 1000 == 0) sampler_->Decide(0), sampler_->Committed();
  }
  sampler_->Decide(0);
  sampler_->Committed();
  EXPECT_EQ(sampler_->traces(), 1u);
  EXPECT_FALSE(memory_.VerdictOf(TraceNumber(1)).has_value()) << "forgotten";
  EXPECT_TRUE(memory_.VerdictOf(TraceNumber(2 * SamplerMemory::kMaxVerdicts)).has_value());
  EXPECT_FALSE(memory_.IsNew(12345)) << "when all kinds there is room for are known, none is new";
}

TEST_F(SamplerTest, WhatWasDecidedInABatchThatFailedIsDecidedAgainAlike) {
  Use({.rate = 0, .first_of_kind = true});
  StartAndEnd(Span(1, 1));
  ASSERT_TRUE(sampler_->Decide(0)[0].keep);
  sampler_.emplace(options_, memory_);  // not committed: the collector begins anew
  StartAndEnd(Span(1, 1));
  EXPECT_EQ(Decide(), "keep 1");
  StartAndEnd(Span(2, 2));
  EXPECT_EQ(Decide(), "drop 2");
}

// --- recorder and sampler together
// -----------------------------------------------------------------------------------

class SamplingRecorderTest : public testing::Test {
 protected:
  void Open(Sampling sampling) {
    RecorderOptions options;
    options.lane_bytes = 64 << 10;
    options.commit_interval_ns = 2'000'000;
    options.close_timeout_ns = kTestTimeoutNs;
    options.environment = "test";
    options.sampling = std::move(sampling);
    auto opened = Recorder::Open(exporter, dir.path(), options);
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    recorder = *std::move(opened);
  }
  void End(SpanId id, SpanStatus status = SpanStatus::kOk) { ASSERT_TRUE(recorder->End(id, status, 7, {})); }
  void Flush() { ASSERT_TRUE(recorder->Flush(kTestTimeoutNs).complete); }
  void TearDown() override {
    recorder.reset();
    EXPECT_EQ(exporter->problems(), std::vector<std::string>());
    for (const auto& [id, ring] : exporter->rings()) EXPECT_TRUE(ring.open.empty()) << "a span waits for ever";
  }
  static std::vector<SpanId> Ids(const std::vector<StoredSpan>& spans) {
    std::vector<SpanId> ids;
    for (const StoredSpan& span : spans) ids.push_back(span.span_id);
    std::ranges::sort(ids);
    return ids;
  }
  std::vector<SpanId> kept() const { return Ids(exporter->spans()); }
  std::vector<SpanId> dropped() const { return Ids(exporter->sampled_out()); }
  using Spans = std::vector<SpanId>;

  TempDir dir;
  std::shared_ptr<MemoryExporter> exporter = std::make_shared<MemoryExporter>();
  std::unique_ptr<Recorder> recorder;
};

TEST_F(SamplingRecorderTest, WithoutSamplingEveryTraceIsKept) {
  Open({.keep = IsError});
  recorder->Start(Span(1, 1));
  End(1);
  Flush();
  EXPECT_EQ(kept(), Spans{1});
  EXPECT_EQ(recorder->GetHealth().sampled_out_spans, 0u);
}

TEST_F(SamplingRecorderTest, TracesAreKeptWholeOrCountedWhole) {
  Open({.rate = 0, .keep = IsError});
  constexpr SpanId kTraces = 60, kSpans = 5;
  Spans expect_kept, expect_dropped;
  std::vector<std::thread> threads;
  for (SpanId t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (SpanId trace = t; trace < kTraces; trace += 3) {
        for (SpanId i = 0; i < kSpans; ++i)
          recorder->Start(Span(trace, 1 + trace * kSpans + i, i == 0 ? 0 : trace * kSpans + i));
        for (SpanId i = kSpans; i-- > 0;) {
          const bool error = trace % 4 == 0 && i == trace % kSpans;
          recorder->End(1 + trace * kSpans + i, error ? SpanStatus::kError : SpanStatus::kOk, 7, {});
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (SpanId trace = 0; trace < kTraces; ++trace) {
    for (SpanId i = 0; i < kSpans; ++i)
      (trace % 4 == 0 ? expect_kept : expect_dropped).push_back(1 + trace * kSpans + i);
  }
  ASSERT_TRUE(exporter->WaitFor([&] { return kept().size() + dropped().size() == kTraces * kSpans; }));
  EXPECT_EQ(kept(), expect_kept);
  EXPECT_EQ(dropped(), expect_dropped);
  Flush();  // the exporter has the last batch before health counts it
  const Health health = recorder->GetHealth();
  EXPECT_EQ(health.stored_spans, health.recorded_spans);
  EXPECT_EQ(health.sampled_out_spans, expect_dropped.size());
  EXPECT_EQ(exporter->sampled_out()[0].fields["environment"], "test") << "what cells tell apart by";
}

TEST_F(SamplingRecorderTest, UndecidedSpansAreInTheOpenTableUntilTheVerdict) {
  Open({.rate = 0, .keep = IsError});
  recorder->Start(Span(1, 1));
  recorder->Start(Span(1, 2, 1));
  End(2);
  Flush();
  recorder->Start(Span(1, 3, 1));
  const Field late{Column::kAttribute, "late", Value::Int(1)};
  recorder->Fields(2, std::span(&late, 1));
  Flush();
  EXPECT_EQ(kept().size() + dropped().size(), 0u);
  EXPECT_EQ(recorder->GetHealth().open_spans, 2u);
  const auto rings = exporter->rings();
  ASSERT_EQ(rings.size(), 1u);
  EXPECT_EQ(rings.begin()->second.open.size(), 3u) << "a kill loses none of them";
  End(3, SpanStatus::kError);
  End(1);
  Flush();
  ASSERT_TRUE(exporter->WaitFor([&] { return kept().size() == 3; }));
  EXPECT_EQ(exporter->by_id()[2].fields["late"], "1") << "set after its end, before the verdict";
}

TEST_F(SamplingRecorderTest, FailedCommitsChangeNoVerdict) {
  Open({.rate = 0, .first_of_kind = true});
  recorder->Start(Span(1, 1));
  recorder->Start(Span(1, 2, 1));
  End(2);
  Flush();
  exporter->FailCommits(true);
  End(1);
  const std::uint64_t before = exporter->attempts();
  ASSERT_TRUE(exporter->WaitFor([&] { return exporter->attempts() >= before + 2; }));
  exporter->FailCommits(false);
  ASSERT_TRUE(exporter->WaitFor([&] { return kept() == Spans({1, 2}); }));
  recorder->Start(Span(2, 3));
  End(3);
  ASSERT_TRUE(exporter->WaitFor([&] { return dropped() == Spans{3}; }));
}

TEST_F(SamplingRecorderTest, WhatStillRunsAtTheEndIsKeptWhole) {
  Open({.rate = 0});
  recorder->Start(Span(1, 1));
  recorder->Start(Span(1, 2, 1));
  End(2);
  recorder->Start(Span(2, 3));
  End(3);
  recorder.reset();
  EXPECT_EQ(kept(), Spans({1, 2}));
  EXPECT_EQ(dropped(), Spans{3});
  EXPECT_EQ(exporter->by_id()[1].status, SpanStatus::kInterrupted);
  EXPECT_EQ(exporter->by_id()[2].status, SpanStatus::kOk);
}

}  // namespace
}  // namespace spanbox
