// Scores in the ring: each reaches the exporter once, as it was given, whatever becomes of its span or its process.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <set>
#include <string>

#include "memory_exporter.h"
#include "spanbox/recorder.h"
#include "spanbox/score.h"

namespace spanbox {
namespace {

constexpr std::int64_t kPatienceNs = 20'000'000'000;

Score ScoreOf(SpanId span, std::string_view name, double value) {
  Score score;
  score.trace_id = TestTrace();
  score.span_id = span;
  score.name = name;
  score.at_ns = 1'000 + static_cast<std::int64_t>(span);
  score.value = Value::Float(value);
  return score;
}

class ScoresTest : public testing::Test {
 protected:
  std::unique_ptr<Recorder> Open(RecorderOptions options = {}) {
    auto opened = Recorder::Open(exporter, dir.path(), options);
    EXPECT_TRUE(opened.ok()) << opened.status().message();
    return *std::move(opened);
  }
  bool Record(Recorder& recorder, const Score& score) {
    std::vector<Field> fields;
    return recorder.Score(score.Row(fields));
  }
  void TearDown() override { EXPECT_EQ(exporter->problems(), std::vector<std::string>()); }

  TempDir dir;
  std::shared_ptr<MemoryExporter> exporter = std::make_shared<MemoryExporter>();
};

TEST_F(ScoresTest, ScoreArrivesAsItWasGiven) {
  const auto recorder = Open();
  Score score = ScoreOf(7, "helpful", 0.5);
  const Field metadata[] = {{Column::kAttribute, "top_k", Value::Int(5)},
                            {Column::kName, {}, Value::String("not the score's")}};
  score.metadata = metadata;
  score.label = "good";
  score.explanation = "says what was asked";
  score.source = "judge";
  score.evaluator = "judge-7";
  score.version = "3";
  ASSERT_TRUE(Record(*recorder, score));
  ASSERT_TRUE(recorder->Flush(kPatienceNs).complete);
  const auto scores = exporter->scores();
  ASSERT_EQ(scores.size(), 1u);
  EXPECT_EQ(scores[0].trace_id, TestTrace());
  EXPECT_EQ(scores[0].span_id, 7u);
  EXPECT_EQ(scores[0].name, "helpful");
  EXPECT_EQ(scores[0].start_ns, 1'007);
  const std::map<std::string, std::string> expected = {{"top_k", scores[0].fields.at("top_k")},
                                                       {"value", scores[0].fields.at("value")},
                                                       {"label", "good"},
                                                       {"explanation", "says what was asked"},
                                                       {"source", "judge"},
                                                       {"evaluator", "judge-7"},
                                                       {"version", "3"}};
  EXPECT_EQ(scores[0].fields, expected);
}

TEST_F(ScoresTest, ScoreCountsAsNoSpan) {
  const auto recorder = Open();
  ASSERT_TRUE(Record(*recorder, ScoreOf(0, "whole", 1)));
  ASSERT_TRUE(recorder->Flush(kPatienceNs).complete);
  const Health health = recorder->GetHealth();
  EXPECT_EQ(health.recorded_spans, 0u);
  EXPECT_EQ(health.stored_spans, 0u);
  EXPECT_EQ(health.open_spans, 0u);
  EXPECT_EQ(exporter->scores().size(), 1u);
}

TEST_F(ScoresTest, ScoreOfASampledOutTraceIsStored) {
  RecorderOptions options;
  options.sampling.rate = 0;
  const auto recorder = Open(options);
  ASSERT_TRUE(recorder->Start(TestRow(1)));
  ASSERT_TRUE(Record(*recorder, ScoreOf(1, "helpful", 1)));
  ASSERT_TRUE(recorder->End(1, SpanStatus::kOk, 5, {}));
  ASSERT_TRUE(exporter->WaitFor([&] {
    recorder->Flush(kPatienceNs);
    return exporter->sampled_out().size() == 1;
  }));
  EXPECT_EQ(exporter->scores().size(), 1u);
  EXPECT_EQ(exporter->spans().size(), 0u);
}

TEST_F(ScoresTest, MalformedScoreIsLeftOut) {
  const auto recorder = Open();
  const std::byte junk[10] = {};
  ASSERT_TRUE(recorder->Append(RecordType::kScore, junk));
  ByteBuffer of_no_trace;
  RecordWriter(of_no_trace).Start(TraceId{}, 1, 0, 1, SpanKind::kSpan, "x");
  ASSERT_TRUE(recorder->Append(RecordType::kScore, of_no_trace.bytes()));
  ASSERT_TRUE(Record(*recorder, ScoreOf(1, "right", 1)));
  ASSERT_TRUE(recorder->Flush(kPatienceNs).complete);
  ASSERT_EQ(exporter->scores().size(), 1u);
  EXPECT_EQ(exporter->scores()[0].name, "right");
}

TEST_F(ScoresTest, ScoresOfADeadProcessAreStoredOnce) {
  constexpr SpanId kScores = 2'000;
  const pid_t child = fork();
  if (child == 0) {
    const auto recorder = Open();
    bool all = recorder->Start(TestRow(1));
    for (SpanId i = 1; i <= kScores; ++i) all &= Record(*recorder, ScoreOf(i, "helpful", 1));
    raise(all ? SIGKILL : SIGTERM);
  }
  int ended = 0;
  ASSERT_EQ(waitpid(child, &ended, 0), child);
  ASSERT_TRUE(WIFSIGNALED(ended) && WTERMSIG(ended) == SIGKILL);
  // The child's own exporter died with it: nothing had been stored as far as this one knows.
  for (int again = 0; again < 2; ++again) {
    const auto report = RecoverRings(*exporter, dir.path());
    ASSERT_TRUE(report.ok()) << report.status().message();
  }
  std::set<SpanId> seen;
  for (const StoredSpan& score : exporter->scores()) EXPECT_TRUE(seen.insert(score.span_id).second);
  EXPECT_EQ(seen.size(), kScores);
  ASSERT_EQ(exporter->spans().size(), 1u);
  EXPECT_EQ(exporter->spans()[0].status, SpanStatus::kInterrupted);
}

}  // namespace
}  // namespace spanbox
