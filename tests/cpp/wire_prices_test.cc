// Costs of model calls as rows get them: the list, prices of one's own, and what is not known.
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "wire/prices.h"

namespace spanbox {
namespace {

// $2 and $10 a million in and out, $0.2 of what was cached; above 1,000 in twice as much.
constexpr char kList[] = R"({
  "version": "list 1",
  "beginnings": [["azure", "azure"]], "names": [["xai", "x-ai"]], "standard_tiers": ["", "default"],
  "rates": [
    {"tiers": [[1000, "0", "4000000000000000000000000", "-3600000000000000000000000", "0", "20000000000000000000000000", "0"],
               [0, "0", "2000000000000000000000000", "-1800000000000000000000000", "0", "10000000000000000000000000", "0"]],
     "without": []},
    {"tiers": [[0, "1000000000000000000000000000", "1", "0", "0", "0", "0"]], "without": [2, 3]}],
  "providers": [
    {"id": "openai", "matches": ["*", "openai"], "matches_models": ["^", "gpt-"], "fallbacks": [],
     "models": [
       {"matches": ["|", ["=", "gpt-5"], ["~", "^gpt-5-\\d{4}-\\d{2}-\\d{2}$"]],
        "prices": [{"until_ns": 1000, "rate": 1}, {"since_ns": 1000, "rate": 0}, {"tier": "batch", "rate": 1}]},
       {"matches": ["&", ["^", "o"], ["!", ["$", "-tts"]]], "prices": [{"to_s": 3600, "rate": 0}]}]},
    {"id": "azure", "matches": null, "matches_models": null, "fallbacks": ["openai"], "models": []}],
  "own": []})";

constexpr char kOwn[] = R"json({
  "version": "", "beginnings": [], "names": [], "standard_tiers": [""], "providers": [],
  "rates": [{"tiers": [[0, "0", "1000000000000000000000000", "0", "0", "0", "0"]], "without": []}],
  "own": [
    {"provider": "openai", "matches": ["~", "(?is)\\A(?:GPT-5.*)\\z"], "matches_alone": ["~", "(?is)\\A(?:GPT-5.*)\\z"],
     "tier": "", "version": "contract", "since_ns": 5000, "rate": 0},
    {"provider": "other", "matches": ["~", "(?=never)"], "matches_alone": ["=", "x"], "tier": "", "version": "odd", "rate": 0}]})json";
constexpr char kNone[] =
    R"({"version":"","beginnings":[],"names":[],"standard_tiers":[],"providers":[],"rates":[],"own":[]})";

class PricesTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "/prices-" + testing::UnitTest::GetInstance()->current_test_info()->name() + ".json";
    std::ofstream(path_) << kList;
    Prices::Get().SetFile(path_);
  }
  void TearDown() override {
    EXPECT_TRUE(Prices::Get().SetOwn(kNone).ok());
    Prices::Get().SetFile("");
    std::remove(path_.c_str());
  }
  static Prices::Cost Of(std::string_view provider, std::string_view model, TokenCounts counts,
                         std::string_view tier = {}, std::int64_t at_ns = 2000) {
    return Prices::Get().CostOf({provider, model, tier, at_ns, counts});
  }

  std::string path_;
};

TEST_F(PricesTest, CostIsExactAndRoundedOnce) {
  EXPECT_EQ(Of("openai", "gpt-5", {1000, 0, 0, 100, 0}).usd, 0.003);
  EXPECT_EQ(Of("openai", "gpt-5", {1000, 900, 0, 0, 0}).usd, 0.00038);
  EXPECT_EQ(Of("openai", "GPT-5", {1001, 0, 0, 0, 0}).usd, 0.004004) << "the higher tier holds for every token";
  EXPECT_EQ(Of("openai", "gpt-5", {0, 0, 0, 0, 0}).usd, 0.0);
  EXPECT_EQ(Of("openai", "gpt-5", {1000, 0, 0, 100, 0}).version, "list 1");
}

TEST_F(PricesTest, CachedTokensBesideTheInputAreAdded) {
  EXPECT_EQ(Of("openai", "gpt-5", {100, 800, 0, 0, 0}).usd, 0.00036);
}

TEST_F(PricesTest, CountsThatContradictEachOtherHaveNoCost) {
  for (const TokenCounts counts : {TokenCounts{-1, 0, 0, 0, 0}, TokenCounts{5, -1, 0, 0, 0}, TokenCounts{5, 0, 0, 1, 2},
                                   TokenCounts{5, 0, 0, -1, 0}}) {
    EXPECT_FALSE(Of("openai", "gpt-5", counts).known);
  }
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  EXPECT_FALSE(Of("openai", "gpt-5", {kMost, kMost, kMost, kMost, 0}).known);
  EXPECT_FALSE(Of("openai", "gpt-5", {kMost, 0, 0, kMost, 0}).known) << "more than money can be counted";
}

TEST_F(PricesTest, KindsOfTokensWithoutAPriceHaveNoCost) {
  EXPECT_EQ(Of("openai", "gpt-5", {5, 0, 0, 0, 0}, "batch").usd, 0.001);
  EXPECT_FALSE(Of("openai", "gpt-5", {5, 0, 0, 1, 0}, "batch").known);
}

