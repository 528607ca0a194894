// A program that records until it dies, notes of what it was promised, and the comparison of the notes with the store.
//
// The program notes in shared memory what it is about to do and what has returned. After its death its ring is
// recovered, the store is read back, and every span must be there exactly as the notes demand: see CrashTest::Judge.
//
// Thread rule: ThreadNotes are written by one thread of the program, and read by the test when the program is dead.
// Ownership: the shared memory is the test's; children inherit it.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <functional>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "spanbox/query.h"
#include "spanbox/recorder.h"
#include "spanbox/store.h"

namespace spanbox {

inline constexpr int kMaxThreads = 8;
inline constexpr std::uint64_t kMaxSpans = 1u << 15;        // of one thread in one life
inline constexpr std::int64_t kLifeNs = 1'000'000'000'000;  // each life's spans start in an interval of their own
inline constexpr std::uint64_t kNever = ~std::uint64_t{0};

// kStarting and kEnding: noted before the call; the others when it has returned.
enum class Outcome : std::uint8_t { kNone, kStarting, kRunning, kStartDropped, kEnding, kEnded, kEndDropped };

struct SpanNote {
  Outcome outcome = Outcome::kNone;
  std::uint8_t step = 0;  // last value of the attribute "step" that was accepted
};
static_assert(std::atomic<SpanNote>::is_always_lock_free);

struct ThreadNotes {
  std::atomic<SpanNote> spans[kMaxSpans];
  std::atomic<std::uint64_t> begun;              // spans[0] .. spans[begun - 1] have been touched
  std::atomic<std::uint64_t> calls, returns;     // of Start and End
  std::atomic<std::uint64_t> dropped;            // of those, refused
  std::atomic<std::uint64_t> progress_tried;     // values of the outer span's attribute "progress"
  std::atomic<std::uint64_t> progress_accepted;  // <= progress_tried
};

struct Oracle {
  ThreadNotes threads[kMaxThreads];
  std::atomic<bool> recovery_may_end;
  std::atomic<std::uint64_t> rings_retired;
  std::atomic<std::uint64_t> dropped_in_store;  // by the counters of the last ring that was retired

