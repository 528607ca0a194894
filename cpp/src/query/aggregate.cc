#include <algorithm>
#include <charconv>

#include "query/accumulators.h"
#include "query/groups.h"
#include "query/lexer.h"
#include "query/numbers.h"
#include "spanbox/query.h"

namespace spanbox {
namespace {

using Function = AggregateSpec::Function;

struct FunctionName {
  std::string_view name;
  Function function;
  bool numeric;
};
constexpr FunctionName kFunctions[] = {{"count", Function::kCountOf, false},
                                       {"sum", Function::kSum, true},
                                       {"mean", Function::kMean, true},
                                       {"min", Function::kMin, true},
                                       {"max", Function::kMax, true},
                                       {"histogram", Function::kHistogram, true},
                                       {"buckets", Function::kBuckets, true},
                                       {"distinct", Function::kDistinct, false},
                                       {"approx_distinct", Function::kApproxDistinct, false},
                                       {"top", Function::kTop, false}};
constexpr std::string_view kExamples =
    "count() count(x) sum(x) mean(x) min(x) max(x) p99(x) p99(x, exact) histogram(x) buckets(x) rate(filter) "
    "distinct(x) "
    "approx_distinct(x) top(x, 5)";
constexpr std::size_t kDefaultTop = 10;
constexpr std::int64_t kMaxTop = 1000;

// The groups that some segments have, and what is kept of each.
class PartialAnswer {
 public:
  explicit PartialAnswer(Groups groups) : groups_(std::move(groups)) {}

  void Keep(const AggregateSpec& spec) { accumulators_.push_back(NewAccumulator(spec)); }

  Status Add(SegmentColumns& columns, const Bitmap& selected) {
    SPANBOX_ASSIGN_OR_RETURN(const SegmentGroups numbered, groups_.Read(columns, selected));
    GroupedRows in(columns, selected, numbered, groups_.count());
    for (const auto& accumulator : accumulators_) SPANBOX_RETURN_IF_ERROR(accumulator->Add(in));
    return OkStatus();
  }

  Status AddCells(const RollupCells& cells, const Bitmap& selected) {
    SPANBOX_ASSIGN_OR_RETURN(const SegmentGroups numbered, groups_.Read(cells.columns, selected));
    GroupedRows in(cells.columns, selected, numbered, groups_.count());
    for (const auto& accumulator : accumulators_) SPANBOX_RETURN_IF_ERROR(accumulator->AddCells(in, cells));
    return OkStatus();
  }

  // Of the same question about other segments.
  Status Join(PartialAnswer& other) {
    const std::vector<std::uint32_t> group_of = groups_.Join(other.groups_);
    const GroupMap map{group_of, groups_.count()};
    for (std::size_t i = 0; i < accumulators_.size(); ++i) {
      SPANBOX_RETURN_IF_ERROR(accumulators_[i]->Join(*other.accumulators_[i], map));
    }
    return OkStatus();
  }

  std::vector<std::uint32_t> Ordered() const { return groups_.Ordered(); }
  const Accumulator& accumulator(std::size_t i) const { return *accumulators_[i]; }
  std::vector<TableColumn> OutputGroups(std::span<const std::uint32_t> order) && {
    return std::move(groups_).Output(order);
  }

