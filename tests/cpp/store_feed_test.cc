// Feeds: whatever is merged, packed, erased and dropped meanwhile, every row is taken once.
#include <map>
#include <set>

#include "store_test_util.h"

namespace spanbox::testing {
namespace {

class FeedTest : public ::testing::Test {
 protected:
  FeedTest() : store_(Must(Store::Open(dir_ / "s", {.merge_fan_in = 2}))) {}

  void Append(int rows) {
    std::deque<Row> made;
    std::vector<SpanRow> views;
    for (int i = 0; i < rows; ++i, ++last_) views.push_back(made.emplace_back(Trace(last_ / 3 + 1), last_ + 1).row());
    ASSERT_OK(store_->Append(views));
  }

  void MergeAll() {
    while (Must(store_->MergeOnce())) {
    }
  }

  std::vector<SpanId> SpansOf(std::uint64_t segment) {
    const auto view = Must(store_->Read());
    for (const SegmentMeta& meta : view->segments()) {
      if (meta.id != segment) continue;
      const Segment loaded = Must(view->Load(meta));
      SegmentRows rows = Must(SegmentRows::Open(loaded));
      std::vector<SpanId> ids;
      for (std::uint32_t row = 0; row < rows.rows(); ++row) ids.push_back(Must(rows.Row(row)).span_id);
      return ids;
    }
    return {};
  }

  static std::vector<std::uint64_t> IdsOf(const std::vector<FeedSegment>& segments) {
    std::vector<std::uint64_t> ids;
    for (const FeedSegment& segment : segments) ids.push_back(segment.id);
    return ids;
  }

  std::uint64_t WaitingRows(std::string_view name) {
    std::uint64_t rows = 0;
    for (const FeedSegment& segment : Must(store_->ReadFeed(name)).waiting) rows += segment.rows;
    return rows;
  }

