// The same questions over a store on disk: segments from LMDB, before and after merging.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

#include "query_testing.h"

namespace spanbox {
namespace {

class QueryStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "spanbox-query-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path folder_;
};

TEST_F(QueryStoreTest, AnswersDoNotChangeWhenSegmentsMerge) {
  auto opened = Store::Open((folder_ / "store").string(), {.merge_fan_in = 4});
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  Store& store = **opened;
  SpanId id = 0;
  for (std::int64_t commit = 0; commit < 8; ++commit) {
    std::vector<std::string> texts(50);
    std::vector<std::array<Field, 3>> fields(50);
    std::vector<SpanRow> rows;
    for (std::size_t i = 0; i < 50; ++i) {
      texts[i] = "answer " + std::to_string(id) + (id % 10 == 0 ? " refund policy" : "");
      fields[i] = {Field{Column::kModel, "", Value::String(id % 3 == 0 ? "small" : "large")},
                   Field{Column::kAttribute, "score", Value::Int(static_cast<std::int64_t>(id % 7))},
                   Field{Column::kOutput, "", Value::String(texts[i])}};
      rows.push_back({.trace_id = testing::TraceIdOf(1 + id / 5),
                      .span_id = id + 1,
                      .parent_id = id % 5 == 0 ? 0 : id,
                      .name = "call",
                      .kind = SpanKind::kLlm,
                      .start_ns = commit * 1000 + static_cast<std::int64_t>(i),
                      .duration_ns = static_cast<std::int64_t>(1 + id % 100) * 1'000'000,
                      .fields = fields[i]});
      ++id;
    }
    ASSERT_TRUE(store.Append(rows).ok());
  }
  const auto check = [&] {
    EXPECT_EQ(*Count(store, {}), 400u);
    EXPECT_EQ(*Count(store, {.filter = "model == \"small\" and score >= 3", .since_ns = 1000, .until_ns = 3000}), 18u);
    EXPECT_EQ(*Count(store, {.filter = "\"refund\" in output"}), 40u);
    EXPECT_EQ(Grep(store, {}, "refund policy", false, false, 5)->matched, 40u);
    const Aggregate aggregates[] = {{"n", "count()"}, {"p", "p50(duration)"}};
    const auto table = Aggregated(store, {}, {.by = {"model"}}, aggregates);
    ASSERT_TRUE(table.ok());
    EXPECT_EQ(table->columns[1].ints, (std::vector<std::int64_t>{266, 134}));
    const auto trace = TraceOf(store, testing::TraceIdOf(3));
    ASSERT_TRUE(trace.ok());
    EXPECT_EQ(trace->size(), 5u);
    EXPECT_EQ(trace->back().depth, 4u);
    EXPECT_EQ(Scan(store, {}, {.columns = {"name"}, .limit = 7, .descending = true})->rows, 7u);
  };
  check();
  const auto merged = store.MergeOnce();
  ASSERT_TRUE(merged.ok() && *merged);
  check();
}

}  // namespace
}  // namespace spanbox
