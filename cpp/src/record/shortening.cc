#include "record/shortening.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "base/hash.h"
#include "base/msgpack.h"
#include "base/record_codec.h"

namespace spanbox {
namespace {

constexpr std::size_t kKeptBytes = 160;  // of a value; those that have no more stay whole
constexpr std::size_t kHashedBytes = 256 << 10;

std::string_view Head(std::string_view text) {
  std::size_t bytes = std::min(text.size(), kKeptBytes);
  while (bytes > 0 && bytes < text.size() && (static_cast<unsigned char>(text[bytes]) & 0xC0u) == 0x80) --bytes;
  return text.substr(0, bytes);
}

std::string HashOf(std::string_view text) {
  return ToHex(Hash64(std::as_bytes(std::span(text.substr(0, kHashedBytes)))));
}

std::string CutText(std::string_view text) {
  const std::string_view head = Head(text);
  return std::string(head) + "\u2026 (xxh3 " + HashOf(text) + ", +" + std::to_string(text.size() - head.size()) +
         " bytes)";
}

std::string CutJson(std::string_view json) {
  std::string cut = "{\"$cut\":" + std::to_string(json.size()) + ",\"type\":\"application/json\",\"xxh3\":\"" +
                    HashOf(json) + "\",\"head\":";
  AppendJsonString(Head(json), cut);
  return cut + "}";
}

void AddShort(const Field& field, RecordWriter& record) {
  const bool is_text = field.value.type == ValueType::kString || field.value.type == ValueType::kJson;
  if (!is_text || field.value.text.size() <= kKeptBytes) return record.AddField(field);
  if (field.value.type == ValueType::kString) {
    record.AddString(field.column, field.name, CutText(field.value.text));
  } else {
    record.AddJson(field.column, field.name, CutJson(field.value.text));
  }
}

}  // namespace

bool ShortenRecord(RecordType type, std::span<const std::byte> payload, ByteBuffer& out) {
  if (payload.size() <= kShortPayloadBytes || (type != RecordType::kStart && type != RecordType::kEnd)) return false;
  RowArena arena;
  const RecordView whole{type, payload};
  const auto row = AssembleSpan({&whole, 1}, arena);
  if (!row.ok()) return false;
  RecordWriter record(out);
  if (type == RecordType::kStart) {
    record.Start(row->trace_id, row->span_id, row->parent_id, row->start_ns, row->kind, row->name);
  } else {
    record.End(row->span_id, row->duration_ns, row->status);
  }
  for (const Field& field : row->fields) AddShort(field, record);
  record.AddBool(Column::kAttribute, "truncated", true);
  return out.size() <= kShortPayloadBytes;
}

}  // namespace spanbox
