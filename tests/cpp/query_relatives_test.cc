// any, all and count over a span's relatives: the rules one by one. The differential test is in query_filter_test.cc.
#include <gtest/gtest.h>

#include <set>

#include "query_testing.h"

namespace spanbox {
namespace {

using testing::MemoryStore;
using testing::Row;

std::set<SpanId> Selected(Store& store, const SpanQuery& query) {
  const auto table = Scan(store, query, {.columns = {"span_id"}});
  EXPECT_TRUE(table.ok()) << table.status().message();
  std::set<SpanId> ids;
  if (!table.ok()) return ids;
  for (const std::uint32_t code : table->columns[0].codes) {
    ids.insert(*SpanIdFromHex(table->columns[0].dictionary[code]));
  }
  return ids;
}
std::set<SpanId> Selected(Store& store, const std::string& filter) {
  return Selected(store, SpanQuery{.filter = filter});
}

using Ids = std::set<SpanId>;

// 1 agent ─┬─ 2 llm ── 4 tool (error)
//          └─ 3 tool                      spread over three segments; 9 is another trace's child of an equal id
MemoryStore Tree() {
  MemoryStore store;
  store.AddSegment({{.span = 4, .parent = 2, .kind = SpanKind::kTool, .status = SpanStatus::kError, .start_ns = 3},
                    {.trace = 2, .span = 9, .parent = 1, .kind = SpanKind::kTool, .start_ns = 100}});
  store.AddSegment({{.span = 2, .parent = 1, .kind = SpanKind::kLlm, .start_ns = 2}});
  store.AddSegment({{.span = 1, .kind = SpanKind::kAgent, .start_ns = 1},
                    {.span = 3, .parent = 1, .kind = SpanKind::kTool, .start_ns = 50}});
  return store;
}

TEST(RelativesTest, AreFoundAcrossSegments) {
  MemoryStore store = Tree();
  EXPECT_EQ(Selected(store, "any(children, kind == tool and status == error)"), Ids({2}));
  EXPECT_EQ(Selected(store, "any(descendants, status == error)"), Ids({1, 2}));
  EXPECT_EQ(Selected(store, "any(parent, kind == agent)"), Ids({2, 3}));
  EXPECT_EQ(Selected(store, "any(ancestors, kind == agent)"), Ids({2, 3, 4}));
  EXPECT_EQ(Selected(store, "any(siblings, kind == llm)"), Ids({3}));
  EXPECT_EQ(Selected(store, "count(descendants) == 3"), Ids({1}));
  EXPECT_EQ(Selected(store, "count(ancestors) >= 2"), Ids({4}));
  EXPECT_EQ(Selected(store, "any(children, any(children, status == error))"), Ids({1}));
  EXPECT_EQ(Selected(store, "kind == tool and not any(siblings) and count(children) == 0"), Ids({4, 9}));
}

TEST(RelativesTest, AllOfNoneIsTrue) {
  MemoryStore store = Tree();
  EXPECT_EQ(Selected(store, "all(children, kind == llm)"), Ids({3, 4, 9}));
  EXPECT_EQ(Selected(store, "any(children) and all(children, status == error)"), Ids({2}));
}

TEST(RelativesTest, MayHaveStartedOutsideTheAskedTime) {
  MemoryStore store = Tree();
  EXPECT_EQ(Selected(store, SpanQuery{.filter = "any(descendants, status == error)", .until_ns = 2}), Ids({1}));
  EXPECT_EQ(Selected(store, SpanQuery{.filter = "any(ancestors, kind == agent)", .since_ns = 50}), Ids({3}));
  store.loads = 0;
  EXPECT_EQ(Selected(store, SpanQuery{.filter = "kind == agent and any(children)", .since_ns = 50}), Ids());
  EXPECT_LE(store.loads, 4) << "no trace is left, and nothing of other segments is read";
}

TEST(RelativesTest, WithoutStoredParentAreStillSiblings) {
  MemoryStore store;
  store.AddSegment({{.span = 1, .parent = 77, .name = "a"}, {.trace = 2, .span = 5, .parent = 77}});
  store.AddSegment({{.span = 2, .parent = 77, .name = "b"}, {.span = 3}, {.span = 4}});
  EXPECT_EQ(Selected(store, "any(siblings)"), Ids({1, 2}));
  EXPECT_EQ(Selected(store, "any(siblings, name == \"a\")"), Ids({2}));
}

TEST(RelativesTest, StoredSpanHidesItsOpenForm) {
  MemoryStore store = Tree();
  store.SetOpen({{.span = 3, .parent = 1, .status = SpanStatus::kRunning, .start_ns = 50},
                 {.span = 6, .parent = 2, .status = SpanStatus::kRunning, .start_ns = 60}});
  EXPECT_EQ(Selected(store, "count(children) == 2"), Ids({1, 2}));
  EXPECT_EQ(Selected(store, "any(children, status == running)"), Ids({2}));
}

TEST(RelativesTest, CycleOfParentsIsCutAtItsEarliestSpan) {
  MemoryStore store;
  store.AddSegment({{.span = 1, .parent = 3, .start_ns = 5},
                    {.span = 2, .parent = 1, .start_ns = 6},
                    {.span = 3, .parent = 2, .start_ns = 7},
                    {.span = 4, .parent = 4, .start_ns = 8}});
  EXPECT_EQ(Selected(store, "count(ancestors) == 0"), Ids({1, 4}));
  EXPECT_EQ(Selected(store, "count(ancestors) == 2"), Ids({3}));
  EXPECT_EQ(Selected(store, "count(descendants) == 2"), Ids({1}));
}

TEST(RelativesTest, CanBeRated) {
  MemoryStore store = Tree();
  const std::vector<Aggregate> aggregates = {{"r", "rate(any(children, kind == tool))"}};
  const auto table = Aggregated(store, {.filter = "any(siblings) or any(children)"}, {}, aggregates);
  ASSERT_TRUE(table.ok()) << table.status().message();
  EXPECT_NEAR(table->columns[0].floats[0], 2.0 / 3, 1e-15);  // 1 and 2, of 1, 2 and 3
}

TEST(RelativesTest, AskedOfOneSpanAloneAreAnError) {
  const auto filter = CompileFilter("kind == llm and any(children, status == error)");
  ASSERT_FALSE(filter.ok());
  EXPECT_EQ(filter.status().code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(filter.status().message().starts_with("column 17: any, all and count need the other spans of the trace"))
      << filter.status().message();
}

TEST(RelativesTest, WrongPredicatesSayWhatWouldBeRight) {
  const std::pair<const char*, const char*> kWrong[] = {
      {"any(cousins, kind == llm)", "column 5: expected children, descendants, parent, ancestors or siblings"},
      {"all(children)", "column 13: expected a filter, as in all(children, status == ok)"},
      {"count(children)", "column 16: expected a comparison after count(...), as in count(children) > 3"},
      {"count(children) > 1.5", "column 19: a count of spans compares with a whole number, such as 3"},
      {"count(children) == 2s", "column 20: a count of spans compares with a whole number, such as 3"},
      {"count(children) > -1", "column 19: a count of spans compares with a whole number, such as 3"},
      {"any(children, kind == llm", "column 4: this ( is never closed"},
      {"any(children kind == llm)", "column 14: expected , or ), not \"kind\""},
      {"any(children, ttft > 2)", "column 22: `ttft` is a time"},
  };
  for (const auto& [filter, message] : kWrong) {
    const Status status = CheckFilter(filter);
    EXPECT_TRUE(status.message().starts_with(message)) << filter << "\n" << status.message();
  }
  std::string deep;
  for (int i = 0; i < 33; ++i) deep += "any(children, ";
  EXPECT_TRUE(CheckFilter(deep + "kind == llm" + std::string(33, ')')).message().find("nested") != std::string::npos);
  EXPECT_TRUE(CheckFilter("any == 3 and all != none and \"x\" in count").ok()) << "attributes may have these names";
}

}  // namespace
}  // namespace spanbox
