// What spanbox.limit() is asked.
#include "limits.h"

#include <algorithm>

#include "context.h"
#include "recording.h"

namespace spanbox::python {
namespace {

PyObject* SetLimitHook(PyObject*, PyObject* hook) {
  Py_XSETREF(limit_hook, hook == Py_None ? nullptr : Py_NewRef(hook));
  Py_RETURN_NONE;
}

PyObject* SetLender(PyObject*, PyObject* function) {
  Py_XSETREF(lender, function == Py_None ? nullptr : Py_NewRef(function));
  Py_RETURN_NONE;
}

PyObject* AsObject(const ContextObject* context) {
  return reinterpret_cast<PyObject*>(const_cast<ContextObject*>(context));
}

// Spans around `context`, of this thread or task: ours, and others that are current in OpenTelemetry's context.
Py_ssize_t Depth(const ContextObject* context) {
  Py_ssize_t depth = 0;
  for (; context != nullptr; context = context->parent) {
    const SpanId outer = context->parent == nullptr ? 0 : context->parent->span_id;
    if (context->span_id != 0 && context->span_id != outer) ++depth;
  }
  return depth;
}

void Append(PyObject* list, SpanId id) {
  PyObject* number = PyLong_FromUnsignedLongLong(id);
  if (number == nullptr || PyList_Append(list, number) < 0) PyErr_Clear();
  Py_XDECREF(number);
}

// The ids of the model calls around `context`, without `own`: a new reference, a list; or nullptr.
PyObject* CallsAround(const ContextObject* context, SpanId own) {
  PyObject* calls = PyList_New(0);
  for (; calls != nullptr && context != nullptr; context = context->parent) {
    if (!IsSpan(AsObject(context)) || context->span_id == own) continue;
    const SpanKind kind = static_cast<const SpanObject*>(context)->kind;
    if (kind != SpanKind::kLlm && kind != SpanKind::kEmbedding) continue;
    Append(calls, context->span_id);
  }
  return calls;
}

// Calls a method of the hook: a new reference, or nullptr with an exception set.
template <typename... Arguments>
PyObject* Call(const char* method, const char* format, Arguments... arguments) {
  PyObject* hook = Py_NewRef(limit_hook);  // it may be taken away while it runs
  PyObject* answer = PyObject_CallMethod(hook, method, format, arguments...);
  Py_DECREF(hook);
  return answer;
}

const char* NameOf(SpanKind kind) { return ToString(kind).data(); }  // a literal

void Tell(const char* method, const SpanObject* span, PyObject* attributes) {
  ContextObject* current = CurrentContext();
  const ContextObject* const tagged = span->tags != nullptr ? span : current;
  PyObject* tags = OrNone(tagged == nullptr ? nullptr : tagged->tags);
  PyObject* calls = CallsAround(current, span->span_id);
  if (calls != nullptr) {
    if (span->parent_id != 0) Append(calls, span->parent_id);  // a span that was lent is not around
    Py_XDECREF(Call(method, "KsNNO", static_cast<unsigned long long>(span->span_id), NameOf(span->kind), tags, calls,
                    attributes == nullptr ? Py_None : attributes));
  } else {
    Py_DECREF(tags);
  }
  PyErr_Clear();
  Py_XDECREF(current);
}

PyObject* SpanDepth(PyObject*, PyObject*) {
  ContextObject* current = CurrentContext();
  const Py_ssize_t depth = Depth(current);
  Py_XDECREF(current);
  return PyLong_FromSsize_t(depth);
}

// ask_limits(name, attributes, calls, depth) of a span that another library starts here, inside `calls` (ids of its
// open model calls) and at least `depth` spans: its kind, as far as it is known; None without a limit.
PyObject* AskLimitsHere(PyObject*, PyObject* args) {
  PyObject *name = nullptr, *attributes = nullptr, *calls = nullptr;
  Py_ssize_t depth = 0;
  if (PyArg_ParseTuple(args, "OO!O!n", &name, &PyDict_Type, &attributes, &PyList_Type, &calls, &depth) == 0) {
    return nullptr;
  }
  if (limit_hook == nullptr) Py_RETURN_NONE;
  ContextObject* current = CurrentContext();
  PyObject* around = CallsAround(current, 0);
  PyObject* every = around == nullptr ? nullptr : PySequence_Concat(calls, around);
  PyObject* tags = OrNone(current == nullptr ? nullptr : current->tags);
  depth = std::max(depth, Depth(current));
  Py_XDECREF(current);
  Py_XDECREF(around);
  if (every == nullptr) {
    Py_DECREF(tags);
    return nullptr;
  }
  return Call("starts_traced", "OONnN", name, attributes, tags, depth, every);
}

PyMethodDef functions[] = {{"ask_limits", AskLimitsHere, METH_VARARGS, nullptr},
                           {"set_limit_hook", SetLimitHook, METH_O, nullptr},
                           {"set_lender", SetLender, METH_O, nullptr},
                           {"span_depth", SpanDepth, METH_NOARGS, nullptr},
                           {nullptr, nullptr, 0, nullptr}};

}  // namespace

ContextObject* LentOr(ContextObject* place, PyObject* name, PyObject* attributes) {
  PyObject* const function = Py_NewRef(lender);
  PyObject* span = PyObject_CallFunctionObjArgs(function, name, attributes == nullptr ? Py_None : attributes, nullptr);
  Py_DECREF(function);
  PyErr_Clear();
  if (span != nullptr && IsSpan(span) && reinterpret_cast<SpanObject*>(span)->open) {
    Py_XDECREF(place);
    return reinterpret_cast<ContextObject*>(span);
  }
  Py_XDECREF(span);
  return place;
}

bool AskLimits(SpanKind kind) {
  ContextObject* current = CurrentContext();
  PyObject* tags = OrNone(current == nullptr ? nullptr : current->tags);
  PyObject* answer = Call("starts", "sNn", NameOf(kind), tags, Depth(current));
  Py_XDECREF(current);
  Py_XDECREF(answer);
  return answer != nullptr;
}

bool AskLimitsOfTracer(PyObject* name, PyObject* attributes, const ContextObject* place, SpanKind& kind) {
  PyObject* tags = OrNone(place == nullptr ? nullptr : place->tags);
  PyObject* calls = CallsAround(place, 0);
  if (calls == nullptr) {
    Py_DECREF(tags);
    return false;
  }
  PyObject* answer =
      Call("starts_traced", "OONnN", name, attributes == nullptr ? Py_None : attributes, tags, Depth(place), calls);
  if (answer == nullptr) return false;
  if (PyUnicode_Check(answer)) kind = SpanKindFromString(Utf8(answer).view()).value_or(kind);
  Py_DECREF(answer);
  return true;
}

void TellLimits(const SpanObject* span, PyObject* attributes) { Tell("sets", span, attributes); }
void TellLimitsOfTracer(const SpanObject* span, PyObject* attributes) { Tell("sets_traced", span, attributes); }

int RegisterLimits(PyObject* module) { return PyModule_AddFunctions(module, functions); }

}  // namespace spanbox::python
