// Limits: positions that wrap all the time, handlers that record inside a record, rings that are full, blobs larger
// than rings. Whatever is lost is counted.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <random>
#include <thread>

#include "memory_exporter.h"
#include "record/drain.h"
#include "record/ring.h"
#include "spanbox/recorder.h"

namespace spanbox {
namespace {

// A lane of 256 bytes: every few records wrap. The writer goes on while the reader reads.
TEST(TinyLaneTest, EveryRecordOfAMillionIsReadOnceWhileTheLaneWrapsAllTheTime) {
  constexpr std::uint64_t kBytes = 256;
  constexpr std::uint64_t kRecords = 1'000'000;
  LaneControl control{};
  alignas(64) std::array<std::byte, kBytes> data{};
  Lane lane(3, /*seed=*/77, kBytes, control, data.data(), {});
  std::thread writer([&] {
    std::array<std::byte, 32> payload{};
    for (std::uint64_t n = 1; n <= kRecords;) {
      const std::size_t size = 8 + n % 25;  // records of 40 to 64 bytes
      std::memcpy(payload.data(), &n, sizeof n);
      if (lane.TryAppend(RecordType::kFields, std::span(payload).first(size))) {
        ++n;
      } else if (lane.MakeRoom(size) == Lane::Room::kFull) {
        std::this_thread::yield();
      }
    }
  });
  LaneCursor cursor;
  std::uint64_t read = 0;
  while (read < kRecords) {
    const std::uint64_t head = control.head.load(std::memory_order_acquire);
    LaneWalker walker(data, 77, cursor, head);
    while (const auto record = walker.Next()) {
      std::uint64_t n;
      std::memcpy(&n, record->payload.data(), sizeof n);
      ASSERT_EQ(n, ++read);
      ASSERT_EQ(record->payload.size(), 8 + n % 25);
    }
    ASSERT_EQ(walker.gaps(), 0u);
    ASSERT_EQ(walker.cursor().seq, read);
    if (walker.cursor().position == cursor.position) std::this_thread::yield();
    cursor = walker.cursor();
    lane.MarkStored(cursor.position);
  }
  writer.join();
  EXPECT_EQ(cursor.position, control.head.load());
  EXPECT_GT(cursor.position, kRecords * 40);
}

class LimitsTest : public testing::Test {
 protected:
  void Open(RecorderOptions options) {
    options.close_timeout_ns = kTestTimeoutNs;
    auto opened = Recorder::Open(exporter, dir.path(), options);
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    recorder = *std::move(opened);
  }
  static RecorderOptions Small() {
    RecorderOptions options;
    options.lane_bytes = 64 << 10;
    options.lanes = 2;
    options.max_ring_bytes = 256 << 10;
    options.commit_interval_ns = 5'000'000;
    return options;
  }
  void Flush() { ASSERT_TRUE(recorder->Flush(kTestTimeoutNs).complete); }
  void TearDown() override {
    recorder.reset();
    EXPECT_EQ(exporter->problems(), std::vector<std::string>());
  }

