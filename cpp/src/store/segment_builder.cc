#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <deque>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "store/column_cells.h"
#include "store/segment.h"
#include "store/segment_writer.h"

namespace spanbox {
namespace {

constexpr std::size_t kMaxTextBytes = std::size_t{1} << 30;
constexpr std::size_t kMaxIdleAttributes = 4096;  // a reused builder forgets its attributes beyond this

bool IsFixed(Column column) { return column >= Column::kTraceId && column <= Column::kDurationNs; }

}  // namespace

struct SegmentBuilder::Impl {
  explicit Impl(TextPacker::Mode text_mode) : settled(text_mode == TextPacker::Mode::kSmall), packer(text_mode) {
    for (std::uint16_t i = 0; i < kColumnCount; ++i) {
      named[i].column = static_cast<Column>(i);
      named[i].always_text = Columns()[i].type == ColumnType::kText;
    }
  }

  struct Trace {
    TraceId id;
    std::int64_t first_start_ns = 0;
    std::uint32_t rows = 0;
  };

  std::uint32_t TraceOf(const TraceId& id, std::int64_t start_ns);
  ColumnCells& CellsOf(const Field& field, std::size_t position);
  ColumnCells& Attribute(std::string_view name);
  void AddValue(ColumnCells& cells, std::uint32_t row, const Value& value);
  void AddText(ColumnCells& cells, std::uint32_t row, std::string_view text, bool is_json);
  void AddAdopted(ColumnCells& cells, std::uint32_t row, const TextPlace& place, bool is_json);
  void DeriveTpot(std::uint32_t row, std::int64_t duration_ns);
  void Clear();

  // Finish, in this order.
  void OrderRows();
  template <typename T>
  std::uint32_t Gather(const Cells<T>& cells, std::vector<T>& values, SegmentWriter& writer) const;
  void WriteIds(SegmentWriter& writer);
  void PackTexts(std::span<ColumnCells* const> columns);
  void WriteStrings(const ColumnCells& cells, SegmentWriter& writer);
  void WriteTexts(const ColumnCells& cells, SegmentWriter& writer, const std::vector<TextPlace>& places);
  void WriteColumn(const ColumnCells& cells, SegmentWriter& writer);
  std::vector<ColumnCells*> UsedColumns();

  const bool settled;
  std::uint32_t rows = 0;
  std::vector<std::uint32_t> trace_of_row;
  std::vector<std::int64_t> starts;
  std::vector<SpanId> span_ids, parent_ids;
  absl::flat_hash_map<std::pair<std::uint64_t, std::uint64_t>, std::uint32_t> trace_numbers;
  std::vector<Trace> traces;

  std::array<ColumnCells, kColumnCount> named;
  std::deque<ColumnCells> attributes;
  std::deque<std::string> attribute_names;
  absl::flat_hash_map<std::string_view, ColumnCells*> by_name;     // keys point into attribute_names
  std::vector<std::pair<std::string_view, ColumnCells*>> guesses;  // the attribute last seen at this position of a row
  Arena arena;
  std::string texts;
  TextPacker packer;
  absl::flat_hash_map<const ColumnCells*, std::vector<TextPlace>> text_places;  // by cell

