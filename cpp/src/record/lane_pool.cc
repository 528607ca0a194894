#include "record/lane_pool.h"

#include <algorithm>
#include <new>
#include <thread>

#include "base/clock.h"
#include "base/ids.h"

namespace spanbox {
namespace {

constexpr std::int64_t kRetryNs = 1'000'000'000;
constexpr std::int64_t kCalmNs = 10'000'000'000;   // before memory is given back
constexpr std::uint64_t kFirstBytes = 256u << 10;  // the rest of the first file is the collector's business
constexpr std::uint32_t kLanesWhenThreadsAreMany = 16;

LaneState StateOf(const Lane& lane) { return lane.control().state.load(std::memory_order_relaxed); }
void SetState(Lane& lane, LaneState state) { lane.control().state.store(state, std::memory_order_relaxed); }

// Where the lane goes on when its slot gets a file again.
LaneStart StartAfter(const Lane& lane) {
  LaneStart start{lane.cursor(), lane.control().ended_spans.load(std::memory_order_relaxed)};
  start.cursor.dropped_spans = lane.control().dropped_spans.load(std::memory_order_relaxed);
  start.cursor.dropped_bytes = lane.control().dropped_bytes.load(std::memory_order_relaxed);
  return start;
}

bool PastHalf(const Lane& lane) { return lane.used_bytes() > lane.lane_bytes() / 2; }

}  // namespace

LanePool::LanePool(std::string ring_dir, const RecorderOptions& options)
    : ring_dir_(std::move(ring_dir)), options_(options), ring_(NewRingId()) {}

template <typename Visit>
void LanePool::ForEachLane(Visit visit) const {
  for (const auto& [number, slot] : slots_) {
    if (slot.file == nullptr) continue;
    for (const auto& lane : slot.file->lanes()) visit(*lane);
  }
}

template <typename Visit>
void LanePool::ForEachPast(Visit visit) const {
  for (const auto& [number, slot] : slots_) {
    const std::size_t present = slot.file == nullptr ? 0 : slot.file->lanes().size();
    for (std::size_t i = present; i < slot.past.size(); ++i) visit(slot.past[i]);
  }
}

RingSpec LanePool::Spec(std::uint32_t slot, std::uint32_t lanes, std::uint64_t lane_bytes) const {
  return {.ring_dir = ring_dir_,
          .ring = ring_,
          .slot = slot,
          .lanes = lanes,
          .lane_bytes = lane_bytes,
          .populate_bytes = slot == 0 ? kFirstBytes : kMaxLaneBytes * lanes,
          .release = options_.release,
          .environment = options_.environment,
          .starts = {}};
}

bool LanePool::EnsureFirstRing() noexcept {
  if (has_ring()) return true;
  const std::scoped_lock lock(create_mutex_);
  if (has_ring()) return true;
  const std::int64_t now = MonotonicNowNs();
  if (now < next_try_ns_) return false;
  next_try_ns_ = now + kRetryNs;
  try {
    // One lane more than asked for: the overflow lane.
    auto made = RingFile::Create(Spec(0, options_.lanes + 1, options_.lane_bytes));
    const std::scoped_lock pool_lock(mutex_);
    if (!made.ok()) {
      last_error_ = made.status().message();
      return false;
    }
    last_error_.clear();
    overflow_ = (*made)->lanes().back().get();
    process_ = &(*made)->process();
    SetState(*overflow_, LaneState::kOwned);
    slots_[0].file = *std::move(made);
  } catch (const std::bad_alloc&) {
    return false;
  }
  has_ring_.store(true, std::memory_order_release);
  return true;
}

Lane* LanePool::FindFree(std::uint64_t above_bytes, std::uint64_t below_bytes) {
  Lane* best = nullptr;
  ForEachLane([&](Lane& lane) {
    if (&lane == overflow_ || StateOf(lane) != LaneState::kFree || lane.give_back.load(std::memory_order_relaxed))
      return;
    if (lane.lane_bytes() <= above_bytes || lane.lane_bytes() >= below_bytes || PastHalf(lane)) return;
    if (best == nullptr || lane.lane_bytes() < best->lane_bytes()) best = &lane;
  });
  return best;
}

void LanePool::Own(Lane& lane) {
  SetState(lane, LaneState::kOwned);
  slots_[lane.number() / kLanesPerSlot].last_used_ns = MonotonicNowNs();
}

Lane* LanePool::Take() noexcept {
  const std::scoped_lock lock(mutex_);
  if (closed_) return nullptr;
  Lane* const lane = FindFree(0, ~std::uint64_t{0});
  if (lane != nullptr) {
    Own(*lane);
  } else {
    lane_misses_.fetch_add(1, std::memory_order_relaxed);
  }
  return lane;
}

Lane* LanePool::Move(Lane* lane) noexcept {
  const std::scoped_lock lock(mutex_);
  if (closed_) return nullptr;
  const bool smaller = lane->give_back.load(std::memory_order_relaxed);
  Lane* const next = smaller ? FindFree(0, lane->lane_bytes()) : FindFree(lane->lane_bytes() - 1, ~std::uint64_t{0});
  if (next == nullptr) return nullptr;
  Own(*next);
  // It must be drained before the lane moved to: see LanesToDrain.
  SetState(*lane, LaneState::kClosing);
  lane->control().closed_order.store(++closed_lanes_, std::memory_order_relaxed);
  return next;
}

void LanePool::Return(Lane* lane) noexcept {
  if (abandoned_) return;
  const std::scoped_lock lock(mutex_);
  if (closed_) return;
  // Free at once, drained or not: the next thread's records simply follow.
  SetState(*lane, LaneState::kFree);
  generation_.fetch_add(1, std::memory_order_relaxed);
}

void LanePool::LockOverflow() noexcept {
  // Acquire: the owner's members as the last holder left them.
  while (overflow_lock_.test_and_set(std::memory_order_acquire)) std::this_thread::yield();
}

void LanePool::CountDrop(RecordType type, std::size_t payload_bytes, bool nested) noexcept {
  constexpr auto kRelaxed = std::memory_order_relaxed;
  const std::uint64_t spans = LosesSpan(type) ? 1 : 0;
  if (has_ring()) {
    process_->dropped_spans.fetch_add(spans, kRelaxed);
    process_->dropped_bytes.fetch_add(payload_bytes, kRelaxed);
    if (nested) process_->interrupted_nested.fetch_add(1, kRelaxed);
  } else {
    early_dropped_spans_.fetch_add(spans, kRelaxed);
    early_dropped_bytes_.fetch_add(payload_bytes, kRelaxed);
  }
}

void LanePool::NoteLostEnd(SpanId span) noexcept {
  try {
    const std::scoped_lock lock(lost_mutex_);
    lost_ends_.push_back(span);
  } catch (const std::bad_alloc&) {
    // The span then stays open until the recorder closes.
  }
}

std::vector<SpanId> LanePool::TakeLostEnds() {
  const std::scoped_lock lock(lost_mutex_);
  return std::exchange(lost_ends_, {});
}

std::uint64_t LanePool::RingBytes() const {
  std::uint64_t bytes = 0;
  for (const auto& [number, slot] : slots_) bytes += slot.file == nullptr ? 0 : slot.file->bytes();
  return bytes;
}

LanePool::Totals LanePool::GetTotals() const {
  constexpr auto kRelaxed = std::memory_order_relaxed;
  const std::scoped_lock lock(mutex_);
  Totals totals;
  totals.dropped_spans = early_dropped_spans_.load(kRelaxed);
  totals.dropped_bytes = early_dropped_bytes_.load(kRelaxed);
  totals.ring_bytes = RingBytes();
  ForEachPast([&](const LaneStart& past) {
    totals.ended += past.ended_spans;
    totals.dropped_spans += past.cursor.dropped_spans;
    totals.dropped_bytes += past.cursor.dropped_bytes;
  });
  ForEachLane([&](const Lane& lane) {
    totals.ended += lane.control().ended_spans.load(kRelaxed);
    totals.dropped_spans += lane.control().dropped_spans.load(kRelaxed);
    totals.dropped_bytes += lane.control().dropped_bytes.load(kRelaxed);
    totals.waiting_bytes += lane.used_bytes();
  });
  if (!slots_.empty() && !closed_ && process_ != nullptr) {
    totals.dropped_spans += process_->dropped_spans.load(kRelaxed);
    totals.dropped_bytes += process_->dropped_bytes.load(kRelaxed);
  }
  return totals;
}

std::string LanePool::last_error() const {
  const std::scoped_lock lock(mutex_);
  return last_error_;
}

bool LanePool::ThreadsHaveLeft(const Lane& lane) const {
  return &lane == overflow_ || StateOf(lane) == LaneState::kClosing;
}

std::vector<Lane*> LanePool::LanesToDrain() {
  const std::scoped_lock lock(mutex_);
  struct Rank {
    std::uint64_t order;
    double empty;  // share of the lane
    Lane* lane;
  };
  std::vector<Rank> ranked;
  ForEachLane([&](Lane& lane) {
    // Threads begin on the overflow lane, and never come back to it.
    std::uint64_t order = ~std::uint64_t{0};
    if (&lane == overflow_) order = 0;
    if (StateOf(lane) == LaneState::kClosing) order = lane.control().closed_order.load(std::memory_order_relaxed);
    ranked.push_back(
        {order, 1 - static_cast<double>(lane.used_bytes()) / static_cast<double>(lane.lane_bytes()), &lane});
  });
  std::ranges::stable_sort(ranked, {}, [](const Rank& rank) { return std::pair(rank.order, rank.empty); });
  std::vector<Lane*> lanes;
  for (const Rank& rank : ranked) lanes.push_back(rank.lane);
  return lanes;
}

std::vector<LaneCursor> LanePool::AllCursors() const {
  constexpr auto kRelaxed = std::memory_order_relaxed;
  const std::scoped_lock lock(mutex_);
  std::vector<LaneCursor> cursors;
  ForEachPast([&](const LaneStart& past) { cursors.push_back(past.cursor); });
  ForEachLane([&](const Lane& lane) {
    LaneCursor cursor = StartAfter(lane).cursor;
    if (&lane == overflow_) {
      cursor.dropped_spans += process_->dropped_spans.load(kRelaxed) + early_dropped_spans_.load(kRelaxed);
      cursor.dropped_bytes += process_->dropped_bytes.load(kRelaxed) + early_dropped_bytes_.load(kRelaxed);
    }
    cursors.push_back(cursor);
  });
  return cursors;
}

void LanePool::FreeDrained() {
  const std::scoped_lock lock(mutex_);
  ForEachLane([&](Lane& lane) {
    if (StateOf(lane) != LaneState::kClosing || lane.used_bytes() > 0) return;
    SetState(lane, LaneState::kFree);
    generation_.fetch_add(1, std::memory_order_relaxed);
  });
}

void LanePool::Adapt(std::int64_t now_ns) {
  {
    const std::scoped_lock lock(mutex_);
    bool past_half = false;
    ForEachLane([&](const Lane& lane) { past_half |= PastHalf(lane); });
    if (past_half) calm_since_ns_ = now_ns;
    const bool calm = now_ns - calm_since_ns_ > kCalmNs;
    // A quiet thread on a large lane is asked to go back to a smaller one; it does when it next looks for room.
    ForEachLane([&](Lane& lane) {
      lane.give_back.store(calm && lane.lane_bytes() > options_.lane_bytes, std::memory_order_relaxed);
    });
  }
  if (!GrowIfNeeded(now_ns)) Shrink(now_ns);
}

bool LanePool::GrowIfNeeded(std::int64_t now_ns) {
  std::uint32_t lanes = 0;
  std::uint64_t lane_bytes = 0;
  if (!WantsGrowth(lanes, lane_bytes)) return false;
  calm_since_ns_ = now_ns;
  Grow(lanes, lane_bytes);
  return true;
}

bool LanePool::WantsGrowth(std::uint32_t& lanes, std::uint64_t& lane_bytes) {
  const std::scoped_lock lock(mutex_);
  bool any_free = false, past_half = false;
  std::uint64_t used = 0, all = 0, largest = 0;
  ForEachLane([&](const Lane& lane) {
    if (&lane == overflow_) return;
    any_free |= StateOf(lane) == LaneState::kFree && !PastHalf(lane);
    past_half |= PastHalf(lane);
    used += lane.used_bytes();
    all += lane.lane_bytes();
    largest = std::max(largest, lane.lane_bytes());
  });
  const bool threads_wait = lane_misses_.exchange(0, std::memory_order_relaxed) > 0 && !any_free;
  const std::uint64_t room = options_.max_ring_bytes - std::min<std::uint64_t>(options_.max_ring_bytes, RingBytes());
  const auto fits = [&](std::uint32_t most_lanes) {
    for (lanes = most_lanes; lanes > 0; lanes /= 2) {
      if (RingFileBytes(lanes, lane_bytes) <= room) return true;
    }
    return false;
  };
  // Early: making a file takes as long as a fast writer needs to fill what is left.
  lane_bytes = std::min(kMaxLaneBytes, largest * 2);
  if (past_half && used > all / 4 && fits(options_.lanes)) return true;
  // The largest payload takes a quarter of a first lane, and needs at most twice its size at the end of a lane.
  lane_bytes = std::max<std::uint64_t>(kMinLaneBytes, options_.lane_bytes / 2);
  return threads_wait && fits(kLanesWhenThreadsAreMany);
}

void LanePool::Grow(std::uint32_t lanes, std::uint64_t lane_bytes) {
  std::uint32_t number = 1;
  RingSpec spec;
  {
    const std::scoped_lock lock(mutex_);
    while (slots_.contains(number) && slots_[number].file != nullptr) ++number;
    spec = Spec(number, lanes, lane_bytes);
    spec.starts = slots_[number].past;
  }
  // Outside the lock: a writer must not wait for a file to be made.
  auto made = RingFile::Create(spec);
  const std::scoped_lock lock(mutex_);
  if (!made.ok()) {
    last_error_ = made.status().message();
    return;
  }
  Slot& slot = slots_[number];
  slot.file = *std::move(made);
  slot.last_used_ns = MonotonicNowNs();
  last_error_.clear();
  generation_.fetch_add(1, std::memory_order_relaxed);
}

bool LanePool::IsIdle(const Slot& slot) const {
  return std::ranges::all_of(slot.file->lanes(), [](const auto& lane) {
    return StateOf(*lane) == LaneState::kFree && lane->used_bytes() == 0;
  });
}

void LanePool::Shrink(std::int64_t now_ns) {
  std::unique_ptr<RingFile> released;  // unmapped after the lock is left
  const std::scoped_lock lock(mutex_);
  for (auto& [number, slot] : slots_) {
    if (number == 0 || slot.file == nullptr) continue;
    if (!IsIdle(slot)) {
      slot.last_used_ns = now_ns;
    } else if (now_ns - slot.last_used_ns > kCalmNs) {
      const auto lanes = slot.file->lanes();
      slot.past.resize(std::max(slot.past.size(), lanes.size()));
      for (std::size_t i = 0; i < lanes.size(); ++i) slot.past[i] = StartAfter(*lanes[i]);
      slot.file->Unlink();
      released = std::move(slot.file);
      return;
    }
  }
}

void LanePool::SetAlive(std::int64_t wall_ns) {
  if (has_ring()) process_->alive_ns.store(wall_ns, std::memory_order_relaxed);
}

void LanePool::PopulateFirst() {
  RingFile* first = nullptr;
  {
    const std::scoped_lock lock(mutex_);
    if (const auto found = slots_.find(0); found != slots_.end()) first = found->second.file.get();
  }
  if (first != nullptr) first->Populate();
}

void LanePool::Close(bool unlink) {
  const std::scoped_lock lock(mutex_);
  closed_ = true;
  // Slot 0 goes last: while it is there and locked, nobody recovers the others.
  while (!slots_.empty()) {
    Slot& slot = slots_.rbegin()->second;
    if (slot.file != nullptr && unlink) slot.file->Unlink();
    slots_.erase(std::prev(slots_.end()));
  }
}

}  // namespace spanbox
