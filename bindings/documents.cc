// Documents of a store: JSON with versions.
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <vector>

#include "casters.h"
#include "query.h"

namespace py = pybind11;

namespace spanbox::python {
namespace {

// Name, version, when it was put, and its JSON: None for a deletion.
py::tuple DocumentTuple(const Document& document) {
  const py::object json = document.deleted ? py::object(py::none()) : py::object(Text(document.json));
  return py::make_tuple(document.name, document.version, document.at_ns, json);
}

py::list DocumentTuples(const std::vector<Document>& documents) {
  py::list all;
  for (const Document& document : documents) all.append(DocumentTuple(document));
  return all;
}

// Without JSON: deletes it.
std::uint64_t Put(PyStore& self, const std::string& kind, const std::string& name,
                  const std::optional<std::string>& json, std::int64_t at_ns, std::optional<std::uint64_t> expected) {
  return Unwrap(WithoutGil([&] {
    return json ? self.store->PutDocument(kind, name, *json, at_ns, expected)
                : self.store->DeleteDocument(kind, name, at_ns, expected);
  }));
}

}  // namespace

void RegisterDocuments(py::class_<PyStore>& store) {
  using namespace py::literals;
  store.def("put_document", Put, "kind"_a, "name"_a, "json"_a, "at_ns"_a, "expected"_a)
      .def(
          "document",
          [](PyStore& self, const std::string& kind, const std::string& name, std::uint64_t version) {
            return DocumentTuple(Unwrap(WithoutGil([&] { return self.store->GetDocument(kind, name, version); })));
          },
          "kind"_a, "name"_a, "version"_a)
      .def(
          "documents",
          [](PyStore& self, const std::string& kind) {
            return DocumentTuples(Unwrap(WithoutGil([&] { return self.store->Documents(kind); })));
          },
          "kind"_a)
      .def(
          "document_history",
          [](PyStore& self, const std::string& kind, const std::string& name) {
            return DocumentTuples(Unwrap(WithoutGil([&] { return self.store->DocumentHistory(kind, name); })));
          },
          "kind"_a, "name"_a);
}

}  // namespace spanbox::python
