// What must not be half done, or inherited, when some thread forks.
//
// A ring is alive as long as any copy of its open file exists. So a descriptor of a ring is closed in a forked child at
// once, and a fork waits for the few instructions between mapping a ring and telling the kernel not to copy the
// mapping.
//
// Thread rule: any thread. Ownership: RingFd owns its descriptor; a ForkListener must outlive its registration.
#pragma once

#include <mutex>
#include <string>
#include <utility>

namespace spanbox {

// While it lives no thread of this process forks. Keep it short; take no other lock while holding it.
class HoldFork {
 public:
  HoldFork();

 private:
  std::unique_lock<std::mutex> lock_;
};

// A descriptor that no forked child keeps.
class RingFd {
 public:
  RingFd() = default;
  // As open(2), always with O_CLOEXEC and O_NOFOLLOW; get() is -1 and errno is set when it fails.
  RingFd(const std::string& path, int flags, unsigned mode = 0);
  ~RingFd() { Close(); }
  RingFd(RingFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  RingFd& operator=(RingFd&& other) noexcept;

  int get() const { return fd_; }
  void Close();

 private:
  int fd_ = -1;
};

class ForkListener {
 public:
  // Runs in a forked child, in its only thread, before fork() returns.
  virtual void InChild() noexcept = 0;

 protected:
  ~ForkListener() = default;
};
void AddForkListener(ForkListener* listener);
void RemoveForkListener(ForkListener* listener);

}  // namespace spanbox
