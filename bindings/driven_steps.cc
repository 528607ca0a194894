// The steps of async generators: what asend, athrow and aclose of a Driven return, to be awaited.
#include <cstddef>

#include "driven.h"

namespace spanbox::python {
namespace {

PyTypeObject step_type = {PyVarObject_HEAD_INIT(nullptr, 0)};

// One awaitable of an async generator: asend, athrow or aclose.
struct StepObject {
  PyObject_HEAD DrivenObject* driven;
  PyObject* awaitable;
  bool closes;   // aclose
  bool cancels;  // athrow of a cancellation
};

// asyncio's, recognised by name: it need not be imported.
bool IsCancelled(PyTypeObject* type) { return QualifiedTypeName(type) == "asyncio.exceptions.CancelledError"; }

PyObject* NewStep(DrivenObject* driven, PyObject* awaitable, bool closes = false, bool cancels = false) {
  if (awaitable == nullptr) return nullptr;
  StepObject* step = PyObject_GC_New(StepObject, &step_type);
  if (step == nullptr) {
    Py_DECREF(awaitable);
    return nullptr;
  }
  step->driven = reinterpret_cast<DrivenObject*>(Py_NewRef(reinterpret_cast<PyObject*>(driven)));
  step->awaitable = awaitable;
  step->closes = closes;
  step->cancels = cancels;
  PyObject_GC_Track(reinterpret_cast<PyObject*>(step));
  return reinterpret_cast<PyObject*>(step);
}

// A step that has come to its end: with a chunk, with the end of the stream, or with an exception.
void SettleStep(StepObject* step, PyObject* returned) {
  DrivenObject* driven = step->driven;
  if (returned != nullptr) {
    if (step->closes) {
      Finish(driven, {.early = true});
    } else {
      NoteChunk(driven, returned);
    }
  } else if (PyErr_ExceptionMatches(PyExc_StopAsyncIteration) != 0) {
    Finish(driven, {});
  } else if (step->cancels && IsCancelled(reinterpret_cast<PyTypeObject*>(PyErr_Occurred()))) {
    // It was waiting for its consumer, who was cancelled, and not the other way round.
    Finish(driven, {.early = true});
  } else {
    FinishRaised(driven);
  }
}

PySendResult StepSend(PyObject* self, PyObject* value, PyObject** result) {
  auto* step = reinterpret_cast<StepObject*>(self);
  PySendResult outcome;
  {
    const Inside inside(step->driven);
    outcome = PyIter_Send(step->awaitable, value, result);
  }
  if (outcome != PYGEN_NEXT) SettleStep(step, *result);
  return outcome;
}

PyObject* StepNext(PyObject* self) {
  PyObject* result = nullptr;
  const PySendResult outcome = StepSend(self, Py_None, &result);
  return AsIteration(outcome, result);
}

PyObject* StepSendMethod(PyObject* self, PyObject* value) {
  PyObject* result = nullptr;
  const PySendResult outcome = StepSend(self, value, &result);
  return AsIteration(outcome, result);
}

PyObject* StepThrow(PyObject* self, PyObject* args) {
  auto* step = reinterpret_cast<StepObject*>(self);
  PyObject* result = nullptr;
  {
    const Inside inside(step->driven);
    result = CallMethod(step->awaitable, "throw", args);
  }
  if (result != nullptr) return result;
  if (PyErr_ExceptionMatches(PyExc_StopIteration) == 0) {
    SettleStep(step, nullptr);
    return nullptr;
  }
  PyObject *type = nullptr, *error = nullptr, *traceback = nullptr;
  PyErr_Fetch(&type, &error, &traceback);
  PyErr_NormalizeException(&type, &error, &traceback);
  SettleStep(step, error == nullptr ? Py_None : reinterpret_cast<PyStopIterationObject*>(error)->value);
  PyErr_Restore(type, error, traceback);
  return nullptr;
}

PyObject* StepClose(PyObject* self, PyObject*) {
  auto* step = reinterpret_cast<StepObject*>(self);
  const Inside inside(step->driven);
  return CallMethod(step->awaitable, "close", nullptr);
}

int StepTraverse(PyObject* self, visitproc visit, void* arg) {
  auto* step = reinterpret_cast<StepObject*>(self);
  Py_VISIT(reinterpret_cast<PyObject*>(step->driven));
  Py_VISIT(step->awaitable);
  return 0;
}

void StepDealloc(PyObject* self) {
  auto* step = reinterpret_cast<StepObject*>(self);
  PyObject_GC_UnTrack(self);
  Py_CLEAR(step->driven);
  Py_CLEAR(step->awaitable);
  PyObject_GC_Del(self);
}

PyAsyncMethods step_async = {
    .am_await = PyObject_SelfIter, .am_aiter = nullptr, .am_anext = nullptr, .am_send = StepSend};
PyMethodDef step_methods[] = {{"send", StepSendMethod, METH_O, nullptr},
                              {"throw", StepThrow, METH_VARARGS, nullptr},
                              {"close", StepClose, METH_NOARGS, nullptr},
                              {nullptr, nullptr, 0, nullptr}};

}  // namespace

PyObject* DrivenAsend(PyObject* self, PyObject* value) {
  auto* driven = reinterpret_cast<DrivenObject*>(self);
  EnsureStarted(driven);
  PyObject* args = PyTuple_Pack(1, value);
  PyObject* awaitable = args == nullptr ? nullptr : CallMethod(driven->inner, "asend", args);
  Py_XDECREF(args);
  return NewStep(driven, awaitable);
}

PyObject* DrivenAthrow(PyObject* self, PyObject* args) {
  auto* driven = reinterpret_cast<DrivenObject*>(self);
  const bool cancels = PyTuple_GET_SIZE(args) == 1 && IsCancelled(Py_TYPE(PyTuple_GET_ITEM(args, 0)));
  return NewStep(driven, CallMethod(driven->inner, "athrow", args), /*closes=*/false, cancels);
}

PyObject* DrivenAclose(PyObject* self, PyObject*) {
  auto* driven = reinterpret_cast<DrivenObject*>(self);
  return NewStep(driven, CallMethod(driven->inner, "aclose", nullptr), /*closes=*/true);
}

int ReadySteps() {
  step_type.tp_name = "spanbox._core.Step";
  step_type.tp_basicsize = sizeof(StepObject);
  step_type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION;
  step_type.tp_dealloc = StepDealloc;
  step_type.tp_traverse = StepTraverse;
  step_type.tp_as_async = &step_async;
  step_type.tp_iter = PyObject_SelfIter;
  step_type.tp_iternext = StepNext;
  step_type.tp_methods = step_methods;
  return PyType_Ready(&step_type);
}

}  // namespace spanbox::python
