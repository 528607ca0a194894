// What agg() says of how values are distributed: approx_distinct, top, histogram, exact quantiles; tables in order.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>

#include "query_testing.h"
#include "spanbox/sketch.h"

namespace spanbox {
namespace {

using testing::MemoryStore;
using testing::Row;

Table Asked(Store& store, const std::vector<std::string>& by, const std::vector<Aggregate>& aggregates) {
  auto table = Aggregated(store, {}, {.by = by}, aggregates);
  EXPECT_TRUE(table.ok()) << table.status().message();
  return table.ok() ? *std::move(table) : Table{};
}

std::string Text(const TableColumn& column, std::size_t row) {
  if (!column.valid.empty() && column.valid[row] == 0) return "-";
  return column.dictionary[column.codes[row]];
}

TEST(DistributionTest, ApproximateDistinctCountsEqualValuesOnceWhateverTheirType) {
  MemoryStore store;
  store.AddSegment({{.span = 1, .fields = {{"x", std::int64_t{2}}}},
                    {.span = 2, .fields = {{"x", 2.0}}},
                    {.span = 3, .fields = {{"x", true}}},
                    {.span = 4, .fields = {{"x", std::string("2")}}},
                    {.span = 5, .fields = {{"x", std::numeric_limits<double>::quiet_NaN()}}},
                    {.span = 6, .fields = {{"x", std::string(3000, 'y')}}},
                    {.span = 7}});
  store.AddSegment({{.span = 8, .fields = {{"x", std::string("2")}}}, {.span = 9, .fields = {{"x", -0.5}}}});
  const Table table = Asked(store, {}, {{"exact", "distinct(x)"}, {"about", "approx_distinct(x)"}});
  EXPECT_EQ(table.columns[0].ints[0], 6);
  EXPECT_EQ(table.columns[1].ints[0], 6);
  const Table ids = Asked(store, {}, {{"t", "approx_distinct(trace_id)"}, {"s", "approx_distinct(span_id)"}});
  EXPECT_EQ(ids.columns[0].ints[0], 1);
  EXPECT_EQ(ids.columns[1].ints[0], 9);
}

TEST(DistributionTest, ApproximateDistinctKeepsItsErrorInEveryGroup) {
  MemoryStore store;
  for (std::uint64_t segment = 0; segment < 4; ++segment) {
    std::vector<Row> rows;
    for (std::uint64_t i = 0; i < 20'000; ++i) {
      const std::uint64_t user = segment * 10'000 + i;  // half of each segment's users are in the next one
      rows.push_back({.span = segment * 100'000 + i + 1,
                      .start_ns = static_cast<std::int64_t>(i),
                      .fields = {{"user_id", "u" + std::to_string(user)},
                                 {"model", std::string(user % 10 == 0 ? "rare" : "common")}}});
    }
    store.AddSegment(rows);
  }
  const Table table = Asked(store, {"model"}, {{"exact", "distinct(user_id)"}, {"about", "approx_distinct(user_id)"}});
  ASSERT_EQ(table.rows, 2u);
  for (std::size_t row = 0; row < 2; ++row) {
    const double exact = static_cast<double>(table.columns[1].ints[row]);
    EXPECT_EQ(exact, row == 0 ? 45'000 : 5'000);
    EXPECT_NEAR(static_cast<double>(table.columns[2].ints[row]), exact, 0.03 * exact);
  }
}

TEST(DistributionTest, TopGivesTheMostFrequentValuesWithTheirCounts) {
  MemoryStore store;
  std::vector<Row> rows;
  SpanId id = 0;
  for (const auto& [model, n] : std::map<std::string, int>{{"b", 3}, {"a", 3}, {"q\"uote", 5}, {"rare", 1}}) {
    for (int i = 0; i < n; ++i) {
      rows.push_back({.span = ++id, .kind = SpanKind::kLlm, .fields = {{"model", model}, {"n", std::int64_t{n}}}});
    }
  }
  store.AddSegment({{.span = 100, .kind = SpanKind::kTool}});
  store.AddSegment(rows);
  const Table table = Asked(store, {"kind"}, {{"models", "top(model, 3)"}, {"ns", "top(n)"}, {"d", "distinct(model)"}});
  EXPECT_TRUE(table.columns[1].is_json);
  EXPECT_EQ(Text(table.columns[1], 0), R"([["q\"uote",5],["a",3],["b",3]])");
  EXPECT_EQ(Text(table.columns[2], 0), "[[3,6],[5,5],[1,1]]");
  EXPECT_EQ(table.columns[3].ints[0], 4);
  EXPECT_EQ(Text(table.columns[1], 1), "-") << "nobody has one";
}

TEST(DistributionTest, HistogramCountsEveryNumberOnce) {
  MemoryStore store;
  std::vector<Row> rows;
  for (SpanId i = 1; i <= 1000; ++i) {
    rows.push_back({.span = i, .fields = {{"x", static_cast<std::int64_t>(i)}, {"one", 0.25}}});
  }
  store.AddSegment(rows);
  const Table table =
      Asked(store, {}, {{"x", "histogram(x)"}, {"one", "histogram(one)"}, {"none", "histogram(nothing)"}});
  EXPECT_TRUE(table.columns[0].is_json);
  const std::string text = Text(table.columns[0], 0);
  EXPECT_TRUE(text.starts_with("[[1,")) << text;
  EXPECT_NE(text.find(",1000,"), std::string::npos) << "ends with the largest value: " << text;
  std::uint64_t total = 0, bins = 0;
  for (std::size_t at = text.find(']'); at != std::string::npos && at + 1 < text.size(); at = text.find(']', at + 1)) {
    total += std::stoull(text.substr(text.rfind(',', at) + 1));
    ++bins;
  }
  EXPECT_EQ(total, 1000u);
  EXPECT_LE(bins, 32u);
  EXPECT_EQ(Text(table.columns[1], 0), "[[0.25,0.25,1000]]");
  EXPECT_EQ(Text(table.columns[2], 0), "-");
}

