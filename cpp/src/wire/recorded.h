// Spans that OpenTelemetry's API has recorded: their attributes are in the records as they were set, and become columns
// when the row is put together, by the collector, and by whoever looks at a span that runs. The caller pays for none of
// it.
//
// Thread rule: any thread. Ownership: what is added lives in the arena.
// Invariants:
//   1. A row without kOtelRaw stays as it is.
//   2. Restorer gives back the attributes that were set; of one set twice the last value.
#pragma once

#include <string_view>

#include "base/record_codec.h"

namespace spanbox {

// The attribute, true, that marks such a span in its records. No row that is stored has it.
inline constexpr std::string_view kOtelRaw = "otel.raw";

// The event by which OpenInference tells that the first piece of a stream has come.
inline constexpr std::string_view kFirstTokenEvent = "First Token Stream Event";

// A RowFinisher.
void AddColumnsOfAttributes(SpanRow& row, RowArena& arena);

}  // namespace spanbox
