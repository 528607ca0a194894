// Integers in as few bits as their range needs: variable-length numbers, packed arrays, and the two together.
//
//   varint    LEB128: 7 bits a byte, lowest first, the top bit set on all but the last byte
//   zigzag    varint of (n << 1) ^ (n >> 63): small magnitudes stay short
//   packed    value i takes bits [i * width, (i + 1) * width) of the bytes, lowest bit first
//   sequence  width:u8, base:zigzag, packed (value - base); the count is known from elsewhere
//
// Thread rule: functions.
// Invariant: nothing reads outside the bytes it is given; a failed read leaves the ByteReader failed.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/coding.h"

namespace spanbox {

void PutVarint(std::uint64_t value, std::string& out);
void PutZigzag(std::int64_t value, std::string& out);
void PutText(std::string_view text, std::string& out);  // varint size, bytes
template <typename T>
void PutFixed(T value, std::string& out) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

std::uint64_t GetVarint(ByteReader& in);
std::int64_t GetZigzag(ByteReader& in);
std::string_view GetSizedText(ByteReader& in);

// Bits needed for every number in [0, range].
inline int BitWidth(std::uint64_t range) { return static_cast<int>(std::bit_width(range)); }
// REQUIRES: count < 2^32, 0 <= width <= 64.
inline std::size_t PackedBytes(std::size_t count, int width) {
  return (count * static_cast<std::size_t>(width) + 7) / 8;
}

// Appends (value - base) of each value. REQUIRES: every difference fits `width` bits.
void PackBits(std::span<const std::int64_t> values, std::int64_t base, int width, std::string& out);
// T is std::int64_t, or std::uint32_t for base + values below 2^32; others are cut.
// REQUIRES: bytes.size() >= PackedBytes(out.size(), width).
template <typename T>
void UnpackBits(std::span<const std::byte> bytes, std::int64_t base, int width, std::span<T> out);
// The value at `index` alone. REQUIRES: bytes.size() >= PackedBytes(index + 1, width).
std::int64_t UnpackOne(std::span<const std::byte> bytes, std::int64_t base, int width, std::size_t index);

void PutSequence(std::span<const std::int64_t> values, std::string& out);
std::size_t SequenceBytes(std::span<const std::int64_t> values);
// What a sequence begins with; false (and `in` failed) on damage.
bool GetSequenceHead(ByteReader& in, std::int64_t& base, int& width);
// Fills `out`; false (and `in` failed) on damage.
bool GetSequence(ByteReader& in, std::span<std::int64_t> out);

// Equal neighbours once: count:varint, sequence of lengths; the caller writes and reads the values themselves.
struct Runs {
  std::vector<std::int64_t> lengths;
  std::vector<std::int64_t> values;
};
Runs FindRuns(std::span<const std::int64_t> values);

}  // namespace spanbox
