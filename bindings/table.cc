// Table: a query's result, as Python lists or through the Arrow PyCapsule interface.
#include <pybind11/stl.h>

#include <limits>
#include <optional>

#include "arrow_capsule.h"
#include "casters.h"
#include "query.h"
#include "query/arrow.h"

namespace py = pybind11;

namespace spanbox::python {
namespace {

py::object Cell(const TableColumn& column, std::uint64_t row) {
  if (!column.valid.empty() && column.valid[row] == 0) return py::none();
  switch (column.type) {
    case TableColumn::Type::kInt:
    case TableColumn::Type::kTimestampNs:
      return py::int_(column.ints[row]);
    case TableColumn::Type::kFloat:
      return py::float_(column.floats[row]);
    case TableColumn::Type::kBool:
      return py::bool_(column.ints[row] != 0);
    case TableColumn::Type::kString:
      break;
  }
  return py::none();
}

py::list ColumnValues(const PyTable& self, const std::string& name) {
  for (const TableColumn& column : self.table->columns) {
    if (column.name != name) continue;
    py::list values(self.table->rows);
    JsonLoads parse_json;
    std::vector<py::object> dictionary;
    for (const std::string& entry : column.dictionary) {
      const bool parsed = column.is_json && !entry.empty();
      dictionary.push_back(parsed ? parse_json(Text(entry)) : py::object(Text(entry)));
    }
    for (std::uint64_t row = 0; row < self.table->rows; ++row) {
      const bool is_text = column.type == TableColumn::Type::kString;
      const bool present = column.valid.empty() || column.valid[row] != 0;
      values[row] = is_text && present ? dictionary[column.codes[row]] : Cell(column, row);
    }
    return values;
  }
  throw py::key_error(name);
}

}  // namespace

py::tuple Pair(const SampledOut& sampled_out) { return py::make_tuple(sampled_out.included, sampled_out.excluded); }

const char* TypeName(TableColumn::Type type) {
  switch (type) {
    case TableColumn::Type::kInt:
      return "int";
    case TableColumn::Type::kFloat:
      return "float";
    case TableColumn::Type::kBool:
      return "bool";
    case TableColumn::Type::kString:
      return "string";
    case TableColumn::Type::kTimestampNs:
      return "timestamp";
  }
  return "";
}

py::object NewTable(std::shared_ptr<const Table> table) { return py::cast(PyTable{std::move(table)}); }
py::object NewTable(Table table) { return py::cast(PyTable{std::make_shared<const Table>(std::move(table))}); }

void RegisterTable(py::module_& module) {
  py::class_<PyTable>(module, "Table", "A query's result: named columns of equal length.", py::is_final())
      .def_property_readonly("rows", [](const PyTable& self) { return self.table->rows; })
      .def_property_readonly("column_names",
                             [](const PyTable& self) {
                               py::list names;
                               for (const TableColumn& column : self.table->columns) names.append(Text(column.name));
                               return names;
                             })
      .def_property_readonly("column_types",
                             [](const PyTable& self) {
                               py::list types;
                               for (const TableColumn& column : self.table->columns)
                                 types.append(TypeName(column.type));
                               return types;
                             })
      .def_property_readonly("sampled_out", [](const PyTable& self) { return Pair(self.table->sampled_out); })
      .def(
          "ordered",
          [](const PyTable& self, const std::string& order_by, bool descending, std::optional<std::uint64_t> limit) {
            constexpr auto kAll = std::numeric_limits<std::uint64_t>::max();
            return NewTable(Unwrap(Ordered(*self.table, order_by, descending, limit.value_or(kAll))));
          },
          py::arg("order_by"), py::arg("descending"), py::arg("limit"))
      .def("column", ColumnValues, py::arg("name"), "Values of one column, None where absent.")
      .def(
          "__arrow_c_stream__",
          [](const PyTable& self, const py::object&) {
            auto stream = std::make_unique<ArrowArrayStream>();
            ExportStream(self.table, stream.get());
            return Capsule(std::move(stream), "arrow_array_stream");
          },
          py::arg("requested_schema") = py::none())
      .def("__arrow_c_schema__", [](const PyTable& self) {
        auto schema = std::make_unique<ArrowSchema>();
        ExportSchema(*self.table, schema.get());
        return Capsule(std::move(schema), "arrow_schema");
      });
}

}  // namespace spanbox::python
