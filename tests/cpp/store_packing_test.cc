#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "store/packing.h"

namespace spanbox {
namespace {

std::span<const std::byte> Bytes(const std::string& text) { return std::as_bytes(std::span(text.data(), text.size())); }

TEST(PackingTest, EveryWidthAndLengthComesBack) {
  std::mt19937_64 random(1);
  for (int width = 0; width <= 64; ++width) {
    const std::uint64_t mask = width == 0 ? 0 : ~std::uint64_t{0} >> (64 - width);
    for (std::size_t count : {0, 1, 2, 7, 8, 9, 63, 64, 65, 200}) {
      const auto base = static_cast<std::int64_t>(random());
      std::vector<std::int64_t> values(count);
      for (auto& v : values) v = static_cast<std::int64_t>(static_cast<std::uint64_t>(base) + (random() & mask));
      std::string packed;
      PackBits(values, base, width, packed);
      ASSERT_EQ(packed.size(), PackedBytes(count, width));
      std::vector<std::int64_t> back(count);
      UnpackBits<std::int64_t>(Bytes(packed), base, width, back);
      ASSERT_EQ(back, values) << "width " << width << " count " << count;
      for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(UnpackOne(Bytes(packed), base, width, i), values[i]);
    }
  }
}

TEST(PackingTest, VarintsKeepTheLimitsOfTheirTypes) {
  std::string out;
  const std::uint64_t numbers[] = {0, 1, 127, 128, 16383, 16384, std::numeric_limits<std::uint64_t>::max()};
  const std::int64_t signed_numbers[] = {
      0, -1, 1, -64, 63, std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max()};
  for (auto n : numbers) PutVarint(n, out);
  for (auto n : signed_numbers) PutZigzag(n, out);
  ByteReader in(Bytes(out));
  for (auto n : numbers) EXPECT_EQ(GetVarint(in), n);
  for (auto n : signed_numbers) EXPECT_EQ(GetZigzag(in), n);
  EXPECT_TRUE(in.ok());
  EXPECT_EQ(in.remaining(), 0u);
}

TEST(PackingTest, EndlessVarintFails) {
  const std::string endless(20, '\xFF');
  ByteReader in(Bytes(endless));
  GetVarint(in);
  EXPECT_FALSE(in.ok());
}

TEST(PackingTest, SequenceWithWidthOver64Fails) {
  std::string out(1, '\x41');
  out.append(40, '\0');
  ByteReader in(Bytes(out));
  std::vector<std::int64_t> values(3);
  EXPECT_FALSE(GetSequence(in, values));
  EXPECT_FALSE(in.ok());
}

TEST(PackingTest, TruncatedSequenceFailsAtEveryLength) {
  const std::vector<std::int64_t> values = {5, -7, 1'000'000, 3, std::numeric_limits<std::int64_t>::min()};
  std::string out;
  PutSequence(values, out);
  for (std::size_t size = 0; size < out.size(); ++size) {
    const std::string cut = out.substr(0, size);
    ByteReader in(Bytes(cut));
    std::vector<std::int64_t> back(values.size());
    EXPECT_FALSE(GetSequence(in, back)) << size;
  }
  ByteReader in(Bytes(out));
  std::vector<std::int64_t> back(values.size());
  EXPECT_TRUE(GetSequence(in, back));
  EXPECT_EQ(back, values);
}

TEST(PackingTest, RunsJoinEqualNeighbours) {
  const std::vector<std::int64_t> values = {4, 4, 4, 1, 4, 4};
  const Runs runs = FindRuns(values);
  EXPECT_EQ(runs.lengths, (std::vector<std::int64_t>{3, 1, 2}));
  EXPECT_EQ(runs.values, (std::vector<std::int64_t>{4, 1, 4}));
}

}  // namespace
}  // namespace spanbox
