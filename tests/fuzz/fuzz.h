// What the fuzz targets share. Each target is one file with LLVMFuzzerTestOneInput; seeds.cc writes what they begin
// with.
//
// Checksums: under the fuzzer Hash64 is always 0 (base/hash.cc), so that changed bytes get past them and meet the
// bounds checks behind them. What a target reads may therefore be wrong, but never outside of its bytes.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace spanbox::fuzz {

// A sequence of byte strings, each behind its size, as one input.
inline std::string Joined(const std::vector<std::string>& parts) {
  std::string all;
  for (const std::string& part : parts) {
    const auto size = static_cast<std::uint32_t>(part.size());
    all.append(reinterpret_cast<const char*>(&size), sizeof size).append(part);
  }
  return all;
}

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : rest_(reinterpret_cast<const char*>(data), size) {}

  bool empty() const { return rest_.empty(); }
  std::string_view Rest() const { return rest_; }
  std::uint8_t Byte() { return empty() ? 0 : static_cast<std::uint8_t>(Take(1)[0]); }
  std::uint64_t Below(std::uint64_t n) { return (std::uint64_t{Byte()} << 8 | Byte()) % n; }
  std::string Part() {
    std::uint32_t size = 0;
    const std::string_view head = Take(sizeof size);
    std::memcpy(&size, head.data(), head.size());
    return std::string(Take(size));
  }

 private:
  std::string_view Take(std::size_t size) {
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(taken.size());
    return taken;
  }
  std::string_view rest_;
};

inline std::span<const std::byte> BytesOf(std::string_view text) { return std::as_bytes(std::span(text)); }

inline void Require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace spanbox::fuzz
