#include "query/span_stream.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <map>
#include <numeric>

#include "query/cells.h"
#include "query/numbers.h"
#include "query/value_types.h"

namespace spanbox {
namespace {

constexpr std::uint64_t kMostSlices = 64;  // segments that overlap in time are read once a slice

unsigned TagOf(ColumnType type) {
  switch (type) {
    case ColumnType::kInt:
      return 1u << static_cast<unsigned>(Cells::Tag::kInt);
    case ColumnType::kFloat:
      return 1u << static_cast<unsigned>(Cells::Tag::kFloat);
    case ColumnType::kBool:
      return 1u << static_cast<unsigned>(Cells::Tag::kBool);
    default:
      return 1u << static_cast<unsigned>(Cells::Tag::kString);
  }
}

// What the segments say of one column.
struct Seen {
  unsigned tags = 0;
  bool has_json = false, has_text = false;
};

unsigned BitOf(ValueType type) { return 1u << static_cast<unsigned>(type); }

// The types of its values, as bits.
unsigned KindsOf(const Seen& seen) {
  const auto saw = [&](Cells::Tag tag) { return (seen.tags >> static_cast<unsigned>(tag) & 1u) != 0; };
  unsigned kinds = (seen.has_json ? BitOf(ValueType::kJson) : 0) | (seen.has_text ? BitOf(ValueType::kString) : 0);
  if (saw(Cells::Tag::kInt)) kinds |= BitOf(ValueType::kInt);
  if (saw(Cells::Tag::kFloat)) kinds |= BitOf(ValueType::kFloat);
  if (saw(Cells::Tag::kBool)) kinds |= BitOf(ValueType::kBool);
  return kinds;
}

Status NoteText(SegmentColumns& columns, const ChunkInfo& chunk, Seen& seen) {
  SPANBOX_ASSIGN_OR_RETURN(const TextColumn* text, columns.Text(chunk));
  for (std::uint32_t row = 0; row < columns.rows() && !(seen.has_json && seen.has_text); ++row) {
    if (text->valid(row)) (text->is_json(row) ? seen.has_json : seen.has_text) = true;
  }
  return OkStatus();
}

// Of a score no segment says anything.
void NoteScore(const QueryRun& run, const std::string& column, std::map<std::string, Seen, std::less<>>& seen) {
  const auto name = ScoreNameOf(column);
  if (!name) return;
  const auto scores = run.scores().find(*name);
  if (scores == run.scores().end() || scores->second.empty()) return;
  seen[column] = {};
  for (const ColumnType type : scores->second.Types()) seen[column].tags |= TagOf(type);
}

std::string TextOf(const TableColumn& column, std::uint64_t row) {
  switch (column.type) {
    case TableColumn::Type::kFloat:
      return NumberText(column.floats[row]);
    case TableColumn::Type::kBool:
      return column.ints[row] != 0 ? "true" : "false";
    case TableColumn::Type::kString:
      return column.dictionary[column.codes[row]];
    default:
      return NumberText(column.ints[row]);
  }
}

// A column of a slice as the schema has it: a slice may have seen only some of the types.
TableColumn Conformed(TableColumn from, const TableColumn& to, std::uint64_t rows) {
  from.has_json = to.has_json;
  if (from.type == to.type) return from;
  TableColumn out;
  out.name = to.name;
  out.type = to.type;
  out.has_json = to.has_json;
  out.valid = from.valid;
  out.kinds = from.kinds;
  if (out.kinds.empty()) out.kinds.assign(rows, KindOf(from.type));
  if (to.type == TableColumn::Type::kFloat) out.ints = from.ints;
  const auto present = [&from](std::uint64_t row) { return from.valid.empty() || from.valid[row] != 0; };
  StringPool texts;
  for (std::uint64_t row = 0; row < rows; ++row) {
    if (to.type == TableColumn::Type::kString) {
      out.codes.push_back(texts.Intern(present(row) ? TextOf(from, row) : std::string()));
    } else if (to.type == TableColumn::Type::kFloat) {
      const bool is_int = from.type == TableColumn::Type::kInt;
      out.floats.push_back(is_int && present(row) ? static_cast<double>(from.ints[row]) : 0);
    } else {
      out.ints.push_back(0);
    }
  }
  out.dictionary = std::move(texts).Take();
  // Without any value a slice knows no type; a type that the schema does not know has come since.
  const bool widened = to.type == TableColumn::Type::kString ||
                       (to.type == TableColumn::Type::kFloat && from.type == TableColumn::Type::kInt);
  if (!widened) out.valid.assign(rows, 0);
  return out;
}

}  // namespace

Result<std::shared_ptr<const SpanStream>> SpanStream::Make(std::shared_ptr<Store> store, const SpanQuery& query,
                                                           const ScanOptions& options, bool lazy, bool types) {
  std::shared_ptr<SpanStream> stream(new SpanStream);
  stream->has_types_ = types && options.columns.empty();
  stream->store_ = std::move(store);
  stream->query_ = query;
  stream->options_ = options;
  {
    SPANBOX_ASSIGN_OR_RETURN(const auto run, QueryRun::Start(*stream->store_, query));
    SPANBOX_RETURN_IF_ERROR(stream->Plan(*run));
    if (lazy || !options.columns.empty() || stream->cuts_.size() > 2) {
      SPANBOX_RETURN_IF_ERROR(stream->FindSchema(*run));
      return std::shared_ptr<const SpanStream>(std::move(stream));
    }
  }
  SPANBOX_ASSIGN_OR_RETURN(Table table, Scan(*stream->store_, query, options));
  stream->is_whole_ = true;
  bool needed = false;
  TableColumn told = stream->has_types_ ? TypesOf(table, needed) : TableColumn{};
  needed = needed && std::ranges::find(table.columns, kTypesColumn, &TableColumn::name) == table.columns.end();
  if (needed) table.columns.push_back(std::move(told));
  stream->is_uniform_.assign(table.columns.size(), false);
  stream->schema_ = std::make_shared<const Table>(std::move(table));
  return std::shared_ptr<const SpanStream>(std::move(stream));
}

// Into how many slices, and where they are cut.
Status SpanStream::Plan(QueryRun& run) {
  cuts_ = {query_.since_ns, query_.until_ns};
  std::uint64_t rows = 0;
  for (const SegmentMeta& segment : run.segments()) rows += segment.rows;
  // Relatives are looked for within the asked time, so that time must not be cut.
  if (rows <= kSliceRows || options_.limit <= kSliceRows || run.filter().relatives_tests != 0) return OkStatus();
  if (!query_.filter.empty()) {
    SPANBOX_ASSIGN_OR_RETURN(rows, Count(*store_, query_));
  }
  if (rows > kSliceRows) CutTime(run.segments(), rows);
  return OkStatus();
}

// Cuts so that the slices have about as many rows, as if the rows of a segment were spread evenly over its time.
void SpanStream::CutTime(std::span<const SegmentMeta> segments, std::uint64_t rows) {
  const std::uint64_t slices = std::min(kMostSlices, rows / kSliceRows + 1);
  double total = 0;
  std::int64_t first = std::numeric_limits<std::int64_t>::max(), last = std::numeric_limits<std::int64_t>::min();
  for (const SegmentMeta& segment : segments) {
    total += segment.rows;
    first = std::min(first, segment.min_start_ns);
    last = std::max(last, segment.max_start_ns);
  }
  const auto rows_before = [&](std::int64_t time_ns) {
    double before = 0;
    for (const SegmentMeta& segment : segments) {
      const double length = static_cast<double>(segment.max_start_ns) - static_cast<double>(segment.min_start_ns) + 1;
      const double share = (static_cast<double>(time_ns) - static_cast<double>(segment.min_start_ns)) / length;
      before += segment.rows * std::clamp(share, 0.0, 1.0);
    }
    return before;
  };
  for (std::uint64_t i = 1; i < slices; ++i) {
    std::int64_t low = std::max(first, cuts_[cuts_.size() - 2]), high = last;
    while (low < high) {
      const std::int64_t middle = std::midpoint(low, high);
      if (rows_before(middle) * static_cast<double>(slices) < total * static_cast<double>(i)) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    if (low > cuts_[cuts_.size() - 2] && low < cuts_.back()) cuts_.insert(cuts_.end() - 1, low);
  }
}

Status SpanStream::FindSchema(QueryRun& run) {
  std::map<std::string, Seen, std::less<>> seen;
  SPANBOX_RETURN_IF_ERROR(run.Visit(run.AllSegments(), [&](const SegmentMeta& meta) -> Status {
    SPANBOX_ASSIGN_OR_RETURN(const auto columns, run.Load(meta));
    for (const ChunkInfo& chunk : columns->segment().chunks()) {
      Seen& of = seen[std::string(chunk.name)];
      of.tags |= TagOf(chunk.type);
      if (chunk.type == ColumnType::kText) {
        SPANBOX_RETURN_IF_ERROR(NoteText(*columns, chunk, of));
      } else if (TagOf(chunk.type) == TagOf(ColumnType::kString)) {
        of.has_text = true;
      }
    }
    return OkStatus();
  }));
  std::vector<ColumnRef> columns;
  for (const std::string& name : options_.columns) {
    columns.push_back(Resolve(name, run.about()));
    SPANBOX_RETURN_IF_ERROR(run.CheckKnown(columns.back()));
    NoteScore(run, columns.back().name, seen);
  }
  if (columns.empty()) {
    for (const auto& [name, of] : seen) columns.push_back(Resolve(name, run.about()));
    std::erase_if(columns, [](const ColumnRef& column) { return !MeansSomething(column); });
    const auto order = [](const ColumnRef& c) {
      return c.info != nullptr ? static_cast<std::uint16_t>(c.info->column) : kColumnCount;
    };
    std::ranges::stable_sort(columns, {}, order);  // attributes stay by name
  }
  Table schema;
  bool may_need_types = false;
  for (const ColumnRef& column : columns) {
    const auto found = seen.find(column.name);
    const Seen of = found == seen.end() ? Seen{} : found->second;
    TableColumn& out = schema.columns.emplace_back();
    out.name = OutputName(column);
    out.type = Cells::TypeOf(column, of.tags);
    out.has_json = of.has_json;
    is_uniform_.push_back(std::popcount(of.tags) <= 1);
    may_need_types |= MayNeedTypes(out, KindsOf(of));
  }
  has_types_ = has_types_ && may_need_types && !seen.contains(kTypesColumn);
  if (has_types_) {
    TableColumn& out = schema.columns.emplace_back();
    out.name = kTypesColumn;
    out.type = TableColumn::Type::kString;
    is_uniform_.push_back(true);
  }
  if (options_.columns.empty()) {
    for (const ColumnRef& column : columns) options_.columns.push_back(column.name);
  }
  schema_ = std::make_shared<const Table>(std::move(schema));
  return OkStatus();
}

Result<std::shared_ptr<const Table>> SpanStream::Slice(std::size_t slice, std::uint64_t& left) const {
  SpanQuery query = query_;
  query.since_ns = cuts_[slice];
  query.until_ns = cuts_[slice + 1];
  ScanOptions options = options_;
  options.limit = left;
  if (options.columns.empty()) options.columns = {"start_ns"};  // a store without any span
  SPANBOX_ASSIGN_OR_RETURN(Table table, Scan(*store_, query, options));
  left -= table.rows;
  auto out = std::make_shared<Table>();
  out->rows = schema_->columns.empty() ? 0 : table.rows;
  for (std::size_t i = 0; i < schema_->columns.size() - (has_types_ ? 1 : 0); ++i) {
    out->columns.push_back(Conformed(std::move(table.columns[i]), schema_->columns[i], table.rows));
  }
  bool ignored = false;
  if (has_types_) out->columns.push_back(TypesOf(*out, ignored));
  return std::shared_ptr<const Table>(std::move(out));
}

TableSource SpanStream::Read() const {
  return [self = shared_from_this(), slice = std::size_t{0},
          left = options_.limit]() mutable -> Result<std::shared_ptr<const Table>> {
    const std::size_t slices = self->is_whole_ ? 1 : self->cuts_.size() - 1;
    if (slice == slices || left == 0) return std::shared_ptr<const Table>();
    ++slice;
    return self->is_whole_ ? self->schema_ : self->Slice(slice - 1, left);
  };
}

}  // namespace spanbox
