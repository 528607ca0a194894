#include "record/fork_guard.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <vector>

namespace spanbox {
namespace {

struct Shared {
  std::mutex mutex;
  std::vector<int> fds;
  std::vector<ForkListener*> listeners;
};

Shared& TheShared() {
  // Never destroyed: threads may fork while the process exits.
  static Shared* const shared = new Shared;
  return *shared;
}

void BeforeFork() { TheShared().mutex.lock(); }
void AfterForkInParent() { TheShared().mutex.unlock(); }
void AfterForkInChild() {
  Shared& shared = TheShared();
  for (const int fd : shared.fds) close(fd);
  shared.fds.clear();
  for (ForkListener* listener : shared.listeners) listener->InChild();
  shared.mutex.unlock();
}

Shared& Guarded() {
  static const int registered = pthread_atfork(BeforeFork, AfterForkInParent, AfterForkInChild);
  (void)registered;
  return TheShared();
}

}  // namespace

HoldFork::HoldFork() : lock_(Guarded().mutex) {}

RingFd::RingFd(const std::string& path, int flags, unsigned mode) {
  Shared& shared = Guarded();
  const std::scoped_lock lock(shared.mutex);
  shared.fds.reserve(shared.fds.size() + 1);
  fd_ = open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, mode);
  if (fd_ >= 0) shared.fds.push_back(fd_);
}

RingFd& RingFd::operator=(RingFd&& other) noexcept {
  Close();
  fd_ = std::exchange(other.fd_, -1);
  return *this;
}

void RingFd::Close() {
  if (fd_ < 0) return;
  Shared& shared = Guarded();
  const std::scoped_lock lock(shared.mutex);
  // A child has closed and forgotten what it inherited, and the number may be somebody else's by now.
  if (std::erase(shared.fds, fd_) > 0) close(fd_);
  fd_ = -1;
}

void AddForkListener(ForkListener* listener) {
  Shared& shared = Guarded();
  const std::scoped_lock lock(shared.mutex);
  shared.listeners.push_back(listener);
}

void RemoveForkListener(ForkListener* listener) {
  Shared& shared = Guarded();
  const std::scoped_lock lock(shared.mutex);
  std::erase(shared.listeners, listener);
}

}  // namespace spanbox
