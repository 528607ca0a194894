#include "wire/otlp_span.h"

#include <algorithm>
#include <limits>

#include "base/hash.h"
#include "spanbox/otlp.h"
#include "wire/json_text.h"
#include "wire/recorded.h"

namespace spanbox {
namespace {

std::string_view TextOf(const Field& field) {
  return field.value.type == ValueType::kString ? field.value.text : std::string_view();
}

void AppendMember(std::string_view name, std::string& json) {
  json += json.ends_with('{') ? "\"" : ",\"";
  json.append(name).append("\":");
}

void AppendAttributes(std::span<const Field> attributes, std::string& json) {
  json += '{';
  for (std::size_t i = 0; i < attributes.size(); ++i) {
    if (i > 0) json += ',';
    AppendJsonString(attributes[i].name, json);
    json += ':';
    AppendJsonValue(attributes[i].value, json);
  }
  json += '}';
}

void AppendText(std::string_view name, std::string_view text, std::string& json) {
  if (text.empty()) return;
  AppendMember(name, json);
  AppendJsonString(text, json);
}

void AppendCount(std::string_view name, std::uint64_t count, std::string& json) {
  if (count == 0) return;
  AppendMember(name, json);
  json += std::to_string(count);
}

// Questions are about times before an end, so the last moment of all is none.
constexpr auto kMaxNs = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max() - 1);

}  // namespace

void SpanAssembler::BeginResource(std::span<const Field> given, std::string_view schema_url) {
  resource_.clear();
  otherwise_.clear();
  const auto otherwise = [&](Column column, const Value& value) {
    const auto same = [&](const Field& field) { return field.column == column; };
    if (value.type == ValueType::kString && std::ranges::none_of(otherwise_, same)) {
      otherwise_.push_back({column, {}, value});
    }
  };
  for (const Field& field : given) {
    std::string& name = resource_arena_.NewText();
    name.append("resource.").append(field.name);
    resource_.push_back({Column::kAttribute, name, field.value});
    if (field.name == "deployment.environment.name" || field.name == "deployment.environment") {
      otherwise(Column::kEnvironment, field.value);
    } else if (field.name == "service.version") {
      otherwise(Column::kRelease, field.value);
    }
  }
  if (!schema_url.empty()) {
    resource_.push_back({Column::kAttribute, "resource.schema_url", Value::String(schema_url)});
  }
}

void SpanAssembler::BeginScope(std::string_view name, std::string_view version, std::span<const Field> given,
                               std::string_view schema_url) {
  scope_.clear();
  const auto add = [&](std::string_view key, std::string_view text) {
    if (!text.empty()) scope_.push_back({Column::kAttribute, key, Value::String(text)});
  };
  add("scope.name", name);
  add("scope.version", version);
  add("scope.schema_url", schema_url);
  if (given.empty()) return;
  std::string& json = scope_arena_.NewText();
  AppendAttributes(given, json);
  scope_.push_back({Column::kAttribute, "scope.attributes", Value::Json(json)});
}

void SpanAssembler::BeginSpan() {
  arena_.Reset();
  span = {};
  attributes.clear();
  fields_.clear();
  derived_.clear();
  scores_.clear();
  events_.clear();
  links_.clear();
  exception_type_ = exception_message_ = {};
  first_token_ns_ = 0;
}

void SpanAssembler::AddEvent(std::string_view name, std::uint64_t time_ns, std::span<const Field> event,
                             std::uint64_t dropped) {
  events_ += events_.empty() ? "[{" : ",{";
  AppendMember("name", events_);
  AppendJsonString(name, events_);
  AppendCount("time_ns", time_ns, events_);
  if (!event.empty()) {
    AppendMember("attributes", events_);
    AppendAttributes(event, events_);
  }
  AppendCount("dropped_attributes_count", dropped, events_);
  events_ += '}';
  if (name == "gen_ai.evaluation.result") AddEventScore(time_ns, event);
  if (name == kFirstTokenEvent && first_token_ns_ == 0) first_token_ns_ = time_ns;
  if (name != "exception") return;
  for (const Field& field : event) {
    if (field.name == "exception.type") exception_type_ = TextOf(field);
    if (field.name == "exception.message") exception_message_ = TextOf(field);
  }
}

void SpanAssembler::AddLink(const OtlpLink& link, std::span<const Field> link_attributes) {
  links_ += links_.empty() ? "[{" : ",{";
  AppendText("trace_id", ToHex(link.trace_id), links_);
  AppendText("span_id", ToHex(link.span_id), links_);
  AppendText("trace_state", link.trace_state, links_);
  if (!link_attributes.empty()) {
    AppendMember("attributes", links_);
    AppendAttributes(link_attributes, links_);
  }
  AppendCount("dropped_attributes_count", link.dropped, links_);
  AppendCount("flags", link.flags, links_);
  links_ += '}';
}

