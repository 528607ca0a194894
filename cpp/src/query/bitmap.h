// A set of rows of one segment.
//
// Thread rule: a value.
// Invariant: bits past rows() are zero.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "store/segment.h"

namespace spanbox {

class Bitmap {
 public:
  Bitmap() = default;
  explicit Bitmap(std::uint32_t rows, bool all = false) : rows_(rows), words_((rows + 63u) / 64, all ? ~0ull : 0) {
    Trim();
  }

  std::uint32_t rows() const { return rows_; }
  std::span<const std::uint64_t> words() const { return words_; }  // bit r of words[r / 64]
  bool operator[](std::uint32_t row) const { return (words_[row / 64] >> (row % 64) & 1) != 0; }
  void Set(std::uint32_t row) { words_[row / 64] |= 1ull << (row % 64); }
  void SetIf(std::uint32_t row, bool holds) { words_[row / 64] |= std::uint64_t{holds} << (row % 64); }
  void SetRange(std::uint32_t begin, std::uint32_t end) {
    while (begin < end) {
      const bool whole = begin % 64 == 0 && end - begin >= 64;
      words_[begin / 64] |= whole ? ~0ull : 1ull << (begin % 64);
      begin += whole ? 64 : 1;
    }
  }
  void Clear(std::uint32_t row) { words_[row / 64] &= ~(1ull << (row % 64)); }

  bool any() const {
    for (const std::uint64_t word : words_) {
      if (word != 0) return true;
    }
    return false;
  }
  std::uint64_t count() const {
    std::uint64_t n = 0;
    for (const std::uint64_t word : words_) n += static_cast<std::uint64_t>(std::popcount(word));
    return n;
  }

  // REQUIRES: other.rows() == rows().
  Bitmap& operator&=(const Bitmap& other) {
    return Combine(other, [](auto a, auto b) { return a & b; });
  }
  Bitmap& operator|=(const Bitmap& other) {
    return Combine(other, [](auto a, auto b) { return a | b; });
  }
  Bitmap& operator-=(const Bitmap& other) {
    return Combine(other, [](auto a, auto b) { return a & ~b; });
  }
  Bitmap& operator&=(const Validity& valid) {
    for (std::size_t i = 0; i < words_.size() && i < valid.words.size(); ++i) words_[i] &= valid.words[i];
    return *this;
  }

  // Sets the rows for which test(row), a truth value, holds; all rows are considered, in order and without branches.
  template <typename Test>
  void SetWhere(Test&& test) {
    for (std::uint32_t begin = 0; begin < rows_; begin += 64) {
      // Bytes first, which compilers can make of several rows at once; then their lowest bits, eight by a product.
      std::uint8_t holds[64] = {};
      if (rows_ - begin >= 64) {
        for (std::uint32_t i = 0; i < 64; ++i) holds[i] = test(begin + i) ? 1 : 0;
      } else {
        for (std::uint32_t i = 0; i < rows_ - begin; ++i) holds[i] = test(begin + i) ? 1 : 0;
      }
      std::uint64_t word = 0;
      for (std::uint32_t i = 0; i < 64; i += 8) {
        std::uint64_t bytes;
        std::memcpy(&bytes, holds + i, sizeof bytes);
        word |= (bytes * 0x0102040810204080 >> 56) << i;
      }
      words_[begin / 64] |= word;
    }
  }

  // Calls fn(row) for each row, ascending.
  template <typename Fn>
  void ForEach(Fn&& fn) const {
    for (std::size_t i = 0; i < words_.size(); ++i) {
      for (std::uint64_t word = words_[i]; word != 0; word &= word - 1) {
        fn(static_cast<std::uint32_t>(i * 64) + static_cast<std::uint32_t>(std::countr_zero(word)));
      }
    }
  }
  std::vector<std::uint32_t> Rows() const {
    std::vector<std::uint32_t> rows;
    rows.reserve(count());
    ForEach([&](std::uint32_t row) { rows.push_back(row); });
    return rows;
  }

 private:
  template <typename Op>
  Bitmap& Combine(const Bitmap& other, Op op) {
    for (std::size_t i = 0; i < words_.size(); ++i) words_[i] = op(words_[i], other.words_[i]);
    return *this;
  }
  void Trim() {
    if (rows_ % 64 != 0) words_.back() &= (1ull << (rows_ % 64)) - 1;
  }

  std::uint32_t rows_ = 0;
  std::vector<std::uint64_t> words_;
};

}  // namespace spanbox
