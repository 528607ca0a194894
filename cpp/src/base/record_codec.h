// The payloads of ring records, and how the records of one span become a SpanRow.
//
//   START   trace_id[16] span_id:u64 parent_id:u64 start_ns:i64 kind:u8 name_bytes:u16 name field*
//   FIELDS  span_id:u64 field*
//   END     span_id:u64 duration_ns:i64 status:u8 field*
//   SCORE   as START: what is scored in place of the span, parent_id and kind 0, the time of the score
//   BLOB    id[16] total:u64 offset:u64 bytes
//   field   column:u16 (0: name_bytes:u16 name) type:u8 value
//   value   bool u8 | int i64 | float f64 | string, json, packed: bytes:u32 data
//
// All little-endian, unaligned. `packed` (type 6) is a MessagePack value; decoding turns it into kJson, or into a
// scalar when that is what it holds. Persisted in rings and in the store's open spans: never change, only add types.
//
// Thread rule: not synchronised.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/coding.h"
#include "spanbox/recorder.h"
#include "spanbox/span.h"
#include "spanbox/status.h"

namespace spanbox {

inline constexpr std::uint8_t kPackedValue = 6;

// Writes one payload. Inline throughout: this is the caller's time.
class RecordWriter {
 public:
  explicit RecordWriter(ByteBuffer& out) : out_(out) {}

  // Names longer than 65,535 bytes are cut.
  void Start(const TraceId& trace, SpanId span, SpanId parent, std::int64_t start_ns, SpanKind kind,
             std::string_view name) {
    out_.Clear();
    out_.PutBytes(trace.bytes.data(), trace.bytes.size());
    out_.Put(span);
    out_.Put(parent);
    out_.Put(start_ns);
    out_.Put(static_cast<std::uint8_t>(kind));
    PutName(name);
  }
  // The same with kind, name_bytes and name encoded before.
  void Start(const TraceId& trace, SpanId span, SpanId parent, std::int64_t start_ns, std::string_view head) {
    out_.Clear();
    std::byte* at = out_.Reserve(40 + head.size());
    std::memcpy(at, trace.bytes.data(), 16);
    std::memcpy(at + 16, &span, 8);
    std::memcpy(at + 24, &parent, 8);
    std::memcpy(at + 32, &start_ns, 8);
    std::memcpy(at + 40, head.data(), head.size());
    out_.Advance(40 + head.size());
  }
  void Fields(SpanId span) {
    out_.Clear();
    out_.Put(span);
  }
  void End(SpanId span, std::int64_t duration_ns, SpanStatus status) {
    out_.Clear();
    out_.Put(span);
    out_.Put(duration_ns);
    out_.Put(static_cast<std::uint8_t>(status));
  }

  void AddField(const Field& field);
  void AddBool(Column column, std::string_view name, bool value) {
    Key(column, name, ValueType::kBool);
    out_.Put(static_cast<std::uint8_t>(value));
  }
  void AddInt(Column column, std::string_view name, std::int64_t value) {
    Key(column, name, ValueType::kInt);
    out_.Put(value);
  }
  void AddFloat(Column column, std::string_view name, double value) {
    Key(column, name, ValueType::kFloat);
    out_.Put(value);
  }
  void AddString(Column column, std::string_view name, std::string_view text) {
    if (column != Column::kAttribute) {
      PutSizedKey(column, static_cast<std::uint8_t>(ValueType::kString), static_cast<std::uint32_t>(text.size()));
    } else {
      Key(column, name, ValueType::kString);
      out_.Put(static_cast<std::uint32_t>(text.size()));
    }
    out_.PutText(text);
  }
  void AddJson(Column column, std::string_view name, std::string_view json) {
    Key(column, name, ValueType::kJson);
    out_.Put(static_cast<std::uint32_t>(json.size()));
    out_.PutText(json);
  }
  // Writes a field's key at `at`, where kMaxKeyHead bytes and as many as the name has are free; returns what follows.
  static constexpr std::size_t kMaxKeyHead = 4;
  static std::byte* WriteKey(std::byte* at, Column column, std::string_view name) {
    std::memcpy(at, &column, sizeof(std::uint16_t));
    if (column != Column::kAttribute) return at + sizeof(std::uint16_t);
    const auto size = static_cast<std::uint16_t>(name.size() <= 0xFFFF ? name.size() : 0xFFFF);
    std::memcpy(at + sizeof(std::uint16_t), &size, sizeof size);
    CopyText(at + kMaxKeyHead, name.substr(0, size));
    return at + kMaxKeyHead + size;
  }
  // The key of a named column, a type, and the size of what follows, in one store: 8 bytes at `at` are overwritten.
  static constexpr std::size_t kSizedKeyBytes = 7;
  static void WriteSizedKey(std::byte* at, Column column, std::uint8_t type, std::uint32_t bytes) {
    const std::uint64_t key =
        static_cast<std::uint64_t>(column) | std::uint64_t{type} << 16 | std::uint64_t{bytes} << 24;
    std::memcpy(at, &key, sizeof key);
  }
  // The size, once the field that begins with such a key is known to end at `end`.
  static void PatchSize(std::byte* begin, const std::byte* end) {
    const auto bytes = static_cast<std::uint32_t>(end - begin - static_cast<std::ptrdiff_t>(kSizedKeyBytes));
    std::memcpy(begin + kSizedKeyBytes - sizeof bytes, &bytes, sizeof bytes);
  }
  // Opens a packed field: write one MessagePack value to buffer(), then call EndPacked with what this returned.
  std::size_t BeginPacked(Column column, std::string_view name) {
    if (column != Column::kAttribute) {
      PutSizedKey(column, kPackedValue, 0);
    } else {
      PutKey(column, name);
      out_.Put(kPackedValue);
      out_.Put(std::uint32_t{0});
    }
    return out_.size();
  }
  void EndPacked(std::size_t begin) {
    out_.PatchAt(begin - sizeof(std::uint32_t), static_cast<std::uint32_t>(out_.size() - begin));
  }
  ByteBuffer& buffer() { return out_; }

