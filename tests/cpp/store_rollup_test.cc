// Rollups: cells count every span once whatever is merged or folded, and damage is found, not followed.
#include <fstream>
#include <functional>
#include <numeric>

#include "spanbox/sketch.h"
#include "store/rollup.h"
#include "store_test_util.h"

namespace spanbox {
namespace {

using testing::Borrow;
using testing::Built;
using testing::MakeRows;
using testing::Must;
using testing::Row;
using testing::TempDir;
using testing::Trace;

constexpr std::int64_t kBucket = kRollupBucketNs;

std::uint64_t Sum(const std::vector<std::uint64_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
}

struct Rollup {
  explicit Rollup(const std::vector<SpanRow>& spans) {
    RollupBuilder builder;
    for (const SpanRow& span : spans) builder.Add(span);
    encoded = Finish(builder);
  }
  explicit Rollup(RollupBuilder& builder) : encoded(Finish(builder)) {}
  static SegmentBuilder::Encoded Finish(RollupBuilder& builder) {
    SegmentBuilder rows;
    return builder.Finish(rows);
  }
  Segment Open() const { return Must(Built::Open(encoded.columns, encoded.text_blocks)); }

  // Every cell as text, without its trace and span id and without what rounding may change.
  std::vector<std::string> Cells() const {
    const Segment segment = Open();
    SegmentRows rows = Must(SegmentRows::Open(segment));
    std::vector<std::string> cells;
    for (std::uint32_t i = 0; i < rows.rows(); ++i) {
      const SpanRow row = Must(rows.Row(i));
      std::string text = std::to_string(row.start_ns) + " " + std::string(row.name) + " " +
                         std::string(ToString(row.kind)) + " " + std::string(ToString(row.status));
      for (const Field& field : row.fields) {
        const bool rounded = field.value.type == ValueType::kFloat || field.name.ends_with(".sketch");
        text += "|" + std::to_string(static_cast<int>(field.column)) + " " + std::string(field.name) + " " +
                (rounded ? "number" : testing::ToText(field.value));
      }
      cells.push_back(std::move(text));
    }
    std::ranges::sort(cells);
    return cells;
  }

  SegmentBuilder::Encoded encoded;
};

SpanBatch Dropped(const std::vector<SpanRow>& spans) {
  SpanBatch batch;
  batch.sampled_out = spans;
  return batch;
}

// Spans that sampling dropped, as one view of the store counts them.
std::uint64_t CountIn(Store& store) {
  const auto view = Must(store.Read());
  std::uint64_t count = 0;
  for (const SegmentMeta& meta : view->rollups()) {
    const Segment segment = Must(view->LoadRollup(meta));
    count += Sum(Must(SpansOfCells(segment)));
  }
  return count;
}

TEST(RollupTest, CellHoldsCountsSumsAndExtremes) {
  std::deque<Row> rows;
  rows.emplace_back(Trace(1), 1).Name("a").Start(kBucket + 5).Duration(10).Set(Column::kCostUsd, Value::Float(0.25));
  rows.emplace_back(Trace(1), 2).Name("a").Start(2 * kBucket - 1).Duration(30).Set(Column::kCostUsd, Value::Float(1));
  rows.emplace_back(Trace(2), 3).Name("a").Start(kBucket).Duration(-1).Set("cost_usd", Value::String("dear"));
  rows.emplace_back(Trace(2), 4).Name("a").Start(2 * kBucket).Duration(7);
  const Rollup rollup(Borrow(rows));
  EXPECT_EQ(
      rollup.Cells(),
      (std::vector<std::string>{
          "300000000000 a span ok|0 cost_usd.count int 3|0 cost_usd.max number|0 cost_usd.min number"
          "|0 cost_usd.numbers int 2|0 cost_usd.sum number|0 count int 3|0 duration_ns.count int 2"
          "|0 duration_ns.max int 30|0 duration_ns.min int 10|0 duration_ns.sketch number|0 duration_ns.sum int 40",
          "600000000000 a span ok|0 count int 1|0 duration_ns.count int 1|0 duration_ns.max int 7"
          "|0 duration_ns.min int 7|0 duration_ns.sketch number|0 duration_ns.sum int 7"}));
}

TEST(RollupTest, BucketsFloorTimesBeforeTheEpochToo) {
  std::deque<Row> rows;
  for (const std::int64_t start : {std::int64_t{-1}, -kBucket, -kBucket - 1, std::numeric_limits<std::int64_t>::min(),
                                   std::numeric_limits<std::int64_t>::max()}) {
    rows.emplace_back(Trace(1), rows.size() + 1).Start(start);
  }
  const Rollup rollup(Borrow(rows));
  RollupBuilder again;
  ASSERT_OK(again.AddCells(rollup.Open()));  // refuses a bucket that does not begin at a multiple of its length
  EXPECT_EQ(Sum(Must(SpansOfCells(rollup.Open()))), rows.size());
  EXPECT_EQ(rollup.encoded.rows, 4u);
}

TEST(RollupTest, MergingGivesTheCellsOfAllSpansAtOnce) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    std::deque<Row> rows;
    MakeRows(rows, seed, 200);
    const std::vector<SpanRow> all = Borrow(rows);
    RollupBuilder merged;
    for (std::size_t begin = 0; begin < all.size(); begin += 37) {
      const auto end = std::min(all.size(), begin + 37);
      const Rollup part(std::vector<SpanRow>(all.begin() + static_cast<std::ptrdiff_t>(begin),
                                             all.begin() + static_cast<std::ptrdiff_t>(end)));
      ASSERT_OK(merged.AddCells(part.Open()));
    }
    const Rollup once(all);
    EXPECT_EQ(Rollup(merged).Cells(), once.Cells()) << "seed " << seed;
    EXPECT_EQ(Sum(Must(SpansOfCells(once.Open()))), all.size());
  }
}

