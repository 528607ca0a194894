// What sampling costs the collector: joining records into spans, choosing, and making what a commit writes of them.
//
//   bench_sampling ROUNDS
//
// Prints one JSON line of nanoseconds a span, the fastest of the rounds: without sampling, with all traces chosen by
// their head but one in a thousand, with nothing chosen and everything dropped by a filter that looks at every span. A
// round is a batch of 8,000 spans in traces of 5, with a model, tokens, cost and 300 bytes of text. The disk is not
// part of it.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include "base/record_codec.h"
#include "query/filter.h"
#include "record/joiner.h"
#include "spanbox/query.h"
#include "store/rollup.h"
#include "store/segment.h"

namespace {

using namespace spanbox;

constexpr SpanId kSpans = 8000, kTraceSpans = 5;

struct Records {
  Records() {
    const std::string text(300, 'x');
    for (SpanId i = 0; i < kSpans; ++i) {
      TraceId trace;
      const std::uint64_t number = (i / kTraceSpans + 1) * 0x9E3779B97F4A7C15u;
      std::memcpy(trace.bytes.data(), &number, sizeof number);
      const bool root = i % kTraceSpans == 0;
      ByteBuffer start, end;
      RecordWriter begun(start), ended(end);
      begun.Start(trace, i + 1, root ? 0 : i - i % kTraceSpans + 1, static_cast<std::int64_t>(1000 + i), SpanKind::kLlm,
                  root ? "answer" : "call");
      begun.AddString(Column::kInput, {}, text);
      begun.AddString(Column::kTenant, {}, i % 2 == 0 ? "acme" : "globex");
      ended.End(i + 1, static_cast<std::int64_t>(1'000'000 + 977 * (i % 1000)), SpanStatus::kOk);
      ended.AddString(Column::kModel, {}, "gpt-5");
      ended.AddInt(Column::kInputTokens, {}, static_cast<std::int64_t>(i % 900));
      ended.AddInt(Column::kOutputTokens, {}, static_cast<std::int64_t>(2 + i % 90));
      ended.AddInt(Column::kTtftNs, {}, 400'000);
      ended.AddFloat(Column::kCostUsd, {}, 0.001);
      for (const ByteBuffer* buffer : {&start, &end}) {
        payloads.emplace_back(buffer->bytes().begin(), buffer->bytes().end());
      }
    }
  }
  std::vector<std::vector<std::byte>> payloads;  // START, END of each span
};

std::int64_t NowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

struct Cost {
  double join_ns = 0, encode_ns = 0;
  std::size_t bytes = 0;
};

Cost Round(const Records& records, const Sampling& sampling) {
  SamplerMemory memory;
  TraceSampler sampler(sampling, memory);
  SpanJoiner joiner("", "", sampling.active() ? &sampler : nullptr);
  SegmentBuilder segment;
  RollupBuilder rollup;
  SpanBatch batch;
  joiner.Begin();  // makes its tables
  const std::int64_t begin_ns = NowNs();
  joiner.Begin();
  for (std::size_t i = 0; i < records.payloads.size(); ++i) {
    joiner.Add({i % 2 == 0 ? RecordType::kStart : RecordType::kEnd, records.payloads[i]}, /*held=*/false);
  }
  joiner.Finish(batch, /*all_seen=*/true);
  const std::int64_t joined_ns = NowNs();
  Cost cost;
  for (const SpanRow& row : batch.spans) segment.Add(row);
  for (const SpanRow& row : batch.sampled_out) rollup.Add(row);
  const auto count = [&cost](const SegmentBuilder::Encoded& encoded) {
    cost.bytes += encoded.columns.size() + encoded.text_bytes;
  };
  if (segment.rows() > 0) count(segment.Finish());
  if (!rollup.empty()) count(rollup.Finish(segment));
  if (batch.spans.size() + batch.sampled_out.size() != kSpans) std::abort();
  cost.join_ns = static_cast<double>(joined_ns - begin_ns) / kSpans;
  cost.encode_ns = static_cast<double>(NowNs() - joined_ns) / kSpans;
  return cost;
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 50;
  const Records records;
  const Sampling all, most{.rate = 0.999},
      none{.rate = 0, .keep = *CompileFilter("status == error or cost > $0.05 or duration > 5s or tenant == \"vip\"")};
  const Sampling* const choices[] = {&all, &most, &none};
  Cost best[3];
  for (Cost& cost : best) cost.join_ns = cost.encode_ns = std::numeric_limits<double>::infinity();
  for (int round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < 3; ++i) {  // in turns
      const Cost cost = Round(records, *choices[i]);
      best[i].join_ns = std::min(best[i].join_ns, cost.join_ns);
      best[i].encode_ns = std::min(best[i].encode_ns, cost.encode_ns);
      best[i].bytes = cost.bytes;
    }
  }
  constexpr const char* kNames[] = {"off", "head", "tail"};
  std::printf("{");
  for (std::size_t i = 0; i < 3; ++i) {
    std::printf("%s\"%s\": {\"join_ns\": %.0f, \"encode_ns\": %.0f, \"bytes_a_span\": %.1f}", i == 0 ? "" : ", ",
                kNames[i], best[i].join_ns, best[i].encode_ns, static_cast<double>(best[i].bytes) / kSpans);
  }
  std::printf("}\n");
}
