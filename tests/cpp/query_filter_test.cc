// Filters against rows: a differential test with an evaluator of its own, and the rules one by one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <random>
#include <set>

#include "query_testing.h"
#include "spanbox/trace.h"

namespace spanbox {
namespace {

using testing::AnyValue;
using testing::Json;
using testing::MemoryStore;
using testing::Row;

std::set<SpanId> Selected(Store& store, const SpanQuery& query) {
  const auto table = Scan(store, query, {.columns = {"span_id"}});
  EXPECT_TRUE(table.ok()) << table.status().message();
  std::set<SpanId> ids;
  if (!table.ok()) return ids;
  const TableColumn& column = table->columns[0];
  for (const std::uint32_t code : column.codes) ids.insert(*SpanIdFromHex(column.dictionary[code]));
  const auto count = Count(store, query);
  EXPECT_TRUE(count.ok());
  if (count.ok()) EXPECT_EQ(*count, table->rows);
  return ids;
}

std::set<SpanId> Selected(Store& store, const std::string& filter) {
  return Selected(store, SpanQuery{.filter = filter});
}

std::optional<AnyValue> ValueOfColumn(const Row& row, const std::string& name) {
  if (name == "name") return AnyValue(row.name);
  if (name == "kind") return AnyValue(std::string(ToString(row.kind)));
  if (name == "status") return AnyValue(std::string(ToString(row.status)));
  if (name == "start_ns") return AnyValue(row.start_ns);
  if (name == "duration_ns") return row.duration_ns >= 0 ? std::optional<AnyValue>(row.duration_ns) : std::nullopt;
  const auto found = row.fields.find(name);
  return found == row.fields.end() ? std::nullopt : std::optional<AnyValue>(found->second);
}

// The trees of all rows, found the plain way: row by row.
class Family {
 public:
  void Set(const std::vector<Row>& rows) {
    rows_ = &rows;
    parent_.assign(rows.size(), nullptr);
    cut_.assign(rows.size(), false);
    for (std::size_t i = 0; i < rows.size(); ++i) parent_[i] = ById(rows[i].trace, rows[i].parent);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const Row* earliest = &rows[i];
      const Row* at = Parent(rows[i]);
      for (std::size_t steps = 0; at != nullptr && at != &rows[i] && steps < rows.size(); ++steps, at = Parent(*at)) {
        if (std::pair(at->start_ns, at->span) < std::pair(earliest->start_ns, earliest->span)) earliest = at;
      }
      if (at != &rows[i]) continue;  // no cycle goes through it
      parent_[Index(*earliest)] = nullptr;
      cut_[Index(*earliest)] = true;
    }
  }

  std::vector<const Row*> Relatives(const Row& row, int relation) const {
    std::vector<const Row*> found;
    for (const Row& other : *rows_) {
      if (other.trace != row.trace || &other == &row) continue;
      const bool same_parent =
          row.parent != 0 && other.parent == row.parent && !cut_[Index(row)] && !cut_[Index(other)];
      const bool is[] = {Parent(other) == &row, IsAbove(row, other), Parent(row) == &other, IsAbove(other, row),
                         same_parent};
      if (is[relation]) found.push_back(&other);
    }
    return found;
  }

 private:
  std::size_t Index(const Row& row) const { return static_cast<std::size_t>(&row - rows_->data()); }
  const Row* Parent(const Row& row) const { return parent_[Index(row)]; }
  const Row* ById(std::uint64_t trace, SpanId id) const {
    for (const Row& row : *rows_) {
      if (id != 0 && row.trace == trace && row.span == id) return &row;
    }
    return nullptr;
  }
  bool IsAbove(const Row& above, const Row& row) const {
    const Row* at = Parent(row);
    while (at != nullptr && at != &above) at = Parent(*at);
    return at != nullptr;
  }

  const std::vector<Row>* rows_ = nullptr;
  std::vector<const Row*> parent_;
  std::vector<bool> cut_;
};

// A random filter as text, and what it means.
struct Generated {
  std::string text;
  std::function<bool(const Row&)> holds;
};

class Generator {
 public:
  // Without a family, filters ask for no relatives.
  explicit Generator(std::uint64_t seed, const Family* family = nullptr) : family_(family), random_(seed) {}

