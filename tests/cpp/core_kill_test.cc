// The promise: when End has returned, the span survives SIGKILL, and is stored exactly once. Recorder and store
// together.
//
// A child records in two threads and notes in shared memory, after each call, what has returned. It is killed at a
// random moment; its ring is recovered (in one variant by a process that is killed as well); then the store is read
// back and compared with the notes.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <thread>

#include "spanbox/query.h"
#include "spanbox/recorder.h"
#include "spanbox/store.h"

namespace spanbox {
namespace {

constexpr int kThreads = 2;
constexpr std::int64_t kCycleNs = 1'000'000'000'000;  // each cycle's spans start in an interval of their own

// Written by the child after a call has returned, read by the parent after the child's death.
struct Notes {
  struct Thread {
    std::atomic<std::uint64_t> started;  // spans 1..started: Start has returned
    std::atomic<std::uint64_t> ended;    // spans 1..ended: End has returned
  };
  Thread threads[kThreads];
};

SpanId IdOf(int cycle, int thread, std::uint64_t number) {
  return (static_cast<SpanId>(cycle + 1) << 40) | (static_cast<SpanId>(thread + 1) << 32) | number;
}
std::string InputOf(SpanId id) { return "input of " + std::to_string(id); }
std::string OutputOf(SpanId id) { return "output of " + std::to_string(id) + std::string(id % 300, '.'); }

class KillTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "spanbox_kill_XXXXXX").string();
    path = mkdtemp(pattern.data());
    notes =
        static_cast<Notes*>(mmap(nullptr, sizeof(Notes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    ASSERT_NE(notes, MAP_FAILED);
  }
  void TearDown() override {
    munmap(notes, sizeof(Notes));
    std::filesystem::remove_all(path);
  }

  // Number 0 of each thread is never ended; the others are nested in it.
  void RecordForEver(Recorder& recorder, int cycle, int thread) {
    Notes::Thread& mine = notes->threads[thread];
    for (std::uint64_t number = 0;; ++number) {
      SpanRow row;
      row.trace_id.bytes[0] = static_cast<std::uint8_t>(thread + 1);
      row.trace_id.bytes[1] = static_cast<std::uint8_t>(cycle);
      row.span_id = IdOf(cycle, thread, number);
      row.parent_id = number == 0 ? 0 : IdOf(cycle, thread, 0);
      row.name = "work";
      row.start_ns = cycle * kCycleNs + static_cast<std::int64_t>(number);
      const std::string input = InputOf(row.span_id), output = OutputOf(row.span_id);
      const Field input_field{Column::kInput, {}, Value::String(input)};
      const Field output_field{Column::kOutput, {}, Value::String(output)};
      row.fields = std::span(&input_field, 1);
      if (!recorder.Start(row)) _exit(2);
      mine.started.store(number + 1, std::memory_order_release);
      if (number == 0) {
        mine.ended.store(1, std::memory_order_release);  // the outer span counts as passed over
        continue;
      }
      if (!recorder.End(row.span_id, SpanStatus::kOk, 5, std::span(&output_field, 1))) _exit(3);
      mine.ended.store(number + 1, std::memory_order_release);
    }
  }

  [[noreturn]] void Application(int cycle) {
    RecorderOptions options;
    options.lane_bytes = 256 << 10;
    options.commit_interval_ns = 1'000'000;
    options.full_ring_policy = FullRingPolicy::kBlock;
    auto recorder = Recorder::Open(
        [this]() -> Result<std::shared_ptr<SpanExporter>> {
          auto store = Store::Open(path);
          if (!store.ok()) return store.status();
          return std::shared_ptr<SpanExporter>(*store);
        },
        path + "/rings", options);
    if (!recorder.ok()) _exit(1);
    std::thread other([&] { RecordForEver(**recorder, cycle, 1); });
    RecordForEver(**recorder, cycle, 0);
    _exit(4);
  }

  void RunAndKill(int cycle) {
    for (auto& thread : notes->threads) thread.started = thread.ended = 0;
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) Application(cycle);
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (notes->threads[0].ended < 2 && std::chrono::steady_clock::now() < give_up) {
      int status = 0;
      if (waitpid(child, &status, WNOHANG) != 0) FAIL() << "the application ended by itself: " << status;
      std::this_thread::yield();
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 12'000));
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << "the application ended by itself: " << status;
  }

  // A process that recovers, and is killed at it.
  void KillARecoverer() {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      auto store = Store::Open(path);
      if (store.ok()) (void)RecoverRings(**store, path + "/rings");
      _exit(0);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 6'000));
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    recoverers_killed += WIFSIGNALED(status);
  }

  struct Found {
    std::string status, input, output;
    int times = 0;
  };
  void ReadBack(Store& store, int cycle, std::map<SpanId, Found>& found) {
    SpanQuery query;
    query.since_ns = cycle * kCycleNs;
    query.until_ns = (cycle + 1) * kCycleNs;
    ScanOptions options;
    options.columns = {"span_id", "status", "input", "output"};
    const auto table = Scan(store, query, options);
    ASSERT_TRUE(table.ok()) << table.status().message();
    const auto text = [&](int column, std::uint64_t row) -> std::string {
      const TableColumn& c = table->columns[static_cast<std::size_t>(column)];
      if (!c.valid.empty() && c.valid[row] == 0) return "";
      return c.dictionary[c.codes[row]];
    };
    for (std::uint64_t row = 0; row < table->rows; ++row) {
      Found& span = found[*SpanIdFromHex(text(0, row))];
      span = {text(1, row), text(2, row), text(3, row), span.times + 1};
    }
  }

  void Compare(int cycle, const std::map<SpanId, Found>& found) {
    std::size_t expected = 0;
    for (int t = 0; t < kThreads; ++t) {
      const std::uint64_t started = notes->threads[t].started, ended = notes->threads[t].ended;
      spans += ended;
      for (std::uint64_t number = 0; number <= started; ++number) {
        const SpanId id = IdOf(cycle, t, number);
        const auto at = found.find(id);
        if (at == found.end()) {
          ASSERT_EQ(number, started) << "span " << number << " of thread " << t << " is lost; " << ended << " ended";
          continue;
        }
        ++expected;
        const Found& span = at->second;
        ASSERT_EQ(span.times, 1) << "span " << number << " of thread " << t;
        ASSERT_EQ(span.input, InputOf(id));
        const bool must_be_ok = number > 0 && number < ended;
        if (must_be_ok || span.status == "ok") {
          ASSERT_EQ(span.status, "ok") << "span " << number << " of " << ended;
          ASSERT_EQ(span.output, OutputOf(id));
        } else {
          ASSERT_EQ(span.status, "interrupted");
          ++interrupted;
        }
      }
    }
    ASSERT_EQ(found.size(), expected) << "spans nobody has recorded";
  }

  void RunCycles(int cycles, int recoverer_kill_percent) {
    for (int cycle = 0; cycle < cycles; ++cycle) {
      ASSERT_NO_FATAL_FAILURE(RunAndKill(cycle));
      for (int i = 0; i < 5 && static_cast<int>(random() % 100) < recoverer_kill_percent; ++i) {
        ASSERT_NO_FATAL_FAILURE(KillARecoverer());
      }
      // Closed before the next fork: this process must not hold the store then.
      auto store = Store::Open(path);
      ASSERT_TRUE(store.ok()) << store.status().message();
      const auto report = RecoverRings(**store, path + "/rings");
      ASSERT_TRUE(report.ok()) << report.status().message();
      ASSERT_EQ(report->damaged_rings, 0u);
      rescued += report->spans;
      for (const auto& entry : std::filesystem::directory_iterator(path + "/rings")) {
        ADD_FAILURE() << entry.path() << " is left";
      }
      std::map<SpanId, Found> found;
      ASSERT_NO_FATAL_FAILURE(ReadBack(**store, cycle, found));
      ASSERT_NO_FATAL_FAILURE(Compare(cycle, found)) << "cycle " << cycle;
      while (*(*store)->MergeOnce()) {
      }
    }
    std::printf("%d kills, %d recoverers killed, %llu spans, %llu rescued from rings, %llu interrupted\n", cycles,
                recoverers_killed, static_cast<unsigned long long>(spans), static_cast<unsigned long long>(rescued),
                static_cast<unsigned long long>(interrupted));
    // Otherwise the test has not tested what it says.
    EXPECT_GE(interrupted, static_cast<std::uint64_t>(cycles) * kThreads);
    EXPECT_GT(rescued, interrupted);
  }

  std::string path;
  Notes* notes = nullptr;
  std::mt19937_64 random{std::random_device{}()};
  int recoverers_killed = 0;
  std::uint64_t spans = 0, rescued = 0, interrupted = 0;
};

TEST_F(KillTest, KilledApplicationLosesNothingAndRepeatsNothing) {
  ASSERT_TRUE(Store::Open(path).ok());
  RunCycles(200, 0);
}

TEST_F(KillTest, NeitherDoesAKilledRecoverer) {
  ASSERT_TRUE(Store::Open(path).ok());
  RunCycles(100, 30);
  EXPECT_GT(recoverers_killed, 0);
}

}  // namespace
}  // namespace spanbox