 private:
  Groups groups_;
  std::vector<std::unique_ptr<Accumulator>> accumulators_;
};

// p99, p99.9: the percentile; nothing for other names.
bool ReadPercentile(std::string_view name, double& q) {
  if (name.size() < 2 || name.front() != 'p') return false;
  const auto [end, error] = std::from_chars(name.data() + 1, name.data() + name.size(), q, std::chars_format::fixed);
  if (error != std::errc() || end != name.data() + name.size()) return false;
  q /= 100;
  return q >= 0 && q <= 1;
}

// rate(filter): the filter is what stands between the outer parentheses.
Result<AggregateSpec> ParseRate(std::string_view expression, About about) {
  const std::size_t open = expression.find('(');
  const std::size_t close = expression.find_last_not_of(" \t\r\n");
  if (expression[close] != ')') return ErrorAt(expression, expression.size(), "expected ) at the end");
  AggregateSpec spec;
  spec.function = Function::kRate;
  SPANBOX_ASSIGN_OR_RETURN(spec.filter, ParseFilter(expression.substr(open + 1, close - open - 1), about));
  if (spec.filter.everything) return ErrorAt(expression, close, "expected a filter, as in rate(status == error)");
  return spec;
}

Status ReadFunction(std::string_view expression, const Token& name, AggregateSpec& spec, bool& numeric) {
  if (ReadPercentile(name.text, spec.q)) {
    spec.function = Function::kQuantile;
    numeric = true;
    return OkStatus();
  }
  for (const FunctionName& known : kFunctions) {
    if (known.name != name.text) continue;
    spec.function = known.function;
    numeric = known.numeric;
    return OkStatus();
  }
  return ErrorAt(expression, name.position,
                 Quoted(name.written) + " is no aggregate: write one of " + std::string(kExamples));
}

// What may follow the column: p99(x, exact), top(x, 5).
Status ReadOption(std::string_view expression, const Token& option, AggregateSpec& spec) {
  if (spec.function == Function::kQuantile) {
    if (!option.Is("exact")) return ErrorAt(expression, option.position, "expected exact, as in p99(x, exact)");
    spec.function = Function::kExactQuantile;
    return OkStatus();
  }
  if (spec.function != Function::kTop) return ErrorAt(expression, option.position, "expected ) after the column");
  const bool whole = option.kind == TokenKind::kNumber && option.unit == Unit::kNone && option.is_integer;
  if (!whole || option.integer < 1 || option.integer > kMaxTop) {
    return ErrorAt(expression, option.position, "expected how many values, 1 to " + std::to_string(kMaxTop));
  }
  spec.top = static_cast<std::size_t>(option.integer);
  return OkStatus();
}

}  // namespace

Result<AggregateSpec> ParseAggregate(std::string_view expression, About about) {
  if (expression.size() > kMaxFilterBytes) return InvalidArgument("the aggregate is longer than a filter may be");
  Lexer lexer(expression);
  SPANBOX_ASSIGN_OR_RETURN(const Token name, lexer.Next());
  if (name.kind != TokenKind::kName) {
    return ErrorAt(expression, name.position, "expected an aggregate: " + std::string(kExamples));
  }
  AggregateSpec spec;
  bool numeric = false;
  if (!name.Is("rate")) SPANBOX_RETURN_IF_ERROR(ReadFunction(expression, name, spec, numeric));
  SPANBOX_ASSIGN_OR_RETURN(const Token open, lexer.Next());
  if (open.kind != TokenKind::kOpen)
    return ErrorAt(expression, open.position, "expected ( after " + Quoted(name.written));
  if (name.Is("rate")) return ParseRate(expression, about);
  SPANBOX_ASSIGN_OR_RETURN(Token argument, lexer.Next());
  if (argument.kind == TokenKind::kName) {
    spec.column = Resolve(argument.text, about);
    if (numeric) {
      const Status status = CheckNumeric(spec.column);
      if (!status.ok()) return ErrorAt(expression, argument.position, status.message());
    }
    SPANBOX_ASSIGN_OR_RETURN(argument, lexer.Next());
    spec.top = kDefaultTop;
    if (argument.kind == TokenKind::kComma) {
      SPANBOX_ASSIGN_OR_RETURN(const Token option, lexer.Next());
      SPANBOX_RETURN_IF_ERROR(ReadOption(expression, option, spec));
      SPANBOX_ASSIGN_OR_RETURN(argument, lexer.Next());
    }
  } else if (spec.function == Function::kCountOf) {
    spec.function = Function::kCount;
  } else {
    return ErrorAt(expression, argument.position, "expected a column, as in " + name.text + "(duration)");
  }
  if (argument.kind != TokenKind::kClose) return ErrorAt(expression, argument.position, "expected )");
  SPANBOX_ASSIGN_OR_RETURN(const Token end, lexer.Next());
  if (end.kind != TokenKind::kEnd) return ErrorAt(expression, end.position, "expected nothing after )");
  return spec;
}

Result<Table> Aggregated(Store& store, const SpanQuery& query, const Grouping& grouping,
                         std::span<const Aggregate> aggregates) {
  SPANBOX_ASSIGN_OR_RETURN(const TimeBuckets buckets, TimeBuckets::Make(grouping.every_ns, grouping.time_zone));
  std::vector<AggregateSpec> specs;
  for (const Aggregate& aggregate : aggregates) {
    SPANBOX_ASSIGN_OR_RETURN(specs.emplace_back(), ParseAggregate(aggregate.expression, query.about));
  }
  SPANBOX_ASSIGN_OR_RETURN(const auto run, QueryRun::Start(store, query));
  CellNeeds needs;
  needs.Every(grouping.every_ns, !grouping.time_zone.empty());
  for (const std::string& name : grouping.by) {
    const ColumnRef column = Resolve(name, query.about);
    SPANBOX_RETURN_IF_ERROR(run->CheckKnown(column));
    needs.Dimension(column);
  }
  for (const AggregateSpec& spec : specs) AddNeeds(spec, needs);
  std::vector<PartialAnswer> answers;  // by worker
  for (unsigned worker = 0; worker < run->workers(); ++worker) {
    answers.emplace_back(Groups(grouping.by, query.about, buckets));
  }
  std::vector<std::string> keys;
  std::vector<std::size_t> accumulator_of_spec;
  for (AggregateSpec& spec : specs) {
    if (!spec.column.name.empty()) SPANBOX_RETURN_IF_ERROR(run->CheckKnown(spec.column));
    SPANBOX_RETURN_IF_ERROR(run->CheckKnown(spec.filter));
    SPANBOX_RETURN_IF_ERROR(run->Bind(spec.filter));
    const auto known = std::ranges::find(keys, SharingKey(spec));
    accumulator_of_spec.push_back(static_cast<std::size_t>(known - keys.begin()));
    if (known != keys.end()) continue;
    keys.push_back(SharingKey(spec));
    for (PartialAnswer& answer : answers) answer.Keep(spec);
  }

  CellNeeds with_filter = needs;
  with_filter.Test(run->filter());
  const auto visit = [&](unsigned worker, const SegmentMeta& segment) -> Status {
    PartialAnswer& mine = answers[worker];
    const auto add_cells = [&](const auto& cells, const auto& selected) { return mine.AddCells(cells, selected); };
    const auto add = [&](auto& columns, const auto& selected) { return mine.Add(columns, selected); };
    return VisitCellsOrRows(*run, with_filter, segment, add_cells, add);
  };
  PartialAnswer& answer = answers[0];
  const auto add_cells = [&](const auto& cells, const auto& selected) { return answer.AddCells(cells, selected); };
  SPANBOX_ASSIGN_OR_RETURN(auto left, VisitRuns(*run, with_filter, add_cells));
  SPANBOX_RETURN_IF_ERROR(run->VisitShared(std::move(left), visit));
  for (unsigned worker = 1; worker < run->workers(); ++worker) {
    SPANBOX_RETURN_IF_ERROR(answer.Join(answers[worker]));
  }

  Table table;
  SPANBOX_ASSIGN_OR_RETURN(table.sampled_out, ForEachRollup(*run, needs, add_cells));
  const std::vector<std::uint32_t> order = answer.Ordered();
  table.rows = order.size();
  std::vector<TableColumn> outputs;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    outputs.push_back(answer.accumulator(accumulator_of_spec[i]).Output(specs[i], order));
    outputs.back().name = aggregates[i].name;
  }
  table.columns = std::move(answer).OutputGroups(order);
  std::ranges::move(outputs, std::back_inserter(table.columns));
  return table;
}

}  // namespace spanbox
