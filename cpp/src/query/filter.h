// Filters: text to a checked tree. docs/query_language.md gives the grammar.
//
// Thread rule: Filter is immutable; share it freely. Ownership: a Filter owns its text, values and compiled
// expressions. Invariants:
//   1. A parsed filter has at most kMaxTerms terms, is at most kMaxDepth deep and kMaxFilterBytes long.
//   2. Every value of a term can be compared with its column: what cannot is a parse error, not an empty answer.
//   3. Negated operators (kNotEqual, kNotIn, kNotContains) are stored as the positive one with `negated` set: they hold
//      where the column has a value for which the positive one does not hold.
//   4. any, all and count over relatives are all stored as a range of how many there may be. A predicate inside another
//      one has the smaller index.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "spanbox/query.h"
#include "spanbox/span.h"
#include "spanbox/status.h"

namespace re2 {
class RE2;
}

namespace spanbox {

class BlockTest;  // query/block_test.h

inline constexpr std::size_t kMaxTerms = 256;
inline constexpr std::size_t kMaxDepth = 32;
inline constexpr std::size_t kMaxListValues = 1000;
inline constexpr std::size_t kMaxFilterBytes = 64 * 1024;

enum class Comparison { kEqual, kLess, kLessEqual, kGreater, kGreaterEqual, kContains, kMatches, kPresent };

struct Literal {
  enum class Type { kBool, kNumber, kText, kTraceId, kSpanId };
  Type type = Type::kNumber;
  bool boolean = false;
  bool is_integer = false;  // the number is exactly `integer`; `number` is the closest double
  std::int64_t integer = 0;
  double number = 0;
  std::string text;
  TraceId trace_id;
  SpanId span_id = 0;
};

struct Term {
  std::string column;                // canonical name of a column, or an attribute's name
  const ColumnInfo* info = nullptr;  // nullptr: an attribute
  std::size_t position = 0;          // of the column in the filter
  Comparison comparison = Comparison::kEqual;
  bool negated = false;
  std::vector<Literal> values;              // several only for kEqual: `in`
  std::shared_ptr<const re2::RE2> regex;    // kMatches
  std::shared_ptr<const BlockTest> blocks;  // kMatches, kContains
};

enum class Relation { kChildren, kDescendants, kParent, kAncestors, kSiblings };

// The number of relatives for which a filter holds lies in [low, high].
struct RelativesTest {
  Relation relation = Relation::kChildren;
  std::int64_t low = 0, high = -1;
  std::size_t index = 0;     // among the filter's
  std::size_t position = 0;  // in the filter
};

struct FilterNode {
  enum class Kind { kTerm, kAnd, kOr, kNot, kRelatives };
  Kind kind = Kind::kTerm;
  Term term;
  RelativesTest relatives;
  std::vector<FilterNode> children;  // kAnd, kOr: two or more; kNot: one; kRelatives: their filter, or none: all count
};

struct RelativesAnswers;  // query/relatives.h

struct Filter {
  std::string text;
  bool everything = true;  // the filter is empty; root means nothing
  FilterNode root;
  std::size_t relatives_tests = 0;
  std::shared_ptr<const RelativesAnswers> relatives;  // set by QueryRun::Bind, before rows are asked
};

Result<Filter> ParseFilter(std::string_view text, About about = About::kSpans);

// The named column that a name or alias means; nullptr: an attribute. The time of a score is called `at`.
const ColumnInfo* FindColumnOf(About about, std::string_view name);

// Calls fn(const Term&) for every term.
template <typename Fn>
void ForEachTerm(const FilterNode& node, Fn&& fn) {
  if (node.kind == FilterNode::Kind::kTerm) fn(node.term);
  for (const FilterNode& child : node.children) ForEachTerm(child, fn);
}

// Calls fn(const FilterNode&) for every kRelatives, those inside others first.
template <typename Fn>
void ForEachRelatives(const FilterNode& node, Fn&& fn) {
  for (const FilterNode& child : node.children) ForEachRelatives(child, fn);
  if (node.kind == FilterNode::Kind::kRelatives) fn(node);
}

// The column closest to `name` by edit distance, when that is at most 2 and less than the name's length; else empty.
std::string_view ClosestColumn(std::string_view name);

}  // namespace spanbox
