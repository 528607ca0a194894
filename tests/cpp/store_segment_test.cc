#include <limits>
#include <set>

#include "store_test_util.h"

namespace spanbox::testing {
namespace {

std::vector<std::string> Sorted(std::vector<std::string> rows) {
  std::sort(rows.begin(), rows.end());
  return rows;
}

const ChunkInfo& Chunk(const Segment& segment, std::string_view name, ColumnType type) {
  const ChunkInfo* chunk = segment.Find(name, type);
  if (chunk == nullptr) {
    ADD_FAILURE() << "no chunk " << name;
    std::abort();
  }
  return *chunk;
}

class SegmentSizesTest : public ::testing::TestWithParam<int> {};

TEST_P(SegmentSizesTest, RandomRowsComeBackWithEveryValueAndType) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    std::deque<Row> rows;
    MakeRows(rows, seed, static_cast<std::size_t>(GetParam()));
    const Built built(Borrow(rows));
    const Segment segment = Must(built.Open());
    EXPECT_EQ(Sorted(Must(RowsAsText(segment))), Expected(rows)) << "seed " << seed;
  }
}
INSTANTIATE_TEST_SUITE_P(Rows, SegmentSizesTest, ::testing::Values(1, 2, 3, 63, 64, 65, 130, 700));

TEST(SegmentTest, RowsAreOrderedByTraceStartThenStart) {
  std::deque<Row> rows;
  rows.emplace_back(Trace(9), 1).Start(300);
  rows.emplace_back(Trace(5), 2).Start(200);
  rows.emplace_back(Trace(9), 3).Start(100);
  rows.emplace_back(Trace(5), 4).Start(150);
  rows.emplace_back(Trace(7), 5).Start(100);
  const Built built(Borrow(rows));
  const Segment segment = Must(built.Open());
  const auto ids = Must(segment.ReadSpanIds(Chunk(segment, "span_id", ColumnType::kSpanId)));
  EXPECT_EQ(ids.values, (std::vector<SpanId>{5, 3, 1, 4, 2}));
  EXPECT_EQ(segment.min_start_ns(), 100);
  EXPECT_EQ(segment.max_start_ns(), 300);
}

// Of traces that overlap, as most do: their starts are close to those around them and go back and forth.
TEST(SegmentTest, StartsComeBackAndLieWithinTheBoundsOfTheirBlocks) {
  for (const std::size_t rows : {1279u, 1280u, 1281u, 3000u}) {
    std::mt19937_64 random(rows);
    std::vector<std::int64_t> starts;
    std::deque<Row> made;
    for (std::size_t i = 0; i < rows; ++i) {
      starts.push_back(
          static_cast<std::int64_t>(i / 5 * 1'000'000'000 + i % 5 * 20'000'000'000 + random() % 1'000'000));
      made.emplace_back(Trace(i / 5 + 1), i + 1).Start(starts.back());
    }
    const Built built(Borrow(made));
    const Segment segment = Must(built.Open());
    const ChunkInfo& chunk = Chunk(segment, "start_ns", ColumnType::kInt);
    EXPECT_EQ(Must(segment.ReadInts(chunk)).values, starts);
    std::size_t bounded = 0;
    const auto skip = [&](std::size_t before, std::size_t count, std::int64_t low, std::int64_t high) {
      for (std::size_t i = before; i < before + count; ++i) bounded += low <= starts[i] && starts[i] <= high ? 1 : 0;
      return true;
    };
    const auto unasked = [](std::size_t, std::span<const std::int64_t>) { ADD_FAILURE() << "was to be skipped"; };
    ASSERT_OK(segment.VisitNumbers(chunk, unasked, skip));
    EXPECT_EQ(bounded, rows);
  }
}

