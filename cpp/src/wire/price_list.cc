#include "wire/price_list.h"

#include <algorithm>
#include <charconv>
#include <chrono>

namespace spanbox {
namespace {

constexpr std::int64_t kSecondNs = 1'000'000'000;
constexpr std::int64_t kDayS = 86'400;

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return lower;
}

// Rounded once: through the decimal digits.
double UsdOf(Money money) {
  char text[64];
  char* at = text + sizeof text;
  constexpr std::string_view kExponent = "e-30";
  at = std::copy_backward(kExponent.begin(), kExponent.end(), at);
  const bool negative = money < 0;
  // Below zero from the start: the least number has no positive one.
  Money left = negative ? money : -money;
  do {
    *--at = static_cast<char>('0' - static_cast<int>(left % 10));
    left /= 10;
  } while (left != 0);
  if (negative) *--at = '-';
  double usd = 0;
  std::from_chars(at, text + sizeof text, usd);
  return usd;
}

// gpt-5.2-20251211 as gpt-5.2-2025-12-11; empty: it does not end with a date like that.
std::string WithDashedDate(std::string_view model) {
  constexpr std::size_t kDigits = 8;
  if (model.size() <= kDigits || model[model.size() - kDigits - 1] != '-') return {};
  const std::string_view date = model.substr(model.size() - kDigits);
  int year = 0, month = 0, day = 0;
  const auto number = [&](std::size_t begin, std::size_t size, int& out) {
    const auto [end, error] = std::from_chars(date.data() + begin, date.data() + begin + size, out);
    return error == std::errc() && end == date.data() + begin + size;
  };
  if (date.front() == '-' || !number(0, 4, year) || !number(4, 2, month) || !number(6, 2, day)) return {};
  using namespace std::chrono;
  if (year < 1 || month < 1 || day < 1) return {};
  if (!year_month_day(std::chrono::year(year), std::chrono::month(unsigned(month)), std::chrono::day(unsigned(day)))
           .ok())
    return {};
  std::string dashed(model.substr(0, model.size() - kDigits));
  return dashed.append(date.substr(0, 4)).append("-").append(date.substr(4, 2)).append("-").append(date.substr(6));
}

}  // namespace

std::optional<double> PriceRate::CostOf(const TokenCounts& counts, std::int64_t billionths) const {
  auto [input, read, written, output, reasoning] = counts;
  if (read < 0 || written < 0 || input < 0 || reasoning < 0 || reasoning > output) return std::nullopt;
  std::int64_t cached = 0;
  if (__builtin_add_overflow(read, written, &cached)) return std::nullopt;
  // More cached ones than there are: they are counted beside it.
  if (cached > input && __builtin_add_overflow(input, cached, &input)) return std::nullopt;
  const std::array<std::int64_t, 5> all = {input, read, written, output, reasoning};
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (without_price_[i] && all[i] != 0) return std::nullopt;
  }
  for (const Tier& tier : tiers_) {
    if (input <= tier.start && tier.start != 0) continue;
    Money sum = tier.fixed;
    for (std::size_t i = 0; i < all.size(); ++i) {
      Money part = 0;
      if (__builtin_mul_overflow(tier.each[i], Money{all[i]}, &part)) return std::nullopt;
      if (__builtin_add_overflow(sum, part, &sum)) return std::nullopt;
    }
    if (billionths == kWhole) return UsdOf(sum);
    Money part = 0;
    if (__builtin_mul_overflow(sum / kWhole, Money{billionths}, &part)) return std::nullopt;
    return UsdOf(part + sum % kWhole * billionths / kWhole);
  }
  return std::nullopt;
}

bool DatedPrice::Holds(std::string_view asked_tier, std::int64_t at_ns) const {
  if (asked_tier != tier || at_ns < since_ns || at_ns >= until_ns) return false;
  const std::int64_t of_day = ((at_ns / kSecondNs) % kDayS + kDayS) % kDayS;
  return of_day >= from_s && of_day < to_s;
}

PriceList::~PriceList() = default;

