// Text and bytes of a captured value: inline, cut, or as a blob; secrets replaced first.
#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "base/hash.h"
#include "capture.h"
#include "capture_settings.h"
#include "media.h"
#include "record/pii_scan.h"
#include "record/redactor.h"
#include "recording.h"
#include "redaction.h"
#include "spanbox/blob.h"

namespace spanbox::python {
namespace {

constexpr std::size_t kPreviewCharacters = 200;
constexpr std::size_t kHashedBytes = 256 * 1024;
// A secret that begins before a cut is seen whole when this much behind it is looked at.
constexpr std::size_t kBehindCut = 4096;
constexpr std::size_t kContextBytes = 48;  // before a text, that may speak of it
constexpr std::size_t kKeptBytes = 64;     // of binary data that is cut

// Encodes `count` characters; returns the end of what was written. `out` has room for 4 bytes each.
template <typename Character>
char* EncodeUtf8(const Character* text, std::size_t count, char* out) {
  for (std::size_t i = 0; i < count; ++i) {
    std::uint32_t c = text[i];
    if (c < 0x80) {
      *out++ = static_cast<char>(c);
      continue;
    }
    if (c < 0x800) {
      *out++ = static_cast<char>(0xC0 | c >> 6);
    } else {
      if (c >= 0xD800 && c <= 0xDFFF) c = 0xFFFD;
      if (c < 0x10000) {
        *out++ = static_cast<char>(0xE0 | c >> 12);
      } else {
        *out++ = static_cast<char>(0xF0 | c >> 18);
        *out++ = static_cast<char>(0x80 | (c >> 12 & 0x3F));
      }
      *out++ = static_cast<char>(0x80 | (c >> 6 & 0x3F));
    }
    *out++ = static_cast<char>(0x80 | (c & 0x3F));
  }
  return out;
}

char* EncodeStr(PyObject* text, std::size_t count, char* out) {
  const void* const data = PyUnicode_DATA(text);
  switch (PyUnicode_KIND(text)) {
    case PyUnicode_1BYTE_KIND:
      return EncodeUtf8(static_cast<const Py_UCS1*>(data), count, out);
    case PyUnicode_2BYTE_KIND:
      return EncodeUtf8(static_cast<const Py_UCS2*>(data), count, out);
    default:
      return EncodeUtf8(static_cast<const Py_UCS4*>(data), count, out);
  }
}

std::size_t MostUtf8Bytes(PyObject* text, std::size_t count) {
  const int kind = PyUnicode_KIND(text);
  return count * (kind == PyUnicode_1BYTE_KIND ? 2u : kind == PyUnicode_2BYTE_KIND ? 3u : 4u);
}

std::string FirstCharacters(PyObject* text, std::size_t count) {
  std::string utf8;
  utf8.resize(MostUtf8Bytes(text, count));
  utf8.resize(static_cast<std::size_t>(EncodeStr(text, count, utf8.data()) - utf8.data()));
  return utf8;
}

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// The longest prefix of at most `bytes` bytes that ends between characters.
std::string_view CutUtf8(std::string_view text, std::size_t bytes) {
  if (text.size() <= bytes) return text;
  while (bytes > 0 && IsContinuation(text[bytes])) --bytes;
  return text.substr(0, bytes);
}

std::string_view Preview(std::string_view text) {
  std::size_t end = 0;
  for (std::size_t characters = 0; end < text.size() && characters < kPreviewCharacters; ++characters) {
    do ++end;
    while (end < text.size() && IsContinuation(text[end]));
  }
  return text.substr(0, end);
}

std::string HashText(std::string_view content) {
  return ToHex(Hash64(std::as_bytes(std::span(content.substr(0, kHashedBytes)))));
}

std::string CutNote(std::string_view hash, std::size_t missing, const char* unit) {
  std::string note = "\u2026 (";
  if (!hash.empty()) note.append("xxh3 ").append(hash).append(", ");
  return note.append("+").append(std::to_string(missing)).append(" ").append(unit).append(")");
}

}  // namespace

// What bytes, bytearray and memoryview give; holds the buffer, so that it cannot be resized meanwhile.
struct Capture::Bytes {
  explicit Bytes(PyObject* value) : ok(PyObject_GetBuffer(value, &view, PyBUF_SIMPLE) == 0) {
    if (!ok) PyErr_Clear();
  }
  ~Bytes() {
    if (ok) PyBuffer_Release(&view);
  }
  Bytes(const Bytes&) = delete;
  Bytes& operator=(const Bytes&) = delete;
  std::string_view text() const { return {static_cast<const char*>(view.buf), static_cast<std::size_t>(view.len)}; }