  // Set by OrderRows.
  std::vector<std::uint32_t> trace_order;  // traces as they are written
  std::vector<std::uint32_t> trace_begin;  // first new row of each of them, and the end
  std::vector<std::uint32_t> old_row;      // by new row
  std::vector<std::uint32_t> new_row;      // by old row
};

std::uint32_t SegmentBuilder::Impl::TraceOf(const TraceId& id, std::int64_t start_ns) {
  std::pair<std::uint64_t, std::uint64_t> key;
  std::memcpy(&key.first, id.bytes.data(), 8);
  std::memcpy(&key.second, id.bytes.data() + 8, 8);
  const bool same = rows > 0 && traces[trace_of_row.back()].id == id;
  const std::uint32_t number =
      same ? trace_of_row.back()
           : trace_numbers.try_emplace(key, static_cast<std::uint32_t>(traces.size())).first->second;
  if (number == traces.size()) traces.push_back({id, start_ns, 0});
  Trace& trace = traces[number];
  trace.first_start_ns = std::min(trace.first_start_ns, start_ns);
  ++trace.rows;
  return number;
}

ColumnCells& SegmentBuilder::Impl::CellsOf(const Field& field, std::size_t position) {
  if (field.column != Column::kAttribute && static_cast<std::uint16_t>(field.column) < kColumnCount) {
    if (!IsFixed(field.column)) return named[static_cast<std::size_t>(field.column)];
    return Attribute(Columns()[static_cast<std::size_t>(field.column)].name);
  }
  if (position >= guesses.size()) guesses.resize(position + 1, {{}, nullptr});
  auto& [name, cells] = guesses[position];
  if (cells != nullptr && name == field.name) return *cells;
  cells = &Attribute(field.name);
  name = by_name.find(field.name)->first;
  return *cells;
}

ColumnCells& SegmentBuilder::Impl::Attribute(std::string_view name) {
  if (const auto found = by_name.find(name); found != by_name.end()) return *found->second;
  ColumnCells* cells = nullptr;
  const ColumnInfo* info = FindColumn(name);
  if (info != nullptr && info->name == name && info->column != Column::kAttribute) {
    cells = IsFixed(info->column) ? &Attribute("attribute." + std::string(name))
                                  : &named[static_cast<std::size_t>(info->column)];
  } else {
    cells = &attributes.emplace_back();
    cells->name = name;
  }
  by_name.emplace(attribute_names.emplace_back(name), cells);
  return *cells;
}

void SegmentBuilder::Impl::AddValue(ColumnCells& cells, std::uint32_t row, const Value& value) {
  if (cells.last_row == row) cells.PopLast();
  cells.last_row = row;
  switch (value.type) {
    case ValueType::kBool:
      cells.bools.Add(row, value.boolean ? 1 : 0);
      cells.last_store = StoredAs::kBool;
      break;
    case ValueType::kInt:
      cells.ints.Add(row, value.integer);
      cells.last_store = StoredAs::kInt;
      break;
    case ValueType::kFloat:
      cells.floats.Add(row, std::bit_cast<std::int64_t>(value.number));
      cells.last_store = StoredAs::kFloat;
      break;
    case ValueType::kString:
      if (cells.always_text || value.text.size() > kMaxShortString) return AddText(cells, row, value.text, false);
      cells.strings.AddText(row, value.text, arena);
      cells.last_store = StoredAs::kString;
      break;
    case ValueType::kJson:
      AddText(cells, row, value.text, true);
      break;
  }
}

void SegmentBuilder::Impl::AddText(ColumnCells& cells, std::uint32_t row, std::string_view text, bool is_json) {
  text = text.substr(0, kMaxTextBytes);
  cells.texts.Add(row, {texts.size(), static_cast<std::uint32_t>(text.size()), is_json});
  cells.last_store = StoredAs::kText;
  texts.append(text);
}

void SegmentBuilder::Impl::AddAdopted(ColumnCells& cells, std::uint32_t row, const TextPlace& place, bool is_json) {
  if (cells.last_row == row) cells.PopLast();
  cells.last_row = row;
  cells.last_store = StoredAs::kText;
  cells.texts.Add(row, {place.offset, place.size, is_json, place.block});
}

void SegmentBuilder::Impl::DeriveTpot(std::uint32_t row, std::int64_t duration_ns) {
  ColumnCells& tpot = named[static_cast<std::size_t>(Column::kTpotNs)];
  const ColumnCells& ttft = named[static_cast<std::size_t>(Column::kTtftNs)];
  const ColumnCells& output = named[static_cast<std::size_t>(Column::kOutputTokens)];
  const auto is_int = [row](const ColumnCells& c) { return c.last_row == row && c.last_store == StoredAs::kInt; };
  if (tpot.last_row == row || !is_int(ttft) || !is_int(output)) return;
  const auto derived =
      DerivedTpot(duration_ns, Value::Int(ttft.ints.values.back()), Value::Int(output.ints.values.back()));
  if (derived) AddValue(tpot, row, Value::Int(*derived));
}

void SegmentBuilder::Impl::OrderRows() {
  std::vector<std::uint32_t> rank(traces.size());
  trace_order.resize(traces.size());
  for (std::uint32_t t = 0; t < traces.size(); ++t) trace_order[t] = t;
  std::sort(trace_order.begin(), trace_order.end(), [this](std::uint32_t a, std::uint32_t b) {
    return std::tie(traces[a].first_start_ns, traces[a].id) < std::tie(traces[b].first_start_ns, traces[b].id);
  });
  trace_begin.assign(1, 0);
  for (std::uint32_t i = 0; i < trace_order.size(); ++i) {
    rank[trace_order[i]] = i;
    trace_begin.push_back(trace_begin.back() + traces[trace_order[i]].rows);
  }
  std::vector<std::uint32_t> next(trace_begin.begin(), trace_begin.end() - 1);
  old_row.resize(rows);
  for (std::uint32_t row = 0; row < rows; ++row) old_row[next[rank[trace_of_row[row]]]++] = row;
  for (std::size_t i = 0; i + 1 < trace_begin.size(); ++i) {
    std::stable_sort(old_row.begin() + trace_begin[i], old_row.begin() + trace_begin[i + 1],
                     [this](std::uint32_t a, std::uint32_t b) { return starts[a] < starts[b]; });
  }
  new_row.resize(rows);
  for (std::uint32_t row = 0; row < rows; ++row) new_row[old_row[row]] = row;
}

// The values in the new order, without gaps; returns the validity.
template <typename T>
std::uint32_t SegmentBuilder::Impl::Gather(const Cells<T>& cells, std::vector<T>& values, SegmentWriter& writer) const {
  const std::size_t count = cells.rows.size();
  values.resize(rows);
  if (count == rows) {
    for (std::size_t i = 0; i < count; ++i) values[new_row[cells.rows[i]]] = cells.values[i];
    return 0;
  }
  std::vector<std::uint64_t> words((rows + 63) / 64);
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t to = new_row[cells.rows[i]];
    values[to] = cells.values[i];
    words[to / 64] |= std::uint64_t{1} << (to % 64);
  }
  std::size_t out = 0;
  for (std::size_t w = 0; w < words.size(); ++w) {
    for (std::uint64_t bits = words[w]; bits != 0; bits &= bits - 1) {
      values[out++] = values[w * 64 + static_cast<std::size_t>(std::countr_zero(bits))];
    }
  }
  values.resize(count);
  return writer.AddValidity(words, static_cast<std::uint32_t>(count));
}

