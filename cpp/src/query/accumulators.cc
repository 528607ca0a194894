#include "query/accumulators.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <type_traits>

#include "query/cells.h"
#include "query/numbers.h"
#include "query/predicate.h"

namespace spanbox {
namespace {

using Function = AggregateSpec::Function;
using GroupList = std::span<const std::uint32_t>;

// A float column of value(group); NaN is absent.
template <typename Value>
TableColumn Floats(GroupList groups, Value value) {
  std::vector<double> values;
  for (const std::uint32_t group : groups) values.push_back(value(group));
  return FloatColumnOf(std::move(values));
}

class CountAccumulator : public Accumulator {
 public:
  explicit CountAccumulator(const AggregateSpec& spec)
      : column_(spec.function == Function::kCountOf ? spec.column.name : std::string()) {}

  Status Add(GroupedRows& in) override {
    counts_.resize(in.group_count);
    if (column_.empty()) {
      in.ForEachGroup([&](std::uint32_t number, std::uint32_t group) { counts_[group] += in.groups.rows[number]; });
      return OkStatus();
    }
    SPANBOX_ASSIGN_OR_RETURN(const Bitmap present, RowsWithValue(column_, in.columns, in.selected));
    const std::vector<std::uint64_t> counts = in.CountIn(present);
    in.ForEachGroup([&](std::uint32_t number, std::uint32_t group) { counts_[group] += counts[number]; });
    return OkStatus();
  }

  Status AddCells(GroupedRows& in, const RollupCells& cells) override {
    counts_.resize(in.group_count);
    const std::span<const std::uint32_t> rows = in.rows(), group_of = in.group_of();
    const auto add = [&](std::size_t i, std::uint64_t spans) { counts_[group_of[i]] += spans; };
    if (!column_.empty()) {
      const std::string counted = CellColumn(column_, CellPart::kCount);
      SPANBOX_RETURN_IF_ERROR(ForEachNumber(
          cells.columns, counted, rows, [&](std::size_t i, auto spans) { add(i, static_cast<std::uint64_t>(spans)); }));
    }
    // A measure is no column of a cell: nobody has it. A dimension has no count of its own.
    Bitmap present = in.selected;
    if (!column_.empty()) {
      SPANBOX_ASSIGN_OR_RETURN(present, RowsWithValue(column_, cells.columns, in.selected));
    }
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (present[rows[i]]) add(i, cells.spans[rows[i]]);
    }
    return OkStatus();
  }

  Status Join(Accumulator& other, const GroupMap& groups) override {
    JoinSums(counts_, static_cast<CountAccumulator&>(other).counts_, groups);
    return OkStatus();
  }

  TableColumn Output(const AggregateSpec&, GroupList groups) const override { return CountColumn(counts_, groups); }

 private:
  const std::string column_;  // empty: spans
  std::vector<std::uint64_t> counts_;
};

__extension__ using Wide = __int128;

// Of a group: the numbers' count and sum, or their extremes. Whole numbers exactly, beside floats; NaN is passed over.
struct Sums {
  Wide ints = 0;
  double floats = 0;
  std::uint64_t count = 0;

  void Add(std::int64_t value) { ints += value; }
  void Add(double value) { floats += value; }
  Sums& operator+=(const Sums& other) {
    ints += other.ints;
    floats += other.floats;
    count += other.count;
    return *this;
  }
  double total() const { return static_cast<double>(ints) + floats; }
};
struct Extremes {
  std::int64_t int_min = std::numeric_limits<std::int64_t>::max(), int_max = std::numeric_limits<std::int64_t>::min();
  double float_min = std::numeric_limits<double>::infinity(), float_max = -std::numeric_limits<double>::infinity();
  bool any_int = false, any_float = false;

  void Add(std::int64_t value) {
    any_int = true;
    int_min = std::min(int_min, value);
    int_max = std::max(int_max, value);
  }
  void Add(double value) {
    if (std::isnan(value)) return;
    any_float = true;
    float_min = std::min(float_min, value);
    float_max = std::max(float_max, value);
  }
  void Add(const Extremes& other) {
    any_int |= other.any_int;
    any_float |= other.any_float;
    int_min = std::min(int_min, other.int_min);
    int_max = std::max(int_max, other.int_max);
    float_min = std::min(float_min, other.float_min);
    float_max = std::max(float_max, other.float_max);
  }
  double Float(bool smallest) const {
    if (!any_int && !any_float) return std::numeric_limits<double>::quiet_NaN();
    if (!any_int) return smallest ? float_min : float_max;
    return smallest ? std::min(static_cast<double>(int_min), float_min)
                    : std::max(static_cast<double>(int_max), float_max);
  }
};

bool HoldsFloats(const ColumnRef& column) { return column.info != nullptr && column.info->type == ColumnType::kFloat; }

// sum, mean
class SumsAccumulator : public Accumulator {
 public:
  explicit SumsAccumulator(const AggregateSpec& spec) : column_(spec.column), any_float_(HoldsFloats(spec.column)) {}

