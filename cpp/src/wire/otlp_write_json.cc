#include "spanbox/otlp.h"
#include "wire/json_text.h"
#include "wire/otlp_write.h"

namespace spanbox {
namespace {

using simdjson::dom::element;

// Appends `"key":`, with a comma where one is due.
void Key(std::string_view key, std::string& json) {
  if (!json.ends_with('{')) json += ',';
  json.append("\"").append(key).append("\":");
}

void Text(std::string_view key, std::string_view text, std::string& json) {
  if (text.empty()) return;
  Key(key, json);
  AppendJsonString(text, json);
}

void Number(std::string_view key, std::uint64_t number, std::string& json) {
  if (number == 0) return;
  Key(key, json);
  json += std::to_string(number);
}

// 64-bit integers are text.
void Wide(std::string_view key, std::uint64_t number, std::string& json) {
  Key(key, json);
  json.append("\"").append(std::to_string(number)).append("\"");
}

void Scalar(const Value& value, std::string& json) {
  switch (value.type) {
    case ValueType::kBool:
      json += value.boolean ? "{\"boolValue\":true}" : "{\"boolValue\":false}";
      return;
    case ValueType::kInt:
      json.append("{\"intValue\":\"").append(std::to_string(value.integer)).append("\"}");
      return;
    case ValueType::kFloat:
      json += "{\"doubleValue\":";
      break;
    default:
      json += "{\"stringValue\":";
      AppendJsonString(value.text, json);
      json += '}';
      return;
  }
  AppendJsonFloat(value.number, json);
  json += '}';
}

class JsonEncoder : public OtlpEncoder {
 public:
  void AppendResource(const OutSpan& span, std::string& out) override {
    out += "{\"resource\":{";
    Attributes(span.resource, out);
    out += '}';
    Text("schemaUrl", span.resource_schema_url, out);
  }

  void AppendScope(const OutSpan& span, std::string& out) override {
    out += "{\"scope\":{";
    Text("name", span.scope_name, out);
    Text("version", span.scope_version, out);
    Attributes(span.scope_attributes, out);
    out += '}';
    Text("schemaUrl", span.scope_schema_url, out);
  }

  void AppendSpan(const OutSpan& span, std::string& spans) override {
    const SpanRow& row = *span.row;
    if (!spans.empty()) spans += ',';
    spans += '{';
    Text("traceId", ToHex(row.trace_id), spans);
    Text("spanId", ToHex(row.span_id), spans);
    if (row.parent_id != 0) Text("parentSpanId", ToHex(row.parent_id), spans);
    Text("traceState", span.trace_state, spans);
    Text("name", row.name, spans);
    Number("kind", span.kind, spans);
    Wide("startTimeUnixNano", static_cast<std::uint64_t>(std::max<std::int64_t>(0, row.start_ns)), spans);
    Wide("endTimeUnixNano", span.end_ns, spans);
    Attributes(span.attributes, spans);
    Number("droppedAttributesCount", span.dropped[0], spans);
    Events(span.events, spans);
    Number("droppedEventsCount", span.dropped[1], spans);
    Links(span.links, spans);
    Number("droppedLinksCount", span.dropped[2], spans);
    if (span.status_code != 0 || !span.status_message.empty()) {
      Key("status", spans);
      spans += '{';
      Text("message", span.status_message, spans);
      Number("code", span.status_code, spans);
      spans += '}';
    }
    Number("flags", span.flags, spans);
    spans += '}';
  }

  void AppendScopeSpans(std::string_view scope, std::string_view spans, std::string& scopes) override {
    if (!scopes.empty()) scopes += ',';
    scopes.append(scope).append(",\"spans\":[").append(spans).append("]}");
  }
  void AppendResourceSpans(std::string_view resource, std::string_view scopes, std::string& out) override {
    if (!out.empty()) out += ',';
    out.append(resource).append(",\"scopeSpans\":[").append(scopes).append("]}");
  }
  std::string Body(std::string resources) override { return "{\"resourceSpans\":[" + std::move(resources) + "]}"; }