  TempDir dir;
  std::shared_ptr<MemoryExporter> exporter = std::make_shared<MemoryExporter>();
  std::unique_ptr<Recorder> recorder;
};

Recorder* storm_recorder = nullptr;
std::atomic<SpanId> storm_spans{0};
std::atomic<std::uint64_t> storm_dropped{0};
void RecordSpanInHandler(int) {
  const SpanId id = 1'000'000 + storm_spans.fetch_add(1);
  if (!storm_recorder->Start(TestRow(id, "in a handler"))) {
    storm_dropped.fetch_add(1);
  } else if (!storm_recorder->End(id, SpanStatus::kOk, 1, {})) {
    storm_dropped.fetch_add(1);
  }
}

// A handler that came while a record was being made wrote over it.
TEST_F(LimitsTest, HandlersThatRecordInsideARecordAreCountedExactlyAndDoNoHarm) {
  RecorderOptions options = Small();
  options.max_ring_bytes = 64 << 20;
  options.full_ring_policy = FullRingPolicy::kBlock;
  Open(options);
  storm_recorder = recorder.get();
  storm_spans = storm_dropped = 0;
  struct sigaction action {
  }, before{};
  action.sa_handler = RecordSpanInHandler;
  sigaction(SIGUSR1, &action, &before);
  // The first record of a thread makes files and takes a lane, which no signal handler may do.
  ASSERT_TRUE(recorder->Start(TestRow(1)));
  ASSERT_TRUE(recorder->End(1, SpanStatus::kOk, 1, {}));
  std::atomic<bool> done{false};
  const pthread_t writer = pthread_self();
  std::thread shooter([&] {
    while (!done) pthread_kill(writer, SIGUSR1), usleep(10);
  });
  SpanId id = 1;
  const std::string output(100, 'o');
  // Until enough handlers have come at the wrong moment; the machine decides how soon that is.
  while (id < 20'000 || (storm_dropped < 20 && id < 3'000'000)) {
    ASSERT_TRUE(recorder->Start(TestRow(++id)));
    const Field field{Column::kOutput, {}, Value::String(output)};
    ASSERT_TRUE(recorder->End(id, SpanStatus::kOk, 7, std::span(&field, 1)));
  }
  done = true;
  shooter.join();
  sigaction(SIGUSR1, &before, nullptr);
  EXPECT_GT(storm_dropped, 0u);
  Flush();
  const Health health = recorder->GetHealth();
  EXPECT_EQ(health.dropped_spans, storm_dropped);
  EXPECT_EQ(health.recorded_spans, id + storm_spans);
  EXPECT_EQ(health.stored_spans + health.dropped_spans, health.recorded_spans);
  for (const StoredSpan& span : exporter->spans()) {
    if (span.span_id > 1 && span.span_id < 1'000'000) ASSERT_EQ(span.fields.at("output"), output);
  }
}

class DropTest : public LimitsTest, public testing::WithParamInterface<FullRingPolicy> {};

TEST_P(DropTest, EveryLaneCountsItsDropsExactlyWhileNothingIsStored) {
  RecorderOptions options = Small();
  options.full_ring_policy = GetParam();
  options.wait = [](std::int64_t) { std::this_thread::yield(); };
  Open(options);
  exporter->Block(true);
  constexpr int kThreads = 3;  // two lanes and the overflow lane
  constexpr SpanId kEach = 1'500;
  std::array<std::uint64_t, kThreads> kept{};
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (SpanId i = 1; i <= kEach; ++i) {
        const SpanId id = t * kEach + i;
        if (recorder->Start(TestRow(id)) && recorder->End(id, SpanStatus::kOk, 7, {})) ++kept[t];
      }
    });
  }
  for (auto& thread : threads) thread.join();
  const std::uint64_t all_kept = kept[0] + kept[1] + kept[2];
  const std::uint64_t dropped = kThreads * kEach - all_kept;
  ASSERT_GT(dropped, 0u);
  Health health = recorder->GetHealth();
  EXPECT_EQ(health.recorded_spans, kThreads * kEach);
  EXPECT_EQ(health.dropped_spans, dropped);
  EXPECT_EQ(health.stored_spans, 0u);
  EXPECT_GT(health.waiting_bytes, 0u);
  exporter->Block(false);
  Flush();
  health = recorder->GetHealth();
  EXPECT_EQ(health.stored_spans, all_kept);
  EXPECT_EQ(health.stored_spans + health.dropped_spans, health.recorded_spans);
  const auto rings = exporter->rings();
  std::uint64_t told = 0, lanes = 0;
  for (const auto& [lane, cursor] : rings.begin()->second.cursors) {
    told += cursor.dropped_spans;
    lanes += cursor.dropped_spans > 0;
  }
  EXPECT_EQ(told, dropped);
  EXPECT_GE(lanes, 2u);
}