  Status Add(GroupedRows& in) override {
    sums_.resize(in.group_count);
    SPANBOX_ASSIGN_OR_RETURN(const auto chunks, in.columns.Find(column_.name));
    for (const ChunkInfo* chunk : chunks) {
      const bool is_float = chunk->type == ColumnType::kFloat;
      if (!is_float && chunk->type != ColumnType::kInt && chunk->type != ColumnType::kBool) continue;
      SPANBOX_ASSIGN_OR_RETURN(const auto* groups, in.ValuesOf(*chunk));
      SPANBOX_RETURN_IF_ERROR(is_float ? AddFloats(in, *chunk, *groups) : AddInts(in, *chunk, *groups));
    }
    return OkStatus();
  }

  // The sum of a cell is an int or a float, as its numbers were.
  Status AddCells(GroupedRows& in, const RollupCells& cells) override {
    sums_.resize(in.group_count);
    const std::span<const std::uint32_t> rows = in.rows(), group_of = in.group_of();
    const auto add = [&](std::size_t i, auto sum) {
      any_float_ |= std::is_same_v<decltype(sum), double>;
      sums_[group_of[i]].Add(sum);
    };
    SPANBOX_RETURN_IF_ERROR(ForEachNumber(cells.columns, CellColumn(column_.name, CellPart::kSum), rows, add));
    std::vector<std::uint64_t> numbers(rows.size());
    for (const CellPart part : {CellPart::kCount, CellPart::kNumbers}) {  // the second one where they differ
      SPANBOX_RETURN_IF_ERROR(
          ForEachNumber(cells.columns, CellColumn(column_.name, part), rows,
                        [&](std::size_t i, auto count) { numbers[i] = static_cast<std::uint64_t>(count); }));
    }
    for (std::size_t i = 0; i < numbers.size(); ++i) sums_[group_of[i]].count += numbers[i];
    return OkStatus();
  }

  Status Join(Accumulator& other, const GroupMap& groups) override {
    auto& sums = static_cast<SumsAccumulator&>(other);
    any_float_ |= sums.any_float_;
    JoinSums(sums_, sums.sums_, groups);
    return OkStatus();
  }

  TableColumn Output(const AggregateSpec& spec, GroupList groups) const override {
    if (spec.function == Function::kMean) {
      return Floats(groups, [&](std::uint32_t group) {  // 0 / 0 is NaN: absent
        const Sums sums = AtOr(sums_, group);
        return sums.total() / static_cast<double>(sums.count);
      });
    }
    const auto fits = [&](std::uint32_t group) {
      const Wide sum = AtOr(sums_, group).ints;
      return sum == static_cast<std::int64_t>(sum);
    };
    if (any_float_ || !std::ranges::all_of(groups, fits)) {
      return Floats(groups, [&](std::uint32_t group) { return AtOr(sums_, group).total(); });
    }
    TableColumn out;
    for (const std::uint32_t group : groups) out.ints.push_back(static_cast<std::int64_t>(AtOr(sums_, group).ints));
    return out;
  }

 private:
  Status AddInts(const GroupedRows& in, const ChunkInfo& chunk, const GroupedRows::OfValues& of) {
    // All of one segment fit 64 bits unless they are very large; those are added as they are summed up, in 128.
    const Wide largest = std::max(-Wide{chunk.min_int}, Wide{chunk.max_int});
    if (largest * chunk.valid_count <= std::numeric_limits<std::int64_t>::max()) {
      LocalSums<std::uint64_t> sums(in.groups.count);
      SPANBOX_RETURN_IF_ERROR(
          SumUp(in, chunk, of, sums, [](std::int64_t value) { return static_cast<std::uint64_t>(value); }));
      AddTotals(in, of, [&](Sums& total, std::uint32_t number) { total.Add(static_cast<std::int64_t>(sums[number])); });
    } else {
      LocalSums<Wide> sums(in.groups.count);
      SPANBOX_RETURN_IF_ERROR(SumUp(in, chunk, of, sums, [](std::int64_t value) { return Wide{value}; }));
      AddTotals(in, of, [&](Sums& total, std::uint32_t number) { total.ints += sums[number]; });
    }
    return OkStatus();
  }

