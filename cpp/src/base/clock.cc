#include "base/clock.h"

#include <time.h>

#include <atomic>
#include <limits>

namespace spanbox {
namespace {

constexpr std::int64_t kNoOffset = std::numeric_limits<std::int64_t>::min();
std::atomic<std::int64_t> wall_offset_ns{kNoOffset};

std::int64_t Read(clockid_t clock) noexcept {
  timespec now{};
  clock_gettime(clock, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

std::int64_t MonotonicNowNs() noexcept { return Read(CLOCK_MONOTONIC); }
std::int64_t WallNowNs() noexcept { return Read(CLOCK_REALTIME); }

std::int64_t WallFromMonotonic(std::int64_t monotonic_ns) noexcept {
  std::int64_t offset = wall_offset_ns.load(std::memory_order_relaxed);
  if (offset == kNoOffset) {
    RefreshWallOffset();
    offset = wall_offset_ns.load(std::memory_order_relaxed);
  }
  return monotonic_ns + offset;
}

void RefreshWallOffset() noexcept {
  // Of several readings the one with the narrowest bracket is best: the others were interrupted in the middle.
  std::int64_t best_width = std::numeric_limits<std::int64_t>::max();
  std::int64_t best_offset = 0;
  for (int attempt = 0; attempt < 3; ++attempt) {
    const std::int64_t before = MonotonicNowNs();
    const std::int64_t wall = WallNowNs();
    const std::int64_t width = MonotonicNowNs() - before;
    if (width >= best_width) continue;
    best_width = width;
    best_offset = wall - before - width / 2;
  }
  wall_offset_ns.store(best_offset, std::memory_order_relaxed);
}

}  // namespace spanbox
