// Runs: neighbouring segments whose cells (segment_cells.h) are stored once more, added up. Questions about many
// segments read those: a few tables, however large the store is.
//
// A run is of kRunSegments settled segments with cells that begin one after the other, or of as many such runs: a long
// one, which has no cells by bucket of time. It names its segments, and is of use as long as all of them are there; as
// ids are never given twice, theirs tell. Whoever deletes one of them deletes the run, whose cells tell of what is
// gone.
//
// Thread rule: functions and plain values. Ownership: a CellRun borrows its bytes from the transaction.
// Invariants:
//   1. Runs say nothing that their segments do not: where one is missing, stale or damaged, those are asked.
//   2. Damaged bytes are DataLoss.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "store/env.h"

namespace spanbox {

inline constexpr std::size_t kRunSegments = 16;

struct CellRun {
  std::vector<std::uint64_t> segments;  // ids, as the segments begin
  Bytes cells;                          // as those of a segment, with a checksum of their own
};
std::string RunKey(std::span<const std::uint64_t> segments);
std::string EncodeRun(std::span<const std::uint64_t> segments, std::string_view cells);
Result<CellRun> ParseRun(std::string_view key, Bytes value);

// Visits those that can be read, and the others with an error.
Status ForEachRun(const Txn& txn, const std::function<Status(std::string_view key, Result<CellRun>)>& visit);
// Deletes those of this segment.
Status DeleteRunsOf(WriteTxn& txn, std::uint64_t segment);

// What there is to do.
struct RunPlan {
  std::vector<std::string> useless;     // keys of runs that have lost a segment
  std::vector<std::uint64_t> segments;  // of the run to be made next; empty: none
  std::vector<std::string> sources;     // keys of the runs it consists of; empty: of segments
};
// `left_out`: segments of which no run is to be made.
Result<RunPlan> PlanRun(const Txn& txn, const std::set<std::uint64_t>& left_out);
// The cells of that run. Empty: they cannot be added up. `damaged`: the segment or the run that cannot be read, if so.
struct JoinedCells {
  std::string cells;
  std::uint64_t damaged_segment = 0;
  std::string damaged_run;
};
Result<JoinedCells> JoinCellsOf(const Txn& txn, const RunPlan& plan);

}  // namespace spanbox
