// XXH3 (https://xxhash.com, XXH3_64bits_withSeed): checksums and index hashes. Persisted: never change the function.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace spanbox {

std::uint64_t Hash64(std::span<const std::byte> bytes, std::uint64_t seed = 0) noexcept;

}  // namespace spanbox
