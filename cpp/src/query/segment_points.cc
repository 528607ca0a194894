// The values of some of a segment's rows: few are looked up, for many the chunk is decoded.

#include <algorithm>
#include <bit>

#include "query/segment_columns.h"

namespace spanbox {
namespace {

// Looking one value up takes about as long as decoding so many.
constexpr std::size_t kValuesPerLookUp = 16;

// REQUIRES: rows ascend.
std::vector<std::uint32_t> PlacesAmong(const Validity& validity, std::span<const std::uint32_t> rows,
                                       std::vector<std::uint8_t>& valid) {
  valid.assign(rows.size(), 1);
  if (validity.all()) return {rows.begin(), rows.end()};
  std::vector<std::uint32_t> places;
  std::uint32_t before = 0;
  std::size_t word = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::uint32_t row = rows[i];
    for (; word < row / 64; ++word) before += static_cast<std::uint32_t>(std::popcount(validity.words[word]));
    valid[i] = validity[row] ? 1 : 0;
    if (valid[i] == 0) continue;
    const std::uint64_t lower = validity.words[word] & ((std::uint64_t{1} << (row % 64)) - 1);
    places.push_back(before + static_cast<std::uint32_t>(std::popcount(lower)));
  }
  return places;
}

// Moves the values that were found to the rows that have one.
template <typename T>
void SpreadOver(std::vector<T>& found, Points<T>& points) {
  if (found.size() == points.valid.size()) {
    points.values = std::move(found);
    return;
  }
  points.values.assign(points.valid.size(), T{});
  std::size_t next = 0;
  for (std::size_t i = 0; i < points.valid.size(); ++i) {
    if (points.valid[i] != 0) points.values[i] = found[next++];
  }
}

template <typename T, typename Of>
Points<T> Gathered(const Validity& validity, std::span<const std::uint32_t> rows, Of of) {
  Points<T> points;
  for (const std::uint32_t row : rows) {
    points.valid.push_back(validity[row] ? 1 : 0);
    points.values.push_back(validity[row] ? of(row) : T{});
  }
  return points;
}

}  // namespace

bool SegmentColumns::AreFew(const ChunkInfo& chunk, std::span<const std::uint32_t> rows) const {
  return AreFew(chunk, rows.size()) && std::ranges::is_sorted(rows);
}

bool SegmentColumns::AreFew(const ChunkInfo& chunk, std::size_t rows) const {
  return !IsScore(chunk) && std::holds_alternative<std::monostate>(cache_[chunk.index]) &&
         rows * kValuesPerLookUp < segment_.rows();
}

Result<const SegmentColumns::RowPlaces*> SegmentColumns::PlacesOf(const ChunkInfo& chunk,
                                                                  std::span<const std::uint32_t> rows) {
  if (!std::ranges::equal(rows, placed_rows_)) {
    placed_rows_.assign(rows.begin(), rows.end());
    row_places_.clear();
  }
  row_places_.resize(segment_.validity_sets());
  std::optional<RowPlaces>& found = row_places_[segment_.ValiditySet(chunk)];
  if (!found) {
    SPANBOX_ASSIGN_OR_RETURN(const Validity* validity, Valid(chunk));
    found.emplace();
    found->places = PlacesAmong(*validity, rows, found->valid);
  }
  return &*found;
}

Result<Points<std::int64_t>> SegmentColumns::NumbersAt(const ChunkInfo& chunk, std::span<const std::uint32_t> rows) {
  if (AreFew(chunk, rows)) {
    SPANBOX_ASSIGN_OR_RETURN(const RowPlaces* at, PlacesOf(chunk, rows));
    Points<std::int64_t> points{{}, at->valid};
    std::vector<std::int64_t> found(at->places.size());
    if (!found.empty()) SPANBOX_RETURN_IF_ERROR(segment_.NumbersAt(chunk, at->places, found));
    SpreadOver(found, points);
    return points;
  }
  const auto gather = [&](const auto& column) {
    return Gathered<std::int64_t>(column.valid, rows, [&](std::uint32_t row) {
      if constexpr (requires { std::bit_cast<std::int64_t>(column.values[row]); }) {
        return std::bit_cast<std::int64_t>(column.values[row]);
      } else {
        return std::int64_t{column.values[row]};
      }
    });
  };
  if (chunk.type == ColumnType::kFloat) {
    SPANBOX_ASSIGN_OR_RETURN(const FloatColumn* floats, Floats(chunk));
    return gather(*floats);
  }
  if (chunk.type == ColumnType::kBool) {
    SPANBOX_ASSIGN_OR_RETURN(const BoolColumn* bools, Bools(chunk));
    return gather(*bools);
  }
  SPANBOX_ASSIGN_OR_RETURN(const IntColumn* ints, Ints(chunk));
  return gather(*ints);
}

