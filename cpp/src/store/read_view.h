// What one query sees of the store: the segments of one moment, plus the spans that are still open as a last segment.
//
// Thread rule: one thread at a time. Ownership: everything reached through the view dies with it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "spanbox/status.h"
#include "store/segment.h"
#include "store/segment_cells.h"

namespace spanbox {

struct SegmentMeta {
  std::uint64_t id = 0;  // grows with time; 0: the open spans, which are encoded when the view is made
  std::uint32_t rows = 0;
  std::int64_t min_start_ns = 0, max_start_ns = 0;
  std::uint64_t min_trace = 0, max_trace = 0;  // TracePrefix of the smallest and the largest trace id here

  // False: the trace is not in this segment, and loading it can be spared.
  bool MayHold(const TraceId& trace) const {
    const std::uint64_t prefix = TracePrefix(trace);
    return min_trace <= prefix && prefix <= max_trace;
  }
};

// Segments whose cells are also stored added up (store/cell_runs.h).
struct RunMeta {
  std::vector<std::uint32_t> members;  // their places in ReadView::segments()
  std::int64_t min_start_ns = 0, max_start_ns = 0;
};

class ReadView {
 public:
  virtual ~ReadView() = default;
  virtual std::span<const SegmentMeta> segments() const = 0;     // by id; open spans last
  virtual Result<Segment> Load(const SegmentMeta& segment) = 0;  // valid as long as the view

  // False: the trace is surely not in this segment, which is one of segments() or of scores().
  virtual bool MayHold(const SegmentMeta& segment, const TraceId& trace) const { return segment.MayHold(trace); }

  // Segments whose rows are scores: see spanbox/score.h. By id; Load loads them, too.
  virtual std::span<const SegmentMeta> scores() const { return {}; }

  // Cells of a settled segment (store/segment_cells.h), valid as long as the view; empty: there are none.
  virtual Result<CellsValue> LoadCells(const SegmentMeta&) { return CellsValue{}; }

  // What is left of spans that sampling dropped: see store/rollup.h. By id.
  virtual std::span<const SegmentMeta> rollups() const { return {}; }
  virtual Result<Segment> LoadRollup(const SegmentMeta&) { return NotFound("this view has no rollups"); }

  // Those of segments() that may hold the trace, in their order.
  virtual std::vector<const SegmentMeta*> Holders(const TraceId& trace) const;

  // Runs of segments, those of most segments first. LoadRun(i) gives the cells of the i-th.
  virtual std::span<const RunMeta> runs() const { return {}; }
  virtual Result<CellsValue> LoadRun(std::size_t) { return NotFound("this view has no runs"); }
};

}  // namespace spanbox
