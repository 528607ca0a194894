// Handle, and the blocks that stand for a place in a trace: Tags and Attach.
#include "context.h"

#include <cstddef>
#include <string>
#include <string_view>

#include "recording.h"

namespace spanbox::python {
namespace {

constexpr std::size_t kMaxTagBytes = 16 * 1024;        // of a block; its last tag may pass it
constexpr std::size_t kMaxHandleTagBytes = 64 * 1024;  // that a Handle from elsewhere may bring

PyTypeObject handle_type = {PyVarObject_HEAD_INIT(nullptr, 0)};
PyTypeObject tags_type = {PyVarObject_HEAD_INIT(nullptr, 0)};
PyTypeObject attach_type = {PyVarObject_HEAD_INIT(nullptr, 0)};

// Every context that is no Span.
struct HandleObject : ContextObject {
  PyObject* owner;  // the block that made it current; nullptr: a Handle
};

// A block may be entered many times, and by many threads at once: what it has entered is found by its owner.
struct BlockObject {
  PyObject_HEAD PyObject* what;  // Tags: a dict. Attach: a context, or nullptr for none.
  bool exact;                    // Attach: leave out the tags around it
};

HandleObject* AsHandle(PyObject* object) { return reinterpret_cast<HandleObject*>(object); }

HandleObject* NewContext(const ContextObject* place) {
  HandleObject* context = PyObject_New(HandleObject, &handle_type);
  if (context == nullptr) return nullptr;
  context->trace_id = place == nullptr ? TraceId{} : place->trace_id;
  context->span_id = place == nullptr ? 0 : place->span_id;
  context->tags = context->span = context->owner = nullptr;
  context->parent = nullptr;
  context->otel = nullptr;
  return context;
}

void HandleDealloc(PyObject* self) {
  HandleObject* context = AsHandle(self);
  ClearContext(context);
  Py_CLEAR(context->span);
  Py_CLEAR(context->owner);
  PyObject_Free(self);
}

std::string_view TagBytes(const ContextObject* context) {
  if (context == nullptr || context->tags == nullptr) return {};
  return {PyBytes_AS_STRING(context->tags), static_cast<std::size_t>(PyBytes_GET_SIZE(context->tags))};
}

// --- Handle ----------------------------------------------------------------------------------------------------------

std::string WhatIsWrong(std::string_view text) {
  constexpr std::size_t kBytes = 55;
  if (text.size() < kBytes) return "it is too short";
  const std::string_view head = text.substr(0, kBytes);
  if (head[2] != '-' || head[35] != '-' || head[52] != '-') return "its four parts are not where they belong";
  if (head.find_first_not_of("0123456789abcdef-") != std::string_view::npos) return "its digits are 0-9 and a-f";
  if (head.substr(0, 2) == "ff") return "there is no version ff";
  if (!TraceIdFromHex(head.substr(3, 32))) return "the trace id is no id";
  if (!SpanIdFromHex(head.substr(36, 16))) return "the span id is no id";
  return "something follows that does not belong to it";
}

bool AreTags(PyObject* tags) {
  const auto size = static_cast<std::size_t>(PyBytes_GET_SIZE(tags));
  if (size > kMaxHandleTagBytes) return false;
  ByteBuffer buffer;
  RecordWriter(buffer).Fields(1);
  buffer.PutBytes(PyBytes_AS_STRING(tags), size);
  const RecordView record{RecordType::kFields, buffer.bytes()};
  RowArena arena;
  return AssembleSpan({&record, 1}, arena).ok();
}

// nullptr with ValueError set.
HandleObject* HandleFrom(PyObject* text, PyObject* tags) {
  const Utf8 traceparent(text);
  TraceParent place;
  if (!traceparent.view().empty()) {
    const auto parsed = ParseTraceparent(traceparent.view());
    if (!parsed) {
      PyErr_Format(PyExc_ValueError, "traceparent must be 00-<trace id>-<span id>-<flags>, not %R: %s", text,
                   WhatIsWrong(traceparent.view()).c_str());
      return nullptr;
    }
    place = *parsed;
  }
  if (tags != nullptr && !AreTags(tags)) {
    PyErr_SetString(PyExc_ValueError, "these bytes are no tags of a Handle");
    return nullptr;
  }
  HandleObject* handle = NewContext(nullptr);
  if (handle == nullptr) return nullptr;
  handle->trace_id = place.trace_id;
  handle->span_id = place.span_id;
  if (tags != nullptr && PyBytes_GET_SIZE(tags) > 0) handle->tags = Py_NewRef(tags);
  return handle;
}

PyObject* HandleNew(PyTypeObject*, PyObject* args, PyObject* kwargs) {
  PyObject *text = nullptr, *tags = nullptr;
  if (kwargs != nullptr && PyDict_GET_SIZE(kwargs) > 0) {
    PyErr_SetString(PyExc_TypeError, "Handle() takes no keyword arguments");
    return nullptr;
  }
  if (PyArg_ParseTuple(args, "U|S:Handle", &text, &tags) == 0) return nullptr;
  return reinterpret_cast<PyObject*>(HandleFrom(text, tags));
}

PyObject* HandleFromTraceparent(PyObject*, PyObject* text) {
  if (!PyUnicode_Check(text)) {
    return PyErr_Format(PyExc_TypeError, "a traceparent is a str, not %s", Py_TYPE(text)->tp_name);
  }
  return reinterpret_cast<PyObject*>(HandleFrom(text, nullptr));
}

std::string Traceparent(const ContextObject* context) {
  return context->span_id == 0 ? "" : ToTraceparent({context->trace_id, context->span_id});
}

PyObject* HandleGetTraceparent(PyObject* self, void*) {
  return PyUnicode_FromString(Traceparent(AsHandle(self)).c_str());
}
PyObject* HandleGetTraceId(PyObject* self, void*) {
  return PyUnicode_FromString(ToHex(AsHandle(self)->trace_id).c_str());
}
PyObject* HandleGetSpanId(PyObject* self, void*) {
  return PyUnicode_FromString(ToHex(AsHandle(self)->span_id).c_str());
}

PyObject* HandleReduce(PyObject* self, PyObject*) {
  PyObject* tags = AsHandle(self)->tags;
  tags = tags == nullptr ? PyBytes_FromStringAndSize("", 0) : Py_NewRef(tags);
  return Py_BuildValue("O(sN)", Py_TYPE(self), Traceparent(AsHandle(self)).c_str(), tags);
}

PyObject* HandleRepr(PyObject* self) {
  const std::string place = Traceparent(AsHandle(self));
  return PyUnicode_FromFormat("<Handle %s%s>", place.empty() ? "outside of any span" : place.c_str(),
                              AsHandle(self)->tags == nullptr ? "" : " with tags");
}

PyObject* HandleCompare(PyObject* self, PyObject* other, int operation) {
  if (!Py_IS_TYPE(other, &handle_type) || (operation != Py_EQ && operation != Py_NE)) Py_RETURN_NOTIMPLEMENTED;
  const HandleObject *left = AsHandle(self), *right = AsHandle(other);
  const bool equal =
      left->trace_id == right->trace_id && left->span_id == right->span_id && TagBytes(left) == TagBytes(right);
  return PyBool_FromLong(equal == (operation == Py_EQ));
}

Py_hash_t HandleHash(PyObject* self) {
  const auto hash = static_cast<Py_hash_t>(AsHandle(self)->span_id);  // random already
  return hash == -1 ? -2 : hash;
}

PyMethodDef handle_methods[] = {
    {"from_traceparent", HandleFromTraceparent, METH_O | METH_STATIC,
     "The place that the `traceparent` header of W3C Trace Context names. ValueError when it is none."},
    {"__reduce__", HandleReduce, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr}};

PyGetSetDef handle_getset[] = {
    {"traceparent", HandleGetTraceparent, nullptr, "The value of a traceparent header; empty outside of any span.",
     nullptr},
    {"trace_id", HandleGetTraceId, nullptr, "32 hexadecimal digits; zeros outside of any span.", nullptr},
    {"span_id", HandleGetSpanId, nullptr, "16 hexadecimal digits; zeros outside of any span.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

// --- blocks ----------------------------------------------------------------------------------------------------------

PyObject* NewBlock(PyTypeObject* type, PyObject* what, bool exact) {
  BlockObject* block = PyObject_New(BlockObject, type);
  if (block == nullptr) return nullptr;
  block->what = what;
  block->exact = exact;
  return reinterpret_cast<PyObject*>(block);
}

PyObject* TagsNew(PyTypeObject* type, PyObject* args, PyObject*) {
  PyObject* attributes = nullptr;
  if (PyArg_ParseTuple(args, "O!:Tags", &PyDict_Type, &attributes) == 0) return nullptr;
  return NewBlock(type, Py_NewRef(attributes), false);
}

PyObject* AttachNew(PyTypeObject* type, PyObject* args, PyObject*) {
  PyObject* parent = nullptr;
  int exact = 0;
  if (PyArg_ParseTuple(args, "O|p:Attach", &parent, &exact) == 0) return nullptr;
  PyObject* place = nullptr;
  if (parent != Py_None) {
    place = reinterpret_cast<PyObject*>(ContextOf(parent));
    if (place == nullptr) return nullptr;
  }
  return NewBlock(type, place, exact != 0);
}

void BlockDealloc(PyObject* self) {
  Py_CLEAR(reinterpret_cast<BlockObject*>(self)->what);
  PyObject_Free(self);
}

// The tags of `outer` followed by `attributes`, encoded: of a name given twice the last one counts.
PyObject* EncodeTags(const ContextObject* outer, PyObject* attributes) {
  Scratch scratch;
  RecordWriter record(scratch.buffer());
  scratch.buffer().Clear();
  scratch.buffer().PutText(TagBytes(outer));
  const CaptureLimits limits{.bytes = kMaxTagBytes, .nodes = 1000};
  Capture(record, limits).AddAll(attributes);
  const std::string_view text = scratch.buffer().text();
  return PyBytes_FromStringAndSize(text.data(), static_cast<Py_ssize_t>(text.size()));
}

}  // namespace

PyObject* MergeTags(const ContextObject* outer, const ContextObject* place) {
  const std::string_view around = TagBytes(outer), own = TagBytes(place);
  if (around.empty() || around.ends_with(own) || around.size() + own.size() > kMaxTagBytes) {
    const ContextObject* whole = !around.empty() && around.ends_with(own) ? outer : place;
    return Py_XNewRef(whole->tags);
  }
  PyObject* tags = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(around.size() + own.size()));
  if (tags == nullptr) {
    PyErr_Clear();
    return nullptr;
  }
  around.copy(PyBytes_AS_STRING(tags), around.size());
  own.copy(PyBytes_AS_STRING(tags) + around.size(), own.size());
  return tags;
}

namespace {

PyObject* TagsEnter(PyObject* self, PyObject*) {
  ContextObject* outer = CurrentContext();
  HandleObject* inner = NewContext(outer);
  if (inner == nullptr) {
    Py_XDECREF(outer);
    return nullptr;
  }
  inner->span = outer == nullptr ? nullptr : Py_XNewRef(outer->span);
  inner->parent = outer;
  inner->otel = outer == nullptr ? nullptr : Py_XNewRef(outer->otel);
  inner->owner = Py_NewRef(self);
  inner->tags = EncodeTags(outer, reinterpret_cast<BlockObject*>(self)->what);
  PyErr_Clear();
  MakeCurrent(inner);
  Py_DECREF(inner);
  Py_RETURN_NONE;
}

PyObject* AttachEnter(PyObject* self, PyObject*) {
  auto* block = reinterpret_cast<BlockObject*>(self);
  auto* place = reinterpret_cast<ContextObject*>(block->what);
  if (block->exact) {
    HandleObject* inner = NewContext(place);
    if (inner == nullptr) return nullptr;
    inner->span = place == nullptr ? nullptr : Py_XNewRef(place->span);
    inner->tags = place == nullptr ? nullptr : Py_XNewRef(place->tags);
    inner->parent = CurrentContext();
    inner->otel = place == nullptr ? nullptr : Py_XNewRef(place->otel);
    inner->owner = Py_NewRef(self);
    MakeCurrent(inner);
    Py_DECREF(inner);
  } else if (place != nullptr) {
    Py_XDECREF(EnterUnder(place, self));
  }
  Py_RETURN_NONE;
}

PyObject* BlockExit(PyObject* self, PyObject* const*, Py_ssize_t) {
  ContextObject* current = CurrentContext();
  for (ContextObject* context = current; context != nullptr; context = context->parent) {
    if (Py_IS_TYPE(context, &handle_type) && static_cast<HandleObject*>(context)->owner == self) {
      Py_INCREF(context);
      LeaveContext(context);
      Py_DECREF(context);
      break;
    }
  }
  Py_XDECREF(current);
  Py_RETURN_FALSE;
}

PyMethodDef tags_methods[] = {
    {"__enter__", TagsEnter, METH_NOARGS, nullptr},
    {"__exit__", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(BlockExit)), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr}};

PyMethodDef attach_methods[] = {
    {"__enter__", AttachEnter, METH_NOARGS, nullptr},
    {"__exit__", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(BlockExit)), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr}};

// --- functions -------------------------------------------------------------------------------------------------------

PyObject* CurrentSpan(PyObject*, PyObject*) {
  ContextObject* context = CurrentContext();
  PyObject* span = OrNone(context == nullptr ? nullptr : context->span);
  Py_XDECREF(context);
  return span;
}

PyObject* CurrentHandle(PyObject*, PyObject*) {
  ContextObject* context = CurrentContext();
  if (context == nullptr) Py_RETURN_NONE;
  PyObject* handle = NewHandle(context);
  Py_DECREF(context);
  return handle;
}

PyObject* CurrentContextObject(PyObject*, PyObject*) {
  ContextObject* context = CurrentContext();
  return context == nullptr ? Py_NewRef(Py_None) : reinterpret_cast<PyObject*>(context);
}

PyObject* SetProcessContext(PyObject*, PyObject* handle) {
  if (!Py_IS_TYPE(handle, &handle_type)) return PyErr_Format(PyExc_TypeError, "a Handle is needed");
  ContextObject* before = process_context;
  process_context = static_cast<HandleObject*>(AsHandle(Py_NewRef(handle)));
  Py_XDECREF(before);
  Py_RETURN_NONE;
}

PyObject* SetRecordingOff(PyObject*, PyObject* off) {
  recording_off = off == Py_True;
  Py_RETURN_NONE;
}

PyMethodDef functions[] = {
    {"current_span", CurrentSpan, METH_NOARGS,
     "current_span($module, /)\n--\n\nThe span this code runs in, to set attributes on; None outside of any."},
    {"current_handle", CurrentHandle, METH_NOARGS, "A Handle of the place this code runs in, or None."},
    {"current_context", CurrentContextObject, METH_NOARGS, nullptr},
    {"set_process_context", SetProcessContext, METH_O, nullptr},
    {"set_recording_off", SetRecordingOff, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr}};

void DefineBlock(PyTypeObject& type, const char* name, const char* doc, newfunc make, PyMethodDef* methods) {
  type.tp_name = name;
  type.tp_basicsize = sizeof(BlockObject);
  type.tp_flags = Py_TPFLAGS_DEFAULT;
  type.tp_doc = doc;
  type.tp_new = make;
  type.tp_dealloc = BlockDealloc;
  type.tp_methods = methods;
}

}  // namespace