  Status AddFloats(const GroupedRows& in, const ChunkInfo& chunk, const GroupedRows::OfValues& of) {
    LocalSums<double> sums(in.groups.count);
    SPANBOX_RETURN_IF_ERROR(SumUp(in, chunk, of, sums, [](std::int64_t bits) { return std::bit_cast<double>(bits); }));
    bool nan = false;
    AddTotals(in, of, [&](Sums& total, std::uint32_t number) {
      any_float_ |= of.values[number] > 0;
      if (std::isnan(sums[number])) {
        nan = true;
      } else {
        total.Add(sums[number]);
      }
    });
    if (!nan) return OkStatus();
    // Some group has a NaN, which is passed over, or infinities of both signs: those groups again, number by number.
    return in.columns.VisitNumbers(chunk, [&](std::size_t before, std::span<const std::int64_t> values) {
      for (std::size_t i = 0; i < values.size(); ++i) {
        const std::uint32_t number = of.of_value[before + i];
        if (number == in.groups.count || !std::isnan(sums[number])) continue;
        Sums& total = sums_[in.groups.group[number]];
        const auto value = std::bit_cast<double>(values[i]);
        std::isnan(value) ? static_cast<void>(--total.count) : total.Add(value);
      }
    });
  }

  template <typename T, typename Convert>
  static Status SumUp(const GroupedRows& in, const ChunkInfo& chunk, const GroupedRows::OfValues& of,
                      LocalSums<T>& sums, Convert convert) {
    return in.columns.VisitNumbers(chunk, [&](std::size_t before, std::span<const std::int64_t> values) {
      sums.AddAll(of.of_value.subspan(before, values.size()), [=](std::size_t i) { return convert(values[i]); });
    });
  }

  template <typename Add>
  void AddTotals(const GroupedRows& in, const GroupedRows::OfValues& of, Add add) {
    in.ForEachGroup([&](std::uint32_t number, std::uint32_t group) {
      sums_[group].count += of.values[number];
      add(sums_[group], number);
    });
  }

  const ColumnRef column_;
  bool any_float_;
  std::vector<Sums> sums_;
};

// min, max
class ExtremesAccumulator : public Accumulator {
 public:
  explicit ExtremesAccumulator(const AggregateSpec& spec) : column_(spec.column) {}

  Status Add(GroupedRows& in) override { return AddNumbers(in, in.columns, column_.name); }
  Status AddCells(GroupedRows& in, const RollupCells& cells) override {
    SPANBOX_RETURN_IF_ERROR(AddNumbers(in, cells.columns, CellColumn(column_.name, CellPart::kMin)));
    return AddNumbers(in, cells.columns, CellColumn(column_.name, CellPart::kMax));
  }

  Status Join(Accumulator& other, const GroupMap& groups) override {
    auto& extremes = static_cast<ExtremesAccumulator&>(other);
    any_float_ |= extremes.any_float_;
    JoinGroups(extremes_, extremes.extremes_, groups, [](Extremes& mine, const Extremes& theirs) { mine.Add(theirs); });
    return OkStatus();
  }

  TableColumn Output(const AggregateSpec& spec, GroupList groups) const override {
    const bool smallest = spec.function == Function::kMin;
    if (HoldsFloats(column_) || any_float_) {
      return Floats(groups, [&](std::uint32_t group) { return AtOr(extremes_, group).Float(smallest); });
    }
    TableColumn out;
    if (column_.info != nullptr && column_.info->column == Column::kStartNs) out.type = TableColumn::Type::kTimestampNs;
    for (std::size_t i = 0; i < groups.size(); ++i) {
      const Extremes extremes = AtOr(extremes_, groups[i]);
      if (!extremes.any_int && out.valid.empty()) out.valid.assign(groups.size(), 1);
      if (!extremes.any_int) out.valid[i] = 0;
      out.ints.push_back(smallest ? extremes.int_min : extremes.int_max);
    }
    return out;
  }

 private:
  Status AddNumbers(GroupedRows& in, SegmentColumns& columns, const std::string& name) {
    extremes_.resize(in.group_count);
    const std::span<const std::uint32_t> rows = in.rows(), group_of = in.group_of();
    return ForEachNumber(columns, name, rows, [&](std::size_t i, auto value) {
      any_float_ |= std::is_same_v<decltype(value), double>;
      extremes_[group_of[i]].Add(value);
    });
  }

  const ColumnRef column_;
  bool any_float_ = false;
  std::vector<Extremes> extremes_;
};

class RateAccumulator : public Accumulator {
 public:
  explicit RateAccumulator(const AggregateSpec& spec) : filter_(spec.filter) {}

  Status Add(GroupedRows& in) override {
    totals_.resize(in.group_count);
    hits_.resize(in.group_count);
    SPANBOX_ASSIGN_OR_RETURN(const Bitmap holds, Select(filter_, in.columns, in.selected));
    const std::vector<std::uint64_t> hits = in.CountIn(holds);
    in.ForEachGroup([&](std::uint32_t number, std::uint32_t group) {
      totals_[group] += in.groups.rows[number];
      hits_[group] += hits[number];
    });
    return OkStatus();
  }

