#include "query/rollup_cells.h"

#include <algorithm>
#include <limits>

#include "query/predicate.h"

namespace spanbox {
namespace {

bool IsKept(Column column) {  // by folded cells, too
  return column == Column::kKind || column == Column::kStatus;
}

bool IsDimension(const ColumnInfo* info) {
  if (info == nullptr) return false;
  return IsKept(info->column) || info->column == Column::kName ||
         std::ranges::find(kRollupDimensions, info->column) != std::end(kRollupDimensions);
}

bool IsMeasure(const ColumnInfo* info, std::size_t among = std::size(kRollupMeasures)) {
  if (info == nullptr) return false;
  const auto* end = kRollupMeasures + among;
  return std::find(kRollupMeasures, end, info->column) != end;
}

bool IsStoredDimension(const ColumnInfo* info) {
  return info != nullptr && std::ranges::find(kCellDimensions, info->column) != std::end(kCellDimensions);
}

}  // namespace

void CellNeeds::Dimension(const ColumnRef& column) {
  answerable &= IsDimension(column.info);
  stored &= IsStoredDimension(column.info);
}

void CellNeeds::Test(const Filter& filter) {
  if (filter.everything) return;
  answerable &= filter.relatives_tests == 0;
  stored &= filter.relatives_tests == 0;
  ForEachTerm(filter.root, [this](const Term& term) {
    answerable &= IsDimension(term.info);
    names |= term.info == nullptr || !IsKept(term.info->column);
    const bool presence = term.comparison == Comparison::kPresent && IsMeasure(term.info, kSketchedMeasures);
    stored &= presence || IsStoredDimension(term.info);
  });
}

void CellNeeds::Value(const ColumnRef& column) {
  stored = false;
  if (IsMeasure(column.info)) return;
  Distinct(column);
}

void CellNeeds::Measure(const ColumnRef& column) {
  answerable &= IsMeasure(column.info);
  stored &= IsMeasure(column.info, kSketchedMeasures);
}

void CellNeeds::Sketched(const ColumnRef& column) {
  if (column.info != nullptr) {
    sketches |= 1u << (std::ranges::find(kRollupMeasures, column.info->column) - std::begin(kRollupMeasures));
  }
  answerable &= IsMeasure(column.info, kSketchedMeasures);
  stored &= IsMeasure(column.info, kSketchedMeasures);
}

void CellNeeds::Distinct(const ColumnRef& column) {
  Dimension(column);
  stored = false;  // its values count spans, of which a cell has many
  names |= column.info == nullptr || !IsKept(column.info->column);
}

void CellNeeds::Bucketed(const ColumnRef& column) {
  Sketched(column);
  stored = false;
}

void CellNeeds::Numbers() { answerable = stored = false; }

void CellNeeds::Every(std::int64_t every_ns, bool in_zone) {
  answerable &= every_ns % kRollupBucketNs == 0;
  stored &= every_ns % kRollupBucketNs == 0 && !in_zone;
  by_bucket |= every_ns != 0;
}

namespace {

// Calls visit with those of the table's cells that match the filter and, unless `whole`, whose bucket lies between.
Status VisitTable(QueryRun& run, SegmentCells::Table& table, bool whole, TimeRange range, const CellVisitor& visit) {
  SPANBOX_ASSIGN_OR_RETURN(const std::vector<std::uint64_t> spans, SpansOfCells(table.rows));
  SegmentColumns columns(std::move(table.rows));
  Bitmap rows(columns.rows(), true);
  if (!whole) {
    SPANBOX_ASSIGN_OR_RETURN(rows, RowsBetween(columns, range));
  }
  SPANBOX_ASSIGN_OR_RETURN(rows, Select(run.filter(), columns, rows));
  return rows.any() ? visit({columns, spans, &table}, rows) : OkStatus();
}

// The buckets that lie in the asked time with all of their spans.
TimeRange WholeBuckets(const QueryRun& run, const SegmentMeta& segment) {
  constexpr std::int64_t kLast = std::numeric_limits<std::int64_t>::max() - 2 * kRollupBucketNs;
  TimeRange range;
  if (segment.min_start_ns < run.since_ns()) {
    if (run.since_ns() > kLast) return {0, 0};
    range.since_ns = RollupBucketOf(run.since_ns() + kRollupBucketNs - 1);
  }
  if (segment.max_start_ns >= run.until_ns()) range.until_ns = RollupBucketOf(run.until_ns());
  return range;
}

bool InTime(const QueryRun& run, std::int64_t min_start_ns, std::int64_t max_start_ns) {
  return min_start_ns >= run.since_ns() && max_start_ns < run.until_ns();
}

SegmentCells::Tables Wanted(bool by_bucket) {
  return by_bucket ? SegmentCells::Tables::kBuckets : SegmentCells::Tables::kWhole;
}

// Whether cells of stored segments can answer, those that tell buckets apart or the others.
bool CanTell(const CellNeeds& needs, bool by_bucket) {
  bool can = needs.stored;
  for (std::size_t measure = 0; measure < kSketchedMeasures; ++measure) {
    can &= (needs.sketches >> measure & 1) == 0 || SegmentCells::Sketches(measure, by_bucket);
  }
  return can;
}

}  // namespace

Result<std::vector<const SegmentMeta*>> VisitRuns(QueryRun& run, const CellNeeds& needs, const CellVisitor& visit) {
  std::vector<const SegmentMeta*> left = run.AllSegments();
  const std::span<const RunMeta> runs = run.view().runs();
  if (run.about() != About::kSpans || runs.empty() || !CanTell(needs, needs.by_bucket)) return left;
  // By place in the view: which of `left` it is, one higher. 0: not asked for, or not all of it.
  std::vector<std::uint32_t> number(run.view().segments().size());
  std::size_t place = 0;
  for (std::uint32_t i = 0; i < left.size(); ++i) {
    if (left[i]->id == kOpenSpans) continue;
    while (run.view().segments()[place].id != left[i]->id) ++place;  // both go by id
    if (InTime(run, left[i]->min_start_ns, left[i]->max_start_ns)) number[place] = i + 1;
  }
  const auto is_asked = [&](std::uint32_t member) { return number[member] != 0; };
  for (std::size_t i = 0; i < runs.size(); ++i) {
    if (!InTime(run, runs[i].min_start_ns, runs[i].max_start_ns)) continue;
    if (!std::ranges::all_of(runs[i].members, is_asked)) continue;
    SPANBOX_RETURN_IF_ERROR(run.interrupt().Check());
    const auto value = run.view().LoadRun(i);
    auto cells = value.ok() ? SegmentCells::Open(*value, Wanted(needs.by_bucket)) : DataLoss("none");
    if (!cells.ok() || !(needs.by_bucket ? cells->buckets : cells->whole)) continue;
    SegmentCells::Table& table = needs.by_bucket ? *cells->buckets : *cells->whole;
    SPANBOX_RETURN_IF_ERROR(VisitTable(run, table, /*whole=*/true, {}, visit));
    for (const std::uint32_t member : runs[i].members) {
      left[number[member] - 1] = nullptr;
      number[member] = 0;
    }
  }
  std::erase(left, nullptr);
  return left;
}

Status VisitCellsOrRows(QueryRun& run, const CellNeeds& needs, const SegmentMeta& segment, const CellVisitor& visit,
                        const RowVisitor& visit_rows) {
  const bool in_time = InTime(run, segment.min_start_ns, segment.max_start_ns);
  const bool by_bucket = needs.by_bucket || !in_time;
  const bool possible = segment.id != kOpenSpans && CanTell(needs, by_bucket);
  const auto value = possible ? run.view().LoadCells(segment) : CellsValue{};
  // Damaged ones are for Verify to name: the rows themselves still tell.
  auto cells = value.ok() && !value->bytes.empty() ? SegmentCells::Open(*value, Wanted(by_bucket)) : DataLoss("none");
  const bool there = cells.ok() && (by_bucket ? cells->buckets : cells->whole);
  if (!there) return run.WithRows(segment, visit_rows);
  SPANBOX_RETURN_IF_ERROR(run.interrupt().Check());
  const TimeRange range = WholeBuckets(run, segment);
  SPANBOX_RETURN_IF_ERROR(VisitTable(run, by_bucket ? *cells->buckets : *cells->whole, in_time, range, visit));
  if (in_time) return OkStatus();
  return run.WithRows(segment, [&](SegmentColumns& columns, Bitmap rows) -> Status {
    SPANBOX_ASSIGN_OR_RETURN(const Bitmap told, RowsBetween(columns, range));
    rows -= told;
    return rows.any() ? visit_rows(columns, rows) : OkStatus();
  });
}

Result<SampledOut> ForEachRollup(QueryRun& run, CellNeeds needs, const CellVisitor& visit) {
  SampledOut out;
  if (run.about() == About::kScores) return out;
  needs.Test(run.filter());
  for (const SegmentMeta& meta : run.view().rollups()) {
    if (!run.Takes(meta.id)) continue;
    if (meta.max_start_ns < run.since_ns() || meta.min_start_ns >= run.until_ns()) continue;
    SPANBOX_RETURN_IF_ERROR(run.interrupt().Check());
    SPANBOX_ASSIGN_OR_RETURN(Segment segment, run.view().LoadRollup(meta));
    SPANBOX_ASSIGN_OR_RETURN(const std::vector<std::uint64_t> spans, SpansOfCells(segment));
    const auto sum = [&spans](const Bitmap& rows) {
      std::uint64_t total = 0;
      rows.ForEach([&](std::uint32_t row) { total += spans[row]; });
      return total;
    };
    SegmentColumns columns(std::move(segment));
    SPANBOX_ASSIGN_OR_RETURN(const IntColumn* starts, columns.Starts());
    Bitmap rows(columns.rows());
    rows.SetWhere([&](std::uint32_t row) {
      return starts->values[row] >= run.since_ns() && starts->values[row] < run.until_ns();
    });
    const std::uint64_t total = sum(rows);
    if (!needs.answerable) {
      out.excluded += total;
      continue;
    }
    if (needs.names) {
      SPANBOX_ASSIGN_OR_RETURN(const Bitmap folded, RowsWithValue(kCellFolded, columns, rows));
      out.excluded += sum(folded);
      rows -= folded;
    }
    SPANBOX_ASSIGN_OR_RETURN(rows, Select(run.filter(), columns, rows));
    out.included += sum(rows);
    if (rows.any()) SPANBOX_RETURN_IF_ERROR(visit({columns, spans}, rows));
  }
  return out;
}

}  // namespace spanbox
