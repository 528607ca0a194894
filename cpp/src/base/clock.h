// Two clocks and the bridge between them: durations come from the monotonic clock, wall times are derived from it.
//
// Where the kernel itself keeps time by the processor's time-stamp counter, MonotonicNowNs reads that counter and
// scales it, which takes half the time of a call to the system; it is measured against the system's clock on every turn
// of the collector, so that the two differ by less than a microsecond, and readings may step back by that much then.
//
// Thread rule: any thread. Units: nanoseconds; wall times since 1970-01-01T00:00:00Z.
#pragma once

#include <cstdint>

namespace spanbox {

std::int64_t MonotonicNowNs() noexcept;  // as CLOCK_MONOTONIC
std::int64_t WallNowNs() noexcept;       // CLOCK_REALTIME

// Wall time of a monotonic reading made in this process. One addition: a span reads one clock at its start.
std::int64_t WallFromMonotonic(std::int64_t monotonic_ns) noexcept;

// Measures both bridges again; the collector does so on every turn, so that a stepped clock is followed. A counter that
// has not been measured for two seconds is not used.
void CalibrateClocks() noexcept;

}  // namespace spanbox
