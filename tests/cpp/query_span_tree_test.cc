// Times, totals and the critical path against the plainest computation that can be, on random trees.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "query/critical_path.h"
#include "query/span_tree.h"

namespace spanbox {
namespace {

struct Trace {
  std::vector<SpanFacts> spans;
  std::vector<Usage> usages;

  SpanFacts& Add(SpanId id, SpanId parent, std::int64_t start_ns, std::int64_t duration_ns) {
    SpanFacts span{.span_id = id, .parent_id = parent, .start_ns = start_ns, .duration_ns = duration_ns};
    span.row = static_cast<std::uint32_t>(spans.size());
    return spans.emplace_back(span);
  }
  void AddCall(SpanId id, SpanId parent, const Usage& usage) {
    SpanFacts& span = Add(id, parent, static_cast<std::int64_t>(id), 1);
    span.kind = SpanKind::kLlm;
    span.usage = static_cast<std::uint32_t>(usages.size());
    usages.push_back(usage);
  }
  SpanTree Tree() const { return {spans, usages}; }
};

// Times are small, so that a test can look at every nanosecond. Children begin before their parents, outlive them, and
// overlap; some ids come twice; some spans have no end.
Trace RandomTrace(std::mt19937& random) {
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  Trace trace;
  const int n = 1 + below(40);
  for (int i = 1; i <= n; ++i) {
    const int parent = below(10) == 0 ? 1000 : below(i);
    SpanFacts& span =
        trace.Add(static_cast<SpanId>(below(30) == 0 ? 1 : i), static_cast<SpanId>(parent), below(60), below(50));
    span.status = static_cast<SpanStatus>(below(4));
    if (span.status == SpanStatus::kRunning || below(10) == 0) span.duration_ns = -1;
    span.kind = static_cast<SpanKind>(below(4));
    if (!IsModelCall(span.kind) || below(3) == 0) continue;
    span.usage = static_cast<std::uint32_t>(trace.usages.size());
    Usage& usage = trace.usages.emplace_back();
    if (below(2) == 0) usage.cost_usd = below(8) * 0.25;
    if (below(2) == 0) usage.input_tokens = below(100);
    if (below(3) == 0) usage.output_tokens = below(100);
  }
  std::shuffle(trace.spans.begin(), trace.spans.end(), random);
  return trace;
}

std::vector<std::uint32_t> Below(const SpanTree& tree, std::uint32_t i) {
  std::vector<std::uint32_t> below;
  for (std::uint32_t k = 0; k < tree.size(); ++k) {
    std::uint32_t up = tree.node(k).parent;
    while (up != SpanTree::kNone && up != i) up = tree.node(up).parent;
    if (up == i) below.push_back(k);
  }
  return below;
}

TEST(SpanTreeTest, NodesAreNumberedDepthFirst) {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    const Trace trace = RandomTrace(random);
    const SpanTree tree = trace.Tree();
    ASSERT_EQ(tree.size(), trace.spans.size());
    for (std::uint32_t i = 0; i < tree.size(); ++i) {
      const SpanTree::Node& node = tree.node(i);
      const std::vector<std::uint32_t> below = Below(tree, i);
      ASSERT_EQ(node.end, i + 1 + below.size());
      for (const std::uint32_t k : below) ASSERT_TRUE(k > i && k < node.end);
      std::vector<std::uint32_t> children;
      tree.ForEachChild(i, [&](std::uint32_t child) { children.push_back(child); });
      ASSERT_EQ(children.size(), node.children);
      const auto place = [&](std::uint32_t k) {
        return std::pair(tree.node(k).span.start_ns, tree.node(k).span.span_id);
      };
      ASSERT_TRUE(std::ranges::is_sorted(children, {}, place));
      for (const std::uint32_t child : children) {
        ASSERT_EQ(tree.node(child).parent, i);
        ASSERT_EQ(tree.node(child).depth, node.depth + 1);
      }
    }
  }
}

TEST(SpanTreeTest, SelfTimeIsWhenNoChildRan) {
  std::mt19937 random(2);
  for (int round = 0; round < 300; ++round) {
    const SpanTree tree = RandomTrace(random).Tree();
    for (std::uint32_t i = 0; i < tree.size(); ++i) {
      const SpanTree::Node& node = tree.node(i);
      if (node.span.duration_ns < 0) {
        ASSERT_EQ(tree.SelfNs(i), -1);
        continue;
      }
      std::int64_t alone_ns = 0;
      for (std::int64_t t = node.span.start_ns; t < node.end_ns; ++t) {
        bool child_runs = false;
        tree.ForEachChild(i, [&](std::uint32_t child) {
          child_runs = child_runs || (tree.node(child).span.start_ns <= t && t < tree.node(child).end_ns);
        });
        alone_ns += child_runs ? 0 : 1;
      }
      ASSERT_EQ(tree.SelfNs(i), alone_ns);
    }
  }
}

// The value of a model call, if no model call below it has one.
template <typename Get>
auto SumOfCounted(const Trace& trace, const SpanTree& tree, std::uint32_t top, Get get) {
  const auto value = [&](std::uint32_t i) {
    const SpanFacts& span = tree.node(i).span;
    return span.usage == SpanFacts::kNoUsage ? decltype(get(Usage{})){} : get(trace.usages[span.usage]);
  };
  decltype(get(Usage{})) sum;
  std::vector<std::uint32_t> nodes = Below(tree, top);
  nodes.push_back(top);
  for (const std::uint32_t i : nodes) {
    const bool repeats = std::ranges::any_of(Below(tree, i), [&](std::uint32_t k) { return value(k).has_value(); });
    if (value(i) && !repeats) sum = sum.value_or(0) + *value(i);
  }
  return sum;
}

TEST(SpanTreeTest, TotalsAreTheSumsOverTheLowestModelCallsThatTell) {
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    const Trace trace = RandomTrace(random);
    const SpanTree tree = trace.Tree();
    for (std::uint32_t i = 0; i < tree.size(); ++i) {
      ASSERT_EQ(tree.totals(i).spans, Below(tree, i).size() + 1);
      // Costs are multiples of 1/4: sums are exact in any order.
      ASSERT_EQ(tree.totals(i).usage.cost_usd, SumOfCounted(trace, tree, i, [](const Usage& u) { return u.cost_usd; }));
      const auto tokens = [](const Usage& u) -> std::optional<std::int64_t> {
        if (!u.has_tokens()) return std::nullopt;
        return u.input_tokens.value_or(0) + u.output_tokens.value_or(0);
      };
      const Usage& usage = tree.totals(i).usage;
      ASSERT_EQ(tokens(usage), SumOfCounted(trace, tree, i, tokens));
    }
    SpanTotals sum;
    for (std::uint32_t i = 0; i < tree.size(); ++i) {
      if (tree.node(i).depth == 0) Add(tree.totals(i), sum);
    }
    ASSERT_EQ(tree.Summary().totals, sum);
    ASSERT_EQ(sum.spans, trace.spans.size());
  }
}

