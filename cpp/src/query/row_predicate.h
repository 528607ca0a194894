// A filter on one row at a time: what the recorder keeps by, and the plain reading of the language that the engine's
// columnar one (query/predicate.h) is tested against.
//
// Thread rule: immutable; share it freely. Ownership: owns the filter; a row is borrowed during the call.
// Invariant: a row stored and asked for gives the same answer.
#pragma once

#include <memory>
#include <vector>

#include "query/filter.h"
#include "query/matchers.h"
#include "spanbox/span.h"

namespace spanbox {

class RowPredicate {
 public:
  // REQUIRES: the filter asks for no relatives.
  explicit RowPredicate(Filter filter);
  RowPredicate(const RowPredicate&) = delete;  // the tests borrow from the filter
  RowPredicate& operator=(const RowPredicate&) = delete;

  bool operator()(const SpanRow& row) const;

 private:
  struct TermTest {
    explicit TermTest(const Term& t) : term(t), numbers(t), texts(t) {}
    const Term& term;
    NumberTest numbers;
    TextTest texts;
  };

  bool Holds(const FilterNode& node, std::size_t& next_term, const SpanRow& row) const;
  static bool Holds(const TermTest& test, const SpanRow& row);
  static bool Matches(const TermTest& test, const Value& value);

  const Filter filter_;
  std::vector<TermTest> tests_;  // in the order of the terms
};

}  // namespace spanbox
