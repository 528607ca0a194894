// The rings of this process, and which thread has which lane.
//
// Two files make up the rings: the first, of a lane for each of a few threads, and the reserve, of all the other lanes
// max_ring_bytes allows. Both are made by the first record, when the disk has nothing else to do for us: in the middle
// of a burst, while a commit is being flushed, a slow disk may take a second to make a file. A reserve that has not
// been needed for a minute is removed, and made again by the keeper as soon as a lane begins to fill.
//
// Thread rule: any thread, unless a method says "collector" or "keeper". No lock is held across a system call. After
// Abandon (in a forked child) nothing is touched again. Ownership: shares the ring files with whoever drains them. A
// Lane* taken stays valid until it is returned; the overflow lane and the process page until Close. Invariants:
//   1. A lane has one owner at a time. Positions of a lane go on from owner to owner, and from file to file of a slot.
//   2. All files together are at most max_ring_bytes.
//   3. Lanes nobody has owned are never touched: they cost disk, and no memory.
// Units: nanoseconds, bytes.
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

  // Makes the rings if there are none; at most one try a second. False: there are none. Where no file can be made they
  // are made in memory.
  bool EnsureFirstRing() noexcept;
  bool has_ring() const { return has_ring_.load(std::memory_order_acquire); }

  // A lane for a thread that has none; nullptr: all are taken. The caller then uses the overflow lane.
  Lane* Take() noexcept;
  // Any free lane with room (or, when `lane` is to be given back, one of the first file); leaves `lane`. nullptr: none.
  Lane* Move(Lane* lane) noexcept;
  void Return(Lane* lane) noexcept;
  // Changes whenever a lane may have become free: no need to ask Take again before it does.
  std::uint64_t generation() const { return generation_.load(std::memory_order_relaxed); }

  // What the owner of `lane` may write before it finds no room: the rest of its lane, and free lanes. `all`: if they
  // were empty, and the lanes that only wait to be drained too. As of the last commit or change of lanes.
  struct Room {
    std::uint64_t left = 0, all = 0;
  };
  Room RoomFor(const Lane& lane) const;

  // The shared lane. REQUIRES: has_ring(), and LockOverflow for writing.
  Lane& overflow() { return *overflow_; }
  void LockOverflow() noexcept;
  void UnlockOverflow() noexcept { overflow_lock_.clear(std::memory_order_release); }

  // A record given up by a thread that has no lane.
  void CountDrop(RecordType type, std::size_t payload_bytes, bool nested) noexcept;
  // A record was accepted in its short form.
  void CountDegraded() noexcept { degraded_records_.fetch_add(1, std::memory_order_relaxed); }
  // The END of this span was dropped although its START may have been accepted.
  void NoteLostEnd(SpanId span) noexcept;

  struct Totals {
    std::uint64_t ended = 0, dropped_spans = 0, dropped_bytes = 0, waiting_bytes = 0, ring_bytes = 0,
                  degraded_records = 0;
  };
  Totals GetTotals() const;
  std::string last_error() const;
  bool crash_safe() const { return crash_safe_.load(std::memory_order_relaxed); }

  // Collector. Lanes in the order they must be drained: those that threads have left for another, in the order of
  // leaving, then the fullest.
  struct Lanes {
    std::vector<std::shared_ptr<RingFile>> files;  // keep the lanes mapped
    std::vector<Lane*> lanes;
    std::size_t left = 0;  // the first so many: the overflow lane, which threads leave at any time, and closing ones
  };
  Lanes LanesToDrain() const;
  // Every lane that has ever been used: its number and drop counters as of now.
  std::vector<LaneCursor> DropCounters() const;
  // Lanes that their threads have left, and that are stored, are free again.
  void FreeDrained();
  std::vector<SpanId> LostEnds() const;
  void ForgetLostEnds(std::size_t count);  // the oldest
  void SetAlive(std::int64_t wall_ns);

  // Keeper. Makes pages ahead of the writers; makes the reserve when it is missing and lanes fill, or removes it when
  // it has not been needed for a while.
  void Tend(std::int64_t now_ns);
  // A lane begins to fill and the reserve is missing: the keeper should be woken.
  bool WantsReserve() const;

  // Forgets the rings; `unlink`: removes their files. No lane may be written any more.
  void Close(bool unlink);
  // In a forked child: the mappings are gone.
  void Abandon() noexcept { abandoned_ = true; }

  const RingId& ring() const { return ring_; }

 private:
  struct Slot {  // of a ring file, present or past
    std::shared_ptr<RingFile> file;
    bool making = false;
    std::vector<LaneStart> past;  // by lane: where the lanes of its last file stopped
    std::int64_t last_used_ns = 0;
  };

  RingSpec Spec(std::uint32_t slot, std::uint32_t lanes, std::uint64_t lane_bytes) const;
  Status MakeFirst();
  Lane* FindFree(bool first_file_only) const;
  void Own(Lane& lane);
  bool Filling() const;
  bool PlanReserve(std::uint32_t& lanes, std::uint64_t& lane_bytes) const;
  void MakeReserve(std::int64_t now_ns);
  Status MakeFile(std::uint32_t lanes, std::uint64_t lane_bytes);
  void RemoveIdle(std::int64_t now_ns);
  void PopulateAhead();
  static bool IsIdle(const Slot& slot);
  void CountSpare();
  std::uint64_t RingBytes() const;
  template <typename Visit>
  void ForEachLane(Visit visit) const;  // the overflow lane is one of them
  template <typename Visit>
  void ForEachStop(Visit visit) const;  // (number, LaneStart as of now) of lanes that have been used, past ones too

  const std::string ring_dir_;
  const RecorderOptions options_;
  const RingId ring_;

  mutable std::mutex mutex_;  // slots_, lane states, last_error_
  std::map<std::uint32_t, Slot> slots_;
  std::string last_error_;
  std::uint64_t closed_lanes_ = 0;
  std::int64_t filling_ns_ = 0;    // when a lane was last seen to fill
  std::int64_t next_make_ns_ = 0;  // not before, after making the reserve has failed
  bool closed_ = false;
  bool abandoned_ = false;

  std::mutex create_mutex_;  // making the first ring
  std::int64_t next_try_ns_ = 0;
  std::atomic<bool> has_ring_{false};  // release: whoever sees it sees overflow_ and process_
  std::atomic<bool> crash_safe_{true};
  Lane* overflow_ = nullptr;
  ProcessPage* process_ = nullptr;

  std::atomic_flag overflow_lock_;
  std::atomic<std::uint64_t> generation_{1};
  std::atomic<std::uint32_t> lane_misses_{0};
  std::atomic<std::uint64_t> spare_left_{0}, spare_all_{0};  // of lanes without owner; relaxed: estimates
  std::atomic<std::uint64_t> early_dropped_spans_{0}, early_dropped_bytes_{0};  // before there was a ring
  std::atomic<std::uint64_t> degraded_records_{0};

  mutable std::mutex lost_mutex_;
  std::vector<SpanId> lost_ends_;
};

}  // namespace spanbox
