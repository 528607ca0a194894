// Questions over spans that sampling has dropped: what cells can tell is exact, and what they cannot is said.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <random>

#include "query_testing.h"
#include "store/rollup.h"

namespace spanbox {
namespace {

using testing::Row;

constexpr std::int64_t kBucket = kRollupBucketNs;

// Two stores of the same spans: one has them all, the other dropped some traces.
class SampledTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "spanbox-sampled-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    all_ = Open("all");
    sampled_ = Open("sampled");
  }
  void TearDown() override {
    all_.reset();
    sampled_.reset();
    std::filesystem::remove_all(folder_);
  }

  std::shared_ptr<Store> Open(const std::string& name) {
    auto store = Store::Open((folder_ / name).string(), {.merge_fan_in = 4});
    EXPECT_TRUE(store.ok()) << store.status().message();
    return *store;
  }

  // Stores the rows in both; those for which `drop` holds only as cells in one of them.
  void Add(const std::vector<Row>& rows, const std::function<bool(const Row&)>& drop) {
    std::vector<std::vector<Field>> fields(rows.size());
    SpanBatch all, sampled;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const SpanRow row = SpanRowOf(rows[i], fields[i]);
      all.spans.push_back(row);
      (drop(rows[i]) ? sampled.sampled_out : sampled.spans).push_back(row);
      dropped_ += drop(rows[i]);
    }
    ASSERT_TRUE(all_->Commit(all).ok());
    ASSERT_TRUE(sampled_->Commit(sampled).ok());
  }

  // 40 commits of random spans over two hours; most traces are dropped.
  void AddRandom(std::uint64_t seed) {
    std::mt19937_64 random(seed);
    const auto word = [&](const char* prefix, unsigned n) { return prefix + std::to_string(random() % n); };
    SpanId id = 0;
    for (int commit = 0; commit < 40; ++commit) {
      std::vector<Row> rows(50);
      for (Row& row : rows) {
        row.trace = 1 + random() % 300;
        row.span = ++id;
        row.name = word("step ", 4);
        row.kind = random() % 2 == 0 ? SpanKind::kLlm : SpanKind::kTool;
        row.status = random() % 5 == 0 ? SpanStatus::kError : SpanStatus::kOk;
        row.start_ns =
            static_cast<std::int64_t>(random() % 24) * kBucket + static_cast<std::int64_t>(random() % kBucket);
        if (random() % 9 != 0) row.duration_ns = static_cast<std::int64_t>(std::exp(20 + random() % 1000 * 0.01));
        if (row.status == SpanStatus::kError) row.fields["error_type"] = word("Error", 2);
        if (random() % 4 != 0) row.fields["model"] = word("model ", 3);
        if (random() % 2 == 0) row.fields["tenant"] = word("tenant ", 5);
        if (random() % 50 == 0) row.fields["tenant"] = static_cast<std::int64_t>(random() % 3);
        if (random() % 3 == 0) row.fields["cost_usd"] = static_cast<double>(random() % 100) / 512;
        if (random() % 3 == 0) row.fields["cost_usd"] = static_cast<std::int64_t>(random() % 3);
        if (random() % 40 == 0) row.fields["cost_usd"] = std::string("dear");
        if (random() % 40 == 0) row.fields["cost_usd"] = std::nan("");
        if (random() % 2 == 0) row.fields["output_tokens"] = static_cast<std::int64_t>(random() % 900);
        if (random() % 2 == 0) row.fields["ttft_ns"] = static_cast<std::int64_t>(random() % 90'000'000);
        row.fields["user_id"] = word("u", 50);
      }
      Add(rows, [](const Row& row) { return row.trace % 5 != 0; });
    }
  }

  void Merge() {
    for (Store* store : {all_.get(), sampled_.get()}) {
      for (auto more = store->MergeOnce(); *more; more = store->MergeOnce()) {
      }
    }
  }

  // Cells of two tables: equal, numbers to rounding, or within `error` of each other for quantiles.
  static void ExpectSame(const Table& a, const Table& b, const std::string& what) {
    ASSERT_EQ(a.rows, b.rows) << what;
    for (std::size_t c = 0; c < a.columns.size(); ++c) {
      const TableColumn &x = a.columns[c], &y = b.columns[c];
      EXPECT_EQ(x.type, y.type) << what << " " << x.name;
      EXPECT_EQ(x.ints, y.ints) << what << " " << x.name;
      EXPECT_EQ(x.valid, y.valid) << what << " " << x.name;
      ASSERT_EQ(x.floats.size(), y.floats.size());
      for (std::size_t row = 0; row < x.floats.size(); ++row) {
        if (!x.valid.empty() && x.valid[row] == 0) continue;
        EXPECT_NEAR(x.floats[row], y.floats[row], std::abs(x.floats[row]) * 1e-12) << what << " " << x.name;
      }
      for (std::size_t row = 0; row < x.codes.size(); ++row) {
        if (!x.valid.empty() && x.valid[row] == 0) continue;
        EXPECT_EQ(x.dictionary[x.codes[row]], y.dictionary[y.codes[row]]) << what << " " << x.name;
      }
    }
  }

  std::filesystem::path folder_;
  std::shared_ptr<Store> all_, sampled_;
  std::uint64_t dropped_ = 0;
};