void SegmentBuilder::Impl::WriteIds(SegmentWriter& writer) {
  std::vector<TraceId> ids;
  std::vector<std::int64_t> lengths;
  for (std::uint32_t trace : trace_order) {
    ids.push_back(traces[trace].id);
    lengths.push_back(traces[trace].rows);
  }
  writer.AddTraceIds(ids, lengths);

  std::vector<SpanId> spans(rows);
  for (std::uint32_t row = 0; row < rows; ++row) spans[row] = span_ids[old_row[row]];
  writer.AddSpanIds({Column::kSpanId, {}, 0}, spans);

  std::vector<std::uint64_t> words((rows + 63) / 64);
  std::vector<std::int64_t> distances;
  std::vector<SpanId> others;
  absl::flat_hash_map<SpanId, std::uint32_t> index;
  for (std::size_t t = 0; t + 1 < trace_begin.size(); ++t) {
    const std::uint32_t begin = trace_begin[t], end = trace_begin[t + 1];
    constexpr std::uint32_t kFewRows = 32;
    const bool indexed = end - begin > kFewRows;
    if (indexed) {
      index.clear();
      for (std::uint32_t row = begin; row < end; ++row) index.try_emplace(spans[row], row);
    }
    for (std::uint32_t row = begin; row < end; ++row) {
      const SpanId parent = parent_ids[old_row[row]];
      if (parent == 0) continue;
      words[row / 64] |= std::uint64_t{1} << (row % 64);
      std::uint32_t at = row;  // stays when the parent is not here
      if (indexed) {
        if (const auto found = index.find(parent); found != index.end()) at = found->second;
      } else {
        const auto found = std::find(spans.begin() + begin, spans.begin() + end, parent);
        if (found != spans.begin() + end) at = static_cast<std::uint32_t>(found - spans.begin());
      }
      const std::int64_t distance = static_cast<std::int64_t>(row) - static_cast<std::int64_t>(at);
      distances.push_back((distance << 1) ^ (distance >> 63));
      if (distance == 0) others.push_back(parent);
    }
  }
  if (distances.empty()) return;
  const std::uint32_t validity = writer.AddValidity(words, static_cast<std::uint32_t>(distances.size()));
  writer.AddParents({Column::kParentId, {}, validity}, distances, others);
}

std::vector<ColumnCells*> SegmentBuilder::Impl::UsedColumns() {
  std::vector<ColumnCells*> used;
  for (ColumnCells& cells : named) used.push_back(&cells);
  for (ColumnCells& cells : attributes) used.push_back(&cells);
  std::erase_if(used, [](const ColumnCells* c) {
    return c->ints.empty() && c->floats.empty() && c->bools.empty() && c->strings.empty() && c->texts.empty();
  });
  const auto key = [](const ColumnCells* c) {
    // Attributes last, so that what most queries name stands first in the directory.
    return std::pair(c->column == Column::kAttribute, std::tuple(c->column, std::string_view(c->name)));
  };
  std::sort(used.begin(), used.end(), [&](const ColumnCells* a, const ColumnCells* b) { return key(a) < key(b); });
  return used;
}

