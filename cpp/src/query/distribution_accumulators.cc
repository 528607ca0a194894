// How the numbers of each group are distributed: sketches, and all of them where that is asked.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "query/accumulators.h"
#include "query/numbers.h"

namespace spanbox {
namespace {

using Function = AggregateSpec::Function;
using GroupList = std::span<const std::uint32_t>;

constexpr std::size_t kHistogramBins = 32;

// [[low, high, count], ...]
std::string HistogramJson(const auto& sketch) {
  if (sketch.count() == 0) return {};
  std::string json = "[";
  for (const DDSketch::Bin& bin : sketch.Bins(kHistogramBins)) {
    json += (json.size() > 1 ? ",[" : "[") + NumberText(bin.low) + "," + NumberText(bin.high) + "," +
            std::to_string(bin.count) + "]";
  }
  return json + "]";
}

class SketchAccumulator : public Accumulator {
 public:
  explicit SketchAccumulator(const AggregateSpec& spec) : column_(spec.column.name) {}

  Status Add(GroupedRows& in) override {
    sketches_.resize(in.group_count, empty_);
    const std::span<const std::uint32_t> rows = in.rows(), group_of = in.group_of();
    return ForEachNumber(in.columns, column_, rows,
                         [&](std::size_t i, auto value) { sketches_[group_of[i]].Add(static_cast<double>(value)); });
  }

  Status AddCells(GroupedRows& in, const RollupCells& cells) override {
    sketches_.resize(in.group_count, empty_);
    const std::span<const std::uint32_t> rows = in.rows(), group_of = in.group_of();
    return ForEachSketch(cells, column_, rows,
                         [&](std::size_t i, const auto& sketch) { return sketches_[group_of[i]].Merge(sketch); });
  }

  Status Join(Accumulator& other, const GroupMap& groups) override {
    Status joined;
    JoinGroups(
        sketches_, static_cast<SketchAccumulator&>(other).sketches_, groups,
        [&](DDSketch& mine, const DDSketch& theirs) {
          if (joined.ok()) joined = mine.Merge(theirs);
        },
        empty_);
    return joined;
  }

  TableColumn Output(const AggregateSpec& spec, GroupList groups) const override {
    const auto of = [this](std::uint32_t group) -> const DDSketch& {
      return group < sketches_.size() ? sketches_[group] : empty_;
    };
    if (spec.function == Function::kHistogram) {
      std::vector<std::string> texts;
      for (const std::uint32_t group : groups) texts.push_back(HistogramJson(of(group)));
      return JsonColumnOf(texts);
    }
    std::vector<double> values;
    for (const std::uint32_t group : groups) values.push_back(of(group).Quantile(spec.q));
    return FloatColumnOf(std::move(values));
  }

 private:
  const std::string column_;
  const DDSketch empty_;
  std::vector<DDSketch> sketches_;
};

// Counts by logarithmic buckets that are the same for all data: 2^((i-1)/8) < v <= 2^(i/8). Those of Prometheus' native
// histograms of schema 3. Times count in seconds, as there.
class BucketsAccumulator : public Accumulator {
 public:
  explicit BucketsAccumulator(const AggregateSpec& spec)
      : column_(spec.column.name), scale_(column_.ends_with("_ns") ? 1e9 : 1) {}

  Status Add(GroupedRows& in) override {
    counts_.resize(in.group_count);
    const std::span<const std::uint32_t> rows = in.rows(), group_of = in.group_of();
    return ForEachNumber(in.columns, column_, rows, [&](std::size_t i, auto value) {
      AddCount(counts_[group_of[i]], static_cast<double>(value), 1);
    });
  }

  // A bucket of a sketch goes where its middle lies.
  Status AddCells(GroupedRows& in, const RollupCells& cells) override {
    counts_.resize(in.group_count);
    const std::span<const std::uint32_t> rows = in.rows(), group_of = in.group_of();
    return ForEachSketch(cells, column_, rows, [&](std::size_t i, const auto& sketch) -> Status {
      DDSketch one;
      SPANBOX_RETURN_IF_ERROR(one.Merge(sketch));
      for (const DDSketch::Bin& bin : one.Bins(2 * DDSketch::kMaxBuckets)) {
        if (bin.count > 0) AddCount(counts_[group_of[i]], std::midpoint(bin.low, bin.high), bin.count);
      }
      return OkStatus();
    });
  }

