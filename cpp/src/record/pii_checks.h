// Checksums and ranges of numbers that persons, cards and accounts go by: what tells them from any other number.
//
// Thread rule: pure functions. Preconditions: `id` is letters in upper case and digits only, of the length and with the
// kinds of characters that the pattern of pii_table.h says.
#pragma once

#include <string_view>

namespace spanbox {

using PiiCheck = bool (*)(std::string_view id);

// Worldwide.
bool IsCardNumber(std::string_view id);      // Luhn, and a network that is issued
bool IsIban(std::string_view id);            // length of its country, mod 97; any bytes
bool IsBitcoinAddress(std::string_view id);  // Base58Check or Bech32, as it stands in the text; any bytes
bool IsHexadecimal(std::string_view id);

// United States, United Kingdom.
bool IsUsSsn(std::string_view id);
bool IsUsItin(std::string_view id);
bool IsUsMbi(std::string_view id);
bool IsAbaRouting(std::string_view id);
bool IsDeaNumber(std::string_view id);
bool IsUkNhs(std::string_view id);
bool IsUkNino(std::string_view id);

// Spain, Italy, Poland, Finland.
bool IsEsNif(std::string_view id);
bool IsEsNie(std::string_view id);
bool IsItFiscalCode(std::string_view id);
bool IsItVatCode(std::string_view id);
bool IsItDriverLicense(std::string_view id);
bool IsPlPesel(std::string_view id);
bool IsFiPersonalCode(std::string_view id);

// Singapore, Australia.
bool IsSgNric(std::string_view id);
bool IsSgUenBusiness(std::string_view id);
bool IsSgUenCompany(std::string_view id);
bool IsSgUenOther(std::string_view id);
bool IsAuAbn(std::string_view id);
bool IsAuAcn(std::string_view id);
bool IsAuTfn(std::string_view id);
bool IsAuMedicare(std::string_view id);

// India.
bool IsInPan(std::string_view id);
bool IsInAadhaar(std::string_view id);
bool IsInVehicle(std::string_view id);
bool IsInPassport(std::string_view id);
bool IsInGstin(std::string_view id);

// South Korea, Thailand.
bool IsKrRrn(std::string_view id);
bool IsKrFrn(std::string_view id);
bool IsKrBrn(std::string_view id);
bool IsKrDriverLicense(std::string_view id);
bool IsKrPassport(std::string_view id);
bool IsThTnin(std::string_view id);

}  // namespace spanbox