TEST(SegmentTest, AttributeThatChangesItsTypeHasAChunkForEach) {
  std::deque<Row> rows;
  rows.emplace_back(Trace(1), 1).Set("score", Value::Int(3));
  rows.emplace_back(Trace(1), 2).Start(1001).Set("score", Value::Float(0.5));
  rows.emplace_back(Trace(1), 3).Start(1002).Set("score", Value::String("high"));
  rows.emplace_back(Trace(1), 4).Start(1003).Set("score", Value::Json("[1]"));
  rows.emplace_back(Trace(1), 5).Start(1004).Set("score", Value::Bool(true));
  rows.emplace_back(Trace(1), 6).Start(1005);
  const Built built(Borrow(rows));
  const Segment segment = Must(built.Open());
  std::set<ColumnType> types;
  for (const ChunkInfo* chunk : segment.Find("score")) {
    EXPECT_EQ(chunk->valid_count, 1u);
    types.insert(chunk->type);
  }
  EXPECT_EQ(types, (std::set<ColumnType>{ColumnType::kInt, ColumnType::kFloat, ColumnType::kString, ColumnType::kText,
                                         ColumnType::kBool}));
  const auto ints = Must(segment.ReadInts(Chunk(segment, "score", ColumnType::kInt)));
  EXPECT_EQ(ints.values, (std::vector<std::int64_t>{3, 0, 0, 0, 0, 0}));
  EXPECT_TRUE(ints.valid[0]);
  EXPECT_FALSE(ints.valid[1]);
}

TEST(SegmentTest, LastOfFieldsWithOneNameWins) {
  Row row;
  row.Set("x", Value::Int(1)).Set("x", Value::String("two")).Set(Column::kModel, Value::String("a"));
  row.Set(Column::kModel, Value::String("b")).Set("x", Value::Int(3));
  const Built built({row.row()});
  const Segment segment = Must(built.Open());
  EXPECT_EQ(segment.Find("x").size(), 1u);
  EXPECT_EQ(Must(segment.ReadInts(Chunk(segment, "x", ColumnType::kInt))).values[0], 3);
  const auto model = Must(segment.ReadStrings(Chunk(segment, "model", ColumnType::kString)));
  EXPECT_EQ(model.dictionary, (std::vector<std::string_view>{"b"}));
}

TEST(SegmentTest, AttributeNamedLikeAColumnIsThatColumnAndNeverShadowsTheFixedPart) {
  Row row;
  row.Set("model", Value::String("gpt-5")).Set("status", Value::Int(404)).Set("trace_id", Value::String("abc"));
  const Built built({row.row()});
  const Segment segment = Must(built.Open());
  EXPECT_EQ(Chunk(segment, "model", ColumnType::kString).column, Column::kModel);
  EXPECT_EQ(Must(segment.ReadInts(Chunk(segment, "attribute.status", ColumnType::kInt))).values[0], 404);
  EXPECT_EQ(Chunk(segment, "attribute.trace_id", ColumnType::kString).min_text, "abc");
  EXPECT_EQ(segment.Find("status").size(), 1u);
}

TEST(SegmentTest, HugeStringsAndAnyBytesAreKept) {
  std::string huge(5 << 20, 'x');
  std::mt19937_64 random(3);
  for (std::size_t i = 0; i < huge.size(); i += 3) huge[i] = static_cast<char>(random());
  const std::string invalid = std::string("\xFF\xFE\0\xC3(", 5);
  std::deque<Row> rows;
  rows.emplace_back(Trace(1), 1).Set(Column::kInput, Value::String(huge)).Set("raw", Value::String(invalid));
  rows.emplace_back(Trace(1), 2).Start(1001).Set(Column::kInput, Value::String("")).Set("raw", Value::String(""));
  rows.emplace_back(Trace(1), 3).Start(1002).Set(Column::kInput, Value::String(invalid)).Name("");
  const Built built(Borrow(rows));
  EXPECT_EQ(built.encoded.text_blocks.size(), 2u) << "a large payload stands alone";
  const Segment segment = Must(built.Open());
  EXPECT_EQ(Sorted(Must(RowsAsText(segment))), Expected(rows));
}

TEST(SegmentTest, StringsAreTextBeyond1024BytesOrWhereTheColumnIsText) {
  std::deque<Row> rows;
  rows.emplace_back(Trace(1), 1)
      .Set("a", Value::String(std::string(1024, 'a')))
      .Set(Column::kOutput, Value::String("x"));
  rows.emplace_back(Trace(1), 2).Start(1001).Set("a", Value::String(std::string(1025, 'b')));
  const Built built(Borrow(rows));
  const Segment segment = Must(built.Open());
  EXPECT_EQ(Chunk(segment, "a", ColumnType::kString).valid_count, 1u);
  const auto text = Must(segment.ReadText(Chunk(segment, "a", ColumnType::kText)));
  EXPECT_FALSE(text->valid(0));
  EXPECT_TRUE(text->valid(1));
  EXPECT_EQ(text->size_bytes(1), 1025u);
  EXPECT_FALSE(text->is_json(1));
  EXPECT_EQ(segment.Find("output", ColumnType::kString), nullptr);
}

