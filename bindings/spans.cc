// The Span context manager.
#include <algorithm>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/ids.h"
#include "limits.h"
#include "otel.h"
#include "recording.h"
#include "redaction.h"

namespace spanbox::python {
namespace {

PyTypeObject span_type = {PyVarObject_HEAD_INIT(nullptr, 0)};

// Spans and buffers that are free again: allocating either costs more than the rest of starting a span.
constexpr std::size_t kMaxFree = 64;
SpanObject* free_spans[kMaxFree];
std::size_t free_span_count = 0;

void SpanDealloc(PyObject* self) {
  auto* span = reinterpret_cast<SpanObject*>(self);
  if (span->parent != nullptr || span->tags != nullptr || span->otel != nullptr) ClearContext(span);
  Py_CLEAR(span->name);
  Py_CLEAR(span->attributes);
  Py_CLEAR(span->input);
  Py_CLEAR(span->output);
  Py_CLEAR(span->events);
  Py_CLEAR(span->links);
  if (free_span_count < kMaxFree) {
    free_spans[free_span_count++] = span;
  } else {
    PyObject_Free(self);
  }
}

// --- Span ------------------------------------------------------------------------------------------------------------

PyObject* SpanNew(PyTypeObject*, PyObject* args, PyObject* kwargs) {
  static const char* keywords[] = {"name", "kind", "attributes", "parent", nullptr};
  PyObject* name = nullptr;
  PyObject* kind_name = nullptr;
  PyObject* attributes = nullptr;
  PyObject* parent = Py_None;
  if (PyArg_ParseTupleAndKeywords(args, kwargs, "U|UOO:Span", const_cast<char**>(keywords), &name, &kind_name,
                                  &attributes, &parent) == 0) {
    return nullptr;
  }
  if (attributes == Py_None) attributes = nullptr;
  if (attributes != nullptr && !PyDict_Check(attributes)) {
    PyErr_SetString(PyExc_TypeError, "attributes must be a dict or None");
    return nullptr;
  }
  const auto kind = kind_name == nullptr ? SpanKind::kSpan : SpanKindFromString(Utf8(kind_name).view());
  if (!kind) {
    PyErr_Format(PyExc_ValueError, "unknown span kind %R", kind_name);
    return nullptr;
  }
  ContextObject* given = nullptr;
  if (parent != Py_None && (given = ContextOf(parent)) == nullptr) return nullptr;
  SpanObject* span = NewSpan(name, *kind);
  if (span == nullptr) {
    Py_XDECREF(given);
    return nullptr;
  }
  span->parent = given;  // until it starts
  if (attributes != nullptr) span->attributes = Py_NewRef(attributes);
  return reinterpret_cast<PyObject*>(span);
}

PyObject* SpanEnter(PyObject* self, PyObject*) {
  auto* span = reinterpret_cast<SpanObject*>(self);
  if (span->otel_state.started) return Py_NewRef(self);  // `with tracer.start_span(...)`: does not become current
  if (span->open) {
    PyErr_SetString(PyExc_RuntimeError, "this span is open already; make a new one with spanbox.span()");
    return nullptr;
  }
  if (!WithinLimits(span->kind)) [[unlikely]]
    return nullptr;
  ContextObject* given = span->start_monotonic_ns == 0 ? std::exchange(span->parent, nullptr) : nullptr;
  if (Recorder* recorder = ActiveRecorder()) {
    ContextObject* under = given == nullptr ? nullptr : EnterUnder(given, nullptr);
    const std::string head = EncodeHead(span->kind, RedactedName(Utf8(span->name).view()));
    Py_XDECREF(StartSpan(*recorder, span, head, [span](RecordWriter& record) {
      if (span->attributes == nullptr) return;
      AddCaptured(record, [span](Capture& capture) { capture.AddAll(span->attributes); });
    }));
    if (under != nullptr) Py_XSETREF(span->parent, std::exchange(under->parent, nullptr));
    Py_XDECREF(under);
  }
  Py_XDECREF(given);
  Py_CLEAR(span->attributes);
  return Py_NewRef(self);
}

PyObject* SpanExit(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  auto* span = reinterpret_cast<SpanObject*>(self);
  PyObject* exception = count > 1 ? args[1] : Py_None;
  if (span->otel_state.started) {
    OtelRaised(span, exception);
    OtelEnd(span, Py_None);
  } else if (span->open) {
    const auto add_error = [&](RecordWriter& record) {
      if (exception != Py_None) AddError(span, record, exception);
    };
    EndSpan(open_recorder, span, add_error, [span] { LeaveContext(span); });
  }
  Py_CLEAR(span->input);
  Py_CLEAR(span->output);
  Py_RETURN_FALSE;
}

// What is set may be what a call has cost.
void TellWhatIsSet(const SpanObject* span, PyObject* const* values, PyObject* names) {
  PyObject* attributes = PyDict_New();
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names) && attributes != nullptr; ++i) {
    if (PyDict_SetItem(attributes, PyTuple_GET_ITEM(names, i), values[i]) < 0) PyErr_Clear();
  }
  if (attributes != nullptr) TellLimits(span, attributes);
  PyErr_Clear();
  Py_XDECREF(attributes);
}

