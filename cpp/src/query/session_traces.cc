#include "query/session_traces.h"

#include <algorithm>

#include "query/numbers.h"

namespace spanbox {

Status ForEachText(SegmentColumns& columns, std::string_view column, std::span<const std::uint32_t> rows,
                   const std::function<void(std::size_t i, std::string_view text)>& fn) {
  for (const ChunkInfo* chunk : columns.segment().Find(column)) {
    if (chunk->type == ColumnType::kString) {
      SPANBOX_ASSIGN_OR_RETURN(const StringColumn* c, columns.Strings(*chunk));
      for (std::size_t i = 0; i < rows.size(); ++i) {
        if (c->valid[rows[i]]) fn(i, c->dictionary[c->codes[rows[i]]]);
      }
    } else if (chunk->type == ColumnType::kInt) {
      SPANBOX_ASSIGN_OR_RETURN(const IntColumn* c, columns.Ints(*chunk));
      for (std::size_t i = 0; i < rows.size(); ++i) {
        if (c->valid[rows[i]]) fn(i, NumberText(c->values[rows[i]]));
      }
    } else if (chunk->type == ColumnType::kText) {
      SPANBOX_ASSIGN_OR_RETURN(TextColumn * c, columns.Text(*chunk));
      for (std::size_t i = 0; i < rows.size(); ++i) {
        if (!c->valid(rows[i])) continue;
        SPANBOX_ASSIGN_OR_RETURN(const std::string_view text, c->Get(rows[i]));
        fn(i, text);
      }
    }
  }
  return OkStatus();
}

void SessionTraces::See(const TraceId& trace, std::int64_t start_ns, std::string_view id) {
  const std::uint32_t session = ids_.Intern(id);
  if (session == active_ns_.size()) active_ns_.push_back(start_ns);
  active_ns_[session] = std::max(active_ns_[session], start_ns);
  const std::uint32_t number = traces_.NumberOf(trace);
  if (number == session_.size()) {
    session_.push_back(session);
    named_ns_.push_back(start_ns);
  } else if (std::pair(start_ns, id) < std::pair(named_ns_[number], std::string_view(ids_[session_[number]]))) {
    session_[number] = session;
    named_ns_[number] = start_ns;
  }
}

Status SessionTraces::Read(ReadView& view, const TraceNumbers* among, const Interrupt& interrupt) {
  std::vector<std::uint32_t> rows;
  for (const SegmentMeta& segment : view.segments()) {
    if (among != nullptr && !among->MayBeIn(segment)) continue;
    SPANBOX_RETURN_IF_ERROR(interrupt.Check());
    SPANBOX_ASSIGN_OR_RETURN(Segment loaded, view.Load(segment));
    if (loaded.Find("session_id").empty()) continue;
    SegmentColumns columns(std::move(loaded), segment.id, &interrupt);
    SPANBOX_ASSIGN_OR_RETURN(const TraceIdColumn* ids, columns.TraceIds());
    SPANBOX_ASSIGN_OR_RETURN(const IntColumn* starts, columns.Starts());
    rows.clear();
    for (std::uint32_t row = 0; row < columns.rows(); ++row) {
      if (among == nullptr || among->Find(ids->values[row]) != TraceNumbers::kNone) rows.push_back(row);
    }
    SPANBOX_RETURN_IF_ERROR(ForEachText(columns, "session_id", rows, [&](std::size_t i, std::string_view id) {
      See(ids->values[rows[i]], starts->values[rows[i]], id);
    }));
  }
  return OkStatus();
}

}  // namespace spanbox
