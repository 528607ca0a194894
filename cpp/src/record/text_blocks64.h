// Classifies text 64 bytes at a time: where characters of keys, assignments and dashes are, as bit masks.
//
// Four ways to the same masks: AVX-512 or AVX2 where the processor has it, SSE2 on every other x86-64, a table
// elsewhere.
//
// Thread rule: pure functions. Invariant: bit i of a mask speaks of byte i.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace spanbox {

inline constexpr std::size_t kBlockBytes = 64;

struct BlockMasks {
  std::uint64_t key = 0;     // letters, digits, '-', '_'
  std::uint64_t assign = 0;  // ':' and '='
  std::uint64_t dash = 0;    // '-'
};

constexpr bool IsKeyCharacter(unsigned char c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' || c == '_';
}

inline constexpr std::array<bool, 256> kIsKeyCharacter = [] {
  std::array<bool, 256> is{};
  for (unsigned c = 0; c < 256; ++c) is[c] = IsKeyCharacter(static_cast<unsigned char>(c));
  return is;
}();

inline BlockMasks ClassifyByTable(const char* text) {
  BlockMasks masks;
  for (unsigned i = 0; i < kBlockBytes; ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    masks.key |= std::uint64_t{IsKeyCharacter(c)} << i;
    masks.assign |= std::uint64_t{c == ':' || c == '='} << i;
    masks.dash |= std::uint64_t{c == '-'} << i;
  }
  return masks;
}

#if defined(__x86_64__)

inline BlockMasks ClassifySse2(const char* text) {
  BlockMasks masks;
  for (unsigned i = 0; i < kBlockBytes; i += 16) {
    const __m128i c = _mm_loadu_si128(reinterpret_cast<const __m128i*>(text + i));
    const auto at_most = [](__m128i x, int limit) {  // unsigned
      return _mm_cmpeq_epi8(_mm_min_epu8(x, _mm_set1_epi8(static_cast<char>(limit))), x);
    };
    const auto is = [c](char wanted) { return _mm_cmpeq_epi8(c, _mm_set1_epi8(wanted)); };
    const __m128i letters = at_most(_mm_sub_epi8(_mm_or_si128(c, _mm_set1_epi8(0x20)), _mm_set1_epi8('a')), 25);
    const __m128i digits = at_most(_mm_sub_epi8(c, _mm_set1_epi8('0')), 9);
    const __m128i dash = is('-');
    const __m128i key = _mm_or_si128(_mm_or_si128(letters, digits), _mm_or_si128(dash, is('_')));
    const __m128i assign = _mm_or_si128(is(':'), is('='));
    const auto bits = [i](__m128i mask) {
      return std::uint64_t{static_cast<std::uint32_t>(_mm_movemask_epi8(mask))} << i;
    };
    masks.key |= bits(key);
    masks.assign |= bits(assign);
    masks.dash |= bits(dash);
  }
  return masks;
}

// With 32 bytes an instruction, and a table lookup for each half of a byte: a class is a bit that both have.
// Bits: 1 "-", 2 digits, 4 "A".."O" and "a".."o", 8 "P".."Z" and "_", 16 "p".."z", 32 ":" and "=".
inline __m128i ClassesByLow() { return _mm_setr_epi8(26, 30, 30, 30, 30, 30, 30, 30, 30, 30, 60, 4, 4, 37, 4, 12); }
inline __m128i ClassesByHigh() { return _mm_setr_epi8(0, 0, 1, 34, 4, 8, 4, 16, 0, 0, 0, 0, 0, 0, 0, 0); }

[[gnu::target("avx2")]] inline BlockMasks ClassifyAvx2(const char* text) {
  const __m256i by_low = _mm256_broadcastsi128_si256(ClassesByLow());
  const __m256i by_high = _mm256_broadcastsi128_si256(ClassesByHigh());
  std::uint64_t key[2], assign[2], dash[2];
  for (unsigned i = 0; i < 2; ++i) {
    const __m256i c = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(text + i * 32));
    const __m256i high = _mm256_and_si256(_mm256_srli_epi16(c, 4), _mm256_set1_epi8(15));
    const __m256i classes = _mm256_and_si256(_mm256_shuffle_epi8(by_low, c), _mm256_shuffle_epi8(by_high, high));
    // 1..31 plus 127 sets the sign.
    const __m256i keys = _mm256_add_epi8(_mm256_and_si256(classes, _mm256_set1_epi8(31)), _mm256_set1_epi8(127));
    key[i] = static_cast<std::uint32_t>(_mm256_movemask_epi8(keys));
    assign[i] = static_cast<std::uint32_t>(_mm256_movemask_epi8(_mm256_slli_epi16(classes, 2)));
    dash[i] = static_cast<std::uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(c, _mm256_set1_epi8('-'))));
  }
  return {key[0] | key[1] << 32, assign[0] | assign[1] << 32, dash[0] | dash[1] << 32};
}

// The same in one go: a third of AVX2's instructions.
[[gnu::target("avx512bw")]] inline BlockMasks ClassifyAvx512(const char* text) {
  const __m512i c = _mm512_loadu_si512(text);
  const __m512i high = _mm512_and_si512(_mm512_srli_epi16(c, 4), _mm512_set1_epi8(15));
  const __m512i classes = _mm512_and_si512(_mm512_shuffle_epi8(_mm512_broadcast_i32x4(ClassesByLow()), c),
                                           _mm512_shuffle_epi8(_mm512_broadcast_i32x4(ClassesByHigh()), high));
  return {_mm512_test_epi8_mask(classes, _mm512_set1_epi8(31)), _mm512_test_epi8_mask(classes, _mm512_set1_epi8(32)),
          _mm512_test_epi8_mask(classes, _mm512_set1_epi8(1))};
}

#endif

}  // namespace spanbox
