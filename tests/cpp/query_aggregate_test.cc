#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <set>

#include "query_testing.h"

namespace spanbox {
namespace {

using testing::Json;
using testing::MemoryStore;
using testing::Row;

// One line a row, cells separated by blanks, "-" where absent.
std::string AsText(const Table& table) {
  std::string text;
  for (const TableColumn& column : table.columns) text += column.name + (&column == &table.columns.back() ? "\n" : " ");
  for (std::size_t row = 0; row < table.rows; ++row) {
    for (const TableColumn& column : table.columns) {
      char number[40];
      std::string cell;
      switch (column.type) {
        case TableColumn::Type::kFloat:
          snprintf(number, sizeof number, "%.6g", column.floats[row]);
          cell = number;
          break;
        case TableColumn::Type::kString:
          cell = column.dictionary[column.codes[row]];
          break;
        case TableColumn::Type::kBool:
          cell = column.ints[row] != 0 ? "true" : "false";
          break;
        default:
          cell = std::to_string(column.ints[row]);
      }
      text += !column.valid.empty() && column.valid[row] == 0 ? "-" : cell;
      text += &column == &table.columns.back() ? "\n" : " ";
    }
  }
  return text;
}

std::string Answer(Store& store, const Grouping& grouping, const std::vector<Aggregate>& aggregates,
                   const std::string& filter = "") {
  const auto table = Aggregated(store, {.filter = filter}, grouping, aggregates);
  return table.ok() ? AsText(*table) : table.status().message();
}

MemoryStore SmallStore() {
  MemoryStore store;
  store.AddSegment(
      {{.trace = 1,
        .span = 1,
        .status = SpanStatus::kError,
        .start_ns = 5,
        .duration_ns = 10,
        .fields = {{"model", std::string("b")}, {"cost_usd", 0.5}, {"n", std::int64_t{4}}}},
       {.trace = 1, .span = 2, .start_ns = 15, .duration_ns = 30, .fields = {{"model", std::string("a")}}}});
  store.AddSegment({{.trace = 2,
                     .span = 3,
                     .start_ns = 16,
                     .duration_ns = 50,
                     .fields = {{"model", std::string("a")}, {"cost_usd", 0.25}, {"n", 0.5}, {"flag", true}}},
                    {.trace = 2, .span = 4, .start_ns = 27, .fields = {{"n", std::string("many")}, {"flag", false}}}});
  return store;
}

TEST(AggregateTest, WithoutGroupsThereIsOneRow) {
  MemoryStore store = SmallStore();
  EXPECT_EQ(Answer(store, {},
                   {{"spans", "count()"},
                    {"costs", "count(cost)"},
                    {"cost", "sum(cost)"},
                    {"mean", "mean(duration)"},
                    {"least", "min(duration)"},
                    {"most", "max(duration)"},
                    {"errors", "rate(status == error)"},
                    {"models", "distinct(model)"},
                    {"traces", "distinct(trace_id)"},
                    {"first", "min(start)"}}),
            "spans costs cost mean least most errors models traces first\n4 2 0.75 30 10 50 0.25 2 2 5\n");
  EXPECT_EQ(Answer(store, {},
                   {{"spans", "count()"},
                    {"sum", "sum(duration)"},
                    {"fsum", "sum(cost)"},
                    {"mean", "mean(cost)"},
                    {"max", "max(duration)"},
                    {"rate", "rate(kind == llm)"},
                    {"p", "p50(ttft)"},
                    {"d", "distinct(model)"}},
                   "kind == tool"),
            "spans sum fsum mean max rate p d\n0 0 0 - - - - 0\n");
}

TEST(AggregateTest, GroupsAreOrderedAndAbsentKeysComeLast) {
  MemoryStore store = SmallStore();
  EXPECT_EQ(Answer(store, {.by = {"model"}}, {{"n", "count()"}}), "model n\na 2\nb 1\n- 1\n");
  EXPECT_EQ(Answer(store, {.by = {"model", "status"}}, {{"n", "count()"}}),
            "model status n\na ok 2\nb error 1\n- ok 1\n");
  EXPECT_EQ(Answer(store, {.by = {"trace_id"}}, {{"n", "count()"}}, "model != none"),
            "trace_id n\n00000000000000010000000000000001 2\n00000000000000020000000000000001 1\n");
  EXPECT_EQ(Answer(store, {.by = {"flag"}}, {{"n", "count()"}}), "flag n\nfalse 1\ntrue 1\n- 2\n");
  EXPECT_EQ(Answer(store, {.by = {"n"}}, {{"spans", "count()"}}), "n spans\n0.5 1\n4 1\nmany 1\n- 1\n");
  EXPECT_EQ(Answer(store, {.by = {"duration"}}, {{"spans", "count()"}}), "duration_ns spans\n10 1\n30 1\n50 1\n- 1\n");
  EXPECT_EQ(Answer(store, {.by = {"model"}}, {{"n", "count()"}}, "kind == tool"), "model n\n");
}

TEST(AggregateTest, TimeBucketsFloorTheStart) {
  MemoryStore store = SmallStore();
  EXPECT_EQ(Answer(store, {.every_ns = 10}, {{"n", "count()"}}), "time n\n0 1\n10 2\n20 1\n");
  EXPECT_EQ(Answer(store, {.by = {"model"}, .every_ns = 20}, {{"n", "count()"}}),
            "time model n\n0 a 2\n0 b 1\n20 - 1\n");
  MemoryStore before;
  before.AddSegment({{.span = 1, .start_ns = -1},
                     {.span = 2, .start_ns = -10},
                     {.span = 3, .start_ns = -11},
                     {.span = 4, .start_ns = std::numeric_limits<std::int64_t>::min()}});
  EXPECT_EQ(Answer(before, {.every_ns = 10}, {{"n", "count()"}}), "time n\n-9223372036854775808 1\n-20 1\n-10 2\n");
}

TEST(AggregateTest, SumsOfWholeNumbersAreExactPast53Bits) {
  MemoryStore store;
  store.AddSegment({{.span = 1, .fields = {{"input_tokens", std::int64_t{9007199254740993}}}},
                    {.span = 2, .fields = {{"input_tokens", std::int64_t{2}}}}});
  EXPECT_EQ(Answer(store, {}, {{"s", "sum(input_tokens)"}}), "s\n9007199254740995\n");
  store.AddSegment({{.span = 3, .fields = {{"input_tokens", std::numeric_limits<std::int64_t>::max()}}}});
  EXPECT_EQ(Answer(store, {}, {{"s", "sum(input_tokens)"}}), "s\n9.23238e+18\n");
}

TEST(AggregateTest, WrongExpressionsSayWhatWouldBeRight) {
  MemoryStore store = SmallStore();
  const auto error = [&](const char* expression) { return Answer(store, {}, {{"x", expression}}); };
  EXPECT_EQ(
      error("avg(ttft)"),
      "column 1: \"avg\" is no aggregate: write one of count() count(x) sum(x) mean(x) min(x) "
      "max(x) p99(x) p99(x, exact) histogram(x) buckets(x) rate(filter) distinct(x) approx_distinct(x) top(x, 5)\n"
      "avg(ttft)\n^");
  EXPECT_EQ(error("p99(ttft, about)"), "column 11: expected exact, as in p99(x, exact)\np99(ttft, about)\n          ^");
  EXPECT_EQ(error("top(model, 0)"), "column 12: expected how many values, 1 to 1000\ntop(model, 0)\n           ^");
  EXPECT_EQ(error("sum(cost, 3)"), "column 11: expected ) after the column\nsum(cost, 3)\n          ^");
  EXPECT_EQ(error("sum()"), "column 5: expected a column, as in sum(duration)\nsum()\n    ^");
  EXPECT_EQ(error("sum(model)"),
            "column 5: `model` holds no numbers: model that answered, the one billed\nsum(model)\n    ^");
  EXPECT_EQ(error("p101(ttft)").substr(0, 33), "column 1: \"p101\" is no aggregate:");
  EXPECT_EQ(error("rate(status = error)"), "column 8: = is no operator: write ==\nstatus = error\n       ^");
  EXPECT_EQ(error("rate()"), "column 6: expected a filter, as in rate(status == error)\nrate()\n     ^");
  EXPECT_EQ(error("count"), "column 6: expected ( after \"count\"\ncount\n     ^");
  EXPECT_EQ(error("count() 5"), "column 9: expected nothing after )\ncount() 5\n        ^");
  EXPECT_EQ(error("sum(duratoin)"), "unknown column `duratoin`: did you mean `duration`?");
  EXPECT_FALSE(Aggregated(store, {}, {.every_ns = -1}, {}).ok());
}

TEST(QuantileTest, ExactOnesInterpolateLikeNumpy) {
  MemoryStore store;
  std::vector<Row> rows;
  for (const std::int64_t v : {7, 1, 3, 10, 2}) rows.push_back({.span = static_cast<SpanId>(v), .fields = {{"v", v}}});
  store.AddSegment(rows);
  const double qs[] = {0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1};
  const auto exact = QuantilesOf(store, {}, "v", qs, true);
  ASSERT_TRUE(exact.ok());
  // numpy.quantile([7, 1, 3, 10, 2], qs), by hand: place = q * 4 in 1 2 3 7 10.
  const double expected[] = {1, 1.4, 2, 3, 7, 8.8, 9.88, 10};
  for (std::size_t i = 0; i < std::size(qs); ++i) EXPECT_NEAR(exact->values[i], expected[i], 1e-12) << qs[i];
  EXPECT_EQ(exact->count, 5u);
  EXPECT_EQ(exact->relative_error, 0);
}

TEST(QuantileTest, SketchedOnesStayWithinTheStatedError) {
  MemoryStore store;
  std::mt19937_64 random(5);
  std::vector<double> values;
  for (int segment = 0; segment < 4; ++segment) {
    std::vector<Row> rows;
    for (int i = 0; i < 500; ++i) {
      values.push_back(std::lognormal_distribution<double>(10, 2)(random));
      rows.push_back({.span = values.size(), .fields = {{"v", values.back()}}});
    }
    rows.push_back({.span = values.size() + 10'000, .fields = {{"v", std::string("no number")}}});
    store.AddSegment(rows);
  }
  std::ranges::sort(values);
  const double qs[] = {0, 0.5, 0.9, 0.99, 1};
  const auto sketched = QuantilesOf(store, {}, "v", qs, false);
  ASSERT_TRUE(sketched.ok());
  EXPECT_EQ(sketched->count, values.size());
  EXPECT_EQ(sketched->relative_error, 0.01);
  for (std::size_t i = 0; i < std::size(qs); ++i) {
    const double q = values[static_cast<std::size_t>(std::floor(qs[i] * static_cast<double>(values.size() - 1)))];
    EXPECT_LE(std::abs(sketched->values[i] - q), sketched->relative_error * q) << qs[i];
  }
}

TEST(QuantileTest, EmptyAndWrongQuestions) {
  MemoryStore store = SmallStore();
  const double half[] = {0.5}, wrong[] = {1.5}, nan[] = {std::nan("")};
  for (const bool exact : {false, true}) {
    const auto none = QuantilesOf(store, {}, "ttft", half, exact);
    ASSERT_TRUE(none.ok());
    EXPECT_EQ(none->count, 0u);
    EXPECT_TRUE(std::isnan(none->values[0]));
    EXPECT_EQ(QuantilesOf(store, {}, "ttft", wrong, exact).status().code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(QuantilesOf(store, {}, "ttft", nan, exact).status().code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(QuantilesOf(store, {}, "model", half, exact).status().code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(QuantilesOf(store, {}, "ttfd", half, exact).status().code(), StatusCode::kInvalidArgument);
  }
}

TEST(AggregateTest, ManyGroupsAgreeWithANaiveEvaluation) {
  std::mt19937_64 random(9);
  MemoryStore store;
  struct Expected {
    std::uint64_t count = 0, errors = 0;
    std::vector<double> durations;
    std::set<std::string> users;
  };
  std::map<std::tuple<std::int64_t, std::string, std::string>, Expected> expected;
  SpanId id = 0;
  for (int segment = 0; segment < 6; ++segment) {
    std::vector<Row> rows;
    for (int i = 0; i < 3000; ++i) {
      Row row{.trace = random() % 500,
              .span = ++id,
              .start_ns = static_cast<std::int64_t>(random() % 400) - 100,
              .duration_ns = static_cast<std::int64_t>(1 + random() % 100'000)};
      if (random() % 5 == 0) row.status = SpanStatus::kError;
      const std::string model = "m" + std::to_string(random() % 7), user = "u" + std::to_string(random() % 3000);
      row.fields["model"] = model;
      row.fields["user_id"] = user;
      const std::int64_t bucket = static_cast<std::int64_t>(std::floor(static_cast<double>(row.start_ns) / 50)) * 50;
      Expected& e = expected[{bucket, model, std::string(ToString(row.status))}];
      ++e.count;
      e.errors += row.status == SpanStatus::kError ? 1 : 0;
      e.durations.push_back(static_cast<double>(row.duration_ns));
      e.users.insert(user);
      rows.push_back(std::move(row));
    }
    store.AddSegment(rows);
  }
  const auto table = Aggregated(store, {}, {.by = {"model", "status"}, .every_ns = 50},
                                std::vector<Aggregate>{{"n", "count()"},
                                                       {"p", "p99.9(duration)"},
                                                       {"p50", "p50(duration)"},
                                                       {"users", "distinct(user_id)"},
                                                       {"errors", "rate(status == error)"},
                                                       {"mean", "mean(duration)"},
                                                       {"max", "max(duration)"}});
  ASSERT_TRUE(table.ok()) << table.status().message();
  ASSERT_EQ(table->rows, expected.size());
  std::size_t row = 0;
  for (auto& [key, e] : expected) {  // the map's order is the promised one
    const auto& c = table->columns;
    EXPECT_EQ(c[0].ints[row], std::get<0>(key));
    EXPECT_EQ(c[1].dictionary[c[1].codes[row]], std::get<1>(key));
    EXPECT_EQ(c[2].dictionary[c[2].codes[row]], std::get<2>(key));
    EXPECT_EQ(c[3].ints[row], static_cast<std::int64_t>(e.count));
    std::ranges::sort(e.durations);
    const auto rank = [&durations = e.durations](double q) {
      return durations[static_cast<std::size_t>(q * static_cast<double>(durations.size() - 1))];
    };
    EXPECT_NEAR(c[4].floats[row], rank(0.999), 0.01 * rank(0.999));
    EXPECT_NEAR(c[5].floats[row], rank(0.5), 0.01 * rank(0.5));
    EXPECT_EQ(c[6].ints[row], static_cast<std::int64_t>(e.users.size()));
    EXPECT_DOUBLE_EQ(c[7].floats[row], static_cast<double>(e.errors) / static_cast<double>(e.count));
    double sum = 0;
    for (const double d : e.durations) sum += d;
    EXPECT_DOUBLE_EQ(c[8].floats[row], sum / static_cast<double>(e.count));
    EXPECT_EQ(c[9].ints[row], static_cast<std::int64_t>(e.durations.back()));
    ++row;
  }
}

// More combinations of values than a segment's rows are numbered by without hashing.
TEST(AggregateTest, GroupsOfManyValuesAreThoseOfTheRows) {
  constexpr int kRows = 3000;
  MemoryStore store;
  std::map<std::pair<std::string, std::string>, std::pair<std::int64_t, std::int64_t>> expected;
  for (int segment = 0; segment < 2; ++segment) {
    std::vector<Row> rows;
    for (int i = 0; i < kRows; ++i) {
      const std::string user = "u" + std::to_string(i * 7 % 1000), session = "s" + std::to_string(i * 11 % 1500);
      Row row{.trace = static_cast<std::uint64_t>(i / 5), .span = static_cast<SpanId>(segment * kRows + i + 1)};
      row.kind = i % 2 == 0 ? SpanKind::kLlm : SpanKind::kTool;
      row.fields = {{"user_id", user}, {"input_tokens", std::int64_t{i}}};
      if (i % 3 != 0) row.fields["session_id"] = session;
      if (row.kind == SpanKind::kLlm) {
        auto& [count, sum] = expected[{user, i % 3 != 0 ? session : ""}];
        ++count;
        sum += i;
      }
      rows.push_back(std::move(row));
    }
    store.AddSegment(rows);
  }
  const auto table = Aggregated(store, {.filter = "kind == llm"}, {.by = {"user_id", "session_id"}},
                                std::vector<Aggregate>{{"n", "count()"}, {"sum", "sum(input_tokens)"}});
  ASSERT_TRUE(table.ok()) << table.status().message();
  ASSERT_EQ(table->rows, expected.size());
  for (std::size_t row = 0; row < table->rows; ++row) {
    const TableColumn &user = table->columns[0], &session = table->columns[1];
    const bool has_session = session.valid.empty() || session.valid[row] != 0;
    const std::pair key{user.dictionary[user.codes[row]], has_session ? session.dictionary[session.codes[row]] : ""};
    ASSERT_TRUE(expected.contains(key)) << key.first << " " << key.second;
    EXPECT_EQ(table->columns[2].ints[row], expected[key].first);
    EXPECT_EQ(table->columns[3].ints[row], expected[key].second);
  }
}

TEST(AggregateTest, SumsPassOverNansAndKeepInfinitiesAndVeryLargeNumbers) {
  MemoryStore store;
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinite = std::numeric_limits<double>::infinity();
  const std::int64_t large = std::numeric_limits<std::int64_t>::max() - 1;
  store.AddSegment({{.span = 1, .name = "a", .fields = {{"x", nan}, {"y", large}}},
                    {.span = 2, .name = "a", .fields = {{"x", 1.5}, {"y", large}}},
                    {.span = 3, .name = "b", .fields = {{"x", infinite}, {"y", -large}}},
                    {.span = 4, .name = "b", .fields = {{"x", 1.0}, {"y", large}}},
                    {.span = 5, .name = "c", .fields = {{"x", nan}}}});
  EXPECT_EQ(Answer(store, {.by = {"name"}}, {{"s", "sum(x)"}, {"m", "mean(x)"}, {"y", "sum(y)"}}),
            "name s m y\na 1.5 1.5 1.84467e+19\nb inf inf 0\nc 0 - 0\n");
}

}  // namespace
}  // namespace spanbox
