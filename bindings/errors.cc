// What a span keeps of an exception: its type, its message and where it came from, without running user code.
#include <Python.h>
#include <frameobject.h>

#include <string>

#include "driven.h"
#include "recording.h"

namespace spanbox::python {
namespace {

constexpr int kMaxFrames = 64;

bool IsPlain(PyObject* value) {
  return value == Py_None || PyUnicode_CheckExact(value) || PyLong_CheckExact(value) || PyFloat_CheckExact(value) ||
         PyBool_Check(value) || PyBytes_CheckExact(value);
}

// True when str(exception) runs C code only: no class of it defines __str__ in Python, and its arguments are plain.
bool HasBuiltinText(PyObject* exception, PyObject* args) {
  PyObject* key = PyUnicode_InternFromString("__str__");
  PyObject* text = key == nullptr ? nullptr : _PyType_Lookup(Py_TYPE(exception), key);
  Py_XDECREF(key);
  if (text == nullptr || !Py_IS_TYPE(text, &PyWrapperDescr_Type)) return false;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args); ++i) {
    if (!IsPlain(PyTuple_GET_ITEM(args, i))) return false;
  }
  return true;
}

void AddMessage(Capture& capture, PyObject* exception) {
  PyObject* args = reinterpret_cast<PyBaseExceptionObject*>(exception)->args;
  if (args == nullptr || !PyTuple_CheckExact(args)) return;
  if (HasBuiltinText(exception, args)) {
    PyObject* text = PyObject_Str(exception);
    if (text != nullptr) capture.AddValue(Column::kErrorMessage, {}, text);
    Py_XDECREF(text);
    PyErr_Clear();
  } else if (PyTuple_GET_SIZE(args) > 0) {
    const bool text_first = PyUnicode_CheckExact(PyTuple_GET_ITEM(args, 0));
    capture.AddValue(Column::kErrorMessage, {}, text_first ? PyTuple_GET_ITEM(args, 0) : args);
  }
}

std::string StackText(PyObject* exception) {
  std::string stack;
  auto* entry = reinterpret_cast<PyTracebackObject*>(reinterpret_cast<PyBaseExceptionObject*>(exception)->traceback);
  for (int frames = 0; entry != nullptr && frames < kMaxFrames; ++frames, entry = entry->tb_next) {
    PyCodeObject* code = PyFrame_GetCode(entry->tb_frame);
    if (IsShell(code)) {
      Py_DECREF(code);
      continue;
    }
    const int line = entry->tb_lineno > 0 ? entry->tb_lineno : PyCode_Addr2Line(code, entry->tb_lasti);
    stack += Utf8(code->co_filename).view();
    stack += ":" + std::to_string(line) + " in ";
    stack += Utf8(code->co_name).view();
    stack += "\n";
    Py_DECREF(code);
  }
  if (!stack.empty()) stack.pop_back();
  return stack;
}

}  // namespace

Raised SetAside() {
  Raised raised;
  PyErr_Fetch(&raised.type, &raised.value, &raised.traceback);
  if (raised.type == nullptr) return raised;
  PyErr_NormalizeException(&raised.type, &raised.value, &raised.traceback);
  if (raised.value != nullptr && raised.traceback != nullptr) {
    PyException_SetTraceback(raised.value, raised.traceback);
  }
  return raised;
}

void AddError(SpanObject* span, RecordWriter& record, PyObject* exception) {
  // Leaving a generator early is no failure.
  if (PyErr_GivenExceptionMatches(exception, PyExc_GeneratorExit) != 0) return;
  span->status = SpanStatus::kError;
  if (!PyExceptionInstance_Check(exception)) return;
  const CaptureLimits limits{.bytes = record.buffer().size() + 16 * 1024};
  Capture capture(record, limits);
  record.AddString(Column::kErrorType, {}, QualifiedTypeName(Py_TYPE(exception)));
  AddMessage(capture, exception);
  const std::string stack = StackText(exception);
  if (!stack.empty()) capture.AddText(Column::kAttribute, "error_stack", stack);
}

}  // namespace spanbox::python
