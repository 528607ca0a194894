// Containers of a captured value.
#include <algorithm>
#include <string>
#include <vector>

#include "capture.h"
#include "capture_settings.h"
#include "names.h"

namespace spanbox::python {
namespace {

constexpr std::size_t kMaxKey = 256;

// Of collections; borrowed, found once. nullptr: not imported, so nobody has one.
PyTypeObject* DequeType() {
  static PyTypeObject* type = nullptr;
  if (type != nullptr) return type;
  PyObject* modules = PyImport_GetModuleDict();
  PyObject* module = modules == nullptr ? nullptr : PyDict_GetItemString(modules, "_collections");
  PyObject* found = module == nullptr || !PyModule_CheckExact(module)
                        ? nullptr
                        : PyDict_GetItemString(PyModule_GetDict(module), "deque");
  if (found != nullptr && PyType_Check(found)) type = reinterpret_cast<PyTypeObject*>(Py_NewRef(found));
  return type;
}

bool IsView(PyTypeObject* type) {
  return type == &PyDictKeys_Type || type == &PyDictValues_Type || type == &PyDictItems_Type;
}

bool HasKey(PyObject* dict, std::string_view wanted) {
  if (PyDict_GET_SIZE(dict) > 8) return false;
  Py_ssize_t position = 0;
  PyObject* key = nullptr;
  while (PyDict_Next(dict, &position, &key, nullptr) != 0) {
    if (PyUnicode_CheckExact(key) && Utf8(key).view() == wanted) return true;
  }
  return false;
}

}  // namespace

void Capture::PackContainer(PyObject* value, int depth) {
  PyTypeObject* const type = Py_TYPE(value);
  if (HasEncoders() && PackEncoded(value, depth)) return;
  const bool is_dict = PyDict_Check(value);
  const bool is_sequence = PyList_Check(value) || PyTuple_Check(value);
  const bool is_set = !is_dict && !is_sequence && PyAnySet_Check(value);
  const bool is_iterable = !is_dict && !is_sequence && !is_set && (IsView(type) || type == DequeType());
  if (!is_dict && !is_sequence && !is_set && !is_iterable) return PackObject(value, depth);
  if (depth >= limits_.depth) return PackTooDeep(value);
  const auto level = static_cast<std::size_t>(depth);
  if (std::find(above_.begin(), above_.begin() + depth, value) != above_.begin() + depth) {
    truncated_ = true;
    return PackText("<cycle>");
  }
  above_[level] = value;
  if (is_dict) return PackDict(value, depth);
  if (is_sequence) return PackSequence(value, depth);
  if (is_set) return PackSet(value, depth);
  PackIterable(value, PyObject_Size(value), depth);
}

void Capture::PackTooDeep(PyObject* value) {
  truncated_ = true;
  const Py_ssize_t items = PyDict_Check(value)     ? PyDict_GET_SIZE(value)
                           : PyList_Check(value)   ? PyList_GET_SIZE(value)
                           : PyTuple_Check(value)  ? PyTuple_GET_SIZE(value)
                           : PyAnySet_Check(value) ? PySet_GET_SIZE(value)
                                                   : -1;
  std::string text = "<" + QualifiedTypeName(Py_TYPE(value));
  if (items >= 0) text += " of " + std::to_string(items) + (items == 1 ? " item" : " items");
  PackText(text + ">");
}

void Capture::PackLeftOut(Py_ssize_t items) {
  truncated_ = true;
  MsgpackWriter(out_.buffer()).Str("\u2026 (+" + std::to_string(items) + (items == 1 ? " item)" : " items)"));
}

void Capture::PackSequence(PyObject* value, int depth) {
  MsgpackWriter pack(out_.buffer());
  const bool is_list = PyList_Check(value);
  const auto size = [&] { return is_list ? PyList_GET_SIZE(value) : PyTuple_GET_SIZE(value); };
  const std::size_t place = pack.Array(0);
  Py_ssize_t i = 0;
  // The size is read again on every turn: another thread may shorten a list while an encoder runs.
  for (; i < size() && !Full(); ++i) {
    PyObject* item = is_list ? PyList_GET_ITEM(value, i) : PyTuple_GET_ITEM(value, i);
    if (item == nullptr) item = Py_None;  // a tuple that is being made
    Py_INCREF(item);
    Pack(item, depth + 1);
    Py_DECREF(item);
  }
  const bool cut = i < size();
  if (cut) PackLeftOut(size() - i);
  pack.SetCount(place, static_cast<std::uint32_t>(i + cut));
}

// Of types whose iterator is the interpreter's own.
void Capture::PackIterable(PyObject* value, Py_ssize_t size, int depth) {
  MsgpackWriter pack(out_.buffer());
  const std::size_t place = pack.Array(0);
  std::uint32_t count = 0;
  PyObject* iterator = Py_TYPE(value)->tp_iter(value);
  PyObject* item = nullptr;
  while (iterator != nullptr && !Full() && (item = Py_TYPE(iterator)->tp_iternext(iterator)) != nullptr) {
    Pack(item, depth + 1);
    Py_DECREF(item);
    ++count;
  }
  PyErr_Clear();
  Py_XDECREF(iterator);
  if (size > static_cast<Py_ssize_t>(count)) {
    PackLeftOut(size - count);
    ++count;
  }
  pack.SetCount(place, count);
}

// Members in the order of their encoded bytes: a set's own order changes from process to process. For the same reason
// a set that does not fit is left out whole.
void Capture::PackSet(PyObject* value, int depth) {
  ByteBuffer& buffer = out_.buffer();
  const std::size_t begin = buffer.size();
  if (nodes_ + static_cast<std::size_t>(PySet_GET_SIZE(value)) > limits_.nodes) return PackTooDeep(value);
  std::vector<std::string> members;
  // The base type's: iterating a subclass may run user code.
  PyObject* iterator = PySet_Type.tp_iter(value);
  PyObject* item = nullptr;
  bool full = false;
  while (iterator != nullptr && !full && (item = Py_TYPE(iterator)->tp_iternext(iterator)) != nullptr) {
    full = Full();
    const std::size_t at = buffer.size();
    if (!full) Pack(item, depth + 1);
    members.emplace_back(buffer.text().substr(at));
    Py_DECREF(item);
  }
  PyErr_Clear();
  Py_XDECREF(iterator);
  buffer.Truncate(begin);
  if (full) return PackTooDeep(value);
  std::sort(members.begin(), members.end());
  MsgpackWriter(buffer).Array(static_cast<std::uint32_t>(members.size()));
  for (const std::string& member : members) buffer.PutText(member);
}

void Capture::PackUnderKey(bool secret, PyObject* value, int depth) {
  if (secret && limits_.redact_keys && value != Py_None && !PyBool_Check(value)) {
    MsgpackWriter(out_.buffer()).Str(kRedacted);
  } else {
    Pack(value, depth + 1);
  }
}

// JSON has string keys only: another key becomes the text of its JSON when the record is decoded.
void Capture::PackKey(PyObject* key, int depth) {
  if (!PyUnicode_Check(key)) return Pack(key, depth + 1);
  const auto characters = static_cast<std::size_t>(PyUnicode_GET_LENGTH(key));
  if (characters <= kMaxKey) return PackText(Utf8(key).view());
  truncated_ = true;
  PyObject* head = PyUnicode_Substring(key, 0, static_cast<Py_ssize_t>(kMaxKey));
  PyErr_Clear();
  std::string text(head == nullptr ? std::string_view{} : Utf8(head).view());
  Py_XDECREF(head);
  PackText(text + "\u2026 (+" + std::to_string(characters - kMaxKey) + " characters)");
}

void Capture::PackDict(PyObject* value, int depth) {
  MsgpackWriter pack(out_.buffer());
  const std::size_t place = pack.Map(0);
  std::uint32_t count = 0;
  Py_ssize_t position = 0;
  PyObject* key = nullptr;
  PyObject* item = nullptr;
  bool cut = false;
  while (PyDict_Next(value, &position, &key, &item) != 0) {
    if (Full()) {
      cut = true;
      break;
    }
    // An encoder may change the dict.
    Py_INCREF(key);
    Py_INCREF(item);
    bool secret = false;
    if (PyUnicode_CheckExact(key) && PyUnicode_IS_COMPACT_ASCII(key) &&
        static_cast<std::size_t>(PyUnicode_GET_LENGTH(key)) <= kMaxKey) [[likely]] {
      const std::string_view name(static_cast<const char*>(PyUnicode_DATA(key)),
                                  static_cast<std::size_t>(PyUnicode_GET_LENGTH(key)));
      secret = IsSecretName(key, name);
      // Where the probabilities of tokens are listed, a token is a piece of text.
      if (secret && name == "token" && HasKey(value, "logprob")) secret = false;
      // The shortest secret has more characters.
      name.size() < 16 && !looks_for_pii ? pack.Str(name) : PackText(name);
    } else {
      if (PyUnicode_Check(key)) secret = IsSecretName(Utf8(key).view().substr(0, kMaxKey));
      PackKey(key, depth);
    }
    PackUnderKey(secret, item, depth);
    Py_DECREF(item);
    Py_DECREF(key);
    ++count;
  }
  if (cut && PyDict_GET_SIZE(value) > static_cast<Py_ssize_t>(count)) {
    pack.Str("\u2026");
    PackLeftOut(PyDict_GET_SIZE(value) - count);
    ++count;
  }
  pack.SetCount(place, count);
}

}  // namespace spanbox::python
