// What OpenTelemetry's API does to a span that has started.
#include "otel.h"

#include <algorithm>
#include <string>

#include "base/clock.h"
#include "limits.h"
#include "redaction.h"
#include "wire/recorded.h"

namespace spanbox::python {
namespace {

enum StatusCode : std::uint8_t { kUnset = 0, kOk = 1, kError = 2 };

SpanObject* AsSpan(PyObject* self) { return reinterpret_cast<SpanObject*>(self); }

// Calls one of OtelApi's functions: a new reference, or nullptr with nothing raised.
template <typename... Arguments>
PyObject* Ask(PyObject* function, Arguments... arguments) {
  if (function == nullptr) return nullptr;
  PyObject* result = PyObject_CallFunctionObjArgs(function, arguments..., nullptr);
  if (result == nullptr) PyErr_Clear();
  return result;
}

// The value of StatusCode, or of Status.status_code; -1 when it is neither.
int CodeOf(PyObject* status) {
  PyObject* code = PyObject_GetAttrString(status, "status_code");
  PyErr_Clear();
  PyObject* value = PyObject_GetAttrString(code == nullptr ? status : code, "value");
  PyErr_Clear();
  const long number = value != nullptr && PyLong_Check(value) ? PyLong_AsLong(value) : -1;
  PyErr_Clear();
  Py_XDECREF(value);
  Py_XDECREF(code);
  return number >= kUnset && number <= kError ? static_cast<int>(number) : -1;
}

// Events are one column: it is written anew whenever their number has doubled, and when the span ends.
void KeepEvent(SpanObject* span, PyObject* event) {
  if (span->events == nullptr) span->events = PyList_New(0);
  if (span->events == nullptr || PyList_Append(span->events, event) < 0) return PyErr_Clear();
  const Py_ssize_t count = PyList_GET_SIZE(span->events);
  if (span->otel_state.started && (count & (count - 1)) != 0) return;
  WriteFields(span, [span](Capture& capture) { capture.AddValue(Column::kEvents, {}, span->events); });
}

PyObject* MakeEvent(PyObject* name, PyObject* attributes, PyObject* timestamp) {
  PyObject* event = Py_BuildValue("{s:O,s:L}", "name", name, "time_ns",
                                  static_cast<long long>(NanosecondsOr(timestamp, WallNowNs())));
  if (event != nullptr && attributes != nullptr && PyDict_SetItemString(event, "attributes", attributes) < 0) {
    Py_CLEAR(event);
  }
  PyErr_Clear();
  return event;
}

void RecordException(SpanObject* span, PyObject* exception, PyObject* attributes, PyObject* timestamp,
                     PyObject* escaped) {
  PyObject* when = PyLong_FromLongLong(NanosecondsOr(timestamp, WallNowNs()));
  PyObject* event =
      when == nullptr ? nullptr : Ask(otel_api.make_exception_event, exception, attributes, when, escaped);
  if (event != nullptr && event != Py_None) KeepEvent(span, event);
  PyErr_Clear();
  Py_XDECREF(event);
  Py_XDECREF(when);
}

void NoteFirstToken(SpanObject* span, PyObject* name, PyObject* timestamp) {
  if (span->ttft_ns >= 0 || !PyUnicode_Check(name) || Utf8(name).view() != kFirstTokenEvent) return;
  const std::int64_t start_ns =
      span->given_start_ns != 0 ? span->given_start_ns : WallFromMonotonic(span->start_monotonic_ns);
  span->ttft_ns = std::max<std::int64_t>(0, NanosecondsOr(timestamp, WallNowNs()) - start_ns);
}

// What the events say of an error that nobody has explained: a new reference, a dict of columns; or nullptr.
PyObject* Explain(SpanObject* span) {
  if (span->status != SpanStatus::kError || span->otel_state.has_message || span->events == nullptr) return nullptr;
  PyObject* columns = Ask(otel_api.explain, span->events);
  if (columns != nullptr && !PyDict_CheckExact(columns)) Py_CLEAR(columns);
  return columns;
}

}  // namespace

std::int64_t NanosecondsOr(PyObject* value, std::int64_t otherwise) {
  if (value == nullptr || !PyLong_Check(value)) return otherwise;
  int overflow = 0;
  const long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
  return overflow != 0 || number < 0 ? otherwise : number;
}

PyObject* AsDict(PyObject* mapping) {
  if (mapping == nullptr || mapping == Py_None) return nullptr;
  if (PyDict_CheckExact(mapping)) return Py_NewRef(mapping);
  PyObject* dict = PyDict_New();
  if (dict != nullptr && PyDict_Update(dict, mapping) < 0) Py_CLEAR(dict);
  PyErr_Clear();
  return dict;
}

PyObject* SpanContextOf(const TraceId& trace, SpanId span, bool remote, PyObject* trace_state) {
  PyObject* trace_number = _PyLong_FromByteArray(trace.bytes.data(), trace.bytes.size(), 0, 0);
  PyObject* span_number = PyLong_FromUnsignedLongLong(span);
  PyObject* made = nullptr;
  if (trace_number != nullptr && span_number != nullptr && otel_api.span_context != nullptr) {
    made = PyObject_CallFunctionObjArgs(otel_api.span_context, trace_number, span_number, remote ? Py_True : Py_False,
                                        otel_api.sampled, trace_state == nullptr ? Py_None : trace_state, nullptr);
  }
  PyErr_Clear();
  Py_XDECREF(trace_number);
  Py_XDECREF(span_number);
  return made;
}

void AddLink(SpanObject* span, PyObject* context, PyObject* attributes) {
  PyObject* link = Ask(otel_api.make_link, context, attributes == nullptr ? Py_None : attributes);
  if (link != nullptr && link != Py_None) {
    if (span->links == nullptr) span->links = PyList_New(0);
    if (span->links == nullptr || PyList_Append(span->links, link) < 0) PyErr_Clear();
  }
  Py_XDECREF(link);
}

PyObject* OtelSetAttribute(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  static const Signature<2> signature({"key", "value"});
  const auto [key, value] = signature.Read(args, count, keywords);
  if (key != nullptr && PyUnicode_Check(key) && Given(value) != nullptr && AsSpan(self)->open) {
    PyObject* const name = key;
    PyObject* const what = value;
    WriteFields(AsSpan(self), [name, what](Capture& capture) { capture.AddForeign(name, what); });
    if (limit_hook != nullptr) {
      PyObject* attributes = PyDict_New();
      if (attributes != nullptr && PyDict_SetItem(attributes, name, what) == 0) {
        TellLimitsOfTracer(AsSpan(self), attributes);
      }
      PyErr_Clear();
      Py_XDECREF(attributes);
    }
  }
  Py_RETURN_NONE;
}

PyObject* OtelSetAttributes(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  static const Signature<1> signature({"attributes"});
  PyObject* attributes = AsDict(signature.Read(args, count, keywords)[0]);
  if (attributes != nullptr && AsSpan(self)->open && PyDict_GET_SIZE(attributes) > 0) {
    WriteFields(AsSpan(self), [&](Capture& capture) { capture.AddAllForeign(attributes); });
    if (limit_hook != nullptr) TellLimitsOfTracer(AsSpan(self), attributes);
  }
  Py_XDECREF(attributes);
  Py_RETURN_NONE;
}

PyObject* OtelAddEvent(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  static const Signature<3> signature({"name", "attributes", "timestamp"});
  const auto [name, mapping, timestamp] = signature.Read(args, count, keywords);
  if (name != nullptr && AsSpan(self)->open && AsSpan(self)->recorded) {
    PyObject* attributes = AsDict(mapping);
    PyObject* event = MakeEvent(name, attributes, timestamp);
    if (event != nullptr) KeepEvent(AsSpan(self), event);
    NoteFirstToken(AsSpan(self), name, timestamp);
    Py_XDECREF(event);
    Py_XDECREF(attributes);
  }
  Py_RETURN_NONE;
}

PyObject* OtelAddLink(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  static const Signature<2> signature({"context", "attributes"});
  const auto [context, attributes] = signature.Read(args, count, keywords);
  if (context != nullptr && AsSpan(self)->open && AsSpan(self)->recorded) {
    AddLink(AsSpan(self), context, attributes);
    if (AsSpan(self)->links != nullptr) {
      WriteFields(AsSpan(self),
                  [self](Capture& capture) { capture.AddValue(Column::kLinks, {}, AsSpan(self)->links); });
    }
  }
  Py_RETURN_NONE;
}

PyObject* OtelUpdateName(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  static const Signature<1> signature({"name"});
  PyObject* name = signature.Read(args, count, keywords)[0];
  auto* span = AsSpan(self);
  if (name != nullptr && PyUnicode_Check(name) && span->open && span->recorded && open_recorder != nullptr) {
    Py_SETREF(span->name, Py_NewRef(name));
    Scratch scratch;
    RecordWriter record(scratch.buffer());
    record.Fields(span->span_id);
    record.AddString(Column::kName, {}, std::string_view(RedactedName(Utf8(name).view())).substr(0, 0xFFFF));
    open_recorder->Append(RecordType::kFields, scratch.buffer().bytes());
  }
  Py_RETURN_NONE;
}

PyObject* OtelIsRecording(PyObject* self, PyObject*) {
  return PyBool_FromLong(AsSpan(self)->open && AsSpan(self)->recorded);
}

PyObject* OtelSetStatus(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  static const Signature<2> signature({"status", "description"});
  const auto [status, given] = signature.Read(args, count, keywords);
  auto* span = AsSpan(self);
  const int code = status == nullptr || !span->open ? -1 : CodeOf(status);
  // As the specification orders them: nothing takes OK back, and UNSET says nothing.
  if (code <= kUnset || span->otel_state.status_code == kOk) Py_RETURN_NONE;
  span->otel_state.status_code = static_cast<std::uint8_t>(code);
  span->status = code == kError ? SpanStatus::kError : SpanStatus::kOk;
  if (code != kError) Py_RETURN_NONE;
  PyObject* description = Given(given) == nullptr ? PyObject_GetAttrString(status, "description") : Py_NewRef(given);
  PyErr_Clear();
  if (description != nullptr && PyUnicode_Check(description) && PyUnicode_GET_LENGTH(description) > 0) {
    span->otel_state.has_message = true;
    WriteFields(span, [&](Capture& capture) { capture.AddValue(Column::kErrorMessage, {}, description); });
  }
  Py_XDECREF(description);
  Py_RETURN_NONE;
}

PyObject* OtelRecordException(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  static const Signature<4> signature({"exception", "attributes", "timestamp", "escaped"});
  const auto [exception, attributes, timestamp, escaped] = signature.Read(args, count, keywords);
  if (exception != nullptr && AsSpan(self)->open && AsSpan(self)->recorded) {
    RecordException(AsSpan(self), exception, attributes == nullptr ? Py_None : attributes, timestamp,
                    escaped == nullptr ? Py_False : escaped);
  }
  Py_RETURN_NONE;
}

PyObject* OtelGetSpanContext(PyObject* self, PyObject*) {
  const auto* span = AsSpan(self);
  // The trace state is that of the remote span this trace came from, which some Context around holds.
  PyObject* state = nullptr;
  const PyObject* contexts = span->otel;
  for (int depth = 0; contexts != nullptr && depth < 100; ++depth) {
    PyObject* around = PyDict_GetItemWithError(const_cast<PyObject*>(contexts), otel_api.span_key);
    if (around == nullptr || around == self) break;
    if (IsSpan(around)) {
      contexts = AsSpan(around)->otel;
      continue;
    }
    PyObject* remote = PyObject_CallMethod(around, "get_span_context", nullptr);
    if (remote != nullptr) state = PyObject_GetAttrString(remote, "trace_state");
    Py_XDECREF(remote);
    break;
  }
  PyErr_Clear();
  PyObject* made = SpanContextOf(span->trace_id, span->span_id, false, state);
  Py_XDECREF(state);
  return made == nullptr ? Py_NewRef(Py_None) : made;
}

void OtelRaised(SpanObject* span, PyObject* exception) {
  // What is no Exception, such as GeneratorExit, ends work without having gone wrong.
  if (!span->open || !span->recorded || PyErr_GivenExceptionMatches(exception, PyExc_Exception) == 0) return;
  if (span->otel_state.records_exceptions) RecordException(span, exception, Py_None, nullptr, Py_False);
  if (!span->otel_state.sets_status || span->otel_state.status_code == kOk || open_recorder == nullptr) return;
  span->otel_state.status_code = kError;
  if (span->otel_state.has_message) {
    span->status = SpanStatus::kError;
    return;
  }
  span->otel_state.has_message = true;
  Scratch scratch;
  RecordWriter record(scratch.buffer());
  record.Fields(span->span_id);
  MarkStage(record);
  AddError(span, record, exception);
  open_recorder->Append(RecordType::kFields, scratch.buffer().bytes());
}

void OtelEnd(SpanObject* span, PyObject* end_time) {
  if (!span->open || !span->otel_state.started) return;
  const std::int64_t now_ns = MonotonicNowNs();
  if (limit_hook != nullptr) TellLimitsOfTracer(span, nullptr);
  PyObject* columns = span->recorded ? Explain(span) : nullptr;
  Recorder* const recorder = open_recorder;
  const bool write = span->open && span->recorded && recorder != nullptr;
  span->open = false;
  if (write) {
    std::int64_t duration_ns = now_ns - span->start_monotonic_ns;
    const std::int64_t start_ns =
        span->given_start_ns != 0 ? span->given_start_ns : WallFromMonotonic(span->start_monotonic_ns);
    if (Given(end_time) != nullptr) duration_ns = NanosecondsOr(end_time, start_ns + duration_ns) - start_ns;
    Scratch scratch;
    RecordWriter record(scratch.buffer());
    record.End(span->span_id, std::max<std::int64_t>(0, duration_ns), span->status);
    MarkStage(record);
    if (span->ttft_ns >= 0) record.AddInt(Column::kTtftNs, {}, span->ttft_ns);
    if (span->otel_state.status_code == kOk) record.AddString(Column::kAttribute, "otel.status_code", "ok");
    if (columns != nullptr || span->events != nullptr || span->links != nullptr) {
      AddCaptured(record, [&](Capture& capture) {
        if (columns != nullptr) capture.AddAll(columns);
        if (span->events != nullptr) capture.AddValue(Column::kEvents, {}, span->events);
        if (span->links != nullptr) capture.AddValue(Column::kLinks, {}, span->links);
      });
    }
    recorder->Append(RecordType::kEnd, scratch.buffer().bytes());
  }
  Py_XDECREF(columns);
  Py_CLEAR(span->events);
  Py_CLEAR(span->links);
}

PyObject* OtelEndMethod(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  static const Signature<1> signature({"end_time"});
  OtelEnd(AsSpan(self), signature.Read(args, count, keywords)[0]);
  Py_RETURN_NONE;
}

}  // namespace spanbox::python
