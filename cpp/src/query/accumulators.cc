#include "query/accumulators.h"

#include <cmath>
#include <limits>

#include "query/cells.h"
#include "query/numbers.h"
#include "query/predicate.h"

namespace spanbox {
namespace {

using Function = AggregateSpec::Function;
using Groups = std::span<const std::uint32_t>;

// A float column of value(group); NaN is absent.
template <typename Value>
TableColumn Floats(Groups groups, Value value) {
  std::vector<double> values;
  for (const std::uint32_t group : groups) values.push_back(value(group));
  return FloatColumnOf(std::move(values));
}

class CountAccumulator : public Accumulator {
 public:
  explicit CountAccumulator(const AggregateSpec& spec)
      : column_(spec.function == Function::kCountOf ? spec.column.name : std::string()) {}

  Status Add(const GroupedRows& in) override {
    counts_.resize(in.group_count);
    if (column_.empty()) {
      for (const std::uint32_t group : in.groups) ++counts_[group];
      return OkStatus();
    }
    SPANBOX_ASSIGN_OR_RETURN(const Bitmap present, RowsWithValue(column_, in.columns, in.selected));
    for (std::size_t i = 0; i < in.rows.size(); ++i) counts_[in.groups[i]] += present[in.rows[i]] ? 1 : 0;
    return OkStatus();
  }

  Status AddCells(const GroupedRows& in, const RollupCells& cells) override {
    counts_.resize(in.group_count);
    const auto add = [&](std::size_t i, std::uint64_t spans) { counts_[in.groups[i]] += spans; };
    if (!column_.empty()) {
      const std::string counted = CellColumn(column_, CellPart::kCount);
      SPANBOX_RETURN_IF_ERROR(ForEachNumber(cells.columns, counted, in.rows, [&](std::size_t i, auto spans) {
        add(i, static_cast<std::uint64_t>(spans));
      }));
    }
    // A measure is no column of a cell: nobody has it. A dimension has no count of its own.
    Bitmap present = in.selected;
    if (!column_.empty()) {
      SPANBOX_ASSIGN_OR_RETURN(present, RowsWithValue(column_, cells.columns, in.selected));
    }
    for (std::size_t i = 0; i < in.rows.size(); ++i) {
      if (present[in.rows[i]]) add(i, cells.spans[in.rows[i]]);
    }
    return OkStatus();
  }

  TableColumn Output(const AggregateSpec&, Groups groups) const override { return CountColumn(counts_, groups); }

 private:
  const std::string column_;  // empty: spans
  std::vector<std::uint64_t> counts_;
};

// Whole numbers exactly, beside floats; NaN is passed over.
class MomentsAccumulator : public Accumulator {
 public:
  explicit MomentsAccumulator(const AggregateSpec& spec) : column_(spec.column) {
    any_float_ = column_.info != nullptr && column_.info->type == ColumnType::kFloat;
  }

  Status Add(const GroupedRows& in) override {
    moments_.resize(in.group_count);
    return ForEachNumber(in.columns, column_.name, in.rows,
                         [&](std::size_t i, auto value) { Put(moments_[in.groups[i]], value); });
  }

  // Sum and extremes of a cell are ints or floats, as its numbers were; its number of numbers is added last.
  Status AddCells(const GroupedRows& in, const RollupCells& cells) override {
    moments_.resize(in.group_count);
    const auto each = [&](CellPart part, auto put) {
      return ForEachNumber(cells.columns, CellColumn(column_.name, part), in.rows,
                           [&](std::size_t i, auto value) { put(moments_[in.groups[i]], value); });
    };
    SPANBOX_RETURN_IF_ERROR(each(CellPart::kSum, [this](Moments& m, auto sum) { AddSum(m, sum); }));
    SPANBOX_RETURN_IF_ERROR(each(CellPart::kMin, [](Moments& m, auto value) { Extend(m, value); }));
    SPANBOX_RETURN_IF_ERROR(each(CellPart::kMax, [](Moments& m, auto value) { Extend(m, value); }));
    return AddCellCounts(in, cells);
  }

  TableColumn Output(const AggregateSpec& spec, Groups groups) const override {
    if (spec.function == Function::kMean) {
      return Floats(groups, [&](std::uint32_t group) { return Mean(AtOr(moments_, group)); });
    }
    if (any_float_ || !FitsInts(spec.function, groups)) {
      return Floats(groups, [&](std::uint32_t group) { return FloatAnswer(spec.function, AtOr(moments_, group)); });
    }
    TableColumn out;
    const bool moment =
        column_.info != nullptr && column_.info->column == Column::kStartNs && spec.function != Function::kSum;
    if (moment) out.type = TableColumn::Type::kTimestampNs;
    for (std::size_t i = 0; i < groups.size(); ++i) {
      const Moments m = AtOr(moments_, groups[i]);
      if (m.count == 0 && spec.function != Function::kSum) {
        if (out.valid.empty()) out.valid.assign(groups.size(), 1);
        out.valid[i] = 0;
      }
      out.ints.push_back(spec.function == Function::kSum   ? static_cast<std::int64_t>(m.int_sum)
                         : spec.function == Function::kMin ? m.int_min
                                                           : m.int_max);
    }
    return out;
  }

 private:
  __extension__ using Wide = __int128;
  struct Moments {
    std::uint64_t count = 0;
    bool any_int = false;
    Wide int_sum = 0;
    std::int64_t int_min = std::numeric_limits<std::int64_t>::max(), int_max = std::numeric_limits<std::int64_t>::min();
    double float_sum = 0;
    double float_min = std::numeric_limits<double>::infinity(), float_max = -std::numeric_limits<double>::infinity();
  };

