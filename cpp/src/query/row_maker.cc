#include "query/row_maker.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/hash.h"
#include "base/moment.h"
#include "base/msgpack.h"
#include "base/utf8.h"
#include "query/value_types.h"

namespace spanbox {
namespace {

using CellKind = InputCell::Kind;
using Role = InputColumn::Role;

constexpr double kTwoTo63 = 9223372036854775808.0;
constexpr std::size_t kShownBytes = 40;

std::string Shown(std::string_view text) {
  std::string out;
  AppendJsonString(text.substr(0, kShownBytes), out);
  return text.size() > kShownBytes ? out + "…" : out;
}

std::string Named(const InputColumn& column) { return "column \"" + column.name + "\""; }

// A whole number within 64 bits, however it is stored: data frames turn integers with gaps into floats.
std::optional<std::int64_t> WholeNumber(const InputCell& cell) {
  if (cell.kind == CellKind::kInt) return cell.integer;
  if (cell.kind != CellKind::kFloat || cell.number != std::trunc(cell.number) || std::fabs(cell.number) >= kTwoTo63) {
    return std::nullopt;
  }
  return static_cast<std::int64_t>(cell.number);
}

template <typename Id>
struct IdForm;
template <>
struct IdForm<TraceId> {
  static constexpr std::size_t kBytes = 16;
  static std::optional<TraceId> Parse(std::string_view hex) { return TraceIdFromHex(hex); }
  static TraceId Read(std::string_view bytes) {
    TraceId id;
    std::memcpy(id.bytes.data(), bytes.data(), kBytes);
    return id;
  }
};
template <>
struct IdForm<SpanId> {
  static constexpr std::size_t kBytes = 8;
  static std::optional<SpanId> Parse(std::string_view hex) { return SpanIdFromHex(hex); }
  static SpanId Read(std::string_view bytes) {
    SpanId id = 0;
    for (const char byte : bytes) id = id << 8 | static_cast<unsigned char>(byte);
    return id;
  }
};

// OpenTelemetry writes a status that was never set as UNSET.
std::optional<SpanKind> FromName(std::string_view name, SpanKind) { return SpanKindFromString(name); }
std::optional<SpanStatus> FromName(std::string_view name, SpanStatus) {
  return name == "unset" ? SpanStatus::kOk : SpanStatusFromString(name);
}

}  // namespace

InputColumn::InputColumn(std::string_view given, bool json) : is_json(json) {
  AppendUtf8(given, name);
  const ColumnInfo* info = FindColumn(name);
  if (name == kTypesColumn) role = Role::kTypes;
  if (name == "end" || name == "end_ns") {
    role = Role::kEnd;
    needs_unit = name == "end";
    return;
  }
  if (info == nullptr || info->column == Column::kAttribute) return;
  column = info->column;
  type = info->type;
  needs_unit = info->name != name && info->name.ends_with("_ns");
  is_json |= column == Column::kEvents || column == Column::kLinks;
  static constexpr std::array kRoles = {Role::kField, Role::kTraceId, Role::kSpanId, Role::kParentId, Role::kName,
                                        Role::kKind,  Role::kStatus,  Role::kStart,  Role::kDuration};
  if (static_cast<std::size_t>(column) < kRoles.size()) role = kRoles[static_cast<std::size_t>(column)];
}

void RowMaker::Begin(std::uint64_t number) {
  number_ = number;
  bytes_ = 0;
  row_ = {};
  fields_.clear();
  types_ = {};
  trace_id_.reset();
  span_id_.reset();
  parent_id_.reset();
  start_ns_.reset();
  end_ns_.reset();
  duration_ns_.reset();
  used_ = 0;
}

std::string& RowMaker::Scratch() {
  if (used_ == scratch_.size()) scratch_.emplace_back();
  std::string& scratch = scratch_[used_++];
  scratch.clear();
  return scratch;
}

std::string_view RowMaker::Clean(std::string_view text) {
  if (IsUtf8(text)) return text;
  return AppendUtf8(text, Scratch());
}

// The value as text, whatever it is.
std::string_view RowMaker::TextOf(const InputCell& cell) {
  if (cell.kind == CellKind::kText) return Clean(cell.text);
  std::string& text = Scratch();
  switch (cell.kind) {
    case CellKind::kBool:
      text = cell.integer != 0 ? "true" : "false";
      break;
    case CellKind::kFloat: {
      if (const auto whole = WholeNumber(cell)) {
        text = std::to_string(*whole);
      } else {
        AppendJsonFloat(cell.number, text);
      }
      break;
    }
    case CellKind::kMoment:
      text = FormatMoment(cell.integer, cell.utc);
      break;
    case CellKind::kBytes:
      if (IsUtf8(cell.text)) return text = cell.text;
      AppendJsonBytes(std::as_bytes(std::span(cell.text)), text);
      break;
    case CellKind::kJson:
      text = cell.text;
      break;
    default:
      text = std::to_string(cell.integer);
  }
  return text;
}

Status RowMaker::Set(const InputColumn& column, const InputCell& cell) {
  if (cell.kind == CellKind::kAbsent) return OkStatus();
  if (cell.kind == CellKind::kWrong) return InvalidArgument(Named(column) + ": the value " + std::string(cell.text));
  bytes_ += 8 + cell.text.size();
  switch (column.role) {
    case Role::kTraceId:
      return SetId(column, cell, trace_id_);
    case Role::kSpanId:
      return SetId(column, cell, span_id_);
    case Role::kParentId:
      return SetId(column, cell, parent_id_);
    case Role::kName:
      row_.name = TextOf(cell);
      return OkStatus();
    case Role::kKind:
      return SetEnum(column, cell, row_.kind);
    case Role::kStatus:
      return SetEnum(column, cell, row_.status);
    case Role::kStart:
      return SetMoment(column, cell, start_ns_);
    case Role::kEnd:
      return SetMoment(column, cell, end_ns_);
    case Role::kDuration:
      return SetLength(column, cell);
    case Role::kTypes:
      types_ = TextOf(cell);
      return OkStatus();
    case Role::kField:
      return SetField(column, cell);
  }
  return OkStatus();
}

Status RowMaker::SetMoment(const InputColumn& column, const InputCell& cell, std::optional<std::int64_t>& out) {
  if (cell.kind == CellKind::kFloat && std::isnan(cell.number)) return OkStatus();
  if (cell.kind == CellKind::kMoment) {
    out = cell.integer;
    return OkStatus();
  }
  if (cell.kind == CellKind::kText) {
    out = ParseMoment(cell.text);
    if (out) return OkStatus();
    return InvalidArgument(Named(column) + ": " + Shown(cell.text) + " is no moment: write 2026-11-21T09:30:00Z");
  }
  out = WholeNumber(cell);
  if (out && !column.needs_unit) return OkStatus();
  return InvalidArgument(Named(column) + " holds no moments: cast it to a timestamp, or name it " +
                         (column.role == Role::kEnd ? "end_ns" : "start_ns") +
                         " when it is whole nanoseconds since 1970");
}

Status RowMaker::SetLength(const InputColumn& column, const InputCell& cell) {
  if (cell.kind == CellKind::kFloat && std::isnan(cell.number)) return OkStatus();
  if (cell.kind == CellKind::kLength) {
    duration_ns_ = cell.integer;
    return OkStatus();
  }
  duration_ns_ = WholeNumber(cell);
  if (duration_ns_ && !column.needs_unit) return OkStatus();
  return InvalidArgument(Named(column) +
                         " holds no lengths of time: cast it to a duration, or name it duration_ns when it is whole "
                         "nanoseconds");
}

template <typename Id>
Status RowMaker::SetId(const InputColumn& column, const InputCell& cell, std::optional<Id>& out) {
  using Form = IdForm<Id>;
  const std::string_view text = cell.text;
  if (cell.kind == CellKind::kBytes && text.size() == Form::kBytes) {
    out = Form::Read(text);
    if (*out == Id{}) out.reset();
    return OkStatus();
  }
  if (cell.kind == CellKind::kText) {
    out = Form::Parse(text);
    // OpenTelemetry writes "none" as zeros.
    if (out || text.empty() || (text.size() == 2 * Form::kBytes && text.find_first_not_of('0') == text.npos)) {
      return OkStatus();
    }
  }
  std::string shown;
  if (cell.kind == CellKind::kText) shown = ", not " + Shown(text);
  return InvalidArgument(Named(column) + ": an id is " + std::to_string(2 * Form::kBytes) + " hexadecimal digits or " +
                         std::to_string(Form::kBytes) + " bytes" + shown);
}

template <typename Enum>
Status RowMaker::SetEnum(const InputColumn& column, const InputCell& cell, Enum& out) {
  std::string_view text = cell.text;
  if (cell.kind == CellKind::kText || cell.kind == CellKind::kBytes) {
    auto value = FromName(text, out);
    if (!value) {
      std::string& lower = Scratch();
      lower = text;
      std::ranges::transform(lower, lower.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c; });
      value = FromName(lower, out);
    }
    if (value) {
      out = *value;
      return OkStatus();
    }
  }
  std::string known;
  if constexpr (std::is_same_v<Enum, SpanKind>) {
    for (const std::string_view name : SpanKindNames()) known += (known.empty() ? "" : ", ") + std::string(name);
  } else {
    known = "ok, error, running, interrupted";
  }
  return InvalidArgument(Named(column) + ": " + Shown(TextOf(cell)) + " is none of " + known);
}

