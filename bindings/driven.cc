// Coroutines, generators and async generators of observed functions, driven step by step.
//
// Users get objects of the very types their functions return: python/spanbox/_observe.py gives for each type a function
// whose body awaits (yields from) the Driven it is called with. The function itself is called when the user calls it,
// as ever. The span begins with the first step and ends once: with the last one, with what is raised, when it is
// closed, or when it is thrown away.
//
// The span is current only while a generator's own code runs, not between its steps: its consumer's spans are no
// children of it, and it may be consumed in any context. Between steps the context its code was in is kept.
#include <cstddef>
#include <utility>

#include "base/clock.h"
#include "chunks.h"
#include "observed.h"

namespace spanbox::python {
namespace {

PyTypeObject driven_type = {PyVarObject_HEAD_INIT(nullptr, 0)};
PyTypeObject step_type = {PyVarObject_HEAD_INIT(nullptr, 0)};
PyObject* shells[4] = {};  // by Returns: a function from a Driven to what users get

struct DrivenObject {
  PyObject_HEAD PyObject* inner;  // what the function returned
  ObservedObject* observed;
  PyObject* arguments;      // of the call, until the first step: a tuple of all values,
  PyObject* keyword_names;  // and the names of the last ones, or nullptr
  SpanObject* span;         // nullptr: not started, or not recorded
  PyObject* token;          // coroutines: of the ContextVar, while the span is current
  ContextObject* inside;    // generators, between steps: what its code runs in
  Chunks* chunks;           // owned; generators only
  PyObject* weak_refs;
  bool is_generator;  // of either kind
  bool started;
};

// One awaitable of an async generator: asend, athrow or aclose.
struct StepObject {
  PyObject_HEAD DrivenObject* driven;
  PyObject* awaitable;
  bool closes;   // aclose
  bool cancels;  // athrow of a cancellation
};

// What is raised is set aside while this lives.
class ErrorAside {
 public:
  ErrorAside() { PyErr_Fetch(&type_, &value_, &traceback_); }
  ~ErrorAside() { PyErr_Restore(type_, value_, traceback_); }
  ErrorAside(const ErrorAside&) = delete;
  ErrorAside& operator=(const ErrorAside&) = delete;

 private:
  PyObject *type_ = nullptr, *value_ = nullptr, *traceback_ = nullptr;
};

// Around a step of a generator: its code's context in, the consumer's back.
class Inside {
 public:
  explicit Inside(DrivenObject* driven) : driven_(driven->is_generator && driven->span != nullptr ? driven : nullptr) {
    if (driven_ == nullptr) return;
    outer_ = CurrentContext();
    MakeCurrent(driven_->inside);
  }
  ~Inside() {
    if (driven_ == nullptr) return;
    const ErrorAside aside;
    ContextObject* now = CurrentContext();
    Py_XSETREF(driven_->inside, now);
    MakeCurrent(outer_);
    Py_XDECREF(outer_);
  }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

