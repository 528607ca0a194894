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
