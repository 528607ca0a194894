// SHA-256 (FIPS 180-4) and HMAC-SHA-256 (RFC 2104): checksums of addresses, and keyed names for what is redacted.
//
// Thread rule: pure functions. For small inputs; it is not made for speed.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string_view>

namespace spanbox {

using Sha256Digest = std::array<std::byte, 32>;

Sha256Digest Sha256(std::span<const std::byte> bytes);
Sha256Digest HmacSha256(std::string_view key, std::string_view text);

}  // namespace spanbox
