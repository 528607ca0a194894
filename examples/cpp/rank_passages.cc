// A tool written in C++ that continues the trace of whoever calls it: ranks the passages on standard input by how many
// words they share with a question, and prints the best.
//
//   SPANBOX_DIR=.spanbox TRACEPARENT=00-<trace>-<span>-01 rank_passages "where is the refund policy" < passages.txt
//
// Python starts it inside a span with `env=spanbox.environ()`, which sets both variables; then its spans are children
// of that span, in the same store. Without TRACEPARENT it begins a trace of its own; without SPANBOX_DIR it records
// into .spanbox here.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "spanbox/recorder.h"
#include "spanbox/store.h"

namespace {

using spanbox::Column;
using spanbox::Field;
using spanbox::SpanKind;
using spanbox::SpanStatus;
using spanbox::TraceParent;
using spanbox::Value;

std::int64_t NowNs() { return std::chrono::nanoseconds(std::chrono::system_clock::now().time_since_epoch()).count(); }

std::uint64_t RandomBits() {
  static std::mt19937_64 random(std::random_device{}());
  return random();
}

// The span that called this program; of a new trace (span id 0: it will be a root) when none did.
TraceParent CallingSpan() {
  const char* const text = std::getenv("TRACEPARENT");
  if (const auto parent = spanbox::ParseTraceparent(text == nullptr ? "" : text)) return *parent;
  TraceParent fresh;
  for (std::uint8_t& byte : fresh.trace_id.bytes) byte = static_cast<std::uint8_t>(RandomBits());
  return fresh;
}

// A span around a scope. Its end survives the death of the process from the moment the scope is left; its start and
// its input, from the moment it is entered.
class Span {
 public:
  Span(spanbox::Recorder& recorder, const TraceParent& parent, std::string_view name, SpanKind kind,
       std::string_view input)
      : recorder_(recorder), here_{parent.trace_id, RandomBits(), parent.sampled}, start_ns_(NowNs()) {
    const Field field{Column::kInput, {}, Value::String(input)};
    spanbox::SpanRow row;
    row.trace_id = here_.trace_id;
    row.span_id = here_.span_id;
    row.parent_id = parent.span_id;
    row.name = name;
    row.kind = kind;
    row.start_ns = start_ns_;
    row.fields = std::span(&field, 1);
    recorded_ = recorder_.Start(row);
  }
  ~Span() {
    const Field field{Column::kOutput, {}, Value::String(output)};
    if (recorded_) recorder_.End(here_.span_id, SpanStatus::kOk, NowNs() - start_ns_, std::span(&field, 1));
  }
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

  void Set(std::string_view name, std::int64_t value) {
    const Field field{Column::kAttribute, name, Value::Int(value)};
    if (recorded_) recorder_.Fields(here_.span_id, std::span(&field, 1));
  }
  const TraceParent& here() const { return here_; }  // the parent of spans inside

  std::string output;

 private:
  spanbox::Recorder& recorder_;
  const TraceParent here_;
  const std::int64_t start_ns_;
  bool recorded_ = false;
};

std::set<std::string> WordsOf(const std::string& text) {
  std::set<std::string> words;
  std::istringstream in(text);
  for (std::string word; in >> word;) words.insert(word);
  return words;
}

std::int64_t SharedWords(const std::set<std::string>& question, const std::string& passage) {
  const auto words = WordsOf(passage);
  return std::ranges::count_if(words, [&](const std::string& word) { return question.contains(word); });
}

std::string BestPassage(spanbox::Recorder& recorder, const std::string& question) {
  Span rank(recorder, CallingSpan(), "rank_passages", SpanKind::kReranker, question);
  const auto words = WordsOf(question);
  std::pair<std::int64_t, std::string> best{-1, ""};
  std::int64_t passages = 0;
  for (std::string passage; std::getline(std::cin, passage); ++passages) {
    Span score(recorder, rank.here(), "score", SpanKind::kSpan, passage);
    const std::int64_t shared = SharedWords(words, passage);
    score.Set("shared_words", shared);
    if (shared > best.first) best = {shared, passage};
  }
  rank.Set("passages", passages);
  rank.output = best.second;
  return best.second;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: rank_passages QUESTION < passages, one a line\n";
    return 2;
  }
  const char* const folder = std::getenv("SPANBOX_DIR");
  const auto store = spanbox::Store::Open(folder == nullptr ? ".spanbox" : folder);
  if (!store.ok()) {
    std::cerr << "rank_passages: " << store.status().message() << '\n';
    return 1;
  }
  // Destroyed before main returns, and with it everything is stored. Were the process killed instead, whoever opens the
  // store next would find it in the ring.
  const auto recorder =
      spanbox::Recorder::Open(std::shared_ptr<spanbox::SpanExporter>(*store), (*store)->ring_dir(), {});
  if (!recorder.ok()) {
    std::cerr << "rank_passages: " << recorder.status().message() << '\n';
    return 1;
  }
  std::cout << BestPassage(**recorder, argv[1]) << '\n';
  return 0;
}
