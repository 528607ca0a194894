#include "query/span_filler.h"

#include <algorithm>
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
      case ColumnType::kInt: {
        SPANBOX_ASSIGN_OR_RETURN(const IntColumn* c, columns_.Ints(chunk));
        return Attributes(chunk, *c);
      }
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

  template <typename T>
  Status Attributes(const ChunkInfo& chunk, const T& column) {
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      if (column.valid[rows_[i]]) Add(i, chunk, Cell(column.values[rows_[i]]));
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

void SortAttributes(TraceSpan& span) {
  const auto key = [](const SpanAttribute& attribute) {
    const ColumnInfo* info = FindColumn(attribute.name);
    const bool named = info != nullptr && info->name == attribute.name;
    return std::pair(named ? static_cast<std::uint16_t>(info->column) : kColumnCount, std::string_view(attribute.name));
  };
  std::ranges::sort(span.attributes, [&](const auto& a, const auto& b) { return key(a) < key(b); });
}

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
  SpanFiller filler(columns, rows, spans);
  for (const ChunkInfo& chunk : columns.segment().chunks()) {
    if (Wanted(chunk, parts)) SPANBOX_RETURN_IF_ERROR(filler.Fill(chunk));
  }
  for (TraceSpan& span : spans) SortAttributes(span);
  return OkStatus();
}

}  // namespace spanbox
