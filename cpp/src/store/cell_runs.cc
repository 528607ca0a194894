#include "store/cell_runs.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "base/hash.h"
#include "store/manifest.h"
#include "store/packing.h"
#include "store/segment_cells.h"

namespace spanbox {
namespace {

constexpr std::uint32_t kRunVersion = 1;
constexpr std::size_t kMaxSegments = kRunSegments * kRunSegments;

// What runs are made of, in the order they begin.
struct Part {
  std::int64_t start_ns = 0;
  std::uint64_t first = 0;  // id of the segment, or of the first one
  bool taken = false;       // by a run
  std::string key;          // of a run
  std::vector<std::uint64_t> segments;
};

// The first kRunSegments neighbours that no run has.
std::span<const Part> FirstFree(std::vector<Part>& parts, const std::set<std::uint64_t>& left_out) {
  std::ranges::sort(parts, {}, [](const Part& part) { return std::pair(part.start_ns, part.first); });
  std::size_t free = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    free = parts[i].taken || left_out.contains(parts[i].first) ? 0 : free + 1;
    if (free == kRunSegments) return std::span(parts).subspan(i + 1 - free, free);
  }
  return {};
}

}  // namespace

std::string RunKey(std::span<const std::uint64_t> segments) {
  return ChunkKeyOf(segments.front(), static_cast<std::uint32_t>(segments.size()));
}

std::string EncodeRun(std::span<const std::uint64_t> segments, std::string_view cells) {
  std::string out;
  PutFixed(kRunVersion, out);
  PutFixed(static_cast<std::uint32_t>(segments.size()), out);
  for (const std::uint64_t id : segments) PutFixed(id, out);
  PutFixed(Hash64(AsBytes(out)), out);
  out += cells;
  return out;
}

Result<CellRun> ParseRun(std::string_view key, Bytes value) {
  ByteReader in(value);
  const auto version = in.Get<std::uint32_t>();
  const auto count = in.Get<std::uint32_t>();
  if (version != kRunVersion || count == 0 || count > kMaxSegments) return DataLoss("run of cells does not decode");
  CellRun run;
  for (std::uint32_t i = 0; i < count; ++i) run.segments.push_back(in.Get<std::uint64_t>());
  const std::size_t head = in.offset();
  const auto checksum = in.Get<std::uint64_t>();
  if (!in.ok() || Hash64(value.first(head)) != checksum) return DataLoss("run of cells: checksum differs");
  if (key != RunKey(run.segments)) return DataLoss("run of cells: its key is another's");
  run.cells = value.subspan(in.offset());
  return run;
}

Status ForEachRun(const Txn& txn, const std::function<Status(std::string_view key, Result<CellRun>)>& visit) {
  return txn.Scan(Table::kRuns, {}, [&](std::string_view key, Bytes value) -> Result<bool> {
    SPANBOX_RETURN_IF_ERROR(visit(key, ParseRun(key, value)));
    return true;
  });
}

Status DeleteRunsOf(WriteTxn& txn, std::uint64_t segment) {
  std::vector<std::string> keys;
  SPANBOX_RETURN_IF_ERROR(ForEachRun(txn, [&](std::string_view key, const Result<CellRun>& run) {
    // Of one that does not decode nobody knows whose it is.
    if (!run.ok() || std::ranges::find(run->segments, segment) != run->segments.end()) keys.emplace_back(key);
    return OkStatus();
  }));
  for (const std::string& key : keys) SPANBOX_RETURN_IF_ERROR(txn.Delete(Table::kRuns, key));
  return OkStatus();
}

Result<RunPlan> PlanRun(const Txn& txn, const std::set<std::uint64_t>& left_out) {
  RunPlan plan;
  std::map<std::uint64_t, std::int64_t> starts;  // of every segment with cells
  SPANBOX_RETURN_IF_ERROR(ForEachSegment(
      txn, Table::kSegments,
      [&](const SegmentRecord& record) {
        if (record.cells_bytes > 0) starts.emplace(record.meta.id, record.meta.min_start_ns);
        return OkStatus();
      },
      [](std::uint64_t, const Status&) {}));
  std::vector<Part> segments, runs;
  std::set<std::uint64_t> in_runs, in_long_runs;
  SPANBOX_RETURN_IF_ERROR(ForEachRun(txn, [&](std::string_view key, Result<CellRun> run) {
    const auto is_there = [&](std::uint64_t id) { return starts.contains(id); };
    if (!run.ok() || !std::ranges::all_of(run->segments, is_there)) {
      plan.useless.emplace_back(key);
    } else if (run->segments.size() == kRunSegments) {
      in_runs.insert(run->segments.begin(), run->segments.end());
      const std::uint64_t first = run->segments.front();
      runs.push_back({starts[first], first, false, std::string(key), std::move(run->segments)});
    } else {
      in_long_runs.insert(run->segments.begin(), run->segments.end());
    }
    return OkStatus();
  }));
  for (const auto& [id, start_ns] : starts) segments.push_back({start_ns, id, in_runs.contains(id), {}, {id}});
  for (Part& run : runs) run.taken = in_long_runs.contains(run.first);
  std::span<const Part> chosen = FirstFree(segments, left_out);
  if (chosen.empty()) chosen = FirstFree(runs, left_out);
  for (const Part& part : chosen) {
    plan.segments.insert(plan.segments.end(), part.segments.begin(), part.segments.end());
    if (!part.key.empty()) plan.sources.push_back(part.key);
  }
  return plan;
}

Result<JoinedCells> JoinCellsOf(const Txn& txn, const RunPlan& plan) {
  JoinedCells joined;
  std::vector<SegmentCells> parts;
  const auto open = [&](const Result<Bytes>& bytes) {
    auto cells = bytes.ok() ? SegmentCells::Open(*bytes) : bytes.status();
    if (cells.ok()) parts.push_back(*std::move(cells));
    return cells.ok();
  };
  for (const std::string& key : plan.sources) {
    SPANBOX_ASSIGN_OR_RETURN(const auto value, txn.Get(Table::kRuns, key));
    const auto run = value ? ParseRun(key, *value) : DataLoss("run of cells is gone");
    if (open(run.ok() ? Result<Bytes>(run->cells) : Result<Bytes>(run.status()))) continue;
    joined.damaged_run = key;
    return joined;
  }
  for (std::size_t i = 0; plan.sources.empty() && i < plan.segments.size(); ++i) {
    const std::string key = SegmentKey(plan.segments[i]);
    SPANBOX_ASSIGN_OR_RETURN(const auto value, txn.Get(Table::kSegments, key));
    const auto record = value ? ParseSegmentRecord(key, *value) : DataLoss("segment is gone");
    if (open(record.ok() ? LoadCells(txn, *record) : Result<Bytes>(record.status()))) continue;
    joined.damaged_segment = plan.segments[i];
    return joined;
  }
  auto cells = JoinCells(parts, /*buckets=*/plan.sources.empty());
  if (cells.ok()) joined.cells = *std::move(cells);
  if (joined.cells.empty()) joined.damaged_segment = plan.segments.front();
  return joined;
}

}  // namespace spanbox
