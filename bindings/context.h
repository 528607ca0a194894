// Where in which trace code runs: one ContextVar holds the innermost context. A context is a Span; or a block (tags,
// attach), which stands for the span it names plus tags; or a Handle, which says where another thread or process is.
//
// A context is left by putting back what was around it, when it is found in the context that leaves it, and never by
// token: so leaving in another task or thread than the one that entered is harmless.
//
// Thread rule: hold the GIL. Ownership: a context owns what was around it until it is left.
// Invariants:
//   1. Nothing here leaves a Python exception set, except where a function says so.
//   2. A Handle that Python sees does not change, and has no parent.
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
  PyObject* otel;         // the Context of OpenTelemetry (a dict) attached here or around; nullptr: none
};

inline PyObject* context_var = nullptr;

// Where code outside of any context runs: nullptr, or what TRACEPARENT said when the process started. Owned.
inline ContextObject* process_context = nullptr;

// spanbox.off(): no span starts, and nothing is opened. Open spans still end.
inline bool recording_off = false;

// New reference, or nullptr when there is no context around.
inline ContextObject* CurrentContext() {
  PyObject* value = nullptr;
  if (PyContextVar_Get(context_var, nullptr, &value) < 0) PyErr_Clear();
  if (value == nullptr || value == Py_None) [[unlikely]] {
    Py_XDECREF(value);
    value = Py_XNewRef(reinterpret_cast<PyObject*>(process_context));
  }
  return reinterpret_cast<ContextObject*>(value);
}

// nullptr: no context.
inline void MakeCurrent(ContextObject* context) {
  PyObject* value = context == nullptr ? Py_None : reinterpret_cast<PyObject*>(context);
  PyObject* token = PyContextVar_Set(context_var, value);
  if (token == nullptr) PyErr_Clear();
  Py_XDECREF(token);
}

// Puts back what was around `context`, also when contexts inside it have not been left: they are left with it. Does
// nothing where `context` is not around. `forget` false: whoever inherited `context` still finds what was around it.
inline void LeaveContext(ContextObject* context, bool forget = true) {
  ContextObject* current = CurrentContext();
  const ContextObject* found = current;
  while (found != nullptr && found != context) found = found->parent;
  if (found != nullptr) {
    MakeCurrent(context->parent);
    // A chain of tasks that start one another must not keep all their ancestors.
    if (forget) Py_CLEAR(context->parent);
  }
  Py_XDECREF(current);
}

// The thread or task that runs, to compare with: whoever entered a context may forget what was around it.
inline const void* Runner() { return PyThreadState_Get()->context; }

// Lets go of tags and parent: for the deallocators of contexts.
void ClearContext(ContextObject* context);

// A Handle for the place of `context`; nullptr with MemoryError set.
PyObject* NewHandle(const ContextObject* context);

// What a Handle, a Span or a traceparent stands for: a new reference; nullptr with TypeError or ValueError set.
ContextObject* ContextOf(PyObject* parent);

// Makes a context current that stands for `place` with the tags around it and then its own; a new reference, or nullptr
// when that could not be made. `owner` finds it again; may be nullptr.
ContextObject* EnterUnder(ContextObject* place, PyObject* owner);

// True for a Span, which spans.cc defines.
bool IsSpan(PyObject* object);

// The tags of `outer` followed by those of `place`; a new reference or nullptr.
PyObject* MergeTags(const ContextObject* outer, const ContextObject* place);

// A context that stands for `outer`'s place (nullptr: none) and was attached as the OpenTelemetry Context `otel`: it
// has to be given its identity, and to be made current. nullptr with MemoryError set. Takes the reference to `outer`.
ContextObject* NewAttached(ContextObject* outer, PyObject* otel);
// What NewAttached made: `otel` is the whole truth about it.
bool IsAttached(const ContextObject* context);

inline PyObject* OrNone(PyObject* value) { return Py_NewRef(value == nullptr ? Py_None : value); }

// Add types and functions to the module: 0, or -1 with an exception set.
int RegisterContext(PyObject* module);
int RegisterCarried(PyObject* module);

}  // namespace spanbox::python
