#include "record/collector.h"

#include <cxxabi.h>
#include <unistd.h>

#include <algorithm>
#include <exception>
#include <limits>
#include <map>
#include <utility>

#include "base/clock.h"
#include "base/msgpack.h"

namespace spanbox {
namespace {

constexpr std::int64_t kSecondNs = 1'000'000'000;
constexpr std::int64_t kIdleAfterNs = 5 * kSecondNs;
constexpr std::int64_t kIdlePollNs = kSecondNs / 2;
constexpr std::int64_t kFirstBackoffNs = kSecondNs / 10;
constexpr std::int64_t kMaxBackoffNs = 5 * kSecondNs;
constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
// A commit's cost is the flush of the disk, whatever its size: batches are cut only to bound memory.
constexpr std::uint64_t kBatchSpans = 16'384;
constexpr std::uint64_t kMaxBatchBytes = 16u << 20;
constexpr std::uint64_t kCommitsPerMerge = 8;

// An exporter must not throw. One that does has failed.
template <typename Call>
auto Guarded(const Call& call) -> decltype(call()) {
  try {
    return call();
  } catch (const std::exception& error) {
    return Internal(std::string("the exporter threw: ") + error.what());
  } catch (...) {
    // No exception, but the thread's end, which cannot be stopped.
    if (abi::__cxa_current_exception_type() == nullptr) throw;
    return Internal("the exporter threw something");
  }
}

std::string ProcessJson() {
  char exe[4096];
  const ssize_t n = readlink("/proc/self/exe", exe, sizeof exe);
  std::string json = "{\"pid\":" + std::to_string(getpid()) + ",\"exe\":";
  AppendJsonString({exe, static_cast<std::size_t>(std::max<ssize_t>(n, 0))}, json);
  return json + ",\"started_ns\":" + std::to_string(WallNowNs()) + "}";
}

}  // namespace

void Ledger::SetError(std::string text) {
  const std::scoped_lock lock(mutex);
  error = std::move(text);
}

Result<std::shared_ptr<SpanExporter>> ExporterSlot::Get() {
  if (auto exporter = Peek()) return exporter;
  // Outside the lock: it may take long, or for ever.
  auto made = Guarded(make_);
  if (!made.ok()) return made.status();
  if (*made == nullptr) return Internal("the exporter factory returned none");
  const std::scoped_lock lock(mutex_);
  if (exporter_ == nullptr) exporter_ = *std::move(made);
  return exporter_;
}

std::shared_ptr<SpanExporter> ExporterSlot::Peek() const {
  const std::scoped_lock lock(mutex_);
  return exporter_;
}

Collector::Collector(LanePool& pool, ExporterSlot& exporter, Ledger& ledger, const RecorderOptions& options,
                     Bell& need_reserve, Bell& committed)
    : pool_(pool),
      exporter_slot_(exporter),
      ledger_(ledger),
      options_(options),
      need_reserve_(need_reserve),
      committed_(committed),
      last_active_ns_(MonotonicNowNs()),
      deadline_ns_(kNever) {}

void Collector::Doing(const char* step) {
  doing_.store(step, std::memory_order_relaxed);
  steps_.fetch_add(1, std::memory_order_relaxed);
}

void Collector::Supersede() {
  const std::scoped_lock lock(ledger_.mutex);
  superseded_.store(true, std::memory_order_relaxed);
}

bool Collector::Over() const {
  return superseded_.load(std::memory_order_relaxed) || MonotonicNowNs() > deadline_ns_.load(std::memory_order_relaxed);
}

bool Collector::TimeForPass() const { return MonotonicNowNs() >= next_pass_ns_; }
std::int64_t Collector::NextPassInNs() const { return std::max<std::int64_t>(0, next_pass_ns_ - MonotonicNowNs()); }

void Collector::PlanNextPass() {
  const std::int64_t now = MonotonicNowNs();
  std::int64_t pause_ns = options_.commit_interval_ns;
  if (now - last_active_ns_ > kIdleAfterNs) pause_ns = std::max(kIdlePollNs, pause_ns);
  next_pass_ns_ = now + (backoff_ns_ > 0 ? backoff_ns_ : pause_ns);
}

bool Collector::Failed(const Status& status) {
  // Whether anything was stored is not known: the exporter will be asked.
  joiner_.reset();
  ledger_.SetError(status.message());
  return false;
}

bool Collector::Pass() {
  const std::scoped_lock work(work_mutex_);
  // A pass that was left by an exception, or by the end of its thread, leaves nothing that can be gone on with.
  if (std::exchange(in_pass_, true)) joiner_.reset();
  CalibrateClocks();
  pool_.SetAlive(WallNowNs());
  const std::uint64_t ticket = ledger_.flush_asked.load(std::memory_order_acquire);
  flush_tried_ = ticket;
  const std::int64_t began_ns = MonotonicNowNs();
  const bool good = !pool_.has_ring() || (!Over() && (joiner_ || Load()) && Drain());
  backoff_ns_ = good ? 0 : std::clamp(backoff_ns_ * 2, kFirstBackoffNs, kMaxBackoffNs);
  PlanNextPass();
  if (good) {
    const std::scoped_lock lock(ledger_.mutex);
    ledger_.caught_up_ns = std::max(ledger_.caught_up_ns, began_ns);
    ledger_.flush_done = std::max(ledger_.flush_done, ticket);
    ledger_.error.clear();
  }
  ledger_.changed.notify_all();
  in_pass_ = false;
  return good;
}

bool Collector::Load() {
  Doing("while it opened the exporter");
  auto exporter = exporter_slot_.Get();
  if (!exporter.ok()) return Failed(exporter.status());
  exporter_ = *std::move(exporter);
  Doing("while it asked how far the ring is stored");
  const auto state = Guarded([&] { return exporter_->LoadRing(pool_.ring()); });
  if (!state.ok()) return Failed(state.status());
  if (state->retired) return Failed(Internal("the ring of this process has been retired. Please report this"));
  if (options_.sampling.active()) sampler_.emplace(options_.sampling, sampler_memory_);
  joiner_.emplace(options_.release, options_.environment, sampler_ ? &*sampler_ : nullptr);
  joiner_->Restore(state->open);
  cursors_ = state->cursors;
  turn_ = state->turn;
  process_written_ = turn_ > 0;
  const LanePool::Lanes held = pool_.LanesToDrain();
  const std::scoped_lock lock(ledger_.mutex);
  if (superseded_.load(std::memory_order_relaxed)) return false;
  for (Lane* lane : held.lanes) {
    if (const auto found = cursors_.find(lane->number()); found != cursors_.end()) {
      lane->MarkStored(found->second.position);
    }
  }
  return true;
}

// Heads are read twice. What was published before a kEnd below its lane's first reading is below some lane's second
// reading, so such a kEnd completes its span with nothing missing.
//
// Only then is it asked which lanes their threads have left, and those are read a third time: what a thread wrote into
// them comes, all of it and first, before what is seen of the lane it moved to.
std::vector<LaneSource> Collector::Sources(LanePool::Lanes& held) {
  struct Reading {
    std::uint64_t first, second;
  };
  std::map<const Lane*, Reading> heads;
  // Acquire: the records below this head are whole, and so is all that was published before them.
  const auto head = [](const Lane* lane) { return lane->control().head.load(std::memory_order_acquire); };
  for (const Lane* lane : held.lanes) heads[lane].first = head(lane);
  for (auto& [lane, reading] : heads) reading.second = head(lane);
  held = pool_.LanesToDrain();
  std::vector<LaneSource> sources;
  for (std::size_t i = 0; i < held.lanes.size(); ++i) {
    const Lane* const lane = held.lanes[i];
    LaneSource source;
    source.data = lane->data();
    source.seed = lane->seed();
    LaneCursor& cursor = cursors_[lane->number()];
    cursor.lane = lane->number();
    source.cursor = cursor;
    const auto read = heads.find(lane);  // none: first owned since
    source.end_limit = read == heads.end() ? source.cursor.position : read->second.first;
    source.limit = read == heads.end() ? source.cursor.position : read->second.second;
    if (i < held.left) source.limit = head(lane);
    sources.push_back(source);
  }
  return sources;
}

bool Collector::Drain() {
  const std::vector<SpanId> lost_ends = pool_.LostEnds();
  LanePool::Lanes held = pool_.LanesToDrain();
  if (pool_.WantsReserve()) need_reserve_.Ring();
  std::vector<LaneSource> sources = Sources(held);
  const auto work_left = [&] { return std::ranges::any_of(sources, [](const auto& s) { return !s.empty(); }); };
  if (work_left()) last_active_ns_ = MonotonicNowNs();
  joiner_->ReleaseHeld();
  while (work_left() || joiner_->has_ready()) {
    if (Over()) return false;
    BuildGroup(held.lanes, sources);
    if (!CommitGroup()) return false;
    pool_.FreeDrained();
  }
  return FinishPass(lost_ends);
}

void Collector::BeginGroup() {
  joiner_->Begin();
  copies_.Clear();
  group_ = {};
  group_.batch.ring = pool_.ring();
  group_.before = joiner_->counters();
}

void Collector::BuildGroup(const std::vector<Lane*>& lanes, std::vector<LaneSource>& sources) {
  Doing("while it joined records");
  BeginGroup();
  // The more waits, the larger the batch: while the disk is slow, fewer flushes bring the room back sooner.
  std::uint64_t waiting = 0;
  for (const LaneSource& source : sources) waiting += source.limit - source.cursor.position;
  const std::uint64_t bytes = std::max<std::uint64_t>(options_.commit_bytes, std::min(waiting / 4, kMaxBatchBytes));
  DrainLanes(sources, {.bytes = bytes, .spans = kBatchSpans}, *joiner_, &copies_);
  joiner_->Finish(group_.batch, /*all_seen=*/std::ranges::all_of(sources, &LaneSource::empty));
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    if (sources[i].cursor.position > cursors_[lanes[i]->number()].position) {
      group_.moved.emplace_back(lanes[i], sources[i].cursor);
    }
    if (sources[i].gaps == 0) continue;
    sources[i].gaps = 0;
    const std::scoped_lock lock(ledger_.mutex);
    ledger_.lasting = "records in memory were damaged and skipped; some program wrote over the ring";
  }
}

