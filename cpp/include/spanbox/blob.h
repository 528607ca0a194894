// Blobs: payloads of any size, stored once each, named by their content.
//
// A span does not carry a payload that is too large for one record of the ring: it names the blob, and the bytes go
// through the ring in pieces (Recorder::PutBlob) into a table of the store (Store::ReadBlob).
//
// Thread rule: plain values and functions. Ownership: a BlobPiece borrows its bytes.
// Units: bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "spanbox/status.h"

namespace spanbox {

// XXH3-128 of the content, most significant byte first. Persisted: never change the function.
struct BlobId {
  std::array<std::uint8_t, 16> bytes{};

  friend bool operator==(const BlobId&, const BlobId&) = default;
  friend auto operator<=>(const BlobId&, const BlobId&) = default;
};

BlobId BlobIdOf(std::span<const std::byte> content) noexcept;
std::string ToHex(const BlobId& id);                    // 32 digits
Result<BlobId> BlobIdFromHex(std::string_view digits);  // InvalidArgument unless 32 hexadecimal digits

// A part of a blob, as it goes through the ring.
struct BlobPiece {
  BlobId id;
  std::uint64_t total_bytes = 0;  // of the whole blob
  std::uint64_t offset = 0;       // of this piece in it
  std::span<const std::byte> bytes;
};

}  // namespace spanbox
