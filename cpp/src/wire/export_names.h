// What an exported span says beside the attributes it came with.
//
// Thread rule: functions. Ownership: texts that are made live in `arena`.
// Invariant: an attribute that is there stays as it is.
#pragma once

#include <vector>

#include "base/record_codec.h"
#include "spanbox/span.h"

namespace spanbox {

// Columns under today's OpenTelemetry names, and what kind of work it is; not payloads, which would be there twice.
void AddCurrentNames(const SpanRow& row, RowArena& arena, std::vector<Field>& attributes);

// What Phoenix and others that know OpenInference read.
void AddOpenInference(const SpanRow& row, RowArena& arena, std::vector<Field>& attributes);

}  // namespace spanbox
