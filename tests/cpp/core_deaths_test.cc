// A program may die in many ways; what was acknowledged is stored once after each of them.
#include <fcntl.h>

#include <exception>
#include <new>
#include <stdexcept>

#include "crash_testing.h"

namespace spanbox {
namespace {

constexpr int kLives = 10;  // of each death

// By signal, or by exiting with a code.
bool DiedOf(int status, int signal) { return WIFSIGNALED(status) && WTERMSIG(status) == signal; }
bool Exited(int status) { return WIFEXITED(status) && WEXITSTATUS(status) == 0; }

class DeathsTest : public CrashTest {
 protected:
  // The first thread calls `die` between two spans, while the others record.
  template <typename Expected>
  void Die(const std::function<void()>& die, Expected as_expected) {
    for (int number = 0; number < kLives; ++number) {
      oracle->Reset();
      Life life = RandomLife(number, random);
      life.die_at = 1 + random() % 400;
      life.die = die;
      const pid_t program = Fork([&] {
        const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(null, STDERR_FILENO);  // what terminate() has to say is no news
        RunProgram(life);
      });
      const int status = WaitFor(program);
      ASSERT_TRUE(as_expected(status)) << "the program ended with status " << status;
      ASSERT_NO_FATAL_FAILURE(RecoverAndJudge(life)) << "life " << number;
      ASSERT_FALSE(HasFailure());
    }
    JudgeWholeStore();
    EXPECT_GE(spans, static_cast<std::uint64_t>(kLives));
  }
  void DieOf(int signal) {
    // Whatever handler a test runner or a sanitizer has set is not part of the program.
    Die(
        [signal] {
          ::signal(signal, SIG_DFL);
          raise(signal);
        },
        [signal](int status) { return DiedOf(status, signal); });
  }

  std::mt19937_64 random{std::random_device{}()};
};

TEST_F(DeathsTest, Terminated) { DieOf(SIGTERM); }
TEST_F(DeathsTest, Interrupted) { DieOf(SIGINT); }
TEST_F(DeathsTest, HungUp) { DieOf(SIGHUP); }
TEST_F(DeathsTest, SegmentationFault) { DieOf(SIGSEGV); }
TEST_F(DeathsTest, BusError) { DieOf(SIGBUS); }
TEST_F(DeathsTest, Aborted) {
  Die([] { std::abort(); }, [](int status) { return DiedOf(status, SIGABRT); });
}
TEST_F(DeathsTest, ExitedWithoutCleaningUp) {
  Die([] { _exit(0); }, Exited);
}
TEST_F(DeathsTest, ExitedWhileOtherThreadsRecord) {
  // The recorder is not destroyed, as in a program that keeps it in a static pointer.
  Die([] { std::quick_exit(0); }, Exited);
}
TEST_F(DeathsTest, ReplacedByAnotherProgram) {
  Die([] { execl("/bin/sh", "sh", "-c", "exit 0", nullptr); }, Exited);
}
TEST_F(DeathsTest, UncaughtException) {
  Die([]() -> void { throw std::runtime_error("nobody catches this"); },
      [](int status) { return DiedOf(status, SIGABRT); });
}
TEST_F(DeathsTest, OutOfMemory) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers need more address space than any limit to be reached";
#endif
  Die(
      [] {
        const rlimit limit{256 << 20, 256 << 20};
        setrlimit(RLIMIT_AS, &limit);
        std::vector<char*> hoard;
        while (true) hoard.push_back(new char[1 << 20]);
      },
      [](int status) { return DiedOf(status, SIGABRT); });
}

}  // namespace
}  // namespace spanbox
