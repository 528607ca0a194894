// Table, Store and Ingest: the asking half of the module, pybind11.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "spanbox/query.h"
#include "spanbox/recorder.h"

namespace spanbox::python {

struct PyStore {
  std::shared_ptr<Store> store;
  RecoveryReport recovery;
  unsigned threads = 1;  // of a question
};

struct PyTable {
  std::shared_ptr<const Table> table;
};

template <typename Function>
auto WithoutGil(Function function) {
  pybind11::gil_scoped_release release;
  return function();
}

// A question that Ctrl-C ends.
using OptionalNs = std::optional<std::int64_t>;
SpanQuery MakeQuery(const PyStore& self, std::string filter, OptionalNs since_ns, OptionalNs until_ns,
                    bool scores = false);

void RegisterTable(pybind11::module_& module);
void RegisterStore(pybind11::module_& module);
void RegisterTraces(pybind11::class_<PyStore>& store);  // its methods about traces and sessions
void RegisterFeeds(pybind11::class_<PyStore>& store);   // its methods about feeds
void RegisterDocuments(pybind11::class_<PyStore>& store);
void RegisterWire(pybind11::module_& module, pybind11::class_<PyStore>& store);
void RegisterIngest(pybind11::module_& module);
void RegisterHandOver(pybind11::module_& module);

// configure, flush, health, recording_path.
void RegisterRecording(pybind11::module_& module);

// A dict each, with the keyword arguments of score(), and at_ns. ValueError names the one that is wrong.
std::size_t AppendScores(PyStore& self, const pybind11::sequence& scores);

pybind11::object NewTable(Table table);
pybind11::object NewTable(std::shared_ptr<const Table> table);
const char* TypeName(TableColumn::Type type);
pybind11::tuple Pair(const SampledOut& sampled_out);  // included, excluded

}  // namespace spanbox::python
