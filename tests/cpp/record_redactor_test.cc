// Secrets are found in whatever text they stand in, and nothing else is.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "record/redactor.h"
#include "record/secret_names.h"
#include "record/text_blocks64.h"

namespace spanbox {
namespace {

std::string Redact(std::string_view text) {
  std::vector<Finding> findings;
  FindSecrets(text, findings);
  return Redacted(text, findings);
}

class Maker {
 public:
  explicit Maker(std::uint64_t seed) : random_(seed) {}
  // A digit and a letter at least, as in any real key.
  std::string Of(std::string_view characters, std::size_t n) {
    std::string text;
    for (std::size_t i = 0; i < n; ++i) text += characters[random_() % characters.size()];
    if (n > 8) text[n / 2] = '7', text[n / 2 + 1] = characters.find('a') == std::string_view::npos ? 'Q' : 'a';
    return text;
  }
  std::string Hex(std::size_t n) { return Of("0123456789abcdef", n); }
  std::string Upper(std::size_t n) { return Of("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", n); }
  std::string Alnum(std::size_t n) { return Of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", n); }
  std::string Word(std::size_t n) { return Of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", n); }
  std::string Uuid() { return Hex(8) + "-" + Hex(4) + "-4" + Hex(3) + "-a" + Hex(3) + "-" + Hex(12); }

 private:
  std::mt19937_64 random_;
};

// Keys as their makers write them.
std::vector<std::string> SomeKeys(std::uint64_t seed) {
  Maker make(seed);
  return {
      "sk-" + make.Alnum(48),
      "sk-proj-" + make.Word(100),
      "sk-svcacct-" + make.Word(60),
      "sk-admin-" + make.Word(60),
      "sk-ant-api03-" + make.Word(93) + "AA",
      "sk-or-v1-" + make.Hex(64),
      "sk-lf-" + make.Uuid(),
      "sk-" + make.Hex(32),
      "hf_" + make.Alnum(34),
      "gsk_" + make.Alnum(52),
      "xai-" + make.Alnum(80),
      "r8_" + make.Alnum(37),
      "pplx-" + make.Alnum(48),
      "nvapi-" + make.Word(64),
      "tgp_v1_" + make.Word(43),
      "pcsk_" + make.Word(70),
      "tvly-" + make.Alnum(32),
      "lsv2_pt_" + make.Hex(32) + "_" + make.Hex(10),
      "AKIA" + make.Upper(16),
      "ASIA" + make.Upper(16),
      "AIza" + make.Word(35),
      "GOCSPX-" + make.Word(28),
      "ya29." + make.Word(100),
      "dop_v1_" + make.Hex(64),
      "LTAI" + make.Alnum(20),
      "dapi" + make.Hex(32),
      "ghp_" + make.Alnum(36),
      "gho_" + make.Alnum(36),
      "ghu_" + make.Alnum(36),
      "ghs_" + make.Alnum(36),
      "ghr_" + make.Alnum(36),
      "github_pat_" + make.Alnum(22) + "_" + make.Alnum(59),
      "glpat-" + make.Word(20),
      "npm_" + make.Alnum(36),
      "pypi-AgEI" + make.Word(150),
      "rubygems_" + make.Hex(48),
      "dckr_pat_" + make.Word(27),
      "CCIPAT_" + make.Alnum(22) + "_" + make.Hex(40),
      "sk_live_" + make.Alnum(24),
      "rk_live_" + make.Alnum(24),
      "sk_test_" + make.Alnum(24),
      "whsec_" + make.Alnum(32),
      "sq0atp-" + make.Word(22),
      "shpat_" + make.Hex(32),
      "xoxb-123456789012-1234567890123-" + make.Alnum(24),
      "xoxp-123456789012-123456789012-123456789012-" + make.Hex(32),
      "xoxa-2-" + make.Alnum(40),
      "xoxr-" + make.Alnum(40),
      "xapp-1-A0" + make.Upper(9) + "-1234567890123-" + make.Hex(64),
      "SG." + make.Word(22) + "." + make.Word(43),
      "SK" + make.Hex(32),
      "key-" + make.Hex(32),
      "xkeysib-" + make.Hex(64) + "-" + make.Alnum(16),
      "ntn_" + make.Alnum(46),
      "lin_api_" + make.Alnum(40),
      "figd_" + make.Word(40),
      "pat" + make.Alnum(14) + "." + make.Hex(64),
      "ATATT3" + make.Word(180),
      "glsa_" + make.Alnum(32) + "_" + make.Hex(8),
      "NRAK-" + make.Upper(27),
      "hvs." + make.Word(90),
      "dp.pt." + make.Alnum(43),
      "sntrys_" + make.Alnum(100),
      "PMAK-" + make.Hex(24) + "-" + make.Hex(34),
      "tskey-auth-" + make.Alnum(12) + "-" + make.Alnum(32),
      "eyJhbGciOiJIUzI1NiJ9.eyJ" + make.Alnum(60) + "." + make.Word(43),
      "1234567890:AA" + make.Word(33),
      "AGE-SECRET-KEY-1" + make.Of("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58),
  };
}

const std::vector<std::pair<std::string, std::string>>& Contexts() {
  static const std::vector<std::pair<std::string, std::string>> contexts = {
      {"", ""},
      {"my key is ", ", please use it"},
      {"use ", "."},
      {R"({"key": ")", R"("})"},
      {R"({\"nested\": {\"value\": \")", R"(\"}})"},
      {"Authorization: Bearer ", "\r\nAccept: */*"},
      {"x-api-key: ", "\n"},
      {"curl -H 'X-Auth: ", "' https://example.com"},
      {"https://example.com/v1?key=", "&alt=json"},
      {"https://example.com/v1?a=b%20", ""},
      {"https://user:x@example.com/#", ""},
      {"export SOME_VALUE=", "; run"},
      {"ValueError: Incorrect API key provided: ", ". You can find"},
      {"File \"app.py\", line 3, in call\n    client = Client('", "')"},
      {"[", "]"},
      {"<", ">"},
      {"(", ")"},
      {"line one\\n", "\\nline two"},
      {"caf\xC3\xA9 \xE2\x80\x9C", "\xE2\x80\x9D"},
      {"a,b,", ",c"},
  };
  return contexts;
}

TEST(RedactorTest, FindsPlantedKeysInEveryContext) {
  int planted = 0, found = 0;
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    for (const std::string& key : SomeKeys(seed)) {
      for (const auto& [before, after] : Contexts()) {
        const std::string text = before + key + after;
        const std::string redacted = Redact(text);
        ++planted;
        // No twelve characters of the key may be left.
        bool left = redacted.find(key.substr(key.size() - 12)) != std::string::npos;
        left |= redacted.find(key.substr(4, 14)) != std::string::npos;
        found += !left;
        EXPECT_FALSE(left) << text << "\n" << redacted;
        EXPECT_TRUE(redacted.ends_with(after)) << redacted;
      }
    }
  }
  EXPECT_GE(planted, 1200);
  EXPECT_EQ(found, planted);
}

TEST(RedactorTest, FindsKeysAtEveryOffsetFromABlock) {
  const std::string key = "ghp_" + Maker(1).Alnum(36);
  const std::string pem = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----";
  for (std::size_t n = 0; n < 200; ++n) {
    const std::string filler(n, '.');
    EXPECT_EQ(Redact(filler + key + " tail"), filler + "[redacted:github_token] tail");
    EXPECT_EQ(Redact(filler + pem + " tail"), filler + "[redacted:private_key] tail");
    EXPECT_EQ(Redact(filler + "password=hunter2!x"), filler + "password=[redacted:named_secret]");
  }
}

TEST(RedactorTest, FindsPasswordsInAddresses) {
  for (const std::string_view scheme :
       {"postgres", "postgresql+psycopg", "mysql", "mongodb+srv", "redis", "amqp", "https", "ftp"}) {
    const std::string text = std::string(scheme) + "://admin:Tr0ub4dor&3@db.internal:5432/x";
    EXPECT_EQ(Redact(text), std::string(scheme) + "://admin:[redacted:url_password]@db.internal:5432/x");
  }
  EXPECT_EQ(Redact("redis://:s3cret@cache:6379/0"), "redis://:[redacted:url_password]@cache:6379/0");
  for (const std::string_view text :
       {"https://example.com:8080/a@b", "see https://example.com/@user", "postgres://user:${PASSWORD}@host/x",
        "postgres://user:<password>@host/x", "mailto:a@b.c", "ssh://git@github.com:22/x"}) {
    EXPECT_EQ(Redact(text), text);
  }
}

TEST(RedactorTest, FindsValuesOfSecretNames) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"password=hunter2", "password=[redacted:named_secret]"},
      {"password: hunter2, user: bob", "password: [redacted:named_secret], user: bob"},
      {R"({"db_password": "c0rrect horse"})", R"({"db_password": "[redacted:named_secret]"})"},
      {R"({\"apiKey\": \"0f9e8d7c6b5a\"})", R"({\"apiKey\": \"[redacted:named_secret]\"})"},
      {"AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
       "AWS_SECRET_ACCESS_KEY=[redacted:named_secret]"},
      {"AccountKey=Zm9v1YmFyZm9vYmFyZm9vYmFy+/x==;Endpoint", "AccountKey=[redacted:named_secret];Endpoint"},
      {"Cookie: sid=abc123def; theme=dark\r\nHost: x", "Cookie: [redacted:named_secret]\r\nHost: x"},
      {"Authorization: Basic dXNlcjpwYXNz1\nHost: x", "Authorization: [redacted:named_secret]\nHost: x"},
      {"https://x.com/cb?access_token=abc12345&state=1",
       "https://x.com/cb?access_token=[redacted:named_secret]&state=1"},
      {"headers['x-api-key'] = 'k3y-value-1'", "headers['x-api-key'] = '[redacted:named_secret]'"},
  };
  for (const auto& [text, redacted] : cases) EXPECT_EQ(Redact(text), redacted);
}

TEST(RedactorTest, LeavesOrdinaryTextAlone) {
  for (const std::string_view text : {
           "Tell me about sk-learn-based-classification-pipelines-for-text",
           "password: must be at least eight characters",
           "token = tokenizer.next_token(ids[0], 12)",
           "max_tokens=4096, next_page_token=abc123def456",
           "api_key = os.environ['OPENAI_API_KEY_2']",
           "password = getpass('Password 1: ')",
           "{\"max_tokens\": 4096, \"token_count\": 12345678, \"model\": \"gpt-4o-2024-08-06\"}",
           "trace 4bf92f3577b34da6a3ce929d0e0e4736 span 00f067aa0ba902b7",
           "call_abc123DEF456ghi789JKL012 chatcmpl-9aBcDeFgHiJkLmNoPqRsTuVwXyZ01",
           "550e8400-e29b-41d4-a716-446655440000",
           "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
           "-----------------------------------------------",
           "https://en.wikipedia.org/wiki/Raymond_III,_Count_of_Tripoli",
           "Authorization: Bearer <token>",
           "secret = \"\"",
           "std::string password_hint = \"x1y2z3a4\"",
       }) {
    EXPECT_EQ(Redact(text), text);
  }
}

TEST(RedactorTest, KeepsTheBytesAroundFindings) {
  const std::string text = "a\xFF\xC3 password=hunter2 \xE4\xBD\xA0 ghp_" + Maker(2).Alnum(36) + "\xF0\x9F";
  EXPECT_EQ(Redact(text), "a\xFF\xC3 password=[redacted:named_secret] \xE4\xBD\xA0 [redacted:github_token]\xF0\x9F");
}

TEST(RedactorTest, FindingsAreInOrderAndApartOnRandomText) {
  constexpr std::string_view kPieces[] = {"sk-",  "ghp_", "eyJ", ".",  "-----", "BEGIN ", "PRIVATE KEY", "password",
                                          "=",    ":",    "\"",  "\\", "//",    "@",      " ",           "A1b2C3d4E5f6",
                                          "\xC3", "_",    "-",   "%2"};
  std::mt19937_64 random(7);
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (std::uint64_t n = random() % 60; n > 0; --n) text += kPieces[random() % std::size(kPieces)];
    std::vector<Finding> findings;
    FindSecrets(text, findings);
    std::size_t done = 0;
    for (const Finding& finding : findings) {
      ASSERT_GE(finding.begin, done) << text;
      ASSERT_GT(finding.end, finding.begin) << text;
      ASSERT_LE(finding.end, text.size()) << text;
      done = finding.end;
    }
  }
}

