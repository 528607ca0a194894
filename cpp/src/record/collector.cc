#include "record/collector.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <map>
#include <system_error>

#include "base/clock.h"
#include "base/msgpack.h"

namespace spanbox {
namespace {

constexpr std::int64_t kSecondNs = 1'000'000'000;
constexpr std::int64_t kIdleAfterNs = 5 * kSecondNs;
constexpr std::int64_t kIdlePollNs = kSecondNs / 2;
constexpr std::int64_t kRecoverEveryNs = 2 * kSecondNs;
constexpr std::int64_t kFirstBackoffNs = kSecondNs / 10;
constexpr std::int64_t kMaxBackoffNs = 5 * kSecondNs;
constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
// A commit's cost is the flush of the disk, whatever its size: batches are cut only to bound memory.
constexpr std::uint64_t kBatchSpans = 16'384;

}  // namespace

Collector::Collector(std::shared_ptr<LanePool> pool, ExporterFactory make_exporter, std::string ring_dir,
                     const RecorderOptions& options)
    : pool_(std::move(pool)),
      make_exporter_(std::move(make_exporter)),
      ring_dir_(std::move(ring_dir)),
      options_(options),
      wake_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      joiner_(options.release, options.environment) {
  caught_up_ns_ = last_active_ns_ = MonotonicNowNs();
}

Collector::~Collector() {
  if (wake_fd_ >= 0) close(wake_fd_);
}

void Collector::Start() noexcept {
  if (alive()) return;
  // Whoever comes while another thread starts it waits here: a blocking writer trusts that it runs.
  const std::scoped_lock lock(start_mutex_);
  const std::int64_t now = MonotonicNowNs();
  if (alive() || stopping_.load(std::memory_order_relaxed) || now < next_start_ns_) return;
  next_start_ns_ = now + kSecondNs;
  // The program's signal handlers belong on the program's threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    alive_.store(true, std::memory_order_relaxed);
    thread_ = std::thread([this] { Run(); });
  } catch (const std::system_error& error) {
    alive_.store(false, std::memory_order_relaxed);
    SetError(std::string("cannot start the collector thread: ") + error.what());
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void Collector::Wake() noexcept {
  // The flag only saves system calls. Sequentially consistent: who finds it set knows that the collector has yet to
  // look.
  if (wake_pending_.exchange(true)) return;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = write(wake_fd_, &one, sizeof one);
}

bool Collector::WaitForWork(std::int64_t timeout_ns) noexcept {
  pollfd waited{wake_fd_, POLLIN, 0};
  poll(&waited, 1, static_cast<int>((timeout_ns + 999'999) / 1'000'000));
  std::uint64_t count;
  const bool woken = read(wake_fd_, &count, sizeof count) > 0;
  wake_pending_.exchange(false);
  return woken;
}

std::int64_t Collector::NextPassInNs() const {
  if (backoff_ns_ > 0) return backoff_ns_;
  return MonotonicNowNs() - last_active_ns_ > kIdleAfterNs ? std::max(kIdlePollNs, options_.commit_interval_ns)
                                                           : options_.commit_interval_ns;
}

void Collector::Run() noexcept {
  pthread_setname_np(pthread_self(), "spanbox");
  pool_->PopulateFirst();
  std::int64_t next_pass_ns = 0;
  bool more_work = false;
  while (!stopping_.load(std::memory_order_relaxed)) {
    const std::int64_t before = MonotonicNowNs();
    const bool woken = WaitForWork(more_work ? 0 : std::max<std::int64_t>(0, next_pass_ns - before));
    if (stopping_.load(std::memory_order_relaxed)) break;
    const std::int64_t now = MonotonicNowNs();
    const std::scoped_lock lock(pass_mutex_);
    const bool flush = flush_asked_.load(std::memory_order_acquire) > flush_tried_;
    if (now >= next_pass_ns || flush || (woken && backoff_ns_ == 0)) {
      Pass(kNever);
      Maintain();
      next_pass_ns = MonotonicNowNs() + NextPassInNs();
    }
    more_work = backoff_ns_ == 0 && BackgroundWork();
  }
  alive_.store(false, std::memory_order_relaxed);
}

bool Collector::EnsureExporter() {
  if (exporter_ != nullptr) return true;
  auto made = make_exporter_();
  if (!made.ok() || *made == nullptr) {
    SetError(made.ok() ? "the exporter factory returned none" : made.status().message());
    return false;
  }
  exporter_ = *std::move(made);
  SetError({});
  return true;
}

bool Collector::Pass(std::int64_t deadline_ns) {
  RefreshWallOffset();
  pool_->SetAlive(WallNowNs());
  const std::uint64_t ticket = flush_asked_.load(std::memory_order_acquire);
  flush_tried_ = ticket;
  bool good = !pool_->has_ring();
  if (!good && EnsureExporter()) {
    for (const SpanId span : pool_->TakeLostEnds()) lost_ends_.push_back(span);
    const std::int64_t began_ns = MonotonicNowNs();
    joiner_.ReleaseHeld();
    good = (!pending_ || CommitGroup()) && DrainGroups(deadline_ns) && FinishPass();
    const std::scoped_lock lock(state_mutex_);
    if (good) caught_up_ns_ = began_ns;
  }
  backoff_ns_ = good ? 0 : std::clamp(backoff_ns_ * 2, kFirstBackoffNs, kMaxBackoffNs);
  {
    const std::scoped_lock lock(state_mutex_);
    if (good) flush_done_ = std::max(flush_done_, ticket);
  }
  flushed_.notify_all();
  return good;
}

// Heads are read twice. What was published before a kEnd below its lane's first reading is below some lane's second
// reading, so such a kEnd completes its span with nothing missing.
//
// Only then is it asked which lanes their threads have left, and those are read a third time: what a thread wrote into
// them comes, all of it and first, before what is seen of the lane it moved to.
std::vector<Lane*> Collector::SnapshotHeads(std::vector<LaneSource>& sources) {
  struct Reading {
    std::uint64_t first, second;
  };
  std::map<const Lane*, Reading> heads;
  // Acquire: the records below this head are whole, and so is all that was published before them.
  const auto head = [](const Lane* lane) { return lane->control().head.load(std::memory_order_acquire); };
  for (const Lane* lane : pool_->LanesToDrain()) heads[lane].first = head(lane);
  for (auto& [lane, reading] : heads) reading.second = head(lane);
  std::vector<Lane*> lanes = pool_->LanesToDrain();  // the same ones: files come and go by this thread only
  for (const Lane* lane : lanes) {
    LaneSource source{.data = lane->data(), .seed = lane->seed(), .cursor = lane->cursor()};
    source.end_limit = heads[lane].first;
    source.limit = pool_->ThreadsHaveLeft(*lane) ? head(lane) : heads[lane].second;
    sources.push_back(source);
  }
  return lanes;
}

bool Collector::DrainGroups(std::int64_t deadline_ns) {
  std::vector<LaneSource> sources;
  std::vector<Lane*> lanes = SnapshotHeads(sources);
  std::uint64_t bytes = 0;
  for (const LaneSource& source : sources) bytes += source.limit - source.cursor.position;
  if (bytes > 0) last_active_ns_ = MonotonicNowNs();
  const auto work_left = [&] { return std::ranges::any_of(sources, [](const auto& s) { return !s.empty(); }); };
  while (work_left() || joiner_.has_ready()) {
    if (MonotonicNowNs() > deadline_ns) return false;
    pool_->GrowIfNeeded(MonotonicNowNs());  // before the commit: a writer in a burst needs the room meanwhile
    BuildGroup(lanes, sources);
    if (!CommitGroup()) return false;
    pool_->FreeDrained();
  }
  return true;
}

void Collector::BeginGroup() {
  joiner_.Begin();
  pending_.emplace();
  pending_->batch.ring = pool_->ring();
}

void Collector::BuildGroup(std::vector<Lane*>& lanes, std::vector<LaneSource>& sources) {
  BeginGroup();
  DrainLanes(sources, {.bytes = options_.commit_bytes, .spans = kBatchSpans}, joiner_);
  joiner_.Finish(pending_->batch);
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    if (sources[i].cursor.position != lanes[i]->cursor().position) {
      pending_->stored.emplace_back(lanes[i], sources[i].cursor);
    }
    if (sources[i].gaps > 0) SetError("records in memory were damaged and skipped; some program wrote over the ring");
  }
}

bool Collector::FinishPass() {
  BeginGroup();
  for (const SpanId span : lost_ends_) joiner_.Interrupt(span, pending_->batch);
  lost_ends_.clear();
  joiner_.ExpireOrphans(pending_->batch);
  const auto totals = pool_->GetTotals();
  const std::uint64_t drops = totals.dropped_bytes + totals.dropped_spans;
  if (pending_->batch.closed.empty() && drops == committed_drops_) {
    pending_.reset();
    return true;
  }
  if (!CommitGroup()) return false;
  committed_drops_ = drops;
  return true;
}

bool Collector::CommitGroup() {
  Group& group = *pending_;
  group.batch.cursors = pool_->AllCursors();
  for (LaneCursor& cursor : group.batch.cursors) {
    for (const auto& [lane, stored] : group.stored) {
      if (lane->number() != cursor.lane) continue;
      cursor.position = stored.position;
      cursor.seq = stored.seq;
    }
  }
  if (!process_written_) group.batch.process = ProcessJson();
  const Status status = exporter_->Commit(group.batch);
  if (!status.ok()) {
    SetError(status.message());
    const std::scoped_lock lock(state_mutex_);
    ++commit_failures_;
    return false;
  }
  process_written_ = true;
  for (const auto& [lane, cursor] : group.stored) lane->MarkStored(cursor);
  pending_.reset();
  const std::scoped_lock lock(state_mutex_);
  ++commits_;
  last_error_.clear();
  stored_spans_ = joiner_.counters().ended;
  discarded_ends_ = joiner_.counters().discarded_ends;
  undecodable_ = joiner_.counters().undecodable;
  open_spans_ = joiner_.open_spans();
  return true;
}

void Collector::Maintain() {
  const std::int64_t now = MonotonicNowNs();
  pool_->FreeDrained();
  pool_->Adapt(now);
  if (exporter_ == nullptr || backoff_ns_ > 0 || now < next_recovery_ns_) return;
  next_recovery_ns_ = now + kRecoverEveryNs;
  const auto recovered = RecoverRings(*exporter_, ring_dir_);
  if (!recovered.ok()) SetError("recovering rings: " + recovered.status().message());
}

bool Collector::BackgroundWork() {
  if (exporter_ == nullptr) return false;
  const auto more = exporter_->DoBackgroundWork();
  if (!more.ok()) SetError(more.status().message());
  return more.ok() && *more;
}

FlushResult Collector::Flush(std::int64_t timeout_ns) noexcept {
  FlushResult result;
  if (!pool_->has_ring()) {
    result.complete = true;
    return result;
  }
  // Release: records acknowledged before this call are seen by the pass that sees the ticket.
  const std::uint64_t ticket = flush_asked_.fetch_add(1, std::memory_order_acq_rel) + 1;
  const auto deadline =
      std::chrono::steady_clock::now() + std::chrono::nanoseconds(std::max<std::int64_t>(timeout_ns, 0));
  if (!alive()) {
    const std::scoped_lock lock(pass_mutex_);
    Pass(MonotonicNowNs() + timeout_ns);
  }
  Wake();
  std::unique_lock lock(state_mutex_);
  result.complete =
      flushed_.wait_until(lock, deadline, [&] { return flush_done_ >= ticket || !alive(); }) && flush_done_ >= ticket;
  lock.unlock();
  if (!result.complete) result.waiting_bytes = pool_->GetTotals().waiting_bytes;
  return result;
}

bool Collector::Retire(std::int64_t deadline_ns) {
  do {
    if (!Pass(deadline_ns)) return false;
  } while (joiner_.has_held());
  const std::int64_t now = WallNowNs();
  for (bool more = true; more;) {
    BeginGroup();
    more = joiner_.InterruptAll(pending_->batch, now, kBatchSpans);
    pending_->batch.retire = !more;
    if (!CommitGroup()) return false;
  }
  return true;
}

void Collector::Close(std::int64_t timeout_ns) noexcept {
  {
    const std::scoped_lock lock(start_mutex_);
    stopping_.store(true, std::memory_order_relaxed);
  }
  Wake();
  if (thread_.joinable()) thread_.join();
  const std::scoped_lock lock(pass_mutex_);
  pool_->Close(/*unlink=*/pool_->has_ring() && Retire(MonotonicNowNs() + timeout_ns));
}

void Collector::SetError(std::string error) {
  const std::scoped_lock lock(state_mutex_);
  last_error_ = std::move(error);
}

std::string Collector::ProcessJson() const {
  char exe[4096];
  const ssize_t n = readlink("/proc/self/exe", exe, sizeof exe);
  std::string json = "{\"pid\":" + std::to_string(getpid()) + ",\"exe\":";
  AppendJsonString({exe, static_cast<std::size_t>(std::max<ssize_t>(n, 0))}, json);
  return json + ",\"started_ns\":" + std::to_string(WallNowNs()) + "}";
}

void Collector::AddTo(Health& health) const {
  const auto totals = pool_->GetTotals();
  const std::scoped_lock lock(state_mutex_);
  health.dropped_spans = totals.dropped_spans + undecodable_;
  health.dropped_bytes = totals.dropped_bytes;
  health.recorded_spans = totals.ended - discarded_ends_ + health.dropped_spans;
  health.stored_spans = stored_spans_;
  health.open_spans = open_spans_;
  health.waiting_bytes = totals.waiting_bytes;
  health.ring_bytes = totals.ring_bytes;
  health.lag_ns = totals.waiting_bytes == 0 ? 0 : MonotonicNowNs() - caught_up_ns_;
  health.commits = commits_;
  health.commit_failures = commit_failures_;
  health.collector_alive = alive();
  health.last_error = last_error_;
  if (health.last_error.empty()) health.last_error = pool_->last_error();
}

}  // namespace spanbox
