// What a span costs a C++ program: Recorder::Start and End with four attributes and texts, 400 bytes of payload in all,
// into a store on disk; beside it a memcpy of as many bytes into a ring on the heap.
//
//   bench_record ROUNDS DIR
//
// DIR must not exist. Prints one JSON line. A round is 1,000 spans and a flush; the flush is not timed. Ids and times
// are made beforehand: they are the caller's. `p50_ns` and `p999_ns` are of single spans, less what reading the clock
// takes; `mean_ns` is the median over the rounds of 1,000 spans timed as one.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "spanbox/recorder.h"
#include "spanbox/store.h"

namespace {

using spanbox::Column;
using spanbox::Field;
using spanbox::SpanId;
using spanbox::Value;

constexpr std::size_t kSpans = 1000;
constexpr std::size_t kStartBytes = 214, kEndBytes = 186;  // as base/record_codec.h lays them out
constexpr std::size_t kInputBytes = 160, kOutputBytes = 112;
constexpr std::int64_t kFlushNs = 10'000'000'000;

std::int64_t NowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

double Quantile(std::vector<double>& values, double q) {
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(q * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

double ClockCostNs() {
  std::vector<double> costs;
  for (int i = 0; i < 10'000; ++i) {
    const std::int64_t begin = NowNs();
    costs.push_back(static_cast<double>(NowNs() - begin));
  }
  return Quantile(costs, 0.5);
}

struct Cost {
  double p50_ns, p999_ns, mean_ns;
};

// `one(i)` is the work of one span, `settle()` what follows a round.
template <typename One, typename Settle>
Cost Measure(int rounds, const One& one, const Settle& settle) {
  std::vector<double> singles, means;
  const double clock_ns = ClockCostNs();
  for (int round = -2; round < 2 * rounds; ++round) {  // two rounds to warm up; then single and whole ones in turn
    const std::int64_t begin = NowNs();
    if (round % 2 != 0) {
      for (std::size_t i = 0; i < kSpans; ++i) one(i);
      if (round > 0) means.push_back(static_cast<double>(NowNs() - begin) / kSpans);
    } else {
      for (std::size_t i = 0; i < kSpans; ++i) {
        const std::int64_t before = NowNs();
        one(i);
        const auto took = static_cast<double>(NowNs() - before);
        if (round >= 0) singles.push_back(std::max(0.0, took - clock_ns));
      }
    }
    settle();
  }
  return {Quantile(singles, 0.5), Quantile(singles, 0.999), Quantile(means, 0.5)};
}

Cost MeasureRecorder(int rounds, spanbox::Recorder& recorder) {
  const std::string input(kInputBytes, 'i'), output(kOutputBytes, 'o');
  const std::array<Field, 1> start_fields = {Field{Column::kInput, {}, Value::String(input)}};
  const std::array<Field, 5> end_fields = {
      Field{Column::kModel, {}, Value::String("gpt-5-mini")}, Field{Column::kInputTokens, {}, Value::Int(812)},
      Field{Column::kOutputTokens, {}, Value::Int(141)},      Field{Column::kCostUsd, {}, Value::Float(0.0034)},
      Field{Column::kOutput, {}, Value::String(output)},
  };
  spanbox::SpanRow row;
  row.name = "chat";
  row.kind = spanbox::SpanKind::kLlm;
  row.start_ns = 1'767'225'600'000'000'000;
  row.fields = start_fields;
  row.trace_id.bytes[0] = 1;
  SpanId next = 1;
  const auto one = [&](std::size_t) {
    row.span_id = next++;
    if (recorder.Start(row)) recorder.End(row.span_id, spanbox::SpanStatus::kOk, 1'310'000'000, end_fields);
  };
  return Measure(rounds, one, [&] { recorder.Flush(kFlushNs); });
}

Cost MeasureCopy(int rounds) {
  std::vector<char> ring(2u << 20), from(kStartBytes + kEndBytes, 'x');
  std::size_t head = 0;
  const auto one = [&](std::size_t) {
    if (head + from.size() > ring.size()) head = 0;
    std::memcpy(ring.data() + head, from.data(), kStartBytes);
    std::memcpy(ring.data() + head + kStartBytes, from.data() + kStartBytes, kEndBytes);
    head += from.size();
    asm volatile("" ::"r"(ring.data()) : "memory");  // the copy is wanted
  };
  return Measure(rounds, one, [] {});
}

int Fail(const spanbox::Status& status) {
  std::fprintf(stderr, "%s\n", status.message().c_str());
  return 1;
}

int Run(int rounds, const std::string& folder) {
  auto store = spanbox::Store::Open(folder);
  if (!store.ok()) return Fail(store.status());
  auto recorder = spanbox::Recorder::Open(std::shared_ptr<spanbox::SpanExporter>(*store), (*store)->ring_dir(), {});
  if (!recorder.ok()) return Fail(recorder.status());
  const Cost ours = MeasureRecorder(rounds, **recorder), copy = MeasureCopy(rounds);
  const spanbox::Health health = (*recorder)->GetHealth();
  std::printf(
      "{\"bench\": \"record\", \"spans\": %llu, \"dropped\": %llu, \"p50_ns\": %.1f, \"p999_ns\": %.1f, "
      "\"mean_ns\": %.1f, \"copy_p50_ns\": %.1f, \"copy_p999_ns\": %.1f, \"copy_mean_ns\": %.1f}\n",
      static_cast<unsigned long long>(health.recorded_spans), static_cast<unsigned long long>(health.dropped_spans),
      ours.p50_ns, ours.p999_ns, ours.mean_ns, copy.p50_ns, copy.p999_ns, copy.mean_ns);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc == 3 ? std::atoi(argv[1]) : 0;
  if (rounds <= 0 || std::filesystem::exists(argv[2])) {
    std::fprintf(stderr, "usage: bench_record ROUNDS DIR   (DIR must not exist)\n");
    return 2;
  }
  return Run(rounds, argv[2]);
}
