// Who lives and who is dead is told by the lock that the mapping of a ring holds, and by nothing else: a living ring is
// never recovered, a dead one always is.
#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <sys/prctl.h>

#include <fstream>

#include "crash_testing.h"

namespace spanbox {
namespace {

constexpr int kProbes = 1'500;  // of each living ring

class LivenessTest : public CrashTest {
 protected:
  void SetUp() override {
    CrashTest::SetUp();
    ASSERT_EQ(pipe2(said, O_CLOEXEC), 0);
    ASSERT_EQ(pipe2(held, O_CLOEXEC), 0);
  }
  void TearDown() override {
    for (const int fd : {said[0], said[1], held[0], held[1]}) close(fd);
    CrashTest::TearDown();
  }

  // In the owner: a ring with one span that has ended. It stays in the ring, for there is no exporter.
  void MakeRing() {
    auto opened = Recorder::Open(
        []() -> Result<std::shared_ptr<SpanExporter>> { return Unavailable("the span is to stay in the ring"); },
        ring_dir(), {});
    if (!opened.ok()) _exit(90);
    recorder = *std::move(opened);
    SpanRow row;
    row.trace_id.bytes[0] = 1;
    row.span_id = 7;
    row.name = "work";
    row.start_ns = 1;
    if (!recorder->Start(row) || !recorder->End(7, SpanStatus::kOk, 1, {})) _exit(91);
  }
  void Say() const {
    if (write(said[1], "x", 1) != 1) _exit(92);
  }
  void Hear() const {
    char byte;
    ASSERT_EQ(read(said[0], &byte, 1), 1) << "the owner is gone";
  }

  // An owner that makes its ring, does `then`, says so, and waits to be killed.
  template <typename Then>
  pid_t ForkOwner(Then then) {
    const pid_t owner = Fork([&] {
      MakeRing();
      then();
      Say();
      while (true) pause();
    });
    return owner;
  }
  static void Kill(pid_t owner) {
    kill(owner, SIGKILL);
    WaitFor(owner);
  }

  RecoveryReport Recover() {
    auto store = Store::Open(path);
    EXPECT_TRUE(store.ok());
    auto report = RecoverRings(**store, ring_dir());
    EXPECT_TRUE(report.ok());
    return report.ok() ? *report : RecoveryReport{};
  }
  void ExpectAlive() {
    for (int probe = 0; probe < kProbes; ++probe) {
      const RecoveryReport report = Recover();
      ASSERT_EQ(report.rings + report.spans + report.damaged_rings, 0u) << "probe " << probe;
    }
  }
  void ExpectDead() {
    const RecoveryReport report = Recover();
    EXPECT_EQ(report.rings, 1u);
    EXPECT_EQ(report.spans, 1u);
    EXPECT_TRUE(std::filesystem::is_empty(ring_dir()));
  }
  template <typename Then>
  void ExpectAliveUntilKilled(Then then) {
    const pid_t owner = ForkOwner(then);
    ASSERT_NO_FATAL_FAILURE(Hear());
    ASSERT_NO_FATAL_FAILURE(ExpectAlive());
    Kill(owner);
    ExpectDead();
  }
  // In the owner: makes something that holds what it inherits until the test lets go or ends.
  void HoldOn() const {
    char byte;
    close(held[1]);
    [[maybe_unused]] const ssize_t n = read(held[0], &byte, 1);
  }
  void LetGo() {
    close(held[1]);
    held[1] = -1;
  }

