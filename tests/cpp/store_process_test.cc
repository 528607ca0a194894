// Several processes and one store: sharing, forking, growing the map, dying in the middle of a commit.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>

#include "store_test_util.h"

namespace spanbox::testing {
namespace {

// Runs `work` in a forked child that ends without destructors; its result is the exit code.
pid_t Spawn(const std::function<int()>& work) {
  const pid_t pid = fork();
  if (pid == 0) _exit(work());
  return pid;
}

int Wait(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// For children, which cannot report to gtest: prints what went wrong. True when nothing did.
bool Said(const Status& status) {
  if (!status.ok()) std::fprintf(stderr, "child: %s\n", status.message().c_str());
  return status.ok();
}

// `batch` rows of which each says how many it was committed with.
void MakeBatch(std::deque<Row>& rows, std::uint64_t process, std::uint64_t batch, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    rows.emplace_back(Trace(process << 32 | batch), i + 1)
        .Set("of", Value::Int(static_cast<std::int64_t>(count)))
        .Set(Column::kInput, Value::String("process " + std::to_string(process) + " batch " + std::to_string(batch)));
  }
}

Status AppendBatch(Store& store, std::uint64_t process, std::uint64_t batch, std::size_t count) {
  std::deque<Row> rows;
  MakeBatch(rows, process, batch, count);
  return store.Append(Borrow(rows));
}

TEST(StoreProcessTest, SameFolderByAnyPathIsTheSameHandle) {
  TempDir dir;
  const auto a = Must(Store::Open(dir / "s"));
  std::filesystem::create_directory(dir / "other");
  const auto b = Must(Store::Open(dir / "other/../s/"));
  EXPECT_EQ(a, b);
  const std::weak_ptr<Store> gone = a;
  EXPECT_EQ(gone.use_count(), 2);
}

TEST(StoreProcessTest, ClosedStoreOpensAgainWithItsRows) {
  TempDir dir;
  for (std::uint64_t i = 1; i <= 5; ++i) {
    const auto store = Must(Store::Open(dir / "s"));
    ASSERT_OK(AppendBatch(*store, 1, i, 3));
    EXPECT_EQ(CountRows(*store), 3 * i);
  }
}

TEST(StoreProcessTest, TwoProcessesWriteWhileAThirdReads) {
  TempDir dir;
  constexpr std::uint64_t kBatches = 40;
  constexpr std::size_t kRows = 20;
  std::vector<pid_t> writers;
  for (std::uint64_t p = 1; p <= 2; ++p) {
    writers.push_back(Spawn([&] {
      StoreOptions options;
      options.map_bytes = 256 * 1024;  // grows several times, in one process or the other
      const auto store = Store::Open(dir / "s", options);
      if (!Said(store.status())) return 1;
      for (std::uint64_t b = 0; b < kBatches; ++b) {
        if (!Said(AppendBatch(**store, p, b, kRows))) return 2;
        if (b % 8 == 7 && !Said((*store)->MergeOnce().status())) return 3;
      }
      return 0;
    }));
  }
  StoreOptions small;
  small.map_bytes = 256 * 1024;
  const auto store = Must(Store::Open(dir / "s", small));
  std::uint64_t seen = 0;
  while (seen < 2 * kBatches * kRows) {
    const std::uint64_t now = CountRows(*store);
    ASSERT_GE(now, seen);
    ASSERT_EQ(now % kRows, 0u);
    seen = now;
    for (pid_t& pid : writers) {
      int status = 0;
      if (pid > 0 && waitpid(pid, &status, WNOHANG) == pid) {
        pid = 0;
        ASSERT_TRUE(WIFEXITED(status));
        ASSERT_EQ(WEXITSTATUS(status), 0);
      }
    }
  }
  for (pid_t pid : writers) {
    if (pid > 0) EXPECT_EQ(Wait(pid), 0);
  }
  EXPECT_EQ(Must(store->Verify()).problems, std::vector<std::string>{});
}

TEST(StoreProcessTest, MapGrowsFromItsSmallestUnderRowsOfAllSizes) {
  TempDir dir;
  StoreOptions options;
  options.map_bytes = 64 * 1024;
  const auto store = Must(Store::Open(dir / "s", options));
  std::mt19937_64 random(1);
  std::string noise(3 << 20, '\0');
  for (char& c : noise) c = static_cast<char>(random());
  for (std::uint64_t i = 0; i < 12; ++i) {
    Row row(Trace(i), i + 1);
    row.Set(Column::kInput, Value::String(noise.substr(0, (i % 4) << 20)));
    ASSERT_OK(store->Append(std::vector<SpanRow>{row.row()}));
    ASSERT_EQ(CountRows(*store), i + 1);
  }
}

TEST(StoreProcessTest, GrowthBehindAHeldViewIsRefusedInTimeAndWorksAfterwards) {
  TempDir dir;
  StoreOptions options;
  options.map_bytes = 256 * 1024;
  const auto store = Must(Store::Open(dir / "s", options));
  std::mt19937_64 random(1);
  std::string noise(4 << 20, '\0');
  for (char& c : noise) c = static_cast<char>(random());
  Row row;
  row.Set(Column::kInput, Value::String(noise));
  auto view = Must(store->Read());
  const Status refused = store->Append(std::vector<SpanRow>{row.row()});
  EXPECT_EQ(refused.code(), StatusCode::kUnavailable);
  EXPECT_NE(refused.message().find("query"), std::string::npos) << refused.message();
  EXPECT_TRUE(view->segments().empty());
  view.reset();
  ASSERT_OK(store->Append(std::vector<SpanRow>{row.row()}));
}

// A query that looked at the store anew while another process had made it grow waited five seconds for itself.
TEST(StoreProcessTest, WhoHoldsAViewOfAStoreThatAnotherProcessGrewIsToldAtOnce) {
  TempDir dir;
  StoreOptions small;
  small.map_bytes = 256 * 1024;
  const auto store = Must(Store::Open(dir / "s", small));
  auto view = Must(store->Read());
  ASSERT_EQ(Wait(Spawn([&] {
              const auto other = Store::Open(dir / "s", small);
              std::mt19937_64 random(1);
              std::string noise(4 << 20, '\0');
              for (char& c : noise) c = static_cast<char>(random());
              Row row;
              row.Set(Column::kInput, Value::String(noise));
              return Said((*other)->Append(std::vector<SpanRow>{row.row()})) ? 0 : 1;
            })),
            0);
  const auto before = std::chrono::steady_clock::now();
  EXPECT_EQ(store->ReadAgain().status().code(), StatusCode::kUnavailable);
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(4));
  view.reset();
  EXPECT_EQ(Must(store->ReadAgain())->segments().size(), 1u);
}

TEST(StoreProcessTest, ForkedChildUsesAnEnvironmentOfItsOwn) {
  TempDir dir;
  const auto store = Must(Store::Open(dir / "s"));
  ASSERT_OK(AppendBatch(*store, 0, 0, 1));
  const auto view = Must(store->Read());  // its reader slot is the parent's; the child must not free it
  const pid_t child = Spawn([&] {
    if (CountRows(*store) != 1) return 1;
    if (!Said(AppendBatch(*store, 1, 0, 10))) return 2;
    const auto again = Store::Open(dir / "s");
    if (!again.ok() || *again != store) return 3;
    if (CountRows(*store) != 11) return 4;
    return Wait(Spawn([&] { return CountRows(*store) == 11 ? 0 : 5; }));
  });
  EXPECT_EQ(Wait(child), 0);
  EXPECT_EQ(Must(view->Load(view->segments()[0])).rows(), 1u);
  EXPECT_EQ(CountRows(*store), 11u);
}

TEST(StoreProcessTest, ChildrenForkedWhileThreadsCommitNeitherHangNorHarm) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "this sanitizer leaves its allocator locked in a child forked while a thread allocates";
#endif
  TempDir dir;
  const auto store = Must(Store::Open(dir / "s"));
  std::atomic<bool> stop = false;
  std::atomic<std::uint64_t> commits = 0;
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      for (std::uint64_t i = 0; !stop; ++i) {
        const Status status = AppendBatch(*store, t, i, 5);
        EXPECT_TRUE(status.ok()) << status.message();
        ++commits;
      }
    });
  }
  for (std::uint64_t i = 0; i < 20; ++i) {
    const pid_t child = Spawn([&] {
      alarm(30);
      return Said(AppendBatch(*store, 100, i, 5)) ? 0 : 1;
    });
    ASSERT_EQ(Wait(child), 0) << "child " << i;
  }
  stop = true;
  for (auto& t : threads) t.join();
  EXPECT_EQ(CountRows(*store), 5 * (commits + 20));
}

