// @observe on a synchronous function: a callable that records a span around every call.
//
// A plain CPython type with vectorcall rather than a pybind11 class: the call path is what users pay for.
#include <cstddef>

#include "recording.h"

namespace spanbox::python {
namespace {

PyTypeObject observed_type = {PyVarObject_HEAD_INIT(nullptr, 0)};

struct ObservedObject {
  PyObject_HEAD vectorcallfunc vectorcall;
  PyObject* fn;
  PyObject* name;        // of the span
  PyObject* parameters;  // tuple of the positional parameters' names
  PyObject* dict;        // __dict__, filled by functools.update_wrapper
  PyObject* weak_refs;
  SpanKind kind;
  bool capture_input;
  bool capture_output;
  bool is_method;  // the first parameter is self or cls: left out of the input
};

// The exception being raised, normalised, as one object; a new reference. Leaves it raised.
PyObject* RaisedException() {
  PyObject *type = nullptr, *value = nullptr, *traceback = nullptr;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  if (value != nullptr && traceback != nullptr) PyException_SetTraceback(value, traceback);
  PyObject* exception = Py_XNewRef(value);
  PyErr_Restore(type, value, traceback);
  return exception;
}

// Ends the span of a call that raised; what it raised stays raised.
void EndRaised(Recorder& recorder, SpanObject* span) {
  PyObject* exception = RaisedException();
  PyObject *type = nullptr, *value = nullptr, *traceback = nullptr;
  PyErr_Fetch(&type, &value, &traceback);
  EndSpan(recorder, span, [&](Capture&, RecordWriter& record) {
    if (exception != nullptr) AddError(span, record, exception);
  });
  PyErr_Restore(type, value, traceback);
  Py_XDECREF(exception);
}

PyObject* Call(PyObject* self, PyObject* const* args, size_t nargsf, PyObject* keyword_names) {
  auto* observed = reinterpret_cast<ObservedObject*>(self);
  Recorder* recorder = recording_off ? nullptr : ActiveRecorder();
  SpanObject* span = recorder == nullptr ? nullptr : NewSpan(observed->name, observed->kind);
  if (span == nullptr) {
    PyErr_Clear();
    return PyObject_Vectorcall(observed->fn, args, nargsf, keyword_names);
  }
  StartSpan(*recorder, span, [&](Capture& capture) {
    if (!observed->capture_input) return;
    capture.AddArguments(observed->parameters, observed->is_method, args, PyVectorcall_NARGS(nargsf), keyword_names);
  });
  PyObject* result = PyObject_Vectorcall(observed->fn, args, nargsf, keyword_names);
  // The call may have run for hours: the recorder may be another one by now.
  recorder = ActiveRecorder();
  if (recorder == nullptr) {
    span->open = false;
    LeaveContext(span);
  } else if (result == nullptr) {
    EndRaised(*recorder, span);
  } else {
    EndSpan(*recorder, span, [&](Capture& capture, RecordWriter&) {
      if (observed->capture_output) capture.AddValue(Column::kOutput, {}, result);
    });
  }
  Py_DECREF(span);
  return result;
}

PyObject* DescriptorGet(PyObject* self, PyObject* instance, PyObject*) {
  return instance == nullptr || instance == Py_None ? Py_NewRef(self) : PyMethod_New(self, instance);
}

int Traverse(PyObject* self, visitproc visit, void* arg) {
  auto* observed = reinterpret_cast<ObservedObject*>(self);
  Py_VISIT(observed->fn);
  Py_VISIT(observed->dict);
  return 0;
}

int Clear(PyObject* self) {
  auto* observed = reinterpret_cast<ObservedObject*>(self);
  Py_CLEAR(observed->fn);
  Py_CLEAR(observed->dict);
  return 0;
}

void Dealloc(PyObject* self) {
  auto* observed = reinterpret_cast<ObservedObject*>(self);
  PyObject_GC_UnTrack(self);
  if (observed->weak_refs != nullptr) PyObject_ClearWeakRefs(self);
  Clear(self);
  Py_CLEAR(observed->name);
  Py_CLEAR(observed->parameters);
  PyObject_GC_Del(self);
}

PyObject* Repr(PyObject* self) {
  auto* observed = reinterpret_cast<ObservedObject*>(self);
  return PyUnicode_FromFormat("<observed %R>", observed->fn);
}

// Pickled by its qualified name, as functions are.
PyObject* Reduce(PyObject* self, PyObject*) { return PyObject_GetAttrString(self, "__qualname__"); }

PyObject* Observe(PyObject*, PyObject* args) {
  PyObject *fn = nullptr, *name = nullptr, *kind_name = nullptr, *parameters = nullptr;
  int capture_input = 1, capture_output = 1;
  if (PyArg_ParseTuple(args, "OUUppO!:observed", &fn, &name, &kind_name, &capture_input, &capture_output, &PyTuple_Type,
                       &parameters) == 0) {
    return nullptr;
  }
  const auto kind = SpanKindFromString(Utf8(kind_name).view());
  if (!kind) return PyErr_Format(PyExc_ValueError, "unknown span kind %R", kind_name);
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(parameters); ++i) {
    if (!PyUnicode_Check(PyTuple_GET_ITEM(parameters, i))) {
      return PyErr_Format(PyExc_TypeError, "parameter names are strings");
    }
  }
  ObservedObject* observed = PyObject_GC_New(ObservedObject, &observed_type);
  if (observed == nullptr) return nullptr;
  observed->vectorcall = Call;
  observed->fn = Py_NewRef(fn);
  observed->name = Py_NewRef(name);
  observed->parameters = Py_NewRef(parameters);
  observed->dict = nullptr;
  observed->weak_refs = nullptr;
  observed->kind = *kind;
  observed->capture_input = capture_input != 0;
  observed->capture_output = capture_output != 0;
  observed->is_method = false;
  if (PyTuple_GET_SIZE(parameters) > 0) {
    const Utf8 first(PyTuple_GET_ITEM(parameters, 0));
    observed->is_method = first.view() == "self" || first.view() == "cls";
  }
  PyObject_GC_Track(reinterpret_cast<PyObject*>(observed));
  return reinterpret_cast<PyObject*>(observed);
}

PyGetSetDef getset[] = {{"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, nullptr, nullptr},
                        {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyMethodDef methods[] = {{"__reduce__", Reduce, METH_NOARGS, nullptr}, {nullptr, nullptr, 0, nullptr}};
PyMethodDef functions[] = {
    {"observed", Observe, METH_VARARGS,
     "observed(fn, name, kind, capture_input, capture_output, parameters) -> callable\n\n"
     "The traced form of a synchronous function; parameters are the names of its positional parameters."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

int RegisterObserved(PyObject* module) {
  observed_type.tp_name = "spanbox._core.Observed";
  observed_type.tp_basicsize = sizeof(ObservedObject);
  observed_type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
                           Py_TPFLAGS_METHOD_DESCRIPTOR | Py_TPFLAGS_DISALLOW_INSTANTIATION;
  observed_type.tp_dealloc = Dealloc;
  observed_type.tp_traverse = Traverse;
  observed_type.tp_clear = Clear;
  observed_type.tp_repr = Repr;
  observed_type.tp_call = PyVectorcall_Call;
  observed_type.tp_vectorcall_offset = offsetof(ObservedObject, vectorcall);
  observed_type.tp_descr_get = DescriptorGet;
  observed_type.tp_dictoffset = offsetof(ObservedObject, dict);
  observed_type.tp_weaklistoffset = offsetof(ObservedObject, weak_refs);
  observed_type.tp_methods = methods;
  observed_type.tp_getset = getset;
  if (PyType_Ready(&observed_type) < 0) return -1;
  return PyModule_AddFunctions(module, functions);
}

}  // namespace spanbox::python
