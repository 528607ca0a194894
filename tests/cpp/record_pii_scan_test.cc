// Personal data is found in whatever text it stands in, and ordinary numbers are left alone. The numbers with checksums
// are of nobody: an independent library drew them.
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "record/pii_checks.h"
#include "record/pii_scan.h"

namespace spanbox {
namespace {

struct Example {
  std::string_view entity, number, spoken;  // `spoken`: words that have to stand before it; empty: none
};

constexpr Example kExamples[] = {
    {"credit_card", "4990695848304011", ""},
    {"credit_card", "4990 6958 4830 4011", ""},
    {"credit_card", "4990-6958-4830-4011", ""},
    {"credit_card", "347415977307943", ""},
    {"credit_card", "3474 159773 07943", ""},
    {"credit_card", "630427373398", ""},
    {"crypto", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", ""},
    {"crypto", "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy", ""},
    {"crypto", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", ""},
    {"crypto", "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0", ""},
    {"date_time", "2024-03-09", ""},
    {"date_time", "2024-03-09T12:30:00Z", ""},
    {"date_time", "9/3/2024", ""},
    {"date_time", "09.03.2024", ""},
    {"date_time", "March 9, 2024", ""},
    {"date_time", "9 March 2024", ""},
    {"email_address", "john.doe+x@mail.example.co.uk", ""},
    {"email_address", "j4155551234@example.com", ""},
    {"iban_code", "GB82WEST12345698765432", ""},
    {"iban_code", "DE89 3704 0044 0532 0130 00", ""},
    {"iban_code", "FR1420041010050500013M02606", ""},
    {"ip_address", "203.0.113.77", ""},
    {"ip_address", "2001:db8:85a3::8a2e:370:7334", ""},
    {"ip_address", "fe80::1ff:fe23:4567:890a", ""},
    {"mac_address", "3c:22:fb:a1:b2:c3", ""},
    {"mac_address", "AC-22-FB-A1-B2-C3", ""},
    {"medical_license", "AB1234563", ""},
    {"phone_number", "+46 (0)157 548 89", ""},
    {"phone_number", "905-674-3793", ""},
    {"phone_number", "(212) 555-0142", ""},
    {"phone_number", "+1-903-140-4508x769", ""},
    {"phone_number", "03.93.92.16.85", ""},
    {"phone_number", "9472 7916", "my phone is "},
    {"phone_number", "9498777106", "Call me at "},
    {"url", "https://example.com/a?b=c", ""},
    {"aba_routing_number", "021000021", "routing number "},
    {"us_bank_number", "945456787654", "bank account "},
    {"us_driver_license", "H12234567", "driver's license: "},
    {"us_itin", "921-88-5851", ""},
    {"us_itin", "921885851", "my ITIN is "},
    {"us_mbi", "1EG4-TE5-MK73", ""},
    {"us_passport", "912803456", "passport number "},
    {"us_ssn", "726-01-9824", ""},
    {"us_ssn", "726019824", "\"ssn\": \""},
    {"uk_nhs", "868 307 8485", "her NHS number is "},
    {"uk_nino", "AB 12 34 56 C", ""},
    {"uk_nino", "ab123456c", ""},
    {"es_nif", "36269987-E", ""},
    {"es_nif", "04349886B", ""},
    {"es_nie", "Y-7139762-R", ""},
    {"es_nie", "Y6727045L", ""},
    {"it_driver_license", "AA1234567B", "patente "},
    {"it_fiscal_code", "WMXIVF54L60G613J", ""},
    {"it_identity_card", "AA12345BB", "carta d'identita "},
    {"it_passport", "YA1234567", "passaporto "},
    {"it_vat_code", "36957470168", "P. IVA "},
    {"pl_pesel", "78323029682", ""},
    {"sg_nric_fin", "S1234567D", ""},
    {"sg_uen", "T04MB8377B", ""},
    {"sg_uen", "35387204X", "UEN "},
    {"au_abn", "35 841 171 736", ""},
    {"au_acn", "032 378 608", "ACN "},
    {"au_medicare", "2123 45670 1", "Medicare card "},
    {"au_tfn", "126 026 521", "TFN: "},
    {"in_aadhaar", "5493 5333 7058", ""},
    {"in_aadhaar", "824030016585", "aadhaar_number="},
    {"in_gstin", "27IPRPE8014H1ZJ", ""},
    {"in_pan", "THJPJ6622Q", ""},
    {"in_passport", "A2096457", "passport "},
    {"in_vehicle_registration", "MH 12 DE 1433", ""},
    {"in_voter", "ABC1234567", "voter id "},
    {"fi_personal_identity_code", "230554-706K", ""},
    {"fi_personal_identity_code", "131052A308T", ""},
    {"kr_brn", "124-81-00998", ""},
    {"kr_driver_license", "11-22-123456-90", ""},
    {"kr_frn", "900101-5111576", ""},
    {"kr_passport", "M123A4567", "passport "},
    {"kr_rrn", "900105-1111576", ""},
    {"th_tnin", "1-5432-19486-68-5", ""},
};

std::string Found(std::string_view text, std::string_view before = {}, PiiSet wanted = kAllPii) {
  std::vector<Finding> findings;
  FindPii(text, before, wanted, findings);
  std::string shown;
  for (const Finding& finding : findings) {
    shown.append(finding.entity)
        .append(" ")
        .append(text.substr(finding.begin, finding.end - finding.begin))
        .append(";");
  }
  return shown;
}

std::string Expected(const Example& example) {
  return std::string(example.entity) + " " + std::string(example.number) + ";";
}

TEST(PiiScanTest, EveryEntityIsFoundWhereverItStands) {
  constexpr std::pair<std::string_view, std::string_view> kAround[] = {
      {"", ""}, {"It is ", ", I think."}, {"(", ")"}, {"\"", "\"}"}, {"line\\n", "\\nnext"}, {"<b>", "</b>"}};
  for (const Example& example : kExamples) {
    for (const auto& [before, after] : kAround) {
      for (const std::size_t filler : {0, 20, 57}) {  // across the blocks of 64 bytes
        const std::string text = std::string(filler, ' ') + std::string(before) + std::string(example.spoken) +
                                 std::string(example.number) + std::string(after);
        EXPECT_EQ(Found(text), Expected(example)) << text;
      }
    }
  }
}

TEST(PiiScanTest, EveryEntityHasAnExample) {
  PiiSet seen = 0;
  for (const Example& example : kExamples) seen |= Bit(PiiNamed(example.entity).value());
  EXPECT_EQ(seen, kAllPii);
}

TEST(PiiScanTest, WordsAreWantedWhereNumbersAreMany) {
  for (const Example& example : kExamples) {
    if (example.spoken.empty()) continue;
    EXPECT_EQ(Found("order " + std::string(example.number)).find(std::string(example.entity) + " "), std::string::npos)
        << example.number;
  }
}

TEST(PiiScanTest, KeyOfAValueSpeaksOfIt) {
  EXPECT_EQ(Found("4155551234"), "");
  EXPECT_EQ(Found("4155551234", "\xA5phone\xAA"), "phone_number 4155551234;");
  EXPECT_EQ(Found("4155551234", "userPhoneNumber"), "phone_number 4155551234;");
  EXPECT_EQ(Found("912803456", "passport_no\xA9"), "us_passport 912803456;");
}

TEST(PiiScanTest, OnlyWhatIsWantedIsFound) {
  const std::string text = "john@example.com, 726-01-9824";
  EXPECT_EQ(Found(text, {}, Bit(Pii::kUsSsn)), "us_ssn 726-01-9824;");
  EXPECT_EQ(Found(text, {}, Bit(Pii::kEmailAddress)), "email_address john@example.com;");
  EXPECT_EQ(Found(text, {}, 0), "");
}

TEST(PiiScanTest, OrdinaryNumbersAreLeftAlone) {
  for (const std::string_view text : {"550e8400-e29b-41d4-a716-446655440000",
                                      "1700000000000",
                                      "1700000000123456",
                                      "3.141592653589793238",
                                      "order W2378156 of 2024",
                                      "v1.2.3.4",
                                      "Chrome/120.0.0.0",
                                      "127.0.0.1:8000",
                                      "std::vector<int>",
                                      "a::b",
                                      "12:30:45",
                                      "4990695848304012",
                                      "GB82WEST12345698765431",
                                      "0000000000",
                                      "1,234,567,890",
                                      "$ 4155551234",
                                      "commit 5f0a3c9d2b7e4f6a8c1d0e9b3a5c7f2d4e6b8a90",
                                      "tests/test_refund.py::test_limit[415]",
                                      "user@localhost",
                                      "pkg@1.2.3",
                                      "@observe",
                                      "git@github.com:a/b.git",
                                      "000-12-3456",
                                      "666-12-3456",
                                      "900-12-3456",
                                      "192.168.300.1",
                                      "2001:db8",
                                      "S1234567A",
                                      "36269987-A",
                                      "111.111.111.111.111",
                                      "100 200 300 400",
                                      "rows 1000 to 2000",
                                      "8080 9090",
                                      "item_id 4725678901"}) {
    EXPECT_EQ(Found(text, {}, kUsualPii), "") << text;
  }
}

TEST(PiiScanTest, WhatIsFoundLaterMayHoldWhatWasFoundBefore) {
  EXPECT_EQ(Found("7260198241@x.org"), "email_address 7260198241@x.org;");
  EXPECT_EQ(Found("905-674-3793@x.org"), "email_address 905-674-3793@x.org;");
  EXPECT_EQ(Found("https://x.org/u/4990695848304011?ip=203.0.113.77"),
            "url https://x.org/u/4990695848304011?ip=203.0.113.77;");
}

TEST(PiiScanTest, AnyBytesGiveOrderedFindingsWithin) {
  std::mt19937_64 random(11);
  constexpr std::string_view kCommon = "0123456789-. ()+@:/ABab\\%,\xC3";
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    const std::size_t size = random() % 300;
    while (text.size() < size) {
      if (random() % 12 == 0) {
        text += std::data(kExamples)[random() % std::size(kExamples)].number;
      } else {
        text += random() % 20 == 0 ? static_cast<char>(random()) : kCommon[random() % kCommon.size()];
      }
    }
    std::vector<Finding> findings;
    FindPii(text, text, kAllPii, findings);
    std::size_t end = 0;
    for (const Finding& finding : findings) {
      ASSERT_LE(end, finding.begin);
      ASSERT_LT(finding.begin, finding.end);
      ASSERT_LE(finding.end, text.size());
      end = finding.end;
    }
  }
}

TEST(PiiChecksTest, ChangingOneDigitBreaksEveryChecksum) {
  const std::pair<PiiCheck, std::string> kWithChecksum[] = {
      {IsCardNumber, "4990695848304011"}, {IsUkNhs, "8683078485"},     {IsEsNif, "36269987E"},
      {IsPlPesel, "78323029682"},         {IsAuAbn, "18887423378"},    {IsAuTfn, "126026521"},
      {IsInAadhaar, "824030016585"},      {IsThTnin, "1995484158541"}, {IsIban, "GB82WEST12345698765432"},
      {IsAbaRouting, "021000021"},        {IsKrBrn, "2208162517"}};
  for (const auto& [check, number] : kWithChecksum) {
    EXPECT_TRUE(check(number)) << number;
    for (std::size_t i = 4; i < number.size(); ++i) {
      if (number[i] < '0' || number[i] > '9') continue;
      std::string other = number;
      other[i] = other[i] == '9' ? '0' : static_cast<char>(other[i] + 1);
      EXPECT_FALSE(check(other)) << other;
    }
  }
}

}  // namespace
}  // namespace spanbox
