// How the numbers of each group are distributed: sketches, and all of them where that is asked.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <type_traits>

#include "query/accumulators.h"
#include "query/kept_sketches.h"
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

// The numbers of groups as they came, until the answer. Where a group has few, that takes a fraction of a sketch's time
// and room, and tells what a sketch would.
class FewNumbers {
 public:
  std::size_t size() const { return numbers_.size(); }

  void Add(std::uint32_t group, double number) {
    if (std::isnan(number)) return;
    groups_.push_back(group);
    numbers_.push_back(number);
    last_group_ = std::max(last_group_, group);
    ends_.clear();
  }

  // Calls fn(group, number) for all of them and forgets them.
  template <typename Fn>
  void Drain(Fn fn) {
    for (std::size_t i = 0; i < numbers_.size(); ++i) fn(groups_[i], numbers_[i]);
    *this = {};
  }

  // In ascending order, unless there are more than kMostSorted.
  static constexpr std::size_t kMostSorted = 64;
  std::span<const double> Of(std::uint32_t group) {
    if (ends_.empty()) Sort();
    if (group > last_group_ || numbers_.empty()) return {};
    const std::uint32_t begin = group == 0 ? 0 : ends_[group - 1];
    return std::span(numbers_).subspan(begin, ends_[group] - begin);
  }

 private:
  void Sort() {
    ends_.assign(std::size_t{last_group_} + 1, 0);
    for (const std::uint32_t group : groups_) ++ends_[group];
    std::partial_sum(ends_.begin(), ends_.end(), ends_.begin());
    std::vector<double> ordered(numbers_.size());
    std::vector<std::uint32_t> next = ends_;
    for (std::size_t i = numbers_.size(); i-- > 0;) ordered[--next[groups_[i]]] = numbers_[i];
    for (std::size_t group = 0; group < ends_.size(); ++group) {
      if (ends_[group] - next[group] > kMostSorted) continue;
      std::sort(ordered.begin() + next[group], ordered.begin() + ends_[group]);
    }
    numbers_ = std::move(ordered);
    for (std::uint32_t group = 0; group <= last_group_; ++group) {
      std::fill(groups_.begin() + next[group], groups_.begin() + ends_[group], group);
    }
  }

  std::vector<std::uint32_t> groups_;
  std::vector<double> numbers_;
  std::vector<std::uint32_t> ends_;  // of each group's numbers; empty unless these are in order
  std::uint32_t last_group_ = 0;
};

class SketchAccumulator : public Accumulator {
 public:
  explicit SketchAccumulator(const AggregateSpec& spec) : column_(spec.column.name) {}

  Status Add(GroupedRows& in) override {
    const std::span<const std::uint32_t> rows = in.rows(), group_of = in.group_of();
    std::size_t groups = 0;
    in.ForEachGroup([&](std::uint32_t, std::uint32_t) { ++groups; });
    if (rows.size() >= groups * kManyRows) {
      sketches_.resize(in.group_count, empty_);
      return ForEachNumber(in.columns, column_, rows,
                           [&](std::size_t i, auto value) { sketches_[group_of[i]].Add(static_cast<double>(value)); });
    }
    SPANBOX_RETURN_IF_ERROR(ForEachNumber(in.columns, column_, rows, [&](std::size_t i, auto value) {
      few_.Add(group_of[i], static_cast<double>(value));
    }));
    if (few_.size() >= kMostFew) DrainFew();
    return OkStatus();
  }

  Status AddCells(GroupedRows& in, const RollupCells& cells) override {
    const std::span<const std::uint32_t> rows = in.rows(), group_of = in.group_of();
    SPANBOX_RETURN_IF_ERROR(ForEachSketch(cells, column_, rows, [&](std::size_t i, const auto& sketch) -> Status {
      if constexpr (std::is_same_v<std::decay_t<decltype(sketch)>, DDSketch::Part>) {
        return kept_.Add(group_of[i], sketch);
      } else {
        if (sketches_.size() < in.group_count) sketches_.resize(in.group_count, empty_);
        return sketches_[group_of[i]].Merge(sketch);
      }
    }));
    return !kept_.full() || kept_.Join() ? OkStatus() : DrainKept();
  }

  Status Join(Accumulator& other, const GroupMap& groups) override {
    auto& theirs = static_cast<SketchAccumulator&>(other);
    theirs.few_.Drain([&](std::uint32_t group, double number) { few_.Add(groups.group_of[group], number); });
    if (few_.size() >= kMostFew) DrainFew();
    Status joined = theirs.kept_.Drain(
        [&](std::uint32_t group, const DDSketch::Part& part) { return kept_.Add(groups.group_of[group], part); });
    if (joined.ok() && kept_.full() && !kept_.Join()) joined = DrainKept();
    JoinGroups(
        sketches_, theirs.sketches_, groups,
        [&](DDSketch& mine, const DDSketch& merged) {
          if (joined.ok()) joined = mine.Merge(merged);
        },
        empty_);
    return joined;
  }

  TableColumn Output(const AggregateSpec& spec, GroupList groups) const override {
    if (!kept_.Join()) (void)DrainKept();  // all of them have been taken before
    if (spec.function == Function::kHistogram) {
      std::vector<std::string> texts;
      for (const std::uint32_t group : groups) texts.push_back(HistogramJson(SketchOf(group)));
      return JsonColumnOf(texts);
    }
    std::vector<double> values;
    for (const std::uint32_t group : groups) values.push_back(QuantileOf(group, spec.q));
    return FloatColumnOf(std::move(values));
  }

 private:
  static constexpr std::size_t kManyRows = 32;      // of a group in a segment, on average
  static constexpr std::size_t kMostFew = 1 << 20;  // 12 MiB

  void DrainFew() {
    few_.Drain([&](std::uint32_t group, double number) {
      if (group >= sketches_.size()) sketches_.resize(std::size_t{group} + 1, empty_);
      sketches_[group].Add(number);
    });
  }

  // Where they cannot be added up as they are.
  Status DrainKept() const {
    return kept_.Drain([&](std::uint32_t group, const DDSketch::Part& part) {
      if (group >= sketches_.size()) sketches_.resize(std::size_t{group} + 1, empty_);
      return sketches_[group].Merge(part);
    });
  }

  DDSketch SketchOf(std::uint32_t group) const {
    DDSketch sketch = AtOr(sketches_, group, empty_);
    sketch.Add(few_.Of(group));
    (void)sketch.Merge(kept_.Of(group));
    return sketch;
  }

  double QuantileOf(std::uint32_t group, double q) const {
    const std::span<const double> few = few_.Of(group);
    const DDSketch::Part kept = kept_.Of(group);
    const bool sketched = group < sketches_.size() && sketches_[group].count() > 0;
    const bool sorted = few.size() <= FewNumbers::kMostSorted;
    if (kept.count > 0) return few.empty() && !sketched ? empty_.QuantileOf(kept, q) : SketchOf(group).Quantile(q);
    if (few.empty()) return sketched ? sketches_[group].Quantile(q) : empty_.Quantile(q);
    return sketched || !sorted ? SketchOf(group).Quantile(q) : empty_.QuantileOfSorted(few, q);
  }

  const std::string column_;
  const DDSketch empty_;
  mutable std::vector<DDSketch> sketches_;
  mutable FewNumbers few_;     // Output puts them in order,
  mutable KeptSketches kept_;  // and adds these up
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
