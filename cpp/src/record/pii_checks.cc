#include "record/pii_checks.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>

#include "base/sha256.h"

namespace spanbox {
namespace {

int Digit(char c) { return c - '0'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsUpper(char c) { return c >= 'A' && c <= 'Z'; }
int Number(std::string_view digits) {
  int value = 0;
  for (const char c : digits) value = value * 10 + Digit(c);
  return value;
}
// 0-9, then A = 10 and so on.
int Alnum(char c) { return IsDigit(c) ? Digit(c) : c - 'A' + 10; }

int Weighted(std::string_view digits, std::initializer_list<int> weights) {
  int sum = 0;
  std::size_t i = 0;
  for (const int weight : weights) sum += weight * Digit(digits[i++]);
  return sum;
}

bool Luhn(std::string_view digits) {
  int sum = 0;
  bool twice = false;
  for (std::size_t i = digits.size(); i-- > 0; twice = !twice) {
    const int digit = Digit(digits[i]) * (twice ? 2 : 1);
    sum += digit > 9 ? digit - 9 : digit;
  }
  return sum % 10 == 0;
}

bool AllSame(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [&](char c) { return c == text[0]; });
}

bool IsDayOf(int month, int day) {
  constexpr int kDays[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  return month >= 1 && month <= 12 && day >= 1 && day <= kDays[month - 1];
}

bool In(std::string_view set, char c) { return set.find(c) != std::string_view::npos; }

// Those given out since October 2020 have no checksum: date and kind are what there is.
bool IsKrNumber(std::string_view id, char first, char last) {
  return IsDayOf(Number(id.substr(2, 2)), Number(id.substr(4, 2))) && id[6] >= first && id[6] <= last;
}

struct IbanLength {
  char country[3];
  std::uint8_t length;
};
constexpr IbanLength kIbanLengths[] = {
    {"AD", 24}, {"AE", 23}, {"AL", 28}, {"AT", 20}, {"AZ", 28}, {"BA", 20}, {"BE", 16}, {"BG", 22}, {"BH", 22},
    {"BI", 27}, {"BR", 29}, {"BY", 28}, {"CH", 21}, {"CR", 22}, {"CY", 28}, {"CZ", 24}, {"DE", 22}, {"DJ", 27},
    {"DK", 18}, {"DO", 28}, {"EE", 20}, {"EG", 29}, {"ES", 24}, {"FI", 18}, {"FK", 18}, {"FO", 18}, {"FR", 27},
    {"GB", 22}, {"GE", 22}, {"GI", 23}, {"GL", 18}, {"GR", 27}, {"GT", 28}, {"HR", 21}, {"HU", 28}, {"IE", 22},
    {"IL", 23}, {"IQ", 23}, {"IS", 26}, {"IT", 27}, {"JO", 30}, {"KW", 30}, {"KZ", 20}, {"LB", 28}, {"LC", 32},
    {"LI", 21}, {"LT", 20}, {"LU", 20}, {"LV", 21}, {"LY", 25}, {"MC", 27}, {"MD", 24}, {"ME", 22}, {"MK", 19},
    {"MN", 20}, {"MR", 27}, {"MT", 31}, {"MU", 30}, {"NI", 28}, {"NL", 18}, {"NO", 15}, {"OM", 23}, {"PK", 24},
    {"PL", 28}, {"PS", 29}, {"PT", 25}, {"QA", 29}, {"RO", 24}, {"RS", 22}, {"RU", 33}, {"SA", 24}, {"SC", 31},
    {"SD", 18}, {"SE", 24}, {"SI", 19}, {"SK", 24}, {"SM", 27}, {"SO", 23}, {"ST", 25}, {"SV", 28}, {"TL", 23},
    {"TN", 24}, {"TR", 26}, {"UA", 29}, {"VA", 22}, {"VG", 24}, {"XK", 20}, {"YE", 30}};

bool Base58Check(std::string_view text) {
  constexpr std::string_view kAlphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
  std::array<std::byte, 25> bytes{};  // version, hash, 4 of checksum
  for (const char c : text) {
    auto carry = kAlphabet.find(c);
    if (carry == std::string_view::npos) return false;
    for (std::size_t i = bytes.size(); i-- > 0;) {
      carry += 58 * std::to_integer<std::size_t>(bytes[i]);
      bytes[i] = static_cast<std::byte>(carry & 255);
      carry >>= 8;
    }
    if (carry != 0) return false;
  }
  const Sha256Digest once = Sha256(std::span(bytes).first(21));
  const Sha256Digest twice = Sha256(once);
  return std::equal(twice.begin(), twice.begin() + 4, bytes.begin() + 21);
}

bool Bech32(std::string_view text) {
  constexpr std::string_view kAlphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
  constexpr std::uint32_t kGenerator[] = {0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3};
  std::uint32_t sum = 1;
  const auto add = [&](std::uint32_t value) {
    const std::uint32_t top = sum >> 25;
    sum = (sum & 0x1ffffff) << 5 ^ value;
    for (int i = 0; i < 5; ++i) {
      if ((top >> i & 1) != 0) sum ^= kGenerator[i];
    }
  };
  for (const std::uint32_t value : {3u, 3u, 0u, 2u, 3u}) add(value);  // "bc", expanded
  const bool upper = text[0] == 'B';
  for (const char c : text.substr(3)) {
    if (upper ? (c >= 'a' && c <= 'z') : IsUpper(c)) return false;
    const auto value = kAlphabet.find(IsUpper(c) ? static_cast<char>(c | 0x20) : c);
    if (value == std::string_view::npos) return false;
    add(static_cast<std::uint32_t>(value));
  }
  return sum == 1 || sum == 0x2bc830a3;  // Bech32, Bech32m
}

}  // namespace

bool IsCardNumber(std::string_view id) {
  const std::size_t n = id.size();
  const int two = Number(id.substr(0, 2)), four = Number(id.substr(0, 4));
  const bool visa = id[0] == '4' && (n == 13 || n == 16 || n == 19);
  const bool mastercard = ((two >= 51 && two <= 55) || (four >= 2221 && four <= 2720)) && n == 16;
  const bool amex = (two == 34 || two == 37) && n == 15;
  const bool diners = (two == 36 || two == 38 || two == 39 || (four >= 3000 && four <= 3059)) && (n == 14 || n == 16);
  const bool jcb = (two == 35 && n == 16) || ((four == 2131 || four == 1800) && n == 15);
  const bool discover = (four == 6011 || two == 65 || (four >= 6440 && four <= 6499) || two == 62) && n >= 16;
  const bool maestro = four == 5018 || four == 5020 || four == 5038 || four == 5893 || four == 6304 || four == 6759 ||
                       (four >= 6761 && four <= 6763);
  return (visa || mastercard || amex || diners || jcb || discover || maestro) && Luhn(id);
}

bool IsIban(std::string_view id) {
  const auto known = std::find_if(std::begin(kIbanLengths), std::end(kIbanLengths),
                                  [&](const IbanLength& one) { return id.starts_with(one.country); });
  if (known == std::end(kIbanLengths) || id.size() != known->length) return false;
  int rest = 0;
  for (std::size_t i = 0; i < id.size(); ++i) {
    const char c = id[(i + 4) % id.size()];
    if (!IsDigit(c) && !IsUpper(c)) return false;
    rest = (rest * (IsDigit(c) ? 10 : 100) + Alnum(c)) % 97;
  }
  return rest == 1;
}

bool IsBitcoinAddress(std::string_view id) {
  if (id.size() >= 26 && id.size() <= 35 && (id[0] == '1' || id[0] == '3')) return Base58Check(id);
  if (id.size() >= 14 && id.size() <= 74 && (id.starts_with("bc1") || id.starts_with("BC1"))) return Bech32(id);
  return false;
}

bool IsHexadecimal(std::string_view id) {
  return std::all_of(id.begin(), id.end(), [](char c) { return c <= 'F'; });
}

bool IsUsSsn(std::string_view id) {
  if (AllSame(id) || id[0] == '9' || id == "123456789" || id == "078051120" || id == "219099999") return false;
  return id.substr(0, 3) != "000" && id.substr(0, 3) != "666" && id.substr(3, 2) != "00" && id.substr(5) != "0000";
}

bool IsUsItin(std::string_view id) {
  const int group = Number(id.substr(3, 2));
  return id[0] == '9' && ((group >= 50 && group <= 65) || (group >= 70 && group <= 99)) && group != 89 && group != 93;
}

bool IsUsMbi(std::string_view id) {
  constexpr std::string_view kKinds = "9AX9AX9AA99";  // C, A, AN, N, A, AN, N, A, A, N, N
  if (id[0] == '0') return false;
  for (std::size_t i = 0; i < id.size(); ++i) {
    if (In("SLOIBZ", id[i]) || (kKinds[i] == '9' && !IsDigit(id[i])) || (kKinds[i] == 'A' && !IsUpper(id[i]))) {
      return false;
    }
  }
  return true;
}

bool IsAbaRouting(std::string_view id) {
  return In("0123678", id[0]) && Weighted(id, {3, 7, 1, 3, 7, 1, 3, 7, 1}) % 10 == 0 && !AllSame(id);
}

bool IsDeaNumber(std::string_view id) {
  if (!In("ABCDEFGHJKLMPRSTUX", id[0]) || (!IsUpper(id[1]) && id[1] != '9')) return false;
  return Weighted(id.substr(2), {1, 2, 1, 2, 1, 2}) % 10 == Digit(id[8]) && !AllSame(id.substr(2));
}

bool IsUkNhs(std::string_view id) { return Weighted(id, {10, 9, 8, 7, 6, 5, 4, 3, 2, 1}) % 11 == 0 && !AllSame(id); }

bool IsUkNino(std::string_view id) {
  const std::string_view prefix = id.substr(0, 2);
  for (const std::string_view never : {"BG", "GB", "NK", "KN", "NT", "TN", "ZZ"}) {
    if (prefix == never) return false;
  }
  return !In("DFIQUV", id[0]) && !In("DFIOQUV", id[1]) && id[8] <= 'D';
}

bool IsEsNif(std::string_view id) {
  constexpr std::string_view kLetters = "TRWAGMYFPDXBNJZSQVHLCKE";
  return kLetters[static_cast<std::size_t>(Number(id.substr(0, 8)) % 23)] == id[8];
}

bool IsEsNie(std::string_view id) {
  if (!In("XYZ", id[0])) return false;
  char nif[] = {static_cast<char>('0' + (id[0] - 'X')), id[1], id[2], id[3], id[4], id[5], id[6], id[7], id[8]};
  return IsEsNif({nif, sizeof nif});
}

bool IsItFiscalCode(std::string_view id) {
  constexpr int kOdd[] = {1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23};
  int sum = 0;
  for (std::size_t i = 0; i < 15; ++i) {
    const int value = IsDigit(id[i]) ? Digit(id[i]) : id[i] - 'A';
    sum += i % 2 == 0 ? kOdd[value] : value;
  }
  return In("ABCDEHLMPRST", id[8]) && sum % 26 == id[15] - 'A';
}

bool IsItVatCode(std::string_view id) { return Luhn(id) && !AllSame(id); }

bool IsItDriverLicense(std::string_view id) {
  return (IsUpper(id[1]) || id.starts_with("U1")) &&
         (id.starts_with("U1") || std::all_of(id.begin() + 2, id.begin() + 9, IsDigit));
}

bool IsPlPesel(std::string_view id) {
  return IsDayOf(Number(id.substr(2, 2)) % 20, Number(id.substr(4, 2))) &&
         Weighted(id, {1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1}) % 10 == 0;
}

bool IsFiPersonalCode(std::string_view id) {  // the sign of the century, if it is no letter, is no part of it
  const std::size_t serial = id.size() - 4;
  if (!IsDayOf(Number(id.substr(2, 2)), Number(id.substr(0, 2)))) return false;
  if (serial == 7 && !In("ABCDEFUVWXY", id[6])) return false;
  const int number = Number(id.substr(0, 6)) * 1000 + Number(id.substr(serial, 3));
  return "0123456789ABCDEFHJKLMNPRSTUVWXY"[number % 31] == id.back();
}

bool IsSgNric(std::string_view id) {
  int sum = Weighted(id.substr(1), {2, 7, 6, 5, 4, 3, 2});
  if (In("TG", id[0])) sum += 4;
  if (id[0] == 'M') sum += 3;
  const auto rest = static_cast<std::size_t>(sum % 11);
  if (In("ST", id[0])) return "JZIHGFEDCBA"[rest] == id[8];
  if (In("FG", id[0])) return "XWUTRQPNMLK"[rest] == id[8];
  return id[0] == 'M' && "XWUTRQPNJLK"[rest] == id[8];
}

bool IsSgUenBusiness(std::string_view id) {
  return "XMKECAWLJDB"[Weighted(id, {10, 4, 9, 3, 8, 2, 7, 1}) % 11] == id[8];
}

bool IsSgUenCompany(std::string_view id) {
  const int year = Number(id.substr(0, 4));
  return year >= 1800 && year <= 2099 && "ZKCMDNERGWH"[Weighted(id, {10, 8, 6, 4, 9, 7, 5, 3, 1}) % 11] == id[9];
}

bool IsSgUenOther(std::string_view id) {
  constexpr std::string_view kAlphabet = "ABCDEFGHJKLMNPQRSTUVWX0123456789";
  constexpr int kWeights[] = {4, 3, 5, 3, 10, 2, 2, 5, 7};
  if (!In("RST", id[0])) return false;
  std::size_t sum = 0;
  for (std::size_t i = 0; i < 9; ++i) {
    const auto value = kAlphabet.find(id[i]);
    if (value == std::string_view::npos) return false;
    sum += value * static_cast<std::size_t>(kWeights[i]);
  }
  return kAlphabet[(sum + 11 - 5) % 11] == id[9];
}

bool IsAuAbn(std::string_view id) {
  return id[0] != '0' && (Weighted(id, {10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19}) - 10) % 89 == 0;
}

bool IsAuAcn(std::string_view id) { return (10 - Weighted(id, {8, 7, 6, 5, 4, 3, 2, 1}) % 10) % 10 == Digit(id[8]); }

bool IsAuTfn(std::string_view id) { return Weighted(id, {1, 4, 3, 7, 5, 8, 6, 9, 10}) % 11 == 0 && !AllSame(id); }

bool IsAuMedicare(std::string_view id) {
  return id[0] >= '2' && id[0] <= '6' && Weighted(id, {1, 3, 7, 9, 1, 3, 7, 9}) % 10 == Digit(id[8]);
}

bool IsInPan(std::string_view id) { return In("ABCFGHJLPT", id[3]); }

bool IsInAadhaar(std::string_view id) {
  if (id[0] < '2' || AllSame(id)) return false;
  // Verhoeff: the group of the pentagon's symmetries, and a permutation for each place.
  constexpr char kPermuted[8][11] = {"0123456789", "1576283094", "5803796142", "8916043527",
                                     "9453126870", "4286573901", "2793806415", "7046913258"};
  const auto product = [](int a, int b) {
    if (a < 5) return b < 5 ? (a + b) % 5 : (a + b - 5) % 5 + 5;
    return b < 5 ? (a - 5 - b + 5) % 5 + 5 : (a - b + 5) % 5;
  };
  int sum = 0;
  for (std::size_t i = 0; i < id.size(); ++i) {
    sum = product(sum, Digit(kPermuted[i % 8][Digit(id[id.size() - 1 - i])]));
  }
  return sum == 0;
}

bool IsInVehicle(std::string_view id) {
  constexpr std::string_view kStates =
      "AN AP AR AS BH BR CG CH DD DL DN GA GJ HP HR JH JK KA KL LA LD MH ML MN MP MZ NL OD OR PB PY RJ SK TN TR TS UK "
      "UP "
      "WB";
  return kStates.find(id.substr(0, 2)) != std::string_view::npos;
}

bool IsInPassport(std::string_view id) { return id[1] != '0' && id.back() != '0'; }

bool IsInGstin(std::string_view id) {
  const int state = Number(id.substr(0, 2));
  if (state < 1 || state > 38 || id[13] != 'Z' || !IsInPan(id.substr(2, 10))) return false;
  int sum = 0;
  for (std::size_t i = 0; i < 14; ++i) {
    const int product = Alnum(id[i]) * (i % 2 == 0 ? 1 : 2);
    sum += product / 36 + product % 36;
  }
  return (36 - sum % 36) % 36 == Alnum(id[14]);
}

bool IsKrRrn(std::string_view id) { return IsKrNumber(id, '1', '4'); }
bool IsKrFrn(std::string_view id) { return IsKrNumber(id, '5', '8'); }

bool IsKrBrn(std::string_view id) {
  const int sum = Weighted(id, {1, 3, 7, 1, 3, 7, 1, 3, 5}) + Digit(id[8]) * 5 / 10;
  return (10 - sum % 10) % 10 == Digit(id[9]) && !AllSame(id);
}

bool IsKrDriverLicense(std::string_view id) {
  const int region = Number(id.substr(0, 2));
  return region >= 11 && region <= 28;
}

bool IsKrPassport(std::string_view id) { return In("MSROD", id[0]); }

bool IsThTnin(std::string_view id) {
  const int sum = Weighted(id, {13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2});
  return id[0] >= '1' && id[0] <= '8' && (11 - sum % 11) % 10 == Digit(id[12]);
}

}  // namespace spanbox
