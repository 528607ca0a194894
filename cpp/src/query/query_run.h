// One question over one view of a store: which segments to read and which of their rows count.
//
// Thread rule: one thread, but for VisitShared. Ownership: holds the view; a SegmentColumns from Load must not outlive
// it. Invariant: a span that is stored and also among the open spans is seen once, as it is stored.
#pragma once

#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "query/bitmap.h"
#include "query/filter.h"
#include "query/latest_scores.h"
#include "query/segment_columns.h"
#include "spanbox/query.h"
#include "store/read_view.h"

namespace spanbox {

inline constexpr std::uint64_t kOpenSpans = 0;  // SegmentMeta::id of the spans that are still open

// A column or attribute as the user named it.
struct ColumnRef {
  std::string name;                  // canonical
  const ColumnInfo* info = nullptr;  // nullptr: an attribute
  About about = About::kSpans;       // of which
};
ColumnRef Resolve(std::string_view name, About about);

// False: every row has it, and it says nothing. Scores have no kind and no status.
bool MeansSomething(const ColumnRef& column);

// Starts from the first time on, before the second.
struct TimeRange {
  std::int64_t since_ns = std::numeric_limits<std::int64_t>::min();
  std::int64_t until_ns = std::numeric_limits<std::int64_t>::max();
};
Result<Bitmap> RowsBetween(SegmentColumns& columns, TimeRange range);

class QueryRun {
 public:
  static Result<std::unique_ptr<QueryRun>> Start(Store& store, const SpanQuery& query);

  // Ask these of every column before rows are visited: they read the scores that are called.
  // InvalidArgument when it is no column, no segment has such an attribute, and a column's name is nearly the same.
  Status CheckKnown(const ColumnRef& column);
  // The same for every attribute in a filter; the message shows the place.
  Status CheckKnown(const Filter& filter);

  // Makes a filter over relatives ready for rows of this question; does nothing to others. The one of the question is.
  Status Bind(Filter& filter);

  ReadView& view() { return *view_; }  // not the one of the start, once Visit has been called
  About about() const { return about_; }
  const ScoresByName& scores() const { return scores_; }
  const Interrupt& interrupt() const { return interrupt_; }
  const Filter& filter() const { return filter_; }
  std::int64_t since_ns() const { return since_ns_; }
  std::int64_t until_ns() const { return until_ns_; }

  // Whether the question is about this segment, as far as SpanQuery::only goes.
  bool Takes(std::uint64_t segment) const;

  // Segments with spans that started in the asked time: open spans, then the others by id.
  std::span<const SegmentMeta> segments() const { return segments_; }
  // NotFound: the view has been renewed since, and the segment is no more. Cancelled.
  Result<std::unique_ptr<SegmentColumns>> Load(const SegmentMeta& segment);

  // Calls visit(segment) for these, which are some of segments(), about in this order, and renews the view on the way.
  // Those that have meanwhile been merged into others are still in the old view: they are visited first, and only then
  // is it given up. So the answer is that of the moment of the start. Open spans must come first.
  using SegmentVisitor = std::function<Status(const SegmentMeta& segment)>;
  Status Visit(std::vector<const SegmentMeta*> segments, const SegmentVisitor& visit);
  std::vector<const SegmentMeta*> AllSegments() const;

  // The same on as many threads as the question may use: visit(worker, segment) with worker < workers(), one at a time
  // of each. All of Load, Rows and WithRows may be called by them at once.
  using WorkerVisitor = std::function<Status(unsigned worker, const SegmentMeta& segment)>;
  Status VisitShared(std::vector<const SegmentMeta*> segments, const WorkerVisitor& visit);
  unsigned workers() const { return workers_; }

  // The rows of the segment the question is about.
  Result<Bitmap> Rows(const SegmentMeta& segment, SegmentColumns& columns);

  // The rows that started in the asked time.
  Result<Bitmap> RowsInTime(const SegmentMeta& segment, SegmentColumns& columns) const;

  // Takes those of the open spans out that are stored, too.
  Status DropStored(SegmentColumns& open, Bitmap& rows);

  // True when every row of the segment counts, so that it need not be loaded to be counted.
  bool TakesAll(const SegmentMeta& segment) const;

  // Calls fn(SegmentColumns&, const Bitmap&) -> Status for every segment with such rows.
  template <typename Fn>
  Status ForEach(Fn&& fn) {
    return Visit(AllSegments(), [&](const SegmentMeta& segment) { return WithRows(segment, fn); });
  }
  // The same for one of them.
  template <typename Fn>
  Status WithRows(const SegmentMeta& segment, Fn&& fn) {
    SPANBOX_ASSIGN_OR_RETURN(const auto columns, Load(segment));
    SPANBOX_ASSIGN_OR_RETURN(const Bitmap rows, Rows(segment, *columns));
    return rows.any() ? fn(*columns, rows) : OkStatus();
  }

 private:
  QueryRun(Store& store, const SpanQuery& query);
  Status CheckAllThere() const;
  void RenewView(std::span<const SegmentMeta*> waiting);
  bool IsDue() const;
  Status VisitUntilDue(std::span<const SegmentMeta* const> segments, std::size_t& next, const WorkerVisitor& visit);
  Result<bool> IsKnown(std::string_view attribute);
  Status ReadScores(std::string_view column);
  static std::span<const SegmentMeta> SegmentsOf(ReadView& view, About about) {
    return about == About::kScores ? view.scores() : view.segments();
  }

  Store& store_;
  const About about_;
  const Interrupt interrupt_;
  const std::int64_t since_ns_, until_ns_, max_view_ns_;
  const unsigned workers_;
  std::optional<std::vector<std::uint64_t>> only_;  // sorted
  std::unique_ptr<ReadView> view_;
  std::int64_t looked_ns_ = 0;  // when the store was looked at last
  bool renewed_ = false;
  Filter filter_;
  std::vector<SegmentMeta> segments_;
  ScoresByName scores_;
};

}  // namespace spanbox
