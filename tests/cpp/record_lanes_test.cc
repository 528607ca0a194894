// Lanes: who gets which, when files are added, when their memory comes back, and that order between lanes never
// matters.
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <set>
#include <thread>

#include "base/clock.h"
#include "memory_exporter.h"
#include "record/drain.h"
#include "record/joiner.h"
#include "record/lane_pool.h"

namespace spanbox {
namespace {

constexpr std::int64_t kLongTimeNs = 200'000'000'000;

RecorderOptions SmallOptions(std::uint64_t max_ring_bytes = 4 << 20) {
  RecorderOptions options;
  options.lane_bytes = 64 << 10;
  options.lanes = 2;
  options.max_ring_bytes = max_ring_bytes;
  return options;
}

std::vector<std::byte> StartPayload(SpanId id) {
  ByteBuffer buffer;
  RecordWriter writer(buffer);
  writer.Start(TestTrace(), id, 0, 1'000, SpanKind::kTool, "tool");
  return {buffer.bytes().begin(), buffer.bytes().end()};
}
std::vector<std::byte> EndPayload(SpanId id) {
  ByteBuffer buffer;
  RecordWriter writer(buffer);
  writer.End(id, 5, SpanStatus::kOk);
  return {buffer.bytes().begin(), buffer.bytes().end()};
}
std::vector<std::byte> FieldsPayload(SpanId id) {
  ByteBuffer buffer;
  RecordWriter writer(buffer);
  writer.Fields(id);
  writer.AddInt(Column::kAttribute, "n", 1);
  return {buffer.bytes().begin(), buffer.bytes().end()};
}

class LanePoolTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(pool.EnsureFirstRing());
    if (dir.Files(".ring").size() > 1) return;
    // In a file system in memory the reserve is made when a thread has missed a lane.
    for (Lane* lane : TakeAll()) pool.Return(lane);
    pool.Tend(now);
  }
  // Writes until the lane refuses.
  static void Fill(Lane& lane, double part) {
    const std::vector<std::byte> payload(1'000);
    while (static_cast<double>(lane.used_bytes()) < part * static_cast<double>(lane.lane_bytes())) {
      if (lane.TryAppend(RecordType::kFields, payload)) continue;
      if (lane.MakeRoom(payload.size()) == Lane::Room::kFull) return;
    }
  }
  void StoreAll(Lane& lane) {
    LaneWalker walker(lane.data(), lane.seed(), stored[lane.number()], lane.control().head.load());
    while (walker.Next()) {
    }
    EXPECT_EQ(walker.gaps(), 0u);
    stored[lane.number()] = walker.cursor();
    lane.MarkStored(walker.cursor().position);
  }
  std::vector<Lane*> TakeAll() {
    std::vector<Lane*> taken;
    while (Lane* lane = pool.Take()) taken.push_back(lane);
    return taken;
  }
  // Until the pool has no reserve.
  void Calm() {
    now += kLongTimeNs;
    pool.Tend(now);
    now += kLongTimeNs;
    pool.Tend(now);
  }

  TempDir dir;
  LanePool pool{dir.path(), SmallOptions()};
  std::map<std::uint32_t, LaneCursor> stored;
  std::int64_t now = MonotonicNowNs();
};

TEST_F(LanePoolTest, LaneHasOneOwnerAtATimeAndComesBack) {
  const std::vector<Lane*> taken = TakeAll();
  EXPECT_EQ(std::set<Lane*>(taken.begin(), taken.end()).size(), taken.size());
  EXPECT_EQ(std::ranges::count(taken, &pool.overflow()), 0);
  const std::uint64_t before = pool.generation();
  pool.Return(taken.front());
  EXPECT_NE(pool.generation(), before);
  EXPECT_EQ(pool.Take(), taken.front());
}

TEST_F(LanePoolTest, PositionsGoOnFromOwnerToOwner) {
  Lane* lane = pool.Take();
  ASSERT_TRUE(lane->TryAppend(RecordType::kStart, StartPayload(1)));
  const std::uint64_t head = lane->control().head.load();
  pool.Return(lane);
  std::thread([&] {
    Lane* again = pool.Take();
    ASSERT_EQ(again, lane);
    ASSERT_TRUE(again->TryAppend(RecordType::kEnd, EndPayload(1)));
  }).join();
  EXPECT_GT(lane->control().head.load(), head);
  LaneWalker walker(lane->data(), lane->seed(), {}, lane->control().head.load());
  int records = 0;
  while (walker.Next()) ++records;
  EXPECT_EQ(records, 2);
  EXPECT_EQ(walker.gaps(), 0u);
}

// A commit on a slow disk takes a second, and so may making a file meanwhile: all of the room has to be there before.
TEST_F(LanePoolTest, OneThreadCanFillAllRingsWithoutAnythingBeingMade) {
  const std::uint64_t ring_bytes = pool.GetTotals().ring_bytes;
  EXPECT_LE(ring_bytes, SmallOptions().max_ring_bytes);
  EXPECT_GT(ring_bytes, SmallOptions().max_ring_bytes * 9 / 10);
  for (Lane* lane = pool.Take(); lane != nullptr; lane = pool.Move(lane)) Fill(*lane, 1.0);
  EXPECT_GT(pool.GetTotals().waiting_bytes, ring_bytes * 8 / 10);  // all but the overflow lane, and the ends of lanes
  EXPECT_EQ(pool.GetTotals().ring_bytes, ring_bytes);
}

TEST_F(LanePoolTest, LaneThatWasLeftIsDrainedFirstAndThenFree) {
  Lane* first = pool.Take();
  Fill(*first, 1.0);
  Lane* second = pool.Move(first);
  Fill(*second, 1.0);
  Lane* third = pool.Move(second);
  ASSERT_NE(third, nullptr);
  const LanePool::Lanes order = pool.LanesToDrain();
  EXPECT_EQ(order.left, 3u);
  EXPECT_EQ(order.lanes[0], &pool.overflow());
  EXPECT_EQ(order.lanes[1], first);
  EXPECT_EQ(order.lanes[2], second);
  StoreAll(*first);
  pool.FreeDrained();
  EXPECT_EQ(pool.Take(), first);
}

// A thread killed while it left a lane had its newest records taken for older than those of a lane it had left before:
// recovery saw the lane closing, with the order of an earlier leaving.
TEST_F(LanePoolTest, ClosingLaneNeverShowsTheOrderOfAnEarlierLeaving) {
  constexpr int kMoves = 300'000;
  struct Watched {
    Lane* lane;
    std::atomic<std::uint64_t> earlier{0};  // order of its last leaving but this
  };
  std::map<Lane*, Watched> watched;
  for (Lane* lane : TakeAll()) watched[lane].lane = lane;
  for (auto& [lane, entry] : watched) pool.Return(lane);
  std::atomic<bool> over{false};
  std::atomic<std::uint64_t> stale{0}, seen{0};
  std::thread watcher([&] {
    while (!over) {
      for (auto& [lane, entry] : watched) {
        const std::uint64_t earlier = entry.earlier;
        if (lane->control().state.load(std::memory_order_acquire) != LaneState::kClosing) continue;
        ++seen;
        stale += lane->control().closed_order.load() <= earlier;
      }
    }
  });
  Lane* lane = pool.Take();
  for (int i = 0; i < kMoves; ++i) {
    watched[lane].earlier = lane->control().closed_order.load();
    Lane* const next = pool.Move(lane);
    pool.FreeDrained();
    lane = next;
  }
  over = true;
  watcher.join();
  EXPECT_GT(seen, 0u);
  EXPECT_EQ(stale, 0u);
}

TEST_F(LanePoolTest, ReserveIsRemovedAfterAWhileAndMadeAgainWhenALaneFills) {
  const std::uint64_t with_reserve = pool.GetTotals().ring_bytes;
  Lane* lane = pool.Take();
  Calm();
  EXPECT_EQ(dir.Files(".ring").size(), 1u);
  EXPECT_LT(pool.GetTotals().ring_bytes, with_reserve);
  EXPECT_FALSE(pool.WantsReserve());
  Fill(*lane, 0.2);
  EXPECT_TRUE(pool.WantsReserve());
  pool.Tend(now);
  EXPECT_EQ(pool.GetTotals().ring_bytes, with_reserve);
}

TEST_F(LanePoolTest, ReserveIsMadeForThreadsWithoutALane) {
  Calm();
  while (pool.Take() != nullptr) {
  }
  const std::uint64_t before = pool.generation();
  pool.Tend(now);
  EXPECT_NE(pool.generation(), before);
  EXPECT_NE(pool.Take(), nullptr);
}

TEST_F(LanePoolTest, LaneOfTheNextReserveGoesOnWhereTheLastOneStopped) {
  Lane* lane = pool.Take();
  Lane* other = pool.Take();
  Lane* reserve = pool.Take();
  ASSERT_GE(reserve->number(), kLanesPerSlot);
  Fill(*reserve, 0.6);
  ASSERT_TRUE(reserve->TryAppend(RecordType::kEnd, EndPayload(1)));
  reserve->CountDrop(RecordType::kEnd, 10);
  StoreAll(*reserve);
  const std::uint32_t number = reserve->number();
  const auto before = pool.GetTotals();
  pool.Return(reserve);
  Calm();
  EXPECT_EQ(dir.Files(".ring").size(), 1u);
  EXPECT_EQ(pool.GetTotals().ended, before.ended);
  EXPECT_EQ(pool.GetTotals().dropped_spans, 1u);
  Fill(*lane, 0.6);
  Fill(*other, 0.6);
  pool.Tend(now);
  EXPECT_EQ(pool.GetTotals().ended, before.ended);
  Lane* again = pool.Take();
  ASSERT_NE(again, nullptr);
  EXPECT_EQ(again->number(), number);
  EXPECT_EQ(again->control().head.load(), stored[number].position);
  ASSERT_TRUE(again->TryAppend(RecordType::kEnd, EndPayload(2)));
  StoreAll(*again);
  EXPECT_EQ(pool.GetTotals().ended, before.ended + 1);
  EXPECT_EQ(pool.GetTotals().dropped_spans, 1u);
}

TEST_F(LanePoolTest, QuietThreadGoesBackToTheFirstFile) {
  Lane* first = pool.Take();
  Lane* second = pool.Take();
  Lane* reserve = pool.Take();
  ASSERT_GE(reserve->number(), kLanesPerSlot);
  pool.Return(first);
  Calm();
  EXPECT_EQ(dir.Files(".ring").size(), 2u);  // somebody is on it
  EXPECT_TRUE(reserve->give_back.load());
  EXPECT_EQ(pool.Move(reserve), first);
  pool.FreeDrained();
  Calm();
  EXPECT_EQ(dir.Files(".ring").size(), 1u);
  pool.Return(second);
}

// A collector may be in the middle of a pass, or hang in one, when the keeper removes a file.
TEST_F(LanePoolTest, FileStaysMappedAsLongAsACollectorHoldsIt) {
  Lane* reserve = TakeAll().back();
  ASSERT_GE(reserve->number(), kLanesPerSlot);
  ASSERT_TRUE(reserve->TryAppend(RecordType::kStart, StartPayload(1)));
  const LanePool::Lanes held = pool.LanesToDrain();
  pool.Close(/*unlink=*/true);
  EXPECT_TRUE(dir.Files(".ring").empty());
  for (const Lane* lane : held.lanes) {
    LaneWalker walker(lane->data(), lane->seed(), {}, lane->control().head.load());
    EXPECT_EQ(walker.Next().has_value(), lane == reserve);
  }
}

TEST_F(LanePoolTest, RingsAreInMemoryWhereNoFileCanBeMade) {
  LanePool without(dir.path() + "/none", SmallOptions());
  ASSERT_TRUE(without.EnsureFirstRing());
  EXPECT_FALSE(without.crash_safe());
  EXPECT_NE(without.last_error().find("in memory"), std::string::npos) << without.last_error();
  std::uint64_t lanes = 0;
  for (Lane* lane = without.Take(); lane != nullptr; lane = without.Move(lane), ++lanes) Fill(*lane, 1.0);
  EXPECT_GT(lanes, 50u);
}

TEST(ThreadChurnTest, ShortThreadsKeepRingFilesBounded) {
  TempDir dir;
  auto exporter = std::make_shared<MemoryExporter>();
  RecorderOptions options = SmallOptions();
  options.full_ring_policy = FullRingPolicy::kBlock;
  constexpr SpanId kThreads = 10'000;
  auto recorder = *Recorder::Open(exporter, dir.path(), options);
  for (SpanId id = 1; id <= kThreads; ++id) {
    std::thread([&] {
      EXPECT_TRUE(recorder->Start(TestRow(id)));
      EXPECT_TRUE(recorder->End(id, SpanStatus::kOk, 1, {}));
    }).join();
  }
  EXPECT_LE(dir.Files(".ring").size(), 2u);
  ASSERT_TRUE(recorder->Flush(kTestTimeoutNs).complete);
  EXPECT_EQ(exporter->span_count(), kThreads);
  EXPECT_LE(recorder->GetHealth().ring_bytes, options.max_ring_bytes);
  EXPECT_EQ(exporter->problems(), std::vector<std::string>());
}

// --- joining
// -----------------------------------------------------------------------------------------------------------

class JoinerTest : public testing::Test {
 protected:
  struct Record {
    RecordType type;
    std::vector<std::byte> payload;
    bool held = false;
  };
  static Record Start(SpanId id) { return {RecordType::kStart, StartPayload(id)}; }
  static Record Fields(SpanId id) { return {RecordType::kFields, FieldsPayload(id)}; }
  static Record End(SpanId id, bool held = false) { return {RecordType::kEnd, EndPayload(id), held}; }

