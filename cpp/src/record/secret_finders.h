// The finders: each looks at one place of a text where a secret may be, and says whether one is.
//
// Thread rule: pure functions. Preconditions: positions lie within the text.
// Invariant: a finder reads a bounded number of bytes around its place, or the bytes of the secret it reports.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>
#include <vector>

#include "record/redactor.h"
#include "record/secret_names.h"

namespace spanbox {

// Secrets in or around the run [begin, end) of key characters. The longest runs only: text[begin - 1] and text[end] are
// no key characters.
void FindInRun(std::string_view text, std::size_t begin, std::size_t end, std::vector<Finding>& findings);

// Where a name before text[at] would end: quotes and a space may stand between.
inline std::size_t EndOfName(std::string_view text, std::size_t at) {
  for (int skipped = 0; at > 0 && skipped < 4; ++skipped, --at) {
    const char c = text[at - 1];
    if (c != '"' && c != '\'' && c != '\\' && c != ' ' && c != ']') break;
  }
  return at;
}

// Most assignments are none of a secret: this tells for a few instructions.
inline bool MayBeAssignment(std::string_view text, std::size_t at) {
  if (at + 1 < text.size() && text[at + 1] == '/') return true;
  const std::size_t end = EndOfName(text, at);
  return end >= 3 && internal::EndsLikeSecretName(text.substr(0, end));
}

// text[at] is ':' or '=': a password in an address, or the value of a name that is a secret's.
std::optional<Finding> FindAtAssignment(std::string_view text, std::size_t at);

// text[at] follows at least five dashes: a private key in PEM.
std::optional<Finding> FindAfterDashes(std::string_view text, std::size_t at);

}  // namespace spanbox
