// The chunks of one segment, each decoded at most once during a query.
//
// Thread rule: one thread. Ownership: borrows the segment's bytes; references and strings live as long as this object.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <variant>
#include <vector>

#include "query/bitmap.h"
#include "store/segment.h"

namespace spanbox {

// Tells whether to go on.
class Interrupt {
 public:
  explicit Interrupt(std::function<bool()> cancelled = {}) : cancelled_(std::move(cancelled)) {}
  Status Check() const { return cancelled_ && cancelled_() ? Cancelled("the question was cancelled") : OkStatus(); }

 private:
  std::function<bool()> cancelled_;
};

class SegmentColumns {
 public:
  // `id`: SegmentMeta's, for filters over relatives. `interrupt`, which must outlive this, is asked while text is read.
  explicit SegmentColumns(Segment segment, std::uint64_t id = 0, const Interrupt* interrupt = nullptr)
      : segment_(std::move(segment)), id_(id), interrupt_(interrupt), cache_(segment_.chunks().size()) {}
  SegmentColumns(const SegmentColumns&) = delete;
  SegmentColumns& operator=(const SegmentColumns&) = delete;

  const Segment& segment() const { return segment_; }
  std::uint64_t id() const { return id_; }
  std::uint32_t rows() const { return segment_.rows(); }

  // REQUIRES: chunk is one of segment().chunks(), of the type the method is named after.
  Result<const IntColumn*> Ints(const ChunkInfo& chunk) { return Cached<IntColumn>(chunk, &Segment::ReadInts); }
  Result<const FloatColumn*> Floats(const ChunkInfo& chunk) { return Cached<FloatColumn>(chunk, &Segment::ReadFloats); }
  Result<const BoolColumn*> Bools(const ChunkInfo& chunk) { return Cached<BoolColumn>(chunk, &Segment::ReadBools); }
  Result<const StringColumn*> Strings(const ChunkInfo& chunk) {
    return Cached<StringColumn>(chunk, &Segment::ReadStrings);
  }
  Result<const TraceIdColumn*> TraceIds(const ChunkInfo& chunk) {
    return Cached<TraceIdColumn>(chunk, &Segment::ReadTraceIds);
  }
  Result<const SpanIdColumn*> SpanIds(const ChunkInfo& chunk) {
    return Cached<SpanIdColumn>(chunk, &Segment::ReadSpanIds);
  }
  Result<TextColumn*> Text(const ChunkInfo& chunk);

  // The same without places for rows that have no value, which are those of Valid(chunk).
  Result<const DenseStrings*> DenseStringsOf(const ChunkInfo& chunk);
  Result<const Validity*> Valid(const ChunkInfo& chunk);

  // Columns that every segment has; DataLoss when one is missing.
  Result<const TraceIdColumn*> TraceIds();
  Result<const SpanIdColumn*> SpanIds();
  Result<const IntColumn*> Starts();
  Result<const ChunkInfo*> StartsChunk() const { return Required("start_ns", ColumnType::kInt); }

  // The rows that have a value in this chunk.
  Result<Bitmap> ValidRows(const ChunkInfo& chunk);

 private:
  using Column = std::variant<std::monostate, IntColumn, FloatColumn, BoolColumn, StringColumn, TraceIdColumn,
                              SpanIdColumn, std::unique_ptr<TextColumn>>;
  using Dense = std::variant<std::monostate, DenseStrings>;
  template <typename T, typename Cache>
  Result<const T*> CachedIn(Cache& place, const ChunkInfo& chunk, Result<T> (Segment::*read)(const ChunkInfo&) const);
  template <typename T>
  Result<const T*> Cached(const ChunkInfo& chunk, Result<T> (Segment::*read)(const ChunkInfo&) const) {
    return CachedIn<T>(cache_[chunk.index], chunk, read);
  }
  Result<const ChunkInfo*> Required(std::string_view name, ColumnType type) const;

  Segment segment_;
  std::uint64_t id_;
  const Interrupt* interrupt_;
  std::vector<Column> cache_;                        // by chunk
  std::vector<Dense> dense_;                         // by chunk; empty until one is asked for
  std::vector<std::optional<Validity>> validities_;  // by set; empty until one is asked for
};

template <typename T, typename Cache>
Result<const T*> SegmentColumns::CachedIn(Cache& place, const ChunkInfo& chunk,
                                          Result<T> (Segment::*read)(const ChunkInfo&) const) {
  if (!std::holds_alternative<T>(place)) {
    SPANBOX_ASSIGN_OR_RETURN(place, (segment_.*read)(chunk));
  }
  return &std::get<T>(place);
}

}  // namespace spanbox
