// Prices of models, as spanbox._price_compile writes them: which model of which provider costs what, when.
//
// Thread rule: immutable once parsed. Ownership: owns everything. Invariants:
//   1. A cost is exact to the last digit of the prices, and rounded once, to the nearest double.
//   2. What the list does not say has no price: no model is taken for another.
// Units: money is a whole number of 10^-30 US dollars; times are nanoseconds since 1970, of a day seconds.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "spanbox/status.h"

namespace spanbox {

// input, cache_read, cache_write, output, reasoning: input has the cached ones in it, output the reasoning.
using TokenCounts = std::array<std::int64_t, 5>;

__extension__ using Money = __int128;

// What tokens cost at one moment.
class PriceRate {
 public:
  static constexpr std::int64_t kWhole = 1'000'000'000;
  // nullopt: the counts contradict each other, or are of a kind that has no price. `billionths`: of the price.
  std::optional<double> CostOf(const TokenCounts& counts, std::int64_t billionths = kWhole) const;

 private:
  friend class PriceParser;
  struct Tier {
    std::int64_t start = 0;  // it holds for more input tokens than this
    Money fixed = 0;         // a call, whatever it used
    std::array<Money, 5> each{};
  };
  std::vector<Tier> tiers_;  // the highest first
  std::array<bool, 5> without_price_{};
};

// A test of a name; in a list, of names in lower case.
class NameTest {
 public:
  NameTest();
  ~NameTest();
  NameTest(NameTest&&) noexcept;
  NameTest& operator=(NameTest&&) noexcept;
  bool Matches(std::string_view name) const;

 private:
  friend class PriceParser;
  struct Pattern;
  char kind_ = 0;  // = ^ $ * ~ | & !; 0: matches nothing
  std::string text_;
  std::unique_ptr<Pattern> pattern_;
  std::vector<NameTest> parts_;
};

struct DatedPrice {
  std::string tier;  // empty: standard
  std::int64_t since_ns = 0, until_ns = 0;
  std::int64_t from_s = 0, to_s = 0;  // of the day, in UTC
  const PriceRate* rate = nullptr;    // nullptr: there is no price
  std::string version;                // of prices of one's own

  bool Holds(std::string_view asked_tier, std::int64_t at_ns) const;
};

struct ListedModel {
  NameTest matches;
  std::vector<DatedPrice> prices;
};

struct ListedProvider {
  std::string id;
  NameTest matches;         // a provider's name
  NameTest matches_models;  // a model's name where no provider is told
  std::vector<std::string> fallbacks;
  std::vector<ListedModel> models;
};

// A price of one's own: of two for one call the first holds.
struct OwnPrice {
  std::string provider;             // empty: of all
  NameTest matches, matches_alone;  // a model's name as it is given; where a call names no provider
  DatedPrice price;
  // More than 0: so many billionths of what the list says of `like`, or of the model itself where that is empty.
  std::int64_t billionths = 0;
  std::string like_provider, like;
  bool every_tier = false;
};

class PriceList {
 public:
  // DataLoss: not as it should be.
  static Result<std::unique_ptr<const PriceList>> Parse(std::string_view json);
  ~PriceList();

  const std::string& version() const { return version_; }
  const std::vector<OwnPrice>& own() const { return own_; }

  // The list's name of a provider.
  std::string ProviderId(std::string_view name) const;
  // The tier by what a reply calls it; empty: the standard one.
  std::string TierOf(std::string_view told) const;
  // `provider` as of ProviderId, or empty; `model` in any case. nullptr: it is not in the list. `borrowed`: it is
  // another provider's, which has no tiers here.
  const ListedModel* Find(std::string_view provider, std::string_view model, bool& borrowed) const;

 private:
  friend class PriceParser;
  PriceList() = default;
  struct Names {
    const ListedProvider* provider;  // nullptr: it is not in the list
    std::vector<std::string_view> models;
  };
  Names NamesOf(std::string_view provider, std::string_view model) const;
  const ListedProvider* ProviderNamed(std::string_view id) const;
  const ListedModel* ModelOf(const ListedProvider& provider, std::string_view model, bool& borrowed) const;

  std::string version_;
  std::vector<PriceRate> rates_;
  std::vector<std::pair<std::string, std::string>> beginnings_, names_;  // of providers' names, and what they are
  std::vector<std::string> standard_tiers_;
  std::vector<ListedProvider> providers_;
  std::vector<OwnPrice> own_;
};

}  // namespace spanbox
