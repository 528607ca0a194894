#include <map>
#include <set>
#include <string>
#include <vector>

#include "query/pattern.h"
#include "query/query_run.h"
#include "spanbox/query.h"
#include "spanbox/trace.h"

namespace spanbox {
namespace {

// What a captured payload leaves in the text: see docs/capture.md.
constexpr std::string_view kBlobReference = R"re("\$blob": ?"([0-9a-f]{32})")re";

struct Found {
  std::map<std::uint64_t, std::vector<std::uint32_t>> rows;  // by segment
  std::set<std::string> blobs;                               // ids that the rows name
  std::uint64_t spans = 0, scores = 0;
};

Status AddBlobs(SegmentColumns& columns, const std::vector<std::uint32_t>& rows, const re2::RE2& reference,
                std::set<std::string>& blobs) {
  for (const ChunkInfo& chunk : columns.segment().chunks()) {
    if (chunk.type != ColumnType::kText) continue;
    SPANBOX_ASSIGN_OR_RETURN(TextColumn * text, columns.Text(chunk));
    for (const std::uint32_t row : rows) {
      if (!text->valid(row)) continue;
      SPANBOX_ASSIGN_OR_RETURN(const std::string_view value, text->Get(row));
      re2::StringPiece rest = Piece(value);
      std::string id;
      while (re2::RE2::FindAndConsume(&rest, reference, &id)) blobs.insert(id);
    }
  }
  return OkStatus();
}

// What is erased, so that its scores can be: by trace the spans, and 0 for the trace itself, which goes with its root.
using ErasedSpans = std::map<TraceId, std::set<SpanId>>;

Status NoteSpans(SegmentColumns& columns, const std::vector<std::uint32_t>& rows, ErasedSpans& erased) {
  SPANBOX_ASSIGN_OR_RETURN(const TraceIdColumn* traces, columns.TraceIds());
  SPANBOX_ASSIGN_OR_RETURN(const SpanIdColumn* spans, columns.SpanIds());
  const SpanIdColumn* parents = nullptr;
  if (const ChunkInfo* chunk = columns.segment().Find("parent_id", ColumnType::kSpanId)) {
    SPANBOX_ASSIGN_OR_RETURN(parents, columns.SpanIds(*chunk));
  }
  for (const std::uint32_t row : rows) {
    std::set<SpanId>& of_trace = erased[traces->values[row]];
    of_trace.insert(spans->values[row]);
    if (parents == nullptr || !parents->valid[row]) of_trace.insert(0);
  }
  return OkStatus();
}

// Takes the scores of erased spans out, too; of whole traces when their root or all that was left of them is erased.
Status EraseScores(Store& store, ErasedSpans& erased, const re2::RE2& reference, Found& found) {
  if (erased.empty()) return OkStatus();
  for (auto& [trace, spans] : erased) {
    if (spans.contains(0)) continue;
    SPANBOX_ASSIGN_OR_RETURN(const std::vector<SpanId> left, SpanIdsOf(store, trace));
    if (left.empty()) spans.insert(0);
  }
  std::map<std::uint64_t, std::vector<std::uint32_t>> rows_of;
  {
    SPANBOX_ASSIGN_OR_RETURN(const auto run, QueryRun::Start(store, {.about = About::kScores}));
    SPANBOX_RETURN_IF_ERROR(run->ForEach([&](SegmentColumns& columns, const Bitmap& selected) -> Status {
      SPANBOX_ASSIGN_OR_RETURN(const TraceIdColumn* traces, columns.TraceIds());
      SPANBOX_ASSIGN_OR_RETURN(const SpanIdColumn* spans, columns.SpanIds());
      std::vector<std::uint32_t> rows;
      for (const std::uint32_t row : selected.Rows()) {
        const auto of_trace = erased.find(traces->values[row]);
        if (of_trace != erased.end() && of_trace->second.contains(spans->values[row])) rows.push_back(row);
      }
      if (rows.empty()) return OkStatus();
      SPANBOX_RETURN_IF_ERROR(AddBlobs(columns, rows, reference, found.blobs));
      found.scores += rows.size();
      rows_of.emplace(columns.id(), std::move(rows));
      return OkStatus();
    }));
  }
  for (const auto& [segment, rows] : rows_of) SPANBOX_RETURN_IF_ERROR(store.RemoveRows(segment, rows));
  return OkStatus();
}

Result<bool> IsNamed(Store& store, const std::string& blob) {
  for (const About about : {About::kSpans, About::kScores}) {
    SPANBOX_ASSIGN_OR_RETURN(const GrepResult found, Grep(store, {.about = about}, blob, false, false, 0));
    if (found.matched > 0) return true;
  }
  return false;
}

Result<Found> FindRows(Store& store, const SpanQuery& query, const re2::RE2& reference, ErasedSpans& erased) {
  SPANBOX_ASSIGN_OR_RETURN(const auto run, QueryRun::Start(store, query));
  Found found;
  SPANBOX_RETURN_IF_ERROR(run->Visit(run->AllSegments(), [&](const SegmentMeta& segment) -> Status {
    if (segment.id == kOpenSpans) return OkStatus();
    SPANBOX_ASSIGN_OR_RETURN(const auto columns, run->Load(segment));
    SPANBOX_ASSIGN_OR_RETURN(const Bitmap selected, run->Rows(segment, *columns));
    std::vector<std::uint32_t> rows = selected.Rows();
    if (rows.empty()) return OkStatus();
    SPANBOX_RETURN_IF_ERROR(AddBlobs(*columns, rows, reference, found.blobs));
    SPANBOX_RETURN_IF_ERROR(NoteSpans(*columns, rows, erased));
    found.spans += rows.size();
    found.rows.emplace(segment.id, std::move(rows));
    return OkStatus();
  }));
  return found;
}

}  // namespace

Result<Erased> Erase(Store& store, const SpanQuery& query, bool secure) {
  SPANBOX_ASSIGN_OR_RETURN(const Filter filter, ParseFilter(query.filter));
  if (filter.everything) {
    return InvalidArgument("erasing needs a filter: to erase everything, remove the folder " + store.path());
  }
  Erased erased;
  {
    SPANBOX_ASSIGN_OR_RETURN(const auto pause, store.Pause());
    SPANBOX_ASSIGN_OR_RETURN(const auto reference, CompilePattern(kBlobReference));
    ErasedSpans spans;
    SPANBOX_ASSIGN_OR_RETURN(Found found, FindRows(store, query, *reference, spans));
    for (const auto& [segment, rows] : found.rows) SPANBOX_RETURN_IF_ERROR(store.RemoveRows(segment, rows));
    SPANBOX_RETURN_IF_ERROR(EraseScores(store, spans, *reference, found));
    erased.spans = found.spans;
    erased.scores = found.scores;
    for (const std::string& id : found.blobs) {
      SPANBOX_ASSIGN_OR_RETURN(const bool named, IsNamed(store, id));
      if (named) continue;
      SPANBOX_ASSIGN_OR_RETURN(const BlobId blob, BlobIdFromHex(id));
      SPANBOX_RETURN_IF_ERROR(store.RemoveBlob(blob));
      ++erased.blobs;
    }
  }
  if (secure) SPANBOX_RETURN_IF_ERROR(store.WipeFreeSpace());
  if (secure || erased.spans > 0) SPANBOX_RETURN_IF_ERROR(store.ReleaseFreeSpace());
  return erased;
}

}  // namespace spanbox
