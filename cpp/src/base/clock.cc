#include "base/clock.h"

#include <fcntl.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <limits>
#include <string_view>

#if defined(__x86_64__)
#include <cpuid.h>
#include <x86intrin.h>
#endif

namespace spanbox {
namespace {

constexpr std::int64_t kNoOffset = std::numeric_limits<std::int64_t>::min();
std::atomic<std::int64_t> wall_offset_ns{kNoOffset};

std::int64_t Read(clockid_t clock) noexcept {
  timespec now{};
  clock_gettime(clock, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

#if defined(__x86_64__)

constexpr std::int64_t kMaxAgeNs = 2'000'000'000;
constexpr std::int64_t kMinBaselineNs = 20'000'000;  // 30 ns of jitter over it are 1.5 parts in a million

// A sequence lock: odd while it is written. 0: never written, or the counter is not fit.
struct Scale {
  std::atomic<std::uint32_t> version{0};
  std::atomic<std::uint64_t> ticks{0};        // a reading of the counter,
  std::atomic<std::int64_t> ns{0};            // the monotonic clock at that moment,
  std::atomic<std::uint64_t> ns_per_tick{0};  // times 2^32,
  std::atomic<std::uint64_t> max_ticks{0};    // and how much later it still holds
};
Scale scale;

// The kernel has found the counter to run at one rate, through sleep, alike on all processors.
bool CounterIsFit() noexcept {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(0x80000007u, &a, &b, &c, &d) == 0 || (d & 1u << 8) == 0) return false;
  const int file = open("/sys/devices/system/clocksource/clocksource0/current_clocksource", O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  char name[16] = {};
  const ssize_t n = read(file, name, sizeof name);
  close(file);
  return n > 0 && std::string_view(name, static_cast<std::size_t>(n)) == "tsc\n";
}

struct Anchor {
  std::uint64_t ticks = 0;
  std::int64_t ns = 0;
};

// Of several readings the one with the narrowest bracket is best: the others were interrupted in the middle.
Anchor ReadBoth() noexcept {
  Anchor best;
  std::uint64_t best_width = ~std::uint64_t{0};
  for (int attempt = 0; attempt < 3; ++attempt) {
    const std::uint64_t before = __rdtsc();
    const std::int64_t ns = Read(CLOCK_MONOTONIC);
    const std::uint64_t width = __rdtsc() - before;
    if (width >= best_width) continue;
    best_width = width;
    best = {before + width / 2, ns};
  }
  return best;
}

std::atomic_flag calibrating;
// The thread that was at it is not in the child.
const int fork_handler = pthread_atfork(nullptr, nullptr, [] { calibrating.clear(); });

// REQUIRES: calibrating is set.
void MeasureRate() noexcept {
  static Anchor last;
  const Anchor now = ReadBoth();
  const std::int64_t passed_ns = now.ns - last.ns;
  if (last.ns != 0 && passed_ns < kMinBaselineNs) return;
  const Anchor before = last;
  last = now;
  if (before.ns == 0 || now.ticks <= before.ticks) return;
  const std::uint64_t ticks = now.ticks - before.ticks;
  const auto ns_per_tick = static_cast<std::uint64_t>((static_cast<unsigned __int128>(passed_ns) << 32) / ticks);
  if (ns_per_tick == 0) return;
  // Odd already when a fork came in between. Release, every one: whoever sees what follows sees the odd version.
  const std::uint32_t odd = scale.version.load(std::memory_order_relaxed) | 1;
  scale.version.store(odd, std::memory_order_relaxed);
  scale.ticks.store(now.ticks, std::memory_order_release);
  scale.ns.store(now.ns, std::memory_order_release);
  scale.ns_per_tick.store(ns_per_tick, std::memory_order_release);
  scale.max_ticks.store((static_cast<std::uint64_t>(kMaxAgeNs) << 32) / ns_per_tick, std::memory_order_release);
  scale.version.store(odd + 1, std::memory_order_release);
}

void CalibrateCounter() noexcept {
  static const bool fit = CounterIsFit();
  if (!fit || calibrating.test_and_set(std::memory_order_acquire)) return;
  MeasureRate();
  calibrating.clear(std::memory_order_release);
}

#else

void CalibrateCounter() noexcept {}

#endif

}  // namespace

std::int64_t MonotonicNowNs() noexcept {
#if defined(__x86_64__)
  const std::uint32_t version = scale.version.load(std::memory_order_acquire);
  const std::uint64_t since = __rdtsc() - scale.ticks.load(std::memory_order_acquire);
  const std::int64_t ns = scale.ns.load(std::memory_order_acquire);
  const std::uint64_t ns_per_tick = scale.ns_per_tick.load(std::memory_order_acquire);
  const bool fresh = since < scale.max_ticks.load(std::memory_order_acquire);  // also false when it went back
  if (fresh && (version & 1) == 0 && scale.version.load(std::memory_order_relaxed) == version) [[likely]] {
    return ns + static_cast<std::int64_t>(static_cast<unsigned __int128>(since) * ns_per_tick >> 32);
  }
#endif
  return Read(CLOCK_MONOTONIC);
}

std::int64_t WallNowNs() noexcept { return Read(CLOCK_REALTIME); }

std::int64_t WallFromMonotonic(std::int64_t monotonic_ns) noexcept {
  std::int64_t offset = wall_offset_ns.load(std::memory_order_relaxed);
  if (offset == kNoOffset) [[unlikely]] {
    CalibrateClocks();
    offset = wall_offset_ns.load(std::memory_order_relaxed);
  }
  return monotonic_ns + offset;
}

void CalibrateClocks() noexcept {
  CalibrateCounter();
  std::int64_t best_width = std::numeric_limits<std::int64_t>::max();
  std::int64_t best_offset = 0;
  for (int attempt = 0; attempt < 3; ++attempt) {
    const std::int64_t before = Read(CLOCK_MONOTONIC);
    const std::int64_t wall = WallNowNs();
    const std::int64_t width = Read(CLOCK_MONOTONIC) - before;
    if (width >= best_width) continue;
    best_width = width;
    best_offset = wall - before - width / 2;
  }
  wall_offset_ns.store(best_offset, std::memory_order_relaxed);
}

}  // namespace spanbox
