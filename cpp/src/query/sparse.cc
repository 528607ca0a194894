#include "query/sparse.h"

#include <algorithm>
#include <array>
#include <bit>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace spanbox {
namespace {

// From a row on, which is a multiple of 8.
std::uint32_t* PickFrom(std::size_t row, std::span<const std::uint32_t> of_row, const Validity& valid,
                        std::uint32_t* to) {
  while (row < of_row.size()) {
    std::uint64_t word = valid.words[row / 64] >> (row % 64);
    for (const std::size_t end = std::min(of_row.size(), row / 64 * 64 + 64); row < end; ++row, word >>= 1) {
      *to = of_row[row];
      to += word & 1;  // no branch: which spans have a value is close to random
    }
  }
  return to;
}

// `next`: the first code of the rows from `row` on.
void CombineFrom(std::size_t row, std::span<const std::uint32_t> before, std::uint32_t keys, const std::uint32_t* next,
                 const Validity& valid, std::span<std::uint32_t> to) {
  while (row < to.size()) {
    std::uint64_t word = valid.words[row / 64] >> (row % 64);
    for (const std::size_t end = std::min(to.size(), row / 64 * 64 + 64); row < end; ++row, word >>= 1) {
      const auto has = static_cast<std::uint32_t>(word & 1);  // one past the last code is read, and masked away
      to[row] = (before.empty() ? 0 : before[row] * keys) + ((*next + 1) & (0u - has));
      next += has;
    }
  }
}

#if defined(__x86_64__)

const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt");

// By the bits of eight rows: where in them the k-th one that has a value stands; and of each row, how many that have
// one stand before it.
struct Places {
  std::array<std::array<std::uint8_t, 8>, 256> of_value{}, before_row{};
};
constexpr Places MakePlaces() {
  Places places;
  for (std::size_t bits = 0; bits < 256; ++bits) {
    std::uint8_t values = 0;
    for (std::uint8_t row = 0; row < 8; ++row) {
      places.before_row[bits][row] = values;
      if ((bits >> row & 1) != 0) places.of_value[bits][values++] = row;
    }
  }
  return places;
}
alignas(64) constexpr Places kPlaces = MakePlaces();

__attribute__((target("avx2"))) inline __m256i Load(const std::uint32_t* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}
__attribute__((target("avx2"))) inline void StoreAt(std::uint32_t* to, __m256i eight) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), eight);
}
__attribute__((target("avx2"))) inline __m256i Widened(const std::array<std::uint8_t, 8>& eight) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(eight.data())));
}
inline std::uint8_t BitsAt(const Validity& valid, std::size_t row) {
  return static_cast<std::uint8_t>(valid.words[row / 64] >> (row % 64));
}

__attribute__((target("avx2,popcnt"))) std::uint32_t* PickByEight(std::span<const std::uint32_t> of_row,
                                                                  const Validity& valid, std::uint32_t* to) {
  std::size_t row = 0;
  for (; row + 8 <= of_row.size(); row += 8) {
    const std::uint8_t bits = BitsAt(valid, row);
    StoreAt(to, _mm256_permutevar8x32_epi32(Load(of_row.data() + row), Widened(kPlaces.of_value[bits])));
    to += std::popcount(bits);
  }
  return PickFrom(row, of_row, valid, to);
}

__attribute__((target("avx2,popcnt"))) void CombineByEight(std::span<const std::uint32_t> before, std::uint32_t keys,
                                                           const Buffer<std::uint32_t>& codes, const Validity& valid,
                                                           std::span<std::uint32_t> to) {
  const __m256i one = _mm256_set1_epi32(1), factor = _mm256_set1_epi32(static_cast<int>(keys));
  const __m256i bit_of_row = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const std::uint32_t* next = codes.begin();
  std::size_t row = 0;
  for (; row + 8 <= to.size() && codes.end() - next >= 8; row += 8) {
    const std::uint8_t bits = BitsAt(valid, row);
    const __m256i has = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(bits), bit_of_row), bit_of_row);
    const __m256i code = _mm256_permutevar8x32_epi32(Load(next), Widened(kPlaces.before_row[bits]));
    __m256i number = _mm256_and_si256(_mm256_add_epi32(code, one), has);
    if (!before.empty()) {
      number = _mm256_add_epi32(number, _mm256_mullo_epi32(Load(before.data() + row), factor));
    }
    StoreAt(to.data() + row, number);
    next += std::popcount(bits);
  }
  CombineFrom(row, before, keys, next, valid, to);
}

#endif

}  // namespace

std::size_t PickRows(std::span<const std::uint32_t> of_row, const Validity& valid, std::uint32_t* to) {
#if defined(__x86_64__)
  if (has_avx2) return static_cast<std::size_t>(PickByEight(of_row, valid, to) - to);
#endif
  return static_cast<std::size_t>(PickFrom(0, of_row, valid, to) - to);
}

void CombineCodes(std::span<const std::uint32_t> before, std::uint32_t keys, const Buffer<std::uint32_t>& codes,
                  const Validity& valid, std::span<std::uint32_t> to) {
#if defined(__x86_64__)
  if (has_avx2) return CombineByEight(before, keys, codes, valid, to);
#endif
  CombineFrom(0, before, keys, codes.begin(), valid, to);
}

}  // namespace spanbox