TEST(SpanTreeTest, CallsAndErrorsCountWhereTheyBegan) {
  std::mt19937 random(4);
  for (int round = 0; round < 300; ++round) {
    const SpanTree tree = RandomTrace(random).Tree();
    std::uint64_t calls = 0, errors = 0;
    for (std::uint32_t i = 0; i < tree.size(); ++i) {
      const auto is_call = [&](std::uint32_t k) { return IsModelCall(tree.node(k).span.kind); };
      if (is_call(i) && std::ranges::none_of(Below(tree, i), is_call)) ++calls;
      bool child_failed = false;
      tree.ForEachChild(i, [&](std::uint32_t child) {
        child_failed = child_failed || tree.node(child).span.status == SpanStatus::kError;
      });
      if (tree.node(i).span.status == SpanStatus::kError && !child_failed) ++errors;
    }
    const SpanTotals totals = tree.Summary().totals;
    ASSERT_EQ(totals.model_calls, calls);
    ASSERT_EQ(totals.errors, errors);
    ASSERT_LE(totals.unpriced_calls, calls);
  }
}

TEST(SpanTreeTest, CostAndTokensOfNestedCallsComeFromTheLowestThatHasThem) {
  Trace trace;
  trace.AddCall(1, 0, {.cost_usd = 2.0, .input_tokens = 100});
  trace.AddCall(2, 1, {.cost_usd = {}, .input_tokens = 40});
  trace.AddCall(3, 1, {.cost_usd = {}, .input_tokens = 50});
  trace.AddCall(4, 0, {.cost_usd = {}, .output_tokens = 7});
  const SpanTotals totals = trace.Tree().Summary().totals;
  EXPECT_EQ(totals.usage.cost_usd, 2.0);
  EXPECT_EQ(totals.usage.input_tokens, 90);
  EXPECT_EQ(totals.usage.output_tokens, 7);
  EXPECT_EQ(totals.usage.reasoning_tokens, std::nullopt);
  EXPECT_EQ(totals.model_calls, 3u);
  EXPECT_EQ(totals.unpriced_calls, 1u);
}

TEST(SpanTreeTest, SpansWithoutEndLastAsLongAsIsKnown) {
  Trace trace;
  trace.Add(1, 0, 0, -1).status = SpanStatus::kInterrupted;
  trace.Add(2, 1, 10, -1).status = SpanStatus::kRunning;
  trace.Add(3, 1, 20, 30);
  const SpanTree tree = trace.Tree();
  EXPECT_EQ(tree.node(0).end_ns, 50);
  EXPECT_EQ(tree.node(1).end_ns, 50);
  EXPECT_EQ(tree.Summary().duration_ns, 50);
  EXPECT_EQ(tree.Summary().status, SpanStatus::kInterrupted);
}

