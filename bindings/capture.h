// Copies Python objects into a record: one bounded walk, in C++, that runs no user code and never raises.
//
// Known types are copied by value: None, bool, int, float, str, bytes, list, tuple, set, frozenset, deque, dict,
// dataclasses, pydantic and attrs models by their declared fields, enums, numpy scalars, dates, decimals, paths. Arrays
// and frames become a line with type, shape and dtype; functions, classes and modules their qualified name; anything
// else "<module.Type>". Text never holds an address, and sets are sorted: the same call gives the same bytes. Types the
// user registered an encoder for (capture_settings.h) become what the encoder returns.
//
// Values under keys that name a secret (record/secret_names.h) are replaced by "[redacted]", and secrets found in text
// by "[redacted:<entity>]", before anything is written: the ring is a file.
//
// What is past a limit is cut: a str to its first bytes, a container to its first items, each with a note of what is
// missing. Large texts and binary data are kept as blobs, and the value names the blob. docs/capture.md has the forms.
//
// Thread rule: hold the GIL. Ownership: objects are borrowed during the call, and held while they are looked at;
// nothing is kept.
// Units: bytes of the encoded value.
#pragma once

#include <Python.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/msgpack.h"
#include "base/record_codec.h"
#include "record/secret_names.h"
#include "scalars.h"
#include "spanbox/span.h"

namespace spanbox::python {

struct CaptureLimits {
  std::size_t bytes = 256 * 1024;  // of one record
  std::uint32_t nodes = 10'000;    // values of one record
  int depth = 16;
  bool redact_keys = true;
  bool redact_text = true;
  std::size_t value_bytes = 256 * 1024;  // of one value; larger than `bytes`: as a blob
  bool blobs = false;                    // large values become blobs of the recorder in use
};

// What configure() has set, for records of at most `max_payload_bytes`.
CaptureLimits RecordLimits(std::size_t max_payload_bytes);

// Longer texts become blobs, where there are blobs.
inline constexpr std::size_t kInlineText = 64 * 1024;
// So do longer bytes, data: URLs and media in base64.
inline constexpr std::size_t kInlineBytes = 1024;
inline constexpr int kMaxCaptureDepth = 60;
static_assert(kMaxCaptureDepth + 3 < kMsgpackMaxDepth);

inline bool has_denied_names = false;  // configure(redact_keys=...) has named some
bool IsDeniedName(std::string_view name);

// True for names such as "api_key" or "X-Api-Key", and those of configure(redact_keys=...).
inline bool IsSecretName(std::string_view name) {
  return spanbox::IsSecretName(name) || (has_denied_names && IsDeniedName(name));
}

// configure(hide_inputs=...) and its kin: such a field says "[hidden]", and nothing of the value is looked at.
inline bool hides_inputs = false, hides_outputs = false;
inline constexpr std::string_view kHidden = "[hidden]";
inline bool IsHidden(Column column) {
  return (hides_inputs && column == Column::kInput) || (hides_outputs && column == Column::kOutput);
}

// The UTF-8 of a str without growing the object: ASCII is borrowed from it, the rest is encoded into a buffer of this
// object; lone surrogates become U+FFFD.
class Utf8 {
 public:
  explicit Utf8(PyObject* text) {
    if (PyUnicode_IS_COMPACT_ASCII(text)) {
      view_ = {static_cast<const char*>(PyUnicode_DATA(text)), static_cast<std::size_t>(PyUnicode_GET_LENGTH(text))};
    } else {
      Encode(text);
    }
  }
  Utf8(const Utf8&) = delete;
  Utf8& operator=(const Utf8&) = delete;
  std::string_view view() const { return view_; }

 private:
  void Encode(PyObject* text);

  std::string_view view_;
  std::string buffer_;
};

struct NameInfo;  // names.h

class Capture {
 public:
  Capture(RecordWriter& out, const CaptureLimits& limits)
      : out_(out), limits_(limits), value_bytes_(limits.value_bytes), end_(limits.bytes) {}

  // Instead of CaptureLimits::value_bytes, for what is added from now on.
  void SetValueBytes(std::size_t bytes) { value_bytes_ = bytes; }

  // Adds `value` as the field `column` (or attribute `name`). None adds nothing. A scalar is added with its own type,
  // converted to the column's where that loses nothing.
  void AddValue(Column column, std::string_view name, PyObject* value);

  // The same for text that is UTF-8 already.
  void AddText(Column column, std::string_view name, std::string_view text);

  // Appends the value alone, as MessagePack: an element of a list that the caller writes.
  void AddElement(PyObject* value) {
    above_[0] = nullptr;
    Pack(value, 1);
  }

  // Adds the attribute or column called `name`, a str. Names of identity columns ("trace_id", "name", ...) become
  // "attributes.<name>".
  void AddNamed(PyObject* name, PyObject* value);

  // Adds an attribute of OpenTelemetry's: it is no column, whatever its name. spanbox.semconv has the same rule.
  void AddForeign(PyObject* name, PyObject* value);

  // Adds the items of a dict with str keys (others are skipped) through AddNamed.
  void AddAll(PyObject* dict);

  // The same through AddForeign.
  void AddAllForeign(PyObject* dict);