  Generated Make(int depth) {
    if (family_ != nullptr && depth > 0 && random_() % 3 == 0) return Relatives(depth);
    const auto pick = random_() % 10;
    if (depth == 0 || pick < 5) return Term();
    const Generated a = Make(depth - 1);
    if (pick == 5) return {"not (" + a.text + ")", [a](const Row& row) { return !a.holds(row); }};
    const Generated b = Make(depth - 1);
    if (pick < 8) {
      return {"(" + a.text + ") and (" + b.text + ")", [a, b](const Row& row) { return a.holds(row) && b.holds(row); }};
    }
    return {"(" + a.text + ") or (" + b.text + ")", [a, b](const Row& row) { return a.holds(row) || b.holds(row); }};
  }

  Row MakeRow(SpanId id) {
    Row row;
    row.trace = 1 + (id - 1) % 20;
    row.span = id;
    // Mostly a span of the same trace: spans of trace t have ids t, t + 20, t + 40 and so on.
    row.parent = random_() % 3 == 0 ? 0 : row.trace + 20 * (random_() % (id / 20 + 2));
    if (random_() % 10 == 0) row.parent = 1 + random_() % 50;
    row.name = Word();
    row.kind = static_cast<SpanKind>(random_() % 13);
    row.status = static_cast<SpanStatus>(random_() % 4);
    row.start_ns = static_cast<std::int64_t>(random_() % 1000);
    row.duration_ns = random_() % 4 == 0 ? -1 : static_cast<std::int64_t>(random_() % 10) * 1'000'000'000;
    if (random_() % 2 == 0) row.fields["ttft_ns"] = static_cast<std::int64_t>(random_() % 10) * 1'000'000'000;
    if (random_() % 2 == 0) row.fields["model"] = Word();
    if (random_() % 2 == 0) row.fields["cost_usd"] = static_cast<double>(random_() % 5) / 4;
    if (random_() % 2 == 0) row.fields["output"] = Long();
    if (random_() % 2 == 0) row.fields["mixed"] = Any();
    if (random_() % 4 == 0) row.fields["rare.flag"] = random_() % 2 == 0;
    return row;
  }

 private:
  static constexpr const char* kWords[] = {"alpha", "beta", "gamma", "al", "Alpha", "", "b\"q"};
  std::string Word() { return kWords[random_() % std::size(kWords)]; }
  AnyValue Long() {
    std::string text = Word() + " " + Word() + std::string(random_() % 5 == 0 ? 3000 : 0, 'x') + Word();
    if (random_() % 2 == 0) return text;
    std::string json = "{\"k\":\"";
    for (const char c : text) json += c == '"' ? std::string("\\\"") : std::string(1, c);
    return Json{json + "\"}"};
  }
  double SpecialNumber() {
    constexpr double kSpecial[] = {0.5, -0.0, 2, 9007199254740993.0, 1e300, -9.3e18, 9223372036854775807.0, 3.25};
    return kSpecial[random_() % std::size(kSpecial)];
  }
  std::int64_t SpecialInt() {
    constexpr std::int64_t kSpecial[] = {0,
                                         1,
                                         2,
                                         -3,
                                         9007199254740993,
                                         9007199254740992,
                                         std::numeric_limits<std::int64_t>::max(),
                                         std::numeric_limits<std::int64_t>::min()};
    return kSpecial[random_() % std::size(kSpecial)];
  }
  AnyValue Any() {
    switch (random_() % 6) {
      case 0:
        return random_() % 2 == 0;
      case 1:
        return SpecialInt();
      case 2:
        return random_() % 8 == 0 ? std::numeric_limits<double>::quiet_NaN() : SpecialNumber();
      case 3:
        return Word();
      case 4:
        return std::string(1500, 'y') + Word();
      default:
        return Long();
    }
  }

  static std::string Quote(const std::string& text) {
    std::string quoted = "\"";
    for (const char c : text) quoted += c == '"' ? std::string("\\\"") : std::string(1, c);
    return quoted + "\"";
  }

  static bool IsText(const AnyValue& value) {
    return std::holds_alternative<std::string>(value) || std::holds_alternative<Json>(value);
  }
  static std::string Text(const AnyValue& value) {
    const auto* json = std::get_if<Json>(&value);
    return json != nullptr ? json->text : std::get<std::string>(value);
  }

