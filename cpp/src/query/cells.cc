#include "query/cells.h"

#include <bit>
#include <charconv>
#include <iterator>
#include <limits>

#include "query/numbers.h"

namespace spanbox {
namespace {

constexpr std::uint32_t kUnknown = std::numeric_limits<std::uint32_t>::max();

double Number(Cells::Raw cell) {
  return cell.tag == Cells::Tag::kFloat ? std::bit_cast<double>(cell.payload)
                                        : static_cast<double>(static_cast<std::int64_t>(cell.payload));
}

template <typename T>
int Sign(const T& a, const T& b) {
  return a < b ? -1 : b < a ? 1 : 0;
}

}  // namespace

std::string NumberText(std::int64_t value) {
  char text[32];
  return std::string(text, std::to_chars(text, text + sizeof text, value).ptr);
}
std::string NumberText(double value) {
  char text[32];
  return std::string(text, std::to_chars(text, text + sizeof text, value).ptr);
}

std::uint32_t StringPool::Intern(std::string_view text) {
  if (const auto found = codes_.find(text); found != codes_.end()) return found->second;
  const std::uint32_t code = Append(std::string(text));
  codes_.emplace(strings_.back(), code);
  return code;
}

std::uint32_t StringPool::Append(std::string text) {
  strings_.push_back(std::move(text));
  return size() - 1;
}

std::vector<std::string> StringPool::Take() && {
  codes_.clear();
  return {std::move_iterator(strings_.begin()), std::move_iterator(strings_.end())};
}

void Cells::SetFloat(std::size_t row, double value) { Set(row, Tag::kFloat, std::bit_cast<std::uint64_t>(value)); }

int Cells::Compare(Raw a, Raw b) const {
  const auto is_number = [](Tag tag) { return tag == Tag::kInt || tag == Tag::kFloat; };
  if (is_number(a.tag) && is_number(b.tag)) {
    if (a.tag == Tag::kInt && b.tag == Tag::kInt) {
      return Sign(static_cast<std::int64_t>(a.payload), static_cast<std::int64_t>(b.payload));
    }
    const double x = Number(a), y = Number(b);
    if (x != x || y != y) return static_cast<int>(x != x) - static_cast<int>(y != y);  // NaN after every number
    return Sign(x, y);
  }
  if (a.tag != b.tag) return Sign(a.tag, b.tag);
  if (a.tag == Tag::kString) {
    return strings_[static_cast<std::uint32_t>(a.payload)].compare(strings_[static_cast<std::uint32_t>(b.payload)]);
  }
  return Sign(a.payload, b.payload);
}

Status Cells::Read(SegmentColumns& columns, std::string_view column, std::span<const std::uint32_t> rows,
                   std::span<const std::uint32_t> targets) {
  SPANBOX_ASSIGN_OR_RETURN(const auto chunks, columns.Find(column));
  for (const ChunkInfo* chunk : chunks) {
    SPANBOX_RETURN_IF_ERROR(ReadChunk(columns, *chunk, rows, targets));
  }
  return OkStatus();
}

Status Cells::ReadChunk(SegmentColumns& columns, const ChunkInfo& chunk, std::span<const std::uint32_t> rows,
                        std::span<const std::uint32_t> targets) {
  if (columns.AreFew(chunk, rows) && chunk.type != ColumnType::kText) return ReadPoints(columns, chunk, rows, targets);
  const auto each = [&](const auto& column, auto set) {
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if constexpr (requires { column.valid; }) {
        if (!column.valid[rows[i]]) continue;
      }
      set(targets[i], rows[i]);
    }
  };
  switch (chunk.type) {
    case ColumnType::kInt: {
      SPANBOX_ASSIGN_OR_RETURN(const IntColumn* c, columns.Ints(chunk));
      each(*c, [&](std::uint32_t target, std::uint32_t row) { SetInt(target, c->values[row]); });
      break;
    }
    case ColumnType::kFloat: {
      SPANBOX_ASSIGN_OR_RETURN(const FloatColumn* c, columns.Floats(chunk));
      each(*c, [&](std::uint32_t target, std::uint32_t row) { SetFloat(target, c->values[row]); });
      break;
    }
    case ColumnType::kBool: {
      SPANBOX_ASSIGN_OR_RETURN(const BoolColumn* c, columns.Bools(chunk));
      each(*c, [&](std::uint32_t target, std::uint32_t row) { SetBool(target, c->values[row] != 0); });
      break;
    }
    case ColumnType::kString: {
      SPANBOX_ASSIGN_OR_RETURN(const StringColumn* c, columns.Strings(chunk));
      std::vector<std::uint32_t> codes(c->dictionary.size(), kUnknown);
      each(*c, [&](std::uint32_t target, std::uint32_t row) {
        std::uint32_t& code = codes[c->codes[row]];
        if (code == kUnknown) code = strings_.Intern(c->dictionary[c->codes[row]]);
        SetString(target, code);
      });
      break;
    }
    case ColumnType::kTraceId: {
      SPANBOX_ASSIGN_OR_RETURN(const TraceIdColumn* c, columns.TraceIds(chunk));
      each(*c,
           [&](std::uint32_t target, std::uint32_t row) { SetString(target, strings_.Intern(ToHex(c->values[row]))); });
      break;
    }
    case ColumnType::kSpanId: {
      SPANBOX_ASSIGN_OR_RETURN(const SpanIdColumn* c, columns.SpanIds(chunk));
      each(*c,
           [&](std::uint32_t target, std::uint32_t row) { SetString(target, strings_.Append(ToHex(c->values[row]))); });
      break;
    }
    case ColumnType::kText: {
      SPANBOX_ASSIGN_OR_RETURN(TextColumn * c, columns.Text(chunk));
      for (std::size_t i = 0; i < rows.size(); ++i) {
        if (!c->valid(rows[i])) continue;
        SPANBOX_ASSIGN_OR_RETURN(const std::string_view text, c->Get(rows[i]));
        if (c->is_json(rows[i])) SetJson(targets[i]);
        SetString(targets[i], strings_.Append(std::string(text)));
      }
    }
  }
  return OkStatus();
}

