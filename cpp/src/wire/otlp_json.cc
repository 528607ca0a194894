// OTLP in JSON, which is protobuf's JSON but for ids (hexadecimal) and enumerations (numbers only):
// opentelemetry-proto, docs/specification.md. Keys that are not known are passed over; null is as good as absent.

#include <charconv>
#include <functional>

#include "base/simdjson.h"
#include "spanbox/otlp.h"
#include "wire/base64.h"
#include "wire/json_text.h"
#include "wire/otlp_readers.h"
#include "wire/otlp_span.h"

namespace spanbox {
namespace {

using simdjson::dom::element;
using simdjson::dom::object;

Status Wrong(std::string_view key, const char* what) {
  return InvalidArgument("\"" + std::string(key.substr(0, 100)) + "\" is no " + what);
}

// The elements of a list that are left.
struct Cursor {
  simdjson::dom::array::iterator at, end;
  bool has_any = false;

  void Enter(simdjson::dom::array list) {
    at = list.begin();
    end = list.end();
    has_any = true;
  }
  bool Next(element& out) {
    if (!has_any || !(at != end)) return false;
    out = *at;
    ++at;
    return true;
  }
};

class OtlpJsonReader : public OtlpReader {
 public:
  Status Open(std::string_view body);
  Result<const SpanRow*> Next(bool whole) override;
  void Rewind() override {
    resources_ = first_;
    scopes_ = spans_ = {};
    ForgetRejected();
  }
  std::span<const SpanRow> scores() const override { return assembler_.scores(); }

 private:
  Status EnterResource(element value);
  Status EnterScope(element value);
  Status ReadSpan(element value);
  Status ReadSpanMember(std::string_view key, element value);
  Status ReadStatus(element value);
  Status ReadEvent(element value);
  Status ReadLink(element value);
  Status AddAttributes(std::string_view key, element list, RowArena& arena, std::vector<Field>& out);
  Status ReadValue(element any_value, RowArena& arena, Value& value);
  Status AppendValue(element any_value, int depth, std::string& json);
  Status AppendMember(std::string_view key, element member, int depth, std::string& json);
  Status AppendList(element list, bool is_mapping, int depth, std::string& json);

