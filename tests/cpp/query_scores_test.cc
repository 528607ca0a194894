// Scores beside spans agree with a plain join of the rows, whatever segments they lie in.
#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <random>
#include <tuple>

#include "query_testing.h"
#include "spanbox/score.h"

namespace spanbox::testing {
namespace {

constexpr std::string_view kNames[] = {"q", "other"};

struct Given {
  std::uint64_t trace = 0;
  SpanId span = 0;
  std::string name;
  std::int64_t at_ns = 0;
  AnyValue value;
  std::string label;  // empty: none
};

Row RowOf(const Given& given) {
  Row row{.trace = given.trace, .span = given.span, .name = given.name, .start_ns = given.at_ns};
  row.fields["value"] = given.value;
  if (!given.label.empty()) row.fields["label"] = given.label;
  return row;
}

class ScoresOfSpansTest : public ::testing::Test {
 protected:
  void Make(std::uint32_t seed) {
    std::mt19937 random(seed);
    const auto below = [&random](std::uint64_t n) { return random() % n; };
    std::vector<Given> given;
    for (std::uint64_t trace = 1; trace <= 60; ++trace) {
      for (SpanId place = 0; place <= below(6); ++place) {
        spans.push_back({.trace = trace * 3,
                         .span = trace * 100 + place,
                         .parent = place == 0 ? 0 : trace * 100,
                         .start_ns = static_cast<std::int64_t>(trace * 1000 + place)});
      }
    }
    std::ranges::shuffle(spans, random);
    for (std::size_t begin = 0; begin < spans.size(); begin += 50) {
      store.AddSegment({spans.begin() + static_cast<std::ptrdiff_t>(begin),
                        spans.begin() + static_cast<std::ptrdiff_t>(std::min(begin + 50, spans.size()))});
    }
    for (int i = 0; i < 400; ++i) {
      const Row& span = spans[below(spans.size())];
      Given score{.trace = below(10) == 0 ? below(200) + 1 : span.trace,
                  .span = below(4) == 0 ? 0 : span.span,
                  .name = std::string(kNames[below(2)]),
                  .at_ns = static_cast<std::int64_t>(below(50) * 1000) + i};
      switch (below(3)) {
        case 0:
          score.value = static_cast<std::int64_t>(below(5));
          break;
        case 1:
          score.value = static_cast<double>(below(50)) / 10;
          break;
        default:
          score.value = below(2) == 0;
      }
      if (below(3) == 0) score.label = below(2) == 0 ? "good" : "bad";
      given.push_back(score);
    }
    std::vector<Row> rows;
    for (const Given& score : given) {
      rows.push_back(RowOf(score));
      if (rows.size() == 70) store.AddScores(std::exchange(rows, {}));
    }
    if (!rows.empty()) store.AddScores(rows);
    for (const Given& score : given) {
      for (const Row& span : spans) {
        const bool about =
            score.trace == span.trace && (score.span == span.span || (score.span == 0 && span.parent == 0));
        if (!about) continue;
        auto& latest = latest_[{span.span, score.name}];
        if (!latest || score.at_ns > latest->at_ns) latest = score;
      }
    }
  }

  std::optional<Given> Latest(const Row& span, const std::string& name) const {
    const auto found = latest_.find({span.span, name});
    return found == latest_.end() ? std::nullopt : found->second;
  }
  std::optional<double> Number(const Row& span, const std::string& name) const {
    const auto score = Latest(span, name);
    if (!score || std::holds_alternative<bool>(score->value)) return std::nullopt;
    if (const auto* integer = std::get_if<std::int64_t>(&score->value)) return static_cast<double>(*integer);
    return std::get<double>(score->value);
  }

  std::uint64_t Asked(const std::string& filter) {
    const auto count = Count(store, {.filter = filter});
    EXPECT_TRUE(count.ok()) << count.status().message();
    return count.ok() ? *count : 0;
  }
  template <typename Holds>
  std::uint64_t Expected(Holds holds) const {
    return static_cast<std::uint64_t>(std::ranges::count_if(spans, holds));
  }