Status Cells::ReadPoints(SegmentColumns& columns, const ChunkInfo& chunk, std::span<const std::uint32_t> rows,
                         std::span<const std::uint32_t> targets) {
  if (chunk.type == ColumnType::kTraceId) {
    SPANBOX_ASSIGN_OR_RETURN(const std::vector<TraceId> ids, columns.TraceIdsAt(rows));
    for (std::size_t i = 0; i < rows.size(); ++i) SetString(targets[i], strings_.Intern(ToHex(ids[i])));
    return OkStatus();
  }
  const auto each = [&](const auto& points, auto set) {
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (points.valid[i] != 0) set(targets[i], points.values[i]);
    }
    return OkStatus();
  };
  if (chunk.type == ColumnType::kSpanId) {
    SPANBOX_ASSIGN_OR_RETURN(const Points<SpanId> ids, columns.SpanIdsAt(chunk, rows));
    return each(ids, [&](std::uint32_t target, SpanId id) { SetString(target, strings_.Append(ToHex(id))); });
  }
  if (chunk.type == ColumnType::kString) {
    SPANBOX_ASSIGN_OR_RETURN(const Points<std::string_view> strings, columns.StringsAt(chunk, rows));
    return each(strings, [&](std::uint32_t target, std::string_view s) { SetString(target, strings_.Intern(s)); });
  }
  SPANBOX_ASSIGN_OR_RETURN(const Points<std::int64_t> numbers, columns.NumbersAt(chunk, rows));
  return each(numbers, [&](std::uint32_t target, std::int64_t value) {
    if (chunk.type == ColumnType::kFloat) return SetFloat(target, std::bit_cast<double>(value));
    chunk.type == ColumnType::kBool ? SetBool(target, value != 0) : SetInt(target, value);
  });
}

Cells Cells::Gather(std::span<const std::uint32_t> rows) && {
  Cells out(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    out.tags_[i] = tags_[rows[i]];
    out.payloads_[i] = payloads_[rows[i]];
    if (!json_.empty() && json_[rows[i]] != 0) out.SetJson(i);
  }
  out.strings_ = std::move(strings_);
  out.seen_ = seen_;
  return out;
}

void Cells::SetJson(std::size_t row) {
  if (json_.empty()) json_.resize(size());
  json_[row] = 1;
}

// What the values of such a column are where nothing else is said.
Cells::Tag Cells::TagOf(TableColumn::Type type) {
  switch (type) {
    case TableColumn::Type::kFloat:
      return Tag::kFloat;
    case TableColumn::Type::kBool:
      return Tag::kBool;
    case TableColumn::Type::kString:
      return Tag::kString;
    default:
      return Tag::kInt;
  }
}

