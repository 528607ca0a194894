#include "query/row_predicate.h"

#include <algorithm>
#include <optional>

#include "query/latest_scores.h"
#include "query/lexer.h"
#include "spanbox/query.h"
#include "store/segment.h"

namespace spanbox {
namespace {

constexpr std::string_view kAttributePrefix = "attribute.";

// The name of the column or attribute that a field is stored as.
bool IsNamed(const Field& field, const Term& term) {
  const Column column = StoredColumn(field);
  if (column != Column::kAttribute) return term.info != nullptr && term.info->column == column;
  std::string_view name = field.name;
  if (field.column != Column::kAttribute && static_cast<std::uint16_t>(field.column) < kColumnCount) {
    name = Columns()[static_cast<std::size_t>(field.column)].name;
  }
  const ColumnInfo* info = FindColumn(name);
  const bool fixed = info != nullptr && info->name == name;
  if (!fixed) return term.info == nullptr && term.column == name;
  return term.info == nullptr && term.column.starts_with(kAttributePrefix) &&
         std::string_view(term.column).substr(kAttributePrefix.size()) == name;
}

const Value* FieldOf(const SpanRow& row, const Term& term) {
  const Value* value = nullptr;  // the last one wins
  for (const Field& field : row.fields) {
    if (IsNamed(field, term)) value = &field.value;
  }
  return value;
}

std::optional<Value> DerivedTpotOf(const SpanRow& row) {
  const Value *ttft = nullptr, *output = nullptr;
  for (const Field& field : row.fields) {
    const Column column = StoredColumn(field);
    if (column == Column::kTtftNs) ttft = &field.value;
    if (column == Column::kOutputTokens) output = &field.value;
  }
  if (ttft == nullptr || output == nullptr) return std::nullopt;
  const auto derived = DerivedTpot(row.duration_ns, *ttft, *output);
  return derived ? std::optional(Value::Int(*derived)) : std::nullopt;
}

// What the row has there, besides ids.
std::optional<Value> ValueOf(const SpanRow& row, const Term& term) {
  switch (term.info != nullptr ? term.info->column : Column::kAttribute) {
    case Column::kStartNs:
      return Value::Int(row.start_ns);
    case Column::kDurationNs:
      return row.duration_ns == -1 ? std::nullopt : std::optional(Value::Int(row.duration_ns));
    case Column::kKind:
      return Value::String(ToString(row.kind));
    case Column::kStatus:
      return Value::String(ToString(row.status));
    case Column::kName:
      return Value::String(row.name);
    default:
      break;
  }
  if (const Value* value = FieldOf(row, term)) return *value;
  if (term.info != nullptr && term.info->column == Column::kTpotNs) return DerivedTpotOf(row);
  return std::nullopt;
}

template <typename Ranges, typename T>
bool InAny(const Ranges& ranges, T value) {
  return std::ranges::any_of(ranges, [value](const auto& range) { return range.low <= value && value <= range.high; });
}

}  // namespace

RowPredicate::RowPredicate(Filter filter) : filter_(std::move(filter)) {
  if (filter_.everything) return;
  ForEachTerm(filter_.root, [this](const Term& term) { tests_.emplace_back(term); });
}

bool RowPredicate::operator()(const SpanRow& row) const {
  std::size_t next_term = 0;
  return filter_.everything || Holds(filter_.root, next_term, row);
}

// Every term is looked at, so that `next_term` counts on.
bool RowPredicate::Holds(const FilterNode& node, std::size_t& next_term, const SpanRow& row) const {
  if (node.kind == FilterNode::Kind::kTerm) return Holds(tests_[next_term++], row);
  bool any = false, all = true;
  for (const FilterNode& child : node.children) {
    const bool holds = Holds(child, next_term, row);
    any |= holds;
    all &= holds;
  }
  return node.kind == FilterNode::Kind::kAnd ? all : node.kind == FilterNode::Kind::kOr ? any : !all;
}

bool RowPredicate::Holds(const TermTest& test, const SpanRow& row) {
  const Term& term = test.term;
  const auto answer = [&term](bool present, auto matches) {
    if (term.comparison == Comparison::kPresent) return present != term.negated;
    return present && matches() != term.negated;
  };
  const auto any_id = [&](auto id_of, auto id) {
    return [&term, id_of, id] {
      return std::ranges::any_of(term.values, [&](const Literal& v) { return id_of(v) == id; });
    };
  };
  const auto span_id = [](const Literal& literal) { return literal.span_id; };
  switch (term.info != nullptr ? term.info->column : Column::kAttribute) {
    case Column::kTraceId:
      return answer(true, any_id([](const Literal& literal) { return literal.trace_id; }, row.trace_id));
    case Column::kSpanId:
      return answer(true, any_id(span_id, row.span_id));
    case Column::kParentId:
      return answer(row.parent_id != 0, any_id(span_id, row.parent_id));
    default: {
      const auto value = ValueOf(row, term);
      return answer(value.has_value(), [&] { return Matches(test, *value); });
    }
  }
}

bool RowPredicate::Matches(const TermTest& test, const Value& value) {
  switch (value.type) {
    case ValueType::kInt:
      return InAny(test.numbers.ints(), value.integer);
    case ValueType::kFloat:
      return InAny(test.numbers.floats(), value.number);
    case ValueType::kBool:
      return std::ranges::any_of(test.term.values, [&](const Literal& literal) {
        return literal.type == Literal::Type::kBool && literal.boolean == value.boolean;
      });
    case ValueType::kString:
    case ValueType::kJson:
      return test.texts(value.text, value.type == ValueType::kJson);
  }
  return false;
}

Result<std::function<bool(const SpanRow&)>> CompileFilter(std::string_view filter) {
  SPANBOX_ASSIGN_OR_RETURN(Filter parsed, ParseFilter(filter));
  std::optional<std::size_t> relatives;
  ForEachRelatives(parsed.root, [&](const FilterNode& node) { relatives = node.relatives.position; });
  if (relatives) {
    return ErrorAt(filter, *relatives,
                   "any, all and count need the other spans of the trace, and here a span is tested by itself: "
                   "test its own columns");
  }
  std::optional<std::size_t> score;
  if (!parsed.everything) {
    ForEachTerm(parsed.root, [&](const Term& term) {
      if (ScoreNameOf(term.column)) score = term.position;
    });
  }
  if (score) {
    return ErrorAt(filter, *score,
                   "here a span is tested as it is recorded, before it has scores: test its own columns");
  }
  auto predicate = std::make_shared<const RowPredicate>(std::move(parsed));
  return std::function<bool(const SpanRow&)>([predicate](const SpanRow& row) { return (*predicate)(row); });
}

}  // namespace spanbox