  simdjson::dom::parser parser_;
  Cursor first_, resources_, scopes_, spans_;
  SpanAssembler assembler_;
  std::vector<Field> attributes_;  // of what is no span
  std::string id_problem_;
};

// --- members ---------------------------------------------------------------------------------------------------------

// Calls `take` with every member that is not null.
template <typename Take>
Status Each(std::string_view what, element value, Take take) {
  object members;
  if (value.get(members)) return Wrong(what, "JSON object");
  for (const auto& [key, member] : members) {
    if (!member.is_null()) SPANBOX_RETURN_IF_ERROR(take(key, member));
  }
  return OkStatus();
}

template <typename Take>
Status EachOf(std::string_view what, element value, Take take) {
  simdjson::dom::array list;
  if (value.get(list)) return Wrong(what, "JSON list");
  for (const element each : list) SPANBOX_RETURN_IF_ERROR(take(each));
  return OkStatus();
}

Status List(std::string_view key, element value, Cursor& cursor) {
  simdjson::dom::array list;
  if (value.get(list)) return Wrong(key, "JSON list");
  cursor.Enter(list);
  return OkStatus();
}

Status Text(std::string_view key, element value, std::string_view& out) {
  return value.get(out) ? Wrong(key, "text") : OkStatus();
}

// 64-bit integers come as numbers or as text.
template <typename T>
Status Whole(std::string_view key, element value, T& out) {
  if (!value.get(out)) return OkStatus();
  std::string_view text;
  if (value.get(text)) return Wrong(key, "whole number");
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size() ? OkStatus() : Wrong(key, "whole number");
}

Status Double(std::string_view key, element value, double& out) {
  if (!value.get(out)) return OkStatus();
  std::string_view text;
  if (value.get(text)) return Wrong(key, "number");
  if (text == "NaN") {
    out = std::numeric_limits<double>::quiet_NaN();
  } else if (text == "Infinity" || text == "-Infinity") {
    out = text[0] == '-' ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
  } else {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
    if (error != std::errc() || end != text.data() + text.size()) return Wrong(key, "number");
  }
  return OkStatus();
}

// "" and zeros mean that there is none. False: the text is no id.
template <typename Id>
bool IdOf(std::string_view text, std::size_t digits, std::optional<Id> (*parse)(std::string_view), Id& id) {
  if (text.empty() || (text.size() == digits && text.find_first_not_of('0') == text.npos)) {
    id = {};
    return true;
  }
  const auto parsed = parse(text);
  if (parsed) id = *parsed;
  return parsed.has_value();
}

// --- the way down to the spans ---------------------------------------------------------------------------------------

Status OtlpJsonReader::Open(std::string_view body) {
  element root;
  if (const auto error = parser_.parse(body.data(), body.size(), true).get(root)) {
    return InvalidArgument(std::string("not valid JSON: ") + simdjson::error_message(error));
  }
  SPANBOX_RETURN_IF_ERROR(Each("the body", root, [&](std::string_view key, element value) {
    return key == "resourceSpans" ? List(key, value, first_) : OkStatus();
  }));
  Rewind();
  return OkStatus();
}

Result<const SpanRow*> OtlpJsonReader::Next(bool whole) {
  for (element value;;) {
    if (spans_.Next(value)) {
      SPANBOX_RETURN_IF_ERROR(ReadSpan(value));
      if (id_problem_.empty()) return assembler_.Finish(whole);
      Reject(id_problem_);
    } else if (scopes_.Next(value)) {
      SPANBOX_RETURN_IF_ERROR(EnterScope(value));
    } else if (resources_.Next(value)) {
      SPANBOX_RETURN_IF_ERROR(EnterResource(value));
    } else {
      return static_cast<const SpanRow*>(nullptr);
    }
  }
}

Status OtlpJsonReader::EnterResource(element value) {
  attributes_.clear();
  assembler_.resource_arena().Reset();
  scopes_ = spans_ = {};
  std::string_view schema_url;
  SPANBOX_RETURN_IF_ERROR(Each("resourceSpans", value, [&](std::string_view key, element member) {
    if (key == "scopeSpans") return List(key, member, scopes_);
    if (key == "schemaUrl") return Text(key, member, schema_url);
    if (key != "resource") return OkStatus();
    return Each(key, member, [&](std::string_view part, element list) {
      return part == "attributes" ? AddAttributes(part, list, assembler_.resource_arena(), attributes_) : OkStatus();
    });
  }));
  assembler_.BeginResource(attributes_, schema_url);
  return OkStatus();
}

Status OtlpJsonReader::EnterScope(element value) {
  attributes_.clear();
  assembler_.scope_arena().Reset();
  spans_ = {};
  std::string_view name, version, schema_url;
  SPANBOX_RETURN_IF_ERROR(Each("scopeSpans", value, [&](std::string_view key, element member) {
    if (key == "spans") return List(key, member, spans_);
    if (key == "schemaUrl") return Text(key, member, schema_url);
    if (key != "scope") return OkStatus();
    return Each(key, member, [&](std::string_view part, element it) {
      if (part == "name") return Text(part, it, name);
      if (part == "version") return Text(part, it, version);
      return part == "attributes" ? AddAttributes(part, it, assembler_.scope_arena(), attributes_) : OkStatus();
    });
  }));
  assembler_.BeginScope(name, version, attributes_, schema_url);
  return OkStatus();
}

Status OtlpJsonReader::ReadSpan(element value) {
  assembler_.BeginSpan();
  OtlpSpan& span = assembler_.span;
  id_problem_.clear();
  // Ids first: events tell of scores, which name them.
  const auto read = [&](std::string_view key, element member) {
    std::string_view id;
    if (key != "traceId" && key != "spanId") return OkStatus();
    SPANBOX_RETURN_IF_ERROR(Text(key, member, id));
    const bool ok =
        key == "traceId" ? IdOf(id, 32, TraceIdFromHex, span.trace_id) : IdOf(id, 16, SpanIdFromHex, span.span_id);
    if (!ok) id_problem_ = std::string(key) + " is no hexadecimal id";
    return OkStatus();
  };
  SPANBOX_RETURN_IF_ERROR(Each("spans", value, read));
  if (id_problem_.empty() && !span.trace_id.is_valid()) id_problem_ = "a span has no trace id";
  if (id_problem_.empty() && span.span_id == 0) id_problem_ = "a span has no span id";
  return Each("spans", value, [&](std::string_view key, element member) { return ReadSpanMember(key, member); });
}

Status OtlpJsonReader::ReadSpanMember(std::string_view key, element value) {
  OtlpSpan& span = assembler_.span;
  if (key == "name") return Text(key, value, span.name);
  if (key == "startTimeUnixNano") return Whole(key, value, span.start_ns);
  if (key == "endTimeUnixNano") return Whole(key, value, span.end_ns);
  if (key == "kind") return Whole(key, value, span.kind);
  if (key == "attributes") return AddAttributes(key, value, assembler_.arena(), assembler_.attributes);
  if (key == "status") return ReadStatus(value);
  if (key == "traceState") return Text(key, value, span.trace_state);
  if (key == "flags") return Whole(key, value, span.flags);
  if (key == "droppedAttributesCount") {
    std::uint64_t dropped = 0;
    SPANBOX_RETURN_IF_ERROR(Whole(key, value, dropped));
    span.dropped[0] += static_cast<std::uint32_t>(dropped);
    return OkStatus();
  }
  if (key == "droppedEventsCount") return Whole(key, value, span.dropped[1]);
  if (key == "droppedLinksCount") return Whole(key, value, span.dropped[2]);
  if (key == "events") return EachOf(key, value, [&](element each) { return ReadEvent(each); });
  if (key == "links") return EachOf(key, value, [&](element each) { return ReadLink(each); });
  if (key != "parentSpanId") return OkStatus();
  std::string_view id;
  SPANBOX_RETURN_IF_ERROR(Text(key, value, id));
  if (!IdOf(id, 16, SpanIdFromHex, span.parent_id)) id_problem_ = "parentSpanId is no hexadecimal id";
  return OkStatus();
}

Status OtlpJsonReader::ReadStatus(element value) {
  return Each("status", value, [&](std::string_view key, element member) {
    if (key == "message") return Text(key, member, assembler_.span.status_message);
    return key == "code" ? Whole(key, member, assembler_.span.status_code) : OkStatus();
  });
}

Status OtlpJsonReader::ReadEvent(element value) {
  if (assembler_.events_bytes() > kMaxOtlpJsonBytes) return InvalidArgument("the events of a span are too large");
  attributes_.clear();
  std::string_view name;
  std::uint64_t time_ns = 0, dropped = 0;
  SPANBOX_RETURN_IF_ERROR(Each("events", value, [&](std::string_view key, element member) {
    if (key == "timeUnixNano") return Whole(key, member, time_ns);
    if (key == "name") return Text(key, member, name);
    if (key == "attributes") return AddAttributes(key, member, assembler_.arena(), attributes_);
    return key == "droppedAttributesCount" ? Whole(key, member, dropped) : OkStatus();
  }));
  assembler_.AddEvent(name, time_ns, attributes_, dropped);
  return OkStatus();
}

Status OtlpJsonReader::ReadLink(element value) {
  if (assembler_.events_bytes() > kMaxOtlpJsonBytes) return InvalidArgument("the links of a span are too large");
  attributes_.clear();
  OtlpLink link;
  const auto read = [&](std::string_view key, element member) {
    if (key == "traceState") return Text(key, member, link.trace_state);
    if (key == "attributes") return AddAttributes(key, member, assembler_.arena(), attributes_);
    if (key == "droppedAttributesCount") return Whole(key, member, link.dropped);
    if (key == "flags") return Whole(key, member, link.flags);
    if (key != "traceId" && key != "spanId") return OkStatus();
    std::string_view id;
    SPANBOX_RETURN_IF_ERROR(Text(key, member, id));
    const bool ok =
        key == "traceId" ? IdOf(id, 32, TraceIdFromHex, link.trace_id) : IdOf(id, 16, SpanIdFromHex, link.span_id);
    if (!ok) id_problem_ = "an id of a link is not hexadecimal";
    return OkStatus();
  };
  SPANBOX_RETURN_IF_ERROR(Each("links", value, read));
  assembler_.AddLink(link, attributes_);
  return OkStatus();
}

// --- values ----------------------------------------------------------------------------------------------------------

Status OtlpJsonReader::AddAttributes(std::string_view what, element list, RowArena& arena, std::vector<Field>& out) {
  return EachOf(what, list, [&](element each) -> Status {
    if (out.size() >= kMaxOtlpSpanAttributes) {
      assembler_.span.dropped[0] += &out == &assembler_.attributes;
      return OkStatus();
    }
    Field attribute{Column::kAttribute, {}, AbsentValue()};
    const auto read = [&](std::string_view key, element member) {
      if (key == "key") return Text(key, member, attribute.name);
      return key == "value" ? ReadValue(member, arena, attribute.value) : OkStatus();
    };
    SPANBOX_RETURN_IF_ERROR(Each(what, each, read));
    if (!IsAbsent(attribute.value)) out.push_back(attribute);
    return OkStatus();
  });
}

// Whether the member is a scalar of an AnyValue.
Result<bool> ReadScalar(std::string_view key, element member, Value& value) {
  Status status;
  if (key == "stringValue") {
    value = Value::String({});
    status = Text(key, member, value.text);
  } else if (key == "boolValue") {
    value = Value::Bool(false);
    if (member.get(value.boolean)) status = Wrong(key, "truth value");
  } else if (key == "intValue") {
    value = Value::Int(0);
    status = Whole(key, member, value.integer);
  } else if (key == "doubleValue") {
    value = Value::Float(0);
    status = Double(key, member, value.number);
  } else {
    return false;
  }
  if (!status.ok()) return status;
  return true;
}

Status OtlpJsonReader::ReadValue(element any_value, RowArena& arena, Value& value) {
  const auto read = [&](std::string_view key, element member) -> Status {
    SPANBOX_ASSIGN_OR_RETURN(const bool is_scalar, ReadScalar(key, member, value));
    if (is_scalar || (key != "arrayValue" && key != "kvlistValue" && key != "bytesValue")) return OkStatus();
    std::string& json = arena.NewText();
    value = Value::Json({});
    SPANBOX_RETURN_IF_ERROR(AppendMember(key, member, 0, json));
    value.text = json;
    return OkStatus();
  };
  return Each("value", any_value, read);
}

Status OtlpJsonReader::AppendValue(element any_value, int depth, std::string& json) {
  const std::size_t begin = json.size();
  const auto read = [&](std::string_view key, element member) -> Status {
    if (key.ends_with("Value")) json.resize(begin);  // of several the last one counts
    return AppendMember(key, member, depth, json);
  };
  SPANBOX_RETURN_IF_ERROR(Each("value", any_value, read));
  if (json.size() == begin) json += "null";
  return OkStatus();
}

// Appends the value that the member of an AnyValue is; nothing when it is none.
Status OtlpJsonReader::AppendMember(std::string_view key, element member, int depth, std::string& json) {
  if (json.size() > kMaxOtlpJsonBytes) return InvalidArgument("a value is too large");
  if (key == "arrayValue" || key == "kvlistValue") return AppendList(member, key == "kvlistValue", depth + 1, json);
  Value value;
  if (key != "bytesValue") {
    SPANBOX_ASSIGN_OR_RETURN(const bool is_scalar, ReadScalar(key, member, value));
    if (is_scalar) AppendJsonValue(value, json);
    return OkStatus();
  }
  std::string_view text;
  SPANBOX_RETURN_IF_ERROR(Text(key, member, text));
  std::string bytes;
  if (!DecodeBase64(text, bytes)) return Wrong(key, "base64");
  AppendJsonBytes(std::as_bytes(std::span(bytes)), json);
  return OkStatus();
}

Status OtlpJsonReader::AppendList(element value, bool is_mapping, int depth, std::string& json) {
  if (depth > kMaxOtlpDepth) return InvalidArgument("a value is nested too deep");
  json += is_mapping ? '{' : '[';
  bool any = false;
  const auto add = [&](element each) -> Status {
    if (any) json += ',';
    any = true;
    if (!is_mapping) return AppendValue(each, depth, json);
    std::string_view key;
    std::optional<element> member;
    const auto read = [&](std::string_view part, element it) {
      if (part == "value") member = it;
      return part == "key" ? Text(part, it, key) : OkStatus();
    };
    SPANBOX_RETURN_IF_ERROR(Each("kvlistValue", each, read));
    AppendJsonString(key, json);
    json += ':';
    if (member) return AppendValue(*member, depth, json);
    json += "null";
    return OkStatus();
  };
  SPANBOX_RETURN_IF_ERROR(Each("value", value, [&](std::string_view key, element list) {
    return key == "values" ? EachOf(key, list, add) : OkStatus();
  }));
  json += is_mapping ? '}' : ']';
  return OkStatus();
}

}  // namespace

Result<std::unique_ptr<OtlpReader>> NewOtlpJsonReader(std::string_view body) {
  auto reader = std::make_unique<OtlpJsonReader>();
  SPANBOX_RETURN_IF_ERROR(reader->Open(body));
  return std::unique_ptr<OtlpReader>(std::move(reader));
}

Result<std::unique_ptr<OtlpReader>> OtlpReader::Open(std::string_view body, OtlpForm form) {
  if (form == OtlpForm::kJson) return NewOtlpJsonReader(body);
  return NewOtlpProtoReader(body);
}

}  // namespace spanbox
