#include "base/record_codec.h"

#include <bit>
#include <utility>

#include "base/msgpack.h"

namespace spanbox {
namespace {

Status Malformed(RecordType type, std::string_view what, std::size_t offset) {
  return DataLoss("ring record of type " + std::to_string(static_cast<int>(type)) + ": " + std::string(what) +
                  " at byte " + std::to_string(offset));
}

// A packed scalar becomes a plain value, so that set(x=1) and captured input 1 are stored alike.
// Returns false when the value is no scalar (or is malformed, which AppendJson then reports).
bool UnpackScalar(std::span<const std::byte> packed, Value& value) {
  ByteReader in(packed);
  const auto tag = in.Get<std::uint8_t>();
  if (!in.ok()) return false;
  if (tag < 0x80 || tag >= 0xE0) {
    value = Value::Int(static_cast<std::int8_t>(tag));
  } else if (tag == 0xC2 || tag == 0xC3) {
    value = Value::Bool(tag == 0xC3);
  } else if (tag == 0xCB) {
    value = Value::Float(std::bit_cast<double>(__builtin_bswap64(in.Get<std::uint64_t>())));
  } else if (tag == 0xD3) {
    value = Value::Int(static_cast<std::int64_t>(__builtin_bswap64(in.Get<std::uint64_t>())));
  } else if (tag >= 0xA0 && tag < 0xC0) {
    value = Value::String(in.GetText(tag & 31u));
  } else if (tag == 0xD9) {
    value = Value::String(in.GetText(in.Get<std::uint8_t>()));
  } else if (tag == 0xDA) {
    value = Value::String(in.GetText(__builtin_bswap16(in.Get<std::uint16_t>())));
  } else if (tag == 0xDB) {
    value = Value::String(in.GetText(__builtin_bswap32(in.Get<std::uint32_t>())));
  } else {
    return false;
  }
  return in.ok() && in.remaining() == 0;
}

class Assembler {
 public:
  explicit Assembler(RowArena& arena) : arena_(arena), fields_(arena.NewFields()) {
    row_.status = SpanStatus::kRunning;
  }

  Status Add(const RecordView& record) {
    ByteReader in(record.payload);
    SPANBOX_RETURN_IF_ERROR(Head(record.type, in));
    while (in.remaining() > 0) SPANBOX_RETURN_IF_ERROR(AddField(record.type, in));
    return in.ok() ? OkStatus() : Malformed(record.type, "is truncated", in.offset());
  }

  SpanRow Finish() {
    row_.fields = fields_;
    return row_;
  }

 private:
  Status Head(RecordType type, ByteReader& in) {
    switch (type) {
      case RecordType::kScore:
      case RecordType::kStart: {
        const auto trace = in.GetBytes(row_.trace_id.bytes.size());
        if (in.ok()) std::memcpy(row_.trace_id.bytes.data(), trace.data(), trace.size());
        row_.span_id = in.Get<SpanId>();
        row_.parent_id = in.Get<SpanId>();
        row_.start_ns = in.Get<std::int64_t>();
        const auto kind = in.Get<std::uint8_t>();
        row_.kind = kind < SpanKindNames().size() ? static_cast<SpanKind>(kind) : SpanKind::kSpan;
        row_.name = in.GetText(in.Get<std::uint16_t>());
        break;
      }
      case RecordType::kFields:
        row_.span_id = in.Get<SpanId>();
        break;
      case RecordType::kEnd: {
        row_.span_id = in.Get<SpanId>();
        row_.duration_ns = in.Get<std::int64_t>();
        const auto status = in.Get<std::uint8_t>();
        row_.status = status <= static_cast<std::uint8_t>(SpanStatus::kInterrupted) ? static_cast<SpanStatus>(status)
                                                                                    : SpanStatus::kOk;
        break;
      }
      default:
        return Malformed(type, "has an unknown type", 0);
    }
    return in.ok() ? OkStatus() : Malformed(type, "is truncated", in.offset());
  }

  Status AddField(RecordType type, ByteReader& in) {
    const std::size_t at = in.offset();
    const auto column = in.Get<std::uint16_t>();
    if (column >= kColumnCount) return Malformed(type, "has an unknown column", at);
    Field field;
    field.column = static_cast<Column>(column);
    if (field.column == Column::kAttribute) field.name = in.GetText(in.Get<std::uint16_t>());
    SPANBOX_RETURN_IF_ERROR(ReadValue(type, in, field.value));
    if (field.column >= Column::kTraceId && field.column <= Column::kDurationNs) {
      if (type != RecordType::kScore) OverrideFixed(field);
    } else {
      fields_.push_back(field);
    }
    return OkStatus();
  }

  // A span may be renamed while it runs; ids and times are those of its START and END.
  void OverrideFixed(const Field& field) {
    if (field.value.type != ValueType::kString) return;
    if (field.column == Column::kName) row_.name = field.value.text;
    if (field.column == Column::kKind) row_.kind = SpanKindFromString(field.value.text).value_or(row_.kind);
    if (field.column == Column::kStatus) row_.status = SpanStatusFromString(field.value.text).value_or(row_.status);
  }