  void Reset() {
    for (ThreadNotes& thread : threads) {
      for (std::uint64_t i = 0; i < thread.begun; ++i) thread.spans[i] = SpanNote{};
      for (auto* count : {&thread.begun, &thread.calls, &thread.returns, &thread.dropped, &thread.progress_tried,
                          &thread.progress_accepted}) {
        *count = 0;
      }
    }
    recovery_may_end = false;
    rings_retired = dropped_in_store = 0;
  }
};

inline SpanId SpanIdOf(int life, int thread, std::uint64_t number) {
  return (static_cast<SpanId>(life + 1) << 40) | (static_cast<SpanId>(thread + 1) << 32) | number;
}
inline std::string InputOf(SpanId id) { return "input of " + std::to_string(id); }
inline std::string OutputOf(SpanId id) {
  // Some cross the end of a lane, and make a pad necessary.
  return "output of " + std::to_string(id) + std::string(id % 64 == 7 ? 7'000 : id % 300, '.');
}

// One life of the program.
struct Life {
  int number = 0;
  int threads = 2;
  RecorderOptions options;
  std::uint64_t die_at = kNever;  // thread 0 calls `die` after so many spans
  std::function<void()> die;
};

inline Life RandomLife(int number, std::mt19937_64& random) {
  Life life;
  life.number = number;
  life.threads = 2 + static_cast<int>(random() % (kMaxThreads - 1));
  life.options.lane_bytes = (64u << 10) << random() % 3;
  life.options.lanes = 1 + static_cast<std::uint32_t>(random() % 4);
  life.options.max_ring_bytes = (1u << 20) << random() % 3;
  life.options.commit_interval_ns = 1'000'000;
  life.options.commit_bytes = random() % 2 == 0 ? 64u << 10 : 4u << 20;
  constexpr FullRingPolicy kPolicies[] = {FullRingPolicy::kBlock, FullRingPolicy::kWait, FullRingPolicy::kDrop};
  life.options.full_ring_policy = kPolicies[random() % 3];
  return life;
}

// What one thread of the program does, for ever. Span 0 is never ended; the others are nested in it.
class Writer {
 public:
  Writer(Recorder& recorder, const Life& life, int thread, ThreadNotes& notes)
      : recorder_(recorder), life_(life), thread_(thread), notes_(notes) {}

  void Run() {
    const bool has_outer = Start(0);
    for (std::uint64_t number = 1; number < kMaxSpans; ++number) {
      RecordSpan(number);
      if (has_outer && number % 16 == 8) SetProgress(number);
      if (thread_ == 0 && number == life_.die_at) life_.die();
    }
    while (true) pause();
  }

 private:
  void RecordSpan(std::uint64_t number) {
    if (!Start(number)) return;
    std::uint8_t step = 0;
    if (number % 4 == 0) {
      for (std::uint8_t value = 1; value <= 2; ++value) {
        if (Set(number, "step", value)) step = value;
        notes_.spans[number] = SpanNote{Outcome::kRunning, step};
      }
    }
    const SpanId id = SpanIdOf(life_.number, thread_, number);
    const std::string output = OutputOf(id);
    const Field field{Column::kOutput, {}, Value::String(output)};
    const auto end = [&] { return recorder_.End(id, SpanStatus::kOk, 5, std::span(&field, 1)); };
    notes_.spans[number] = SpanNote{Outcome::kEnding, step};
    const bool ended = Call(end);
    notes_.spans[number] = SpanNote{ended ? Outcome::kEnded : Outcome::kEndDropped, step};
    if (ended && number % 16 == 3) Call(end);  // a second END changes nothing
  }

  bool Start(std::uint64_t number) {
    SpanRow row;
    row.trace_id.bytes[0] = static_cast<std::uint8_t>(thread_ + 1);
    row.trace_id.bytes[1] = static_cast<std::uint8_t>(life_.number);
    row.span_id = SpanIdOf(life_.number, thread_, number);
    row.parent_id = number == 0 ? 0 : SpanIdOf(life_.number, thread_, 0);
    row.name = "work";
    row.start_ns = life_.number * kLifeNs + static_cast<std::int64_t>(number);
    const std::string input = InputOf(row.span_id);
    const Field field{Column::kInput, {}, Value::String(input)};
    row.fields = std::span(&field, 1);
    notes_.spans[number] = SpanNote{Outcome::kStarting};
    notes_.begun = number + 1;
    const bool started = Call([&] { return recorder_.Start(row); });
    notes_.spans[number] = SpanNote{started ? Outcome::kRunning : Outcome::kStartDropped};
    return started;
  }

  void SetProgress(std::uint64_t number) {
    notes_.progress_tried = number;
    if (Set(0, "progress", static_cast<std::int64_t>(number))) notes_.progress_accepted = number;
  }

  bool Set(std::uint64_t number, std::string_view name, std::int64_t value) {
    const Field field{Column::kAttribute, name, Value::Int(value)};
    return recorder_.Fields(SpanIdOf(life_.number, thread_, number), std::span(&field, 1));
  }

  template <typename Method>
  bool Call(Method method) {
    ++notes_.calls;
    const bool accepted = method();
    if (!accepted) ++notes_.dropped;
    ++notes_.returns;
    // Refused at full speed, the notes would be full before the ring has room again.
    if (!accepted) std::this_thread::sleep_for(std::chrono::microseconds(20));
    return accepted;
  }

  Recorder& recorder_;
  const Life& life_;
  const int thread_;
  ThreadNotes& notes_;
};

// The store, and notes of what is retired through it.
class WatchedStore : public SpanExporter {
 public:
  WatchedStore(std::shared_ptr<Store> store, Oracle& oracle) : store_(std::move(store)), oracle_(oracle) {}

  Result<RingState> LoadRing(const RingId& ring) override { return store_->LoadRing(ring); }
  Status Commit(const SpanBatch& batch) override {
    if (batch.retire) {
      // Before the commit: this process may be killed right after it. Whoever repeats it finds the same counters.
      std::uint64_t dropped = 0;
      for (const LaneCursor& cursor : batch.cursors) dropped += cursor.dropped_spans;
      oracle_.dropped_in_store = dropped;
      oracle_.rings_retired = 1;
    }
    return store_->Commit(batch);
  }

 private:
  const std::shared_ptr<Store> store_;
  Oracle& oracle_;
};

class CrashTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "spanbox_crash_XXXXXX").string();
    root = mkdtemp(pattern.data());
    void* const shared =
        mmap(nullptr, sizeof(Oracle), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ASSERT_NE(shared, MAP_FAILED);
    oracle = new (shared) Oracle;
    NewStore();
  }
  void TearDown() override {
    munmap(oracle, sizeof(Oracle));
    std::filesystem::remove_all(root);
  }

