// Writers that are faster than the collector are slowed down before there is no room; no call waits longer than it may,
// and nobody waits for a collector that does not move. Time is the writers' waiting, counted and not spent.
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/record_codec.h"
#include "memory_exporter.h"
#include "record/pacer.h"
#include "record/shortening.h"

namespace spanbox {
namespace {

constexpr std::int64_t kMsNs = 1'000'000;

TEST(PacerTest, RecordOwesTheMoreTheLessRoomIsLeftAndNothingAtHalf) {
  constexpr std::uint64_t kHalf = 32u << 20;
  const auto owed = [](std::uint64_t room) { return Pacer().Charge(1000, room, kHalf, /*now_ns=*/0, kMsNs); };
  EXPECT_EQ(owed(kHalf - 1), 0);
  EXPECT_GT(owed(kHalf / 2), 0);
  EXPECT_GT(owed(kHalf / 4), 2 * owed(kHalf / 2));
  EXPECT_EQ(owed(1000), kMsNs);
  EXPECT_EQ(owed(0), kMsNs);
}

TEST(PacerTest, DebtIsSharedPaidByTimeAndNeverMoreThanOneWait) {
  constexpr std::uint64_t kHalf = 32u << 20, kRoom = kHalf / 4;
  Pacer pacer;
  const std::int64_t once = pacer.Charge(1000, kRoom, kHalf, 0, kMsNs);
  EXPECT_EQ(pacer.Charge(1000, kRoom, kHalf, 0, kMsNs), 2 * once);     // whoever wrote the first
  EXPECT_EQ(pacer.Charge(1000, kRoom, kHalf, once, kMsNs), 2 * once);  // as much has passed
  EXPECT_EQ(pacer.Charge(1000, kRoom, kHalf, kMsNs, kMsNs), once);
  for (int i = 0; i < 1000; ++i) pacer.Charge(1000, kRoom, kHalf, kMsNs, kMsNs);
  EXPECT_EQ(pacer.Charge(1000, kRoom, kHalf, kMsNs, kMsNs), kMsNs);
}

// A commit takes `commit_ns` of the time that writers wait; and they go on only while the collector is in a commit, so
// that it is not the machine that decides who is faster.
class PacedExporter : public MemoryExporter {
 public:
  Status Commit(const SpanBatch& batch) override {
    {
      std::unique_lock lock(mutex_);
      due_ns_ = now_ns_ + commit_ns_;
      in_commit_ = true;
      moved_.notify_all();
      moved_.wait(lock, [&] { return now_ns_ >= due_ns_ || released_; });
      in_commit_ = false;
    }
    return MemoryExporter::Commit(batch);
  }
  void Pass(std::int64_t ns) {
    std::unique_lock lock(mutex_);
    now_ns_ += ns;
    moved_.notify_all();
    moved_.wait(lock, [&] { return (in_commit_ && now_ns_ < due_ns_) || released_; });
  }
  void Release() {
    const std::scoped_lock lock(mutex_);
    released_ = true;
    moved_.notify_all();
  }

 private:
  const std::int64_t commit_ns_ = 50 * kMsNs;  // as long as 50 waits
  std::mutex mutex_;
  std::condition_variable moved_;
  std::int64_t now_ns_ = 0, due_ns_ = 0;
  bool in_commit_ = false, released_ = false;
};

thread_local std::int64_t waited_by_call_ns = 0;

class PacingTest : public testing::Test {
 protected:
  void SetUp() override {
    struct statfs info {};
    if (statfs(dir.path().c_str(), &info) == 0 && info.f_type == TMPFS_MAGIC) {
      GTEST_SKIP() << "in a file system in memory, room is made while the writer goes on: the machine decides how soon";
    }
  }
  void Open(std::shared_ptr<SpanExporter> exporter, FullRingPolicy policy = FullRingPolicy::kWait) {
    RecorderOptions options;
    options.lane_bytes = 64 << 10;
    options.lanes = 2;
    options.max_ring_bytes = 2 << 20;
    options.commit_bytes = 64 << 10;
    options.commit_interval_ns = kMsNs;
    options.full_ring_policy = policy;
    options.close_timeout_ns = kTestTimeoutNs;
    options.wait = [this](std::int64_t ns) {
      waited_by_call_ns += ns;
      waited_ns += ns;
      ++waits;
      if (on_wait) on_wait(ns);
    };
    max_wait_ns = options.max_wait_ns;
    auto opened = Recorder::Open(std::move(exporter), dir.path(), options);
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    recorder = *std::move(opened);
  }

  // True: the span was accepted. No call has waited for longer than it may.
  bool Write(SpanId id) {
    const std::string output(400, 'o');
    const Field field{Column::kOutput, {}, Value::String(output)};
    waited_by_call_ns = 0;
    const bool started = recorder->Start(TestRow(id));
    EXPECT_LE(waited_by_call_ns, max_wait_ns);
    waited_by_call_ns = 0;
    const bool ended = started && recorder->End(id, SpanStatus::kOk, 7, std::span(&field, 1));
    EXPECT_LE(waited_by_call_ns, max_wait_ns);
    return ended;
  }

