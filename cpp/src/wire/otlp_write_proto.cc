#include <bit>

#include "spanbox/otlp.h"
#include "wire/base64.h"
#include "wire/json_text.h"
#include "wire/otlp_write.h"
#include "wire/proto.h"

namespace spanbox {
namespace {

using simdjson::dom::element;

// Bytes that AppendJsonBytes has written; nullopt: it is another mapping.
std::optional<std::string> BytesOf(element value) {
  std::string_view text;
  simdjson::dom::object members;
  std::string bytes;
  if (value.get(members) || members.size() != 1 || members["$bytes"].get(text)) return std::nullopt;
  if (!DecodeBase64(text, bytes)) return std::nullopt;
  return bytes;
}

void PutScalar(ProtoWriter& out, const Value& value) {
  switch (value.type) {
    case ValueType::kBool:
      return out.Varint(2, value.boolean ? 1 : 0);
    case ValueType::kInt:
      return out.Varint(3, static_cast<std::uint64_t>(value.integer));
    case ValueType::kFloat:
      return out.Double(4, value.number);
    default:
      return out.Bytes(1, value.text);
  }
}

class ProtoEncoder : public OtlpEncoder {
 public:
  void AppendResource(const OutSpan& span, std::string& out) override {
    ProtoWriter writer(out);
    writer.Message(1, [&] { PutAttributes(writer, 1, span.resource, out); });
    if (!span.resource_schema_url.empty()) writer.Bytes(3, span.resource_schema_url);
  }

  void AppendScope(const OutSpan& span, std::string& out) override {
    ProtoWriter writer(out);
    writer.Message(1, [&] {
      if (!span.scope_name.empty()) writer.Bytes(1, span.scope_name);
      if (!span.scope_version.empty()) writer.Bytes(2, span.scope_version);
      PutAttributes(writer, 3, span.scope_attributes, out);
    });
    if (!span.scope_schema_url.empty()) writer.Bytes(3, span.scope_schema_url);
  }

  void AppendSpan(const OutSpan& span, std::string& spans) override {
    ProtoWriter writer(spans);
    writer.Message(2, [&] { PutSpan(writer, span, spans); });
  }

  void AppendScopeSpans(std::string_view scope, std::string_view spans, std::string& scopes) override {
    ProtoWriter(scopes).Bytes(2, std::string(scope).append(spans));
  }
  void AppendResourceSpans(std::string_view resource, std::string_view scopes, std::string& out) override {
    ProtoWriter(out).Bytes(1, std::string(resource).append(scopes));
  }
  std::string Body(std::string resources) override { return resources; }

 private:
  void PutId(ProtoWriter& writer, std::uint32_t number, const TraceId& id) {
    writer.Bytes(number, {reinterpret_cast<const char*>(id.bytes.data()), id.bytes.size()});
  }
  void PutId(ProtoWriter& writer, std::uint32_t number, SpanId id) {
    const SpanId swapped = __builtin_bswap64(id);
    writer.Bytes(number, {reinterpret_cast<const char*>(&swapped), sizeof swapped});
  }

  void PutSpan(ProtoWriter& writer, const OutSpan& span, std::string& out) {
    const SpanRow& row = *span.row;
    PutId(writer, 1, row.trace_id);
    PutId(writer, 2, row.span_id);
    if (!span.trace_state.empty()) writer.Bytes(3, span.trace_state);
    if (row.parent_id != 0) PutId(writer, 4, row.parent_id);
    writer.Bytes(5, row.name);
    if (span.kind != 0) writer.Varint(6, span.kind);
    writer.Fixed64(7, static_cast<std::uint64_t>(std::max<std::int64_t>(0, row.start_ns)));
    writer.Fixed64(8, span.end_ns);
    PutAttributes(writer, 9, span.attributes, out);
    if (span.dropped[0] != 0) writer.Varint(10, span.dropped[0]);
    PutEvents(writer, span.events, out);
    if (span.dropped[1] != 0) writer.Varint(12, span.dropped[1]);
    PutLinks(writer, span.links, out);
    if (span.dropped[2] != 0) writer.Varint(14, span.dropped[2]);
    if (span.status_code != 0 || !span.status_message.empty()) {
      writer.Message(15, [&] {
        if (!span.status_message.empty()) writer.Bytes(2, span.status_message);
        if (span.status_code != 0) writer.Varint(3, span.status_code);
      });
    }
    if (span.flags != 0) writer.Fixed32(16, static_cast<std::uint32_t>(span.flags));
  }

