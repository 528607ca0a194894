// The Tags context manager, and the type of contexts.
#include "context.h"

#include <string_view>

#include "recording.h"

namespace spanbox::python {
namespace {

PyTypeObject context_type = {PyVarObject_HEAD_INIT(nullptr, 0)};
PyTypeObject tags_type = {PyVarObject_HEAD_INIT(nullptr, 0)};

struct TagsObject {
  PyObject_HEAD PyObject* attributes;  // dict
  ContextObject* context;              // while entered
};

void ContextDealloc(PyObject* self) {
  auto* context = reinterpret_cast<ContextObject*>(self);
  ClearContext(context);
  Py_CLEAR(context->span);
  PyObject_Free(self);
}

PyObject* TagsNew(PyTypeObject*, PyObject* args, PyObject*) {
  PyObject* attributes = nullptr;
  if (PyArg_ParseTuple(args, "O!:Tags", &PyDict_Type, &attributes) == 0) return nullptr;
  TagsObject* tags = PyObject_New(TagsObject, &tags_type);
  if (tags == nullptr) return nullptr;
  tags->attributes = Py_NewRef(attributes);
  tags->context = nullptr;
  return reinterpret_cast<PyObject*>(tags);
}

void TagsDealloc(PyObject* self) {
  auto* tags = reinterpret_cast<TagsObject*>(self);
  Py_CLEAR(tags->attributes);
  Py_CLEAR(tags->context);
  PyObject_Free(self);
}

// The tags of `outer` followed by `attributes`, encoded: of a name given twice the last one counts.
PyObject* EncodeTags(const ContextObject* outer, PyObject* attributes) {
  Scratch scratch;
  RecordWriter record(scratch.buffer());
  scratch.buffer().Clear();
  if (outer != nullptr && outer->tags != nullptr) {
    scratch.buffer().PutBytes(PyBytes_AS_STRING(outer->tags), static_cast<std::size_t>(PyBytes_GET_SIZE(outer->tags)));
  }
  const CaptureLimits limits{.bytes = 16 * 1024, .nodes = 1000};
  Capture(record, limits).AddAll(attributes);
  const std::string_view text = scratch.buffer().text();
  return PyBytes_FromStringAndSize(text.data(), static_cast<Py_ssize_t>(text.size()));
}

PyObject* TagsEnter(PyObject* self, PyObject*) {
  auto* tags = reinterpret_cast<TagsObject*>(self);
  ContextObject* outer = CurrentContext();
  ContextObject* inner = PyObject_New(ContextObject, &context_type);
  if (inner == nullptr) {
    Py_XDECREF(outer);
    return nullptr;
  }
  inner->trace_id = outer == nullptr ? TraceId{} : outer->trace_id;
  inner->span_id = outer == nullptr ? 0 : outer->span_id;
  inner->span = outer == nullptr ? nullptr : Py_XNewRef(outer->span);
  inner->parent = outer;
  inner->tags = EncodeTags(outer, tags->attributes);
  PyErr_Clear();
  Py_XSETREF(tags->context, inner);
  MakeCurrent(inner);
  Py_RETURN_NONE;
}

PyObject* TagsExit(PyObject* self, PyObject* const*, Py_ssize_t) {
  auto* tags = reinterpret_cast<TagsObject*>(self);
  if (tags->context != nullptr) {
    LeaveContext(tags->context);
    Py_CLEAR(tags->context);
  }
  Py_RETURN_FALSE;
}

PyMethodDef tags_methods[] = {
    {"__enter__", TagsEnter, METH_NOARGS, nullptr},
    {"__exit__", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(TagsExit)), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr}};

PyObject* CurrentSpan(PyObject*, PyObject*) {
  ContextObject* context = CurrentContext();
  PyObject* span = OrNone(context == nullptr ? nullptr : context->span);
  Py_XDECREF(context);
  return span;
}

PyMethodDef functions[] = {{"current_span", CurrentSpan, METH_NOARGS, "The span this code runs in, or None."},
                           {nullptr, nullptr, 0, nullptr}};

}  // namespace

void ClearContext(ContextObject* context) {
  Py_CLEAR(context->tags);
  // A long chain of parents is unwound by a loop: deallocating one by one would recurse.
  ContextObject* parent = context->parent;
  context->parent = nullptr;
  while (parent != nullptr && Py_REFCNT(parent) == 1) {
    ContextObject* next = parent->parent;
    parent->parent = nullptr;
    Py_DECREF(parent);
    parent = next;
  }
  Py_XDECREF(parent);
}

int RegisterContext(PyObject* module) {
  context_var = PyContextVar_New("spanbox", nullptr);
  if (context_var == nullptr) return -1;

  context_type.tp_name = "spanbox._core.Context";
  context_type.tp_basicsize = sizeof(ContextObject);
  context_type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION;
  context_type.tp_dealloc = ContextDealloc;

  tags_type.tp_name = "spanbox._core.Tags";
  tags_type.tp_basicsize = sizeof(TagsObject);
  tags_type.tp_flags = Py_TPFLAGS_DEFAULT;
  tags_type.tp_doc = "Attributes for every span started inside the block; made by spanbox.tags().";
  tags_type.tp_new = TagsNew;
  tags_type.tp_dealloc = TagsDealloc;
  tags_type.tp_methods = tags_methods;

  if (PyType_Ready(&context_type) < 0 || PyType_Ready(&tags_type) < 0) return -1;
  if (PyModule_AddObjectRef(module, "Tags", reinterpret_cast<PyObject*>(&tags_type)) < 0) return -1;
  return PyModule_AddFunctions(module, functions);
}

}  // namespace spanbox::python
