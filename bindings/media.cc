#include "media.h"

#include <algorithm>
#include <array>
#include <cstdint>

namespace spanbox::python {
namespace {

constexpr std::uint8_t kNoDigit = 0xFF;

constexpr std::array<std::uint8_t, 256> MakeDigits() {
  std::array<std::uint8_t, 256> digits{};
  digits.fill(kNoDigit);
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (std::size_t i = 0; i < kAlphabet.size(); ++i) {
    digits[static_cast<unsigned char>(kAlphabet[i])] = static_cast<std::uint8_t>(i);
  }
  return digits;
}
constexpr std::array<std::uint8_t, 256> kDigits = MakeDigits();

std::uint32_t Digit(char c) { return kDigits[static_cast<unsigned char>(c)]; }

}  // namespace

std::string_view SniffType(std::string_view bytes) {
  using namespace std::string_view_literals;
  constexpr std::pair<std::string_view, std::string_view> kBeginnings[] = {
      {"\x89PNG\r\n\x1A\n"sv, "image/png"},
      {"\xFF\xD8\xFF"sv, "image/jpeg"},
      {"GIF87a"sv, "image/gif"},
      {"GIF89a"sv, "image/gif"},
      {"II*\0"sv, "image/tiff"},
      {"MM\0*"sv, "image/tiff"},
      {"%PDF-"sv, "application/pdf"},
      {"ID3"sv, "audio/mpeg"},
      {"\xFF\xFB"sv, "audio/mpeg"},
      {"\xFF\xF3"sv, "audio/mpeg"},
      {"OggS"sv, "audio/ogg"},
      {"fLaC"sv, "audio/flac"},
      {"\x1A\x45\xDF\xA3"sv, "video/webm"},
      {"PK\x03\x04"sv, "application/zip"},
      {"\x1F\x8B\x08"sv, "application/gzip"},
      {"\x28\xB5\x2F\xFD"sv, "application/zstd"},
  };
  for (const auto& [beginning, type] : kBeginnings) {
    if (bytes.starts_with(beginning)) return type;
  }
  if (bytes.size() < 12) return {};
  const std::string_view form = bytes.substr(8, 4);
  if (bytes.starts_with("RIFF")) return form == "WAVE" ? "audio/wav" : form == "WEBP" ? "image/webp" : "";
  if (bytes.substr(4, 4) == "ftyp") {
    if (form == "avif" || form == "heic") return form == "avif" ? "image/avif" : "image/heic";
    return form.starts_with("M4A") ? "audio/mp4" : "video/mp4";
  }
  return {};
}

bool IsMedia(std::string_view type) {
  return type.starts_with("image/") || type.starts_with("audio/") || type.starts_with("video/") ||
         type == "application/pdf" || type == "application/zip" || type == "application/gzip" ||
         type == "application/zstd";
}

std::optional<std::string> DecodeBase64(std::string_view base64) {
  if (base64.empty() || base64.size() % 4 != 0) return std::nullopt;
  // Ordinary text shows at once that it is none.
  for (const char c : base64.substr(0, std::min(base64.size() - 4, std::size_t{24}))) {
    if (Digit(c) == kNoDigit) return std::nullopt;
  }
  const std::size_t padding = base64.ends_with("==") ? 2 : base64.ends_with('=') ? 1 : 0;
  std::string bytes(base64.size() / 4 * 3, '\0');
  char* out = bytes.data();
  const std::size_t whole = base64.size() - (padding > 0 ? 4 : 0);
  for (std::size_t i = 0; i < whole; i += 4, out += 3) {
    const std::uint32_t a = Digit(base64[i]), b = Digit(base64[i + 1]), c = Digit(base64[i + 2]),
                        d = Digit(base64[i + 3]);
    if (((a | b | c | d) & 0x80) != 0) return std::nullopt;
    const std::uint32_t group = a << 18 | b << 12 | c << 6 | d;
    out[0] = static_cast<char>(group >> 16);
    out[1] = static_cast<char>(group >> 8);
    out[2] = static_cast<char>(group);
  }
  if (padding == 0) return bytes;
  const std::uint32_t a = Digit(base64[whole]), b = Digit(base64[whole + 1]);
  const std::uint32_t c = padding == 1 ? Digit(base64[whole + 2]) : 0;
  // Bits that are cut off must be zero, or encoding again would give another text.
  if (((a | b | c) & 0x80) != 0 || (padding == 2 ? (b & 15) : (c & 3)) != 0) return std::nullopt;
  const std::uint32_t group = a << 18 | b << 12 | c << 6;
  out[0] = static_cast<char>(group >> 16);
  out[1] = static_cast<char>(group >> 8);
  bytes.resize(bytes.size() - padding);
  return bytes;
}

std::optional<DataUrl> ParseDataUrl(std::string_view text) {
  constexpr std::string_view kScheme = "data:", kCoding = ";base64";
  if (!text.starts_with(kScheme)) return std::nullopt;
  const std::size_t comma = text.substr(0, 128).find(',');
  if (comma == std::string_view::npos) return std::nullopt;
  const std::string_view head = text.substr(kScheme.size(), comma - kScheme.size());
  if (!head.ends_with(kCoding)) return std::nullopt;
  const std::string_view type = head.substr(0, head.size() - kCoding.size());
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '/' || c == '+' || c == '.' || c == '-';
  };
  if (type.find('/') == std::string_view::npos || !std::all_of(type.begin(), type.end(), plain)) return std::nullopt;
  return DataUrl{type, text.substr(comma + 1)};
}

}  // namespace spanbox::python
