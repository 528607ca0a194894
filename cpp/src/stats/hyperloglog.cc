#include "stats/hyperloglog.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "base/coding.h"

namespace spanbox {
namespace {

constexpr std::uint8_t kVersion = 1;
enum Form : std::uint8_t { kHashes = 0, kDense = 1 };

constexpr unsigned kHashBits = 64 - HyperLogLog::kPrecision;  // a register is at most one more

// Ertl's sigma and tau: the share of registers that are still empty, and that are full, as sums of series.
double Sigma(double x) {
  if (x == 1) return std::numeric_limits<double>::infinity();
  double sum = x, before = 0;
  for (double y = 1; sum != before; y *= 2) {
    x *= x;
    before = sum;
    sum += x * y;
  }
  return sum;
}
double Tau(double x) {
  if (x == 0 || x == 1) return 0;
  double sum = 1 - x, before = 0;
  for (double y = 0.5; sum != before; y *= 0.5) {
    x = std::sqrt(x);
    before = sum;
    sum -= (1 - x) * (1 - x) * y;
  }
  return sum / 3;
}

std::string At(const char* what, std::size_t offset) {
  return std::string("distinct sketch: ") + what + " at byte " + std::to_string(offset);
}

}  // namespace

void HyperLogLog::Add(std::uint64_t hash) {
  if (!registers_.empty()) return AddDense(hash);
  if (!hashes_.empty() && hashes_.back() == hash) return;
  hashes_.push_back(hash);
  if (hashes_.size() >= 2 * kMaxExact) Compact();
}

void HyperLogLog::AddDense(std::uint64_t hash) {
  std::uint8_t& place = registers_[hash >> kHashBits];
  const std::uint64_t rest = hash << kPrecision;
  const auto rank = static_cast<std::uint8_t>(rest == 0 ? kHashBits + 1 : std::countl_zero(rest) + 1);
  place = std::max(place, rank);
}

void HyperLogLog::Compact() {
  std::ranges::sort(hashes_);
  hashes_.erase(std::unique(hashes_.begin(), hashes_.end()), hashes_.end());
  if (hashes_.size() <= kMaxExact) return;
  registers_.resize(kRegisters);
  for (const std::uint64_t hash : hashes_) AddDense(hash);
  hashes_ = {};
}

void HyperLogLog::Merge(const HyperLogLog& other) {
  if (this == &other) return;
  if (other.registers_.empty()) {
    for (const std::uint64_t hash : other.hashes_) Add(hash);
    return;
  }
  if (registers_.empty()) {
    registers_.resize(kRegisters);
    for (const std::uint64_t hash : hashes_) AddDense(hash);
    hashes_ = {};
  }
  for (std::size_t i = 0; i < kRegisters; ++i) registers_[i] = std::max(registers_[i], other.registers_[i]);
}

double HyperLogLog::Estimate() const {
  if (registers_.empty()) {
    HyperLogLog compact = *this;
    compact.Compact();
    return compact.registers_.empty() ? static_cast<double>(compact.hashes_.size()) : compact.Estimate();
  }
  constexpr double kM = kRegisters;
  std::size_t counts[kHashBits + 2] = {};
  for (const std::uint8_t value : registers_) ++counts[value];
  double z = kM * Tau(1 - static_cast<double>(counts[kHashBits + 1]) / kM);
  for (unsigned k = kHashBits; k >= 1; --k) z = 0.5 * (z + static_cast<double>(counts[k]));
  z += kM * Sigma(static_cast<double>(counts[0]) / kM);
  constexpr double kLimitConstant = 0.72134752044448170;  // 1 / (2 ln 2)
  return kLimitConstant * kM * kM / z;
}

// version:u8 form:u8, then of kHashes: count:u32 hash:u64*, ascending; of kDense: a byte for each register.
std::string HyperLogLog::Serialize() const {
  HyperLogLog compact = *this;
  compact.Compact();
  ByteBuffer out;
  out.Put(kVersion);
  out.Put<std::uint8_t>(compact.registers_.empty() ? kHashes : kDense);
  if (compact.registers_.empty()) {
    out.Put(static_cast<std::uint32_t>(compact.hashes_.size()));
    out.PutBytes(compact.hashes_.data(), compact.hashes_.size() * sizeof(std::uint64_t));
  } else {
    out.PutBytes(compact.registers_.data(), compact.registers_.size());
  }
  return std::string(out.text());
}

Result<HyperLogLog> HyperLogLog::Deserialize(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  if (in.Get<std::uint8_t>() != kVersion || !in.ok()) return DataLoss(At("unknown version", 0));
  const auto form = in.Get<std::uint8_t>();
  HyperLogLog sketch;
  if (form == kDense) {
    const auto registers = in.GetBytes(kRegisters);
    if (!in.ok()) return DataLoss(At("truncated", 2));
    for (const std::byte value : registers) sketch.registers_.push_back(std::to_integer<std::uint8_t>(value));
    if (*std::ranges::max_element(sketch.registers_) > kHashBits + 1) return DataLoss(At("impossible register", 2));
  } else if (form == kHashes) {
    const auto count = in.Get<std::uint32_t>();
    if (!in.ok() || count > kMaxExact) return DataLoss(At("impossible count", 2));
    for (std::uint32_t i = 0; i < count; ++i) sketch.hashes_.push_back(in.Get<std::uint64_t>());
    const bool ascending = std::ranges::adjacent_find(sketch.hashes_, std::greater_equal<>()) == sketch.hashes_.end();
    if (!in.ok() || !ascending) return DataLoss(At("damaged hashes", 6));
  } else {
    return DataLoss(At("unknown form", 1));
  }
  if (in.remaining() != 0) return DataLoss(At("more bytes than were written", in.offset()));
  return sketch;
}

}  // namespace spanbox
