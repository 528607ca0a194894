// Captured Python values on their way through the ring: MessagePack (https://github.com/msgpack/msgpack, spec.md), a
// binary copy that is cheap for the caller; the collector turns it into JSON text.
//
// Used of the format: nil, bool, int 64 (and fixint), uint 64, float 64, str, bin, array 32, map 32. A value that has
// no such form is written as the str "<package.Type>".
//
// Thread rule: not synchronised.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/coding.h"
#include "spanbox/status.h"

namespace spanbox {

class MsgpackWriter {
 public:
  explicit MsgpackWriter(ByteBuffer& out) : out_(out) {}

  void Nil();
  void Bool(bool value);
  void Int(std::int64_t value);
  void Uint(std::uint64_t value);
  void Float(double value);
  void Str(std::string_view utf8);
  void Bin(std::span<const std::byte> bytes);
  // Returns the place of the count, so that a container whose length is cut by a limit can be closed with SetCount.
  std::size_t Array(std::uint32_t count);
  std::size_t Map(std::uint32_t count);
  void SetCount(std::size_t place, std::uint32_t count);

 private:
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

}  // namespace spanbox
