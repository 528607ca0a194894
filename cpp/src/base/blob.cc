#include "spanbox/blob.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstring>

#include "spanbox/span.h"

namespace spanbox {

BlobId BlobIdOf(std::span<const std::byte> content) noexcept {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(content.data(), content.size()));
  BlobId id;
  std::memcpy(id.bytes.data(), canonical.digest, id.bytes.size());
  return id;
}

std::string ToHex(const BlobId& id) { return ToHex(TraceId{id.bytes}); }

Result<BlobId> BlobIdFromHex(std::string_view digits) {
  const auto parsed = TraceIdFromHex(digits);
  if (!parsed) return InvalidArgument("a blob is named by 32 hexadecimal digits, not by '" + std::string(digits) + "'");
  return BlobId{parsed->bytes};
}

}  // namespace spanbox
