#include "store/text_filter.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/hash.h"
#include "store/packing.h"

namespace spanbox {
namespace {

constexpr std::size_t kGramBytes = 4;
constexpr std::size_t kHashBits = 22;  // more different grams than bits of a larger hash would tell apart fit no block
constexpr std::size_t kWords = (std::size_t{1} << kHashBits) / 64;

constexpr auto kLower = [] {
  std::array<std::uint8_t, 256> lower{};
  for (std::size_t c = 0; c < lower.size(); ++c) {
    lower[c] = static_cast<std::uint8_t>(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
  }
  return lower;
}();

std::uint32_t HashOf(std::uint32_t gram) { return gram * 0x9E3779B1u >> (32 - kHashBits); }

// `visit(end, hash)` for the gram before every byte from the fourth on.
template <typename Visit>
void ForEachGram(std::string_view text, const Visit& visit) {
  std::uint32_t gram = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    gram = gram << 8 | kLower[static_cast<std::uint8_t>(text[i])];
    if (i + 1 >= kGramBytes) visit(i + 1, HashOf(gram));
  }
}

// The bit of a bitmap of `bits` bits that stands for a hash: hashes keep their order, so that a bitmap is made in one
// go.
std::uint32_t BitOf(std::uint32_t hash, std::uint32_t bits) {
  return static_cast<std::uint32_t>(std::uint64_t{hash} * bits >> kHashBits);
}

}  // namespace

void TextFilterBuilder::AddBlock(std::string_view text) {
  seen_.assign(kWords, 0);
  ForEachGram(text, [this](std::size_t, std::uint32_t hash) { seen_[hash / 64] |= std::uint64_t{1} << hash % 64; });
  std::size_t distinct = 0;
  for (const std::uint64_t word : seen_) distinct += static_cast<std::size_t>(std::popcount(word));
  const auto bits = static_cast<std::uint32_t>((distinct + distinct / 4 + 7) / 8 * 8);
  const std::size_t begin = bitmaps_.size();
  bitmaps_.resize(begin + bits / 8);
  for (std::size_t w = 0; w < kWords; ++w) {
    for (std::uint64_t word = seen_[w]; word != 0; word &= word - 1) {
      const std::uint32_t bit =
          BitOf(static_cast<std::uint32_t>(w * 64) + static_cast<std::uint32_t>(std::countr_zero(word)), bits);
      bitmaps_[begin + bit / 8] = static_cast<char>(bitmaps_[begin + bit / 8] | 1 << bit % 8);
    }
  }
  PutVarint(bits, directory_);
  ++blocks_;
}

std::string TextFilterBuilder::Finish() {
  std::string out;
  if (blocks_ > 0) {
    PutFixed(std::uint64_t{0}, out);
    PutVarint(blocks_, out);
    out.append(directory_);
    out.append(bitmaps_);
    const std::uint64_t checksum = Hash64(std::as_bytes(std::span(out)).subspan(sizeof checksum));
    std::memcpy(out.data(), &checksum, sizeof checksum);
  }
  *this = {};
  return out;
}

TextProbe::TextProbe(std::string_view text, Case letters) {
  std::size_t safe_from = 0;  // grams that begin before say nothing
  const auto unsafe = [letters](char c) {
    const std::uint8_t lower = kLower[static_cast<std::uint8_t>(c)];
    return lower >= 0x80 || (letters == Case::kIgnored && (lower == 'k' || lower == 's'));
  };
  ForEachGram(text, [&](std::size_t end, std::uint32_t hash) {
    if (letters != Case::kExact) {
      const std::size_t begin = end - kGramBytes;
      for (std::size_t i = std::max(begin, safe_from); i < end; ++i) {
        if (unsafe(text[i])) safe_from = i + 1;
      }
      if (begin < safe_from) return;
    }
    hashes_.push_back(hash);
  });
}

Result<TextFilter> TextFilter::Open(std::span<const std::byte> bytes, std::uint32_t blocks) {
  const Status damaged = DataLoss("search filter: is damaged");
  ByteReader in(bytes);
  const auto checksum = in.Get<std::uint64_t>();
  if (!in.ok() || Hash64(bytes.subspan(sizeof checksum)) != checksum || GetVarint(in) != blocks) return damaged;
  TextFilter filter;
  std::vector<std::uint64_t> sizes;
  for (std::uint32_t i = 0; i < blocks && in.ok(); ++i) sizes.push_back(GetVarint(in));
  for (const std::uint64_t bits : sizes) {
    const auto bitmap = in.GetBytes(bits / 8);
    if (!in.ok() || bits > 0xFFFFFFFF || bits % 8 != 0) return damaged;
    filter.bitmaps_.push_back({bitmap.data(), static_cast<std::uint32_t>(bits)});
  }
  if (!in.ok() || in.remaining() != 0) return damaged;
  return filter;
}

bool TextFilter::MayHold(std::uint32_t block, const TextProbe& probe) const {
  const Bitmap& bitmap = bitmaps_[block];
  return std::ranges::all_of(probe.hashes(), [&](std::uint32_t hash) {
    if (bitmap.bits == 0) return false;
    const std::uint32_t bit = BitOf(hash, bitmap.bits);
    return (bitmap.bytes[bit / 8] >> bit % 8 & std::byte{1}) != std::byte{0};
  });
}

}  // namespace spanbox
