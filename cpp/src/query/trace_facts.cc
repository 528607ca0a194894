#include "query/trace_facts.h"

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "query/numbers.h"

namespace spanbox {
namespace {

constexpr std::uint32_t kFewTraces = 4;  // are looked up one by one, without reading the column of all ids

Result<TraceRows> RowsOf(SegmentColumns& columns, const TraceNumbers& traces) {
  TraceRows found;
  if (traces.count() <= kFewTraces) {
    std::vector<std::pair<std::vector<std::uint32_t>, std::uint32_t>> runs;  // of neighbours
    for (std::uint32_t number = 0; number < traces.count(); ++number) {
      SPANBOX_ASSIGN_OR_RETURN(auto rows, columns.segment().RowsOfTrace(traces.ids()[number]));
      runs.emplace_back(std::move(rows), number);
    }
    std::ranges::sort(runs);
    for (const auto& [rows, number] : runs) {
      found.rows.insert(found.rows.end(), rows.begin(), rows.end());
      found.trace.resize(found.rows.size(), number);
    }
    return found;
  }
  SPANBOX_ASSIGN_OR_RETURN(const TraceIdColumn* ids, columns.TraceIds());
  std::uint32_t number = TraceNumbers::kNone;
  for (std::uint32_t row = 0; row < columns.rows(); ++row) {
    if (row == 0 || ids->values[row] != ids->values[row - 1]) number = traces.Find(ids->values[row]);
    if (number == TraceNumbers::kNone) continue;
    found.rows.push_back(row);
    found.trace.push_back(number);
  }
  return found;
}

template <typename T, typename Parse>
Status ReadNames(SegmentColumns& columns, std::string_view column, std::span<const std::uint32_t> rows, Parse parse,
                 T SpanFacts::*field, std::span<SpanFacts> spans) {
  const ChunkInfo* chunk = columns.segment().Find(column, ColumnType::kString);
  if (chunk == nullptr) return OkStatus();
  if (columns.AreFew(*chunk, rows)) {
    SPANBOX_ASSIGN_OR_RETURN(const Points<std::string_view> names, columns.StringsAt(*chunk, rows));
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (names.valid[i] != 0) spans[i].*field = parse(names.values[i]).value_or(T{});
    }
    return OkStatus();
  }
  SPANBOX_ASSIGN_OR_RETURN(const StringColumn* c, columns.Strings(*chunk));
  std::vector<T> values;
  for (const std::string_view name : c->dictionary) values.push_back(parse(name).value_or(T{}));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (c->valid[rows[i]]) spans[i].*field = values[c->codes[rows[i]]];
  }
  return OkStatus();
}

std::optional<std::int64_t> TokensOf(std::int64_t number) { return number; }
std::optional<std::int64_t> TokensOf(double number) {
  constexpr double kLimit = 9.2e18;
  if (!(std::abs(number) < kLimit)) return std::nullopt;
  return static_cast<std::int64_t>(number);
}

Status ReadUsages(SegmentColumns& columns, std::span<const std::uint32_t> rows, std::span<SpanFacts> spans,
                  std::vector<Usage>& usages) {
  const auto usage_of = [&](std::size_t i) -> Usage* {
    if (!IsModelCall(spans[i].kind)) return nullptr;
    if (spans[i].usage == SpanFacts::kNoUsage) {
      spans[i].usage = static_cast<std::uint32_t>(usages.size());
      usages.emplace_back();
    }
    return &usages[spans[i].usage];
  };
  static constexpr std::pair<std::string_view, std::optional<std::int64_t> Usage::*> kTokens[] = {
      {"input_tokens", &Usage::input_tokens},
      {"cache_read_tokens", &Usage::cache_read_tokens},
      {"cache_write_tokens", &Usage::cache_write_tokens},
      {"output_tokens", &Usage::output_tokens},
      {"reasoning_tokens", &Usage::reasoning_tokens},
  };
  for (const auto& [column, field] : kTokens) {
    SPANBOX_RETURN_IF_ERROR(ForEachNumber(columns, column, rows, [&, field = field](std::size_t i, auto number) {
      if (Usage* usage = usage_of(i); usage != nullptr) usage->*field = TokensOf(number);
    }));
  }
  return ForEachNumber(columns, "cost_usd", rows, [&](std::size_t i, auto number) {
    const auto cost_usd = static_cast<double>(number);
    if (!std::isfinite(cost_usd)) return;
    if (Usage* usage = usage_of(i); usage != nullptr) usage->cost_usd = cost_usd;
  });
}

}  // namespace