  // -1, 0, 1; nothing when the two do not compare. long double holds every int64 and every double.
  static std::optional<int> Order(const AnyValue& a, const AnyValue& b) {
    if (IsText(a) && IsText(b)) {
      const int order = Text(a).compare(Text(b));
      return order < 0 ? -1 : order > 0 ? 1 : 0;
    }
    if (std::holds_alternative<bool>(a) && std::holds_alternative<bool>(b))
      return std::get<bool>(a) == std::get<bool>(b) ? 0 : 1;
    const auto number = [](const AnyValue& v) -> std::optional<long double> {
      if (const auto* i = std::get_if<std::int64_t>(&v)) return *i;
      if (const auto* d = std::get_if<double>(&v)) return *d;
      return std::nullopt;
    };
    const auto x = number(a), y = number(b);
    if (!x || !y || std::isnan(*x)) return std::nullopt;
    return *x < *y ? -1 : *x > *y ? 1 : 0;
  }

  Generated Compare(const std::string& column, const std::string& written, const AnyValue& value,
                    const std::string& value_text, bool ordered) {
    constexpr const char* kOperators[] = {"==", "!=", "<", "<=", ">", ">="};
    const std::size_t op = random_() % (ordered ? 6 : 2);
    return {written + " " + kOperators[op] + " " + value_text, [=](const Row& row) {
              const auto cell = ValueOfColumn(row, column);
              if (!cell) return false;
              const auto order = Order(*cell, value);
              switch (op) {
                case 0:
                  return order == 0;
                case 1:
                  return order != 0;
                case 2:
                  return order && *order < 0;
                case 3:
                  return order && *order <= 0;
                case 4:
                  return order && *order > 0;
                default:
                  return order && *order >= 0;
              }
            }};
  }

  std::string NumberText(const AnyValue& value) {
    if (const auto* i = std::get_if<std::int64_t>(&value)) return std::to_string(*i);
    char text[64];
    snprintf(text, sizeof text, "%.17g", std::get<double>(value));
    return text;
  }

  Generated Term() {
    const char* const kAll[] = {"name",     "kind",   "status", "duration_ns", "ttft_ns", "model",
                                "cost_usd", "output", "mixed",  "rare.flag",   "nowhere"};
    switch (random_() % 11) {
      case 0: {
        const std::string column = kAll[random_() % std::size(kAll)];
        const bool none = random_() % 2 == 0;
        return {column + (none ? " == none" : " != none"),
                [=](const Row& row) { return ValueOfColumn(row, column).has_value() != none; }};
      }
      case 1: {
        const std::int64_t s = static_cast<std::int64_t>(random_() % 10);
        const bool ttft = random_() % 2 == 0;
        return Compare(ttft ? "ttft_ns" : "duration_ns", ttft ? "ttft" : "duration_ns", s * 1'000'000'000,
                       std::to_string(s) + "s", true);
      }
      case 2: {
        const double cost = static_cast<double>(random_() % 5) / 4;
        return Compare("cost_usd", "cost", cost, "$" + NumberText(cost), true);
      }
      case 3: {
        const std::string word = Word();
        const std::string column = random_() % 2 == 0 ? "model" : "name";
        return Compare(column, column, word, Quote(word), true);
      }
      case 4: {
        const AnyValue value = random_() % 2 == 0 ? AnyValue(SpecialInt()) : AnyValue(SpecialNumber());
        return Compare("mixed", "`mixed`", value, NumberText(value), true);
      }
      case 5: {
        const bool flag = random_() % 2 == 0;
        const std::string column = random_() % 2 == 0 ? "mixed" : "rare.flag";
        return Compare(column, column, flag, flag ? "true" : "false", false);
      }
      case 6: {
        const auto kind = static_cast<SpanKind>(random_() % 13);
        return Compare("kind", "kind", std::string(ToString(kind)), std::string(ToString(kind)), false);
      }
      case 7:
        return Contains();
      case 8:
        return List();
      case 9: {
        const std::string column = random_() % 2 == 0 ? "output" : "mixed";
        return {column + " ~ \"^al|gam+a\"", [=](const Row& row) {
                  const auto cell = ValueOfColumn(row, column);
                  if (!cell || !IsText(*cell)) return false;
                  const std::string text = Text(*cell);
                  return text.starts_with("al") || text.find("gamma") != std::string::npos;
                }};
      }
      default: {
        const std::string word = Word();
        return Compare("mixed", "mixed", word, Quote(word), true);
      }
    }
  }

