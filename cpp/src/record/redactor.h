// Finds secrets in text before it enters a record, and replaces each by "[redacted:<entity>]": the ring is a file.
//
// One pass over the text looks for what every secret shows: a run of 16 characters of the kind keys are made of, an
// assignment ("password=", "\"api_key\": "), the "://" of an address, or the dashes of a PEM block. That is a few
// vector instructions a block of 64 bytes; only where one of them is found are the finders of redactor.cc asked, each
// of which knows its entities by prefix, shape and a validator.
//
// Thread rule: pure functions.
// Invariants:
//   1. Findings are in the order of the text and do not overlap.
//   2. The time is linear in the size of the text, whatever it holds.
//   3. Bytes that are no secret are kept as they are; UTF-8 stays UTF-8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace spanbox {

struct Finding {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::string_view entity;  // "aws_key", "jwt", ...; static
};

// Shorter texts hold no secret.
inline constexpr std::size_t kMinSecretText = 8;

// True for many short texts without a secret, in a few instructions; false says nothing.
bool SurelyNoSecret(std::string_view text);

// Appends the secrets of `text`; true when there are any. `findings` must be empty.
bool FindSecrets(std::string_view text, std::vector<Finding>& findings);

// The same, a little faster for short texts. REQUIRES: kScanPadding bytes after the text can be read, whatever they
// are.
bool FindSecretsPadded(std::string_view text, std::vector<Finding>& findings);
inline constexpr std::size_t kScanPadding = 64;

// The text with each finding replaced.
std::string Redacted(std::string_view text, std::span<const Finding> findings);

// The name of every entity FindSecrets can find, each once.
std::vector<std::string_view> SecretEntities();

#if defined(__SSE2__)

inline bool SurelyNoSecret(std::string_view text) {
  constexpr std::size_t kMaxSize = 32;
  const std::size_t size = text.size();
  if (size < kMinSecretText) return true;
  if (size > kMaxSize) return false;
  // Two loads that overlap cover the text; the second one's bits begin at `shift`.
  const std::size_t half = size >= 16 ? 16 : 8;
  const std::size_t shift = size - half;
  const auto load = [half](const char* at) {
    const auto* from = reinterpret_cast<const __m128i*>(at);
    return half == 16 ? _mm_loadu_si128(from) : _mm_loadl_epi64(from);
  };
  const __m128i first = load(text.data());
  const __m128i second = load(text.data() + shift);
  const auto bits = [&](auto is) {
    return static_cast<std::uint64_t>(_mm_movemask_epi8(is(first))) |
           static_cast<std::uint64_t>(_mm_movemask_epi8(is(second))) << shift;
  };
  const auto is = [](char wanted) { return [wanted](__m128i c) { return _mm_cmpeq_epi8(c, _mm_set1_epi8(wanted)); }; };
  const std::uint64_t dashes = bits(is('-'));
  if ((bits(is('=')) | bits(is(':')) | (dashes & dashes >> 1)) != 0) return false;
  // Whatever is no space, quote or bracket may be of a key: 16 of them in a row are looked at closely.
  std::uint64_t run = bits([](__m128i c) {  // above ',', unsigned
    return _mm_cmpeq_epi8(_mm_max_epu8(c, _mm_set1_epi8('-')), c);
  });
  for (const int step : {1, 2, 4, 8}) run &= run >> step;
  return run == 0;
}

#else

inline bool SurelyNoSecret(std::string_view text) { return text.size() < kMinSecretText; }

#endif

}  // namespace spanbox