 private:
  void PutName(std::string_view name) {
    if (name.size() > 0xFFFF) name = name.substr(0, 0xFFFF);
    out_.Put(static_cast<std::uint16_t>(name.size()));
    out_.PutText(name);
  }
  void PutKey(Column column, std::string_view name) {
    std::byte* const begin = out_.Reserve(kMaxKeyHead + name.size());
    out_.Advance(static_cast<std::size_t>(WriteKey(begin, column, name) - begin));
  }
  void Key(Column column, std::string_view name, ValueType type) {
    PutKey(column, name);
    out_.Put(static_cast<std::uint8_t>(type));
  }
  void PutSizedKey(Column column, std::uint8_t type, std::uint32_t bytes) {
    WriteSizedKey(out_.Reserve(sizeof(std::uint64_t)), column, type, bytes);
    out_.Advance(kSizedKeyBytes);
  }

  ByteBuffer& out_;
};

struct RecordView {
  RecordType type;
  std::span<const std::byte> payload;
};

// Owns what decoding has to make: field lists and JSON text. Reset keeps the memory for the next batch.
class RowArena {
 public:
  std::vector<Field>& NewFields();  // valid until Reset
  std::string& NewText();           // valid until Reset
  void Reset();

 private:
  std::deque<std::vector<Field>> fields_;
  std::deque<std::string> texts_;
  std::size_t fields_used_ = 0;
  std::size_t texts_used_ = 0;
};

// The span id a record is about; DataLoss when the payload is too short.
Result<SpanId> SpanIdOf(const RecordView& record);

// One row from the records of one span, in the order they were written. Strings point into the payloads or the arena.
// Without a START the name is empty and the trace id invalid; without an END the status is kRunning and the duration
// unknown. DataLoss with the offset on malformed bytes. Inline lists of a record after a malformed field are not
// guessed.
Result<SpanRow> AssembleSpan(std::span<const RecordView> records, RowArena& arena);

// Adds to a row what its attributes mean; what is added lives in the arena.
using RowFinisher = void (*)(SpanRow& row, RowArena& arena);
// Set before the first thread records, by whoever links a layer that knows (wire/recorded.h). nullptr: rows stay.
inline RowFinisher finish_row = nullptr;

// AssembleSpan of all records of a span, as it is to be stored or shown.
inline Result<SpanRow> AssembleWholeSpan(std::span<const RecordView> records, RowArena& arena) {
  Result<SpanRow> row = AssembleSpan(records, arena);
  if (row.ok() && finish_row != nullptr) finish_row(*row, arena);
  return row;
}

// The row of a SCORE record (spanbox/score.h). Strings point into the payload or the arena.
Result<SpanRow> ParseScore(const RecordView& record, RowArena& arena);

// A BLOB record's payload: its head goes before the bytes.
inline constexpr std::size_t kBlobHeadBytes = 32;
void WriteBlob(const BlobPiece& piece, ByteBuffer& out);
Result<BlobPiece> ParseBlobRecord(std::span<const std::byte> payload);  // points into the payload

// The bytes of OpenSpan::records: (type:u8 payload_bytes:u32 payload)*.
void AppendOpenRecord(const RecordView& record, std::string& records);
Result<std::vector<RecordView>> ParseOpenRecords(std::string_view records);

}  // namespace spanbox
