#include <algorithm>
#include <limits>
#include <map>

#include "query/cells.h"
#include "query/lexer.h"
#include "query/query_run.h"
#include "spanbox/query.h"

namespace spanbox {
namespace {

// A row on its way into the result, with what decides its place.
struct Candidate {
  std::int64_t start_ns = 0;
  SpanId span_id = 0;
  Cells::Raw order;           // value of the column ordered by
  std::uint32_t segment = 0;  // index into QueryRun::segments()
  std::uint32_t row = 0;
};

// Keeps the first `limit` candidates in the asked order, never more than that in memory.
class FirstRows {
 public:
  FirstRows(const ScanOptions& options, const Cells& order_cells)
      : skip_(options.skip),
        limit_(options.skip + std::min(options.limit, std::numeric_limits<std::uint64_t>::max() - options.skip)),
        by_column_(!options.order_by.empty()),
        descending_(options.descending),
        cells_(order_cells) {}

  bool Before(const Candidate& a, const Candidate& b) const {
    if (by_column_) {
      const bool a_absent = a.order.tag == Cells::Tag::kAbsent, b_absent = b.order.tag == Cells::Tag::kAbsent;
      if (a_absent != b_absent) return b_absent;
      const int order = cells_.Compare(a.order, b.order);
      if (order != 0) return descending_ ? order > 0 : order < 0;
    } else if (a.start_ns != b.start_ns) {
      return descending_ ? a.start_ns > b.start_ns : a.start_ns < b.start_ns;
    }
    if (a.start_ns != b.start_ns) return a.start_ns < b.start_ns;
    return a.span_id < b.span_id;
  }

  void Offer(const Candidate& candidate) {
    const auto before = [this](const Candidate& a, const Candidate& b) { return Before(a, b); };
    if (rows_.size() < limit_) {
      rows_.push_back(candidate);
      if (rows_.size() == limit_) std::ranges::make_heap(rows_, before);
    } else if (limit_ > 0 && Before(candidate, rows_.front())) {
      std::ranges::pop_heap(rows_, before);
      rows_.back() = candidate;
      std::ranges::push_heap(rows_, before);
    }
  }

  // False: no row of the segment can be among the first.
  bool CanUse(const SegmentMeta& segment) const {
    if (limit_ == 0) return false;
    if (by_column_ || rows_.size() < limit_) return true;
    const std::int64_t last = rows_.front().start_ns;
    return descending_ ? segment.max_start_ns >= last : segment.min_start_ns <= last;
  }

  std::vector<Candidate> Take() && {
    std::ranges::sort(rows_, [this](const Candidate& a, const Candidate& b) { return Before(a, b); });
    rows_.erase(rows_.begin(),
                rows_.begin() + static_cast<std::ptrdiff_t>(std::min<std::uint64_t>(skip_, rows_.size())));
    return std::move(rows_);
  }

 private:
  const std::uint64_t skip_, limit_;
  const bool by_column_, descending_;
  const Cells& cells_;
  std::vector<Candidate> rows_;  // a heap with the last one first, once full
};

// Numbers 0 to n - 1: the targets of cells that are read in row order.
std::vector<std::uint32_t> Numbered(std::size_t n) {
  std::vector<std::uint32_t> numbers(n);
  for (std::uint32_t i = 0; i < n; ++i) numbers[i] = i;
  return numbers;
}

Result<std::vector<Candidate>> Choose(QueryRun& run, const ScanOptions& options, const ColumnRef& order_by) {
  Cells order_cells;
  FirstRows first(options, order_cells);
  // Segments that begin the answer come first, so that with a limit the others can be left out; but open spans before
  // all, as Visit wants it.
  std::vector<const SegmentMeta*> sequence = run.AllSegments();
  std::ranges::stable_sort(sequence, [&](const SegmentMeta* x, const SegmentMeta* y) {
    if ((x->id == kOpenSpans) != (y->id == kOpenSpans)) return x->id == kOpenSpans;
    return options.descending ? x->max_start_ns > y->max_start_ns : x->min_start_ns < y->min_start_ns;
  });
  SPANBOX_RETURN_IF_ERROR(run.Visit(std::move(sequence), [&](const SegmentMeta& segment) -> Status {
    if (!first.CanUse(segment)) return OkStatus();
    SPANBOX_ASSIGN_OR_RETURN(const auto columns, run.Load(segment));
    SPANBOX_ASSIGN_OR_RETURN(const Bitmap selected, run.Rows(segment, *columns));
    if (!selected.any()) return OkStatus();
    const std::vector<std::uint32_t> rows = selected.Rows();
    SPANBOX_ASSIGN_OR_RETURN(const Points<std::int64_t> starts, columns->StartsAt(rows));
    SPANBOX_ASSIGN_OR_RETURN(const Points<SpanId> spans, columns->SpanIdsAt(rows));
    if (!options.order_by.empty()) {
      order_cells.Resize(0);
      order_cells.Resize(rows.size());
      SPANBOX_RETURN_IF_ERROR(order_cells.Read(*columns, order_by.name, rows, Numbered(rows.size())));
    }
    const auto index = static_cast<std::uint32_t>(&segment - run.segments().data());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const Cells::Raw order = options.order_by.empty() ? Cells::Raw{} : order_cells[i];
      first.Offer({starts.values[i], spans.values[i], order, index, rows[i]});
    }
    return OkStatus();
  }));
  return std::move(first).Take();
}

// Named columns in the order of Columns(), then attributes by name.
struct ColumnOrder {
  bool operator()(const ColumnRef& a, const ColumnRef& b) const { return Key(a) < Key(b); }
  static std::pair<std::uint16_t, std::string_view> Key(const ColumnRef& column) {
    return {column.info != nullptr ? static_cast<std::uint16_t>(column.info->column) : kColumnCount, column.name};
  }
};

class Materializer {
 public:
  Materializer(QueryRun& run, const std::vector<Candidate>& chosen) : run_(run), chosen_(chosen) {}

