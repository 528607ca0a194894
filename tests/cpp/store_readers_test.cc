// Readers that are too many, killed, or namesakes in another container: recording goes on, and data.mdb stays small.
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store_test_util.h"

namespace spanbox::testing {
namespace {

constexpr std::uint64_t kMostBytes = 2 << 20;  // of segments

std::vector<std::unique_ptr<ReadView>> TakeAllViews(Store& store, Status* refused) {
  std::vector<std::unique_ptr<ReadView>> views;
  for (;;) {
    auto view = store.Read();
    *refused = view.status();
    if (!view.ok()) return views;
    views.push_back(*std::move(view));
  }
}

Status AppendOne(Store& store, std::uint64_t number, std::size_t text_bytes = 10) {
  std::string text(text_bytes, '\0');
  std::mt19937_64 random(number);
  for (char& c : text) c = static_cast<char>(' ' + random() % 90);
  Row row(Trace(number), 1);
  row.Set(Column::kInput, Value::String(text));
  return store.Append(std::vector<SpanRow>{row.row()});
}

class StoreReadersTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(pipe(said_), 0);
    ASSERT_EQ(pipe(held_), 0);
  }
  void TearDown() override {
    for (const int fd : {said_[0], said_[1], held_[0], held_[1]}) close(fd);
  }
  template <typename Work>
  pid_t Spawn(Work work) {
    const pid_t pid = fork();
    if (pid != 0) return pid;
    alarm(60);  // hanging must fail the test, not hang it
    _exit(work());
  }
  static int Wait(pid_t pid) {
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  void Say(char what = 'x') const {
    if (write(said_[1], &what, 1) != 1) _exit(90);
  }
  char Hear() const {
    char what = 0;
    return read(said_[0], &what, 1) == 1 ? what : '\0';
  }
  // Until the test is killed or lets go.
  void HoldOn() const {
    char what;
    if (read(held_[0], &what, 1) != 1) _exit(91);
  }
  void LetGo() const { ASSERT_EQ(write(held_[1], "x", 1), 1); }

  // Stores several times what the store may hold, dropping the oldest; returns the size of the file.
  std::uint64_t Churn(Store& store, std::uint64_t seed) {
    EXPECT_TRUE(store.SetRetention({.max_bytes = kMostBytes}).ok());
    std::mt19937_64 random(seed);
    std::uint64_t stored = 0;
    for (std::uint64_t n = 0; stored < 8 * kMostBytes; ++n) {
      const std::size_t bytes = 32'000 + random() % 200'000;
      EXPECT_TRUE(AppendOne(store, seed << 32 | n, bytes).ok());
      EXPECT_TRUE(store.DropExpired(0).ok());
      stored += bytes;
    }
    return Must(store.Info()).file_bytes;
  }

  TempDir dir_;
  int said_[2], held_[2];
};

TEST_F(StoreReadersTest, WhenAllSlotsAreTakenQueriesSaySoAndRecordingGoesOn) {
  const auto store = Must(Store::Open(dir_ / "s"));
  ASSERT_OK(AppendOne(*store, 1));
  Status refused;
  auto views = TakeAllViews(*store, &refused);
  EXPECT_GE(views.size(), 1'000u);
  EXPECT_EQ(refused.code(), StatusCode::kUnavailable);
  EXPECT_NE(refused.message().find("too many queries"), std::string::npos) << refused.message();
  ASSERT_OK(AppendOne(*store, 2));
  EXPECT_TRUE(store->LoadRing({}).ok());
  const std::string content(10'000, 'b');
  const BlobPiece piece{.id = BlobIdOf(std::as_bytes(std::span(content))),
                        .total_bytes = content.size(),
                        .offset = 0,
                        .bytes = std::as_bytes(std::span(content))};
  SpanBatch batch;
  batch.ring[0] = 1;
  batch.blobs = {piece};
  ASSERT_OK(store->Commit(batch));
  // Another process, which opens the store only now, records as well.
  EXPECT_EQ(Wait(Spawn([&] {
              const auto other = Store::Open(dir_ / "s");
              if (!other.ok()) return 1;
              return AppendOne(**other, 3).ok() && (*other)->LoadRing({}).ok() ? 0 : 2;
            })),
            0);
  views.clear();
  EXPECT_EQ(CountRows(*store), 3u);
}

TEST_F(StoreReadersTest, SlotsOfAKilledProcessAreFreeAgain) {
  const pid_t child = Spawn([&] {
    const auto store = Store::Open(dir_ / "s");
    if (!store.ok()) return 1;
    Status refused;
    const auto views = TakeAllViews(**store, &refused);
    Say();
    HoldOn();
    return 0;
  });
  ASSERT_EQ(Hear(), 'x');
  kill(child, SIGKILL);
  EXPECT_EQ(Wait(child), 128 + SIGKILL);
  const auto store = Must(Store::Open(dir_ / "s"));
  EXPECT_EQ(CountRows(*store), 0u);
}

// While a reader lives, no page of what it sees is used again; LMDB takes that of a dead one for alive until it is
// told.
TEST_F(StoreReadersTest, KilledReaderDoesNotMakeTheFileGrow) {
  const auto hold_a_view = [&] {
    const auto store = Store::Open(dir_ / "s");
    if (!store.ok()) return 1;
    const auto view = (*store)->Read();
    Say();
    HoldOn();
    return view.ok() ? 0 : 2;
  };
  { ASSERT_OK(AppendOne(*Must(Store::Open(dir_ / "s")), 1)); }
  pid_t reader = Spawn(hold_a_view);
  ASSERT_EQ(Hear(), 'x');
  kill(reader, SIGKILL);
  Wait(reader);
  const std::uint64_t without = Churn(*Must(Store::Open(dir_ / "another")), 1);
  EXPECT_LT(without, 5 * kMostBytes / 2);
  EXPECT_LT(Churn(*Must(Store::Open(dir_ / "s")), 1), without * 3 / 2);
  // The control: one that lives does, also when it is stopped; and what it held goes back to the disk when it ends.
  reader = Spawn(hold_a_view);
  ASSERT_EQ(Hear(), 'x');
  kill(reader, SIGSTOP);
  const auto store = Must(Store::Open(dir_ / "s"));
  EXPECT_GT(Churn(*store, 2), 3 * without);
  kill(reader, SIGCONT);
  LetGo();
  EXPECT_EQ(Wait(reader), 0);
  ASSERT_OK(store->ReleaseFreeSpace());
  EXPECT_LT(Must(store->Info()).disk_bytes, without * 3 / 2);
}

// A writer that has been at it for long looks for dead readers only now and then, and whenever the file would grow.
TEST_F(StoreReadersTest, ReaderKilledUnderAWriterIsForgottenBeforeTheFileGrows) {
  const auto store = Must(Store::Open(dir_ / "s"));
  const std::uint64_t without = Churn(*store, 1);
  for (std::uint64_t round = 2; round < 5; ++round) {
    const pid_t reader = Spawn([&] {
      const auto view = Must(Store::Open(dir_ / "s"))->Read();
      Say(view.ok() ? 'x' : 'r');
      HoldOn();
      return 0;
    });
    ASSERT_EQ(Hear(), 'x');
    kill(reader, SIGKILL);
    Wait(reader);
    ASSERT_LT(Churn(*store, round), without * 3 / 2) << "round " << round;
  }
}

// Each is process 1 of its container, and LMDB knows readers by that number.
TEST_F(StoreReadersTest, NamesakeInAnotherContainerRecordsAndItsQueriesSayWhatIsWrong) {
  { ASSERT_OK(AppendOne(*Must(Store::Open(dir_ / "s")), 1)); }
  const auto in_a_container = [&](const std::function<int()>& work) {
    return Spawn([&] {
      if (unshare(CLONE_NEWPID) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0) {
        Say('n');
        return 77;
      }
      const pid_t first = fork();
      if (first < 0) Say('n');
      if (first == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(60);
        _exit(getpid() == 1 ? work() : 92);
      }
      return first < 0 ? 77 : Wait(first);
    });
  };
  const pid_t reader = in_a_container([&] {
    const auto store = Store::Open(dir_ / "s");
    if (!store.ok()) return 1;
    const auto view = (*store)->Read();
    Say(view.ok() ? 'x' : 'r');
    HoldOn();
    return 0;
  });
  const char heard = Hear();
  if (heard == 'n') {
    Wait(reader);
    GTEST_SKIP() << "this machine gives no process a pid namespace of its own";
  }
  ASSERT_EQ(heard, 'x');
  const auto record_and_ask = [&](bool answered) {
    const auto store = Store::Open(dir_ / "s");
    if (!store.ok()) return 1;
    if (!AppendOne(**store, 2).ok() || !(*store)->LoadRing({}).ok()) return 2;
    const auto view = (*store)->Read();
    if (view.ok() != answered) return 3;
    return answered || view.status().message().find("container") != std::string::npos ? 0 : 4;
  };
  EXPECT_EQ(Wait(in_a_container([&] { return record_and_ask(false); })), 0);
  LetGo();
  EXPECT_EQ(Wait(reader), 0);
  EXPECT_EQ(Wait(in_a_container([&] { return record_and_ask(true); })), 0);
}

}  // namespace
}  // namespace spanbox::testing