// Row by row, so that the texts of one span, and then of its neighbours, stand together.
void SegmentBuilder::Impl::PackTexts(std::span<ColumnCells* const> columns) {
  struct Cell {
    std::uint32_t row, column, index;
  };
  std::vector<Cell> cells;
  for (std::uint32_t c = 0; c < columns.size(); ++c) {
    const auto& rows_of = columns[c]->texts.rows;
    if (!rows_of.empty()) text_places[columns[c]].resize(rows_of.size());
    for (std::uint32_t i = 0; i < rows_of.size(); ++i) cells.push_back({new_row[rows_of[i]], c, i});
  }
  if (cells.empty()) return;
  std::sort(cells.begin(), cells.end(),
            [](const Cell& a, const Cell& b) { return std::tie(a.row, a.column) < std::tie(b.row, b.column); });
  for (const Cell& cell : cells) {
    const TextRef& ref = columns[cell.column]->texts.values[cell.index];
    text_places[columns[cell.column]][cell.index] =
        ref.block != kNoBlock ? TextPlace{ref.block, static_cast<std::uint32_t>(ref.offset), ref.size}
                              : packer.Add(std::string_view(texts).substr(ref.offset, ref.size));
  }
  packer.Finish();
}

void SegmentBuilder::Impl::WriteStrings(const ColumnCells& cells, SegmentWriter& writer) {
  const auto entries = cells.strings.entries();
  std::vector<std::int64_t> codes;
  const std::uint32_t validity = Gather(cells.strings, codes, writer);
  // A value that was replaced in its row may have left an entry nobody uses.
  std::vector<bool> used(entries.size());
  for (std::int64_t code : codes) used[static_cast<std::size_t>(code)] = true;
  std::vector<std::uint32_t> order;
  for (std::uint32_t i = 0; i < entries.size(); ++i) {
    if (used[i]) order.push_back(i);
  }
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) { return entries[a] < entries[b]; });
  std::vector<std::int64_t> sorted_code(entries.size());
  std::vector<std::string_view> dictionary;
  for (std::uint32_t i : order) {
    sorted_code[i] = static_cast<std::int64_t>(dictionary.size());
    dictionary.push_back(entries[i]);
  }
  for (std::int64_t& code : codes) code = sorted_code[static_cast<std::size_t>(code)];
  writer.AddStrings({cells.column, cells.name, validity}, dictionary, codes);
}

void SegmentBuilder::Impl::WriteTexts(const ColumnCells& cells, SegmentWriter& writer,
                                      const std::vector<TextPlace>& places) {
  struct Placed {
    TextPlace place;
    std::uint32_t size;
    bool is_json;
  };
  Cells<Placed> placed;
  placed.rows = cells.texts.rows;
  for (std::size_t i = 0; i < places.size(); ++i) {
    placed.values.push_back({places[i], cells.texts.values[i].size, cells.texts.values[i].is_json});
  }
  std::vector<Placed> ordered;
  const std::uint32_t validity = Gather(placed, ordered, writer);
  TextPlaces out;
  for (const Placed& p : ordered) {
    out.is_json.push_back(p.is_json ? 1 : 0);
    out.blocks.push_back(p.place.block);
    out.offsets.push_back(p.place.offset);
    out.sizes.push_back(p.size);
  }
  writer.AddText({cells.column, cells.name, validity}, out);
}

void SegmentBuilder::Impl::WriteColumn(const ColumnCells& cells, SegmentWriter& writer) {
  std::vector<std::int64_t> values;
  const auto key = [&](std::uint32_t validity) { return ChunkKey{cells.column, cells.name, validity}; };
  if (!cells.ints.empty()) {
    const std::uint32_t validity = Gather(cells.ints, values, writer);
    writer.AddInts(key(validity), ColumnType::kInt, values);
  }
  if (!cells.floats.empty()) {
    const std::uint32_t validity = Gather(cells.floats, values, writer);
    writer.AddFloats(key(validity), values);
  }
  if (!cells.bools.empty()) {
    const std::uint32_t validity = Gather(cells.bools, values, writer);
    writer.AddInts(key(validity), ColumnType::kBool, values);
  }
  if (!cells.strings.empty()) WriteStrings(cells, writer);
  if (!cells.texts.empty()) WriteTexts(cells, writer, text_places[&cells]);
}

