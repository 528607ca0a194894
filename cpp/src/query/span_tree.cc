#include "query/span_tree.h"

#include <absl/container/flat_hash_map.h>

#include <algorithm>
#include <tuple>

namespace spanbox {
namespace {

constexpr std::uint32_t kNone = SpanTree::kNone;

void AddTokens(const std::optional<std::int64_t>& more, std::optional<std::int64_t>& total) {
  if (more) total = SaturatingAdd(total.value_or(0), *more);
}

void AddTokens(const Usage& more, Usage& total) {
  AddTokens(more.input_tokens, total.input_tokens);
  AddTokens(more.cache_read_tokens, total.cache_read_tokens);
  AddTokens(more.cache_write_tokens, total.cache_write_tokens);
  AddTokens(more.output_tokens, total.output_tokens);
  AddTokens(more.reasoning_tokens, total.reasoning_tokens);
}

// Index of each span's parent. REQUIRES: by start.
std::vector<std::uint32_t> ParentsOf(const std::vector<SpanFacts>& spans) {
  absl::flat_hash_map<SpanId, std::uint32_t> by_id;
  by_id.reserve(spans.size());
  for (std::uint32_t i = 0; i < spans.size(); ++i) by_id.try_emplace(spans[i].span_id, i);
  std::vector<std::uint32_t> parents(spans.size(), kNone);
  for (std::uint32_t i = 0; i < spans.size(); ++i) {
    const auto parent = by_id.find(spans[i].parent_id);
    if (parent != by_id.end()) parents[i] = parent->second;
  }
  return parents;
}

// Walks up from every span; a walk that meets itself has found a cycle, whose earliest span becomes a root.
void CutCycles(std::vector<std::uint32_t>& parents) {
  std::vector<std::uint32_t> walk_of(parents.size(), kNone);
  for (std::uint32_t start = 0; start < parents.size(); ++start) {
    std::uint32_t i = start;
    for (; i != kNone && walk_of[i] == kNone; i = parents[i]) walk_of[i] = start;
    if (i == kNone || walk_of[i] != start) continue;
    std::uint32_t earliest = i;
    for (std::uint32_t j = parents[i]; j != i; j = parents[j]) earliest = std::min(earliest, j);
    parents[earliest] = kNone;
  }
}

}  // namespace

void Add(const SpanTotals& more, SpanTotals& totals) {
  totals.spans += more.spans;
  totals.errors += more.errors;
  totals.model_calls += more.model_calls;
  totals.unpriced_calls += more.unpriced_calls;
  AddTokens(more.usage, totals.usage);
  if (more.usage.cost_usd) totals.usage.cost_usd = totals.usage.cost_usd.value_or(0) + *more.usage.cost_usd;
}

SpanTree::SpanTree(std::span<const SpanFacts> spans, std::span<const Usage> usages) {
  Order({spans.begin(), spans.end()});
  FindEnds();
  AddUp(usages);
  for (std::uint32_t i = 0; i < size(); i = nodes_[i].end) {
    if (nodes_[i].span.parent_id != 0) continue;
    root_ = i;
    break;
  }
}

void SpanTree::Order(std::vector<SpanFacts> spans) {
  std::ranges::sort(spans, {}, [](const SpanFacts& span) { return std::tuple(span.start_ns, span.span_id, span.row); });
  std::vector<std::uint32_t> parents = ParentsOf(spans);
  CutCycles(parents);
  std::vector<std::uint32_t> first_child(spans.size(), kNone), next(spans.size(), kNone), number(spans.size());
  std::uint32_t first_root = kNone;
  for (auto i = static_cast<std::uint32_t>(spans.size()); i-- > 0;) {
    std::uint32_t& first = parents[i] == kNone ? first_root : first_child[parents[i]];
    next[i] = std::exchange(first, i);
  }
  nodes_.reserve(spans.size());
  for (std::uint32_t i = first_root; i != kNone;) {
    number[i] = size();
    Node& node = nodes_.emplace_back();
    node.span = spans[i];
    if (parents[i] != kNone) {
      node.parent = number[parents[i]];
      node.depth = nodes_[node.parent].depth + 1;
      ++nodes_[node.parent].children;
    }
    if (first_child[i] != kNone) {
      i = first_child[i];
      continue;
    }
    for (; i != kNone && next[i] == kNone; i = parents[i]) nodes_[number[i]].end = size();
    if (i != kNone) {
      nodes_[number[i]].end = size();
      i = next[i];
    }
  }
}

// The last moment known of a span: of one that is running, that of the trace; else the last of it and all below it.
void SpanTree::FindEnds() {
  std::int64_t last_ns = std::numeric_limits<std::int64_t>::min();
  for (Node& node : nodes_) {
    node.end_ns = SaturatingAdd(node.span.start_ns, std::max<std::int64_t>(0, node.span.duration_ns));
    last_ns = std::max(last_ns, node.end_ns);
  }
  std::vector<std::int64_t> last_below_ns(nodes_.size(), std::numeric_limits<std::int64_t>::min());
  for (std::uint32_t i = size(); i-- > 0;) {
    Node& node = nodes_[i];
    const std::int64_t known_ns = std::max(node.end_ns, last_below_ns[i]);
    if (node.span.duration_ns < 0) node.end_ns = node.span.status == SpanStatus::kRunning ? last_ns : known_ns;
    if (node.parent != kNone) last_below_ns[node.parent] = std::max(last_below_ns[node.parent], known_ns);
  }
}

void SpanTree::AddUp(std::span<const Usage> usages) {
  totals_.resize(nodes_.size());
  std::vector<bool> child_failed(nodes_.size());
  for (std::uint32_t i = size(); i-- > 0;) {
    const Node& node = nodes_[i];
    SpanTotals& totals = totals_[i];  // so far of all below it
    ++totals.spans;
    const bool failed = node.span.status == SpanStatus::kError;
    if (failed && !child_failed[i]) ++totals.errors;
    if (IsModelCall(node.span.kind)) {
      const Usage own = node.span.usage == SpanFacts::kNoUsage ? Usage{} : usages[node.span.usage];
      if (totals.model_calls == 0) totals.model_calls = totals.unpriced_calls = 1;
      if (!totals.usage.has_tokens()) AddTokens(own, totals.usage);
      if (!totals.usage.cost_usd && own.cost_usd) {
        totals.usage.cost_usd = own.cost_usd;
        totals.unpriced_calls = 0;
      }
    }
    if (node.parent == kNone) continue;
    Add(totals, totals_[node.parent]);
    if (failed) child_failed[node.parent] = true;
  }
}

std::int64_t SpanTree::SelfNs(std::uint32_t i) const {
  const Node& node = nodes_[i];
  if (node.span.duration_ns < 0) return -1;
  std::int64_t self_ns = SaturatingSub(node.end_ns, node.span.start_ns), covered_until_ns = node.span.start_ns;
  ForEachChild(i, [&](std::uint32_t child) {
    const std::int64_t from_ns = std::max(nodes_[child].span.start_ns, covered_until_ns);
    const std::int64_t until_ns = std::min(nodes_[child].end_ns, node.end_ns);
    if (until_ns <= from_ns) return;
    self_ns -= until_ns - from_ns;
    covered_until_ns = until_ns;
  });
  return self_ns;
}

TraceSummary SpanTree::Summary() const {
  TraceSummary summary;
  const SpanFacts& root = nodes_[root_].span;
  summary.root_id = root.span_id;
  summary.kind = root.kind;
  summary.start_ns = root.start_ns;
  bool ended = false;
  std::int64_t end_ns = std::numeric_limits<std::int64_t>::min();
  for (const Node& node : nodes_) {
    summary.start_ns = std::min(summary.start_ns, node.span.start_ns);
    if (node.span.duration_ns < 0) continue;
    ended = true;
    end_ns = std::max(end_ns, node.end_ns);
  }
  if (ended) summary.duration_ns = SaturatingSub(end_ns, summary.start_ns);
  const auto rank = [](SpanStatus status) {
    constexpr int kRanks[] = {0, 3, 1, 2};  // ok, error, running, interrupted
    return kRanks[static_cast<std::size_t>(status)];
  };
  for (std::uint32_t i = 0; i < size(); i = nodes_[i].end) {
    Add(totals_[i], summary.totals);
    if (rank(nodes_[i].span.status) > rank(summary.status)) summary.status = nodes_[i].span.status;
  }
  return summary;
}

}  // namespace spanbox
