// Walks the records of lanes: of a living process's mapping and of a dead ring's private copy alike, so that the code
// that recovers runs all day long.
//
// Thread rule: one thread at a time. Ownership: borrows the bytes; records point into them.
// Invariants:
//   1. No byte outside the lane is read, whatever the bytes say.
//   2. A record is returned only if position, seq, size and checksum agree: it was written whole, to this lane, in this
//      lap. What does not verify is skipped to the next record that does, and counted.
// Units: bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/record_codec.h"
#include "spanbox/exporter.h"

namespace spanbox {

class SpanJoiner;

class LaneWalker {
 public:
  // REQUIRES: lane.size() is a power of two >= kMinLaneBytes. Records end at or before `limit`, which is at most
  // from.position + lane.size().
  LaneWalker(std::span<const std::byte> lane, std::uint64_t seed, const LaneCursor& from, std::uint64_t limit)
      : lane_(lane), seed_(seed), limit_(limit), cursor_(from) {}

  // The next record; nullopt when there is none below the limit.
  std::optional<RecordView> Next();

  // After the record returned last.
  const LaneCursor& cursor() const { return cursor_; }
  // Places where records did not verify and others followed, or nothing did although the limit says so.
  std::uint64_t gaps() const { return gaps_; }

 private:
  std::optional<RecordView> RecordAt(std::uint64_t position, bool exact_seq);
  std::optional<RecordView> Salvage();

  const std::span<const std::byte> lane_;
  const std::uint64_t seed_;
  const std::uint64_t limit_;
  LaneCursor cursor_;
  std::uint64_t gaps_ = 0;
};

// One lane to drain and how far.
struct LaneSource {
  std::span<const std::byte> data;
  std::uint64_t seed = 0;
  LaneCursor cursor;            // moves as records are taken
  std::uint64_t end_limit = 0;  // kEnd records up to here may complete their spans; later ones are held
  std::uint64_t limit = 0;      // records up to here are taken
  std::uint64_t gaps = 0;       // see LaneWalker
  bool empty() const { return cursor.position >= limit; }
  bool used() const { return cursor.position > 0 || cursor.dropped_spans > 0 || cursor.dropped_bytes > 0; }
};

struct DrainBudget {
  std::uint64_t bytes = 4u << 20;
  std::uint64_t spans = 4096;
};

// Owns copies of payloads until Clear, which keeps the memory of a batch or so.
class RecordCopies {
 public:
  std::span<const std::byte> Copy(std::span<const std::byte> bytes);
  void Clear();

 private:
  struct Chunk {
    std::unique_ptr<std::byte[]> bytes;
    std::size_t size = 0, used = 0;
  };
  std::vector<Chunk> chunks_;
  std::size_t current_ = 0;
};

// Takes records from the lanes in their order until all are empty or the budget is spent, and gives them to `joiner`:
// as they lie in the lanes, or copied to `copies`.
void DrainLanes(std::span<LaneSource> lanes, DrainBudget budget, SpanJoiner& joiner, RecordCopies* copies = nullptr);

}  // namespace spanbox
