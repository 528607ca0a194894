// A callable that runs in the context in which it was made, from any thread, any number of times; pickled, with a
// Handle of that context and the folder of the store, it does the same in another process.
//
// A CPython type with vectorcall: it adds no frame to tracebacks, and costs a thread pool little.
#include <cstddef>
#include <string>

#include "context.h"
#include "recording.h"

namespace spanbox::python {
namespace {

PyTypeObject carried_type = {PyVarObject_HEAD_INIT(nullptr, 0)};
PyObject* restore_function = nullptr;

// spanbox.configure(propagate=...). Guarded by the GIL.
bool propagate = true;

struct CarriedObject {
  PyObject_HEAD vectorcallfunc vectorcall;
  PyObject* fn;
  ContextObject* context;  // nullptr: outside of any
  PyObject* dict;          // __dict__, filled by functools.update_wrapper
  PyObject* weak_refs;
};

CarriedObject* AsCarried(PyObject* object) { return reinterpret_cast<CarriedObject*>(object); }

PyObject* Call(PyObject* self, PyObject* const* args, size_t nargsf, PyObject* keyword_names) {
  CarriedObject* carried = AsCarried(self);
  ContextObject* before = CurrentContext();
  MakeCurrent(carried->context);
  PyObject* result = PyObject_Vectorcall(carried->fn, args, nargsf, keyword_names);
  PyObject *type = nullptr, *value = nullptr, *traceback = nullptr;
  PyErr_Fetch(&type, &value, &traceback);
  // Whatever fn has left entered ends with it.
  MakeCurrent(before);
  Py_XDECREF(before);
  PyErr_Restore(type, value, traceback);
  return result;
}

// `context` is borrowed; nullptr for none.
PyObject* NewCarried(PyObject* fn, ContextObject* context) {
  CarriedObject* carried = PyObject_GC_New(CarriedObject, &carried_type);
  if (carried == nullptr) return nullptr;
  carried->vectorcall = Call;
  carried->fn = Py_NewRef(fn);
  carried->context = context;
  Py_XINCREF(context);
  carried->dict = carried->weak_refs = nullptr;
  PyObject_GC_Track(reinterpret_cast<PyObject*>(carried));
  return reinterpret_cast<PyObject*>(carried);
}

PyObject* DescriptorGet(PyObject* self, PyObject* instance, PyObject*) {
  return instance == nullptr || instance == Py_None ? Py_NewRef(self) : PyMethod_New(self, instance);
}

int Traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(AsCarried(self)->fn);
  Py_VISIT(AsCarried(self)->dict);
  return 0;
}

int Clear(PyObject* self) {
  Py_CLEAR(AsCarried(self)->dict);
  Py_XSETREF(AsCarried(self)->fn, Py_NewRef(Py_None));  // never null: it may still be called from the garbage
  return 0;
}

void Dealloc(PyObject* self) {
  PyObject_GC_UnTrack(self);
  if (AsCarried(self)->weak_refs != nullptr) PyObject_ClearWeakRefs(self);
  Py_CLEAR(AsCarried(self)->dict);
  Py_CLEAR(AsCarried(self)->fn);
  Py_CLEAR(AsCarried(self)->context);
  PyObject_GC_Del(self);
}

PyObject* Repr(PyObject* self) { return PyUnicode_FromFormat("<carried %R>", AsCarried(self)->fn); }

PyObject* Reduce(PyObject* self, PyObject*) {
  CarriedObject* carried = AsCarried(self);
  PyObject* handle = carried->context == nullptr ? Py_NewRef(Py_None) : NewHandle(carried->context);
  if (handle == nullptr) return nullptr;
  return Py_BuildValue("O(ONs)", restore_function, carried->fn, handle, RecordingPath().c_str());
}

// What Reduce calls in the other process: it records where the first one did, unless it has chosen already.
PyObject* Restore(PyObject*, PyObject* args) {
  PyObject *fn = nullptr, *handle = nullptr;
  const char* path = nullptr;
  if (PyArg_ParseTuple(args, "OOs:restore_carried", &fn, &handle, &path) == 0) return nullptr;
  SuggestPath(path);
  if (handle == Py_None) return NewCarried(fn, nullptr);
  ContextObject* context = ContextOf(handle);
  if (context == nullptr) return nullptr;
  PyObject* carried = NewCarried(fn, context);
  Py_DECREF(context);
  return carried;
}

PyObject* Carried(PyObject*, PyObject* fn) {
  ContextObject* context = CurrentContext();
  PyObject* carried = NewCarried(fn, context);
  Py_XDECREF(context);
  return carried;
}

PyObject* Outside(PyObject*, PyObject* fn) { return NewCarried(fn, nullptr); }

PyObject* CarriedIfInside(PyObject*, PyObject* fn) {
  ContextObject* context = propagate ? CurrentContext() : nullptr;
  PyObject* carried = context == nullptr ? Py_NewRef(fn) : NewCarried(fn, context);
  Py_XDECREF(context);
  return carried;
}

PyObject* ContextToCarry(PyObject*, PyObject*) {
  ContextObject* context = propagate ? CurrentContext() : nullptr;
  return context == nullptr ? Py_NewRef(Py_None) : reinterpret_cast<PyObject*>(context);
}

// A context, or a store that this process records into.
PyObject* HasSomethingToCarry(PyObject*, PyObject*) {
  ContextObject* context = CurrentContext();
  const bool has = propagate && (context != nullptr || !RecordingPath().empty());
  Py_XDECREF(context);
  return PyBool_FromLong(has);
}

PyObject* SetContext(PyObject*, PyObject* context) {
  ContextObject* place = ContextOf(context);
  if (place == nullptr) return nullptr;
  MakeCurrent(place);
  Py_DECREF(place);
  Py_RETURN_NONE;
}

PyObject* SetPropagate(PyObject*, PyObject* on) {
  propagate = on == Py_True;
  Py_RETURN_NONE;
}

PyGetSetDef getset[] = {{"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, nullptr, nullptr},
                        {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyMethodDef methods[] = {{"__reduce__", Reduce, METH_NOARGS, nullptr}, {nullptr, nullptr, 0, nullptr}};
PyMethodDef functions[] = {{"carried", Carried, METH_O, "fn, to be run in the context of this call."},
                           {"carried_if_inside", CarriedIfInside, METH_O,
                            "carried(fn); fn itself outside of any context or when switched off."},
                           {"outside", Outside, METH_O, "fn, to be run outside of any context."},
                           {"restore_carried", Restore, METH_VARARGS, nullptr},
                           {"has_something_to_carry", HasSomethingToCarry, METH_NOARGS, nullptr},
                           {"context_to_carry", ContextToCarry, METH_NOARGS, nullptr},
                           {"set_context", SetContext, METH_O, nullptr},
                           {"set_propagate", SetPropagate, METH_O, nullptr},
                           {nullptr, nullptr, 0, nullptr}};

}  // namespace

int RegisterCarried(PyObject* module) {
  carried_type.tp_name = "spanbox._core.Carried";
  carried_type.tp_basicsize = sizeof(CarriedObject);
  carried_type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
                          Py_TPFLAGS_METHOD_DESCRIPTOR | Py_TPFLAGS_DISALLOW_INSTANTIATION;
  carried_type.tp_dealloc = Dealloc;
  carried_type.tp_traverse = Traverse;
  carried_type.tp_clear = Clear;
  carried_type.tp_repr = Repr;
  carried_type.tp_call = PyVectorcall_Call;
  carried_type.tp_vectorcall_offset = offsetof(CarriedObject, vectorcall);
  carried_type.tp_descr_get = DescriptorGet;
  carried_type.tp_dictoffset = offsetof(CarriedObject, dict);
  carried_type.tp_weaklistoffset = offsetof(CarriedObject, weak_refs);
  carried_type.tp_methods = methods;
  carried_type.tp_getset = getset;
  if (PyType_Ready(&carried_type) < 0 || PyModule_AddFunctions(module, functions) < 0) return -1;
  restore_function = PyObject_GetAttrString(module, "restore_carried");
  return restore_function == nullptr ? -1 : 0;
}

}  // namespace spanbox::python
