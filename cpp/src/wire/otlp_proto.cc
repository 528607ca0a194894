// OTLP in protobuf: field numbers are those of opentelemetry/proto/trace/v1/trace.proto, frozen since 1.0.
#include "base/msgpack.h"
#include "base/utf8.h"
#include "spanbox/otlp.h"
#include "wire/json_text.h"
#include "wire/otlp_readers.h"
#include "wire/otlp_span.h"
#include "wire/proto.h"

namespace spanbox {
namespace {

using enum WireType;

bool IsText(std::string_view bytes) {
  if (bytes.size() < 64) return IsUtf8(bytes);
  return simdjson::validate_utf8(bytes.data(), bytes.size());
}

class OtlpProtoReader : public OtlpReader {
 public:
  explicit OtlpProtoReader(std::string_view body) : body_(body), request_(body) {}

  Result<const SpanRow*> Next(bool whole) override;
  void Rewind() override {
    request_ = ProtoReader(body_);
    resource_ = scope_ = ProtoReader();
    ForgetRejected();
  }
  std::span<const SpanRow> scores() const override { return assembler_.scores(); }

 private:
  Status Malformed(const char* place) const {
    return InvalidArgument("malformed protobuf at byte " + std::to_string(place - body_.data()));
  }
  Status Wrong(std::string_view bytes, const char* what) const {
    return InvalidArgument(what + std::string(" at byte ") + std::to_string(bytes.data() - body_.data()));
  }

  // Calls `take` with every field of the message.
  template <typename Take>
  Status Each(std::string_view message, Take take) const {
    ProtoReader reader(message);
    ProtoField field;
    while (reader.Next(field)) SPANBOX_RETURN_IF_ERROR(take(field));
    return reader.failed() ? Malformed(reader.place()) : OkStatus();
  }

  Status Text(const ProtoField& field, std::string_view& out) const {
    if (!IsText(field.bytes)) return Wrong(field.bytes, "text that is not UTF-8");
    out = field.bytes;
    return OkStatus();
  }

  Status EnterResource(std::string_view message);
  Status EnterScope(std::string_view message);
  Status ReadSpan(std::string_view message);
  Status ReadSpanField(const ProtoField& field);
  Status ReadStatus(std::string_view message);
  Status ReadEvent(std::string_view message);
  Status ReadLink(std::string_view message);
  Status AddAttribute(std::string_view message, RowArena& arena, std::vector<Field>& out);
  Status ReadValue(std::string_view message, RowArena& arena, Value& value);
  Status AppendValue(std::string_view message, int depth, std::string& json);
  Status AppendList(std::string_view message, bool is_mapping, int depth, std::string& json);

