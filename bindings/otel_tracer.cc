// The Tracer of OpenTelemetry's API, and the block that start_as_current_span makes.
#include <string>
#include <string_view>
#include <utility>

#include "base/clock.h"
#include "base/ids.h"
#include "limits.h"
#include "otel.h"
#include "redaction.h"
#include "wire/prices.h"
#include "wire/recorded.h"

namespace spanbox::python {
namespace {

PyTypeObject tracer_type = {PyVarObject_HEAD_INIT(nullptr, 0)};
PyTypeObject scope_type = {PyVarObject_HEAD_INIT(nullptr, 0)};

enum Argument { kName, kContext, kKind, kAttributes, kLinks, kStartTime, kRecordException, kSetStatus, kEndOnExit };
constexpr std::size_t kArguments = kEndOnExit + 1;
using Arguments = std::array<PyObject*, kArguments>;  // of start_span and start_as_current_span

struct TracerObject {
  PyObject_HEAD PyObject* scope;  // bytes, encoded fields that every span of it starts with
};

struct ScopeObject {
  PyObject_HEAD TracerObject* tracer;
  Arguments arguments;  // owned; nullptr: not given
  SpanObject* span;     // once it is entered
  const void* runner;   // that entered it
  PyObject* other;      // the no-op tracer's block, where nothing is recorded; nullptr: none
};

const Signature<kArguments>& StartSignature() {
  static const Signature<kArguments> signature({"name", "context", "kind", "attributes", "links", "start_time",
                                                "record_exception", "set_status_on_exception", "end_on_exit"});
  return signature;
}

bool IsSuppressed(PyObject* context) {
  if (context == nullptr) return false;
  PyObject* value = PyDict_GetItemWithError(context, otel_api.suppress_key);
  const bool suppressed = value != nullptr && PyObject_IsTrue(value) == 1;
  PyErr_Clear();
  return suppressed;
}

// --- starting --------------------------------------------------------------------------------------------------------

// Where a span is to start: the current context, or one that stands for the Context given. New reference or nullptr.
ContextObject* StartingPlace(PyObject* given) {
  ContextObject* current = CurrentContext();
  if (given == nullptr || !PyDict_Check(given)) return current;
  ContextObject* place = NewAttached(current, given);
  PyErr_Clear();
  if (place != nullptr) Identify(place, given);
  return place;
}

std::size_t KindOf(PyObject* kind) {
  if (kind == nullptr || otel_api.kinds == nullptr) return 0;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(otel_api.kinds); ++i) {
    if (PyTuple_GET_ITEM(otel_api.kinds, i) == kind) return static_cast<std::size_t>(i);
  }
  return 0;
}

void AddLinks(SpanObject* span, PyObject* links) {
  PyObject* list = Given(links) == nullptr ? nullptr : PySequence_Fast(links, "");
  for (Py_ssize_t i = 0; list != nullptr && i < PySequence_Fast_GET_SIZE(list); ++i) {
    PyObject* link = PySequence_Fast_GET_ITEM(list, i);
    PyObject* context = PyObject_GetAttrString(link, "context");
    PyObject* attributes = context == nullptr ? nullptr : PyObject_GetAttrString(link, "attributes");
    PyErr_Clear();
    if (context != nullptr) AddLink(span, context, attributes);
    Py_XDECREF(attributes);
    Py_XDECREF(context);
  }
  PyErr_Clear();
  Py_XDECREF(list);
}

void SetIdentity(SpanObject* span, const ContextObject* place, PyObject* start_time) {
  const std::int64_t now_ns = MonotonicNowNs();
  const std::int64_t given_ns = NanosecondsOr(Given(start_time), 0);
  span->given_start_ns = given_ns;
  span->start_monotonic_ns = given_ns == 0 ? now_ns : now_ns - (WallFromMonotonic(now_ns) - given_ns);
  if (place == nullptr || place->span_id == 0) {
    span->parent_id = 0;
    NewRootIds(given_ns != 0 ? given_ns : WallFromMonotonic(now_ns), span->trace_id, span->span_id);
  } else {
    span->parent_id = place->span_id;
    span->trace_id = place->trace_id;
    span->span_id = NewSpanId();
  }
  span->open = true;
  if (place == nullptr) return;
  span->tags = Py_XNewRef(place->tags);
  span->otel = Py_XNewRef(place->otel);
}

// Somebody else's span: what it is, and the span it is a child of.
struct Adopted {
  TraceParent identity;
  SpanId parent_id = 0;
};

// Writes START, after making the span current when `current` says so. A new reference; nullptr with MemoryError set.
SpanObject* Start(Recorder& recorder, TracerObject* tracer, const Arguments& given, ContextObject* place, bool current,
                  SpanKind known = SpanKind::kSpan, const Adopted* adopted = nullptr) {
  PyObject* name = PyUnicode_Check(given[kName]) ? Py_NewRef(given[kName]) : PyObject_Str(given[kName]);
  if (name == nullptr) {
    PyErr_Clear();
    name = PyUnicode_FromString("");
  }
  SpanObject* span = name == nullptr ? nullptr : NewSpan(name, known);
  Py_XDECREF(name);
  if (span == nullptr) return nullptr;
  SetIdentity(span, place, given[kStartTime]);
  if (adopted != nullptr) {
    span->trace_id = adopted->identity.trace_id;
    span->span_id = adopted->identity.span_id;
    span->parent_id = adopted->parent_id;
  }
  span->otel_state = {.started = true,
                      .records_exceptions = given[kRecordException] != Py_False,
                      .sets_status = given[kSetStatus] != Py_False};
  PyObject* attributes = AsDict(given[kAttributes]);
  AddLinks(span, given[kLinks]);

  Scratch scratch;
  RecordWriter record(scratch.buffer());
  const std::int64_t start_ns =
      span->given_start_ns != 0 ? span->given_start_ns : WallFromMonotonic(span->start_monotonic_ns);
  record.Start(span->trace_id, span->span_id, span->parent_id, start_ns, span->kind,
               RedactedName(Utf8(span->name).view()));
  for (PyObject* fields : {span->tags, tracer->scope}) {
    if (fields == nullptr) continue;
    record.buffer().PutBytes(PyBytes_AS_STRING(fields), static_cast<std::size_t>(PyBytes_GET_SIZE(fields)));
  }
  PyObject* kind = PyTuple_GET_ITEM(otel_api.kind_names, static_cast<Py_ssize_t>(KindOf(given[kKind])));
  record.AddString(Column::kAttribute, "otel.kind", Utf8(kind).view());
  record.AddBool(Column::kAttribute, kOtelRaw, true);
  MarkStage(record);
  if (attributes != nullptr || span->links != nullptr) {
    AddCaptured(record, [&](Capture& capture) {
      if (attributes != nullptr) capture.AddAllForeign(attributes);
      if (span->links != nullptr) capture.AddValue(Column::kLinks, {}, span->links);
    });
  }
  if (current) {
    span->parent = CurrentContext();
    MakeCurrent(span);
  }
  span->recorded = recorder.Append(RecordType::kStart, scratch.buffer().bytes());
  Py_XDECREF(attributes);
  return span;
}

void TellStart(const SpanObject* span, PyObject* given) {
  PyObject* attributes = AsDict(given);
  if (attributes != nullptr) TellLimitsOfTracer(span, attributes);
  Py_XDECREF(attributes);
}

// Whether an open limit allows the span, and its kind where that is known; false with an exception set.
bool IsAllowed(const Arguments& given, const ContextObject* place, SpanKind& kind) {
  if (limit_hook == nullptr) return true;
  PyObject* attributes = AsDict(given[kAttributes]);
  const bool allowed = AskLimitsOfTracer(given[kName], attributes, place, kind);
  Py_XDECREF(attributes);
  return allowed;
}

// A new reference; nullptr where the span is not to be recorded, with an exception set where a limit does not allow it.
SpanObject* StartIfWanted(TracerObject* tracer, const Arguments& given, bool current) {
  ContextObject* place = StartingPlace(Given(given[kContext]));
  SpanObject* span = nullptr;
  SpanKind kind = SpanKind::kSpan;
  if (place == nullptr || !IsSuppressed(place->otel)) {
    if (lender != nullptr) place = LentOr(place, given[kName], given[kAttributes]);
    if (!IsAllowed(given, place, kind)) {
      Py_XDECREF(place);
      return nullptr;
    }
    Recorder* const recorder = ActiveRecorder();
    if (recorder != nullptr) span = Start(*recorder, tracer, given, place, current, kind);
    PyErr_Clear();
    if (span != nullptr && limit_hook != nullptr) TellStart(span, given[kAttributes]);
  }
  Py_XDECREF(place);
  return span;
}

PyObject* MissingName() {
  PyErr_SetString(PyExc_TypeError, "a span needs a name");
  return nullptr;
}

// What the no-op tracer makes of the same call.
PyObject* NotRecorded(const char* method, const Arguments& given) {
  PyObject* context = given[kContext] == nullptr ? Py_None : given[kContext];
  return PyObject_CallMethod(otel_api.no_op_tracer, method, "OO", given[kName], context);
}

// A method whose `self` may be a proxy of the tracer: OpenInference calls type(tracer).start_span(proxy, ...).
PyObject* TracerStartSpan(PyObject*, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  PyObject* self = count == 0 ? nullptr : Py_NewRef(args[0]);
  if (self != nullptr && !Py_IS_TYPE(self, &tracer_type)) Py_SETREF(self, PyObject_GetAttrString(self, "__wrapped__"));
  if (self == nullptr || !Py_IS_TYPE(self, &tracer_type)) {
    Py_XDECREF(self);
    PyErr_SetString(PyExc_TypeError, "start_span() is a method of a Tracer");
    return nullptr;
  }
  const Arguments given = StartSignature().Read(args + 1, count - 1, keywords);
  SpanObject* span = nullptr;
  if (given[kName] != nullptr) span = StartIfWanted(reinterpret_cast<TracerObject*>(self), given, false);
  Py_DECREF(self);
  if (given[kName] == nullptr) return MissingName();
  if (span == nullptr && PyErr_Occurred() != nullptr) return nullptr;
  return span == nullptr ? NotRecorded("start_span", given) : reinterpret_cast<PyObject*>(span);
}

// adopt(span_context, parent_id, name, kind=, attributes=, links=, start_time=, known_kind=): None when it cannot be
// recorded. known_kind: what ask_limits() gave; then the limits are told what it sets.
PyObject* TracerAdopt(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  static const Signature<8> signature(
      {"span_context", "parent_id", "name", "kind", "attributes", "links", "start_time", "known_kind"});
  const auto [span_context, parent_id, name, kind, attributes, links, start_time, known_kind] =
      signature.Read(args, count, keywords);
  if (name == nullptr) return MissingName();
  Adopted adopted{ParentOf(span_context)};
  if (parent_id != nullptr && PyLong_Check(parent_id)) adopted.parent_id = PyLong_AsUnsignedLongLongMask(parent_id);
  Recorder* recorder = ActiveRecorder();
  if (recorder == nullptr || adopted.identity.span_id == 0) Py_RETURN_NONE;
  const Arguments given{name, nullptr, kind, attributes, links, start_time, nullptr, nullptr, nullptr};
  const bool limited = Given(known_kind) != nullptr && PyUnicode_Check(known_kind) && limit_hook != nullptr;
  const auto known = limited ? SpanKindFromString(Utf8(known_kind).view()) : std::nullopt;
  ContextObject* place = CurrentContext();  // for its tags
  SpanObject* span = Start(*recorder, reinterpret_cast<TracerObject*>(self), given, place, false,
                           known.value_or(SpanKind::kSpan), &adopted);
  if (span != nullptr && limited) TellStart(span, attributes);
  Py_XDECREF(place);
  return reinterpret_cast<PyObject*>(span);
}

ScopeObject* NewScope(TracerObject* tracer, const Arguments& given) {
  ScopeObject* scope = PyObject_New(ScopeObject, &scope_type);
  if (scope == nullptr) return nullptr;
  scope->tracer = reinterpret_cast<TracerObject*>(Py_NewRef(reinterpret_cast<PyObject*>(tracer)));
  scope->arguments = given;
  for (PyObject* argument : given) Py_XINCREF(argument);
  scope->span = nullptr;
  scope->runner = nullptr;
  scope->other = nullptr;
  return scope;
}

PyObject* TracerStartCurrent(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  const Arguments given = StartSignature().Read(args, count, keywords);
  if (given[kName] == nullptr) return MissingName();
  return reinterpret_cast<PyObject*>(NewScope(reinterpret_cast<TracerObject*>(self), given));
}

PyObject* TracerNew(PyTypeObject*, PyObject* args, PyObject*) {
  PyObject* fields = nullptr;
  if (PyArg_ParseTuple(args, "O!:Tracer", &PyDict_Type, &fields) == 0) return nullptr;
  if (otel_api.span_key == nullptr) {
    PyErr_SetString(PyExc_RuntimeError, "import spanbox.otel first");
    return nullptr;
  }
  Scratch scratch;
  RecordWriter record(scratch.buffer());
  scratch.buffer().Clear();
  Capture(record, CaptureLimits{.bytes = 16 * 1024}).AddAll(fields);
  const std::string_view text = scratch.buffer().text();
  TracerObject* tracer = PyObject_New(TracerObject, &tracer_type);
  if (tracer == nullptr) return nullptr;
  tracer->scope = PyBytes_FromStringAndSize(text.data(), static_cast<Py_ssize_t>(text.size()));
  return reinterpret_cast<PyObject*>(tracer);
}

void TracerDealloc(PyObject* self) {
  Py_CLEAR(reinterpret_cast<TracerObject*>(self)->scope);
  PyObject_Free(self);
}

// --- start_as_current_span -------------------------------------------------------------------------------------------

PyObject* ScopeEnter(PyObject* self, PyObject*) {
  auto* scope = reinterpret_cast<ScopeObject*>(self);
  if (scope->span != nullptr || scope->other != nullptr) {
    PyErr_SetString(PyExc_RuntimeError, "this block has been entered already; call start_as_current_span() again");
    return nullptr;
  }
  scope->span = StartIfWanted(scope->tracer, scope->arguments, true);
  scope->runner = Runner();
  if (scope->span != nullptr) return Py_NewRef(reinterpret_cast<PyObject*>(scope->span));
  if (PyErr_Occurred() != nullptr) return nullptr;
  scope->other = NotRecorded("start_as_current_span", scope->arguments);
  return scope->other == nullptr ? nullptr : PyObject_CallMethod(scope->other, "__enter__", nullptr);
}

PyObject* ScopeExit(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  auto* scope = reinterpret_cast<ScopeObject*>(self);
  PyObject* exception = count > 1 ? args[1] : Py_None;
  if (scope->other != nullptr && count == 3) {
    return PyObject_CallMethod(scope->other, "__exit__", "OOO", args[0], args[1], args[2]);
  }
  if (scope->span != nullptr) {
    LeaveContext(scope->span, scope->runner == Runner());
    if (exception != Py_None) OtelRaised(scope->span, exception);
    if (scope->arguments[kEndOnExit] != Py_False) OtelEnd(scope->span, Py_None);
  }
  Py_RETURN_FALSE;
}

PyObject* ScopeAgain(PyObject* self, PyObject*) {
  auto* scope = reinterpret_cast<ScopeObject*>(self);
  return reinterpret_cast<PyObject*>(NewScope(scope->tracer, scope->arguments));
}

PyObject* ScopeCall(PyObject* self, PyObject* args, PyObject*) {
  PyObject* function = nullptr;
  if (PyArg_ParseTuple(args, "O", &function) == 0) return nullptr;
  return PyObject_CallFunctionObjArgs(otel_api.decorate, self, function, nullptr);
}

void ScopeDealloc(PyObject* self) {
  auto* scope = reinterpret_cast<ScopeObject*>(self);
  for (PyObject*& argument : scope->arguments) Py_CLEAR(argument);
  Py_CLEAR(scope->tracer);
  Py_CLEAR(scope->span);
  Py_CLEAR(scope->other);
  PyObject_Free(self);
}

PyObject* SetOtel(PyObject*, PyObject* args, PyObject* keywords) {
  static const char* names[] = {
      "span_key", "suppress_key", "context_class", "no_context",   "span_context",         "remote_span",
      "sampled",  "kinds",        "kind_names",    "no_op_tracer", "make_exception_event", "make_link",
      "explain",  "decorate",     nullptr};
  OtelApi api;
  if (PyArg_ParseTupleAndKeywords(args, keywords, "$OOO!OOOOO!O!OOOOO:set_otel", const_cast<char**>(names),
                                  &api.span_key, &api.suppress_key, &PyType_Type, &api.context_class, &api.no_context,
                                  &api.span_context, &api.remote_span, &api.sampled, &PyTuple_Type, &api.kinds,
                                  &PyTuple_Type, &api.kind_names, &api.no_op_tracer, &api.make_exception_event,
                                  &api.make_link, &api.explain, &api.decorate) == 0) {
    return nullptr;
  }
  for (PyObject* object : {api.span_key, api.suppress_key, api.context_class, api.no_context, api.span_context,
                           api.remote_span, api.sampled, api.kinds, api.kind_names, api.no_op_tracer,
                           api.make_exception_event, api.make_link, api.explain, api.decorate}) {
    Py_INCREF(object);
  }
  otel_api = api;
  Py_RETURN_NONE;
}

PyMethodDef tracer_methods[] = {{"adopt", AsFunction(TracerAdopt), METH_FASTCALL | METH_KEYWORDS,
                                 "Records a span that another library has started."},
                                {"start_as_current_span", AsFunction(TracerStartCurrent), METH_FASTCALL | METH_KEYWORDS,
                                 "As the Tracer of OpenTelemetry's API: a block, or a decorator."},
                                {nullptr, nullptr, 0, nullptr}};

PyMethodDef start_span_method = {"start_span", AsFunction(TracerStartSpan), METH_FASTCALL | METH_KEYWORDS,
                                 "As the Tracer of OpenTelemetry's API."};

PyMethodDef scope_methods[] = {{"__enter__", ScopeEnter, METH_NOARGS, nullptr},
                               {"__exit__", AsFunction(ScopeExit), METH_FASTCALL, nullptr},
                               {"again", ScopeAgain, METH_NOARGS, "A block like this one that has not been entered."},
                               {nullptr, nullptr, 0, nullptr}};

PyMethodDef functions[] = {{"set_otel", AsFunction(SetOtel), METH_VARARGS | METH_KEYWORDS, nullptr},
                           {nullptr, nullptr, 0, nullptr}};

}  // namespace