TEST(SegmentTest, TpotIsDerivedWhereItCanBeAndAbsentElsewhere) {
  std::deque<Row> rows;
  const auto add = [&](SpanId id, std::int64_t duration, std::int64_t ttft, std::int64_t tokens) -> Row& {
    Row& row = rows.emplace_back(Trace(1), id).Start(static_cast<std::int64_t>(id)).Duration(duration);
    return row.Set(Column::kTtftNs, Value::Int(ttft)).Set(Column::kOutputTokens, Value::Int(tokens));
  };
  add(1, 1100, 100, 11);
  add(2, 1100, 100, 1);                                       // one token has no time after the first
  add(3, 50, 100, 10);                                        // the first token after the end makes no sense
  add(4, -1, 100, 10);                                        // still running
  add(5, 1100, 100, 11).Set(Column::kTpotNs, Value::Int(7));  // given
  const Built built(Borrow(rows));
  const Segment segment = Must(built.Open());
  const auto tpot = Must(segment.ReadInts(Chunk(segment, "tpot_ns", ColumnType::kInt)));
  EXPECT_EQ(tpot.values, (std::vector<std::int64_t>{100, 0, 0, 0, 7}));
  EXPECT_TRUE(tpot.valid[0] && !tpot.valid[1] && !tpot.valid[2] && !tpot.valid[3] && tpot.valid[4]);
}

TEST(SegmentTest, ZoneMapsAreExact) {
  std::deque<Row> rows;
  const std::int64_t ints[] = {std::numeric_limits<std::int64_t>::min(), 5, std::numeric_limits<std::int64_t>::max()};
  const double floats[] = {std::numeric_limits<double>::quiet_NaN(), -2.5, 7.25};
  const char* texts[] = {"pear", "apple", "quince"};
  for (std::size_t i = 0; i < 3; ++i) {
    rows.emplace_back(Trace(1), i + 1)
        .Start(static_cast<std::int64_t>(i))
        .Set("i", Value::Int(ints[i]))
        .Set("f", Value::Float(floats[i]))
        .Set("s", Value::String(texts[i]))
        .Set("b", Value::Bool(i == 1))
        .Set("nan", Value::Float(floats[0]))
        .Set("long", Value::String(std::string(200, static_cast<char>('a' + i))));
  }
  const Built built(Borrow(rows));
  const Segment segment = Must(built.Open());
  const ChunkInfo& i = Chunk(segment, "i", ColumnType::kInt);
  EXPECT_TRUE(i.has_zone);
  EXPECT_EQ(i.min_int, ints[0]);
  EXPECT_EQ(i.max_int, ints[2]);
  const ChunkInfo& f = Chunk(segment, "f", ColumnType::kFloat);
  EXPECT_TRUE(f.has_zone);
  EXPECT_EQ(f.min_number, -2.5);
  EXPECT_EQ(f.max_number, 7.25);
  const ChunkInfo& s = Chunk(segment, "s", ColumnType::kString);
  EXPECT_EQ(s.min_text, "apple");
  EXPECT_EQ(s.max_text, "quince");
  EXPECT_EQ(Chunk(segment, "b", ColumnType::kBool).max_int, 1);
  EXPECT_FALSE(Chunk(segment, "nan", ColumnType::kFloat).has_zone);
  EXPECT_FALSE(Chunk(segment, "long", ColumnType::kString).has_zone);
}

TEST(SegmentTest, DictionariesAreSortedDistinctAndComplete) {
  std::deque<Row> rows;
  for (std::uint64_t i = 0; i < 300; ++i) {
    rows.emplace_back(Trace(i), i + 1).Set("key", Value::String("k" + std::to_string(i * 7 % 50)));
  }
  const Built built(Borrow(rows));
  const Segment segment = Must(built.Open());
  const auto column = Must(segment.ReadStrings(Chunk(segment, "key", ColumnType::kString)));
  EXPECT_EQ(column.dictionary.size(), 50u);
  EXPECT_TRUE(std::is_sorted(column.dictionary.begin(), column.dictionary.end()));
  EXPECT_EQ(std::set<std::uint32_t>(column.codes.begin(), column.codes.end()).size(), 50u);
}

