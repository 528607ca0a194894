#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <string>

#include "query/filter.h"
#include "spanbox/query.h"

namespace spanbox {
namespace {

std::string ErrorOf(std::string_view filter) {
  const Status status = CheckFilter(filter);
  EXPECT_TRUE(status.ok() || status.code() == StatusCode::kInvalidArgument) << status.message();
  return status.message();
}

TEST(FilterParserTest, GoodFiltersParse) {
  const char* const kGood[] = {
      "",
      "  \n",
      R"(model == "gpt-5")",
      "ttft > 2s",
      "ttft_ns>=1.5ms and cost<$0.01",
      "cost > 1e-3",
      "cost_usd <= 0",
      "duration < 500ms or duration > 5m or duration > 1h or duration >= 2d or tpot > 30us or tpot == 10ns",
      R"(tenant in ["acme", 'globex'] and user_id not in ["u1"])",
      R"("refund" in output and "x\"y" not in input)",
      R"(input ~ "order\s+\d+")",
      "status == error and kind in [llm, tool]",
      R"(kind == "llm")",
      "ttft == none",
      "parent_id != none",
      "stream == true and x != false",
      "not not (status != ok)",
      R"(model == "gpt-5" and ttft > 2s and not (status == error or "refund" in output) and tenant in ["acme", "globex"])",
      "start >= 2026-11-01 and start < 2026-11-01T10:00:00.25Z",
      "start > 2026-11-01T10:00",
      "`my attr, really` > 3",
      "retrieval.top_k >= 5",
      "score < -0.5 and score > -.5 and n == +3",
      "trace_id == \"0123456789abcdef0123456789ABCDEF\"",
      "span_id in [\"0123456789abcdef\"]",
      "error_message ~ '(?i)timeout'",
      "input_tokens in [1, 2, 3]",
      "user_id == 5",
      "latency > 2s",
      "price > $3",
      "in_ == 1",
      "android == 1",
      "kind ~ 'l.m'",
      "x == 9223372036854775808",
  };
  for (const char* filter : kGood) EXPECT_EQ(ErrorOf(filter), "") << filter;
}

TEST(FilterParserTest, ErrorsSayWhereAndWhatWouldBeRight) {
  const std::pair<const char*, const char*> kBad[] = {
      {"model", "column 6: expected one of == != < <= > >= in ~ after \"model\"\nmodel\n     ^"},
      {"model gpt", "column 7: expected one of == != < <= > >= in ~ after \"model\"\nmodel gpt\n      ^"},
      {"model = \"x\"", "column 7: = is no operator: write ==\nmodel = \"x\"\n      ^"},
      {"model == gpt", "column 10: text is quoted: write \"gpt\"\nmodel == gpt\n         ^"},
      {"model == \"gpt", "column 10: this text has no closing \"\nmodel == \"gpt\n         ^"},
      {"ttft > 2", "column 8: `ttft` is a time, 2 is a number: write 2s or 500ms\nttft > 2\n       ^"},
      {"ttft > \"slow\"", "column 8: `ttft` is a time, \"slow\" is text: write 2s or 500ms\nttft > \"slow\"\n       ^"},
      {"ttft > 2sec", "column 9: unknown unit \"sec\": use one of ns us ms s m h d\nttft > 2sec\n        ^"},
      {"cost > 2s", "column 8: `cost` is an amount in dollars, 2s is a time: write $0.01 or 0.01\ncost > 2s\n       ^"},
      {"input_tokens == true",
       "column 17: `input_tokens` is a number, true is a truth value: write a number, such as 1000\n"
       "input_tokens == true\n                ^"},
      {"model == 2s", "column 10: `model` holds text, 2s is a time: write \"2s\"\nmodel == 2s\n         ^"},
      {"start > 5",
       "column 9: `start` is a moment, 5 is a number: write 2026-11-01 or 2026-11-01T10:00:00Z\nstart > 5\n        ^"},
      {"start > 2026-13-01",
       "column 9: not a date: write 2026-11-01 or 2026-11-01T10:00:00Z, in UTC\nstart > 2026-13-01\n        ^"},
      {"start > 2026-11-01T10:00+02:00",
       "column 9: not a date: write 2026-11-01 or 2026-11-01T10:00:00Z, in UTC\nstart > 2026-11-01T10:00+02:00\n       "
       " ^"},
      {"x > 2026-11-01",
       "column 5: `x` is an attribute, 2026-11-01 is a date: write a number, true, false, or text in double quotes\n"
       "x > 2026-11-01\n    ^"},
      {"status == eror",
       "column 11: \"eror\" is no status: write one of ok error running interrupted\nstatus == eror\n          ^"},
      {"kind < llm", "column 6: `kind` compares with == and != only here\nkind < llm\n     ^"},
      {"x < true", "column 3: `x` compares with == and != only here\nx < true\n  ^"},
      {"x < none", "column 5: none compares with == and != only\nx < none\n    ^"},
      {"trace_id == \"abc\"",
       "column 13: \"abc\" is no trace_id: write 32 hexadecimal digits in double quotes\ntrace_id == \"abc\"\n         "
       "   ^"},
      {"span_id ~ \"abc\"", "column 1: `span_id` is an id: ~ searches text\nspan_id ~ \"abc\"\n^"},
      {"\"2\" in ttft", "column 8: `ttft` is a time: in searches text\n\"2\" in ttft\n       ^"},
      {"\"\" in output", "column 1: empty text is in every text: write output != none\n\"\" in output\n^"},
      {"input ~ 5", "column 9: expected a regular expression in quotes after ~\ninput ~ 5\n        ^"},
      {"input ~ \"(\"", "column 9: the regular expression is wrong: missing ): (\ninput ~ \"(\"\n        ^"},
      {"tenant in \"acme\"",
       "column 11: expected a list after in: write [\"a\", \"b\"]\ntenant in \"acme\"\n          ^"},
      {"tenant in []", "column 12: a list cannot be empty\ntenant in []\n           ^"},
      {"tenant in [\"a\" \"b\"]",
       "column 16: expected , or ] after \"\"a\"\"\ntenant in [\"a\" \"b\"]\n               ^"},
      {"tenant not == \"a\"", "column 12: expected in after \"not\"\ntenant not == \"a\"\n           ^"},
      {"(ttft > 2s", "column 1: this ( is never closed\n(ttft > 2s\n^"},
      {"(ttft > 2s]", "column 11: expected and, or, or ), not \"]\"\n(ttft > 2s]\n          ^"},
      {"ttft > 2s ttft", "column 11: expected and, or, or the end, not \"ttft\"\nttft > 2s ttft\n          ^"},
      {"ttft > 2s and",
       "column 14: expected a column, as in model == \"gpt-5\", not the end\nttft > 2s and\n             ^"},
      {"2s < ttft", "column 1: expected a column, as in model == \"gpt-5\", not \"2s\"\n2s < ttft\n^"},
      {"a == 1 && b == 2", "column 8: & is no operator: write and\na == 1 && b == 2\n       ^"},
      {"`a == 1", "column 1: this name has no closing `\n`a == 1\n^"},
      {"cost > $x", "column 8: expected a number after $\ncost > $x\n       ^"},
      {"x > 1e999", "column 5: the number \"1e999\" is out of range\nx > 1e999\n    ^"},
      {"x >", "column 4: expected a value after \">\"\nx >\n   ^"},
      {"model == \"\xC3\xA4\" ?",
       "column 14: unexpected \"?\": names with such characters go in backticks, text in double quotes\n"
       "model == \"\xC3\xA4\" ?\n             ^"},
  };
  for (const auto& [filter, message] : kBad) EXPECT_EQ(ErrorOf(filter), message) << filter;
}

TEST(FilterParserTest, LimitsHold) {
  const auto repeated = [](int n, const std::string& part, const std::string& joint) {
    std::string text = part;
    for (int i = 1; i < n; ++i) text += joint + part;
    return text;
  };
  EXPECT_EQ(ErrorOf(repeated(256, "a==1", " or ")), "");
  EXPECT_NE(ErrorOf(repeated(257, "a==1", " or ")).find("more than 256 terms"), std::string::npos);
  EXPECT_EQ(ErrorOf(std::string(32, '(') + "a==1" + std::string(32, ')')), "");
  EXPECT_NE(ErrorOf(std::string(33, '(') + "a==1" + std::string(33, ')')).find("more than 32 deep"), std::string::npos);
  EXPECT_NE(ErrorOf(repeated(33, "not", " ") + " a==1").find("more than 32 deep"), std::string::npos);
  EXPECT_EQ(ErrorOf("a in [" + repeated(1000, "1", ",") + "]"), "");
  EXPECT_NE(ErrorOf("a in [" + repeated(1001, "1", ",") + "]").find("more than 1000 values"), std::string::npos);
  EXPECT_EQ(ErrorOf("a ~ \"" + std::string(1000, 'x') + "\""), "");
  EXPECT_NE(ErrorOf("a ~ \"" + std::string(1001, 'x') + "\"").find("at most 1000"), std::string::npos);
  EXPECT_NE(ErrorOf(R"(a ~ "((a{100}){100}){100}")").find("regular expression"), std::string::npos);
  EXPECT_NE(ErrorOf(std::string(70'000, ' ')).find("at most 65536"), std::string::npos);
}

TEST(FilterParserTest, AndBindsTighterThanOrAndNotTightest) {
  const auto filter = ParseFilter("a == 1 or not b == 2 and c == 3");
  ASSERT_TRUE(filter.ok());
  ASSERT_EQ(filter->root.kind, FilterNode::Kind::kOr);
  ASSERT_EQ(filter->root.children[1].kind, FilterNode::Kind::kAnd);
  EXPECT_EQ(filter->root.children[1].children[0].kind, FilterNode::Kind::kNot);
}

TEST(FilterParserTest, ValuesAreRead) {
  const auto value = [](const char* text) {
    const auto filter = ParseFilter(text);
    EXPECT_TRUE(filter.ok()) << text;
    return filter->root.term.values.at(0);
  };
  EXPECT_EQ(value("ttft > 2s").integer, 2'000'000'000);
  EXPECT_EQ(value("ttft > 1.1s").integer, 1'100'000'000);
  EXPECT_EQ(value("ttft > 1d").integer, 86'400'000'000'000);
  EXPECT_EQ(value("start > 1970-01-02").integer, 86'400'000'000'000);
  EXPECT_EQ(value("start > 1970-01-01T00:00:01.000000002Z").integer, 1'000'000'002);
  EXPECT_EQ(value("start > 1969-12-31T23:59:59").integer, -1'000'000'000);
  EXPECT_EQ(value(R"(x == "a\n\"\\\d")").text, "a\n\"\\\\d");
  EXPECT_EQ(value("cost > $0.01").number, 0.01);
  EXPECT_FALSE(value("x == 9223372036854775808").is_integer);
  EXPECT_TRUE(value("x == -9223372036854775808").is_integer);
}

TEST(FilterParserTest, ArbitraryBytesNeverCrash) {
  std::mt19937_64 random(11);
  const std::string kPieces[] = {
      "model", "ttft", "`",        "\"",         "'",    "\\",  "==",    "~",    "in",
      "not",   "(",    ")",        "[",          "]",    ",",   "1",     "2s",   "$",
      "-",     ".",    "e",        "2026-11-01", "T",    "and", "or",    "none", " ",
      "\n",    "\xC3", "\xF0\x9F", "trace_id",   "kind", "llm", "start", "true", std::string(1, '\0')};
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 100'000; ++i) {
    std::string text;
    const bool pieces = i % 2 == 0;
    for (std::size_t n = random() % 24; n-- > 0;) {
      text += pieces ? kPieces[random() % std::size(kPieces)] : std::string(1, static_cast<char>(random()));
      if (pieces && random() % 3 == 0) text += ' ';
    }
    const Status status = CheckFilter(text);
    if (!status.ok()) EXPECT_EQ(std::ranges::count(status.message(), '\n'), 2) << status.message();
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30));
}

}  // namespace
}  // namespace spanbox
