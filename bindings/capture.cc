// Fields of a record: what stands at the top of a captured value.
#include "capture.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "capture_settings.h"
#include "names.h"
#include "redaction.h"
#include "scalars.h"

namespace spanbox::python {

namespace {

// 308 digits; what is longer is cut to its size.
constexpr std::size_t kMaxIntBits = 1024;

// Writes type and value of a field (base/record_codec.h) at `at`, where kMaxScalarBytes are free, when the value is
// plain and short, and returns what follows; nullptr otherwise.
std::byte* WriteScalar(std::byte* at, Column column, PyObject* value) {
  const auto typed = [at](ValueType type, auto bits) {
    *at = static_cast<std::byte>(type);
    std::memcpy(at + 1, &bits, sizeof bits);
    return at + 1 + sizeof bits;
  };
  if (const std::string_view text = ShortText(value); text.data() != nullptr) {
    std::byte* const bytes = typed(ValueType::kString, static_cast<std::uint32_t>(text.size()));
    CopyShort(bytes, text.data(), text.size());
    return bytes + text.size();
  }
  if (Py_TYPE(value) == &PyLong_Type) {
    int overflow = 0;
    const std::int64_t integer = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow != 0) return nullptr;
    const bool wants_float = Columns()[static_cast<std::size_t>(column)].type == ColumnType::kFloat;
    if (column != Column::kAttribute && wants_float) return typed(ValueType::kFloat, static_cast<double>(integer));
    return typed(ValueType::kInt, integer);
  }
  if (Py_TYPE(value) == &PyFloat_Type) return typed(ValueType::kFloat, PyFloat_AS_DOUBLE(value));
  if (PyBool_Check(value)) return typed(ValueType::kBool, static_cast<std::uint8_t>(value == Py_True));
  return nullptr;
}

}  // namespace

std::string BigIntText(PyObject* value) {
  const std::size_t bits = _PyLong_NumBits(value);
  if (bits > kMaxIntBits) return "<int of " + std::to_string(bits) + " bits>";
  PyObject* text = PyLong_Type.tp_repr(value);
  if (text == nullptr) {
    PyErr_Clear();
    return "<int>";
  }
  std::string result(Utf8(text).view());
  Py_DECREF(text);
  return result;
}

void Capture::PackAny(PyObject* value, int depth) {
  PyTypeObject* const type = Py_TYPE(value);
  if (type == &PyUnicode_Type) return PackStr(value);
  if (type == &PyLong_Type) return PackInt(value);
  if (type == &PyFloat_Type) return MsgpackWriter(out_.buffer()).Float(PyFloat_AS_DOUBLE(value));
  if (value == Py_None) return MsgpackWriter(out_.buffer()).Nil();
  if (type == &PyBool_Type) return MsgpackWriter(out_.buffer()).Bool(value == Py_True);
  PackContainer(value, depth);
}

void Capture::PackInt(PyObject* value) {
  int overflow = 0;
  const long long integer = PyLong_AsLongLongAndOverflow(value, &overflow);
  if (overflow == 0) [[likely]] {
    MsgpackWriter(out_.buffer()).Int(integer);
  } else {
    truncated_ |= _PyLong_NumBits(value) > kMaxIntBits;
    nodes_ += 16;  // what turning it into digits costs
    PackText(BigIntText(value));
  }
}

// A packed field may grow to the limit of one value, past the record's: EndField moves it into a blob then.
std::size_t Capture::BeginField(Column column, std::string_view name) {
  const std::size_t begin = out_.BeginPacked(column, name);
  end_ = begin + value_bytes_;
  if (!limits_.blobs) end_ = std::min(end_, limits_.bytes);
  return begin;
}

void Capture::EndField(std::size_t begin) {
  if (out_.buffer().size() > limits_.bytes && limits_.blobs) [[unlikely]]
    PackIntoBlob(begin);
  out_.EndPacked(begin);
  end_ = limits_.bytes;
}

void Capture::AddText(Column column, std::string_view name, std::string_view text) {
  if (IsHidden(column)) return out_.AddString(column, name, kHidden);
  const std::size_t used = out_.buffer().size();
  if (text.size() >= kInlineBytes || used + text.size() >= limits_.bytes) {
    PyObject* value = PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace");
    if (value != nullptr) AddValue(column, name, value);
    PyErr_Clear();
    Py_XDECREF(value);
    return;
  }
  std::string redacted;
  out_.AddString(column, name, Redact(text, redacted) ? std::string_view(redacted) : text);
}

void Capture::AddValue(Column column, std::string_view name, PyObject* value) {
  if (value == Py_None) return;
  if (IsHidden(column)) [[unlikely]]
    return out_.AddString(column, name, kHidden);
  std::byte* const begin = out_.buffer().Reserve(RecordWriter::kMaxKeyHead + name.size() + kMaxScalarBytes);
  if (const std::byte* const end = WriteScalar(RecordWriter::WriteKey(begin, column, name), column, value)) {
    return out_.buffer().Advance(static_cast<std::size_t>(end - begin));
  }
  if (Py_TYPE(value) == &PyLong_Type) {
    truncated_ |= _PyLong_NumBits(value) > kMaxIntBits;
    return out_.AddString(column, name, BigIntText(value));
  }
  // A subclass of a number is that number.
  if (PyFloat_Check(value) && !HasEncoders()) return out_.AddFloat(column, name, PyFloat_AS_DOUBLE(value));
  const std::size_t at = BeginField(column, name);
  Pack(value, 0);
  EndField(at);
}

