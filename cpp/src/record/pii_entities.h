// The kinds of personal data that are found by pattern, by Presidio's names in lower case.
//
// Thread rule: constants and pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace spanbox {

enum class Pii : std::uint8_t {
  kCreditCard,
  kCrypto,
  kDateTime,
  kEmailAddress,
  kIbanCode,
  kIpAddress,
  kMacAddress,
  kMedicalLicense,
  kPhoneNumber,
  kUrl,
  kAbaRoutingNumber,
  kUsBankNumber,
  kUsDriverLicense,
  kUsItin,
  kUsMbi,
  kUsPassport,
  kUsSsn,
  kUkNhs,
  kUkNino,
  kEsNie,
  kEsNif,
  kItDriverLicense,
  kItFiscalCode,
  kItIdentityCard,
  kItPassport,
  kItVatCode,
  kPlPesel,
  kSgNricFin,
  kSgUen,
  kAuAbn,
  kAuAcn,
  kAuMedicare,
  kAuTfn,
  kInAadhaar,
  kInGstin,
  kInPan,
  kInPassport,
  kInVehicleRegistration,
  kInVoter,
  kFiPersonalIdentityCode,
  kKrBrn,
  kKrDriverLicense,
  kKrFrn,
  kKrPassport,
  kKrRrn,
  kThTnin,
};

inline constexpr std::string_view kPiiNames[] = {"credit_card",
                                                 "crypto",
                                                 "date_time",
                                                 "email_address",
                                                 "iban_code",
                                                 "ip_address",
                                                 "mac_address",
                                                 "medical_license",
                                                 "phone_number",
                                                 "url",
                                                 "aba_routing_number",
                                                 "us_bank_number",
                                                 "us_driver_license",
                                                 "us_itin",
                                                 "us_mbi",
                                                 "us_passport",
                                                 "us_ssn",
                                                 "uk_nhs",
                                                 "uk_nino",
                                                 "es_nie",
                                                 "es_nif",
                                                 "it_driver_license",
                                                 "it_fiscal_code",
                                                 "it_identity_card",
                                                 "it_passport",
                                                 "it_vat_code",
                                                 "pl_pesel",
                                                 "sg_nric_fin",
                                                 "sg_uen",
                                                 "au_abn",
                                                 "au_acn",
                                                 "au_medicare",
                                                 "au_tfn",
                                                 "in_aadhaar",
                                                 "in_gstin",
                                                 "in_pan",
                                                 "in_passport",
                                                 "in_vehicle_registration",
                                                 "in_voter",
                                                 "fi_personal_identity_code",
                                                 "kr_brn",
                                                 "kr_driver_license",
                                                 "kr_frn",
                                                 "kr_passport",
                                                 "kr_rrn",
                                                 "th_tnin"};
inline constexpr std::size_t kPiiCount = std::size(kPiiNames);
static_assert(kPiiCount == static_cast<std::size_t>(Pii::kThTnin) + 1 && kPiiCount < 64);

constexpr std::string_view NameOf(Pii entity) { return kPiiNames[static_cast<std::size_t>(entity)]; }

// A set of them: a bit each.
using PiiSet = std::uint64_t;
constexpr PiiSet Bit(Pii entity) { return PiiSet{1} << static_cast<unsigned>(entity); }
inline constexpr PiiSet kAllPii = (PiiSet{1} << kPiiCount) - 1;
// Dates and addresses of pages are in nearly every text, and of nobody in most.
inline constexpr PiiSet kUsualPii = kAllPii & ~Bit(Pii::kDateTime) & ~Bit(Pii::kUrl);

constexpr std::optional<Pii> PiiNamed(std::string_view name) {
  for (std::size_t i = 0; i < kPiiCount; ++i) {
    if (kPiiNames[i] == name) return static_cast<Pii>(i);
  }
  return std::nullopt;
}

}  // namespace spanbox
