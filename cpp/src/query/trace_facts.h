// The facts of every span of some traces, from all segments that hold any.
//
// Thread rule: one thread. Ownership: see the functions.
// Invariant: a span that is stored and also among the open spans is here once, as it is stored.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "query/segment_columns.h"
#include "query/span_tree.h"
#include "query/trace_numbers.h"
#include "store/read_view.h"

namespace spanbox {

struct TraceFacts {
  std::vector<SpanFacts> spans;
  std::vector<Usage> usages;  // SpanFacts::usage points into it
};

// Rows of a segment that are spans of the traces; `trace` is the number of each.
struct TraceRows {
  std::vector<std::uint32_t> rows, trace;
};

// Calls visit(segment, columns, rows) for every segment that holds spans of the traces. Open spans come last.
// REQUIRES: traces is frozen. `interrupt` is asked before each, and must live as long as the columns.
using TracePartVisitor =
    std::function<Status(const SegmentMeta& segment, std::unique_ptr<SegmentColumns> columns, const TraceRows& rows)>;
Status ForEachTracePart(ReadView& view, const TraceNumbers& traces, const Interrupt& interrupt,
                        const TracePartVisitor& visit);

// Appends the facts of these rows, as stored in part number `part`.
Status AppendFacts(SegmentColumns& columns, const TraceRows& rows, std::uint32_t part, TraceFacts& facts);

// Takes those of the spans from number `first_open` on out that stand before it, too.
void DropStored(std::size_t first_open, TraceFacts& facts);

// Orders the spans by trace; the end of each trace's spans. REQUIRES: SpanFacts::trace < traces.
std::vector<std::uint32_t> GroupByTrace(std::uint32_t traces, std::vector<SpanFacts>& spans);

}  // namespace spanbox
