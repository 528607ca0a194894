// The columns value, its text blocks and its search filter: read whole, and asked by queries of every kind.
#include "any_store.h"
#include "spanbox/trace.h"
#include "store/segment_rows.h"

using namespace spanbox;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input(data, size);
  fuzz::AnySegment bytes;
  bytes.columns = input.Part();
  bytes.filter = input.Part();
  while (!input.empty()) bytes.blocks.push_back(input.Part());
  const auto segment = bytes.Open();
  if (!segment.ok() || segment->rows() > 10'000) return 0;
  if (auto rows = SegmentRows::Open(*segment); rows.ok()) {
    for (std::uint32_t row = 0; row < rows->rows(); ++row) {
      if (!rows->Row(row).ok()) break;
    }
  }
  fuzz::AnyStore store(bytes, *segment);
  (void)Count(store, {.filter = "duration >= 1ms and \"a\" in output"});
  (void)SpanIdsOf(store, testing::TraceIdOf(1));
  (void)Scan(store, {}, {.limit = 100});
  (void)Grep(store, {}, "tion", /*regex=*/false, /*ignore_case=*/true, 10);
  const Aggregate aggregates[] = {{"p", "p99(duration)"}, {"d", "distinct(model)"}, {"s", "sum(cost)"}};
  (void)Aggregated(store, {}, {.by = {"name", "tenant"}}, aggregates);
  return 0;
}
