// What this process remembers of a stored segment, which never changes: which of its parts have been verified, which
// traces may be in it, and where its largest values lie.
//
// Thread rule: any thread. Ownership: views and segments share it; it borrows nothing.
// Invariants:
//   1. MayHold is never false for a trace of the segment.
//   2. The sieves of a process take no more than kMaxSieveBytes together, its maxima no more than kMaxMaximaBytes: what
//      comes after is not kept, and those segments are searched as before.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "spanbox/span.h"

namespace spanbox {

inline constexpr std::size_t kMaxSieveBytes = 64 << 20, kMaxMaximaBytes = 16 << 20;

// A Bloom filter of trace ids in lines of 64 bytes: one look at memory, and about 1 in 1,000 wrong guesses.
class TraceSieve {
 public:
  explicit TraceSieve(std::uint32_t traces);
  void Add(const TraceId& trace);
  bool MayHold(std::uint64_t hash) const;  // HashOf the trace: computed once for all sieves
  bool MayHold(const TraceId& trace) const { return MayHold(HashOf(trace)); }
  static std::uint64_t HashOf(const TraceId& trace);
  std::size_t bytes() const { return words_.size() * sizeof(std::uint64_t); }

 private:
  std::vector<std::uint64_t> words_;  // a line is kWordsPerLine of them
};

class SegmentMemory {
 public:
  // Whoever remembers parts of a segment with another checksum remembers those of another segment.
  explicit SegmentMemory(std::uint64_t columns_checksum) : columns_checksum_(columns_checksum) {}
  ~SegmentMemory();
  SegmentMemory(const SegmentMemory&) = delete;
  SegmentMemory& operator=(const SegmentMemory&) = delete;

  std::uint64_t columns_checksum() const { return columns_checksum_; }

  bool IsVerified(std::uint32_t part) const {
    return part < kParts && (verified_[part / 64].load(std::memory_order_relaxed) >> (part % 64) & 1) != 0;
  }
  void SetVerified(std::uint32_t part) {
    if (part < kParts) verified_[part / 64].fetch_or(std::uint64_t{1} << (part % 64), std::memory_order_relaxed);
  }

  // Whether the checksum of the segment's cells has been seen to be right.
  std::atomic<bool>& cells_verified() { return cells_verified_; }

  bool MayHold(std::uint64_t trace_hash) const {
    const TraceSieve* const sieve = sieve_.load(std::memory_order_acquire);
    return sieve == nullptr || sieve->MayHold(trace_hash);
  }
  // Told of every search for a trace; true when a sieve is worth making by now: not for one search alone.
  bool WantsSieve() { return searches_.fetch_add(1, std::memory_order_relaxed) == 1; }
  void Keep(std::unique_ptr<const TraceSieve> sieve);

  // The largest of every kValuesPerBlock values of a chunk of ints that all rows have; null: nobody has kept them.
  using Maxima = std::vector<std::int64_t>;
  std::shared_ptr<const Maxima> MaximaOf(std::uint32_t chunk) const;
  void Keep(std::uint32_t chunk, std::shared_ptr<const Maxima> maxima);

 private:
  static constexpr std::uint32_t kParts = 512;  // others are verified whenever they are read

  const std::uint64_t columns_checksum_;
  std::array<std::atomic<std::uint64_t>, kParts / 64> verified_{};
  std::atomic<std::uint32_t> searches_ = 0;
  std::atomic<const TraceSieve*> sieve_ = nullptr;  // owned
  std::atomic<bool> cells_verified_ = false;
  mutable std::mutex mutex_;
  std::vector<std::pair<std::uint32_t, std::shared_ptr<const Maxima>>> maxima_;  // by chunk; guarded by mutex_
};

}  // namespace spanbox
