// Predicates over a span's relatives in its trace: any(children, ...), all(siblings, ...), count(ancestors, ...) == 2.
//
// Most traces lie in one segment: their spans are numbered, each learns its parent once, and a predicate is then its
// inner filter as one bitmap and a pass over arrays, segment by segment. Spans of the traces that are scattered over
// several segments are kept until all are known, and answered last. Rows are never looked up one by one.
//
// Thread rule: functions; RelativesAnswers is immutable. Ownership: answers own their bitmaps.
// Invariant: the tree is the one TraceOf shows: a cycle of parents is cut at its earliest span, of spans with the same
// id the earliest is the parent. Spans whose parent is not stored have no parent, but are siblings.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "query/bitmap.h"
#include "query/query_run.h"

namespace spanbox {

struct RelativesAnswers {
  std::vector<absl::flat_hash_map<std::uint64_t, Bitmap>> by_test;  // by RelativesTest::index, then by segment

  // The rows of a segment that pass; nullptr: none.
  const Bitmap* Find(std::size_t test, std::uint64_t segment) const {
    if (test >= by_test.size()) return nullptr;
    const auto found = by_test[test].find(segment);
    return found == by_test[test].end() ? nullptr : &found->second;
  }
};

// Answers every such predicate of the filter, for all rows that started in the time `run` asks for.
// REQUIRES: filter.relatives_tests > 0.
Result<std::shared_ptr<const RelativesAnswers>> AnswerRelatives(QueryRun& run, const Filter& filter);

}  // namespace spanbox