bool Collector::CommitGroup() {
  SpanBatch& batch = group_.batch;
  for (const auto& [lane, cursor] : group_.moved) cursors_[cursor.lane] = cursor;
  // None when the pool has been closed meanwhile: then the counters stay as they were last seen.
  for (const LaneCursor& counters : pool_.DropCounters()) {
    LaneCursor& cursor = cursors_[counters.lane];
    cursor.lane = counters.lane;
    cursor.dropped_spans = counters.dropped_spans;
    cursor.dropped_bytes = counters.dropped_bytes;
  }
  for (const auto& [lane, cursor] : cursors_) batch.cursors.push_back(cursor);
  batch.turn = turn_ + 1;
  if (!process_written_) batch.process = ProcessJson();
  Doing("in a commit");
  const Status status = Guarded([&] { return exporter_->Commit(batch); });
  Doing("after a commit");
  if (status.ok()) return Committed();
  {
    const std::scoped_lock lock(ledger_.mutex);
    ++ledger_.commit_failures;
  }
  return Failed(status);
}

bool Collector::Committed() {
  ++turn_;
  process_written_ = true;
  if (sampler_) sampler_->Committed();
  const SpanJoiner::Counters& now = joiner_->counters();
  std::unique_lock lock(ledger_.mutex);
  ledger_.counters.ended += now.ended - group_.before.ended;
  ledger_.counters.sampled_out += now.sampled_out - group_.before.sampled_out;
  ledger_.counters.interrupted += now.interrupted - group_.before.interrupted;
  ledger_.counters.discarded_ends += now.discarded_ends - group_.before.discarded_ends;
  ledger_.counters.undecodable += now.undecodable - group_.before.undecodable;
  if (++ledger_.commits % kCommitsPerMerge == 0) committed_.Ring();
  // The one that has taken over reads from the exporter how far the ring is stored, and says so to the writers itself.
  if (superseded_.load(std::memory_order_relaxed)) return false;
  for (const auto& [lane, cursor] : group_.moved) lane->MarkStored(cursor.position);
  ledger_.open_spans = joiner_->open_spans();
  ledger_.error.clear();
  return true;
}