TEST(RollupTest, TooManyCellsOfABucketBecomeOthersAndNoSpanIsLost) {
  std::deque<Row> rows;
  SpanId id = 0;
  for (std::size_t tenant = 0; tenant < 3 * kMaxBucketCells; ++tenant) {
    for (std::size_t n = 0; n < (tenant < 10 ? 5 : 1); ++n) {
      rows.emplace_back(Trace(1), ++id).Start(0).End(tenant % 2 == 0 ? SpanStatus::kOk : SpanStatus::kError);
      rows.back().Set(Column::kTenant, Value::String("t" + std::to_string(tenant)));
    }
  }
  rows.emplace_back(Trace(1), ++id).Start(kBucket).Name(std::string(5000, 'n'));
  const Rollup rollup(Borrow(rows));
  EXPECT_EQ(Sum(Must(SpansOfCells(rollup.Open()))), rows.size());
  EXPECT_EQ(rollup.encoded.rows, kMaxBucketCells + 2 + 1);
  const auto cells = rollup.Cells();
  const auto have = [&](const std::string& text) {
    return std::ranges::count_if(cells, [&](const std::string& cell) { return cell.find(text) != std::string::npos; });
  };
  EXPECT_EQ(have("count int 5|"), 10) << "the most frequent ones stay";
  EXPECT_EQ(have("(other) span ok|") + have("(other) span error|"), 3);
  EXPECT_EQ(have("folded bool true"), 3);

  RollupBuilder merged;
  for (int i = 0; i < 3; ++i) ASSERT_OK(merged.AddCells(rollup.Open()));
  const Rollup thrice(merged);
  EXPECT_EQ(thrice.encoded.rows, rollup.encoded.rows);
  EXPECT_EQ(Sum(Must(SpansOfCells(thrice.Open()))), 3 * rows.size());
}

TEST(RollupTest, DamageIsRefused) {
  std::deque<Row> rows;
  MakeRows(rows, 7, 60);
  const Rollup rollup(Borrow(rows));
  std::mt19937_64 random(7);
  int refused = 0;
  for (int i = 0; i < 2000; ++i) {
    std::string columns = rollup.encoded.columns;
    std::vector<std::string> blocks = rollup.encoded.text_blocks;
    std::string& hit = !blocks.empty() && random() % 3 == 0 ? blocks[random() % blocks.size()] : columns;
    if (random() % 4 == 0) {
      hit.resize(random() % hit.size());
    } else {
      hit[random() % hit.size()] ^= static_cast<char>(1 + random() % 255);
    }
    const auto segment = Built::Open(columns, blocks);
    Status status = segment.ok() ? RollupBuilder().AddCells(*segment) : segment.status();
    refused += !status.ok();
    if (segment.ok()) std::ignore = SpansOfCells(*segment);
  }
  EXPECT_GT(refused, 1900) << "bytes between places are padding";
}

