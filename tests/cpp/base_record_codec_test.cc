// Ring records round-trip into rows; malformed ones are refused.
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "base/msgpack.h"
#include "base/record_codec.h"

namespace spanbox {
namespace {

TraceId SomeTrace() {
  TraceId id;
  id.bytes[0] = 7;
  return id;
}

// Copies payloads, so that several records can be made with one writer.
class Records {
 public:
  Records() : writer(buffer) {}
  void Keep(RecordType type) {
    const auto bytes = buffer.bytes();
    payloads_.push_back({bytes.begin(), bytes.end()});
    types_.push_back(type);
  }
  std::vector<RecordView> Views() const {
    std::vector<RecordView> views;
    for (std::size_t i = 0; i < types_.size(); ++i) views.push_back({types_[i], payloads_[i]});
    return views;
  }

  ByteBuffer buffer;
  RecordWriter writer;

 private:
  std::vector<std::vector<std::byte>> payloads_;
  std::vector<RecordType> types_;
};

Records WholeSpan() {
  Records records;
  records.writer.Start(SomeTrace(), 11, 5, 1'000, SpanKind::kLlm, "chat");
  const auto packed = records.writer.BeginPacked(Column::kInput, {});
  MsgpackWriter msgpack(records.buffer);
  msgpack.Array(1);
  msgpack.Str("hi");
  records.writer.EndPacked(packed);
  records.Keep(RecordType::kStart);
  records.writer.Fields(11);
  records.writer.AddString(Column::kModel, {}, "gpt-5");
  records.writer.AddBool(Column::kAttribute, "cached", true);
  records.Keep(RecordType::kFields);
  records.writer.End(11, 250, SpanStatus::kError);
  records.writer.AddInt(Column::kOutputTokens, {}, 42);
  records.writer.AddFloat(Column::kCostUsd, {}, 0.5);
  records.Keep(RecordType::kEnd);
  return records;
}

TEST(RecordCodecTest, ThreeRecordsMakeOneRow) {
  const Records records = WholeSpan();
  RowArena arena;
  const auto row = AssembleSpan(records.Views(), arena);
  ASSERT_TRUE(row.ok()) << row.status().message();
  EXPECT_EQ(row->trace_id, SomeTrace());
  EXPECT_EQ(row->span_id, 11u);
  EXPECT_EQ(row->parent_id, 5u);
  EXPECT_EQ(row->name, "chat");
  EXPECT_EQ(row->kind, SpanKind::kLlm);
  EXPECT_EQ(row->status, SpanStatus::kError);
  EXPECT_EQ(row->start_ns, 1'000);
  EXPECT_EQ(row->duration_ns, 250);
  ASSERT_EQ(row->fields.size(), 5u);
  EXPECT_EQ(row->fields[0].column, Column::kInput);
  EXPECT_EQ(row->fields[0].value.type, ValueType::kJson);
  EXPECT_EQ(row->fields[0].value.text, R"(["hi"])");
  EXPECT_EQ(row->fields[1].value.text, "gpt-5");
  EXPECT_EQ(row->fields[2].name, "cached");
  EXPECT_TRUE(row->fields[2].value.boolean);
  EXPECT_EQ(row->fields[3].value.integer, 42);
  EXPECT_EQ(row->fields[4].value.number, 0.5);
}

TEST(RecordCodecTest, WithoutEndTheSpanIsRunning) {
  const Records records = WholeSpan();
  RowArena arena;
  const auto views = records.Views();
  const auto row = AssembleSpan(std::span(views).first(2), arena);
  ASSERT_TRUE(row.ok());
  EXPECT_EQ(row->status, SpanStatus::kRunning);
  EXPECT_EQ(row->duration_ns, -1);
}

TEST(RecordCodecTest, WithoutStartThereIsNoTrace) {
  const Records records = WholeSpan();
  RowArena arena;
  const auto views = records.Views();
  const auto row = AssembleSpan(std::span(views).last(1), arena);
  ASSERT_TRUE(row.ok());
  EXPECT_FALSE(row->trace_id.is_valid());
  EXPECT_EQ(row->span_id, 11u);
}

TEST(RecordCodecTest, PackedScalarsBecomePlainValues) {
  Records records;
  records.writer.Fields(1);
  MsgpackWriter msgpack(records.buffer);
  const auto add = [&](auto write) {
    const auto at = records.writer.BeginPacked(Column::kAttribute, "x");
    write();
    records.writer.EndPacked(at);
  };
  const std::string long_text(300, 'y');
  add([&] { msgpack.Int(-5); });
  add([&] { msgpack.Int(1'000'000); });
  add([&] { msgpack.Float(2.5); });
  add([&] { msgpack.Bool(false); });
  add([&] { msgpack.Str("short"); });
  add([&] { msgpack.Str(long_text); });
  add([&] { msgpack.Nil(); });
  records.Keep(RecordType::kFields);
  RowArena arena;
  const auto row = AssembleSpan(records.Views(), arena);
  ASSERT_TRUE(row.ok()) << row.status().message();
  ASSERT_EQ(row->fields.size(), 7u);
  EXPECT_EQ(row->fields[0].value.integer, -5);
  EXPECT_EQ(row->fields[1].value.integer, 1'000'000);
  EXPECT_EQ(row->fields[2].value.number, 2.5);
  EXPECT_EQ(row->fields[3].value.type, ValueType::kBool);
  EXPECT_EQ(row->fields[4].value.text, "short");
  EXPECT_EQ(row->fields[5].value.text, long_text);
  EXPECT_EQ(row->fields[6].value.type, ValueType::kJson);
  EXPECT_EQ(row->fields[6].value.text, "null");
}

TEST(RecordCodecTest, SpanIdOfEveryType) {
  const Records records = WholeSpan();
  for (const RecordView& record : records.Views()) {
    ASSERT_TRUE(SpanIdOf(record).ok());
    EXPECT_EQ(*SpanIdOf(record), 11u);
    EXPECT_EQ(SpanIdOf({record.type, record.payload.first(7)}).status().code(), StatusCode::kDataLoss);
  }
}

TEST(RecordCodecTest, OpenRecordsRoundTrip) {
  const Records records = WholeSpan();
  std::string open;
  for (const RecordView& record : records.Views()) AppendOpenRecord(record, open);
  const auto parsed = ParseOpenRecords(open);
  ASSERT_TRUE(parsed.ok());
  ASSERT_EQ(parsed->size(), 3u);
  RowArena arena;
  EXPECT_EQ(AssembleSpan(*parsed, arena)->fields.size(), 5u);
  EXPECT_FALSE(ParseOpenRecords(std::string_view(open).substr(0, open.size() - 1)).ok());
}

TEST(RecordCodecTest, EveryTruncationIsAnErrorOrAShorterRow) {
  const Records records = WholeSpan();
  for (const RecordView& record : records.Views()) {
    for (std::size_t n = 0; n < record.payload.size(); ++n) {
      RowArena arena;
      const RecordView cut{record.type, record.payload.first(n)};
      const auto row = AssembleSpan(std::span(&cut, 1), arena);
      if (row.ok()) {
        EXPECT_LT(row->fields.size(), 3u);
      } else {
        EXPECT_EQ(row.status().code(), StatusCode::kDataLoss);
      }
    }
  }
}

TEST(RecordCodecTest, RandomBytesNeverCrash) {
  std::mt19937_64 random(2);
  const Records records = WholeSpan();
  for (int i = 0; i < 20'000; ++i) {
    const auto views = records.Views();
    const RecordView& victim = views[random() % 3];
    std::vector<std::byte> bytes(victim.payload.begin(), victim.payload.end());
    for (int flips = 0; flips < 3; ++flips) bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    RowArena arena;
    const RecordView view{victim.type, bytes};
    (void)AssembleSpan(std::span(&view, 1), arena);
    (void)ParseOpenRecords({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }
}

}  // namespace
}  // namespace spanbox