  void PutAttributes(ProtoWriter& writer, std::uint32_t number, std::span<const Field> attributes, std::string& out) {
    for (const Field& attribute : attributes) {
      writer.Message(number, [&] {
        writer.Bytes(1, attribute.name);
        writer.Message(2, [&] { PutValue(writer, attribute.value, out); });
      });
    }
  }

  void PutValue(ProtoWriter& writer, const Value& value, std::string& out) {
    element parsed;
    if (value.type != ValueType::kJson || parser_.parse(value.text.data(), value.text.size(), true).get(parsed)) {
      PutScalar(writer, value);
    } else {
      PutElement(writer, parsed, 1, out);
    }
  }

  void PutElement(ProtoWriter& writer, element value, int depth, std::string& out) {
    if (depth > kMaxOtlpDepth) return writer.Bytes(1, std::string(simdjson::minify(value)));
    simdjson::dom::array elements;
    simdjson::dom::object members;
    if (!value.get(elements)) {
      writer.Message(5, [&] {
        for (const element each : elements) {
          writer.Message(1, [&] { PutElement(writer, each, depth + 1, out); });
        }
      });
    } else if (const auto bytes = BytesOf(value)) {
      writer.Bytes(7, *bytes);
    } else if (!value.get(members)) {
      writer.Message(6, [&] { PutMembers(writer, 1, members, depth + 1, out); });
    } else {
      RowArena arena;
      if (const auto scalar = ScalarOf(value, arena)) PutScalar(writer, *scalar);
    }
  }

  void PutMembers(ProtoWriter& writer, std::uint32_t number, simdjson::dom::object members, int depth,
                  std::string& out) {
    for (const auto& member : members) {
      writer.Message(number, [&] {
        writer.Bytes(1, member.key);
        writer.Message(2, [&] { PutElement(writer, member.value, depth, out); });
      });
    }
  }

  // Calls `put` with every object of the list.
  template <typename Put>
  void EachOf(std::string_view json, Put put) {
    simdjson::dom::array list;
    if (json.empty() || parser_.parse(json.data(), json.size(), true).get(list)) return;
    for (const element each : list) {
      if (each.is_object()) put(each);
    }
  }

  void PutEvents(ProtoWriter& writer, std::string_view json, std::string& out) {
    EachOf(json, [&](element event) {
      writer.Message(11, [&] {
        std::uint64_t number = 0;
        std::string_view name;
        simdjson::dom::object attributes;
        if (!event["time_ns"].get(number)) writer.Fixed64(1, number);
        if (!event["name"].get(name)) writer.Bytes(2, name);
        if (!event["attributes"].get(attributes)) PutMembers(writer, 3, attributes, 1, out);
        if (!event["dropped_attributes_count"].get(number)) writer.Varint(4, number);
      });
    });
  }

  void PutLinks(ProtoWriter& writer, std::string_view json, std::string& out) {
    EachOf(json, [&](element link) {
      writer.Message(13, [&] {
        std::string_view text;
        std::uint64_t number = 0;
        simdjson::dom::object attributes;
        if (!link["trace_id"].get(text)) PutId(writer, 1, TraceIdFromHex(text).value_or(TraceId{}));
        if (!link["span_id"].get(text)) PutId(writer, 2, SpanIdFromHex(text).value_or(0));
        if (!link["trace_state"].get(text)) writer.Bytes(3, text);
        if (!link["attributes"].get(attributes)) PutMembers(writer, 4, attributes, 1, out);
        if (!link["dropped_attributes_count"].get(number)) writer.Varint(5, number);
        if (!link["flags"].get(number)) writer.Fixed32(6, static_cast<std::uint32_t>(number));
      });
    });
  }

  simdjson::dom::parser parser_;
};

}  // namespace

std::unique_ptr<OtlpEncoder> NewOtlpProtoEncoder() { return std::make_unique<ProtoEncoder>(); }

}  // namespace spanbox
