#include "base/msgpack.h"

#include <bit>
#include <charconv>
#include <cmath>
#include <utility>

namespace spanbox {
namespace {

// The format is big-endian.
template <typename T>
T Swap(T value) {
  if constexpr (sizeof(T) == 1) return value;
  if constexpr (sizeof(T) == 2) return static_cast<T>(__builtin_bswap16(static_cast<std::uint16_t>(value)));
  if constexpr (sizeof(T) == 4) return static_cast<T>(__builtin_bswap32(static_cast<std::uint32_t>(value)));
  if constexpr (sizeof(T) == 8) return static_cast<T>(__builtin_bswap64(static_cast<std::uint64_t>(value)));
}

void AppendBase64(std::span<const std::byte> bytes, std::string& out) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t n = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) group = group << 8 | (k < n ? std::to_integer<std::uint32_t>(bytes[i + k]) : 0);
    out += kDigits[group >> 18 & 63];
    out += kDigits[group >> 12 & 63];
    out += n > 1 ? kDigits[group >> 6 & 63] : '=';
    out += n > 2 ? kDigits[group & 63] : '=';
  }
}

template <typename T>
void AppendNumber(T value, std::string& json) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  json.append(text, end);
}

// Length of the well-formed UTF-8 sequence at the start of `text`, 0 when it is ill-formed. (Unicode 15, table 3-7.)
std::size_t SequenceLength(std::string_view text) {
  const auto at = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto tail = [&](std::size_t i) { return (at(i) & 0xC0u) == 0x80u; };
  const unsigned lead = at(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return tail(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    if (!tail(1) || !tail(2)) return 0;
    if (lead == 0xE0 && at(1) < 0xA0) return 0;
    if (lead == 0xED && at(1) > 0x9F) return 0;  // surrogates
    return 3;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    if (!tail(1) || !tail(2) || !tail(3)) return 0;
    if (lead == 0xF0 && at(1) < 0x90) return 0;
    if (lead == 0xF4 && at(1) > 0x8F) return 0;
    return 4;
  }
  return 0;
}

void AppendEscaped(unsigned char c, std::string& json) {
  switch (c) {
    case '"':
      json += "\\\"";
      return;
    case '\\':
      json += "\\\\";
      return;
    case '\n':
      json += "\\n";
      return;
    case '\r':
      json += "\\r";
      return;
    case '\t':
      json += "\\t";
      return;
    default:
      break;
  }
  constexpr char kDigits[] = "0123456789abcdef";
  json += "\\u00";
  json += kDigits[c >> 4];
  json += kDigits[c & 15];
}

class JsonDecoder {
 public:
  JsonDecoder(std::span<const std::byte> msgpack, std::string& json) : in_(msgpack), json_(json) {}

  Status Decode() {
    SPANBOX_RETURN_IF_ERROR(Value(0));
    if (in_.remaining() != 0) return Damaged("has bytes after its value");
    return OkStatus();
  }

 private:
  Status Damaged(std::string_view what) const {
    return DataLoss("captured value " + std::string(what) + " at byte " + std::to_string(in_.offset()));
  }

  template <typename T>
  T Get() {
    return Swap(in_.Get<T>());
  }

  template <typename T>
  Status Integer() {
    AppendNumber(Get<T>(), json_);
    return Checked();
  }
  Status Checked() const { return in_.ok() ? OkStatus() : Damaged("is truncated"); }

  Status Str(std::size_t n) {
    const std::string_view text = in_.GetText(n);
    AppendJsonString(text, json_);
    return Checked();
  }
  Status Bin(std::size_t n) {
    const auto bytes = in_.GetBytes(n);
    json_ += "{\"$bytes\":\"";
    AppendBase64(bytes, json_);
    json_ += "\"}";
    return Checked();
  }

  Status Array(std::uint32_t count, int depth) {
    json_ += '[';
    for (std::uint32_t i = 0; i < count; ++i) {
      if (i > 0) json_ += ',';
      SPANBOX_RETURN_IF_ERROR(Value(depth + 1));
    }
    json_ += ']';
    return Checked();
  }

  Status Map(std::uint32_t count, int depth) {
    json_ += '{';
    for (std::uint32_t i = 0; i < count; ++i) {
      if (i > 0) json_ += ',';
      SPANBOX_RETURN_IF_ERROR(Key(depth + 1));
      json_ += ':';
      SPANBOX_RETURN_IF_ERROR(Value(depth + 1));
    }
    json_ += '}';
    return Checked();
  }

  // JSON keys are strings: any other value becomes the string of its JSON text. Not in a key that becomes one itself:
  // each such string has twice the backslashes of the one in it.
  Status Key(int depth) {
    const std::size_t begin = json_.size();
    const bool in_key = std::exchange(in_key_, true);
    SPANBOX_RETURN_IF_ERROR(Value(depth));
    in_key_ = in_key;
    if (json_[begin] == '"') return OkStatus();
    if (in_key) return Damaged("has a key that is no string in a key");
    const std::string text = json_.substr(begin);
    json_.resize(begin);
    AppendJsonString(text, json_);
    return OkStatus();
  }

  Status Value(int depth) {
    if (depth > kMsgpackMaxDepth) return Damaged("is nested too deeply");
    const auto tag = in_.Get<std::uint8_t>();
    if (!in_.ok()) return Damaged("is truncated");
    if (tag < 0x80 || tag >= 0xE0) {
      AppendNumber(static_cast<int>(static_cast<std::int8_t>(tag)), json_);
      return OkStatus();
    }
    if (tag < 0x90) return Map(tag & 15u, depth);
    if (tag < 0xA0) return Array(tag & 15u, depth);
    if (tag < 0xC0) return Str(tag & 31u);
    return Tagged(tag, depth);
  }

  Status Tagged(std::uint8_t tag, int depth) {
    switch (tag) {
      case 0xC0:
        json_ += "null";
        return OkStatus();
      case 0xC2:
        json_ += "false";
        return OkStatus();
      case 0xC3:
        json_ += "true";
        return OkStatus();
      case 0xC4:
        return Bin(Get<std::uint8_t>());
      case 0xC5:
        return Bin(Get<std::uint16_t>());
      case 0xC6:
        return Bin(Get<std::uint32_t>());
      case 0xCA:
        AppendJsonFloat(std::bit_cast<float>(Get<std::uint32_t>()), json_);
        return Checked();
      case 0xCB:
        AppendJsonFloat(std::bit_cast<double>(Get<std::uint64_t>()), json_);
        return Checked();
      case 0xCC:
        return Integer<std::uint8_t>();
      case 0xCD:
        return Integer<std::uint16_t>();
      case 0xCE:
        return Integer<std::uint32_t>();
      case 0xCF:
        return Integer<std::uint64_t>();
      case 0xD0:
        return Integer<std::int8_t>();
      case 0xD1:
        return Integer<std::int16_t>();
      case 0xD2:
        return Integer<std::int32_t>();
      case 0xD3:
        return Integer<std::int64_t>();
      case 0xD9:
        return Str(Get<std::uint8_t>());
      case 0xDA:
        return Str(Get<std::uint16_t>());
      case 0xDB:
        return Str(Get<std::uint32_t>());
      case 0xDC:
        return Array(Get<std::uint16_t>(), depth);
      case 0xDD:
        return Array(Get<std::uint32_t>(), depth);
      case 0xDE:
        return Map(Get<std::uint16_t>(), depth);
      case 0xDF:
        return Map(Get<std::uint32_t>(), depth);
      default:
        return Damaged("has an unknown type");
    }
  }

  ByteReader in_;
  std::string& json_;
  bool in_key_ = false;
};

// How many of the eight bytes before the first that is not ASCII or that JSON escapes.
std::size_t PlainBytes(std::uint64_t bytes) {
  constexpr std::uint64_t kOnes = 0x0101010101010101u, kHighs = 0x8080808080808080u;
  // Sets the high bit of the lowest byte that is less than `than`, and perhaps those of bytes above it.
  const auto less = [](std::uint64_t word, unsigned than) { return (word - kOnes * than) & ~word; };
  const std::uint64_t others = bytes | less(bytes, 0x20) | less(bytes ^ kOnes * '"', 1) | less(bytes ^ kOnes * '\\', 1);
  return static_cast<std::size_t>(std::countr_zero(others & kHighs)) / 8;
}

}  // namespace