  Status AddCells(GroupedRows& in, const RollupCells& cells) override {
    totals_.resize(in.group_count);
    const std::span<const std::uint32_t> rows = in.rows(), group_of = in.group_of();
    hits_.resize(in.group_count);
    SPANBOX_ASSIGN_OR_RETURN(const Bitmap holds, Select(filter_, cells.columns, in.selected));
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const std::uint64_t spans = cells.spans[rows[i]];
      totals_[group_of[i]] += spans;
      hits_[group_of[i]] += holds[rows[i]] ? spans : 0;
    }
    return OkStatus();
  }

  Status Join(Accumulator& other, const GroupMap& groups) override {
    auto& rate = static_cast<RateAccumulator&>(other);
    JoinSums(totals_, rate.totals_, groups);
    JoinSums(hits_, rate.hits_, groups);
    return OkStatus();
  }

  TableColumn Output(const AggregateSpec&, GroupList groups) const override {
    return Floats(groups, [&](std::uint32_t group) {  // 0 / 0 is NaN: absent
      return static_cast<double>(AtOr(hits_, group)) / static_cast<double>(AtOr(totals_, group));
    });
  }

 private:
  const Filter filter_;
  std::vector<std::uint64_t> totals_, hits_;
};

}  // namespace

TableColumn CountColumn(const std::vector<std::uint64_t>& counts, GroupList groups) {
  TableColumn out;
  for (const std::uint32_t group : groups) out.ints.push_back(static_cast<std::int64_t>(AtOr(counts, group)));
  return out;
}

TableColumn FloatColumnOf(std::vector<double> values) {
  TableColumn out;
  out.type = TableColumn::Type::kFloat;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isnan(values[i])) continue;
    if (out.valid.empty()) out.valid.assign(values.size(), 1);
    out.valid[i] = 0;
  }
  out.floats = std::move(values);
  return out;
}

TableColumn JsonColumnOf(const std::vector<std::string>& texts) {
  TableColumn out;
  out.type = TableColumn::Type::kString;
  out.is_json = true;
  StringPool pool;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (texts[i].empty() && out.valid.empty()) out.valid.assign(texts.size(), 1);
    if (texts[i].empty()) out.valid[i] = 0;
    out.codes.push_back(pool.Intern(texts[i]));
  }
  out.dictionary = std::move(pool).Take();
  return out;
}

std::string SharingKey(const AggregateSpec& spec) {
  switch (spec.function) {
    case Function::kCount:
      return "count";
    case Function::kCountOf:
      return "count " + spec.column.name;
    case Function::kQuantile:
    case Function::kHistogram:
      return "sketch " + spec.column.name;
    case Function::kBuckets:
      return "buckets " + spec.column.name;
    case Function::kExactQuantile:
      return "numbers " + spec.column.name;
    case Function::kRate:
      return "rate " + spec.filter.text;
    case Function::kDistinct:
    case Function::kTop:
      return "values " + spec.column.name;
    case Function::kApproxDistinct:
      return "hashes " + spec.column.name;
    case Function::kSum:
    case Function::kMean:
      return "sums " + spec.column.name;
    case Function::kMin:
    case Function::kMax:
      return "extremes " + spec.column.name;
  }
  return {};
}

std::unique_ptr<Accumulator> NewAccumulator(const AggregateSpec& spec) {
  switch (spec.function) {
    case Function::kCount:
    case Function::kCountOf:
      return std::make_unique<CountAccumulator>(spec);
    case Function::kQuantile:
    case Function::kExactQuantile:
    case Function::kHistogram:
    case Function::kBuckets:
      return NewDistribution(spec);
    case Function::kRate:
      return std::make_unique<RateAccumulator>(spec);
    case Function::kDistinct:
    case Function::kApproxDistinct:
    case Function::kTop:
      return NewValues(spec);
    case Function::kSum:
    case Function::kMean:
      return std::make_unique<SumsAccumulator>(spec);
    case Function::kMin:
    case Function::kMax:
      return std::make_unique<ExtremesAccumulator>(spec);
  }
  return nullptr;
}

void AddNeeds(const AggregateSpec& spec, CellNeeds& needs) {
  switch (spec.function) {
    case Function::kCount:
      return;
    case Function::kCountOf:
      return needs.Value(spec.column);
    case Function::kQuantile:
    case Function::kHistogram:
      return needs.Sketched(spec.column);
    case Function::kBuckets:
      return needs.Bucketed(spec.column);
    case Function::kExactQuantile:
      return needs.Numbers();
    case Function::kRate:
      return needs.Test(spec.filter);
    case Function::kDistinct:
    case Function::kApproxDistinct:
    case Function::kTop:
      return needs.Distinct(spec.column);
    default:
      return needs.Measure(spec.column);
  }
}

}  // namespace spanbox