TEST(RedactorTest, EveryWayOfClassifyingGivesTheSameMasks) {
  std::string text;
  for (int i = 0; i < 256; ++i) text += static_cast<char>(i);
  for (std::size_t at = 0; at < text.size(); at += kBlockBytes) {
    const BlockMasks expected = ClassifyByTable(text.data() + at);
#if defined(__x86_64__)
    const BlockMasks sse2 = ClassifySse2(text.data() + at);
    EXPECT_EQ(std::tie(sse2.key, sse2.assign, sse2.dash), std::tie(expected.key, expected.assign, expected.dash));
    if (!__builtin_cpu_supports("avx2")) continue;
    const BlockMasks avx2 = ClassifyAvx2(text.data() + at);
    EXPECT_EQ(std::tie(avx2.key, avx2.assign, avx2.dash), std::tie(expected.key, expected.assign, expected.dash));
    if (!__builtin_cpu_supports("avx512bw")) continue;
    const BlockMasks avx512 = ClassifyAvx512(text.data() + at);
    EXPECT_EQ(std::tie(avx512.key, avx512.assign, avx512.dash), std::tie(expected.key, expected.assign, expected.dash));
#endif
  }
}

TEST(RedactorTest, KnowsSixtyFormatsAtLeast) { EXPECT_GE(SecretEntities().size(), 60u); }

