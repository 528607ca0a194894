#include "query/query_run.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <numeric>
#include <system_error>
#include <thread>

#include "base/clock.h"
#include "query/lexer.h"
#include "query/predicate.h"
#include "query/relatives.h"
#include "query/rollup_cells.h"

namespace spanbox {
namespace {

std::string Unknown(std::string_view name, std::string_view closest) {
  return "unknown column " + Ticked(name) + ": did you mean " + Ticked(closest) + "?";
}

// glibc takes large blocks from the kernel and gives them back at once: every segment's columns would be paid for in
// page faults again, which is two fifths of a scan. When it has seen a block come back it keeps to its heap up to that
// size, as it would after any program's first large array.
void LearnBlockSizes() {
  static const bool learnt = [] {
    constexpr std::size_t kBlockBytes = 16 << 20;
    void* volatile block =
        std::malloc(kBlockBytes);  // volatile: not optimised away; never touched, so it costs nothing
    std::free(block);
    return true;
  }();
  (void)learnt;
}

// False: the filter asks for traces by their ids, and the segment has none of them.
bool MayHoldTraces(const FilterNode& node, const ReadView& view, const SegmentMeta& segment) {
  const Term& term = node.term;
  if (node.kind == FilterNode::Kind::kAnd) {
    return std::ranges::all_of(node.children,
                               [&](const FilterNode& child) { return MayHoldTraces(child, view, segment); });
  }
  const bool by_id = node.kind == FilterNode::Kind::kTerm && term.info != nullptr &&
                     term.info->column == Column::kTraceId && term.comparison == Comparison::kEqual && !term.negated;
  return !by_id || std::ranges::any_of(term.values,
                                       [&](const Literal& literal) { return view.MayHold(segment, literal.trace_id); });
}

constexpr unsigned kMaxWorkers = 64;

Result<SampledOut> CountDropped(QueryRun& run) {
  return ForEachRollup(run, {}, [](const RollupCells&, const Bitmap&) { return OkStatus(); });
}

}  // namespace

ColumnRef Resolve(std::string_view name, About about) {
  const ColumnInfo* info = FindColumnOf(about, name);
  return {std::string(info != nullptr ? info->name : name), info, about};
}

bool MeansSomething(const ColumnRef& column) {
  const bool is_fixed =
      column.info != nullptr && (column.info->column == Column::kKind || column.info->column == Column::kStatus);
  return column.about == About::kSpans || !is_fixed;
}

Result<Bitmap> RowsBetween(SegmentColumns& columns, TimeRange range) {
  SPANBOX_ASSIGN_OR_RETURN(const ChunkInfo* starts, columns.StartsChunk());
  Bitmap rows(columns.rows());
  const auto visit = [&](std::size_t before, std::span<const std::int64_t> start_ns) {
    auto row = static_cast<std::uint32_t>(before);
    for (const std::int64_t start : start_ns) rows.SetIf(row++, (start >= range.since_ns) & (start < range.until_ns));
  };
  const auto skip = [&](std::size_t before, std::size_t count, std::int64_t low, std::int64_t high) {
    if (high < range.since_ns || low >= range.until_ns) return true;
    const bool all = low >= range.since_ns && high < range.until_ns;
    if (all) rows.SetRange(static_cast<std::uint32_t>(before), static_cast<std::uint32_t>(before + count));
    return all;
  };
  SPANBOX_RETURN_IF_ERROR(columns.VisitNumbers(*starts, visit, skip));
  return rows;
}

QueryRun::QueryRun(Store& store, const SpanQuery& query)
    : store_(store),
      about_(query.about),
      interrupt_(query.cancelled),
      since_ns_(query.since_ns),
      until_ns_(query.until_ns),
      max_view_ns_(query.only ? std::numeric_limits<std::int64_t>::max() : query.max_view_ns),
      workers_(std::clamp(query.threads, 1u, kMaxWorkers)),
      only_(query.only) {
  if (only_) std::ranges::sort(*only_);
}

Result<std::unique_ptr<QueryRun>> QueryRun::Start(Store& store, const SpanQuery& query) {
  LearnBlockSizes();
  std::unique_ptr<QueryRun> run(new QueryRun(store, query));
  SPANBOX_ASSIGN_OR_RETURN(run->filter_, ParseFilter(query.filter, query.about));
  SPANBOX_ASSIGN_OR_RETURN(run->view_, store.Read());
  run->looked_ns_ = MonotonicNowNs();
  SPANBOX_RETURN_IF_ERROR(run->CheckAllThere());
  for (const SegmentMeta& segment : SegmentsOf(*run->view_, query.about)) {
    const bool in_time = segment.max_start_ns >= query.since_ns && segment.min_start_ns < query.until_ns;
    const bool holds = run->filter_.everything || MayHoldTraces(run->filter_.root, *run->view_, segment);
    if (in_time && holds && run->Takes(segment.id)) run->segments_.push_back(segment);
  }
  std::stable_partition(run->segments_.begin(), run->segments_.end(),
                        [](const SegmentMeta& s) { return s.id == kOpenSpans; });
  SPANBOX_RETURN_IF_ERROR(run->CheckKnown(run->filter_));
  SPANBOX_RETURN_IF_ERROR(run->Bind(run->filter_));
  return run;
}

bool QueryRun::Takes(std::uint64_t segment) const { return !only_ || std::ranges::binary_search(*only_, segment); }

Status QueryRun::CheckAllThere() const {
  if (!only_) return OkStatus();
  std::size_t found = 0;
  for (const auto segments : {view_->segments(), view_->rollups(), view_->scores()}) {
    for (const SegmentMeta& segment : segments) found += segment.id != kOpenSpans && Takes(segment.id) ? 1 : 0;
  }
  return found == only_->size() ? OkStatus() : Unavailable("some of the segments asked for have been merged meanwhile");
}

Status QueryRun::Bind(Filter& filter) {
  if (filter.relatives_tests == 0) return OkStatus();
  SPANBOX_ASSIGN_OR_RETURN(filter.relatives, AnswerRelatives(*this, filter));
  return OkStatus();
}

Result<bool> QueryRun::IsKnown(std::string_view attribute) {
  for (const SegmentMeta& segment : SegmentsOf(*view_, about_)) {
    SPANBOX_ASSIGN_OR_RETURN(const Segment loaded, view_->Load(segment));
    if (!loaded.Find(attribute).empty()) return true;
  }
  return false;
}

// What the column is a score of, when it is one and has not been read yet.
Status QueryRun::ReadScores(std::string_view column) {
  const auto name = ScoreNameOf(column);
  if (!name || about_ == About::kScores || scores_.contains(*name)) return OkStatus();
  // Relatives may lie outside the asked time.
  const auto spans = filter_.relatives_tests > 0 ? view_->segments() : segments();
  SPANBOX_ASSIGN_OR_RETURN(LatestScores scores, LatestScores::Read(*view_, spans, *name, interrupt_));
  scores_.emplace(*name, std::move(scores));
  return OkStatus();
}

Status QueryRun::CheckKnown(const ColumnRef& column) {
  if (column.info != nullptr) return OkStatus();
  if (column.name.empty()) return InvalidArgument("a column's name cannot be empty");
  SPANBOX_RETURN_IF_ERROR(ReadScores(column.name));
  const std::string_view closest = ClosestColumn(column.name);
  if (closest.empty()) return OkStatus();
  SPANBOX_ASSIGN_OR_RETURN(const bool known, IsKnown(column.name));
  return known ? OkStatus() : InvalidArgument(Unknown(column.name, closest));
}

Status QueryRun::CheckKnown(const Filter& filter) {
  if (filter.everything) return OkStatus();
  std::vector<const Term*> doubtful;
  Status read;
  ForEachTerm(filter.root, [&](const Term& term) {
    if (read.ok()) read = ReadScores(term.column);
    if (term.info == nullptr && !ClosestColumn(term.column).empty()) doubtful.push_back(&term);
  });
  SPANBOX_RETURN_IF_ERROR(read);
  for (const Term* term : doubtful) {
    SPANBOX_ASSIGN_OR_RETURN(const bool known, IsKnown(term->column));
    if (!known) return ErrorAt(filter.text, term->position, Unknown(term->column, ClosestColumn(term->column)));
  }
  return OkStatus();
}

Result<std::unique_ptr<SegmentColumns>> QueryRun::Load(const SegmentMeta& segment) {
  SPANBOX_RETURN_IF_ERROR(interrupt_.Check());
  if (renewed_ && segment.id == kOpenSpans) return NotFound("the open spans were those of an earlier view");
  SPANBOX_ASSIGN_OR_RETURN(Segment loaded, view_->Load(segment));
  return std::make_unique<SegmentColumns>(std::move(loaded), segment.id, &interrupt_, &scores_);
}

std::vector<const SegmentMeta*> QueryRun::AllSegments() const {
  std::vector<const SegmentMeta*> all;
  for (const SegmentMeta& segment : segments_) all.push_back(&segment);
  return all;
}

Status QueryRun::Visit(std::vector<const SegmentMeta*> segments, const SegmentVisitor& visit) {
  for (std::size_t i = 0; i < segments.size(); ++i) {
    if (IsDue() && i > 0 && segments[i]->id != kOpenSpans) RenewView(std::span(segments).subspan(i));
    SPANBOX_RETURN_IF_ERROR(visit(*segments[i]));
  }
  return OkStatus();
}

bool QueryRun::IsDue() const { return MonotonicNowNs() - looked_ns_ >= max_view_ns_; }

Status QueryRun::VisitShared(std::vector<const SegmentMeta*> segments, const WorkerVisitor& visit) {
  if (workers_ == 1) {
    return Visit(std::move(segments), [&](const SegmentMeta& segment) { return visit(0, segment); });
  }
  std::size_t next = 0;
  for (; next < segments.size() && segments[next]->id == kOpenSpans; ++next) {
    SPANBOX_RETURN_IF_ERROR(visit(0, *segments[next]));
  }
  while (next < segments.size()) {
    if (IsDue()) RenewView(std::span(segments).subspan(next));
    SPANBOX_RETURN_IF_ERROR(VisitUntilDue(segments, next, visit));
  }
  return OkStatus();
}

// Moves `next` on, at least by one: the view can only be renewed while no thread reads it.
Status QueryRun::VisitUntilDue(std::span<const SegmentMeta* const> segments, std::size_t& next,
                               const WorkerVisitor& visit) {
  std::atomic<std::size_t> taken{next};
  std::mutex mutex;
  Status first_error;  // guarded by mutex
  const auto work = [&](unsigned worker) {
    do {
      const std::size_t i = taken.fetch_add(1);
      if (i >= segments.size()) return;
      const Status status = visit(worker, *segments[i]);
      if (status.ok()) continue;
      const std::lock_guard lock(mutex);
      if (first_error.ok()) first_error = status;
      return interrupt_.Stop();  // what the others end with comes later
    } while (interrupt_.Check().ok() && !IsDue());
  };
  std::vector<std::thread> others;
  for (unsigned worker = 1; worker < std::min<std::size_t>(workers_, segments.size() - next); ++worker) {
    try {
      others.emplace_back(work, worker);
    } catch (const std::system_error&) {
      break;  // no more threads: those that are there do the work
    }
  }
  work(0);
  for (std::thread& other : others) other.join();
  SPANBOX_RETURN_IF_ERROR(first_error);
  next = std::min(taken.load(), segments.size());
  return interrupt_.Check();
}

// A store that cannot be looked at now is asked again later: the view that is there goes on.
void QueryRun::RenewView(std::span<const SegmentMeta*> waiting) {
  auto fresh = store_.ReadAgain();
  looked_ns_ = MonotonicNowNs();
  if (!fresh.ok()) return;
  std::vector<std::uint64_t> ids;
  for (const SegmentMeta& segment : SegmentsOf(**fresh, about_)) ids.push_back(segment.id);
  std::ranges::sort(ids);
  const auto gone = [&](const SegmentMeta* segment) { return !std::ranges::binary_search(ids, segment->id); };
  std::stable_partition(waiting.begin(), waiting.end(), gone);
  if (gone(waiting.front())) return;
  view_ = *std::move(fresh);
  renewed_ = true;
}

bool QueryRun::TakesAll(const SegmentMeta& segment) const {
  return filter_.everything && segment.id != kOpenSpans && segment.min_start_ns >= since_ns_ &&
         segment.max_start_ns < until_ns_;
}

Result<Bitmap> QueryRun::RowsInTime(const SegmentMeta& segment, SegmentColumns& columns) const {
  if (segment.min_start_ns >= since_ns_ && segment.max_start_ns < until_ns_) return Bitmap(columns.rows(), true);
  return RowsBetween(columns, {since_ns_, until_ns_});
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
  std::vector<std::uint64_t> counts(run->workers());
  SPANBOX_RETURN_IF_ERROR(run->VisitShared(run->AllSegments(), [&](unsigned worker, const SegmentMeta& segment) {
    if (run->TakesAll(segment)) {
      counts[worker] += segment.rows;
      return OkStatus();
    }
    return run->WithRows(segment, [&](SegmentColumns&, const Bitmap& rows) {
      counts[worker] += rows.count();
      return OkStatus();
    });
  }));
  SPANBOX_ASSIGN_OR_RETURN(const SampledOut dropped, CountDropped(*run));
  return std::accumulate(counts.begin(), counts.end(), dropped.included);
}

Result<SampledOut> SampledOutOf(Store& store, const SpanQuery& query) {
  SPANBOX_ASSIGN_OR_RETURN(const auto run, QueryRun::Start(store, query));
  return CountDropped(*run);
}

}  // namespace spanbox