  Generated Relatives(int depth) {
    constexpr const char* kRelations[] = {"children", "descendants", "parent", "ancestors", "siblings"};
    const int relation = static_cast<int>(random_() % std::size(kRelations));
    const bool filtered = random_() % 4 != 0;
    const Generated inner = filtered ? Make(depth - 1) : Generated{"", [](const Row&) { return true; }};
    const std::string inside = std::string("(") + kRelations[relation] + (filtered ? ", " + inner.text : "") + ")";
    const auto count = [family = family_, relation, inner](const Row& row) {
      return std::ranges::count_if(family->Relatives(row, relation), [&](const Row* r) { return inner.holds(*r); });
    };
    const auto quantifier = random_() % 4;
    if (quantifier == 0) return {"any" + inside, [count](const Row& row) { return count(row) > 0; }};
    if (quantifier == 1 && filtered) {
      return {"all" + inside, [family = family_, relation, inner](const Row& row) {
                return std::ranges::all_of(family->Relatives(row, relation),
                                           [&](const Row* r) { return inner.holds(*r); });
              }};
    }
    constexpr const char* kOperators[] = {"==", "!=", "<", "<=", ">", ">="};
    const std::size_t op = random_() % 6;
    const std::int64_t n = static_cast<std::int64_t>(random_() % 4);
    return {"count" + inside + " " + kOperators[op] + " " + std::to_string(n), [=](const Row& row) {
              const std::int64_t c = count(row);
              const bool results[] = {c == n, c != n, c<n, c <= n, c> n, c >= n};
              return results[op];
            }};
  }

  Generated Contains() {
    const char* const kColumns[] = {"output", "mixed", "model", "kind", "nowhere"};
    const char* const kNeedles[] = {"al", "beta", "b\"q", "{", "x"};
    const std::string column = kColumns[random_() % std::size(kColumns)];
    const std::string needle = kNeedles[random_() % std::size(kNeedles)];
    const bool negated = random_() % 3 == 0;
    return {Quote(needle) + (negated ? " not in " : " in ") + column, [=](const Row& row) {
              const auto cell = ValueOfColumn(row, column);
              if (!cell) return false;
              bool found = IsText(*cell) && Text(*cell).find(needle) != std::string::npos;
              if (std::holds_alternative<Json>(*cell) && needle == "b\"q")
                found |= Text(*cell).find("b\\\"q") != std::string::npos;
              return found != negated;
            }};
  }

  Generated List() {
    std::vector<AnyValue> values;
    std::string text;
    for (std::size_t n = 1 + random_() % 4; n-- > 0;) {
      switch (random_() % 4) {
        case 0:
          values.push_back(Word());
          break;
        case 1:
          values.push_back(SpecialInt());
          break;
        case 2:
          values.push_back(SpecialNumber());
          break;
        default:
          values.push_back(random_() % 2 == 0);
      }
      if (!text.empty()) text += ", ";
      const AnyValue& v = values.back();
      text += std::holds_alternative<std::string>(v) ? Quote(std::get<std::string>(v))
              : std::holds_alternative<bool>(v)      ? std::string(std::get<bool>(v) ? "true" : "false")
                                                     : NumberText(v);
    }
    const std::string column = random_() % 3 == 0 ? "model" : "mixed";
    const bool negated = random_() % 3 == 0;
    return {column + (negated ? " not in [" : " in [") + text + "]", [=](const Row& row) {
              const auto cell = ValueOfColumn(row, column);
              if (!cell) return false;
              return std::ranges::any_of(values, [&](const AnyValue& v) { return Order(*cell, v) == 0; }) != negated;
            }};
  }

