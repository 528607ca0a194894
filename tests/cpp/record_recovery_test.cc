// Dead rings: everything acknowledged is stored once, open spans become interrupted, damage never becomes a wrong span.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <memory>
#include <random>
#include <thread>
#include <utility>

#include "base/ids.h"
#include "memory_exporter.h"
#include "record/drain.h"
#include "record/ring.h"

namespace spanbox {
namespace {

std::string OutputOf(SpanId id) { return std::string(id % 50, 'o') + std::to_string(id); }

class RecoveryTest : public testing::Test {
 protected:
  std::unique_ptr<RingFile> MakeRing(std::uint32_t slot = 0, std::uint32_t lanes = 2,
                                     std::uint64_t lane_bytes = kMinLaneBytes) {
    RingSpec spec{.ring_dir = dir.path(),
                  .ring = ring,
                  .slot = slot,
                  .lanes = lanes,
                  .lane_bytes = lane_bytes,
                  .release = "",
                  .environment = "",
                  .starts = {}};
    auto made = RingFile::Create(spec);
    EXPECT_TRUE(made.ok()) << made.status().message();
    return *std::move(made);
  }
  static void Start(Lane& lane, SpanId id) {
    ByteBuffer buffer;
    RecordWriter writer(buffer);
    const SpanRow row = TestRow(id);
    writer.Start(row.trace_id, id, 0, row.start_ns, SpanKind::kLlm, "call");
    writer.AddString(Column::kInput, {}, "in" + std::to_string(id));
    ASSERT_TRUE(lane.TryAppend(RecordType::kStart, buffer.bytes()));
  }
  static void End(Lane& lane, SpanId id) {
    ByteBuffer buffer;
    RecordWriter writer(buffer);
    writer.End(id, 1'000, SpanStatus::kOk);
    writer.AddString(Column::kOutput, {}, OutputOf(id));
    ASSERT_TRUE(lane.TryAppend(RecordType::kEnd, buffer.bytes()));
  }
  static void Span(Lane& lane, SpanId id) {
    Start(lane, id);
    End(lane, id);
  }
  RecoveryReport Recover() {
    const auto report = RecoverRings(exporter, dir.path());
    EXPECT_TRUE(report.ok()) << report.status().message();
    return report.ok() ? *report : RecoveryReport{};
  }
  std::string Path(std::uint32_t slot = 0) const { return dir.path() + "/" + RingFileName(ring, slot); }
  void Overwrite(std::uint64_t offset, std::string_view bytes, std::uint32_t slot = 0) const {
    std::fstream file(Path(slot), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(offset));
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  void ChangeBootId() const {
    RingHeader header;
    std::ifstream(Path(), std::ios::binary).read(reinterpret_cast<char*>(&header), sizeof header);
    header.boot_id[0] ^= 1;
    header.checksum = HeaderChecksum(header);
    Overwrite(0, {reinterpret_cast<const char*>(&header), sizeof header});
  }
  void ExpectRight(const StoredSpan& span) const {
    EXPECT_EQ(span.name, "call");
    EXPECT_EQ(span.trace_id, TestTrace());
    EXPECT_EQ(span.fields.at("input"), "in" + std::to_string(span.span_id));
    if (span.status == SpanStatus::kInterrupted) return;
    EXPECT_EQ(span.fields.at("output"), OutputOf(span.span_id));
    EXPECT_EQ(span.duration_ns, 1'000);
  }
  void TearDown() override { EXPECT_EQ(exporter.problems(), std::vector<std::string>()); }

  TempDir dir;
  MemoryExporter exporter;
  const RingId ring = NewRingId();
};

TEST_F(RecoveryTest, DeadRingIsStoredOnceAndRemoved) {
  {
    const auto file = MakeRing();
    for (SpanId id = 1; id <= 50; ++id) Span(*file->lanes()[id % 2], id);
  }
  const RecoveryReport report = Recover();
  EXPECT_EQ(report.rings, 1u);
  EXPECT_EQ(report.spans, 50u);
  EXPECT_EQ(report.interrupted_spans, 0u);
  EXPECT_EQ(report.damaged_rings, 0u);
  for (const auto& span : exporter.spans()) ExpectRight(span);
  EXPECT_TRUE(dir.Files(".ring").empty());
  EXPECT_TRUE(exporter.rings()[ring].retired);
  ASSERT_EQ(exporter.processes().size(), 1u);
  EXPECT_NE(exporter.processes()[0].find("\"pid\":" + std::to_string(getpid())), std::string::npos);
  EXPECT_EQ(Recover().rings, 0u);
}

TEST_F(RecoveryTest, LivingRingIsLeftAlone) {
  const auto file = MakeRing();
  Span(*file->lanes()[0], 1);
  EXPECT_EQ(Recover().rings, 0u);
  EXPECT_EQ(exporter.span_count(), 0u);
  EXPECT_EQ(dir.Files(".ring").size(), 1u);
}

TEST_F(RecoveryTest, OneLivingFileKeepsAllFilesOfItsProcess) {
  const auto first = MakeRing(0);
  {
    const auto second = MakeRing(1);
    Span(*second->lanes()[0], 1);
  }
  EXPECT_EQ(Recover().rings, 0u);
  EXPECT_EQ(dir.Files(".ring").size(), 2u);
}

// A recoverer had read the folder; then a process made another ring file, and died. Its ring was retired without that
// file, whose spans were lost.
TEST_F(RecoveryTest, FilesMadeAfterTheFolderWasReadAreRecoveredToo) {
  class Interfering : public MemoryExporter {
   public:
    Status Commit(const SpanBatch& batch) override {
      if (const auto meanwhile = std::exchange(meanwhile_, nullptr)) meanwhile();
      return MemoryExporter::Commit(batch);
    }
    std::function<void()> meanwhile_;
  };
  Interfering slow;
  RingSpec first{.ring_dir = dir.path(),
                 .ring = {0, 0, 1},  // comes before the other in the listing
                 .slot = 0,
                 .lanes = 2,
                 .lane_bytes = kMinLaneBytes,
                 .release = "",
                 .environment = "",
                 .starts = {}};
  Span(*(*RingFile::Create(first))->lanes()[0], 1);
  auto living = MakeRing(0);
  Span(*living->lanes()[0], 2);
  slow.meanwhile_ = [&] {
    Span(*MakeRing(1)->lanes()[0], 3);
    living.reset();
  };
  const auto report = RecoverRings(slow, dir.path());
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->spans, 3u);
  EXPECT_EQ(slow.by_id().size(), 3u);
  EXPECT_TRUE(dir.Files(".ring").empty());
}

TEST_F(RecoveryTest, OpenSpanIsInterruptedUpToWhenItsProcessWasAlive) {
  {
    const auto file = MakeRing();
    Start(*file->lanes()[0], 1);
    file->process().alive_ns.store(TestRow(1).start_ns + 777);
  }
  EXPECT_EQ(Recover().interrupted_spans, 1u);
  const auto spans = exporter.spans();
  ASSERT_EQ(spans.size(), 1u);
  EXPECT_EQ(spans[0].status, SpanStatus::kInterrupted);
  EXPECT_EQ(spans[0].duration_ns, 777);
  ExpectRight(spans[0]);
}

TEST_F(RecoveryTest, SpanOverTwoFilesIsJoined) {
  {
    const auto first = MakeRing(0);
    const auto second = MakeRing(1);
    Start(*first->lanes()[0], 1);
    End(*second->lanes()[1], 1);
    Start(*second->lanes()[0], 2);
    End(*first->lanes()[0], 2);
  }
  const RecoveryReport report = Recover();
  EXPECT_EQ(report.spans, 2u);
  EXPECT_EQ(report.interrupted_spans, 0u);
  EXPECT_EQ(report.rings, 1u);
  for (const auto& span : exporter.spans()) ExpectRight(span);
}

// A busy thread may have gone from a late lane to an early one: what it wrote first is read first, or its fields would
// be missing when more than one batch waits.
TEST_F(RecoveryTest, LanesLeftByTheirThreadAreReadFirst) {
  constexpr std::uint32_t kLanes = 20;
  {
    const auto file = MakeRing(0, kLanes, 4 * kMinLaneBytes);  // 5 MiB: two batches
    const std::vector<std::byte> ballast(8'000);
    for (std::uint32_t i = 1; i < kLanes; ++i) {
      while (file->lanes()[i]->MakeRoom(ballast.size() + 1'000) != Lane::Room::kFull) {
        ASSERT_TRUE(file->lanes()[i]->TryAppend(RecordType::kFields, ballast));
      }
    }
    Lane& last = *file->lanes()[kLanes - 1];
    last.control().state.store(LaneState::kClosing);
    last.control().closed_order.store(1);
    Start(*file->lanes()[0], 7);
    ByteBuffer buffer;
    RecordWriter writer(buffer);
    writer.Fields(7);
    writer.AddString(Column::kAttribute, "late", "yes");
    ASSERT_NE(last.MakeRoom(100), Lane::Room::kFull);
    ASSERT_TRUE(last.TryAppend(RecordType::kFields, buffer.bytes()));
    End(*file->lanes()[0], 7);
  }
  Recover();
  ASSERT_EQ(exporter.span_count(), 1u);
  EXPECT_EQ(exporter.spans()[0].fields.count("late"), 1u);
}

TEST_F(RecoveryTest, StoredCursorAndOpenSpansAreTheTruth) {
  std::string open;
  {
    const auto file = MakeRing();
    Lane& lane = *file->lanes()[0];
    Span(lane, 1);
    Start(lane, 2);
    LaneWalker walker(lane.data(), lane.seed(), {}, lane.control().head.load());
    SpanBatch batch;
    batch.ring = ring;
    while (const auto record = walker.Next()) {
      if (*SpanIdOf(*record) == 2) AppendOpenRecord(*record, open);
    }
    batch.spans = {TestRow(1)};
    batch.open = {{2, open}};
    batch.cursors = {walker.cursor()};
    ASSERT_TRUE(exporter.Commit(batch).ok());
    // The tail was never moved: it is a hint, and stale.
    End(lane, 2);
    Span(lane, 3);
  }
  EXPECT_EQ(Recover().spans, 2u);
  const auto spans = exporter.by_id();
  ASSERT_EQ(spans.size(), 3u);
  ExpectRight(spans.at(2));
  ExpectRight(spans.at(3));
}

TEST_F(RecoveryTest, RetiredRingIsOnlyRemoved) {
  {
    const auto file = MakeRing();
    Span(*file->lanes()[0], 1);
  }
  SpanBatch batch;
  batch.ring = ring;
  batch.retire = true;
  ASSERT_TRUE(exporter.Commit(batch).ok());
  EXPECT_EQ(Recover().rings, 1u);
  EXPECT_EQ(exporter.span_count(), 0u);
  EXPECT_TRUE(dir.Files(".ring").empty());
}

TEST_F(RecoveryTest, FailedCommitLeavesTheRingForTheNext) {
  {
    const auto file = MakeRing();
    for (SpanId id = 1; id <= 10; ++id) Span(*file->lanes()[0], id);
  }
  exporter.FailCommits(true);
  EXPECT_EQ(RecoverRings(exporter, dir.path()).status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(dir.Files(".ring").size(), 1u);
  exporter.FailCommits(false);
  EXPECT_EQ(Recover().spans, 10u);
}

TEST_F(RecoveryTest, TwoRecoverersAtOnceStoreEachSpanOnce) {
  for (int round = 0; round < 20; ++round) {
    TempDir own_dir;
    MemoryExporter own;
    const RingId id = NewRingId();
    for (std::uint32_t slot = 0; slot < 2; ++slot) {
      RingSpec spec{.ring_dir = own_dir.path(),
                    .ring = id,
                    .slot = slot,
                    .lanes = 2,
                    .lane_bytes = kMinLaneBytes,
                    .release = "",
                    .environment = "",
                    .starts = {}};
      auto file = RingFile::Create(spec);
      ASSERT_TRUE(file.ok());
      for (SpanId span = 1; span <= 20; ++span) Span(*(*file)->lanes()[span % 2], slot * 100 + span);
    }
    std::vector<std::thread> recoverers;
    for (int i = 0; i < 3; ++i) {
      recoverers.emplace_back([&] { EXPECT_TRUE(RecoverRings(own, own_dir.path()).ok()); });
    }
    for (auto& recoverer : recoverers) recoverer.join();
    // Each may have found the other at work; then the next look finds the rest.
    ASSERT_TRUE(RecoverRings(own, own_dir.path()).ok());
    EXPECT_EQ(own.span_count(), 40u);
    EXPECT_EQ(own.problems(), std::vector<std::string>());
    EXPECT_TRUE(own_dir.Files(".ring").empty());
  }
}

TEST_F(RecoveryTest, EndWithoutStartIsNotStored) {
  {
    const auto file = MakeRing();
    End(*file->lanes()[0], 1);
    Span(*file->lanes()[0], 2);
  }
  const RecoveryReport report = Recover();
  EXPECT_EQ(report.spans, 1u);
  EXPECT_EQ(report.damaged_rings, 0u);
}

TEST_F(RecoveryTest, FlippedBitsNeverCrashAndNeverMakeAWrongSpan) {
  std::vector<char> whole;
  {
    const auto file = MakeRing();
    for (SpanId id = 1; id <= 60; ++id) Span(*file->lanes()[id % 2], id);
    Start(*file->lanes()[0], 61);
    std::ifstream in(Path(), std::ios::binary);
    whole.assign(std::istreambuf_iterator<char>(in), {});
  }
  std::filesystem::remove(Path());
  std::mt19937_64 random(7);
  std::uint64_t quarantined = 0;
  constexpr int kTrials = 400;
  for (int trial = 0; trial < kTrials; ++trial) {
    TempDir own_dir;
    MemoryExporter own;
    std::vector<char> copy = whole;
    // Where the bytes are: headers, control pages and the beginning of each lane's data.
    const std::uint64_t regions[] = {0, kPageBytes, LaneOffset(0, kMinLaneBytes), LaneOffset(1, kMinLaneBytes)};
    for (int flip = 0; flip < 1 + trial % 4; ++flip) {
      const std::uint64_t at = regions[random() % 4] + random() % (flip % 2 == 0 ? 12'000 : 700);
      copy[at % copy.size()] ^= static_cast<char>(1 << random() % 8);
    }
    const std::string path = own_dir.path() + "/" + RingFileName(ring, 0);
    std::ofstream(path, std::ios::binary).write(copy.data(), static_cast<std::streamsize>(copy.size()));
    chmod(path.c_str(), 0600);
    const auto report = RecoverRings(own, own_dir.path());
    ASSERT_TRUE(report.ok());
    EXPECT_TRUE(own_dir.Files(".ring").empty());
    quarantined += report->damaged_rings;
    for (const auto& span : own.spans()) ExpectRight(span);
    ASSERT_EQ(own.problems(), std::vector<std::string>());
    ASSERT_FALSE(HasFailure()) << "trial " << trial;
  }
  EXPECT_GT(quarantined, std::uint64_t{kTrials} / 10);
}

TEST_F(RecoveryTest, DamagedRecordCostsItselfOnlyAndTheRingIsKeptAside) {
  {
    const auto file = MakeRing();
    for (SpanId id = 1; id <= 20; ++id) Span(*file->lanes()[0], id);
  }
  Overwrite(LaneOffset(0, kMinLaneBytes) + kPageBytes + 40, "\xFF\xFF\xFF");  // in the first START's payload
  const RecoveryReport report = Recover();
  EXPECT_EQ(report.damaged_rings, 1u);
  EXPECT_EQ(report.spans, 19u);
  EXPECT_TRUE(dir.Files(".ring").empty());
  EXPECT_TRUE(std::filesystem::exists(dir.path() + "/quarantine/" + RingFileName(ring, 0)));
  EXPECT_EQ(Recover().rings, 0u);
}

TEST_F(RecoveryTest, AfterPowerLossTheHeadIsAHintAndGapsAreSkipped) {
  {
    const auto file = MakeRing();
    for (SpanId id = 1; id <= 30; ++id) Span(*file->lanes()[0], id);
  }
  ChangeBootId();
  const std::uint64_t lane = LaneOffset(0, kMinLaneBytes);
  const std::uint64_t stale_head = 64;
  Overwrite(lane, {reinterpret_cast<const char*>(&stale_head), sizeof stale_head});
  Overwrite(lane + kPageBytes + 1024, std::string(512, '\0'));  // a sector that never reached the disk
  const RecoveryReport report = Recover();
  EXPECT_EQ(report.damaged_rings, 0u);
  EXPECT_TRUE(dir.Files(".ring").empty());
  const auto spans = exporter.by_id();
  EXPECT_GE(spans.size(), 25u);
  EXPECT_LT(spans.size(), 30u);
  EXPECT_TRUE(spans.contains(1));
  EXPECT_TRUE(spans.contains(30));
  for (const auto& [id, span] : spans) ExpectRight(span);
}

TEST_F(RecoveryTest, AfterPowerLossRecordsOfAnOlderLapAreNotTaken) {
  LaneCursor cursor;
  {
    const auto file = MakeRing();
    Lane& lane = *file->lanes()[0];
    SpanId id = 0;
    // Once around: everything stored, then three more.
    while (lane.control().head.load() < lane.lane_bytes()) {
      (void)lane.MakeRoom(400);
      Span(lane, ++id);
      LaneWalker walker(lane.data(), lane.seed(), cursor, lane.control().head.load());
      while (walker.Next()) {
      }
      cursor = walker.cursor();
      lane.MarkStored(cursor.position);
    }
    for (int i = 1; i <= 3; ++i) Span(lane, 1'000'000 + static_cast<SpanId>(i));
  }
  SpanBatch batch;
  batch.ring = ring;
  batch.cursors = {cursor};
  ASSERT_TRUE(exporter.Commit(batch).ok());
  ChangeBootId();
  EXPECT_EQ(Recover().spans, 3u);
}

TEST_F(RecoveryTest, RingThatNeverReachedTheDiskIsRemovedSilently) {
  { const auto file = MakeRing(); }
  Overwrite(0, std::string(kPageBytes, '\0'));
  EXPECT_EQ(Recover().damaged_rings, 0u);
  EXPECT_TRUE(dir.Files(".ring").empty());
}

TEST_F(RecoveryTest, CopyOfALivingRingIsSetAsideNotRecovered) {
  const auto file = MakeRing();
  Span(*file->lanes()[0], 1);
  const std::string copy = dir.path() + "/" + RingFileName(NewRingId(), 0);
  std::filesystem::copy_file(Path(), copy);
  chmod(copy.c_str(), 0600);
  EXPECT_EQ(Recover().damaged_rings, 1u);
  EXPECT_EQ(exporter.span_count(), 0u);
  EXPECT_FALSE(exporter.rings()[ring].retired);
}

TEST_F(RecoveryTest, WhatIsNoPrivateRegularFileIsRefused) {
  { const auto file = MakeRing(); }
  const auto named = [&](const char* digit) { return dir.path() + "/" + std::string(32, *digit) + "-0.ring"; };
  std::filesystem::copy_file(Path(), named("1"));
  chmod(named("1").c_str(), 0644);  // others may read it
  ASSERT_EQ(mkfifo(named("2").c_str(), 0600), 0);
  std::filesystem::create_symlink(dir.path() + "/elsewhere", named("3"));
  std::filesystem::create_directory(named("4"));
  std::ofstream(named("5")) << "short";
  chmod(named("5").c_str(), 0600);
  std::filesystem::create_hard_link(Path(), named("6"));  // so the ring itself has two names as well
  const RecoveryReport report = Recover();
  EXPECT_EQ(report.damaged_rings, 1u);  // the short one
  EXPECT_EQ(exporter.commits(), 0u);
  EXPECT_EQ(dir.Files(".ring").size(), 6u);
  EXPECT_FALSE(std::filesystem::exists(dir.path() + "/elsewhere"));
}

TEST_F(RecoveryTest, HalfMadeFilesAreRemoved) {
  std::ofstream(dir.path() + "/x.ring.0.tmp") << "half";
  chmod((dir.path() + "/x.ring.0.tmp").c_str(), 0600);
  Recover();
  EXPECT_TRUE(dir.Files(".tmp").empty());
}

TEST_F(RecoveryTest, MissingFolderIsNotFound) {
  EXPECT_EQ(RecoverRings(exporter, dir.path() + "/none").status().code(), StatusCode::kNotFound);
}

}  // namespace
}  // namespace spanbox
