// The API of OpenTelemetry on our recorder: every Span is one of its spans, a Tracer starts them, and its Context is
// kept in our own ContextVar, so that whoever is inside of what is one question with one answer.
//
// An attached Context is a context (context.h) that stands for the span in it. What is current is therefore the
// innermost of both worlds, and is left without tokens: detach() finds what attach() made, or does nothing.
//
// Thread rule: hold the GIL. Ownership: OtelApi's objects are kept for ever.
// Invariants:
//   1. Nothing here raises for what it is given, but for a missing argument.
//   2. Attributes of OpenTelemetry's are kept under their own names (Capture::AddForeign), and are in the ring when the
//      call that set them returns. The collector makes columns of them (wire/recorded.h).
#pragma once

#include <Python.h>

#include <array>
#include <cstddef>

#include "recording.h"

namespace spanbox::python {

// What spanbox.otel hands in when it is imported. Nothing is called before.
struct OtelApi {
  PyObject* span_key = nullptr;              // of the span in a Context
  PyObject* suppress_key = nullptr;          // set in it: spans of instrumentation are not wanted
  PyObject* context_class = nullptr;         // Context, a dict
  PyObject* no_context = nullptr;            // an empty one
  PyObject* span_context = nullptr;          // (trace_id, span_id, is_remote, trace_flags, trace_state) -> SpanContext
  PyObject* remote_span = nullptr;           // SpanContext -> NonRecordingSpan
  PyObject* sampled = nullptr;               // TraceFlags(1)
  PyObject* kinds = nullptr;                 // tuple of SpanKind's members, by their values
  PyObject* kind_names = nullptr;            // tuple of str
  PyObject* no_op_tracer = nullptr;          // starts the spans that are not wanted
  PyObject* make_exception_event = nullptr;  // (exception, attributes, timestamp_ns, escaped) -> dict
  PyObject* make_link = nullptr;             // (SpanContext, attributes) -> dict, or None
  PyObject* explain = nullptr;               // events -> dict of columns, when a span has ended as an error
  PyObject* decorate = nullptr;              // (scope, function) -> function
};
inline OtelApi otel_api;

// The arguments of a call by name; nullptr: not given. Unknown keywords are ignored.
template <std::size_t kCount>
class Signature {
 public:
  explicit Signature(const std::array<const char*, kCount>& names) {
    for (std::size_t i = 0; i < kCount; ++i) names_[i] = PyUnicode_InternFromString(names[i]);
  }
  std::array<PyObject*, kCount> Read(PyObject* const* args, Py_ssize_t count, PyObject* keywords) const {
    std::array<PyObject*, kCount> values{};
    for (Py_ssize_t i = 0; i < count && i < static_cast<Py_ssize_t>(kCount); ++i)
      values[static_cast<std::size_t>(i)] = args[i];
    const Py_ssize_t named = keywords == nullptr ? 0 : PyTuple_GET_SIZE(keywords);
    for (Py_ssize_t k = 0; k < named; ++k) {
      const std::size_t place = Find(PyTuple_GET_ITEM(keywords, k));
      if (place < kCount) values[place] = args[count + k];
    }
    return values;
  }

 private:
  std::size_t Find(PyObject* keyword) const {
    for (std::size_t i = 0; i < kCount; ++i) {
      if (names_[i] == keyword) return i;
    }
    for (std::size_t i = 0; i < kCount; ++i) {
      if (PyUnicode_Compare(names_[i], keyword) == 0) return i;
    }
    return kCount;
  }

  std::array<PyObject*, kCount> names_;
};

// The value that was given and is not None, or nullptr.
inline PyObject* Given(PyObject* value) { return value == Py_None ? nullptr : value; }

// Nanoseconds of an int, or `otherwise`.
std::int64_t NanosecondsOr(PyObject* value, std::int64_t otherwise);

// A dict of a mapping with any of its items, or nullptr. New reference.
PyObject* AsDict(PyObject* mapping);

// What a SpanContext names; span_id 0: nothing.
TraceParent ParentOf(PyObject* span_context);

// Puts the identity that a Context names into `place`, which is where the Context is looked at from. As OpenTelemetry
// has it, a Context without a span is outside of any. A span that is not recorded is nowhere: what is around stays.
void Identify(ContextObject* place, PyObject* context);

// Identity of a place in a trace as a SpanContext; new reference or nullptr.
PyObject* SpanContextOf(const TraceId& trace, SpanId span, bool remote, PyObject* trace_state);

// Keeps a link to a span of which `context` is the SpanContext.
void AddLink(SpanObject* span, PyObject* context, PyObject* attributes);

// What leaving a block by `exception` (None: none) does to a span of OpenTelemetry's; ending it, END written.
void OtelRaised(SpanObject* span, PyObject* exception);
void OtelEnd(SpanObject* span, PyObject* end_time);

// Methods of Span: METH_FASTCALL | METH_KEYWORDS, but for those without arguments.
PyObject* OtelSetAttribute(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords);
PyObject* OtelSetAttributes(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords);
PyObject* OtelAddEvent(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords);
PyObject* OtelAddLink(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords);
PyObject* OtelUpdateName(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords);
PyObject* OtelSetStatus(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords);
PyObject* OtelRecordException(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords);
PyObject* OtelEndMethod(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords);
PyObject* OtelIsRecording(PyObject* self, PyObject*);
PyObject* OtelGetSpanContext(PyObject* self, PyObject*);

template <typename Function>
PyCFunction AsFunction(Function* function) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

}  // namespace spanbox::python