PyObject* SpanSet(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  auto* span = reinterpret_cast<SpanObject*>(self);
  if (count != 0) {
    PyErr_SetString(PyExc_TypeError, "set() takes attributes by keyword: span.set(top_k=5)");
    return nullptr;
  }
  const Py_ssize_t total = names == nullptr ? 0 : PyTuple_GET_SIZE(names);
  if (limit_hook != nullptr && total > 0) [[unlikely]]
    TellWhatIsSet(span, args, names);
  if (!span->open && span->start_monotonic_ns == 0) {  // not started: they go into START
    if (span->attributes == nullptr) span->attributes = PyDict_New();
    for (Py_ssize_t i = 0; i < total && span->attributes != nullptr; ++i) {
      if (PyDict_SetItem(span->attributes, PyTuple_GET_ITEM(names, i), args[i]) < 0) PyErr_Clear();
    }
    PyErr_Clear();
  } else if (total > 0) {
    WriteFields(span, [&](Capture& capture) {
      for (Py_ssize_t i = 0; i < total; ++i) capture.AddNamed(PyTuple_GET_ITEM(names, i), args[i]);
    });
  }
  return Py_NewRef(self);
}

PyObject* SpanFirstToken(PyObject* self, PyObject*) {
  auto* span = reinterpret_cast<SpanObject*>(self);
  if (span->open && span->ttft_ns < 0) span->ttft_ns = MonotonicNowNs() - span->start_monotonic_ns;
  Py_RETURN_NONE;
}

// What ends a span knows when it ended: its clock is put on, so that the end to come is that moment.
PyObject* SpanEndedAt(PyObject* self, PyObject* time_ns) {
  auto* span = reinterpret_cast<SpanObject*>(self);
  const long long end_ns = PyLong_AsLongLong(time_ns);
  if (end_ns == -1 && PyErr_Occurred() != nullptr) return nullptr;
  const std::int64_t now_ns = MonotonicNowNs();
  const std::int64_t late_ns = WallFromMonotonic(now_ns) - end_ns;
  if (span->open && late_ns > 0) span->start_monotonic_ns = std::min(now_ns, span->start_monotonic_ns + late_ns);
  Py_RETURN_NONE;
}

PyObject* SpanHandle(PyObject* self, PyObject*) { return NewHandle(reinterpret_cast<SpanObject*>(self)); }

int SetPayload(SpanObject* span, PyObject** kept, Column column, PyObject* value) {
  if (value == nullptr) value = Py_None;
  if (span->open) {
    WriteFields(span, [&](Capture& capture) { capture.AddValue(column, {}, value); });
    Py_XSETREF(*kept, Py_NewRef(value));
  }
  return 0;
}

int SpanSetInput(PyObject* self, PyObject* value, void*) {
  auto* span = reinterpret_cast<SpanObject*>(self);
  return SetPayload(span, &span->input, Column::kInput, value);
}

int SpanSetOutput(PyObject* self, PyObject* value, void*) {
  auto* span = reinterpret_cast<SpanObject*>(self);
  return SetPayload(span, &span->output, Column::kOutput, value);
}

