#include <gtest/gtest.h>

#include <algorithm>

#include "query_testing.h"
#include "spanbox/trace.h"

namespace spanbox {
namespace {

using testing::Json;
using testing::MemoryStore;
using testing::Row;
using testing::TraceIdOf;

std::string Tree(Store& store, std::uint64_t trace) {
  const auto spans = TraceOf(store, TraceIdOf(trace));
  if (!spans.ok()) return spans.status().message();
  std::string text;
  for (const TraceSpan& span : *spans) text += std::string(2 * span.depth, ' ') + span.name + "\n";
  return text;
}

Row Make(SpanId id, SpanId parent, std::int64_t start_ns, const std::string& name) {
  return {.trace = 1, .span = id, .parent = parent, .name = name, .start_ns = start_ns};
}

TEST(TraceTest, TreeIsDepthFirstWithChildrenByStart) {
  MemoryStore store;
  store.AddSegment({Make(4, 2, 40, "search"), Make(3, 1, 30, "second"), {.trace = 7, .span = 70, .name = "other"}});
  store.AddSegment({Make(2, 1, 20, "first"), Make(5, 2, 35, "embed"), Make(1, 0, 10, "root")});
  EXPECT_EQ(Tree(store, 1),
            "root\n"
            "  first\n"
            "    embed\n"
            "    search\n"
            "  second\n");
  EXPECT_EQ(Tree(store, 2), "no trace 00000000000000020000000000000001 in memory");
  EXPECT_EQ(TraceOf(store, TraceIdOf(2)).status().code(), StatusCode::kNotFound);
}

TEST(TraceTest, OrphansAreRootsInTheirPlace) {
  MemoryStore store;
  store.AddSegment(
      {Make(1, 0, 20, "root"), Make(2, 1, 30, "child"), Make(3, 999, 10, "orphan"), Make(4, 3, 50, "grandchild")});
  EXPECT_EQ(Tree(store, 1),
            "orphan\n"
            "  grandchild\n"
            "root\n"
            "  child\n");
}

TEST(TraceTest, CyclesAreCutAtTheirEarliestSpan) {
  MemoryStore store;
  // 1 <- 2 <- 3 <- 1, with a tail that starts before the cycle does; 9 is its own parent.
  store.AddSegment({Make(1, 3, 20, "one"), Make(2, 1, 10, "two"), Make(3, 2, 30, "three"), Make(4, 3, 5, "tail"),
                    Make(9, 9, 1, "self")});
  EXPECT_EQ(Tree(store, 1),
            "self\n"
            "two\n"
            "  three\n"
            "    tail\n"
            "    one\n");
}

TEST(TraceTest, DeepTracesNeedNoStack) {
  MemoryStore store;
  std::vector<Row> rows;
  for (SpanId id = 1; id <= 100'000; ++id) rows.push_back(Make(id, id - 1, static_cast<std::int64_t>(id), "s"));
  store.AddSegment(rows);
  const auto spans = TraceOf(store, TraceIdOf(1));
  ASSERT_TRUE(spans.ok());
  EXPECT_EQ(spans->back().depth, 99'999u);
}

TEST(TraceTest, SpansCarryEverythingThatIsStored) {
  MemoryStore store;
  store.AddSegment({{.trace = 1,
                     .span = 1,
                     .parent = 5,
                     .name = "call",
                     .kind = SpanKind::kLlm,
                     .status = SpanStatus::kError,
                     .start_ns = 7,
                     .duration_ns = 9,
                     .fields = {{"model", std::string("m")},
                                {"cost_usd", 0.5},
                                {"input", Json{"{\"a\":1}"}},
                                {"b.flag", true},
                                {"a.long", std::string(5000, 'x')},
                                {"ttft_ns", std::int64_t{3}}}}});
  const auto spans = TraceOf(store, TraceIdOf(1));
  ASSERT_TRUE(spans.ok());
  const TraceSpan& span = spans->front();
  EXPECT_EQ(span.trace_id, TraceIdOf(1));
  EXPECT_EQ(span.span_id, 1u);
  EXPECT_EQ(span.parent_id, 5u);
  EXPECT_EQ(span.kind, SpanKind::kLlm);
  EXPECT_EQ(span.status, SpanStatus::kError);
  EXPECT_EQ(span.start_ns, 7);
  EXPECT_EQ(span.duration_ns, 9);
  std::vector<std::string> names;
  for (const SpanAttribute& attribute : span.attributes) names.push_back(attribute.name);
  EXPECT_EQ(names, (std::vector<std::string>{"ttft_ns", "model", "cost_usd", "input", "a.long", "b.flag"}));
  EXPECT_EQ(std::get<std::int64_t>(span.attributes[0].value), 3);
  EXPECT_EQ(std::get<double>(span.attributes[2].value), 0.5);
  EXPECT_TRUE(span.attributes[3].is_json);
  EXPECT_EQ(std::get<std::string>(span.attributes[4].value).size(), 5000u);
  EXPECT_TRUE(std::get<bool>(span.attributes[5].value));
}

TEST(TraceTest, OutlineIsTheTreeWithoutItsTexts) {
  MemoryStore store;
  store.AddSegment({Make(4, 2, 40, "search"), Make(3, 1, 30, "second"), Make(9, 999, 5, "orphan")});
  store.AddSegment({Make(2, 1, 20, "first"), Make(1, 0, 10, "root")});
  const auto outline = OutlineOf(store, TraceIdOf(1));
  const auto spans = TraceOf(store, TraceIdOf(1));
  ASSERT_TRUE(outline.ok() && spans.ok());
  ASSERT_EQ(outline->spans.size(), spans->size());
  EXPECT_EQ(outline->trace.root_id, SpanId{1});
  std::vector<std::uint32_t> parents;
  for (std::size_t i = 0; i < spans->size(); ++i) {
    EXPECT_EQ(outline->spans[i].span_id, (*spans)[i].span_id);
    EXPECT_EQ(outline->spans[i].depth, (*spans)[i].depth);
    EXPECT_EQ(outline->spans[i].start_ns, (*spans)[i].start_ns);
    EXPECT_EQ(outline->spans[i].duration_ns, (*spans)[i].duration_ns);
    parents.push_back(outline->spans[i].parent);
  }
  constexpr std::uint32_t kNone = OutlineSpan::kNoParent;
  EXPECT_EQ(parents, (std::vector<std::uint32_t>{kNone, kNone, 1, 2, 1}));
  EXPECT_EQ(OutlineOf(store, TraceIdOf(2)).status().code(), StatusCode::kNotFound);
}

std::vector<SpanId> Ids(const TracePage& page) {
  std::vector<SpanId> ids;
  for (const TraceSpan& span : page.spans) ids.push_back(span.span_id);
  return ids;
}

// A root with two children of 3 each, over two segments and open spans.
void AddPaged(MemoryStore& store) {
  const std::string long_text(5000, 'x');
  const auto with_texts = [&](Row row) {
    row.fields = {{"input", long_text}, {"error_message", long_text}, {"note", std::string("n")}, {"long", long_text}};
    return row;
  };
  store.AddSegment({with_texts(Make(2, 1, 20, "a")), with_texts(Make(6, 5, 60, "b1")), {.trace = 7, .span = 70}});
  store.AddSegment({Make(1, 0, 10, "root"), Make(3, 2, 30, "a1"), Make(4, 2, 40, "a2"), Make(5, 1, 50, "b")});
  store.SetOpen({Make(7, 5, 70, "b2"), Make(5, 1, 50, "b")});
}

TEST(TraceTest, PagesAreTheLinesOfTheTree) {
  MemoryStore store;
  AddPaged(store);
  for (const std::uint64_t limit : {1, 2, 3, 100}) {
    std::vector<SpanId> all;
    for (std::uint64_t offset = 0; offset < 7; offset += limit) {
      const auto page = TracePageOf(store, TraceIdOf(1), {.offset = offset, .limit = limit});
      ASSERT_TRUE(page.ok());
      EXPECT_EQ(page->lines, 7u);
      EXPECT_EQ(page->trace.totals.spans, 7u);
      EXPECT_EQ(page->trace.name, "root");
      const auto ids = Ids(*page);
      all.insert(all.end(), ids.begin(), ids.end());
    }
    EXPECT_EQ(all, (std::vector<SpanId>{1, 2, 3, 4, 5, 6, 7}));
  }
  EXPECT_TRUE(TracePageOf(store, TraceIdOf(1), {.offset = 8})->spans.empty());
  EXPECT_TRUE(TracePageOf(store, TraceIdOf(1), {.limit = 0})->spans.empty());
  EXPECT_EQ(TracePageOf(store, TraceIdOf(9), {}).status().code(), StatusCode::kNotFound);
}

TEST(TraceTest, CollapsedSpansHideWhatIsBelowThem) {
  MemoryStore store;
  AddPaged(store);
  const auto page = TracePageOf(store, TraceIdOf(1), {.offset = 1, .collapsed = {2, 3, 77}});
  ASSERT_TRUE(page.ok());
  EXPECT_EQ(Ids(*page), (std::vector<SpanId>{2, 5, 6, 7}));
  EXPECT_EQ(page->lines, 5u);
  EXPECT_EQ(page->spans[0].children, 2u);
  EXPECT_EQ(page->spans[0].totals.spans, 3u);
  EXPECT_EQ(TracePageOf(store, TraceIdOf(1), {.collapsed = {1}})->lines, 1u);
}

TEST(TraceTest, PageHasTheAskedPartsOfItsSpans) {
  MemoryStore store;
  AddPaged(store);
  const auto names = [&](SpanParts parts) {
    const auto page = TracePageOf(store, TraceIdOf(1), {.offset = 1, .limit = 1, .parts = parts});
    std::vector<std::string> found;
    for (const SpanAttribute& attribute : page->spans.front().attributes) found.push_back(attribute.name);
    EXPECT_EQ(page->spans.front().name, "a");
    return found;
  };
  EXPECT_EQ(names(SpanParts::kTree), std::vector<std::string>{});
  EXPECT_EQ(names(SpanParts::kAttributes), (std::vector<std::string>{"error_message", "note"}));
  EXPECT_EQ(names(SpanParts::kEverything), (std::vector<std::string>{"error_message", "input", "long", "note"}));
}

TEST(TraceTest, SummariesComeInTheOrderAsked) {
  MemoryStore store;
  std::vector<TraceId> asked;
  for (std::uint64_t trace = 9; trace > 0; --trace) asked.push_back(TraceIdOf(trace));
  for (std::uint64_t half = 0; half < 2; ++half) {
    std::vector<Row> rows;
    for (std::uint64_t trace = 1; trace <= 8; ++trace) {
      rows.push_back({.trace = trace,
                      .span = 2 - half,
                      .parent = 1 - half,
                      .name = half == 0 ? "call" : "root",
                      .kind = half == 0 ? SpanKind::kLlm : SpanKind::kAgent,
                      .start_ns = static_cast<std::int64_t>(10 - half),
                      .duration_ns = 5,
                      .fields = {{"cost_usd", static_cast<double>(trace)}, {"input_tokens", 4.0}}});
    }
    store.AddSegment(rows);
  }
  for (const std::size_t few : {3, 9}) {
    const auto summaries = SummariesOf(store, std::span(asked).first(few));
    ASSERT_TRUE(summaries.ok());
    ASSERT_EQ(summaries->size(), few - 1) << "trace 9 is not in the store";
    for (std::size_t i = 0; i < summaries->size(); ++i) {
      const TraceSummary& summary = (*summaries)[i];
      EXPECT_EQ(summary.trace_id, asked[i + 1]);
      EXPECT_EQ(summary.name, "root");
      EXPECT_EQ(summary.root_id, 1u);
      EXPECT_EQ(summary.start_ns, 9);
      EXPECT_EQ(summary.duration_ns, 6);
      EXPECT_EQ(summary.totals.usage.cost_usd, 8.0 - static_cast<double>(i));
      EXPECT_EQ(summary.totals.usage.input_tokens, 4);
    }
  }
}

TEST(TraceTest, CriticalPathNamesItsSpans) {
  MemoryStore store;
  Row root = Make(1, 0, 10, "root"), child = Make(2, 1, 12, "child");
  root.duration_ns = 10;
  child.duration_ns = 5;
  store.AddSegment({child});
  store.AddSegment({root});
  const auto path = CriticalPathOf(store, TraceIdOf(1));
  ASSERT_TRUE(path.ok());
  std::string text;
  for (const PathStep& step : *path) text += step.name + " " + std::to_string(step.duration_ns) + ", ";
  EXPECT_EQ(text, "root 2, child 5, root 3, ");
  EXPECT_EQ(CriticalPathOf(store, TraceIdOf(2)).status().code(), StatusCode::kNotFound);
}

TEST(TraceTest, SpanIdsAreThoseStored) {
  MemoryStore store;
  store.AddSegment({Make(1, 0, 1, "a"), Make(2, 1, 2, "b")});
  store.AddSegment({Make(3, 1, 3, "c"), {.trace = 2, .span = 4}});
  store.SetOpen({Make(5, 1, 5, "open")});
  auto ids = SpanIdsOf(store, TraceIdOf(1));
  ASSERT_TRUE(ids.ok());
  std::ranges::sort(*ids);
  EXPECT_EQ(*ids, (std::vector<SpanId>{1, 2, 3}));
  EXPECT_TRUE(SpanIdsOf(store, TraceIdOf(9))->empty());
  EXPECT_EQ(Tree(store, 1), "a\n  b\n  c\n  open\n");
}

TEST(TraceTest, PrefixFindsTracesNewestFirst) {
  MemoryStore store;
  std::vector<Row> rows;
  for (std::uint64_t i = 0; i < 20; ++i)
    rows.push_back({.trace = 0xABC0000000000000ull | i << 44, .span = i + 1, .start_ns = static_cast<std::int64_t>(i)});
  store.AddSegment(rows);
  store.AddSegment({{.trace = 0x1230000000000000, .span = 99, .start_ns = 50}});
  EXPECT_EQ(FindTraces(store, "ABC0", 100)->size(), 16u);
  EXPECT_EQ(FindTraces(store, "abc1", 100)->size(), 4u);
  EXPECT_EQ(FindTraces(store, "abc01", 100)->size(), 1u) << "an odd number of digits";
  const auto newest = FindTraces(store, "abc0", 2);
  EXPECT_EQ((*newest)[0], TraceIdOf(0xABC0F00000000000));
  EXPECT_EQ((*newest)[1], TraceIdOf(0xABC0E00000000000));
  EXPECT_EQ(FindTraces(store, ToHex(TraceIdOf(0x1230000000000000)), 5)->size(), 1u);
  EXPECT_TRUE(FindTraces(store, "ffff", 5)->empty());
  for (const char* wrong : {"abc", "", "xyz123", "abc0 ", "123456789012345678901234567890123"}) {
    EXPECT_EQ(FindTraces(store, wrong, 5).status().code(), StatusCode::kInvalidArgument) << wrong;
  }
}

}  // namespace
}  // namespace spanbox
