#include "wire/prices.h"

#include <pthread.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <optional>

#include "wire/recorded.h"
#include "wire/withheld.h"

namespace spanbox {
namespace {

constexpr std::size_t kMostFound = 4'096;
constexpr std::size_t kLongestName = 300;  // of a model
constexpr std::string_view kServedFromCache = "served_from_cache";
constexpr std::string_view kTierNames[] = {"service_tier", "openai.response.service_tier",
                                           "gen_ai.openai.response.service_tier"};  // the first that tells
constexpr Column kCounts[] = {Column::kInputTokens, Column::kCacheReadTokens, Column::kCacheWriteTokens,
                              Column::kOutputTokens, Column::kReasoningTokens};

std::optional<std::int64_t> CountOf(const Value& value) {
  if (value.type == ValueType::kInt) return value.integer;
  constexpr double kLargest = 9e15;
  if (value.type != ValueType::kFloat || !(std::abs(value.number) <= kLargest)) return std::nullopt;
  if (value.number != std::floor(value.number)) return std::nullopt;
  return static_cast<std::int64_t>(value.number);
}

// What a row says that its price depends on.
struct Said {
  bool has_cost = false, has_tokens = false, served = false, whole = true;
  std::string_view model_request;
  std::string_view tiers[std::size(kTierNames)];
  Prices::Call call;

  void Take(const Field& field) {
    const Value& value = field.value;
    switch (field.column) {
      case Column::kCostUsd:
        has_cost = true;
        break;
      case Column::kProvider:
        call.provider = value.text;
        break;
      case Column::kModel:
        call.model = value.text;
        break;
      case Column::kModelRequest:
        model_request = value.text;
        break;
      case Column::kAttribute:
        TakeAttribute(field);
        break;
      default:
        TakeCount(field);
    }
  }

 private:
  void TakeAttribute(const Field& field) {
    if (field.name == kServedFromCache) served = field.value.type == ValueType::kBool && field.value.boolean;
    for (std::size_t i = 0; i < std::size(kTierNames); ++i) {
      if (field.name == kTierNames[i]) tiers[i] = field.value.text;
    }
  }

