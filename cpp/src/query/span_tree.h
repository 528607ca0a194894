// The tree of one trace: order, times, totals. docs/traces.md gives the rules.
//
// Thread rule: immutable once made. Ownership: owns its nodes.
// Invariants:
//   T1  nodes are numbered depth first: a parent comes before its children, and what is below node i are the nodes
//       i + 1 to node(i).end - 1
//   T2  the order and the parents are those spanbox/trace.h states, whatever the ids and times are
//   T3  nothing here recurses: traces may be deeper than the stack
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "spanbox/span.h"
#include "spanbox/trace.h"

namespace spanbox {

// What the tree needs of a span.
struct SpanFacts {
  static constexpr std::uint32_t kNoUsage = std::numeric_limits<std::uint32_t>::max();

  SpanId span_id = 0, parent_id = 0;
  std::int64_t start_ns = 0, duration_ns = -1;
  std::uint32_t trace = 0;          // its number
  std::uint32_t part = 0, row = 0;  // where it is stored
  std::uint32_t usage = kNoUsage;   // index, of model calls that tell some
  SpanKind kind = SpanKind::kSpan;
  SpanStatus status = SpanStatus::kOk;
};

inline bool IsModelCall(SpanKind kind) { return kind == SpanKind::kLlm || kind == SpanKind::kEmbedding; }

// Sums that stay at the largest number instead of overflowing: times and counts come from anywhere.
inline std::int64_t SaturatingAdd(std::int64_t a, std::int64_t b) {
  std::int64_t sum = 0;
  if (!__builtin_add_overflow(a, b, &sum)) return sum;
  return b < 0 ? std::numeric_limits<std::int64_t>::min() : std::numeric_limits<std::int64_t>::max();
}
inline std::int64_t SaturatingSub(std::int64_t a, std::int64_t b) {
  std::int64_t difference = 0;
  if (!__builtin_sub_overflow(a, b, &difference)) return difference;
  return b > 0 ? std::numeric_limits<std::int64_t>::min() : std::numeric_limits<std::int64_t>::max();
}

void Add(const SpanTotals& more, SpanTotals& totals);

class SpanTree {
 public:
  static constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

  struct Node {
    SpanFacts span;
    std::uint32_t parent = kNone, depth = 0, children = 0;
    std::uint32_t end = 0;    // one past the last node below it
    std::int64_t end_ns = 0;  // of a span without one the last moment known of it; never before its start
  };

  // REQUIRES: spans are of one trace, at least one, fewer than kNone. `usages`: what SpanFacts::usage points to.
  SpanTree(std::span<const SpanFacts> spans, std::span<const Usage> usages);

  std::uint32_t size() const { return static_cast<std::uint32_t>(nodes_.size()); }
  const Node& node(std::uint32_t i) const { return nodes_[i]; }
  const SpanTotals& totals(std::uint32_t i) const { return totals_[i]; }
  std::int64_t SelfNs(std::uint32_t i) const;  // -1: its duration is not known

  // Calls fn(child) for the children of a node, by start.
  template <typename Fn>
  void ForEachChild(std::uint32_t i, Fn&& fn) const {
    for (std::uint32_t child = i + 1; child < nodes_[i].end; child = nodes_[child].end) fn(child);
  }

  std::uint32_t root() const { return root_; }
  TraceSummary Summary() const;  // but for the trace's id and the root's name

 private:
  void Order(std::vector<SpanFacts> spans);
  void FindEnds();
  void AddUp(std::span<const Usage> usages);

  std::vector<Node> nodes_;
  std::vector<SpanTotals> totals_;  // of nodes_
  std::uint32_t root_ = 0;
};

}  // namespace spanbox