  int said[2], held[2];  // owner to test; test to those who outlive the owner
  std::unique_ptr<Recorder> recorder;
};

TEST_F(LivenessTest, OwnerThatDoesNothing) {
  ExpectAliveUntilKilled([] {});
}

TEST_F(LivenessTest, OwnerThatClosesEveryDescriptorItHas) {
  ExpectAliveUntilKilled([&] {
    for (int fd = 3; fd < 1024; ++fd) {
      if (fd != said[1]) close(fd);
    }
  });
}

TEST_F(LivenessTest, OwnerThatOpensAndClosesItsRingFile) {
  // With locks of the other kind (fcntl), this would be the end of the lock.
  ExpectAliveUntilKilled([&] {
    for (const auto& entry : std::filesystem::directory_iterator(ring_dir())) {
      std::ifstream(entry.path()).get();
    }
  });
}

TEST_F(LivenessTest, OwnerThatIsStopped) {
  const pid_t owner = ForkOwner([] {});
  ASSERT_NO_FATAL_FAILURE(Hear());
  kill(owner, SIGSTOP);
  int status = 0;
  waitpid(owner, &status, WUNTRACED);
  ASSERT_TRUE(WIFSTOPPED(status));
  ASSERT_NO_FATAL_FAILURE(ExpectAlive());
  Kill(owner);
  ExpectDead();
}

TEST_F(LivenessTest, DeadOwnerWhoseForkedChildLives) {
  const pid_t owner = ForkOwner([&] {
    if (fork() == 0) {
      HoldOn();
      _exit(0);
    }
  });
  ASSERT_NO_FATAL_FAILURE(Hear());
  ASSERT_NO_FATAL_FAILURE(ExpectAlive());
  Kill(owner);
  ExpectDead();
  LetGo();
}

TEST_F(LivenessTest, DeadOwnerWhoseSpawnedProgramLives) {
  const pid_t owner = ForkOwner([&] {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, held[0], STDIN_FILENO);
    const char* const arguments[] = {"cat", nullptr};  // lives until the test lets go
    pid_t program;
    if (posix_spawnp(&program, "cat", &actions, nullptr, const_cast<char* const*>(arguments), environ) != 0) _exit(93);
  });
  ASSERT_NO_FATAL_FAILURE(Hear());
  ASSERT_NO_FATAL_FAILURE(ExpectAlive());
  Kill(owner);
  ExpectDead();
  LetGo();
}

TEST_F(LivenessTest, OwnerThatHasBecomeAnotherProgramIsDead) {
  const pid_t owner = ForkOwner([&] {
    // The program that replaces it says so itself, and lives.
    dup2(said[1], STDOUT_FILENO);
    dup2(held[0], STDIN_FILENO);
    execlp("sh", "sh", "-c", "echo; exec cat", nullptr);
    _exit(94);
  });
  ASSERT_NO_FATAL_FAILURE(Hear());
  ASSERT_EQ(kill(owner, 0), 0);
  ExpectDead();
  Kill(owner);
}

// An owner that is process 1 of a namespace of its own, as in a container.
TEST_F(LivenessTest, OwnerInAnotherPidNamespace) {
  const pid_t outer = Fork([&] {
    // As root a namespace is to be had; others first need one of users.
    if (unshare(CLONE_NEWPID) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0) _exit(77);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const pid_t owner = fork();
    if (owner < 0) _exit(77);
    if (owner == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);  // dies with the process that the test can kill
      if (getpid() != 1) _exit(95);
      close(held[1]);  // or nobody could tell that the test has let go
      MakeRing();
      Say();
      while (true) pause();
    }
    close(said[1]);
    close(held[1]);
    HoldOn();
    kill(owner, SIGKILL);
    _exit(WIFSIGNALED(WaitFor(owner)) ? 0 : 96);
  });
  close(said[1]);
  said[1] = -1;
  char byte;
  if (read(said[0], &byte, 1) != 1) {
    const int status = WaitFor(outer);
    ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 77) << status;
    GTEST_SKIP() << "this machine gives no process a pid namespace of its own";
  }
  ASSERT_NO_FATAL_FAILURE(ExpectAlive());
  LetGo();
  ASSERT_EQ(WaitFor(outer), 0);
  ExpectDead();
}

}  // namespace
}  // namespace spanbox
