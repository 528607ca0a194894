// Questions that take long: they can be cancelled, and give the store's pages back on the way.
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "query_testing.h"

namespace spanbox {
namespace {

using testing::MemoryStore;
using testing::Row;

constexpr std::uint64_t kSegments = 10, kRowsOfASegment = 20;

std::vector<Row> RowsOf(std::uint64_t segment) {
  std::vector<Row> rows;
  for (std::uint64_t i = 0; i < kRowsOfASegment; ++i) {
    const std::uint64_t n = segment * kRowsOfASegment + i;
    rows.push_back({.trace = n / 3 + 1,
                    .span = n + 1,
                    .parent = n % 3 == 0 ? 0 : n / 3 * 3 + 1,
                    .kind = n % 2 == 0 ? SpanKind::kLlm : SpanKind::kTool,
                    .start_ns = static_cast<std::int64_t>(n),
                    .duration_ns = static_cast<std::int64_t>(n * 7919 % 1000),
                    .fields = {{"input", "text " + std::string(1500, 'x') + std::to_string(n)}}});
  }
  return rows;
}

void Fill(MemoryStore& store) {
  for (std::uint64_t segment = 0; segment < kSegments; ++segment) store.AddSegment(RowsOf(segment));
}

using Question = std::function<std::string(Store&, const SpanQuery&)>;

template <typename T, typename Show>
std::string Text(const Result<T>& result, Show show) {
  return result.ok() ? show(*result) : result.status().message();
}

std::string Rows(Store& store, const SpanQuery& query, bool descending) {
  const ScanOptions options{.columns = {"start_ns", "input"}, .limit = 150, .descending = descending};
  return Text(Scan(store, query, options), [](const Table& table) {
    std::string text;
    for (std::size_t i = 0; i < table.rows; ++i) {
      const TableColumn& inputs = table.columns[1];
      if (!inputs.valid.empty() && inputs.valid[i] == 0) continue;  // the open span
      const std::string& input = inputs.dictionary[inputs.codes[i]];
      text += std::to_string(table.columns[0].ints[i]) + "=" + input.substr(input.rfind('x') + 1) + " ";
    }
    return text;
  });
}

const Question kQuestions[] = {
    [](Store& store, const SpanQuery& query) {
      return Text(Count(store, query), [](std::uint64_t n) { return std::to_string(n); });
    },
    [](Store& store, const SpanQuery& query) {
      const double qs[] = {0.1, 0.99};
      return Text(QuantilesOf(store, query, "duration", qs, true), [](const Quantiles& quantiles) {
        return std::to_string(quantiles.values[0]) + " " + std::to_string(quantiles.values[1]);
      });
    },
    [](Store& store, const SpanQuery& query) {
      const std::vector<Aggregate> aggregates = {{"n", "count()"}, {"s", "sum(duration)"}, {"t", "top(duration)"}};
      return Text(Aggregated(store, query, {.by = {"kind"}}, aggregates), [](const Table& table) {
        std::string text;
        for (std::size_t i = 0; i < table.rows; ++i) {
          text += std::to_string(table.columns[1].ints[i]) + "/" + std::to_string(table.columns[2].ints[i]) + " " +
                  table.columns[3].dictionary[table.columns[3].codes[i]];
        }
        return text;
      });
    },
    [](Store& store, const SpanQuery& query) { return Rows(store, query, false); },
    [](Store& store, const SpanQuery& query) { return Rows(store, query, true); },
    [](Store& store, const SpanQuery& query) {
      return Text(Grep(store, query, "x1", false, false, 5),
                  [](const GrepResult& found) { return std::to_string(found.matched); });
    },
};
constexpr const char* kFilters[] = {"", "kind == llm", "\"x7\" in input", "any(siblings, kind == tool)"};

void OpenSpan(MemoryStore& store, SpanId id) {
  store.SetOpen({{.span = id, .status = SpanStatus::kRunning, .start_ns = 77, .duration_ns = 3}});
}

bool AsksForRows(const Question& question) { return &question == &kQuestions[3] || &question == &kQuestions[4]; }

// While a question is answered, in a view renewed before every segment, two segments become one, a new one and another
// open span come: the answer stays that of a store where nothing happens. Only rows may be those of a later moment.
TEST(LongQueryTest, MergesMeanwhileChangeNoAnswer) {
  int renewed = 0;
  for (const char* filter : kFilters) {
    for (const Question& question : kQuestions) {
      MemoryStore quiet;
      Fill(quiet);
      OpenSpan(quiet, 5000);
      const std::string expected = question(quiet, {.filter = filter});
      for (int when = 0; when < 25; when += 2) {
        MemoryStore store;
        Fill(store);
        OpenSpan(store, 5000);
        int asked = 0;
        SpanQuery query{.filter = filter, .max_view_ns = 0};
        query.cancelled = [&] {
          if (asked++ != when) return false;
          std::vector<Row> merged = RowsOf(2), more = RowsOf(7);
          merged.insert(merged.end(), more.begin(), more.end());
          store.Merge({3, 8}, merged);
          if (AsksForRows(question)) return false;
          store.AddSegment({{.trace = 900, .span = 9000, .kind = SpanKind::kLlm, .start_ns = 50, .duration_ns = 1}});
          OpenSpan(store, 6000);
          return false;
        };
        EXPECT_EQ(question(store, query), expected) << filter << " question " << &question - kQuestions << " " << when;
        renewed += store.reads > 5 ? 1 : 0;
      }
    }
  }
  EXPECT_GT(renewed, 100);
}

TEST(LongQueryTest, AViewIsKeptWhileItIsYoung) {
  MemoryStore store;
  Fill(store);
  ASSERT_TRUE(Count(store, {.filter = "kind == llm", .max_view_ns = std::numeric_limits<std::int64_t>::max()}).ok());
  EXPECT_EQ(store.reads, 1);
}

TEST(LongQueryTest, EndsSoonAfterItIsCancelled) {
  for (const char* filter : kFilters) {
    for (const Question& question : kQuestions) {
      for (int when = 0; when < 8; ++when) {
        MemoryStore store;
        Fill(store);
        int asked = 0, loads_then = -1;
        SpanQuery query{.filter = filter};
        query.cancelled = [&] {
          if (asked++ == when) loads_then = store.loads;
          return asked > when;
        };
        const std::string answer = question(store, query);
        if (loads_then < 0) continue;  // it was over before
        EXPECT_EQ(answer, "the question was cancelled") << filter;
        EXPECT_EQ(store.loads, loads_then) << "nothing is read after that";
        EXPECT_EQ(asked, when + 1);
      }
    }
  }
}

TEST(LongQueryTest, IsAskedWhileOneSegmentsTextIsRead) {
  MemoryStore store;
  std::vector<Row> rows;
  for (SpanId i = 1; i <= 500; ++i) rows.push_back({.span = i, .fields = {{"input", std::string(4000, 'a')}}});
  store.AddSegment(rows);
  int asked = 0;
  SpanQuery query{.filter = "input ~ \"a+b\""};
  query.cancelled = [&] { return ++asked > 10; };
  EXPECT_EQ(Count(store, query).status().code(), StatusCode::kCancelled);
}

}  // namespace
}  // namespace spanbox
