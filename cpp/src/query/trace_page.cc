#include <absl/container/flat_hash_set.h>

#include <algorithm>

#include "query/critical_path.h"
#include "query/span_filler.h"
#include "query/trace_reader.h"
#include "spanbox/trace.h"

namespace spanbox {
namespace {

// The nodes that are lines of the tree.
std::vector<std::uint32_t> Lines(const SpanTree& tree, std::span<const SpanId> collapsed) {
  const absl::flat_hash_set<SpanId> closed(collapsed.begin(), collapsed.end());
  std::vector<std::uint32_t> lines;
  lines.reserve(tree.size());
  for (std::uint32_t i = 0; i < tree.size();) {
    lines.push_back(i);
    i = !closed.empty() && closed.contains(tree.node(i).span.span_id) ? tree.node(i).end : i + 1;
  }
  return lines;
}

std::vector<std::int64_t> CriticalTimes(const SpanTree& tree) {
  std::vector<std::int64_t> critical_ns(tree.size());
  for (const PathPart& part : CriticalPath(tree)) {
    const std::int64_t part_ns = SaturatingSub(part.end_ns, part.start_ns);
    critical_ns[part.node] = SaturatingAdd(critical_ns[part.node], part_ns);
  }
  return critical_ns;
}

void Place(const SpanTree& tree, std::uint32_t i, std::int64_t critical_ns, TraceSpan& span) {
  span.depth = tree.node(i).depth;
  span.children = tree.node(i).children;
  span.self_ns = tree.SelfNs(i);
  span.critical_ns = critical_ns;
  span.totals = tree.totals(i);
}

}  // namespace

Result<TracePage> TracePageOf(Store& store, const TraceId& trace, const TracePageOptions& options) {
  SPANBOX_ASSIGN_OR_RETURN(const auto reader, TraceReader::Read(store, {&trace, 1}));
  if (!reader->Has(0)) return NotFound("no trace " + ToHex(trace) + " in " + store.path());
  const SpanTree tree = reader->Tree(0);
  const std::vector<std::uint32_t> lines = Lines(tree, options.collapsed);
  const auto from = std::min<std::uint64_t>(options.offset, lines.size());
  const std::span shown = std::span(lines).subspan(from, std::min<std::uint64_t>(options.limit, lines.size() - from));
  std::vector<const SpanFacts*> facts;
  facts.reserve(shown.size());
  for (const std::uint32_t i : shown) facts.push_back(&tree.node(i).span);
  TracePage page;
  page.lines = lines.size();
  SPANBOX_ASSIGN_OR_RETURN(page.trace, reader->Summary(0, tree));
  SPANBOX_ASSIGN_OR_RETURN(page.spans, reader->Spans(facts, options.parts));
  const std::vector<std::int64_t> critical_ns = CriticalTimes(tree);
  for (std::size_t k = 0; k < shown.size(); ++k) Place(tree, shown[k], critical_ns[shown[k]], page.spans[k]);
  return page;
}

Result<TraceOutline> OutlineOf(Store& store, const TraceId& trace) {
  SPANBOX_ASSIGN_OR_RETURN(const auto reader, TraceReader::Read(store, {&trace, 1}));
  if (!reader->Has(0)) return NotFound("no trace " + ToHex(trace) + " in " + store.path());
  const SpanTree tree = reader->Tree(0);
  TraceOutline outline;
  SPANBOX_ASSIGN_OR_RETURN(outline.trace, reader->Summary(0, tree));
  outline.spans.resize(tree.size());
  for (std::uint32_t i = 0; i < tree.size(); ++i) {
    const SpanTree::Node& node = tree.node(i);
    const Usage* usage = reader->UsageOf(node.span);
    outline.spans[i] = {.span_id = node.span.span_id,
                        .parent = node.parent == SpanTree::kNone ? OutlineSpan::kNoParent : node.parent,
                        .depth = node.depth,
                        .kind = node.span.kind,
                        .status = node.span.status,
                        .start_ns = node.span.start_ns,
                        .duration_ns = node.span.duration_ns,
                        .cost_usd = usage == nullptr ? std::nullopt : usage->cost_usd};
  }
  return outline;
}

Result<std::vector<TraceSpan>> TraceOf(Store& store, const TraceId& trace) {
  SPANBOX_ASSIGN_OR_RETURN(TracePage page, TracePageOf(store, trace, {}));
  return std::move(page.spans);
}

Result<std::vector<PathStep>> CriticalPathOf(Store& store, const TraceId& trace) {
  SPANBOX_ASSIGN_OR_RETURN(const auto reader, TraceReader::Read(store, {&trace, 1}));
  if (!reader->Has(0)) return NotFound("no trace " + ToHex(trace) + " in " + store.path());
  const SpanTree tree = reader->Tree(0);
  const std::vector<PathPart> path = CriticalPath(tree);
  std::vector<const SpanFacts*> facts;
  for (const PathPart& part : path) facts.push_back(&tree.node(part.node).span);
  SPANBOX_ASSIGN_OR_RETURN(std::vector<TraceSpan> spans, reader->Spans(facts, SpanParts::kTree));
  std::vector<PathStep> steps;
  for (std::size_t k = 0; k < path.size(); ++k) {
    const std::int64_t duration_ns = SaturatingSub(path[k].end_ns, path[k].start_ns);
    steps.push_back({spans[k].span_id, std::move(spans[k].name), spans[k].kind, path[k].start_ns, duration_ns});
  }
  return steps;
}

Result<std::vector<TraceSummary>> SummariesOf(Store& store, std::span<const TraceId> traces) {
  SPANBOX_ASSIGN_OR_RETURN(const auto reader, TraceReader::Read(store, traces));
  std::vector<TraceSummary> summaries;
  for (std::uint32_t number = 0; number < reader->traces(); ++number) {
    if (!reader->Has(number)) continue;
    SPANBOX_ASSIGN_OR_RETURN(TraceSummary summary, reader->Summary(number, reader->Tree(number)));
    summaries.push_back(std::move(summary));
  }
  return summaries;
}

}  // namespace spanbox
