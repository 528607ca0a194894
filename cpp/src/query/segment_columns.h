// The chunks of one segment, each decoded at most once during a query.
//
// Thread rule: one thread. Ownership: borrows the segment's bytes; references and strings live as long as this object.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <variant>
#include <vector>

#include "query/bitmap.h"
#include "store/segment.h"

namespace spanbox {

// Tells whether to go on. Any thread may ask; only the one that made it asks `cancelled`.
class Interrupt {
 public:
  explicit Interrupt(std::function<bool()> cancelled = {}) : cancelled_(std::move(cancelled)) {}
  Status Check() const {
    if (!stopped_ && cancelled_ && std::this_thread::get_id() == asker_ && cancelled_()) stopped_ = true;
    return stopped_ ? Cancelled("the question was cancelled") : OkStatus();
  }
  void Stop() const { stopped_ = true; }  // for all threads

 private:
  const std::function<bool()> cancelled_;
  const std::thread::id asker_ = std::this_thread::get_id();
  mutable std::atomic<bool> stopped_{false};
};

// What is wanted of a score that has a number and a label.
enum class Prefer { kNumber, kLabel };

class LatestScores;  // query/latest_scores.h
using ScoresByName = std::map<std::string, LatestScores, std::less<>>;

// Values of some rows, as many as these.
template <typename T>
struct Points {
  std::vector<T> values;            // 0 or empty where there is none
  std::vector<std::uint8_t> valid;  // 0 or 1
};

class SegmentColumns {
 public:
  // `id`: SegmentMeta's, for filters over relatives. `interrupt` is asked while text is read. `scores`: what columns
  // called score.* are. Both must outlive this.
  explicit SegmentColumns(Segment segment, std::uint64_t id = 0, const Interrupt* interrupt = nullptr,
                          const ScoresByName* scores = nullptr)
      : segment_(std::move(segment)),
        id_(id),
        interrupt_(interrupt),
        scores_(scores),
        cache_(segment_.chunks().size()),
        dense_(segment_.chunks().size()) {}
  SegmentColumns(const SegmentColumns&) = delete;
  SegmentColumns& operator=(const SegmentColumns&) = delete;

  const Segment& segment() const { return segment_; }
  std::uint64_t id() const { return id_; }
  std::uint32_t rows() const { return segment_.rows(); }

  // The chunks of a column, or of a score: of those there are no chunks in the segment, but the rows are joined with
  // their scores.
  Result<std::vector<const ChunkInfo*>> Find(std::string_view column, Prefer prefer = Prefer::kNumber);

  // REQUIRES: chunk is one of segment().chunks(), or from Find, of the type the method is named after.
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
  Status VisitNumbers(const ChunkInfo& chunk, const Segment::NumberVisitor& visit,
                      const Segment::NumberTest& skip = nullptr);
  Result<const DenseStrings*> DenseStringsOf(const ChunkInfo& chunk);
  Result<const Validity*> Valid(const ChunkInfo& chunk);
  // Chunks with the same number have the same Valid; 0: all rows.
  std::size_t ValiditySet(const ChunkInfo& chunk) const {
    if (!IsScore(chunk)) return segment_.ValiditySet(chunk);
    return segment_.validity_sets() + chunk.index - segment_.chunks().size();
  }
  std::size_t validity_sets() const { return segment_.validity_sets() + score_chunks_.size(); }

  // Of these rows alone: few that ascend are looked up, for others the chunk is decoded. Numbers are ints, bools as 0
  // or 1, or floats as their bits.
  Result<Points<std::int64_t>> NumbersAt(const ChunkInfo& chunk, std::span<const std::uint32_t> rows);
  Result<Points<std::string_view>> StringsAt(const ChunkInfo& chunk, std::span<const std::uint32_t> rows);
  Result<Points<SpanId>> SpanIdsAt(const ChunkInfo& chunk, std::span<const std::uint32_t> rows);
  Result<std::vector<TraceId>> TraceIdsAt(std::span<const std::uint32_t> rows);
  Result<Points<SpanId>> SpanIdsAt(std::span<const std::uint32_t> rows);
  Result<Points<std::int64_t>> StartsAt(std::span<const std::uint32_t> rows);
  bool AreFew(const ChunkInfo& chunk, std::span<const std::uint32_t> rows) const;
  bool AreFew(const ChunkInfo& chunk, std::size_t rows) const;  // that ascend

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
  Status JoinScores(std::string_view column, const LatestScores& scores, Prefer prefer,
                    std::vector<const ChunkInfo*>& chunks);
  bool IsScore(const ChunkInfo& chunk) const { return chunk.index >= segment_.chunks().size(); }
  // Which of some rows have a value, and where these stand among the chunk's.
  struct RowPlaces {
    std::vector<std::uint32_t> places;
    std::vector<std::uint8_t> valid;  // by row
  };
  Result<const RowPlaces*> PlacesOf(const ChunkInfo& chunk, std::span<const std::uint32_t> rows);
  Result<const ChunkInfo*> Required(std::string_view name, ColumnType type) const;

  Segment segment_;
  std::uint64_t id_;
  const Interrupt* interrupt_;
  const ScoresByName* scores_;
  // By chunk, those of scores last. Deques: what is in them stays where it is when scores are joined.
  std::deque<Column> cache_;
  std::deque<Dense> dense_;
  std::vector<std::optional<Validity>> validities_;  // by set; empty until one is asked for
  std::deque<ChunkInfo> score_chunks_;
  std::map<std::pair<std::string, Prefer>, std::vector<const ChunkInfo*>> joined_;
  // Of the rows asked for last: columns of a trace are asked for one after the other.
  std::vector<std::uint32_t> placed_rows_;
  std::vector<std::optional<RowPlaces>> row_places_;  // by set
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
