// What is looked for in text before it is written, and what takes its place.
//
// Thread rule: const and immutable once made; any thread, if `Call` may be called from there.
// Ownership: owns its settings.
// Invariants:
//   1. Findings are in the order of the text and do not overlap: a secret and personal data that overlap are one.
//   2. What cannot be replaced as it was asked for is replaced by its entity's name: nothing found is kept but by
//   kKeep.
//   3. Surrogates and hashes depend on the key, the entity and the text alone, so that they are the same wherever the
//      text stands.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "record/pii_entities.h"
#include "record/redactor.h"

namespace spanbox {

enum class Replacing : std::uint8_t {
  kName,       // "[redacted:<entity>]"
  kText,       // the operator's text; empty: nothing
  kMask,       // "*" for each character, the last letters and digits shown
  kHash,       // "[<entity>:<16 hex digits>]", keyed
  kSurrogate,  // other digits for digits and letters for letters, keyed
  kCall,       // what RedactionSettings::call says
  kKeep,       // as it is
};

struct Operator {
  Replacing how = Replacing::kName;
  std::string text;       // of kText
  std::size_t shown = 4;  // by kMask
};

struct RedactionSettings {
  // What stands for a finding; nullopt: it failed.
  using Call = std::function<std::optional<std::string>(std::string_view entity, std::string_view text)>;

  bool secrets = true;
  PiiSet pii = 0;
  std::map<std::string, Operator, std::less<>> operators;  // by entity; others are kName
  std::string key;
  Call call;
};

class Redaction {
 public:
  explicit Redaction(RedactionSettings settings);

  bool any() const { return settings_.secrets || settings_.pii != 0; }
  bool secrets() const { return settings_.secrets; }
  // Secrets only, by their names: what Redacted of redactor.h does.
  bool plain() const { return settings_.secrets && settings_.pii == 0 && settings_.operators.empty(); }
  bool pii() const { return settings_.pii != 0; }

  // Appends what is to be replaced in `text`; true when there is any. `findings` must be empty. `before`: see FindPii.
  bool Find(std::string_view text, std::string_view before, std::vector<Finding>& findings) const;
  // The same when `findings` holds the secrets already.
  bool FindMore(std::string_view text, std::string_view before, std::vector<Finding>& findings) const;

  // `in_json`: within a JSON string.
  std::string Replaced(std::string_view text, const std::vector<Finding>& findings, bool in_json = false) const;

  // The text with everything replaced; nullopt: there is nothing to replace.
  std::optional<std::string> Redact(std::string_view text, std::string_view before = {}) const;
  // The same in the texts of JSON: what is no text is kept, and what is none at all is redacted as a text.
  std::optional<std::string> RedactJson(std::string_view json) const;

 private:
  std::string ReplacementOf(const Finding& finding, std::string_view text) const;

  const RedactionSettings settings_;
  bool keeps_ = false;  // some operator is kKeep
};

}  // namespace spanbox
