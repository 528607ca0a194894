// The rings of this process, and which thread has which lane.
//
// Thread rule: any thread, unless a method says "collector". After Abandon (in a forked child) nothing is touched
// again. Ownership: owns the ring files. A Lane* taken stays valid until it is returned; the overflow lane and the
// process page until Close. Invariants:
//   1. A lane has one owner at a time. Positions of a lane go on from owner to owner, and from file to file of a slot.
//   2. Caller's threads make one file, the first; all others are made by the collector, ahead of need.
//   3. All files together are at most max_ring_bytes.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "record/ring.h"
#include "spanbox/options.h"

namespace spanbox {

class LanePool {
 public:
  LanePool(std::string ring_dir, const RecorderOptions& options);

  // Makes the first ring file if there is none; at most one try a second. False: there is none.
  bool EnsureFirstRing() noexcept;
  bool has_ring() const { return has_ring_.load(std::memory_order_acquire); }

  // A lane for a thread that has none; nullptr: all are taken. The caller then uses the overflow lane.
  Lane* Take() noexcept;
  // A free lane at least as large as `lane` (or, when it is to be given back, smaller); leaves `lane`. nullptr: none.
  Lane* Move(Lane* lane) noexcept;
  void Return(Lane* lane) noexcept;
  // Changes whenever a lane may have become free: no need to ask Take again before it does.
  std::uint64_t generation() const { return generation_.load(std::memory_order_relaxed); }

  // The shared lane. REQUIRES: has_ring(), and LockOverflow for writing.
  Lane& overflow() { return *overflow_; }
  void LockOverflow() noexcept;
  void UnlockOverflow() noexcept { overflow_lock_.clear(std::memory_order_release); }

  // A record given up by a thread that has no lane.
  void CountDrop(RecordType type, std::size_t payload_bytes, bool nested) noexcept;
  // The END of this span was dropped although its START may have been accepted.
  void NoteLostEnd(SpanId span) noexcept;

  struct Totals {
    std::uint64_t ended = 0, dropped_spans = 0, dropped_bytes = 0, waiting_bytes = 0, ring_bytes = 0;
  };
  Totals GetTotals() const;
  std::string last_error() const;

  // Collector. Lanes in the order they must be drained: those that threads have left for another, in the order of
  // leaving, then the fullest.
  std::vector<Lane*> LanesToDrain();
  // Threads leave the overflow lane at any time, and a closing one for good.
  bool ThreadsHaveLeft(const Lane& lane) const;
  std::vector<SpanId> TakeLostEnds();
  // Cursors of every lane that has ever been used, with their drop counters as of now.
  std::vector<LaneCursor> AllCursors() const;
  // Lanes that their threads have left, and that are stored, are free again.
  void FreeDrained();
  // Adds a ring file when more than a quarter of the lanes' bytes wait or all lanes are taken. True: it has tried.
  bool GrowIfNeeded(std::int64_t now_ns);
  // The same, or removes a file that has not been used for a while. REQUIRES: the collector holds no Lane*.
  void Adapt(std::int64_t now_ns);
  void SetAlive(std::int64_t wall_ns);
  void PopulateFirst();

  // Forgets the rings; `unlink`: removes their files. No lane may be written any more.
  void Close(bool unlink);
  // In a forked child: the mappings are gone.
  void Abandon() noexcept { abandoned_ = true; }

  const RingId& ring() const { return ring_; }
  std::uint64_t lane_bytes() const { return options_.lane_bytes; }

 private:
  struct Slot {  // of a ring file, present or past
    std::unique_ptr<RingFile> file;
    std::vector<LaneStart> past;  // by lane: where the lanes of its last file stopped
    std::int64_t last_used_ns = 0;
  };

  RingSpec Spec(std::uint32_t slot, std::uint32_t lanes, std::uint64_t lane_bytes) const;
  Lane* FindFree(std::uint64_t above_bytes, std::uint64_t below_bytes);
  void Own(Lane& lane);
  bool WantsGrowth(std::uint32_t& lanes, std::uint64_t& lane_bytes);
  void Grow(std::uint32_t lanes, std::uint64_t lane_bytes);
  void Shrink(std::int64_t now_ns);
  bool IsIdle(const Slot& slot) const;
  std::uint64_t RingBytes() const;
  template <typename Visit>
  void ForEachLane(Visit visit) const;  // the overflow lane is one of them
  template <typename Visit>
  void ForEachPast(Visit visit) const;  // lanes that were, and have no file now

  const std::string ring_dir_;
  const RecorderOptions options_;
  const RingId ring_;

  mutable std::mutex mutex_;  // slots_, lane states, last_error_
  std::map<std::uint32_t, Slot> slots_;
  std::string last_error_;
  std::uint64_t closed_lanes_ = 0;
  std::int64_t calm_since_ns_ = 0;
  bool closed_ = false;
  bool abandoned_ = false;

  std::mutex create_mutex_;  // making the first ring
  std::int64_t next_try_ns_ = 0;
  std::atomic<bool> has_ring_{false};  // release: whoever sees it sees overflow_ and process_
  Lane* overflow_ = nullptr;
  ProcessPage* process_ = nullptr;

  std::atomic_flag overflow_lock_;
  std::atomic<std::uint64_t> generation_{1};
  std::atomic<std::uint32_t> lane_misses_{0};
  std::atomic<std::uint64_t> early_dropped_spans_{0}, early_dropped_bytes_{0};  // before there was a ring

  std::mutex lost_mutex_;
  std::vector<SpanId> lost_ends_;
};

}  // namespace spanbox
