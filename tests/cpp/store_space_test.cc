// What data.mdb takes of the disk follows what the store holds, and what anybody can still see is never given away.
#include <lmdb.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <fstream>
#include <numeric>

#include "store_test_util.h"

namespace spanbox::testing {
namespace {

constexpr std::uint64_t kLiveBytes = 8 << 20;

std::uint64_t LiveBytes(Store& store) {
  const StoreInfo info = Must(store.Info());
  return info.column_bytes + info.text_bytes + info.filter_bytes;
}

class SpaceTest : public ::testing::Test {
 protected:
  SpaceTest() : store_(Must(Store::Open(dir_ / "s"))) {}

  // A span that compresses badly.
  void Append(std::size_t bytes) {
    std::string text(bytes, '\0');
    for (char& c : text) c = static_cast<char>(' ' + random_() % 90);
    ++spans_;
    Row row(Trace(spans_), 1);
    row.Start(static_cast<std::int64_t>(spans_)).Set(Column::kInput, Value::String(text));
    ASSERT_OK(store_->Append(std::span(&row.row(), 1)));
  }
  void AppendMany(int count, std::size_t bytes) {
    for (int i = 0; i < count; ++i) ASSERT_NO_FATAL_FAILURE(Append(bytes));
  }
  void RemoveAnySegment() {
    const auto pause = Must(store_->Pause());
    std::uint64_t segment = 0;
    {
      const auto view = Must(store_->Read());
      if (view->segments().empty()) return;
      segment = view->segments()[random_() % view->segments().size()].id;
    }
    const std::uint32_t first = 0;
    ASSERT_OK(store_->RemoveRows(segment, std::span(&first, 1)));
  }
  // All segments whose spans began before that; as they are appended each is a segment of its own.
  void EraseBefore(std::uint64_t until) {
    const auto pause = Must(store_->Pause());
    std::vector<SegmentMeta> old;
    {
      const auto view = Must(store_->Read());
      for (const SegmentMeta& meta : view->segments()) {
        if (meta.max_start_ns < static_cast<std::int64_t>(until)) old.push_back(meta);
      }
    }
    for (const SegmentMeta& meta : old) {
      std::vector<std::uint32_t> rows(meta.rows);
      std::iota(rows.begin(), rows.end(), 0);
      ASSERT_OK(store_->RemoveRows(meta.id, rows));
    }
    ASSERT_OK(store_->ReleaseFreeSpace());
  }
  std::uint64_t DiskBytes() { return Must(store_->Info()).disk_bytes; }

