// Questions whose segments are shared by threads: the answers are those of one thread.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "query_testing.h"

namespace spanbox {
namespace {

using testing::MemoryStore;
using testing::Row;

template <typename T>
T Must(Result<T> result) {
  EXPECT_TRUE(result.ok()) << result.status().message();
  return *std::move(result);
}

constexpr std::int64_t kMinuteNs = 60'000'000'000;

// Values that repeat across segments in different orders, of several types, and some absent.
std::vector<Row> RowsOf(std::uint64_t segment) {
  std::vector<Row> rows;
  for (std::uint64_t i = 0; i < 150; ++i) {
    const std::uint64_t n = segment * 150 + i, mixed = n * 2654435761u % 1009;
    Row row{.trace = n / 5 + 1,
            .span = n + 1,
            .kind = mixed % 3 == 0 ? SpanKind::kTool : SpanKind::kLlm,
            .status = mixed % 7 == 0 ? SpanStatus::kError : SpanStatus::kOk,
            .start_ns = static_cast<std::int64_t>(n) * kMinuteNs / 50,
            .duration_ns = static_cast<std::int64_t>(mixed * 1000),
            .fields = {{"model", "m" + std::to_string((mixed + segment) % 5)},
                       {"input_tokens", static_cast<std::int64_t>(mixed)},
                       {"input", (mixed % 11 == 0 ? "find me " : "text ") + std::string(mixed, 'x')}}};
    if (mixed % 2 == 0) row.fields["mixed"] = static_cast<std::int64_t>(mixed % 4);
    if (mixed % 5 == 0) row.fields["mixed"] = static_cast<double>(mixed % 4);  // whole, so that sums are exact
    if (mixed % 13 == 0) row.fields["mixed"] = std::string("word") + std::to_string(mixed % 3);
    rows.push_back(std::move(row));
  }
  return rows;
}

std::string ToText(const Table& table) {
  std::string text;
  for (const TableColumn& column : table.columns) {
    text += column.name + ":";
    for (std::size_t row = 0; row < table.rows; ++row) {
      const bool has = column.valid.empty() || column.valid[row] != 0;
      text += !has                                        ? " -"
              : column.type == TableColumn::Type::kString ? " " + column.dictionary[column.codes[row]]
              : column.type == TableColumn::Type::kFloat  ? " " + std::to_string(column.floats[row])
                                                          : " " + std::to_string(column.ints[row]);
    }
    text += "\n";
  }
  return text;
}

const std::vector<Aggregate> kAggregates = {{"n", "count()"},
                                            {"values", "count(mixed)"},
                                            {"sum", "sum(mixed)"},
                                            {"mean", "mean(input_tokens)"},
                                            {"min", "min(mixed)"},
                                            {"max", "max(duration)"},
                                            {"p99", "p99(duration)"},
                                            {"exact", "p50(duration, exact)"},
                                            {"histogram", "histogram(input_tokens)"},
                                            {"buckets", "buckets(duration)"},
                                            {"errors", "rate(status == error)"},
                                            {"distinct", "distinct(mixed)"},
                                            {"about", "approx_distinct(input_tokens)"},
                                            {"top", "top(mixed, 3)"}};

std::string Answers(Store& store, const SpanQuery& query) {
  std::string text = std::to_string(Must(Count(store, query)));
  for (const bool exact : {false, true}) {
    const double qs[] = {0, 0.5, 0.99};
    const Quantiles quantiles = Must(QuantilesOf(store, query, "duration", qs, exact));
    for (const double value : quantiles.values) text += " " + std::to_string(value);
    text += " of " + std::to_string(quantiles.count) + "\n";
  }
  text += ToText(Must(Aggregated(store, query, {}, kAggregates)));
  text += ToText(Must(Aggregated(store, query, {.by = {"mixed", "model"}, .every_ns = kMinuteNs}, kAggregates)));
  const GrepResult hits = Must(Grep(store, query, "find m.", true, true, 20));
  text += std::to_string(hits.matched);
  for (const GrepHit& hit : hits.hits) text += " " + ToHex(hit.span_id) + hit.column;
  return text;
}

TEST(ThreadsTest, AnswersAreThoseOfOneThread) {
  MemoryStore store;
  for (std::uint64_t segment = 0; segment < 16; ++segment) store.AddSegment(RowsOf(segment));
  store.SetOpen({{.trace = 9000, .span = 1, .status = SpanStatus::kRunning, .start_ns = 5}});
  for (const char* filter : {"", "kind == llm and input_tokens > 100", "any(siblings, status == error)"}) {
    SpanQuery query{.filter = filter};
    const std::string expected = Answers(store, query);
    for (const unsigned threads : {2u, 3u, 50u}) {
      for (const std::int64_t max_view_ns : {std::int64_t{0}, query.max_view_ns}) {
        SpanQuery shared = query;
        shared.threads = threads;
        shared.max_view_ns = max_view_ns;
        EXPECT_EQ(Answers(store, shared), expected) << filter << ", " << threads << " threads";
      }
    }
  }
}

TEST(ThreadsTest, StoreOnDiskIsReadByAllAtOnce) {
  std::string folder = (std::filesystem::temp_directory_path() / "spanbox-threads-XXXXXX").string();
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  auto store = Must(Store::Open(folder + "/s", {}));
  for (std::uint64_t segment = 0; segment < 8; ++segment) {
    const std::vector<Row> rows = RowsOf(segment);
    std::vector<std::vector<Field>> fields(rows.size());
    std::vector<SpanRow> spans;
    for (std::size_t i = 0; i < rows.size(); ++i) spans.push_back(SpanRowOf(rows[i], fields[i]));
    ASSERT_TRUE(store->Append(spans).ok());
  }
  const std::string expected = Answers(*store, {});
  EXPECT_EQ(Answers(*store, {.threads = 4}), expected);
  store.reset();
  std::filesystem::remove_all(folder);
}

TEST(ThreadsTest, CancellingEndsAllOfThem) {
  MemoryStore store;
  for (std::uint64_t segment = 0; segment < 16; ++segment) store.AddSegment(RowsOf(segment));
  std::atomic<int> asked{0};
  const std::thread::id asker = std::this_thread::get_id();
  SpanQuery query{.filter = "\"nothing\" in input", .threads = 4};
  query.cancelled = [&] {
    EXPECT_EQ(std::this_thread::get_id(), asker);
    ++asked;
    return true;
  };
  EXPECT_EQ(Count(store, query).status().code(), StatusCode::kCancelled);
  EXPECT_EQ(asked, 1);
}

TEST(ThreadsTest, DamageIsToldOnceAndByName) {
  MemoryStore store;
  for (std::uint64_t segment = 0; segment < 16; ++segment) store.AddSegment(RowsOf(segment));
  store.Damage(7);
  const auto count = Count(store, {.filter = "input_tokens > 3", .threads = 4});
  EXPECT_EQ(count.status().code(), StatusCode::kDataLoss) << count.status().message();
}

}  // namespace
}  // namespace spanbox
