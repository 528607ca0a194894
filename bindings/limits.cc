// What spanbox.limit() is asked.
#include "limits.h"

#include <string_view>

#include "context.h"
#include "recording.h"

namespace spanbox::python {
namespace {

PyObject* SetLimitHook(PyObject*, PyObject* hook) {
  Py_XSETREF(limit_hook, hook == Py_None ? nullptr : Py_NewRef(hook));
  Py_RETURN_NONE;
}

// Spans around `context`, of this thread or task.
Py_ssize_t Depth(ContextObject* context) {
  Py_ssize_t depth = 0;
  for (; context != nullptr; context = context->parent) {
    if (IsSpan(reinterpret_cast<PyObject*>(context))) ++depth;
  }
  return depth;
}

PyObject* SpanDepth(PyObject*, PyObject*) {
  ContextObject* current = CurrentContext();
  const Py_ssize_t depth = Depth(current);
  Py_XDECREF(current);
  return PyLong_FromSsize_t(depth);
}

PyMethodDef functions[] = {{"set_limit_hook", SetLimitHook, METH_O, nullptr},
                           {"span_depth", SpanDepth, METH_NOARGS, nullptr},
                           {nullptr, nullptr, 0, nullptr}};

}  // namespace

bool AskLimits(SpanKind kind, PyObject* attributes) {
  ContextObject* current = CurrentContext();
  const Py_ssize_t depth = Depth(current);
  PyObject* tags = OrNone(current == nullptr ? nullptr : current->tags);
  Py_XDECREF(current);
  PyObject* hook = Py_NewRef(limit_hook);  // it may be taken away while it runs
  const std::string_view name = ToString(kind);
  PyObject* kind_name = PyUnicode_FromStringAndSize(name.data(), static_cast<Py_ssize_t>(name.size()));
  PyObject* spans = PyLong_FromSsize_t(depth);
  PyObject* answer = nullptr;
  if (kind_name != nullptr && spans != nullptr) {
    PyObject* told = attributes == nullptr ? Py_None : attributes;
    answer = PyObject_CallFunctionObjArgs(hook, kind_name, tags, spans, told, nullptr);
  }
  for (PyObject* each : {hook, kind_name, spans, tags, answer}) Py_XDECREF(each);
  return answer != nullptr;
}

int RegisterLimits(PyObject* module) { return PyModule_AddFunctions(module, functions); }

}  // namespace spanbox::python
