#include "capture.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <vector>

namespace spanbox::python {
namespace {

constexpr std::size_t kBytesPreview = 1024;
constexpr std::string_view kRedacted = "[redacted]";

// Lower case, "_" for "-".
constexpr std::array<std::string_view, 19> kSecretNames = {
    "api_key",    "apikey",        "x_api_key",  "authorization", "proxy_authorization", "password",      "passwd",
    "secret",     "client_secret", "secret_key", "token",         "access_token",        "refresh_token", "id_token",
    "auth_token", "cookie",        "set_cookie", "private_key",   "credentials",
};

char Fold(char c) {
  if (c >= 'A' && c <= 'Z') return static_cast<char>(c + 32);
  return c == '-' ? '_' : c;
}

void AppendUtf8(std::string& out, Py_UCS4 c) {
  if (c >= 0xD800 && c <= 0xDFFF) c = 0xFFFD;
  if (c < 0x80) {
    out.push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    out.push_back(static_cast<char>(0xC0 | c >> 6));
    out.push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else if (c < 0x10000) {
    out.push_back(static_cast<char>(0xE0 | c >> 12));
    out.push_back(static_cast<char>(0x80 | (c >> 6 & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else {
    out.push_back(static_cast<char>(0xF0 | c >> 18));
    out.push_back(static_cast<char>(0x80 | (c >> 12 & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (c >> 6 & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (c & 0x3F)));
  }
}

// The longest prefix of at most `bytes` bytes that ends between characters.
std::string_view CutUtf8(std::string_view text, std::size_t bytes) {
  if (text.size() <= bytes) return text;
  while (bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xC0) == 0x80) --bytes;
  return text.substr(0, bytes);
}

std::string Shortened(std::string_view text, std::size_t bytes) {
  std::string cut(CutUtf8(text, bytes));
  cut += "\u2026 (+" + std::to_string(text.size() - cut.size()) + " bytes)";
  return cut;
}

// An int that fits no 64 bits, in decimal; very long ones by their size, as converting them takes quadratic time.
std::string BigIntText(PyObject* value) {
  const std::size_t bits = _PyLong_NumBits(value);
  if (bits > 4096) return "<int of " + std::to_string(bits) + " bits>";
  PyObject* text = PyLong_Type.tp_repr(value);
  if (text == nullptr) {
    PyErr_Clear();
    return "<int>";
  }
  std::string result(Utf8(text).view());
  Py_DECREF(text);
  return result;
}

// A class attribute that is data of the declaration, found without running descriptors or __getattr__.
PyObject* ClassAttribute(PyTypeObject* type, const char* name) {  // borrowed or nullptr
  PyObject* key = PyUnicode_InternFromString(name);
  if (key == nullptr) {
    PyErr_Clear();
    return nullptr;
  }
  PyObject* found = _PyType_Lookup(type, key);
  Py_DECREF(key);
  return found;
}

bool HasInstanceDict(PyTypeObject* type) {
#if PY_VERSION_HEX >= 0x030C0000
  if ((type->tp_flags & Py_TPFLAGS_MANAGED_DICT) != 0) return true;
#endif
  return type->tp_dictoffset != 0;
}

}  // namespace

bool IsSecretName(std::string_view name) {
  if (name.size() < 5 || name.size() > 19) return false;
  for (std::string_view secret : kSecretNames) {
    if (secret.size() != name.size() || secret[0] != Fold(name[0])) continue;
    std::size_t i = 1;
    while (i < name.size() && Fold(name[i]) == secret[i]) ++i;
    if (i == name.size()) return true;
  }
  return false;
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

Utf8::Utf8(PyObject* text) {
  if (PyUnicode_READY(text) != 0) {
    PyErr_Clear();
    return;
  }
  const Py_ssize_t length = PyUnicode_GET_LENGTH(text);
  if (PyUnicode_IS_ASCII(text)) {
    view_ = {reinterpret_cast<const char*>(PyUnicode_1BYTE_DATA(text)), static_cast<std::size_t>(length)};
    return;
  }
  const int kind = PyUnicode_KIND(text);
  const void* data = PyUnicode_DATA(text);
  buffer_.reserve(static_cast<std::size_t>(length) * 2);
  for (Py_ssize_t i = 0; i < length; ++i) AppendUtf8(buffer_, PyUnicode_READ(kind, data, i));
  view_ = buffer_;
}

bool Capture::Full() {
  if (++nodes_ <= limits_.nodes && out_.buffer().size() < limits_.bytes) return false;
  truncated_ = true;
  return true;
}

void Capture::PackText(std::string_view text) {
  const std::size_t used = out_.buffer().size();
  const std::size_t room = used < limits_.bytes ? limits_.bytes - used : 0;
  MsgpackWriter pack(out_.buffer());
  if (text.size() <= room) {
    pack.Str(text);
  } else {
    truncated_ = true;
    pack.Str(Shortened(text, room));
  }
}

void Capture::PackStr(PyObject* value) { PackText(Utf8(value).view()); }

void Capture::PackInt(PyObject* value) {
  int overflow = 0;
  const long long integer = PyLong_AsLongLongAndOverflow(value, &overflow);
  if (overflow == 0) {
    MsgpackWriter(out_.buffer()).Int(integer);
  } else {
    PackText(BigIntText(value));
  }
}

void Capture::PackBytes(PyObject* value) {
  const auto size = static_cast<std::size_t>(PyBytes_GET_SIZE(value));
  const auto* data = reinterpret_cast<const std::byte*>(PyBytes_AS_STRING(value));
  if (size > kBytesPreview) truncated_ = true;
  MsgpackWriter(out_.buffer()).Bin({data, size < kBytesPreview ? size : kBytesPreview});
}

void Capture::PackTypeName(PyObject* value) { PackText("<" + QualifiedTypeName(Py_TYPE(value)) + ">"); }

void Capture::PackSequence(PyObject* value, int depth) {
  MsgpackWriter pack(out_.buffer());
  const bool is_list = PyList_Check(value);
  const std::size_t place = pack.Array(0);
  std::uint32_t count = 0;
  // The size is read again on every turn: another thread may shorten a list while we hold no reference to its items.
  for (Py_ssize_t i = 0; i < (is_list ? PyList_GET_SIZE(value) : PyTuple_GET_SIZE(value)) && !Full(); ++i, ++count) {
    PyObject* item = is_list ? PyList_GET_ITEM(value, i) : PyTuple_GET_ITEM(value, i);
    Py_INCREF(item);
    Pack(item, depth + 1);
    Py_DECREF(item);
  }
  pack.SetCount(place, count);
}

// Members in the order of their encoded bytes: a set's own order changes from process to process.
void Capture::PackSet(PyObject* value, int depth) {
  std::vector<std::string> members;
  PyObject* iterator = PyObject_GetIter(value);
  PyObject* item = nullptr;
  while (iterator != nullptr && (item = PyIter_Next(iterator)) != nullptr) {
    const bool full = Full();
    if (!full) {
      const std::size_t begin = out_.buffer().size();
      Pack(item, depth + 1);
      members.emplace_back(out_.buffer().text().substr(begin));
      out_.buffer().Truncate(begin);
    }
    Py_DECREF(item);
    if (full) break;
  }
  PyErr_Clear();
  Py_XDECREF(iterator);
  std::sort(members.begin(), members.end());
  MsgpackWriter(out_.buffer()).Array(static_cast<std::uint32_t>(members.size()));
  for (const std::string& member : members) out_.buffer().PutText(member);
}

void Capture::PackMember(std::string_view key, PyObject* value, int depth) {
  PackText(key);
  if (limits_.redact_keys && IsSecretName(key)) {
    PackText(kRedacted);
  } else {
    Pack(value, depth + 1);
  }
}

void Capture::PackDict(PyObject* value, int depth) {
  MsgpackWriter pack(out_.buffer());
  const std::size_t place = pack.Map(0);
  std::uint32_t count = 0;
  Py_ssize_t position = 0;
  PyObject* key = nullptr;
  PyObject* item = nullptr;
  while (PyDict_Next(value, &position, &key, &item) != 0 && !Full()) {
    // Reading an item can run the garbage collector, and a finalizer may change the dict.
    Py_INCREF(key);
    Py_INCREF(item);
    if (PyUnicode_Check(key)) {
      PackMember(Utf8(key).view(), item, depth);
    } else if (PyLong_Check(key)) {
      PackMember(BigIntText(key), item, depth);
    } else {
      PackMember("<" + QualifiedTypeName(Py_TYPE(key)) + ">", item, depth);
    }
    Py_DECREF(item);
    Py_DECREF(key);
    ++count;
  }
  pack.SetCount(place, count);
}

// Dataclasses and pydantic-like models: the fields their class declares, read from the instance's dict or slots.
bool Capture::PackFields(PyObject* value, int depth) {
  PyTypeObject* type = Py_TYPE(value);
  PyObject* declared = ClassAttribute(type, "__dataclass_fields__");
  if (declared == nullptr) declared = ClassAttribute(type, "__pydantic_fields__");
  if (declared == nullptr || !PyDict_CheckExact(declared)) return false;
  PyObject* instance = HasInstanceDict(type) ? PyObject_GenericGetDict(value, nullptr) : nullptr;
  if (instance == nullptr) PyErr_Clear();
  MsgpackWriter pack(out_.buffer());
  const std::size_t place = pack.Map(0);
  std::uint32_t count = 0;
  Py_ssize_t position = 0;
  PyObject* key = nullptr;
  PyObject* field = nullptr;
  while (PyDict_Next(declared, &position, &key, &field) != 0 && !Full()) {
    if (!PyUnicode_Check(key)) continue;
    PyObject* item = instance == nullptr ? nullptr : PyDict_GetItemWithError(instance, key);
    Py_XINCREF(item);
    if (item == nullptr) {
      PyErr_Clear();
      PyObject* slot = _PyType_Lookup(type, key);
      if (slot != nullptr && Py_IS_TYPE(slot, &PyMemberDescr_Type)) {
        item = PyMemberDescr_Type.tp_descr_get(slot, value, reinterpret_cast<PyObject*>(type));
      }
      if (item == nullptr) {
        PyErr_Clear();
        continue;
      }
    }
    PackMember(Utf8(key).view(), item, depth);
    Py_DECREF(item);
    ++count;
  }
  pack.SetCount(place, count);
  Py_XDECREF(instance);
  return true;
}

bool Capture::PackNumpyScalar(PyObject* value) {
  PyTypeObject* type = Py_TYPE(value);
  if (std::strncmp(type->tp_name, "numpy.", 6) != 0 || type->tp_as_number == nullptr ||
      type->tp_as_sequence == nullptr || type->tp_as_sequence->sq_length != nullptr) {
    return false;  // an array has a length, a scalar has none
  }
  const PyNumberMethods& number = *type->tp_as_number;
  PyObject* plain = nullptr;
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

void Capture::Pack(PyObject* value, int depth) {
  if (value == Py_None) return MsgpackWriter(out_.buffer()).Nil();
  if (PyUnicode_Check(value)) return PackStr(value);
  if (PyBool_Check(value)) return MsgpackWriter(out_.buffer()).Bool(value == Py_True);
  if (PyLong_Check(value)) return PackInt(value);
  if (PyFloat_Check(value)) return MsgpackWriter(out_.buffer()).Float(PyFloat_AS_DOUBLE(value));
  if (depth >= limits_.depth) {
    truncated_ = true;
    return PackTypeName(value);
  }
  if (PyDict_Check(value)) return PackDict(value, depth);
  if (PyList_Check(value) || PyTuple_Check(value)) return PackSequence(value, depth);
  if (PyBytes_Check(value)) return PackBytes(value);
  if (PyAnySet_CheckExact(value)) return PackSet(value, depth);  // exact: iterating a subclass may run user code
  if (PackFields(value, depth) || PackNumpyScalar(value)) return;
  PackTypeName(value);
}

void Capture::AddValue(Column column, std::string_view name, PyObject* value) {
  if (value == Py_None) return;
  const ColumnType wanted = Columns()[static_cast<std::size_t>(column)].type;
  const bool named = column != Column::kAttribute;
  if (PyUnicode_Check(value)) {
    const Utf8 text(value);
    const std::size_t used = out_.buffer().size();
    const std::size_t room = used < limits_.bytes ? limits_.bytes - used : 0;
    if (text.view().size() <= room) return out_.AddString(column, name, text.view());
    truncated_ = true;
    return out_.AddString(column, name, Shortened(text.view(), room));
  }
  if (PyBool_Check(value)) return out_.AddBool(column, name, value == Py_True);
  if (PyFloat_Check(value)) return out_.AddFloat(column, name, PyFloat_AS_DOUBLE(value));
  if (PyLong_Check(value)) {
    int overflow = 0;
    const long long integer = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow != 0) return out_.AddString(column, name, BigIntText(value));
    if (named && wanted == ColumnType::kFloat) return out_.AddFloat(column, name, static_cast<double>(integer));
    return out_.AddInt(column, name, integer);
  }
  const std::size_t begin = out_.BeginPacked(column, name);
  Pack(value, 0);
  out_.EndPacked(begin);
}

void Capture::AddNamed(std::string_view name, PyObject* value) {
  if (limits_.redact_keys && IsSecretName(name)) return out_.AddString(Column::kAttribute, name, kRedacted);
  const ColumnInfo* info = FindColumn(name);
  if (info == nullptr || info->name != name) return AddValue(Column::kAttribute, name, value);
  if (info->column <= Column::kDurationNs) {
    return AddValue(Column::kAttribute, "attributes." + std::string(name), value);
  }
  AddValue(info->column, {}, value);
}

void Capture::AddAll(PyObject* dict) {
  Py_ssize_t position = 0;
  PyObject* key = nullptr;
  PyObject* value = nullptr;
  while (PyDict_Next(dict, &position, &key, &value) != 0) {
    if (PyUnicode_Check(key)) AddNamed(Utf8(key).view(), value);
  }
}

void Capture::AddArguments(PyObject* names, bool skip_first, PyObject* const* args, Py_ssize_t count,
                           PyObject* keyword_names) {
  const Py_ssize_t keywords = keyword_names == nullptr ? 0 : PyTuple_GET_SIZE(keyword_names);
  const Py_ssize_t first = skip_first ? 1 : 0;
  if (count <= first && keywords == 0) return;
  const std::size_t begin = out_.BeginPacked(Column::kInput, {});
  MsgpackWriter pack(out_.buffer());
  const std::size_t place = pack.Map(0);
  std::uint32_t members = 0;
  const Py_ssize_t named = PyTuple_GET_SIZE(names);
  for (Py_ssize_t i = first; i < count && i < named && !Full(); ++i, ++members) {
    PackMember(Utf8(PyTuple_GET_ITEM(names, i)).view(), args[i], 0);
  }
  if (count > named && !Full()) {
    PackText("args");
    const std::size_t list = pack.Array(0);
    std::uint32_t extra = 0;
    for (Py_ssize_t i = named > first ? named : first; i < count && !Full(); ++i, ++extra) Pack(args[i], 1);
    pack.SetCount(list, extra);
    ++members;
  }
  for (Py_ssize_t k = 0; k < keywords && !Full(); ++k, ++members) {
    PackMember(Utf8(PyTuple_GET_ITEM(keyword_names, k)).view(), args[count + k], 0);
  }
  pack.SetCount(place, members);
  out_.EndPacked(begin);
}

void Capture::MarkTruncated() {
  if (truncated_) out_.AddBool(Column::kAttribute, "truncated", true);
}

}  // namespace spanbox::python