  // Many lives in one store show that they do not disturb each other; too many make the store the slow part.
  void NewStore() {
    if (!path.empty()) std::filesystem::remove_all(path);
    path = root + "/store" + std::to_string(stores++);
    spans_in_store = 0;
    ASSERT_TRUE(Store::Open(path).ok());
  }
  std::string ring_dir() const { return path + "/rings"; }

  // Forks a child that runs `body`, which does not return. No store may be open in this process.
  template <typename Body>
  static pid_t Fork(Body body) {
    const pid_t child = fork();
    if (child != 0) return child;
    const rlimit none{0, 0};
    setrlimit(RLIMIT_CORE, &none);
    alarm(120);  // hanging must fail the test, not hang it
    body();
    _exit(99);
  }
  static int WaitFor(pid_t child) {
    int status = 0;
    waitpid(child, &status, 0);
    return status;
  }

  [[noreturn]] void RunProgram(const Life& life) {
    auto recorder = Recorder::Open(
        [this]() -> Result<std::shared_ptr<SpanExporter>> {
          auto store = Store::Open(path);
          if (!store.ok()) return store.status();
          return std::shared_ptr<SpanExporter>(*store);
        },
        ring_dir(), life.options);
    if (!recorder.ok()) _exit(98);
    std::vector<std::thread> threads;
    for (int t = 1; t < life.threads; ++t) {
      threads.emplace_back([&, t] { Writer(**recorder, life, t, oracle->threads[t]).Run(); });
    }
    Writer(**recorder, life, 0, oracle->threads[0]).Run();
    _exit(97);
  }

  // Recovers what the dead have left, as any process would; then every span must be as the notes say.
  void RecoverAndJudge(const Life& life) {
    auto store = Store::Open(path);
    ASSERT_TRUE(store.ok()) << store.status().message();
    WatchedStore watched(*store, *oracle);
    const auto report = RecoverRings(watched, ring_dir());
    ASSERT_TRUE(report.ok()) << report.status().message();
    ASSERT_EQ(report->damaged_rings, 0u) << "a ring is damaged";
    rescued += report->spans;
    for (const auto& entry : std::filesystem::directory_iterator(ring_dir())) {
      ADD_FAILURE() << entry.path() << " is left";
    }
    Rows rows;
    ASSERT_NO_FATAL_FAILURE(ReadBack(**store, life, rows));
    ASSERT_NO_FATAL_FAILURE(Judge(life, rows));
    spans_in_store += rows.size();
    while (*(*store)->MergeOnce()) {
    }
  }

  // Also what merging and later lives could have done to it.
  void JudgeWholeStore() {
    const auto store = Store::Open(path);
    ASSERT_TRUE(store.ok()) << store.status().message();
    const auto report = (*store)->Verify();
    ASSERT_TRUE(report.ok());
    EXPECT_EQ(report->problems, std::vector<std::string>());
    EXPECT_EQ(*Count(**store, {}), spans_in_store);
    EXPECT_EQ((*store)->Info()->open_spans, 0u);
  }

  struct Row {
    std::string status, input, output;
    std::int64_t step = 0, progress = 0;
    int times = 0;
  };
  using Rows = std::unordered_map<SpanId, Row>;

  void ReadBack(Store& store, const Life& life, Rows& rows) {
    SpanQuery query;
    query.since_ns = life.number * kLifeNs;
    query.until_ns = query.since_ns + kLifeNs;
    ScanOptions options;
    options.columns = {"span_id", "status", "input", "output", "step", "progress"};
    const auto table = Scan(store, query, options);
    ASSERT_TRUE(table.ok()) << table.status().message();
    const auto has = [](const TableColumn& column, std::uint64_t row) {
      return column.valid.empty() || column.valid[row] != 0;
    };
    const auto text = [&](std::size_t column, std::uint64_t row) -> std::string {
      const TableColumn& c = table->columns[column];
      return has(c, row) ? c.dictionary[c.codes[row]] : "";
    };
    const auto number = [&](std::size_t column, std::uint64_t row) -> std::int64_t {
      const TableColumn& c = table->columns[column];
      return has(c, row) && !c.ints.empty() ? c.ints[row] : 0;
    };
    for (std::uint64_t row = 0; row < table->rows; ++row) {
      Row& span = rows[*SpanIdFromHex(text(0, row))];
      span = {text(1, row), text(2, row), text(3, row), number(4, row), number(5, row), span.times + 1};
    }
  }

