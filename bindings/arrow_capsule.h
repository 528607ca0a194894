// PyCapsules of the Arrow PyCapsule interface: schemas and streams on their way to another library.
//
// Thread rule: hold the GIL. Ownership: a capsule owns what it holds until a consumer takes it (and sets release to
// null).
#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "query/arrow_abi.h"

namespace spanbox::python {

template <typename Exported>
void FreeCapsule(PyObject* capsule) {
  auto* exported = static_cast<Exported*>(PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule)));
  if (exported->release != nullptr) exported->release(exported);
  delete exported;
}

template <typename Exported>
pybind11::object Capsule(std::unique_ptr<Exported> exported, const char* name) {
  PyObject* capsule = PyCapsule_New(exported.get(), name, FreeCapsule<Exported>);
  if (capsule == nullptr) {
    exported->release(exported.get());
    throw pybind11::error_already_set();
  }
  (void)exported.release();
  return pybind11::reinterpret_steal<pybind11::object>(capsule);
}

// What an arrow_array_stream capsule holds; it can be taken once.
inline ArrowArrayStream* StreamOf(const pybind11::capsule& capsule) {
  auto* const stream = static_cast<ArrowArrayStream*>(PyCapsule_GetPointer(capsule.ptr(), "arrow_array_stream"));
  if (stream == nullptr) throw pybind11::error_already_set();
  return stream;
}

}  // namespace spanbox::python
