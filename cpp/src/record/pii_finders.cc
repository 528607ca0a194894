#include "record/pii_finders.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "record/pii_checks.h"

namespace spanbox {
namespace {

constexpr std::size_t kMaxLocalPart = 64;
constexpr std::size_t kMaxDomain = 253;
constexpr std::size_t kMaxUrl = 8192;

bool In(std::string_view set, char c) { return set.find(c) != std::string_view::npos; }
bool IsWide(char c) { return static_cast<unsigned char>(c) >= 0x80; }
bool IsHex(char c) { return IsPiiDigit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

char At(std::string_view text, std::size_t at) { return at < text.size() ? text[at] : '\0'; }
char Before(std::string_view text, std::size_t at, std::size_t by = 1) { return at >= by ? text[at - by] : '\0'; }

// "\njohn@...": the letter of an escape is none of a name's.
std::size_t AfterEscape(std::string_view text, std::size_t begin, std::size_t end) {
  return Before(text, begin) == '\\' && begin + 1 < end && In("nrtbf", text[begin]) ? begin + 1 : begin;
}

}  // namespace

bool EndsWhole(std::string_view text, std::size_t end) {
  const char c = At(text, end), next = At(text, end + 1);
  if (IsPiiAlnum(c) || c == '_' || c == '@') return false;
  if (c == '-') return !IsPiiAlnum(next);
  return !(c == '.' || c == ',') || !IsPiiDigit(next);
}

bool BeginsWhole(std::string_view text, std::size_t begin) {
  const char c = Before(text, begin), next = Before(text, begin, 2);
  if (IsPiiAlnum(c)) return begin >= 2 && (next == '\\' || Before(text, begin, 3) == '%');
  if (c == '-' || c == '.') return !IsPiiAlnum(next);
  return c != ',' || !IsPiiDigit(next);
}

MaybePii FindEmail(std::string_view text, std::size_t at) {
  std::size_t begin = at;
  const auto is_local = [](char c) { return IsPiiAlnum(c) || IsWide(c) || In("._%+-'", c); };
  while (begin > 0 && at - begin < kMaxLocalPart && is_local(text[begin - 1])) --begin;
  begin = AfterEscape(text, begin, at);
  while (begin < at && In("._%+-'", text[begin])) ++begin;
  if (begin == at || text[at - 1] == '.') return std::nullopt;
  std::size_t end = at + 1, dot = 0;
  for (; end < text.size() && end - at <= kMaxDomain; ++end) {
    const char c = text[end];
    if (c == '.') {
      if (!IsPiiAlnum(text[end - 1]) && !IsWide(text[end - 1])) return std::nullopt;
      if (!IsPiiAlnum(At(text, end + 1)) && !IsWide(At(text, end + 1))) break;  // the end of a sentence
      dot = end;
    } else if (!IsPiiAlnum(c) && !IsWide(c) && c != '-') {
      break;
    }
  }
  while (end > at + 1 && text[end - 1] == '-') --end;
  if (dot == 0 || end < dot + 3) return std::nullopt;
  const std::string_view top = text.substr(dot + 1, end - dot - 1);
  if (top.size() > 24 || !std::all_of(top.begin(), top.end(), [](char c) { return IsPiiLetter(c) || IsWide(c); })) {
    return std::nullopt;
  }
  if (text.substr(begin, at - begin) == "git") return std::nullopt;  // the address of a repository
  return PiiMatch{begin, end, Pii::kEmailAddress};
}

MaybePii FindWebAddress(std::string_view text, std::size_t at) {
  std::size_t begin = at;
  while (begin > 0 && at - begin < 16 && IsPiiLetter(text[begin - 1])) --begin;
  begin = AfterEscape(text, begin, at);
  if (begin == at) return std::nullopt;
  std::size_t end = at + 3;
  const std::size_t limit = std::min(text.size(), at + kMaxUrl);
  while (end<limit&& static_cast<unsigned char>(text[end])> ' ' && !In("\"'<>\\^`{|}", text[end])) ++end;
  while (end > at + 3 && In(".,;:!?)]", text[end - 1])) --end;
  if (end < at + 6) return std::nullopt;
  return PiiMatch{begin, end, Pii::kUrl};
}

MaybePii FindColons(std::string_view text, std::size_t at) {
  const auto part = [](char c) { return IsHex(c) || c == ':'; };
  std::size_t begin = at, end = at;
  while (begin > 0 && at - begin < 40 && part(text[begin - 1])) --begin;
  begin = AfterEscape(text, begin, at);
  while (end < text.size() && end - begin < 46 && (part(text[end]) || text[end] == '.')) ++end;
  while (end > begin && (text[end - 1] == '.' || (text[end - 1] == ':' && Before(text, end, 2) != ':'))) --end;
  if (begin > 0 && (IsPiiAlnum(text[begin - 1]) || text[begin - 1] == '_') && Before(text, begin, 2) != '\\') {
    return std::nullopt;
  }
  if (end - begin < 3 || IsPiiAlnum(At(text, end)) || At(text, end) == '_') return std::nullopt;
  const std::string_view all = text.substr(begin, end - begin);
  if (all.size() == 17) {
    bool mac = true;
    for (std::size_t i = 0; i < 17; ++i) mac &= i % 3 == 2 ? all[i] == ':' : IsHex(all[i]);
    if (mac) return PiiMatch{begin, end, Pii::kMacAddress};
  }
  char copy[48] = {};
  all.copy(copy, sizeof copy - 1);
  in6_addr address;
  if (inet_pton(AF_INET6, copy, &address) != 1) return std::nullopt;
  // "::", "::1" and what may be a name of some program's are of nobody.
  const bool routed = address.s6_addr[0] != 0 || all.size() > 15;
  const bool digits = std::any_of(all.begin(), all.end(), IsPiiDigit);
  if (!routed || !digits || std::count(all.begin(), all.end(), ':') < 2) return std::nullopt;
  return PiiMatch{begin, end, Pii::kIpAddress};
}

MaybePii FindIpv4(std::string_view text, std::size_t begin, std::size_t end) {
  if (end - begin > 3 || At(text, end) != '.' || !BeginsWhole(text, begin)) return std::nullopt;
  std::size_t at = begin;
  int first = 0, all = 0;
  for (int octet = 0; octet < 4; ++octet) {
    if (octet > 0 && At(text, at++) != '.') return std::nullopt;
    int value = 0, digits = 0;
    for (; digits < 4 && IsPiiDigit(At(text, at)); ++at, ++digits) value = value * 10 + (text[at] - '0');
    if (digits == 0 || digits > 3 || value > 255 ||
        (digits > 1 && text[at - static_cast<std::size_t>(digits)] == '0')) {
      return std::nullopt;
    }
    if (octet == 0) first = value;
    all += value;
  }
  if (!EndsWhole(text, at) || first == 127 || all == 0) return std::nullopt;
  if (Before(text, begin) == '/' && IsPiiAlnum(Before(text, begin, 2))) return std::nullopt;  // "Chrome/120.0.0.0"
  return PiiMatch{begin, at, Pii::kIpAddress};
}

MaybePii FindIban(std::string_view text, std::size_t begin, std::size_t end) {
  if (end - begin < 4 || !IsPiiLetter(text[begin]) || !IsPiiLetter(text[begin + 1]) || !IsPiiDigit(text[begin + 2]) ||
      !IsPiiDigit(text[begin + 3]) || !BeginsWhole(text, begin)) {
    return std::nullopt;
  }
  char id[34];
  std::size_t size = 0, at = begin;
  while (at < text.size() && size < sizeof id) {
    const char c = text[at];
    if (IsPiiAlnum(c)) {
      id[size++] = Uppercase(c);
      ++at;
      // Where it may end, it does if the sum says so: a word may stand behind it.
      if (size >= 15 && !IsPiiAlnum(At(text, at)) && IsIban({id, size})) {
        return EndsWhole(text, at) ? MaybePii(PiiMatch{begin, at, Pii::kIbanCode}) : std::nullopt;
      }
    } else if ((c == ' ' || c == '-') && size % 4 == 0) {
      ++at;
    } else {
      break;
    }
  }
  return std::nullopt;
}

namespace {

constexpr std::string_view kMonths[] = {"jan", "feb", "mar", "apr", "may", "jun",
                                        "jul", "aug", "sep", "oct", "nov", "dec"};

bool IsMonth(std::string_view word) {
  if (word.size() < 3 || word.size() > 9) return false;
  char three[3];
  for (std::size_t i = 0; i < 3; ++i) three[i] = static_cast<char>(word[i] | 0x20);
  return std::find(std::begin(kMonths), std::end(kMonths), std::string_view(three, 3)) != std::end(kMonths);
}

std::size_t Digits(std::string_view text, std::size_t at) {
  std::size_t count = 0;
  while (IsPiiDigit(At(text, at + count))) ++count;
  return count;
}

}  // namespace

MaybePii FindDate(std::string_view text, std::size_t begin, std::size_t end) {
  const std::size_t first = Digits(text, begin);
  if (first == 0 || first > 4 || first == 3 || !BeginsWhole(text, begin)) return std::nullopt;
  const char sep = At(text, begin + first);
  if (sep == '-' || sep == '/' || sep == '.') {
    const std::size_t second_at = begin + first + 1, second = Digits(text, second_at);
    const std::size_t third_at = second_at + second + 1, third = Digits(text, third_at);
    const bool year_first = first == 4 && (third == 1 || third == 2);
    const bool year_last = first <= 2 && (third == 2 || third == 4);
    if (At(text, third_at - 1) != sep || second < 1 || second > 2 || (!year_first && !year_last)) return std::nullopt;
    std::size_t stop = third_at + third;
    if ((At(text, stop) == 'T' || At(text, stop) == ' ') && Digits(text, stop + 1) == 2 && At(text, stop + 3) == ':') {
      ++stop;
      while (IsPiiDigit(At(text, stop)) || In(":.Z+", At(text, stop) == '\0' ? ' ' : At(text, stop))) ++stop;
      while (text[stop - 1] == '.') --stop;
    } else if (!EndsWhole(text, stop)) {
      return std::nullopt;
    }
    return PiiMatch{begin, stop, Pii::kDateTime};
  }
  if (first > 2) return std::nullopt;
  std::size_t word_end = begin;  // "March 3, 2024"
  while (word_end > 0 && text[word_end - 1] == ' ' && begin - word_end < 2) --word_end;
  std::size_t word = word_end;
  while (word > 0 && word_end - word < 10 && IsPiiLetter(text[word - 1])) --word;
  if (Before(text, word) == '\\') ++word;
  if (word_end < begin && IsMonth(text.substr(word, word_end - word))) {
    std::size_t stop = end;
    std::size_t year = end;
    while (At(text, year) == ',' || At(text, year) == ' ') ++year;
    if (year > end && year - end <= 2 && Digits(text, year) == 4) stop = year + 4;
    return PiiMatch{word, stop, Pii::kDateTime};
  }
  if (At(text, end) != ' ') return std::nullopt;  // "3 March 2024"
  word_end = end + 1;
  while (word_end < text.size() && word_end - end < 12 && IsPiiLetter(text[word_end])) ++word_end;
  if (!IsMonth(text.substr(end + 1, word_end - end - 1)) || At(text, word_end) != ' ' ||
      Digits(text, word_end + 1) != 4) {
    return std::nullopt;
  }
  return PiiMatch{begin, word_end + 5, Pii::kDateTime};
}

namespace {

// The groups of digits of what may be a phone's number.
struct Groups {
  std::size_t end = 0;
  int digits = 0, count = 0;
  std::array<int, 8> length{};
  bool paren = false;    // "(0)", "(212)"
  bool one_kind = true;  // of separators
};

std::optional<Groups> ReadGroups(std::string_view text, std::size_t at) {
  Groups groups;
  char kind = '\0';
  while (at < text.size()) {
    const std::size_t run = Digits(text, at);
    if (run == 0 || groups.count == 8 || (groups.digits += static_cast<int>(run)) > 15) return std::nullopt;
    groups.length[static_cast<std::size_t>(groups.count++)] = static_cast<int>(run);
    groups.end = at += run;
    std::size_t next = at;
    while (next < text.size() && next - at < 3 && In(" -./()", text[next])) ++next;
    if (next == at || !IsPiiDigit(At(text, next))) return groups;
    const std::string_view between = text.substr(at, next - at);
    const bool paren = between.find('(') != std::string_view::npos || between.find(')') != std::string_view::npos;
    if (!paren && between.size() > 1) return groups;
    groups.paren |= paren;
    if (!paren && kind != '\0' && kind != between[0]) groups.one_kind = false;
    if (!paren) kind = between[0];
    at = next;
  }
  return groups;
}

// Three, three, four, as North America writes them, with or without a 1 before.
bool IsNorthAmerican(const Groups& g, std::string_view digits) {
  const std::size_t from = g.length[0] == 1 && digits[0] == '1' ? 1 : 0;
  const auto count = static_cast<std::size_t>(g.count);
  if (count != from + 3 || g.length[from] != 3 || g.length[from + 1] != 3 || g.length[from + 2] != 4) return false;
  return digits[from] >= '2' && digits[from + 3] >= '2';
}

}  // namespace

std::optional<PhoneShape> FindPhone(std::string_view text, std::size_t begin) {
  std::size_t start = begin;
  const bool opened = Before(text, start) == '(';
  if (opened) --start;
  const bool plus = Before(text, start) == '+' || Before(text, begin) == '+';
  if (plus) start = Before(text, begin) == '+' ? begin - 1 : start - 1;
  if (start == begin && !BeginsWhole(text, begin)) return std::nullopt;
  if (start != begin && IsPiiAlnum(Before(text, start)) && Before(text, start, 2) != '\\') return std::nullopt;
  if (In("$#=", Before(text, start) == '\0' ? ' ' : Before(text, start)) && !plus) return std::nullopt;
  auto groups = ReadGroups(text, begin);
  if (!groups || groups->digits < 7) return std::nullopt;
  std::size_t end = groups->end;
  // An extension: "x4587", " ext. 12".
  std::size_t ext = end;
  while (At(text, ext) == ' ') ++ext;
  if (At(text, ext) == 'x') {
    ++ext;
  } else if (text.substr(ext, 3) == "ext") {
    ext += At(text, ext + 3) == '.' ? 4 : 3;
    while (At(text, ext) == ' ') ++ext;
  } else {
    ext = 0;
  }
  if (const std::size_t digits = ext > 0 ? Digits(text, ext) : 0; digits > 0 && digits <= 6) end = ext + digits;
  if (!EndsWhole(text, end)) return std::nullopt;
  char digits[16] = {};
  std::size_t size = 0;
  for (std::size_t i = begin; i < groups->end; ++i) {
    if (IsPiiDigit(text[i])) digits[size++] = text[i];
  }
  const Groups& g = *groups;
  bool certain = plus && g.digits >= 8;
  certain |= IsNorthAmerican(g, digits);
  certain |= opened && g.paren && g.count >= 2 && g.digits >= 9 && g.length[0] <= 5;
  const bool home = digits[0] == '0' && g.digits >= 9 && g.digits <= 11 && g.length[0] >= 2 && g.length[0] <= 5;
  certain |= home && g.count >= 3 && g.one_kind && !(g.length[1] == 2 && g.digits == 9 && g.count == 3) &&
             !(g.length[0] == 2 && g.length[1] == 2 && g.length[2] == 4);
  if (opened && !g.paren) start = plus ? start : begin;
  return PhoneShape{start, end, certain};
}

}  // namespace spanbox
