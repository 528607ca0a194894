// Redaction of texts and of JSON: findings are in order and within the text, the rest stays, and JSON stays JSON.
#include "base/simdjson.h"
#include "fuzz.h"
#include "record/redaction.h"

using namespace spanbox;

namespace {

Redaction Made(Replacing how) {
  RedactionSettings settings;
  settings.key = "key";
  settings.pii = kAllPii;
  for (const std::string_view name : kPiiNames) settings.operators[std::string(name)] = {how, "x\"y", 4};
  for (const std::string_view name : SecretEntities()) settings.operators[std::string(name)] = {how, "", 4};
  return Redaction(std::move(settings));
}

bool IsJson(std::string_view text) {
  simdjson::dom::parser parser;
  return parser.parse(text.data(), text.size()).error() == simdjson::SUCCESS;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Redaction redactions[] = {Made(Replacing::kName), Made(Replacing::kText), Made(Replacing::kMask),
                                         Made(Replacing::kHash), Made(Replacing::kSurrogate)};
  fuzz::Input input(data, size);
  const Redaction& redaction = redactions[input.Byte() % std::size(redactions)];
  const std::string before = input.Part();
  const std::string text(input.Rest());
  std::vector<Finding> findings, secrets;
  const bool found = redaction.Find(text, before, findings);
  fuzz::Require(found == !findings.empty());
  std::size_t end = 0;
  for (const Finding& one : findings) {
    fuzz::Require(one.begin >= end && one.begin < one.end && one.end <= text.size());
    end = one.end;
  }
  if (SurelyNoSecret(text)) fuzz::Require(!FindSecrets(text, secrets));
  fuzz::Require(redaction.Redact(text, before).has_value() == found);
  const auto json = redaction.RedactJson(text);
  if (json && IsJson(text)) fuzz::Require(IsJson(*json));
  return 0;
}
