// Questions that the cells of runs of segments answer: the answers are those of the rows, whatever happens to a run.
#include <gtest/gtest.h>
#include <lmdb.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <random>

#include "base/hash.h"
#include "cells_testing.h"
#include "query/query_run.h"
#include "query/rollup_cells.h"

namespace spanbox {
namespace {

using testing::kBucket;
using testing::Row;

constexpr std::size_t kRows = 2000;  // of a segment
constexpr std::int64_t kFrom = 1000 * kBucket, kMax = std::numeric_limits<std::int64_t>::max();

// Calls whose values differ little, so that their cells are small beside them; a segment takes half a bucket.
std::vector<Row> Calls(std::size_t segment, std::size_t count) {
  std::mt19937_64 random(segment + 1);
  std::vector<Row> rows;
  for (std::size_t i = 0; i < count; ++i) {
    Row& row = rows.emplace_back();
    row.trace = segment << 32 | (i / 4 + 1);
    row.span = segment << 32 | (i + 1);
    row.start_ns =
        kFrom + static_cast<std::int64_t>(segment) * kBucket / 2 + static_cast<std::int64_t>(random() % kBucket / 2);
    row.status = random() % 20 == 0 ? SpanStatus::kError : SpanStatus::kOk;
    row.duration_ns = static_cast<std::int64_t>(2'000'000 + random() % 100'000);
    row.kind = i % 4 == 0 ? SpanKind::kTool : SpanKind::kLlm;
    row.fields["user_id"] = "user " + std::to_string(random()) + std::to_string(random());
    if (row.kind != SpanKind::kLlm) continue;
    row.fields["model"] = std::string(segment % 3 == 0 ? "large" : "small");
    row.fields["output_tokens"] = std::int64_t{2};
    if (random() % 5 != 0)
      row.fields["ttft_ns"] = static_cast<std::int64_t>(random() % 4 == 0 ? 0 : random() % 50'000 + 1'000'000);
  }
  return rows;
}

class RunsTest : public testing::StoreOfCells {
 protected:
  void Fill(std::size_t segments, std::size_t rows = kRows) {
    Open("store", {.target_segment_rows = static_cast<std::uint32_t>(rows)});
    for (std::size_t i = 0; i < segments; ++i) Append(Calls(i, rows));
  }

  // Segments of each run that can be of use.
  std::vector<std::size_t> Runs() {
    std::vector<std::size_t> runs;
    const auto view = *store_->Read();
    for (const RunMeta& run : view->runs()) runs.push_back(run.members.size());
    return runs;
  }

  // How many segments are asked one by one.
  std::size_t Asked(const SpanQuery& query, CellNeeds needs = {}) {
    const auto run = *QueryRun::Start(*store_, query);
    needs.Test(run->filter());
    return VisitRuns(*run, needs, [](const RollupCells&, const Bitmap&) { return OkStatus(); })->size();
  }

  // Gives every stored run to `change`, which may change its value, or empty it to delete the run. By LMDB's own means,
  // as another program would.
  void Change(const std::function<void(std::string& value)>& change) {
    store_.reset();
    MDB_env* env = nullptr;
    MDB_txn* txn = nullptr;
    MDB_dbi runs = 0;
    MDB_cursor* cursor = nullptr;
    MDB_val key, value;
    ASSERT_EQ(mdb_env_create(&env), 0);
    ASSERT_EQ(mdb_env_set_maxdbs(env, 16), 0);
    ASSERT_EQ(mdb_env_open(env, (folder_ / "store").c_str(), 0, 0600), 0);
    ASSERT_EQ(mdb_txn_begin(env, nullptr, 0, &txn), 0);
    ASSERT_EQ(mdb_dbi_open(txn, "runs", 0, &runs), 0);
    ASSERT_EQ(mdb_cursor_open(txn, runs, &cursor), 0);
    std::vector<std::pair<std::string, std::string>> found;
    while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
      found.emplace_back(std::string(static_cast<char*>(key.mv_data), key.mv_size),
                         std::string(static_cast<char*>(value.mv_data), value.mv_size));
    }
    mdb_cursor_close(cursor);
    for (auto& [name, bytes] : found) {
      change(bytes);
      key = {name.size(), name.data()};
      value = {bytes.size(), bytes.data()};
      ASSERT_EQ(bytes.empty() ? mdb_del(txn, runs, &key, nullptr) : mdb_put(txn, runs, &key, &value, 0), 0);
    }
    ASSERT_EQ(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    Open("store", {.target_segment_rows = kRows});
  }
};

TEST_F(RunsTest, AnswerAsTheRowsDo) {
  Fill(40);
  const std::string of_rows = Answers();
  EXPECT_EQ(Runs(), std::vector<std::size_t>{});
  ASSERT_TRUE(store_->Compact().ok());
  EXPECT_EQ(Runs(), (std::vector<std::size_t>{16, 16}));
  EXPECT_EQ(Asked({}), 8u);
  CellNeeds by_bucket;
  by_bucket.Every(kBucket, false);
  EXPECT_EQ(Asked({}, by_bucket), 8u);
  EXPECT_EQ(Answers(), of_rows);
  EXPECT_EQ(Answers({.threads = 3}), of_rows);
  EXPECT_EQ(store_->Verify()->problems, std::vector<std::string>{});
}

TEST_F(RunsTest, AreOfRunsWhereThereAreManySegments) {
  Fill(260, 1000);
  ASSERT_TRUE(store_->Compact().ok());
  std::vector<std::size_t> runs(17, 16);
  runs.front() = 256;
  EXPECT_EQ(Runs(), runs);
  EXPECT_EQ(Asked({}), 4u);
  EXPECT_EQ(Asked({.since_ns = kFrom + kBucket}), 260u - 2 - 15 * 16) << "14 of the first run are asked, 2 left out";
  const double q = 0.9;
  const auto of_cells = *QuantilesOf(*store_, {}, "ttft", {&q, 1}, false);
  EXPECT_EQ(store_->Verify()->problems, std::vector<std::string>{});
  Change([](std::string& value) { value.clear(); });
  EXPECT_EQ(Asked({}), 260u);
  const auto of_segments = *QuantilesOf(*store_, {}, "ttft", {&q, 1}, false);
  EXPECT_EQ(of_cells.values, of_segments.values);
  EXPECT_EQ(of_cells.count, of_segments.count);
}

TEST_F(RunsTest, AreNotAskedWhereTheTimeCutsThem) {
  constexpr std::int64_t kUntil = kFrom + 20 * kBucket;
  const std::pair<std::int64_t, std::int64_t> times[] = {{kFrom + 1, kMax},
                                                         {kFrom + kBucket / 3, kUntil - kBucket / 3},
                                                         {-kMax, kFrom + 9 * kBucket + 7},
                                                         {kFrom + 8 * kBucket, kUntil},
                                                         {kFrom + 30 * kBucket, kMax}};
  Fill(40);
  std::vector<std::string> of_rows;
  for (const auto& [since_ns, until_ns] : times)
    of_rows.push_back(Answers({.since_ns = since_ns, .until_ns = until_ns}));
  ASSERT_TRUE(store_->Compact().ok());
  for (std::size_t i = 0; i < std::size(times); ++i) {
    EXPECT_EQ(Answers({.since_ns = times[i].first, .until_ns = times[i].second}), of_rows[i]) << i;
  }
  EXPECT_EQ(Asked({.since_ns = kFrom + 8 * kBucket}), 8u);
  EXPECT_EQ(Asked({.since_ns = kFrom + 9 * kBucket}), 22u);
}

TEST_F(RunsTest, GoWithTheFirstSegmentThatGoes) {
  Fill(40);
  ASSERT_TRUE(store_->Compact().ok());
  const std::string erased_user = std::get<std::string>(Calls(20, kRows)[77].fields["user_id"]);
  ASSERT_TRUE(Erase(*store_, {.filter = "user_id == '" + erased_user + "'"}, false).ok());
  EXPECT_EQ(Runs(), std::vector<std::size_t>{16});
  const std::string answers = Answers();
  ASSERT_TRUE(store_->Compact().ok());
  EXPECT_EQ(Runs(), (std::vector<std::size_t>{16, 16}));
  EXPECT_EQ(Asked({.since_ns = kFrom + 8 * kBucket}), 8u) << "of the same segments as before";
  EXPECT_EQ(Answers(), answers);
  EXPECT_EQ(store_->Verify()->problems, std::vector<std::string>{});
  Open("again");
  for (std::size_t i = 0; i < 40; ++i) {
    std::vector<Row> rows = Calls(i, kRows);
    if (i == 20) rows.erase(rows.begin() + 77);
    Append(rows);
  }
  EXPECT_EQ(Answers(), answers);
}

TEST_F(RunsTest, GoWithExpiredSegments) {
  Fill(40);
  const std::int64_t since_ns = kFrom + 3 * kBucket;
  const std::string left = Answers({.since_ns = since_ns});
  ASSERT_TRUE(store_->Compact().ok());
  ASSERT_TRUE(store_->SetRetention({.max_age_ns = kBucket}).ok());
  EXPECT_EQ(*store_->DropExpired(since_ns + kBucket), 6 * kRows);
  EXPECT_EQ(Runs(), std::vector<std::size_t>{16});
  EXPECT_EQ(Answers(), left);
  ASSERT_TRUE(store_->Compact().ok());
  EXPECT_EQ(Runs(), std::vector<std::size_t>{16}) << "the ten that are left of the first are too few";
  EXPECT_EQ(Answers(), left);
}

TEST_F(RunsTest, OfSegmentsThatAreGoneAreOfNoUse) {
  // A program that knows no runs may have taken a segment away.
  Fill(34);
  ASSERT_TRUE(store_->Compact().ok());
  const std::string answers = Answers();
  int changed = 0;
  Change([&](std::string& value) {
    if (changed++ > 0) return;
    constexpr std::size_t kHead = 8 + 16 * sizeof(std::uint64_t);
    const std::uint64_t gone = 1'000'000;
    std::memcpy(value.data() + 8 + 5 * sizeof gone, &gone, sizeof gone);
    const std::uint64_t checksum = Hash64(std::as_bytes(std::span(value).first(kHead)));
    std::memcpy(value.data() + kHead, &checksum, sizeof checksum);
  });
  EXPECT_EQ(Runs(), std::vector<std::size_t>{16});
  EXPECT_EQ(Answers(), answers);
  EXPECT_EQ(store_->Verify()->problems, std::vector<std::string>{});
  ASSERT_TRUE(store_->Compact().ok());
  EXPECT_EQ(Runs(), (std::vector<std::size_t>{16, 16}));
  EXPECT_EQ(Answers(), answers);
}

TEST_F(RunsTest, ThatAreDamagedAreNamedAndNotUsed) {
  Fill(34);
  ASSERT_TRUE(store_->Compact().ok());
  const std::string answers = Answers();
  for (const std::size_t at : {std::size_t{3}, std::size_t{9}, 8 + 16 * sizeof(std::uint64_t) + 60}) {
    int changed = 0;
    Change([&](std::string& value) {
      if (changed++ == 0) value[at] = static_cast<char>(value[at] ^ 1);
    });
    EXPECT_EQ(Asked({}), 18u) << at;
    EXPECT_EQ(Answers(), answers) << at;
    const auto report = *store_->Verify();
    ASSERT_EQ(report.problems.size(), 1u) << at;
    EXPECT_TRUE(report.problems[0].starts_with("run of cells")) << report.problems[0];
    EXPECT_TRUE(report.problems[0].ends_with("its segments answer for it")) << report.problems[0];
    Change([](std::string& value) { value.clear(); });
    ASSERT_TRUE(store_->Compact().ok());
    EXPECT_EQ(Asked({}), 2u);
  }
}

TEST_F(RunsTest, MadeByTwoProcessesAtOnceAreThoseOfOne) {
  Fill(20);
  const pid_t child = fork();
  if (child == 0) {
    for (std::size_t i = 40; i < 60; ++i) {
      Append(Calls(i, kRows));
      if (!store_->Compact().ok()) _exit(1);
    }
    _exit(0);
  }
  for (std::size_t i = 20; i < 40; ++i) {
    Append(Calls(i, kRows));
    EXPECT_TRUE(store_->Compact().ok());
  }
  int status = 1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  ASSERT_TRUE(store_->Compact().ok());
  EXPECT_GE(Runs().size(), 2u);
  EXPECT_EQ(store_->Verify()->problems, std::vector<std::string>{});
  const std::string answers = Answers();
  Open("again");
  for (std::size_t i = 0; i < 60; ++i) Append(Calls(i, kRows));
  EXPECT_EQ(Answers(), answers);
}

}  // namespace
}  // namespace spanbox