  TempDir dir;
  std::unique_ptr<Recorder> recorder;
  std::int64_t max_wait_ns = 0;
  std::function<void(std::int64_t)> on_wait;
  std::atomic<std::int64_t> waited_ns{0};
  std::atomic<std::uint64_t> waits{0};
};

// A writer of 165,000 spans a second lost 77 % of them.
TEST_F(PacingTest, OneWriterLosesNothingHoweverMuchFasterThanTheCollector) {
  const auto exporter = std::make_shared<PacedExporter>();
  Open(exporter);
  on_wait = [&](std::int64_t ns) { exporter->Pass(ns); };
  constexpr SpanId kSpans = 50'000;  // some 30 MB, into rings of 2
  SpanId written = 0;
  while (written < kSpans && Write(written + 1)) ++written;
  EXPECT_EQ(written, kSpans);
  EXPECT_GT(waits, 0u) << "there was room all the time: the test has tested nothing";
  exporter->Release();
  ASSERT_TRUE(recorder->Flush(kTestTimeoutNs).complete);
  EXPECT_EQ(recorder->GetHealth().dropped_spans, 0u);
  EXPECT_EQ(exporter->by_id().size(), kSpans);
  EXPECT_EQ(exporter->problems(), std::vector<std::string>());
}

TEST_F(PacingTest, NobodyWaitsBeforeHalfOfTheRingsIsFull) {
  const auto exporter = std::make_shared<MemoryExporter>();
  exporter->Block(true);
  Open(exporter);
  ASSERT_TRUE(Write(1));
  // An eighth is for short records.
  const std::uint64_t half = recorder->GetHealth().ring_bytes * 7 / 16;
  SpanId id = 1;
  // A lane apart: those of both files, and the one that threads without a lane share.
  while (recorder->GetHealth().waiting_bytes < half - (128 << 10)) ASSERT_TRUE(Write(++id));
  EXPECT_EQ(waits, 0u);
  exporter->Block(false);
}

TEST_F(PacingTest, CollectorThatDoesNotMoveIsWaitedForOnceAndNotAgain) {
  const auto exporter = std::make_shared<MemoryExporter>();
  exporter->Block(true);
  Open(exporter);
  SpanId id = 0;
  // Until not even a START finds room.
  while (id < 100'000 && (Write(id + 1) || recorder->Start(TestRow(1'000'000 + id)))) ++id;
  ASSERT_LT(id, 100'000u);
  EXPECT_GT(waits, 0u);
  const std::uint64_t waits_until_full = waits;
  for (int i = 0; i < 10'000; ++i) ASSERT_FALSE(recorder->Start(TestRow(2'000'000 + static_cast<SpanId>(i))));
  EXPECT_EQ(waits, waits_until_full);
  exporter->Block(false);
}

TEST_F(PacingTest, NoCallOfManyThreadsWaitsLongerThanItMay) {
  const auto exporter = std::make_shared<MemoryExporter>();
  exporter->Block(true);
  Open(exporter);
  std::vector<std::thread> writers;
  constexpr SpanId kEach = 3'000;
  std::atomic<std::uint64_t> written{0};
  for (SpanId t = 0; t < 8; ++t) {
    writers.emplace_back([&, t] {
      for (SpanId i = 1; i <= kEach; ++i) written += Write(t * kEach + i);
    });
  }
  for (auto& writer : writers) writer.join();
  EXPECT_GT(waits, 0u);
  exporter->Block(false);
  ASSERT_TRUE(recorder->Flush(kTestTimeoutNs).complete);
  const Health health = recorder->GetHealth();
  EXPECT_EQ(health.recorded_spans, 8 * kEach);
  EXPECT_EQ(health.stored_spans, written);
  EXPECT_EQ(health.dropped_spans, 8 * kEach - written);
}

TEST_F(PacingTest, WritersThatRatherDropNeverWait) {
  const auto exporter = std::make_shared<MemoryExporter>();
  exporter->Block(true);
  Open(exporter, FullRingPolicy::kDrop);
  for (SpanId id = 1; id <= 10'000; ++id) Write(id);
  EXPECT_GT(recorder->GetHealth().dropped_spans, 0u);
  EXPECT_EQ(waits, 0u);
  exporter->Block(false);
}

// --- what becomes of texts for which there is no room

std::string Text(std::size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += "t\u00e9xt " + std::to_string(text.size()) + ' ';
  text.resize(bytes, 'x');
  return text;
}

TEST(ShorteningTest, LongValuesAreCutAndTheRestIsAsItWas) {
  const std::string text = Text(3'000), json = R"(["\u00e9\"","x",)" + std::string(3'000, '1') + "]";
  const std::array<Field, 4> fields = {
      Field{Column::kOutput, {}, Value::String(text)}, Field{Column::kOutputTokens, {}, Value::Int(141)},
      Field{Column::kAttribute, "found", Value::Json(json)}, Field{Column::kModel, {}, Value::String("gpt-5-mini")}};
  ByteBuffer whole, shorter;
  RecordWriter record(whole);
  record.End(7, 42, SpanStatus::kError);
  for (const Field& field : fields) record.AddField(field);
  ASSERT_TRUE(ShortenRecord(RecordType::kEnd, whole.bytes(), shorter));
  EXPECT_LE(shorter.size(), kShortPayloadBytes);
  RowArena arena;
  const RecordView view{RecordType::kEnd, shorter.bytes()};
  const auto row = AssembleSpan({&view, 1}, arena);
  ASSERT_TRUE(row.ok());
  EXPECT_EQ(row->span_id, 7u);
  EXPECT_EQ(row->duration_ns, 42);
  EXPECT_EQ(row->status, SpanStatus::kError);
  ASSERT_EQ(row->fields.size(), 5u);
  const std::string_view output = row->fields[0].value.text;
  EXPECT_TRUE(output.starts_with(text.substr(0, 150)));
  EXPECT_TRUE(output.ends_with(" bytes)"));
  EXPECT_LT(output.size(), 250u);
  EXPECT_EQ(row->fields[1].value.integer, 141);
  EXPECT_TRUE(row->fields[2].value.text.starts_with("{\"$cut\":" + std::to_string(json.size()) + ","));
  EXPECT_EQ(row->fields[3].value.text, "gpt-5-mini");
  EXPECT_EQ(row->fields[4].name, "truncated");
  EXPECT_TRUE(row->fields[4].value.boolean);
}

TEST(ShorteningTest, RecordsThatAreShortOrBrokenOrOfAnotherKindAreNotShortened) {
  ByteBuffer whole, shorter;
  RecordWriter record(whole);
  record.End(7, 42, SpanStatus::kOk);
  record.AddInt(Column::kOutputTokens, {}, 1);
  EXPECT_FALSE(ShortenRecord(RecordType::kEnd, whole.bytes(), shorter));
  const std::string text(3'000, 'x');
  record.AddString(Column::kOutput, {}, text);
  EXPECT_TRUE(ShortenRecord(RecordType::kEnd, whole.bytes(), shorter));
  EXPECT_FALSE(ShortenRecord(RecordType::kEnd, whole.bytes().first(2'000), shorter));
  EXPECT_FALSE(ShortenRecord(RecordType::kBlob, whole.bytes(), shorter));
  // Many values, none of them long: nothing is cut.
  record.End(7, 42, SpanStatus::kOk);
  for (int i = 0; i < 20; ++i) record.AddString(Column::kAttribute, "a" + std::to_string(i), text.substr(0, 100));
  EXPECT_FALSE(ShortenRecord(RecordType::kEnd, whole.bytes(), shorter));
}

// All of a span was lost with its text.
TEST_F(PacingTest, SpanWhoseTextFindsNoRoomIsStoredWithoutIt) {
  const auto exporter = std::make_shared<MemoryExporter>();
  exporter->Block(true);
  Open(exporter);
  const std::string output = Text(5'000);
  const std::array<Field, 2> fields = {Field{Column::kOutput, {}, Value::String(output)},
                                       Field{Column::kOutputTokens, {}, Value::Int(141)}};
  SpanId id = 0;
  std::uint64_t written = 0;
  do {
    ++id;
    written += recorder->Start(TestRow(id)) && recorder->End(id, SpanStatus::kOk, 7, fields);
  } while (id < 100'000 && recorder->GetHealth().dropped_spans == 0);
  Health health = recorder->GetHealth();
  EXPECT_EQ(health.dropped_spans, 1u);
  EXPECT_GT(health.degraded_records, 5u);
  EXPECT_LT(health.degraded_records, written / 2);
  exporter->Block(false);
  ASSERT_TRUE(recorder->Flush(kTestTimeoutNs).complete);
  health = recorder->GetHealth();
  EXPECT_EQ(health.stored_spans, written);
  std::uint64_t whole = 0, shortened = 0;
  for (const StoredSpan& span : exporter->spans()) {
    if (span.status != SpanStatus::kOk) continue;  // its END was the one that was dropped
    EXPECT_EQ(span.fields.at("output_tokens"), "141");
    const bool truncated = span.fields.contains("truncated");
    whole += !truncated && span.fields.at("output") == output;
    shortened += truncated && span.fields.at("output").starts_with(output.substr(0, 150));
  }
  EXPECT_EQ(shortened, health.degraded_records);
  EXPECT_EQ(whole + shortened, written);
}

}  // namespace
}  // namespace spanbox
