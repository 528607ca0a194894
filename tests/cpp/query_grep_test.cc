#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "base/utf8.h"
#include "query/pattern.h"
#include "query_testing.h"

namespace spanbox {
namespace {

using testing::Json;
using testing::MemoryStore;

// "span column before[match]after", one line a hit.
std::string Found(Store& store, std::string_view pattern, bool regex = false, bool ignore_case = false,
                  std::uint64_t limit = 100, const std::string& filter = "") {
  const auto result = Grep(store, {.filter = filter}, pattern, regex, ignore_case, limit);
  if (!result.ok()) return result.status().message();
  std::string text;
  for (const GrepHit& hit : result->hits) {
    text += hit.span_name + " " + hit.column + " " + hit.snippet.substr(0, hit.match_offset) + "[" +
            hit.snippet.substr(hit.match_offset, hit.match_bytes) + "]" +
            hit.snippet.substr(hit.match_offset + hit.match_bytes) + "\n";
  }
  return text;
}

MemoryStore SmallStore() {
  MemoryStore store;
  store.AddSegment({{.span = 1,
                     .name = "ask refund",
                     .start_ns = 10,
                     .fields = {{"input", std::string("a Refund, please")}, {"note", std::string("no refund")}}},
                    {.span = 2,
                     .name = "b",
                     .kind = SpanKind::kTool,
                     .status = SpanStatus::kError,
                     .start_ns = 30,
                     .fields = {{"output", Json{R"({"text":"the \"refund\"\nis due \u00e9"})"}},
                                {"error_message", std::string("refund failed")}}}});
  store.AddSegment({{.span = 3, .name = "c", .start_ns = 20, .fields = {{"model", std::string("refund-1")}}}});
  return store;
}

TEST(GrepTest, FindsTextInEveryColumnNewestFirst) {
  MemoryStore store = SmallStore();
  EXPECT_EQ(Found(store, "refund"),
            "b error_message [refund] failed\n"
            "b output {\"text\":\"the \\\"[refund]\\\"\\nis due \\u00e9\"}\n"
            "c model [refund]-1\n"
            "ask refund name ask [refund]\n"
            "ask refund note no [refund]\n");
  EXPECT_EQ(Found(store, "refund", false, false, 2),
            "b error_message [refund] failed\n"
            "b output {\"text\":\"the \\\"[refund]\\\"\\nis due \\u00e9\"}\n");
  EXPECT_EQ(Grep(store, {}, "refund", false, false, 2)->matched, 5u);
  EXPECT_EQ(Grep(store, {}, "refund", false, false, 0)->matched, 5u);
  EXPECT_EQ(Found(store, "refund", false, false, 10, "kind == tool and \"failed\" in error_message").size(),
            Found(store, "refund", false, false, 2).size());
  EXPECT_EQ(Found(store, "tool"), "") << "kind and status are not searched";
}

TEST(GrepTest, IgnoresCaseAndTakesRegularExpressions) {
  MemoryStore store = SmallStore();
  EXPECT_EQ(Grep(store, {}, "refund", false, true, 9)->matched, 6u);
  EXPECT_EQ(Found(store, "REFUND, P", false, true), "ask refund input a [Refund, p]lease\n");
  EXPECT_EQ(Found(store, "r.fund f\\w+", true), "b error_message [refund failed]\n");
  EXPECT_EQ(Found(store, "(?i)^A REF", true), "ask refund input [a Ref]und, please\n");
  EXPECT_EQ(Found(store, "a.Refund"), "") << "plain text is no expression";
  EXPECT_EQ(Found(store, "(", true), "the regular expression is wrong: missing ): (");
  EXPECT_EQ(Found(store, ""), "the pattern is empty: give some text to look for");
  EXPECT_EQ(Found(store, std::string(1001, 'x'), true), "the pattern has 1001 bytes: at most 1000 are allowed");
}

// Before the strings of a dictionary are looked at one by one, they are asked for together.
TEST(GrepTest, FindsTheStringsThatALookAtEachFinds) {
  // The Kelvin sign and the long s are a k and an s in another case.
  const std::string letters[] = {"a", "k", "K", "\xE2\x84\xAA", "s", "S", "\xC5\xBF", "\xC3\xA9", "\xC3\x89", "x"};
  std::mt19937_64 random(5);
  const auto word = [&](std::size_t longest) {
    std::string text;
    for (std::size_t i = 0, size = 1 + random() % longest; i < size; ++i)
      text += letters[random() % std::size(letters)];
    return text;
  };
  for (int round = 0; round < 300; ++round) {
    MemoryStore store;
    std::vector<testing::Row> rows(20);
    for (std::uint64_t i = 0; i < rows.size(); ++i) rows[i] = {.span = i + 1, .name = word(9)};
    store.AddSegment(rows);
    const std::string half = word(3), pattern = round % 4 == 0 ? half + ".*" + word(2) : half;
    const bool ignore_case = round % 2 == 0, regex = round % 4 < 2;
    const auto compiled = CompilePattern(pattern, {.ignore_case = ignore_case, .literal = !regex});
    ASSERT_TRUE(compiled.ok());
    const auto naive = std::ranges::count_if(
        rows, [&](const testing::Row& row) { return re2::RE2::PartialMatch(row.name, **compiled); });
    EXPECT_EQ(Grep(store, {}, pattern, regex, ignore_case, 0)->matched, static_cast<std::uint64_t>(naive)) << pattern;
    if (!regex || ignore_case) continue;
    EXPECT_EQ(*Count(store, {.filter = "name ~ \"" + pattern + "\""}), static_cast<std::uint64_t>(naive)) << pattern;
  }
}

TEST(GrepTest, PatternWithQuotesAndNewlinesIsFoundInsideJson) {
  MemoryStore store = SmallStore();
  EXPECT_EQ(Found(store, "\"refund\"\nis"), "b output {\"text\":\"the [\\\"refund\\\"\\nis] due \\u00e9\"}\n");
  EXPECT_EQ(Found(store, "\"Refund\"\nIS", false, true),
            "b output {\"text\":\"the [\\\"refund\\\"\\nis] due \\u00e9\"}\n");
}

TEST(GrepTest, SnippetsAreShortAndCutBetweenCharacters) {
  for (std::size_t shift = 0; shift < 8; ++shift) {
    for (const std::string& middle : {std::string("needle"), std::string(200, 'n'), std::string("\xF0\x9F\x98\x80")}) {
      MemoryStore store;
      std::string around(shift, 'x');
      for (int i = 0; i < 100; ++i) around += "\xE2\x82\xAC";
      store.AddSegment({{.span = 1, .name = "a", .fields = {{"output", around + middle + around}}}});
      const auto result = Grep(store, {}, middle, false, false, 1);
      ASSERT_TRUE(result.ok());
      ASSERT_EQ(result->hits.size(), 1u);
      const GrepHit& hit = result->hits[0];
      EXPECT_LE(hit.snippet.size(), 80u);
      EXPECT_GE(hit.snippet.size(), 72u);
      EXPECT_EQ(middle.substr(0, hit.match_bytes), hit.snippet.substr(hit.match_offset, hit.match_bytes));
      EXPECT_EQ(hit.match_bytes, std::min<std::size_t>(middle.size(), 80));
      for (std::size_t i = 0; i < hit.snippet.size(); i += Utf8Length(hit.snippet, i)) {
        ASSERT_NE(Utf8Length(hit.snippet, i), 0u) << shift;
      }
    }
  }
}

TEST(GrepTest, LongMatchOfManyBytesIsCutBetweenCharacters) {
  MemoryStore store;
  std::string match;
  for (int i = 0; i < 50; ++i) match += "\xE2\x82\xAC";
  store.AddSegment({{.span = 1, .fields = {{"output", "x" + match + "y"}}}});
  const auto result = Grep(store, {}, match, false, false, 1);
  ASSERT_EQ(result->hits.size(), 1u);
  EXPECT_EQ(result->hits[0].match_bytes, 78u);
  EXPECT_EQ(result->hits[0].snippet, match.substr(0, 78));
}

}  // namespace
}  // namespace spanbox
