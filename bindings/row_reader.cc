#include "row_reader.h"

#include <limits>
#include <optional>

#include "capture_settings.h"
#include "casters.h"
#include "redaction.h"

namespace py = pybind11;

namespace spanbox::python {
namespace {

constexpr CaptureLimits kNoLimits{.bytes = std::numeric_limits<std::uint32_t>::max(),
                                  .nodes = std::numeric_limits<std::uint32_t>::max(),
                                  .depth = kMaxCaptureDepth,
                                  .redact_keys = false,
                                  .redact_text = false,
                                  .value_bytes = std::numeric_limits<std::uint32_t>::max()};

}  // namespace

void RowReader::Add(std::size_t index, const py::dict& row) {
  index_ = index;
  const TraceId trace = ParseId<TraceId>(row, "trace_id", TraceIdFromHex, "32");
  const SpanId span = ParseId<SpanId>(row, "span_id", SpanIdFromHex, "16");
  const SpanId parent = Has(row, "parent_id") ? ParseId<SpanId>(row, "parent_id", SpanIdFromHex, "16") : 0;
  std::string name = Has(row, "name") ? Str(row, "name") : "";
  if (redact_) name = RedactedName(name);
  const SpanKind kind = OneOf(row, "kind", SpanKindFromString, SpanKind::kSpan);
  const SpanStatus status = OneOf(row, "status", SpanStatusFromString, SpanStatus::kOk);

  ByteBuffer& start = payloads_.emplace_back();
  RecordWriter(start).Start(trace, span, parent, Int(row, "start_ns"), kind, name);
  ByteBuffer& end = payloads_.emplace_back();
  RecordWriter record(end);
  record.End(span, Has(row, "duration_ns") ? Int(row, "duration_ns") : -1, status);
  AddFields(row, record);
  const RecordView records[] = {{RecordType::kStart, start.bytes()}, {RecordType::kEnd, end.bytes()}};
  rows_.push_back(Unwrap(AssembleSpan(records, arena_)));
}

void RowReader::AddSpan(std::size_t index, const py::dict& span) {
  if (!span.contains("attributes") || !PyDict_Check(py::object(span["attributes"]).ptr())) return Add(index, span);
  py::dict row(py::reinterpret_borrow<py::dict>(py::object(span["attributes"])).attr("copy")());
  for (const char* const key :
       {"trace_id", "span_id", "parent_id", "name", "kind", "status", "start_ns", "duration_ns"}) {
    if (span.contains(key)) row[key] = span[key];
  }
  Add(index, row);
}

std::span<const Field> RowReader::AddAttributes(const py::dict& attributes) {
  ByteBuffer& end = payloads_.emplace_back();
  RecordWriter record(end);
  record.End(1, 0, SpanStatus::kOk);
  Capture capture(record, kNoLimits);
  for (const auto& [key, value] : attributes) {
    if (!PyUnicode_Check(key.ptr())) Throw(InvalidArgument("attribute names must be text"));
    capture.AddValue(Column::kAttribute, Utf8(key.ptr()).view(), value.ptr());
  }
  const RecordView records[] = {{RecordType::kEnd, end.bytes()}};
  rows_.push_back(Unwrap(AssembleSpan(records, arena_)));
  return rows_.back().fields;
}

const SpanRow& RowReader::AddColumns(const py::dict& row) {
  const SpanKind kind = OneOf(row, "kind", SpanKindFromString, SpanKind::kSpan);
  ByteBuffer& end = payloads_.emplace_back();
  RecordWriter record(end);
  record.End(1, 0, SpanStatus::kOk);
  AddFields(row, record);
  const RecordView records[] = {{RecordType::kEnd, end.bytes()}};
  rows_.push_back(Unwrap(AssembleSpan(records, arena_)));
  rows_.back().kind = kind;
  return rows_.back();
}

bool RowReader::Has(const py::dict& row, const char* key) { return row.contains(key) && !row[key].is_none(); }

void RowReader::Wrong(const std::string& what) const {
  Throw(InvalidArgument("row " + std::to_string(index_) + ": " + what));
}

std::string RowReader::Str(const py::dict& row, const char* key) const {
  const py::object value = row[key];
  if (!PyUnicode_Check(value.ptr())) Wrong(std::string(key) + " must be text");
  return std::string(Utf8(value.ptr()).view());
}

std::int64_t RowReader::Int(const py::dict& row, const char* key) const {
  if (!Has(row, key)) Wrong(std::string(key) + " is missing");
  const py::object value = row[key];
  int overflow = 0;
  const std::int64_t integer = PyLong_Check(value.ptr()) ? PyLong_AsLongLongAndOverflow(value.ptr(), &overflow) : -1;
  if (!PyLong_Check(value.ptr()) || overflow != 0) Wrong(std::string(key) + " must be a 64-bit int of nanoseconds");
  return integer;
}

template <typename Id, typename Parse>
Id RowReader::ParseId(const py::dict& row, const char* key, Parse parse, const char* digits) const {
  if (!Has(row, key)) Wrong(std::string(key) + " is missing");
  const auto id = parse(Str(row, key));
  if (!id) Wrong(std::string(key) + " must be " + digits + " hexadecimal digits, not all zero");
  return *id;
}

template <typename T, typename Parse>
T RowReader::OneOf(const py::dict& row, const char* key, Parse parse, T otherwise) const {
  if (!Has(row, key)) return otherwise;
  const std::string text = Str(row, key);
  const auto value = parse(text);
  if (!value) Wrong(std::string(key) + " \"" + text + "\" is none of the known ones");
  return *value;
}

void RowReader::AddFields(const py::dict& row, RecordWriter& record) {
  CaptureLimits limits = kNoLimits;
  limits.redact_keys = limits.redact_text = redact_ && process_limits.redact_text;
  Capture capture(record, limits);
  for (const auto& [key, value] : row) {
    if (!PyUnicode_Check(key.ptr())) Wrong("column names must be text");
    const Utf8 column_name(key.ptr());
    const ColumnInfo* info = FindColumn(column_name.view());
    const bool identity = info != nullptr && info->name == column_name.view() && info->column <= Column::kDurationNs;
    if (!identity) capture.AddNamed(key.ptr(), value.ptr());
  }
}

}  // namespace spanbox::python
