#include "store/packing.h"

#include <algorithm>
#include <array>
#include <limits>
#include <type_traits>
#include <utility>

namespace spanbox {
namespace {

std::uint64_t LoadWord(const std::byte* at) {
  std::uint64_t word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

std::uint64_t Mask(int width) { return width == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << width) - 1; }

// Any width, `at` with 9 readable bytes: a value of more than 57 bits may touch a ninth byte.
std::uint64_t LoadWide(const std::byte* at, unsigned shift, std::uint64_t mask) {
  std::uint64_t value = LoadWord(at) >> shift;
  if (shift != 0) value |= static_cast<std::uint64_t>(at[8]) << (64 - shift);
  return value & mask;
}

template <typename Stored, typename T>
void Widen(const std::byte* from, std::uint64_t base, std::span<T> out) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    Stored value;
    std::memcpy(&value, from + i * sizeof value, sizeof value);
    out[i] = static_cast<T>(base + value);
  }
}

// Eight values take as many bytes as one takes bits: places and shifts are known when the width is.
template <int kWidth, typename T>
void UnpackEights(const std::byte* from, std::uint64_t base, T* to, std::size_t eights) {
  constexpr std::uint64_t kMask = (std::uint64_t{1} << kWidth) - 1;
  for (; eights > 0; --eights, from += kWidth, to += 8) {
    const auto one = [&]<std::size_t kIndex>(std::integral_constant<std::size_t, kIndex>) {
      constexpr std::size_t kBit = kIndex * kWidth;
      to[kIndex] = static_cast<T>(base + ((LoadWord(from + kBit / 8) >> (kBit % 8)) & kMask));
    };
    [&]<std::size_t... kIndex>(std::index_sequence<kIndex...>) {
      (one(std::integral_constant<std::size_t, kIndex>()), ...);
    }
    (std::make_index_sequence<8>());
  }
}

// By width, up to what always lies in one word.
constexpr int kMaxWordWidth = 57;
template <typename T>
using Unpacker = void (*)(const std::byte*, std::uint64_t, T*, std::size_t);
template <typename T, std::size_t... kWidth>
constexpr std::array<Unpacker<T>, sizeof...(kWidth)> UnpackersOf(std::index_sequence<kWidth...>) {
  return {UnpackEights<static_cast<int>(kWidth), T>...};
}

struct Range {
  std::int64_t min = 0;
  std::uint64_t size = 0;
};
Range RangeOf(std::span<const std::int64_t> values) {
  if (values.empty()) return {};
  std::int64_t min = values[0], max = values[0];
  for (std::int64_t v : values) {
    min = std::min(min, v);
    max = std::max(max, v);
  }
  return {min, static_cast<std::uint64_t>(max) - static_cast<std::uint64_t>(min)};
}

void Fail(ByteReader& in) { in.GetBytes(std::numeric_limits<std::size_t>::max()); }

}  // namespace

void PutVarint(std::uint64_t value, std::string& out) {
  while (value >= 0x80) {
    out.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out.push_back(static_cast<char>(value));
}

void PutZigzag(std::int64_t value, std::string& out) {
  PutVarint((static_cast<std::uint64_t>(value) << 1) ^ static_cast<std::uint64_t>(value >> 63), out);
}

void PutText(std::string_view text, std::string& out) {
  PutVarint(text.size(), out);
  out.append(text);
}

std::uint64_t GetVarint(ByteReader& in) {
  std::uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    const auto byte = in.Get<std::uint8_t>();
    if (!in.ok()) return 0;
    value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return value;
  }
  Fail(in);
  return 0;
}

std::int64_t GetZigzag(ByteReader& in) {
  const std::uint64_t value = GetVarint(in);
  return static_cast<std::int64_t>((value >> 1) ^ (~(value & 1) + 1));
}

std::string_view GetSizedText(ByteReader& in) {
  const std::uint64_t size = GetVarint(in);
  return in.GetText(size);
}

