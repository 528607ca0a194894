// Price lists from their JSON text, and the tests of names in them.
#include <re2/re2.h>

#include <limits>

#include "base/simdjson.h"
#include "wire/price_list.h"

namespace spanbox {
namespace {

using simdjson::dom::array;
using simdjson::dom::element;

constexpr int kMaxDepth = 16;
constexpr std::string_view kTextTests = "=^$*~", kJoiningTests = "|&!";

}  // namespace

struct NameTest::Pattern {
  explicit Pattern(std::string_view text) : re(re2::StringPiece(text.data(), text.size()), RE2::Quiet) {}
  RE2 re;
};

NameTest::NameTest() = default;
NameTest::~NameTest() = default;
NameTest::NameTest(NameTest&&) noexcept = default;
NameTest& NameTest::operator=(NameTest&&) noexcept = default;

bool NameTest::Matches(std::string_view name) const {
  switch (kind_) {
    case '=':
      return name == text_;
    case '^':
      return name.starts_with(text_);
    case '$':
      return name.ends_with(text_);
    case '*':
      return name.find(text_) != name.npos;
    case '~':
      return RE2::PartialMatch(re2::StringPiece(name.data(), name.size()), pattern_->re);
    case '|':
      for (const NameTest& part : parts_) {
        if (part.Matches(name)) return true;
      }
      return false;
    case '&':
      for (const NameTest& part : parts_) {
        if (!part.Matches(name)) return false;
      }
      return true;
    case '!':
      return !parts_.front().Matches(name);
    default:
      return false;
  }
}

// What is not as it should be is noted, and goes on as nothing: Parse looks at the end.
class PriceParser {
 public:
  explicit PriceParser(PriceList& list) : list_(list) {}

  bool Read(element root) {
    list_.version_ = Text(root, "version");
    for (const element each : List(root, "rates")) list_.rates_.push_back(RateOf(each));
    for (const element each : List(root, "beginnings")) list_.beginnings_.push_back(PairOf(each));
    for (const element each : List(root, "names")) list_.names_.push_back(PairOf(each));
    for (const element each : List(root, "standard_tiers")) list_.standard_tiers_.emplace_back(Text(each));
    for (const element each : List(root, "providers")) list_.providers_.push_back(ProviderOf(each));
    good_ = good_ && !odd_pattern_;
    for (const element each : List(root, "own")) list_.own_.push_back(OwnOf(each));
    return good_;
  }

 private:
  template <typename T, typename Found>
  T Take(Found found, T otherwise) {
    T value = otherwise;
    if (found.get(value) == simdjson::SUCCESS) return value;
    good_ = false;
    return otherwise;
  }
  std::string_view Text(element value) { return Take<std::string_view>(value, {}); }
  std::string_view Text(element object, std::string_view key) { return Take<std::string_view>(object[key], {}); }
  array List(element object, std::string_view key) { return Take<array>(object[key], Empty()); }
  std::int64_t IntOr(element object, std::string_view key, std::int64_t otherwise) {
    element value;
    return object[key].get(value) == simdjson::SUCCESS ? Take<std::int64_t>(value, otherwise) : otherwise;
  }
  std::string_view TextOr(element object, std::string_view key) {
    element value;
    return object[key].get(value) == simdjson::SUCCESS ? Text(value) : std::string_view();
  }
  array Empty() { return empty_.parse(std::string_view("[]")).get_array().value_unsafe(); }

  std::pair<std::string, std::string> PairOf(element pair) {
    const array both = Take<array>(pair, Empty());
    return {std::string(Take<std::string_view>(both.at(0), {})), std::string(Take<std::string_view>(both.at(1), {}))};
  }

  Money MoneyOf(std::string_view text) {
    Money money = 0;
    const bool negative = text.starts_with('-');
    for (const char c : text.substr(negative ? 1 : 0)) {
      const bool wrong = c < '0' || c > '9' || __builtin_mul_overflow(money, Money{10}, &money) ||
                         __builtin_add_overflow(money, Money{c - '0'}, &money);
      if (wrong) good_ = false;
    }
    return negative ? -money : money;
  }

  PriceRate RateOf(element given) {
    PriceRate rate;
    for (const element each : List(given, "tiers")) {
      const array figures = Take<array>(each, Empty());
      PriceRate::Tier& tier = rate.tiers_.emplace_back();
      tier.start = Take<std::int64_t>(figures.at(0), 0);
      tier.fixed = MoneyOf(Take<std::string_view>(figures.at(1), {}));
      for (std::size_t i = 0; i < tier.each.size(); ++i) {
        tier.each[i] = MoneyOf(Take<std::string_view>(figures.at(2 + i), {}));
      }
    }
    for (const element place : List(given, "without")) {
      const auto at = static_cast<std::size_t>(Take<std::int64_t>(place, 0));
      if (at < rate.without_price_.size()) {
        rate.without_price_[at] = true;
      } else {
        good_ = false;
      }
    }
    return rate;
  }

