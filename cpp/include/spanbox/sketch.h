// DDSketch: quantiles of a stream with a bound on the relative error, mergeable.
//
// Charles Masson, Jee E. Rim, Homin K. Lee: "DDSketch: A Fast and Fully-Mergeable Quantile Sketch with
// Relative-Error Guarantees", PVLDB 12(12), 2019. The index of a value is its logarithm to base (1 + a) / (1 - a); the
// logarithm is interpolated by a cubic between powers of two, which costs 1 % more buckets and no call to log.
//
// Guarantee: for every q in [0, 1], |estimate - exact| <= relative_error * |exact|, where exact is the value of rank
// floor(q * (count - 1)) in sorted order; as long as the values are 0 or their magnitudes lie within [1e-9, 2^63] and
// the sketch has not collapsed buckets (never at 1 %: kMaxBuckets spans 1e34 there). Smaller magnitudes count as 0,
// larger ones as 2^63.
// When not to use it: when the value itself, not its magnitude, must be exact (ask for exact quantiles), or for data
// that crosses zero densely (relative error says little near zero).
//
// Thread rule: not synchronised. Ownership: a value; copy and move freely.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "spanbox/status.h"

namespace spanbox {

class DDSketch {
 public:
  static constexpr double kDefaultRelativeError = 0.01;
  static constexpr std::size_t kMaxBuckets = 4096;

  static constexpr double kMinRelativeError = 1e-6;

  // REQUIRES: kMinRelativeError <= relative_error < 1.
  explicit DDSketch(double relative_error = kDefaultRelativeError);

  void Add(double value);  // NaN is ignored; infinities clamp to the largest magnitude
  void Add(std::span<const double> values);
  void AddCount(double value, std::uint64_t count);

  // InvalidArgument when the relative errors differ.
  Status Merge(const DDSketch& other);

  // Counts of the buckets of positive values, without empty ones at either end, and what else a sketch of values of 0
  // or more consists of: `count` of them, of which those in no bucket are 0.
  struct Buckets {
    std::int32_t first = 0;  // the index of the lowest bucket
    std::span<const std::uint64_t> counts;
  };
  Buckets Positive() const;
  struct Part {
    std::int64_t first = 0;
    std::span<const std::uint32_t> counts;
    std::uint64_t count = 0;
    double sum = 0, min = 0, max = 0;
  };
  // Adds a sketch of the same relative error. DataLoss when no sketch can be so.
  Status Merge(const Part& part);

  // REQUIRES: 0 <= q <= 1. NaN when the sketch is empty.
  double Quantile(double q) const;
  // The same of a sketch of this one's relative error. REQUIRES: Merge would take it.
  double QuantileOf(const Part& part, double q) const;
  // What a sketch of these values alone would answer, which ascend. REQUIRES: there are any, and none is NaN.
  double QuantileOfSorted(std::span<const double> values, double q) const;

  // The distribution as at most `most` bins, ascending and without gaps on either side of zero; each holds the values v
  // with low <= v < high (the highest one: <= high; those below zero: low < v <= high; zero: both are 0). Wider bins
  // for larger values: each is the same ratio wide. Every value is counted in the bin it lies in, up to rounding.
  // REQUIRES: most >= 4.
  struct Bin {
    double low = 0, high = 0;
    std::uint64_t count = 0;
  };
  std::vector<Bin> Bins(std::size_t most) const;

  std::uint64_t count() const { return count_; }
  double sum() const { return sum_; }
  double min() const { return min_; }  // exact; NaN when empty
  double max() const { return max_; }  // exact; NaN when empty
  double relative_error() const { return relative_error_; }

  // Little-endian, versioned; Deserialize refuses anything it did not write with DataLoss and the offset.
  std::string Serialize() const;
  static Result<DDSketch> Deserialize(std::span<const std::byte> bytes);

 private:
  struct Counts {  // dense counts for indices [first, first + counts.size())
    std::int32_t first = 0;
    std::vector<std::uint64_t> counts;
    void Add(std::int32_t index, std::uint64_t count);
    // To neighbours from `from` on. REQUIRES: more.size() <= kMaxBuckets.
    void Add(std::int32_t from, std::span<const std::uint32_t> more);
  };
  std::int32_t Index(double magnitude) const;
  double Magnitude(std::int32_t index) const;
  static std::uint64_t RankOf(double q, std::uint64_t count);

  double relative_error_;
  double multiplier_;  // buckets per unit of the interpolated logarithm
  std::uint64_t count_ = 0;
  std::uint64_t zeros_ = 0;
  double sum_ = 0;
  double min_, max_;
  Counts positive_, negative_;
};

}  // namespace spanbox