std::string PriceList::ProviderId(std::string_view name) const {
  while (!name.empty() && (name.front() == ' ' || name.front() == '\t' || name.front() == '\n')) name.remove_prefix(1);
  while (!name.empty() && (name.back() == ' ' || name.back() == '\t' || name.back() == '\n')) name.remove_suffix(1);
  std::string lower = Lower(name);
  for (const auto& [beginning, id] : beginnings_) {
    if (lower.starts_with(beginning)) return id;
  }
  for (const auto& [known, id] : names_) {
    if (lower == known) return id;
  }
  return lower;
}

std::string PriceList::TierOf(std::string_view told) const {
  std::string lower = Lower(told);
  if (std::ranges::find(standard_tiers_, lower) != standard_tiers_.end()) lower.clear();
  return lower;
}

const ListedProvider* PriceList::ProviderNamed(std::string_view id) const {
  for (const ListedProvider& provider : providers_) {
    if (provider.id == id) return &provider;
  }
  for (const ListedProvider& provider : providers_) {
    if (provider.matches.Matches(id)) return &provider;
  }
  return nullptr;
}

const ListedModel* PriceList::ModelOf(const ListedProvider& provider, std::string_view model, bool& borrowed) const {
  const auto among = [&](const ListedProvider& each) -> const ListedModel* {
    for (const ListedModel& listed : each.models) {
      if (listed.matches.Matches(model)) return &listed;
    }
    return nullptr;
  };
  borrowed = false;
  if (const ListedModel* const own = among(provider)) return own;
  borrowed = true;
  for (const std::string& id : provider.fallbacks) {
    const auto found = std::ranges::find(providers_, id, &ListedProvider::id);
    if (found == providers_.end()) continue;
    if (const ListedModel* const other = among(*found)) return other;
  }
  return nullptr;
}

// The names under which a model is looked for, the first that is listed holds. Gateways and clouds put names before a
// model's: openai/gpt-5, models/gemini-2.5-pro, publishers/google/models/gemini-2.5-pro.
PriceList::Names PriceList::NamesOf(std::string_view provider, std::string_view model) const {
  constexpr std::string_view kGateway = "litellm", kModels = "/models/";
  Names names{.provider = provider.empty() ? nullptr : ProviderNamed(provider), .models = {model}};
  const std::size_t slash = model.find('/');
  const bool two = slash != model.npos && slash != 0 && slash + 1 != model.size();
  const ListedProvider* const before = two ? ProviderNamed(ProviderId(model.substr(0, slash))) : nullptr;
  if (names.provider == nullptr && (provider.empty() || provider == kGateway)) {
    if (before != nullptr) {
      names.provider = before;
      names.models = {model.substr(slash + 1)};
    } else {
      const auto knows = [&](const ListedProvider& each) { return each.matches_models.Matches(model); };
      const auto first = std::ranges::find_if(providers_, knows);
      if (first != providers_.end()) names.provider = &*first;
    }
  } else if (before != nullptr && before == names.provider) {
    names.models.push_back(model.substr(slash + 1));
  }
  const std::string_view last = names.models.back();
  if (const std::size_t at = last.rfind(kModels); at != last.npos) {
    names.models.push_back(last.substr(at + kModels.size()));
  } else if (last.starts_with(kModels.substr(1))) {
    names.models.push_back(last.substr(kModels.size() - 1));
  }
  return names;
}

const ListedModel* PriceList::Find(std::string_view provider, std::string_view model, bool& borrowed) const {
  const std::string lower = Lower(model);
  const Names names = NamesOf(provider, lower);
  if (names.provider == nullptr) return nullptr;
  for (const std::string_view name : names.models) {
    if (const ListedModel* const listed = ModelOf(*names.provider, name, borrowed)) return listed;
    const std::string dashed = WithDashedDate(name);
    const ListedModel* const dated = dashed.empty() ? nullptr : ModelOf(*names.provider, dashed, borrowed);
    if (dated != nullptr) return dated;
  }
  return nullptr;
}

}  // namespace spanbox
