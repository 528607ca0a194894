// Fresh ids, the two clocks, and the hash.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <set>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/hash.h"
#include "base/ids.h"

namespace spanbox {
namespace {

TEST(IdsTest, SpanIdsOfSeveralThreadsDiffer) {
  constexpr int kThreads = 4, kIds = 20'000;
  std::vector<std::vector<SpanId>> made(kThreads);
  std::vector<std::thread> threads;
  for (auto& ids : made) {
    threads.emplace_back([&ids] {
      for (int i = 0; i < kIds; ++i) ids.push_back(NewSpanId());
    });
  }
  for (auto& thread : threads) thread.join();
  std::set<SpanId> all;
  for (const auto& ids : made) all.insert(ids.begin(), ids.end());
  EXPECT_EQ(all.size(), std::size_t{kThreads * kIds});
  EXPECT_FALSE(all.contains(0));
}

TEST(IdsTest, TraceIdsSortByTime) {
  const TraceId early = NewTraceId(1'700'000'000'000'000'000);
  const TraceId late = NewTraceId(1'700'000'000'001'000'000);
  EXPECT_LT(early, late);
  EXPECT_EQ(ToHex(early).substr(0, 12), "018bcfe56800");
  EXPECT_NE(NewTraceId(0), NewTraceId(0));
}

TEST(IdsTest, ForkedChildDoesNotRepeatItsParentsIds) {
  (void)NewSpanId();  // seeds this thread's generator before the fork
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const SpanId id = NewSpanId();
    _exit(write(pipe_fds[1], &id, sizeof id) == sizeof id ? 0 : 1);
  }
  SpanId theirs = 0;
  ASSERT_EQ(read(pipe_fds[0], &theirs, sizeof theirs), static_cast<ssize_t>(sizeof theirs));
  waitpid(child, nullptr, 0);
  close(pipe_fds[0]);
  close(pipe_fds[1]);
  EXPECT_NE(theirs, NewSpanId());
}

TEST(ClockTest, WallTimeOfNowIsNow) {
  CalibrateClocks();
  const std::int64_t before = WallNowNs();
  const std::int64_t derived = WallFromMonotonic(MonotonicNowNs());
  const std::int64_t after = WallNowNs();
  constexpr std::int64_t kSlackNs = 5'000'000;
  EXPECT_GE(derived, before - kSlackNs);
  EXPECT_LE(derived, after + kSlackNs);
}

// Also once it is read from the processor's counter: two calibrations, 20 ms apart, are what that takes.
TEST(ClockTest, MonotonicTimeIsTheSystems) {
  const auto system_ns = [] {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
  };
  constexpr std::int64_t kSlackNs = 10'000;
  for (int turn = 0; turn < 4; ++turn) {
    CalibrateClocks();
    for (const std::int64_t until = system_ns() + 25'000'000; system_ns() < until;) {
      const std::int64_t before = system_ns();
      const std::int64_t now = MonotonicNowNs();
      const std::int64_t after = system_ns();
      ASSERT_GE(now, before - kSlackNs) << turn;
      ASSERT_LE(now, after + kSlackNs) << turn;
    }
  }
}

// The function is persisted in every store: its values may never change.
TEST(HashTest, IsXxh3WithSeed) {
  EXPECT_EQ(Hash64({}), 0x2D06800538D394C2u);
  const std::string_view text = "spanbox";
  const auto bytes = std::as_bytes(std::span(text));
  EXPECT_NE(Hash64(bytes, 1), Hash64(bytes, 2));
  EXPECT_EQ(Hash64(bytes, 1), Hash64(bytes, 1));
}

// It is in files: vectors or none, every processor must find the same. The values are those of xxhash without vectors.
TEST(HashTest, IsTheSameForEverySizeWhateverComputesIt) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += static_cast<char>(i * 7 + i / 256);
  const auto bytes = std::as_bytes(std::span(text));
  EXPECT_EQ(Hash64(bytes.first(17)), 0xF34C3C9CF5A112D1u);
  EXPECT_EQ(Hash64(bytes.first(240), 5), 0x555B99745D22B5EDu);
  EXPECT_EQ(Hash64(bytes.first(241)), 0x541B19226F0052E8u);
  EXPECT_EQ(Hash64(bytes.first(1024), 5), 0x69ABDCD01897D001u);
  EXPECT_EQ(Hash64(bytes), 0xED0146266D138BD8u);
  EXPECT_EQ(Hash64(bytes, 5), 0x73F40A0D274E2DECu);
}

}  // namespace
}  // namespace spanbox
