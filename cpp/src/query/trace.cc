#include "spanbox/trace.h"

#include <algorithm>
#include <map>

#include "query/lexer.h"
#include "query/query_run.h"
#include "query/segment_columns.h"
#include "query/span_filler.h"

namespace spanbox {
namespace {

constexpr std::size_t kMinPrefix = 4, kHexDigits = 32;

// Calls fn(segment, SegmentColumns&, rows) for every segment that holds spans, or scores, of the trace. Open spans come
// last.
template <typename Fn>
Status ForEachPart(Store& store, const TraceId& trace, Fn fn, About about = About::kSpans) {
  SPANBOX_ASSIGN_OR_RETURN(const std::unique_ptr<ReadView> view, store.Read());
  for (const SegmentMeta& segment : about == About::kScores ? view->scores() : view->segments()) {
    if (!view->MayHold(segment, trace)) continue;
    SPANBOX_ASSIGN_OR_RETURN(Segment loaded, view->Load(segment));
    SPANBOX_ASSIGN_OR_RETURN(const std::vector<std::uint32_t> rows, loaded.RowsOfTrace(trace));
    if (rows.empty()) continue;
    SegmentColumns columns(std::move(loaded));
    SPANBOX_RETURN_IF_ERROR(fn(segment, columns, rows));
  }
  return OkStatus();
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// The smallest and the largest id that begin with the digits.
Result<std::pair<TraceId, TraceId>> PrefixRange(std::string_view digits) {
  const bool hex = std::ranges::all_of(digits, [](char c) { return HexDigit(c) >= 0; });
  if (!hex || digits.size() < kMinPrefix || digits.size() > kHexDigits) {
    return InvalidArgument(Quoted(digits) + " does not begin a trace id: give 4 to 32 hexadecimal digits");
  }
  std::pair<TraceId, TraceId> range;
  for (std::size_t i = 0; i < kHexDigits; ++i) {
    const int shift = i % 2 == 0 ? 4 : 0;
    const int low = i < digits.size() ? HexDigit(digits[i]) : 0, high = i < digits.size() ? low : 15;
    range.first.bytes[i / 2] = static_cast<std::uint8_t>(range.first.bytes[i / 2] | low << shift);
    range.second.bytes[i / 2] = static_cast<std::uint8_t>(range.second.bytes[i / 2] | high << shift);
  }
  return range;
}

}  // namespace

Result<std::vector<TraceSpan>> ScoresOf(Store& store, const TraceId& trace) {
  std::vector<TraceSpan> scores;
  const auto add = [&](const SegmentMeta&, SegmentColumns& columns, const auto& rows) {
    std::vector<TraceSpan> part(rows.size());
    SPANBOX_ASSIGN_OR_RETURN(const TraceIdColumn* traces, columns.TraceIds());
    SPANBOX_ASSIGN_OR_RETURN(const SpanIdColumn* spans, columns.SpanIds());
    SPANBOX_ASSIGN_OR_RETURN(const IntColumn* times, columns.Starts());
    SPANBOX_RETURN_IF_ERROR(FillSpans(columns, rows, SpanParts::kEverything, part));
    for (std::size_t i = 0; i < part.size(); ++i) {
      part[i].trace_id = traces->values[rows[i]];
      part[i].span_id = spans->values[rows[i]];
      part[i].start_ns = times->values[rows[i]];
    }
    scores.insert(scores.end(), std::make_move_iterator(part.begin()), std::make_move_iterator(part.end()));
    return OkStatus();
  };
  SPANBOX_RETURN_IF_ERROR(ForEachPart(store, trace, add, About::kScores));
  std::ranges::stable_sort(scores, {}, &TraceSpan::start_ns);
  return scores;
}

Result<std::vector<SpanId>> SpanIdsOf(Store& store, const TraceId& trace) {
  std::vector<SpanId> ids;
  const auto add = [&](const SegmentMeta& segment, SegmentColumns& columns, const auto& rows) {
    if (segment.id == kOpenSpans) return OkStatus();
    SPANBOX_ASSIGN_OR_RETURN(const SpanIdColumn* column, columns.SpanIds());
    for (const std::uint32_t row : rows) ids.push_back(column->values[row]);
    return OkStatus();
  };
  SPANBOX_RETURN_IF_ERROR(ForEachPart(store, trace, add));
  return ids;
}

Result<std::vector<TraceId>> FindTraces(Store& store, std::string_view hex_prefix, std::uint64_t limit) {
  SPANBOX_ASSIGN_OR_RETURN(const auto range, PrefixRange(hex_prefix));
  SPANBOX_ASSIGN_OR_RETURN(const std::unique_ptr<ReadView> view, store.Read());
  std::map<TraceId, std::int64_t> first_start_ns;
  for (const SegmentMeta& segment : view->segments()) {
    if (segment.max_trace < TracePrefix(range.first) || segment.min_trace > TracePrefix(range.second)) continue;
    SPANBOX_ASSIGN_OR_RETURN(Segment loaded, view->Load(segment));
    SegmentColumns columns(std::move(loaded));
    SPANBOX_ASSIGN_OR_RETURN(const TraceIdColumn* traces, columns.TraceIds());
    SPANBOX_ASSIGN_OR_RETURN(const IntColumn* starts, columns.Starts());
    for (std::uint32_t row = 0; row < columns.rows(); ++row) {
      const TraceId& id = traces->values[row];
      if (id < range.first || id > range.second) continue;
      const auto place = first_start_ns.try_emplace(id, starts->values[row]).first;
      place->second = std::min(place->second, starts->values[row]);
    }
  }
  std::vector<std::pair<std::int64_t, TraceId>> newest;
  for (const auto& [id, start_ns] : first_start_ns) newest.emplace_back(start_ns, id);
  std::ranges::sort(newest, std::greater<>());
  std::vector<TraceId> traces;
  for (const auto& [start_ns, id] : newest) {
    if (traces.size() == limit) break;
    traces.push_back(id);
  }
  return traces;
}

}  // namespace spanbox
