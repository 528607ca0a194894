// Names, ids and the column table.
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "spanbox/span.h"

namespace spanbox {
namespace {

TEST(SpanIdTest, HexIsMostSignificantDigitFirst) {
  EXPECT_EQ(ToHex(SpanId{0x0123456789ABCDEF}), "0123456789abcdef");
  EXPECT_EQ(SpanIdFromHex("0123456789ABCDEF"), SpanId{0x0123456789ABCDEF});
}

TEST(SpanIdTest, RefusesWhatIsNoId) {
  for (const char* bad : {"", "0123456789abcde", "0123456789abcdef0", "0123456789abcdeg", "0000000000000000"}) {
    EXPECT_EQ(SpanIdFromHex(bad), std::nullopt) << bad;
  }
}

TEST(TraceIdTest, HexRoundTripsAndKeepsByteOrder) {
  TraceId id;
  for (std::size_t i = 0; i < 16; ++i) id.bytes[i] = static_cast<std::uint8_t>(i * 17);
  EXPECT_EQ(ToHex(id), "00112233445566778899aabbccddeeff");
  EXPECT_EQ(TraceIdFromHex(ToHex(id)), id);
}

TEST(TraceIdTest, RefusesWhatIsNoId) {
  EXPECT_EQ(TraceIdFromHex(std::string(32, '0')), std::nullopt);
  EXPECT_EQ(TraceIdFromHex(std::string(31, 'a')), std::nullopt);
  EXPECT_EQ(TraceIdFromHex(std::string(31, 'a') + " "), std::nullopt);
}

constexpr char kTraceparent[] = "00-00112233445566778899aabbccddeeff-0123456789abcdef-01";

TEST(TraceparentTest, RoundTrips) {
  const auto parent = ParseTraceparent(kTraceparent);
  ASSERT_TRUE(parent.has_value());
  EXPECT_EQ(ToHex(parent->trace_id), "00112233445566778899aabbccddeeff");
  EXPECT_EQ(parent->span_id, SpanId{0x0123456789ABCDEF});
  EXPECT_TRUE(parent->sampled);
  EXPECT_EQ(ToTraceparent(*parent), kTraceparent);
  const TraceParent unsampled{parent->trace_id, 1, false};
  EXPECT_EQ(ParseTraceparent(ToTraceparent(unsampled)), unsampled);
}

TEST(TraceparentTest, OnlyTheFirstFlagIsRead) {
  const std::string ids = std::string(kTraceparent, 53);
  EXPECT_TRUE(ParseTraceparent(ids + "ff")->sampled);
  EXPECT_FALSE(ParseTraceparent(ids + "fe")->sampled);
}

TEST(TraceparentTest, LaterVersionsAreReadByWhatEveryVersionHas) {
  const std::string rest = std::string(kTraceparent).substr(2);
  for (const std::string& text :
       {"01" + rest, "fe" + rest, "cc" + rest + "-what-the-future-holds", "cc" + rest + "-"}) {
    EXPECT_EQ(ParseTraceparent(text), ParseTraceparent(kTraceparent)) << text;
  }
  for (const std::string& text : {"ff" + rest, "cc" + rest + "0", "cc" + rest + ".more", "00" + rest + "-more"}) {
    EXPECT_EQ(ParseTraceparent(text), std::nullopt) << text;
  }
}

TEST(TraceparentTest, RefusesWhatIsNone) {
  const std::string good = kTraceparent;
  for (std::size_t length = 0; length < good.size(); ++length) {
    EXPECT_EQ(ParseTraceparent(good.substr(0, length)), std::nullopt) << length;
  }
  // No other byte may stand for a dash or a digit; an uppercase digit is none.
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (const char wrong : {'g', 'A', 'F', ' ', '\0', '.', '\xff'}) {
      std::string text = good;
      text[i] = wrong;
      EXPECT_EQ(ParseTraceparent(text), std::nullopt) << text;
    }
  }
  for (const std::string& text :
       {" " + good, good + " ", good + "\n", std::string("-") + good, "00-" + std::string(32, '0') + good.substr(35),
        good.substr(0, 36) + std::string(16, '0') + "-01"}) {
    EXPECT_EQ(ParseTraceparent(text), std::nullopt) << text;
  }
}

TEST(SpanNamesTest, EveryKindAndStatusRoundTrips) {
  for (std::size_t i = 0; i < SpanKindNames().size(); ++i) {
    const auto kind = static_cast<SpanKind>(i);
    EXPECT_EQ(SpanKindFromString(ToString(kind)), kind);
  }
  for (const auto status : {SpanStatus::kOk, SpanStatus::kError, SpanStatus::kRunning, SpanStatus::kInterrupted}) {
    EXPECT_EQ(SpanStatusFromString(ToString(status)), status);
  }
  EXPECT_EQ(ToString(SpanKind::kMemory), "memory");
  EXPECT_EQ(SpanKindFromString("LLM"), std::nullopt);
}

TEST(ColumnsTest, NamesAndAliasesAreUniqueAndFound) {
  std::set<std::string_view> seen;
  for (const ColumnInfo& info : Columns().subspan(1)) {
    EXPECT_TRUE(seen.insert(info.name).second) << info.name;
    EXPECT_EQ(FindColumn(info.name), &info);
    EXPECT_FALSE(info.description.empty());
    if (info.alias.empty()) continue;
    EXPECT_TRUE(seen.insert(info.alias).second) << info.alias;
    EXPECT_EQ(FindColumn(info.alias), &info);
  }
  EXPECT_EQ(Columns().size(), kColumnCount);
}

TEST(ColumnsTest, AliasIsTheNameWithoutItsUnit) {
  for (const ColumnInfo& info : Columns()) {
    const bool has_unit = info.name.ends_with("_ns") || info.name.ends_with("_usd");
    EXPECT_EQ(!info.alias.empty(), has_unit) << info.name;
    if (has_unit) {
      EXPECT_EQ(info.alias, info.name.substr(0, info.name.rfind('_')));
    }
  }
}

TEST(ColumnsTest, AttributeNamesAreNoColumns) {
  EXPECT_EQ(FindColumn(""), nullptr);
  EXPECT_EQ(FindColumn("top_k"), nullptr);
  EXPECT_EQ(FindColumn("TTFT"), nullptr);
}

}  // namespace
}  // namespace spanbox
