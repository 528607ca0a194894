#include "record/redaction.h"

#include <algorithm>
#include <span>

#include "base/sha256.h"
#include "record/pii_finders.h"
#include "record/pii_scan.h"

namespace spanbox {
namespace {

constexpr std::size_t kHashDigits = 16;
constexpr std::size_t kJsonContext = 64;

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

std::string Masked(std::string_view text, std::size_t shown) {
  const auto alnum = static_cast<std::size_t>(std::count_if(text.begin(), text.end(), IsPiiAlnum));
  // A short one would be shown whole.
  std::size_t hidden = alnum > 2 * shown ? alnum - shown : alnum;
  std::string masked;
  for (const char c : text) {
    if (IsPiiAlnum(c)) {
      masked += hidden > 0 ? '*' : c;
      hidden -= hidden > 0 ? 1 : 0;
    } else if (static_cast<unsigned char>(c) < 0x80) {
      masked += c;
    } else if (!IsContinuation(c)) {
      masked += '*';
    }
  }
  return masked;
}

// Bytes that nobody can tell without the key.
class KeyedBytes {
 public:
  KeyedBytes(std::string_view key, std::string_view entity, std::string_view text)
      : key_(key), message_(std::string(entity) + '\0' + std::string(text)) {}

  unsigned Next() {
    if (used_ == digest_.size()) {
      digest_ = HmacSha256(key_, message_);
      message_.assign(reinterpret_cast<const char*>(digest_.data()), digest_.size());
      // The first half makes the next; the second is given out.
      used_ = digest_.size() / 2;
    }
    return std::to_integer<unsigned>(digest_[used_++]);
  }

