// What is kept of each group while segments pass: counts, moments, sketches, sets.
//
// Thread rule: one thread. Ownership: an accumulator owns its state.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "query/filter.h"
#include "query/grouped_rows.h"
#include "query/query_run.h"
#include "query/rollup_cells.h"
#include "spanbox/query.h"

namespace spanbox {

struct AggregateSpec {
  enum class Function {
    kCount,
    kCountOf,
    kSum,
    kMean,
    kMin,
    kMax,
    kQuantile,
    kExactQuantile,
    kHistogram,
    kBuckets,
    kRate,
    kDistinct,
    kApproxDistinct,
    kTop
  };
  Function function = Function::kCount;
  ColumnRef column;
  double q = 0;         // kQuantile, kExactQuantile
  std::size_t top = 0;  // kTop
  Filter filter;        // kRate
};

// p99(ttft), count(), ... InvalidArgument with the place.
Result<AggregateSpec> ParseAggregate(std::string_view expression, About about);

// The groups of another Groups, as Groups::Join has numbered them here, and how many there are here.
struct GroupMap {
  std::span<const std::uint32_t> group_of;
  std::uint32_t count;
};

// join(mine[group here], theirs[group there]) for each of theirs.
template <typename T, typename Fn>
void JoinGroups(std::vector<T>& mine, std::vector<T>& theirs, const GroupMap& groups, Fn join, const T& empty = {}) {
  mine.resize(groups.count, empty);
  for (std::size_t group = 0; group < theirs.size(); ++group) join(mine[groups.group_of[group]], theirs[group]);
}
template <typename T>
void JoinSums(std::vector<T>& mine, std::vector<T>& theirs, const GroupMap& groups) {
  JoinGroups(mine, theirs, groups, [](T& sum, const T& other) { sum += other; });
}

class Accumulator {
 public:
  virtual ~Accumulator() = default;
  virtual Status Add(GroupedRows& rows) = 0;

  // The same of dropped spans: the rows are cells. REQUIRES: AddNeeds leaves them answerable.
  virtual Status AddCells(GroupedRows& rows, const RollupCells& cells) = 0;

  // Takes in what another one of the same spec has kept of the groups of its own.
  virtual Status Join(Accumulator& other, const GroupMap& groups) = 0;

  // The answer for these groups, in this order. Groups that no Add has seen are empty sets.
  virtual TableColumn Output(const AggregateSpec& spec, std::span<const std::uint32_t> groups) const = 0;
};

// Of the functions in distribution_accumulators.cc and value_accumulators.cc. REQUIRES: spec.function is one of them.
std::unique_ptr<Accumulator> NewDistribution(const AggregateSpec& spec);  // quantiles, histogram, buckets
std::unique_ptr<Accumulator> NewValues(const AggregateSpec& spec);        // distinct, approx_distinct, top

// What accumulators make their output of: per[group], or a default where no Add has seen the group.
template <typename T>
T AtOr(const std::vector<T>& per, std::uint32_t group, T otherwise = {}) {
  return group < per.size() ? per[group] : otherwise;
}
TableColumn CountColumn(const std::vector<std::uint64_t>& counts, std::span<const std::uint32_t> groups);
TableColumn FloatColumnOf(std::vector<double> values);            // NaN is absent
TableColumn JsonColumnOf(const std::vector<std::string>& texts);  // empty is absent

// Specs with the same key can share an accumulator: p50(ttft) and p99(ttft) read one sketch.
std::string SharingKey(const AggregateSpec& spec);
std::unique_ptr<Accumulator> NewAccumulator(const AggregateSpec& spec);

// Adds what the aggregate asks of a span.
void AddNeeds(const AggregateSpec& spec, CellNeeds& needs);

}  // namespace spanbox
