#include "store/segment_memory.h"

#include <algorithm>
#include <span>

#include "base/hash.h"

namespace spanbox {
namespace {

constexpr std::size_t kWordsPerLine = 8, kBitsPerTrace = 16;
constexpr int kBitsOfOne = 6, kBitsOfPlace = 9;              // a line has 512 places
std::atomic<std::size_t> sieve_bytes = 0, maxima_bytes = 0;  // of all that are kept

struct Places {
  std::size_t line = 0;  // its first word
  std::uint64_t bits = 0;
};
Places PlacesOf(std::uint64_t hash, std::size_t words) {
  const std::uint64_t lines = words / kWordsPerLine;
  return {static_cast<std::size_t>((hash >> 32) * lines >> 32) * kWordsPerLine, hash * 0x9E3779B97F4A7C15};
}

}  // namespace

TraceSieve::TraceSieve(std::uint32_t traces)
    : words_((std::size_t{traces} * kBitsPerTrace / (64 * kWordsPerLine) + 1) * kWordsPerLine) {}

std::uint64_t TraceSieve::HashOf(const TraceId& trace) { return Hash64(std::as_bytes(std::span(trace.bytes))); }

void TraceSieve::Add(const TraceId& trace) {
  const Places places = PlacesOf(HashOf(trace), words_.size());
  for (int i = 0; i < kBitsOfOne; ++i) {
    const std::uint64_t place = places.bits >> (64 - kBitsOfPlace * (i + 1)) & ((1u << kBitsOfPlace) - 1);
    words_[places.line + place / 64] |= std::uint64_t{1} << (place % 64);
  }
}

bool TraceSieve::MayHold(std::uint64_t hash) const {
  const Places places = PlacesOf(hash, words_.size());
  std::uint64_t all = 1;
  for (int i = 0; i < kBitsOfOne; ++i) {
    const std::uint64_t place = places.bits >> (64 - kBitsOfPlace * (i + 1)) & ((1u << kBitsOfPlace) - 1);
    all &= words_[places.line + place / 64] >> (place % 64);
  }
  return all != 0;
}

SegmentMemory::~SegmentMemory() {
  for (const auto& [chunk, maxima] : maxima_) maxima_bytes -= maxima->size() * sizeof(std::int64_t);
  const TraceSieve* const sieve = sieve_.load();
  if (sieve == nullptr) return;
  sieve_bytes -= sieve->bytes();
  delete sieve;
}

void SegmentMemory::Keep(std::unique_ptr<const TraceSieve> sieve) {
  const std::size_t bytes = sieve->bytes();
  const TraceSieve* none = nullptr;
  if (sieve_bytes.fetch_add(bytes) + bytes > kMaxSieveBytes || !sieve_.compare_exchange_strong(none, sieve.get())) {
    sieve_bytes -= bytes;
    return;
  }
  (void)sieve.release();
}

std::shared_ptr<const SegmentMemory::Maxima> SegmentMemory::MaximaOf(std::uint32_t chunk) const {
  const std::lock_guard lock(mutex_);
  const auto known = std::ranges::find(maxima_, chunk, [](const auto& entry) { return entry.first; });
  return known == maxima_.end() ? nullptr : known->second;
}

void SegmentMemory::Keep(std::uint32_t chunk, std::shared_ptr<const Maxima> maxima) {
  const std::size_t bytes = maxima->size() * sizeof(std::int64_t);
  const std::lock_guard lock(mutex_);
  const bool known = std::ranges::any_of(maxima_, [&](const auto& entry) { return entry.first == chunk; });
  if (known) return;
  if (maxima_bytes.fetch_add(bytes) + bytes > kMaxMaximaBytes) {
    maxima_bytes -= bytes;
    return;
  }
  maxima_.emplace_back(chunk, std::move(maxima));
}

}  // namespace spanbox
