// The short way for what small calls are made of: short texts, numbers, None. They are written through a local pointer
// into room that is there, which takes a few instructions a value; whatever else there is goes the long way, Capture.
//
// Thread rule: hold the GIL. Invariant: the bytes written are those that Capture writes for the same value.
#pragma once

#include <Python.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "base/coding.h"
#include "record/redactor.h"

namespace spanbox::python {

inline constexpr std::size_t kMaxScalarBytes = 40;  // of one, encoded

// What configure(redact=...) has set. Guarded by the GIL.
inline bool looks_for_pii = false;
inline bool plain_redaction = true;  // secrets are replaced by their names, and nothing else is done

// True for many short texts without personal data; false says nothing.
inline bool SurelyNoPii(std::string_view text) {
  int digits = 0;
  for (const char c : text) {
    if (c == '@' || c == ':') return false;
    digits += c >= '0' && c <= '9' ? 1 : 0;
  }
  return digits < 5;
}

// Neither.
inline bool SurelyPlain(std::string_view text) { return SurelyNoSecret(text) && (!looks_for_pii || SurelyNoPii(text)); }

// The text of a str that is ASCII, at most 31 bytes, and surely nothing to be redacted; a null view otherwise.
inline std::string_view ShortText(PyObject* value) {
  if (Py_TYPE(value) != &PyUnicode_Type || !PyUnicode_IS_COMPACT_ASCII(value)) return {};
  const auto size = static_cast<std::size_t>(PyUnicode_GET_LENGTH(value));
  if (size > 31) return {};
  const std::string_view text(static_cast<const char*>(PyUnicode_DATA(value)), size);
  return SurelyPlain(text) ? text : std::string_view{};
}

// Writes `value` as MessagePack (base/msgpack.h) at `at`, where kMaxScalarBytes are free, and returns what follows;
// nullptr, with nothing of value written, when it is to go the long way.
inline std::byte* PackScalar(std::byte* at, PyObject* value) {
  if (const std::string_view text = ShortText(value); text.data() != nullptr) {
    *at = static_cast<std::byte>(0xA0 | text.size());
    CopyShort(at + 1, text.data(), text.size());
    return at + 1 + text.size();
  }
  const auto tagged = [at](unsigned char tag, std::uint64_t word) {
    *at = std::byte{tag};
    word = __builtin_bswap64(word);
    std::memcpy(at + 1, &word, sizeof word);
    return at + 1 + sizeof word;
  };
  if (Py_TYPE(value) == &PyLong_Type) {
    int overflow = 0;
    const long long integer = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow != 0) return nullptr;
    if (integer < -32 || integer > 127) return tagged(0xD3, static_cast<std::uint64_t>(integer));
    *at = static_cast<std::byte>(integer);
    return at + 1;
  }
  if (Py_TYPE(value) == &PyFloat_Type) return tagged(0xCB, std::bit_cast<std::uint64_t>(PyFloat_AS_DOUBLE(value)));
  if (value == Py_None || Py_TYPE(value) == &PyBool_Type) {
    *at = static_cast<std::byte>(value == Py_None ? 0xC0 : value == Py_True ? 0xC3 : 0xC2);
    return at + 1;
  }
  return nullptr;
}

}  // namespace spanbox::python