  TempDir dir_;
  std::shared_ptr<Store> store_;
  std::mt19937_64 random_{1};
  std::uint64_t spans_ = 0;
};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::uint64_t kTurnovers = 4;  // the code is what sanitizers look at, not the size the file comes to
#else
constexpr std::uint64_t kTurnovers = 20;
#endif

class ChurnTest : public SpaceTest, public ::testing::WithParamInterface<std::pair<std::size_t, std::size_t>> {};

// Many times its content comes and goes: by age, and anywhere.
TEST_P(ChurnTest, DiskFollowsWhatIsLiveAndCompactionLeavesLittleBeside) {
  const auto [least, most] = GetParam();
  ASSERT_OK(store_->SetRetention({.max_bytes = kLiveBytes}));
  std::uint64_t stored = 0;
  std::chrono::nanoseconds worst{};
  const auto timed = [&](auto&& commit) {
    const auto begin = std::chrono::steady_clock::now();
    commit();
    worst = std::max<std::chrono::nanoseconds>(worst, std::chrono::steady_clock::now() - begin);
  };
  for (std::uint64_t turnover = 1; turnover <= kTurnovers; ++turnover) {
    while (stored < turnover * kLiveBytes) {
      const std::size_t bytes = least + random_() % (most - least);
      stored += bytes;
      timed([&] { Append(bytes); });
      if (random_() % 8 == 0) timed([&] { RemoveAnySegment(); });
      if (random_() % 8 == 0) timed([&] { EXPECT_TRUE(store_->DropExpired(0).ok()); });
    }
    ASSERT_OK(store_->DropExpired(0).status());
    const std::uint64_t live = LiveBytes(*store_);
    ASSERT_GT(live, kLiveBytes / 2);
    ASSERT_LE(DiskBytes(), live * 3 / 2) << "after " << turnover << " turnovers";
  }
  ASSERT_OK(store_->Compact());
  EXPECT_LE(DiskBytes(), LiveBytes(*store_) * 11 / 10);
  EXPECT_EQ(Must(store_->Verify()).problems, std::vector<std::string>{});
  std::printf("worst commit %.1f ms\n", static_cast<double>(worst.count()) / 1e6);
}

INSTANTIATE_TEST_SUITE_P(Mixes, ChurnTest,
                         ::testing::Values(std::pair(64'000, 80'000), std::pair(900'000, 1'000'000),
                                           std::pair(64'000, 1'000'000)));

TEST_F(SpaceTest, ErasedSpansGiveTheirPlaceBack) {
  AppendMany(40, 200'000);
  const std::uint64_t before = DiskBytes();
  EraseBefore(36);
  EXPECT_LT(DiskBytes(), before / 4);
  EXPECT_EQ(Must(store_->Info()).file_bytes, std::filesystem::file_size(dir_ / "s/data.mdb"));
  EXPECT_GE(Must(store_->Info()).file_bytes, before - 4096 * 16) << "the file keeps its length";
  AppendMany(40, 200'000);
  EXPECT_EQ(Must(store_->Verify()).problems, std::vector<std::string>{});
  EXPECT_EQ(CountRows(*store_), 45u);
}

TEST_F(SpaceTest, WhatAnOldReaderOfAnotherProcessSeesStays) {
  AppendMany(20, 200'000);
  const auto expected = AllRows(*store_);
  int said[2], held[2];
  ASSERT_EQ(pipe(said), 0);
  ASSERT_EQ(pipe(held), 0);
  const pid_t reader = fork();
  if (reader == 0) {
    alarm(60);
    const auto store = Store::Open(dir_ / "s");
    const auto view = (*store)->Read();
    char what = view.ok() ? 'x' : 'r';
    if (write(said[1], &what, 1) != 1 || read(held[0], &what, 1) != 1) _exit(2);
    std::vector<std::string> seen;
    for (const SegmentMeta& meta : (*view)->segments()) {
      const auto segment = (*view)->Load(meta);
      const auto rows = segment.ok() ? RowsAsText(*segment) : segment.status();
      if (!rows.ok()) _exit(3);
      seen.insert(seen.end(), rows->begin(), rows->end());
    }
    std::ranges::sort(seen);
    _exit(seen == expected ? 0 : 4);
  }
  char what = 0;
  ASSERT_EQ(read(said[0], &what, 1), 1);
  ASSERT_EQ(what, 'x');
  const std::uint64_t before = DiskBytes();
  EraseBefore(21);
  EXPECT_GE(DiskBytes() + (1 << 20), before) << "nothing can be given back while somebody sees it";
  ASSERT_EQ(write(held[1], "x", 1), 1);
  int status = 0;
  waitpid(reader, &status, 0);
  EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0);
  ASSERT_OK(store_->ReleaseFreeSpace());
  EXPECT_LT(DiskBytes(), before / 4);
  for (const int fd : {said[0], said[1], held[0], held[1]}) close(fd);
}

// A power loss may take the last commit back, never the one before it: what that one sees must be there, too.
TEST_F(SpaceTest, StateBeforeTheLastCommitStaysWhole) {
  for (int round = 0; round < 8; ++round) {
    AppendMany(10, 100'000);
    if (round % 2 == 1) ASSERT_OK(store_->Compact());
    EraseBefore(spans_ - 3);
    std::filesystem::remove_all(dir_ / "copy");
    std::filesystem::create_directory(dir_ / "copy");
    std::filesystem::permissions(dir_ / "copy", std::filesystem::perms::owner_all);
    std::filesystem::copy(dir_ / "s/data.mdb", dir_ / "copy/data.mdb");
    // The two meta pages hold the number of their transaction at this offset; the newer one is made the older.
    constexpr std::streamoff kPage = 4096, kNumberAt = 16 + 24 + 2 * 48 + 8;
    std::uint64_t numbers[2];
    std::fstream file(dir_ / "copy/data.mdb", std::ios::in | std::ios::out | std::ios::binary);
    for (int i = 0; i < 2; ++i) {
      file.seekg(i * kPage + kNumberAt);
      file.read(reinterpret_cast<char*>(&numbers[i]), sizeof numbers[i]);
    }
    ASSERT_EQ(std::max(numbers[0], numbers[1]) - std::min(numbers[0], numbers[1]), 1u);
    const int newer = numbers[1] > numbers[0] ? 1 : 0;
    const std::uint64_t earlier = numbers[newer] - 2;
    file.seekp(newer * kPage + kNumberAt);
    file.write(reinterpret_cast<const char*>(&earlier), sizeof earlier);
    file.close();
    const auto copy = Must(Store::Open(dir_ / "copy"));
    EXPECT_EQ(Must(copy->Verify()).problems, std::vector<std::string>{});
    EXPECT_EQ(AllRows(*copy), AllRows(*store_)) << "the last commits were about free pages alone";
  }
}

}  // namespace
}  // namespace spanbox::testing
