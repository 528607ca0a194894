#include "wire/otlp_write.h"

#include <algorithm>
#include <limits>

#include "spanbox/otlp.h"
#include "wire/export_names.h"
#include "wire/json_text.h"

namespace spanbox {
namespace {

std::string_view TextOf(const Field& field) {
  return field.value.type == ValueType::kString ? field.value.text : std::string_view();
}

std::uint64_t CountOf(const Field& field) {
  return field.value.type == ValueType::kInt && field.value.integer > 0
             ? static_cast<std::uint64_t>(field.value.integer)
             : 0;
}

}  // namespace

const OutSpan& OutSpanMaker::Make(const SpanRow& row, bool openinference) {
  arena_.Reset();
  out_.resource.clear();
  out_.attributes.clear();
  out_.scope_attributes.clear();
  out_.resource_schema_url = out_.scope_name = out_.scope_version = out_.scope_schema_url = {};
  out_.trace_state = out_.status_message = out_.events = out_.links = {};
  out_.kind = out_.status_code = out_.flags = out_.end_ns = 0;
  out_.dropped = {};
  out_.row = &row;
  rest_ = row;
  rest_fields_.clear();
  for (const Field& field : row.fields) Sort(field);
  rest_.fields = rest_fields_;
  restorer_.Restore(rest_, arena_, out_.attributes);
  if (restorer_.IsComputed(Column::kErrorMessage)) out_.status_message = {};
  AddCurrentNames(rest_, arena_, out_.attributes);
  if (openinference) AddOpenInference(rest_, arena_, out_.attributes);
  if (row.status == SpanStatus::kError) {
    out_.status_code = 2;
  } else if (row.status != SpanStatus::kOk) {
    out_.attributes.push_back({Column::kAttribute, kSpanboxStatus, Value::String(ToString(row.status))});
  }
  std::int64_t end_ns = 0;
  const bool has_end = row.duration_ns >= 0 && !__builtin_add_overflow(row.start_ns, row.duration_ns, &end_ns);
  if (has_end && end_ns > 0) out_.end_ns = static_cast<std::uint64_t>(end_ns);
  return out_;
}

void OutSpanMaker::Sort(const Field& field) {
  switch (field.column) {
    case Column::kAttribute:
      break;
    case Column::kErrorMessage:
      out_.status_message = TextOf(field);
      rest_fields_.push_back(field);
      return;
    case Column::kEvents:
      out_.events = field.value.text;
      return;
    case Column::kLinks:
      out_.links = field.value.text;
      return;
    default:
      rest_fields_.push_back(field);
      return;
  }
  static constexpr std::string_view kResource = "resource.";
  if (field.name.starts_with(kResource)) {
    if (field.name == "resource.schema_url" && field.value.type == ValueType::kString) {
      out_.resource_schema_url = field.value.text;
    } else {
      out_.resource.push_back({Column::kAttribute, field.name.substr(kResource.size()), field.value});
    }
  } else if (field.name == "scope.name") {
    out_.scope_name = TextOf(field);
  } else if (field.name == "scope.version") {
    out_.scope_version = TextOf(field);
  } else if (field.name == "scope.schema_url") {
    out_.scope_schema_url = TextOf(field);
  } else if (field.name == "scope.attributes") {
    AddMembers(field.value.text, out_.scope_attributes);
  } else if (!field.name.starts_with("otel.") || !SortOtel(field)) {
    rest_fields_.push_back(field);
  }
}

bool OutSpanMaker::SortOtel(const Field& field) {
  if (field.name == kOtelKind) {
    const auto kind = std::ranges::find(kOtelKinds, TextOf(field));
    if (kind != std::end(kOtelKinds)) out_.kind = static_cast<std::uint64_t>(kind - std::begin(kOtelKinds));
  } else if (field.name == kOtelStatusCode) {
    out_.status_code = TextOf(field) == "ok" ? 1 : 0;
  } else if (field.name == kOtelTraceState) {
    out_.trace_state = TextOf(field);
  } else if (field.name == kOtelFlags) {
    out_.flags = CountOf(field);
  } else if (field.name == kOtelMore) {
    Unfold(field.value.text);
  } else {
    const auto dropped = std::ranges::find(kOtelDropped, field.name);
    if (dropped == std::end(kOtelDropped)) return false;
    out_.dropped[static_cast<std::size_t>(dropped - std::begin(kOtelDropped))] = CountOf(field);
  }
  return true;
}

void OutSpanMaker::Unfold(std::string_view json) {
  std::vector<Field> members;
  AddMembers(json, members);
  for (const Field& member : members) {
    if (member.name != kOtelMore) Sort(member);
  }
}

void OutSpanMaker::AddMembers(std::string_view json, std::vector<Field>& out) {
  simdjson::dom::parser parser;
  simdjson::dom::object members;
  if (parser.parse(json.data(), json.size(), true).get(members)) return;
  for (const auto& [key, element] : members) {
    std::string& name = arena_.NewText();
    name = key;
    std::optional<Value> value = ScalarOf(element, arena_);
    if (!value) {
      std::string& text = arena_.NewText();
      text = simdjson::minify(element);
      value = Value::Json(text);
    }
    out.push_back({Column::kAttribute, name, *value});
  }
}

class OtlpWriter::Impl {
 public:
  Impl(OtlpForm form, bool openinference)
      : encoder_(form == OtlpForm::kJson ? NewOtlpJsonEncoder() : NewOtlpProtoEncoder()),
        openinference_(openinference) {}

  void Add(const SpanRow& row) {
    const OutSpan& span = maker_.Make(row, openinference_);
    std::string resource, scope;
    encoder_->AppendResource(span, resource);
    encoder_->AppendScope(span, scope);
    if (resource != resource_ || scope != scope_) CloseScope();
    if (resource != resource_) CloseResource();
    resource_ = std::move(resource);
    scope_ = std::move(scope);
    encoder_->AppendSpan(span, spans_);
  }

  std::string Finish() {
    CloseScope();
    CloseResource();
    return encoder_->Body(std::move(resources_));
  }

 private:
  void CloseScope() {
    if (!spans_.empty()) encoder_->AppendScopeSpans(scope_, spans_, scopes_);
    spans_.clear();
  }
  void CloseResource() {
    if (!scopes_.empty()) encoder_->AppendResourceSpans(resource_, scopes_, resources_);
    scopes_.clear();
  }

  const std::unique_ptr<OtlpEncoder> encoder_;
  const bool openinference_;
  OutSpanMaker maker_;
  std::string resource_, scope_;            // of the spans in spans_
  std::string spans_, scopes_, resources_;  // encoded
};

OtlpWriter::OtlpWriter(OtlpForm form, bool openinference) : impl_(std::make_unique<Impl>(form, openinference)) {}
OtlpWriter::~OtlpWriter() = default;
void OtlpWriter::Add(const SpanRow& row) { impl_->Add(row); }
std::string OtlpWriter::Finish() { return impl_->Finish(); }

}  // namespace spanbox
