// Processes that append, merge, compact, erase and read one store, some of them killed and some stopped in the middle:
// afterwards one order of commits must explain what every one of them was told and saw.
//
// The parent moves by what the children have done, not by a clock; the clock only says whether there is time for
// another round. A failing seed can be run again, though not the same interleaving:
//   SPANBOX_HISTORY_SEED=n SPANBOX_HISTORY_ROUNDS=m core_tests --gtest_filter='HistoryTest.*'
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <thread>
#include <utility>

#include "history.h"
#include "spanbox/query.h"
#include "store_test_util.h"

namespace spanbox::testing {
namespace {

constexpr std::size_t kMaxBatches = 4096, kMaxReads = 4096;
constexpr int kWriters = 4, kReaders = 2;  // processes; a writer has two threads; and one keeper
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::uint64_t kSteps = 80;  // of a round
#else
constexpr std::uint64_t kSteps = 400;
#endif

// In memory that the processes share: what they noted before they were killed stays.
struct Note {
  std::atomic<std::uint64_t> begin, end;
};
struct BatchNote {
  Note append, erase;
  std::atomic<std::uint32_t> rows;
};
struct ReadNote {
  Note when;
  std::atomic<std::uint64_t> saw[kMaxBatches / 64];
};
struct Notes {
  std::atomic<std::uint64_t> clock{1};
  std::atomic<std::size_t> batches, reads;
  std::atomic<std::size_t> wanted;  // writers pause when there are so many batches
  std::atomic<bool> stop;
  std::atomic<std::uint64_t> merges, compactions, erased;
  BatchNote batch[kMaxBatches];
  ReadNote read[kMaxReads];

  std::uint64_t Tick() { return clock.fetch_add(1); }
};

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "process %d: %s\n", getpid(), what.c_str());
  _exit(1);
}
void MustBeOk(const Status& status, const char* what) {
  if (!status.ok()) Fail(std::string(what) + ": " + status.message());
}

StoreOptions SmallStore() {
  StoreOptions options;
  options.map_bytes = 256 * 1024;  // grows again and again, in whichever process needs it
  options.target_segment_rows = 3000;
  options.merge_fan_in = 4;
  return options;
}

// One thread of one process.
class Actor {
 public:
  Actor(Notes& notes, const std::string& path, int pipe, std::uint64_t seed)
      : notes_(notes), pipe_(pipe), random_(seed), store_(Open(path)) {}

  void Write() {
    while (!notes_.stop) {
      if (notes_.batches >= notes_.wanted) {
        Pause();
        continue;
      }
      Append();
      if (Below(6) == 0) Merge();
      Said('w');
    }
  }
  void Read() {
    for (std::uint64_t seen = 0; !notes_.stop;) {
      if (notes_.clock == seen) {
        Pause();
        continue;
      }
      Below(3) == 0 ? ReadAggregated() : ReadSegments();
      seen = notes_.clock;
      Said('r');
    }
  }
  void Keep() {
    while (!notes_.stop) {
      Below(4) == 0 ? Compact() : Merge();
      Erase() ? Said('k') : Pause();
    }
  }

  void ReadSegments() {
    ReadNote* const note = BeginRead();
    if (note == nullptr) return;
    std::map<std::uint64_t, std::uint64_t> rows;
    std::map<std::uint64_t, std::uint64_t> ids;  // their sum: each of 1 to n once
    auto view = store_->Read();
    MustBeOk(view.status(), "read");
    for (const SegmentMeta& meta : (*view)->segments()) {
      const auto segment = (*view)->Load(meta);
      MustBeOk(segment.status(), "load");
      const auto traces = segment->ReadTraceIds(*segment->Find("trace_id", ColumnType::kTraceId));
      const auto spans = segment->ReadSpanIds(*segment->Find("span_id", ColumnType::kSpanId));
      MustBeOk(traces.status(), "traces");
      MustBeOk(spans.status(), "spans");
      for (std::uint32_t r = 0; r < meta.rows; ++r) {
        std::uint64_t b = 0;
        for (int i = 8; i < 16; ++i) b = b << 8 | traces->values[r].bytes[static_cast<std::size_t>(i)];
        ++rows[b - 1];
        ids[b - 1] += spans->values[r];
      }
    }
    view->reset();
    EndRead(*note, rows);
    for (const auto& [b, sum] : ids) {
      if (sum != rows[b] * (rows[b] + 1) / 2) Fail("batch " + std::to_string(b) + " was seen with a row twice");
    }
  }