TEST_F(PricesTest, PricesHaveTheirTimes) {
  EXPECT_EQ(Of("openai", "gpt-5", {0, 0, 0, 0, 0}, "", 999).usd, 0.001);
  EXPECT_EQ(Of("openai", "gpt-5", {0, 0, 0, 0, 0}, "", 1000).usd, 0.0);
  constexpr std::int64_t kHourNs = 3'600'000'000'000;
  EXPECT_TRUE(Of("openai", "o3", {1, 0, 0, 0, 0}, "", kHourNs - 1).known);
  EXPECT_FALSE(Of("openai", "o3", {1, 0, 0, 0, 0}, "", kHourNs).known);
  EXPECT_TRUE(Of("openai", "o3", {1, 0, 0, 0, 0}, "", 24 * kHourNs).known);
  EXPECT_TRUE(Of("openai", "o3", {1, 0, 0, 0, 0}, "", -24 * kHourNs).known);
}

TEST_F(PricesTest, NamesAreFoundAsTheListFindsThem) {
  const TokenCounts one{1, 0, 0, 0, 0};
  EXPECT_TRUE(Of("", "gpt-5", one).known) << "by the model's name";
  EXPECT_TRUE(Of(" My-OpenAI ", "gpt-5", one).known);
  EXPECT_TRUE(Of("azure.ai.openai", "gpt-5", one).known) << "borrowed from another provider";
  EXPECT_FALSE(Of("azure.ai.openai", "gpt-5", one, "batch").known) << "which lends no tiers";
  EXPECT_TRUE(Of("litellm", "openai/gpt-5", one).known);
  EXPECT_TRUE(Of("litellm", "gpt-5", one).known);
  EXPECT_TRUE(Of("openai", "gpt-5-20251211", one).known);
  for (const char* const model : {"gpt-5-20251311", "gpt-5-2025121", "gpt-50", "o3-tts", "", "-20251211"}) {
    EXPECT_FALSE(Of("openai", model, one).known) << model;
  }
  EXPECT_FALSE(Of("nobody", "gpt-5", one).known);
  EXPECT_FALSE(Of("openai", "gpt-5", one, "priority").known);
  EXPECT_TRUE(Of("openai", "gpt-5", one, "Default").known);
}

TEST_F(PricesTest, NamesBeforeAModelsAreRead) {
  const auto known = [](std::string_view provider, std::string_view model) {
    return Of(provider, model, {10, 0, 0, 0, 0}).known;
  };
  EXPECT_TRUE(known("", "openai/gpt-5"));
  EXPECT_TRUE(known("litellm", "OpenAI/GPT-5"));
  EXPECT_TRUE(known("openai", "openai/gpt-5"));
  EXPECT_TRUE(known("openai", "publishers/x/models/gpt-5-2026-01-01"));
  EXPECT_TRUE(known("", "azure_ai/models/gpt-5"));
  EXPECT_FALSE(known("openai", "azure/gpt-5"));  // another provider's
  EXPECT_FALSE(known("openai", "eu/gpt-5"));     // may have a price of its own
  EXPECT_FALSE(known("openai", "supermodels/gpt-5"));
  EXPECT_FALSE(known("", "nobody/gpt-5"));
  EXPECT_FALSE(known("", "openai/"));
  EXPECT_FALSE(known("", "/gpt-5"));
  EXPECT_FALSE(known("openai", "models/"));
}

TEST_F(PricesTest, PricesOfOnesOwnComeFirst) {
  ASSERT_TRUE(Prices::Get().SetOwn(kOwn).ok());
  EXPECT_EQ(Of("openai", "gpt-5-mini", {1'000'000, 0, 0, 0, 0}, "", 5000).usd, 1.0);
  EXPECT_EQ(Of("openai", "gpt-5", {1, 0, 0, 0, 0}, "", 5000).version, "contract");
  EXPECT_EQ(Of("openai", "gpt-5", {1, 0, 0, 0, 0}, "", 4999).version, "list 1");
  EXPECT_FALSE(Of("other", "anything", {1, 0, 0, 0, 0}).sure) << "a pattern that cannot be read may mean any model";
  ASSERT_TRUE(Prices::Get().SetOwn(kNone).ok());
  EXPECT_EQ(Of("openai", "gpt-5", {1, 0, 0, 0, 0}, "", 5000).version, "list 1");
}

