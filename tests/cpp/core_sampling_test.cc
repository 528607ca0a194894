// Recorder, store and query together: what sampling drops is not missing from any figure, also when the process is
// killed.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <random>
#include <set>

#include "spanbox/query.h"
#include "spanbox/recorder.h"
#include "spanbox/store.h"

namespace spanbox {
namespace {

constexpr std::int64_t kTimeoutNs = 60'000'000'000;
constexpr std::int64_t kDayNs = 86'400'000'000'000;

class CoreSamplingTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "spanbox-sampling-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string Folder(const std::string& name) const { return (folder_ / name).string(); }

  static std::unique_ptr<Recorder> Record(const std::shared_ptr<Store>& store, Sampling sampling) {
    RecorderOptions options;
    options.full_ring_policy = FullRingPolicy::kBlock;
    options.commit_interval_ns = 2'000'000;
    options.commit_bytes = 32 << 10;  // many batches a pass
    options.close_timeout_ns = kTimeoutNs;
    options.sampling = std::move(sampling);
    auto recorder = Recorder::Open(store, store->ring_dir(), options);
    EXPECT_TRUE(recorder.ok()) << recorder.status().message();
    return *std::move(recorder);
  }

  // Runs `traces` traces of a seed, some with an error in one of their spans. Returns the traces that had one.
  static std::set<TraceId> Run(Recorder& recorder, std::uint64_t traces, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    std::set<TraceId> with_error;
    SpanId next = seed << 32;
    for (std::uint64_t t = 0; t < traces; ++t) {
      TraceId trace;
      for (std::uint8_t& byte : trace.bytes) byte = static_cast<std::uint8_t>(random());
      const SpanId root = ++next;
      const std::size_t children = random() % 6;
      const std::int64_t start_ns = kDayNs + static_cast<std::int64_t>(random() % 3'600'000'000'000);
      const auto start = [&](SpanId id, SpanId parent, std::string_view name) {
        recorder.Start({.trace_id = trace,
                        .span_id = id,
                        .parent_id = parent,
                        .name = name,
                        .kind = SpanKind::kLlm,
                        .start_ns = start_ns});
      };
      const auto end = [&](SpanId id) {
        const bool error = random() % 40 == 0;
        if (error) with_error.insert(trace);
        const Field fields[] = {{Column::kCostUsd, {}, Value::Float(static_cast<double>(random() % 1000) / 1e5)},
                                {Column::kModel, {}, Value::String(random() % 2 == 0 ? "large" : "small")}};
        recorder.End(id, error ? SpanStatus::kError : SpanStatus::kOk,
                     static_cast<std::int64_t>(std::exp(15 + static_cast<double>(random() % 1000) / 100)), fields);
      };
      start(root, 0, t % 3 == 0 ? "chat" : "search");
      for (std::size_t i = 0; i < children; ++i) {
        const SpanId child = ++next;
        start(child, root, "step");
        end(child);
      }
      end(root);
    }
    return with_error;
  }

  static std::map<TraceId, std::set<SpanId>> Stored(Store& store) {
    const auto table = Scan(store, {}, {.columns = {"trace_id", "span_id"}});
    EXPECT_TRUE(table.ok()) << table.status().message();
    std::map<TraceId, std::set<SpanId>> traces;
    for (std::uint64_t row = 0; row < table->rows; ++row) {
      const auto text = [&](std::size_t c) { return table->columns[c].dictionary[table->columns[c].codes[row]]; };
      EXPECT_TRUE(traces[*TraceIdFromHex(text(0))].insert(*SpanIdFromHex(text(1))).second) << "a span twice";
    }
    return traces;
  }

