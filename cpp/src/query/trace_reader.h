// Some traces of a store, read once: their trees, and their spans with what is stored of them.
//
// Thread rule: one thread. Ownership: holds a view of the store and the decoded columns of the segments concerned.
// Invariant: everything is of the moment of Read.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "query/trace_facts.h"
#include "spanbox/trace.h"

namespace spanbox {

class TraceReader {
 public:
  static Result<std::unique_ptr<TraceReader>> Read(Store& store, std::span<const TraceId> traces);
  // For a view that is there already. `interrupt` must outlive the reader. REQUIRES: traces is frozen.
  static Result<std::unique_ptr<TraceReader>> Read(ReadView& view, TraceNumbers traces, const Interrupt& interrupt);
  TraceReader(const TraceReader&) = delete;
  TraceReader& operator=(const TraceReader&) = delete;

  // Traces are numbered as they were asked for, without repetitions.
  std::uint32_t traces() const { return traces_.count(); }
  bool Has(std::uint32_t number) const { return !FactsOf(number).empty(); }
  SpanTree Tree(std::uint32_t number) const { return {FactsOf(number), facts_.usages}; }
  // What a model call took; null: it did not tell.
  const Usage* UsageOf(const SpanFacts& span) const {
    return span.usage == SpanFacts::kNoUsage ? nullptr : &facts_.usages[span.usage];
  }
  Result<TraceSummary> Summary(std::uint32_t number, const SpanTree& tree);

  // In the order of the facts, but for their places in the tree.
  Result<std::vector<TraceSpan>> Spans(std::span<const SpanFacts* const> facts, SpanParts parts);

 private:
  TraceReader() = default;
  std::span<const SpanFacts> FactsOf(std::uint32_t number) const;

  std::unique_ptr<ReadView> view_;  // null: somebody else's
  TraceNumbers traces_;
  std::vector<std::unique_ptr<SegmentColumns>> parts_;
  TraceFacts facts_;
  std::vector<std::uint32_t> ends_;  // of each trace's facts
};

}  // namespace spanbox
