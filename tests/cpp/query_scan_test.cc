#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <random>

#include "query_testing.h"

namespace spanbox {
namespace {

using testing::Json;
using testing::MemoryStore;
using testing::Row;

const TableColumn* Named(const Table& table, std::string_view name) {
  for (const TableColumn& column : table.columns) {
    if (column.name == name) return &column;
  }
  return nullptr;
}

std::vector<std::string> Texts(const TableColumn& column) {
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < column.codes.size(); ++i) {
    texts.push_back(!column.valid.empty() && column.valid[i] == 0 ? "-" : column.dictionary[column.codes[i]]);
  }
  return texts;
}

std::vector<std::string> Names(const Table& table) {
  std::vector<std::string> names;
  for (const TableColumn& column : table.columns) names.push_back(column.name);
  return names;
}

MemoryStore SmallStore() {
  MemoryStore store;
  store.AddSegment({{.trace = 1,
                     .span = 1,
                     .name = "root",
                     .start_ns = 10,
                     .duration_ns = 7,
                     .fields = {{"model", std::string("b")}, {"zeta", std::int64_t{1}}, {"input", Json{"[1]"}}}},
                    {.trace = 1,
                     .span = 2,
                     .parent = 1,
                     .name = "leaf",
                     .start_ns = 12,
                     .fields = {{"model", std::string("a")}, {"alpha.x", 1.5}, {"mixed", true}}}});
  store.AddSegment(
      {{.trace = 2,
        .span = 3,
        .name = "late",
        .start_ns = 20,
        .duration_ns = 3,
        .fields = {{"zeta", 2.5}, {"alpha.x", 2.5}, {"mixed", std::int64_t{7}}, {"user_id", std::int64_t{5}}}}});
  return store;
}

TEST(ScanTest, WithoutColumnsEveryColumnWithAValueComesInOrder) {
  MemoryStore store = SmallStore();
  const auto all = Scan(store, {}, {});
  ASSERT_TRUE(all.ok()) << all.status().message();
  EXPECT_EQ(Names(*all),
            (std::vector<std::string>{"trace_id", "span_id", "parent_id", "name", "kind", "status", "start",
                                      "duration_ns", "model", "user_id", "input", "alpha.x", "mixed", "zeta"}));
  EXPECT_EQ(Named(*all, "start")->type, TableColumn::Type::kTimestampNs);
  EXPECT_EQ(Named(*all, "zeta")->type, TableColumn::Type::kFloat);
  EXPECT_EQ(Named(*all, "zeta")->floats[0], 1.0);
  EXPECT_EQ(Texts(*Named(*all, "mixed")), (std::vector<std::string>{"-", "true", "7"}));
  EXPECT_EQ(Texts(*Named(*all, "user_id")), (std::vector<std::string>{"-", "-", "5"}));
  EXPECT_EQ(Texts(*Named(*all, "parent_id")), (std::vector<std::string>{"-", "0000000000000001", "-"}));
  EXPECT_EQ(Texts(*Named(*all, "input")), (std::vector<std::string>{"[1]", "-", "-"}));
  EXPECT_EQ(Named(*all, "duration_ns")->valid, (std::vector<std::uint8_t>{1, 0, 1}));

  const auto one = Scan(store, {.filter = "name == \"late\""}, {});
  EXPECT_EQ(Named(*one, "model"), nullptr) << "no matching span has it";
}

TEST(ScanTest, NamedColumnsComeAsAskedAlsoWhereNobodyHasThem) {
  MemoryStore store = SmallStore();
  const auto table = Scan(store, {}, {.columns = {"model", "nowhere", "duration", "ttft", "cost", "name"}});
  ASSERT_TRUE(table.ok());
  EXPECT_EQ(Names(*table),
            (std::vector<std::string>{"model", "nowhere", "duration_ns", "ttft_ns", "cost_usd", "name"}));
  EXPECT_EQ(Texts(table->columns[1]), (std::vector<std::string>{"-", "-", "-"}));
  EXPECT_EQ(table->columns[3].type, TableColumn::Type::kInt);
  EXPECT_EQ(table->columns[4].type, TableColumn::Type::kFloat);
  EXPECT_EQ(Texts(table->columns[5]), (std::vector<std::string>{"root", "leaf", "late"}));
}

TEST(ScanTest, OrderAndLimit) {
  MemoryStore store = SmallStore();
  const auto names = [&](ScanOptions options) {
    options.columns = {"name"};
    const auto table = Scan(store, {}, options);
    EXPECT_TRUE(table.ok()) << table.status().message();
    return Texts(table->columns[0]);
  };
  using Texts = std::vector<std::string>;
  EXPECT_EQ(names({.limit = 2}), (Texts{"root", "leaf"}));
  EXPECT_EQ(names({.limit = 2, .descending = true}), (Texts{"late", "leaf"}));
  EXPECT_EQ(names({.limit = 0}), Texts{});
  EXPECT_EQ(names({.order_by = "duration"}), (Texts{"late", "root", "leaf"}));
  EXPECT_EQ(names({.order_by = "duration", .descending = true}), (Texts{"root", "late", "leaf"})) << "absent last";
  EXPECT_EQ(names({.order_by = "model"}), (Texts{"leaf", "root", "late"}));
  EXPECT_EQ(names({.limit = 1, .order_by = "model", .descending = true}), Texts{"root"});
  EXPECT_EQ(names({.order_by = "kind", .descending = true}), (Texts{"root", "leaf", "late"})) << "ties by start";
  EXPECT_EQ(Scan(store, {}, {.order_by = "input"}).status().code(), StatusCode::kInvalidArgument);
}

TEST(ScanTest, LimitGivesTheFirstOfTheFullAnswer) {
  std::mt19937_64 random(4);
  MemoryStore store;
  SpanId id = 0;
  const double inf = std::numeric_limits<double>::infinity();
  const double floats[] = {-inf, -2.5, -0.0, 0.0, 1e-300, 0.25, 7, inf, std::nan("")};
  for (int segment = 0; segment < 12; ++segment) {
    std::vector<Row> rows;
    for (int i = 0; i < 300; ++i) {
      Row row{.trace = random() % 30,
              .span = ++id,
              .start_ns = segment * 50 + static_cast<std::int64_t>(random() % 100),
              .duration_ns = static_cast<std::int64_t>(random() % (segment == 5 ? 4 : 400))};
      if (random() % 3 != 0) row.fields["v"] = static_cast<std::int64_t>(random() % 20);
      if (random() % 3 == 0) row.fields["v"] = static_cast<double>(random() % 40) / 2;
      if (random() % 9 == 0) row.fields["v"] = "s" + std::to_string(random() % 9);
      if (random() % 3 != 0) row.fields["n"] = static_cast<std::int64_t>(random() % 300) - 150;
      if (segment != 3 && random() % 40 != 0) row.fields["f"] = floats[random() % std::size(floats)];
      rows.push_back(std::move(row));
    }
    store.AddSegment(rows);
  }
  for (const std::string order_by : {"", "v", "n", "f", "duration", "trace_id"}) {
    for (const bool descending : {false, true}) {
      ScanOptions options{.columns = {"span_id"}, .order_by = order_by, .descending = descending};
      const auto full = Texts(Scan(store, {.filter = "v != 3"}, options)->columns[0]);
      // Twice each: what was seen of a segment is remembered.
      for (const std::uint64_t limit : {1u, 7u, 60u, 150u, 280u, 5000u}) {
        options.limit = limit;
        for (int round = 0; round < 2; ++round) {
          const auto part = Texts(Scan(store, {.filter = "v != 3"}, options)->columns[0]);
          ASSERT_EQ(part.size(), std::min<std::size_t>(limit, full.size()));
          EXPECT_TRUE(std::equal(part.begin(), part.end(), full.begin())) << order_by << descending << limit;
        }
      }
    }
  }
  store.loads = 0;
  ASSERT_TRUE(Scan(store, {}, {.columns = {"name"}, .limit = 5, .descending = true}).ok());
  EXPECT_LE(store.loads, 5) << "segments that cannot hold the newest spans are not loaded";
}

}  // namespace
}  // namespace spanbox