TEST(SecretNamesTest, SecretNamesAreKnown) {
  for (const std::string_view name : {"api_key",
                                      "apikey",
                                      "apiKey",
                                      "APIKey",
                                      "API_KEY",
                                      "x-api-key",
                                      "X-Api-Key",
                                      "openai_api_key",
                                      "OPENAI_API_KEY",
                                      "azureOpenaiApiKey",
                                      "authorization",
                                      "Authorization",
                                      "Proxy-Authorization",
                                      "password",
                                      "Password",
                                      "db_password",
                                      "userPassword",
                                      "PGPASSWORD_password",
                                      "passwd",
                                      "pwd",
                                      "passphrase",
                                      "secret",
                                      "client_secret",
                                      "clientSecret",
                                      "secret_key",
                                      "AWS_SECRET_ACCESS_KEY",
                                      "aws_secret_access_key",
                                      "token",
                                      "access_token",
                                      "accessToken",
                                      "refresh_token",
                                      "id_token",
                                      "auth_token",
                                      "bearer_token",
                                      "GITHUB_TOKEN",
                                      "hf_token",
                                      "session_token",
                                      "X-Amz-Security-Token",
                                      "csrf_token",
                                      "cookie",
                                      "Cookie",
                                      "cookies",
                                      "Set-Cookie",
                                      "private_key",
                                      "privateKey",
                                      "ssh_key",
                                      "signing_key",
                                      "subscription-key",
                                      "AccountKey",
                                      "credentials",
                                      "google_credentials",
                                      "auth",
                                      "jwt",
                                      "webhook_secret",
                                      "x_goog_api_key"}) {
    EXPECT_TRUE(IsSecretName(name)) << name;
  }
}

