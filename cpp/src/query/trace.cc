#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>

#include <algorithm>
#include <map>

#include "query/lexer.h"
#include "query/query_run.h"
#include "query/segment_columns.h"
#include "spanbox/query.h"

namespace spanbox {
namespace {

constexpr std::uint32_t kNoSpan = 0xFFFFFFFF;
constexpr std::size_t kMinPrefix = 4, kHexDigits = 32;

// Puts one chunk's values into the spans made from `rows`.
class SpanFiller {
 public:
  SpanFiller(SegmentColumns& columns, std::span<const std::uint32_t> rows, std::span<TraceSpan> spans)
      : columns_(columns), rows_(rows), spans_(spans) {}

  Status Fill(const ChunkInfo& chunk) {
    switch (chunk.type) {
      case ColumnType::kInt:
        return Ints(chunk);
      case ColumnType::kFloat: {
        SPANBOX_ASSIGN_OR_RETURN(const FloatColumn* c, columns_.Floats(chunk));
        return Attributes(chunk, *c);
      }
      case ColumnType::kBool: {
        SPANBOX_ASSIGN_OR_RETURN(const BoolColumn* c, columns_.Bools(chunk));
        for (std::size_t i = 0; i < rows_.size(); ++i) {
          if (c->valid[rows_[i]]) Add(i, chunk, Cell(c->values[rows_[i]] != 0));
        }
        return OkStatus();
      }
      case ColumnType::kString:
        return Strings(chunk);
      case ColumnType::kText:
        return Text(chunk);
      case ColumnType::kTraceId: {
        SPANBOX_ASSIGN_OR_RETURN(const TraceIdColumn* c, columns_.TraceIds(chunk));
        for (std::size_t i = 0; i < rows_.size(); ++i) spans_[i].trace_id = c->values[rows_[i]];
        return OkStatus();
      }
      case ColumnType::kSpanId: {
        SPANBOX_ASSIGN_OR_RETURN(const SpanIdColumn* c, columns_.SpanIds(chunk));
        for (std::size_t i = 0; i < rows_.size(); ++i) {
          const SpanId id = c->valid[rows_[i]] ? c->values[rows_[i]] : 0;
          (chunk.column == Column::kParentId ? spans_[i].parent_id : spans_[i].span_id) = id;
        }
        return OkStatus();
      }
    }
    return OkStatus();
  }

 private:
  void Add(std::size_t i, const ChunkInfo& chunk, Cell value, bool is_json = false) {
    spans_[i].attributes.push_back({std::string(chunk.name), std::move(value), is_json});
  }

  template <typename T>
  Status Attributes(const ChunkInfo& chunk, const T& column) {
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      if (column.valid[rows_[i]]) Add(i, chunk, Cell(column.values[rows_[i]]));
    }
    return OkStatus();
  }

  Status Ints(const ChunkInfo& chunk) {
    SPANBOX_ASSIGN_OR_RETURN(const IntColumn* c, columns_.Ints(chunk));
    if (chunk.column != Column::kStartNs && chunk.column != Column::kDurationNs) return Attributes(chunk, *c);
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      if (!c->valid[rows_[i]]) continue;
      (chunk.column == Column::kStartNs ? spans_[i].start_ns : spans_[i].duration_ns) = c->values[rows_[i]];
    }
    return OkStatus();
  }

  Status Strings(const ChunkInfo& chunk) {
    SPANBOX_ASSIGN_OR_RETURN(const StringColumn* c, columns_.Strings(chunk));
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      if (!c->valid[rows_[i]]) continue;
      Put(i, chunk, c->dictionary[c->codes[rows_[i]]], false);
    }
    return OkStatus();
  }

  Status Text(const ChunkInfo& chunk) {
    SPANBOX_ASSIGN_OR_RETURN(TextColumn * c, columns_.Text(chunk));
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      if (!c->valid(rows_[i])) continue;
      SPANBOX_ASSIGN_OR_RETURN(const std::string_view text, c->Get(rows_[i]));
      Put(i, chunk, text, c->is_json(rows_[i]));
    }
    return OkStatus();
  }

  void Put(std::size_t i, const ChunkInfo& chunk, std::string_view value, bool is_json) {
    switch (chunk.column) {
      case Column::kName:
        spans_[i].name = value;
        break;
      case Column::kKind:
        spans_[i].kind = SpanKindFromString(value).value_or(SpanKind::kSpan);
        break;
      case Column::kStatus:
        spans_[i].status = SpanStatusFromString(value).value_or(SpanStatus::kOk);
        break;
      default:
        Add(i, chunk, std::string(value), is_json);
    }
  }

  SegmentColumns& columns_;
  std::span<const std::uint32_t> rows_;
  std::span<TraceSpan> spans_;
};

