#include "casters.h"

namespace py = pybind11;

namespace spanbox::python {
namespace {

// Exceptions live as long as the interpreter; the module holds the references.
struct Exceptions {
  PyObject* base = nullptr;
  PyObject* filter = nullptr;
  PyObject* not_found = nullptr;
  PyObject* corruption = nullptr;
  PyObject* store_full = nullptr;
  PyObject* store = nullptr;
};
Exceptions exceptions;

PyObject* NewException(py::module_& module, const char* name, const char* doc, py::tuple bases) {
  const std::string qualified = std::string("spanbox.") + name;
  PyObject* type = PyErr_NewExceptionWithDoc(qualified.c_str(), doc, bases.ptr(), nullptr);
  if (type == nullptr) throw py::error_already_set();
  module.add_object(name, py::reinterpret_borrow<py::object>(type));
  return type;
}

py::object Builtin(PyObject* type) { return py::reinterpret_borrow<py::object>(type); }

PyObject* ExceptionFor(StatusCode code, Wrong wrong) {
  switch (code) {
    case StatusCode::kInvalidArgument:
      return wrong == Wrong::kFilter ? exceptions.filter : wrong == Wrong::kStore ? exceptions.store : PyExc_ValueError;
    case StatusCode::kNotFound:
      return exceptions.not_found;
    case StatusCode::kDataLoss:
      return exceptions.corruption;
    case StatusCode::kResourceExhausted:
      return exceptions.store_full;
    case StatusCode::kPermissionDenied:
    case StatusCode::kUnsupported:
    case StatusCode::kUnavailable:
      return exceptions.store;
    case StatusCode::kOk:
    case StatusCode::kCancelled:  // by a signal's exception, which Throw passes on
    case StatusCode::kInternal:
      break;
  }
  return exceptions.base;
}

}  // namespace

void RegisterExceptions(py::module_& module) {
  exceptions.base = NewException(module, "SpanboxError", "Anything spanbox itself has to report.",
                                 py::make_tuple(Builtin(PyExc_Exception)));
  const py::object base = Builtin(exceptions.base);
  exceptions.filter =
      NewException(module, "FilterError", "A filter, column or aggregate that is wrong; the message shows where.",
                   py::make_tuple(base, Builtin(PyExc_ValueError)));
  exceptions.not_found = NewException(module, "NotFoundError", "No such store, trace or span.",
                                      py::make_tuple(base, Builtin(PyExc_LookupError)));
  exceptions.corruption =
      NewException(module, "CorruptionError", "Stored bytes fail their checks.", py::make_tuple(base));
  exceptions.store_full =
      NewException(module, "StoreFullError", "The disk or the store's limit is full.", py::make_tuple(base));
  exceptions.store =
      NewException(module, "StoreError", "The store cannot be opened or used as asked.", py::make_tuple(base));
}

void Throw(const Status& status, Wrong wrong) {
  if (status.code() == StatusCode::kCancelled && PyErr_Occurred() != nullptr) throw py::error_already_set();
  PyErr_SetString(ExceptionFor(status.code(), wrong), status.message().c_str());
  throw py::error_already_set();
}

py::str Text(std::string_view utf8) {
  PyObject* text = PyUnicode_DecodeUTF8(utf8.data(), static_cast<Py_ssize_t>(utf8.size()), "replace");
  if (text == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::str>(text);
}

}  // namespace spanbox::python
