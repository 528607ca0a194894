#include "query/value_types.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <string>

#include "base/msgpack.h"
#include "base/simdjson.h"
#include "query/cells.h"
#include "query/row_maker.h"

namespace spanbox {
namespace {

constexpr std::int64_t kMostExact = std::int64_t{1} << 53;  // beyond, a float has no room for every int

// Whole floats of such columns are taken in as ints (row_maker.h).
bool MeansInts(std::string_view name) {
  const ColumnInfo* const info = FindColumn(name);
  return info != nullptr && info->type == ColumnType::kInt;
}

ValueType KindOf(const TableColumn& column, std::uint64_t row) {
  return column.kinds.empty() ? KindOf(column.type) : column.kinds[row];
}

// What is to be said of a value; nothing where it is what whoever reads the column takes it for.
std::string Said(const TableColumn& column, std::uint64_t row) {
  const bool is_text = column.type == TableColumn::Type::kString;
  const auto looks_like_json = [&] { return column.has_json && IsJsonContainer(column.dictionary[column.codes[row]]); };
  switch (KindOf(column, row)) {
    case ValueType::kInt:
      if (column.type == TableColumn::Type::kFloat &&
          (column.ints[row] > kMostExact || column.ints[row] < -kMostExact)) {
        return std::to_string(column.ints[row]);
      }
      return is_text || column.type == TableColumn::Type::kFloat ? "\"int\"" : "";
    case ValueType::kFloat:
      if (is_text) return "\"float\"";
      return std::trunc(column.floats[row]) == column.floats[row] && MeansInts(column.name) ? "\"float\"" : "";
    case ValueType::kBool:
      return is_text ? "\"bool\"" : "";
    case ValueType::kString:
      return is_text && looks_like_json() ? "\"text\"" : "";
    case ValueType::kJson:
      return looks_like_json() ? "" : "\"json\"";
  }
  return "";
}

template <typename Number>
std::optional<Number> NumberOf(std::string_view text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// With all digits, if it is that number.
void Apply(std::int64_t number, Value& value) {
  const auto rounded = static_cast<double>(number);
  const bool is_int = value.type == ValueType::kInt && static_cast<double>(value.integer) == rounded;
  if (is_int || (value.type == ValueType::kFloat && value.number == rounded)) value = Value::Int(number);
}

void Apply(std::string_view type, Value& value) {
  const bool is_text = value.type == ValueType::kString || value.type == ValueType::kJson;
  if (type == "int" && value.type == ValueType::kFloat) {
    const double number = value.number;
    if (std::abs(number) <= kMostExact && number == std::trunc(number)) {
      value = Value::Int(static_cast<std::int64_t>(number));
    }
  } else if (type == "float" && value.type == ValueType::kInt) {
    value = Value::Float(static_cast<double>(value.integer));
  } else if (!is_text) {
    return;
  } else if (type == "int") {
    if (const auto number = NumberOf<std::int64_t>(value.text)) value = Value::Int(*number);
  } else if (type == "float") {
    if (const auto number = NumberOf<double>(value.text)) value = Value::Float(*number);
  } else if (type == "bool" && (value.text == "true" || value.text == "false")) {
    value = Value::Bool(value.text == "true");
  } else if (type == "text") {
    value = Value::String(value.text);
  } else if (type == "json") {
    value = Value::Json(value.text);
  }
}

}  // namespace

ValueType KindOf(TableColumn::Type type) {
  switch (type) {
    case TableColumn::Type::kFloat:
      return ValueType::kFloat;
    case TableColumn::Type::kBool:
      return ValueType::kBool;
    case TableColumn::Type::kString:
      return ValueType::kString;
    default:
      return ValueType::kInt;
  }
}

bool MayNeedTypes(const TableColumn& column, unsigned kinds) {
  const unsigned json = 1u << static_cast<unsigned>(ValueType::kJson);
  switch (column.type) {
    case TableColumn::Type::kFloat:
      return (kinds & ~(1u << static_cast<unsigned>(ValueType::kFloat))) != 0 || MeansInts(column.name);
    case TableColumn::Type::kString:
      return (kinds & (kinds - 1)) != 0 || (kinds & ~json & ~(1u << static_cast<unsigned>(ValueType::kString))) != 0;
    default:
      return false;
  }
}

TableColumn TypesOf(const Table& table, bool& needed) {
  TableColumn out;
  out.name = kTypesColumn;
  out.type = TableColumn::Type::kString;
  out.valid.assign(table.rows, 0);
  StringPool texts;
  texts.Intern("");
  std::string said;
  for (std::uint64_t row = 0; row < table.rows; ++row) {
    said.clear();
    for (const TableColumn& column : table.columns) {
      const bool present = column.valid.empty() || column.valid[row] != 0;
      const bool plain = column.kinds.empty() && !column.has_json;
      if (!present || (plain && column.type != TableColumn::Type::kFloat)) continue;
      const std::string type = Said(column, row);
      if (type.empty()) continue;
      said += said.empty() ? '{' : ',';
      AppendJsonString(column.name, said);
      said += ':';
      said += type;
    }
    if (!said.empty()) said += '}';
    out.valid[row] = said.empty() ? 0 : 1;
    needed |= !said.empty();
    out.codes.push_back(texts.Intern(said));
  }
  out.dictionary = std::move(texts).Take();
  return out;
}

void ApplyTypes(std::string_view types, std::vector<Field>& fields) {
  thread_local simdjson::dom::parser parser;
  simdjson::dom::object object;
  if (parser.parse(types.data(), types.size(), true).get(object) != simdjson::SUCCESS) return;
  for (const auto& [key, said] : object) {
    const auto field = std::ranges::find(fields, std::string_view(key), [](const Field& each) { return each.name; });
    if (field == fields.end()) continue;
    std::string_view type;
    std::int64_t number = 0;
    if (said.get(type) == simdjson::SUCCESS) {
      Apply(type, field->value);
    } else if (said.get(number) == simdjson::SUCCESS) {
      Apply(number, field->value);
    }
  }
}

}  // namespace spanbox