void Capture::AddNamed(PyObject* name, PyObject* value) {
  const NameInfo info = InfoOf(name);
  const bool denied = IsDenied(info, value);
  if (!denied && info.column > Column::kDurationNs) return AddValue(info.column, {}, value);
  AddAttribute(name, info, denied || info.column == Column::kAttribute, denied, value);
}

void Capture::AddForeign(PyObject* name, PyObject* value) {
  const NameInfo info = InfoOf(name);
  const bool denied = IsDenied(info, value);
  AddAttribute(name, info, denied || !info.reserved, denied, value);
}

bool Capture::IsDenied(const NameInfo& info, PyObject* value) const {
  return info.secret && limits_.redact_keys && value != Py_None && !PyBool_Check(value);
}

void Capture::AddAttribute(PyObject* name, const NameInfo& info, bool as_it_is, bool denied, PyObject* value) {
  const Utf8 text(name);
  std::string other;
  if (!as_it_is) other = "attributes." + std::string(text.view());
  if (!info.plain && limits_.redact_text && !SurelyPlain(text.view())) {
    other = RedactedName(other.empty() ? text.view() : std::string_view(other));
  }
  const std::string_view kept = other.empty() ? text.view() : std::string_view(other);
  if (denied) return out_.AddString(Column::kAttribute, kept, kRedacted);
  AddValue(Column::kAttribute, kept, value);
}

template <void (Capture::*kAdd)(PyObject*, PyObject*)>
void Capture::AddItems(PyObject* dict) {
  Py_ssize_t position = 0;
  PyObject* key = nullptr;
  PyObject* value = nullptr;
  while (PyDict_Next(dict, &position, &key, &value) != 0) {
    if (!PyUnicode_Check(key)) continue;
    Py_INCREF(key);
    Py_INCREF(value);
    (this->*kAdd)(key, value);
    Py_DECREF(value);
    Py_DECREF(key);
  }
}

void Capture::AddAll(PyObject* dict) { AddItems<&Capture::AddNamed>(dict); }

void Capture::AddAllForeign(PyObject* dict) { AddItems<&Capture::AddForeign>(dict); }

Capture::Mapping Capture::BeginMapping(Column column) {
  Mapping mapping;
  mapping.column = column;
  mapping.begin = BeginField(column, {});
  above_[0] = nullptr;
  mapping.count_place = MsgpackWriter(out_.buffer()).Map(0);
  return mapping;
}

void Capture::AddMember(Mapping& mapping, std::string_view packed_name, bool secret, PyObject* value) {
  if (Full()) {
    ++mapping.left_out;
    return;
  }
  out_.buffer().PutText(packed_name);
  if (has_denied_names && !secret) {
    // The name may have been denied after it was packed.
    const std::size_t head = packed_name.size() <= 32 ? 1 : packed_name.size() <= 0xFF + 2 ? 2 : 3;
    secret = IsSecretName(packed_name.substr(std::min(head, packed_name.size())));
  }
  PackUnderKey(secret, value, 0);
  ++mapping.count;
}

void Capture::AddMember(Mapping& mapping, std::string_view name, PyObject* value) {
  if (Full()) {
    ++mapping.left_out;
    return;
  }
  MsgpackWriter(out_.buffer()).Str(name.substr(0, kInlineBytes));
  PackUnderKey(IsSecretName(name), value, 0);
  ++mapping.count;
}

void Capture::AddMembers(Mapping& mapping, std::string_view name, PyObject* const* values, Py_ssize_t count) {
  if (Full()) {
    ++mapping.left_out;
    return;
  }
  MsgpackWriter pack(out_.buffer());
  pack.Str(name);
  const std::size_t place = pack.Array(0);
  std::uint32_t packed = 0;
  above_[1] = nullptr;
  for (; packed < count && !Full(); ++packed) Pack(values[packed], 2);
  if (packed < count) {
    PackLeftOut(count - packed);
    ++packed;
  }
  pack.SetCount(place, packed);
  ++mapping.count;
}

void Capture::EndMapping(Mapping& mapping) {
  MsgpackWriter pack(out_.buffer());
  if (mapping.left_out > 0) {
    pack.Str("\u2026");
    PackLeftOut(mapping.left_out);
    ++mapping.count;
  }
  pack.SetCount(mapping.count_place, mapping.count);
  EndField(mapping.begin);
}

void Capture::AddMarks() {
  if (truncated_) out_.AddBool(Column::kAttribute, "truncated", true);
  if (!error_.empty()) out_.AddString(Column::kAttribute, "capture_error", error_);
}

}  // namespace spanbox::python