Result<Points<std::string_view>> SegmentColumns::StringsAt(const ChunkInfo& chunk,
                                                           std::span<const std::uint32_t> rows) {
  if (AreFew(chunk, rows)) {
    SPANBOX_ASSIGN_OR_RETURN(const RowPlaces* at, PlacesOf(chunk, rows));
    Points<std::string_view> points{{}, at->valid};
    std::vector<std::string_view> found(at->places.size());
    if (!found.empty()) SPANBOX_RETURN_IF_ERROR(segment_.StringsAt(chunk, at->places, found));
    SpreadOver(found, points);
    return points;
  }
  SPANBOX_ASSIGN_OR_RETURN(const StringColumn* strings, Strings(chunk));
  return Gathered<std::string_view>(strings->valid, rows,
                                    [&](std::uint32_t row) { return strings->dictionary[strings->codes[row]]; });
}

Result<Points<SpanId>> SegmentColumns::SpanIdsAt(const ChunkInfo& chunk, std::span<const std::uint32_t> rows) {
  // A chunk that lies there plainly need not be decoded for anybody.
  const bool plain = !IsScore(chunk) && chunk.column == spanbox::Column::kSpanId && std::ranges::is_sorted(rows);
  if (plain || AreFew(chunk, rows)) {
    SPANBOX_ASSIGN_OR_RETURN(const RowPlaces* at, PlacesOf(chunk, rows));
    Points<SpanId> points{{}, at->valid};
    std::vector<std::uint32_t> with_value;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (points.valid[i] != 0) with_value.push_back(rows[i]);
    }
    std::vector<SpanId> found(at->places.size());
    if (!found.empty()) SPANBOX_RETURN_IF_ERROR(segment_.SpanIdsAt(chunk, with_value, at->places, found));
    SpreadOver(found, points);
    if (segment_.ValiditySet(chunk) == 0) {  // a score's is 0 when it is about a whole trace
      for (std::size_t i = 0; i < rows.size(); ++i) points.valid[i] = points.values[i] != 0 ? 1 : 0;
    }
    return points;
  }
  SPANBOX_ASSIGN_OR_RETURN(const SpanIdColumn* ids, SpanIds(chunk));
  return Gathered<SpanId>(ids->valid, rows, [&](std::uint32_t row) { return ids->values[row]; });
}

Result<std::vector<TraceId>> SegmentColumns::TraceIdsAt(std::span<const std::uint32_t> rows) {
  SPANBOX_ASSIGN_OR_RETURN(const ChunkInfo* chunk, Required("trace_id", ColumnType::kTraceId));
  if (AreFew(*chunk, rows)) return segment_.TraceIdsAt(rows);
  SPANBOX_ASSIGN_OR_RETURN(const TraceIdColumn* ids, TraceIds(*chunk));
  std::vector<TraceId> found;
  for (const std::uint32_t row : rows) found.push_back(ids->values[row]);
  return found;
}

Result<Points<std::int64_t>> SegmentColumns::StartsAt(std::span<const std::uint32_t> rows) {
  SPANBOX_ASSIGN_OR_RETURN(const ChunkInfo* chunk, StartsChunk());
  return NumbersAt(*chunk, rows);
}

Result<Points<SpanId>> SegmentColumns::SpanIdsAt(std::span<const std::uint32_t> rows) {
  SPANBOX_ASSIGN_OR_RETURN(const ChunkInfo* chunk, Required("span_id", ColumnType::kSpanId));
  return SpanIdsAt(*chunk, rows);
}

}  // namespace spanbox
