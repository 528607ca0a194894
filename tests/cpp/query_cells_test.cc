// Questions that the cells of settled segments answer: the answers are those of the rows.
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <random>

#include "base/hash.h"
#include "cells_testing.h"
#include "query/query_run.h"
#include "query/rollup_cells.h"
#include "store/segment_cells.h"

namespace spanbox {
namespace {

using testing::kBucket;
using testing::Row;

// Model calls of two models and tools, over 20 minutes; a fifth of the calls says no time to the first token.
std::vector<Row> Calls(std::size_t count) {
  std::mt19937_64 random(5);
  std::vector<Row> rows;
  for (std::size_t i = 0; i < count; ++i) {
    Row& row = rows.emplace_back();
    row.trace = i / 4 + 1;
    row.span = i + 1;
    row.start_ns = 1000 * kBucket + static_cast<std::int64_t>(i) * 4 * kBucket / static_cast<std::int64_t>(count);
    row.status = random() % 20 == 0 ? SpanStatus::kError : SpanStatus::kOk;
    row.duration_ns = static_cast<std::int64_t>(random() % 7 == 0 ? 0 : random() % 5'000'000'000);
    row.kind = i % 4 == 0 ? SpanKind::kTool : SpanKind::kLlm;
    row.fields["user_id"] = "user " + std::to_string(random());
    if (row.kind != SpanKind::kLlm) continue;
    row.fields["model"] = std::string(random() % 3 == 0 ? "large" : "small");
    row.fields["output_tokens"] = static_cast<std::int64_t>(1 + random() % 500);
    if (random() % 5 != 0) row.fields["ttft_ns"] = static_cast<std::int64_t>(random() % 1'000'000'000);
  }
  return rows;
}

class CellsTest : public testing::StoreOfCells {
 protected:
  // Whether cells of every segment answer a question with this filter, and no rows; by bucket, if that is asked.
  bool CellsAnswer(const SpanQuery& query, CellNeeds needs = {}) {
    const auto run = *QueryRun::Start(*store_, query);
    needs.Test(run->filter());
    bool all = !run->segments().empty();
    for (const SegmentMeta& segment : run->segments()) {
      bool cells = false, rows = false;
      const auto see = [](bool& seen) { return [&seen](auto&&, const Bitmap&) { return seen = true, OkStatus(); }; };
      all &= VisitCellsOrRows(*run, needs, segment, see(cells), see(rows)).ok() && cells && !rows;
    }
    return all;
  }

  std::string BytesOfCells() {
    const auto view = *store_->Read();
    const auto bytes = view->LoadCells(view->segments().front())->bytes;
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
};

TEST_F(CellsTest, AnswerAsTheRowsDo) {
  Append(Calls(20'000));
  const std::string of_rows = Answers();
  ASSERT_FALSE(CellsAnswer({}));
  ASSERT_TRUE(store_->Compact().ok());
  CellNeeds by_bucket;
  by_bucket.Every(kBucket, false);
  by_bucket.Sketched(Resolve("ttft_ns", About::kSpans));
  by_bucket.Measure(Resolve("duration_ns", About::kSpans));
  EXPECT_TRUE(CellsAnswer({}, by_bucket));
  EXPECT_TRUE(CellsAnswer({.filter = "kind == llm and ttft != none"}));
  EXPECT_EQ(Answers(), of_rows);
  EXPECT_EQ(store_->Verify()->problems, std::vector<std::string>{});
}

TEST_F(CellsTest, AnswerForTheWholeBucketsOfSegmentsThatTheAskedTimeCuts) {
  constexpr std::int64_t kFrom = 1000 * kBucket, kMax = std::numeric_limits<std::int64_t>::max();
  const std::pair<std::int64_t, std::int64_t> times[] = {{kFrom + kBucket / 2, kMax},
                                                         {kFrom + 1, kFrom + 3 * kBucket + 7},
                                                         {-kMax, kFrom + 2 * kBucket},
                                                         {kFrom + kBucket, kFrom + 2 * kBucket - 1},
                                                         {kFrom + kBucket + 10, kFrom + kBucket + kBucket / 2},
                                                         {kFrom + 3 * kBucket, kMax}};
  Append(Calls(20'000));
  std::vector<std::string> of_rows;
  for (const auto& [since_ns, until_ns] : times) {
    of_rows.push_back(Answers({.since_ns = since_ns, .until_ns = until_ns}));
  }
  ASSERT_TRUE(store_->Compact().ok());
  for (std::size_t i = 0; i < std::size(times); ++i) {
    EXPECT_EQ(Answers({.since_ns = times[i].first, .until_ns = times[i].second}), of_rows[i]) << i;
  }
  EXPECT_NE(of_rows[0], of_rows[1]);
  CellNeeds by_bucket;
  by_bucket.Sketched(Resolve("ttft_ns", About::kSpans));
  EXPECT_TRUE(CellsAnswer({.since_ns = kFrom + kBucket, .until_ns = kFrom + 3 * kBucket}, by_bucket));
  EXPECT_FALSE(CellsAnswer({.since_ns = kFrom + kBucket, .until_ns = kFrom + 3 * kBucket + 1}, by_bucket));
}

TEST_F(CellsTest, AreNotAskedWhatTheyDoNotKnow) {
  Append(Calls(20'000));
  ASSERT_TRUE(store_->Compact().ok());
  ASSERT_TRUE(CellsAnswer({}));
  EXPECT_FALSE(CellsAnswer({.filter = "ttft > 1s"}));
  EXPECT_FALSE(CellsAnswer({.filter = "user_id == 'x'"}));
  EXPECT_FALSE(CellsAnswer({.since_ns = 1000 * kBucket + 1}));
  CellNeeds minutes, in_zone, exact, other, durations;
  durations.Every(kBucket, false);
  durations.Sketched(Resolve("duration_ns", About::kSpans));
  minutes.Every(kBucket / 5, false);
  in_zone.Every(kBucket, true);
  exact.Numbers();
  other.Measure(Resolve("output_tokens", About::kSpans));
  for (const CellNeeds& needs : {minutes, in_zone, exact, other, durations}) EXPECT_FALSE(CellsAnswer({}, needs));
}

TEST_F(CellsTest, AreThoseOfWhatIsLeftWhenRowsAreRemoved) {
  const std::vector<Row> rows = Calls(20'000);
  Append(rows);
  ASSERT_TRUE(store_->Compact().ok());
  const auto erased = Erase(*store_, {.filter = "model == 'small'"}, false);
  ASSERT_TRUE(erased.ok()) << erased.status().message();
  const auto table = Aggregated(*store_, {}, {.by = {"model"}}, std::vector<Aggregate>{{"n", "count(ttft)"}});
  ASSERT_TRUE(CellsAnswer({}));
  const std::string of_cells = Answers();
  Open("again");
  std::vector<Row> left;
  for (const Row& row : rows) {
    const auto model = row.fields.find("model");
    if (model == row.fields.end() || std::get<std::string>(model->second) != "small") left.push_back(row);
  }
  Append(left);
  EXPECT_EQ(of_cells, Answers());
}

TEST_F(CellsTest, SegmentsThatTheyWouldMakeMuchLargerHaveNone) {
  Append(Calls(100));
  ASSERT_TRUE(store_->Compact().ok());
  EXPECT_EQ(BytesOfCells(), "");
}

TEST_F(CellsTest, AreNotMadeOfValuesTheyCannotHold) {
  std::vector<Row> rows = Calls(20'000);
  rows[1].fields["ttft_ns"] = 0.5;
  Append(rows);
  const std::string of_rows = Answers();
  ASSERT_TRUE(store_->Compact().ok());
  EXPECT_EQ(BytesOfCells(), "");
  EXPECT_EQ(Answers(), of_rows);
}

TEST_F(CellsTest, DamagedOrHostileBytesAreErrorsOrHarmless) {
  Append(Calls(20'000));
  ASSERT_TRUE(store_->Compact().ok());
  const std::string sound = BytesOfCells();
  ASSERT_FALSE(sound.empty());
  std::mt19937_64 random(3);
  for (int i = 0; i < 3000; ++i) {
    std::string bytes = sound;
    const std::size_t at = random() % (i % 2 == 0 ? std::size_t{4000} : bytes.size());
    bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8));
    if (i % 3 == 0) bytes.resize(random() % bytes.size());
    EXPECT_FALSE(SegmentCells::Open(std::as_bytes(std::span(bytes))).ok());
    if (bytes.size() < 8) continue;
    const std::uint64_t checksum = Hash64(std::as_bytes(std::span(bytes)).subspan(8));
    std::memcpy(bytes.data(), &checksum, sizeof checksum);
    const auto cells = SegmentCells::Open(std::as_bytes(std::span(bytes)));
    if (!cells.ok()) continue;
    for (const auto* table : {&cells->whole, &cells->buckets}) {
      for (std::size_t measure = 0; table->has_value() && measure < kSketchedMeasures; ++measure) {
        auto sketches = (*table)->Sketches((*table)->rows, measure);
        DDSketch all;
        DDSketch::Part part;
        for (std::uint32_t row = 0; sketches.ok() && row < (*table)->rows.rows(); ++row) {
          const auto any = sketches->Get(row, part);
          if (any.ok() && *any) (void)all.Merge(part);
        }
        (void)all.Quantile(0.5);
      }
    }
  }
}

}  // namespace
}  // namespace spanbox