INSTANTIATE_TEST_SUITE_P(Policies, DropTest, testing::Values(FullRingPolicy::kDrop, FullRingPolicy::kWait));

// --- blobs

std::string Noise(std::size_t bytes) {
  std::mt19937_64 random(bytes);
  std::string text(bytes, '\0');
  for (std::size_t i = 0; i + 8 <= bytes; i += 8) {
    const std::uint64_t word = random();
    std::memcpy(text.data() + i, &word, sizeof word);
  }
  return text;
}
std::span<const std::byte> AsPayload(const std::string& content) { return std::as_bytes(std::span(content)); }

TEST_F(LimitsTest, BlobLargerThanAllRingsArrivesWhole) {
  RecorderOptions options = Small();
  options.full_ring_policy = FullRingPolicy::kBlock;
  Open(options);
  const std::string content = Noise(3'000'001);
  const BlobId id = BlobIdOf(AsPayload(content));
  ASSERT_TRUE(recorder->PutBlob(id, AsPayload(content)));
  Flush();
  EXPECT_TRUE(exporter->blobs().at(id) == content);
  EXPECT_EQ(recorder->GetHealth().recorded_spans, 0u);
}

TEST_F(LimitsTest, BlobAcceptedAMomentAgoIsNotWrittenAgain) {
  Open(Small());
  const std::string content = Noise(5'000);
  const BlobId id = BlobIdOf(AsPayload(content));
  ASSERT_TRUE(recorder->PutBlob(id, AsPayload(content)));
  ASSERT_TRUE(recorder->PutBlob(BlobIdOf({}), {}));
  Flush();
  const std::uint64_t commits = exporter->commits();
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(recorder->PutBlob(id, AsPayload(content)));
  EXPECT_EQ(recorder->GetHealth().waiting_bytes, 0u);
  Flush();
  EXPECT_EQ(exporter->commits(), commits);
  EXPECT_EQ(exporter->blobs().at(BlobIdOf({})), "");
}

TEST_F(LimitsTest, BlobWithoutRoomIsGivenUpAndItsRestCounted) {
  RecorderOptions options = Small();
  options.full_ring_policy = FullRingPolicy::kDrop;
  Open(options);
  exporter->Block(true);
  const std::string content = Noise(1'000'000);
  const BlobId id = BlobIdOf(AsPayload(content));
  EXPECT_FALSE(recorder->PutBlob(id, AsPayload(content)));
  const Health health = recorder->GetHealth();
  EXPECT_EQ(health.dropped_spans, 0u);
  EXPECT_GT(health.dropped_bytes, 500'000u);
  EXPECT_LE(health.dropped_bytes, content.size() + 100);
  exporter->Block(false);
  Flush();
  // It was not accepted, so it is written again.
  options.full_ring_policy = FullRingPolicy::kBlock;
  recorder.reset();
  Open(options);
  ASSERT_TRUE(recorder->PutBlob(id, AsPayload(content)));
  Flush();
  EXPECT_TRUE(exporter->blobs().at(id) == content);
}

TEST_F(LimitsTest, WhatABlobMayWaitIsSummedOverItsPieces) {
  RecorderOptions options = Small();
  options.max_wait_ns = 200'000'000;
  std::int64_t waited_ns = 0;
  options.wait = [&](std::int64_t ns) {
    waited_ns += ns;
    std::this_thread::sleep_for(std::chrono::nanoseconds(ns / 10));
    // It may wait 24 s, for it has more than 120 pieces.
    if (waited_ns > 2 * options.max_wait_ns) exporter->Block(false);
  };
  Open(options);
  exporter->Block(true);
  const std::string content = Noise(2'000'000);
  EXPECT_TRUE(recorder->PutBlob(BlobIdOf(AsPayload(content)), AsPayload(content)));
  EXPECT_GT(waited_ns, 2 * options.max_wait_ns);
  Flush();
  EXPECT_TRUE(exporter->blobs().at(BlobIdOf(AsPayload(content))) == content);
}

}  // namespace
}  // namespace spanbox