void ClearContext(ContextObject* context) {
  Py_CLEAR(context->tags);
  Py_CLEAR(context->otel);
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

PyObject* NewHandle(const ContextObject* context) {
  HandleObject* handle = NewContext(context);
  if (handle != nullptr && !TagBytes(context).empty()) handle->tags = Py_NewRef(context->tags);
  return reinterpret_cast<PyObject*>(handle);
}

ContextObject* ContextOf(PyObject* parent) {
  if (Py_IS_TYPE(parent, &handle_type) || IsSpan(parent)) return reinterpret_cast<ContextObject*>(Py_NewRef(parent));
  if (PyUnicode_Check(parent)) return HandleFrom(parent, nullptr);
  PyErr_Format(PyExc_TypeError, "a parent is a Handle, a Span or a traceparent, not %s", Py_TYPE(parent)->tp_name);
  return nullptr;
}

ContextObject* EnterUnder(ContextObject* place, PyObject* owner) {
  ContextObject* outer = CurrentContext();
  // A span that was not recorded is nowhere: what is around it stays the parent.
  const ContextObject* around = place->span_id == 0 ? outer : place;
  HandleObject* inner = NewContext(around);
  if (inner == nullptr) {
    PyErr_Clear();
    Py_XDECREF(outer);
    return nullptr;
  }
  inner->span = around == nullptr ? nullptr : Py_XNewRef(around->span);
  inner->tags = MergeTags(outer, place);
  inner->parent = outer;
  inner->otel = outer == nullptr ? nullptr : Py_XNewRef(outer->otel);
  inner->owner = Py_XNewRef(owner);
  MakeCurrent(inner);
  return inner;
}

ContextObject* NewAttached(ContextObject* outer, PyObject* otel) {
  HandleObject* inner = NewContext(outer);
  if (inner == nullptr) {
    Py_XDECREF(outer);
    return nullptr;
  }
  inner->tags = outer == nullptr ? nullptr : Py_XNewRef(outer->tags);
  inner->span = outer == nullptr ? nullptr : Py_XNewRef(outer->span);
  inner->parent = outer;
  inner->otel = Py_NewRef(otel);
  inner->owner = Py_NewRef(otel);  // no block is a dict: nothing else leaves it
  return inner;
}

bool IsAttached(const ContextObject* context) {
  return Py_IS_TYPE(context, &handle_type) && context->otel != nullptr &&
         static_cast<const HandleObject*>(context)->owner == context->otel;
}

int RegisterContext(PyObject* module) {
  context_var = PyContextVar_New("spanbox", nullptr);
  if (context_var == nullptr) return -1;

  handle_type.tp_name = "spanbox._core.Handle";
  handle_type.tp_basicsize = sizeof(HandleObject);
  handle_type.tp_flags = Py_TPFLAGS_DEFAULT;
  handle_type.tp_doc =
      "A place in a trace, to start spans under from another thread, process or machine. Immutable, small, picklable.";
  handle_type.tp_new = HandleNew;
  handle_type.tp_dealloc = HandleDealloc;
  handle_type.tp_repr = HandleRepr;
  handle_type.tp_hash = HandleHash;
  handle_type.tp_richcompare = HandleCompare;
  handle_type.tp_methods = handle_methods;
  handle_type.tp_getset = handle_getset;

  DefineBlock(tags_type, "spanbox._core.Tags",
              "Attributes for every span started inside the block; made by spanbox.tags().", TagsNew, tags_methods);
  DefineBlock(attach_type, "spanbox._core.Attach",
              "Spans started inside the block are children of its parent; made by spanbox.attach().", AttachNew,
              attach_methods);

  for (PyTypeObject* type : {&handle_type, &tags_type, &attach_type}) {
    if (PyModule_AddType(module, type) < 0) return -1;
  }
  return PyModule_AddFunctions(module, functions);
}

}  // namespace spanbox::python