void SegmentBuilder::Impl::Clear() {
  rows = 0;
  trace_of_row.clear();
  starts.clear();
  span_ids.clear();
  parent_ids.clear();
  trace_numbers.clear();
  traces.clear();
  for (ColumnCells& cells : named) cells.Clear();
  for (ColumnCells& cells : attributes) cells.Clear();
  if (by_name.size() > kMaxIdleAttributes) {
    by_name.clear();
    attribute_names.clear();
    attributes.clear();
    guesses.clear();
  }
  arena.Clear();
  texts.clear();
  text_places.clear();
  packer.Clear();
}

Column StoredColumn(const Field& field) {
  Column column = field.column;
  if (column == Column::kAttribute || static_cast<std::uint16_t>(column) >= kColumnCount) {
    const ColumnInfo* info = FindColumn(field.name);
    column = info != nullptr && info->name == field.name ? info->column : Column::kAttribute;
  }
  return IsFixed(column) ? Column::kAttribute : column;
}

std::optional<std::int64_t> DerivedTpot(std::int64_t duration_ns, const Value& ttft_ns, const Value& output_tokens) {
  if (ttft_ns.type != ValueType::kInt || output_tokens.type != ValueType::kInt) return std::nullopt;
  if (output_tokens.integer < 2 || ttft_ns.integer < 0 || duration_ns < ttft_ns.integer) return std::nullopt;
  return (duration_ns - ttft_ns.integer) / (output_tokens.integer - 1);
}

SegmentBuilder::SegmentBuilder(TextPacker::Mode text_mode) : impl_(std::make_unique<Impl>(text_mode)) {}
SegmentBuilder::~SegmentBuilder() = default;

std::uint32_t SegmentBuilder::rows() const { return impl_->rows; }

std::uint32_t SegmentBuilder::Adopt(std::span<const std::byte> stored, const TextBlockInfo& info) {
  return impl_->packer.Adopt(stored, info);
}

void SegmentBuilder::Add(const SpanRow& span, std::span<const AdoptedText> adopted) {
  Impl& b = *impl_;
  const std::uint32_t row = b.rows;
  b.trace_of_row.push_back(b.TraceOf(span.trace_id, span.start_ns));
  ++b.rows;
  b.starts.push_back(span.start_ns);
  b.span_ids.push_back(span.span_id);
  b.parent_ids.push_back(span.parent_id);
  const auto named = [&b](Column column) -> ColumnCells& { return b.named[static_cast<std::size_t>(column)]; };
  named(Column::kStartNs).ints.Add(row, span.start_ns);
  if (span.duration_ns != -1) named(Column::kDurationNs).ints.Add(row, span.duration_ns);
  named(Column::kKind).strings.AddText(row, ToString(span.kind), b.arena);
  named(Column::kStatus).strings.AddText(row, ToString(span.status), b.arena);
  b.AddValue(named(Column::kName), row, Value::String(span.name));
  for (std::size_t i = 0; i < span.fields.size(); ++i) {
    const Field& field = span.fields[i];
    if (!adopted.empty() && adopted.front().field == i) {
      b.AddAdopted(b.CellsOf(field, i), row, adopted.front().place, field.value.type == ValueType::kJson);
      adopted = adopted.subspan(1);
      continue;
    }
    b.AddValue(b.CellsOf(field, i), row, field.value);
  }
  b.DeriveTpot(row, span.duration_ns);
}

SegmentBuilder::Encoded SegmentBuilder::Finish() {
  Impl& b = *impl_;
  Encoded encoded;
  encoded.rows = b.rows;
  SegmentWriter writer(b.rows);
  b.OrderRows();
  const auto columns = b.UsedColumns();
  b.PackTexts(columns);
  b.WriteIds(writer);
  for (const ColumnCells* cells : columns) b.WriteColumn(*cells, writer);

  const auto [first, last] = std::minmax_element(b.starts.begin(), b.starts.end());
  encoded.min_start_ns = *first;
  encoded.max_start_ns = *last;
  encoded.min_trace = ~std::uint64_t{0};
  for (const Impl::Trace& trace : b.traces) {
    encoded.min_trace = std::min(encoded.min_trace, TracePrefix(trace.id));
    encoded.max_trace = std::max(encoded.max_trace, TracePrefix(trace.id));
  }
  encoded.columns = writer.Finish(b.packer.infos, encoded.min_start_ns, encoded.max_start_ns);
  for (const TextBlockInfo& info : b.packer.infos) {
    encoded.raw_text_bytes += info.raw_bytes;
    encoded.text_bytes += info.stored_bytes;
  }
  encoded.text_blocks = std::move(b.packer.blocks);
  encoded.text_filter = std::move(b.packer.filter);
  encoded.settled = b.settled;
  b.Clear();
  return encoded;
}

}  // namespace spanbox
