// The thread behind the rings: it takes records out of the lanes, joins them into spans, and commits them.
//
// It is woken by a writer whose lane is half full, by Flush, and every commit interval; after five quiet seconds it
// looks every half second only. Between commits it recovers dead rings and gives the exporter time for its own work.
//
// Thread rule: Wake, Flush and the readings may be called from any thread; the rest runs on the collector's thread, or
// on the caller's of Flush when that thread could not be started. Python is never needed. Ownership: shares the lane
// pool and the exporter; a forked child leaks its copy of both. Invariants:
//   1. A batch that could not be committed is committed later as it was: neither the cursor nor the ring's tail moves
//      before that (I3, I4; exactly once).
//   2. A pass takes every lane up to a head read at its start. Two passes after an END was seen, its START must have
//      been seen, for it was published before.
// Units: nanoseconds, bytes.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "record/drain.h"
#include "record/joiner.h"
#include "record/lane_pool.h"
#include "spanbox/recorder.h"

namespace spanbox {

class Collector {
 public:
  Collector(std::shared_ptr<LanePool> pool, ExporterFactory make_exporter, std::string ring_dir,
            const RecorderOptions& options);
  ~Collector();

  void Start() noexcept;  // does nothing when it runs; tries again at most once a second when it cannot
  void Wake() noexcept;   // async-signal-safe
  FlushResult Flush(std::int64_t timeout_ns) noexcept;

  // Final pass, at most `timeout_ns` long; then the ring is retired and its files are removed. When that cannot be done
  // in time the files stay for whoever recovers them.
  void Close(std::int64_t timeout_ns) noexcept;

  bool alive() const { return alive_.load(std::memory_order_relaxed); }
  void AddTo(Health& health) const;

 private:
  struct Group {  // a batch with what to do once it is committed
    SpanBatch batch;
    std::vector<std::pair<Lane*, LaneCursor>> stored;
    SpanJoiner::Counters counters;  // after it
    std::uint64_t open_spans = 0;
  };

  void Run() noexcept;
  bool WaitForWork(std::int64_t timeout_ns) noexcept;  // true: somebody woke it
  std::int64_t NextPassInNs() const;
  bool Pass(std::int64_t deadline_ns);  // false: something could not be committed
  bool DrainGroups(std::int64_t deadline_ns);
  std::vector<Lane*> SnapshotHeads(std::vector<LaneSource>& sources);
  bool FinishPass();
  void BuildGroup(std::vector<Lane*>& lanes, std::vector<LaneSource>& sources);
  void BeginGroup();
  bool CommitGroup();
  bool EnsureExporter();
  bool Retire(std::int64_t deadline_ns);
  void Maintain();
  bool BackgroundWork();
  void SetError(std::string error);
  std::string ProcessJson() const;

  const std::shared_ptr<LanePool> pool_;
  const ExporterFactory make_exporter_;
  const std::string ring_dir_;
  const RecorderOptions options_;
  int wake_fd_ = -1;
  std::thread thread_;
  std::atomic<bool> alive_{false};
  std::atomic<bool> stopping_{false};
  std::atomic<bool> wake_pending_{false};
  std::mutex start_mutex_;
  std::int64_t next_start_ns_ = 0;

  std::mutex pass_mutex_;  // the collector's work: one thread at a time
  std::shared_ptr<SpanExporter> exporter_;
  SpanJoiner joiner_;
  std::optional<Group> pending_;  // built, not yet committed
  std::vector<SpanId> lost_ends_;
  std::int64_t last_active_ns_ = 0;
  std::int64_t next_recovery_ns_ = 0;
  std::int64_t backoff_ns_ = 0;
  std::uint64_t committed_drops_ = 0;
  std::uint64_t flush_tried_ = 0;
  bool process_written_ = false;

  std::atomic<std::uint64_t> flush_asked_{0};
  mutable std::mutex state_mutex_;  // what follows
  std::condition_variable flushed_;
  std::uint64_t flush_done_ = 0;
  std::int64_t caught_up_ns_ = 0;  // every record older than this is stored
  std::uint64_t stored_spans_ = 0, discarded_ends_ = 0, undecodable_ = 0, open_spans_ = 0;
  std::uint64_t commits_ = 0, commit_failures_ = 0;
  std::string last_error_;
};

}  // namespace spanbox
