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
