// One question over one view of a store: which segments to read and which of their rows count.
//
// Thread rule: one thread. Ownership: holds the view; a SegmentColumns from Load must not outlive it.
// Invariant: a span that is stored and also among the open spans is seen once, as it is stored.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "query/bitmap.h"
#include "query/filter.h"
#include "query/segment_columns.h"
#include "spanbox/query.h"
#include "store/read_view.h"

namespace spanbox {

inline constexpr std::uint64_t kOpenSpans = 0;  // SegmentMeta::id of the spans that are still open

// A column or attribute as the user named it.
struct ColumnRef {
  std::string name;                  // canonical
  const ColumnInfo* info = nullptr;  // nullptr: an attribute
};
ColumnRef Resolve(std::string_view name);

class QueryRun {
 public:
  static Result<std::unique_ptr<QueryRun>> Start(Store& store, const SpanQuery& query);

  // InvalidArgument when it is no column, no segment has such an attribute, and a column's name is nearly the same.
  Status CheckKnown(const ColumnRef& column);
  // The same for every attribute in a filter; the message shows the place.
  Status CheckKnown(const Filter& filter);

  // Makes a filter over relatives ready for rows of this question; does nothing to others. The one of the question is.
  Status Bind(Filter& filter);

  ReadView& view() { return *view_; }
  const Filter& filter() const { return filter_; }
  std::int64_t since_ns() const { return since_ns_; }
  std::int64_t until_ns() const { return until_ns_; }

  // Segments with spans that started in the asked time, oldest id first, open spans last.
  std::span<const SegmentMeta> segments() const { return segments_; }
  Result<std::unique_ptr<SegmentColumns>> Load(const SegmentMeta& segment);

  // The rows of the segment the question is about.
  Result<Bitmap> Rows(const SegmentMeta& segment, SegmentColumns& columns);

  // The rows that started in the asked time.
  Result<Bitmap> RowsInTime(const SegmentMeta& segment, SegmentColumns& columns) const;

  // Takes those of the open spans out that are stored, too.
  Status DropStored(SegmentColumns& open, Bitmap& rows);

  // True when every row of the segment counts, so that it need not be loaded to be counted.
  bool TakesAll(const SegmentMeta& segment) const;

  // Calls fn(SegmentColumns&, const Bitmap&) -> Status for every segment with such rows, in the order of segments().
  template <typename Fn>
  Status ForEach(Fn&& fn) {
    for (const SegmentMeta& segment : segments_) {
      SPANBOX_ASSIGN_OR_RETURN(const auto columns, Load(segment));
      SPANBOX_ASSIGN_OR_RETURN(const Bitmap rows, Rows(segment, *columns));
      if (rows.any()) SPANBOX_RETURN_IF_ERROR(fn(*columns, rows));
    }
    return OkStatus();
  }

 private:
  QueryRun() = default;
  Result<bool> IsKnown(std::string_view attribute);

  std::unique_ptr<ReadView> view_;
  Filter filter_;
  std::int64_t since_ns_ = 0, until_ns_ = 0;
  std::vector<SegmentMeta> segments_;
};

}  // namespace spanbox
