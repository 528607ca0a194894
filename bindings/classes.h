// What can be learnt of an object without running its code: names, declared attributes, and the texts of classes of the
// standard library and of array libraries.
//
// A class is believed to be a library's when the library's module, loaded, holds that very class: a name says nothing.
//
// Thread rule: hold the GIL. Invariant: no exception is left set.
#pragma once

#include <Python.h>

#include <string>

namespace spanbox::python {

// A class attribute, found without running descriptors or __getattr__; borrowed, or nullptr.
PyObject* ClassAttribute(PyTypeObject* type, const char* name);

// The instance's __dict__; new reference, or nullptr.
PyObject* InstanceDict(PyObject* value);

// Its class was made by the standard library's enum.
bool IsEnumMember(PyObject* value);

// "2026-11-21 14:00:00", "12.50", "/srv/x" for dates, decimals, paths and the like; "<numpy.ndarray float64 [3, 4]>"
// for arrays, tensors and frames; empty for anything else.
std::string LibraryText(PyObject* value);

}  // namespace spanbox::python