TEST_F(PricesTest, PricesOfTheListForAnotherNameAndALowerPrice) {
  ASSERT_TRUE(Prices::Get()
                  .SetOwn(R"json({"version": "", "beginnings": [], "names": [], "standard_tiers": [""], "providers": [],
    "rates": [], "own": [
      {"provider": "azure", "matches": ["=", "mine"], "matches_alone": ["=", "mine"], "tier": "", "every_tier": 1,
       "version": "ours", "billionths": 1000000000, "like_provider": "", "like": "gpt-5"},
      {"provider": "", "matches": ["~", "^gpt-"], "matches_alone": ["~", "^gpt-"], "tier": "", "every_tier": 1,
       "version": "less", "billionths": 850000000, "since_ns": 3000}]})json")
                  .ok());
  const TokenCounts counts = {1000, 0, 0, 100, 0};
  EXPECT_DOUBLE_EQ(Of("azure", "mine", counts).usd, 0.003);
  EXPECT_EQ(Of("azure", "mine", counts).version, "ours, list 1");
  EXPECT_FALSE(Of("azure", "yours", counts).known);
  EXPECT_FALSE(Of("azure", "mine", counts, "batch").known);  // borrowed from another provider, which has no tiers here
  EXPECT_DOUBLE_EQ(Of("openai", "gpt-5", counts, "", 4000).usd, 0.00255);
  EXPECT_EQ(Of("openai", "gpt-5", counts, "", 4000).version, "less, list 1");
  EXPECT_EQ(Of("openai", "gpt-5", counts, "", 2000).version, "list 1");  // before it holds
  EXPECT_TRUE(Of("openai", "gpt-5", {1, 0, 0, 0, 0}, "batch", 4000).known);
  EXPECT_FALSE(Of("openai", "gpt-9", counts, "", 4000).known);
}

TEST_F(PricesTest, DamagedListIsNoList) {
  const std::string list = kList;
  for (std::size_t size = 0; size < list.size(); size += 7) {
    EXPECT_FALSE(PriceList::Parse(list.substr(0, size)).ok()) << size;
  }
  for (const char* const json : {"[]", "{}", "null", R"({"version": 1})"}) EXPECT_FALSE(PriceList::Parse(json).ok());
  std::ofstream(path_) << "{";
  Prices::Get().SetFile(path_);
  EXPECT_FALSE(Of("openai", "gpt-5", {1, 0, 0, 0, 0}).sure);
}

struct Row {
  std::vector<Field> fields;
  SpanRow row;
  RowArena arena;

  explicit Row(std::vector<Field> given, SpanKind kind = SpanKind::kLlm) : fields(std::move(given)) {
    row.kind = kind;
    row.start_ns = 2000;
    row.fields = fields;
    AddCost(row, arena);
  }
  const Field* Find(Column column, std::string_view name = {}) const {
    const Field* found = nullptr;
    for (const Field& field : row.fields) {
      if (field.column == column && field.name == name) found = &field;
    }
    return found;
  }
};

std::vector<Field> Call(std::string_view model = "gpt-5") {
  return {{Column::kProvider, {}, Value::String("openai")},
          {Column::kModelRequest, {}, Value::String(model)},
          {Column::kInputTokens, {}, Value::Int(1000)},
          {Column::kOutputTokens, {}, Value::Float(100)}};
}

TEST_F(PricesTest, RowGetsItsCostWithTheVersionOfThePrices) {
  const Row row(Call());
  ASSERT_NE(row.Find(Column::kCostUsd), nullptr);
  EXPECT_EQ(row.Find(Column::kCostUsd)->value.number, 0.003);
  EXPECT_EQ(row.Find(Column::kCostSource)->value.text, kComputed);
  EXPECT_EQ(row.Find(Column::kAttribute, kPriceVersion)->value.text, "list 1");
}

TEST_F(PricesTest, RowOfAnUnknownModelSaysSo) {
  const Row row(Call("gpt-nobody"));
  EXPECT_EQ(row.Find(Column::kCostUsd), nullptr);
  EXPECT_EQ(row.Find(Column::kCostSource)->value.text, kUnpriced);
}

TEST_F(PricesTest, RowsThatNeedNoCostStayAsTheyAre) {
  std::vector<Field> paid = Call(), served = Call(), idle = Call();
  paid.push_back({Column::kCostUsd, {}, Value::Float(7)});
  served.push_back({Column::kAttribute, "served_from_cache", Value::Bool(true)});
  idle.resize(2);
  for (const std::vector<Field>& fields : {paid, served, idle}) EXPECT_EQ(Row(fields).row.fields.size(), fields.size());
  EXPECT_EQ(Row(Call(), SpanKind::kAgent).row.fields.size(), Call().size());
  EXPECT_EQ(Row(Call(), SpanKind::kEmbedding).Find(Column::kCostUsd)->value.number, 0.003);
  Prices::Get().SetFile("/nowhere");
  EXPECT_EQ(Row(Call()).row.fields.size(), Call().size()) << "no list: nothing is known, not even that";
}

TEST_F(PricesTest, TierIsTheFirstThatTells) {
  std::vector<Field> fields = Call();
  fields[3] = {Column::kAttribute, "gen_ai.openai.response.service_tier", Value::String("batch")};
  EXPECT_EQ(Row(fields).Find(Column::kCostUsd)->value.number, 0.001);
  fields.push_back({Column::kAttribute, "service_tier", Value::String("default")});
  EXPECT_EQ(Row(fields).Find(Column::kCostUsd)->value.number, 0.002);
}

}  // namespace
}  // namespace spanbox
