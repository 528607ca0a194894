// How the numbers of each group are distributed: sketches, and all of them where that is asked.
#include <cmath>
#include <limits>

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
  return std::make_unique<SketchAccumulator>(spec);
}

}  // namespace spanbox
