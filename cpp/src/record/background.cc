#include "record/background.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <limits>
#include <system_error>

#include "base/clock.h"

namespace spanbox {
namespace {

constexpr std::int64_t kSecondNs = 1'000'000'000;
constexpr std::int64_t kMsNs = 1'000'000;
constexpr std::int64_t kKeeperPauseNs = kMsNs;
constexpr std::int64_t kForeverNs = 365 * 24 * 3600 * kSecondNs;
constexpr std::int64_t kRestartPauseNs = 100 * kMsNs;
constexpr std::int64_t kRetryHereNs = 20 * kMsNs;
constexpr std::int64_t kRecoverEveryNs = 2 * kSecondNs;
constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
// Threads that hang are not followed by ever more of their kind.
constexpr std::size_t kMaxLeftBehind = 3;

std::chrono::steady_clock::time_point After(std::int64_t ns) {
  return std::chrono::steady_clock::now() + std::chrono::nanoseconds(std::max<std::int64_t>(ns, 0));
}

}  // namespace

Background::Background(std::shared_ptr<LanePool> pool, ExporterFactory make_exporter, std::string ring_dir,
                       const RecorderOptions& options)
    : pool_(std::move(pool)),
      exporter_(std::move(make_exporter)),
      ring_dir_(std::move(ring_dir)),
      options_(options),
      collector_(std::make_shared<Collector>(*pool_, exporter_, ledger_, options_, keeper_bell_, upkeep_bell_)) {
  ledger_.caught_up_ns = MonotonicNowNs();
}

void Background::Wake() noexcept {
  collector_bell_.Ring();
  // A turn of the keeper is short: where every record asks for room it would do nothing but turn.
  const std::int64_t now_ns = MonotonicNowNs();
  if (now_ns < next_keeper_ring_ns_.load(std::memory_order_relaxed)) return;
  next_keeper_ring_ns_.store(now_ns + kKeeperPauseNs, std::memory_order_relaxed);
  keeper_bell_.Ring();
}

void Background::Start() noexcept {
  constexpr auto kRelaxed = std::memory_order_relaxed;
  if (collector_alive_.load(kRelaxed) && keeper_alive_.load(kRelaxed)) return;
  try {
    // Whoever comes while another thread starts it waits here: a blocking writer trusts that it runs.
    const std::scoped_lock lock(start_mutex_);
    if (!closing_.load(kRelaxed)) EnsureRunning();
  } catch (const std::exception&) {
    // No memory: the next one tries again.
  }
}

void Background::EnsureRunning() {
  const std::int64_t now = MonotonicNowNs();
  if (collector_thread_ == nullptr || collector_thread_->ended()) {
    if (now < next_start_ns_) return;
    if (collector_thread_ != nullptr) {
      next_start_ns_ = now + kRestartPauseNs;
      ReplaceCollector(std::string("the collector thread ended ") + collector_->doing() + "; another one took over");
    } else {
      StartCollector();
    }
  }
  collector_alive_.store(collector_thread_ != nullptr && !collector_thread_->ended(), std::memory_order_relaxed);
  if (keeper_thread_ == nullptr || keeper_thread_->ended()) StartKeeper();
  keeper_alive_.store(keeper_thread_ != nullptr && !keeper_thread_->ended(), std::memory_order_relaxed);
}

void Background::StartCollector() {
  auto job = [self = shared_from_this(), collector = collector_](Worker& worker, bool woken) {
    return self->CollectorTurn(worker, *collector, woken);
  };
  collector_thread_ = Worker::Start("spanbox", collector_bell_, std::move(job), [self = shared_from_this()] {
    self->collector_alive_.store(false, std::memory_order_relaxed);
    self->ledger_.changed.notify_all();
  });
  if (collector_thread_ != nullptr) return;
  next_start_ns_ = MonotonicNowNs() + kSecondNs;
  ledger_.SetError("cannot start the collector thread: the system gives no more threads to this user or container");
}

void Background::StartKeeper() {
  auto job = [self = shared_from_this()](Worker&, bool) { return self->KeeperTurn(); };
  keeper_thread_ = Worker::Start("spanbox-keeper", keeper_bell_, std::move(job), [self = shared_from_this()] {
    self->keeper_alive_.store(false, std::memory_order_relaxed);
  });
}

void Background::StartUpkeep() {
  auto job = [self = shared_from_this()](Worker&, bool) { return self->UpkeepTurn(); };
  upkeep_thread_ = Worker::Start("spanbox-upkeep", upkeep_bell_, std::move(job), [] {});
}

void Background::ReplaceCollector(std::string why) {
  collector_->Supersede();
  collector_thread_->Stop();
  left_behind_.push_back(std::move(collector_thread_));
  collector_ = std::make_shared<Collector>(*pool_, exporter_, ledger_, options_, keeper_bell_, upkeep_bell_);
  ++restarts_;
  {
    const std::scoped_lock lock(ledger_.mutex);
    ledger_.lasting = std::move(why);
  }
  StartCollector();
}

std::int64_t Background::CollectorTurn(Worker& self, Collector& collector, bool woken) {
  if (closing_.load(std::memory_order_acquire)) {
    collector.Retire();
    self.Stop();
    return 0;
  }
  if (collector.TimeForPass() || collector.FlushWaits() || (woken && !collector.backing_off())) collector.Pass();
  return collector.NextPassInNs();
}

std::int64_t Background::KeeperTurn() {
  pool_->Tend(MonotonicNowNs());
  WatchCollector();
  return std::clamp(options_.wedged_after_ns / 4, 5 * kMsNs, 2 * kSecondNs);
}

void Background::WatchCollector() {
  const std::scoped_lock lock(start_mutex_);
  if (closing_.load(std::memory_order_relaxed)) return;
  EnsureRunning();
  if (upkeep_thread_ == nullptr || upkeep_thread_->ended()) StartUpkeep();
  std::erase_if(left_behind_, [](const auto& worker) { return worker->ended() && worker->Join(kNever); });
  const std::int64_t now = MonotonicNowNs();
  const std::uint64_t steps = collector_->steps();
  if (collector_thread_ == nullptr || !collector_thread_->in_turn() || steps != watched_steps_) {
    watched_steps_ = steps;
    stuck_ns_ = 0;
  } else {
    // While the whole process was stopped the collector could not go on: such a gap does not count in full.
    stuck_ns_ += std::min(now - last_look_ns_, options_.wedged_after_ns / 2);
  }
  last_look_ns_ = now;
  const bool wedged = stuck_ns_ >= options_.wedged_after_ns && pool_->GetTotals().waiting_bytes > 0;
  if (!wedged || left_behind_.size() >= kMaxLeftBehind) return;
  const std::int64_t tenths = stuck_ns_ / (kSecondNs / 10);
  ReplaceCollector("the collector made no progress for " + std::to_string(tenths / 10) + "." +
                   std::to_string(tenths % 10) + " s " + collector_->doing() + "; another one took over");
  stuck_ns_ = 0;
}

std::int64_t Background::UpkeepTurn() {
  const auto exporter = exporter_.Peek();
  if (exporter == nullptr) return kRecoverEveryNs;
  const std::int64_t now = MonotonicNowNs();
  std::string error;
  if (now >= next_recovery_ns_) {
    next_recovery_ns_ = now + kRecoverEveryNs;
    const auto recovered = RecoverRings(*exporter, options_.recover_dir.empty() ? ring_dir_ : options_.recover_dir);
    if (!recovered.ok()) error = "recovering rings: " + recovered.status().message();
  }
  const auto more = exporter->DoBackgroundWork();
  if (!more.ok()) error = more.status().message();
  {
    const std::scoped_lock lock(ledger_.mutex);
    ledger_.upkeep_error = error;
  }
  return more.ok() && *more ? 0 : kRecoverEveryNs;
}

// Only when no thread can be had.
void Background::CollectHere(std::int64_t deadline_ns) {
  std::shared_ptr<Collector> collector;
  {
    const std::scoped_lock lock(start_mutex_);
    collector = collector_;
  }
  collector->SetDeadline(deadline_ns);
  collector->Pass();
  collector->SetDeadline(kNever);
}

FlushResult Background::Flush(std::int64_t timeout_ns) noexcept {
  FlushResult result;
  if (!pool_->has_ring()) {
    result.complete = true;
    return result;
  }
  timeout_ns = std::clamp<std::int64_t>(timeout_ns, 0, kForeverNs);
  const std::int64_t deadline_ns = MonotonicNowNs() + timeout_ns;
  // Release: records acknowledged before this call are seen by the pass that sees the ticket.
  const std::uint64_t ticket = ledger_.flush_asked.fetch_add(1, std::memory_order_acq_rel) + 1;
  collector_bell_.Ring();
  const auto done = [&] { return ledger_.flush_done >= ticket; };
  for (std::int64_t left_ns = timeout_ns; !result.complete;) {
    Start();
    if (!alive() && left_ns > 0) CollectHere(deadline_ns);
    left_ns = deadline_ns - MonotonicNowNs();
    const bool threaded = alive();
    std::unique_lock lock(ledger_.mutex);
    ledger_.changed.wait_until(lock, After(std::min(left_ns, threaded ? kRestartPauseNs : kRetryHereNs)),
                               [&] { return done() || (threaded && !alive()); });
    result.complete = done();
    if (left_ns <= 0) break;
  }
  if (!result.complete) result.waiting_bytes = pool_->GetTotals().waiting_bytes;
  return result;
}

void Background::Close(std::int64_t timeout_ns) noexcept {
  const std::int64_t deadline_ns = MonotonicNowNs() + std::min(timeout_ns, kForeverNs);
  std::vector<std::shared_ptr<Worker>> others;
  {
    const std::scoped_lock lock(start_mutex_);
    closing_.store(true, std::memory_order_release);
    // The collector does the rest on its own thread, so that it can be left behind.
    if (pool_->has_ring() && collector_thread_ == nullptr) StartCollector();
    if (collector_thread_ != nullptr && collector_thread_->ended()) ReplaceCollector({});
    collector_->SetDeadline(deadline_ns);
    others = {keeper_thread_, upkeep_thread_};
  }
  for (const auto& worker : others) {
    if (worker != nullptr) worker->Stop();
  }
  collector_bell_.Ring();
  if (collector_thread_ != nullptr) {
    collector_thread_->Join(deadline_ns);
  } else if (pool_->has_ring()) {
    collector_->Retire();
  }
  collector_->Supersede();
  for (const auto& worker : others) {
    if (worker != nullptr) worker->Join(deadline_ns);
  }
  bool retired = false;
  {
    const std::scoped_lock lock(ledger_.mutex);
    retired = ledger_.retired;
  }
  pool_->Close(/*unlink=*/retired);
}

void Background::AddTo(Health& health) const {
  const auto totals = pool_->GetTotals();
  {
    const std::scoped_lock lock(start_mutex_);
    health.collector_restarts = restarts_;
  }
  const std::scoped_lock lock(ledger_.mutex);
  const SpanJoiner::Counters& counters = ledger_.counters;
  health.dropped_spans = totals.dropped_spans + counters.undecodable;
  health.dropped_bytes = totals.dropped_bytes;
  health.degraded_records = totals.degraded_records;
  health.recorded_spans = totals.ended - counters.discarded_ends + health.dropped_spans;
  health.stored_spans = counters.ended;
  health.sampled_out_spans = counters.sampled_out;
  health.open_spans = ledger_.open_spans;
  health.waiting_bytes = totals.waiting_bytes;
  health.ring_bytes = totals.ring_bytes;
  health.lag_ns = totals.waiting_bytes == 0 ? 0 : MonotonicNowNs() - ledger_.caught_up_ns;
  health.commits = ledger_.commits;
  health.commit_failures = ledger_.commit_failures;
  health.collector_alive = alive();
  health.crash_safe = pool_->crash_safe();
  for (const std::string& error : {ledger_.error, pool_->last_error(), ledger_.upkeep_error, ledger_.lasting}) {
    if (health.last_error.empty()) health.last_error = error;
  }
}

}  // namespace spanbox
