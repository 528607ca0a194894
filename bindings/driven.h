// Coroutines, generators and async generators of observed functions, while they run.
//
// Users get objects of the very types their functions return: _observed.py gives for each type a function
// whose body is called with a Driven. A coroutine's awaits the user's own between begin() and returned() or raised(),
// so that nothing of ours stands between the two while it waits; a generator's yields from (sends to) the Driven, which
// drives the user's own step by step. The function itself is called when the user calls it, as ever. The span begins
// with the first step and ends once: with the last one, with what is raised, when it is closed, or when it is thrown
// away.
//
// The span is current only while a generator's own code runs, not between its steps: its consumer's spans are no
// children of it, and it may be consumed in any context. Between steps the context its code was in is kept.
//
// Thread rule: hold the GIL. Ownership: a Driven owns what its function returned, until a coroutine's is handed out.
#pragma once

#include <Python.h>

#include "chunks.h"
#include "context.h"
#include "observed.h"

namespace spanbox::python {

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

// Before the first step.
void EnsureStarted(DrivenObject* driven);

// A chunk came.
void NoteChunk(DrivenObject* driven, PyObject* value);

// How a span ends: with a coroutine's result, with an exception, or before its end.
struct Ending {
  PyObject* output = nullptr;
  PyObject* exception = nullptr;  // GeneratorExit: before its end
  bool early = false;
};

// Ends the span, once. What is raised stays raised.
void Finish(DrivenObject* driven, const Ending& ending);
// With the exception that is raised.
void FinishRaised(DrivenObject* driven);

// object.name(*args); args: a tuple or nullptr. New reference, or nullptr with an exception set.
PyObject* CallMethod(PyObject* object, const char* name, PyObject* args);
// The iterator protocol's form of a step's outcome: nullptr with StopIteration set when it has returned.
PyObject* AsIteration(PySendResult outcome, PyObject* result);

// asend, athrow and aclose of an async generator's Driven (driven_steps.cc).
PyObject* DrivenAsend(PyObject* driven, PyObject* value);
PyObject* DrivenAthrow(PyObject* driven, PyObject* args);
PyObject* DrivenAclose(PyObject* driven, PyObject*);
int ReadySteps();

// One of the functions of _observed.py whose bodies users get.
bool IsShell(PyCodeObject* code);

}  // namespace spanbox::python