int RegisterTracer(PyObject* module) {
  finish_row = FinishRow;

  tracer_type.tp_name = "spanbox._core.Tracer";
  tracer_type.tp_basicsize = sizeof(TracerObject);
  tracer_type.tp_flags = Py_TPFLAGS_DEFAULT;
  tracer_type.tp_doc = "Starts spans for one instrumentation scope; made by spanbox.otel.TracerProvider.";
  tracer_type.tp_new = TracerNew;
  tracer_type.tp_dealloc = TracerDealloc;
  tracer_type.tp_methods = tracer_methods;

  scope_type.tp_name = "spanbox._core.Scope";
  scope_type.tp_basicsize = sizeof(ScopeObject);
  scope_type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION;
  scope_type.tp_doc = "What start_as_current_span() gives.";
  scope_type.tp_dealloc = ScopeDealloc;
  scope_type.tp_call = ScopeCall;
  scope_type.tp_methods = scope_methods;

  for (PyTypeObject* type : {&tracer_type, &scope_type}) {
    if (PyModule_AddType(module, type) < 0) return -1;
  }
  PyObject* function = PyCFunction_New(&start_span_method, nullptr);
  PyObject* method = function == nullptr ? nullptr : PyInstanceMethod_New(function);
  Py_XDECREF(function);
  if (method == nullptr || PyDict_SetItemString(tracer_type.tp_dict, "start_span", method) < 0) return -1;
  Py_DECREF(method);
  PyType_Modified(&tracer_type);
  return PyModule_AddFunctions(module, functions);
}

}  // namespace spanbox::python