Value RowMaker::TextValue(const InputColumn& column, std::string_view text) {
  const bool json = column.is_json && IsJsonContainer(text);
  return json ? Value::Json(text) : Value::String(text);
}

Value RowMaker::AttributeValue(const InputColumn& column, const InputCell& cell) {
  switch (cell.kind) {
    case CellKind::kBool:
      return Value::Bool(cell.integer != 0);
    case CellKind::kInt:
    case CellKind::kLength:
      return Value::Int(cell.integer);
    case CellKind::kFloat:
      return Value::Float(cell.number);
    case CellKind::kText:
      return TextValue(column, Clean(cell.text));
    case CellKind::kJson:
      return Value::Json(cell.text);
    case CellKind::kBytes:
      return IsUtf8(cell.text) ? Value::String(cell.text) : Value::Json(TextOf(cell));
    default:
      return Value::String(TextOf(cell));
  }
}

Status RowMaker::SetField(const InputColumn& column, const InputCell& cell) {
  Field field{column.column, column.name, {}};
  const bool named = column.column != Column::kAttribute;
  const bool number = cell.kind == CellKind::kInt || cell.kind == CellKind::kFloat;
  if (column.needs_unit && cell.kind != CellKind::kLength) {
    return InvalidArgument(Named(column) + " has no unit: cast it to a duration, or name it " + column.name +
                           "_ns when it is nanoseconds");
  }
  if (named && column.type == ColumnType::kInt && cell.kind == CellKind::kFloat) {
    if (std::isnan(cell.number)) return OkStatus();
    const auto whole = WholeNumber(cell);
    const bool is_minus_zero = cell.number == 0 && std::signbit(cell.number);
    field.value = whole && !is_minus_zero ? Value::Int(*whole) : Value::Float(cell.number);
  } else if (named && column.type == ColumnType::kFloat && cell.kind == CellKind::kInt) {
    field.value = Value::Float(static_cast<double>(cell.integer));
  } else if (named && column.type == ColumnType::kString && (number || cell.kind == CellKind::kBool)) {
    field.value = Value::String(TextOf(cell));
  } else {
    field.value = AttributeValue(column, cell);
  }
  fields_.push_back(field);
  return OkStatus();
}

