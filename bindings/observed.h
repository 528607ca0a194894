// What @observe knows of a function: how its spans look, worked out once when the function is decorated.
//
// Thread rule: hold the GIL.
#pragma once

#include <Python.h>

#include <string>
#include <vector>

#include "recording.h"

namespace spanbox::python {

// The positional parameters of a function, with their names as they stand in a captured mapping.
class Parameters {
 public:
  // `names`: a tuple of str. A leading self or cls is never captured.
  explicit Parameters(PyObject* names);

  // The same as AddTo when there are few arguments, all of them plain and short; false, and nothing added, otherwise.
  bool AddShort(RecordWriter& record, PyObject* const* args, Py_ssize_t count, PyObject* keyword_names) const;

  // Adds the arguments of a vectorcall as one mapping in Column::kInput; positional ones past the named parameters are
  // listed under "args". No arguments: adds nothing.
  void AddTo(Capture& capture, PyObject* const* args, Py_ssize_t count, PyObject* keyword_names) const;

 private:
  struct Parameter {
    std::string packed_name;  // as MessagePack
    bool secret;
  };
  std::vector<Parameter> parameters_;
  Py_ssize_t first_ = 0;         // 1: skip self
  std::size_t short_bytes_ = 0;  // at most, of all parameters the short way; 0: there is none
};

enum class Returns { kValue = 0, kCoroutine = 1, kGenerator = 2, kAsyncGenerator = 3 };

struct CallShape {
  std::string head;  // see EncodeHead
  Parameters parameters;
  SpanKind kind;
  Returns returns;
  bool capture_input;
  bool capture_output;
  std::int64_t capture_bytes;  // of one argument mapping or result; -1: as configured

  // The short way knows no limits: it is for where they are out of sight.
  bool MayBeShort() const {
    return capture_bytes < 0 && process_limits.value_bytes >= 1024 && process_limits.nodes > 64;
  }
  void LimitCapture(Capture& capture) const {
    if (capture_bytes >= 0) [[unlikely]]
      capture.SetValueBytes(static_cast<std::size_t>(capture_bytes));
  }
};

// A callable that records a span around every call of `fn`.
struct ObservedObject {
  PyObject_HEAD vectorcallfunc vectorcall;
  PyObject* fn;
  PyObject* name;  // of the span
  PyObject* dict;  // __dict__, filled by functools.update_wrapper
  PyObject* weak_refs;
  CallShape* shape;  // owned
};

// Adds what the call returned.
void AddOutput(RecordWriter& record, const CallShape& shape, PyObject* result);

// vectorcall of observed functions whose work goes on after they return.
PyObject* CallDriven(PyObject* self, PyObject* const* args, size_t nargsf, PyObject* keyword_names);

// Starts a span for a call: nullptr when there is nothing to record to. `token` is that of the ContextVar.
SpanObject* StartCall(ObservedObject* observed, PyObject* const* args, size_t nargsf, PyObject* keyword_names,
                      PyObject** token);

}  // namespace spanbox::python
