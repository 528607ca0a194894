#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <random>

#include "spanbox/sketch.h"

namespace spanbox {
namespace {

constexpr double kQuantiles[] = {0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1};

void ExpectGuarantee(std::vector<double> values, double relative_error, const char* what) {
  DDSketch sketch(relative_error);
  sketch.Add(values);
  std::ranges::sort(values);
  ASSERT_EQ(sketch.count(), values.size());
  EXPECT_EQ(sketch.min(), values.front());
  EXPECT_EQ(sketch.max(), values.back());
  for (const double q : kQuantiles) {
    const double exact = values[static_cast<std::size_t>(std::floor(q * static_cast<double>(values.size() - 1)))];
    EXPECT_LE(std::abs(sketch.Quantile(q) - exact), relative_error * std::abs(exact)) << what << " q=" << q;
    EXPECT_EQ(sketch.QuantileOfSorted(values, q), sketch.Quantile(q)) << what << " q=" << q;
  }
}

std::vector<double> Draw(std::size_t n, const std::function<double(std::mt19937_64&)>& one) {
  std::mt19937_64 random(n);
  std::vector<double> values(n);
  for (double& v : values) v = one(random);
  return values;
}

double Uniform(std::mt19937_64& random) { return std::uniform_real_distribution<double>(0, 1)(random); }

TEST(DDSketchTest, QuantilesKeepTheRelativeErrorOnEveryDistribution) {
  for (const std::size_t n : {1u, 2u, 3u, 10u, 1000u, 100'000u}) {
    for (const double a : {0.01, 0.02, 0.1}) {
      ExpectGuarantee(Draw(n, Uniform), a, "uniform");
      ExpectGuarantee(Draw(n, [](auto& r) { return std::lognormal_distribution<double>(0, 3)(r); }), a, "lognormal");
      ExpectGuarantee(Draw(n, [](auto& r) { return std::pow(1 - Uniform(r), -1.5); }), a, "pareto");
      ExpectGuarantee(std::vector<double>(n, 42.5), a, "constant");
      ExpectGuarantee(std::vector<double>(n, 0.0), a, "zeros");
      ExpectGuarantee(Draw(n, [](auto& r) { return std::normal_distribution<double>(0, 1e6)(r); }), a, "mixed signs");
      ExpectGuarantee(Draw(n, [](auto& r) { return std::pow(10, Uniform(r) * 27 - 9); }), a, "1e-9 to 1e18");
      ExpectGuarantee(Draw(n, [](auto& r) { return -std::pow(10, Uniform(r) * 27 - 9); }), a, "negative");
      ExpectGuarantee(Draw(n, [](auto& r) { return std::ldexp(1.0, static_cast<int>(r() % 64)); }), a, "powers of two");
    }
  }
}

TEST(DDSketchTest, SortedValuesAnswerAsTheirSketchDoesAtTheEndsOfItsRange) {
  const double inf = std::numeric_limits<double>::infinity();
  for (const std::vector<double>& values : std::vector<std::vector<double>>{
           {-inf, -1e-12, 0, 1e-12, inf}, {-1e-12, -1e-13}, {-3, -2, 0, 0, 5}, {1e-9, 1e300}, {0, inf}, {-inf}}) {
    DDSketch sketch;
    sketch.Add(values);
    for (const double q : kQuantiles) EXPECT_EQ(sketch.QuantileOfSorted(values, q), sketch.Quantile(q)) << q;
  }
}

TEST(DDSketchTest, EveryIntegerMagnitudeKeepsTheRelativeError) {
  for (std::int64_t i = 1; i > 0 && i < std::numeric_limits<std::int64_t>::max() / 3 * 2; i += 1 + i / 7) {
    for (const std::int64_t v : {i - 1, i, i + 1}) {
      DDSketch sketch;
      sketch.Add(static_cast<double>(v));
      sketch.Add(static_cast<double>(v));
      sketch.AddCount(static_cast<double>(v) / 4, 1);  // min and max do not give the answer away
      sketch.AddCount(static_cast<double>(v) * 1.9, 1);
      EXPECT_LE(std::abs(sketch.Quantile(0.5) - static_cast<double>(v)), 0.01 * static_cast<double>(v)) << v;
    }
  }
}

TEST(DDSketchTest, MergeEqualsTheSketchOfTheUnion) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 200; ++round) {
    const double a = round % 2 == 0 ? 0.01 : 0.0005;  // at 0.05 % the widest streams collapse buckets
    const double decades = 1 + round % 30;
    DDSketch whole(a), left(a), right(a);
    const std::size_t n = random() % 500;
    for (std::size_t i = 0; i < n; ++i) {
      // Whole numbers, so that sums do not depend on the order of addition.
      double v = std::floor(std::pow(10, Uniform(random) * std::min(decades, 12.0)));
      if (random() % 3 == 0) v = -v;
      if (random() % 10 == 0) v = 0;
      whole.Add(v);
      (random() % 2 == 0 ? left : right).Add(v);
    }
    ASSERT_TRUE(left.Merge(right).ok());
    EXPECT_TRUE(left.Serialize() == whole.Serialize()) << "round " << round;
  }
}

// As the cells of segments keep them: counts of positive numbers, and what else there is to a sketch.
TEST(DDSketchTest, PartsOfSketchesAnswerAsTheseDo) {
  for (const std::size_t n : {1u, 2u, 9u, 100u, 20'000u}) {
    for (const double zeros : {0.0, 0.3, 1.0}) {
      DDSketch sketch;
      const auto one = [&](auto& r) { return Uniform(r) < zeros ? 0.0 : std::lognormal_distribution<double>(9, 3)(r); };
      for (const double value : Draw(n, one)) sketch.Add(value);
      const DDSketch::Buckets buckets = sketch.Positive();
      const std::vector<std::uint32_t> counts(buckets.counts.begin(), buckets.counts.end());
      const DDSketch::Part part{buckets.first, counts, sketch.count(), sketch.sum(), sketch.min(), sketch.max()};
      DDSketch merged;
      ASSERT_TRUE(merged.Merge(part).ok());
      for (const double q : kQuantiles) {
        EXPECT_EQ(sketch.QuantileOf(part, q), sketch.Quantile(q)) << n << " " << zeros << " " << q;
        EXPECT_EQ(merged.Quantile(q), sketch.Quantile(q)) << n << " " << zeros << " " << q;
      }
    }
  }
  EXPECT_TRUE(std::isnan(DDSketch().QuantileOf({}, 0.5)));
}

TEST(DDSketchTest, MergeWithItselfDoublesAndWithAnotherErrorIsRefused) {
  DDSketch sketch;
  sketch.Add(3);
  ASSERT_TRUE(sketch.Merge(sketch).ok());
  EXPECT_EQ(sketch.count(), 2u);
  EXPECT_EQ(sketch.sum(), 6);
  const Status status = sketch.Merge(DDSketch(0.05));
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(sketch.count(), 2u);
}

TEST(DDSketchTest, CollapseKeepsTheUpperQuantilesAndTheBucketLimit) {
  DDSketch sketch(1e-4);
  std::vector<double> values;
  for (int i = 0; i < 20'000; ++i) values.push_back(std::pow(10, i / 20'000.0 * 20 - 9));
  sketch.Add(values);
  const double exact = values[static_cast<std::size_t>(std::floor(0.99 * 19'999))];
  EXPECT_LE(std::abs(sketch.Quantile(0.99) - exact), 1e-4 * exact);
  EXPECT_LE(sketch.Serialize().size(), DDSketch::kMaxBuckets * 8 + 100);
}

TEST(DDSketchTest, EmptyNaNAndInfinityHaveDefinedAnswers) {
  DDSketch sketch;
  EXPECT_TRUE(std::isnan(sketch.Quantile(0.5)));
  EXPECT_TRUE(std::isnan(sketch.min()));
  sketch.Add(std::numeric_limits<double>::quiet_NaN());
  sketch.AddCount(5, 0);
  EXPECT_EQ(sketch.count(), 0u);
  sketch.Add(std::numeric_limits<double>::infinity());
  sketch.Add(-std::numeric_limits<double>::infinity());
  sketch.Add(std::numeric_limits<double>::denorm_min());
  EXPECT_EQ(sketch.count(), 3u);
  EXPECT_EQ(sketch.Quantile(0.5), 0);
  EXPECT_TRUE(std::isfinite(sketch.Quantile(1)));
  EXPECT_EQ(sketch.Quantile(0), -sketch.Quantile(1));
}

DDSketch Sample() {
  DDSketch sketch;
  for (int i = -50; i < 1000; ++i) sketch.Add(i * i * i * 0.37);
  return sketch;
}

TEST(DDSketchTest, SerialisationRoundTrips) {
  for (const DDSketch& sketch : {DDSketch(), DDSketch(0.2), Sample()}) {
    const std::string bytes = sketch.Serialize();
    const auto back = DDSketch::Deserialize(std::as_bytes(std::span(bytes)));
    ASSERT_TRUE(back.ok()) << back.status().message();
    EXPECT_TRUE(back->Serialize() == bytes);
    EXPECT_EQ(back->count(), sketch.count());
    if (sketch.count() == 0) continue;
    for (const double q : kQuantiles) EXPECT_EQ(back->Quantile(q), sketch.Quantile(q));
  }
}

TEST(DDSketchTest, HostileBytesAreRefusedOrHarmless) {
  const std::string good = Sample().Serialize();
  for (std::size_t n = 0; n < good.size(); ++n) {
    const auto cut = DDSketch::Deserialize(std::as_bytes(std::span(good.data(), n)));
    ASSERT_FALSE(cut.ok());
    EXPECT_EQ(cut.status().code(), StatusCode::kDataLoss);
    EXPECT_NE(cut.status().message().find("byte"), std::string::npos) << cut.status().message();
  }
  const std::string longer = good + "x";
  EXPECT_FALSE(DDSketch::Deserialize(std::as_bytes(std::span(longer))).ok());
  std::mt19937_64 random(3);
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = good;
    for (std::size_t k = random() % 4 + 1; k-- > 0;) bytes[random() % bytes.size()] = static_cast<char>(random());
    auto read = DDSketch::Deserialize(std::as_bytes(std::span(bytes)));
    if (!read.ok()) continue;
    EXPECT_TRUE(read->Serialize() == bytes);
    read->Add(1);
    EXPECT_FALSE(std::isnan(read->Quantile(0.5)));
  }
}

// Values are kept away from the edges of bins by comparing counts with a rounding's room on either side.
TEST(DDSketchTest, BinsCountTheValuesThatLieInThem) {
  const std::function<double(std::mt19937_64&)> kDraws[] = {
      [](auto& r) { return std::lognormal_distribution<double>(0, 3)(r); },
      [](auto& r) { return std::normal_distribution<double>(0, 1e6)(r); },
      [](auto& r) { return r() % 3 == 0 ? 0.0 : -Uniform(r); },
      [](auto&) { return 0.0; },
      [](auto&) { return 42.5; },
  };
  for (const auto& draw : kDraws) {
    for (const std::size_t most : {4u, 5u, 20u, 100u}) {
      const std::vector<double> values = Draw(5'000, draw);
      DDSketch sketch;
      sketch.Add(values);
      const std::vector<DDSketch::Bin> bins = sketch.Bins(most);
      ASSERT_LE(bins.size(), most);
      EXPECT_EQ(bins.front().low, sketch.min());
      EXPECT_EQ(bins.back().high, sketch.max());
      std::uint64_t total = 0;
      for (std::size_t i = 0; i < bins.size(); ++i) {
        const auto [low, high, count] = bins[i];
        total += count;
        if (i > 0) EXPECT_GE(low, bins[i - 1].high);
        const auto within = [&, low = low, high = high](double room) {
          const double least = low - room * std::abs(low), largest = high + room * std::abs(high);
          return static_cast<std::uint64_t>(
              std::ranges::count_if(values, [&](double v) { return v >= least && v <= largest; }));
        };
        EXPECT_LE(count, within(1e-12)) << low << " " << high;
        if (i > 0 && i + 1 < bins.size()) EXPECT_GE(count, within(-1e-12)) << low << " " << high;
      }
      EXPECT_EQ(total, values.size());
    }
  }
  EXPECT_TRUE(DDSketch().Bins(10).empty());
}

}  // namespace
}  // namespace spanbox
