// OTLP and the normaliser of attributes. Decoding, encoding and storing let go of the GIL.
#include <pybind11/stl.h>

#include <limits>

#include "casters.h"
#include "query.h"
#include "query/table_rows.h"
#include "redaction.h"
#include "row_reader.h"
#include "spanbox/otlp.h"
#include "text_stage.h"
#include "wire/normalise.h"
#include "wire/prices.h"

namespace py = pybind11;

namespace spanbox::python {
namespace {

OtlpForm FormOf(bool is_json) { return is_json ? OtlpForm::kJson : OtlpForm::kProtobuf; }

py::tuple ReceiveBody(PyStore& self, const py::bytes& body, bool is_json) {
  const std::string_view bytes = body;
  const RedactValue redact = WithStage(ValueRedactor());
  const OtlpReceipt receipt =
      Unwrap(WithoutGil([&] { return ReceiveOtlp(*self.store, bytes, FormOf(is_json), redact); }));
  return py::make_tuple(receipt.stored, receipt.duplicates, receipt.rejected, Text(receipt.message));
}

py::bytes EncodeRows(const py::object& rows, bool is_json, bool openinference) {
  if (py::isinstance<PyTable>(rows)) {
    const std::shared_ptr<const Table> table = rows.cast<PyTable&>().table;
    return py::bytes(Unwrap(WithoutGil([&]() -> Result<std::string> {
      OtlpWriter writer(FormOf(is_json), openinference);
      TableRows each(*table);
      for (std::uint64_t row = 0; row < table->rows; ++row) {
        SPANBOX_ASSIGN_OR_RETURN(const SpanRow* const span, each.Row(row));
        writer.Add(*span);
      }
      return writer.Finish();
    })));
  }
  RowReader reader;
  std::size_t index = 0;
  for (const py::handle row : rows) {
    if (!PyDict_Check(row.ptr())) Throw(InvalidArgument("row " + std::to_string(index) + " is not a dict"));
    reader.AddSpan(index++, py::reinterpret_borrow<py::dict>(row));
  }
  return py::bytes(WithoutGil([&] {
    OtlpWriter writer(FormOf(is_json), openinference);
    for (const SpanRow& span : reader.rows()) writer.Add(span);
    return writer.Finish();
  }));
}

py::object ValueObject(const Value& value, JsonLoads& parse_json) {
  switch (value.type) {
    case ValueType::kBool:
      return py::bool_(value.boolean);
    case ValueType::kInt:
      return py::int_(value.integer);
    case ValueType::kFloat:
      return py::float_(value.number);
    case ValueType::kJson:
      return parse_json(Text(value.text));
    default:
      return Text(value.text);
  }
}

py::dict NormaliseDict(const py::dict& attributes, std::optional<std::int64_t> start_ns) {
  RowReader reader;
  RowArena arena;
  std::vector<Field> fields;
  Normaliser normaliser;
  const SpanKind kind = normaliser.Normalise(reader.AddAttributes(attributes), {}, start_ns, arena, fields);
  JsonLoads parse_json;
  py::dict row;
  row["kind"] = std::string(ToString(kind));
  for (const Field& field : fields) {
    const bool named = field.column != Column::kAttribute;
    const std::string_view name = named ? Columns()[static_cast<std::size_t>(field.column)].name : field.name;
    row[Text(name)] = ValueObject(field.value, parse_json);
  }
  return row;
}

py::dict RestoreDict(const py::dict& row) {
  RowReader reader;
  RowArena arena;
  std::vector<Field> fields;
  Restorer().Restore(reader.AddColumns(row), arena, fields);
  JsonLoads parse_json;
  py::dict attributes;
  for (const Field& field : fields) attributes[Text(field.name)] = ValueObject(field.value, parse_json);
  return attributes;
}

py::list RuleList() {
  py::list rules;
  for (const Rule& rule : Rules()) {
    rules.append(py::make_tuple(Text(Columns()[static_cast<std::size_t>(rule.column)].name), Text(rule.key)));
  }
  return rules;
}

}  // namespace

void RegisterWire(py::module_& module, py::class_<PyStore>& store) {
  using namespace py::literals;
  store.def("receive_otlp", ReceiveBody, "body"_a, "is_json"_a);
  module.def("encode_otlp", EncodeRows, "rows"_a, "is_json"_a, "openinference"_a);
  module.def("normalise", NormaliseDict, "attributes"_a, "start_ns"_a = py::none());
  module.def("restore", RestoreDict, "row"_a);
  module.def("attribute_rules", RuleList);
  module.def(
      "set_price_file", [](std::string path) { Prices::Get().SetFile(std::move(path)); }, "path"_a);
  module.def(
      "set_own_prices", [](const py::str& json) { Check(Prices::Get().SetOwn(Utf8(json.ptr()).view())); }, "json"_a);
  module.attr("CONVENTIONS") = Text(kConventions);
}

}  // namespace spanbox::python