void SortAttributes(TraceSpan& span) {
  const auto key = [](const SpanAttribute& attribute) {
    const ColumnInfo* info = FindColumn(attribute.name);
    const bool named = info != nullptr && info->name == attribute.name;
    return std::pair(named ? static_cast<std::uint16_t>(info->column) : kColumnCount, std::string_view(attribute.name));
  };
  std::ranges::sort(span.attributes, [&](const auto& a, const auto& b) { return key(a) < key(b); });
}

// Calls fn(segment, SegmentColumns&, rows) for every segment that holds spans of the trace. Open spans come last.
template <typename Fn>
Status ForEachPart(Store& store, const TraceId& trace, Fn fn) {
  SPANBOX_ASSIGN_OR_RETURN(const std::unique_ptr<ReadView> view, store.Read());
  for (const SegmentMeta& segment : view->segments()) {
    if (!segment.MayHold(trace)) continue;
    SPANBOX_ASSIGN_OR_RETURN(Segment loaded, view->Load(segment));
    SPANBOX_ASSIGN_OR_RETURN(const std::vector<std::uint32_t> rows, loaded.RowsOfTrace(trace));
    if (rows.empty()) continue;
    SegmentColumns columns(std::move(loaded));
    SPANBOX_RETURN_IF_ERROR(fn(segment, columns, rows));
  }
  return OkStatus();
}

// Orders spans as a tree, depth first, without recursion: traces may be deeper than the stack.
class TreeBuilder {
 public:
  explicit TreeBuilder(std::vector<TraceSpan> spans) : spans_(std::move(spans)), parent_(spans_.size(), kNoSpan) {
    std::ranges::sort(spans_, {}, [](const TraceSpan& span) { return std::pair(span.start_ns, span.span_id); });
    absl::flat_hash_map<SpanId, std::uint32_t> by_id;
    for (std::uint32_t i = 0; i < spans_.size(); ++i) by_id.try_emplace(spans_[i].span_id, i);
    for (std::uint32_t i = 0; i < spans_.size(); ++i) {
      const auto parent = by_id.find(spans_[i].parent_id);
      if (parent != by_id.end()) parent_[i] = parent->second;
    }
  }

  std::vector<TraceSpan> Build() && {
    CutCycles();
    std::vector<std::vector<std::uint32_t>> children(spans_.size());
    std::vector<std::uint32_t> stack;
    for (std::uint32_t i = static_cast<std::uint32_t>(spans_.size());
         i-- > 0;) {  // latest first: a stack turns it round
      (parent_[i] == kNoSpan ? stack : children[parent_[i]]).push_back(i);
    }
    std::vector<TraceSpan> ordered;
    ordered.reserve(spans_.size());
    while (!stack.empty()) {
      const std::uint32_t i = stack.back();
      stack.pop_back();
      for (const std::uint32_t child : children[i]) {
        spans_[child].depth = spans_[i].depth + 1;
        stack.push_back(child);
      }
      ordered.push_back(std::move(spans_[i]));
    }
    return ordered;
  }

 private:
  // Walks up from every span; a walk that meets itself has found a cycle, whose earliest span becomes a root.
  void CutCycles() {
    std::vector<std::uint32_t> walk_of(spans_.size(), kNoSpan);
    for (std::uint32_t start = 0; start < spans_.size(); ++start) {
      std::uint32_t i = start;
      for (; i != kNoSpan && walk_of[i] == kNoSpan; i = parent_[i]) walk_of[i] = start;
      if (i == kNoSpan || walk_of[i] != start) continue;
      std::uint32_t earliest = i;
      for (std::uint32_t j = parent_[i]; j != i; j = parent_[j]) earliest = std::min(earliest, j);
      parent_[earliest] = kNoSpan;
    }
  }

  std::vector<TraceSpan> spans_;       // by start
  std::vector<std::uint32_t> parent_;  // index into spans_
};

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

Result<std::vector<TraceSpan>> TraceOf(Store& store, const TraceId& trace) {
  std::vector<TraceSpan> spans;
  absl::flat_hash_set<SpanId> stored;
  const auto add = [&](const SegmentMeta& segment, SegmentColumns& columns, const auto& rows) {
    std::vector<TraceSpan> part(rows.size());
    SpanFiller filler(columns, rows, part);
    for (const ChunkInfo& chunk : columns.segment().chunks()) SPANBOX_RETURN_IF_ERROR(filler.Fill(chunk));
    for (TraceSpan& span : part) {
      if (segment.id == kOpenSpans && stored.contains(span.span_id)) continue;
      if (segment.id != kOpenSpans) stored.insert(span.span_id);
      SortAttributes(span);
      spans.push_back(std::move(span));
    }
    return OkStatus();
  };
  SPANBOX_RETURN_IF_ERROR(ForEachPart(store, trace, add));
  if (spans.empty()) return NotFound("no trace " + ToHex(trace) + " in " + store.path());
  return TreeBuilder(std::move(spans)).Build();
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
