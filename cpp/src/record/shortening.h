// What is kept of a START or END for which there is no room: all of it but long values, of which a preview stays. So
// the tree, times, status, tokens and cost of a span survive an overload that its texts do not.
//
// Thread rule: any thread. Ownership: `out` gets a copy. Units: bytes.
#pragma once

#include <cstddef>
#include <span>

#include "base/coding.h"
#include "spanbox/recorder.h"

namespace spanbox {

// Payloads up to this size find room where others do not, see Lane::MakeRoom.
inline constexpr std::size_t kShortPayloadBytes = 1024;

// Writes the payload with every long value cut, in the form docs/capture.md gives, and truncated = true. False: there
// is nothing to gain, or it cannot be read.
bool ShortenRecord(RecordType type, std::span<const std::byte> payload, ByteBuffer& out);

}  // namespace spanbox
