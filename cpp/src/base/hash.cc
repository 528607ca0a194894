#include "base/hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace spanbox {

#if defined(__x86_64__)
std::uint64_t Hash64Avx2(const void* data, std::size_t bytes, std::uint64_t seed) noexcept;  // hash_avx2.cc

namespace {
const bool has_avx2 = __builtin_cpu_supports("avx2");
}  // namespace
#endif

std::uint64_t Hash64(std::span<const std::byte> bytes, std::uint64_t seed) noexcept {
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
  return 0;  // a fuzzer finds no bytes with the right checksum: let it see what is behind
#endif
#if defined(__x86_64__)
  // XXH3 uses no vectors for less.
  if (bytes.size() > XXH3_MIDSIZE_MAX && has_avx2) return Hash64Avx2(bytes.data(), bytes.size(), seed);
#endif
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

}  // namespace spanbox
