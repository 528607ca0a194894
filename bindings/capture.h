// Copies Python objects into a record: one bounded walk, in C++, that runs no user code and never raises.
//
// Known types are copied by value: None, bool, int, float, str, bytes, list, tuple, set, frozenset, dict, dataclasses
// and pydantic-like models by their declared fields, numpy scalars. Anything else becomes "<module.Type>". Text never
// holds an address: the same call gives the same bytes.
//
// Values under keys that name a secret (api_key, authorization, password, ...) are replaced by "[redacted]" before they
// are copied: the ring is a file.
//
// Thread rule: hold the GIL. Ownership: objects are borrowed during the call; nothing is kept.
// Units: bytes of the encoded value.
#pragma once

#include <Python.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/msgpack.h"
#include "base/record_codec.h"
#include "spanbox/span.h"

namespace spanbox::python {

struct CaptureLimits {
  std::size_t bytes = 256 * 1024;  // of one record
  std::uint32_t nodes = 10'000;    // values of one record
  int depth = 16;
  bool redact_keys = true;
};

// True for names such as "api_key" or "X-Api-Key"; case and - or _ do not matter.
bool IsSecretName(std::string_view name);

// The UTF-8 of a str without growing the object: ASCII is borrowed from it, the rest is encoded into a buffer of this
// object; lone surrogates become U+FFFD.
class Utf8 {
 public:
  explicit Utf8(PyObject* text);
  std::string_view view() const { return view_; }

 private:
  std::string_view view_;
  std::string buffer_;
};

class Capture {
 public:
  Capture(RecordWriter& out, const CaptureLimits& limits) : out_(out), limits_(limits) {}

  // Adds `value` as the field `column` (or attribute `name`). None adds nothing. A scalar is added with its own type,
  // converted to the column's where that loses nothing.
  void AddValue(Column column, std::string_view name, PyObject* value);

  // Adds the attribute or column called `name`. Names of identity columns ("trace_id", "name", ...) become
  // "attributes.<name>".
  void AddNamed(std::string_view name, PyObject* value);

  // Adds the items of a dict with str keys (others are skipped) through AddNamed.
  void AddAll(PyObject* dict);

  // Adds the arguments of a vectorcall as one mapping in Column::kInput. `names` is a tuple of the positional
  // parameters' names; a leading self or cls is left out; positional arguments past them are listed under "args".
  void AddArguments(PyObject* names, bool skip_first, PyObject* const* args, Py_ssize_t count, PyObject* keyword_names);

  // Something did not fit; the record is marked with the attribute truncated = true.
  bool truncated() const { return truncated_; }
  void MarkTruncated();

 private:
  void Pack(PyObject* value, int depth);
  void PackText(std::string_view text);
  void PackStr(PyObject* value);
  void PackInt(PyObject* value);
  void PackBytes(PyObject* value);
  void PackSequence(PyObject* value, int depth);
  void PackSet(PyObject* value, int depth);
  void PackDict(PyObject* value, int depth);
  bool PackFields(PyObject* value, int depth);
  bool PackNumpyScalar(PyObject* value);
  void PackTypeName(PyObject* value);
  void PackMember(std::string_view key, PyObject* value, int depth);
  bool Full();

  RecordWriter& out_;
  const CaptureLimits& limits_;
  std::uint32_t nodes_ = 0;
  bool truncated_ = false;
};

// "builtins" left out: "ValueError", "openai.RateLimitError".
std::string QualifiedTypeName(PyTypeObject* type);

}  // namespace spanbox::python
