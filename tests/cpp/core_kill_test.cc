// The promise: when End has returned, the span survives SIGKILL, and is stored exactly once. Recorder and store
// together.
//
// A program records in 2 to 8 threads until it is killed, 0.5 to 15 ms after it began. Sometimes other processes
// recover rings while it lives, and sometimes the processes that recover its ring are killed as well, up to five in a
// row. SPANBOX_KILLS in the environment tells how many times (default 300); `make soak` makes 10,000.
// SPANBOX_SEED repeats the choices of an earlier run (not the schedule of the machine).
#include <cstdio>
#include <cstdlib>

#include "crash_testing.h"

namespace spanbox {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kDefaultKills = 30;
#else
constexpr int kDefaultKills = 300;
#endif
constexpr int kKillsPerStore = 100;
constexpr int kKillsPerLine = 250;

std::uint64_t FromEnvironment(const char* name, std::uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

class KillTest : public CrashTest {
 protected:
  bool Chance(unsigned percent) { return random() % 100 < percent; }

  // Up to `us` microseconds, spread evenly.
  void Sleep(std::uint64_t from_us, std::uint64_t to_us) {
    std::this_thread::sleep_for(std::chrono::microseconds(from_us + random() % (to_us - from_us + 1)));
  }

  // A process that recovers what it finds, again and again until it may stop.
  pid_t ForkRecoverer() {
    return Fork([this] {
      auto store = Store::Open(path);
      if (!store.ok()) _exit(1);
      WatchedStore watched(*store, *oracle);
      do {
        if (!RecoverRings(watched, ring_dir()).ok()) _exit(2);
      } while (!oracle->recovery_may_end);
      _exit(0);
    });
  }

  void Kill(pid_t recoverer) {
    kill(recoverer, SIGKILL);
    const int status = WaitFor(recoverer);
    recoverers_killed += WIFSIGNALED(status);
    ASSERT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) == 0) << "a recoverer failed: " << WEXITSTATUS(status);
  }

  void LiveAndDie(const Life& life) {
    oracle->Reset();
    const pid_t program = Fork([&] { RunProgram(life); });
    const pid_t bystander = Chance(50) ? ForkRecoverer() : 0;
    int status = 0;
    while (oracle->threads[0].calls == 0) {
      ASSERT_EQ(waitpid(program, &status, WNOHANG), 0) << "the program ended by itself: " << status;
      std::this_thread::yield();
    }
    Sleep(500, 15'000);
    kill(program, SIGKILL);
    status = WaitFor(program);
    if (bystander != 0) {
      const bool killed = Chance(50);
      if (!killed) oracle->recovery_may_end = true;
      if (killed) ASSERT_NO_FATAL_FAILURE(Kill(bystander));
      if (!killed) ASSERT_EQ(WaitFor(bystander), 0) << "a recoverer failed";
    }
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << "the program ended by itself: " << status;
  }

  void KillRecoverers() {
    oracle->recovery_may_end = true;
    for (std::uint64_t left = 1 + random() % 5; left > 0; --left) {
      const pid_t recoverer = ForkRecoverer();
      Sleep(0, 8'000);
      ASSERT_NO_FATAL_FAILURE(Kill(recoverer));
    }
  }

  // So many, and more until each thing that may happen has happened; the machine decides how soon that is.
  void RunLives(int kills, bool tell_progress) {
    const auto began = std::chrono::steady_clock::now();
    const auto missing = [&] {
      return interrupted == 0 || rescued <= interrupted || drops == 0 || recoverers_killed == 0;
    };
    for (int life = 0; life < kills || (missing() && life < 10 * kills); ++life) {
      SCOPED_TRACE("kill " + std::to_string(life + 1) + ", seed " + std::to_string(seed));
      const Life plan = RandomLife(life, random);
      ASSERT_NO_FATAL_FAILURE(LiveAndDie(plan));
      if (Chance(30)) ASSERT_NO_FATAL_FAILURE(KillRecoverers());
      ASSERT_NO_FATAL_FAILURE(RecoverAndJudge(plan));
      ASSERT_FALSE(HasFailure());
      if ((life + 1) % kKillsPerStore == 0) {
        ASSERT_NO_FATAL_FAILURE(JudgeWholeStore());
        NewStore();
      }
      if (tell_progress && (life + 1) % kKillsPerLine == 0) {
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
        std::printf("%6d of %d kills, %.0f s, %llu spans, nothing lost\n", life + 1, kills, took.count(),
                    static_cast<unsigned long long>(spans));
        std::fflush(stdout);
      }
    }
  }

  void PrintTable(int kills) const {
    std::printf(
        "| program killed | recoverer killed | spans | rescued by the last recoverer | interrupted | dropped |\n");
    std::printf("| --- | --- | --- | --- | --- | --- |\n| %d | %d | %llu | %llu | %llu | %llu |\n", kills,
                recoverers_killed, static_cast<unsigned long long>(spans), static_cast<unsigned long long>(rescued),
                static_cast<unsigned long long>(interrupted), static_cast<unsigned long long>(drops));
  }

  const std::uint64_t seed = FromEnvironment("SPANBOX_SEED", std::random_device{}());
  std::mt19937_64 random{seed};
  int recoverers_killed = 0;
};

TEST_F(KillTest, WhatWasAcknowledgedIsStoredOnceWhoeverIsKilled) {
  const auto kills = static_cast<int>(FromEnvironment("SPANBOX_KILLS", kDefaultKills));
  ASSERT_NO_FATAL_FAILURE(RunLives(kills, std::getenv("SPANBOX_KILLS") != nullptr));
  PrintTable(kills);
  // Otherwise the test has not tested what it says.
  EXPECT_GT(interrupted, 0u);
  EXPECT_GT(rescued, interrupted);
  EXPECT_GT(drops, 0u);
  EXPECT_GT(recoverers_killed, 0);
}

}  // namespace
}  // namespace spanbox