const Aggregate kEveryFunction[] = {{"n", "count()"},
                                    {"costs", "count(cost)"},
                                    {"models", "count(model)"},
                                    {"kinds", "count(kind)"},
                                    {"cost", "sum(cost)"},
                                    {"tokens", "sum(output_tokens)"},
                                    {"mean", "mean(cost)"},
                                    {"least", "min(cost)"},
                                    {"most", "max(cost)"},
                                    {"shortest", "min(duration)"},
                                    {"longest", "max(duration)"},
                                    {"p50", "p50(duration)"},
                                    {"p99", "p99(ttft)"},
                                    {"p90", "p90(tpot)"},
                                    {"errors", "rate(status == error)"},
                                    {"of", "rate(model == \"model 1\" or tenant == none)"},
                                    {"tenants", "distinct(tenant)"}};

TEST_F(SampledTest, FiguresByDimensionsAreThoseOfAllSpans) {
  AddRandom(1);
  const Grouping groupings[] = {{},
                                {.by = {"name"}},
                                {.by = {"model", "status"}},
                                {.by = {"tenant"}},
                                {.every_ns = kBucket},
                                {.by = {"kind"}, .every_ns = 6 * kBucket}};
  const char* const filters[] = {"",
                                 "status == error",
                                 "name == \"step 1\" and not (tenant in [\"tenant 1\", \"tenant 2\"])",
                                 "\"2\" in model or error_type ~ \"1$\"",
                                 "tenant == none",
                                 "tenant > 0",
                                 "kind == tool and model == \"nobody's\""};
  const auto check = [&] {
    for (const Grouping& grouping : groupings) {
      for (const std::string filter : filters) {
        const SpanQuery query{.filter = filter, .since_ns = 2 * kBucket, .until_ns = 20 * kBucket};
        const auto expected = Aggregated(*all_, query, grouping, kEveryFunction);
        const auto got = Aggregated(*sampled_, query, grouping, kEveryFunction);
        ASSERT_TRUE(expected.ok() && got.ok()) << expected.status().message() << got.status().message();
        ExpectSame(*expected, *got, filter + " by " + (grouping.by.empty() ? "nothing" : grouping.by[0]));
        EXPECT_EQ(got->sampled_out.excluded, 0u) << filter;
        EXPECT_EQ(expected->sampled_out.included, 0u);
        EXPECT_EQ(*Count(*sampled_, query), *Count(*all_, query)) << filter;
        const double qs[] = {0, 0.5, 0.99};
        const auto exact = QuantilesOf(*all_, query, "duration", qs, false);
        const auto sketch = QuantilesOf(*sampled_, query, "duration", qs, false);
        EXPECT_EQ(sketch->count, exact->count);
        if (exact->count > 0) EXPECT_EQ(sketch->values, exact->values) << "the same buckets are counted";
      }
    }
  };
  check();
  Merge();
  check();
  const auto dropped = SampledOutOf(*sampled_, {});
  EXPECT_EQ(dropped->included, dropped_);
}