TEST(StoreProcessTest, KilledWriterLeavesWholeBatchesOnly) {
  TempDir dir;
  std::mt19937_64 random(4);
  std::uint64_t acknowledged_before = 0;
  for (std::uint64_t round = 1; round <= 15; ++round) {
    int pipe_fds[2];
    ASSERT_EQ(pipe(pipe_fds), 0);
    const pid_t child = Spawn([&] {
      const auto store = Store::Open(dir / "s");
      if (!Said(store.status())) return 1;
      for (std::uint64_t b = 0;; ++b) {
        if (!Said(AppendBatch(**store, round, b, 1 + b % 30))) return 2;
        const std::uint64_t rows = 1 + b % 30;
        if (write(pipe_fds[1], &rows, sizeof rows) != sizeof rows) return 3;
        if (b % 5 == 4 && !Said((*store)->MergeOnce().status())) return 4;
      }
    });
    close(pipe_fds[1]);
    // The kill comes after a random number of acknowledged commits: no clock, and always in the middle of something.
    std::uint64_t acknowledged = 0, rows = 0;
    for (std::uint64_t n = 1 + random() % 40; n > 0 && read(pipe_fds[0], &rows, sizeof rows) == sizeof rows; --n) {
      acknowledged += rows;
    }
    kill(child, SIGKILL);
    EXPECT_EQ(Wait(child), 128 + SIGKILL);
    while (read(pipe_fds[0], &rows, sizeof rows) == sizeof rows) acknowledged += rows;
    close(pipe_fds[0]);

    const auto store = Must(Store::Open(dir / "s"));
    const std::uint64_t stored = CountRows(*store);
    EXPECT_GE(stored, acknowledged_before + acknowledged) << "an acknowledged batch is lost";
    acknowledged_before = stored;
    std::map<TraceId, std::pair<std::int64_t, std::int64_t>> batches;  // rows here, rows it was committed with
    const auto view = Must(store->Read());
    for (const SegmentMeta& meta : view->segments()) {
      const Segment segment = Must(view->Load(meta));
      const auto traces = Must(segment.ReadTraceIds(*segment.Find("trace_id", ColumnType::kTraceId)));
      const auto of = Must(segment.ReadInts(*segment.Find("of", ColumnType::kInt)));
      for (std::uint32_t r = 0; r < meta.rows; ++r) {
        auto& [here, whole] = batches[traces.values[r]];
        ++here;
        whole = of.values[r];
      }
    }
    for (const auto& [trace, counts] : batches) ASSERT_EQ(counts.first, counts.second) << ToHex(trace);
    ASSERT_EQ(Must(store->Verify()).problems, std::vector<std::string>{});
  }
}

}  // namespace
}  // namespace spanbox::testing
