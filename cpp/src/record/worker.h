// A thread that takes turns at one job: it is woken, watched, and left behind when it hangs.
//
// Thread rule: any thread. Ownership: the thread shares the Worker, and whatever its job holds, so that one that hangs
// keeps what it uses and nothing has to wait for it.
// Invariants:
//   1. No signal is delivered to the thread, and it cannot be cancelled. It ends when it is told to, when its job
//   throws,
//      or when its job ends the thread; ended() tells in every case.
// Units: nanoseconds.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace spanbox {

// Wakes one thread. Ring is async-signal-safe.
class Bell {
 public:
  Bell();
  ~Bell();
  Bell(const Bell&) = delete;
  Bell& operator=(const Bell&) = delete;

  void Ring() noexcept;
  bool Wait(std::int64_t timeout_ns) noexcept;  // true: somebody rang

 private:
  int fd_;
  std::atomic<bool> rung_{false};
};

class Worker {
 public:
  // One turn; `woken`: the bell was rung. Returns how long to wait for the bell before the next turn.
  using Job = std::function<std::int64_t(Worker& self, bool woken)>;

  // nullptr when no thread can be had. `job` is destroyed when the thread ends; `bell` must live as long as it.
  // `on_end` runs last.
  static std::shared_ptr<Worker> Start(const char* name, Bell& bell, Job job, std::function<void()> on_end);
  ~Worker();

  void Stop() noexcept;  // no turn begins after the present one
  bool ended() const { return ended_.load(std::memory_order_acquire); }
  bool in_turn() const { return in_turn_.load(std::memory_order_relaxed); }

  // Waits for the end. False: not by then; the thread is left to itself.
  bool Join(std::int64_t deadline_ns) noexcept;

 private:
  explicit Worker(Bell& bell) : bell_(bell) {}
  void Run(const char* name, const Job& job);

  Bell& bell_;
  std::atomic<bool> stopping_{false}, ended_{false}, in_turn_{false};
  std::mutex mutex_;
  std::condition_variable end_;
  std::thread thread_;
};

}  // namespace spanbox
