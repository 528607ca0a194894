// Lanes: who gets which, when files are added, when their memory comes back, and that order between lanes never
// matters.
#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "base/clock.h"
#include "memory_exporter.h"
#include "record/drain.h"
#include "record/joiner.h"
#include "record/lane_pool.h"

namespace spanbox {
namespace {

constexpr std::int64_t kLongTimeNs = 60'000'000'000;

RecorderOptions SmallOptions() {
  RecorderOptions options;
  options.lane_bytes = 64 << 10;
  options.lanes = 2;
  options.max_ring_bytes = 4 << 20;
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
  void SetUp() override { ASSERT_TRUE(pool.EnsureFirstRing()); }
  // Writes until the lane refuses.
  static void Fill(Lane& lane, double part) {
    const std::vector<std::byte> payload(1'000);
    while (static_cast<double>(lane.used_bytes()) < part * static_cast<double>(lane.lane_bytes())) {
      if (lane.TryAppend(RecordType::kFields, payload)) continue;
      if (lane.MakeRoom(payload.size()) == Lane::Room::kFull) return;
    }
  }
  static void StoreAll(Lane& lane) {
    LaneWalker walker(lane.data(), lane.seed(), lane.cursor(), lane.control().head.load());
    while (walker.Next()) {
    }
    lane.MarkStored(walker.cursor());
  }

  TempDir dir;
  LanePool pool{dir.path(), SmallOptions()};
};

TEST_F(LanePoolTest, LaneHasOneOwnerAtATimeAndComesBack) {
  std::set<Lane*> taken;
  while (Lane* lane = pool.Take()) EXPECT_TRUE(taken.insert(lane).second);
  EXPECT_EQ(taken.size(), 2u);
  EXPECT_FALSE(taken.contains(&pool.overflow()));
  const std::uint64_t before = pool.generation();
  pool.Return(*taken.begin());
  EXPECT_NE(pool.generation(), before);
  EXPECT_EQ(pool.Take(), *taken.begin());
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

TEST_F(LanePoolTest, WriterOfAFullLaneMovesToAnyFreeOneAsLarge) {
  Lane* lane = pool.Take();
  Fill(*lane, 1.0);
  Lane* next = pool.Move(lane);
  ASSERT_NE(next, nullptr);
  EXPECT_EQ(next->lane_bytes(), lane->lane_bytes());
  EXPECT_EQ(pool.LanesToDrain().front(), lane);
}

TEST_F(LanePoolTest, FileIsAddedWhenAQuarterOfAllBytesWaitAndTheWriterMovesThere) {
  Lane* lane = pool.Take();
  ASSERT_NE(pool.Take(), nullptr);
  pool.Adapt(MonotonicNowNs());
  EXPECT_EQ(dir.Files(".ring").size(), 1u);
  Fill(*lane, 0.6);
  pool.Adapt(MonotonicNowNs());
  EXPECT_EQ(dir.Files(".ring").size(), 2u);
  Lane* larger = pool.Move(lane);
  ASSERT_NE(larger, nullptr);
  EXPECT_EQ(larger->lane_bytes(), 2 * lane->lane_bytes());
  // The lane left behind is drained first, and is free when it is empty.
  EXPECT_EQ(pool.LanesToDrain().front(), lane);
  Lane* other = pool.Take();
  ASSERT_NE(other, lane);
  StoreAll(*lane);
  pool.FreeDrained();
  EXPECT_EQ(pool.Take(), lane);
}

TEST_F(LanePoolTest, FilesStayUnderTheCap) {
  std::vector<Lane*> lanes{pool.Take()};
  for (int i = 0; i < 40; ++i) {
    Fill(*lanes.back(), 1.0);
    pool.Adapt(MonotonicNowNs());
    EXPECT_LE(pool.GetTotals().ring_bytes, SmallOptions().max_ring_bytes);
    if (Lane* next = pool.Move(lanes.back())) lanes.push_back(next);
  }
  EXPECT_GT(lanes.size(), 3u);
}

TEST_F(LanePoolTest, FileIsAddedForThreadsWithoutALane) {
  while (pool.Take() != nullptr) {
  }
  const std::uint64_t before = pool.generation();
  pool.Adapt(MonotonicNowNs());
  EXPECT_NE(pool.generation(), before);
  EXPECT_NE(pool.Take(), nullptr);
}

TEST_F(LanePoolTest, UnusedFileGoesAndItsPositionsAndCountersStay) {
  Lane* lane = pool.Take();
  ASSERT_NE(pool.Take(), nullptr);
  Fill(*lane, 0.6);
  pool.Adapt(MonotonicNowNs());
  Lane* larger = pool.Move(lane);
  ASSERT_NE(larger, nullptr);
  Fill(*larger, 0.2);
  ASSERT_TRUE(larger->TryAppend(RecordType::kEnd, EndPayload(1)));
  larger->CountDrop(RecordType::kEnd, 10);
  StoreAll(*lane);
  StoreAll(*larger);
  const LaneCursor stopped = larger->cursor();
  const auto before = pool.GetTotals();
  pool.Return(larger);
  pool.FreeDrained();
  std::int64_t now = MonotonicNowNs() + kLongTimeNs;
  pool.Adapt(now);
  EXPECT_EQ(dir.Files(".ring").size(), 1u);
  EXPECT_EQ(pool.GetTotals().ended, before.ended);
  EXPECT_EQ(pool.GetTotals().dropped_spans, 1u);
  // The same slot again: its lane goes on where it stopped.
  lane = pool.Take();
  Fill(*lane, 0.6);
  pool.Adapt(now + 1);
  Lane* again = pool.Move(lane);
  ASSERT_NE(again, nullptr);
  EXPECT_EQ(again->number(), stopped.lane);
  EXPECT_EQ(again->control().head.load(), stopped.position);
  EXPECT_EQ(again->cursor().seq, stopped.seq);
  EXPECT_EQ(pool.GetTotals().ended, before.ended);
  EXPECT_EQ(pool.GetTotals().dropped_spans, 1u);
}

// A pass asks for growth while it holds lanes: a file that has long been unused must not go then.
TEST_F(LanePoolTest, GrowingNeverRemovesAFile) {
  Lane* lane = pool.Take();
  Fill(*lane, 0.6);
  pool.Adapt(MonotonicNowNs());
  ASSERT_EQ(dir.Files(".ring").size(), 2u);
  StoreAll(*lane);
  pool.GrowIfNeeded(MonotonicNowNs() + kLongTimeNs);
  EXPECT_EQ(dir.Files(".ring").size(), 2u);
  pool.Adapt(MonotonicNowNs() + kLongTimeNs);
  EXPECT_EQ(dir.Files(".ring").size(), 1u);
}

TEST_F(LanePoolTest, QuietThreadGivesItsLargeLaneBack) {
  Lane* lane = pool.Take();
  ASSERT_NE(pool.Take(), nullptr);
  Fill(*lane, 0.6);
  pool.Adapt(MonotonicNowNs());
  Lane* larger = pool.Move(lane);
  ASSERT_NE(larger, nullptr);
  StoreAll(*lane);
  pool.FreeDrained();
  pool.Adapt(MonotonicNowNs() + kLongTimeNs);
  EXPECT_TRUE(larger->give_back.load());
  Lane* smaller = pool.Move(larger);
  ASSERT_NE(smaller, nullptr);
  EXPECT_LT(smaller->lane_bytes(), larger->lane_bytes());
}

TEST(ThreadChurnTest, ShortThreadsKeepRingFilesBounded) {
  TempDir dir;
  auto exporter = std::make_shared<MemoryExporter>();
  RecorderOptions options = SmallOptions();
  options.full_ring_policy = FullRingPolicy::kBlock;
  auto recorder = *Recorder::Open(exporter, dir.path(), options);
  for (SpanId id = 1; id <= 2'000; ++id) {
    std::thread([&] {
      EXPECT_TRUE(recorder->Start(TestRow(id)));
      EXPECT_TRUE(recorder->End(id, SpanStatus::kOk, 1, {}));
    }).join();
    if (id % 100 == 0) EXPECT_LE(dir.Files(".ring").size(), 2u);
  }
  ASSERT_TRUE(recorder->Flush(kTestTimeoutNs).complete);
  EXPECT_EQ(exporter->span_count(), 2'000u);
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
