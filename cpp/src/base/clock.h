// Two clocks and the bridge between them: durations come from the monotonic clock, wall times are derived from it.
//
// Thread rule: any thread. Units: nanoseconds; wall times since 1970-01-01T00:00:00Z.
#pragma once

#include <cstdint>

namespace spanbox {

std::int64_t MonotonicNowNs() noexcept;  // CLOCK_MONOTONIC
std::int64_t WallNowNs() noexcept;       // CLOCK_REALTIME

// Wall time of a monotonic reading made in this process. One addition: a span reads one clock at its start.
std::int64_t WallFromMonotonic(std::int64_t monotonic_ns) noexcept;

// Measures the offset again; the collector does so on every turn, so that a stepped clock is followed.
void RefreshWallOffset() noexcept;

}  // namespace spanbox
