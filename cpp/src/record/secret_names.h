// Names that say a value is a secret: "api_key", "X-Api-Key", "dbPassword", "GITHUB_TOKEN".
//
// A name is read as words: split at anything that is no letter or digit, and where camelCase turns. Its last words
// decide. "token" is a word of language models too, so that "max_tokens", "next_page_token" and "eos_token" are no
// secrets.
//
// Thread rule: pure functions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace spanbox {

namespace internal {
bool IsSecretNameSlow(std::string_view name);

// The last three letters of every secret name: for the low five bits of the last two, a bit for those of the third.
constexpr std::array<std::uint32_t, 1024> MakeNameEnds() {
  std::array<std::uint32_t, 1024> ends{};
  for (const char* end : {"key", "eys", "ken", "ens", "ion", "ord", "rds", "swd", "pwd", "ret",
                          "ets", "kie", "ies", "ase", "ode", "ial", "als", "uth", "jwt", "rer"}) {
    ends[(end[2] & 31) << 5 | (end[1] & 31)] |= std::uint32_t{1} << (end[0] & 31);
  }
  return ends;
}
inline constexpr std::array<std::uint32_t, 1024> kNameEnds = MakeNameEnds();

// REQUIRES: three characters at least.
constexpr bool EndsLikeSecretName(std::string_view name) {
  const char* const last = name.data() + name.size() - 1;
  return (kNameEnds[static_cast<unsigned>((last[0] & 31) << 5 | (last[-1] & 31))] >> (last[-2] & 31) & 1) != 0;
}
}  // namespace internal

inline bool IsSecretName(std::string_view name) {
  const std::size_t n = name.size();
  return n >= 3 && n <= 80 && internal::EndsLikeSecretName(name) && internal::IsSecretNameSlow(name);
}

// The letters and digits of a name, in lower case: how names given by the user are compared.
std::string FoldedName(std::string_view name);

}  // namespace spanbox