 private:
  static std::shared_ptr<Store> Open(const std::string& path) {
    auto store = Store::Open(path, SmallStore());
    MustBeOk(store.status(), "open");
    return *store;
  }
  // Until there is something to do: short, and it leaves the processor to others.
  static void Pause() { usleep(200); }
  std::uint64_t Below(std::uint64_t n) { return random_() % n; }
  void Said(char what) {
    if (write(pipe_, &what, 1) != 1) _exit(2);
  }

  void Append() {
    const std::size_t b = notes_.batches.fetch_add(1);
    if (b >= kMaxBatches) return;
    const auto count = static_cast<std::uint32_t>(1 + Below(Below(8) == 0 ? 200 : 20));
    std::deque<Row> rows;
    std::string text(Below(Below(16) == 0 ? 200'000 : 500), '\0');
    for (char& c : text) c = static_cast<char>(' ' + Below(90));
    for (std::uint32_t i = 1; i <= count; ++i) {
      rows.emplace_back(Trace(b + 1), i).Set("batch", Value::Int(static_cast<std::int64_t>(b)));
      rows.back().Set(Column::kInput, Value::String(text));
    }
    notes_.batch[b].rows = count;
    notes_.batch[b].append.begin = notes_.Tick();
    // Unavailable: nothing has changed, and the message says to try again. It comes when the map has to grow while
    // another thread waits for seconds behind a process that is stopped.
    Status status = store_->Append(Borrow(rows));
    for (int again = 0; again < 5 && status.code() == StatusCode::kUnavailable; ++again) {
      status = store_->Append(Borrow(rows));
    }
    MustBeOk(status, "append");
    notes_.batch[b].append.end = notes_.Tick();
  }

  void Merge() {
    const auto merged = store_->MergeOnce();
    MustBeOk(merged.status(), "merge");
    notes_.merges += *merged;
  }

  void Compact() {
    MustBeOk(store_->Compact(), "compact");
    ++notes_.compactions;
  }

  // One or a few batches that are acknowledged; false: there are none.
  bool Erase() {
    const std::size_t known = std::min<std::size_t>(notes_.batches, kMaxBatches);
    std::vector<std::size_t> chosen;
    for (std::uint64_t n = 1 + Below(3); n > 0 && known > 0; --n) {
      const std::size_t b = Below(known);
      if (notes_.batch[b].append.end != 0 && notes_.batch[b].erase.begin == 0) chosen.push_back(b);
    }
    if (chosen.empty()) return false;
    SpanQuery query;
    for (const std::size_t b : chosen) {
      query.filter += (query.filter.empty() ? "batch in [" : ", ") + std::to_string(b);
      notes_.batch[b].erase.begin = notes_.Tick();
    }
    query.filter += "]";
    const auto erased = spanbox::Erase(*store_, query, /*secure=*/false);
    MustBeOk(erased.status(), "erase");
    for (const std::size_t b : chosen) notes_.batch[b].erase.end = notes_.Tick();
    notes_.erased += chosen.size();
    return true;
  }

  ReadNote* BeginRead() {
    const std::size_t r = notes_.reads.fetch_add(1);
    if (r >= kMaxReads) return nullptr;
    notes_.read[r].when.begin = notes_.Tick();
    return &notes_.read[r];
  }

  // Counts of rows by batch: whole batches, each row once. A reader that is killed before the last line has read
  // nothing.
  void EndRead(ReadNote& note, const std::map<std::uint64_t, std::uint64_t>& rows) {
    const std::uint64_t end = notes_.Tick();
    for (const auto& [b, count] : rows) {
      if (b >= kMaxBatches) Fail("a batch nobody has written: " + std::to_string(b));
      if (count != notes_.batch[b].rows) {
        Fail("batch " + std::to_string(b) + " of " + std::to_string(notes_.batch[b].rows) + " rows was seen with " +
             std::to_string(count));
      }
      note.saw[b / 64] |= std::uint64_t{1} << b % 64;
    }
    note.when.end = end;
  }

  // A query that looks at the store anew before each segment still answers for the moment it was put.
  void ReadAggregated() {
    ReadNote* const note = BeginRead();
    if (note == nullptr) return;
    SpanQuery query;
    query.max_view_ns = 0;
    const Aggregate count{"rows", "count()"};
    const auto table = Aggregated(*store_, query, {.by = {"batch"}}, std::span(&count, 1));
    MustBeOk(table.status(), "aggregate");
    std::map<std::uint64_t, std::uint64_t> rows;
    for (std::uint64_t r = 0; r < table->rows; ++r) {
      rows[static_cast<std::uint64_t>(table->columns[0].ints[r])] =
          static_cast<std::uint64_t>(table->columns[1].ints[r]);
    }
    EndRead(*note, rows);
  }

  Notes& notes_;
  const int pipe_;
  std::mt19937_64 random_;
  const std::shared_ptr<Store> store_;
};

// A store, its processes, and their end.
class Round {
 public:
  explicit Round(std::uint64_t seed) : random_(seed) {
    void* const shared =
        mmap(nullptr, sizeof(Notes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (shared == MAP_FAILED || pipe(pipe_) != 0) std::abort();
    notes_ = new (shared) Notes;
    for (int i = 0; i < kWriters; ++i) processes_.push_back({Role::kWriter});
    for (int i = 0; i < kReaders; ++i) processes_.push_back({Role::kReader});
    processes_.push_back({Role::kKeeper});
  }
  ~Round() {
    munmap(notes_, sizeof(Notes));
    for (const int fd : pipe_) {
      if (fd >= 0) close(fd);
    }
  }
  Round(const Round&) = delete;
  Round& operator=(const Round&) = delete;

  // All processes, until so many steps are done and there was one of everything; then one process that sees what is
  // there in the end.
  void Run(std::uint64_t steps) {
    for (Process& process : processes_) Start(process);
    for (std::uint64_t done = 0; done < steps && !::testing::Test::HasFailure();) {
      const std::uint64_t next = 1 + random_() % (4u << random_() % 6);
      // A little more, so that the writers are at work when one of them is stopped or killed.
      notes_->wanted = notes_->batches + next + 64;
      if (!Await(next)) break;
      done += next;
      Process& process = processes_[random_() % processes_.size()];
      process.role == Role::kWriter&& random_() % 4 == 0 ? StopAWhile(process) : KillAndRestart(process);
    }
    while (!HadEverything() && AllAlive()) usleep(1000);
    notes_->stop = true;
    close(std::exchange(pipe_[1], -1));
    while (Await(1)) {
    }
    for (Process& process : processes_) ExpectGoodEnd(process.pid);
    const pid_t last = fork();
    if (last == 0) {
      Actor(*notes_, dir_ / "s", -1, 0).ReadSegments();
      _exit(0);
    }
    ExpectGoodEnd(last);
    EXPECT_EQ(Must(Must(Store::Open(dir_ / "s", SmallStore()))->Verify()).problems, std::vector<std::string>{});
  }

  History TakeHistory() const {
    History history;
    const auto span = [](const Note& note) { return History::Span{note.begin, note.end}; };
    const std::size_t batches = std::min<std::size_t>(notes_->batches, kMaxBatches);
    for (std::size_t b = 0; b < batches; ++b) {
      history.batches.push_back({span(notes_->batch[b].append), span(notes_->batch[b].erase)});
    }
    for (std::size_t r = 0; r < std::min<std::size_t>(notes_->reads, kMaxReads); ++r) {
      if (notes_->read[r].when.end == 0) continue;
      History::Read& read = history.reads.emplace_back();
      read.when = span(notes_->read[r].when);
      for (std::size_t b = 0; b < batches; ++b) read.saw.push_back(notes_->read[r].saw[b / 64] >> b % 64 & 1);
    }
    return history;
  }

  const Notes& notes() const { return *notes_; }

 private:
  enum class Role { kWriter, kReader, kKeeper };
  struct Process {
    Role role;
    pid_t pid = 0;
  };

  void Start(Process& process) {
    const std::uint64_t seed = random_();
    process.pid = fork();
    if (process.pid != 0) return;
    const rlimit none{0, 0};
    setrlimit(RLIMIT_CORE, &none);
    alarm(300);  // hanging must fail the test, not hang it
    Act(process.role, seed);
    _exit(0);
  }

  void Act(Role role, std::uint64_t seed) {
    const auto act = [&](std::uint64_t thread) {
      Actor actor(*notes_, dir_ / "s", pipe_[1], seed + thread);
      if (role == Role::kWriter) actor.Write();
      if (role == Role::kReader) actor.Read();
      if (role == Role::kKeeper) actor.Keep();
    };
    std::thread second;
    if (role == Role::kWriter) second = std::thread(act, 1);
    act(0);
    if (second.joinable()) second.join();
  }

  bool HadEverything() const {
    return notes_->merges + notes_->compactions > 0 && notes_->erased > 0 && notes_->reads > 0;
  }

  // Waits until the children have done so many steps, reads not counted; false: they have ended, or one has that
  // should not.
  bool Await(std::uint64_t steps) {
    pollfd out{pipe_[0], POLLIN, 0};
    for (char what = 0; steps > 0; steps -= what != 'r') {
      while (!notes_->stop && poll(&out, 1, 1000) == 0) {
        if (!AllAlive()) return false;
      }
      if (read(pipe_[0], &what, 1) != 1) return false;
    }
    return true;
  }

  void ExpectAlive(const Process& process) {
    int status = 0;
    EXPECT_EQ(waitpid(process.pid, &status, WNOHANG), 0) << "a process has ended by itself: " << status;
  }

  bool AllAlive() {
    for (const Process& process : processes_) ExpectAlive(process);
    return !::testing::Test::HasFailure();
  }

  void KillAndRestart(Process& process) {
    ExpectAlive(process);
    kill(process.pid, SIGKILL);
    waitpid(process.pid, nullptr, 0);
    Start(process);
  }

  // Stops it anywhere, perhaps in the middle of a commit, for a few reads of others: or for a moment, because it may
  // hold what they need just now.
  void StopAWhile(Process& process) {
    kill(process.pid, SIGSTOP);
    notes_->Tick();  // readers look for something new
    int reads = 0, steps = 0;
    for (pollfd out{pipe_[0], POLLIN, 0}; reads < 3 && steps < 100 && poll(&out, 1, 300) == 1; ++steps) {
      char what = 0;
      if (read(pipe_[0], &what, 1) != 1) break;
      reads += what == 'r';
      notes_->Tick();
    }
    kill(process.pid, SIGCONT);
  }

  static void ExpectGoodEnd(pid_t pid) {
    int status = 0;
    waitpid(pid, &status, 0);
    EXPECT_EQ(status, 0);
  }

  TempDir dir_;
  std::mt19937_64 random_;
  Notes* notes_ = nullptr;
  int pipe_[2] = {};
  std::vector<Process> processes_;
};

std::uint64_t FromEnvironment(const char* name, std::uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

TEST(HistoryTest, OneOrderOfCommitsExplainsWhatEveryProcessSaw) {
  const std::uint64_t first = FromEnvironment("SPANBOX_HISTORY_SEED", 1);
  const std::uint64_t rounds = FromEnvironment("SPANBOX_HISTORY_ROUNDS", 0);
  const auto enough = std::chrono::steady_clock::now() + std::chrono::seconds(8);
  std::uint64_t seed = first, batches = 0, reads = 0, merges = 0, compactions = 0, erased = 0;
  do {
    Round round(seed);
    round.Run(kSteps);
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
    const History history = round.TakeHistory();
    ASSERT_EQ(HistoryChecker(history).Problems(), std::vector<std::string>{}) << "seed " << seed;
    batches += history.batches.size();
    reads += history.reads.size();
    merges += round.notes().merges;
    compactions += round.notes().compactions;
    erased += round.notes().erased;
    ++seed;
  } while (rounds == 0 ? std::chrono::steady_clock::now() < enough : seed < first + rounds);
  std::printf("%ju rounds: %ju batches, %ju reads, %ju merges, %ju compactions, %ju batches erased\n",
              std::uintmax_t{seed - first}, std::uintmax_t{batches}, std::uintmax_t{reads}, std::uintmax_t{merges},
              std::uintmax_t{compactions}, std::uintmax_t{erased});
}

// The checker itself, with a history that breaks one rule each.
class HistoryCheckerTest : public ::testing::Test {
 protected:
  void ExpectProblem(const std::string& words) {
    const auto problems = HistoryChecker(history_).Problems();
    ASSERT_FALSE(problems.empty());
    EXPECT_NE(problems[0].find(words), std::string::npos) << problems[0];
  }
  History history_{
      .batches = {{.append = {1, 2}}, {.append = {3, 6}}, {.append = {9, 0}}, {.append = {3, 4}, .erase = {20, 30}}},
      .reads = {{{4, 5}, {true, true, false, true}},
                {{10, 12}, {true, true, true, true}},
                {{22, 23}, {true, true, true, false}},
                {{40, 41}, {true, true, true, false}}}};
};

TEST_F(HistoryCheckerTest, AcceptsARightHistory) {
  EXPECT_EQ(HistoryChecker(history_).Problems(), std::vector<std::string>{});
}
TEST_F(HistoryCheckerTest, FindsWhatIsMissing) {
  history_.reads[1].saw[0] = false;
  ExpectProblem("acknowledged, and missing");
}
TEST_F(HistoryCheckerTest, FindsWhatNobodyHasWritten) {
  history_.reads[0].saw[2] = true;
  ExpectProblem("seen before it was written");
}
TEST_F(HistoryCheckerTest, FindsAReadThatGoesBackwards) {
  history_.reads[3].saw[2] = false;
  ExpectProblem("seen before, and missing");
}
TEST_F(HistoryCheckerTest, FindsWhatIsErasedAndStillThere) {
  history_.reads[3].saw[3] = true;
  ExpectProblem("seen after it was erased");
}
TEST_F(HistoryCheckerTest, FindsWhatComesBack) {
  history_.batches[3].erase.end = 0;
  history_.reads[3].saw[3] = true;
  ExpectProblem("gone before, and back");
}
TEST_F(HistoryCheckerTest, FindsAGapInTheOrder) {
  history_.batches[1].append = {3, 4};
  history_.batches[2].append = {5, 0};
  history_.reads = {{{3, 7}, {true, false, true, true}}};
  ExpectProblem("missing, while one written after it is there");
}
TEST_F(HistoryCheckerTest, FindsTwoOrders) {
  history_.batches = {{.append = {1, 50}}, {.append = {2, 51}}};
  history_.reads = {{{10, 20}, {true, false}}, {{11, 21}, {false, true}}};
  ExpectProblem("two orders");
}

}  // namespace
}  // namespace spanbox::testing