PyObject* SpanGetInput(PyObject* self, void*) { return OrNone(reinterpret_cast<SpanObject*>(self)->input); }
PyObject* SpanGetOutput(PyObject* self, void*) { return OrNone(reinterpret_cast<SpanObject*>(self)->output); }
PyObject* SpanGetName(PyObject* self, void*) { return Py_NewRef(reinterpret_cast<SpanObject*>(self)->name); }
PyObject* SpanGetTraceId(PyObject* self, void*) {
  return PyUnicode_FromString(ToHex(reinterpret_cast<SpanObject*>(self)->trace_id).c_str());
}
PyObject* SpanGetSpanId(PyObject* self, void*) {
  return PyUnicode_FromString(ToHex(reinterpret_cast<SpanObject*>(self)->span_id).c_str());
}

PyObject* SpanRepr(PyObject* self) {
  auto* span = reinterpret_cast<SpanObject*>(self);
  const char* state = span->open ? "running" : span->start_monotonic_ns == 0 ? "not started" : "ended";
  return PyUnicode_FromFormat("<Span %R %s %s trace %s>", span->name, std::string(ToString(span->kind)).c_str(), state,
                              ToHex(span->trace_id).c_str());
}

PyMethodDef span_methods[] = {
    {"__enter__", SpanEnter, METH_NOARGS, "Starts the span under the current one."},
    {"__exit__", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(SpanExit)), METH_FASTCALL,
     "Ends the span; an exception is recorded and goes on unchanged."},
    {"set", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(SpanSet)), METH_FASTCALL | METH_KEYWORDS,
     "set(**attributes) -> Span\n\nAttributes are columns: the named ones (input_tokens, cost_usd, user_id, ...) or "
     "any "
     "name of yours.\nThey are safe as soon as set returns."},
    {"score", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(ScoreSpan)), METH_FASTCALL | METH_KEYWORDS,
     "score(name, value=None, *, label=None, explanation=None, source='rule', evaluator=None, version=None, "
     "metadata=None)\n--\n\nAs spanbox.score(), of this span, also after it has ended."},
    {"handle", SpanHandle, METH_NOARGS, "A Handle of this span: small, picklable, for another thread or process."},
    {"first_token", SpanFirstToken, METH_NOARGS, "The first token of a streamed reply is here: records ttft_ns, once."},
    {"_ended_at", SpanEndedAt, METH_O, "Its end, in nanoseconds since 1970, for who tells of it later: call it last."},
    // The Span of OpenTelemetry's API. None of these raises, whatever it is given.
    {"set_attribute", AsFunction(OtelSetAttribute), METH_FASTCALL | METH_KEYWORDS, "set_attribute(key, value)"},
    {"set_attributes", AsFunction(OtelSetAttributes), METH_FASTCALL | METH_KEYWORDS, "set_attributes(attributes)"},
    {"add_event", AsFunction(OtelAddEvent), METH_FASTCALL | METH_KEYWORDS,
     "add_event(name, attributes=None, timestamp=None)"},
    {"add_link", AsFunction(OtelAddLink), METH_FASTCALL | METH_KEYWORDS, "add_link(context, attributes=None)"},
    {"update_name", AsFunction(OtelUpdateName), METH_FASTCALL | METH_KEYWORDS, "update_name(name)"},
    {"is_recording", OtelIsRecording, METH_NOARGS, "Whether it is open, and recorded."},
    {"set_status", AsFunction(OtelSetStatus), METH_FASTCALL | METH_KEYWORDS, "set_status(status, description=None)"},
    {"record_exception", AsFunction(OtelRecordException), METH_FASTCALL | METH_KEYWORDS,
     "record_exception(exception, attributes=None, timestamp=None, escaped=False)"},
    {"get_span_context", OtelGetSpanContext, METH_NOARGS, "Its SpanContext."},
    {"end", AsFunction(OtelEndMethod), METH_FASTCALL | METH_KEYWORDS,
     "end(end_time=None)\n--\n\nEnds a span that a tracer has started; others end with their block."},
    {nullptr, nullptr, 0, nullptr}};

