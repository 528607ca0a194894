// What numbers of persons and accounts look like, and the words that speak of them.
//
// Thread rule: constants.
#pragma once

#include <cstdint>
#include <string_view>

#include "record/pii_checks.h"
#include "record/pii_entities.h"

namespace spanbox {

// When a text of the right shape is one.
enum class When : std::uint8_t {
  kAlways,    // shape and check say enough
  kParted,    // when it is written with its separators; bare, a word must speak of it
  kSpokenOf,  // a word must speak of it
};

// In a shape '9' is a digit, 'A' a letter, 'X' either; '-' a separator (space, '-', '.') that may be missing, or
// '/' and '+' themselves, which may not.
struct PiiPattern {
  Pii entity;
  std::string_view shape;
  When when;
  PiiCheck check = nullptr;
  std::uint8_t more = 0;  // so many more characters of the last kind may follow
};

// Earlier ones win over later ones that cover as much.
inline constexpr PiiPattern kPiiPatterns[] = {
    {Pii::kCreditCard, "9999-9999-9999-9999", When::kAlways, IsCardNumber, 3},
    {Pii::kCreditCard, "9999-999999-99999", When::kAlways, IsCardNumber},
    {Pii::kCreditCard, "9999-999999-9999", When::kAlways, IsCardNumber},
    {Pii::kCreditCard, "999999999999", When::kAlways, IsCardNumber, 1},
    {Pii::kMacAddress, "XX-XX-XX-XX-XX-XX", When::kParted, IsHexadecimal},
    {Pii::kUsSsn, "999-99-9999", When::kParted, IsUsSsn},
    {Pii::kUsItin, "999-99-9999", When::kParted, IsUsItin},
    {Pii::kUsMbi, "9XX9-XX9-XX99", When::kAlways, IsUsMbi},
    {Pii::kUsPassport, "999999999", When::kSpokenOf},
    {Pii::kUsPassport, "A99999999", When::kSpokenOf},
    {Pii::kUsDriverLicense, "A999999", When::kSpokenOf, nullptr, 8},
    {Pii::kUsDriverLicense, "A999-9999-9999", When::kSpokenOf, nullptr, 1},
    {Pii::kUsDriverLicense, "999999", When::kSpokenOf, nullptr, 8},
    {Pii::kAbaRoutingNumber, "9999-9999-9", When::kSpokenOf, IsAbaRouting},
    {Pii::kUsBankNumber, "99999999", When::kSpokenOf, nullptr, 9},
    {Pii::kMedicalLicense, "AX9999999", When::kAlways, IsDeaNumber},
    {Pii::kUkNhs, "999-999-9999", When::kSpokenOf, IsUkNhs},
    {Pii::kUkNino, "AA-99-99-99-A", When::kAlways, IsUkNino},
    {Pii::kEsNif, "99999999-A", When::kAlways, IsEsNif},
    {Pii::kEsNie, "A-9999999-A", When::kAlways, IsEsNie},
    {Pii::kItFiscalCode, "AAAAAA99A99A999A", When::kAlways, IsItFiscalCode},
    {Pii::kItDriverLicense, "AX9999999A", When::kSpokenOf, IsItDriverLicense},
    {Pii::kItDriverLicense, "A9XXXXXXXA", When::kSpokenOf, IsItDriverLicense},
    {Pii::kItVatCode, "99999999999", When::kSpokenOf, IsItVatCode},
    {Pii::kItPassport, "AA9999999", When::kSpokenOf},
    {Pii::kItIdentityCard, "AA99999AA", When::kSpokenOf},
    {Pii::kItIdentityCard, "AA-9999999", When::kSpokenOf},
    {Pii::kItIdentityCard, "9999999AA", When::kSpokenOf},
    {Pii::kPlPesel, "99999999999", When::kAlways, IsPlPesel},
    {Pii::kSgNricFin, "A9999999A", When::kAlways, IsSgNric},
    {Pii::kSgUen, "99999999A", When::kSpokenOf, IsSgUenBusiness},
    {Pii::kSgUen, "999999999A", When::kAlways, IsSgUenCompany},
    {Pii::kSgUen, "A99AA9999A", When::kAlways, IsSgUenOther},
    {Pii::kAuAbn, "99-999-999-999", When::kParted, IsAuAbn},
    {Pii::kAuAcn, "999-999-999", When::kSpokenOf, IsAuAcn},
    {Pii::kAuTfn, "999-999-999", When::kSpokenOf, IsAuTfn},
    {Pii::kAuMedicare, "9999-99999-9", When::kSpokenOf, IsAuMedicare, 1},
    {Pii::kInAadhaar, "9999-9999-9999", When::kParted, IsInAadhaar},
    {Pii::kInGstin, "99AAAAA9999AXAX", When::kAlways, IsInGstin},
    {Pii::kInPan, "AAAAA9999A", When::kAlways, IsInPan},
    {Pii::kInPassport, "A99-99999", When::kSpokenOf, IsInPassport},
    {Pii::kInVehicleRegistration, "AA-99-AA-9999", When::kAlways, IsInVehicle},
    {Pii::kInVehicleRegistration, "AA-9X-A-9999", When::kSpokenOf, IsInVehicle},
    {Pii::kInVoter, "AAA9999999", When::kSpokenOf},
    {Pii::kFiPersonalIdentityCode, "999999-999X", When::kParted, IsFiPersonalCode},
    {Pii::kFiPersonalIdentityCode, "999999+999X", When::kAlways, IsFiPersonalCode},
    {Pii::kFiPersonalIdentityCode, "999999A999X", When::kAlways, IsFiPersonalCode},
    {Pii::kKrRrn, "999999-9999999", When::kParted, IsKrRrn},
    {Pii::kKrFrn, "999999-9999999", When::kParted, IsKrFrn},
    {Pii::kKrBrn, "999-99-99999", When::kParted, IsKrBrn},
    {Pii::kKrDriverLicense, "99-99-999999-99", When::kParted, IsKrDriverLicense},
    {Pii::kKrPassport, "A99999999", When::kSpokenOf, IsKrPassport},
    {Pii::kKrPassport, "A999A9999", When::kSpokenOf, IsKrPassport},
    {Pii::kThTnin, "9-9999-99999-99-9", When::kParted, IsThTnin},
};
static_assert(std::size(kPiiPatterns) <= 64);

// A word in the text before speaks of these entities: the word itself, or, from five letters on, one that begins so.
struct PiiWord {
  std::string_view word;  // lower case
  PiiSet entities;
};

inline constexpr PiiSet kLicenses =
    Bit(Pii::kUsDriverLicense) | Bit(Pii::kItDriverLicense) | Bit(Pii::kKrDriverLicense);
inline constexpr PiiSet kPassports =
    Bit(Pii::kUsPassport) | Bit(Pii::kItPassport) | Bit(Pii::kInPassport) | Bit(Pii::kKrPassport);
inline constexpr PiiSet kTaxNumbers = Bit(Pii::kUsItin) | Bit(Pii::kAuTfn) | Bit(Pii::kThTnin);

inline constexpr PiiWord kPiiWords[] = {
    {"phone", Bit(Pii::kPhoneNumber)},
    {"telephone", Bit(Pii::kPhoneNumber)},
    {"telefon", Bit(Pii::kPhoneNumber)},
    {"tel", Bit(Pii::kPhoneNumber)},
    {"cell", Bit(Pii::kPhoneNumber)},
    {"cellphone", Bit(Pii::kPhoneNumber)},
    {"mobile", Bit(Pii::kPhoneNumber)},
    {"call", Bit(Pii::kPhoneNumber)},
    {"calling", Bit(Pii::kPhoneNumber)},
    {"dial", Bit(Pii::kPhoneNumber)},
    {"fax", Bit(Pii::kPhoneNumber)},
    {"whatsapp", Bit(Pii::kPhoneNumber)},
    {"sms", Bit(Pii::kPhoneNumber)},
    {"hotline", Bit(Pii::kPhoneNumber)},
    {"social", Bit(Pii::kUsSsn)},
    {"ssn", Bit(Pii::kUsSsn)},
    {"ssns", Bit(Pii::kUsSsn)},
    {"itin", Bit(Pii::kUsItin)},
    {"taxpayer", kTaxNumbers},
    {"taxid", kTaxNumbers},
    {"tax", kTaxNumbers},
    {"tin", kTaxNumbers},
    {"tfn", Bit(Pii::kAuTfn)},
    {"passport", kPassports},
    {"passaporto", Bit(Pii::kItPassport)},
    {"travel", kPassports},
    {"driver", kLicenses},
    {"driving", kLicenses},
    {"license", kLicenses},
    {"licence", kLicenses},
    {"permit", kLicenses},
    {"patente", Bit(Pii::kItDriverLicense)},
    {"routing", Bit(Pii::kAbaRoutingNumber)},
    {"aba", Bit(Pii::kAbaRoutingNumber)},
    {"rtn", Bit(Pii::kAbaRoutingNumber)},
    {"bank", Bit(Pii::kUsBankNumber) | Bit(Pii::kAbaRoutingNumber)},
    {"account", Bit(Pii::kUsBankNumber)},
    {"acct", Bit(Pii::kUsBankNumber)},
    {"checking", Bit(Pii::kUsBankNumber)},
    {"savings", Bit(Pii::kUsBankNumber)},
    {"debit", Bit(Pii::kUsBankNumber)},
    {"nhs", Bit(Pii::kUkNhs)},
    {"patient", Bit(Pii::kUkNhs)},
    {"identity", Bit(Pii::kItIdentityCard) | Bit(Pii::kKrRrn) | Bit(Pii::kFiPersonalIdentityCode)},
    {"identita", Bit(Pii::kItIdentityCard)},
    {"piva", Bit(Pii::kItVatCode)},
    {"partita", Bit(Pii::kItVatCode)},
    {"vat", Bit(Pii::kItVatCode)},
    {"iva", Bit(Pii::kItVatCode)},
    {"uen", Bit(Pii::kSgUen)},
    {"abn", Bit(Pii::kAuAbn)},
    {"acn", Bit(Pii::kAuAcn)},
    {"medicare", Bit(Pii::kAuMedicare) | Bit(Pii::kUsMbi)},
    {"aadhaar", Bit(Pii::kInAadhaar)},
    {"aadhar", Bit(Pii::kInAadhaar)},
    {"uidai", Bit(Pii::kInAadhaar)},
    {"vehicle", Bit(Pii::kInVehicleRegistration)},
    {"registration", Bit(Pii::kInVehicleRegistration) | Bit(Pii::kKrRrn) | Bit(Pii::kKrFrn) | Bit(Pii::kKrBrn)},
    {"plate", Bit(Pii::kInVehicleRegistration)},
    {"voter", Bit(Pii::kInVoter)},
    {"epic", Bit(Pii::kInVoter)},
    {"hetu", Bit(Pii::kFiPersonalIdentityCode)},
    {"henkil", Bit(Pii::kFiPersonalIdentityCode)},
    {"rrn", Bit(Pii::kKrRrn)},
    {"resident", Bit(Pii::kKrRrn)},
    {"frn", Bit(Pii::kKrFrn)},
    {"foreigner", Bit(Pii::kKrFrn)},
    {"brn", Bit(Pii::kKrBrn)},
    {"tnin", Bit(Pii::kThTnin)},
    {"thai", Bit(Pii::kThTnin)},
};

}  // namespace spanbox