  Status ReadValue(RecordType type, ByteReader& in, Value& value) {
    const std::size_t at = in.offset();
    const auto value_type = in.Get<std::uint8_t>();
    switch (value_type) {
      case static_cast<std::uint8_t>(ValueType::kBool):
        value = Value::Bool(in.Get<std::uint8_t>() != 0);
        break;
      case static_cast<std::uint8_t>(ValueType::kInt):
        value = Value::Int(in.Get<std::int64_t>());
        break;
      case static_cast<std::uint8_t>(ValueType::kFloat):
        value = Value::Float(in.Get<double>());
        break;
      case static_cast<std::uint8_t>(ValueType::kString):
        value = Value::String(in.GetText(in.Get<std::uint32_t>()));
        break;
      case static_cast<std::uint8_t>(ValueType::kJson):
        value = Value::Json(in.GetText(in.Get<std::uint32_t>()));
        break;
      case kPackedValue: {
        const auto packed = in.GetBytes(in.Get<std::uint32_t>());
        if (!in.ok() || UnpackScalar(packed, value)) break;
        std::string& json = arena_.NewText();
        SPANBOX_RETURN_IF_ERROR(AppendJson(packed, json));
        value = Value::Json(json);
        break;
      }
      default:
        return Malformed(type, "has an unknown value type", at);
    }
    return in.ok() ? OkStatus() : Malformed(type, "has a truncated value", at);
  }

  RowArena& arena_;
  std::vector<Field>& fields_;
  SpanRow row_;
};

template <typename T>
T& Take(std::deque<T>& pool, std::size_t& used) {
  constexpr std::size_t kKeptItems = 1 << 14;
  if (used == pool.size()) pool.emplace_back();
  T& item = pool[used++];
  // One huge payload must not make its slot huge for ever.
  if (item.capacity() > kKeptItems) item = T();
  item.clear();
  return item;
}

}  // namespace

void RecordWriter::AddField(const Field& field) {
  switch (field.value.type) {
    case ValueType::kBool:
      AddBool(field.column, field.name, field.value.boolean);
      break;
    case ValueType::kInt:
      AddInt(field.column, field.name, field.value.integer);
      break;
    case ValueType::kFloat:
      AddFloat(field.column, field.name, field.value.number);
      break;
    case ValueType::kString:
      AddString(field.column, field.name, field.value.text);
      break;
    case ValueType::kJson:
      Key(field.column, field.name, ValueType::kJson);
      out_.Put(static_cast<std::uint32_t>(field.value.text.size()));
      out_.PutText(field.value.text);
      break;
  }
}

std::vector<Field>& RowArena::NewFields() { return Take(fields_, fields_used_); }
std::string& RowArena::NewText() { return Take(texts_, texts_used_); }
void RowArena::Reset() { fields_used_ = texts_used_ = 0; }

Result<SpanId> SpanIdOf(const RecordView& record) {
  ByteReader in(record.payload);
  if (record.type == RecordType::kStart) in.GetBytes(sizeof(TraceId));
  const auto id = in.Get<SpanId>();
  if (!in.ok()) return Malformed(record.type, "has no span id", in.offset());
  return id;
}

Result<SpanRow> AssembleSpan(std::span<const RecordView> records, RowArena& arena) {
  Assembler assembler(arena);
  for (const RecordView& record : records) SPANBOX_RETURN_IF_ERROR(assembler.Add(record));
  return assembler.Finish();
}

Result<SpanRow> ParseScore(const RecordView& record, RowArena& arena) {
  SPANBOX_ASSIGN_OR_RETURN(SpanRow row, AssembleSpan({&record, 1}, arena));
  row.status = SpanStatus::kOk;
  return row;
}

void WriteBlob(const BlobPiece& piece, ByteBuffer& out) {
  out.Clear();
  out.PutBytes(piece.id.bytes.data(), piece.id.bytes.size());
  out.Put(piece.total_bytes);
  out.Put(piece.offset);
  out.PutBytes(piece.bytes.data(), piece.bytes.size());
}

Result<BlobPiece> ParseBlobRecord(std::span<const std::byte> payload) {
  ByteReader in(payload);
  BlobPiece piece;
  const auto id = in.GetBytes(piece.id.bytes.size());
  if (in.ok()) std::memcpy(piece.id.bytes.data(), id.data(), id.size());
  piece.total_bytes = in.Get<std::uint64_t>();
  piece.offset = in.Get<std::uint64_t>();
  if (!in.ok()) return Malformed(RecordType::kBlob, "is truncated", in.offset());
  piece.bytes = in.GetBytes(in.remaining());
  if (piece.offset > piece.total_bytes || piece.bytes.size() > piece.total_bytes - piece.offset) {
    return Malformed(RecordType::kBlob, "lies outside its blob", 24);
  }
  return piece;
}

void AppendOpenRecord(const RecordView& record, std::string& records) {
  const auto bytes = static_cast<std::uint32_t>(record.payload.size());
  records += static_cast<char>(record.type);
  records.append(reinterpret_cast<const char*>(&bytes), sizeof bytes);
  records.append(reinterpret_cast<const char*>(record.payload.data()), record.payload.size());
}

Result<std::vector<RecordView>> ParseOpenRecords(std::string_view records) {
  ByteReader in(std::as_bytes(std::span(records)));
  std::vector<RecordView> views;
  while (in.remaining() > 0) {
    const std::size_t at = in.offset();
    const auto type = in.Get<std::uint8_t>();
    const auto payload = in.GetBytes(in.Get<std::uint32_t>());
    if (!in.ok()) return DataLoss("open span: record is truncated at byte " + std::to_string(at));
    if (type < 1 || type > 3) return DataLoss("open span: unknown record type at byte " + std::to_string(at));
    views.push_back({static_cast<RecordType>(type), payload});
  }
  return views;
}

}  // namespace spanbox
