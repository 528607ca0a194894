// Takes records out of the lanes, joins them into spans, and commits them: one collector at a time.
//
// A collector begins by asking the exporter how far the ring has been stored, and goes on from there. So it makes no
// difference whether it is the first of its process, or takes over from one whose thread has ended or hangs, or goes on
// after a commit whose outcome is not known. Batches are numbered (SpanBatch::turn), and the exporter refuses one that
// is out of turn: a collector that was thought to hang and wakes up later can do no harm.
//
// Thread rule: Pass and Retire on one thread at a time; the rest from any thread.
// Ownership: borrows what it is made with. What a batch points to is the collector's own copy, never the ring's bytes:
// those may be given back to the writers while a collector that was left behind still reads them.
// Invariants:
//   1. The tail of a lane moves only after the commit, and only by the collector that has not been superseded (I4).
//   2. A pass takes every lane up to a head read at its start. Two passes after an END was seen, its START must have
//      been seen, for it was published before.
// Units: nanoseconds, bytes.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "record/drain.h"
#include "record/joiner.h"
#include "record/lane_pool.h"
#include "record/worker.h"
#include "spanbox/recorder.h"

namespace spanbox {

// What has become of the records, over all collectors of this process: for Health and Flush.
struct Ledger {
  std::atomic<std::uint64_t> flush_asked{0};

  std::mutex mutex;  // what follows
  std::condition_variable changed;
  std::uint64_t flush_done = 0;
  std::int64_t caught_up_ns = 0;  // every record older than this is stored
  SpanJoiner::Counters counters;  // of committed batches
  std::uint64_t open_spans = 0;
  std::uint64_t commits = 0, commit_failures = 0;
  bool retired = false;
  std::string error;         // of the collector; empty: the last attempt was good
  std::string upkeep_error;  // of the last turn of upkeep
  std::string lasting;       // what should not have happened, and is over

  void SetError(std::string text);
};

// The exporter of this process, made by the first who needs it.
class ExporterSlot {
 public:
  explicit ExporterSlot(ExporterFactory make) : make_(std::move(make)) {}
  Result<std::shared_ptr<SpanExporter>> Get();
  std::shared_ptr<SpanExporter> Peek() const;  // nullptr: not made yet

 private:
  const ExporterFactory make_;
  mutable std::mutex mutex_;
  std::shared_ptr<SpanExporter> exporter_;
};

class Collector {
 public:
  // `need_reserve` and `committed` are rung when the keeper, or whoever merges, may have something to do.
  Collector(LanePool& pool, ExporterSlot& exporter, Ledger& ledger, const RecorderOptions& options, Bell& need_reserve,
            Bell& committed);

  // Stores everything there is. False: something could not be committed, or the deadline has come.
  bool Pass();
  // The same, then what is still open becomes interrupted and the ring is retired.
  bool Retire();
  bool TimeForPass() const;
  std::int64_t NextPassInNs() const;
  bool FlushWaits() const { return ledger_.flush_asked.load(std::memory_order_acquire) > flush_tried_; }
  bool backing_off() const { return backoff_ns_ > 0; }

  // No batch is begun after it; monotonic clock.
  void SetDeadline(std::int64_t deadline_ns) { deadline_ns_.store(deadline_ns, std::memory_order_relaxed); }
  // Another takes over: this one commits nothing more, or what it commits is refused.
  void Supersede();

  // For the watchdog: changes with every step; and what the step is.
  std::uint64_t steps() const { return steps_.load(std::memory_order_relaxed); }
  const char* doing() const { return doing_.load(std::memory_order_relaxed); }

 private:
  struct Group {  // a batch with what to do once it is committed
    SpanBatch batch;
    std::vector<std::pair<Lane*, LaneCursor>> moved;
    SpanJoiner::Counters before;  // of the joiner
  };

  void Doing(const char* step);
  bool Over() const;
  void PlanNextPass();
  bool Load();
  bool Drain();
  std::vector<LaneSource> Sources(LanePool::Lanes& held);
  void BeginGroup();
  void BuildGroup(const std::vector<Lane*>& lanes, std::vector<LaneSource>& sources);
  bool CommitGroup();
  bool Committed();
  bool FinishPass(const std::vector<SpanId>& lost_ends);
  bool Failed(const Status& status);

  LanePool& pool_;
  ExporterSlot& exporter_slot_;
  Ledger& ledger_;
  const RecorderOptions options_;
  Bell& need_reserve_;
  Bell& committed_;

  std::mutex work_mutex_;
  std::shared_ptr<SpanExporter> exporter_;
  SamplerMemory sampler_memory_;
  std::optional<TraceSampler> sampler_;  // made with the joiner, if there is something to choose
  std::optional<SpanJoiner> joiner_;     // empty: the ring's state has to be read from the exporter first
  std::map<std::uint32_t, LaneCursor> cursors_;
  std::uint64_t turn_ = 0;
  Group group_;
  RecordCopies copies_;
  std::int64_t last_active_ns_;
  std::int64_t backoff_ns_ = 0;
  std::int64_t next_pass_ns_ = 0;
  std::uint64_t committed_drops_ = 0;
  std::uint64_t flush_tried_ = 0;
  bool process_written_ = false;
  bool in_pass_ = false;

  std::atomic<std::int64_t> deadline_ns_;
  std::atomic<bool> superseded_{false};  // set under the ledger's mutex
  std::atomic<std::uint64_t> steps_{0};
  std::atomic<const char*> doing_{"at its start"};
};

}  // namespace spanbox
