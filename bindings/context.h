// Which span code runs in: one ContextVar holds the innermost context, a Span, or a Tags block, which stands for the
// span around it plus more tags. A context is left by putting its parent back while it is still the innermost one,
// never by token, so leaving in another task than the one that entered is harmless.
//
// Thread rule: hold the GIL. Ownership: a context owns its parent.
// Invariant: nothing here leaves a Python exception set.
#pragma once

#include <Python.h>

#include "spanbox/span.h"

namespace spanbox::python {

struct ContextObject {
  PyObject_HEAD TraceId trace_id;
  SpanId span_id;         // 0: tags outside of any span
  PyObject* tags;         // bytes, encoded fields that every span below starts with; nullptr: none
  PyObject* span;         // the Span this context is, or is inside of; nullptr: none. A Span does not own itself.
  ContextObject* parent;  // what to put back; owned; nullptr: nothing
};

inline PyObject* context_var = nullptr;

// spanbox.off(): calls run as if undecorated, and nothing is opened. Guarded by the GIL.
inline bool recording_off = false;

// New reference, or nullptr when there is no context around.
inline ContextObject* CurrentContext() {
  PyObject* value = nullptr;
  if (PyContextVar_Get(context_var, nullptr, &value) < 0) PyErr_Clear();
  if (value == Py_None) Py_CLEAR(value);
  return reinterpret_cast<ContextObject*>(value);
}

// nullptr: no context.
inline void MakeCurrent(ContextObject* context) {
  PyObject* value = context == nullptr ? Py_None : reinterpret_cast<PyObject*>(context);
  PyObject* token = PyContextVar_Set(context_var, value);
  if (token == nullptr) PyErr_Clear();
  Py_XDECREF(token);
}

inline void LeaveContext(ContextObject* context) {
  ContextObject* current = CurrentContext();
  if (current == context) MakeCurrent(context->parent);
  Py_XDECREF(current);
}

// Lets go of tags and parent: for the deallocators of contexts.
void ClearContext(ContextObject* context);

inline PyObject* OrNone(PyObject* value) { return Py_NewRef(value == nullptr ? Py_None : value); }

// Adds Tags and current_span to the module: 0, or -1 with an exception set.
int RegisterContext(PyObject* module);

}  // namespace spanbox::python
