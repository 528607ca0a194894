#include "query/table_rows.h"

#include <charconv>

#include "query/row_maker.h"

namespace spanbox {
namespace {

using Type = TableColumn::Type;

std::string_view TextOf(const TableColumn& column, std::uint64_t row) {
  return column.type == Type::kString ? std::string_view(column.dictionary[column.codes[row]]) : std::string_view();
}

// Written by Cells.
template <typename Number>
Number NumberOf(std::string_view text) {
  Number number{};
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

Value ValueOf(const TableColumn& column, std::uint64_t row) {
  if (!column.kinds.empty()) {
    const std::string_view text = TextOf(column, row);
    switch (column.kinds[row]) {
      case ValueType::kInt:
        return Value::Int(column.type == Type::kFloat ? column.ints[row] : NumberOf<std::int64_t>(text));
      case ValueType::kFloat:
        return Value::Float(column.type == Type::kFloat ? column.floats[row] : NumberOf<double>(text));
      case ValueType::kBool:
        return Value::Bool(text == "true");
      case ValueType::kString:
        return Value::String(text);
      case ValueType::kJson:
        return Value::Json(text);
    }
  }
  switch (column.type) {
    case Type::kFloat:
      return Value::Float(column.floats[row]);
    case Type::kBool:
      return Value::Bool(column.ints[row] != 0);
    case Type::kString: {
      const std::string_view text = TextOf(column, row);
      const bool json = column.is_json || (column.has_json && IsJsonContainer(text));
      return json ? Value::Json(text) : Value::String(text);
    }
    default:
      return Value::Int(column.ints[row]);
  }
}

}  // namespace

TableRows::TableRows(const Table& table) {
  for (const TableColumn& column : table.columns) {
    const ColumnInfo* const info = FindColumn(column.name);
    const bool is_start = column.name == "start" && column.type == Type::kTimestampNs;
    const bool named = info != nullptr && (info->name == column.name || is_start);
    parts_.push_back({&column, named ? info->column : Column::kAttribute});
  }
}

Result<const SpanRow*> TableRows::Row(std::uint64_t number) {
  row_ = {};
  fields_.clear();
  has_start_ = false;
  for (const Part& part : parts_) {
    if (part.column->valid.empty() || part.column->valid[number] != 0) Put(part, number);
  }
  if (!row_.trace_id.is_valid() || row_.span_id == 0 || !has_start_) {
    return InvalidArgument("row " + std::to_string(number) + " has no trace_id, span_id or start: ask for these, too");
  }
  row_.fields = fields_;
  return &row_;
}

void TableRows::Put(const Part& part, std::uint64_t number) {
  const TableColumn& column = *part.column;
  const bool is_number = column.type == Type::kInt || column.type == Type::kTimestampNs;
  switch (part.named) {
    case Column::kTraceId:
      row_.trace_id = TraceIdFromHex(TextOf(column, number)).value_or(TraceId{});
      return;
    case Column::kSpanId:
      row_.span_id = SpanIdFromHex(TextOf(column, number)).value_or(0);
      return;
    case Column::kParentId:
      row_.parent_id = SpanIdFromHex(TextOf(column, number)).value_or(0);
      return;
    case Column::kName:
      row_.name = TextOf(column, number);
      return;
    case Column::kKind:
      row_.kind = SpanKindFromString(TextOf(column, number)).value_or(SpanKind::kSpan);
      return;
    case Column::kStatus:
      row_.status = SpanStatusFromString(TextOf(column, number)).value_or(SpanStatus::kOk);
      return;
    case Column::kStartNs:
      has_start_ = is_number;
      if (is_number) row_.start_ns = column.ints[number];
      return;
    case Column::kDurationNs:
      if (is_number) row_.duration_ns = column.ints[number];
      return;
    default:
      fields_.push_back({part.named, column.name, ValueOf(column, number)});
  }
}

}  // namespace spanbox