TEST(DistributionTest, GroupsOfFewNumbersAreAnsweredAsThoseOfMany) {
  std::mt19937_64 random(9);
  std::vector<Row> rows;
  std::map<std::string, DDSketch> sketches;
  for (SpanId id = 1; id <= 3000; ++id) {
    Row row{.span = id, .start_ns = static_cast<std::int64_t>(id)};
    const std::string group = "g" + std::to_string(id % 4 == 0 ? id % 64 : 0);  // one has most of them
    const double number = std::exp(static_cast<double>(random() % 1000) / 50) - 20;
    row.fields["group"] = group;
    if (random() % 9 != 0) row.fields["x"] = random() % 50 == 0 ? std::nan("") : number;
    if (row.fields.contains("x")) sketches[group].Add(std::get<double>(row.fields["x"]));
    rows.push_back(std::move(row));
  }
  const auto ask = [&](std::size_t rows_per_segment, unsigned threads) {
    MemoryStore store;
    for (std::size_t at = 0; at < rows.size(); at += rows_per_segment) {
      store.AddSegment({rows.begin() + static_cast<std::ptrdiff_t>(at),
                        rows.begin() + static_cast<std::ptrdiff_t>(std::min(rows.size(), at + rows_per_segment))});
    }
    const std::vector<Aggregate> aggregates = {{"p50", "p50(x)"}, {"p99", "p99(x)"}, {"bins", "histogram(x)"}};
    auto table = Aggregated(store, {.threads = threads}, {.by = {"group"}}, aggregates);
    EXPECT_TRUE(table.ok()) << table.status().message();
    return table.ok() ? *std::move(table) : Table{};
  };
  const Table many = ask(3000, 1);
  ASSERT_EQ(many.rows, sketches.size());
  for (const unsigned threads : {1u, 3u}) {
    for (const std::size_t rows_per_segment : {3000u, 40u}) {
      const Table table = ask(rows_per_segment, threads);
      ASSERT_EQ(table.rows, many.rows);
      for (std::size_t row = 0; row < table.rows; ++row) {
        const DDSketch& sketch = sketches.at(Text(table.columns[0], row));
        EXPECT_EQ(table.columns[1].floats[row], sketch.Quantile(0.5)) << rows_per_segment;
        EXPECT_EQ(table.columns[2].floats[row], sketch.Quantile(0.99)) << rows_per_segment;
        EXPECT_EQ(Text(table.columns[3], row), Text(many.columns[3], row)) << rows_per_segment;
      }
    }
  }
}

TEST(DistributionTest, ExactQuantilesAreThoseOfQuantilesOf) {
  MemoryStore store;
  std::mt19937_64 random(3);
  std::vector<Row> rows;
  for (SpanId i = 1; i <= 500; ++i) {
    rows.push_back({.span = i, .kind = i % 5 == 0 ? SpanKind::kTool : SpanKind::kLlm});
    if (i % 7 != 0) rows.back().duration_ns = static_cast<std::int64_t>(random() % 1'000'000'000);
  }
  store.AddSegment(rows);
  const Table table = Asked(store, {"kind"}, {{"p50", "p50(duration, exact)"}, {"p99.9", "p99.9( duration , exact )"}});
  for (std::size_t row = 0; row < table.rows; ++row) {
    const double qs[] = {0.5, 0.999};
    const auto exact = QuantilesOf(store, {.filter = "kind == " + Text(table.columns[0], row)}, "duration", qs, true);
    ASSERT_TRUE(exact.ok());
    EXPECT_EQ(table.columns[1].floats[row], exact->values[0]);
    EXPECT_EQ(table.columns[2].floats[row], exact->values[1]);
  }
  const Table none = Asked(store, {}, {{"p", "p50(ttft, exact)"}});
  EXPECT_EQ(none.columns[0].valid[0], 0);
}

TEST(DistributionTest, TablesCanBeOrderedAndCut) {
  MemoryStore store;
  store.AddSegment({{.span = 1, .fields = {{"model", std::string("a")}, {"cost_usd", 1.0}}},
                    {.span = 2, .fields = {{"model", std::string("b")}, {"cost_usd", 3.0}}},
                    {.span = 3, .fields = {{"model", std::string("c")}}},
                    {.span = 4, .fields = {{"model", std::string("d")}, {"cost_usd", 2.0}}}});
  const Table table = Asked(store, {"model"}, {{"cost", "max(cost)"}, {"n", "count()"}});
  const auto models = [](const Result<Table>& ordered) {
    std::string text;
    for (std::size_t row = 0; ordered.ok() && row < ordered->rows; ++row) text += Text(ordered->columns[0], row);
    return text;
  };
  EXPECT_EQ(models(Ordered(table, "cost", true, 10)), "bdac");
  EXPECT_EQ(models(Ordered(table, "cost", false, 10)), "adbc");
  EXPECT_EQ(models(Ordered(table, "model", true, 2)), "dc");
  EXPECT_EQ(models(Ordered(table, "n", true, 3)), "abc") << "equal ones stay as they came";
  EXPECT_EQ(models(Ordered(table, "", false, 1)), "a");
  EXPECT_EQ(Ordered(table, "cots", false, 1).status().message(), "no column `cots` among `model`, `cost`, `n`");
}

}  // namespace
}  // namespace spanbox