  // A field that is a mapping, member by member. Members past the limits are left out.
  struct Mapping {
    Column column = Column::kInput;
    std::size_t begin = 0, count_place = 0;
    std::uint32_t count = 0, left_out = 0;
  };
  Mapping BeginMapping(Column column);
  // `packed_name`: as MessagePack; `secret`: see IsSecretName.
  void AddMember(Mapping& mapping, std::string_view packed_name, bool secret, PyObject* value);
  void AddMember(Mapping& mapping, std::string_view name, PyObject* value);
  void AddMembers(Mapping& mapping, std::string_view name, PyObject* const* values, Py_ssize_t count);  // as a list
  void EndMapping(Mapping& mapping);

  // Something did not fit; the record is marked with the attribute truncated = true, and with capture_error when an
  // encoder raised.
  bool truncated() const { return truncated_; }
  void SetTruncated() { truncated_ = true; }
  void MarkTruncated() {
    if (truncated_ || !error_.empty()) [[unlikely]]
      AddMarks();
  }

 private:
  struct Bytes;  // capture_text.cc

  template <void (Capture::*kAdd)(PyObject*, PyObject*)>
  void AddItems(PyObject* dict);

  // Whether the name alone says that the value is not to be kept.
  bool IsDenied(const NameInfo& info, PyObject* value) const;

  // As an attribute, under a name in which nothing is left that redaction finds. `as_it_is`: without "attributes."
  void AddAttribute(PyObject* name, const NameInfo& info, bool as_it_is, bool denied, PyObject* value);

  void Pack(PyObject* value, int depth) {
    if (Room() >= kMaxScalarBytes) [[likely]] {
      std::byte* const at = out_.buffer().Reserve(kMaxScalarBytes);
      if (const std::byte* const end = PackScalar(at, value)) {
        return out_.buffer().Advance(static_cast<std::size_t>(end - at));
      }
    }
    PackAny(value, depth);
  }
  void PackAny(PyObject* value, int depth);
  void PackInt(PyObject* value);
  bool Full() {
    if (++nodes_ <= limits_.nodes && out_.buffer().size() < end_) [[likely]]
      return false;
    truncated_ = true;
    return true;
  }

  // capture_walk.cc: containers.
  void PackContainer(PyObject* value, int depth);
  void PackSequence(PyObject* value, int depth);
  void PackSet(PyObject* value, int depth);
  void PackIterable(PyObject* value, Py_ssize_t size, int depth);
  void PackDict(PyObject* value, int depth);
  void PackKey(PyObject* key, int depth);
  void PackUnderKey(bool secret, PyObject* value, int depth);
  void PackLeftOut(Py_ssize_t items);
  void PackTooDeep(PyObject* value);

  // capture_objects.cc: everything that is neither plain nor a container.
  void PackObject(PyObject* value, int depth);
  bool PackFields(PyObject* value, int depth);
  void PackDeclared(PyObject* value, PyObject* declared, int depth);
  bool PackEncoded(PyObject* value, int depth);
  bool PackNumpyScalar(PyObject* value);
  void PackTypeName(PyObject* value);

  // capture_text.cc: text, bytes and blobs.
  void PackStr(PyObject* value) {
    if (PyUnicode_IS_COMPACT_ASCII(value)) [[likely]] {
      const std::string_view text(static_cast<const char*>(PyUnicode_DATA(value)),
                                  static_cast<std::size_t>(PyUnicode_GET_LENGTH(value)));
      if (text.size() < kInlineBytes && text.size() + out_.buffer().size() < end_) [[likely]]
        return PackText(text);
    }
    PackLongStr(value);
  }
  void PackText(std::string_view text);  // inline, secrets replaced
  void RedactPacked(std::size_t begin, std::size_t size);
  void PackLongStr(PyObject* value);
  void PackCutStr(PyObject* value, std::string_view utf8);
  bool PackMedia(std::string_view text);
  bool PackBlob(std::string_view content, std::string_view type, std::string_view form, std::string_view preview);
  bool PackBytesLike(PyObject* value);
  void PackContent(std::string_view content);
  void PackCut(std::string_view content, std::string_view type, std::string_view head);
  void PackIntoBlob(std::size_t begin);
  bool Redact(std::string_view text, std::string& redacted) const;
  std::size_t Room() const { return out_.buffer().size() < end_ ? end_ - out_.buffer().size() : 0; }
  std::size_t BeginField(Column column, std::string_view name);
  void EndField(std::size_t begin);

  void AddMarks();

  RecordWriter& out_;
  const CaptureLimits& limits_;
  std::size_t value_bytes_;
  std::size_t end_;          // the buffer's size at which the value is full
  std::uint32_t nodes_ = 1;  // the value itself
  bool truncated_ = false;
  static constexpr std::size_t kMaxLookedAt = 1024 * 1024;
  std::size_t looked_at_ = 0;            // bytes of cut data that were hashed
  PyTypeObject* opaque_type_ = nullptr;  // compared only
  std::string opaque_text_;
  std::string error_;  // of an encoder
  // What is around the value, one a level, to see cycles: whoever packs at depth + 1 has set its own. nullptr: no
  // object.
  std::array<PyObject*, kMaxCaptureDepth + 2> above_;
};

// "builtins" left out: "ValueError", "openai.RateLimitError".
std::string QualifiedTypeName(PyTypeObject* type);

// An int in decimal; very long ones by their size, as converting them takes quadratic time.
std::string BigIntText(PyObject* value);

}  // namespace spanbox::python
