#include "query/span_filler.h"

#include <algorithm>
#include <bit>
#include <string>
#include <utility>

namespace spanbox {
namespace {

// Puts one chunk's values into the spans of `rows`.
class SpanFiller {
 public:
  SpanFiller(SegmentColumns& columns, std::span<const std::uint32_t> rows, std::span<TraceSpan> spans)
      : columns_(columns), rows_(rows), spans_(spans) {}

  Status Fill(const ChunkInfo& chunk) {
    switch (chunk.type) {
      case ColumnType::kInt:
        return Numbers(chunk, [](std::int64_t value) { return Cell(value); });
      case ColumnType::kFloat:
        return Numbers(chunk, [](std::int64_t value) { return Cell(std::bit_cast<double>(value)); });
      case ColumnType::kBool:
        return Numbers(chunk, [](std::int64_t value) { return Cell(value != 0); });
      case ColumnType::kString:
        return Strings(chunk);
      case ColumnType::kText:
        return Text(chunk);
      case ColumnType::kTraceId:
      case ColumnType::kSpanId:
        break;
    }
    return OkStatus();
  }

 private:
  void Add(std::size_t i, const ChunkInfo& chunk, Cell value, bool is_json = false) {
    spans_[i].attributes.push_back({std::string(chunk.name), std::move(value), is_json});
  }

  template <typename ToCell>
  Status Numbers(const ChunkInfo& chunk, ToCell to_cell) {
    SPANBOX_ASSIGN_OR_RETURN(const Points<std::int64_t> points, columns_.NumbersAt(chunk, rows_));
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      if (points.valid[i] != 0) Add(i, chunk, to_cell(points.values[i]));
    }
    return OkStatus();
  }

  Status Strings(const ChunkInfo& chunk) {
    SPANBOX_ASSIGN_OR_RETURN(const Points<std::string_view> points, columns_.StringsAt(chunk, rows_));
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      if (points.valid[i] != 0) Put(i, chunk, points.values[i], false);
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
    if (chunk.column == Column::kName) {
      spans_[i].name = value;
    } else {
      Add(i, chunk, std::string(value), is_json);
    }
  }

  SegmentColumns& columns_;
  std::span<const std::uint32_t> rows_;
  std::span<TraceSpan> spans_;
};

bool Wanted(const ChunkInfo& chunk, SpanParts parts) {
  switch (chunk.column) {
    case Column::kName:
      return true;
    case Column::kTraceId:
    case Column::kSpanId:
    case Column::kParentId:
    case Column::kKind:
    case Column::kStatus:
    case Column::kStartNs:
    case Column::kDurationNs:
      return false;
    case Column::kErrorMessage:
      return parts != SpanParts::kTree;
    case Column::kInput:
    case Column::kOutput:
    case Column::kEvents:
    case Column::kLinks:
      return parts == SpanParts::kEverything;
    default:
      return parts == SpanParts::kEverything || (parts == SpanParts::kAttributes && chunk.type != ColumnType::kText);
  }
}

}  // namespace

Status FillSpans(SegmentColumns& columns, std::span<const std::uint32_t> rows, SpanParts parts,
                 std::span<TraceSpan> spans) {
  // In the order attributes are to have: named columns first, then by name.
  std::vector<const ChunkInfo*> wanted;
  for (const ChunkInfo& chunk : columns.segment().chunks()) {
    if (Wanted(chunk, parts)) wanted.push_back(&chunk);
  }
  std::ranges::sort(wanted, {}, [](const ChunkInfo* chunk) {
    const bool named = chunk->column != Column::kAttribute;
    return std::pair(named ? static_cast<std::uint16_t>(chunk->column) : kColumnCount, chunk->name);
  });
  SpanFiller filler(columns, rows, spans);
  for (const ChunkInfo* chunk : wanted) SPANBOX_RETURN_IF_ERROR(filler.Fill(*chunk));
  return OkStatus();
}

}  // namespace spanbox