  // One pass of one batch; the batch is good until the next.
  SpanBatch& Pass(std::vector<Record> records) {
    records_ = std::move(records);
    batch = SpanBatch();
    joiner.ReleaseHeld();
    joiner.Begin();
    for (const Record& record : records_) joiner.Add({record.type, record.payload}, record.held);
    joiner.Finish(batch);
    return batch;
  }
  SpanBatch& Expire() {
    batch = SpanBatch();
    joiner.Begin();
    joiner.ExpireOrphans(batch);
    return batch;
  }

  SpanJoiner joiner{"", ""};
  SpanBatch batch;

 private:
  std::vector<Record> records_;
};

TEST_F(JoinerTest, SpanWithinOneBatchNeverTouchesTheOpenTable) {
  Pass({Start(1), Fields(1), End(1)});
  ASSERT_EQ(batch.spans.size(), 1u);
  EXPECT_EQ(batch.spans[0].fields.size(), 1u);
  EXPECT_TRUE(batch.open.empty());
  EXPECT_TRUE(batch.closed.empty());
}

TEST_F(JoinerTest, RecordsJoinInEveryOrderOfLanes) {
  std::vector<Record> records{Start(1), Fields(1), End(1)};
  std::vector<int> order{0, 1, 2};
  do {
    Pass({records[static_cast<std::size_t>(order[0])], records[static_cast<std::size_t>(order[1])],
          records[static_cast<std::size_t>(order[2])]});
    ASSERT_EQ(batch.spans.size(), 1u);
    EXPECT_EQ(batch.spans[0].name, "tool");
    EXPECT_EQ(batch.spans[0].duration_ns, 5);
    EXPECT_EQ(batch.spans[0].fields.size(), 1u);
  } while (std::ranges::next_permutation(order).found);
}

TEST_F(JoinerTest, EndBeforeStartWaitsAndIsHandedOverMeanwhile) {
  Pass({End(1)});
  EXPECT_TRUE(batch.spans.empty());
  EXPECT_EQ(batch.open.size(), 1u);
  EXPECT_TRUE(Expire().closed.empty());  // not in the round it came
  Pass({Start(1)});
  ASSERT_EQ(batch.spans.size(), 1u);
  EXPECT_EQ(batch.spans[0].status, SpanStatus::kOk);
  EXPECT_EQ(batch.closed, std::vector<SpanId>{1});
  EXPECT_EQ(joiner.counters().discarded_ends, 0u);
}

TEST_F(JoinerTest, EndWhoseStartNeverComesIsGivenUpAfterTwoRounds) {
  Pass({End(1), Fields(2)});
  EXPECT_TRUE(Expire().closed.empty());
  Pass({});
  EXPECT_EQ(Expire().closed.size(), 2u);
  EXPECT_EQ(joiner.counters().discarded_ends, 1u);
  EXPECT_EQ(joiner.open_spans(), 0u);
}

TEST_F(JoinerTest, HeldEndCompletesInTheNextPassWithFieldsThatCameLate) {
  Pass({Start(1), End(1, /*held=*/true)});
  EXPECT_TRUE(batch.spans.empty());
  Pass({Fields(1)});
  ASSERT_EQ(batch.spans.size(), 1u);
  EXPECT_EQ(batch.spans[0].fields.size(), 1u);
  EXPECT_EQ(batch.closed, std::vector<SpanId>{1});
  EXPECT_FALSE(joiner.has_held());
}

// A recoverer searched for ever: looking for the records of each restored span filled the table it looked in.
TEST_F(JoinerTest, AnyNumberOfHeldSpansCompletesInWhoeverComesNext) {
  constexpr SpanId kSpans = 3'000;
  std::vector<Record> records;
  for (SpanId id = 1; id <= kSpans; ++id) {
    records.push_back(Start(id));
    records.push_back(End(id, /*held=*/true));
  }
  Pass(std::move(records));
  ASSERT_TRUE(batch.spans.empty());
  std::map<SpanId, std::string> open;
  for (const OpenSpan& span : batch.open) open[span.span_id] = span.records;
  ASSERT_EQ(open.size(), kSpans);
  SpanJoiner next{"", ""};
  SpanBatch rest;
  next.Restore(open);
  next.Begin();
  next.Finish(rest);
  EXPECT_EQ(rest.spans.size(), kSpans);
  EXPECT_FALSE(next.has_ready());
}

TEST_F(JoinerTest, SecondEndIsDiscardedAndCounted) {
  Pass({Start(1), End(1), End(1)});
  EXPECT_EQ(batch.spans.size(), 1u);
  Pass({End(1)});
  EXPECT_TRUE(batch.spans.empty());
  Expire();
  Pass({});
  Expire();
  EXPECT_EQ(joiner.counters().ended, 1u);
  EXPECT_EQ(joiner.counters().discarded_ends, 2u);
}

TEST_F(JoinerTest, MalformedSpanIsCountedNotStored) {
  Record bad = End(1);
  bad.payload.push_back(std::byte{9});  // half a column number
  Pass({Start(1), bad, Start(2), End(2)});
  ASSERT_EQ(batch.spans.size(), 1u);
  EXPECT_EQ(batch.spans[0].span_id, 2u);
  EXPECT_EQ(joiner.counters().undecodable, 1u);
}

TEST_F(JoinerTest, ManySpansInOneBatchGrowTheTable) {
  std::vector<Record> records;
  for (SpanId id = 1; id <= 5'000; ++id) records.push_back(Start(id << 40));
  for (SpanId id = 1; id <= 5'000; ++id) records.push_back(End(id << 40));
  EXPECT_EQ(Pass(std::move(records)).spans.size(), 5'000u);
}

}  // namespace
}  // namespace spanbox
