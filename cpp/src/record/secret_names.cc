#include "record/secret_names.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

namespace spanbox {
namespace {

constexpr std::size_t kMaxName = 80;

// Last words that make a name a secret whatever stands before them. "_" parts words.
constexpr std::string_view kTails[] = {
    "password",    "passwords",   "passwd",         "passphrase",     "passcode",
    "pwd",         "secret",      "secrets",        "authorization",  "cookie",
    "cookies",     "credential",  "credentials",    "apikey",         "apikeys",
    "api_key",     "api_keys",    "secret_key",     "secret_keys",    "private_key",
    "access_key",  "accesskey",   "secretkey",      "privatekey",     "auth_key",
    "authkey",     "signing_key", "encryption_key", "decryption_key", "subscription_key",
    "account_key", "accountkey",  "master_key",     "service_key",    "ssh_key",
    "session_key", "license_key", "access_tokens",  "refresh_tokens", "auth_tokens",
    "api_tokens",  "accesstoken", "refreshtoken",   "authtoken",      "jwt",
    "client_key",  "admin_key",   "deploy_key",     "shared_key",     "webhook_key",
    "hmac_key",
};

// By the last letter, the tails that end with it, a bit each.
constexpr std::array<std::uint64_t, 32> kTailsByLetter = [] {
  static_assert(std::size(kTails) <= 64);
  std::array<std::uint64_t, 32> tails{};
  for (std::size_t i = 0; i < std::size(kTails); ++i) tails[kTails[i].back() & 31] |= std::uint64_t{1} << i;
  return tails;
}();

// Names that are secrets only when they are the whole name.
constexpr std::string_view kWhole[] = {"auth", "bearer", "pass_key", "basic_auth", "http_auth", "proxy_auth"};

// Before "token": then it is a place in a list, or a piece of text.
constexpr std::string_view kNoSecretToken[] = {
    "next",    "prev",     "previous",  "page",    "paging",  "pagination", "continuation", "cursor",
    "sync",    "delta",    "resume",    "skip",    "eos",     "bos",        "pad",          "unk",
    "cls",     "sep",      "mask",      "stop",    "start",   "end",        "begin",        "first",
    "last",    "special",  "max",       "min",     "prompt",  "input",      "output",       "completion",
    "per",     "each",     "top",       "target",  "draft",   "image",      "audio",        "video",
    "text",    "decoder",  "encoder",   "new",     "current", "chosen",     "generated",    "predicted",
    "sampled", "word",     "sub",       "byte",    "think",   "thinking",   "reasoning",    "cached",
    "total",   "boundary", "separator", "newline", "padding", "unknown",    "beginning",    "sentence",
    "decoded", "raw",      "forced",    "suffix",  "prefix",  "middle",     "fim",          "additional",
    "this",    "that",     "a",         "an",      "the",     "one",        "every",        "single",
    "no",
};

bool IsLower(char c) { return c >= 'a' && c <= 'z'; }
bool IsUpper(char c) { return c >= 'A' && c <= 'Z'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// The name in lower case, its words parted by "_", in `out`.
std::string_view Words(std::string_view name, std::array<char, 2 * kMaxName>& out) {
  std::size_t size = 0;
  for (std::size_t i = 0; i < name.size(); ++i) {
    const char c = name[i];
    if (IsUpper(c)) {
      const bool after_lower = i > 0 && (IsLower(name[i - 1]) || IsDigit(name[i - 1]));
      const bool last_of_acronym = i > 0 && IsUpper(name[i - 1]) && i + 1 < name.size() && IsLower(name[i + 1]) &&
                                   !(i + 2 == name.size() && name[i + 1] == 's');
      if ((after_lower || last_of_acronym) && size > 0 && out[size - 1] != '_') out[size++] = '_';
      out[size++] = static_cast<char>(c | 0x20);
    } else if (IsLower(c) || IsDigit(c)) {
      out[size++] = c;
    } else if (size > 0 && out[size - 1] != '_') {
      out[size++] = '_';
    }
  }
  if (size > 0 && out[size - 1] == '_') --size;
  return {out.data(), size};
}

bool EndsInWords(std::string_view words, std::string_view tail) {
  const std::size_t n = words.size();
  if (words[n - 1] != tail.back() || words[n - 2] != tail[tail.size() - 2] || !words.ends_with(tail)) return false;
  return words.size() == tail.size() || words[words.size() - tail.size() - 1] == '_';
}

bool IsSecretToken(std::string_view words) {
  if (!EndsInWords(words, "token")) return false;
  if (words.size() == 5) return true;
  words.remove_suffix(6);
  const std::string_view before = words.substr(words.rfind('_') + 1);  // npos + 1 is 0
  return std::ranges::none_of(kNoSecretToken, [before](std::string_view known) {
    return known.size() == before.size() && known[0] == before[0] && known == before;
  });
}

}  // namespace

namespace internal {

bool IsSecretNameSlow(std::string_view name) {
  std::array<char, 2 * kMaxName> buffer;
  const std::string_view words = Words(name, buffer);
  if (words.size() < 3) return false;
  for (std::uint64_t tails = kTailsByLetter[words.back() & 31]; tails != 0; tails &= tails - 1) {
    if (EndsInWords(words, kTails[std::countr_zero(tails)])) return true;
  }
  return IsSecretToken(words) || std::ranges::find(kWhole, words) != std::end(kWhole);
}

}  // namespace internal

std::string FoldedName(std::string_view name) {
  std::string folded;
  for (const char c : name) {
    if (IsLower(c) || IsDigit(c) || static_cast<unsigned char>(c) >= 0x80) folded += c;
    if (IsUpper(c)) folded += static_cast<char>(c | 0x20);
  }
  return folded;
}

}  // namespace spanbox