std::vector<ValueType> Cells::Kinds() const {
  static constexpr ValueType kOfTag[] = {ValueType::kInt, ValueType::kFloat, ValueType::kBool, ValueType::kString,
                                         ValueType::kString};
  std::vector<ValueType> kinds(size());
  for (std::size_t row = 0; row < size(); ++row) {
    const bool json = tags_[row] == Tag::kString && !json_.empty() && json_[row] != 0;
    kinds[row] = json ? ValueType::kJson : kOfTag[static_cast<std::size_t>(tags_[row])];
  }
  return kinds;
}

TableColumn::Type Cells::TypeOf(const ColumnRef& column, unsigned tags) {
  const auto saw = [tags](Tag tag) { return (tags >> static_cast<unsigned>(tag) & 1u) != 0; };
  const bool strings = saw(Tag::kString), bools = saw(Tag::kBool), floats = saw(Tag::kFloat), ints = saw(Tag::kInt);
  if (column.info != nullptr) {
    const ColumnType type = column.info->type;
    if (type != ColumnType::kInt && type != ColumnType::kFloat && type != ColumnType::kBool)
      return TableColumn::Type::kString;
    if (!strings && !bools) {
      if (column.info->column == Column::kStartNs && !floats) return TableColumn::Type::kTimestampNs;
      return type == ColumnType::kFloat || floats ? TableColumn::Type::kFloat : TableColumn::Type::kInt;
    }
  }
  if (strings || (bools && (ints || floats)) || tags == 0) return TableColumn::Type::kString;
  return bools ? TableColumn::Type::kBool : floats ? TableColumn::Type::kFloat : TableColumn::Type::kInt;
}

TableColumn Cells::Finish(const ColumnRef& column) && {
  TableColumn out;
  out.name = OutputName(column);
  out.type = TypeOf(column, seen_);
  out.has_json = !json_.empty() && out.type == TableColumn::Type::kString;
  const std::size_t rows = size();
  if ((seen_ & ~(1u << static_cast<unsigned>(TagOf(out.type)))) != 0 || out.has_json) out.kinds = Kinds();
  for (std::size_t row = 0; row < rows; ++row) {
    if (tags_[row] != Tag::kAbsent) continue;
    if (out.valid.empty()) out.valid.assign(rows, 1);
    out.valid[row] = 0;
  }
  switch (out.type) {
    case TableColumn::Type::kFloat:
      out.floats.resize(rows);
      if (!out.kinds.empty()) out.ints.resize(rows);
      for (std::size_t row = 0; row < rows; ++row) {
        if (tags_[row] == Tag::kAbsent) continue;
        out.floats[row] = Number((*this)[row]);
        if (tags_[row] == Tag::kInt) out.ints[row] = static_cast<std::int64_t>(payloads_[row]);
      }
      break;
    case TableColumn::Type::kString:
      FinishStrings(out);
      break;
    default:
      out.ints.resize(rows);
      for (std::size_t row = 0; row < rows; ++row) out.ints[row] = static_cast<std::int64_t>(payloads_[row]);
  }
  return out;
}

void Cells::FinishStrings(TableColumn& out) {
  out.codes.resize(size());
  for (std::size_t row = 0; row < size(); ++row) {
    switch (tags_[row]) {
      case Tag::kString:
        out.codes[row] = static_cast<std::uint32_t>(payloads_[row]);
        break;
      case Tag::kInt:
        out.codes[row] = strings_.Intern(NumberText(static_cast<std::int64_t>(payloads_[row])));
        break;
      case Tag::kFloat:
        out.codes[row] = strings_.Intern(NumberText(Number((*this)[row])));
        break;
      case Tag::kBool:
        out.codes[row] = strings_.Intern(payloads_[row] != 0 ? "true" : "false");
        break;
      case Tag::kAbsent:
        break;
    }
  }
  // A code must be in the dictionary also where the row has no value.
  if (size() > 0) strings_.Intern("");
  out.dictionary = std::move(strings_).Take();
}

std::string OutputName(const ColumnRef& column) {
  if (column.info == nullptr || column.info->column != Column::kStartNs) return column.name;
  return column.about == About::kScores ? "at" : "start";
}

}  // namespace spanbox
