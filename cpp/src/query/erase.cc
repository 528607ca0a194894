#include <map>
#include <set>
#include <string>
#include <vector>

#include "query/pattern.h"
#include "query/query_run.h"
#include "spanbox/query.h"

namespace spanbox {
namespace {

// What a captured payload leaves in the text: see docs/capture.md.
constexpr std::string_view kBlobReference = R"re("\$blob": ?"([0-9a-f]{32})")re";

struct Found {
  std::map<std::uint64_t, std::vector<std::uint32_t>> rows;  // by segment
  std::set<std::string> blobs;                               // ids that the rows name
  std::uint64_t spans = 0;
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

Result<Found> FindRows(Store& store, const SpanQuery& query) {
  SPANBOX_ASSIGN_OR_RETURN(const auto reference, CompilePattern(kBlobReference));
  SPANBOX_ASSIGN_OR_RETURN(const auto run, QueryRun::Start(store, query));
  Found found;
  SPANBOX_RETURN_IF_ERROR(run->Visit(run->AllSegments(), [&](const SegmentMeta& segment) -> Status {
    if (segment.id == kOpenSpans) return OkStatus();
    SPANBOX_ASSIGN_OR_RETURN(const auto columns, run->Load(segment));
    SPANBOX_ASSIGN_OR_RETURN(const Bitmap selected, run->Rows(segment, *columns));
    std::vector<std::uint32_t> rows = selected.Rows();
    if (rows.empty()) return OkStatus();
    SPANBOX_RETURN_IF_ERROR(AddBlobs(*columns, rows, *reference, found.blobs));
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
    SPANBOX_ASSIGN_OR_RETURN(const Found found, FindRows(store, query));
    for (const auto& [segment, rows] : found.rows) SPANBOX_RETURN_IF_ERROR(store.RemoveRows(segment, rows));
    erased.spans = found.spans;
    for (const std::string& id : found.blobs) {
      SPANBOX_ASSIGN_OR_RETURN(const GrepResult others, Grep(store, {}, id, false, false, 0));
      if (others.matched > 0) continue;
      SPANBOX_ASSIGN_OR_RETURN(const BlobId blob, BlobIdFromHex(id));
      SPANBOX_RETURN_IF_ERROR(store.RemoveBlob(blob));
      ++erased.blobs;
    }
  }
  if (secure) SPANBOX_RETURN_IF_ERROR(store.WipeFreeSpace());
  return erased;
}

}  // namespace spanbox