void SpanAssembler::TakeStatus() {
  row_.status = span.status_code == 2 ? SpanStatus::kError : SpanStatus::kOk;
  const auto mark = std::ranges::find(attributes, kSpanboxStatus, &Field::name);
  if (mark != attributes.end()) {
    const auto status = SpanStatusFromString(TextOf(*mark));
    if (status == SpanStatus::kRunning || status == SpanStatus::kInterrupted) {
      row_.status = *status;
      attributes.erase(mark);
    }
  }
  derived_.assign(otherwise_.begin(), otherwise_.end());
  if (first_token_ns_ > span.start_ns) {
    derived_.push_back({Column::kTtftNs, {}, Value::Int(static_cast<std::int64_t>(first_token_ns_ - span.start_ns))});
  }
  if (row_.status != SpanStatus::kError) return;
  if (!exception_type_.empty()) derived_.push_back({Column::kErrorType, {}, Value::String(exception_type_)});
  if (!exception_message_.empty() && span.status_message.empty()) {
    derived_.push_back({Column::kErrorMessage, {}, Value::String(exception_message_)});
  }
}

void SpanAssembler::AddOtel(std::string_view name, Value value) {
  fields_.push_back({Column::kAttribute, name, value});
}

void SpanAssembler::AddSurroundings() {
  if (!span.status_message.empty()) {
    fields_.push_back({Column::kErrorMessage, {}, Value::String(span.status_message)});
  }
  if (!events_.empty()) fields_.push_back({Column::kEvents, {}, Value::Json(events_ += ']')});
  if (!links_.empty()) fields_.push_back({Column::kLinks, {}, Value::Json(links_ += ']')});
  if (span.kind > 0 && span.kind < std::size(kOtelKinds)) AddOtel(kOtelKind, Value::String(kOtelKinds[span.kind]));
  if (span.status_code == 1) AddOtel(kOtelStatusCode, Value::String("ok"));
  if (!span.trace_state.empty()) AddOtel(kOtelTraceState, Value::String(span.trace_state));
  if (span.flags != 0) AddOtel(kOtelFlags, Value::Int(static_cast<std::int64_t>(span.flags)));
  for (std::size_t i = 0; i < span.dropped.size(); ++i) {
    if (span.dropped[i] != 0) AddOtel(kOtelDropped[i], Value::Int(static_cast<std::int64_t>(span.dropped[i])));
  }
  fields_.insert(fields_.end(), resource_.begin(), resource_.end());
  fields_.insert(fields_.end(), scope_.begin(), scope_.end());
}

const SpanRow* SpanAssembler::Finish(bool whole) {
  row_ = {};
  row_.trace_id = span.trace_id;
  row_.span_id = span.span_id;
  if (!whole) return &row_;
  row_.parent_id = span.parent_id;
  row_.name = span.name;
  row_.start_ns = static_cast<std::int64_t>(std::min(span.start_ns, kMaxNs));
  if (span.end_ns != 0 && span.end_ns >= span.start_ns) {
    row_.duration_ns = static_cast<std::int64_t>(std::min(span.end_ns, kMaxNs)) - row_.start_ns;
  }
  TakeStatus();
  AddAttributeScores();
  row_.kind = normaliser_.Normalise(attributes, derived_, row_.start_ns, arena_, fields_);
  AddSurroundings();
  Fold();
  row_.fields = fields_;
  return &row_;
}

// True up to kMaxOtlpNames times.
bool SpanAssembler::IsNewName(std::string_view name) {
  const std::uint64_t hash = Hash64(std::as_bytes(std::span(name))) | 1;
  for (std::size_t slot = hash >> 8;; ++slot) {
    std::uint64_t& seen = names_[slot % names_.size()];
    if (seen == hash) return true;
    if (seen != 0) continue;
    if (name_count_ == kMaxOtlpNames) return false;
    seen = hash;
    ++name_count_;
    return true;
  }
}

// Every name is a column of the store, so there must be an end to names.
void SpanAssembler::Fold() {
  std::size_t columns = 0;
  std::string* json = nullptr;
  std::erase_if(fields_, [&](const Field& field) {
    if (field.column != Column::kAttribute || field.name.starts_with("otel.")) return false;
    if (field.name == kKeysAttribute || field.name == kDialectAttribute) return false;
    if (++columns <= kMaxOtlpColumns && IsNewName(field.name)) return false;
    if (json == nullptr) json = &arena_.NewText();
    *json += json->empty() ? '{' : ',';
    AppendJsonString(field.name, *json);
    *json += ':';
    AppendJsonValue(field.value, *json);
    return true;
  });
  if (json != nullptr) AddOtel(kOtelMore, Value::Json(*json += '}'));
}

}  // namespace spanbox
