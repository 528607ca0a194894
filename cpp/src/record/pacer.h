// Slows writers down before the rings are full, so that they come to write as fast as the collector takes, instead of
// finding no room at once.
//
// From half full on, every record owes time:
//
//   bytes * kHorizonNs * (1 / room - 1 / half)
//
// where `room` is what is left of `half`. So what is left is used up more and more slowly, however long a commit takes:
// writers that pay it leave room / e after kHorizonNs. At half it is nothing, and where it is something the collector
// has half of the rings to take: it never waits for writers that wait for it. The debt is the process's: of several
// writers each waits for what all have written.
//
// Thread rule: any thread. Units: nanoseconds, bytes.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace spanbox {

class Pacer {
 public:
  // Adds what a record owes, and says for how long its writer should wait now for the debt to be over: at most
  // `max_wait_ns`. What is beyond that is forgotten. REQUIRES: room < half.
  std::int64_t Charge(std::uint64_t bytes, std::uint64_t room, std::uint64_t half, std::int64_t now_ns,
                      std::int64_t max_wait_ns) noexcept {
    const double share = 1 / static_cast<double>(room + 1) - 1 / static_cast<double>(half + 1);
    const double cost_ns = static_cast<double>(bytes) * share * kHorizonNs;
    const std::int64_t cost =
        cost_ns < static_cast<double>(max_wait_ns) ? static_cast<std::int64_t>(cost_ns) : max_wait_ns;
    // Relaxed: it orders nothing.
    std::int64_t paid = paid_ns_.load(std::memory_order_relaxed), owed = 0;
    do {
      owed = std::min(std::max<std::int64_t>(paid - now_ns, 0) + cost, max_wait_ns);
    } while (!paid_ns_.compare_exchange_weak(paid, now_ns + owed, std::memory_order_relaxed));
    return owed;
  }

 private:
  static constexpr double kHorizonNs = 500'000'000;  // some commits of a slow disk

  std::atomic<std::int64_t> paid_ns_{0};  // when the debt is over
};

}  // namespace spanbox
