#include "query/trace_reader.h"

#include <algorithm>
#include <utility>

#include "query/query_run.h"
#include "query/span_filler.h"

namespace spanbox {

Result<std::unique_ptr<TraceReader>> TraceReader::Read(Store& store, std::span<const TraceId> traces) {
  TraceNumbers numbers;
  for (const TraceId& trace : traces) numbers.NumberOf(trace);
  numbers.Freeze();
  SPANBOX_ASSIGN_OR_RETURN(std::unique_ptr<ReadView> view, store.Read());
  static const Interrupt kNever;
  SPANBOX_ASSIGN_OR_RETURN(auto reader, Read(*view, std::move(numbers), kNever));
  reader->view_ = std::move(view);
  return reader;
}

Result<std::unique_ptr<TraceReader>> TraceReader::Read(ReadView& view, TraceNumbers traces,
                                                       const Interrupt& interrupt) {
  std::unique_ptr<TraceReader> reader(new TraceReader);
  reader->traces_ = std::move(traces);
  TraceFacts& facts = reader->facts_;
  std::size_t stored = 0;
  const auto add = [&](const SegmentMeta& segment, std::unique_ptr<SegmentColumns> columns, const TraceRows& rows) {
    const auto part = static_cast<std::uint32_t>(reader->parts_.size());
    SPANBOX_RETURN_IF_ERROR(AppendFacts(*columns, rows, part, facts));
    reader->parts_.push_back(std::move(columns));
    if (segment.id != kOpenSpans) stored = facts.spans.size();
    return OkStatus();
  };
  SPANBOX_RETURN_IF_ERROR(ForEachTracePart(view, reader->traces_, interrupt, add));
  DropStored(stored, facts);
  reader->ends_ = GroupByTrace(reader->traces_.count(), facts.spans);
  return reader;
}

std::span<const SpanFacts> TraceReader::FactsOf(std::uint32_t number) const {
  const std::uint32_t begin = number == 0 ? 0 : ends_[number - 1];
  return std::span(facts_.spans).subspan(begin, ends_[number] - begin);
}

Result<TraceSummary> TraceReader::Summary(std::uint32_t number, const SpanTree& tree) {
  TraceSummary summary = tree.Summary();
  summary.trace_id = traces_.ids()[number];
  const SpanFacts* root = &tree.node(tree.root()).span;
  SPANBOX_ASSIGN_OR_RETURN(std::vector<TraceSpan> spans, Spans({&root, 1}, SpanParts::kTree));
  summary.name = std::move(spans.front().name);
  return summary;
}

Result<std::vector<TraceSpan>> TraceReader::Spans(std::span<const SpanFacts* const> facts, SpanParts parts) {
  std::vector<std::uint32_t> by_place(facts.size());  // text is cheapest in the order it is stored
  for (std::uint32_t i = 0; i < by_place.size(); ++i) by_place[i] = i;
  std::ranges::sort(by_place, {}, [&](std::uint32_t i) { return std::pair(facts[i]->part, facts[i]->row); });
  std::vector<TraceSpan> spans(facts.size());
  std::vector<std::uint32_t> rows;
  std::vector<TraceSpan> filled;
  for (std::size_t begin = 0; begin < by_place.size();) {
    const std::uint32_t part = facts[by_place[begin]]->part;
    rows.clear();
    std::size_t end = begin;
    for (; end < by_place.size() && facts[by_place[end]]->part == part; ++end) {
      rows.push_back(facts[by_place[end]]->row);
    }
    filled.assign(rows.size(), {});
    SPANBOX_RETURN_IF_ERROR(FillSpans(*parts_[part], rows, parts, filled));
    for (std::size_t k = 0; k < filled.size(); ++k) {
      const std::uint32_t i = by_place[begin + k];
      spans[i] = std::move(filled[k]);
      spans[i].trace_id = traces_.ids()[facts[i]->trace];
      spans[i].span_id = facts[i]->span_id;
      spans[i].parent_id = facts[i]->parent_id;
      spans[i].kind = facts[i]->kind;
      spans[i].status = facts[i]->status;
      spans[i].start_ns = facts[i]->start_ns;
      spans[i].duration_ns = facts[i]->duration_ns;
    }
    begin = end;
  }
  return spans;
}

}  // namespace spanbox
