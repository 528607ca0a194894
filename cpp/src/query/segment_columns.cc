#include "query/segment_columns.h"

#include <algorithm>
#include <bit>

#include "query/latest_scores.h"

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

// The values of a score's column without those of rows that have none.
template <typename To, typename Column>
Buffer<To> Densified(const Column& column, const auto& values, std::uint32_t count) {
  Buffer<To> dense(count);
  To* to = dense.data();
  for (std::size_t word = 0; word < column.valid.words.size(); ++word) {
    for (std::uint64_t bits = column.valid.words[word]; bits != 0; bits &= bits - 1) {
      *to++ = std::bit_cast<To>(values[word * 64 + static_cast<std::size_t>(std::countr_zero(bits))]);
    }
  }
  return dense;
}

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

Status SegmentColumns::VisitNumbers(const ChunkInfo& chunk, const Segment::NumberVisitor& visit,
                                    const Segment::NumberTest& skip) {
  if (!IsScore(chunk)) return segment_.VisitNumbers(chunk, visit, skip);
  Buffer<std::int64_t> numbers;
  if (const auto* ints = std::get_if<IntColumn>(&cache_[chunk.index])) {
    numbers = Densified<std::int64_t>(*ints, ints->values, chunk.valid_count);
  } else if (const auto* floats = std::get_if<FloatColumn>(&cache_[chunk.index])) {
    numbers = Densified<std::int64_t>(*floats, floats->values, chunk.valid_count);
  } else if (const auto* bools = std::get_if<BoolColumn>(&cache_[chunk.index])) {
    const std::vector<std::int64_t> values(bools->values.begin(), bools->values.end());
    numbers = Densified<std::int64_t>(*bools, values, chunk.valid_count);
  }
  visit(0, {numbers.data(), numbers.size()});
  return OkStatus();
}

Result<const DenseStrings*> SegmentColumns::DenseStringsOf(const ChunkInfo& chunk) {
  Dense& place = dense_[chunk.index];
  if (IsScore(chunk) && std::holds_alternative<std::monostate>(place)) {
    const auto& labels = std::get<StringColumn>(cache_[chunk.index]);
    place = DenseStrings{labels.dictionary, Densified<std::uint32_t>(labels, labels.codes, chunk.valid_count)};
  }
  return CachedIn<DenseStrings>(place, chunk, &Segment::ReadDenseStrings);
}

Result<const Validity*> SegmentColumns::Valid(const ChunkInfo& chunk) {
  if (IsScore(chunk)) {
    return std::visit(
        [](const auto& column) -> Result<const Validity*> {
          if constexpr (requires { column.valid.words; }) return &column.valid;
          return Internal("a score has no such values");
        },
        cache_[chunk.index]);
  }
  validities_.resize(segment_.validity_sets());
  std::optional<Validity>& validity = validities_[segment_.ValiditySet(chunk)];
  if (!validity) {
    SPANBOX_ASSIGN_OR_RETURN(validity, segment_.ReadValidity(chunk));
  }
  return &*validity;
}

Result<std::vector<const ChunkInfo*>> SegmentColumns::Find(std::string_view column, Prefer prefer) {
  const auto name = ScoreNameOf(column);
  if (!name || scores_ == nullptr) return segment_.Find(column);
  const auto scores = scores_->find(*name);
  if (scores == scores_->end() || scores->second.empty()) return segment_.Find(column);
  const auto [place, is_new] = joined_.try_emplace({std::string(column), prefer});
  if (is_new) SPANBOX_RETURN_IF_ERROR(JoinScores(place->first.first, scores->second, prefer, place->second));
  return place->second;
}

Status SegmentColumns::JoinScores(std::string_view column, const LatestScores& scores, Prefer prefer,
                                  std::vector<const ChunkInfo*>& chunks) {
  SPANBOX_ASSIGN_OR_RETURN(LatestScores::Joined joined, scores.Join(*this, prefer));
  std::int64_t low = 0, high = 1;
  const auto add = [&](auto& values, ColumnType type) {
    if (!values) return;
    ChunkInfo& chunk = score_chunks_.emplace_back();
    chunk.name = column;
    chunk.type = type;
    chunk.min_int = low;
    chunk.max_int = high;
    for (const std::uint64_t word : values->valid.words) {
      chunk.valid_count += static_cast<std::uint32_t>(std::popcount(word));
    }
    chunk.index = static_cast<std::uint32_t>(cache_.size());
    cache_.emplace_back(*std::move(values));
    dense_.emplace_back();
    chunks.push_back(&chunk);
  };
  add(joined.floats, ColumnType::kFloat);
  add(joined.bools, ColumnType::kBool);
  add(joined.labels, ColumnType::kString);
  if (joined.ints) {
    const auto range = std::ranges::minmax(joined.ints->values);
    low = range.min;
    high = range.max;
  }
  add(joined.ints, ColumnType::kInt);
  return OkStatus();
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
  if (chunk.type == ColumnType::kSpanId && chunk.valid_count == segment_.rows()) {  // 0 is no id
    SPANBOX_ASSIGN_OR_RETURN(const SpanIdColumn* ids, SpanIds(chunk));
    rows &= ids->valid;
  } else if (chunk.valid_count != segment_.rows()) {
    SPANBOX_ASSIGN_OR_RETURN(const Validity* valid, Valid(chunk));
    rows &= *valid;
  }
  return rows;
}

}  // namespace spanbox
