// The Context of OpenTelemetry's API: where a span is, and attach, detach and get_current on our ContextVar.
#include "otel.h"

namespace spanbox::python {
namespace {

PyTypeObject token_type = {PyVarObject_HEAD_INIT(nullptr, 0)};

// Our own span, also inside of a proxy; new reference or nullptr.
SpanObject* OurSpan(PyObject* span) {
  if (IsSpan(span)) return reinterpret_cast<SpanObject*>(Py_NewRef(span));
  PyObject* wrapped = PyObject_GetAttrString(span, "__wrapped__");
  PyErr_Clear();
  if (wrapped != nullptr && !IsSpan(wrapped)) Py_CLEAR(wrapped);
  return reinterpret_cast<SpanObject*>(wrapped);
}

TraceParent ParentOfSpan(PyObject* span) {
  PyObject* span_context = PyObject_CallMethod(span, "get_span_context", nullptr);
  const TraceParent parent = ParentOf(span_context);
  PyErr_Clear();
  Py_XDECREF(span_context);
  return parent;
}

}  // namespace

TraceParent ParentOf(PyObject* span_context) {
  TraceParent parent;
  if (span_context == nullptr || !PyTuple_Check(span_context) || PyTuple_GET_SIZE(span_context) < 2) return parent;
  PyObject* shift = PyLong_FromLong(64);
  PyObject* trace = PyTuple_GET_ITEM(span_context, 0);
  PyObject* high = shift == nullptr ? nullptr : PyNumber_Rshift(trace, shift);
  const std::uint64_t high_bits = high == nullptr ? 0 : PyLong_AsUnsignedLongLongMask(high);
  const std::uint64_t low_bits = PyErr_Occurred() != nullptr ? 0 : PyLong_AsUnsignedLongLongMask(trace);
  const std::uint64_t span_id =
      PyErr_Occurred() != nullptr ? 0 : PyLong_AsUnsignedLongLongMask(PyTuple_GET_ITEM(span_context, 1));
  const bool wrong = PyErr_Occurred() != nullptr;
  PyErr_Clear();
  Py_XDECREF(high);
  Py_XDECREF(shift);
  for (std::size_t i = 0; i < 8; ++i) {
    parent.trace_id.bytes[i] = static_cast<std::uint8_t>(high_bits >> (56 - 8 * i));
    parent.trace_id.bytes[8 + i] = static_cast<std::uint8_t>(low_bits >> (56 - 8 * i));
  }
  if (wrong || !parent.trace_id.is_valid() || span_id == 0) return {};
  parent.span_id = span_id;
  return parent;
}

void Identify(ContextObject* place, PyObject* context) {
  PyObject* span = PyDict_GetItemWithError(context, otel_api.span_key);
  SpanObject* ours = span == nullptr ? nullptr : OurSpan(span);
  if (ours != nullptr && ours->span_id != 0) {
    place->trace_id = ours->trace_id;
    place->span_id = ours->span_id;
    Py_XSETREF(place->tags, MergeTags(place, ours));
    Py_XSETREF(place->span, Py_NewRef(reinterpret_cast<PyObject*>(ours)));
  } else if (ours == nullptr) {
    const TraceParent parent = span == nullptr ? TraceParent{} : ParentOfSpan(span);
    if (parent.span_id != place->span_id || parent.trace_id != place->trace_id) Py_CLEAR(place->span);
    place->trace_id = parent.trace_id;
    place->span_id = parent.span_id;
  }
  PyErr_Clear();
  Py_XDECREF(ours);
}

namespace {

// What attach() gives: detach() leaves its context.
struct TokenObject {
  PyObject_HEAD ContextObject* context;
  const void* runner;  // that attached it
};

PyObject* Attach(PyObject*, PyObject* context) {
  if (!PyDict_Check(context)) Py_RETURN_NONE;
  TokenObject* token = PyObject_New(TokenObject, &token_type);
  if (token == nullptr) return nullptr;
  token->context = NewAttached(CurrentContext(), context);
  if (token->context == nullptr) {
    Py_DECREF(token);
    return nullptr;
  }
  Identify(token->context, context);
  MakeCurrent(token->context);
  token->runner = Runner();
  return reinterpret_cast<PyObject*>(token);
}

PyObject* Detach(PyObject*, PyObject* given) {
  if (Py_IS_TYPE(given, &token_type)) {
    auto* token = reinterpret_cast<TokenObject*>(given);
    LeaveContext(token->context, token->runner == Runner());
  }
  Py_RETURN_NONE;
}

// As of contextvars: OpenInference's LlamaIndex leaves by `token.var.reset(token)`, and without it ends no span.
PyObject* TokenGetVar(PyObject* self, void*) { return Py_NewRef(self); }

PyMethodDef token_methods[] = {{"reset", Detach, METH_O, "As otel_detach()."}, {nullptr, nullptr, 0, nullptr}};

PyGetSetDef token_getset[] = {{"var", TokenGetVar, nullptr, "What has reset(), as a token of contextvars.", nullptr},
                              {nullptr, nullptr, nullptr, nullptr, nullptr}};

void TokenDealloc(PyObject* self) {
  Py_CLEAR(reinterpret_cast<TokenObject*>(self)->context);
  PyObject_Free(self);
}

// The span that `context` is in, as OpenTelemetry's API wants it; new reference or nullptr.
PyObject* SpanAt(const ContextObject* context) {
  if (context->span_id == 0) return nullptr;
  const auto* inside = reinterpret_cast<const SpanObject*>(context->span);
  if (inside != nullptr && inside->span_id == context->span_id) return Py_NewRef(context->span);
  PyObject* span_context = SpanContextOf(context->trace_id, context->span_id, true, nullptr);
  PyObject* span = span_context == nullptr ? nullptr : PyObject_CallOneArg(otel_api.remote_span, span_context);
  PyErr_Clear();
  Py_XDECREF(span_context);
  return span;
}

PyObject* GetCurrent(PyObject*, PyObject*) {
  ContextObject* context = CurrentContext();
  if (context == nullptr) return Py_NewRef(otel_api.no_context);
  PyObject* attached = context->otel == nullptr ? otel_api.no_context : context->otel;
  PyObject* span = IsAttached(context) ? nullptr : SpanAt(context);
  PyObject* result = nullptr;
  if (span == nullptr) {
    result = Py_NewRef(attached);
  } else {
    PyObject* values = PyDict_Copy(attached);
    if (values != nullptr && PyDict_SetItem(values, otel_api.span_key, span) == 0) {
      result = PyObject_CallOneArg(otel_api.context_class, values);
    }
    Py_XDECREF(values);
    Py_DECREF(span);
  }
  Py_DECREF(context);
  return result;
}

PyMethodDef functions[] = {
    {"otel_attach", Attach, METH_O, "Makes a Context current; what it returns is for otel_detach."},
    {"otel_detach", Detach, METH_O, "Puts back what was around an attached Context, if that is found here."},
    {"otel_get_current", GetCurrent, METH_NOARGS,
     "The Context here: the one attached, with the span this code runs in."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

int RegisterOtelContext(PyObject* module) {
  token_type.tp_name = "spanbox._core.Token";
  token_type.tp_basicsize = sizeof(TokenObject);
  token_type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION;
  token_type.tp_doc = "What otel_attach() gives, for otel_detach().";
  token_type.tp_methods = token_methods;
  token_type.tp_getset = token_getset;
  token_type.tp_dealloc = TokenDealloc;
  if (PyModule_AddType(module, &token_type) < 0) return -1;
  return PyModule_AddFunctions(module, functions);
}

}  // namespace spanbox::python
