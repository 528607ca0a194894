// The threads behind the rings, and who watches them.
//
//   collector  drains the lanes and commits; nothing else, so that room comes back as fast as the disk allows
//   keeper     makes pages and ring files ahead of need, and replaces a collector that has ended or hangs; it never
//              waits for the exporter
//   upkeep     recovers dead rings and gives the exporter time for its own work (merging), which may take long
//
// They start with the first record. A thread that hangs is left behind: it shares what it uses, so nobody waits for it,
// not even the end of the program.
//
// Thread rule: any thread. Python is never needed. Ownership: the threads share this object, and it shares the lane
// pool; a forked child leaks its copy of both. Invariants:
//   1. At most one collector's batches are accepted, however many threads are left behind (see Collector).
//   2. Flush and Close do not wait beyond their timeouts, whatever the threads do. (Where no thread can be had at all,
//      the caller of Flush does the collector's work itself, and then one commit may take longer.)
// Units: nanoseconds.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "record/collector.h"
#include "record/lane_pool.h"
#include "record/worker.h"
#include "spanbox/recorder.h"

namespace spanbox {

class Background : public std::enable_shared_from_this<Background> {
 public:
  Background(std::shared_ptr<LanePool> pool, ExporterFactory make_exporter, std::string ring_dir,
             const RecorderOptions& options);

  // Starts what does not run; tries again at most once a second when it cannot.
  void Start() noexcept;
  void Wake() noexcept;  // collector and keeper; async-signal-safe
  FlushResult Flush(std::int64_t timeout_ns) noexcept;

  // Final pass, at most `timeout_ns` long; then the ring is retired and its files are removed. When that cannot be done
  // in time the files stay for whoever recovers them.
  void Close(std::int64_t timeout_ns) noexcept;

  bool alive() const { return collector_alive_.load(std::memory_order_relaxed); }
  void AddTo(Health& health) const;

 private:
  // With start_mutex_ held.
  void EnsureRunning();
  void StartCollector();
  void StartKeeper();
  void StartUpkeep();
  void ReplaceCollector(std::string why);

  std::int64_t CollectorTurn(Worker& self, Collector& collector, bool woken);
  std::int64_t KeeperTurn();
  std::int64_t UpkeepTurn();
  void WatchCollector();
  void CollectHere(std::int64_t deadline_ns);

  const std::shared_ptr<LanePool> pool_;
  ExporterSlot exporter_;
  const std::string ring_dir_;
  const RecorderOptions options_;
  mutable Ledger ledger_;
  Bell collector_bell_, keeper_bell_, upkeep_bell_;
  std::atomic<std::int64_t> next_keeper_ring_ns_{0};

  std::atomic<bool> collector_alive_{false}, keeper_alive_{false};  // hints: the threads themselves know
  std::atomic<bool> closing_{false};

  mutable std::mutex start_mutex_;  // what follows
  std::shared_ptr<Collector> collector_;
  std::shared_ptr<Worker> collector_thread_, keeper_thread_, upkeep_thread_;
  std::vector<std::shared_ptr<Worker>> left_behind_;
  std::int64_t next_start_ns_ = 0;
  std::uint64_t restarts_ = 0;

  // The keeper's.
  std::uint64_t watched_steps_ = 0;
  std::int64_t stuck_ns_ = 0;
  std::int64_t last_look_ns_ = 0;
  std::int64_t next_recovery_ns_ = 0;  // of upkeep
};

}  // namespace spanbox
