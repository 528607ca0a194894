#include "spanbox/score.h"

namespace spanbox {

SpanRow Score::Row(std::vector<Field>& fields) const {
  fields.assign(metadata.begin(), metadata.end());  // first: of a name given twice the last one wins
  if (value) fields.push_back({Column::kAttribute, kScoreValue, *value});
  const auto add_text = [&fields](std::string_view attribute, std::string_view text) {
    if (!text.empty()) fields.push_back({Column::kAttribute, attribute, Value::String(text)});
  };
  add_text(kScoreLabel, label);
  add_text(kScoreExplanation, explanation);
  add_text(kScoreSource, source);
  add_text(kScoreEvaluator, evaluator);
  add_text(kScoreVersion, version);
  SpanRow row;
  row.trace_id = trace_id;
  row.span_id = span_id;
  row.name = name;
  row.start_ns = at_ns;
  row.fields = fields;
  return row;
}

}  // namespace spanbox