  NameTest TestOf(element given, int depth = 0) {
    NameTest test;
    if (given.is_null()) return test;
    const array parts = Take<array>(given, Empty());
    const std::string_view kind = Take<std::string_view>(parts.at(0), {});
    const bool of_text = kind.size() == 1 && kTextTests.find(kind) != kind.npos;
    const bool joins = kind.size() == 1 && kJoiningTests.find(kind) != kind.npos;
    if ((!of_text && !joins) || parts.size() < 2 || depth > kMaxDepth) {
      good_ = false;
      return test;
    }
    test.kind_ = kind.front();
    if (of_text) test.text_ = Take<std::string_view>(parts.at(1), {});
    if (test.kind_ == '~') {
      test.pattern_ = std::make_unique<NameTest::Pattern>(test.text_);
      odd_pattern_ |= !test.pattern_->re.ok();
    }
    for (std::size_t i = 1; joins && i < parts.size(); ++i) {
      test.parts_.push_back(TestOf(parts.at(i).value_unsafe(), depth + 1));
    }
    return test;
  }
  NameTest TestOf(element object, std::string_view key) {
    element given;
    return object[key].get(given) == simdjson::SUCCESS ? TestOf(given) : NameTest();
  }

  DatedPrice PriceOf(element given) {
    DatedPrice price;
    price.tier = TextOr(given, "tier");
    price.since_ns = IntOr(given, "since_ns", std::numeric_limits<std::int64_t>::min());
    price.until_ns = IntOr(given, "until_ns", std::numeric_limits<std::int64_t>::max());
    price.from_s = IntOr(given, "from_s", 0);
    price.to_s = IntOr(given, "to_s", 86'400);
    price.version = TextOr(given, "version");
    const std::int64_t rate = IntOr(given, "rate", -1);
    if (rate >= 0 && static_cast<std::size_t>(rate) < list_.rates_.size()) {
      price.rate = &list_.rates_[static_cast<std::size_t>(rate)];
    }
    return price;
  }

  ListedProvider ProviderOf(element given) {
    ListedProvider provider;
    provider.id = Text(given, "id");
    provider.matches = TestOf(given, "matches");
    provider.matches_models = TestOf(given, "matches_models");
    for (const element id : List(given, "fallbacks")) provider.fallbacks.emplace_back(Text(id));
    for (const element each : List(given, "models")) {
      ListedModel& model = provider.models.emplace_back();
      model.matches = TestOf(each, "matches");
      for (const element price : List(each, "prices")) model.prices.push_back(PriceOf(price));
    }
    return provider;
  }

  OwnPrice OwnOf(element given) {
    OwnPrice own;
    own.provider = TextOr(given, "provider");
    odd_pattern_ = false;
    own.matches = TestOf(given, "matches");
    own.matches_alone = TestOf(given, "matches_alone");
    own.price = PriceOf(given);
    own.billionths = IntOr(given, "billionths", 0);
    own.like_provider = TextOr(given, "like_provider");
    own.like = TextOr(given, "like");
    own.every_tier = IntOr(given, "every_tier", 0) != 0;
    good_ = good_ && own.billionths >= 0;
    if (odd_pattern_) {
      // It may be for any model, so that of none it is known what it costs.
      own.matches.kind_ = own.matches_alone.kind_ = '&';
      own.matches.parts_.clear();
      own.matches_alone.parts_.clear();
      own.price.rate = nullptr;
    }
    return own;
  }

  PriceList& list_;
  simdjson::dom::parser empty_;
  bool good_ = true;
  bool odd_pattern_ = false;  // one that RE2 does not know
};

Result<std::unique_ptr<const PriceList>> PriceList::Parse(std::string_view json) {
  simdjson::dom::parser parser;
  element root;
  const auto error = parser.parse(json.data(), json.size(), true).get(root);
  if (error != simdjson::SUCCESS) return DataLoss(std::string("a price list: ") + simdjson::error_message(error));
  std::unique_ptr<PriceList> list(new PriceList);
  if (!PriceParser(*list).Read(root)) return DataLoss("a price list that is not as it should be");
  return std::unique_ptr<const PriceList>(std::move(list));
}

}  // namespace spanbox