  const Family* family_;
  std::mt19937_64 random_;
};

// Five small segments, so that zones prune and columns have one value. Every other trace lies in several of them.
std::vector<Row> Fill(MemoryStore& store, Generator& generator) {
  std::vector<Row> all;
  for (const std::size_t n : {1u, 64u, 65u, 200u, 3u}) {
    std::vector<Row> rows;
    for (std::size_t i = 0; i < n; ++i) rows.push_back(generator.MakeRow(all.size() + i + 1));
    for (Row& row : rows) row.trace += row.trace % 2 == 0 ? 100 * n : 0;
    store.AddSegment(rows);
    all.insert(all.end(), rows.begin(), rows.end());
  }
  return all;
}

TEST(FilterTest, PrunedScanSelectsWhatANaiveEvaluatorSelects) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Generator generator(seed);
    MemoryStore store;
    const std::vector<Row> all = Fill(store, generator);
    for (int i = 0; i < 250; ++i) {
      const Generated filter = generator.Make(3);
      std::set<SpanId> expected, complement;
      const auto row_filter = CompileFilter(filter.text);
      ASSERT_TRUE(row_filter.ok()) << row_filter.status().message();
      std::vector<Field> fields;
      for (const Row& row : all) {
        (filter.holds(row) ? expected : complement).insert(row.span);
        ASSERT_EQ((*row_filter)(SpanRowOf(row, fields)), filter.holds(row)) << filter.text << " span " << row.span;
      }
      ASSERT_EQ(Selected(store, filter.text), expected) << filter.text << " seed " << seed;
      ASSERT_EQ(Selected(store, "not (" + filter.text + ")"), complement) << filter.text << " seed " << seed;
    }
  }
}

TEST(FilterTest, RelativesAreThoseANaiveEvaluatorFinds) {
  for (std::uint64_t seed = 100; seed < 110; ++seed) {
    Family family;
    Generator generator(seed, &family);
    MemoryStore store;
    const std::vector<Row> all = Fill(store, generator);
    family.Set(all);
    for (int i = 0; i < 100; ++i) {
      const Generated filter = generator.Make(3);
      SpanQuery query{.filter = filter.text};
      if (i % 3 == 0) query.since_ns = 300;
      if (i % 2 == 0) query.until_ns = 700;
      std::set<SpanId> expected, complement;
      for (const Row& row : all) {
        if (row.start_ns < query.since_ns || row.start_ns >= query.until_ns) continue;
        (filter.holds(row) ? expected : complement).insert(row.span);
      }
      ASSERT_EQ(Selected(store, query), expected) << filter.text << " seed " << seed;
      query.filter = "not (" + filter.text + ")";
      ASSERT_EQ(Selected(store, query), complement) << filter.text << " seed " << seed;
    }
  }
}

TEST(FilterTest, SinceAndUntilBoundTheStart) {
  MemoryStore store;
  for (std::int64_t s = 0; s < 10; ++s) {
    std::vector<Row> rows;
    for (std::int64_t i = 0; i < 10; ++i)
      rows.push_back({.span = static_cast<SpanId>(s * 10 + i + 1), .start_ns = s * 10 + i});
    store.AddSegment(rows);
  }
  for (const std::int64_t since : {-5, 0, 3, 30, 99, 100}) {
    for (const std::int64_t until : {-5, 0, 4, 35, 60, 100, 200}) {
      const auto ids = Selected(store, SpanQuery{.filter = "", .since_ns = since, .until_ns = until});
      std::size_t expected = 0;
      for (std::int64_t t = 0; t < 100; ++t) expected += t >= since && t < until ? 1 : 0;
      EXPECT_EQ(ids.size(), expected) << since << " " << until;
      if (!ids.empty()) EXPECT_EQ(*ids.begin(), static_cast<SpanId>(std::max<std::int64_t>(since, 0) + 1));
    }
  }
  store.loads = 0;
  ASSERT_TRUE(Count(store, {.filter = "kind == llm", .since_ns = 42, .until_ns = 44}).ok());
  EXPECT_EQ(store.loads, 1) << "segments outside the time are not loaded";
}

TEST(FilterTest, IdsCompareWithHexadecimalText) {
  MemoryStore store;
  store.AddSegment({{.trace = 1, .span = 1}, {.trace = 1, .span = 2, .parent = 1}, {.trace = 2, .span = 3}});
  EXPECT_EQ(Selected(store, "trace_id == \"" + ToHex(testing::TraceIdOf(1)) + "\"").size(), 2u);
  EXPECT_EQ(Selected(store, "trace_id != \"" + ToHex(testing::TraceIdOf(1)) + "\""), std::set<SpanId>{3});
  EXPECT_EQ(Selected(store, "span_id in [\"0000000000000003\", \"0000000000000001\"]"), (std::set<SpanId>{1, 3}));
  EXPECT_EQ(Selected(store, "parent_id == \"0000000000000001\""), std::set<SpanId>{2});
  EXPECT_EQ(Selected(store, "parent_id == none"), (std::set<SpanId>{1, 3}));
}

