// A term's values made ready to be tested against the values of a chunk.
//
// Thread rule: immutable. Ownership: borrows the term.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "query/filter.h"

namespace spanbox {

// Closed ranges; empty when low > high.
struct IntRange {
  std::int64_t low = 0, high = -1;
  bool empty() const { return low > high; }
};
struct FloatRange {
  double low = 0, high = -1;
  bool empty() const { return !(low <= high); }
};

// The numbers x of each type with `x comparison literal`, exactly, also where an int has no double of its own.
IntRange IntsThat(Comparison comparison, const Literal& literal);
FloatRange FloatsThat(Comparison comparison, const Literal& literal);

// The term's numbers as ranges (its other values give none), sorted.
class NumberTest {
 public:
  explicit NumberTest(const Term& term);
  const std::vector<IntRange>& ints() const { return ints_; }
  const std::vector<FloatRange>& floats() const { return floats_; }

 private:
  std::vector<IntRange> ints_;
  std::vector<FloatRange> floats_;
};

class TextTest {
 public:
  explicit TextTest(const Term& term);

  // `json`: the text is JSON; a searched text is then also looked for as a JSON string would hold it.
  bool operator()(std::string_view text, bool json) const;

  // False: no text of this size passes.
  bool MayHaveSize(std::size_t size_bytes) const;

  // False: no text in [low, high] passes.
  bool MayLieWithin(std::string_view low, std::string_view high) const;

 private:
  const Term& term_;
  std::vector<std::string_view> texts_;  // sorted
  std::string escaped_;                  // kContains: as JSON holds it; empty when that is no different
};

// True when `needle` is in `text`.
bool ContainsText(std::string_view text, std::string_view needle);

// `text` as it stands inside a JSON string literal.
std::string InsideJson(std::string_view text);

}  // namespace spanbox
