// Single values of segments, and what a process remembers of them: the same answers as reading everything anew.
#include <bit>
#include <cstring>

#include "store/segment_memory.h"
#include "store_test_util.h"

namespace spanbox::testing {
namespace {

// Calls of two models in traces of four: every way of encoding numbers, strings and parents occurs.
std::deque<Row> Calls(std::size_t count) {
  std::mt19937_64 random(count);
  std::deque<Row> rows;
  for (std::size_t i = 0; i < count; ++i) {
    Row& row = rows.emplace_back(Trace(random() >> 40 << 20 | i / 4), i * 0x9E3779B97F4A7C15 | 1);
    row.Start(static_cast<std::int64_t>(i * 1'000'000 + random() % 3'000'000)).Name("step " + std::to_string(i % 9));
    row.Duration(static_cast<std::int64_t>(random() % 5'000'000'000))
        .Kind(i % 3 == 0 ? SpanKind::kTool : SpanKind::kLlm);
    row.Parent(i % 7 == 0 ? random() | 1 : 0);
    row.Set(Column::kUserId, Value::String("user " + std::to_string(i / 40)));
    row.Set("flag", Value::Bool(i % 5 == 0)).Set("step", Value::Int(static_cast<std::int64_t>(i)));
    row.Set("long", Value::String(std::string(i % 11 == 0 ? 200 : 3, static_cast<char>('a' + i % 7))));
    if (i % 3 == 0) continue;
    row.Set(Column::kModel, Value::String(i % 2 == 0 ? "large" : "small"));
    row.Set(Column::kTtftNs, Value::Int(static_cast<std::int64_t>(random() % 1'000'000)));
    row.Set(Column::kCostUsd, Value::Float(static_cast<double>(random() % 50) / 7));
    row.Set("score", Value::Float(std::bit_cast<double>(random() >> 3)));
  }
  return rows;
}

std::vector<std::uint32_t> Some(std::uint32_t count, std::uint32_t step) {
  std::vector<std::uint32_t> some;
  for (std::uint32_t i = 0; i < count; i += step) some.push_back(i);
  if (some.back() != count - 1) some.push_back(count - 1);
  return some;
}

// Single values of a chunk against all of them, where both can be read; false: they cannot.
bool Agree(const Segment& segment, const ChunkInfo& chunk, std::uint32_t step) {
  const std::vector<std::uint32_t> places = Some(chunk.valid_count, step);
  const auto compare = [&](const Status& status, const auto& single, const auto& all, auto value_at) {
    if (!status.ok() || !all.ok()) return false;
    for (std::size_t i = 0; i < places.size(); ++i) {
      EXPECT_EQ(single[i], value_at(*all, places[i])) << chunk.name << " at " << places[i];
    }
    return true;
  };
  if (chunk.type == ColumnType::kInt || chunk.type == ColumnType::kBool || chunk.type == ColumnType::kFloat) {
    std::vector<std::int64_t> single(places.size());
    const Status status = segment.NumbersAt(chunk, places, single);
    return compare(status, single, segment.ReadDenseNumbers(chunk), [](const auto& all, auto at) { return all[at]; });
  }
  if (chunk.type == ColumnType::kString) {
    std::vector<std::string_view> single(places.size());
    const Status status = segment.StringsAt(chunk, places, single);
    return compare(status, single, segment.ReadDenseStrings(chunk),
                   [](const auto& all, auto at) { return all.dictionary[all.codes[at]]; });
  }
  if (chunk.type == ColumnType::kSpanId) {
    const auto validity = segment.ReadValidity(chunk);
    if (!validity.ok()) return false;
    std::vector<std::uint32_t> with_value, rows;
    for (std::uint32_t row = 0; row < segment.rows(); ++row) {
      if ((*validity)[row]) with_value.push_back(row);
    }
    for (const std::uint32_t place : places) rows.push_back(with_value[place]);
    std::vector<SpanId> single(places.size());
    const Status status = segment.SpanIdsAt(chunk, rows, places, single);
    return compare(status, single, segment.ReadSpanIds(chunk),
                   [&](const auto& all, auto at) { return all.values[with_value[at]]; });
  }
  if (chunk.type == ColumnType::kTraceId) {
    const auto single = segment.TraceIdsAt(places);
    if (!single.ok()) return false;
    return compare(OkStatus(), *single, segment.ReadTraceIds(chunk),
                   [](const auto& all, auto at) { return all.values[at]; });
  }
  return true;
}

TEST(SegmentPointsTest, SingleValuesAreThoseOfTheWholeColumn) {
  for (const std::size_t count : {1, 2, 65, 129, 3000}) {
    const std::deque<Row> calls = Calls(count);
    std::deque<Row> random;
    MakeRows(random, count, count);
    for (const auto* rows : {&calls, static_cast<const std::deque<Row>*>(&random)}) {
      const Built built(Borrow(*rows));
      const Segment segment = Must(built.Open());
      for (const ChunkInfo& chunk : segment.chunks()) {
        for (const std::uint32_t step : {1u, 3u, 400u}) EXPECT_TRUE(Agree(segment, chunk, step)) << chunk.name;
      }
    }
  }
}

// What is remembered as verified is read without looking at checksums.
TEST(SegmentPointsTest, HostileChunksThatAreTrustedNeverCrash) {
  const std::deque<Row> rows = Calls(600);
  const Built built(Borrow(rows));
  const Segment sound = Must(built.Open());
  std::uint32_t directory_bytes = 0;
  std::memcpy(&directory_bytes, built.encoded.columns.data() + 20, sizeof directory_bytes);
  const std::size_t from = 40 + directory_bytes;
  std::mt19937_64 random(7);
  for (int i = 0; i < 3000; ++i) {
    std::string columns = built.encoded.columns;
    for (int n = 0; n < 3; ++n) {
      const std::size_t at = from + random() % (columns.size() - from);
      columns[at] = static_cast<char>(i % 2 == 0 ? columns[at] ^ (1 << random() % 8) : random());
    }
    Segment segment = Must(Built::Open(columns, built.encoded.text_blocks));
    const auto memory = std::make_shared<SegmentMemory>(0);
    for (std::uint32_t part = 0; part < 512; ++part) memory->SetVerified(part);
    segment.Remember(memory);
    for (const ChunkInfo& chunk : segment.chunks()) (void)Agree(segment, chunk, 37);
    (void)segment.RowsOfTrace(rows[static_cast<std::size_t>(i) % rows.size()].row().trace_id);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(SegmentPointsTest, PartsAreVerifiedWhenTheyAreReadFirst) {
  const std::deque<Row> rows = Calls(600);
  const Built built(Borrow(rows));
  std::string columns = built.encoded.columns;
  const auto memory = std::make_shared<SegmentMemory>(0);
  Segment segment = Must(Built::Open(columns, built.encoded.text_blocks));
  segment.Remember(memory);
  const ChunkInfo& ids = *segment.Find("span_id", ColumnType::kSpanId);
  const ChunkInfo& durations = *segment.Find("duration_ns", ColumnType::kInt);
  ASSERT_OK(segment.ReadSpanIds(ids).status());
  std::uint32_t directory_bytes = 0;
  std::memcpy(&directory_bytes, columns.data() + 20, sizeof directory_bytes);
  for (std::size_t at = 40 + directory_bytes; at < columns.size(); ++at)
    columns[at] = static_cast<char>(columns[at] ^ 1);
  EXPECT_TRUE(segment.ReadSpanIds(ids).ok()) << "was verified";
  EXPECT_EQ(segment.ReadInts(durations).status().code(), StatusCode::kDataLoss);
  std::int64_t one = 0;
  const std::uint32_t first = 0;
  EXPECT_EQ(segment.NumbersAt(durations, {&first, 1}, {&one, 1}).code(), StatusCode::kDataLoss);
}

TEST(TraceSieveTest, HoldsEveryTraceAndFewOthers) {
  constexpr std::uint32_t kTraces = 20'000;
  TraceSieve sieve(kTraces);
  for (std::uint64_t i = 0; i < kTraces; ++i) sieve.Add(Trace(i));
  std::uint32_t wrong = 0;
  for (std::uint64_t i = 0; i < kTraces; ++i) {
    EXPECT_TRUE(sieve.MayHold(Trace(i)));
    wrong += sieve.MayHold(Trace(i + kTraces)) ? 1 : 0;
  }
  EXPECT_LT(wrong, kTraces / 200);
  EXPECT_LE(sieve.bytes(), kTraces * 2 + 64);
}

TEST(SegmentMemoryTest, TracesAreFoundByViewsThatRememberAndWhatIsRemovedIsGone) {
  const TempDir dir;
  const auto store = Must(Store::Open(dir / "s"));
  for (std::uint64_t part = 0; part < 3; ++part) {
    std::deque<Row> rows;
    for (std::uint64_t i = 0; i < 50; ++i) rows.emplace_back(Trace(part + i * 3), part * 50 + i + 1);
    ASSERT_OK(store->Append(Borrow(rows)));
  }
  const auto holders = [&](std::uint64_t trace) {
    std::vector<std::uint64_t> ids;
    const auto view = Must(store->Read());
    for (const SegmentMeta& segment : view->segments()) {
      if (!view->MayHold(segment, Trace(trace))) continue;
      const auto rows = Must(Must(view->Load(segment)).RowsOfTrace(Trace(trace)));
      if (!rows.empty()) ids.push_back(segment.id);
    }
    return ids;
  };
  for (int round = 0; round < 4; ++round) {
    for (std::uint64_t trace = 0; trace < 150; ++trace) ASSERT_EQ(holders(trace).size(), 1u) << trace;
    EXPECT_TRUE(holders(150).empty());
  }
  const auto view = Must(store->Read());
  std::uint32_t held = 0;
  for (const SegmentMeta& segment : view->segments()) held += view->MayHold(segment, Trace(75)) ? 1 : 0;
  EXPECT_EQ(held, 1u) << "searched often, segments know what they do not hold";
  std::vector<std::uint32_t> all(50);
  for (std::uint32_t i = 0; i < 50; ++i) all[i] = i;
  ASSERT_OK(store->RemoveRows(holders(75).front(), all));
  EXPECT_EQ(CountRows(*store), 100u);
  EXPECT_TRUE(holders(75).empty());
  ASSERT_OK(store->Compact());
  EXPECT_EQ(holders(76), holders(77));
}

}  // namespace
}  // namespace spanbox::testing