TEST(FilterTest, SegmentsWithoutTheAskedTraceAreNotLoaded) {
  MemoryStore store;
  for (std::uint64_t trace = 0; trace < 10; ++trace) {
    store.AddSegment(
        {{.trace = 10 * trace + 1, .span = 2 * trace + 1}, {.trace = 10 * trace + 5, .span = 2 * trace + 2}});
  }
  const auto is = [](std::uint64_t trace) { return "\"" + ToHex(testing::TraceIdOf(trace)) + "\""; };
  EXPECT_EQ(*Count(store, {.filter = "kind == span and trace_id == " + is(35)}), 1u);
  EXPECT_EQ(store.loads, 1);
  EXPECT_EQ(Selected(store, "trace_id in [" + is(31) + ", " + is(35) + ", " + is(91) + ", " + is(33) + "]"),
            (std::set<SpanId>{7, 8, 19}));
  EXPECT_EQ(*Count(store, {.filter = "trace_id == " + is(35) + " or span_id == \"0000000000000001\""}), 2u);
  EXPECT_EQ(*Count(store, {.filter = "not trace_id == " + is(35)}), 19u);
  std::string many = is(31);
  for (std::uint64_t trace = 1000; trace < 1100; ++trace) many += ", " + is(trace);
  EXPECT_EQ(Selected(store, "trace_id in [" + many + "]"), std::set<SpanId>{7});
}

TEST(FilterTest, TextInJsonIsFoundAsItReads) {
  MemoryStore store;
  store.AddSegment({{.span = 1, .fields = {{"input", Json{R"({"q":"say \"hi\"\nplease"})"}}}},
                    {.span = 2, .fields = {{"input", std::string("say \"hi\"\nplease")}}},
                    {.span = 3, .fields = {{"input", std::string(R"(say \"hi\"\nplease)")}}}});
  EXPECT_EQ(Selected(store, R"('say "hi"\nplease' in input)"), (std::set<SpanId>{1, 2}));
  EXPECT_EQ(Selected(store, R"('say \\"hi' in input)"), (std::set<SpanId>{1, 3}));
}

TEST(FilterTest, MisspeltColumnIsSuggestedUnlessTheAttributeExists) {
  MemoryStore store;
  store.AddSegment({{.span = 1, .fields = {{"modal", std::string("x")}}}});
  const auto wrong = Count(store, {.filter = "kind == llm and modle == \"x\""});
  ASSERT_FALSE(wrong.ok());
  EXPECT_EQ(wrong.status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(
      wrong.status().message(),
      "column 17: unknown column `modle`: did you mean `model`?\nkind == llm and modle == \"x\"\n                ^");
  EXPECT_EQ(*Count(store, {.filter = "modal == \"x\""}), 1u);
  EXPECT_EQ(*Count(store, {.filter = "something.else == \"x\""}), 0u);
  EXPECT_FALSE(Scan(store, {}, {.columns = {"stat"}}).ok()) << "two letters from start";
}

TEST(FilterTest, StoredSpanHidesItsOpenForm) {
  MemoryStore store;
  store.AddSegment({{.trace = 1, .span = 1, .status = SpanStatus::kOk, .start_ns = 10, .duration_ns = 5}});
  store.AddSegment({{.trace = 5, .span = 9, .start_ns = 90}});
  store.SetOpen({{.trace = 1, .span = 1, .status = SpanStatus::kRunning, .start_ns = 10},
                 {.trace = 1, .span = 2, .status = SpanStatus::kRunning, .start_ns = 11}});
  EXPECT_EQ(*Count(store, {}), 3u);
  EXPECT_EQ(Selected(store, "status == running"), std::set<SpanId>{2});
  EXPECT_EQ(Selected(store, "status == ok"), (std::set<SpanId>{1, 9}));
  const auto trace = TraceOf(store, testing::TraceIdOf(1));
  ASSERT_TRUE(trace.ok());
  EXPECT_EQ(trace->size(), 2u);
  EXPECT_EQ((*trace)[0].status, SpanStatus::kOk);
}

TEST(FilterTest, EmptyStoreAnswersEverything) {
  MemoryStore store;
  EXPECT_EQ(*Count(store, {.filter = "kind == llm"}), 0u);
  EXPECT_EQ(Scan(store, {}, {})->rows, 0u);
  EXPECT_EQ(Grep(store, {}, "x", false, false, 10)->matched, 0u);
}

}  // namespace
}  // namespace spanbox
