// Cells of a segment: what its spans of one kind, status and model have in common, counted and sketched once, when the
// segment settles. Questions about such spans as a whole need not read them.
//
// There are two tables of cells: one of the whole segment, and one that tells buckets of kRollupBucketNs apart, unless
// that would take too much room. A table is a segment whose rows are cells, with the columns of a rollup's (rollup.h)
// and these besides:
//
//   <measure>               0, there where the cell's spans have a value: all of them, or none
//   <measure>.first .size   the range of the sketch's buckets; durations by bucket of time are not sketched
//   <measure>.at            where their counts begin among all of the measure, which stand behind the table's columns
//
// Thread rule: functions; SegmentCells is a value. Ownership: it borrows its bytes.
// Invariants:
//   1. The sum of all `count` of a table is the number of rows of the segment.
//   2. Damaged bytes are DataLoss.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "spanbox/sketch.h"
#include "store/rollup.h"
#include "store/segment.h"

namespace spanbox {

inline constexpr Column kCellDimensions[] = {Column::kKind, Column::kStatus, Column::kModel};

// Sketches of one measure by row of the table.
class CellSketches {
 public:
  // False: the cell has no values. The counts live until the next call.
  Result<bool> Get(std::uint32_t row, DDSketch::Part& part);

 private:
  friend class SegmentCells;
  std::vector<std::int64_t> first_, size_, at_, count_, sum_, min_, max_;
  Validity valid_;
  std::vector<std::uint32_t> counts_;
};

// The value as it is stored.
struct CellsValue {
  std::span<const std::byte> bytes;
  std::atomic<bool>* verified = nullptr;  // where it is remembered that the checksum is right; may be null
};

class SegmentCells {
 public:
  // Of the tables that are there; of one alone, where only that is asked.
  enum class Tables { kBoth, kWhole, kBuckets };
  static Result<SegmentCells> Open(CellsValue value, Tables wanted = Tables::kBoth);
  static Result<SegmentCells> Open(std::span<const std::byte> bytes) { return Open(CellsValue{bytes}); }

  struct Table {
    Segment rows;
    std::array<std::span<const std::byte>, kSketchedMeasures> counts;  // sequences
    std::size_t bytes = 0;                                             // of both

    // `cells` is `rows`, which may have been moved. REQUIRES: measure < kSketchedMeasures, as in kRollupMeasures.
    Result<CellSketches> Sketches(const Segment& cells, std::size_t measure) const;
  };
  std::optional<Table> whole, buckets;

  // Whether a table has sketches of a measure. Durations differ most, and would take as much room as all else.
  static bool Sketches(std::size_t measure, bool by_bucket) {
    return !by_bucket || kRollupMeasures[measure] != Column::kDurationNs;
  }
};

// Empty where cells would take more than `most_bytes`, or a measure has other values than whole numbers of 0 or more.
std::string EncodeCells(const Segment& segment, std::size_t most_bytes);
// As many as are worth their room: a small part of the segment's.
std::string CellsOf(const SegmentBuilder::Encoded& encoded);

// The cells of all these segments as one value: those of each whole added up, and, with `buckets`, where all have them
// and they take no more than three quarters of the room when added up, those by bucket. Empty where a sum is too large
// for them. DataLoss: some are damaged.
Result<std::string> JoinCells(std::span<const SegmentCells> parts, bool buckets);

}  // namespace spanbox
