#include "query/matchers.h"

#include <string.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/msgpack.h"
#include "query/pattern.h"

namespace spanbox {
namespace {

constexpr std::int64_t kIntMin = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t kIntMax = std::numeric_limits<std::int64_t>::max();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

IntRange IntsBeside(Comparison comparison, std::int64_t v) {
  switch (comparison) {
    case Comparison::kEqual:
      return {v, v};
    case Comparison::kLess:
      return v == kIntMin ? IntRange{} : IntRange{kIntMin, v - 1};
    case Comparison::kLessEqual:
      return {kIntMin, v};
    case Comparison::kGreater:
      return v == kIntMax ? IntRange{} : IntRange{v + 1, kIntMax};
    case Comparison::kGreaterEqual:
      return {v, kIntMax};
    default:
      return {};
  }
}

FloatRange FloatsBeside(Comparison comparison, double d) {
  switch (comparison) {
    case Comparison::kEqual:
      return {d, d};
    case Comparison::kLess:
      return {-kInfinity, std::nextafter(d, -kInfinity)};
    case Comparison::kLessEqual:
      return {-kInfinity, d};
    case Comparison::kGreater:
      return {std::nextafter(d, kInfinity), kInfinity};
    case Comparison::kGreaterEqual:
      return {d, kInfinity};
    default:
      return {};
  }
}

bool IsLess(Comparison c) { return c == Comparison::kLess || c == Comparison::kLessEqual; }

}  // namespace

IntRange IntsThat(Comparison comparison, const Literal& literal) {
  if (literal.is_integer) return IntsBeside(comparison, literal.integer);
  const double d = literal.number;
  if (d >= 0x1p63) return IsLess(comparison) ? IntRange{kIntMin, kIntMax} : IntRange{};
  if (d < -0x1p63)
    return IsLess(comparison) || comparison == Comparison::kEqual ? IntRange{} : IntRange{kIntMin, kIntMax};
  const double floor = std::floor(d);
  const auto below = static_cast<std::int64_t>(floor);
  if (floor == d) return IntsBeside(comparison, below);
  if (comparison == Comparison::kEqual) return {};
  return IsLess(comparison) ? IntRange{kIntMin, below} : IntRange{below + 1, kIntMax};
}

FloatRange FloatsThat(Comparison comparison, const Literal& literal) {
  if (!literal.is_integer) return FloatsBeside(comparison, literal.number);
  const auto d = static_cast<double>(literal.integer);  // rounded when the integer has more than 53 bits
  const bool above = d >= 0x1p63 || static_cast<std::int64_t>(d) > literal.integer;
  const bool exact = d < 0x1p63 && static_cast<std::int64_t>(d) == literal.integer;
  if (exact) return FloatsBeside(comparison, d);
  if (comparison == Comparison::kEqual) return {};
  if (IsLess(comparison)) return FloatsBeside(above ? Comparison::kLess : Comparison::kLessEqual, d);
  return FloatsBeside(above ? Comparison::kGreaterEqual : Comparison::kGreater, d);
}

NumberTest::NumberTest(const Term& term) {
  for (const Literal& value : term.values) {
    if (value.type != Literal::Type::kNumber) continue;
    const IntRange ints = IntsThat(term.comparison, value);
    const FloatRange floats = FloatsThat(term.comparison, value);
    if (!ints.empty()) ints_.push_back(ints);
    if (!floats.empty()) floats_.push_back(floats);
  }
  std::ranges::sort(ints_, {}, &IntRange::low);
  std::ranges::sort(floats_, {}, &FloatRange::low);
}

TextTest::TextTest(const Term& term) : term_(term) {
  for (const Literal& value : term.values) {
    if (value.type == Literal::Type::kText) texts_.push_back(value.text);
  }
  std::ranges::sort(texts_);
  if (term.comparison == Comparison::kContains) {
    escaped_ = InsideJson(texts_.front());
    if (escaped_ == texts_.front()) escaped_.clear();
  }
}

bool TextTest::operator()(std::string_view text, bool json) const {
  if (term_.comparison == Comparison::kMatches) return re2::RE2::PartialMatch(Piece(text), *term_.regex);
  if (texts_.empty()) return false;
  const std::string_view value = texts_.front();
  switch (term_.comparison) {
    case Comparison::kEqual:
      return std::ranges::binary_search(texts_, text);
    case Comparison::kLess:
      return text < value;
    case Comparison::kLessEqual:
      return text <= value;
    case Comparison::kGreater:
      return text > value;
    case Comparison::kGreaterEqual:
      return text >= value;
    case Comparison::kContains:
      return ContainsText(text, value) || (json && !escaped_.empty() && ContainsText(text, escaped_));
    default:
      return false;
  }
}

bool TextTest::MayHaveSize(std::size_t size_bytes) const {
  if (term_.comparison == Comparison::kContains) return size_bytes >= texts_.front().size();
  if (term_.comparison != Comparison::kEqual) return true;
  return std::ranges::any_of(texts_, [&](std::string_view text) { return text.size() == size_bytes; });
}

bool TextTest::MayLieWithin(std::string_view low, std::string_view high) const {
  if (term_.comparison != Comparison::kEqual) return true;
  return std::ranges::any_of(texts_, [&](std::string_view text) { return low <= text && text <= high; });
}

bool ContainsText(std::string_view text, std::string_view needle) {
  return memmem(text.data(), text.size(), needle.data(), needle.size()) != nullptr;
}

std::string InsideJson(std::string_view text) {
  std::string json;
  AppendJsonString(text, json);
  return json.substr(1, json.size() - 2);
}

}  // namespace spanbox
