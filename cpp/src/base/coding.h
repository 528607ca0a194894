// Little-endian bytes: a growable buffer to write into and a bounds-checked reader.
//
// Thread rule: not synchronised. Ownership: ByteBuffer owns its bytes; ByteReader borrows.
// Invariant: a ByteReader never reads past its span; after the first failed read every further read fails too.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

namespace spanbox {

static_assert(std::endian::native == std::endian::little, "spanbox stores little-endian and copies it as it is");

inline constexpr std::size_t kMaxShortCopy = 32;

// Copies at most kMaxShortCopy bytes with two loads and two stores that overlap.
inline void CopyShort(std::byte* to, const char* from, std::size_t size) {
  const auto both_ends = [&]<typename Word>(Word head, Word tail) {
    std::memcpy(&head, from, sizeof head);
    std::memcpy(&tail, from + size - sizeof tail, sizeof tail);
    std::memcpy(to, &head, sizeof head);
    std::memcpy(to + size - sizeof tail, &tail, sizeof tail);
  };
  struct Block {
    std::uint64_t words[2];
  };
  if (size >= 16) return both_ends(Block{}, Block{});
  if (size >= 8) return both_ends(std::uint64_t{}, std::uint64_t{});
  if (size >= 4) return both_ends(std::uint32_t{}, std::uint32_t{});
  for (std::size_t i = 0; i < size; ++i) to[i] = static_cast<std::byte>(from[i]);
}

// The same for any size.
inline void CopyText(std::byte* to, std::string_view text) {
  if (text.size() <= kMaxShortCopy) return CopyShort(to, text.data(), text.size());
  std::memcpy(to, text.data(), text.size());
}

class ByteBuffer {
 public:
  std::size_t size() const { return size_; }
  std::size_t capacity() const { return data_.size(); }
  std::span<const std::byte> bytes() const { return {data_.data(), size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_.data()), size_}; }
  void Clear() { size_ = 0; }
  void Truncate(std::size_t size) { size_ = size; }  // REQUIRES: size <= this->size()

  // Room for `n` more bytes at the returned place; they count only after Advance.
  [[gnu::always_inline]] std::byte* Reserve(std::size_t n) {
    if (size_ + n > data_.size()) [[unlikely]]
      Grow(size_ + n);
    return data_.data() + size_;
  }
  void Advance(std::size_t n) { size_ += n; }

  template <typename T>
  void Put(T value) {
    static_assert(std::is_trivially_copyable_v<T>);
    std::memcpy(Reserve(sizeof value), &value, sizeof value);
    size_ += sizeof value;
  }
  void PutBytes(const void* data, std::size_t n) {
    if (n == 0) return;
    std::memcpy(Reserve(n), data, n);
    size_ += n;
  }
  void PutText(std::string_view text) { PutBytes(text.data(), text.size()); }

  // Overwrites bytes already written. REQUIRES: at + sizeof(T) <= size().
  template <typename T>
  void PatchAt(std::size_t at, T value) {
    std::memcpy(data_.data() + at, &value, sizeof value);
  }

 private:
  [[gnu::noinline]] void Grow(std::size_t need) { data_.resize(need < 4096 ? 4096 : need + need / 2); }

  std::vector<std::byte> data_;
  std::size_t size_ = 0;
};

class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  bool ok() const { return ok_; }
  std::size_t offset() const { return at_; }
  std::size_t remaining() const { return ok_ ? bytes_.size() - at_ : 0; }

  template <typename T>
  T Get() {
    static_assert(std::is_trivially_copyable_v<T>);
    T value{};
    if (!Have(sizeof value)) return value;
    std::memcpy(&value, bytes_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  std::span<const std::byte> GetBytes(std::size_t n) {
    if (!Have(n)) return {};
    auto part = bytes_.subspan(at_, n);
    at_ += n;
    return part;
  }
  std::string_view GetText(std::size_t n) {
    auto part = GetBytes(n);
    return {reinterpret_cast<const char*>(part.data()), part.size()};
  }

 private:
  bool Have(std::size_t n) {
    if (ok_ && n <= bytes_.size() - at_) return true;
    ok_ = false;
    return false;
  }

  std::span<const std::byte> bytes_;
  std::size_t at_ = 0;
  bool ok_ = true;
};

}  // namespace spanbox
