// The same questions over a store on disk: segments from LMDB, before and after merging.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <deque>
#include <filesystem>
#include <random>

#include "query_testing.h"
#include "spanbox/trace.h"

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

// Spans with some 3 KB of text each, so that there are several blocks; what they say, few of them say.
class SettledTextTest : public QueryStoreTest {
 protected:
  void Fill(Store& store) {
    std::mt19937_64 random(12);
    std::deque<Field> fields;
    std::vector<SpanRow> rows;
    for (std::uint64_t i = 0; i < 800; ++i) {
      std::string& text = texts_.emplace_back();
      while (text.size() < 3000) text.append(std::to_string(random() % 100)).append(" plain words\n");
      const std::string order = "Order-" + std::to_string(i * 7919);
      if (i % 50 == 0) {
        text.insert(random() % text.size(), order +
                                                " \"quoted\" \xC3\x89T\xC3\x89 \xE2\x84\xAA"
                                                "ey");
      }
      fields.push_back({Column::kInput, "", i % 2 == 0 ? Value::Json(text) : Value::String(text)});
      rows.push_back({.trace_id = testing::TraceIdOf(1 + i / 5),
                      .span_id = i + 1,
                      .name = "call",
                      .start_ns = static_cast<std::int64_t>(i),
                      .duration_ns = 1,
                      .fields = std::span(&fields.back(), 1)});
    }
    ASSERT_TRUE(store.Append(rows).ok());
  }

  std::string Answers(Store& store) {
    std::string answers;
    for (const bool regex : {false, true}) {
      for (const bool ignore_case : {false, true}) {
        for (const char* pattern :
             {"Order-7919", "order-395950", "ORDER-0", "Order-[0-9]+5 ", "(?i)oRDER-1|nothing at all", "quoted\"",
              "\xC3\xA9t\xC3\xA9", "\xC3\x89T", "key", "ey", "^Order", "Order.{0,40}ey", "absent text", "words\n", ".*",
              "[^ ]rder-", "99 plain", "kEY"}) {
          const auto found = Grep(store, {}, pattern, regex, ignore_case, 1000);
          EXPECT_TRUE(found.ok()) << pattern;
          answers += std::string(pattern) + ": " + std::to_string(found->matched);
          for (const GrepHit& hit : found->hits) answers += " " + std::to_string(hit.span_id);
          answers += "\n";
        }
      }
    }
    for (const char* filter : {"\"Order-7919\" in input", "\"Order-7919\" not in input", "input ~ \"Order-[0-9]{5}\"",
                               "not (input ~ \"(?i)ORDER\")", "\"absent text\" in input", "\"\\\"quoted\" in input"}) {
      const auto count = Count(store, {.filter = filter});
      EXPECT_TRUE(count.ok()) << filter;
      answers += std::string(filter) + ": " + std::to_string(*count) + "\n";
    }
    return answers;
  }

  std::deque<std::string> texts_;
};

TEST_F(SettledTextTest, SearchFiltersHideNothing) {
  auto opened = Store::Open((folder_ / "store").string());
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  Fill(**opened);
  const std::string before = Answers(**opened);
  EXPECT_NE(before.find("Order-[0-9]+5 : "), std::string::npos);
  EXPECT_NE(before.find("\"absent text\" in input: 0"), std::string::npos);
  ASSERT_TRUE((*opened)->Compact().ok());
  ASSERT_GT((*opened)->Info()->filter_bytes, 0u);
  EXPECT_EQ(Answers(**opened), before);
}

}  // namespace
}  // namespace spanbox
