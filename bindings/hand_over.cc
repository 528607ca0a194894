// SpanStream: answers of any size for other libraries; and the answers of those as a Table.
#include <pybind11/stl.h>

#include "arrow_capsule.h"
#include "casters.h"
#include "query.h"
#include "query/span_stream.h"

namespace py = pybind11;

namespace spanbox::python {
namespace {

struct PySpanStream {
  std::shared_ptr<const SpanStream> stream;
};

// The tables of a stream, one after the other.
struct PyTables {
  TableSource next;
};

// Without a look at signals: whoever reads a stream may do so on a thread that must not wait for the GIL.
PySpanStream MakeStream(const PyStore& store, std::string filter, std::optional<std::int64_t> since_ns,
                        std::optional<std::int64_t> until_ns, std::vector<std::string> columns,
                        std::optional<std::uint64_t> limit, bool lazy, bool scores, bool types) {
  SpanQuery query{.filter = std::move(filter), .about = scores ? About::kScores : About::kSpans};
  if (since_ns) query.since_ns = *since_ns;
  if (until_ns) query.until_ns = *until_ns;
  ScanOptions options{.columns = std::move(columns)};
  if (limit) options.limit = *limit;
  const auto make = [&] {
    const py::gil_scoped_release release;
    return SpanStream::Make(store.store, query, options, lazy, types);
  };
  return {Unwrap(make(), Wrong::kFilter)};
}

py::object NextTable(PyTables& self) {
  const auto next = [&] {
    const py::gil_scoped_release release;
    return self.next();
  };
  auto table = Unwrap(next());
  if (table == nullptr) throw py::stop_iteration();
  return NewTable(std::move(table));
}

py::list ColumnList(const PySpanStream& self) {
  py::list columns;
  for (std::size_t i = 0; i < self.stream->schema()->columns.size(); ++i) {
    const TableColumn& column = self.stream->schema()->columns[i];
    columns.append(
        py::make_tuple(Text(column.name), TypeName(column.type), static_cast<bool>(self.stream->is_uniform()[i])));
  }
  return columns;
}

py::object TableOf(const py::capsule& capsule) {
  ArrowArrayStream* const stream = StreamOf(capsule);
  if (stream->release == nullptr) Throw(InvalidArgument("the Arrow stream has been read already"));
  const auto read = [&] {
    const py::gil_scoped_release release;
    return TableOfStream(ArrowOwned<ArrowArrayStream>(stream));
  };
  return NewTable(Unwrap(read()));
}

}  // namespace

void RegisterHandOver(py::module_& module) {
  using namespace py::literals;
  py::class_<PyTables>(module, "Tables", "The tables of a SpanStream.", py::is_final())
      .def("__iter__", [](py::object self) { return self; })
      .def("__next__", NextTable);
  py::class_<PySpanStream>(module, "SpanStream", "Spans that match, in tables of one schema.", py::is_final())
      .def(py::init(&MakeStream), "store"_a, "filter"_a, "since_ns"_a, "until_ns"_a, "columns"_a, "limit"_a, "lazy"_a,
           "scores"_a = false, "types"_a = false)
      .def_property_readonly("columns", ColumnList)
      .def("__iter__", [](const PySpanStream& self) { return PyTables{self.stream->Read()}; })
      .def(
          "__arrow_c_stream__",
          [](const PySpanStream& self, const py::object&) {
            auto stream = std::make_unique<ArrowArrayStream>();
            ExportStream(self.stream->schema(), self.stream->Read(), stream.get());
            return Capsule(std::move(stream), "arrow_array_stream");
          },
          py::arg("requested_schema") = py::none())
      .def("__arrow_c_schema__", [](const PySpanStream& self) {
        auto schema = std::make_unique<ArrowSchema>();
        ExportSchema(*self.stream->schema(), schema.get());
        return Capsule(std::move(schema), "arrow_schema");
      });
  module.def("table_of", TableOf, "stream"_a);
}

}  // namespace spanbox::python
