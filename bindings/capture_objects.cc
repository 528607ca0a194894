// Objects of a captured value that are neither plain nor containers.
#include <algorithm>
#include <cstring>
#include <string>

#include "capture.h"
#include "capture_settings.h"
#include "classes.h"

namespace spanbox::python {
namespace {

// What these cost beside a plain value, in nodes, so that ten thousand of them are cut before they take long.
constexpr std::uint32_t kTextNodes = 14;
constexpr std::uint32_t kArrayNodes = 40;

// What an attribute of the instance holds, read from its dict or slot; new reference, or nullptr.
PyObject* StoredAttribute(PyObject* value, PyObject* name) {
  PyObject* dict = InstanceDict(value);
  if (dict != nullptr) {
    PyObject* item = PyUnicode_CheckExact(name) ? PyDict_GetItemWithError(dict, name) : nullptr;
    Py_XINCREF(item);
    PyErr_Clear();
    Py_DECREF(dict);
    if (item != nullptr) return item;
  }
  PyObject* slot = _PyType_Lookup(Py_TYPE(value), name);
  PyObject* item = nullptr;
  if (slot != nullptr && Py_IS_TYPE(slot, &PyMemberDescr_Type)) {
    item = PyMemberDescr_Type.tp_descr_get(slot, value, reinterpret_cast<PyObject*>(Py_TYPE(value)));
  }
  PyErr_Clear();
  return item;
}

PyObject* StoredAttribute(PyObject* value, const char* name) {
  PyObject* key = PyUnicode_InternFromString(name);
  PyObject* item = key == nullptr ? nullptr : StoredAttribute(value, key);
  PyErr_Clear();
  Py_XDECREF(key);
  return item;
}

// The name of a declared field: a str, or an attrs Attribute, which has it in a slot. New reference or nullptr.
PyObject* FieldName(PyObject* declared) {
  if (PyUnicode_CheckExact(declared)) return Py_NewRef(declared);
  PyObject* name = StoredAttribute(declared, "name");
  if (name != nullptr && !PyUnicode_CheckExact(name)) Py_CLEAR(name);
  return name;
}

std::string NameOrNothing(PyObject* text) {
  return text != nullptr && PyUnicode_Check(text) ? std::string(Utf8(text).view()) : std::string();
}

std::string Dotted(PyObject* module, PyObject* qualname) {
  const std::string prefix = NameOrNothing(module);
  const std::string name = NameOrNothing(qualname);
  return prefix.empty() || prefix == "builtins" ? name : prefix + "." + name;
}

// "<function app.answer>", "<class app.Order>", "<module json>": what has a name of its own; empty: nothing known.
std::string NamedText(PyObject* value) {
  if (PyMethod_Check(value)) value = PyMethod_GET_FUNCTION(value);
  if (PyFunction_Check(value)) {
    const auto* function = reinterpret_cast<PyFunctionObject*>(value);
    return "<function " + Dotted(function->func_module, function->func_qualname) + ">";
  }
  if (PyCFunction_Check(value)) {
    const auto* function = reinterpret_cast<PyCFunctionObject*>(value);
    const std::string module = NameOrNothing(function->m_module);
    const std::string prefix = module.empty() || module == "builtins" ? "" : module + ".";
    return "<function " + prefix + function->m_ml->ml_name + ">";
  }
  if (PyType_Check(value)) return "<class " + QualifiedTypeName(reinterpret_cast<PyTypeObject*>(value)) + ">";
  if (PyModule_CheckExact(value)) {
    PyObject* dict = PyModule_GetDict(value);
    return "<module " + NameOrNothing(dict == nullptr ? nullptr : PyDict_GetItemString(dict, "__name__")) + ">";
  }
  const bool generator = PyGen_CheckExact(value), coroutine = PyCoro_CheckExact(value);
  if (generator || coroutine || PyAsyncGen_CheckExact(value)) {
    PyObject* name = PyObject_GetAttrString(value, "__qualname__");
    PyErr_Clear();
    const std::string what = coroutine ? "coroutine" : generator ? "generator" : "async_generator";
    const std::string text = "<" + what + " " + NameOrNothing(name) + ">";
    Py_XDECREF(name);
    return text;
  }
  return {};
}

}  // namespace

void Capture::PackTypeName(PyObject* value) { PackText("<" + QualifiedTypeName(Py_TYPE(value)) + ">"); }

void Capture::PackObject(PyObject* value, int depth) {
  if (PyUnicode_Check(value)) return PackLongStr(value);
  if (PyLong_Check(value)) return PackInt(value);
  if (PyFloat_Check(value)) return MsgpackWriter(out_.buffer()).Float(PyFloat_AS_DOUBLE(value));
  if (PackBytesLike(value)) return;
  ++nodes_;
  const std::string named = NamedText(value);
  if (!named.empty()) return PackText(named);
  if (IsEnumMember(value)) {
    PyObject* inner = depth < limits_.depth ? StoredAttribute(value, "_value_") : nullptr;
    if (inner == nullptr) return PackTypeName(value);
    above_[static_cast<std::size_t>(depth)] = value;
    Pack(inner, depth + 1);
    return Py_DECREF(inner);
  }
  // Of many objects of one class it is found out once that nothing is known of it. (By address, for one record: a class
  // that went and another that came to its place would at worst be called by the first one's name.)
  if (Py_TYPE(value) == opaque_type_) return PackText(opaque_text_);
  if (PackFields(value, depth) || PackNumpyScalar(value)) return;
  const std::string text = LibraryText(value);
  if (!text.empty()) {
    nodes_ += text.front() == '<' ? kArrayNodes : kTextNodes;
    return PackText(text);
  }
  opaque_type_ = Py_TYPE(value);
  opaque_text_ = "<" + QualifiedTypeName(Py_TYPE(value)) + ">";
  PackText(opaque_text_);
}

bool Capture::PackEncoded(PyObject* value, int depth) {
  PyObject* encode = EncoderOf(Py_TYPE(value));
  if (encode == nullptr) return false;
  if (depth >= limits_.depth || Full()) {
    PackTooDeep(value);
    return true;
  }
  Py_INCREF(encode);
  PyObject *type = nullptr, *raised = nullptr, *traceback = nullptr;
  PyErr_Fetch(&type, &raised, &traceback);
  PyObject* plain = PyObject_CallOneArg(encode, value);
  if (plain == nullptr) {
    PyObject *error_type = nullptr, *error = nullptr, *error_traceback = nullptr;
    PyErr_Fetch(&error_type, &error, &error_traceback);
    error_ = "the encoder of " + QualifiedTypeName(Py_TYPE(value)) + " raised " +
             QualifiedTypeName(reinterpret_cast<PyTypeObject*>(error_type));
    if (PyErr_GivenExceptionMatches(error_type, PyExc_KeyboardInterrupt) != 0) PyErr_SetInterrupt();
    Py_XDECREF(error_type);
    Py_XDECREF(error);
    Py_XDECREF(error_traceback);
    PackTypeName(value);
  } else {
    above_[static_cast<std::size_t>(depth)] = value;
    Pack(plain, depth + 1);
    Py_DECREF(plain);
  }
  PyErr_Restore(type, raised, traceback);
  Py_DECREF(encode);
  return true;
}

// Dataclasses, pydantic-like and attrs models: the fields their class declares, read from the instance's dict or slots.
bool Capture::PackFields(PyObject* value, int depth) {
  for (const char* name : {"__dataclass_fields__", "__pydantic_fields__", "__attrs_attrs__"}) {
    PyObject* declared = ClassAttribute(Py_TYPE(value), name);
    if (declared == nullptr || !(PyDict_CheckExact(declared) || PyTuple_Check(declared))) continue;
    if (depth >= limits_.depth) {
      PackTooDeep(value);
    } else if (std::find(above_.begin(), above_.begin() + depth, value) != above_.begin() + depth) {
      truncated_ = true;
      PackText("<cycle>");
    } else {
      above_[static_cast<std::size_t>(depth)] = value;
      Py_INCREF(declared);
      PackDeclared(value, declared, depth);
      Py_DECREF(declared);
    }
    return true;
  }
  return false;
}

void Capture::PackDeclared(PyObject* value, PyObject* declared, int depth) {
  MsgpackWriter pack(out_.buffer());
  const std::size_t place = pack.Map(0);
  std::uint32_t count = 0;
  const bool is_dict = PyDict_CheckExact(declared);
  const Py_ssize_t fields = is_dict ? PyDict_GET_SIZE(declared) : PyTuple_GET_SIZE(declared);
  Py_ssize_t position = 0, seen = 0;
  for (; seen < fields; ++seen) {
    PyObject *key = nullptr, *field = nullptr;
    if (is_dict && PyDict_Next(declared, &position, &key, &field) == 0) break;
    if (Full()) break;
    PyObject* name = FieldName(is_dict ? key : PyTuple_GET_ITEM(declared, seen));
    PyObject* item = name == nullptr ? nullptr : StoredAttribute(value, name);
    if (item != nullptr) {
      PackKey(name, depth);
      PackUnderKey(IsSecretName(Utf8(name).view()), item, depth);
      ++count;
    }
    Py_XDECREF(item);
    Py_XDECREF(name);
  }
  if (seen < fields) {
    pack.Str("\u2026");
    PackLeftOut(fields - seen);
    ++count;
  }
  pack.SetCount(place, count);
}

bool Capture::PackNumpyScalar(PyObject* value) {
  PyTypeObject* type = Py_TYPE(value);
  // A class statement makes heap types: what it may override is not called.
  if ((type->tp_flags & Py_TPFLAGS_HEAPTYPE) != 0 || std::strncmp(type->tp_name, "numpy.", 6) != 0 ||
      type->tp_as_number == nullptr ||
      (type->tp_as_sequence != nullptr && type->tp_as_sequence->sq_length != nullptr)) {
    return false;  // an array has a length, a scalar has none
  }
  const PyNumberMethods& number = *type->tp_as_number;
  PyObject* plain = nullptr;
  if (std::strcmp(type->tp_name, "numpy.bool") == 0 || std::strcmp(type->tp_name, "numpy.bool_") == 0) {
    if (number.nb_bool == nullptr) return false;
    MsgpackWriter(out_.buffer()).Bool(number.nb_bool(value) == 1);
    return true;
  }
  if (number.nb_index != nullptr) plain = number.nb_index(value);
  if (plain == nullptr && number.nb_float != nullptr) {
    PyErr_Clear();
    plain = number.nb_float(value);
  }
  if (plain == nullptr) {
    PyErr_Clear();
    return false;
  }
  if (PyLong_Check(plain)) {
    PackInt(plain);
  } else {
    MsgpackWriter(out_.buffer()).Float(PyFloat_AS_DOUBLE(plain));
  }
  Py_DECREF(plain);
  return true;
}

}  // namespace spanbox::python