 private:
  void Attributes(std::span<const Field> attributes, std::string& json) {
    if (attributes.empty()) return;
    Key("attributes", json);
    json += '[';
    for (const Field& attribute : attributes) {
      if (!json.ends_with('[')) json += ',';
      json += "{\"key\":";
      AppendJsonString(attribute.name, json);
      json += ",\"value\":";
      element parsed;
      const std::string_view text = attribute.value.text;
      if (attribute.value.type != ValueType::kJson || parser_.parse(text.data(), text.size(), true).get(parsed)) {
        Scalar(attribute.value, json);
      } else {
        Element(parsed, 1, json);
      }
      json += '}';
    }
    json += ']';
  }

  void Element(element value, int depth, std::string& json) {
    simdjson::dom::array elements;
    simdjson::dom::object members;
    std::string_view text;
    if (depth > kMaxOtlpDepth) {
      Scalar(Value::String(std::string(simdjson::minify(value))), json);
    } else if (!value.get(elements)) {
      json += "{\"arrayValue\":{\"values\":[";
      for (const element each : elements) {
        if (!json.ends_with('[')) json += ',';
        Element(each, depth + 1, json);
      }
      json += "]}}";
    } else if (value.get(members)) {
      RowArena arena;
      const auto scalar = ScalarOf(value, arena);
      if (scalar) return Scalar(*scalar, json);
      json += "{}";
    } else if (members.size() == 1 && !members["$bytes"].get(text)) {
      json += "{\"bytesValue\":";
      AppendJsonString(text, json);
      json += '}';
    } else {
      json += "{\"kvlistValue\":{\"values\":";
      Members(members, depth + 1, json);
      json += "}}";
    }
  }

  void Members(simdjson::dom::object members, int depth, std::string& json) {
    json += '[';
    for (const auto& member : members) {
      if (!json.ends_with('[')) json += ',';
      json += "{\"key\":";
      AppendJsonString(member.key, json);
      json += ",\"value\":";
      Element(member.value, depth, json);
      json += '}';
    }
    json += ']';
  }

  template <typename Put>
  void EachOf(std::string_view key, std::string_view list, std::string& json, Put put) {
    simdjson::dom::array elements;
    if (list.empty() || parser_.parse(list.data(), list.size(), true).get(elements)) return;
    Key(key, json);
    json += '[';
    for (const element each : elements) {
      if (!each.is_object()) continue;
      json += json.ends_with('[') ? "{" : ",{";
      put(each);
      simdjson::dom::object attributes;
      if (!each["attributes"].get(attributes)) {
        Key("attributes", json);
        Members(attributes, 1, json);
      }
      std::uint64_t dropped = 0;
      if (!each["dropped_attributes_count"].get(dropped)) Number("droppedAttributesCount", dropped, json);
      json += '}';
    }
    json += ']';
  }

  void Events(std::string_view events, std::string& json) {
    EachOf("events", events, json, [&](element event) {
      std::uint64_t time_ns = 0;
      std::string_view name;
      if (!event["time_ns"].get(time_ns)) Wide("timeUnixNano", time_ns, json);
      if (!event["name"].get(name)) Text("name", name, json);
    });
  }

  void Links(std::string_view links, std::string& json) {
    EachOf("links", links, json, [&](element link) {
      std::string_view text;
      std::uint64_t flags = 0;
      if (!link["trace_id"].get(text)) Text("traceId", text, json);
      if (!link["span_id"].get(text)) Text("spanId", text, json);
      if (!link["trace_state"].get(text)) Text("traceState", text, json);
      if (!link["flags"].get(flags)) Number("flags", flags, json);
    });
  }

  simdjson::dom::parser parser_;
};

}  // namespace

std::unique_ptr<OtlpEncoder> NewOtlpJsonEncoder() { return std::make_unique<JsonEncoder>(); }

}  // namespace spanbox
