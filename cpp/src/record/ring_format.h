// A ring file byte by byte: how the records of one process lie on disk. docs/recorder.md tells the protocol.
//
//   page 0          RingHeader
//   page 1          ProcessPage
//   lane i          LaneControl (one page), then lane_bytes of data; i = 0 .. lanes - 1
//   record          RecordHeader, payload, zero to seven bytes up to a multiple of 8
//   pad             the length word kPadLength where a record does not fit before the end of the data: go on at offset
//   0
//
// A process has one ring id and one file a slot: <ring id in hex>-<slot>.ring. Slot 0 lives as long as the recorder.
//
// Thread rule: the atomics are shared between the caller's threads and the collector (and, after death, nobody: a
// recoverer reads a private copy). Each names its writer.
// Invariants:
//   1. Positions are absolute byte counts; the offset is position modulo lane_bytes. They never decrease, also when a
//      slot's file is removed and made again.
//   2. A checksum covers ring id and lane (as seed), position, seq, size, type and payload: a record of another ring,
//      another lane or an older lap never verifies.
// Persisted: never change a layout; a new one gets a new kRingVersion.
// Units: bytes, nanoseconds.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "base/hash.h"
#include "spanbox/exporter.h"

namespace spanbox {

inline constexpr char kRingMagic[8] = {'S', 'P', 'N', 'R', 'I', 'N', 'G', '1'};
inline constexpr std::uint32_t kRingVersion = 1;
inline constexpr std::size_t kPageBytes = 4096;
inline constexpr std::uint32_t kLanesPerSlot = 256;  // lane number = slot * kLanesPerSlot + index in the file
inline constexpr std::uint32_t kMaxLanesPerFile = 65;
inline constexpr std::uint64_t kMinLaneBytes = 64u << 10;
inline constexpr std::uint64_t kMaxLaneBytes = 64u << 20;

// Written once, before the file gets its name. Text is cut to fit and zero-terminated.
struct RingHeader {
  char magic[8];
  std::uint32_t version;
  std::uint32_t slot;
  RingId ring;
  std::uint8_t boot_id[16];     // of the kernel: another one now means power loss or reboot since
  std::uint64_t pid;            // for humans: liveness is the lock alone
  std::uint64_t pid_namespace;  // inode of the namespace the pid belongs to
  std::int64_t started_ns;      // wall time
  std::uint32_t lanes;
  std::uint32_t reserved;
  std::uint64_t lane_bytes;
  char exe[256];
  char release[128];
  char environment[128];
  std::uint64_t checksum;  // XXH3 of all bytes before it
};
static_assert(sizeof(RingHeader) <= kPageBytes);

// Counters of the process that belong to no lane. Only slot 0's are used.
struct ProcessPage {
  std::atomic<std::uint64_t> dropped_spans;  // by any thread that had no lane
  std::atomic<std::uint64_t> dropped_bytes;
  std::atomic<std::uint64_t> interrupted_nested;  // records dropped because a signal handler recorded inside a record
  std::atomic<std::int64_t> alive_ns;             // by the collector: wall time when it last ran
};
static_assert(sizeof(ProcessPage) <= kPageBytes);

enum class LaneState : std::uint32_t { kFree = 0, kOwned = 1, kClosing = 2 };  // persisted: never renumber

struct LaneControl {
  // By the owner. head is where the next record goes: storing it is the acknowledgement.
  alignas(64) std::atomic<std::uint64_t> head;
  std::atomic<std::uint64_t> ended_spans;  // kEnd records accepted
  // By the collector: where stored bytes end. A hint; the truth is the cursor in the store.
  alignas(64) std::atomic<std::uint64_t> tail;
  // By the owner.
  alignas(64) std::atomic<std::uint64_t> dropped_spans;
  std::atomic<std::uint64_t> dropped_bytes;
  // By whoever holds the lane pool's mutex.
  alignas(64) std::atomic<LaneState> state;
  std::atomic<std::uint64_t> closed_order;  // when it became kClosing: 1, 2, ... over all lanes of the process
};
static_assert(sizeof(LaneControl) <= kPageBytes);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

inline constexpr std::uint32_t kPadLength = 0xFFFFFFFF;
inline constexpr std::uint16_t kRecordVersion = 1;

struct RecordHeader {
  std::uint32_t length;    // header and payload, rounded up to a multiple of 8; or kPadLength
  std::uint32_t checksum;  // over the payload and the fields after this one, see RecordChecksum
  std::uint64_t position;
  std::uint64_t seq;  // of this lane, from 1, one more each record
  std::uint32_t payload_bytes;
  std::uint8_t type;   // RecordType
  std::uint8_t flags;  // 0
  std::uint16_t version;
};
static_assert(sizeof(RecordHeader) == 32);

inline constexpr std::uint64_t AlignRecord(std::uint64_t bytes) { return (bytes + 7) & ~std::uint64_t{7}; }

inline std::uint64_t RecordSeed(const RingId& ring, std::uint32_t lane) {
  return Hash64(std::as_bytes(std::span(ring)), lane);
}

// The last word of a header: payload_bytes, type, flags 0, version.
inline constexpr std::uint64_t LastWord(std::uint32_t payload_bytes, std::uint8_t type, std::uint8_t flags,
                                        std::uint16_t version) {
  return payload_bytes | std::uint64_t{type} << 32 | std::uint64_t{flags} << 40 | std::uint64_t{version} << 48;
}

// XXH3 of the payload, and the rest of the header mixed in: each word times a large odd number (those of XXH64), so
// that what differs in any of them differs in the sum. All of it in registers, from the caller's bytes: what has just
// been stored would have to be waited for.
inline std::uint32_t RecordChecksum(std::uint64_t seed, std::uint64_t position, std::uint64_t seq,
                                    std::uint64_t last_word, std::span<const std::byte> payload) {
  const std::uint64_t words =
      seed + position * 0x9E3779B185EBCA87u + seq * 0xC2B2AE3D27D4EB4Fu + last_word * 0x165667B19E3779F9u;
  return static_cast<std::uint32_t>(((Hash64(payload) ^ words) * 0x9FB21C651E98DF25u) >> 32);
}
inline std::uint32_t RecordChecksum(std::uint64_t seed, const RecordHeader& header,
                                    std::span<const std::byte> payload) {
  return RecordChecksum(seed, header.position, header.seq,
                        LastWord(header.payload_bytes, header.type, header.flags, header.version), payload);
}

inline std::uint64_t HeaderChecksum(const RingHeader& header) {
  return Hash64(std::as_bytes(std::span(&header, 1)).first(offsetof(RingHeader, checksum)));
}

inline constexpr std::uint64_t LaneOffset(std::uint32_t lane, std::uint64_t lane_bytes) {
  return 2 * kPageBytes + lane * (kPageBytes + lane_bytes);
}
inline constexpr std::uint64_t RingFileBytes(std::uint32_t lanes, std::uint64_t lane_bytes) {
  return LaneOffset(lanes, lane_bytes);
}

}  // namespace spanbox
