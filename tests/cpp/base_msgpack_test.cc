// Captured values become JSON text, and hostile bytes become errors.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>

#include "base/msgpack.h"

namespace spanbox {
namespace {

template <typename Write>
std::string Json(Write write) {
  ByteBuffer buffer;
  MsgpackWriter writer(buffer);
  write(writer);
  std::string json;
  const Status status = AppendJson(buffer.bytes(), json);
  return status.ok() ? json : "error: " + status.message();
}

TEST(MsgpackTest, ScalarsBecomeJson) {
  EXPECT_EQ(Json([](auto& w) { w.Nil(); }), "null");
  EXPECT_EQ(Json([](auto& w) { w.Bool(true); }), "true");
  EXPECT_EQ(Json([](auto& w) { w.Uint(std::numeric_limits<std::uint64_t>::max()); }), "18446744073709551615");
  for (const std::int64_t v : {std::int64_t{0}, std::int64_t{127}, std::int64_t{128}, std::int64_t{-32},
                               std::int64_t{-33}, std::numeric_limits<std::int64_t>::min()}) {
    EXPECT_EQ(Json([&](auto& w) { w.Int(v); }), std::to_string(v));
  }
}

TEST(MsgpackTest, FloatsStayFloats) {
  EXPECT_EQ(Json([](auto& w) { w.Float(1); }), "1.0");
  EXPECT_EQ(Json([](auto& w) { w.Float(0.1); }), "0.1");
  EXPECT_EQ(Json([](auto& w) { w.Float(1e300); }), "1e+300");
  EXPECT_EQ(Json([](auto& w) { w.Float(std::nan("")); }), "\"NaN\"");
  EXPECT_EQ(Json([](auto& w) { w.Float(-INFINITY); }), "\"-Infinity\"");
}

TEST(MsgpackTest, StringsOfEveryLengthClassSurvive) {
  for (const std::size_t n : {0u, 31u, 32u, 255u, 256u, 65'535u, 65'536u}) {
    const std::string text(n, 'x');
    EXPECT_EQ(Json([&](auto& w) { w.Str(text); }), '"' + text + '"');
  }
}

TEST(MsgpackTest, ControlCharactersAreEscapedAndInvalidUtf8Replaced) {
  EXPECT_EQ(Json([](auto& w) { w.Str("a\"\\\n\x01é😀"); }), "\"a\\\"\\\\\\n\\u0001é😀\"");
  EXPECT_EQ(Json([](auto& w) { w.Str("\xED\xA0\x80"); }), "\"\uFFFD\uFFFD\uFFFD\"");  // a surrogate
  EXPECT_EQ(Json([](auto& w) { w.Str("ok\xC3"); }), "\"ok\uFFFD\"");
  EXPECT_EQ(Json([](auto& w) { w.Str("\xC0\xAF"); }), "\"\uFFFD\uFFFD\"");  // overlong
}

TEST(MsgpackTest, ContainersNestAndCountsCanBeSetLater) {
  EXPECT_EQ(Json([](auto& w) {
              const auto place = w.Map(0);
              w.Str("a");
              const auto list = w.Array(9);
              w.Int(1);
              w.Float(2.5);
              w.SetCount(list, 2);
              w.Int(7);
              w.Nil();
              w.SetCount(place, 2);
            }),
            R"({"a":[1,2.5],"7":null})");
}

TEST(MsgpackTest, BytesBecomeBase64) {
  const std::string_view data = "hello";
  EXPECT_EQ(Json([&](auto& w) { w.Bin(std::as_bytes(std::span(data))); }), R"({"$bytes":"aGVsbG8="})");
}

TEST(MsgpackTest, DepthIsLimited) {
  const auto nested = [](int depth) {
    return Json([&](auto& w) {
      for (int i = 0; i < depth; ++i) w.Array(1);
      w.Nil();
    });
  };
  EXPECT_EQ(nested(kMsgpackMaxDepth), std::string(kMsgpackMaxDepth, '[') + "null" + std::string(kMsgpackMaxDepth, ']'));
  EXPECT_TRUE(nested(kMsgpackMaxDepth + 1).starts_with("error:"));
}

// Maps as keys of maps took twice the time and room with each level: 150 bytes a minute.
TEST(MsgpackTest, KeyInAKeyIsAString) {
  ByteBuffer buffer;
  MsgpackWriter writer(buffer);
  for (int level = 0; level < 2; ++level) writer.Map(1);
  writer.Str("a");
  writer.Int(1);
  writer.Int(2);
  std::string json;
  ASSERT_TRUE(AppendJson(buffer.bytes(), json).ok());
  EXPECT_EQ(json, R"({"{\"a\":1}":2})");
  buffer.Clear();
  for (int level = 0; level < 40; ++level) writer.Map(1);
  for (int level = 0; level < 80; ++level) writer.Int(1);
  EXPECT_EQ(AppendJson(buffer.bytes(), json).code(), StatusCode::kDataLoss);
}

TEST(MsgpackTest, TruncationTrailingBytesAndUnknownTypesAreDataLossWithOffset) {
  ByteBuffer buffer;
  MsgpackWriter writer(buffer);
  writer.Array(2);
  writer.Str("abc");
  writer.Int(1'000);
  for (std::size_t n = 0; n < buffer.size(); ++n) {
    std::string json;
    const Status status = AppendJson(buffer.bytes().first(n), json);
    EXPECT_EQ(status.code(), StatusCode::kDataLoss);
    EXPECT_NE(status.message().find("byte"), std::string::npos);
  }
  writer.Nil();
  std::string json;
  EXPECT_EQ(AppendJson(buffer.bytes(), json).code(), StatusCode::kDataLoss);
  const std::byte unknown[] = {std::byte{0xC1}};
  EXPECT_EQ(AppendJson(unknown, json).code(), StatusCode::kDataLoss);
}

TEST(MsgpackTest, RandomBytesNeverCrash) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 20'000; ++i) {
    std::vector<std::byte> bytes(random() % 64);
    for (auto& byte : bytes) byte = static_cast<std::byte>(random());
    std::string json;
    (void)AppendJson(bytes, json);
    EXPECT_LE(json.size(), 64u * 64u);
  }
}

}  // namespace
}  // namespace spanbox