  std::filesystem::path folder_;
};

Sampling KeepErrors() { return {.rate = 0, .keep = *CompileFilter("status == error")}; }

TEST_F(CoreSamplingTest, FiguresAreThoseOfTheUnsampledRunAndErrorsAreKeptWhole) {
  const auto all = *Store::Open(Folder("all")), sampled = *Store::Open(Folder("sampled"));
  constexpr std::uint64_t kTraces = 3000;
  std::set<TraceId> with_error;
  {
    const auto everything = Record(all, {}), chosen = Record(sampled, KeepErrors());
    with_error = Run(*everything, kTraces, 1);
    EXPECT_EQ(Run(*chosen, kTraces, 1), with_error) << "the same run";
    ASSERT_TRUE(everything->Flush(kTimeoutNs).complete);
    ASSERT_TRUE(chosen->Flush(kTimeoutNs).complete);
    EXPECT_EQ(*Count(*sampled, {}), *Count(*all, {})) << "also while some may wait for their verdict";
  }
  const auto every_trace = Stored(*all), kept = Stored(*sampled);
  ASSERT_EQ(every_trace.size(), kTraces);
  ASSERT_EQ(kept.size(), with_error.size());
  for (const auto& [trace, spans] : kept) {
    EXPECT_TRUE(with_error.contains(trace));
    EXPECT_EQ(spans, every_trace.at(trace)) << "whole";
  }
  const Aggregate aggregates[] = {{"n", "count()"},
                                  {"cost", "sum(cost)"},
                                  {"errors", "rate(status == error)"},
                                  {"p50", "p50(duration)"},
                                  {"p99", "p99(duration)"}};
  const auto expected = Aggregated(*all, {}, {.by = {"name"}}, aggregates);
  const auto got = Aggregated(*sampled, {}, {.by = {"name"}}, aggregates);
  ASSERT_EQ(got->rows, 3u);
  EXPECT_EQ(got->columns[1].ints, expected->columns[1].ints);
  for (std::size_t row = 0; row < 3; ++row) {
    const std::string name = got->columns[0].dictionary[got->columns[0].codes[row]];
    EXPECT_NEAR(got->columns[2].floats[row], expected->columns[2].floats[row], 1e-9) << name;
    EXPECT_EQ(got->columns[3].floats[row], expected->columns[3].floats[row]) << name;
    const double qs[] = {0.5, 0.99};
    const auto exact = QuantilesOf(*all, {.filter = "name == \"" + name + "\""}, "duration", qs, /*exact=*/true);
    for (std::size_t q = 0; q < 2; ++q) {
      // 1 % of the value, and what interpolation between two neighbours may add.
      EXPECT_NEAR(got->columns[4 + q].floats[row], exact->values[q], 0.03 * exact->values[q]) << name;
    }
  }
  std::uint64_t spans = 0, kept_spans = 0;
  for (const auto& [trace, ids] : every_trace) spans += ids.size();
  for (const auto& [trace, ids] : kept) kept_spans += ids.size();
  EXPECT_EQ(got->sampled_out.included, spans - kept_spans);
  EXPECT_EQ(sampled->Info()->sampled_out_spans, spans - kept_spans);
}

// One process is killed while traces are undecided: they are there whole, and what was dropped before is counted once.
TEST_F(CoreSamplingTest, KilledProcessLeavesUndecidedTracesWhole) {
  for (std::uint64_t round = 1; round <= 20; ++round) {
    const std::string path = Folder("killed" + std::to_string(round));
    int ready[2];
    ASSERT_EQ(pipe(ready), 0);
    const pid_t child = fork();
    if (child == 0) {
      const auto store = *Store::Open(path);
      const auto recorder = Record(store, KeepErrors());
      Run(*recorder, 50, 1);  // decided or on the way
      TraceId trace;
      for (std::uint8_t t = 1; t <= 3; ++t) {
        trace.bytes.fill(t);
        recorder->Start({.trace_id = trace, .span_id = 10u * t, .name = "root", .start_ns = kDayNs});
        for (SpanId i = 1; i <= 4; ++i) {
          recorder->Start(
              {.trace_id = trace, .span_id = 10u * t + i, .parent_id = 10u * t, .name = "part", .start_ns = kDayNs});
          recorder->End(10u * t + i, SpanStatus::kOk, 5, {});
          if (i == round % 5) recorder->Flush(kTimeoutNs);  // some of it in the store, the rest in the ring
        }
      }
      if (write(ready[1], "x", 1) != 1) _exit(1);
      while (true) pause();
    }
    close(ready[1]);
    char byte;
    ASSERT_EQ(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    kill(child, SIGKILL);
    ASSERT_EQ(waitpid(child, nullptr, 0), child);
    const auto store = *Store::Open(path);
    ASSERT_TRUE(RecoverRings(*store, store->ring_dir()).ok());
    const auto traces = Stored(*store);
    for (std::uint8_t t = 1; t <= 3; ++t) {
      TraceId trace;
      trace.bytes.fill(t);
      ASSERT_TRUE(traces.contains(trace));
      EXPECT_EQ(traces.at(trace).size(), 5u) << "round " << round;
    }
    EXPECT_EQ(*Count(*store, {.filter = "name == \"part\""}), 12u);
    EXPECT_EQ(*Count(*store, {.filter = "name == \"root\" and status == interrupted"}), 3u);
    const auto decided = *Count(*store, {.filter = "name in [\"chat\", \"search\"]"});
    EXPECT_EQ(decided, 50u) << "each trace of before, kept or counted, once";
    EXPECT_TRUE(store->Verify()->problems.empty());
  }
}

}  // namespace
}  // namespace spanbox
