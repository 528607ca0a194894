// The finders of personal data that has no fixed number of characters: each looks at one place of a text.
//
// Thread rule: pure functions. Preconditions: positions lie within the text.
// Invariant: a finder reads a bounded number of bytes around its place, or the bytes of what it reports.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string_view>

#include "record/pii_entities.h"

namespace spanbox {

struct PiiMatch {
  std::size_t begin = 0;
  std::size_t end = 0;
  Pii entity = Pii::kUrl;
};
using MaybePii = std::optional<PiiMatch>;

constexpr bool IsPiiDigit(char c) { return c >= '0' && c <= '9'; }
constexpr bool IsPiiLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
inline constexpr std::array<bool, 256> kIsPiiAlnum = [] {
  std::array<bool, 256> is{};
  for (int c = 0; c < 256; ++c)
    is[static_cast<std::size_t>(c)] = IsPiiDigit(static_cast<char>(c)) || IsPiiLetter(static_cast<char>(c));
  return is;
}();
constexpr bool IsPiiAlnum(char c) { return kIsPiiAlnum[static_cast<unsigned char>(c)]; }
constexpr char Uppercase(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c & ~0x20) : c; }

// Nothing goes on here: a number that ends at `end` is whole, and so is one that begins at `begin`.
bool EndsWhole(std::string_view text, std::size_t end);
bool BeginsWhole(std::string_view text, std::size_t begin);

MaybePii FindEmail(std::string_view text, std::size_t at);       // text[at] is '@'
MaybePii FindWebAddress(std::string_view text, std::size_t at);  // text[at] is the ':' of "://"
MaybePii FindColons(std::string_view text, std::size_t at);      // of text[at], a ':', an IPv6 or MAC address
// [begin, end) is a run of letters and digits.
MaybePii FindIpv4(std::string_view text, std::size_t begin, std::size_t end);
MaybePii FindIban(std::string_view text, std::size_t begin, std::size_t end);
MaybePii FindDate(std::string_view text, std::size_t begin, std::size_t end);

// `spoken`: the text before speaks of phones; without that only what is written like a number to call is one.
struct PhoneShape {
  std::size_t begin = 0, end = 0;
  bool certain = false;
};
std::optional<PhoneShape> FindPhone(std::string_view text, std::size_t begin);

}  // namespace spanbox
