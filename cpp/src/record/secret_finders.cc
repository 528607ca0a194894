#include "record/secret_finders.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <span>

#include "record/secret_names.h"
#include "record/secret_table.h"
#include "record/text_blocks64.h"

namespace spanbox {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool IsAlnum(char c) { return IsDigit(c) || IsLetter(c); }
bool IsBase64(char c) { return IsAlnum(c) || c == '+' || c == '/' || c == '='; }

bool In(Tail tail, char c) {
  switch (tail) {
    case Tail::kWord:
      return IsKeyCharacter(static_cast<unsigned char>(c));
    case Tail::kAlnum:
      return IsAlnum(c);
    case Tail::kHex:
      return IsDigit(c) || (c >= 'a' && c <= 'f');
    case Tail::kUpper:
      return IsDigit(c) || (c >= 'A' && c <= 'Z');
    case Tail::kDotted:
      return IsKeyCharacter(static_cast<unsigned char>(c)) || c == '.';
    case Tail::kBase64:
      return IsBase64(c) || c == '-' || c == '_';
  }
  return false;
}

bool HasDigitAndLetter(std::string_view text) {
  return std::any_of(text.begin(), text.end(), IsDigit) && std::any_of(text.begin(), text.end(), IsLetter);
}

std::size_t EndOf(Tail tail, std::string_view text, std::size_t at) {
  while (at < text.size() && In(tail, text[at])) ++at;
  return at;
}

std::optional<Finding> Match(const SecretPrefix& secret, std::string_view text, std::size_t begin) {
  const std::size_t tail = begin + secret.prefix.size();
  std::size_t end = EndOf(secret.tail, text, tail);
  while (secret.tail == Tail::kDotted && end > tail && text[end - 1] == '.') --end;  // the end of a sentence
  const std::size_t length = end - tail;
  if (length < secret.min || (secret.max > 0 && length > secret.max)) return std::nullopt;
  if (secret.max > 0 && secret.min == secret.max && end < text.size() && IsAlnum(text[end])) return std::nullopt;
  if (secret.check == Check::kMixed && !HasDigitAndLetter(text.substr(tail, length))) return std::nullopt;
  return Finding{begin, end, secret.entity};
}

// Which pairs of first characters begin a prefix: a bit each.
constexpr std::array<std::uint64_t, 1024> MakePairs() {
  std::array<std::uint64_t, 1024> pairs{};
  for (const SecretPrefix& secret : kSecretPrefixes) {
    const unsigned pair =
        static_cast<unsigned char>(secret.prefix[0]) << 8 | static_cast<unsigned char>(secret.prefix[1]);
    pairs[pair / 64] |= std::uint64_t{1} << pair % 64;
  }
  return pairs;
}
constexpr std::array<std::uint64_t, 1024> kPairs = MakePairs();

// Prefixes that begin with the same character are a list: kFirst[c] is its head, kNext its links; 255 ends it.
constexpr std::uint8_t kNone = 255;
static_assert(std::size(kSecretPrefixes) < kNone);
constexpr std::array<std::uint8_t, std::size(kSecretPrefixes)> MakeNext() {
  std::array<std::uint8_t, std::size(kSecretPrefixes)> next{};
  for (std::size_t i = 0; i < next.size(); ++i) {
    next[i] = kNone;
    for (std::size_t k = next.size() - 1; k > i; --k) {
      if (kSecretPrefixes[k].prefix[0] == kSecretPrefixes[i].prefix[0]) next[i] = static_cast<std::uint8_t>(k);
    }
  }
  return next;
}
constexpr std::array<std::uint8_t, std::size(kSecretPrefixes)> kNext = MakeNext();
constexpr std::array<std::uint8_t, 128> MakeFirst() {
  std::array<std::uint8_t, 128> first{};
  first.fill(kNone);
  for (std::size_t i = std::size(kSecretPrefixes); i-- > 0;) {
    first[static_cast<unsigned char>(kSecretPrefixes[i].prefix[0])] = static_cast<std::uint8_t>(i);
  }
  return first;
}
constexpr std::array<std::uint8_t, 128> kFirst = MakeFirst();

std::optional<Finding> FindPrefix(std::string_view text, std::size_t begin) {
  if (begin + 16 > text.size()) return std::nullopt;
  const unsigned pair = static_cast<unsigned char>(text[begin]) << 8 | static_cast<unsigned char>(text[begin + 1]);
  if ((kPairs[pair / 64] >> pair % 64 & 1) == 0) return std::nullopt;
  for (auto i = kFirst[static_cast<unsigned char>(text[begin])]; i != kNone; i = kNext[i]) {
    const SecretPrefix& secret = kSecretPrefixes[i];
    if (secret.prefix[1] != text[begin + 1] || !text.substr(begin).starts_with(secret.prefix)) continue;
    if (const auto found = Match(secret, text, begin)) return found;
  }
  return std::nullopt;
}

// header.payload.signature, each base64url of JSON; the signature may be missing or cut.
std::optional<Finding> FindJwt(std::string_view text, std::size_t begin, std::size_t end) {
  if (!text.substr(begin).starts_with("eyJ") || end + 3 >= text.size() || text[end] != '.') return std::nullopt;
  if (!text.substr(end + 1).starts_with("eyJ") && end - begin < 20) return std::nullopt;
  std::size_t stop = EndOf(Tail::kWord, text, end + 1);
  if (stop - end < 12) return std::nullopt;
  if (stop < text.size() && text[stop] == '.') stop = EndOf(Tail::kWord, text, stop + 1);
  return Finding{begin, stop, "jwt"};
}

// No letter or digit stands before it, unless as the end of an escape: "\n", "%20".
bool CanBegin(std::string_view text, std::size_t at) {
  if (at == 0 || !IsAlnum(text[at - 1])) return true;
  return (at >= 2 && text[at - 2] == '\\') || (at >= 3 && text[at - 3] == '%');
}

// What stands before a run of 16: a dotted prefix, a scheme, a bot's number, a hook's address.
std::optional<Finding> FindBefore(std::string_view text, std::size_t begin, std::size_t end) {
  const std::string_view before = text.substr(0, begin);
  const auto length = end - begin;
  switch (before.back()) {
    case '.':
      for (const SecretPrefix& secret : kDottedPrefixes) {
        if (!before.ends_with(secret.prefix)) continue;
        const std::size_t at = begin - secret.prefix.size();
        if (secret.prefix[0] != '.' && !CanBegin(text, at)) continue;
        if (const auto found = Match(secret, text, at)) return found;
      }
      // Discord: id.time.signature, noticed by the signature.
      if (length >= 27 && length <= 40 && before.size() >= 31 && before[before.size() - 8] == '.') {
        const std::size_t id = before.size() - 8;
        std::size_t at = id;
        while (at > 0 && id - at < 28 && IsAlnum(text[at - 1])) --at;
        const bool shape = id - at >= 23 && id - at <= 28 && (text[at] == 'M' || text[at] == 'N' || text[at] == 'O');
        if (shape && HasDigitAndLetter(text.substr(begin, length))) return Finding{at, end, "discord_token"};
      }
      return std::nullopt;
    case ' ':
      for (const std::string_view scheme : {"Bearer ", "bearer ", "Basic ", "Token ", "BEARER "}) {
        if (!before.ends_with(scheme)) continue;
        const std::size_t stop = EndOf(Tail::kBase64, text, begin);
        const std::size_t all = EndOf(Tail::kDotted, text, stop);
        if (!HasDigitAndLetter(text.substr(begin, all - begin))) continue;
        return Finding{begin, all, scheme[1] == 'a' ? "basic_auth" : "bearer_token"};
      }
      return std::nullopt;
    case ':': {
      std::size_t at = begin - 1;
      while (at > 0 && begin - at < 12 && IsDigit(text[at - 1])) --at;
      const std::size_t digits = begin - 1 - at;
      if (digits < 8 || length != 35 || !text.substr(begin).starts_with("AA")) return std::nullopt;
      return Finding{at, end, "telegram_token"};
    }
    case '/': {
      const std::size_t window = before.size() > 80 ? before.size() - 80 : 0;
      const std::string_view near = before.substr(window);
      if (near.find("hooks.slack.com/") != std::string_view::npos) return Finding{begin, end, "slack_webhook"};
      if (near.find("/api/webhooks/") != std::string_view::npos && length >= 50) {
        return Finding{begin, end, "discord_webhook"};
      }
      return std::nullopt;
    }
    default:
      return std::nullopt;
  }
}

// The place where a key can begin at or after `at`: the run's start, or behind a '-' or '_'.
std::size_t NextStart(std::string_view text, std::size_t at, std::size_t end) {
  while (at < end && text[at] != '-' && text[at] != '_') ++at;
  while (at < end && (text[at] == '-' || text[at] == '_')) ++at;
  return at;
}

// --- assignments -----------------------------------------------------------------------------------------------------

constexpr std::size_t kMaxName = 64;
constexpr std::size_t kMaxPassword = 256;

bool IsPlaceholder(std::string_view value) {
  constexpr std::string_view kOpening = "<{[($%*";
  if (value.empty() || kOpening.find(value.front()) != std::string_view::npos) return true;
  const bool same = std::all_of(value.begin(), value.end(), [&](char c) { return c == value.front(); });
  return same || value.find("${") != std::string_view::npos || value.find("...") != std::string_view::npos ||
         value.starts_with("your") || value.starts_with("YOUR") || value.starts_with("xxx");
}

// scheme://user:password@host
std::optional<Finding> FindInAddress(std::string_view text, std::size_t colon) {
  const std::size_t begin = colon + 3;
  const std::size_t limit = std::min(text.size(), begin + kMaxPassword);
  std::size_t password = 0;
  for (std::size_t i = begin; i < limit; ++i) {
    const char c = text[i];
    if (c == ':' && password == 0) password = i + 1;
    if (c == '@') {
      if (password == 0 || i == password || IsPlaceholder(text.substr(password, i - password))) return std::nullopt;
      return Finding{password, i, "url_password"};
    }
    if (c == '/' || c == '"' || c == '\'' || c == '<' || c == '>' || c == '\\' ||
        static_cast<unsigned char>(c) <= ' ') {
      return std::nullopt;
    }
  }
  return std::nullopt;
}

// The name that ends before `at`, quotes and one space skipped.
std::string_view NameBefore(std::string_view text, std::size_t at) {
  const std::size_t end = EndOfName(text, at);
  std::size_t begin = end;
  while (begin > 0 && end - begin < kMaxName && IsKeyCharacter(static_cast<unsigned char>(text[begin - 1]))) --begin;
  return text.substr(begin, end - begin);
}

bool EndsBareValue(char c) {
  return static_cast<unsigned char>(c) <= ' ' || c == '"' || c == '\'' || c == ',' || c == ';' || c == '&' ||
         c == '<' || c == '>' || c == ')' || c == ']' || c == '}' || c == '`' || c == '|' || c == '\\';
}

bool IsHeaderName(std::string_view name) {
  return name.size() >= 6 && ((name.back() | 0x20) == 'e' || (name.back() | 0x20) == 'n') &&
         (name.ends_with("ookie") || name.ends_with("uthorization") || name.ends_with("COOKIE") ||
          name.ends_with("UTHORIZATION"));
}

// Something a person or a generator would take for a password: no code, no word.
bool LooksSecret(std::string_view value) {
  if (value.size() < 6 || IsPlaceholder(value)) return false;
  if (value.find('(') != std::string_view::npos || value.find('[') != std::string_view::npos) return false;
  return HasDigitAndLetter(value);
}

std::optional<Finding> FindValue(std::string_view text, std::size_t at, std::string_view name) {
  std::size_t begin = at + 1;
  if (begin < text.size() && (text[begin] == '=' || text[begin] == '>' || text[begin] == ':')) return std::nullopt;
  while (begin < text.size() && text[begin] == ' ' && begin - at < 4) ++begin;
  std::size_t backslashes = 0;
  while (begin < text.size() && text[begin] == '\\' && backslashes < 8) ++begin, ++backslashes;
  const char quote = begin < text.size() && (text[begin] == '"' || text[begin] == '\'') ? text[begin] : '\0';
  if (quote != '\0') ++begin;
  const std::size_t limit = std::min(text.size(), begin + 8192);
  const bool header = IsHeaderName(name);
  std::size_t end = begin;
  if (quote != '\0') {
    while (end < limit && text[end] != quote && text[end] != '\n' && text[end] != '\\') ++end;
  } else if (header && text[at] == ':') {
    while (end < limit && text[end] != '\n' && text[end] != '\r' && text[end] != '"' && text[end] != '\'' &&
           text[end] != '\\') {
      ++end;
    }
  } else {
    while (end < limit && !EndsBareValue(text[end])) ++end;
  }
  if (!LooksSecret(text.substr(begin, end - begin))) return std::nullopt;
  return Finding{begin, end, "named_secret"};
}

}  // namespace