  Result<Table> Columns(const std::vector<ColumnRef>& columns) {
    std::vector<Cells> cells;
    for (std::size_t i = 0; i < columns.size(); ++i) cells.emplace_back(chosen_.size());
    const auto read = [&](SegmentColumns& segment, const auto& rows, const auto& targets) {
      for (std::size_t i = 0; i < columns.size(); ++i) {
        SPANBOX_RETURN_IF_ERROR(cells[i].Read(segment, columns[i].name, rows, targets));
      }
      return OkStatus();
    };
    SPANBOX_RETURN_IF_ERROR(ForEachSegment(read));
    Table table;
    table.rows = chosen_.size();
    for (std::size_t i = 0; i < columns.size(); ++i) table.columns.push_back(std::move(cells[i]).Finish(columns[i]));
    return table;
  }

  Result<Table> Everything() {
    std::map<ColumnRef, Cells, ColumnOrder> found;
    const auto read = [&](SegmentColumns& segment, const auto& rows, const auto& targets) {
      for (const ChunkInfo& chunk : segment.segment().chunks()) {
        const ColumnRef column = Resolve(chunk.name, run_.about());
        if (!MeansSomething(column)) continue;
        Cells& cells = found.try_emplace(column, chosen_.size()).first->second;
        SPANBOX_RETURN_IF_ERROR(cells.ReadChunk(segment, chunk, rows, targets));
      }
      return OkStatus();
    };
    SPANBOX_RETURN_IF_ERROR(ForEachSegment(read));
    Table table;
    table.rows = chosen_.size();
    for (auto& [column, cells] : found) {
      if (!cells.empty()) table.columns.push_back(std::move(cells).Finish(column));
    }
    return table;
  }

 private:
  // fn(segment, rows, targets): rows ascend, targets are their places in the result.
  template <typename Fn>
  Status ForEachSegment(Fn fn) {
    struct Place {
      std::uint64_t segment_and_row;
      std::uint32_t target;
    };
    std::vector<Place> places;
    places.reserve(chosen_.size());
    for (const Candidate& candidate : chosen_) {
      places.push_back({static_cast<std::uint64_t>(candidate.segment) << 32 | candidate.row,
                        static_cast<std::uint32_t>(places.size())});
    }
    std::ranges::sort(places, {}, &Place::segment_and_row);
    std::vector<std::uint32_t> rows, targets;
    for (std::size_t begin = 0; begin < places.size();) {
      const auto segment = static_cast<std::uint32_t>(places[begin].segment_and_row >> 32);
      rows.clear();
      targets.clear();
      for (; begin < places.size() && places[begin].segment_and_row >> 32 == segment; ++begin) {
        rows.push_back(static_cast<std::uint32_t>(places[begin].segment_and_row));
        targets.push_back(places[begin].target);
      }
      SPANBOX_ASSIGN_OR_RETURN(const auto columns, run_.Load(run_.segments()[segment]));
      SPANBOX_RETURN_IF_ERROR(fn(*columns, rows, targets));
    }
    return OkStatus();
  }

  QueryRun& run_;
  const std::vector<Candidate>& chosen_;
};

Result<Table> ScanOnce(Store& store, const SpanQuery& query, const ScanOptions& options) {
  SPANBOX_ASSIGN_OR_RETURN(const auto run, QueryRun::Start(store, query));
  std::vector<ColumnRef> columns;
  for (const std::string& name : options.columns) {
    columns.push_back(Resolve(name, run->about()));
    SPANBOX_RETURN_IF_ERROR(run->CheckKnown(columns.back()));
  }
  ColumnRef order_by;
  if (!options.order_by.empty()) {
    order_by = Resolve(options.order_by, run->about());
    SPANBOX_RETURN_IF_ERROR(run->CheckKnown(order_by));
    if (order_by.info != nullptr && order_by.info->type == ColumnType::kText) {
      return InvalidArgument(Ticked(order_by.name) + " is long text and gives no order: order by another column");
    }
  }
  SPANBOX_ASSIGN_OR_RETURN(const std::vector<Candidate> chosen, Choose(*run, options, order_by));
  Materializer materializer(*run, chosen);
  return columns.empty() ? materializer.Everything() : materializer.Columns(columns);
}

}  // namespace

Result<Table> Scan(Store& store, const SpanQuery& query, const ScanOptions& options) {
  auto table = ScanOnce(store, query, options);
  if (table.status().code() != StatusCode::kNotFound) return table;
  // Segments were merged between the choice of rows and their reading: once more, in a view that stays.
  SpanQuery held = query;
  held.max_view_ns = std::numeric_limits<std::int64_t>::max();
  return ScanOnce(store, held, options);
}

}  // namespace spanbox
