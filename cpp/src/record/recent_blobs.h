// Blobs accepted a moment ago, by their ids: the same prompt is often recorded again and again. Fixed in size; what
// does not fit, or is older, is written again, and the store sees that it has it.
//
// Thread rule: any thread, and signal handlers: nobody waits. Units: nanoseconds.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "base/clock.h"
#include "spanbox/blob.h"

namespace spanbox {

class RecentBlobs {
 public:
  bool Holds(const BlobId& id) noexcept {
    const Hold hold(*this);
    const Entry& entry = EntryOf(id);
    return hold.mine && entry.id == id && entry.until_ns > MonotonicNowNs();
  }
  void Add(const BlobId& id) noexcept {
    const Hold hold(*this);
    if (hold.mine) EntryOf(id) = {id, MonotonicNowNs() + kKeptNs};
  }

 private:
  // Not for ever: meanwhile the store may have deleted it.
  static constexpr std::int64_t kKeptNs = 60'000'000'000;
  struct Entry {
    BlobId id;
    std::int64_t until_ns = 0;
  };
  // Who finds it taken goes without: nobody waits, not even a signal handler.
  struct Hold {
    explicit Hold(RecentBlobs& b) : blobs(b), mine(!b.taken_.test_and_set(std::memory_order_acquire)) {}
    ~Hold() {
      if (mine) blobs.taken_.clear(std::memory_order_release);
    }
    RecentBlobs& blobs;
    const bool mine;
  };
  Entry& EntryOf(const BlobId& id) { return entries_[id.bytes[0]]; }

  std::atomic_flag taken_;
  std::array<Entry, 256> entries_;
};

}  // namespace spanbox
