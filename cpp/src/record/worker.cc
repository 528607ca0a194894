#include "record/worker.h"

#include <cxxabi.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <system_error>

#include "base/clock.h"

namespace spanbox {

Bell::Bell() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

Bell::~Bell() {
  if (fd_ >= 0) close(fd_);
}

void Bell::Ring() noexcept {
  // The flag only saves system calls. Sequentially consistent: who finds it set knows that the thread has yet to look.
  if (rung_.exchange(true)) return;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = write(fd_, &one, sizeof one);
}

bool Bell::Wait(std::int64_t timeout_ns) noexcept {
  // A limit, for the int that poll takes.
  const std::int64_t timeout_ms = std::min<std::int64_t>((timeout_ns + 999'999) / 1'000'000, 60'000);
  pollfd waited{fd_, POLLIN, 0};
  poll(&waited, 1, static_cast<int>(timeout_ms));
  std::uint64_t count;
  const bool woken = read(fd_, &count, sizeof count) > 0;
  rung_.exchange(false);
  return woken;
}

std::shared_ptr<Worker> Worker::Start(const char* name, Bell& bell, Job job, std::function<void()> on_end) {
  std::shared_ptr<Worker> worker(new Worker(bell));
  // The program's signal handlers belong on the program's threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    worker->thread_ = std::thread([worker, name, job = std::move(job), on_end = std::move(on_end)] {
      struct Ending {
        Worker& worker;
        const std::function<void()>& on_end;
        ~Ending() {
          {
            const std::scoped_lock lock(worker.mutex_);
            worker.in_turn_.store(false, std::memory_order_relaxed);
            worker.ended_.store(true, std::memory_order_release);
          }
          worker.end_.notify_all();
          on_end();
        }
      } const ending{*worker, on_end};
      worker->Run(name, job);
    });
  } catch (const std::system_error&) {
    worker = nullptr;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return worker;
}

void Worker::Run(const char* name, const Job& job) {
  pthread_setname_np(pthread_self(), name);
  int ignored;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &ignored);
  try {
    std::int64_t wait_ns = 0;
    while (!stopping_.load(std::memory_order_relaxed)) {
      const bool woken = bell_.Wait(wait_ns);
      if (stopping_.load(std::memory_order_relaxed)) return;
      in_turn_.store(true, std::memory_order_relaxed);
      wait_ns = job(*this, woken);
      in_turn_.store(false, std::memory_order_relaxed);
    }
  } catch (...) {
    // It ends; whoever watches starts another. When the job has called pthread_exit, that goes on.
    if (abi::__cxa_current_exception_type() == nullptr) throw;
  }
}

void Worker::Stop() noexcept {
  stopping_.store(true, std::memory_order_relaxed);
  bell_.Ring();
}

bool Worker::Join(std::int64_t deadline_ns) noexcept {
  {
    std::unique_lock lock(mutex_);
    constexpr std::int64_t kLongNs = 3'600'000'000'000;
    const auto left = std::chrono::nanoseconds(std::clamp<std::int64_t>(deadline_ns - MonotonicNowNs(), 0, kLongNs));
    const auto limit = std::chrono::steady_clock::now() + left;
    if (!end_.wait_until(lock, limit, [this] { return ended(); })) return false;
  }
  if (thread_.joinable()) thread_.join();
  return true;
}

Worker::~Worker() {
  // Left behind, or the last to hold itself.
  if (thread_.joinable()) thread_.detach();
}

}  // namespace spanbox
