// What cells can answer, of spans that sampling dropped (store/rollup.h) and of stored ones (store/segment_cells.h),
// and their numbers beside the engine's columns.
//
// Thread rule: functions and plain values; a SegmentColumns belongs to one thread.
// Ownership: RollupCells borrows its columns.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "query/filter.h"
#include "query/query_run.h"
#include "query/segment_columns.h"
#include "spanbox/sketch.h"
#include "store/rollup.h"
#include "store/segment_cells.h"

namespace spanbox {

// What a question asks of a span. It can be put to cells of dropped spans when `answerable`; to folded ones, too, when
// not `names`. It can be put to a segment's cells when `stored`; to those that tell buckets apart when `by_bucket`.
struct CellNeeds {
  bool answerable = true;
  bool names = false;
  bool stored = true;
  bool by_bucket = false;
  unsigned sketches = 0;  // a bit for each of kRollupMeasures

  void Dimension(const ColumnRef& column);  // grouped by or counted as it is: "(other)" is then one value
  void Test(const Filter& filter);
  void Value(const ColumnRef& column);     // count(x) of it
  void Measure(const ColumnRef& column);   // sum, mean, min, max
  void Sketched(const ColumnRef& column);  // quantiles
  void Bucketed(const ColumnRef& column);  // exactly where the numbers are there: cells of dropped spans only
  void Distinct(const ColumnRef& column);
  void Numbers();                                   // one by one
  void Every(std::int64_t every_ns, bool in_zone);  // buckets of time
};

// The cells of one rollup.
struct RollupCells {
  SegmentColumns& columns;
  const std::vector<std::uint64_t>& spans;     // by row
  const SegmentCells::Table* table = nullptr;  // of a segment's cells, without `rows`, which is columns.segment()
};

// Puts the question to the cells of dropped spans: calls `visit` with those that started in the asked time and match
// the filter, unless `needs`, which says what else is asked, rules them out. Every dropped span of the time is counted.
using CellVisitor = std::function<Status(const RollupCells& cells, const Bitmap& selected)>;
Result<SampledOut> ForEachRollup(QueryRun& run, CellNeeds needs, const CellVisitor& visit);

// Puts the question to the cells of runs of segments, as far as these lie in the asked time, and gives the segments
// that are left: the others have been answered for. REQUIRES: `needs` says of the question's filter, too; it is asked
// before run.Visit.
Result<std::vector<const SegmentMeta*>> VisitRuns(QueryRun& run, const CellNeeds& needs, const CellVisitor& visit);

// Puts the question to the cells of a stored segment where they can answer it, and to its rows where not: of a segment
// that the asked time cuts, to those in the buckets it cuts. REQUIRES: `needs` says of the question's filter, too.
using RowVisitor = std::function<Status(SegmentColumns& columns, const Bitmap& selected)>;
Status VisitCellsOrRows(QueryRun& run, const CellNeeds& needs, const SegmentMeta& segment, const CellVisitor& visit,
                        const RowVisitor& visit_rows);

// Calls fn(i, sketch) for every i whose rows[i] has a sketch of the measure. A sketch
// is what DDSketch::Merge takes. fn returns a Status.
template <typename Fn>
Status ForEachSketch(const RollupCells& cells, std::string_view measure, std::span<const std::uint32_t> rows, Fn&& fn) {
  SegmentColumns& columns = cells.columns;
  if (cells.table != nullptr) {
    const auto place = std::ranges::find(kRollupMeasures, FindColumn(measure)->column) - std::begin(kRollupMeasures);
    SPANBOX_ASSIGN_OR_RETURN(CellSketches sketches,
                             cells.table->Sketches(columns.segment(), static_cast<std::size_t>(place)));
    DDSketch::Part part;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      SPANBOX_ASSIGN_OR_RETURN(const bool any, sketches.Get(rows[i], part));
      if (any) SPANBOX_RETURN_IF_ERROR(fn(i, part));
    }
    return OkStatus();
  }
  const ChunkInfo* chunk = columns.segment().Find(CellColumn(measure, CellPart::kSketch), ColumnType::kText);
  if (chunk == nullptr) return OkStatus();
  SPANBOX_ASSIGN_OR_RETURN(TextColumn * texts, columns.Text(*chunk));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (!texts->valid(rows[i])) continue;
    SPANBOX_ASSIGN_OR_RETURN(const std::string_view bytes, texts->Get(rows[i]));
    SPANBOX_ASSIGN_OR_RETURN(const DDSketch sketch, DDSketch::Deserialize(std::as_bytes(std::span(bytes))));
    SPANBOX_RETURN_IF_ERROR(fn(i, sketch));
  }
  return OkStatus();
}

}  // namespace spanbox
