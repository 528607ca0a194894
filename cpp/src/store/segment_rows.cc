#include "store/segment_rows.h"

namespace spanbox {
namespace {

constexpr std::uint32_t kNotAdopted = 0xFFFFFFFF;
constexpr std::uint32_t kLargeBlockBytes = kTextBlockBytes / 2;  // smaller ones are packed together

}  // namespace

Result<SegmentRows> SegmentRows::Open(const Segment& segment, SegmentBuilder* adopter) {
  SegmentRows rows;
  rows.text_ = &segment.text();
  rows.adopter_ = adopter;
  rows.adopted_blocks_.assign(segment.text_blocks(), kNotAdopted);
  for (const ChunkInfo& chunk : segment.chunks()) SPANBOX_RETURN_IF_ERROR(rows.Load(segment, chunk));
  return rows;
}

Status SegmentRows::Load(const Segment& segment, const ChunkInfo& chunk) {
  Other other{chunk, {}};
  switch (chunk.type) {
    case ColumnType::kTraceId: {
      SPANBOX_ASSIGN_OR_RETURN(auto column, segment.ReadTraceIds(chunk));
      trace_ids_ = std::move(column.values);
      return OkStatus();
    }
    case ColumnType::kSpanId: {
      SPANBOX_ASSIGN_OR_RETURN(auto column, segment.ReadSpanIds(chunk));
      (chunk.column == Column::kParentId ? parent_ids_ : span_ids_) = std::move(column.values);
      return OkStatus();
    }
    case ColumnType::kInt: {
      SPANBOX_ASSIGN_OR_RETURN(auto column, segment.ReadInts(chunk));
      if (chunk.column == Column::kStartNs) {
        starts_ = std::move(column.values);
        return OkStatus();
      }
      other.column = std::move(column);
      break;
    }
    case ColumnType::kFloat: {
      SPANBOX_ASSIGN_OR_RETURN(other.column, segment.ReadFloats(chunk));
      break;
    }
    case ColumnType::kBool: {
      SPANBOX_ASSIGN_OR_RETURN(other.column, segment.ReadBools(chunk));
      break;
    }
    case ColumnType::kString: {
      SPANBOX_ASSIGN_OR_RETURN(other.column, segment.ReadStrings(chunk));
      break;
    }
    case ColumnType::kText: {
      SPANBOX_ASSIGN_OR_RETURN(other.column, segment.ReadText(chunk));
      break;
    }
  }
  others_.push_back(std::move(other));
  return OkStatus();
}

// False when the row has no value there.
Result<bool> SegmentRows::FillField(const Other& other, std::uint32_t row, Field& field) {
  field.column = other.info.column;
  field.name = field.column == Column::kAttribute ? other.info.name : std::string_view{};
  if (const auto* ints = std::get_if<IntColumn>(&other.column)) {
    field.value = Value::Int(ints->values[row]);
    return ints->valid[row];
  }
  if (const auto* floats = std::get_if<FloatColumn>(&other.column)) {
    field.value = Value::Float(floats->values[row]);
    return floats->valid[row];
  }
  if (const auto* bools = std::get_if<BoolColumn>(&other.column)) {
    field.value = Value::Bool(bools->values[row] != 0);
    return bools->valid[row];
  }
  if (const auto* strings = std::get_if<StringColumn>(&other.column)) {
    if (!strings->valid[row]) return false;
    field.value = Value::String(strings->dictionary[strings->codes[row]]);
    return true;
  }
  TextColumn& text = *std::get<std::unique_ptr<TextColumn>>(other.column);
  if (!text.valid(row)) return false;
  SPANBOX_RETURN_IF_ERROR(FillText(text, row, field));
  return true;
}

Status SegmentRows::FillText(TextColumn& text, std::uint32_t row, Field& field) {
  TextPlace place = text.place(row);
  const TextBlockInfo& info = text_->infos()[place.block];
  std::string_view value;
  const bool is_field = field.column != Column::kName;  // the name is a part of SpanRow: its text is needed
  if (adopter_ != nullptr && is_field && info.raw_bytes >= kLargeBlockBytes && info.codec != TextCodec::kZstdBase) {
    std::uint32_t& number = adopted_blocks_[place.block];
    if (number == kNotAdopted) {
      SPANBOX_ASSIGN_OR_RETURN(const auto stored, text_->Stored(place.block));
      number = adopter_->Adopt(stored, info);
    }
    place.block = number;
    adopted_.push_back({fields_.size(), place});
  } else {
    SPANBOX_ASSIGN_OR_RETURN(value, text.Get(row));
  }
  field.value = text.is_json(row) ? Value::Json(value) : Value::String(value);
  return OkStatus();
}

Result<SpanRow> SegmentRows::Row(std::uint32_t row) {
  SpanRow span;
  span.trace_id = trace_ids_[row];
  span.span_id = span_ids_[row];
  if (!parent_ids_.empty()) span.parent_id = parent_ids_[row];
  span.start_ns = starts_[row];
  fields_.clear();
  adopted_.clear();
  Field field;
  for (const Other& other : others_) {
    SPANBOX_ASSIGN_OR_RETURN(const bool has, FillField(other, row, field));
    if (!has) continue;
    switch (field.column) {
      case Column::kName:
        span.name = field.value.text;
        break;
      case Column::kKind:
        span.kind = SpanKindFromString(field.value.text).value_or(SpanKind::kSpan);
        break;
      case Column::kStatus:
        span.status = SpanStatusFromString(field.value.text).value_or(SpanStatus::kOk);
        break;
      case Column::kDurationNs:
        span.duration_ns = field.value.integer;
        break;
      default:
        fields_.push_back(field);
    }
  }
  span.fields = fields_;
  return span;
}

}  // namespace spanbox
