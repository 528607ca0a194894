// Captured Python values on their way through the ring: MessagePack (https://github.com/msgpack/msgpack, spec.md), a
// binary copy that is cheap for the caller; the collector turns it into JSON text.
//
// Used of the format: nil, bool, int 64 (and fixint), uint 64, float 64, str, bin, array 32, map 32. A value that has
// no such form is written as the str "<package.Type>".
//
// Thread rule: not synchronised.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "base/coding.h"
#include "spanbox/status.h"

namespace spanbox {

// Inline throughout: this is the caller's time.
class MsgpackWriter {
 public:
  explicit MsgpackWriter(ByteBuffer& out) : out_(out) {}

  void Nil() { Tag(0xC0); }
  void Bool(bool value) { Tag(value ? 0xC3 : 0xC2); }
  void Int(std::int64_t value) {
    if (value >= -32 && value < 128) return out_.Put(static_cast<std::int8_t>(value));
    TagAnd(0xD3, __builtin_bswap64(static_cast<std::uint64_t>(value)));
  }
  void Uint(std::uint64_t value) { TagAnd(0xCF, __builtin_bswap64(value)); }
  void Float(double value) { TagAnd(0xCB, __builtin_bswap64(std::bit_cast<std::uint64_t>(value))); }
  void Str(std::string_view utf8) {
    std::byte* const head = out_.Reserve(kMaxStrHead + utf8.size());
    const std::size_t head_bytes = PutStrHead(head, utf8.size());
    CopyText(head + head_bytes, utf8);
    out_.Advance(head_bytes + utf8.size());
  }
  void Bin(std::span<const std::byte> bytes) {
    TagAnd(0xC6, __builtin_bswap32(static_cast<std::uint32_t>(bytes.size())));
    out_.PutBytes(bytes.data(), bytes.size());
  }
  // Returns the place of the count, so that a container whose length is cut by a limit can be closed with SetCount.
  std::size_t Array(std::uint32_t count) { return Container(0xDD, count); }
  std::size_t Map(std::uint32_t count) { return Container(0xDF, count); }
  void SetCount(std::size_t place, std::uint32_t count) { out_.PatchAt(place, __builtin_bswap32(count)); }

  static constexpr std::size_t kMaxStrHead = 5;
  // Writes what stands before the bytes of a str; returns its size. `head` has room for kMaxStrHead.
  static std::size_t PutStrHead(std::byte* head, std::size_t bytes) {
    if (bytes < 32) {
      head[0] = static_cast<std::byte>(0xA0 | bytes);
      return 1;
    }
    if (bytes <= 0xFF) {
      head[0] = std::byte{0xD9};
      head[1] = static_cast<std::byte>(bytes);
      return 2;
    }
    if (bytes <= 0xFFFF) {
      head[0] = std::byte{0xDA};
      const std::uint16_t size = __builtin_bswap16(static_cast<std::uint16_t>(bytes));
      std::memcpy(head + 1, &size, sizeof size);
      return 3;
    }
    head[0] = std::byte{0xDB};
    const std::uint32_t size = __builtin_bswap32(static_cast<std::uint32_t>(bytes));
    std::memcpy(head + 1, &size, sizeof size);
    return 5;
  }

 private:
  void Tag(unsigned tag) { out_.Put(static_cast<std::uint8_t>(tag)); }
  template <typename T>
  void TagAnd(unsigned tag, T value) {
    std::byte* const at = out_.Reserve(1 + sizeof value);
    at[0] = static_cast<std::byte>(tag);
    std::memcpy(at + 1, &value, sizeof value);
    out_.Advance(1 + sizeof value);
  }
  std::size_t Container(unsigned tag, std::uint32_t count) {
    TagAnd(tag, __builtin_bswap32(count));
    return out_.size() - sizeof count;
  }

  ByteBuffer& out_;
};

// Deepest nesting read; deeper values are refused.
inline constexpr int kMsgpackMaxDepth = 64;

// Appends one value as JSON text (RFC 8259). Strings are kept as UTF-8; invalid UTF-8 becomes U+FFFD. NaN and the
// infinities become the strings "NaN", "Infinity", "-Infinity"; bin becomes {"$bytes":"<base64>"}. DataLoss with the
// offset on anything malformed, truncated, or followed by other bytes.
Status AppendJson(std::span<const std::byte> msgpack, std::string& json);

// Appends `text` as a JSON string literal with quotes. Invalid UTF-8 becomes U+FFFD.
void AppendJsonString(std::string_view text, std::string& json);
void AppendJsonFloat(double value, std::string& json);                      // as AppendJson writes them
void AppendJsonBytes(std::span<const std::byte> bytes, std::string& json);  // as AppendJson writes bin

}  // namespace spanbox