PyGetSetDef span_getset[] = {
    {"input", SpanGetInput, SpanSetInput, "What went in.", nullptr},
    {"output", SpanGetOutput, SpanSetOutput, "What came out.", nullptr},
    {"name", SpanGetName, nullptr, nullptr, nullptr},
    {"trace_id", SpanGetTraceId, nullptr, "32 hexadecimal digits; zeros before the span has started.", nullptr},
    {"span_id", SpanGetSpanId, nullptr, "16 hexadecimal digits; zeros before the span has started.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

}  // namespace

bool IsSpan(PyObject* object) { return Py_IS_TYPE(object, &span_type); }

ByteBuffer* Scratch::Lease() { return new ByteBuffer; }

void Scratch::GiveBack(ByteBuffer* buffer) { delete buffer; }

std::string EncodeHead(SpanKind kind, std::string_view name) {
  if (name.size() > 0xFFFF) name = name.substr(0, 0xFFFF);
  const auto size = static_cast<std::uint16_t>(name.size());
  std::string head(1, static_cast<char>(kind));
  head.append(reinterpret_cast<const char*>(&size), sizeof size);
  return head.append(name);
}

SpanObject* NewSpan(PyObject* name, SpanKind kind) {
  SpanObject* span = nullptr;
  if (free_span_count > 0) {
    span = free_spans[--free_span_count];
    Py_SET_REFCNT(reinterpret_cast<PyObject*>(span), 1);  // its type is a static one, and still set
  } else {
    span = PyObject_New(SpanObject, &span_type);
    if (span == nullptr) return nullptr;
  }
  span->trace_id = TraceId{};
  span->span_id = 0;
  span->tags = nullptr;
  span->span = reinterpret_cast<PyObject*>(span);
  span->parent = nullptr;
  span->parent_id = 0;
  span->name = Py_NewRef(name);
  span->attributes = span->input = span->output = span->events = span->links = nullptr;
  span->otel = nullptr;
  span->otel_state = {};
  span->start_monotonic_ns = span->given_start_ns = 0;
  span->ttft_ns = -1;
  span->kind = kind;
  span->status = SpanStatus::kOk;
  span->open = span->recorded = false;
  return span;
}

void BeginSpan(SpanObject* span) {
  ContextObject* outer = CurrentContext();
  span->start_monotonic_ns = MonotonicNowNs();
  if (outer == nullptr || outer->span_id == 0) {
    span->parent_id = 0;
    NewRootIds(WallFromMonotonic(span->start_monotonic_ns), span->trace_id, span->span_id);
  } else {
    span->parent_id = outer->span_id;
    span->trace_id = outer->trace_id;
    span->span_id = NewSpanId();
  }
  span->ttft_ns = -1;
  span->status = SpanStatus::kOk;
  span->open = true;
  Py_XSETREF(span->tags, outer == nullptr ? nullptr : Py_XNewRef(outer->tags));
  Py_XSETREF(span->otel, outer == nullptr ? nullptr : Py_XNewRef(outer->otel));
  Py_XSETREF(span->parent, outer);
}

void LeaveCall(SpanObject* span, PyObject* token) {
  if (token == nullptr || PyContextVar_Reset(context_var, token) < 0) {
    PyErr_Clear();
    LeaveContext(span);
  }
  Py_CLEAR(span->parent);  // see LeaveContext
  Py_XDECREF(token);
}

void BeginStart(SpanObject* span, std::string_view head, RecordWriter& record) {
  record.Start(span->trace_id, span->span_id, span->parent_id, WallFromMonotonic(span->start_monotonic_ns), head);
  MarkStage(record);
  if (span->tags == nullptr) return;
  record.buffer().PutBytes(PyBytes_AS_STRING(span->tags), static_cast<std::size_t>(PyBytes_GET_SIZE(span->tags)));
}

void BeginEnd(SpanObject* span, RecordWriter& record) {
  record.End(span->span_id, MonotonicNowNs() - span->start_monotonic_ns, span->status);
  MarkStage(record);
  if (span->ttft_ns >= 0) record.AddInt(Column::kTtftNs, {}, span->ttft_ns);
}

int RegisterSpans(PyObject* module) {
  span_type.tp_name = "spanbox._core.Span";
  span_type.tp_basicsize = sizeof(SpanObject);
  span_type.tp_flags = Py_TPFLAGS_DEFAULT;
  span_type.tp_doc = "A span as a context manager; made by spanbox.span().";
  span_type.tp_new = SpanNew;
  span_type.tp_dealloc = SpanDealloc;
  span_type.tp_repr = SpanRepr;
  span_type.tp_methods = span_methods;
  span_type.tp_getset = span_getset;

  if (PyType_Ready(&span_type) < 0) return -1;
  return PyModule_AddObjectRef(module, "Span", reinterpret_cast<PyObject*>(&span_type));
}

}  // namespace spanbox::python
