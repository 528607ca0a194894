// Rollups: what stays of spans that sampling has dropped, so that counts, sums, extremes and quantiles stay exact.
//
// A rollup is a segment whose rows are cells. A cell is what dropped spans of one bucket of time, name, kind, status
// and kRollupDimensions have in common; its columns are, besides those,
//
//   start_ns         begin of the bucket, a multiple of kRollupBucketNs
//   count            spans, at least 1
//   folded           true: its spans differed in name and dimensions, of which there were too many
//   <measure>.count  spans that have a value of any type; .numbers: that have a number, where that is not as many
//   <measure>.sum .min .max   of the numbers: ints if all of them were, else floats
//   <measure>.sketch          DDSketch::Serialize of the numbers, stored as text
//
// Thread rule: a RollupBuilder belongs to one thread. Ownership: it copies what it is given.
// Invariants:
//   1. The sum of all `count` is the number of spans added, whatever is folded or merged.
//   2. Damaged bytes given to AddCells are DataLoss; the builder is then of no more use.
//   3. A bucket has at most kMaxBucketCells cells that are not folded. Past that, the ones with the fewest spans become
//      one for each kind and status.
// Units: as the columns'.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "spanbox/span.h"
#include "store/segment.h"

namespace spanbox {

inline constexpr std::int64_t kRollupBucketNs = 300'000'000'000;
inline constexpr std::size_t kMaxBucketCells = 1024;
inline constexpr std::string_view kFoldedText = "(other)";  // name and dimensions of folded cells

inline constexpr Column kRollupDimensions[] = {Column::kErrorType, Column::kProvider, Column::kModel,
                                               Column::kTenant,    Column::kFeature,  Column::kEnvironment};
inline constexpr Column kRollupMeasures[] = {Column::kDurationNs,   Column::kTtftNs,          Column::kTpotNs,
                                             Column::kInputTokens,  Column::kCacheReadTokens, Column::kCacheWriteTokens,
                                             Column::kOutputTokens, Column::kReasoningTokens, Column::kCostUsd};
inline constexpr std::size_t kSketchedMeasures = 3;  // the first ones

// Names of the cells' own columns.
inline constexpr std::string_view kCellCount = "count";
inline constexpr std::string_view kCellFolded = "folded";
enum class CellPart { kCount, kNumbers, kSum, kMin, kMax, kSketch };
std::int64_t RollupBucketOf(std::int64_t start_ns);               // when its bucket begins
std::string CellColumn(std::string_view measure, CellPart part);  // "ttft_ns.sum"

class RollupBuilder {
 public:
  RollupBuilder();
  ~RollupBuilder();
  RollupBuilder(const RollupBuilder&) = delete;
  RollupBuilder& operator=(const RollupBuilder&) = delete;

  void Add(const SpanRow& span);
  Status AddCells(const Segment& rollup);
  bool empty() const;

  // By way of `rows`. REQUIRES: !empty(), and `rows` is. Leaves both empty.
  SegmentBuilder::Encoded Finish(SegmentBuilder& rows);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Spans of every cell, by row. DataLoss when the column is damaged or the segment no rollup.
Result<std::vector<std::uint64_t>> SpansOfCells(const Segment& rollup);

}  // namespace spanbox