void PackBits(std::span<const std::int64_t> values, std::int64_t base, int width, std::string& out) {
  if (width == 0 || values.empty()) return;
  const std::size_t begin = out.size();
  const std::size_t bytes = PackedBytes(values.size(), width);
  out.resize(begin + bytes + 8);  // whole words are stored; the excess is cut off again
  char* to = out.data() + begin;
  std::uint64_t word = 0;
  int filled = 0;
  for (std::int64_t value : values) {
    const std::uint64_t bits = static_cast<std::uint64_t>(value) - static_cast<std::uint64_t>(base);
    word |= bits << filled;
    filled += width;
    if (filled >= 64) {
      std::memcpy(to, &word, sizeof word);
      to += sizeof word;
      filled -= 64;
      word = filled == 0 ? 0 : bits >> (width - filled);
    }
  }
  std::memcpy(to, &word, sizeof word);
  out.resize(begin + bytes);
}

template <typename T>
void UnpackBits(std::span<const std::byte> bytes, std::int64_t base, int width, std::span<T> out) {
  const auto ubase = static_cast<std::uint64_t>(base);
  switch (width) {
    case 0:
      std::fill(out.begin(), out.end(), static_cast<T>(base));
      return;
    case 8:
      Widen<std::uint8_t>(bytes.data(), ubase, out);
      return;
    case 16:
      Widen<std::uint16_t>(bytes.data(), ubase, out);
      return;
    case 32:
      Widen<std::uint32_t>(bytes.data(), ubase, out);
      return;
    case 64:
      Widen<std::uint64_t>(bytes.data(), ubase, out);
      return;
    default:
      break;
  }
  const auto step = static_cast<std::size_t>(width);
  // Values whose nine bytes lie inside `bytes` need no care.
  const std::size_t easy = bytes.size() < 9 ? 0 : std::min(out.size(), (bytes.size() - 9) * 8 / step + 1);
  std::size_t i = 0;
  if (width <= kMaxWordWidth) {
    static constexpr auto kUnpackers = UnpackersOf<T>(std::make_index_sequence<kMaxWordWidth + 1>());
    kUnpackers[step](bytes.data(), ubase, out.data(), easy / 8);
    i = easy / 8 * 8;
  } else {
    const std::uint64_t mask = Mask(width);
    for (std::size_t bit = 0; i < easy; ++i, bit += step) {
      out[i] = static_cast<T>(ubase + LoadWide(bytes.data() + bit / 8, bit % 8, mask));
    }
  }
  for (; i < out.size(); ++i) out[i] = static_cast<T>(UnpackOne(bytes, base, width, i));
}
template void UnpackBits(std::span<const std::byte>, std::int64_t, int, std::span<std::int64_t>);
template void UnpackBits(std::span<const std::byte>, std::int64_t, int, std::span<std::uint32_t>);

std::int64_t UnpackOne(std::span<const std::byte> bytes, std::int64_t base, int width, std::size_t index) {
  if (width == 0) return base;
  const std::size_t bit = index * static_cast<std::size_t>(width);
  std::array<std::byte, 9> near{};
  const auto from = bytes.subspan(bit / 8);
  std::memcpy(near.data(), from.data(), std::min(near.size(), from.size()));
  const std::uint64_t value = LoadWide(near.data(), bit % 8, Mask(width));
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(base) + value);
}

void PutSequence(std::span<const std::int64_t> values, std::string& out) {
  const Range range = RangeOf(values);
  const int width = BitWidth(range.size);
  out.push_back(static_cast<char>(width));
  PutZigzag(range.min, out);
  PackBits(values, range.min, width, out);
}

std::size_t SequenceBytes(std::span<const std::int64_t> values) {
  return 3 + PackedBytes(values.size(), BitWidth(RangeOf(values).size));
}

bool GetSequenceHead(ByteReader& in, std::int64_t& base, int& width) {
  width = in.Get<std::uint8_t>();
  base = GetZigzag(in);
  if (in.ok() && width > 64) Fail(in);
  return in.ok();
}

bool GetSequence(ByteReader& in, std::span<std::int64_t> out) {
  std::int64_t base = 0;
  int width = 0;
  if (!GetSequenceHead(in, base, width)) return false;
  const auto packed = in.GetBytes(PackedBytes(out.size(), width));
  if (!in.ok()) return false;
  UnpackBits(packed, base, width, out);
  return true;
}

Runs FindRuns(std::span<const std::int64_t> values) {
  Runs runs;
  for (std::size_t i = 0; i < values.size();) {
    std::size_t end = i + 1;
    while (end < values.size() && values[end] == values[i]) ++end;
    runs.lengths.push_back(static_cast<std::int64_t>(end - i));
    runs.values.push_back(values[i]);
    i = end;
  }
  return runs;
}

}  // namespace spanbox