  Py_buffer view{};
  bool ok;
};

void Utf8::Encode(PyObject* text) {
  if (PyUnicode_READY(text) != 0) {
    PyErr_Clear();
    return;
  }
  if (PyUnicode_IS_ASCII(text)) {  // of a subclass
    view_ = {static_cast<const char*>(PyUnicode_DATA(text)), static_cast<std::size_t>(PyUnicode_GET_LENGTH(text))};
    return;
  }
  buffer_ = FirstCharacters(text, static_cast<std::size_t>(PyUnicode_GET_LENGTH(text)));
  view_ = buffer_;
}

bool Capture::Redact(std::string_view text, std::string& redacted) const {
  if (!limits_.redact_text) return false;
  if (!plain_redaction) {
    auto replaced = ActiveRedaction()->Redact(text);
    if (replaced) redacted = *std::move(replaced);
    return replaced.has_value();
  }
  static auto* findings = new std::vector<Finding>;  // guarded by the GIL
  findings->clear();
  if (!FindSecrets(text, *findings)) return false;
  redacted = Redacted(text, *findings);
  return true;
}

// The bytes are copied first and looked at where they are: they are in the cache, and there is room behind them.
void Capture::PackText(std::string_view text) {
  ByteBuffer& buffer = out_.buffer();
  const std::size_t begin = buffer.size();
  buffer.Reserve(MsgpackWriter::kMaxStrHead + text.size() + kScanPadding);
  MsgpackWriter(buffer).Str(text);
  if (!limits_.redact_text || text.size() < kMinPiiText) return;
  if (!plain_redaction) return RedactPacked(begin, text.size());
  static auto* findings = new std::vector<Finding>;  // guarded by the GIL
  findings->clear();
  const std::string_view copy = buffer.text().substr(buffer.size() - text.size());
  if (!FindSecretsPadded(copy, *findings)) return;
  nodes_ += static_cast<std::uint32_t>(findings->size());  // what replacing them costs
  const std::string redacted = Redacted(copy, *findings);
  buffer.Truncate(begin);
  MsgpackWriter(buffer).Str(redacted);
}

// Personal data, or operators. The bytes before the text hold what speaks of it: its key, its name.
void Capture::RedactPacked(std::size_t begin, std::size_t size) {
  ByteBuffer& buffer = out_.buffer();
  const std::string_view all = buffer.text();
  const std::string_view copy = all.substr(all.size() - size);
  const std::size_t context = begin > kContextBytes ? begin - kContextBytes : 0;
  const auto redaction = ActiveRedaction();
  std::vector<Finding> findings;
  if (!redaction->Find(copy, all.substr(context, begin - context), findings)) return;
  nodes_ += static_cast<std::uint32_t>(findings.size());  // what replacing them costs
  const std::string text(copy);                           // an operator may be a function of the user's
  buffer.Truncate(begin);
  MsgpackWriter(buffer).Str(redaction->Replaced(text, findings));
}

void Capture::PackLongStr(PyObject* value) {
  if (PyUnicode_READY(value) != 0) {
    PyErr_Clear();
    return PackTypeName(value);
  }
  const auto characters = static_cast<std::size_t>(PyUnicode_GET_LENGTH(value));
  if (characters > Room()) {
    if (PyUnicode_IS_ASCII(value) && PackMedia(Utf8(value).view())) return;
    return PackCutStr(value, {});
  }
  const Utf8 utf8(value);
  const std::string_view text = utf8.view();
  if (text.size() > kInlineBytes && PackMedia(text)) return;
  if (text.size() > Room()) return PackCutStr(value, text);
  if (text.size() <= kInlineText || !limits_.blobs) return PackText(text);
  std::string redacted;
  const std::string_view kept = Redact(text, redacted) ? std::string_view(redacted) : text;
  if (!PackBlob(kept, "text/plain", {}, Preview(kept))) PackCutStr(value, text);
}

// `utf8`: all of it when that is at hand.
void Capture::PackCutStr(PyObject* value, std::string_view utf8) {
  truncated_ = true;
  const auto characters = static_cast<std::size_t>(PyUnicode_GET_LENGTH(value));
  const std::size_t keep = std::min(Room(), kInlineText);
  const bool ascii = PyUnicode_IS_ASCII(value) != 0;
  std::string encoded;
  if (utf8.empty() && ascii) {
    utf8 = {static_cast<const char*>(PyUnicode_DATA(value)), characters};
  } else if (utf8.empty()) {
    encoded = FirstCharacters(value, std::min(characters, keep + kBehindCut));
    utf8 = encoded;
  }
  std::string redacted;
  std::string_view head = CutUtf8(utf8, keep + kBehindCut);
  const std::size_t kept = CutUtf8(head, keep).size();
  const std::size_t missing = ascii ? characters - kept
                                    : characters - static_cast<std::size_t>(std::count_if(
                                                       head.begin(), head.begin() + static_cast<std::ptrdiff_t>(kept),
                                                       [](char c) { return !IsContinuation(c); }));
  if (Redact(head, redacted)) head = redacted;
  std::string text(CutUtf8(head, keep));
  const auto raw_bytes = characters * static_cast<std::size_t>(PyUnicode_KIND(value));
  text += CutNote(HashText({static_cast<const char*>(PyUnicode_DATA(value)), raw_bytes}), missing,
                  ascii ? "bytes" : "characters");
  MsgpackWriter(out_.buffer()).Str(text);
}

// A data: URL, or an image or sound in base64. False: it is ordinary text.
bool Capture::PackMedia(std::string_view text) {
  std::string_view type, base64 = text, form = "base64";
  if (const auto url = ParseDataUrl(text)) {
    type = url->type, base64 = url->base64, form = "data-url";
  } else {
    const auto beginning = DecodeBase64(text.substr(0, 24));
    if (!beginning) return false;
    type = SniffType(*beginning);
    if (!IsMedia(type)) return false;
  }
  const bool fits = base64.size() / 4 * 3 <= Room();
  if (!fits) {
    PackCut(text, type, {});
    return true;
  }
  if (!limits_.blobs) return false;
  auto bytes = DecodeBase64(base64);
  if (!bytes) return false;
  std::string redacted;
  if (!IsMedia(type) && Redact(*bytes, redacted)) *bytes = std::move(redacted);
  if (!PackBlob(*bytes, type, form, {})) PackCut(text, type, {});
  return true;
}

bool Capture::PackBlob(std::string_view content, std::string_view type, std::string_view form,
                       std::string_view preview) {
  Recorder* const recorder = limits_.blobs && content.size() <= Room() ? ActiveRecorder() : nullptr;
  if (recorder == nullptr) return false;
  const auto bytes = std::as_bytes(std::span(content));
  const BlobId id = BlobIdOf(bytes);
  if (!recorder->PutBlob(id, bytes)) return false;
  end_ -= content.size();
  MsgpackWriter pack(out_.buffer());
  pack.Map(3u + !form.empty() + !preview.empty());
  pack.Str("$blob");
  pack.Str(ToHex(id));
  pack.Str("bytes");
  pack.Int(static_cast<std::int64_t>(content.size()));
  pack.Str("type");
  pack.Str(type);
  if (!form.empty()) {
    pack.Str("form");
    pack.Str(form);
  }
  if (!preview.empty()) {
    pack.Str("preview");
    pack.Str(preview);
  }
  return true;
}

void Capture::PackCut(std::string_view content, std::string_view type, std::string_view head) {
  truncated_ = true;
  MsgpackWriter pack(out_.buffer());
  const bool hashed = looked_at_ < kMaxLookedAt;
  looked_at_ += std::min(content.size(), kHashedBytes);
  pack.Map(2u + hashed + !head.empty());
  pack.Str("$cut");
  pack.Int(static_cast<std::int64_t>(content.size()));
  pack.Str("type");
  pack.Str(type);
  if (hashed) {
    pack.Str("xxh3");
    pack.Str(HashText(content));
  }
  if (!head.empty()) {
    pack.Str("head");
    if (type == "application/octet-stream") {
      pack.Bin(std::as_bytes(std::span(head)));
    } else {
      pack.Str(head);
    }
  }
}

bool Capture::PackBytesLike(PyObject* value) {
  const bool bytes_like = PyBytes_Check(value) || PyByteArray_Check(value) || PyMemoryView_Check(value);
  if (!bytes_like) return false;
  // A subclass may define __buffer__.
  if (!PyBytes_Check(value) && !PyByteArray_CheckExact(value) && !PyMemoryView_Check(value)) return false;
  if (PyBytes_Check(value)) {
    PackContent({PyBytes_AS_STRING(value), static_cast<std::size_t>(PyBytes_GET_SIZE(value))});
    return true;
  }
  const Bytes bytes(value);
  if (!bytes.ok) return false;  // released, or not in one piece
  PackContent(bytes.text());
  return true;
}

void Capture::PackContent(std::string_view content) {
  std::string_view type = content.size() > kInlineBytes ? SniffType(content) : std::string_view{};
  if (type.empty()) type = "application/octet-stream";
  std::string redacted;
  if (content.size() <= Room() && !IsMedia(type) && Redact(content, redacted)) content = redacted;
  const bool is_inline = content.size() <= kInlineBytes || !limits_.blobs;
  if (is_inline && content.size() <= Room()) {
    return MsgpackWriter(out_.buffer()).Bin(std::as_bytes(std::span(content)));
  }
  if (PackBlob(content, type, "bytes", {})) return;
  std::string_view head = content.substr(0, std::min(content.size(), kKeptBytes));
  std::string clean;
  if (IsMedia(type) || Redact(content.substr(0, 4 * kKeptBytes), clean)) head = {};
  PackCut(content, type, head);
}

// What was packed from `begin` on does not fit the record: its JSON text becomes a blob.
void Capture::PackIntoBlob(std::size_t begin) {
  std::string json;
  const bool readable = AppendJson(out_.buffer().bytes().subspan(begin), json).ok();
  out_.buffer().Truncate(begin);
  end_ = begin + json.size() + 1;
  if (!readable) return MsgpackWriter(out_.buffer()).Nil();
  if (!PackBlob(json, "application/json", {}, Preview(json))) PackCut(json, "application/json", Preview(json));
}

}  // namespace spanbox::python
