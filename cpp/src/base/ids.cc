#include "base/ids.h"

#include <pthread.h>
#include <sys/random.h>
#include <unistd.h>

#include <atomic>
#include <bit>
#include <cstring>

#include "base/clock.h"
#include "base/thread_locals.h"

namespace spanbox {
namespace {

// Counts forks on the child's side: a generator seeded in an earlier generation would repeat the parent's ids.
std::atomic<std::uint64_t> fork_generation{1};
const int fork_handler =
    pthread_atfork(nullptr, nullptr, [] { fork_generation.fetch_add(1, std::memory_order_relaxed); });

void FillFromSystem(void* out, std::size_t n) noexcept {
  auto* bytes = static_cast<unsigned char*>(out);
  while (n > 0) {
    const ssize_t got = getrandom(bytes, n, 0);
    if (got <= 0) {
      // Only on a kernel that forbids the call. Uniqueness is what is needed here, not secrecy.
      const std::uint64_t mix = static_cast<std::uint64_t>(MonotonicNowNs()) * 0x9E3779B97F4A7C15u ^
                                static_cast<std::uint64_t>(getpid()) << 32 ^ reinterpret_cast<std::uintptr_t>(bytes);
      *bytes++ = static_cast<unsigned char>(mix >> 40);
      --n;
      continue;
    }
    bytes += got;
    n -= static_cast<std::size_t>(got);
  }
}

// xoshiro256++ (Blackman, Vigna 2019).
struct Generator {
  std::uint64_t generation = 0;
  std::uint64_t s[4] = {};

  [[gnu::noinline]] void Seed(std::uint64_t now) noexcept {
    do FillFromSystem(s, sizeof s);
    while ((s[0] | s[1] | s[2] | s[3]) == 0);
    generation = now;
  }

  std::uint64_t Next() noexcept {
    const std::uint64_t result = std::rotl(s[0] + s[3], 23) + s[0];
    const std::uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = std::rotl(s[3], 45);
    return result;
  }
};

constinit thread_local Generator generator;

Generator& ThisThreads() noexcept {
  Generator& mine = FoundOnce(generator);
  const std::uint64_t now = fork_generation.load(std::memory_order_relaxed);
  if (mine.generation != now) [[unlikely]]
    mine.Seed(now);
  return mine;
}

SpanId NextSpanId(Generator& random) noexcept {
  SpanId id;
  do id = random.Next();
  while (id == 0);
  return id;
}

}  // namespace

TraceId NewTraceId(std::int64_t wall_ns) noexcept {
  TraceId trace;
  SpanId span;
  NewRootIds(wall_ns, trace, span);
  return trace;
}

SpanId NewSpanId() noexcept { return NextSpanId(ThisThreads()); }

void NewRootIds(std::int64_t wall_ns, TraceId& trace, SpanId& span) noexcept {
  Generator& random = ThisThreads();
  const std::uint64_t low = random.Next();
  // Big-endian: 48 bits of milliseconds, then the first 16 random bits.
  const std::uint64_t high = static_cast<std::uint64_t>(wall_ns / 1'000'000) << 16 | (random.Next() & 0xFFFF);
  const std::uint64_t high_bytes = __builtin_bswap64(high);
  span = NextSpanId(random);
  std::memcpy(trace.bytes.data(), &high_bytes, 8);
  std::memcpy(trace.bytes.data() + 8, &low, 8);
  if ((high | low) == 0) [[unlikely]]
    trace.bytes[15] = 1;
}

RingId NewRingId() noexcept {
  RingId id;
  FillFromSystem(id.data(), id.size());
  return id;
}

}  // namespace spanbox
