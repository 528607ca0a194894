// Ingest: tables that others made, into a store. Reading and storing let go of the GIL; a producer that needs it takes
// it for itself.
#include "query/ingest.h"

#include <pybind11/stl.h>

#include "arrow_capsule.h"
#include "casters.h"
#include "query.h"
#include "redaction.h"
#include "text_stage.h"

namespace py = pybind11;

namespace spanbox::python {
namespace {

// Takes what the capsule holds; a capsule is consumed once.
void TakeArrow(Ingest& self, const py::capsule& capsule) {
  ArrowArrayStream* const stream = StreamOf(capsule);
  Check(WithoutGil([&] { return self.TakeArrow(stream); }));
}

}  // namespace

void RegisterIngest(py::module_& module) {
  using namespace py::literals;
  py::class_<Ingest>(module, "Ingest", "Rows of others on their way into a store.", py::is_final())
      .def(py::init([](const PyStore& store, std::string name, bool skip_bad) {
             auto ingest = Unwrap(WithoutGil([&] { return Ingest::Start(store.store, std::move(name), skip_bad); }));
             if (RedactValue redact = WithStage(ValueRedactor())) ingest->SetRedact(std::move(redact));
             return ingest;
           }),
           "store"_a, "name"_a, "skip_bad"_a)
      .def_property_readonly("stored_before", &Ingest::stored_before)
      .def_property_readonly("rows", [](const Ingest& self) { return self.counts().rows; })
      .def_property_readonly("skipped", [](const Ingest& self) { return self.counts().skipped; })
      .def_property_readonly("bad", [](const Ingest& self) { return self.counts().bad; })
      .def_property_readonly("bytes", [](const Ingest& self) { return self.counts().bytes; })
      .def_property_readonly("problems",
                             [](const Ingest& self) {
                               py::list problems;
                               for (const std::string& problem : self.counts().problems) problems.append(Text(problem));
                               return problems;
                             })
      .def("set_first_row", &Ingest::SetFirstRow, "row"_a)
      .def("take_arrow", TakeArrow, "stream"_a)
      .def("step", [](Ingest& self) { return Unwrap(WithoutGil([&] { return self.Step(); })); })
      .def(
          "store_lines",
          [](Ingest& self, const py::bytes& lines, std::uint64_t first_line) {
            const std::string_view text = lines;
            Check(WithoutGil([&] { return self.StoreLines(text, first_line); }));
          },
          "lines"_a, "first_line"_a);
}

}  // namespace spanbox::python