TEST_F(SampledTest, WhatCellsCannotTellCountsKeptRowsAndSaysSo) {
  AddRandom(2);
  const auto ask = [&](const SpanQuery& query, const Grouping& grouping, const std::string& expression) {
    const Aggregate aggregates[] = {{"n", "count()"}, {"x", expression}};
    const auto table = Aggregated(*sampled_, query, grouping, aggregates);
    EXPECT_TRUE(table.ok()) << table.status().message();
    return table->sampled_out;
  };
  const auto expect_excluded = [&](const SampledOut& sampled_out) {
    EXPECT_EQ(sampled_out.included, 0u);
    EXPECT_EQ(sampled_out.excluded, dropped_);
  };
  expect_excluded(ask({.filter = "user_id == \"u1\""}, {}, "sum(cost)"));
  expect_excluded(ask({.filter = "duration > 1s"}, {}, "sum(cost)"));
  expect_excluded(ask({}, {.by = {"user_id"}}, "sum(cost)"));
  expect_excluded(ask({}, {.every_ns = kBucket / 5}, "sum(cost)"));
  expect_excluded(ask({}, {}, "p99(cost)"));
  expect_excluded(ask({}, {}, "rate(ttft > 2s)"));
  expect_excluded(ask({}, {}, "distinct(user_id)"));
  expect_excluded(ask({}, {}, "count(user_id)"));
  expect_excluded(ask({}, {}, "min(start)"));
  expect_excluded(*SampledOutOf(*sampled_, {.filter = "not (\"x\" in output)"}));
  const double qs[] = {0.5};
  expect_excluded(QuantilesOf(*sampled_, {}, "duration", qs, /*exact=*/true)->sampled_out);
  EXPECT_EQ(*Count(*sampled_, {.filter = "user_id != none"}), 2000 - dropped_) << "kept rows only";
  const SampledOut none = *SampledOutOf(*sampled_, {.filter = "user_id == none", .since_ns = 24 * kBucket});
  EXPECT_EQ(none.excluded, 0u) << "none of that time";
}

TEST_F(SampledTest, BucketBelongsToTheRangeItsBeginLiesIn) {
  Add({{.span = 1, .start_ns = 10}, {.span = 2, .start_ns = kBucket - 1}, {.span = 3, .start_ns = kBucket}},
      [](const Row&) { return true; });
  EXPECT_EQ(*Count(*sampled_, {.since_ns = 0}), 3u);
  EXPECT_EQ(*Count(*sampled_, {.since_ns = 1}), 1u);
  EXPECT_EQ(*Count(*sampled_, {.until_ns = 1}), 2u);
  EXPECT_EQ(*Count(*sampled_, {.since_ns = 0, .until_ns = kBucket}), 2u);
  EXPECT_EQ(*Count(*sampled_, {.since_ns = kBucket + 1}), 0u);
}

TEST_F(SampledTest, CellsThatWereFoldedAreInTotalsAndNotInWhatTheyNoLongerTell) {
  std::vector<Row> rows;
  const auto tenants = static_cast<std::int64_t>(kMaxBucketCells + 100);
  for (std::int64_t i = 0; i < tenants + 200; ++i) {
    Row row{.span = static_cast<SpanId>(i) + 1, .start_ns = i, .duration_ns = 7};
    row.fields["tenant"] = "t" + std::to_string(i < tenants ? i : 3);
    row.status = i % 2 == 0 ? SpanStatus::kOk : SpanStatus::kError;
    rows.push_back(row);
  }
  Add(rows, [](const Row&) { return true; });
  EXPECT_EQ(*Count(*sampled_, {}), rows.size());
  EXPECT_EQ(*Count(*sampled_, {.filter = "status == error"}), rows.size() / 2);
  const auto one = SampledOutOf(*sampled_, {.filter = "tenant == \"t3\""});
  EXPECT_EQ(one->included, *Count(*all_, {.filter = "tenant == \"t3\""}));
  EXPECT_GE(one->excluded, 100u);
  EXPECT_LT(one->excluded, 110u);
  const Aggregate n[] = {{"n", "count()"}};
  const auto by = Aggregated(*sampled_, {}, {.by = {"tenant"}}, n);
  std::int64_t total = 0;
  bool others = false;
  for (std::size_t row = 0; row < by->rows; ++row) {
    total += by->columns[1].ints[row];
    others |= by->columns[0].dictionary[by->columns[0].codes[row]] == kFoldedText;
  }
  EXPECT_EQ(total, static_cast<std::int64_t>(rows.size()));
  EXPECT_TRUE(others);
  EXPECT_EQ(by->sampled_out.excluded, 0u);
}

}  // namespace
}  // namespace spanbox
