#include <chrono>
#include <numeric>

#include "base/record_codec.h"
#include "store/blobs.h"
#include "store/cell_runs.h"
#include "store/disk.h"
#include "store/rollup.h"
#include "store/segment_cells.h"
#include "store/segment_rows.h"
#include "store/store_impl.h"

namespace spanbox {
namespace {

constexpr Table kSegmentTables[] = {Table::kSegments, Table::kScores, Table::kRollups};

// Longest time one read transaction is held: a longer one makes the file grow while others write.
constexpr auto kSlice = std::chrono::seconds(1);

// All of it, which are to be cells of so many spans.
Status ReadCells(Bytes bytes, std::uint64_t rows) {
  SPANBOX_ASSIGN_OR_RETURN(const SegmentCells cells, SegmentCells::Open(bytes));
  for (const auto* table : {&cells.whole, &cells.buckets}) {
    if (!table->has_value()) continue;
    SPANBOX_ASSIGN_OR_RETURN(const std::vector<std::uint64_t> spans, SpansOfCells((*table)->rows));
    if (std::accumulate(spans.begin(), spans.end(), std::uint64_t{0}) != rows) {
      return DataLoss("cells count another number of spans than there are");
    }
    for (std::size_t measure = 0; measure < kSketchedMeasures; ++measure) {
      if (!SegmentCells::Sketches(measure, table == &cells.buckets)) continue;
      SPANBOX_ASSIGN_OR_RETURN(CellSketches sketches, (*table)->Sketches((*table)->rows, measure));
      DDSketch all;
      DDSketch::Part part;
      for (std::uint32_t row = 0; row < (*table)->rows.rows(); ++row) {
        SPANBOX_ASSIGN_OR_RETURN(const bool any, sketches.Get(row, part));
        if (any) SPANBOX_RETURN_IF_ERROR(all.Merge(part));
      }
    }
  }
  return OkStatus();
}

Status ReadEverything(const Txn& txn, Table table, const SegmentRecord& record) {
  SPANBOX_ASSIGN_OR_RETURN(const Segment segment, LoadSegment(txn, record));
  if (segment.text_blocks() != record.text_blocks) return DataLoss("has another number of text blocks than its record");
  if (table == Table::kRollups) return RollupBuilder().AddCells(segment);
  SPANBOX_RETURN_IF_ERROR(segment.Filter().status());
  SPANBOX_ASSIGN_OR_RETURN(const Bytes cells, LoadCells(txn, record));
  if (!cells.empty()) SPANBOX_RETURN_IF_ERROR(ReadCells(cells, record.meta.rows));
  SPANBOX_ASSIGN_OR_RETURN(SegmentRows rows, SegmentRows::Open(segment));
  for (std::uint32_t row = 0; row < rows.rows(); ++row) {
    SPANBOX_ASSIGN_OR_RETURN(const SpanRow span, rows.Row(row));
    if (span.start_ns < record.meta.min_start_ns || span.start_ns > record.meta.max_start_ns) {
      return DataLoss("row " + std::to_string(row) + " lies outside the segment's times");
    }
  }
  return OkStatus();
}

// Segments with id > `after`, until the slice is over. Returns the last id looked at, or nullopt at the end.
Result<std::optional<std::uint64_t>> VerifySlice(const Txn& txn, Table table, std::uint64_t after,
                                                 VerifyReport& report) {
  const auto until = std::chrono::steady_clock::now() + kSlice;
  std::optional<std::uint64_t> last;
  SPANBOX_RETURN_IF_ERROR(
      txn.ScanFrom(table, SegmentKey(after + 1), [&](std::string_view key, Bytes value) -> Result<bool> {
        const std::uint64_t id = SegmentIdOf(key);
        const auto record = ParseSegmentRecord(key, value);
        const std::string_view rows = table == Table::kSegments ? "spans"
                                      : table == Table::kScores ? "scores"
                                                                : "cells";
        if (table == Table::kSegments) ++report.segments;
        if (table == Table::kRollups) ++report.rollups;
        if (!record.ok()) {
          report.problems.push_back("segment " + std::to_string(id) + ": " + record.status().message() + "; its " +
                                    std::string(rows) + " cannot be read");
        } else {
          if (table == Table::kSegments) report.spans += record->meta.rows;
          if (table == Table::kScores) report.scores += record->meta.rows;
          const Status status = ReadEverything(txn, table, *record);
          if (!status.ok()) {
            report.problems.push_back("segment " + std::to_string(id) + ": " + status.message() + "; " +
                                      std::to_string(record->meta.rows) + " " + std::string(rows) + " are affected");
          }
        }
        last = id;
        return std::chrono::steady_clock::now() < until;
      }));
  return last;
}

Status VerifyRings(const Txn& txn, VerifyReport& report) {
  const auto note = [&report](const Status& status, std::string_view cost) {
    if (!status.ok()) report.problems.push_back(status.message() + "; " + std::string(cost));
    return true;
  };
  SPANBOX_RETURN_IF_ERROR(txn.Scan(Table::kOpen, {}, [&](std::string_view key, Bytes value) -> Result<bool> {
    const auto bytes = ParseOpen(value);
    const Status status = bytes.ok() ? ParseOpenRecords(*bytes).status() : bytes.status();
    return note(status, "the running span " + ToHex(OpenSpanIdOf(key)) + " is not shown until it ends");
  }));
  SPANBOX_RETURN_IF_ERROR(txn.Scan(Table::kCursors, {}, [&](std::string_view key, Bytes value) -> Result<bool> {
    return note(ParseCursor(key, value).status(), "spans of its ring cannot be stored");
  }));
  return txn.Scan(Table::kRings, {}, [&](std::string_view, Bytes value) -> Result<bool> {
    return note(ParseRing(value).status(), "its process is not shown");
  });
}

Status VerifyDocuments(const Txn& txn, VerifyReport& report) {
  return txn.Scan(Table::kDocuments, {}, [&](std::string_view key, Bytes value) -> Result<bool> {
    ++report.documents;
    const Status status = ParseDocument(key, value).status();
    if (!status.ok()) report.problems.push_back(status.message() + "; its other versions can be read");
    return true;
  });
}

// Runs that have lost a segment are no damage: they are not used, and go when there is time.
Status VerifyRuns(const Txn& txn, VerifyReport& report) {
  return ForEachRun(txn, [&](std::string_view, const Result<CellRun>& run) -> Status {
    std::uint64_t rows = 0;
    for (const std::uint64_t id : run.ok() ? run->segments : std::vector<std::uint64_t>()) {
      SPANBOX_ASSIGN_OR_RETURN(const auto value, txn.Get(Table::kSegments, SegmentKey(id)));
      const auto record = value ? ParseSegmentRecord(SegmentKey(id), *value) : DataLoss("is gone");
      if (!record.ok()) return OkStatus();
      rows += record->meta.rows;
    }
    const Status status = run.ok() ? ReadCells(run->cells, rows) : run.status();
    if (status.ok()) return status;
    const std::string of = run.ok() ? " from segment " + std::to_string(run->segments.front()) : std::string();
    report.problems.push_back("run of cells" + of + ": " + status.message() + "; its segments answer for it");
    return OkStatus();
  });
}

// Text or columns without a segment: not lost, but bytes for nothing.
Status VerifyNoOrphans(const Txn& txn, VerifyReport& report) {
  std::uint64_t known = 0;
  return txn.Scan(Table::kChunks, {}, [&](std::string_view key, Bytes) -> Result<bool> {
    const std::uint64_t id = SegmentIdOf(key.substr(0, std::min<std::size_t>(8, key.size())));
    if (id == known) return true;
    known = id;
    bool has_record = false;
    for (const Table table : kSegmentTables) {
      SPANBOX_ASSIGN_OR_RETURN(const auto record, txn.Get(table, SegmentKey(id)));
      has_record |= record.has_value();
    }
    if (!has_record) report.problems.push_back("segment " + std::to_string(id) + " has chunks but no record");
    return true;
  });
}

// Blobs one after the other, each read whole in a transaction of its own.
Status VerifyBlobs(Env& env, VerifyReport& report) {
  BlobId first;
  while (true) {
    SPANBOX_ASSIGN_OR_RETURN(const auto txn, env.Read());
    SPANBOX_ASSIGN_OR_RETURN(const auto next, ListBlobs(*txn, first, 2));
    if (next.empty()) return OkStatus();
    ++report.blobs;
    const auto content = ReadBlobFrom(*txn, next.front().id);
    // An incomplete one is no damage: its process was killed while it wrote, and the rest of it never came.
    if (!content.ok() && content.status().code() != StatusCode::kUnavailable) {
      report.problems.push_back(content.status().message() + "; it cannot be shown");
    }
    if (next.size() == 1) return OkStatus();
    first = next.back().id;
  }
}

}  // namespace

Result<VerifyReport> StoreImpl::Verify() {
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  // No merging meanwhile: it would move rows from before us to behind us.
  const FolderLock lock(ring_dir());
  VerifyReport report;
  const Status damaged = env->Damaged();
  if (!damaged.ok()) report.problems.push_back(damaged.message());
  const auto unless_said = [&](const Status& status) {
    return !damaged.ok() && status.code() == StatusCode::kDataLoss ? OkStatus() : status;
  };
  for (const Table table : kSegmentTables) {
    std::optional<std::uint64_t> last = 0;
    while (last) {
      SPANBOX_ASSIGN_OR_RETURN(const auto txn, env->Read());
      const auto next = VerifySlice(*txn, table, *last, report);
      SPANBOX_RETURN_IF_ERROR(unless_said(next.status()));
      last = next.ok() ? *next : std::nullopt;
    }
  }
  SPANBOX_RETURN_IF_ERROR(unless_said(VerifyBlobs(*env, report)));
  SPANBOX_ASSIGN_OR_RETURN(const auto txn, env->Read());
  SPANBOX_RETURN_IF_ERROR(unless_said(VerifyRings(*txn, report)));
  SPANBOX_RETURN_IF_ERROR(unless_said(VerifyDocuments(*txn, report)));
  SPANBOX_RETURN_IF_ERROR(unless_said(VerifyRuns(*txn, report)));
  SPANBOX_RETURN_IF_ERROR(unless_said(VerifyNoOrphans(*txn, report)));
  return report;
}

Result<StoreInfo> StoreImpl::Info() {
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  SPANBOX_ASSIGN_OR_RETURN(const auto txn, env->Read());
  StoreInfo info;
  info.path = path_;
  SPANBOX_ASSIGN_OR_RETURN(const std::uint64_t format, GetMetaNumber(*txn, "format"));
  info.format = static_cast<std::uint32_t>(format);
  SPANBOX_RETURN_IF_ERROR(ForEachSegment(*txn, Table::kSegments, [&info](const SegmentRecord& record) {
    const bool first = info.segments++ == 0;
    info.first_start_ns = first ? record.meta.min_start_ns : std::min(info.first_start_ns, record.meta.min_start_ns);
    info.last_start_ns = first ? record.meta.max_start_ns : std::max(info.last_start_ns, record.meta.max_start_ns);
    info.spans += record.meta.rows;
    info.column_bytes += record.column_bytes + record.cells_bytes;
    info.text_bytes += record.text_bytes;
    info.raw_text_bytes += record.raw_text_bytes;
    info.filter_bytes += record.filter_bytes;
    return OkStatus();
  }));
  SPANBOX_RETURN_IF_ERROR(ForEachSegment(*txn, Table::kRollups, [&](const SegmentRecord& record) -> Status {
    SPANBOX_ASSIGN_OR_RETURN(const Segment rollup, LoadSegment(*txn, record));
    SPANBOX_ASSIGN_OR_RETURN(const auto spans, SpansOfCells(rollup));
    info.sampled_out_spans += std::accumulate(spans.begin(), spans.end(), std::uint64_t{0});
    info.column_bytes += record.column_bytes;
    info.text_bytes += record.text_bytes;
    return OkStatus();
  }));
  SPANBOX_RETURN_IF_ERROR(ForEachSegment(*txn, Table::kScores, [&info](const SegmentRecord& record) {
    info.scores += record.meta.rows;
    info.column_bytes += record.column_bytes;
    info.text_bytes += record.text_bytes;
    info.raw_text_bytes += record.raw_text_bytes;
    info.filter_bytes += record.filter_bytes;
    return OkStatus();
  }));
  std::string open_span;
  SPANBOX_RETURN_IF_ERROR(txn->Scan(Table::kOpen, {}, [&](std::string_view key, Bytes) -> Result<bool> {
    info.open_spans += OpenPrefixOf(key) != open_span;
    open_span = OpenPrefixOf(key);
    return true;
  }));
  SPANBOX_RETURN_IF_ERROR(ForEachRun(*txn, [&info](std::string_view, const Result<CellRun>& run) {
    if (run.ok()) info.column_bytes += run->cells.size();
    return OkStatus();
  }));
  info.file_bytes = env->file_bytes();
  info.disk_bytes = env->disk_bytes();
  info.lmdb_version = mdb_version(nullptr, nullptr, nullptr);
  return info;
}

Result<std::vector<LiveProcess>> StoreImpl::Processes() {
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  SPANBOX_ASSIGN_OR_RETURN(const auto txn, env->Read());
  std::vector<LiveProcess> processes;
  SPANBOX_RETURN_IF_ERROR(txn->Scan(Table::kRings, {}, [&](std::string_view key, Bytes value) -> Result<bool> {
    SPANBOX_ASSIGN_OR_RETURN(const RingRecord record, ParseRing(value));
    if (record.retired || key.size() != sizeof(RingId)) return true;
    LiveProcess& process = processes.emplace_back();
    std::memcpy(process.ring.data(), key.data(), key.size());
    process.process = record.process;
    return true;
  }));
  for (LiveProcess& process : processes) {
    SPANBOX_RETURN_IF_ERROR(
        txn->Scan(Table::kCursors, RingKey(process.ring), [&](std::string_view key, Bytes value) -> Result<bool> {
          SPANBOX_ASSIGN_OR_RETURN(const LaneCursor cursor, ParseCursor(key, value));
          process.dropped_spans += cursor.dropped_spans;
          return true;
        }));
  }
  return processes;
}

}  // namespace spanbox
