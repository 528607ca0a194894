// @observe: a callable that records a span around every call.
//
// A plain CPython type with vectorcall rather than a pybind11 class: the call path is what users pay for.
#include "observed.h"

#include <cstddef>

#include "base/msgpack.h"
#include "limits.h"
#include "redaction.h"
#include "scalars.h"

namespace spanbox::python {
namespace {

PyTypeObject observed_type = {PyVarObject_HEAD_INIT(nullptr, 0)};

// See Parameters::AddShort.
bool AddShortOutput(RecordWriter& record, PyObject* result) {
  if (result == Py_None) return true;
  std::byte* const begin = record.buffer().Reserve(RecordWriter::kSizedKeyBytes + kMaxScalarBytes);
  RecordWriter::WriteSizedKey(begin, Column::kOutput, kPackedValue, 0);
  std::byte* const end = PackScalar(begin + RecordWriter::kSizedKeyBytes, result);
  if (end == nullptr) return false;
  RecordWriter::PatchSize(begin, end);
  record.buffer().Advance(static_cast<std::size_t>(end - begin));
  return true;
}

PyObject* Call(PyObject* self, PyObject* const* args, size_t nargsf, PyObject* keyword_names) {
  auto* observed = reinterpret_cast<ObservedObject*>(self);
  if (!WithinLimits(observed->shape->kind)) [[unlikely]]
    return nullptr;
  PyObject* token = nullptr;
  SpanObject* span = StartCall(observed, args, nargsf, keyword_names, &token);
  PyObject* result = PyObject_Vectorcall(observed->fn, args, nargsf, keyword_names);
  if (span == nullptr) return result;
  const auto leave = [&] { LeaveCall(span, token); };
  // The call may have run for hours: the recorder may be another one by now, or none.
  if (result == nullptr) {
    EndSpanRaised(
        open_recorder, span, [](RecordWriter&) {}, leave);
  } else {
    const auto add_output = [&](RecordWriter& record) {
      const CallShape& shape = *observed->shape;
      if (shape.capture_output) AddOutput(record, shape, result);
    };
    EndSpan(open_recorder, span, add_output, leave);
  }
  Py_DECREF(span);
  return result;
}

PyObject* DescriptorGet(PyObject* self, PyObject* instance, PyObject*) {
  return instance == nullptr || instance == Py_None ? Py_NewRef(self) : PyMethod_New(self, instance);
}

// What is not here is the function's: __code__, __defaults__, and whatever else is looked up on functions, so that
// inspect takes the one for the other.
PyObject* GetAttribute(PyObject* self, PyObject* name) {
  PyObject* found = PyObject_GenericGetAttr(self, name);
  if (found != nullptr || PyErr_ExceptionMatches(PyExc_AttributeError) == 0) return found;
  PyErr_Clear();
  return PyObject_GetAttr(reinterpret_cast<ObservedObject*>(self)->fn, name);
}

int Traverse(PyObject* self, visitproc visit, void* arg) {
  auto* observed = reinterpret_cast<ObservedObject*>(self);
  Py_VISIT(observed->fn);
  Py_VISIT(observed->dict);
  return 0;
}

int Clear(PyObject* self) {
  auto* observed = reinterpret_cast<ObservedObject*>(self);
  Py_CLEAR(observed->dict);
  Py_XSETREF(observed->fn, Py_NewRef(Py_None));  // never null: it may still be called from the garbage
  return 0;
}

void Dealloc(PyObject* self) {
  auto* observed = reinterpret_cast<ObservedObject*>(self);
  PyObject_GC_UnTrack(self);
  if (observed->weak_refs != nullptr) PyObject_ClearWeakRefs(self);
  Py_CLEAR(observed->dict);
  Py_CLEAR(observed->fn);
  Py_CLEAR(observed->name);
  delete observed->shape;
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
  int capture_input = 1, capture_output = 1, returns = 0;
  long long capture_bytes = -1;
  if (PyArg_ParseTuple(args, "OUUppLO!i:observed", &fn, &name, &kind_name, &capture_input, &capture_output,
                       &capture_bytes, &PyTuple_Type, &parameters, &returns) == 0) {
    return nullptr;
  }
  const auto kind = SpanKindFromString(Utf8(kind_name).view());
  if (!kind) return PyErr_Format(PyExc_ValueError, "unknown span kind %R", kind_name);
  if (returns < 0 || returns > 3) return PyErr_Format(PyExc_ValueError, "returns is 0 to 3");
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(parameters); ++i) {
    if (!PyUnicode_Check(PyTuple_GET_ITEM(parameters, i))) {
      return PyErr_Format(PyExc_TypeError, "parameter names are strings");
    }
  }
  ObservedObject* observed = PyObject_GC_New(ObservedObject, &observed_type);
  if (observed == nullptr) return nullptr;
  observed->vectorcall = returns != 0 ? CallDriven : Call;
  observed->fn = Py_NewRef(fn);
  observed->name = Py_NewRef(name);
  observed->dict = nullptr;
  observed->weak_refs = nullptr;
  observed->shape = new CallShape{.head = EncodeHead(*kind, RedactedName(Utf8(name).view())),
                                  .parameters = Parameters(parameters),
                                  .kind = *kind,
                                  .returns = static_cast<Returns>(returns),
                                  .capture_input = capture_input != 0,
                                  .capture_output = capture_output != 0,
                                  .capture_bytes = capture_bytes};
  PyObject_GC_Track(reinterpret_cast<PyObject*>(observed));
  return reinterpret_cast<PyObject*>(observed);
}

PyGetSetDef getset[] = {{"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, nullptr, nullptr},
                        {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyMethodDef methods[] = {{"__reduce__", Reduce, METH_NOARGS, nullptr}, {nullptr, nullptr, 0, nullptr}};
PyMethodDef functions[] = {
    {"observed", Observe, METH_VARARGS,
     "observed(fn, name, kind, capture_input, capture_output, capture_bytes, parameters, returns) -> callable\n\n"
     "The traced form of a function; parameters are the names of its positional parameters. returns: 0 its value,\n"
     "1 a coroutine, 2 a generator, 3 an async generator; of 1 to 3 the traced form returns an object that drives it."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

Parameters::Parameters(PyObject* names) {
  ByteBuffer buffer;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); ++i) {
    const Utf8 name(PyTuple_GET_ITEM(names, i));
    if (i == 0 && (name.view() == "self" || name.view() == "cls")) first_ = 1;
    buffer.Clear();
    MsgpackWriter(buffer).Str(name.view());
    parameters_.push_back({std::string(buffer.text()), IsSecretName(name.view())});
  }
  constexpr std::size_t kMaxShort = 16;
  std::size_t bytes = 64;
  for (const Parameter& parameter : parameters_) {
    if (parameter.secret || parameter.packed_name.size() > kMaxShortCopy || parameters_.size() > kMaxShort) return;
    bytes += parameter.packed_name.size() + kMaxScalarBytes;
  }
  short_bytes_ = bytes;
}

void AddOutput(RecordWriter& record, const CallShape& shape, PyObject* result) {
  if (hides_outputs) return record.AddString(Column::kOutput, {}, kHidden);
  if (shape.MayBeShort() && AddShortOutput(record, result)) return;
  AddCaptured(record, [&](Capture& capture) {
    shape.LimitCapture(capture);
    capture.AddValue(Column::kOutput, {}, result);
  });
}

bool Parameters::AddShort(RecordWriter& record, PyObject* const* args, Py_ssize_t count,
                          PyObject* keyword_names) const {
  const bool few = count <= static_cast<Py_ssize_t>(parameters_.size()) && keyword_names == nullptr;
  if (!few || short_bytes_ == 0 || has_denied_names) return false;
  if (count <= first_) return true;
  constexpr std::size_t kHead = RecordWriter::kSizedKeyBytes + 5;
  std::byte* const begin = record.buffer().Reserve(short_bytes_);
  RecordWriter::WriteSizedKey(begin, Column::kInput, kPackedValue, 0);
  std::byte* at = begin + kHead;
  for (Py_ssize_t i = first_; i < count; ++i) {
    const std::string& name = parameters_[static_cast<std::size_t>(i)].packed_name;
    CopyShort(at, name.data(), name.size());
    at = PackScalar(at + name.size(), args[i]);
    if (at == nullptr) return false;
  }
  const std::uint32_t members = __builtin_bswap32(static_cast<std::uint32_t>(count - first_));
  begin[RecordWriter::kSizedKeyBytes] = std::byte{0xDF};  // map 32
  std::memcpy(begin + RecordWriter::kSizedKeyBytes + 1, &members, sizeof members);
  RecordWriter::PatchSize(begin, at);
  record.buffer().Advance(static_cast<std::size_t>(at - begin));
  return true;
}

void Parameters::AddTo(Capture& capture, PyObject* const* args, Py_ssize_t count, PyObject* keyword_names) const {
  const Py_ssize_t keywords = keyword_names == nullptr ? 0 : PyTuple_GET_SIZE(keyword_names);
  if (count <= first_ && keywords == 0) return;
  const auto named = static_cast<Py_ssize_t>(parameters_.size());
  auto mapping = capture.BeginMapping(Column::kInput);
  for (Py_ssize_t i = first_; i < count && i < named; ++i) {
    const Parameter& parameter = parameters_[static_cast<std::size_t>(i)];
    capture.AddMember(mapping, parameter.packed_name, parameter.secret, args[i]);
  }
  const Py_ssize_t extra = named > first_ ? named : first_;
  if (count > extra) capture.AddMembers(mapping, "args", args + extra, count - extra);
  for (Py_ssize_t k = 0; k < keywords; ++k) {
    capture.AddMember(mapping, Utf8(PyTuple_GET_ITEM(keyword_names, k)).view(), args[count + k]);
  }
  capture.EndMapping(mapping);
}

SpanObject* StartCall(ObservedObject* observed, PyObject* const* args, size_t nargsf, PyObject* keyword_names,
                      PyObject** token) {
  Recorder* recorder = ActiveRecorder();
  if (recorder == nullptr) return nullptr;
  const CallShape& shape = *observed->shape;
  SpanObject* span = NewSpan(observed->name, shape.kind);
  if (span == nullptr) {
    PyErr_Clear();
    return nullptr;
  }
  *token = StartSpan(*recorder, span, shape.head, [&](RecordWriter& record) {
    const Py_ssize_t count = PyVectorcall_NARGS(nargsf);
    if (!shape.capture_input) return;
    if (hides_inputs) return record.AddString(Column::kInput, {}, kHidden);
    if (shape.MayBeShort() && shape.parameters.AddShort(record, args, count, keyword_names)) return;
    AddCaptured(record, [&](Capture& capture) {
      shape.LimitCapture(capture);
      shape.parameters.AddTo(capture, args, count, keyword_names);
    });
  });
  return span;
}

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
  observed_type.tp_getattro = GetAttribute;
  observed_type.tp_descr_get = DescriptorGet;
  observed_type.tp_dictoffset = offsetof(ObservedObject, dict);
  observed_type.tp_weaklistoffset = offsetof(ObservedObject, weak_refs);
  observed_type.tp_methods = methods;
  observed_type.tp_getset = getset;
  if (PyType_Ready(&observed_type) < 0) return -1;
  return PyModule_AddFunctions(module, functions);
}

}  // namespace spanbox::python
