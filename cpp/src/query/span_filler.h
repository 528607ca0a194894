// Names and attributes of spans, from the rows of a segment.
//
// Thread rule: functions; a SegmentColumns belongs to one thread. Ownership: spans own what they get.
#pragma once

#include <cstdint>
#include <span>

#include "query/segment_columns.h"
#include "spanbox/trace.h"

namespace spanbox {

// Gives spans[i] the name and the attributes of rows[i]. REQUIRES: rows ascend; as many spans, empty ones.
Status FillSpans(SegmentColumns& columns, std::span<const std::uint32_t> rows, SpanParts parts,
                 std::span<TraceSpan> spans);

}  // namespace spanbox
