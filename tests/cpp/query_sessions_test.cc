#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "query_testing.h"
#include "spanbox/trace.h"

namespace spanbox {
namespace {

using testing::MemoryStore;
using testing::Row;
using testing::TraceIdOf;

const TableColumn& ColumnOf(const Table& table, std::string_view name) {
  return *std::ranges::find(table.columns, name, &TableColumn::name);
}

std::vector<std::string> Texts(const Table& table, std::string_view name) {
  std::vector<std::string> texts;
  const TableColumn& column = ColumnOf(table, name);
  for (const std::uint32_t code : column.codes) texts.push_back(column.dictionary[code]);
  return texts;
}

Row Call(std::uint64_t trace, SpanId id, std::int64_t start_ns, double cost_usd) {
  return {.trace = trace,
          .span = id,
          .parent = 1,
          .name = "call",
          .kind = SpanKind::kLlm,
          .start_ns = start_ns,
          .duration_ns = 5,
          .fields = {{"cost_usd", cost_usd}, {"input_tokens", std::int64_t{10}}}};
}

Row Root(std::uint64_t trace, std::int64_t start_ns, const std::string& session, const std::string& user) {
  return {.trace = trace,
          .span = 1,
          .name = "turn",
          .kind = SpanKind::kAgent,
          .start_ns = start_ns,
          .duration_ns = 20,
          .fields = {{"session_id", session}, {"user_id", user}, {"input", std::string("question")}}};
}

// Session a: traces 1 and 3; b: trace 2. Of each trace only the root names the session; trace 4 has none.
void Fill(MemoryStore& store) {
  store.AddSegment({Call(1, 2, 12, 0.5), Call(2, 2, 32, 4.0), Call(3, 2, 52, 1.0), {.trace = 4, .span = 1}});
  store.AddSegment({Root(3, 50, "a", "v"), Root(1, 10, "a", "u\"1"), Root(2, 30, "b", "u")});
  Row failed = Call(3, 3, 60, 0.25);
  failed.status = SpanStatus::kError;
  store.AddSegment({failed});
}

TEST(SessionsTest, TracesOfASessionAddUp) {
  MemoryStore store;
  Fill(store);
  const auto table = SessionsOf(store, {}, {});
  ASSERT_TRUE(table.ok());
  EXPECT_EQ(Texts(*table, "session_id"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(ColumnOf(*table, "turns").ints, (std::vector<std::int64_t>{2, 1}));
  EXPECT_EQ(ColumnOf(*table, "spans").ints, (std::vector<std::int64_t>{5, 2}));
  EXPECT_EQ(ColumnOf(*table, "errors").ints, (std::vector<std::int64_t>{1, 0}));
  EXPECT_EQ(ColumnOf(*table, "start").ints, (std::vector<std::int64_t>{10, 30}));
  EXPECT_EQ(ColumnOf(*table, "active").ints, (std::vector<std::int64_t>{50, 30}));
  EXPECT_EQ(ColumnOf(*table, "duration_ns").ints, (std::vector<std::int64_t>{60, 20}));
  EXPECT_EQ(ColumnOf(*table, "cost_usd").floats, (std::vector<double>{1.75, 4.0}));
  EXPECT_EQ(ColumnOf(*table, "input_tokens").ints, (std::vector<std::int64_t>{30, 10}));
  EXPECT_EQ(ColumnOf(*table, "output_tokens").valid, (std::vector<std::uint8_t>{0, 0}));
  EXPECT_EQ(Texts(*table, "users"), (std::vector<std::string>{R"(["u\"1","v"])", R"(["u"])"}));
}

TEST(SessionsTest, FilterAndTimeChooseSessionsWhoseFiguresStayWhole) {
  MemoryStore store;
  Fill(store);
  const auto ids = [&](const SpanQuery& query, const SessionOptions& options) {
    const auto table = SessionsOf(store, query, options);
    return table.ok() ? Texts(*table, "session_id") : std::vector<std::string>{table.status().message()};
  };
  using Ids = std::vector<std::string>;
  EXPECT_EQ(ids({.filter = "user_id == \"v\""}, {}), Ids{"a"});
  EXPECT_EQ(ColumnOf(*SessionsOf(store, {.filter = "user_id == \"v\""}, {}), "turns").ints[0], 2);
  EXPECT_EQ(ids({.since_ns = 25, .until_ns = 40}, {}), Ids{"b"});
  EXPECT_EQ(ids({}, {.limit = 1}), Ids{"a"});
  EXPECT_EQ(ids({}, {.order_by = "cost_usd", .limit = 1}), Ids{"b"});
  EXPECT_EQ(ids({}, {.order_by = "active", .descending = false}), (Ids{"b", "a"}));
  EXPECT_EQ(ids({.filter = "user_id == \"nobody\""}, {}), Ids{});
  EXPECT_EQ(ids({}, {.limit = 0}), Ids{});
  EXPECT_EQ(SessionsOf(store, {}, {.order_by = "nothing"}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(SessionsOf(store, {.filter = "user_id ="}, {}).status().code(), StatusCode::kInvalidArgument);
  const SpanQuery cancelled{.cancelled = [] { return true; }};
  EXPECT_EQ(SessionsOf(store, cancelled, {}).status().code(), StatusCode::kCancelled);
}

TEST(SessionsTest, EarliestSpanThatNamesASessionDecides) {
  MemoryStore store;
  Row early = Call(1, 2, 5, 1.0), late = Call(1, 3, 90, 1.0);
  early.fields["session_id"] = std::string("first");
  late.fields["session_id"] = std::string("second");
  store.AddSegment({late});
  store.AddSegment({Row{.trace = 1, .span = 1, .start_ns = 1}, early});
  EXPECT_EQ(Texts(*SessionsOf(store, {}, {}), "session_id"), std::vector<std::string>{"first"});
  EXPECT_EQ(SessionOf(store, "first")->turns.front().trace.totals.spans, 3u);
  EXPECT_EQ(SessionOf(store, "second").status().code(), StatusCode::kNotFound);
}

TEST(SessionsTest, SessionHasItsTurnsInOrderWithTheirRoots) {
  MemoryStore store;
  Fill(store);
  store.SetOpen({Root(5, 99, "a", "w")});
  const auto session = SessionOf(store, "a");
  ASSERT_TRUE(session.ok());
  EXPECT_EQ(session->users, (std::vector<std::string>{"u\"1", "v", "w"}));
  ASSERT_EQ(session->turns.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    const Turn& turn = session->turns[i];
    EXPECT_EQ(turn.trace.trace_id, TraceIdOf(2 * i + 1));
    EXPECT_EQ(turn.trace.root_id, turn.root.span_id);
    EXPECT_EQ(turn.root.name, "turn");
    const auto input = std::ranges::find(turn.root.attributes, "input", &SpanAttribute::name);
    EXPECT_EQ(std::get<std::string>(input->value), "question");
  }
  EXPECT_EQ(session->turns[1].trace.totals.usage.cost_usd, 1.25);
  EXPECT_EQ(session->totals.usage.cost_usd, 1.75);
  EXPECT_EQ(session->totals.spans, 6u);
  EXPECT_EQ(SessionOf(store, "c").status().code(), StatusCode::kNotFound);
}

TEST(SessionsTest, EveryTraceCountsInOneSessionWhateverTheSegments) {
  std::mt19937 random(7);
  for (int round = 0; round < 20; ++round) {
    MemoryStore store;
    std::map<std::string, double> cost;
    std::map<std::string, std::set<std::uint64_t>> traces;
    std::vector<std::vector<Row>> segments(4);
    for (std::uint64_t trace = 1; trace <= 60; ++trace) {
      const std::string session = "s" + std::to_string(random() % 9);
      const auto start_ns = static_cast<std::int64_t>(random() % 1000);
      segments[random() % 4].push_back(Root(trace, start_ns, session, "u"));
      traces[session].insert(trace);
      for (SpanId id = 2; id < 2 + random() % 4; ++id) {
        const double usd = static_cast<double>(random() % 16) / 4;
        segments[random() % 4].push_back(Call(trace, id, start_ns + 1, usd));
        cost[session] += usd;
      }
    }
    for (const auto& rows : segments) {
      if (!rows.empty()) store.AddSegment(rows);
    }
    const auto all = SessionsOf(store, {}, {});
    const auto newest = SessionsOf(store, {}, {.limit = 3});
    ASSERT_TRUE(all.ok() && newest.ok());
    const auto ids = Texts(*all, "session_id");
    ASSERT_EQ(ids.size(), traces.size());
    for (std::size_t i = 0; i < ids.size(); ++i) {
      EXPECT_EQ(ColumnOf(*all, "turns").ints[i], static_cast<std::int64_t>(traces[ids[i]].size()));
      EXPECT_EQ(ColumnOf(*all, "cost_usd").floats[i], cost[ids[i]]);
      EXPECT_EQ(SessionOf(store, ids[i])->turns.size(), traces[ids[i]].size());
    }
    EXPECT_EQ(Texts(*newest, "session_id"), std::vector<std::string>(ids.begin(), ids.begin() + 3));
  }
}

}  // namespace
}  // namespace spanbox
