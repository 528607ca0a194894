#include "record/lane_pool.h"

#include <linux/magic.h>
#include <sys/vfs.h>

#include <algorithm>
#include <new>
#include <thread>

#include "base/clock.h"
#include "base/ids.h"

namespace spanbox {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr std::int64_t kRetryNs = 1'000'000'000;
constexpr std::int64_t kCalmNs = 60'000'000'000;  // before the reserve is given back
constexpr std::uint64_t kAheadBytes = 4u << 20;   // of free lanes whose pages are made
constexpr std::uint32_t kMaxReserveLanes = 64;

bool PastHalf(const Lane& lane) { return lane.ever_owned() && lane.used_bytes() > lane.lane_bytes() / 2; }

// There a file's bytes are memory from the start: the reserve is made when it is needed, which is quick.
bool IsMemoryFileSystem(const std::string& folder) {
  struct statfs info {};
  return statfs(folder.c_str(), &info) == 0 && info.f_type == TMPFS_MAGIC;
}

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
void LanePool::ForEachStop(Visit visit) const {
  for (const auto& [number, slot] : slots_) {
    const std::size_t present = slot.file == nullptr ? 0 : slot.file->lanes().size();
    for (std::size_t i = 0; i < std::max(present, slot.past.size()); ++i) {
      const auto lane = static_cast<std::uint32_t>(number * kLanesPerSlot + i);
      if (i < present && slot.file->lanes()[i]->ever_owned()) {
        const LaneControl& control = slot.file->lanes()[i]->control();
        visit(lane, LaneStart{0, 0, control.ended_spans.load(kRelaxed), control.dropped_spans.load(kRelaxed),
                              control.dropped_bytes.load(kRelaxed)});
      } else if (i < slot.past.size()) {
        visit(lane, slot.past[i]);
      }
    }
  }
}

RingSpec LanePool::Spec(std::uint32_t slot, std::uint32_t lanes, std::uint64_t lane_bytes) const {
  return {.ring_dir = ring_dir_,
          .ring = ring_,
          .slot = slot,
          .lanes = lanes,
          .lane_bytes = lane_bytes,
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
    const Status made = MakeFirst();
    if (!made.ok()) {
      const std::scoped_lock pool_lock(mutex_);
      last_error_ = made.message();
      return false;
    }
    if (!crash_safe() || !IsMemoryFileSystem(ring_dir_)) MakeReserve(now);
  } catch (const std::bad_alloc&) {
    return has_ring();
  }
  return true;
}

Status LanePool::MakeFirst() {
  // One lane more than asked for: the overflow lane.
  const RingSpec spec = Spec(0, options_.lanes + 1, options_.lane_bytes);
  auto made = RingFile::Create(spec);
  std::string error;
  if (!made.ok()) {
    error = made.status().message() +
            "; until the program is restarted spans are kept in memory and would be lost if it were killed";
    made = RingFile::CreateInMemory(spec);
    if (!made.ok()) return made.status();
    crash_safe_.store(false, kRelaxed);
  }
  const std::scoped_lock lock(mutex_);
  last_error_ = error;
  overflow_ = (*made)->lanes().back().get();
  process_ = &(*made)->process();
  overflow_->SetState(LaneState::kOwned);
  filling_ns_ = MonotonicNowNs();
  slots_[0].file = *std::move(made);
  CountSpare();
  has_ring_.store(true, std::memory_order_release);
  return OkStatus();
}

Lane* LanePool::FindFree(bool first_file_only) const {
  Lane* found = nullptr;
  ForEachLane([&](Lane& lane) {
    if (found != nullptr || &lane == overflow_ || lane.state() != LaneState::kFree) return;
    if (first_file_only && lane.number() >= kLanesPerSlot) return;
    if (!lane.give_back.load(kRelaxed) && !PastHalf(lane)) found = &lane;
  });
  return found;
}

void LanePool::Own(Lane& lane) {
  lane.SetState(LaneState::kOwned);
  slots_[lane.number() / kLanesPerSlot].last_used_ns = MonotonicNowNs();
}

Lane* LanePool::Take() noexcept {
  const std::scoped_lock lock(mutex_);
  if (closed_) return nullptr;
  Lane* const lane = FindFree(/*first_file_only=*/false);
  if (lane != nullptr) {
    Own(*lane);
  } else {
    lane_misses_.fetch_add(1, kRelaxed);
  }
  return lane;
}

Lane* LanePool::Move(Lane* lane) noexcept {
  const std::scoped_lock lock(mutex_);
  if (closed_) return nullptr;
  Lane* const next = FindFree(/*first_file_only=*/lane->give_back.load(kRelaxed));
  if (next == nullptr) return nullptr;
  Own(*next);
  // It must be drained before the lane moved to: see LanesToDrain. The order first: killed in between, recovery would
  // find the lane closing, and take the order of the last time it was left for this one's.
  lane->control().closed_order.store(++closed_lanes_, kRelaxed);
  lane->SetState(LaneState::kClosing);
  CountSpare();
  return next;
}

void LanePool::CountSpare() {
  std::uint64_t left = 0, all = 0;
  ForEachLane([&](const Lane& lane) {
    if (&lane == overflow_ || (lane.ever_owned() && lane.state() == LaneState::kOwned)) return;
    all += lane.whole_bytes();
    const bool free = lane.state() == LaneState::kFree && !PastHalf(lane);
    if (free) left += lane.whole_bytes() - (lane.ever_owned() ? lane.used_bytes() : 0);
  });
  spare_left_.store(left, kRelaxed);
  spare_all_.store(all, kRelaxed);
}

LanePool::Room LanePool::RoomFor(const Lane& lane) const {
  const std::uint64_t own = lane.whole_bytes() - std::min(lane.used_bytes(), lane.whole_bytes());
  return {spare_left_.load(kRelaxed) + own, spare_all_.load(kRelaxed) + lane.whole_bytes()};
}

void LanePool::Return(Lane* lane) noexcept {
  if (abandoned_) return;
  const std::scoped_lock lock(mutex_);
  if (closed_) return;
  // Free at once, drained or not: the next thread's records simply follow.
  lane->SetState(LaneState::kFree);
  generation_.fetch_add(1, kRelaxed);
}

void LanePool::LockOverflow() noexcept {
  // Acquire: the owner's members as the last holder left them.
  while (overflow_lock_.test_and_set(std::memory_order_acquire)) std::this_thread::yield();
}

void LanePool::CountDrop(RecordType type, std::size_t payload_bytes, bool nested) noexcept {
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

std::vector<SpanId> LanePool::LostEnds() const {
  const std::scoped_lock lock(lost_mutex_);
  return lost_ends_;
}

void LanePool::ForgetLostEnds(std::size_t count) {
  const std::scoped_lock lock(lost_mutex_);
  lost_ends_.erase(lost_ends_.begin(), lost_ends_.begin() + static_cast<std::ptrdiff_t>(count));
}

std::uint64_t LanePool::RingBytes() const {
  std::uint64_t bytes = 0;
  for (const auto& [number, slot] : slots_) bytes += slot.file == nullptr ? 0 : slot.file->bytes();
  return bytes;
}

LanePool::Totals LanePool::GetTotals() const {
  const std::scoped_lock lock(mutex_);
  Totals totals;
  totals.dropped_spans = early_dropped_spans_.load(kRelaxed);
  totals.dropped_bytes = early_dropped_bytes_.load(kRelaxed);
  totals.degraded_records = degraded_records_.load(kRelaxed);
  totals.ring_bytes = RingBytes();
  ForEachStop([&](std::uint32_t, const LaneStart& stop) {
    totals.ended += stop.ended_spans;
    totals.dropped_spans += stop.dropped_spans;
    totals.dropped_bytes += stop.dropped_bytes;
  });
  ForEachLane([&](const Lane& lane) {
    if (lane.ever_owned()) totals.waiting_bytes += lane.used_bytes();
  });
  if (!slots_.empty() && !closed_) {
    totals.dropped_spans += process_->dropped_spans.load(kRelaxed);
    totals.dropped_bytes += process_->dropped_bytes.load(kRelaxed);
  }
  return totals;
}

std::string LanePool::last_error() const {
  const std::scoped_lock lock(mutex_);
  return last_error_;
}

LanePool::Lanes LanePool::LanesToDrain() const {
  const std::scoped_lock lock(mutex_);
  Lanes result;
  for (const auto& [number, slot] : slots_) {
    if (slot.file != nullptr) result.files.push_back(slot.file);
  }
  constexpr auto kStays = ~std::uint64_t{0};
  struct Rank {
    std::uint64_t order;
    double empty;  // share of the lane
    Lane* lane;
  };
  std::vector<Rank> ranked;
  ForEachLane([&](Lane& lane) {
    if (!lane.ever_owned()) return;
    // Threads begin on the overflow lane, and never come back to it.
    std::uint64_t order = kStays;
    if (&lane == overflow_) order = 0;
    if (lane.state() == LaneState::kClosing) order = lane.control().closed_order.load(kRelaxed);
    ranked.push_back(
        {order, 1 - static_cast<double>(lane.used_bytes()) / static_cast<double>(lane.lane_bytes()), &lane});
  });
  std::ranges::stable_sort(ranked, {}, [](const Rank& rank) { return std::pair(rank.order, rank.empty); });
  for (const Rank& rank : ranked) {
    result.lanes.push_back(rank.lane);
    result.left += rank.order != kStays;
  }
  return result;
}

std::vector<LaneCursor> LanePool::DropCounters() const {
  const std::scoped_lock lock(mutex_);
  std::vector<LaneCursor> counters;
  ForEachStop([&](std::uint32_t number, const LaneStart& stop) {
    LaneCursor& lane = counters.emplace_back();
    lane.lane = number;
    lane.dropped_spans = stop.dropped_spans;
    lane.dropped_bytes = stop.dropped_bytes;
    if (overflow_ == nullptr || number != overflow_->number()) return;
    lane.dropped_spans += process_->dropped_spans.load(kRelaxed) + early_dropped_spans_.load(kRelaxed);
    lane.dropped_bytes += process_->dropped_bytes.load(kRelaxed) + early_dropped_bytes_.load(kRelaxed);
  });
  return counters;
}

void LanePool::FreeDrained() {
  const std::scoped_lock lock(mutex_);
  ForEachLane([&](Lane& lane) {
    if (lane.state() != LaneState::kClosing || lane.used_bytes() > 0) return;
    lane.SetState(LaneState::kFree);
    generation_.fetch_add(1, kRelaxed);
  });
  CountSpare();
}

void LanePool::SetAlive(std::int64_t wall_ns) {
  const std::scoped_lock lock(mutex_);
  if (!slots_.empty() && !closed_) process_->alive_ns.store(wall_ns, kRelaxed);
}

// --- the keeper's

// The first sign of a burst, long before room is short.
bool LanePool::Filling() const {
  bool filling = false;
  ForEachLane([&](const Lane& lane) { filling |= lane.ever_owned() && lane.used_bytes() > lane.lane_bytes() / 8; });
  return filling;
}

// As many lanes as fit: small ones, so that many threads find one, but no more than a file may have.
bool LanePool::PlanReserve(std::uint32_t& lanes, std::uint64_t& lane_bytes) const {
  const std::uint64_t bytes = RingBytes() + RingFileBytes(0, 0);
  if (slots_.empty() || bytes >= options_.max_ring_bytes) return false;
  const std::uint64_t room = options_.max_ring_bytes - bytes;
  // The largest payload takes a quarter of a first lane, and needs at most twice its size at the end of a lane.
  lane_bytes = std::max<std::uint64_t>(kMinLaneBytes, options_.lane_bytes / 2);
  while (room / (lane_bytes + kPageBytes) > kMaxReserveLanes && lane_bytes < kMaxLaneBytes) lane_bytes *= 2;
  lanes = static_cast<std::uint32_t>(std::min<std::uint64_t>(kMaxReserveLanes, room / (lane_bytes + kPageBytes)));
  return lanes > 0;
}

bool LanePool::WantsReserve() const {
  const std::scoped_lock lock(mutex_);
  std::uint32_t lanes;
  std::uint64_t lane_bytes;
  return PlanReserve(lanes, lane_bytes) && (lane_misses_.load(kRelaxed) > 0 || Filling());
}

void LanePool::Tend(std::int64_t now_ns) {
  if (!has_ring()) return;
  PopulateAhead();
  if (WantsReserve()) MakeReserve(now_ns);
  RemoveIdle(now_ns);
}

void LanePool::MakeReserve(std::int64_t now_ns) {
  std::uint32_t lanes = 0;
  std::uint64_t lane_bytes = 0;
  {
    const std::scoped_lock lock(mutex_);
    if (closed_ || now_ns < next_make_ns_ || !PlanReserve(lanes, lane_bytes)) return;
    lane_misses_.store(0, kRelaxed);
    filling_ns_ = now_ns;
  }
  // A nearly full disk may have room for some of it.
  Status made = MakeFile(lanes, lane_bytes);
  while (made.code() == StatusCode::kResourceExhausted && lanes > 1) made = MakeFile(lanes /= 2, lane_bytes);
  const std::scoped_lock lock(mutex_);
  if (!made.ok()) {
    last_error_ = made.message();
    next_make_ns_ = now_ns + kRetryNs;
  } else if (crash_safe()) {
    last_error_.clear();
  }
}

Status LanePool::MakeFile(std::uint32_t lanes, std::uint64_t lane_bytes) {
  std::uint32_t number = 1;
  RingSpec spec;
  {
    const std::scoped_lock lock(mutex_);
    while (slots_[number].file != nullptr || slots_[number].making) ++number;
    slots_[number].making = true;
    spec = Spec(number, lanes, lane_bytes);
    spec.starts = slots_[number].past;
  }
  auto made = crash_safe() ? RingFile::Create(spec) : RingFile::CreateInMemory(spec);
  std::shared_ptr<RingFile> unwanted;  // unmapped after the lock is left
  const std::scoped_lock lock(mutex_);
  Slot& slot = slots_[number];
  slot.making = false;
  if (!made.ok()) return made.status();
  slot.file = *std::move(made);
  if (closed_) {
    // Nobody knows of it, and nothing is in it.
    slot.file->Unlink();
    unwanted = std::move(slot.file);
    return OkStatus();
  }
  slot.last_used_ns = MonotonicNowNs();
  CountSpare();
  generation_.fetch_add(1, kRelaxed);
  return OkStatus();
}

bool LanePool::IsIdle(const Slot& slot) {
  return std::ranges::all_of(slot.file->lanes(), [](const auto& lane) {
    return !lane->ever_owned() || (lane->state() == LaneState::kFree && lane->used_bytes() == 0);
  });
}

void LanePool::RemoveIdle(std::int64_t now_ns) {
  std::shared_ptr<RingFile> removed;
  {
    const std::scoped_lock lock(mutex_);
    if (Filling()) filling_ns_ = now_ns;
    const bool calm = now_ns - filling_ns_ > kCalmNs;
    for (auto& [number, slot] : slots_) {
      if (number == 0 || slot.file == nullptr) continue;
      // A quiet thread that has a lane here goes back to the first file when it next looks for room.
      for (const auto& lane : slot.file->lanes()) lane->give_back.store(calm, kRelaxed);
      if (!IsIdle(slot)) slot.last_used_ns = now_ns;
      if (!calm || now_ns - slot.last_used_ns <= kCalmNs || removed != nullptr) continue;
      const auto lanes = slot.file->lanes();
      slot.past.resize(std::max(slot.past.size(), lanes.size()));
      for (std::size_t i = 0; i < lanes.size(); ++i) {
        if (lanes[i]->ever_owned()) slot.past[i] = lanes[i]->Stop();
      }
      removed = std::move(slot.file);
    }
  }
  if (removed != nullptr) removed->Unlink();
}

void LanePool::PopulateAhead() {
  while (true) {
    std::shared_ptr<RingFile> file;
    Lane* next = nullptr;
    {
      const std::scoped_lock lock(mutex_);
      std::uint64_t ahead = 0;
      for (const auto& [number, slot] : slots_) {
        if (slot.file == nullptr || next != nullptr) continue;
        for (const auto& lane : slot.file->lanes()) {
          const bool free = lane->state() == LaneState::kFree;
          if (lane->populated) ahead += free ? lane->lane_bytes() : 0;
          if (lane->populated || (free && ahead >= kAheadBytes) || lane.get() == overflow_) continue;
          next = lane.get();
          file = slot.file;
          next->populated = true;
          break;
        }
      }
    }
    if (next == nullptr) return;
    file->Populate(*next);
  }
}

void LanePool::Close(bool unlink) {
  std::map<std::uint32_t, Slot> slots;
  {
    const std::scoped_lock lock(mutex_);
    closed_ = true;
    slots = std::exchange(slots_, {});
  }
  // Slot 0 goes last: while it is there and locked, nobody recovers the others.
  while (!slots.empty()) {
    const Slot& slot = slots.rbegin()->second;
    if (slot.file != nullptr && unlink) slot.file->Unlink();
    slots.erase(std::prev(slots.end()));
  }
}

}  // namespace spanbox