  Status Join(Accumulator& other, const GroupMap& groups) override {
    JoinGroups(counts_, static_cast<BucketsAccumulator&>(other).counts_, groups,
               [](Counts& mine, const Counts& theirs) {
                 for (const auto& [bucket, count] : theirs) mine[bucket] += count;
               });
    return OkStatus();
  }

  // [[i, count], ...], ascending; i is null for what is not above zero.
  TableColumn Output(const AggregateSpec&, GroupList groups) const override {
    std::vector<std::string> texts;
    for (const std::uint32_t group : groups) {
      std::string json;
      if (group < counts_.size()) {
        for (const auto& [bucket, count] : counts_[group]) {
          json += (json.empty() ? "[[" : ",[") + (bucket == kNotAboveZero ? "null" : std::to_string(bucket)) + "," +
                  std::to_string(count) + "]";
        }
      }
      texts.push_back(json.empty() ? json : json + "]");
    }
    return JsonColumnOf(texts);
  }

 private:
  static constexpr int kNotAboveZero = std::numeric_limits<int>::min();
  using Counts = std::map<int, std::uint64_t>;

  void AddCount(Counts& counts, double value, std::uint64_t count) const {
    if (!std::isnan(value)) counts[BucketOf(value / scale_)] += count;
  }

  static int BucketOf(double value) {
    static const std::array<double, 8> kUpperBounds = [] {
      std::array<double, 8> bounds{};
      for (std::size_t i = 0; i < bounds.size(); ++i) bounds[i] = std::exp2(static_cast<double>(i) / 8 - 1);
      return bounds;
    }();
    if (!(value > 0)) return kNotAboveZero;
    int exponent = 0;
    const double fraction = std::frexp(std::min(value, std::numeric_limits<double>::max()), &exponent);
    const auto place = std::ranges::lower_bound(kUpperBounds, fraction) - kUpperBounds.begin();
    return static_cast<int>(place) + 8 * (exponent - 1);
  }

  const std::string column_;
  const double scale_;
  std::vector<Counts> counts_;
};

class NumbersAccumulator : public Accumulator {
 public:
  explicit NumbersAccumulator(const AggregateSpec& spec) : column_(spec.column.name) {}

  Status Add(GroupedRows& in) override {
    numbers_.resize(in.group_count);
    const std::span<const std::uint32_t> rows = in.rows(), group_of = in.group_of();
    return ForEachNumber(in.columns, column_, rows, [&](std::size_t i, auto value) {
      const auto number = static_cast<double>(value);
      if (!std::isnan(number)) numbers_[group_of[i]].push_back(number);
    });
  }

  Status AddCells(GroupedRows&, const RollupCells&) override {
    return Internal("cells hold no single numbers");  // AddNeeds rules them out
  }

  Status Join(Accumulator& other, const GroupMap& groups) override {
    JoinGroups(numbers_, static_cast<NumbersAccumulator&>(other).numbers_, groups, [](auto& mine, auto& theirs) {
      mine.insert(mine.end(), theirs.begin(), theirs.end());
      theirs = {};
    });
    return OkStatus();
  }

  TableColumn Output(const AggregateSpec& spec, GroupList groups) const override {
    std::vector<double> values;
    for (const std::uint32_t group : groups) {
      std::vector<double> numbers = AtOr(numbers_, group);  // a copy: finding a quantile reorders
      values.push_back(numbers.empty() ? std::numeric_limits<double>::quiet_NaN() : ExactQuantile(numbers, spec.q));
    }
    return FloatColumnOf(std::move(values));
  }

 private:
  const std::string column_;
  std::vector<std::vector<double>> numbers_;
};

}  // namespace

std::unique_ptr<Accumulator> NewDistribution(const AggregateSpec& spec) {
  if (spec.function == Function::kExactQuantile) return std::make_unique<NumbersAccumulator>(spec);
  if (spec.function == Function::kBuckets) return std::make_unique<BucketsAccumulator>(spec);
  return std::make_unique<SketchAccumulator>(spec);
}

}  // namespace spanbox