TEST(SecretNamesTest, OtherNamesAreNone) {
  for (const std::string_view name : {"max_tokens",
                                      "maxTokens",
                                      "token_count",
                                      "input_tokens",
                                      "output_tokens",
                                      "total_tokens",
                                      "next_page_token",
                                      "nextPageToken",
                                      "page_token",
                                      "continuation_token",
                                      "eos_token",
                                      "bos_token",
                                      "pad_token",
                                      "first_token",
                                      "time_to_first_token",
                                      "stop_token",
                                      "tokens",
                                      "tokenizer",
                                      "token_ids",
                                      "author",
                                      "authors",
                                      "authority",
                                      "key",
                                      "keys",
                                      "primary_key",
                                      "public_key",
                                      "cache_key",
                                      "prompt_cache_key",
                                      "sort_key",
                                      "idempotency_key",
                                      "access_key_id",
                                      "password_hint",
                                      "secretary",
                                      "secret_santa",
                                      "description",
                                      "function",
                                      "messages",
                                      "choices",
                                      "keyboard",
                                      "monkey",
                                      "turkey",
                                      "broken",
                                      "",
                                      "k",
                                      "id",
                                      "input",
                                      "output",
                                      "model",
                                      "record",
                                      "word",
                                      "keyword",
                                      "code",
                                      "mode",
                                      "episode",
                                      "session",
                                      "session_id",
                                      "expression",
                                      "passion",
                                      "forward"}) {
    EXPECT_FALSE(IsSecretName(name)) << name;
  }
}

// The quick answer is never wrong: what it lets pass, the whole search lets pass too.
TEST(RedactorTest, QuickAnswerAgreesWithTheSearch) {
  std::mt19937 random(20);
  constexpr std::string_view kAlphabet = "abcXYZ019 -_=:./,\"'+@\n";
  constexpr std::string_view kBegins[] = {"", "sk-", "AKIA", "ghp_", "password=", "Bearer ", "token: ", "-----BEGIN "};
  std::vector<Finding> findings;
  int passed = 0;
  for (int i = 0; i < 300'000; ++i) {
    std::string text(kBegins[random() % std::size(kBegins)]);
    const bool wordy = random() % 2 == 0;
    for (const std::size_t size = random() % 36; text.size() < size;) {
      text += wordy && random() % 5 == 0 ? ' ' : kAlphabet[random() % (wordy ? 9 : kAlphabet.size())];
    }
    if (!SurelyNoSecret(text)) continue;
    ++passed;
    findings.clear();
    ASSERT_FALSE(FindSecrets(text, findings)) << text;
  }
  EXPECT_GT(passed, 50'000);  // it does answer
}

}  // namespace
}  // namespace spanbox
