// What spanbox.limit() is asked.
#include "limits.h"

#include "context.h"
#include "recording.h"

namespace spanbox::python {
namespace {

PyObject* SetLimitHook(PyObject*, PyObject* hook) {
  Py_XSETREF(limit_hook, hook == Py_None ? nullptr : Py_NewRef(hook));
  Py_RETURN_NONE;
}

PyObject* AsObject(const ContextObject* context) {
  return reinterpret_cast<PyObject*>(const_cast<ContextObject*>(context));
}

// Spans around `context`, of this thread or task.
Py_ssize_t Depth(const ContextObject* context) {
  Py_ssize_t depth = 0;
  for (; context != nullptr; context = context->parent) {
    if (IsSpan(AsObject(context))) ++depth;
  }
  return depth;
}

// The ids of the model calls around `context`, without `own`: a new reference, a list; or nullptr.
PyObject* CallsAround(const ContextObject* context, SpanId own) {
  PyObject* calls = PyList_New(0);
  for (; calls != nullptr && context != nullptr; context = context->parent) {
    if (!IsSpan(AsObject(context)) || context->span_id == own) continue;
    const SpanKind kind = static_cast<const SpanObject*>(context)->kind;
    if (kind != SpanKind::kLlm && kind != SpanKind::kEmbedding) continue;
    PyObject* id = PyLong_FromUnsignedLongLong(context->span_id);
    if (id == nullptr || PyList_Append(calls, id) < 0) PyErr_Clear();
    Py_XDECREF(id);
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

PyMethodDef functions[] = {{"set_limit_hook", SetLimitHook, METH_O, nullptr},
                           {"span_depth", SpanDepth, METH_NOARGS, nullptr},
                           {nullptr, nullptr, 0, nullptr}};

}  // namespace

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
