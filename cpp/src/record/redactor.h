// Finds secrets in text before it enters a record, and replaces each by "[redacted:<entity>]": the ring is a file.
//
// One pass over the text looks for what every secret shows: a run of 16 characters of the kind keys are made of, an
// assignment ("password=", "\"api_key\": "), the "://" of an address, or the dashes of a PEM block. That is a few
// vector instructions a block of 64 bytes; only where one of them is found are the finders of redactor.cc asked, each
// of which knows its entities by prefix, shape and a validator.
//
// Thread rule: pure functions.
// Invariants:
//   1. Findings are in the order of the text and do not overlap.
//   2. The time is linear in the size of the text, whatever it holds.
//   3. Bytes that are no secret are kept as they are; UTF-8 stays UTF-8.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace spanbox {

struct Finding {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::string_view entity;  // "aws_key", "jwt", ...; static
};

// Shorter texts hold no secret.
inline constexpr std::size_t kMinSecretText = 8;

// Appends the secrets of `text`; true when there are any. `findings` must be empty.
bool FindSecrets(std::string_view text, std::vector<Finding>& findings);

// The same, a little faster for short texts. REQUIRES: kScanPadding bytes after the text can be read, whatever they
// are.
bool FindSecretsPadded(std::string_view text, std::vector<Finding>& findings);
inline constexpr std::size_t kScanPadding = 64;

// The text with each finding replaced.
std::string Redacted(std::string_view text, std::span<const Finding> findings);

// The name of every entity FindSecrets can find, each once.
std::vector<std::string_view> SecretEntities();

}  // namespace spanbox