  void Judge(const Life& life, const Rows& rows) {
    std::size_t judged = 0;
    std::uint64_t dropped = 0, in_flight = 0;
    for (int t = 0; t < kMaxThreads; ++t) {
      const ThreadNotes& notes = oracle->threads[t];
      dropped += notes.dropped;
      in_flight += notes.calls != notes.returns;
      for (std::uint64_t number = 0; number < notes.begun; ++number) {
        const auto row = rows.find(SpanIdOf(life.number, t, number));
        judged += row != rows.end();
        ASSERT_NO_FATAL_FAILURE(JudgeSpan(notes, number, row == rows.end() ? nullptr : &*row))
            << "span " << number << " of " << notes.begun << " of thread " << t << " of life " << life.number;
      }
    }
    ASSERT_EQ(rows.size(), judged) << "spans nobody has recorded";
    const std::uint64_t counted = oracle->dropped_in_store;
    ASSERT_TRUE(counted >= dropped && counted <= dropped + in_flight)
        << counted << " drops counted; noted " << dropped << ", calls under way " << in_flight;
    drops += dropped;
  }

  // What has found no room as it was written was cut, and says so.
  static bool IsWholeOrCut(const std::string& stored, const std::string& written) {
    if (stored == written) return true;
    const std::size_t head = stored.find("\u2026 (xxh3 ");
    return head != std::string::npos && head < written.size() && written.starts_with(stored.substr(0, head)) &&
           stored.ends_with(", +" + std::to_string(written.size() - head) + " bytes)");
  }

  void JudgeSpan(const ThreadNotes& notes, std::uint64_t number, const Rows::value_type* row) {
    const SpanNote note = notes.spans[number];
    if (note.outcome == Outcome::kStartDropped) {
      ASSERT_EQ(row, nullptr) << "dropped, and stored";
      return;
    }
    if (note.outcome == Outcome::kStarting && row == nullptr) return;
    ASSERT_NE(row, nullptr) << "lost; the last note is " << static_cast<int>(note.outcome);
    const auto& [id, span] = *row;
    ASSERT_EQ(span.times, 1) << "stored more than once";
    ASSERT_TRUE(IsWholeOrCut(span.input, InputOf(id))) << span.input;
    const bool may_have_ended = note.outcome == Outcome::kEnded || note.outcome == Outcome::kEnding;
    const bool has_ended = note.outcome == Outcome::kEnded || (may_have_ended && span.status == "ok");
    ASSERT_EQ(span.status, has_ended ? "ok" : "interrupted") << "the last note is " << static_cast<int>(note.outcome);
    ASSERT_TRUE(IsWholeOrCut(span.output, has_ended ? OutputOf(id) : "")) << span.output;
    // Attributes in the order of writing: the last one wins. One may have been accepted and not yet noted.
    const bool maybe_one_more = note.outcome == Outcome::kRunning;
    ASSERT_TRUE(span.step == note.step || (maybe_one_more && span.step == note.step + 1)) << "step " << span.step;
    if (number == 0 && note.outcome == Outcome::kRunning) {
      const auto progress = static_cast<std::uint64_t>(span.progress);
      ASSERT_TRUE(progress == notes.progress_accepted || progress == notes.progress_tried)
          << progress << "; accepted " << notes.progress_accepted << ", tried " << notes.progress_tried;
    }
    ++spans;
    interrupted += !has_ended;
  }

  std::string root, path;
  Oracle* oracle = nullptr;
  int stores = 0;
  std::uint64_t spans_in_store = 0;
  std::uint64_t spans = 0, rescued = 0, interrupted = 0, drops = 0;
};

}  // namespace spanbox