Status RowMaker::SetTimes() {
  const auto beyond = [] { return InvalidArgument("the times of the row are out of range"); };
  if (!start_ns_ && end_ns_ && duration_ns_) {
    std::int64_t start = 0;
    if (__builtin_sub_overflow(*end_ns_, *duration_ns_, &start)) return beyond();
    start_ns_ = start;
  }
  if (!start_ns_) return InvalidArgument("it has no start: a column `start` (timestamp) or `start_ns` is needed");
  if (!duration_ns_ && end_ns_) {
    std::int64_t duration = 0;
    if (__builtin_sub_overflow(*end_ns_, *start_ns_, &duration)) return beyond();
    duration_ns_ = duration;
  }
  row_.start_ns = *start_ns_;
  row_.duration_ns = duration_ns_ && *duration_ns_ >= 0 ? *duration_ns_ : -1;
  return OkStatus();
}

// From what the row says and where it stands, so that the same input gives the same ids again.
void RowMaker::MakeIds() {
  const auto put = [this](const auto& value) { hashed_.append(reinterpret_cast<const char*>(&value), sizeof value); };
  const auto put_text = [&](std::string_view text) {
    put(text.size());
    hashed_ += text;
  };
  hashed_.clear();
  put(number_);
  put(row_.start_ns);
  put(row_.duration_ns);
  put(row_.kind);
  put(row_.status);
  put(parent_id_.value_or(0));
  put(trace_id_.value_or(TraceId{}));
  put(span_id_.value_or(0));
  put_text(row_.name);
  for (const Field& field : fields_) {
    put_text(field.name);
    put(field.value.type);
    put(field.value.type == ValueType::kBool ? std::int64_t{field.value.boolean} : field.value.integer);
    put_text(field.value.text);
  }
  const auto hash = [this](std::uint64_t seed) { return Hash64(std::as_bytes(std::span(hashed_)), seed); };
  if (!span_id_) span_id_ = std::max<SpanId>(1, hash(1));
  if (trace_id_) return;
  TraceId& id = trace_id_.emplace();
  const auto milliseconds = static_cast<std::uint64_t>(std::max<std::int64_t>(0, row_.start_ns / 1'000'000));
  for (std::size_t i = 0; i < 6; ++i) id.bytes[i] = static_cast<std::uint8_t>(milliseconds >> (40 - 8 * i));
  const std::uint64_t first = hash(2), second = hash(3) | 1;
  std::memcpy(&id.bytes[6], &first, 8);
  std::memcpy(&id.bytes[14], &second, 2);
}

Result<const SpanRow*> RowMaker::Finish() {
  SPANBOX_RETURN_IF_ERROR(SetTimes());
  if (!types_.empty()) ApplyTypes(types_, fields_);
  if (!trace_id_ || !span_id_) MakeIds();
  row_.trace_id = *trace_id_;
  row_.span_id = *span_id_;
  row_.parent_id = parent_id_.value_or(0);
  row_.fields = fields_;
  return &row_;
}

}  // namespace spanbox
