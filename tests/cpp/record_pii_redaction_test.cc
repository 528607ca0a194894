// What takes the place of what was found, and the keyed hash behind it.
#include <gtest/gtest.h>

#include <string>

#include "base/sha256.h"
#include "record/redaction.h"

namespace spanbox {
namespace {

std::string Hex(const Sha256Digest& digest) {
  std::string hex;
  for (const std::byte byte : digest) {
    hex += "0123456789abcdef"[std::to_integer<unsigned>(byte) >> 4];
    hex += "0123456789abcdef"[std::to_integer<unsigned>(byte) & 15];
  }
  return hex;
}

Redaction Of(PiiSet pii, std::string_view entity = {}, Operator one = {}, RedactionSettings::Call call = nullptr) {
  RedactionSettings settings{.pii = pii, .key = "the key of a test", .call = std::move(call)};
  if (!entity.empty()) settings.operators[std::string(entity)] = std::move(one);
  return Redaction(std::move(settings));
}

TEST(Sha256Test, DigestsAreThoseOfTheStandard) {
  EXPECT_EQ(Hex(Sha256({})), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Hex(Sha256(std::as_bytes(std::span("abc", 3)))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const std::string million(1'000'000, 'a');
  EXPECT_EQ(Hex(Sha256(std::as_bytes(std::span(million)))),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  EXPECT_EQ(Hex(HmacSha256("Jefe", "what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(Hex(HmacSha256(std::string(131, '\xaa'), "Test Using Larger Than Block-Size Key - Hash Key First")),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

TEST(RedactionTest, SecretAndPersonalDataThatOverlapAreOne) {
  const Redaction redaction = Of(kUsualPii);
  EXPECT_EQ(redaction.Redact("password=ann7@example.com and 4990695848304011"),
            "password=[redacted:named_secret] and [redacted:credit_card]");
  EXPECT_EQ(redaction.Redact("nothing here"), std::nullopt);
}

TEST(RedactionTest, CallThatFailsLeavesTheName) {
  const auto fails = [](std::string_view, std::string_view) -> std::optional<std::string> { return std::nullopt; };
  const Redaction redaction = Of(Bit(Pii::kEmailAddress), "email_address", {.how = Replacing::kCall}, fails);
  EXPECT_EQ(redaction.Redact("to ann@example.com"), "to [redacted:email_address]");
}

TEST(RedactionTest, JsonStaysJson) {
  const Redaction redaction = Of(kUsualPii);
  EXPECT_EQ(
      redaction.RedactJson(R"({"phone":"4155551234","n":4990695848304011,"a@b.example":["x\n905-674-3793"]})"),
      R"({"phone":"[redacted:phone_number]","n":4990695848304011,"[redacted:email_address]":["x\n[redacted:phone_number]"]})");
  EXPECT_EQ(redaction.RedactJson(R"({"api_key":"a7Qd9fKe21","n":1})"),
            R"({"api_key":"[redacted:named_secret]","n":1})");
  EXPECT_EQ(redaction.RedactJson(R"({"a":"b"})"), std::nullopt);
  const Redaction quotes = Of(Bit(Pii::kEmailAddress), "email_address", {.how = Replacing::kText, .text = "\"\\"});
  EXPECT_EQ(quotes.RedactJson(R"(["a@b.example"])"), R"(["  "])");
  for (const std::string_view broken : {"\"", "\"\\", "{\"a@b.example", "\"a@b.example\\\""}) {
    (void)redaction.RedactJson(broken);
  }
}

}  // namespace
}  // namespace spanbox