 private:
  DrivenObject* const driven_;
  ContextObject* outer_ = nullptr;
};

// A generator's span is current during its steps only: see Inside.
void Leave(DrivenObject* driven) {
  if (!driven->is_generator) LeaveCall(driven->span, std::exchange(driven->token, nullptr));
}

// Ends the span, once. `output`: a coroutine's result or nullptr. early: it was closed before its end.
void Finish(DrivenObject* driven, PyObject* output, bool early) {
  SpanObject* span = driven->span;
  if (span == nullptr || !span->open) return;
  const ErrorAside aside;
  const bool keep = driven->observed->shape->capture_output;
  const auto leave = [driven] { Leave(driven); };
  Recorder* recorder = open_recorder;
  if (recorder == nullptr) {
    span->open = false;
    return leave();
  }
  const auto add = [&](RecordWriter& record) {
    if (early) record.AddBool(Column::kAttribute, "closed_early", true);
    const CallShape& shape = *driven->observed->shape;
    if (output != nullptr && keep) AddOutput(record, shape, output);
    if (driven->chunks == nullptr) return;
    AddCaptured(record, [&](Capture& capture) {
      shape.LimitCapture(capture);
      driven->chunks->AddTo(capture, record, keep);
    });
  };
  EndSpan(*recorder, span, add, leave);
}

// The same with the exception that is raised.
void FinishRaised(DrivenObject* driven) {
  SpanObject* span = driven->span;
  if (span == nullptr || !span->open) return;
  Recorder* recorder = open_recorder;
  if (recorder == nullptr || PyErr_ExceptionMatches(PyExc_GeneratorExit) != 0) {
    return Finish(driven, nullptr, /*early=*/true);
  }
  const bool keep = driven->observed->shape->capture_output;
  const auto add = [&](RecordWriter& record) {
    if (driven->chunks == nullptr) return;
    AddCaptured(record, [&](Capture& capture) { driven->chunks->AddTo(capture, record, keep); });
  };
  EndSpanRaised(*recorder, span, add, [driven] { Leave(driven); });
}

// Before the first step.
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

// --- Driven: coroutines and generators -------------------------------------------------------------------------------

// What a step of `driven` came to; `result` is borrowed.
void Settle(DrivenObject* driven, PySendResult outcome, PyObject* result) {
  switch (outcome) {
    case PYGEN_NEXT:
      NoteChunk(driven, result);
      break;
    case PYGEN_RETURN:
      Finish(driven, driven->is_generator ? nullptr : result, /*early=*/false);
      break;
    case PYGEN_ERROR:
      FinishRaised(driven);
      break;
  }
}

PySendResult DrivenSend(PyObject* self, PyObject* value, PyObject** result) {
  auto* driven = reinterpret_cast<DrivenObject*>(self);
  EnsureStarted(driven);
  PySendResult outcome;
  {
    const Inside inside(driven);
    outcome = PyIter_Send(driven->inner, value, result);
  }
  Settle(driven, outcome, *result);
  return outcome;
}

// The iterator protocol's form of a step's outcome: nullptr with StopIteration set when it has returned.
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

PyObject* CallMethod(PyObject* object, const char* name, PyObject* args) {
  PyObject* method = PyObject_GetAttrString(object, name);
  if (method == nullptr) return nullptr;
  PyObject* result = PyObject_CallObject(method, args);
  Py_DECREF(method);
  return result;
}

// The outcome of a call that follows the iterator protocol; StopIteration is left raised.
void SettleCall(DrivenObject* driven, PyObject* result) {
  if (result != nullptr) return NoteChunk(driven, result);
  if (PyErr_ExceptionMatches(PyExc_StopIteration) == 0) return FinishRaised(driven);
  PyObject *type = nullptr, *value = nullptr, *traceback = nullptr;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  PyObject* returned = value == nullptr ? Py_None : reinterpret_cast<PyStopIterationObject*>(value)->value;
  Finish(driven, driven->is_generator ? nullptr : returned, /*early=*/false);
  PyErr_Restore(type, value, traceback);
}

PyObject* DrivenThrow(PyObject* self, PyObject* args) {
  auto* driven = reinterpret_cast<DrivenObject*>(self);
  PyObject* result = nullptr;
  {
    const Inside inside(driven);
    result = CallMethod(driven->inner, "throw", args);
  }
  SettleCall(driven, result);
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
    Finish(driven, nullptr, /*early=*/true);
  }
  return result;
}

int DrivenTraverse(PyObject* self, visitproc visit, void* arg) {
  auto* driven = reinterpret_cast<DrivenObject*>(self);
  Py_VISIT(driven->inner);
  Py_VISIT(driven->arguments);
  Py_VISIT(reinterpret_cast<PyObject*>(driven->observed));
  return 0;
}

int DrivenClear(PyObject* self) {
  auto* driven = reinterpret_cast<DrivenObject*>(self);
  Finish(driven, nullptr, /*early=*/true);
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
  Finish(driven, nullptr, /*early=*/true);
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

// asyncio's, recognised by name: it need not be imported.
bool IsCancelled(PyTypeObject* type) { return QualifiedTypeName(type) == "asyncio.exceptions.CancelledError"; }

// --- Driven: async generators ----------------------------------------------------------------------------------------

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

// A step that has come to its end: with a chunk, with the end of the stream, or with an exception.
void SettleStep(StepObject* step, PyObject* returned) {
  DrivenObject* driven = step->driven;
  if (returned != nullptr) {
    if (step->closes) {
      Finish(driven, nullptr, /*early=*/true);
    } else {
      NoteChunk(driven, returned);
    }
  } else if (PyErr_ExceptionMatches(PyExc_StopAsyncIteration) != 0) {
    Finish(driven, nullptr, /*early=*/false);
  } else if (step->cancels && IsCancelled(reinterpret_cast<PyTypeObject*>(PyErr_Occurred()))) {
    // It was waiting for its consumer, who was cancelled, and not the other way round.
    Finish(driven, nullptr, /*early=*/true);
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

PyAsyncMethods driven_async = {
    .am_await = PyObject_SelfIter, .am_aiter = nullptr, .am_anext = nullptr, .am_send = DrivenSend};
PyAsyncMethods step_async = {
    .am_await = PyObject_SelfIter, .am_aiter = nullptr, .am_anext = nullptr, .am_send = StepSend};
PyMethodDef driven_methods[] = {{"send", DrivenSendMethod, METH_O, nullptr},
                                {"throw", DrivenThrow, METH_VARARGS, nullptr},
                                {"close", DrivenClose, METH_NOARGS, nullptr},
                                {"asend", DrivenAsend, METH_O, nullptr},
                                {"athrow", DrivenAthrow, METH_VARARGS, nullptr},
                                {"aclose", DrivenAclose, METH_NOARGS, nullptr},
                                {nullptr, nullptr, 0, nullptr}};
PyMethodDef step_methods[] = {{"send", StepSendMethod, METH_O, nullptr},
                              {"throw", StepThrow, METH_VARARGS, nullptr},
                              {"close", StepClose, METH_NOARGS, nullptr},
                              {nullptr, nullptr, 0, nullptr}};

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

PyObject* CallDriven(PyObject* self, PyObject* const* args, size_t nargsf, PyObject* keyword_names) {
  auto* observed = reinterpret_cast<ObservedObject*>(self);
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

  step_type.tp_name = "spanbox._core.Step";
  step_type.tp_basicsize = sizeof(StepObject);
  step_type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION;
  step_type.tp_dealloc = StepDealloc;
  step_type.tp_traverse = StepTraverse;
  step_type.tp_as_async = &step_async;
  step_type.tp_iter = PyObject_SelfIter;
  step_type.tp_iternext = StepNext;
  step_type.tp_methods = step_methods;
  if (PyType_Ready(&driven_type) < 0 || PyType_Ready(&step_type) < 0) return -1;
  return PyModule_AddFunctions(module, functions);
}

}  // namespace spanbox::python