  TempDir dir_;
  std::shared_ptr<Store> store_;
  std::uint64_t last_ = 0;
};

TEST_F(FeedTest, OfAnUnknownNameEverythingWaits) {
  Append(3);
  const Feed feed = Must(store_->ReadFeed("a"));
  EXPECT_EQ(feed.turn, 0u);
  EXPECT_EQ(feed.state, "");
  EXPECT_EQ(WaitingRows("a"), 3u);
  EXPECT_EQ(Must(store_->Feeds()), std::vector<std::string>());
}

TEST_F(FeedTest, StateAndPositionAreThereAfterReopening) {
  Append(3);
  const Feed feed = Must(store_->ReadFeed("a"));
  ASSERT_OK(store_->AdvanceFeed("a", {.taking = feed.waiting[0].id, .taken_rows = 2, .state = "mine"}));
  store_.reset();
  store_ = Must(Store::Open(dir_ / "s"));
  const Feed again = Must(store_->ReadFeed("a"));
  EXPECT_EQ(again.turn, 1u);
  EXPECT_EQ(again.state, "mine");
  EXPECT_EQ(again.taking, feed.waiting[0].id);
  EXPECT_EQ(again.taken_rows, 2u);
  ASSERT_OK(store_->DropFeed("a"));
  EXPECT_EQ(Must(store_->ReadFeed("a")).turn, 0u);
}

TEST_F(FeedTest, MergesJoinNoTakenWithWaitingSegments) {
  for (int i = 0; i < 4; ++i) Append(1);
  const Feed feed = Must(store_->ReadFeed("a"));
  ASSERT_OK(store_->AdvanceFeed("a", {.taken = {feed.waiting[0].id, feed.waiting[1].id, feed.waiting[2].id}}));
  for (int i = 0; i < 4; ++i) Append(1);
  MergeAll();
  ASSERT_OK(store_->Compact());
  EXPECT_EQ(WaitingRows("a"), 5u);
  EXPECT_EQ(CountRows(*store_), 8u);
  EXPECT_EQ(Must(store_->Info()).segments, 2u);
}

TEST_F(FeedTest, ASegmentUnderWayIsNotMergedUntilItIsTaken) {
  for (int i = 0; i < 4; ++i) Append(2);
  const Feed feed = Must(store_->ReadFeed("a"));
  const std::uint64_t under_way = feed.waiting[1].id;
  ASSERT_OK(store_->AdvanceFeed("a", {.taking = under_way, .taken_rows = 1}));
  ASSERT_OK(store_->Compact());
  const Feed later = Must(store_->ReadFeed("a"));
  EXPECT_EQ(later.taking, under_way);
  EXPECT_EQ(later.waiting.size(), 2u);
  ASSERT_OK(store_->AdvanceFeed("a", {.turn = 1, .taken = {under_way}}));
  EXPECT_EQ(WaitingRows("a"), 6u);
}

TEST_F(FeedTest, OfTwoStepsFromTheSameStateOneIsRefused) {
  Append(1);
  const Feed feed = Must(store_->ReadFeed("a"));
  const FeedStep step{.turn = feed.turn, .taken = {feed.waiting[0].id}, .state = "first"};
  ASSERT_OK(store_->AdvanceFeed("a", step));
  EXPECT_EQ(store_->AdvanceFeed("a", step).code(), StatusCode::kUnavailable);
  EXPECT_EQ(Must(store_->ReadFeed("a")).state, "first");
}

TEST_F(FeedTest, AStepOverASegmentThatWasMergedMeanwhileIsRefused) {
  for (int i = 0; i < 2; ++i) Append(1);
  const Feed feed = Must(store_->ReadFeed("a"));
  MergeAll();
  EXPECT_EQ(store_->AdvanceFeed("a", {.taken = IdsOf(feed.waiting)}).code(), StatusCode::kUnavailable);
  EXPECT_EQ(WaitingRows("a"), 2u);
}

TEST_F(FeedTest, ErasingFromATakenSegmentLeavesItTaken) {
  for (int i = 0; i < 2; ++i) Append(4);
  const Feed feed = Must(store_->ReadFeed("a"));
  ASSERT_OK(store_->AdvanceFeed("a", {.taken = {feed.waiting[0].id}}));
  const std::uint32_t rows[] = {1, 2};
  {
    const auto pause = Must(store_->Pause());
    for (const FeedSegment& segment : feed.waiting) ASSERT_OK(store_->RemoveRows(segment.id, rows));
  }
  EXPECT_EQ(WaitingRows("a"), 2u);
}

TEST_F(FeedTest, ErasingFromTheSegmentUnderWayStartsItAgain) {
  Append(4);
  const Feed feed = Must(store_->ReadFeed("a"));
  ASSERT_OK(store_->AdvanceFeed("a", {.taking = feed.waiting[0].id, .taken_rows = 3}));
  const std::uint32_t rows[] = {0};
  {
    const auto pause = Must(store_->Pause());
    ASSERT_OK(store_->RemoveRows(feed.waiting[0].id, rows));
  }
  EXPECT_EQ(Must(store_->ReadFeed("a")).taking, 0u);
  EXPECT_EQ(WaitingRows("a"), 3u);
}

TEST_F(FeedTest, NamesHaveALength) {
  EXPECT_EQ(store_->AdvanceFeed("", {}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(store_->ReadFeed(std::string(300, 'x')).status().code(), StatusCode::kInvalidArgument);
}

// Feeds that go at their own pace, in a store that is written, merged and packed between any two of their steps.
TEST_F(FeedTest, EveryRowIsTakenOnceWhateverHappensMeanwhile) {
  RandomRows random(7);
  std::map<std::string, std::multiset<SpanId>> taken;
  const auto take_one = [&](const std::string& name) {
    const Feed feed = Must(store_->ReadFeed(name));
    if (feed.waiting.empty()) return;
    if (feed.taking != 0) {
      ASSERT_OK(store_->AdvanceFeed(name, {.turn = feed.turn, .taken = {feed.taking}}));
      return;
    }
    const std::uint64_t id = feed.waiting[random.Below(feed.waiting.size())].id;
    for (const SpanId span : SpansOf(id)) taken[name].insert(span);
    ASSERT_OK(store_->AdvanceFeed(name, {.turn = feed.turn, .taking = id, .taken_rows = 1}));
  };
  for (int i = 0; i < 200; ++i) {
    const std::string name = random.Below(4) == 0 ? "slow" : "fast";
    switch (random.Below(4)) {
      case 0:
        Append(1 + static_cast<int>(random.Below(20)));
        break;
      case 1:
        Must(store_->MergeOnce());
        break;
      case 2:
        if (random.Below(20) == 0) ASSERT_OK(store_->Compact());
        break;
      default:
        take_one(name);
    }
  }
  for (const std::string name : {"slow", "fast"}) {
    while (!Must(store_->ReadFeed(name)).waiting.empty()) take_one(name);
    EXPECT_EQ(taken[name].size(), last_);
    EXPECT_EQ(std::set<SpanId>(taken[name].begin(), taken[name].end()).size(), last_);
  }
}

}  // namespace
}  // namespace spanbox::testing
