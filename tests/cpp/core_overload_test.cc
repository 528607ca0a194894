// Threads that record faster than anything can be stored: what does not fit is dropped, and every drop is counted.
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "memory_exporter.h"

namespace spanbox {
namespace {

constexpr int kThreads = 8;

// Commits only when the writers have gone on by so many spans since the last commit, or have stopped.
class SlowExporter : public MemoryExporter {
 public:
  static constexpr std::uint64_t kSpansPerCommit = 3'000;

  Status Commit(const SpanBatch& batch) override {
    {
      std::unique_lock lock(mutex_);
      const std::uint64_t begin = attempted_;
      moved_.wait(lock, [&] { return stopped_ || attempted_ >= begin + kSpansPerCommit; });
    }
    return MemoryExporter::Commit(batch);
  }
  void NoteAttempts(std::uint64_t spans) {
    const std::scoped_lock lock(mutex_);
    attempted_ += spans;
    moved_.notify_all();
  }
  void WritersHaveStopped() {
    const std::scoped_lock lock(mutex_);
    stopped_ = true;
    moved_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable moved_;
  std::uint64_t attempted_ = 0;
  bool stopped_ = false;
};

class OverloadTest : public testing::Test {
 protected:
  void Open(FullRingPolicy policy, std::int64_t max_wait_ns) {
    RecorderOptions options;
    options.lane_bytes = 64 << 10;
    options.lanes = 4;
    options.max_ring_bytes = 2 << 20;
    options.commit_interval_ns = 2'000'000;
    options.full_ring_policy = policy;
    options.max_wait_ns = max_wait_ns;
    options.wait = [this](std::int64_t ns) {
      waited_ns += ns;
      std::this_thread::yield();
    };
    auto opened = Recorder::Open(std::shared_ptr<SpanExporter>(exporter), dir.path(), options);
    ASSERT_TRUE(opened.ok());
    recorder = *std::move(opened);
  }

  struct Tally {
    std::uint64_t starts_refused = 0, ends_refused = 0, ended = 0;
  };

  Tally Write(int thread, std::uint64_t spans) {
    Tally tally;
    const std::string output(200, 'x');
    const Field field{Column::kOutput, {}, Value::String(output)};
    for (std::uint64_t i = 1; i <= spans; ++i) {
      const SpanId id = static_cast<SpanId>(thread + 1) << 32 | i;
      if (i % 100 == 0) exporter->NoteAttempts(100);
      if (!recorder->Start(TestRow(id))) {
        ++tally.starts_refused;
      } else if (recorder->End(id, SpanStatus::kOk, 7, std::span(&field, 1))) {
        ++tally.ended;
      } else {
        ++tally.ends_refused;
      }
    }
    return tally;
  }

  // All threads at once, `spans` each.
  Tally WriteAll(std::uint64_t spans) {
    std::vector<Tally> tallies(kThreads);
    std::vector<std::thread> writers;
    for (int t = 0; t < kThreads; ++t) {
      writers.emplace_back([&, t] { tallies[static_cast<std::size_t>(t)] = Write(t, spans); });
    }
    for (auto& writer : writers) writer.join();
    Tally sum;
    for (const Tally& tally : tallies) {
      sum.starts_refused += tally.starts_refused;
      sum.ends_refused += tally.ends_refused;
      sum.ended += tally.ended;
    }
    return sum;
  }

  // Everybody's books agree: the callers', the recorder's, the store's rows, and the lanes' counters in the store.
  void ExpectExact(const Tally& tally, std::uint64_t all) {
    const std::uint64_t dropped = tally.starts_refused + tally.ends_refused;
    EXPECT_GT(dropped, 0u) << "there was no overload";
    EXPECT_EQ(tally.ended + dropped, all);
    // Before anything more is stored.
    EXPECT_EQ(recorder->GetHealth().recorded_spans, all);
    EXPECT_EQ(recorder->GetHealth().dropped_spans, dropped);
    EXPECT_LE(recorder->GetHealth().stored_spans, tally.ended);
    exporter->WritersHaveStopped();
    exporter->Block(false);
    ASSERT_TRUE(recorder->Flush(kTestTimeoutNs).complete);
    EXPECT_EQ(recorder->GetHealth().waiting_bytes, 0u);
    EXPECT_EQ(recorder->GetHealth().stored_spans, tally.ended);
    EXPECT_EQ(recorder->GetHealth().dropped_spans, dropped);
    std::uint64_t ended = 0, interrupted = 0, dropped_in_lanes = 0;
    for (const auto& span : exporter->spans()) {
      ended += span.status == SpanStatus::kOk;
      interrupted += span.status == SpanStatus::kInterrupted;
    }
    EXPECT_EQ(ended, tally.ended);
    EXPECT_EQ(interrupted, tally.ends_refused);  // their START was accepted
    const auto rings = exporter->rings();
    ASSERT_EQ(rings.size(), 1u);
    for (const auto& [lane, cursor] : rings.begin()->second.cursors) dropped_in_lanes += cursor.dropped_spans;
    EXPECT_EQ(dropped_in_lanes, dropped);
    EXPECT_EQ(exporter->problems(), std::vector<std::string>());
  }

  TempDir dir;
  std::atomic<std::int64_t> waited_ns{0};  // by all threads: asked for, not spent
  std::shared_ptr<SlowExporter> exporter = std::make_shared<SlowExporter>();
  std::unique_ptr<Recorder> recorder;
};

TEST_F(OverloadTest, EveryDropIsCountedWhenNobodyWaits) {
  Open(FullRingPolicy::kDrop, 0);
  ExpectExact(WriteAll(10'000), kThreads * 10'000);
}

TEST_F(OverloadTest, EveryDropIsCountedWhenWritersWait) {
  Open(FullRingPolicy::kWait, 1'000'000);
  ExpectExact(WriteAll(10'000), kThreads * 10'000);
}

TEST_F(OverloadTest, WritersDoNotWaitAgainForAStoreThatDoesNotMove) {
  constexpr std::int64_t kMaxWaitNs = 200'000'000;
  constexpr std::uint64_t kSpans = 3'000;
  Open(FullRingPolicy::kWait, kMaxWaitNs);
  exporter->WritersHaveStopped();
  exporter->Block(true);
  const Tally tally = WriteAll(kSpans);
  // An hour, if every call that was refused had waited; some seconds, if each thread waits once a lane.
  EXPECT_LT(waited_ns, kSpans * kMaxWaitNs / 10);
  ExpectExact(tally, kThreads * kSpans);
}

}  // namespace
}  // namespace spanbox