  MemoryStore store;
  std::vector<Row> spans;
  std::map<std::pair<SpanId, std::string>, std::optional<Given>> latest_;
};

TEST_F(ScoresOfSpansTest, FiltersAgreeWithAPlainJoin) {
  for (std::uint32_t seed = 1; seed <= 20; ++seed) {
    store = MemoryStore();
    spans.clear();
    latest_.clear();
    Make(seed);
    EXPECT_EQ(Asked("score.q < 2.5"), Expected([&](const Row& s) { return Number(s, "q").value_or(9) < 2.5; }));
    EXPECT_EQ(Asked("score.q >= 2 and score.other < 3"), Expected([&](const Row& s) {
                return Number(s, "q").value_or(-1) >= 2 && Number(s, "other").value_or(9) < 3;
              }));
    EXPECT_EQ(Asked("score.q == none"), Expected([&](const Row& s) { return !Latest(s, "q"); }));
    EXPECT_EQ(Asked("score.q == 'good'"), Expected([&](const Row& s) {
                const auto score = Latest(s, "q");
                return score && score->label == "good";
              }));
    EXPECT_EQ(Asked("score.q != 'good'"), Expected([&](const Row& s) {
                const auto score = Latest(s, "q");
                return score && score->label != "good";
              }));
    EXPECT_EQ(Asked("score.q == true"), Expected([&](const Row& s) {
                const auto score = Latest(s, "q");
                const bool* truth = score ? std::get_if<bool>(&score->value) : nullptr;
                return truth != nullptr && *truth;
              }));
    EXPECT_EQ(Asked("any(children, score.q < 2.5)"), Expected([&](const Row& parent) {
                return std::ranges::any_of(
                    spans, [&](const Row& s) { return s.parent == parent.span && Number(s, "q").value_or(9) < 2.5; });
              }));
  }
}

TEST_F(ScoresOfSpansTest, AggregatesAgreeWithAPlainJoin) {
  Make(3);
  std::map<std::string, std::pair<double, std::uint64_t>> groups;  // by label: sum, count
  for (const Row& span : spans) {
    const auto score = Latest(span, "q");
    if (!score) continue;
    const double number = std::holds_alternative<bool>(score->value) ? static_cast<double>(std::get<bool>(score->value))
                                                                     : Number(span, "q").value_or(0);
    if (score->label.empty()) continue;
    groups[score->label].first += number;
    ++groups[score->label].second;
  }
  const Aggregate aggregates[] = {{"mean", "mean(score.q)"}, {"n", "count(score.q)"}};
  const auto table = Aggregated(store, {.filter = "score.q in ['good', 'bad']"}, {.by = {"score.q"}}, aggregates);
  ASSERT_TRUE(table.ok()) << table.status().message();
  ASSERT_EQ(table->rows, groups.size());
  for (std::size_t row = 0; row < table->rows; ++row) {
    const auto& key = table->columns[0];
    const auto& [sum, count] = groups.at(key.dictionary[key.codes[row]]);
    EXPECT_EQ(static_cast<std::uint64_t>(table->columns[2].ints[row]), count);
    EXPECT_NEAR(table->columns[1].floats[row], sum / static_cast<double>(count), 1e-9);
  }
}

TEST_F(ScoresOfSpansTest, OnlyTheTimeOfTheSpanCounts) {
  store.AddSegment({{.trace = 1, .span = 1, .start_ns = 100}});
  store.AddScores({RowOf({.trace = 1, .span = 1, .name = "q", .at_ns = 1'000'000, .value = 1.0, .label = ""})});
  const auto count = Count(store, {.filter = "score.q == 1", .since_ns = 0, .until_ns = 200});
  ASSERT_TRUE(count.ok());
  EXPECT_EQ(*count, 1u);
}

TEST_F(ScoresOfSpansTest, OtherQuestionsReadNoScores) {
  Make(1);
  store.loads = 0;
  ASSERT_TRUE(Count(store, {.filter = "duration == none"}).ok());
  const int without = store.loads;
  store.loads = 0;
  ASSERT_TRUE(Count(store, {.filter = "duration == none and score.q == none"}).ok());
  EXPECT_GT(store.loads, without);
}

TEST_F(ScoresOfSpansTest, ScoresAreAskedByTheirOwnColumns) {
  Make(2);
  const auto all = Count(store, {.about = About::kScores});
  ASSERT_TRUE(all.ok());
  EXPECT_EQ(*all, 400u);
  const auto table = Scan(store, {.filter = "name == 'q' and at >= 1970-01-01", .about = About::kScores}, {.limit = 3});
  ASSERT_TRUE(table.ok()) << table.status().message();
  EXPECT_EQ(table->rows, 3u);
  std::vector<std::string> names;
  for (const TableColumn& column : table->columns) names.push_back(column.name);
  for (const std::string_view unwanted : {"kind", "status", "start", "duration_ns"}) {
    EXPECT_EQ(std::ranges::count(names, unwanted), 0) << unwanted;
  }
  EXPECT_EQ(std::ranges::count(names, "at"), 1);
  EXPECT_FALSE(CheckFilter("any(children)", About::kScores).ok());
}

TEST_F(ScoresOfSpansTest, FiltersOfOneSpanAtATimeRefuseScores) {
  const auto compiled = CompileFilter("status == error or score.q < 1");
  ASSERT_FALSE(compiled.ok());
  EXPECT_NE(compiled.status().message().find("column 20"), std::string::npos) << compiled.status().message();
}

}  // namespace
}  // namespace spanbox::testing