void FindInRun(std::string_view text, std::size_t begin, std::size_t end, std::vector<Finding>& findings) {
  if (begin > 0) {
    if (const auto found = FindBefore(text, begin, end)) {
      findings.push_back(*found);
      begin = std::max(begin, found->end);
    }
  }
  // "\nsk-..." and "%20sk-...": the escape's letters belong to the run.
  std::size_t at = begin;
  if (begin > 0 && text[begin - 1] == '\\') {
    if (const auto found = FindPrefix(text, begin + 1)) {
      findings.push_back(*found);
      at = found->end;
    } else if (const auto jwt = FindJwt(text, begin + 1, end)) {
      findings.push_back(*jwt);
      at = jwt->end;
    }
  }
  if (begin > 0 && text[begin - 1] == '%') at = begin + 2;
  while (at + 4 < end) {
    auto found = IsAlnum(text[at]) ? FindPrefix(text, at) : std::nullopt;
    if (!found && text[at] == 'e') found = FindJwt(text, at, end);
    if (found) findings.push_back(*found);
    at = NextStart(text, found ? found->end : at, end);
  }
}

std::optional<Finding> FindAtAssignment(std::string_view text, std::size_t at) {
  if (text.substr(at).starts_with("://")) return FindInAddress(text, at);
  const std::string_view name = NameBefore(text, at);
  if (!IsSecretName(name)) return std::nullopt;
  return FindValue(text, at, name);
}

std::optional<Finding> FindAfterDashes(std::string_view text, std::size_t at) {
  constexpr std::string_view kBegin = "BEGIN ";
  const std::string_view header = text.substr(at, 60);
  if (!header.starts_with(kBegin)) return std::nullopt;
  const std::size_t label_end = header.find("-----");
  if (label_end == std::string_view::npos ||
      header.substr(0, label_end).find("PRIVATE KEY") == std::string_view::npos) {
    return std::nullopt;
  }
  std::size_t end = text.find("-----END", at + label_end + 5);
  if (end == std::string_view::npos) {
    end = text.size();  // cut: what there is of it
  } else {
    end = text.find("-----", end + 8);
    end = end == std::string_view::npos ? text.size() : end + 5;
  }
  return Finding{at - 5, end, "private_key"};
}

}  // namespace spanbox
