#include <algorithm>
#include <bit>
#include <limits>
#include <map>
#include <optional>

#include "query/cells.h"
#include "query/lexer.h"
#include "query/query_run.h"
#include "spanbox/query.h"
#include "store/segment_format.h"
#include "store/segment_memory.h"

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

  std::uint64_t most() const { return limit_; }
  // What a row must not come after in the order to be among the first; nullptr: there is room for any.
  const Cells::Raw* Last() const {
    return by_column_ && limit_ > 0 && rows_.size() == limit_ ? &rows_.front().order : nullptr;
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

// Chooses rows of a segment by one column of numbers alone, so that nothing else is read of the others: those that at
// least `most` come before. Rows that are level are kept together.
class Preselection {
 public:
  // `last`: the most that a row may be in the order.
  Preselection(const Bitmap& rows, ColumnType type, bool descending, std::uint64_t most, const Cells::Raw* last)
      : rows_(rows), is_float_(type == ColumnType::kFloat), descending_(descending), most_(most) {
    if (last != nullptr) bound_ = KeyOf(static_cast<std::int64_t>(last->payload));
  }

  // nullopt: all of them.
  Result<std::optional<std::vector<std::uint32_t>>> Run(SegmentColumns& columns, const ChunkInfo& chunk) {
    SPANBOX_ASSIGN_OR_RETURN(const Validity* valid, columns.Valid(chunk));
    const bool bounded = bound_ != kUnbounded;
    SegmentMemory* const memory = descending_ && !is_float_ && valid->all() ? columns.segment().memory() : nullptr;
    if (memory != nullptr && most_ > 0) {
      auto maxima = memory->MaximaOf(chunk.index);
      if (maxima == nullptr) {
        SPANBOX_ASSIGN_OR_RETURN(maxima, ReadMaxima(columns, chunk));
        memory->Keep(chunk.index, maxima);
      }
      return RunByMaxima(columns.segment(), chunk, *maxima);
    }
    const auto visit = [&](std::size_t before, std::span<const std::int64_t> values) {
      for (std::size_t i = 0; i < values.size(); ++i) {
        const std::int64_t key = KeyOf(values[i]);
        if (key <= bound_) [[unlikely]]
          Offer(key, RowAt(*valid, before + i));
      }
    };
    const auto skip = [&](std::size_t, std::size_t, std::int64_t low, std::int64_t high) {
      return KeyOf(descending_ ? high : low) > bound_;
    };
    SPANBOX_RETURN_IF_ERROR(columns.VisitNumbers(chunk, visit, skip));
    return Chosen(bounded);
  }

 private:
  std::optional<std::vector<std::uint32_t>> Chosen(bool bounded) {
    if (!bounded && found_.size() < most_) return std::nullopt;
    Tighten();
    std::vector<std::uint32_t> chosen;
    for (const auto& [key, row] : found_) chosen.push_back(row);
    std::ranges::sort(chosen);
    return chosen;
  }

  static Result<std::shared_ptr<const SegmentMemory::Maxima>> ReadMaxima(SegmentColumns& columns,
                                                                         const ChunkInfo& chunk) {
    auto maxima = std::make_shared<SegmentMemory::Maxima>((chunk.valid_count + kValuesPerBlock - 1) / kValuesPerBlock,
                                                          std::numeric_limits<std::int64_t>::min());
    const auto visit = [&](std::size_t before, std::span<const std::int64_t> values) {
      for (std::size_t i = 0; i < values.size(); ++i) {
        std::int64_t& largest = (*maxima)[(before + i) / kValuesPerBlock];
        largest = std::max(largest, values[i]);
      }
    };
    SPANBOX_RETURN_IF_ERROR(columns.VisitNumbers(chunk, visit));
    return std::shared_ptr<const SegmentMemory::Maxima>(std::move(maxima));
  }

  // The same block by block, those with the largest values first, as long as these can be among the first.
  Result<std::optional<std::vector<std::uint32_t>>> RunByMaxima(const Segment& segment, const ChunkInfo& chunk,
                                                                const SegmentMemory::Maxima& maxima) {
    const bool bounded = bound_ != kUnbounded;
    std::vector<std::uint32_t> blocks;
    for (std::uint32_t block = 0; block < maxima.size(); ++block) {
      if (KeyOf(maxima[block]) <= bound_) blocks.push_back(block);
    }
    const auto later = [&](std::uint32_t a, std::uint32_t b) { return maxima[a] < maxima[b]; };
    std::ranges::make_heap(blocks, later);
    std::vector<std::uint32_t> places;
    std::vector<std::int64_t> values;
    for (auto end = blocks.end(); end != blocks.begin();) {
      std::pop_heap(blocks.begin(), end--, later);
      if (KeyOf(maxima[*end]) > bound_) break;
      places.clear();
      const auto from = static_cast<std::uint32_t>(*end * kValuesPerBlock);
      const auto to = std::min(chunk.valid_count, from + static_cast<std::uint32_t>(kValuesPerBlock));
      for (std::uint32_t row = from; row < to; ++row) {
        if (rows_[row]) places.push_back(row);
      }
      values.resize(places.size());
      if (!places.empty()) SPANBOX_RETURN_IF_ERROR(segment.NumbersAt(chunk, places, values));
      for (std::size_t i = 0; i < places.size(); ++i) {
        if (KeyOf(values[i]) <= bound_) found_.emplace_back(KeyOf(values[i]), places[i]);
      }
      if (found_.size() >= most_) Tighten();
    }
    return Chosen(bounded);
  }

  static constexpr std::int64_t kUnbounded = std::numeric_limits<std::int64_t>::max();

  // Grows along the order that is asked for. Of numbers as Cells::Compare has it: NaN after all others.
  std::int64_t KeyOf(std::int64_t value) const {
    if (is_float_) {
      const double number = std::bit_cast<double>(value) + 0.0;  // one zero
      value = std::bit_cast<std::int64_t>(number);
      if (value < 0) value ^= std::numeric_limits<std::int64_t>::max();
      if (number != number) value = std::numeric_limits<std::int64_t>::max();
    }
    return descending_ ? ~value : value;
  }

  // The row of a value. REQUIRES: asked in ascending order.
  std::uint32_t RowAt(const Validity& valid, std::size_t place) {
    if (valid.all()) return static_cast<std::uint32_t>(place);
    for (;; ++word_) {
      const auto size = static_cast<std::size_t>(std::popcount(valid.words[word_]));
      if (place < before_word_ + size) break;
      before_word_ += size;
    }
    std::uint64_t bits = valid.words[word_];
    for (std::size_t skipped = before_word_; skipped < place; ++skipped) bits &= bits - 1;
    return static_cast<std::uint32_t>(word_ * 64) + static_cast<std::uint32_t>(std::countr_zero(bits));
  }

  void Offer(std::int64_t key, std::uint32_t row) {
    if (!rows_[row]) return;
    found_.emplace_back(key, row);
    if (found_.size() < tighten_at_) return;
    Tighten();
    tighten_at_ = std::max(tighten_at_, 2 * found_.size());
  }

  void Tighten() {
    if (most_ == 0 || found_.size() <= most_) return;
    const auto last = found_.begin() + static_cast<std::ptrdiff_t>(most_ - 1);
    std::ranges::nth_element(found_, last);
    bound_ = last->first;
    std::erase_if(found_, [this](const auto& one) { return one.first > bound_; });
  }

  const Bitmap& rows_;
  const bool is_float_, descending_;
  const std::uint64_t most_;
  std::int64_t bound_ = kUnbounded;
  std::vector<std::pair<std::int64_t, std::uint32_t>> found_;  // key, row
  std::size_t tighten_at_ = 1024;
  std::size_t word_ = 0, before_word_ = 0;  // of RowAt: a word of the validity, and the values before it
};

// The rows that may be among the first, ascending.
Result<std::vector<std::uint32_t>> RowsToOffer(const ScanOptions& options, const ColumnRef& order_by,
                                               const FirstRows& first, SegmentColumns& columns,
                                               const Bitmap& selected) {
  const std::size_t count = selected.count();
  if (options.order_by.empty() || first.most() >= count) return selected.Rows();
  SPANBOX_ASSIGN_OR_RETURN(const auto chunks, columns.Find(order_by.name));
  const bool numbers =
      chunks.size() == 1 && (chunks.front()->type == ColumnType::kInt || chunks.front()->type == ColumnType::kFloat);
  if (!numbers || columns.AreFew(*chunks.front(), count)) return selected.Rows();
  const ChunkInfo& chunk = *chunks.front();
  const Cells::Raw* last = first.Last();
  const Cells::Tag tag = chunk.type == ColumnType::kInt ? Cells::Tag::kInt : Cells::Tag::kFloat;
  if (last != nullptr && last->tag != tag) last = nullptr;
  Preselection preselection(selected, chunk.type, options.descending, first.most(), last);
  SPANBOX_ASSIGN_OR_RETURN(auto chosen, preselection.Run(columns, chunk));
  return chosen ? *std::move(chosen) : selected.Rows();
}

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
    SPANBOX_ASSIGN_OR_RETURN(const std::vector<std::uint32_t> rows,
                             RowsToOffer(options, order_by, first, *columns, selected));
    if (rows.empty()) return OkStatus();
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
