// A score: what a rule, a judge, a person or an experiment says of a span or of a whole trace, perhaps months later.
//
// A score travels and is stored as a SpanRow, in a table of its own, so that everything that works on rows works on
// scores: trace_id; span_id, 0 when it is about the whole trace; name; start_ns, when it was given; and as attributes
// what else there is, by the names below. Kind and status mean nothing. Whatever other fields the row has are metadata.
//
// Thread rule: plain values. Ownership: a row borrows from the Score and the vector it was made with. Units: at_ns is
// wall time.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "spanbox/span.h"

namespace spanbox {

inline constexpr std::string_view kScoreValue = "value";  // a bool, an int or a float
inline constexpr std::string_view kScoreLabel = "label";  // text
inline constexpr std::string_view kScoreExplanation = "explanation";
inline constexpr std::string_view kScoreSource = "source";  // one of kScoreSources
inline constexpr std::string_view kScoreEvaluator = "evaluator";
inline constexpr std::string_view kScoreVersion = "version";  // of the evaluator

inline constexpr std::string_view kScoreSources[] = {"rule", "judge", "human", "feedback", "experiment"};
inline constexpr std::size_t kMaxScoreNameBytes = 1024;

struct Score {
  TraceId trace_id;
  SpanId span_id = 0;
  std::string_view name;
  std::int64_t at_ns = 0;
  std::optional<Value> value;
  std::string_view label, explanation, source = kScoreSources[0], evaluator, version;  // empty: absent
  std::span<const Field> metadata;

  SpanRow Row(std::vector<Field>& fields) const;
};

}  // namespace spanbox