bool Collector::FinishPass(const std::vector<SpanId>& lost_ends) {
  BeginGroup();
  for (const SpanId span : lost_ends) joiner_->Interrupt(span, group_.batch);
  joiner_->ExpireOrphans(group_.batch);
  joiner_->Decide(group_.batch);
  const auto totals = pool_.GetTotals();
  const std::uint64_t drops = totals.dropped_bytes + totals.dropped_spans;
  if (!group_.batch.closed.empty() || drops != committed_drops_) {
    if (!CommitGroup()) return false;
    committed_drops_ = drops;
  } else if (sampler_) {
    sampler_->Committed();  // what was decided concerns no span that waits
  }
  const std::scoped_lock lock(ledger_.mutex);
  if (superseded_.load(std::memory_order_relaxed)) return false;
  pool_.ForgetLostEnds(lost_ends.size());
  return true;
}

bool Collector::Retire() {
  do {
    if (!Pass()) return false;
  } while (joiner_->has_held());
  const std::scoped_lock work(work_mutex_);
  const std::int64_t now = WallNowNs();
  for (bool more = true; more;) {
    if (Over()) return false;
    BeginGroup();
    more = joiner_->InterruptAll(group_.batch, now, kBatchSpans);
    group_.batch.retire = !more;
    if (!CommitGroup()) return false;
  }
  const std::scoped_lock lock(ledger_.mutex);
  ledger_.retired = true;
  return true;
}

}  // namespace spanbox
