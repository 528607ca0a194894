#include "query/segment_columns.h"

namespace spanbox {
namespace {

// Text is what takes long: a value may have its whole block unpacked.
constexpr std::size_t kBytesBetweenChecks = 64 << 10, kBytesOfAValue = 64;

class InterruptibleText : public TextColumn {
 public:
  InterruptibleText(std::unique_ptr<TextColumn> column, const Interrupt& interrupt)
      : column_(std::move(column)), interrupt_(interrupt) {}

  bool valid(std::uint32_t row) const override { return column_->valid(row); }
  bool is_json(std::uint32_t row) const override { return column_->is_json(row); }
  std::uint32_t size_bytes(std::uint32_t row) const override { return column_->size_bytes(row); }
  TextPlace place(std::uint32_t row) const override { return column_->place(row); }
  Result<std::string_view> Get(std::uint32_t row) override {
    read_bytes_ += kBytesOfAValue + column_->size_bytes(row);
    if (read_bytes_ >= kBytesBetweenChecks) {
      read_bytes_ = 0;
      SPANBOX_RETURN_IF_ERROR(interrupt_.Check());
    }
    return column_->Get(row);
  }

 private:
  std::unique_ptr<TextColumn> column_;
  const Interrupt& interrupt_;
  std::size_t read_bytes_ = 0;  // since the last check
};

}  // namespace

Result<TextColumn*> SegmentColumns::Text(const ChunkInfo& chunk) {
  auto& place = cache_[chunk.index];
  if (!std::holds_alternative<std::unique_ptr<TextColumn>>(place)) {
    SPANBOX_ASSIGN_OR_RETURN(std::unique_ptr<TextColumn> text, segment_.ReadText(chunk));
    if (interrupt_ != nullptr) text = std::make_unique<InterruptibleText>(std::move(text), *interrupt_);
    place = std::move(text);
  }
  return std::get<std::unique_ptr<TextColumn>>(place).get();
}

Result<const DenseStrings*> SegmentColumns::DenseStringsOf(const ChunkInfo& chunk) {
  dense_.resize(segment_.chunks().size());
  return CachedIn<DenseStrings>(dense_[chunk.index], chunk, &Segment::ReadDenseStrings);
}

Result<const Validity*> SegmentColumns::Valid(const ChunkInfo& chunk) {
  validities_.resize(segment_.validity_sets());
  std::optional<Validity>& validity = validities_[segment_.ValiditySet(chunk)];
  if (!validity) {
    SPANBOX_ASSIGN_OR_RETURN(validity, segment_.ReadValidity(chunk));
  }
  return &*validity;
}

Result<const ChunkInfo*> SegmentColumns::Required(std::string_view name, ColumnType type) const {
  const ChunkInfo* chunk = segment_.Find(name, type);
  if (chunk == nullptr) return DataLoss("a segment has no column " + std::string(name) + ": run verify on the store");
  return chunk;
}

Result<const TraceIdColumn*> SegmentColumns::TraceIds() {
  SPANBOX_ASSIGN_OR_RETURN(const ChunkInfo* chunk, Required("trace_id", ColumnType::kTraceId));
  return TraceIds(*chunk);
}

Result<const SpanIdColumn*> SegmentColumns::SpanIds() {
  SPANBOX_ASSIGN_OR_RETURN(const ChunkInfo* chunk, Required("span_id", ColumnType::kSpanId));
  return SpanIds(*chunk);
}

Result<const IntColumn*> SegmentColumns::Starts() {
  SPANBOX_ASSIGN_OR_RETURN(const ChunkInfo* chunk, StartsChunk());
  return Ints(*chunk);
}

Result<Bitmap> SegmentColumns::ValidRows(const ChunkInfo& chunk) {
  Bitmap rows(segment_.rows(), true);
  if (chunk.valid_count == segment_.rows()) return rows;
  switch (chunk.type) {
    case ColumnType::kInt: {
      SPANBOX_ASSIGN_OR_RETURN(const auto* c, Ints(chunk));
      rows &= c->valid;
      break;
    }
    case ColumnType::kFloat: {
      SPANBOX_ASSIGN_OR_RETURN(const auto* c, Floats(chunk));
      rows &= c->valid;
      break;
    }
    case ColumnType::kBool: {
      SPANBOX_ASSIGN_OR_RETURN(const auto* c, Bools(chunk));
      rows &= c->valid;
      break;
    }
    case ColumnType::kString: {
      SPANBOX_ASSIGN_OR_RETURN(const auto* c, Strings(chunk));
      rows &= c->valid;
      break;
    }
    case ColumnType::kSpanId: {
      SPANBOX_ASSIGN_OR_RETURN(const auto* c, SpanIds(chunk));
      rows &= c->valid;
      break;
    }
    case ColumnType::kTraceId:
      break;
    case ColumnType::kText: {
      SPANBOX_ASSIGN_OR_RETURN(const TextColumn* text, Text(chunk));
      Bitmap with_text(segment_.rows());
      with_text.SetWhere([&](std::uint32_t row) { return text->valid(row); });
      rows &= with_text;
    }
  }
  return rows;
}

}  // namespace spanbox