Status ForEachTracePart(ReadView& view, const TraceNumbers& traces, const Interrupt& interrupt,
                        const TracePartVisitor& visit) {
  std::vector<const SegmentMeta*> segments;
  if (traces.count() <= kFewTraces) {
    for (const TraceId& trace : traces.ids()) {
      const std::vector<const SegmentMeta*> holders = view.Holders(trace);
      segments.insert(segments.end(), holders.begin(), holders.end());
    }
    std::ranges::sort(segments);
    segments.erase(std::unique(segments.begin(), segments.end()), segments.end());
  } else {
    for (const SegmentMeta& segment : view.segments()) {
      if (traces.MayBeIn(segment)) segments.push_back(&segment);
    }
  }
  for (const SegmentMeta* segment : segments) {
    SPANBOX_RETURN_IF_ERROR(interrupt.Check());
    SPANBOX_ASSIGN_OR_RETURN(Segment loaded, view.Load(*segment));
    auto columns = std::make_unique<SegmentColumns>(std::move(loaded), segment->id, &interrupt);
    SPANBOX_ASSIGN_OR_RETURN(const TraceRows rows, RowsOf(*columns, traces));
    if (!rows.rows.empty()) SPANBOX_RETURN_IF_ERROR(visit(*segment, std::move(columns), rows));
  }
  return OkStatus();
}

Status AppendFacts(SegmentColumns& columns, const TraceRows& rows, std::uint32_t part, TraceFacts& facts) {
  const std::size_t first = facts.spans.size();
  if (rows.rows.size() > SpanTree::kNone / 2 - first) return ResourceExhausted("too many spans: ask for less");
  facts.spans.resize(first + rows.rows.size());
  const std::span<SpanFacts> spans = std::span(facts.spans).subspan(first);
  SPANBOX_ASSIGN_OR_RETURN(const Points<SpanId> ids, columns.SpanIdsAt(rows.rows));
  SPANBOX_ASSIGN_OR_RETURN(const Points<std::int64_t> starts, columns.StartsAt(rows.rows));
  for (std::size_t i = 0; i < spans.size(); ++i) {
    spans[i].span_id = ids.values[i];
    spans[i].start_ns = starts.values[i];
    spans[i].trace = rows.trace[i];
    spans[i].part = part;
    spans[i].row = rows.rows[i];
  }
  if (const ChunkInfo* chunk = columns.segment().Find("parent_id", ColumnType::kSpanId); chunk != nullptr) {
    SPANBOX_ASSIGN_OR_RETURN(const Points<SpanId> parents, columns.SpanIdsAt(*chunk, rows.rows));
    for (std::size_t i = 0; i < spans.size(); ++i) spans[i].parent_id = parents.values[i];
  }
  if (const ChunkInfo* chunk = columns.segment().Find("duration_ns", ColumnType::kInt); chunk != nullptr) {
    SPANBOX_ASSIGN_OR_RETURN(const Points<std::int64_t> durations, columns.NumbersAt(*chunk, rows.rows));
    for (std::size_t i = 0; i < spans.size(); ++i) {
      spans[i].duration_ns = durations.valid[i] != 0 ? durations.values[i] : -1;
    }
  }
  SPANBOX_RETURN_IF_ERROR(ReadNames(columns, "kind", rows.rows, SpanKindFromString, &SpanFacts::kind, spans));
  SPANBOX_RETURN_IF_ERROR(ReadNames(columns, "status", rows.rows, SpanStatusFromString, &SpanFacts::status, spans));
  return ReadUsages(columns, rows.rows, spans, facts.usages);
}

void DropStored(std::size_t first_open, TraceFacts& facts) {
  if (first_open >= facts.spans.size()) return;
  absl::flat_hash_set<std::pair<std::uint32_t, SpanId>> open;
  for (std::size_t i = first_open; i < facts.spans.size(); ++i) {
    open.emplace(facts.spans[i].trace, facts.spans[i].span_id);
  }
  absl::flat_hash_set<std::pair<std::uint32_t, SpanId>> stored;
  for (std::size_t i = 0; i < first_open; ++i) {
    const std::pair key(facts.spans[i].trace, facts.spans[i].span_id);
    if (open.contains(key)) stored.insert(key);
  }
  const auto from = facts.spans.begin() + static_cast<std::ptrdiff_t>(first_open);
  const auto is_stored = [&](const SpanFacts& span) { return stored.contains({span.trace, span.span_id}); };
  facts.spans.erase(std::remove_if(from, facts.spans.end(), is_stored), facts.spans.end());
}

std::vector<std::uint32_t> GroupByTrace(std::uint32_t traces, std::vector<SpanFacts>& spans) {
  std::vector<std::uint32_t> ends(traces);
  for (const SpanFacts& span : spans) ++ends[span.trace];
  std::vector<std::uint32_t> next(traces);
  std::uint32_t total = 0;
  for (std::uint32_t trace = 0; trace < traces; ++trace) {
    next[trace] = total;
    total += ends[trace];
    ends[trace] = total;
  }
  std::vector<SpanFacts> grouped(spans.size());
  for (const SpanFacts& span : spans) grouped[next[span.trace]++] = span;
  spans = std::move(grouped);
  return ends;
}

}  // namespace spanbox
