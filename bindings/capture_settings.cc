#include "capture_settings.h"

#include <algorithm>
#include <set>
#include <string>

#include "record/secret_names.h"

namespace spanbox::python {
namespace {

std::set<std::string, std::less<>>& DeniedNames() {
  static auto* names = new std::set<std::string, std::less<>>;
  return *names;
}

// set_capture(bytes, nodes, depth, denied_names)
PyObject* SetCapture(PyObject*, PyObject* args) {
  Py_ssize_t bytes = 0, nodes = 0;
  int depth = 0;
  PyObject* names = nullptr;
  if (PyArg_ParseTuple(args, "nniO!:set_capture", &bytes, &nodes, &depth, &PyTuple_Type, &names) == 0) {
    return nullptr;
  }
  if (bytes < 0 || nodes < 1 || nodes > 1'000'000'000 || depth < 1 || depth > kMaxCaptureDepth) {
    PyErr_SetString(PyExc_ValueError, "capture limits are out of range");
    return nullptr;
  }
  std::set<std::string, std::less<>> folded;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); ++i) {
    PyObject* name = PyTuple_GET_ITEM(names, i);
    if (!PyUnicode_Check(name)) return PyErr_Format(PyExc_TypeError, "names to redact are strings, not %R", name);
    folded.insert(FoldedName(Utf8(name).view()));
  }
  process_limits.value_bytes = static_cast<std::size_t>(bytes);
  process_limits.nodes = static_cast<std::uint32_t>(nodes);
  process_limits.depth = depth;
  has_denied_names = !folded.empty();
  DeniedNames() = std::move(folded);
  Py_RETURN_NONE;
}

// register_encoder(type, encode): encode None takes the type out again.
PyObject* RegisterEncoder(PyObject*, PyObject* args) {
  PyObject *type = nullptr, *encode = nullptr;
  if (PyArg_ParseTuple(args, "O!O:register_encoder", &PyType_Type, &type, &encode) == 0) return nullptr;
  if (registered_encoders == nullptr && encode == Py_None) Py_RETURN_NONE;
  PyObject* encoders = registered_encoders == nullptr ? PyDict_New() : PyDict_Copy(registered_encoders);
  if (encoders == nullptr) return nullptr;
  int failed = 0;
  if (encode != Py_None) {
    failed = PyDict_SetItem(encoders, type, encode);
  } else if (PyDict_Contains(encoders, type) == 1) {
    failed = PyDict_DelItem(encoders, type);
  }
  if (failed < 0) {
    Py_DECREF(encoders);
    return nullptr;
  }
  if (PyDict_GET_SIZE(encoders) == 0) Py_CLEAR(encoders);
  Py_XSETREF(registered_encoders, encoders);
  Py_RETURN_NONE;
}

// set_hidden(inputs, outputs)
PyObject* SetHidden(PyObject*, PyObject* args) {
  int inputs = 0, outputs = 0;
  if (PyArg_ParseTuple(args, "pp:set_hidden", &inputs, &outputs) == 0) return nullptr;
  hides_inputs = inputs != 0;
  hides_outputs = outputs != 0;
  Py_RETURN_NONE;
}

PyMethodDef functions[] = {{"set_hidden", SetHidden, METH_VARARGS, nullptr},
                           {"set_capture", SetCapture, METH_VARARGS, nullptr},
                           {"register_encoder", RegisterEncoder, METH_VARARGS, nullptr},
                           {nullptr, nullptr, 0, nullptr}};

}  // namespace

bool IsDeniedName(std::string_view name) {
  return name.size() <= kInlineBytes && DeniedNames().contains(FoldedName(name));
}

CaptureLimits RecordLimits(std::size_t max_payload_bytes) {
  CaptureLimits limits = process_limits;
  // Tags, names and a mark still have to fit behind the captured value.
  limits.bytes = std::min(CaptureLimits{}.bytes, max_payload_bytes / 2);
  return limits;
}

PyObject* EncoderOf(PyTypeObject* type) {
  if (registered_encoders == nullptr || type->tp_mro == nullptr) return nullptr;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(type->tp_mro); ++i) {
    PyObject* const base = PyTuple_GET_ITEM(type->tp_mro, i);
    // A metaclass may define __eq__ and __hash__: compared by identity, nothing of the user's runs.
    Py_ssize_t position = 0;
    PyObject *known = nullptr, *encode = nullptr;
    while (PyDict_Next(registered_encoders, &position, &known, &encode) != 0) {
      if (known == base) return encode;
    }
  }
  return nullptr;
}

int RegisterCapture(PyObject* module) { return PyModule_AddFunctions(module, functions); }

}  // namespace spanbox::python
