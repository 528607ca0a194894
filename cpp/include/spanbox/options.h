// Every setting of the recorder and of the store, next to what it does. Defaults are right for an application.
//
// Thread rule: plain values, read once when the recorder or store is opened.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "spanbox/sampling.h"

namespace spanbox {

// What a writer does when its lane is full and no other lane is to be had.
enum class FullRingPolicy {
  kWait,   // from half full on slow down; when full wait; at most RecorderOptions::max_wait_ns a call; then drop, count
  kDrop,   // drop and count at once
  kBlock,  // wait until there is room: for batch jobs, never for a server
};

struct RecorderOptions {
  // Bytes of one lane of the first ring file; a power of two, 64 KiB to 64 MiB. A lane serves one thread at a time.
  // A payload may take a quarter of it.
  std::uint32_t lane_bytes = 2u << 20;

  // Lanes of the first ring file, 1 to 64.
  std::uint32_t lanes = 4;

  // All ring files of this process together: disk, reserved while the process records, and memory only as far as it is
  // used. It is what a burst may write while nothing can be committed. All in use: full_ring_policy decides.
  std::uint64_t max_ring_bytes = 64u << 20;

  FullRingPolicy full_ring_policy = FullRingPolicy::kWait;
  std::int64_t max_wait_ns = 1'000'000;

  // How a writer's thread waits; empty: it sleeps. For programs that have to let go of something meanwhile, an
  // interpreter's lock for instance. Must not throw. May be called on any thread that records, at the same time.
  std::function<void(std::int64_t ns)> wait;

  // A commit is made when either is reached, or at once on Flush.
  std::int64_t commit_interval_ns = 100'000'000;
  std::uint32_t commit_bytes = 4u << 20;

  // A collector that makes no progress in one step for so long, while records wait, is replaced by another.
  std::int64_t wedged_after_ns = 10'000'000'000;

  // What the end of the recorder may take. What is not stored by then stays in the ring files, and is stored by whoever
  // opens the store next.
  std::int64_t close_timeout_ns = 40'000'000;

  // Where dead rings are looked for, when that is not where this recorder's are: see RingDirElsewhere.
  std::string recover_dir;

  // Attributes written on every span's row as it is stored, e.g. release and environment: empty by default.
  std::string release;
  std::string environment;

  // Which traces are stored whole, and which are only counted. By default all are.
  Sampling sampling;
};

struct StoreOptions {
  // false: fail with NotFound when there is no store at the path.
  bool create_if_missing = true;

  // First size of the memory map in bytes: address space only, grown by doubling. Tests set it small.
  std::uint64_t map_bytes = 1ull << 30;

  // Rows at which a segment is left alone by merging.
  std::uint32_t target_segment_rows = 65'536;

  // Segments of similar size that are merged into one.
  std::uint32_t merge_fan_in = 16;

  // Pause between looking for segments of that size to pack once more, smaller and with a search filter.
  std::int64_t settle_after_ns = 30'000'000'000;
};

}  // namespace spanbox