TEST(SegmentTest, RowsOfTraceFindsEveryTraceAndNoOther) {
  for (const std::uint64_t spread : {std::uint64_t{1}, std::uint64_t{0x9E3779B97F4A7C15}}) {
    std::deque<Row> rows;
    std::map<TraceId, std::set<SpanId>> expected;
    for (std::uint64_t i = 0; i < 3000; ++i) {
      TraceId trace = Trace(i % 1000 * spread);
      for (std::size_t b = 0; b < 8; ++b) trace.bytes[b] = trace.bytes[15 - b];  // spread over the whole range
      rows.emplace_back(trace, i + 1).Start(static_cast<std::int64_t>(i * 7919 % 1000));
      expected[trace].insert(i + 1);
    }
    const Built built(Borrow(rows));
    const Segment segment = Must(built.Open());
    const auto ids = Must(segment.ReadSpanIds(Chunk(segment, "span_id", ColumnType::kSpanId)));
    for (const auto& [trace, spans] : expected) {
      std::set<SpanId> found;
      const auto of_trace = Must(segment.RowsOfTrace(trace));
      EXPECT_TRUE(std::is_sorted(of_trace.begin(), of_trace.end()));
      for (std::uint32_t row : of_trace) found.insert(ids.values[row]);
      ASSERT_EQ(found, spans);
    }
    for (std::uint64_t i = 0; i < 1000; ++i) {
      TraceId absent = Trace(i * 977 + 5000);
      absent.bytes[0] = static_cast<std::uint8_t>(i);
      if (!expected.contains(absent)) {
        ASSERT_TRUE(Must(segment.RowsOfTrace(absent)).empty());
      }
    }
  }
}

TEST(SegmentTest, ParentsSurviveWhetherTheyAreInTheSegmentOrNot) {
  std::deque<Row> rows;
  for (std::uint64_t i = 0; i < 100; ++i) {  // more than the builder searches row by row
    Row& row = rows.emplace_back(Trace(1), i + 1).Start(static_cast<std::int64_t>(1000 - i));
    if (i % 10 != 0) row.Parent(i % 3 == 0 ? 0xABCDEF00 + i : i);
  }
  rows.emplace_back(Trace(2), 500).Parent(500);  // its own parent
  rows.emplace_back(Trace(2), 501).Parent(1);    // of the other trace
  const Built built(Borrow(rows));
  const Segment segment = Must(built.Open());
  EXPECT_EQ(Sorted(Must(RowsAsText(segment))), Expected(rows));
}

TEST(SegmentTest, SmallSegmentsStaySmall) {
  for (const std::size_t count : {1, 10, 100}) {
    std::deque<Row> rows;
    std::mt19937_64 random(1);
    std::size_t raw_bytes = 0;
    for (std::size_t i = 0; i < count; ++i) {
      TraceId trace = Trace(random());
      rows.emplace_back(trace, random())
          .Start(static_cast<std::int64_t>(1'700'000'000'000'000'000 + i * 1'000'000))
          .Duration(static_cast<std::int64_t>(random() % 1'000'000'000))
          .Kind(SpanKind::kLlm)
          .Set(Column::kModel, Value::String(i % 2 == 0 ? "model-a" : "model-b"))
          .Set(Column::kProvider, Value::String("provider"))
          .Set(Column::kTtftNs, Value::Int(static_cast<std::int64_t>(random() % 100'000'000)))
          .Set(Column::kInputTokens, Value::Int(static_cast<std::int64_t>(random() % 5000)))
          .Set(Column::kOutputTokens, Value::Int(static_cast<std::int64_t>(random() % 5000)))
          .Set(Column::kCostUsd, Value::Float(static_cast<double>(random() % 1000) * 1e-6))
          .Set(Column::kUserId, Value::String("user"))
          .Set(Column::kTenant, Value::String("tenant"));
      raw_bytes += 16 + 8 + 4 + 4 + 4 + 4 + 2 + 2 + 8;  // ids whole, the rest in about as many bytes as its range needs
    }
    const Built built(Borrow(rows));
    EXPECT_LE(built.encoded.columns.size(), raw_bytes + 600) << count << " rows";
  }
}

TEST(SegmentTest, BuilderIsEmptyAfterFinishAndCanBeUsedAgain) {
  SegmentBuilder builder;
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    std::deque<Row> rows;
    MakeRows(rows, seed, 50);
    for (const SpanRow& row : Borrow(rows)) builder.Add(row);
    const auto again = builder.Finish();
    EXPECT_EQ(builder.rows(), 0u);
    EXPECT_EQ(again.columns, Built(Borrow(rows)).encoded.columns) << "bytes depend on the rows alone";
  }
}

}  // namespace
}  // namespace spanbox::testing