  void Put(Moments& m, std::int64_t value) {
    ++m.count;
    AddSum(m, value);
    Extend(m, value);
  }
  void Put(Moments& m, double value) {
    if (std::isnan(value)) return;
    ++m.count;
    AddSum(m, value);
    Extend(m, value);
  }

  void AddSum(Moments& m, std::int64_t value) { m.int_sum += value; }
  void AddSum(Moments& m, double value) {
    any_float_ = true;
    m.float_sum += value;
  }
  static void Extend(Moments& m, std::int64_t value) {
    m.any_int = true;
    m.int_min = std::min(m.int_min, value);
    m.int_max = std::max(m.int_max, value);
  }
  static void Extend(Moments& m, double value) {
    m.float_min = std::min(m.float_min, value);
    m.float_max = std::max(m.float_max, value);
  }

  Status AddCellCounts(const GroupedRows& in, const RollupCells& cells) {
    std::vector<std::uint64_t> numbers(in.rows.size());
    for (const CellPart part : {CellPart::kCount, CellPart::kNumbers}) {  // the second one where they differ
      SPANBOX_RETURN_IF_ERROR(
          ForEachNumber(cells.columns, CellColumn(column_.name, part), in.rows,
                        [&](std::size_t i, auto count) { numbers[i] = static_cast<std::uint64_t>(count); }));
    }
    for (std::size_t i = 0; i < numbers.size(); ++i) moments_[in.groups[i]].count += numbers[i];
    return OkStatus();
  }

  static double Mean(const Moments& m) {
    if (m.count == 0) return std::numeric_limits<double>::quiet_NaN();
    return (static_cast<double>(m.int_sum) + m.float_sum) / static_cast<double>(m.count);
  }

  static double FloatAnswer(Function function, const Moments& m) {
    if (function == Function::kSum) return static_cast<double>(m.int_sum) + m.float_sum;
    if (m.count == 0) return std::numeric_limits<double>::quiet_NaN();
    if (function == Function::kMin)
      return m.any_int ? std::min(static_cast<double>(m.int_min), m.float_min) : m.float_min;
    return m.any_int ? std::max(static_cast<double>(m.int_max), m.float_max) : m.float_max;
  }

  bool FitsInts(Function function, Groups groups) const {
    if (function != Function::kSum) return true;
    for (const std::uint32_t group : groups) {
      const Wide sum = AtOr(moments_, group).int_sum;
      if (sum != static_cast<std::int64_t>(sum)) return false;
    }
    return true;
  }

  const ColumnRef column_;
  bool any_float_ = false;
  std::vector<Moments> moments_;
};

class RateAccumulator : public Accumulator {
 public:
  explicit RateAccumulator(const AggregateSpec& spec) : filter_(spec.filter) {}

  Status Add(const GroupedRows& in) override {
    totals_.resize(in.group_count);
    hits_.resize(in.group_count);
    SPANBOX_ASSIGN_OR_RETURN(const Bitmap holds, Select(filter_, in.columns, in.selected));
    for (std::size_t i = 0; i < in.rows.size(); ++i) {
      ++totals_[in.groups[i]];
      hits_[in.groups[i]] += holds[in.rows[i]] ? 1 : 0;
    }
    return OkStatus();
  }

  Status AddCells(const GroupedRows& in, const RollupCells& cells) override {
    totals_.resize(in.group_count);
    hits_.resize(in.group_count);
    SPANBOX_ASSIGN_OR_RETURN(const Bitmap holds, Select(filter_, cells.columns, in.selected));
    for (std::size_t i = 0; i < in.rows.size(); ++i) {
      const std::uint64_t spans = cells.spans[in.rows[i]];
      totals_[in.groups[i]] += spans;
      hits_[in.groups[i]] += holds[in.rows[i]] ? spans : 0;
    }
    return OkStatus();
  }

  TableColumn Output(const AggregateSpec&, Groups groups) const override {
    return Floats(groups, [&](std::uint32_t group) {  // 0 / 0 is NaN: absent
      return static_cast<double>(AtOr(hits_, group)) / static_cast<double>(AtOr(totals_, group));
    });
  }

 private:
  const Filter filter_;
  std::vector<std::uint64_t> totals_, hits_;
};

}  // namespace

TableColumn CountColumn(const std::vector<std::uint64_t>& counts, Groups groups) {
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
    case Function::kExactQuantile:
      return "numbers " + spec.column.name;
    case Function::kRate:
      return "rate " + spec.filter.text;
    case Function::kDistinct:
    case Function::kTop:
      return "values " + spec.column.name;
    case Function::kApproxDistinct:
      return "hashes " + spec.column.name;
    default:
      return "moments " + spec.column.name;
  }
}

std::unique_ptr<Accumulator> NewAccumulator(const AggregateSpec& spec) {
  switch (spec.function) {
    case Function::kCount:
    case Function::kCountOf:
      return std::make_unique<CountAccumulator>(spec);
    case Function::kQuantile:
    case Function::kExactQuantile:
    case Function::kHistogram:
      return NewDistribution(spec);
    case Function::kRate:
      return std::make_unique<RateAccumulator>(spec);
    case Function::kDistinct:
    case Function::kApproxDistinct:
    case Function::kTop:
      return NewValues(spec);
    default:
      return std::make_unique<MomentsAccumulator>(spec);
  }
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
    case Function::kExactQuantile:
      needs.answerable = false;
      return;
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
