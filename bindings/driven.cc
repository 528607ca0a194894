// Coroutines and generators of observed functions, and what users get for them.
#include "driven.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <utility>

#include "base/clock.h"
#include "limits.h"

namespace spanbox::python {
namespace {

PyTypeObject driven_type = {PyVarObject_HEAD_INIT(nullptr, 0)};
PyObject* shells[4] = {};  // by Returns: a function from a Driven to what users get

// A generator's span is current during its steps only: see Inside.
void Leave(DrivenObject* driven) {
  if (!driven->is_generator) LeaveCall(driven->span, std::exchange(driven->token, nullptr));
}

}  // namespace

void Finish(DrivenObject* driven, const Ending& ending) {
  SpanObject* span = driven->span;
  if (span == nullptr || !span->open) return;
  const ErrorAside aside;
  const auto leave = [driven] { Leave(driven); };
  PyObject* const error = ending.exception;
  const bool left = error != nullptr && PyErr_GivenExceptionMatches(error, PyExc_GeneratorExit) != 0;
  const auto add = [&](RecordWriter& record) {
    const CallShape& shape = *driven->observed->shape;
    if (ending.early || left) record.AddBool(Column::kAttribute, "closed_early", true);
    if (ending.output != nullptr && shape.capture_output) AddOutput(record, shape, ending.output);
    if (driven->chunks != nullptr) {
      AddCaptured(record, [&](Capture& capture) {
        shape.LimitCapture(capture);
        driven->chunks->AddTo(capture, record, shape.capture_output);
      });
    }
    if (error != nullptr && !left) AddError(span, record, error);
  };
  EndSpan(open_recorder, span, add, leave);
}

void FinishRaised(DrivenObject* driven) {
  const Raised raised = SetAside();
  Finish(driven, {.exception = raised.value});
  RaiseAgain(raised);
}

void EnsureStarted(DrivenObject* driven) {
  if (driven->started) return;
  driven->started = true;
  PyObject* token = nullptr;
  PyObject* const arguments = driven->arguments;
  PyObject* const* values = &PyTuple_GET_ITEM(arguments, 0);
  const Py_ssize_t keywords = driven->keyword_names == nullptr ? 0 : PyTuple_GET_SIZE(driven->keyword_names);
  const auto count = static_cast<std::size_t>(PyTuple_GET_SIZE(arguments) - keywords);
  driven->span = StartCall(driven->observed, values, count, driven->keyword_names, &token);
  if (driven->span != nullptr && driven->is_generator) {
    driven->inside = reinterpret_cast<ContextObject*>(Py_NewRef(reinterpret_cast<PyObject*>(driven->span)));
    driven->chunks = new Chunks;
    LeaveCall(driven->span, token);  // see Inside
  } else {
    driven->token = token;
  }
  Py_CLEAR(driven->arguments);
  Py_CLEAR(driven->keyword_names);
}

void NoteChunk(DrivenObject* driven, PyObject* value) {
  SpanObject* span = driven->span;
  if (driven->chunks == nullptr || span == nullptr || !span->open) return;
  const std::int64_t since_start_ns = MonotonicNowNs() - span->start_monotonic_ns;
  if (span->ttft_ns < 0) span->ttft_ns = since_start_ns;
  driven->chunks->Add(value, since_start_ns, driven->observed->shape->capture_output, process_limits);
}

PyObject* CallMethod(PyObject* object, const char* name, PyObject* args) {
  PyObject* method = PyObject_GetAttrString(object, name);
  if (method == nullptr) return nullptr;
  PyObject* result = PyObject_CallObject(method, args);
  Py_DECREF(method);
  return result;
}

PyObject* AsIteration(PySendResult outcome, PyObject* result) {
  if (outcome != PYGEN_RETURN) return result;
  if (result == Py_None) {
    PyErr_SetNone(PyExc_StopIteration);
  } else {
    // In an instance of its own: a tuple or an exception as the value would be taken apart.
    PyObject* stop = PyObject_CallOneArg(PyExc_StopIteration, result);
    if (stop != nullptr) PyErr_SetObject(PyExc_StopIteration, stop);
    Py_XDECREF(stop);
  }
  Py_DECREF(result);
  return nullptr;
}

namespace {

// --- coroutines ------------------------------------------------------------------------------------------------------

// Starts the span and hands out what is to be awaited.
PyObject* DrivenBegin(PyObject* self, PyObject*) {
  auto* driven = reinterpret_cast<DrivenObject*>(self);
  EnsureStarted(driven);
  return std::exchange(driven->inner, Py_NewRef(Py_None));
}

PyObject* DrivenReturned(PyObject* self, PyObject* result) {
  Finish(reinterpret_cast<DrivenObject*>(self), {.output = result});
  Py_RETURN_NONE;
}

// With the exception that is being handled.
PyObject* DrivenRaised(PyObject* self, PyObject*) {
  PyObject* error = PyErr_GetHandledException();
  Finish(reinterpret_cast<DrivenObject*>(self), {.exception = error});
  Py_XDECREF(error);
  Py_RETURN_NONE;
}

// --- generators ------------------------------------------------------------------------------------------------------

PySendResult DrivenSend(PyObject* self, PyObject* value, PyObject** result) {
  auto* driven = reinterpret_cast<DrivenObject*>(self);
  EnsureStarted(driven);
  PySendResult outcome;
  {
    const Inside inside(driven);
    outcome = PyIter_Send(driven->inner, value, result);
  }
  if (outcome == PYGEN_NEXT) NoteChunk(driven, *result);
  if (outcome == PYGEN_RETURN) Finish(driven, {});
  if (outcome == PYGEN_ERROR) FinishRaised(driven);
  return outcome;
}

PyObject* DrivenNext(PyObject* self) {
  PyObject* result = nullptr;
  const PySendResult outcome = DrivenSend(self, Py_None, &result);
  return AsIteration(outcome, result);
}

PyObject* DrivenSendMethod(PyObject* self, PyObject* value) {
  PyObject* result = nullptr;
  const PySendResult outcome = DrivenSend(self, value, &result);
  return AsIteration(outcome, result);
}

PyObject* DrivenThrow(PyObject* self, PyObject* args) {
  auto* driven = reinterpret_cast<DrivenObject*>(self);
  PyObject* result = nullptr;
  {
    const Inside inside(driven);
    result = CallMethod(driven->inner, "throw", args);
  }
  if (result != nullptr) {
    NoteChunk(driven, result);
  } else if (PyErr_ExceptionMatches(PyExc_StopIteration) != 0) {
    Finish(driven, {});
  } else {
    FinishRaised(driven);
  }
  return result;
}

PyObject* DrivenClose(PyObject* self, PyObject*) {
  auto* driven = reinterpret_cast<DrivenObject*>(self);
  PyObject* result = nullptr;
  {
    const Inside inside(driven);
    result = CallMethod(driven->inner, "close", nullptr);
  }
  if (result == nullptr) {
    FinishRaised(driven);
  } else {
    Finish(driven, {.early = true});
  }
  return result;
}

// --- the type --------------------------------------------------------------------------------------------------------

int DrivenTraverse(PyObject* self, visitproc visit, void* arg) {
  auto* driven = reinterpret_cast<DrivenObject*>(self);
  Py_VISIT(driven->inner);
  Py_VISIT(driven->arguments);
  Py_VISIT(reinterpret_cast<PyObject*>(driven->observed));
  return 0;
}

int DrivenClear(PyObject* self) {
  auto* driven = reinterpret_cast<DrivenObject*>(self);
  Finish(driven, {.early = true});
  Py_XSETREF(driven->inner, Py_NewRef(Py_None));  // never null: a step may still be asked of it
  return 0;
}

// A coroutine that is never awaited says so once, and that is the one the user has.
void CloseUnstarted(DrivenObject* driven) {
  if (driven->started || driven->is_generator || !PyCoro_CheckExact(driven->inner)) return;
  const ErrorAside aside;
  Py_XDECREF(CallMethod(driven->inner, "close", nullptr));
  PyErr_Clear();
}

void DrivenDealloc(PyObject* self) {
  auto* driven = reinterpret_cast<DrivenObject*>(self);
  PyObject_GC_UnTrack(self);
  if (driven->weak_refs != nullptr) PyObject_ClearWeakRefs(self);
  Finish(driven, {.early = true});
  CloseUnstarted(driven);
  Py_CLEAR(driven->inner);
  Py_CLEAR(driven->arguments);
  Py_CLEAR(driven->keyword_names);
  Py_CLEAR(driven->token);
  Py_CLEAR(driven->inside);
  Py_CLEAR(driven->span);
  Py_CLEAR(driven->observed);
  delete driven->chunks;
  PyObject_GC_Del(self);
}

PyAsyncMethods driven_async = {.am_await = nullptr, .am_aiter = nullptr, .am_anext = nullptr, .am_send = DrivenSend};
PyMethodDef driven_methods[] = {
    {"begin", DrivenBegin, METH_NOARGS, nullptr},   {"returned", DrivenReturned, METH_O, nullptr},
    {"raised", DrivenRaised, METH_NOARGS, nullptr}, {"send", DrivenSendMethod, METH_O, nullptr},
    {"throw", DrivenThrow, METH_VARARGS, nullptr},  {"close", DrivenClose, METH_NOARGS, nullptr},
    {"asend", DrivenAsend, METH_O, nullptr},        {"athrow", DrivenAthrow, METH_VARARGS, nullptr},
    {"aclose", DrivenAclose, METH_NOARGS, nullptr}, {nullptr, nullptr, 0, nullptr}};

// Untracked, and without arguments.
DrivenObject* NewDriven(ObservedObject* observed, PyObject* inner) {
  DrivenObject* driven = PyObject_GC_New(DrivenObject, &driven_type);
  if (driven == nullptr) return nullptr;
  driven->inner = Py_NewRef(inner);
  driven->observed = reinterpret_cast<ObservedObject*>(Py_NewRef(reinterpret_cast<PyObject*>(observed)));
  driven->arguments = driven->keyword_names = driven->token = driven->weak_refs = nullptr;
  driven->span = nullptr;
  driven->inside = nullptr;
  driven->chunks = nullptr;
  driven->is_generator = observed->shape->returns != Returns::kCoroutine;
  driven->started = false;
  return driven;
}

// What users get is called as what their function has made.
void TakeNames(PyObject* made, PyObject* inner) {
#if PY_VERSION_HEX < 0x030E0000
  // Generators, coroutines and async generators begin alike.
  const auto is_one = [](PyObject* object) {
    return PyCoro_CheckExact(object) || PyGen_CheckExact(object) || PyAsyncGen_CheckExact(object);
  };
  if (is_one(made) && is_one(inner)) {
    auto* to = reinterpret_cast<PyGenObject*>(made);
    const auto* from = reinterpret_cast<const PyGenObject*>(inner);
    Py_XSETREF(to->gi_name, Py_XNewRef(from->gi_name));
    Py_XSETREF(to->gi_qualname, Py_XNewRef(from->gi_qualname));
    return;
  }
#endif
  for (const char* attribute : {"__name__", "__qualname__"}) {
    PyObject* name = PyObject_GetAttrString(inner, attribute);
    if (name == nullptr || PyObject_SetAttrString(made, attribute, name) < 0) PyErr_Clear();
    Py_XDECREF(name);
  }
}

// set_shells(coroutine, generator, async_generator)
PyObject* SetShells(PyObject*, PyObject* args) {
  PyObject* given[3] = {};
  if (PyArg_ParseTuple(args, "OOO:set_shells", &given[0], &given[1], &given[2]) == 0) return nullptr;
  for (int i = 0; i < 3; ++i) Py_XSETREF(shells[i + 1], Py_NewRef(given[i]));
  Py_RETURN_NONE;
}

PyMethodDef functions[] = {{"set_shells", SetShells, METH_VARARGS, nullptr}, {nullptr, nullptr, 0, nullptr}};

}  // namespace

bool IsShell(PyCodeObject* code) {
  return std::any_of(std::begin(shells), std::end(shells), [code](PyObject* shell) {
    return shell != nullptr && PyFunction_Check(shell) &&
           PyFunction_GET_CODE(shell) == reinterpret_cast<PyObject*>(code);
  });
}

PyObject* CallDriven(PyObject* self, PyObject* const* args, size_t nargsf, PyObject* keyword_names) {
  auto* observed = reinterpret_cast<ObservedObject*>(self);
  if (!WithinLimits(observed->shape->kind)) [[unlikely]]
    return nullptr;
  PyObject* inner = PyObject_Vectorcall(observed->fn, args, nargsf, keyword_names);
  if (inner == nullptr || ActiveRecorder() == nullptr) return inner;
  PyObject* shell = shells[static_cast<std::size_t>(observed->shape->returns)];
  DrivenObject* driven = shell == nullptr ? nullptr : NewDriven(observed, inner);
  const Py_ssize_t count =
      PyVectorcall_NARGS(nargsf) + (keyword_names == nullptr ? 0 : PyTuple_GET_SIZE(keyword_names));
  if (driven != nullptr) driven->arguments = PyTuple_New(count);
  if (driven == nullptr || driven->arguments == nullptr) {
    Py_XDECREF(driven);
    PyErr_Clear();
    return inner;
  }
  for (Py_ssize_t i = 0; i < count; ++i) PyTuple_SET_ITEM(driven->arguments, i, Py_NewRef(args[i]));
  driven->keyword_names = Py_XNewRef(keyword_names);
  PyObject_GC_Track(reinterpret_cast<PyObject*>(driven));
  PyObject* made = PyObject_CallOneArg(shell, reinterpret_cast<PyObject*>(driven));
  if (made != nullptr) TakeNames(made, inner);
  Py_DECREF(driven);
  Py_DECREF(inner);
  return made;
}

int RegisterDriven(PyObject* module) {
  driven_type.tp_name = "spanbox._core.Driven";
  driven_type.tp_basicsize = sizeof(DrivenObject);
  driven_type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION;
  driven_type.tp_dealloc = DrivenDealloc;
  driven_type.tp_traverse = DrivenTraverse;
  driven_type.tp_clear = DrivenClear;
  driven_type.tp_as_async = &driven_async;
  driven_type.tp_iter = PyObject_SelfIter;
  driven_type.tp_iternext = DrivenNext;
  driven_type.tp_methods = driven_methods;
  driven_type.tp_weaklistoffset = offsetof(DrivenObject, weak_refs);

  if (PyType_Ready(&driven_type) < 0 || ReadySteps() < 0) return -1;
  return PyModule_AddFunctions(module, functions);
}

}  // namespace spanbox::python
