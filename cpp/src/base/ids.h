// Fresh identifiers. Thread rule: any thread; a forked child never repeats its parent's ids.
#pragma once

#include <cstdint>

#include "spanbox/exporter.h"
#include "spanbox/span.h"

namespace spanbox {

// The first 6 bytes are `wall_ns` in milliseconds, big-endian, so that ids sort by time; the other 10 are random.
TraceId NewTraceId(std::int64_t wall_ns) noexcept;
SpanId NewSpanId() noexcept;  // random, never 0
// Both of a root span, in one call.
void NewRootIds(std::int64_t wall_ns, TraceId& trace, SpanId& span) noexcept;
RingId NewRingId() noexcept;  // from the operating system

}  // namespace spanbox
