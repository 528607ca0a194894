#include "query/query_run.h"

#include <algorithm>

#include "query/lexer.h"
#include "query/predicate.h"
#include "query/relatives.h"
#include "query/rollup_cells.h"

namespace spanbox {
namespace {

std::string Unknown(std::string_view name, std::string_view closest) {
  return "unknown column " + Ticked(name) + ": did you mean " + Ticked(closest) + "?";
}

Result<SampledOut> CountDropped(QueryRun& run) {
  return ForEachRollup(run, {}, [](const RollupCells&, const Bitmap&) { return OkStatus(); });
}

}  // namespace

ColumnRef Resolve(std::string_view name) {
  const ColumnInfo* info = FindColumn(name);
  return {std::string(info != nullptr ? info->name : name), info};
}

Result<std::unique_ptr<QueryRun>> QueryRun::Start(Store& store, const SpanQuery& query) {
  std::unique_ptr<QueryRun> run(new QueryRun);
  SPANBOX_ASSIGN_OR_RETURN(run->filter_, ParseFilter(query.filter));
  SPANBOX_ASSIGN_OR_RETURN(run->view_, store.Read());
  run->since_ns_ = query.since_ns;
  run->until_ns_ = query.until_ns;
  for (const SegmentMeta& segment : run->view_->segments()) {
    if (segment.max_start_ns >= query.since_ns && segment.min_start_ns < query.until_ns)
      run->segments_.push_back(segment);
  }
  SPANBOX_RETURN_IF_ERROR(run->CheckKnown(run->filter_));
  SPANBOX_RETURN_IF_ERROR(run->Bind(run->filter_));
  return run;
}

Status QueryRun::Bind(Filter& filter) {
  if (filter.relatives_tests == 0) return OkStatus();
  SPANBOX_ASSIGN_OR_RETURN(filter.relatives, AnswerRelatives(*this, filter));
  return OkStatus();
}

Result<bool> QueryRun::IsKnown(std::string_view attribute) {
  for (const SegmentMeta& segment : view_->segments()) {
    SPANBOX_ASSIGN_OR_RETURN(const Segment loaded, view_->Load(segment));
    if (!loaded.Find(attribute).empty()) return true;
  }
  return false;
}

Status QueryRun::CheckKnown(const ColumnRef& column) {
  if (column.info != nullptr) return OkStatus();
  if (column.name.empty()) return InvalidArgument("a column's name cannot be empty");
  const std::string_view closest = ClosestColumn(column.name);
  if (closest.empty()) return OkStatus();
  SPANBOX_ASSIGN_OR_RETURN(const bool known, IsKnown(column.name));
  return known ? OkStatus() : InvalidArgument(Unknown(column.name, closest));
}

Status QueryRun::CheckKnown(const Filter& filter) {
  if (filter.everything) return OkStatus();
  std::vector<const Term*> doubtful;
  ForEachTerm(filter.root, [&](const Term& term) {
    if (term.info == nullptr && !ClosestColumn(term.column).empty()) doubtful.push_back(&term);
  });
  for (const Term* term : doubtful) {
    SPANBOX_ASSIGN_OR_RETURN(const bool known, IsKnown(term->column));
    if (!known) return ErrorAt(filter.text, term->position, Unknown(term->column, ClosestColumn(term->column)));
  }
  return OkStatus();
}

Result<std::unique_ptr<SegmentColumns>> QueryRun::Load(const SegmentMeta& segment) {
  SPANBOX_ASSIGN_OR_RETURN(Segment loaded, view_->Load(segment));
  return std::make_unique<SegmentColumns>(std::move(loaded), segment.id);
}

bool QueryRun::TakesAll(const SegmentMeta& segment) const {
  return filter_.everything && segment.id != kOpenSpans && segment.min_start_ns >= since_ns_ &&
         segment.max_start_ns < until_ns_;
}

Result<Bitmap> QueryRun::RowsInTime(const SegmentMeta& segment, SegmentColumns& columns) const {
  if (segment.min_start_ns >= since_ns_ && segment.max_start_ns < until_ns_) return Bitmap(columns.rows(), true);
  SPANBOX_ASSIGN_OR_RETURN(const IntColumn* starts, columns.Starts());
  const std::int64_t* start_ns = starts->values.data();
  Bitmap rows(columns.rows());
  rows.SetWhere([&](std::uint32_t row) { return (start_ns[row] >= since_ns_) & (start_ns[row] < until_ns_); });
  return rows;
}

Result<Bitmap> QueryRun::Rows(const SegmentMeta& segment, SegmentColumns& columns) {
  SPANBOX_ASSIGN_OR_RETURN(Bitmap rows, RowsInTime(segment, columns));
  SPANBOX_ASSIGN_OR_RETURN(rows, Select(filter_, columns, rows));
  if (segment.id == kOpenSpans && rows.any()) SPANBOX_RETURN_IF_ERROR(DropStored(columns, rows));
  return rows;
}

// A stored span has the start its open form had: only segments around that start are asked.
Status QueryRun::DropStored(SegmentColumns& open, Bitmap& rows) {
  SPANBOX_ASSIGN_OR_RETURN(const TraceIdColumn* traces, open.TraceIds());
  SPANBOX_ASSIGN_OR_RETURN(const SpanIdColumn* spans, open.SpanIds());
  SPANBOX_ASSIGN_OR_RETURN(const IntColumn* starts, open.Starts());
  for (const SegmentMeta& segment : view_->segments()) {
    if (segment.id == kOpenSpans) continue;
    std::unique_ptr<SegmentColumns> stored;
    for (const std::uint32_t row : rows.Rows()) {
      const std::int64_t start_ns = starts->values[row];
      const TraceId& trace = traces->values[row];
      if (start_ns < segment.min_start_ns || start_ns > segment.max_start_ns || !segment.MayHold(trace)) continue;
      if (stored == nullptr) {
        SPANBOX_ASSIGN_OR_RETURN(stored, Load(segment));
      }
      SPANBOX_ASSIGN_OR_RETURN(const auto same_trace, stored->segment().RowsOfTrace(trace));
      if (same_trace.empty()) continue;
      SPANBOX_ASSIGN_OR_RETURN(const SpanIdColumn* ids, stored->SpanIds());
      const auto is_same = [&](std::uint32_t r) { return ids->values[r] == spans->values[row]; };
      if (std::ranges::any_of(same_trace, is_same)) rows.Clear(row);
    }
  }
  return OkStatus();
}

Result<std::uint64_t> Count(Store& store, const SpanQuery& query) {
  SPANBOX_ASSIGN_OR_RETURN(const auto run, QueryRun::Start(store, query));
  std::uint64_t count = 0;
  for (const SegmentMeta& segment : run->segments()) {
    if (run->TakesAll(segment)) {
      count += segment.rows;
      continue;
    }
    SPANBOX_ASSIGN_OR_RETURN(const auto columns, run->Load(segment));
    SPANBOX_ASSIGN_OR_RETURN(const Bitmap rows, run->Rows(segment, *columns));
    count += rows.count();
  }
  SPANBOX_ASSIGN_OR_RETURN(const SampledOut dropped, CountDropped(*run));
  return count + dropped.included;
}

Result<SampledOut> SampledOutOf(Store& store, const SpanQuery& query) {
  SPANBOX_ASSIGN_OR_RETURN(const auto run, QueryRun::Start(store, query));
  return CountDropped(*run);
}

}  // namespace spanbox