  void TakeCount(const Field& field) {
    for (std::size_t i = 0; i < std::size(kCounts); ++i) {
      if (field.column != kCounts[i]) continue;
      const auto count = CountOf(field.value);
      whole = whole && count.has_value();
      call.counts[i] = count.value_or(0);
      has_tokens |= field.column == Column::kInputTokens || field.column == Column::kOutputTokens;
    }
  }
};

}  // namespace

Prices& Prices::Get() {
  static Prices* const prices = new Prices;  // never destroyed: threads may record while the process exits
  return *prices;
}

Prices::Prices() {
  pthread_atfork([] { Get().mutex_.lock(); }, [] { Get().mutex_.unlock(); }, [] { Get().mutex_.unlock(); });
}

void Prices::SetFile(std::string path) {
  const std::lock_guard lock(mutex_);
  file_ = std::move(path);
  tried_ = false;
  found_.clear();
  list_.reset();
}

Status Prices::SetOwn(std::string_view json) {
  SPANBOX_ASSIGN_OR_RETURN(std::unique_ptr<const PriceList> own, PriceList::Parse(json));
  const std::lock_guard lock(mutex_);
  found_.clear();
  own_ = std::move(own);
  return OkStatus();
}

// nullptr: there is none.
const PriceList* Prices::List() {
  if (tried_ || file_.empty()) return list_.get();
  tried_ = true;
  std::ifstream in(file_, std::ios::binary);
  const std::string json((std::istreambuf_iterator<char>(in)), {});
  auto list = PriceList::Parse(json);
  if (list.ok()) list_ = *std::move(list);
  return list_.get();
}

const Prices::Found& Prices::FindModel(const Call& call) {
  std::string key;
  for (const std::string_view part : {call.provider, call.model, call.tier}) key.append(part).append(1, '\0');
  const auto known = found_.find(key);
  if (known != found_.end()) return known->second;
  Found found;
  const PriceList* const list = List();
  const PriceList* const names = list != nullptr ? list : own_.get();
  if (names != nullptr && call.model.size() <= kLongestName) {
    const std::string provider = names->ProviderId(call.provider), tier = names->TierOf(call.tier);
    const auto listed = [&](std::string_view of, std::string_view model) -> const ListedModel* {
      bool borrowed = false;
      const ListedModel* const model_found = list == nullptr ? nullptr : list->Find(of, model, borrowed);
      return borrowed && !tier.empty() ? nullptr : model_found;
    };
    for (std::size_t i = 0; own_ != nullptr && i < own_->own().size(); ++i) {
      const OwnPrice& own = own_->own()[i];
      const bool others = !provider.empty() && !own.provider.empty() && provider != own.provider;
      const NameTest& test = provider.empty() ? own.matches_alone : own.matches;
      if (others || (!own.every_tier && own.price.tier != tier) || !test.Matches(call.model)) continue;
      const std::string& of = own.like_provider.empty() ? provider : own.like_provider;
      if (own.billionths == 0) {
        found.own.emplace_back(&own, nullptr);
      } else {
        found.own.emplace_back(&own, listed(of, own.like.empty() ? call.model : own.like));
      }
    }
    found.listed = listed(provider, call.model);
  }
  if (found_.size() >= kMostFound) found_.clear();
  return found_[std::move(key)] = std::move(found);
}

Prices::Cost Prices::CostOf(const Call& call) {
  const std::lock_guard lock(mutex_);
  const Found& found = FindModel(call);
  const auto priced = [&](const PriceRate* rate, std::string version, std::int64_t billionths = PriceRate::kWhole) {
    const auto usd = rate == nullptr ? std::nullopt : rate->CostOf(call.counts, billionths);
    return Cost{.known = usd.has_value(), .usd = usd.value_or(0), .version = std::move(version)};
  };
  const auto rate_of = [&](const ListedModel* listed) {
    const PriceRate* rate = nullptr;
    if (listed == nullptr) return rate;
    const std::string tier = list_->TierOf(call.tier);
    for (const DatedPrice& price : listed->prices) {
      if (price.Holds(tier, call.at_ns)) rate = price.rate;
    }
    return rate;
  };
  for (const auto& [own, listed] : found.own) {
    if (!own->price.Holds(own->price.tier, call.at_ns)) continue;
    if (own->billionths != 0 && list_ != nullptr) {
      return priced(rate_of(listed), own->price.version + ", " + list_->version(), own->billionths);
    }
    if (own->price.rate == nullptr) return {.sure = false, .version = {}};
    return priced(own->price.rate, own->price.version);
  }
  if (list_ == nullptr) return {.sure = false, .version = {}};
  return priced(rate_of(found.listed), list_->version());
}

void AddCost(SpanRow& row, RowArena& arena) {
  if (row.kind != SpanKind::kLlm && row.kind != SpanKind::kEmbedding) return;
  Said said;
  for (const Field& field : row.fields) said.Take(field);
  if (said.has_cost || !said.has_tokens || said.served) return;
  for (const std::string_view tier : said.tiers) {
    if (said.call.tier.empty()) said.call.tier = tier;
  }
  if (said.call.model.empty()) said.call.model = said.model_request;
  said.call.at_ns = row.start_ns;
  Prices::Cost cost = Prices::Get().CostOf(said.call);
  if (!cost.sure) return;
  cost.known = cost.known && said.whole;
  std::vector<Field>& fields = arena.NewFields();
  fields.assign(row.fields.begin(), row.fields.end());
  if (cost.known) {
    std::string& version = arena.NewText();
    version = std::move(cost.version);
    fields.push_back({Column::kCostUsd, {}, Value::Float(cost.usd)});
    fields.push_back({Column::kAttribute, kPriceVersion, Value::String(version)});
  }
  fields.push_back({Column::kCostSource, {}, Value::String(cost.known ? kComputed : kUnpriced)});
  row.fields = fields;
}

void FinishRow(SpanRow& row, RowArena& arena) {
  AddColumnsOfAttributes(row, arena);
  AddCost(row, arena);
  if (!has_stage.load(std::memory_order_relaxed) && IsMarked(row)) Withhold(row, arena);
}

}  // namespace spanbox
