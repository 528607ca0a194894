#include "classes.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "capture.h"

namespace spanbox::python {
namespace {

// Borrowed, or nullptr. Modules that pretend (lazy ones) are left alone.
PyObject* LoadedModule(const std::string& name) {
  PyObject* modules = PyImport_GetModuleDict();
  PyObject* module = modules == nullptr ? nullptr : PyDict_GetItemString(modules, name.c_str());
  return module != nullptr && PyModule_Check(module) ? module : nullptr;
}

// The module of the class, when that module is loaded and holds the class under its name; else empty.
std::string HomeModule(PyTypeObject* type) {
  const std::string qualified = QualifiedTypeName(type);
  const std::size_t dot = qualified.rfind('.');
  if (dot == std::string::npos) return {};
  const std::string module_name = qualified.substr(0, dot);
  PyObject* module = LoadedModule(module_name);
  PyObject* dict = module == nullptr ? nullptr : PyModule_GetDict(module);
  PyObject* found = dict == nullptr ? nullptr : PyDict_GetItemString(dict, qualified.c_str() + dot + 1);
  return found == reinterpret_cast<PyObject*>(type) ? module_name : std::string();
}

bool IsOneOf(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// The class whose attribute `name` is; borrowed.
PyTypeObject* Definer(PyTypeObject* type, PyObject* name) {
  for (Py_ssize_t i = 0; type->tp_mro != nullptr && i < PyTuple_GET_SIZE(type->tp_mro); ++i) {
    auto* base = reinterpret_cast<PyTypeObject*>(PyTuple_GET_ITEM(type->tp_mro, i));
    if (base->tp_dict != nullptr && PyDict_GetItemWithError(base->tp_dict, name) != nullptr) return base;
    PyErr_Clear();
  }
  return nullptr;
}

// "numpy" for "numpy.core.multiarray".
std::string Root(const std::string& module) { return module.substr(0, module.find('.')); }

bool IsArrayLibrary(const std::string& root) {
  return IsOneOf(root, {"numpy", "pandas", "polars", "pyarrow", "torch", "tensorflow", "jax", "jaxlib", "cupy", "scipy",
                        "xarray", "mlx"});
}

// An attribute whose code, if it has any, is an array library's. New reference or nullptr.
PyObject* LibraryAttribute(PyObject* value, const char* name) {
  PyObject* key = PyUnicode_InternFromString(name);
  PyTypeObject* definer = key == nullptr ? nullptr : Definer(Py_TYPE(value), key);
  PyObject* result = nullptr;
  if (definer != nullptr && IsArrayLibrary(Root(HomeModule(definer)))) {
    PyObject* attribute = Py_NewRef(PyDict_GetItemWithError(definer->tp_dict, key));
    const descrgetfunc get = Py_TYPE(attribute)->tp_descr_get;
    result = get == nullptr ? Py_NewRef(attribute) : get(attribute, value, reinterpret_cast<PyObject*>(Py_TYPE(value)));
    Py_DECREF(attribute);
  }
  PyErr_Clear();
  Py_XDECREF(key);
  return result;
}

// "[3, 4]"; empty when it is no tuple of a few ints.
std::string ShapeText(PyObject* shape) {
  if (shape == nullptr || !PyTuple_Check(shape) || PyTuple_GET_SIZE(shape) > 32) return {};
  std::string text = "[";
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(shape); ++i) {
    PyObject* size = PyTuple_GET_ITEM(shape, i);
    if (!PyLong_Check(size)) return {};
    text += (i > 0 ? ", " : "") + BigIntText(size);
  }
  return text + "]";
}

// The text of a library's dtype: its class, or the one it derives from, is the library's.
std::string DtypeText(PyObject* dtype) {
  if (dtype == nullptr) return {};
  PyTypeObject* type = Py_TYPE(dtype);
  const std::string root = Root(HomeModule(type));
  const bool numpy_like = std::strncmp(type->tp_name, "numpy.", 6) == 0 && (type->tp_flags & Py_TPFLAGS_HEAPTYPE) == 0;
  if (!IsArrayLibrary(root) && !numpy_like) return {};
  PyObject* text = PyObject_Str(dtype);
  PyErr_Clear();
  std::string result(text == nullptr ? std::string_view{} : Utf8(text).view().substr(0, 100));
  Py_XDECREF(text);
  return result;
}

std::string ArrayText(PyObject* value) {
  bool known = false;
  PyObject* mro = Py_TYPE(value)->tp_mro;
  for (Py_ssize_t i = 0; mro != nullptr && i < PyTuple_GET_SIZE(mro) && !known; ++i) {
    known = IsArrayLibrary(Root(HomeModule(reinterpret_cast<PyTypeObject*>(PyTuple_GET_ITEM(mro, i)))));
  }
  if (!known) return {};
  PyObject* shape = LibraryAttribute(value, "shape");
  const std::string shape_text = ShapeText(shape);
  Py_XDECREF(shape);
  if (shape_text.empty()) return {};
  PyObject* dtype = LibraryAttribute(value, "dtype");
  const std::string dtype_text = DtypeText(dtype);
  Py_XDECREF(dtype);
  return "<" + QualifiedTypeName(Py_TYPE(value)) + (dtype_text.empty() ? "" : " " + dtype_text) + " " + shape_text +
         ">";
}

// Classes of the standard library whose str() runs no code but the library's.
bool HasLibraryText(PyObject* value, const std::string& home) {
  const std::string name = QualifiedTypeName(Py_TYPE(value));
  if (home == "datetime") {
    if (IsOneOf(name, {"datetime.date", "datetime.timedelta", "datetime.timezone"})) return true;
    if (!IsOneOf(name, {"datetime.datetime", "datetime.time"})) return false;
    PyObject* zone = PyObject_GetAttrString(value, "tzinfo");
    PyErr_Clear();
    // Another zone's offset is a method of the user's.
    const bool safe =
        zone == nullptr || zone == Py_None || IsOneOf(HomeModule(Py_TYPE(zone)), {"datetime", "zoneinfo"});
    Py_XDECREF(zone);
    return safe;
  }
  return IsOneOf(name,
                 {"decimal.Decimal", "fractions.Fraction", "uuid.UUID", "pathlib.PosixPath", "pathlib.WindowsPath",
                  "pathlib.PurePosixPath", "pathlib.PureWindowsPath", "pathlib._local.PosixPath",
                  "pathlib._local.PurePosixPath", "ipaddress.IPv4Address", "ipaddress.IPv6Address"});
}

}  // namespace

PyObject* ClassAttribute(PyTypeObject* type, const char* name) {
  PyObject* key = PyUnicode_InternFromString(name);
  if (key == nullptr) {
    PyErr_Clear();
    return nullptr;
  }
  PyObject* found = _PyType_Lookup(type, key);
  Py_DECREF(key);
  return found;
}

PyObject* InstanceDict(PyObject* value) {
  PyTypeObject* const type = Py_TYPE(value);
  bool has_dict = type->tp_dictoffset != 0;
#if PY_VERSION_HEX >= 0x030C0000
  has_dict |= (type->tp_flags & Py_TPFLAGS_MANAGED_DICT) != 0;
#endif
  PyObject* dict = has_dict ? PyObject_GenericGetDict(value, nullptr) : nullptr;
  PyErr_Clear();
  return dict;
}

bool IsEnumMember(PyObject* value) {
  PyTypeObject* const meta = Py_TYPE(reinterpret_cast<PyObject*>(Py_TYPE(value)));
  if (meta == &PyType_Type) return false;
  PyObject* module = LoadedModule("enum");
  PyObject* dict = module == nullptr ? nullptr : PyModule_GetDict(module);
  PyObject* known = dict == nullptr ? nullptr : PyDict_GetItemString(dict, "EnumMeta");
  return known != nullptr && PyType_Check(known) && PyType_IsSubtype(meta, reinterpret_cast<PyTypeObject*>(known)) != 0;
}

std::string LibraryText(PyObject* value) {
  const std::string home = HomeModule(Py_TYPE(value));
  if (!home.empty() && HasLibraryText(value, home)) {
    PyObject* text = PyObject_Str(value);
    PyErr_Clear();
    std::string result(text == nullptr ? std::string_view{} : Utf8(text).view());
    Py_XDECREF(text);
    return result;
  }
  return ArrayText(value);
}

std::string QualifiedTypeName(PyTypeObject* type) {
  std::string name(type->tp_name);  // heap types: the bare name; static types: "module.Name"
  if ((type->tp_flags & Py_TPFLAGS_HEAPTYPE) == 0) return name;
  PyObject* qualname = reinterpret_cast<PyHeapTypeObject*>(type)->ht_qualname;
  if (qualname != nullptr && PyUnicode_CheckExact(qualname)) name = Utf8(qualname).view();
  PyObject* module = type->tp_dict == nullptr ? nullptr : PyDict_GetItemString(type->tp_dict, "__module__");
  if (module == nullptr || !PyUnicode_CheckExact(module)) return name;
  const Utf8 module_name(module);
  if (module_name.view() == "builtins") return name;
  return std::string(module_name.view()) + "." + name;
}

}  // namespace spanbox::python