  const std::string_view body_;
  ProtoReader request_, resource_, scope_;
  SpanAssembler assembler_;
  std::vector<Field> attributes_;  // of what is no span
  std::string_view id_problem_;
};

template <typename Id>
bool ReadId(std::string_view bytes, Id& id);
template <>
bool ReadId(std::string_view bytes, TraceId& id) {
  if (bytes.size() != id.bytes.size()) return bytes.empty();
  std::memcpy(id.bytes.data(), bytes.data(), bytes.size());
  return true;
}
template <>
bool ReadId(std::string_view bytes, SpanId& id) {
  if (bytes.size() != sizeof id) return bytes.empty();
  id = 0;
  for (const char byte : bytes) id = id << 8 | static_cast<unsigned char>(byte);
  return true;
}

Result<const SpanRow*> OtlpProtoReader::Next(bool whole) {
  ProtoField field;
  for (;;) {
    while (scope_.Next(field)) {
      if (!field.Is(2, kBytes)) continue;
      SPANBOX_RETURN_IF_ERROR(ReadSpan(field.bytes));
      if (id_problem_.empty()) return assembler_.Finish(whole);
      Reject(std::string(id_problem_));
    }
    if (scope_.failed()) return Malformed(scope_.place());
    bool entered = false;
    while (!entered && resource_.Next(field)) {
      if (!field.Is(2, kBytes)) continue;
      SPANBOX_RETURN_IF_ERROR(EnterScope(field.bytes));
      entered = true;
    }
    if (resource_.failed()) return Malformed(resource_.place());
    if (entered) continue;
    while (!entered && request_.Next(field)) {
      if (!field.Is(1, kBytes)) continue;
      SPANBOX_RETURN_IF_ERROR(EnterResource(field.bytes));
      entered = true;
    }
    if (request_.failed()) return Malformed(request_.place());
    if (!entered) return static_cast<const SpanRow*>(nullptr);
  }
}

Status OtlpProtoReader::EnterResource(std::string_view message) {
  attributes_.clear();
  assembler_.resource_arena().Reset();
  std::string_view schema_url;
  SPANBOX_RETURN_IF_ERROR(Each(message, [&](const ProtoField& field) {
    if (field.Is(3, kBytes)) return Text(field, schema_url);
    if (!field.Is(1, kBytes)) return OkStatus();
    return Each(field.bytes, [&](const ProtoField& attribute) {
      if (!attribute.Is(1, kBytes)) return OkStatus();
      return AddAttribute(attribute.bytes, assembler_.resource_arena(), attributes_);
    });
  }));
  assembler_.BeginResource(attributes_, schema_url);
  resource_ = ProtoReader(message);
  return OkStatus();
}

Status OtlpProtoReader::EnterScope(std::string_view message) {
  attributes_.clear();
  assembler_.scope_arena().Reset();
  std::string_view name, version, schema_url;
  SPANBOX_RETURN_IF_ERROR(Each(message, [&](const ProtoField& field) {
    if (field.Is(3, kBytes)) return Text(field, schema_url);
    if (!field.Is(1, kBytes)) return OkStatus();
    return Each(field.bytes, [&](const ProtoField& part) {
      if (part.Is(1, kBytes)) return Text(part, name);
      if (part.Is(2, kBytes)) return Text(part, version);
      if (part.Is(3, kBytes)) return AddAttribute(part.bytes, assembler_.scope_arena(), attributes_);
      return OkStatus();
    });
  }));
  assembler_.BeginScope(name, version, attributes_, schema_url);
  scope_ = ProtoReader(message);
  return OkStatus();
}

Status OtlpProtoReader::ReadSpan(std::string_view message) {
  assembler_.BeginSpan();
  id_problem_ = {};
  // Ids first: events and links tell of scores, which name them.
  SPANBOX_RETURN_IF_ERROR(Each(message, [&](const ProtoField& field) {
    if (field.Is(1, kBytes) && !ReadId(field.bytes, assembler_.span.trace_id)) id_problem_ = "a trace id is 16 bytes";
    if (field.Is(2, kBytes) && !ReadId(field.bytes, assembler_.span.span_id)) id_problem_ = "a span id is 8 bytes";
    return OkStatus();
  }));
  if (id_problem_.empty() && !assembler_.span.trace_id.is_valid()) id_problem_ = "a span has no trace id";
  if (id_problem_.empty() && assembler_.span.span_id == 0) id_problem_ = "a span has no span id";
  return Each(message, [&](const ProtoField& field) { return ReadSpanField(field); });
}

Status OtlpProtoReader::ReadSpanField(const ProtoField& field) {
  OtlpSpan& span = assembler_.span;
  const auto number = [&](WireType type, std::uint64_t& out) {
    if (field.type == type) out = field.value;
    return OkStatus();
  };
  const bool is_bytes = field.type == kBytes;
  switch (field.number) {
    case 3:
      return is_bytes ? Text(field, span.trace_state) : OkStatus();
    case 4:
      if (is_bytes && !ReadId(field.bytes, span.parent_id)) id_problem_ = "a parent span id is 8 bytes";
      return OkStatus();
    case 5:
      return is_bytes ? Text(field, span.name) : OkStatus();
    case 6:
      return number(kVarint, span.kind);
    case 7:
      return number(kFixed64, span.start_ns);
    case 8:
      return number(kFixed64, span.end_ns);
    case 9:
      if (!is_bytes) return OkStatus();
      if (assembler_.attributes.size() < kMaxOtlpSpanAttributes) {
        return AddAttribute(field.bytes, assembler_.arena(), assembler_.attributes);
      }
      ++span.dropped[0];
      return OkStatus();
    case 10:
      if (field.type == kVarint) span.dropped[0] += static_cast<std::uint32_t>(field.value);
      return OkStatus();
    case 11:
      return is_bytes ? ReadEvent(field.bytes) : OkStatus();
    case 12:
      return number(kVarint, span.dropped[1]);
    case 13:
      return is_bytes ? ReadLink(field.bytes) : OkStatus();
    case 14:
      return number(kVarint, span.dropped[2]);
    case 15:
      return is_bytes ? ReadStatus(field.bytes) : OkStatus();
    case 16:
      return number(kFixed32, span.flags);
    default:
      return OkStatus();
  }
}

Status OtlpProtoReader::ReadStatus(std::string_view message) {
  return Each(message, [&](const ProtoField& field) {
    if (field.Is(2, kBytes)) return Text(field, assembler_.span.status_message);
    if (field.Is(3, kVarint)) assembler_.span.status_code = field.value;
    return OkStatus();
  });
}

Status OtlpProtoReader::ReadEvent(std::string_view message) {
  if (assembler_.events_bytes() > kMaxOtlpJsonBytes) return Wrong(message, "events that are too large");
  attributes_.clear();
  std::string_view name;
  std::uint64_t time_ns = 0, dropped = 0;
  SPANBOX_RETURN_IF_ERROR(Each(message, [&](const ProtoField& field) {
    if (field.Is(1, kFixed64)) time_ns = field.value;
    if (field.Is(2, kBytes)) return Text(field, name);
    if (field.Is(3, kBytes)) return AddAttribute(field.bytes, assembler_.arena(), attributes_);
    if (field.Is(4, kVarint)) dropped = static_cast<std::uint32_t>(field.value);
    return OkStatus();
  }));
  assembler_.AddEvent(name, time_ns, attributes_, dropped);
  return OkStatus();
}

Status OtlpProtoReader::ReadLink(std::string_view message) {
  if (assembler_.events_bytes() > kMaxOtlpJsonBytes) return Wrong(message, "links that are too large");
  attributes_.clear();
  OtlpLink link;
  SPANBOX_RETURN_IF_ERROR(Each(message, [&](const ProtoField& field) {
    if (field.Is(1, kBytes) && !ReadId(field.bytes, link.trace_id)) id_problem_ = "a linked trace id is 16 bytes";
    if (field.Is(2, kBytes) && !ReadId(field.bytes, link.span_id)) id_problem_ = "a linked span id is 8 bytes";
    if (field.Is(3, kBytes)) return Text(field, link.trace_state);
    if (field.Is(4, kBytes)) return AddAttribute(field.bytes, assembler_.arena(), attributes_);
    if (field.Is(5, kVarint)) link.dropped = static_cast<std::uint32_t>(field.value);
    if (field.Is(6, kFixed32)) link.flags = field.value;
    return OkStatus();
  }));
  assembler_.AddLink(link, attributes_);
  return OkStatus();
}

Status OtlpProtoReader::AddAttribute(std::string_view message, RowArena& arena, std::vector<Field>& out) {
  Field attribute{Column::kAttribute, {}, AbsentValue()};
  SPANBOX_RETURN_IF_ERROR(Each(message, [&](const ProtoField& field) {
    if (field.Is(1, kBytes)) return Text(field, attribute.name);
    if (field.Is(2, kBytes)) return ReadValue(field.bytes, arena, attribute.value);
    return OkStatus();
  }));
  if (!IsAbsent(attribute.value)) out.push_back(attribute);
  return OkStatus();
}

Status OtlpProtoReader::ReadValue(std::string_view message, RowArena& arena, Value& value) {
  return Each(message, [&](const ProtoField& field) -> Status {
    if (field.Is(1, kBytes)) {
      value = Value::String({});
      return Text(field, value.text);
    }
    if (field.Is(2, kVarint)) value = Value::Bool(field.value != 0);
    if (field.Is(3, kVarint)) value = Value::Int(static_cast<std::int64_t>(field.value));
    if (field.Is(4, kFixed64)) value = Value::Float(std::bit_cast<double>(field.value));
    if (field.type != kBytes || field.number < 5 || field.number > 7) return OkStatus();
    std::string& json = arena.NewText();
    if (field.number == 7) {
      AppendJsonBytes(std::as_bytes(std::span(field.bytes)), json);
    } else {
      SPANBOX_RETURN_IF_ERROR(AppendList(field.bytes, field.number == 6, 1, json));
    }
    value = Value::Json(json);
    return OkStatus();
  });
}

Status OtlpProtoReader::AppendValue(std::string_view message, int depth, std::string& json) {
  const std::size_t begin = json.size();
  const auto write = [&](const Value& value) {
    json.resize(begin);  // of a choice given twice the last one counts
    AppendJsonValue(value, json);
  };
  const auto read = [&](const ProtoField& field) -> Status {
    if (field.Is(1, kBytes)) {
      std::string_view text;
      SPANBOX_RETURN_IF_ERROR(Text(field, text));
      write(Value::String(text));
    }
    if (field.Is(2, kVarint)) write(Value::Bool(field.value != 0));
    if (field.Is(3, kVarint)) write(Value::Int(static_cast<std::int64_t>(field.value)));
    if (field.Is(4, kFixed64)) write(Value::Float(std::bit_cast<double>(field.value)));
    if (field.type != kBytes || field.number < 5 || field.number > 7) return OkStatus();
    json.resize(begin);
    if (field.number != 7) return AppendList(field.bytes, field.number == 6, depth + 1, json);
    AppendJsonBytes(std::as_bytes(std::span(field.bytes)), json);
    return OkStatus();
  };
  SPANBOX_RETURN_IF_ERROR(Each(message, read));
  if (json.size() == begin) json += "null";
  if (json.size() > kMaxOtlpJsonBytes) return Wrong(message, "a value that is too large");
  return OkStatus();
}

Status OtlpProtoReader::AppendList(std::string_view message, bool is_mapping, int depth, std::string& json) {
  if (depth > kMaxOtlpDepth) return Wrong(message, "a value nested too deep");
  json += is_mapping ? '{' : '[';
  bool any = false;
  const auto read = [&](const ProtoField& field) -> Status {
    if (!field.Is(1, kBytes)) return OkStatus();
    if (any) json += ',';
    any = true;
    if (!is_mapping) return AppendValue(field.bytes, depth, json);
    std::string_view key, value = field.bytes.substr(0, 0);
    const auto read_member = [&](const ProtoField& part) {
      if (part.Is(2, kBytes)) value = part.bytes;
      return part.Is(1, kBytes) ? Text(part, key) : OkStatus();
    };
    SPANBOX_RETURN_IF_ERROR(Each(field.bytes, read_member));
    AppendJsonString(key, json);
    json += ':';
    return AppendValue(value, depth, json);
  };
  SPANBOX_RETURN_IF_ERROR(Each(message, read));
  json += is_mapping ? '}' : ']';
  return OkStatus();
}

}  // namespace

std::unique_ptr<OtlpReader> NewOtlpProtoReader(std::string_view body) {
  return std::make_unique<OtlpProtoReader>(body);
}

}  // namespace spanbox
