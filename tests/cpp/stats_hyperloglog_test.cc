#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "base/hash.h"
#include "stats/hyperloglog.h"

namespace spanbox {
namespace {

std::uint64_t HashOf(std::uint64_t value, std::uint64_t seed = 0) {
  return Hash64(std::as_bytes(std::span(&value, 1)), seed);
}

HyperLogLog Of(std::uint64_t begin, std::uint64_t end, std::uint64_t seed = 0) {
  HyperLogLog sketch;
  for (std::uint64_t i = begin; i < end; ++i) sketch.Add(HashOf(i, seed));
  return sketch;
}

std::span<const std::byte> Bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

TEST(HyperLogLogTest, FewValuesAreCountedExactly) {
  HyperLogLog sketch;
  EXPECT_EQ(sketch.Estimate(), 0);
  for (std::uint64_t i = 0; i < HyperLogLog::kMaxExact; ++i) {
    for (int again = 0; again < 5; ++again) sketch.Add(HashOf(i));
    for (std::uint64_t j = 0; j < i; j += 97) sketch.Add(HashOf(j));
    if (i % 100 == 0) ASSERT_EQ(sketch.Estimate(), static_cast<double>(i + 1));
  }
  EXPECT_EQ(sketch.Estimate(), static_cast<double>(HyperLogLog::kMaxExact));
}

// The hashes are fixed, so this always gives the same answer. Over 60 streams a size, the root mean square of the error
// may not pass the stated standard error by more than chance allows, no answer may be off by more than five of them,
// and their mean may not lean to one side.
TEST(HyperLogLogTest, ErrorIsTheStatedOneAtEverySize) {
  for (const std::uint64_t n : {1'025u, 2'500u, 10'000u, 40'000u, 80'000u, 300'000u}) {
    const int streams = n > 100'000 ? 20 : 60;
    double squares = 0, sum = 0;
    for (int seed = 0; seed < streams; ++seed) {
      const double error = Of(0, n, static_cast<std::uint64_t>(seed)).Estimate() / static_cast<double>(n) - 1;
      EXPECT_LE(std::abs(error), 5 * HyperLogLog::kStandardError) << n;
      squares += error * error;
      sum += error;
    }
    EXPECT_LE(std::sqrt(squares / streams), 1.35 * HyperLogLog::kStandardError) << n;
    EXPECT_LE(std::abs(sum / streams), 4 * HyperLogLog::kStandardError / std::sqrt(streams)) << n;
  }
}

TEST(HyperLogLogTest, MergingIsCountingTheUnion) {
  const std::uint64_t ends[] = {0, 10, 600, 1'500, 50'000};
  for (const std::uint64_t a : ends) {
    for (const std::uint64_t b : ends) {
      HyperLogLog merged = Of(0, a);
      merged.Merge(Of(a / 2, a / 2 + b));
      EXPECT_EQ(merged.Estimate(), Of(0, std::max(a, a / 2 + b)).Estimate()) << a << " " << b;
      merged.Merge(merged);
      EXPECT_EQ(merged.Estimate(), Of(0, std::max(a, a / 2 + b)).Estimate()) << a << " " << b;
    }
  }
}

TEST(HyperLogLogTest, BytesComeBackAsTheyWere) {
  for (const std::uint64_t n : {0u, 1u, 1'000u, 1'024u, 1'025u, 2'000u, 100'000u}) {
    const HyperLogLog sketch = Of(0, n);
    const std::string bytes = sketch.Serialize();
    const auto again = HyperLogLog::Deserialize(Bytes(bytes));
    ASSERT_TRUE(again.ok()) << again.status().message();
    EXPECT_EQ(again->Serialize(), bytes);
    EXPECT_EQ(again->Estimate(), sketch.Estimate());
  }
}

TEST(HyperLogLogTest, HostileBytesAreRefused) {
  std::mt19937_64 random(1);
  for (const std::uint64_t n : {0u, 3u, 1'000u, 5'000u}) {
    const std::string good = Of(0, n).Serialize();
    for (std::size_t size = 0; size < good.size(); size += 1 + size / 50) {
      EXPECT_FALSE(HyperLogLog::Deserialize(Bytes(good.substr(0, size))).ok()) << size;
    }
    EXPECT_FALSE(HyperLogLog::Deserialize(Bytes(good + "x")).ok());
    for (int i = 0; i < 2'000; ++i) {
      std::string bad = good;
      bad[random() % bad.size()] ^= static_cast<char>(1 + random() % 255);
      const auto read = HyperLogLog::Deserialize(Bytes(bad));
      if (!read.ok()) {
        EXPECT_EQ(read.status().code(), StatusCode::kDataLoss);
      } else {
        EXPECT_EQ(read->Serialize(), bad) << "accepted, but it is not what it would write";
        EXPECT_TRUE(std::isfinite(read->Estimate()));
      }
    }
  }
}

}  // namespace
}  // namespace spanbox
