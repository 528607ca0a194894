#include <algorithm>
#include <optional>

#include "spanbox/score.h"
#include "wire/otlp_span.h"

namespace spanbox {
namespace {

std::string_view TextOf(const Value& value) {
  return value.type == ValueType::kString ? value.text : std::string_view();
}

bool IsNumber(const Value& value) {
  return value.type == ValueType::kInt || value.type == ValueType::kFloat || value.type == ValueType::kBool;
}

// What Store and score() would refuse is no score.
bool IsScore(const Score& score) {
  return !score.name.empty() && score.name.size() <= kMaxScoreNameBytes && (score.value || !score.label.empty());
}

std::string_view SourceOf(std::string_view annotator_kind) {
  if (annotator_kind == "HUMAN") return "human";
  return annotator_kind == "CODE" ? "rule" : "judge";
}

constexpr std::string_view kLists[] = {"evaluations.", "annotations.", "trace.evaluations.", "trace.annotations."};
constexpr std::size_t kMaxScores = 100;  // of a span

}  // namespace

// The event gen_ai.evaluation.result. Who evaluated is not in the conventions: ours go under spanbox.evaluation.
void SpanAssembler::AddEventScore(std::uint64_t time_ns, std::span<const Field> event) {
  Score score;
  score.trace_id = span.trace_id;
  score.span_id = span.span_id;
  score.at_ns = static_cast<std::int64_t>(time_ns);
  score.source = "judge";
  for (const Field& field : event) {
    const std::string_view text = TextOf(field.value);
    if (field.name == "gen_ai.evaluation.name") score.name = text;
    if (field.name == "gen_ai.evaluation.score.value" && IsNumber(field.value)) score.value = field.value;
    if (field.name == "gen_ai.evaluation.score.label") score.label = text;
    if (field.name == "gen_ai.evaluation.explanation") score.explanation = text;
    if (field.name == "spanbox.evaluation.evaluator") score.evaluator = text;
    if (field.name == "spanbox.evaluation.version") score.version = text;
    if (field.name == "spanbox.evaluation.kind" && std::ranges::count(kScoreSources, text) > 0) score.source = text;
  }
  if (IsScore(score) && scores_.size() < kMaxScores) scores_.push_back(score.Row(arena_.NewFields()));
}

// OpenInference's evaluations.<i>.evaluation.<what>, of the span or its trace.
void SpanAssembler::AddAttributeScores() {
  const auto prefix_of = [](std::string_view name) {
    const auto* const found =
        std::ranges::find_if(kLists, [&](std::string_view list) { return name.starts_with(list); });
    return found == std::end(kLists) ? std::string_view() : *found;
  };
  std::size_t names = 0;
  for (const Field& first : attributes) {
    if (!first.name.ends_with(".name")) continue;
    const std::string_view list = prefix_of(first.name);
    if (list.empty() || ++names > kMaxScores) continue;
    const std::string_view prefix = first.name.substr(0, first.name.size() - 4);
    Score score;
    score.trace_id = span.trace_id;
    score.span_id = list.starts_with("trace.") ? 0 : span.span_id;
    score.at_ns = static_cast<std::int64_t>(span.end_ns != 0 ? span.end_ns : span.start_ns);
    score.source = "judge";
    for (const Field& field : attributes) {
      if (!field.name.starts_with(prefix)) continue;
      const std::string_view what = field.name.substr(prefix.size()), text = TextOf(field.value);
      if (what == "name") score.name = text;
      if (what == "score" && IsNumber(field.value)) score.value = field.value;
      if (what == "label") score.label = text;
      if (what == "explanation") score.explanation = text;
      if (what == "annotator_kind") score.source = SourceOf(text);
      if (what == "identifier") score.evaluator = text;
    }
    if (IsScore(score)) scores_.push_back(score.Row(arena_.NewFields()));
  }
}

}  // namespace spanbox
