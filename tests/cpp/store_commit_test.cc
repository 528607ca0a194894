// What Commit promises: all or nothing, cursors that never go back, open spans that are seen until they end, rings that
// are forgotten once retired; and that merging changes no row.
#include <atomic>
#include <ostream>
#include <thread>

#include "base/record_codec.h"
#include "store_test_util.h"

namespace spanbox::testing {
namespace {

std::string OpenRecords(const Row& row) {
  ByteBuffer payload;
  RecordWriter writer(payload);
  const SpanRow& span = row.row();
  writer.Start(span.trace_id, span.span_id, span.parent_id, span.start_ns, span.kind, span.name);
  for (const Field& field : span.fields) writer.AddField(field);
  std::string records;
  AppendOpenRecord({RecordType::kStart, payload.bytes()}, records);
  return records;
}

class CommitTest : public ::testing::Test {
 protected:
  CommitTest() : store_(Must(Store::Open(dir_ / "store"))) { ring_[0] = 7; }

  SpanBatch Batch(std::uint64_t seq, std::uint32_t lane = 0) {
    SpanBatch batch;
    batch.ring = ring_;
    batch.cursors = {{lane, seq * 100, seq, 0, 0}};
    return batch;
  }

  TempDir dir_;
  std::shared_ptr<Store> store_;
  RingId ring_{};
};

TEST_F(CommitTest, RowsAndCursorAreStoredTogether) {
  std::deque<Row> rows;
  SpanBatch batch = Batch(20);
  batch.spans = Borrow(MakeRows(rows, 1, 20));
  ASSERT_OK(store_->Commit(batch));
  EXPECT_EQ(AllRows(*store_), Expected(rows));
  const RingState state = Must(store_->LoadRing(ring_));
  ASSERT_TRUE(state.cursors.contains(0));
  EXPECT_EQ(state.cursors.at(0).position, 2000u);
  EXPECT_EQ(state.cursors.at(0).seq, 20u);
  EXPECT_FALSE(state.retired);
}

TEST_F(CommitTest, CursorThatWouldGoBackStoresNothing) {
  ASSERT_OK(store_->Commit(Batch(10)));
  Row row;
  SpanBatch behind = Batch(9);
  behind.spans = {row.row()};
  EXPECT_EQ(store_->Commit(behind).code(), StatusCode::kInternal);
  EXPECT_EQ(CountRows(*store_), 0u);
  EXPECT_EQ(Must(store_->LoadRing(ring_)).cursors.at(0).seq, 10u);
}

TEST_F(CommitTest, LanesAndRingsHaveTheirOwnCursors) {
  ASSERT_OK(store_->Commit(Batch(10, 0)));
  ASSERT_OK(store_->Commit(Batch(3, 1)));
  ring_[0] = 8;
  ASSERT_OK(store_->Commit(Batch(1, 0)));
  ring_[0] = 7;
  const RingState state = Must(store_->LoadRing(ring_));
  EXPECT_EQ(state.cursors.size(), 2u);
  EXPECT_EQ(state.cursors.at(0).seq, 10u);
  EXPECT_EQ(state.cursors.at(1).seq, 3u);
}

TEST_F(CommitTest, UnknownRingIsEmpty) {
  const RingState state = Must(store_->LoadRing(ring_));
  EXPECT_FALSE(state.retired);
  EXPECT_TRUE(state.cursors.empty());
  EXPECT_TRUE(state.open.empty());
}

TEST_F(CommitTest, EmptyBatchIsFine) {
  ASSERT_OK(store_->Commit(SpanBatch{}));
  EXPECT_EQ(Must(store_->Info()).segments, 0u);
  EXPECT_TRUE(Must(store_->Processes()).empty());
}

TEST_F(CommitTest, OpenSpanIsSeenAsRunningUntilItEnds) {
  Row row(Trace(3), 33);
  row.Name("agent").Kind(SpanKind::kAgent).Set(Column::kInput, Value::String("question")).Set("n", Value::Int(1));
  const std::string records = OpenRecords(row);
  SpanBatch start = Batch(1);
  start.open = {{33, records}};
  ASSERT_OK(store_->Commit(start));
  row.Duration(-1).End(SpanStatus::kRunning);
  EXPECT_EQ(AllRows(*store_), std::vector<std::string>{ToText(row.row())});
  EXPECT_EQ(Must(store_->Info()).open_spans, 1u);
  EXPECT_EQ(Must(store_->LoadRing(ring_)).open.at(33), records);
  {
    const auto view = Must(store_->Read());
    ASSERT_EQ(view->segments().size(), 1u);
    EXPECT_EQ(view->segments()[0].id, 0u);
    EXPECT_EQ(Must(Must(view->Load(view->segments()[0])).RowsOfTrace(Trace(3))).size(), 1u);
  }
  SpanBatch end = Batch(2);
  row.Duration(50).End(SpanStatus::kOk);
  end.spans = {row.row()};
  end.closed = {33};
  ASSERT_OK(store_->Commit(end));
  EXPECT_EQ(AllRows(*store_), std::vector<std::string>{ToText(row.row())});
  EXPECT_EQ(Must(store_->Info()).open_spans, 0u);
}

std::string FieldsRecord(SpanId span, std::string_view name, std::int64_t value) {
  ByteBuffer payload;
  RecordWriter writer(payload);
  writer.Fields(span);
  writer.AddInt(Column::kAttribute, name, value);
  std::string records;
  AppendOpenRecord({RecordType::kFields, payload.bytes()}, records);
  return records;
}

// A span that lives for hours and sets a thousand attributes wrote all of them anew with every one.
TEST_F(CommitTest, RecordsOfAnOpenSpanAreAppended) {
  Row row(Trace(3), 33);
  std::string all;
  for (std::uint64_t i = 0; i < 300; ++i) {
    const std::string part = i == 0 ? OpenRecords(row) : FieldsRecord(33, "n" + std::to_string(i), 7);
    SpanBatch batch = Batch(i + 1);
    batch.open = {{33, part}, {34, part}};
    ASSERT_OK(store_->Commit(batch));
    if (i > 0) row.Set("n" + std::to_string(i), Value::Int(7));
    all += part;
  }
  EXPECT_EQ(Must(store_->LoadRing(ring_)).open.at(33), all);
  EXPECT_EQ(Must(store_->Info()).open_spans, 2u);
  row.Duration(-1).End(SpanStatus::kRunning);
  EXPECT_EQ(AllRows(*store_), (std::vector<std::string>{ToText(row.row()), ToText(row.row())}));
  SpanBatch end = Batch(301);
  end.closed = {33};
  ASSERT_OK(store_->Commit(end));
  const RingState state = Must(store_->LoadRing(ring_));
  EXPECT_FALSE(state.open.contains(33));
  EXPECT_EQ(state.open.at(34), all);
}

TEST_F(CommitTest, BatchOutOfTurnIsRefusedWhole) {
  Row row;
  SpanBatch batch = Batch(1);
  batch.turn = 1;
  ASSERT_OK(store_->Commit(batch));
  batch = Batch(2);
  batch.spans = {row.row()};
  for (const std::uint64_t turn : {1, 3}) {
    batch.turn = turn;
    EXPECT_EQ(store_->Commit(batch).code(), StatusCode::kUnavailable) << turn;
  }
  EXPECT_EQ(CountRows(*store_), 0u);
  EXPECT_EQ(Must(store_->LoadRing(ring_)).cursors.at(0).seq, 1u);
  EXPECT_EQ(Must(store_->LoadRing(ring_)).turn, 1u);
  batch.turn = 2;
  ASSERT_OK(store_->Commit(batch));
  EXPECT_EQ(CountRows(*store_), 1u);
  EXPECT_EQ(Must(store_->LoadRing(ring_)).cursors.size(), 1u);
}

TEST_F(CommitTest, RetiredRingIsForgottenButRemembered) {
  Row open(Trace(4), 44);
  const std::string records = OpenRecords(open);
  SpanBatch batch = Batch(5);
  batch.open = {{44, records}};
  batch.process = R"({"pid": 1})";
  batch.cursors[0].dropped_spans = 3;
  ASSERT_OK(store_->Commit(batch));
  const auto processes = Must(store_->Processes());
  ASSERT_EQ(processes.size(), 1u);
  EXPECT_EQ(processes[0].process, R"({"pid": 1})");
  EXPECT_EQ(processes[0].dropped_spans, 3u);
  EXPECT_EQ(processes[0].ring, ring_);

  SpanBatch last;
  last.ring = ring_;
  last.retire = true;
  ASSERT_OK(store_->Commit(last));
  const RingState state = Must(store_->LoadRing(ring_));
  EXPECT_TRUE(state.retired);
  EXPECT_TRUE(state.cursors.empty());
  EXPECT_TRUE(state.open.empty());
  EXPECT_TRUE(Must(store_->Processes()).empty());
  ASSERT_OK(store_->Commit(last));  // a second recoverer finds it done
  EXPECT_FALSE(store_->Commit(Batch(6)).ok()) << "nothing more comes of a retired ring";
}

TEST_F(CommitTest, ViewShowsTheMomentItWasMade) {
  Row row;
  ASSERT_OK(store_->Append(std::vector<SpanRow>{row.row()}));
  const auto view = Must(store_->Read());
  ASSERT_OK(store_->Append(std::vector<SpanRow>{row.row()}));
  EXPECT_EQ(view->segments().size(), 1u);
  EXPECT_EQ(Must(view->Load(view->segments()[0])).rows(), 1u);
  EXPECT_EQ(CountRows(*store_), 2u);
}

// Gives the rows of a deque one after the other.
Store::NextRow OneByOne(const std::deque<Row>& rows) {
  return [&rows, at = std::size_t{0}, current = SpanRow{}]() mutable -> Result<const SpanRow*> {
    if (at == rows.size()) return static_cast<const SpanRow*>(nullptr);
    current = rows[at++].row();
    return &current;
  };
}

TEST_F(CommitTest, ProgressOfAnIngestIsStoredWithItsRows) {
  std::deque<Row> rows;
  MakeRows(rows, 5, 200);
  IngestProgress progress{.name = "a file", .rows_before = 0, .rows_after = rows.size()};
  ASSERT_OK(store_->Append(OneByOne(rows), progress));
  EXPECT_EQ(Must(store_->IngestedRows("a file")), rows.size());
  EXPECT_EQ(Must(store_->IngestedRows("another")), 0u);
  EXPECT_EQ(CountRows(*store_), rows.size());
  const Status late = store_->Append(OneByOne(rows), progress);
  EXPECT_EQ(late.code(), StatusCode::kUnavailable) << "somebody else has stored them";
  EXPECT_EQ(CountRows(*store_), rows.size());
}

TEST_F(CommitTest, RowThatCannotBeMadeStoresNothingAndSpoilsNothing) {
  std::deque<Row> rows;
  MakeRows(rows, 5, 200);
  auto next = OneByOne(rows);
  int left = 100;
  const auto failing = [&]() -> Result<const SpanRow*> {
    return left-- > 0 ? next() : Result<const SpanRow*>(InvalidArgument("no row"));
  };
  EXPECT_EQ(store_->Append(failing, {.name = "x", .rows_after = 200}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(CountRows(*store_), 0u);
  EXPECT_EQ(Must(store_->IngestedRows("x")), 0u);
  ASSERT_OK(store_->Append(OneByOne(rows), {}));
  EXPECT_EQ(CountRows(*store_), rows.size());
}

TEST_F(CommitTest, SegmentMetaTellsTimesAndTraces) {
  std::deque<Row> rows;
  rows.emplace_back(Trace(0x100), 1).Start(500);
  rows.emplace_back(Trace(0x200), 2).Start(900);
  ASSERT_OK(store_->Append(Borrow(rows)));
  const auto view = Must(store_->Read());
  const SegmentMeta meta = view->segments()[0];
  EXPECT_EQ(meta.rows, 2u);
  EXPECT_EQ(meta.min_start_ns, 500);
  EXPECT_EQ(meta.max_start_ns, 900);
  EXPECT_TRUE(meta.MayHold(Trace(0x100)));
  TraceId elsewhere = Trace(1);
  elsewhere.bytes[0] = 1;
  EXPECT_FALSE(meta.MayHold(elsewhere));
}

TEST_F(CommitTest, InfoAddsUpAndVerifyFindsNothing) {
  std::deque<Row> rows;
  ASSERT_OK(store_->Append(Borrow(MakeRows(rows, 5, 200))));
  ASSERT_OK(store_->Append(Borrow(rows)));
  const StoreInfo info = Must(store_->Info());
  EXPECT_EQ(info.segments, 2u);
  EXPECT_EQ(info.spans, 400u);
  EXPECT_GT(info.column_bytes, 0u);
  EXPECT_GT(info.raw_text_bytes, info.text_bytes);
  EXPECT_LE(info.column_bytes + info.text_bytes, info.file_bytes);
  EXPECT_LE(info.first_start_ns, info.last_start_ns);
  EXPECT_EQ(info.path, dir_ / "store");
  EXPECT_EQ(info.format, kStoreFormat);
  const VerifyReport report = Must(store_->Verify());
  EXPECT_EQ(report.segments, 2u);
  EXPECT_EQ(report.spans, 400u);
  EXPECT_EQ(report.problems, std::vector<std::string>{});
}

TEST_F(CommitTest, ReadersSeeWholeCommitsWhileWritersWrite) {
  constexpr std::uint64_t kRows = 50, kCommits = 60;
  std::deque<Row> rows;
  MakeRows(rows, 9, kRows);
  const auto borrowed = Borrow(rows);
  std::atomic<bool> done = false;
  std::thread reader([&] {
    std::uint64_t before = 0;
    while (!done) {
      const std::uint64_t now = CountRows(*store_);
      EXPECT_EQ(now % kRows, 0u) << "a part of a commit";
      EXPECT_GE(now, before);
      before = now;
    }
  });
  std::vector<std::thread> writers;
  for (int w = 0; w < 2; ++w) {
    writers.emplace_back([&] {
      for (std::uint64_t i = 0; i < kCommits; ++i) {
        const Status status = store_->Append(borrowed);
        EXPECT_TRUE(status.ok()) << status.message();
      }
    });
  }
  std::thread merger([&] {
    while (!done) (void)Must(store_->MergeOnce());
  });
  for (auto& w : writers) w.join();
  done = true;
  reader.join();
  merger.join();
  EXPECT_EQ(CountRows(*store_), 2 * kRows * kCommits);
}

struct MergeCase {
  std::uint64_t seed;
  std::uint32_t target, fan_in;
};
std::ostream& operator<<(std::ostream& out, const MergeCase& merge) {
  return out << "to " << merge.target << " rows by " << merge.fan_in;
}
class MergeTest : public ::testing::TestWithParam<MergeCase> {};

TEST_P(MergeTest, EveryRowAndValueSurvives) {
  TempDir dir;
  StoreOptions options;
  options.target_segment_rows = GetParam().target;
  options.merge_fan_in = GetParam().fan_in;
  const auto store = Must(Store::Open(dir / "s", options));
  RandomRows random(GetParam().seed);
  std::vector<std::string> expected;
  std::uint64_t merges = 0;
  for (std::uint64_t commit = 0; commit < 40; ++commit) {
    std::deque<Row> rows;
    ASSERT_OK(store->Append(Borrow(MakeRows(rows, GetParam().seed * 100 + commit, 1 + random.Below(40)))));
    const auto more = Expected(rows);
    expected.insert(expected.end(), more.begin(), more.end());
    if (random.Below(4) == 0) merges += Must(store->MergeOnce());
  }
  while (Must(store->MergeOnce())) ++merges;
  std::sort(expected.begin(), expected.end());
  EXPECT_GT(merges, 0u);
  EXPECT_EQ(AllRows(*store), expected);
  EXPECT_EQ(Must(store->Verify()).problems, std::vector<std::string>{});
  const StoreInfo info = Must(store->Info());
  EXPECT_EQ(info.spans, expected.size());
  EXPECT_LT(info.segments, 40u);
}
INSTANTIATE_TEST_SUITE_P(Shapes, MergeTest,
                         ::testing::Values(MergeCase{1, 100, 4}, MergeCase{2, 1000, 4}, MergeCase{3, 65'536, 16},
                                           MergeCase{4, 50, 2}, MergeCase{5, 300, 3}));

// The recorder merges on one thread while it commits on another.
TEST_F(CommitTest, CommitsAndMergesOnTwoThreadsLoseNothing) {
  TempDir dir;
  StoreOptions options;
  options.merge_fan_in = 2;
  options.map_bytes = 256 << 10;  // it has to grow meanwhile
  const auto store = Must(Store::Open(dir / "s", options));
  std::atomic<bool> done{false};
  std::thread merger([&] {
    while (!done) ASSERT_TRUE(store->DoBackgroundWork().ok());
  });
  std::vector<std::string> expected;
  for (std::uint64_t n = 1; n <= 150; ++n) {
    std::deque<Row> rows;
    SpanBatch batch = Batch(n);
    batch.turn = n;
    batch.spans = Borrow(MakeRows(rows, n, 20));
    Status committed = store->Commit(batch);
    // Growing the map waits for a merge that reads, but not for ever.
    while (committed.code() == StatusCode::kUnavailable) committed = store->Commit(batch);
    ASSERT_OK(committed);
    const auto more = Expected(rows);
    expected.insert(expected.end(), more.begin(), more.end());
  }
  done = true;
  merger.join();
  std::sort(expected.begin(), expected.end());
  EXPECT_TRUE(AllRows(*store) == expected);
  EXPECT_EQ(Must(store->Verify()).problems, std::vector<std::string>{});
}

TEST_F(CommitTest, MergingMovesLongNamesWithTheTextsAroundThem) {
  TempDir dir;
  StoreOptions options;
  options.merge_fan_in = 2;
  const auto store = Must(Store::Open(dir / "s", options));
  const std::string long_name(2000, 'n'), text(100'000, 't');
  std::vector<std::string> expected;
  for (std::uint64_t n = 1; n <= 16; ++n) {
    std::deque<Row> rows;
    rows.emplace_back(Trace(n), n).Name(long_name).Set(Column::kTtftNs, Value::Int(699));
    rows.back().Set(Column::kInput, Value::String(text)).Set(Column::kOutput, Value::String(text));
    ASSERT_OK(store->Append(Borrow(rows)));
    expected.push_back(Expected(rows)[0]);
    while (Must(store->MergeOnce())) {
    }
  }
  EXPECT_TRUE(AllRows(*store) == expected);
}

TEST_F(CommitTest, MergingStopsAtTheTargetAndLeavesFewSegments) {
  TempDir dir;
  StoreOptions options;
  options.target_segment_rows = 1000;
  options.merge_fan_in = 10;
  const auto store = Must(Store::Open(dir / "s", options));
  std::deque<Row> rows;
  for (std::uint64_t i = 0; i < 10; ++i) rows.emplace_back(Trace(i), i + 1);
  for (int commit = 0; commit < 500; ++commit) {
    ASSERT_OK(store->Append(Borrow(rows)));
    while (Must(store->MergeOnce())) {
    }
  }
  const auto view = Must(store->Read());
  EXPECT_LE(view->segments().size(), 5u + 2 * 9);
  for (const SegmentMeta& meta : view->segments()) EXPECT_LT(meta.rows, 2000u);
}

TEST_F(CommitTest, OptionsThatMakeNoSenseAreRefused) {
  StoreOptions options;
  options.merge_fan_in = 1;
  EXPECT_EQ(Store::Open(dir_ / "x", options).status().code(), StatusCode::kInvalidArgument);
  options = {};
  options.target_segment_rows = 0;
  EXPECT_EQ(Store::Open(dir_ / "x", options).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace spanbox::testing