 private:
  const std::string_view key_;
  std::string message_;
  Sha256Digest digest_;
  std::size_t used_ = sizeof(Sha256Digest);
};

// Digits and letters of the text as the key has them: "4155-551234" and "4155551234" have one surrogate.
std::string Bare(std::string_view text) {
  std::string bare;
  for (const char c : text) {
    if (IsPiiAlnum(c) || static_cast<unsigned char>(c) >= 0x80) bare += Uppercase(c);
  }
  return bare;
}

std::string SurrogateOf(std::string_view key, std::string_view entity, std::string_view text) {
  KeyedBytes bytes(key, entity, Bare(text));
  const bool email = entity == NameOf(Pii::kEmailAddress);
  std::string surrogate;
  for (const char c : text) {
    if (email && c == '@') return surrogate + "@example.com";
    if (IsPiiDigit(c)) {
      surrogate += static_cast<char>('0' + bytes.Next() % 10);
    } else if (IsPiiLetter(c)) {
      surrogate += static_cast<char>((c & 0x20 ? 'a' : 'A') + bytes.Next() % 26);
    } else if (static_cast<unsigned char>(c) < 0x80) {
      surrogate += c;
    } else if (!IsContinuation(c)) {
      surrogate += static_cast<char>('a' + bytes.Next() % 26);
    }
  }
  return surrogate;
}

std::string HashOf(std::string_view key, std::string_view entity, std::string_view text) {
  const Sha256Digest digest = HmacSha256(key, std::string(entity) + '\0' + Bare(text));
  std::string hashed = "[" + std::string(entity) + ":";
  for (std::size_t i = 0; i < kHashDigits / 2; ++i) {
    const auto byte = std::to_integer<unsigned>(digest[i]);
    hashed += "0123456789abcdef"[byte >> 4];
    hashed += "0123456789abcdef"[byte & 15];
  }
  return hashed + "]";
}

// Both in order; where they overlap one finding, by the secret's name.
std::vector<Finding> Merge(const std::vector<Finding>& secrets, const std::vector<Finding>& pii) {
  std::vector<Finding> merged;
  auto secret = secrets.begin();
  auto other = pii.begin();
  while (secret != secrets.end() || other != pii.end()) {
    const bool take_secret = other == pii.end() || (secret != secrets.end() && secret->begin <= other->begin);
    const Finding next = take_secret ? *secret++ : *other++;
    if (merged.empty() || merged.back().end <= next.begin) {
      merged.push_back(next);
      continue;
    }
    merged.back().end = std::max(merged.back().end, next.end);
    if (take_secret) merged.back().entity = next.entity;
  }
  return merged;
}

// The end of the JSON string whose text begins at `at`.
std::size_t EndOfJsonText(std::string_view json, std::size_t at) {
  while (at < json.size() && json[at] != '"') at += json[at] == '\\' ? 2 : 1;
  return std::min(at, json.size());
}

}  // namespace

Redaction::Redaction(RedactionSettings settings) : settings_(std::move(settings)) {
  for (const auto& [entity, one] : settings_.operators) keeps_ |= one.how == Replacing::kKeep;
}

bool Redaction::Find(std::string_view text, std::string_view before, std::vector<Finding>& findings) const {
  if (settings_.secrets) FindSecrets(text, findings);
  return FindMore(text, before, findings);
}

bool Redaction::FindMore(std::string_view text, std::string_view before, std::vector<Finding>& findings) const {
  if (settings_.pii != 0) {
    std::vector<Finding> pii;
    if (FindPii(text, before, settings_.pii, pii)) findings = findings.empty() ? std::move(pii) : Merge(findings, pii);
  }
  if (keeps_) {
    std::erase_if(findings, [this](const Finding& finding) {
      const auto one = settings_.operators.find(finding.entity);
      return one != settings_.operators.end() && one->second.how == Replacing::kKeep;
    });
  }
  return !findings.empty();
}

std::string Redaction::ReplacementOf(const Finding& finding, std::string_view text) const {
  const auto named = settings_.operators.find(finding.entity);
  const Operator one = named == settings_.operators.end() ? Operator{} : named->second;
  switch (one.how) {
    case Replacing::kText:
      return one.text;
    case Replacing::kMask:
      return Masked(text, one.shown);
    case Replacing::kHash:
      return HashOf(settings_.key, finding.entity, text);
    case Replacing::kSurrogate:
      return SurrogateOf(settings_.key, finding.entity, text);
    case Replacing::kCall:
      if (auto called = settings_.call ? settings_.call(finding.entity, text) : std::nullopt) return *std::move(called);
      break;
    case Replacing::kName:
    case Replacing::kKeep:
      break;
  }
  return "[redacted:" + std::string(finding.entity) + "]";
}

std::string Redaction::Replaced(std::string_view text, const std::vector<Finding>& findings, bool in_json) const {
  if (settings_.operators.empty()) return Redacted(text, findings);
  std::string result;
  std::size_t kept = 0;
  for (const Finding& finding : findings) {
    result.append(text, kept, finding.begin - kept);
    std::string one = ReplacementOf(finding, text.substr(finding.begin, finding.end - finding.begin));
    if (in_json) {
      std::replace_if(
          one.begin(), one.end(), [](char c) { return c == '"' || c == '\\' || static_cast<unsigned char>(c) < ' '; },
          ' ');
    }
    result += one;
    kept = finding.end;
  }
  return result.append(text, kept);
}

std::optional<std::string> Redaction::Redact(std::string_view text, std::string_view before) const {
  std::vector<Finding> findings;
  if (!Find(text, before, findings)) return std::nullopt;
  return Replaced(text, findings);
}

std::optional<std::string> Redaction::RedactJson(std::string_view json) const {
  std::vector<Finding> findings, around;
  if (settings_.pii == 0 && !Find(json, {}, findings)) return std::nullopt;
  std::optional<std::string> result;
  std::size_t kept = 0;
  for (std::size_t at = 0; (at = json.find('"', at)) != std::string_view::npos;) {
    const std::size_t begin = at + 1, end = EndOfJsonText(json, begin);
    const std::size_t context = begin > kJsonContext ? begin - kJsonContext : 0;
    findings.clear(), around.clear();
    // The name of a member speaks of its value: a password has no shape of its own.
    if (settings_.secrets) FindSecrets(json.substr(context, std::min(end + 1, json.size()) - context), around);
    for (const Finding& one : around) {
      const std::size_t first = std::max(one.begin + context, begin), last = std::min(one.end + context, end);
      if (first < last) findings.push_back({first - begin, last - begin, one.entity});
    }
    const std::string_view text = json.substr(begin, end - begin);
    if (FindMore(text, json.substr(context, begin - context), findings)) {
      if (!result) result.emplace();
      result->append(json, kept, begin - kept).append(Replaced(text, findings, /*in_json=*/true));
      kept = end;
    }
    at = end + 1;
  }
  if (result) result->append(json, kept);
  return result;
}

}  // namespace spanbox
