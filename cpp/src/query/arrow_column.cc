#include "query/arrow_column.h"

#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/moment.h"
#include "base/msgpack.h"

namespace spanbox {
namespace {

using Kind = ArrowType::Kind;
using Layout = ArrowType::Layout;

constexpr std::int64_t kMaxRows = std::int64_t{1} << 48;
constexpr std::size_t kMaxJsonBytes = std::size_t{256} << 20;  // a list of nulls has no buffers that bound its length
constexpr std::int64_t kDayNs = 86'400'000'000'000;

__extension__ typedef __int128 Int128;

template <typename T>
T LoadAt(const void* base, std::int64_t index) {
  T value;
  std::memcpy(&value, static_cast<const char*>(base) + index * static_cast<std::int64_t>(sizeof value), sizeof value);
  return value;
}

double HalfFloat(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const int mantissa = bits & 1023;
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == 31) return mantissa == 0 ? sign * std::numeric_limits<double>::infinity() : std::nan("");
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

// A view of utf8_view: the text, or where it lies.
struct View {
  std::int32_t size, prefix, buffer, offset;
};
static_assert(sizeof(View) == 16);
constexpr std::int32_t kInlineBytes = 12;

std::int64_t BuffersOf(const ArrowType& type) {
  switch (type.layout) {
    case Layout::kNone:
      return 0;
    case Layout::kChildren:
    case Layout::kFixedList:
      return 1;
    case Layout::kOffsets32:
    case Layout::kOffsets64:
      return type.kind == Kind::kText || type.kind == Kind::kBytes ? 3 : 2;
    default:
      return 2;
  }
}

InputCell IntCell(std::int64_t value) { return {.kind = InputCell::Kind::kInt, .integer = value}; }
InputCell TextCell(std::string_view text) { return {.kind = InputCell::Kind::kText, .text = text}; }
InputCell WrongCell(std::string_view why) { return {.kind = InputCell::Kind::kWrong, .text = why}; }

void AppendNumber(std::int64_t value, std::string& json) { json += std::to_string(value); }

}  // namespace

ArrowColumn::ArrowColumn(ArrowType type) : type_(std::move(type)) {
  for (const ArrowType& child : type_.children) children_.emplace_back(child);
  if (type_.dictionary != nullptr) dictionary_ = std::make_unique<ArrowColumn>(*type_.dictionary);
}

Status ArrowColumn::Wrong(std::string_view what) const {
  return InvalidArgument("the Arrow data of column \"" + type_.name + "\" is damaged: " + std::string(what));
}

Status ArrowColumn::Bind(const ArrowArray* array, std::int64_t rows) {
  if (array == nullptr || array->release == nullptr) return Wrong("an array is missing");
  if (array->length < 0 || array->offset < 0 || array->length > kMaxRows || array->offset > kMaxRows) {
    return Wrong("a length or offset is out of range");
  }
  if (rows < 0 || rows > array->length) return Wrong("an array is too short");
  const std::int64_t buffers = BuffersOf(type_);
  const bool views = type_.layout == Layout::kViews;
  if (views ? array->n_buffers < 3 : array->n_buffers != buffers) return Wrong("it has a wrong number of buffers");
  if (array->n_buffers > 0 && array->buffers == nullptr) return Wrong("its buffers are missing");
  array_ = array;
  offset_ = array->offset;
  validity_ = buffers > 0 ? static_cast<const std::uint8_t*>(array->buffers[0]) : nullptr;
  data_ = buffers > 1 ? static_cast<const std::uint8_t*>(array->buffers[1]) : nullptr;
  if (buffers > 1 && data_ == nullptr && rows > 0 && !(type_.layout == Layout::kFixed && type_.width == 0)) {
    return Wrong("a buffer is missing");
  }
  if (array->null_count == 0) validity_ = nullptr;
  if (dictionary_ == nullptr) return BindChildren(*array, rows);

  if (array->dictionary == nullptr) return Wrong("its dictionary is missing");
  const std::int64_t entries = array->dictionary->length;
  SPANBOX_RETURN_IF_ERROR(dictionary_->Bind(array->dictionary, entries));
  for (std::int64_t row = 0; row < rows; ++row) {
    if (validity_ != nullptr && (validity_[(offset_ + row) / 8] >> ((offset_ + row) % 8) & 1) == 0) continue;
    const std::int64_t index = IntAt(row);
    if (index < 0 || index >= entries) return Wrong("an index is outside of its dictionary");
  }
  return OkStatus();
}

Status ArrowColumn::BindChildren(const ArrowArray& array, std::int64_t rows) {
  if (array.n_children != static_cast<std::int64_t>(children_.size()) ||
      (array.n_children > 0 && array.children == nullptr)) {
    return Wrong("it has a wrong number of children");
  }
  switch (type_.layout) {
    case Layout::kOffsets32:
      return BindOffsets<std::int32_t>(array, rows);
    case Layout::kOffsets64:
      return BindOffsets<std::int64_t>(array, rows);
    case Layout::kViews:
      return BindViews(array, rows);
    case Layout::kFixedList: {
      std::int64_t entries = 0;
      if (__builtin_mul_overflow(offset_ + rows, type_.width, &entries)) return Wrong("a length is out of range");
      return children_[0].Bind(array.children[0], entries);
    }
    case Layout::kChildren:
      for (std::size_t i = 0; i < children_.size(); ++i) {
        SPANBOX_RETURN_IF_ERROR(children_[i].Bind(array.children[i], offset_ + rows));
      }
      return OkStatus();
    default:
      return OkStatus();
  }
}

template <typename Offset>
Status ArrowColumn::BindOffsets(const ArrowArray& array, std::int64_t rows) {
  if (rows == 0) return children_.empty() ? OkStatus() : children_[0].Bind(array.children[0], 0);
  const Offset first = LoadAt<Offset>(data_, offset_);
  Offset last = first;
  if (first < 0) return Wrong("an offset is out of range");
  for (std::int64_t row = 0; row < rows; ++row) {
    const Offset next = LoadAt<Offset>(data_, offset_ + row + 1);
    if (next < last) return Wrong("its offsets go backwards");
    last = next;
  }
  if (!children_.empty()) return children_[0].Bind(array.children[0], last);
  bytes_ = static_cast<const char*>(array.buffers[2]);
  if (bytes_ == nullptr && last > first) return Wrong("its text is missing");
  return OkStatus();
}

Status ArrowColumn::BindViews(const ArrowArray& array, std::int64_t rows) {
  const std::int64_t variadic = array.n_buffers - 3;
  const void* const sizes = array.buffers[array.n_buffers - 1];
  if (variadic > 0 && sizes == nullptr) return Wrong("the sizes of its buffers are missing");
  for (std::int64_t row = 0; row < rows; ++row) {
    if (!Has(row)) continue;
    const View view = LoadAt<View>(data_, offset_ + row);
    if (view.size < 0) return Wrong("a length is out of range");
    if (view.size <= kInlineBytes) continue;
    if (view.buffer < 0 || view.buffer >= variadic || view.offset < 0 || array.buffers[2 + view.buffer] == nullptr ||
        std::int64_t{view.offset} + view.size > LoadAt<std::int64_t>(sizes, view.buffer)) {
      return Wrong("a text lies outside of its buffer");
    }
  }
  return OkStatus();
}

bool ArrowColumn::Has(std::int64_t row) const {
  if (type_.layout == Layout::kNone) return false;
  const std::int64_t at = offset_ + row;
  if (validity_ != nullptr && (validity_[at / 8] >> (at % 8) & 1) == 0) return false;
  return dictionary_ == nullptr || dictionary_->Has(IntAt(row));
}

template <typename T>
T ArrowColumn::Load(std::int64_t row) const {
  return LoadAt<T>(data_, offset_ + row);
}

// Of every kind that is an integer inside; what does not fit is negative (only of kUint).
std::int64_t ArrowColumn::IntAt(std::int64_t row) const {
  const bool is_signed = type_.kind != Kind::kUint;
  switch (type_.width) {
    case 1:
      return is_signed ? Load<std::int8_t>(row) : std::int64_t{Load<std::uint8_t>(row)};
    case 2:
      return is_signed ? Load<std::int16_t>(row) : std::int64_t{Load<std::uint16_t>(row)};
    case 4:
      return is_signed ? Load<std::int32_t>(row) : std::int64_t{Load<std::uint32_t>(row)};
    default:
      return Load<std::int64_t>(row);
  }
}

std::string_view ArrowColumn::BytesAt(std::int64_t row) const {
  const auto between = [&](std::int64_t begin, std::int64_t end) {
    return begin == end ? std::string_view() : std::string_view(bytes_ + begin, static_cast<std::size_t>(end - begin));
  };
  switch (type_.layout) {
    case Layout::kOffsets32:
      return between(Load<std::int32_t>(row), Load<std::int32_t>(row + 1));
    case Layout::kOffsets64:
      return between(Load<std::int64_t>(row), Load<std::int64_t>(row + 1));
    case Layout::kViews: {
      const View view = Load<View>(row);
      const char* const text = view.size <= kInlineBytes
                                   ? reinterpret_cast<const char*>(data_ + (offset_ + row) * sizeof(View) + 4)
                                   : static_cast<const char*>(array_->buffers[2 + view.buffer]) + view.offset;
      return {text, static_cast<std::size_t>(view.size)};
    }
    default: {
      const auto width = static_cast<std::size_t>(type_.width);
      return width == 0
                 ? std::string_view()
                 : std::string_view(
                       reinterpret_cast<const char*>(data_) + static_cast<std::size_t>(offset_ + row) * width, width);
    }
  }
}

// Begin and end of a list's entries.
std::pair<std::int64_t, std::int64_t> ArrowColumn::EntriesAt(std::int64_t row) const {
  switch (type_.layout) {
    case Layout::kOffsets32:
      return {Load<std::int32_t>(row), Load<std::int32_t>(row + 1)};
    case Layout::kOffsets64:
      return {Load<std::int64_t>(row), Load<std::int64_t>(row + 1)};
    default:
      return {(offset_ + row) * type_.width, (offset_ + row + 1) * type_.width};
  }
}

InputCell ArrowColumn::NumberAt(std::int64_t row, std::string& scratch) const {
  if (type_.kind == Kind::kFloat) {
    const double value = type_.width == 8   ? Load<double>(row)
                         : type_.width == 4 ? static_cast<double>(Load<float>(row))
                                            : HalfFloat(Load<std::uint16_t>(row));
    return {.kind = InputCell::Kind::kFloat, .number = value};
  }
  if (type_.kind == Kind::kDecimal) {
    const Int128 value = type_.width == 16 ? Load<Int128>(row) : IntAt(row);
    if (type_.scale == 0 && value == static_cast<std::int64_t>(value)) return IntCell(static_cast<std::int64_t>(value));
    const long double unit = std::pow(10.0L, static_cast<long double>(type_.scale));
    return {.kind = InputCell::Kind::kFloat, .number = static_cast<double>(static_cast<long double>(value) / unit)};
  }
  const std::int64_t value = IntAt(row);
  if (type_.kind == Kind::kInt || value >= 0) return IntCell(value);
  scratch = std::to_string(static_cast<std::uint64_t>(value));  // no number that is stored holds it exactly
  return TextCell(scratch);
}

InputCell ArrowColumn::TimeAt(std::int64_t row, std::string& scratch) const {
  std::int64_t value = IntAt(row);
  switch (type_.kind) {
    case Kind::kDay:
      scratch = FormatDay(type_.unit_ns == 1 ? value : value / (kDayNs / type_.unit_ns));
      return TextCell(scratch);
    case Kind::kTime:
      if (value < 0 || value >= kDayNs / type_.unit_ns) return WrongCell("is no time of day");
      scratch = FormatTimeOfDay(value * type_.unit_ns);
      return TextCell(scratch);
    default:
      if (__builtin_mul_overflow(value, type_.unit_ns, &value)) return WrongCell("is out of range of nanoseconds");
      return {.kind = type_.kind == Kind::kMoment ? InputCell::Kind::kMoment : InputCell::Kind::kLength,
              .utc = type_.utc,
              .integer = value};
  }
}

InputCell ArrowColumn::Get(std::int64_t row, std::string& scratch) const {
  if (!Has(row)) return {};
  if (dictionary_ != nullptr) return dictionary_->Get(IntAt(row), scratch);
  switch (type_.kind) {
    case Kind::kNull:
      return {};
    case Kind::kBool: {
      const std::int64_t at = offset_ + row;
      return {.kind = InputCell::Kind::kBool, .integer = data_[at / 8] >> (at % 8) & 1};
    }
    case Kind::kInt:
    case Kind::kUint:
    case Kind::kFloat:
    case Kind::kDecimal:
      return NumberAt(row, scratch);
    case Kind::kText:
      return TextCell(BytesAt(row));
    case Kind::kBytes:
      return {.kind = InputCell::Kind::kBytes, .text = BytesAt(row)};
    case Kind::kMoment:
    case Kind::kLength:
    case Kind::kDay:
    case Kind::kTime:
      return TimeAt(row, scratch);
    default:
      scratch.clear();
      AppendJson(row, scratch);
      if (scratch.size() > kMaxJsonBytes) return WrongCell("is larger than 256 MiB as JSON");
      return {.kind = InputCell::Kind::kJson, .text = scratch};
  }
}

void ArrowColumn::AppendJson(std::int64_t row, std::string& json) const {
  if (!Has(row)) {
    json += "null";
    return;
  }
  if (dictionary_ != nullptr) return dictionary_->AppendJson(IntAt(row), json);
  if (!children_.empty() || type_.kind == Kind::kStruct) return AppendEntries(row, json);
  std::string scratch;
  const InputCell cell = Get(row, scratch);
  switch (cell.kind) {
    case InputCell::Kind::kBool:
      json += cell.integer != 0 ? "true" : "false";
      break;
    case InputCell::Kind::kInt:
    case InputCell::Kind::kLength:
      AppendNumber(cell.integer, json);
      break;
    case InputCell::Kind::kFloat:
      AppendJsonFloat(cell.number, json);
      break;
    case InputCell::Kind::kMoment:
      AppendJsonString(FormatMoment(cell.integer, cell.utc), json);
      break;
    case InputCell::Kind::kBytes:
      AppendJsonBytes(std::as_bytes(std::span(cell.text)), json);
      break;
    case InputCell::Kind::kText:
      AppendJsonString(cell.text, json);
      break;
    default:
      json += "null";
  }
}

void ArrowColumn::AppendEntries(std::int64_t row, std::string& json) const {
  if (type_.kind == Kind::kStruct) {
    char separator = '{';
    for (const ArrowColumn& child : children_) {
      json += separator;
      AppendJsonString(child.type_.name, json);
      json += ':';
      child.AppendJson(offset_ + row, json);
      separator = ',';
    }
    json += separator == '{' ? "{}" : "}";
    return;
  }
  const auto [begin, end] = EntriesAt(row);
  const bool map = type_.kind == Kind::kMap;
  json += map ? '{' : '[';
  for (std::int64_t i = begin; i < end && json.size() <= kMaxJsonBytes; ++i) {
    if (i > begin) json += ',';
    if (!map) {
      children_[0].AppendJson(i, json);
      continue;
    }
    const ArrowColumn& entry = children_[0];
    const std::size_t key = json.size();
    entry.children_[0].AppendJson(entry.offset_ + i, json);
    if (json[key] != '"') {  // keys of JSON are strings
      const std::string text = json.substr(key);
      json.resize(key);
      AppendJsonString(text, json);
    }
    json += ':';
    entry.children_[1].AppendJson(entry.offset_ + i, json);
  }
  json += map ? '}' : ']';
}

}  // namespace spanbox