TEST(SpanTreeTest, ImpossibleTimesDoNotOverflow) {
  constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max(), kMin = -kMax - 1;
  Trace trace;
  trace.Add(1, 0, kMin, kMax);
  trace.Add(2, 1, kMax, kMax);
  trace.Add(3, 1, kMax - 1, -7);
  trace.usages.push_back({.cost_usd = {}, .input_tokens = kMax});
  for (SpanFacts& span : trace.spans) {
    span.kind = SpanKind::kLlm;
    span.usage = 0;
  }
  const SpanTree tree = trace.Tree();
  EXPECT_EQ(tree.Summary().duration_ns, kMax);
  EXPECT_EQ(tree.Summary().totals.usage.input_tokens, kMax);
  for (std::uint32_t i = 0; i < tree.size(); ++i) EXPECT_GE(tree.SelfNs(i), -1);
  for (const PathPart& part : CriticalPath(tree)) EXPECT_LT(part.start_ns, part.end_ns);
}

std::string Path(const Trace& trace) {
  const SpanTree tree = trace.Tree();
  std::string text;
  for (const PathPart& part : CriticalPath(tree)) {
    text += std::to_string(tree.node(part.node).span.span_id) + ":" + std::to_string(part.start_ns) + "-" +
            std::to_string(part.end_ns) + " ";
  }
  return text;
}

TEST(CriticalPathTest, GoesBackThroughTheChildrenThatEndedLast) {
  Trace trace;
  trace.Add(1, 0, 0, 100);
  trace.Add(2, 1, 5, 30);   // ends before 4 begins
  trace.Add(3, 1, 10, 50);  // still ran when 4 began: 4 did not wait for it
  trace.Add(4, 1, 40, 50);
  trace.Add(5, 4, 50, 100);  // outlives 4 and the root
  EXPECT_EQ(Path(trace), "1:0-5 2:5-35 1:35-40 4:40-50 5:50-90 1:90-100 ");
}

TEST(CriticalPathTest, OfChildrenThatEndTogetherTheLongestCounts) {
  Trace trace;
  trace.Add(1, 0, 0, 10);
  trace.Add(2, 1, 6, 4);
  trace.Add(3, 1, 2, 8);
  trace.Add(4, 1, -5, 5);  // ended when the root began
  EXPECT_EQ(Path(trace), "1:0-2 3:2-10 ");
}

TEST(CriticalPathTest, CoversTheRootWithoutAGapOrAnOverlap) {
  std::mt19937 random(5);
  for (int round = 0; round < 2000; ++round) {
    const SpanTree tree = RandomTrace(random).Tree();
    const SpanTree::Node& root = tree.node(tree.root());
    std::int64_t at_ns = root.span.start_ns;
    for (const PathPart& part : CriticalPath(tree)) {
      const SpanTree::Node& node = tree.node(part.node);
      ASSERT_EQ(part.start_ns, at_ns);
      ASSERT_LT(part.start_ns, part.end_ns);
      ASSERT_GE(part.start_ns, node.span.start_ns);
      ASSERT_LE(part.end_ns, node.end_ns);
      at_ns = part.end_ns;
      std::uint32_t top = part.node;
      while (tree.node(top).parent != SpanTree::kNone) top = tree.node(top).parent;
      ASSERT_EQ(top, tree.root());
    }
    ASSERT_EQ(at_ns, root.end_ns);
    if (root.span.duration_ns >= 0) ASSERT_EQ(at_ns - root.span.start_ns, root.span.duration_ns);
  }
}

// At every moment of a span's own part no child of it runs that had ended when the path left the span's next part.
TEST(CriticalPathTest, ParentHasATimeOnlyWhenNoChildEndedInIt) {
  std::mt19937 random(6);
  for (int round = 0; round < 500; ++round) {
    const SpanTree tree = RandomTrace(random).Tree();
    for (const PathPart& part : CriticalPath(tree)) {
      tree.ForEachChild(part.node, [&](std::uint32_t child) {
        const SpanTree::Node& node = tree.node(child);
        if (node.end_ns <= node.span.start_ns || node.span.start_ns >= part.end_ns) return;
        ASSERT_FALSE(node.end_ns > part.start_ns && node.end_ns <= part.end_ns);
      });
    }
  }
}

TEST(CriticalPathTest, DeepTracesNeedNoStack) {
  Trace trace;
  constexpr std::int64_t kDepth = 200'000;
  for (std::int64_t i = 0; i < kDepth; ++i) {
    trace.Add(static_cast<SpanId>(i + 1), static_cast<SpanId>(i), i, 3 * kDepth - i);
  }
  EXPECT_EQ(CriticalPath(trace.Tree()).size(), static_cast<std::size_t>(kDepth));
}

}  // namespace
}  // namespace spanbox