void AppendJsonFloat(double value, std::string& json) {
  if (std::isnan(value)) {
    json += "\"NaN\"";
  } else if (std::isinf(value)) {
    json += value > 0 ? "\"Infinity\"" : "\"-Infinity\"";
  } else {
    const std::size_t begin = json.size();
    AppendNumber(value, json);
    // Keeps a float a float for whoever parses the text.
    if (json.find_first_of(".e", begin) == std::string::npos) json += ".0";
  }
}

void AppendJsonBytes(std::span<const std::byte> bytes, std::string& json) {
  json += "{\"$bytes\":\"";
  AppendBase64(bytes, json);
  json += "\"}";
}

Status AppendJson(std::span<const std::byte> msgpack, std::string& json) { return JsonDecoder(msgpack, json).Decode(); }

void AppendJsonString(std::string_view text, std::string& json) {
  json += '"';
  std::size_t plain = 0;  // text[plain, i) needs no change
  std::size_t i = 0;
  while (i < text.size()) {
    for (std::uint64_t bytes; text.size() - i >= sizeof bytes; i += sizeof bytes) {
      std::memcpy(&bytes, text.data() + i, sizeof bytes);
      const std::size_t plain_bytes = PlainBytes(bytes);
      if (plain_bytes == sizeof bytes) continue;
      i += plain_bytes;
      break;
    }
    if (i == text.size()) break;
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= 0x20 && c < 0x80 && c != '"' && c != '\\') {
      ++i;
      continue;
    }
    const std::size_t length = c < 0x80 ? 0 : SequenceLength(text.substr(i, 4));
    if (length > 0) {
      i += length;
      continue;
    }
    json.append(text, plain, i - plain);
    if (c < 0x80) {
      AppendEscaped(c, json);
    } else {
      json += "\xEF\xBF\xBD";
    }
    plain = ++i;
  }
  json.append(text, plain, i - plain);
  json += '"';
}

}  // namespace spanbox