// Cells whose checksums are right and whose content is not what spanbox writes.
TEST(RollupTest, ImpossibleCellsAreRefused) {
  const auto status_of = [](const std::function<void(Row&)>& change) {
    Row cell(Trace(1), 1);
    cell.Start(0).Duration(-1);
    change(cell);
    const Built built({cell.row()});
    const Segment segment = Must(built.Open());
    RollupBuilder builder;
    return builder.AddCells(segment).code();
  };
  const auto int_of = [](std::int64_t n) { return Value::Int(n); };
  DDSketch coarse(0.1);
  coarse.Add(3);
  EXPECT_EQ(status_of([&](Row& c) { c.Set("count", int_of(1)); }), StatusCode::kOk);
  EXPECT_EQ(status_of([&](Row&) {}), StatusCode::kDataLoss) << "no count";
  EXPECT_EQ(status_of([&](Row& c) { c.Set("count", int_of(0)); }), StatusCode::kDataLoss);
  EXPECT_EQ(status_of([&](Row& c) { c.Set("count", int_of(-1)); }), StatusCode::kDataLoss);
  EXPECT_EQ(status_of([&](Row& c) { c.Set("count", Value::String("1")); }), StatusCode::kDataLoss);
  EXPECT_EQ(status_of([&](Row& c) { c.Set("count", int_of(1)).Start(1); }), StatusCode::kDataLoss);
  EXPECT_EQ(status_of([&](Row& c) { c.Set("count", int_of(1)).Set("ttft_ns.count", int_of(2)); }),
            StatusCode::kDataLoss);
  EXPECT_EQ(status_of([&](Row& c) { c.Set("count", int_of(1)).Set("ttft_ns.sketch", Value::Json("no sketch")); }),
            StatusCode::kDataLoss);
  EXPECT_EQ(
      status_of([&](Row& c) { c.Set("count", int_of(1)).Set("ttft_ns.sketch", Value::Json(coarse.Serialize())); }),
      StatusCode::kDataLoss);
}

TEST(RollupStoreTest, DroppedSpansAreCountedInTheTransactionOfTheirBatch) {
  const TempDir folder;
  const auto store = Must(Store::Open(folder / "store"));
  std::deque<Row> rows;
  MakeRows(rows, 3, 100);
  const std::vector<SpanRow> all = Borrow(rows);
  SpanBatch batch = Dropped({all.begin(), all.begin() + 60});
  batch.spans.assign(all.begin() + 60, all.end());
  batch.ring = {1};
  batch.turn = 1;
  ASSERT_OK(store->Commit(batch));
  EXPECT_FALSE(store->Commit(batch).ok()) << "out of turn";
  const StoreInfo info = Must(store->Info());
  EXPECT_EQ(info.spans, 40u);
  EXPECT_EQ(info.sampled_out_spans, 60u);
  EXPECT_EQ(CountIn(*store), 60u);
}

TEST(RollupStoreTest, MergingKeepsEverySpanAndLeavesFewRollups) {
  const TempDir folder;
  const auto store = Must(Store::Open(folder / "store", {.merge_fan_in = 4}));
  std::deque<Row> rows;
  MakeRows(rows, 5, 2000);
  const std::vector<SpanRow> all = Borrow(rows);
  for (std::size_t i = 0; i < 100; ++i) {
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(i * 20);
    ASSERT_OK(store->Commit(Dropped({begin, begin + 20})));
    if (i % 10 == 9) {
      while (Must(store->MergeOnce())) {
      }
      EXPECT_EQ(CountIn(*store), (i + 1) * 20);
    }
  }
  EXPECT_LT(Must(store->Read())->rollups().size(), 20u);
  const VerifyReport report = Must(store->Verify());
  EXPECT_TRUE(report.problems.empty()) << report.problems[0];
  EXPECT_EQ(report.rollups, Must(store->Read())->rollups().size());
  EXPECT_EQ(report.spans, 0u);
}

TEST(RollupStoreTest, VerifyNamesADamagedRollup) {
  const TempDir folder;
  std::deque<Row> rows;
  MakeRows(rows, 9, 50);
  ASSERT_OK(Must(Store::Open(folder / "store"))->Commit(Dropped(Borrow(rows))));
  {
    std::fstream file(folder / "store/data.mdb", std::ios::in | std::ios::out | std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    const std::size_t columns = bytes.find("SPSG");
    ASSERT_NE(columns, std::string::npos);
    file.clear();
    file.seekp(static_cast<std::streamoff>(columns) + 60);  // in the directory
    file.put(static_cast<char>(bytes[columns + 60] ^ 1));
  }
  const auto store = Must(Store::Open(folder / "store"));
  const VerifyReport report = Must(store->Verify());
  ASSERT_EQ(report.problems.size(), 1u);
  EXPECT_NE(report.problems[0].find("cells are affected"), std::string::npos) << report.problems[0];
  EXPECT_EQ(Must(store->Read())->rollups().size(), 1u);
}

}  // namespace
}  // namespace spanbox
