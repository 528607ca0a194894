#include "spanbox/recorder.h"

#include <sys/stat.h>

#include <atomic>
#include <bit>
#include <chrono>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/record_codec.h"
#include "base/thread_locals.h"
#include "record/background.h"
#include "record/fork_guard.h"
#include "record/lane_pool.h"
#include "record/pacer.h"
#include "record/recent_blobs.h"
#include "record/shortening.h"

namespace spanbox {
namespace {

constexpr std::int64_t kCloseInMemoryNs = 2'000'000'000;
// Shorter sleeps would cost more in system calls than they delay.
constexpr std::int64_t kWaitStepNs = 200'000;
// However long writers may wait when there is no room: this is for their not coming to that.
constexpr std::int64_t kMaxPaceNs = 1'000'000;
// Small enough that a blob larger than the rings has the time it needs: it may wait max_wait_ns a piece.
constexpr std::size_t kBlobPieceBytes = 64 << 10;

std::uint64_t NextSerial() {
  static std::atomic<std::uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

// Which lane this thread has, and whose. A plain struct: reading it costs no initialisation check.
struct ThreadLane {
  std::uint64_t serial = 0;      // of the recorder; 0: none
  Lane* lane = nullptr;          // nullptr: the overflow lane
  std::uint64_t generation = 0;  // of the pool when it had no lane to give
  bool writing = false;          // a signal handler that records now came in between
  bool exiting = false;          // the thread's destructors have run: it gets no lane any more
};
constinit thread_local ThreadLane t_lane;

// Returns the lane when the thread ends. The pool may be gone by then.
struct LaneReturner {
  std::weak_ptr<LanePool> pool;

  void Return() noexcept {
    if (t_lane.lane != nullptr) {
      if (const auto alive = pool.lock()) alive->Return(t_lane.lane);
    }
    t_lane.lane = nullptr;
    t_lane.serial = 0;
    pool.reset();
  }
  ~LaneReturner() {
    Return();
    t_lane.exiting = true;
  }
};
thread_local LaneReturner t_returner;

// All that belongs to one process. A forked child gets a new one and leaks its parent's.
struct ProcessState {
  std::shared_ptr<LanePool> pool;
  std::shared_ptr<Background> background;
  Pacer pacer;
  RecentBlobs recent_blobs;
};

class WritingMark {
 public:
  explicit WritingMark(ThreadLane& mine) : mine_(mine) {
    mine_.writing = true;
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  ~WritingMark() {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    mine_.writing = false;
  }
  WritingMark(const WritingMark&) = delete;
  WritingMark& operator=(const WritingMark&) = delete;

 private:
  ThreadLane& mine_;
};

class RecorderImpl final : public Recorder, private ForkListener {
 public:
  RecorderImpl(ExporterFactory make_exporter, std::string ring_dir, const RecorderOptions& options)
      : make_exporter_(std::move(make_exporter)),
        ring_dir_(std::move(ring_dir)),
        options_(options),
        max_payload_bytes_(options.lane_bytes / 4 - sizeof(RecordHeader)) {
    Renew();
    AddForkListener(this);
  }

  ~RecorderImpl() override {
    RemoveForkListener(this);
    // What is in memory only dies with us: that is worth a longer wait.
    const std::int64_t least_ns = state_->pool->crash_safe() ? 0 : kCloseInMemoryNs;
    state_->background->Close(std::max(options_.close_timeout_ns, least_ns));
    delete state_;
  }

  bool Append(RecordType type, std::span<const std::byte> payload) noexcept override {
    ThreadLane& mine = FoundOnce(t_lane);
    if (mine.writing) [[unlikely]] {
      state_->pool->CountDrop(type, payload.size(), /*nested=*/true);
      return false;
    }
    const WritingMark mark(mine);
    std::int64_t wait_ns = options_.max_wait_ns;
    return AppendMarked(type, payload, mine, wait_ns);
  }

  bool PutBlob(const BlobId& id, std::span<const std::byte> content) noexcept override;

  std::size_t MaxPayloadBytes() const noexcept override { return max_payload_bytes_; }
  FlushResult Flush(std::int64_t timeout_ns) noexcept override { return state_->background->Flush(timeout_ns); }

  Health GetHealth() const override {
    Health health;
    state_->background->AddTo(health);
    return health;
  }

 private:
  void Renew() {
    auto* state = new ProcessState;
    state->pool = std::make_shared<LanePool>(ring_dir_, options_);
    state->background = std::make_shared<Background>(state->pool, make_exporter_, ring_dir_, options_);
    state_ = state;
    serial_ = NextSerial();
  }

  void InChild() noexcept override {
    // The parent's mappings are not here, its thread is not here, and its exporter must not be touched: all of it is
    // left where it is, never destroyed. Other threads, which could hold its locks, are not here either.
    state_->pool->Abandon();
    static std::vector<ProcessState*>* const left_behind = new std::vector<ProcessState*>;
    left_behind->push_back(state_);
    Renew();
  }

  // With the mark of this thread set. `wait_ns`: how long it may wait under kWait; what it has waited is taken off.
  bool AppendMarked(RecordType type, std::span<const std::byte> payload, const ThreadLane& mine,
                    std::int64_t& wait_ns) noexcept {
    if (mine.serial == serial_ && mine.lane != nullptr && payload.size() <= max_payload_bytes_) [[likely]] {
      if (mine.lane->TryAppend(type, payload)) [[likely]]
        return true;
    }
    return AppendSlowly(type, payload, wait_ns);
  }
  [[gnu::noinline]] bool AppendSlowly(RecordType type, std::span<const std::byte> payload,
                                      std::int64_t& wait_ns) noexcept;
  void TakeLane() noexcept;
  bool AppendToFullLane(RecordType type, std::span<const std::byte> payload, std::int64_t& wait_ns) noexcept;
  bool AppendToOverflow(RecordType type, std::span<const std::byte> payload, std::int64_t& wait_ns) noexcept;
  bool MayWait(Lane& lane, bool waiting, std::int64_t wait_ns) const;
  std::int64_t Charge(Lane& lane, std::size_t payload_bytes) noexcept;
  void Pay(RecordType type, std::int64_t owed_ns, std::int64_t& wait_ns) const noexcept;
  void WaitForRoom(std::int64_t& wait_ns) const noexcept;
  void Wait(std::int64_t ns, std::int64_t& wait_ns) const noexcept;
  std::span<const std::byte> Shorter(RecordType type, std::span<const std::byte> payload) const noexcept;
  bool AppendShort(RecordType type, std::span<const std::byte> shorter, Lane& lane) noexcept;
  void NoteIfLostEnd(RecordType type, std::span<const std::byte> payload) noexcept;
  bool Drop(RecordType type, std::span<const std::byte> payload, Lane* lane) noexcept;

  const ExporterFactory make_exporter_;
  const std::string ring_dir_;
  const RecorderOptions options_;
  const std::size_t max_payload_bytes_;
  // Both change in a forked child only, while it has one thread.
  ProcessState* state_ = nullptr;
  std::uint64_t serial_ = 0;
};

bool RecorderImpl::AppendSlowly(RecordType type, std::span<const std::byte> payload, std::int64_t& wait_ns) noexcept {
  // Mostly half a lane has been written, and stored meanwhile: little is touched, for all of it is out of the caches.
  if (Lane* const lane = t_lane.lane; t_lane.serial == serial_ && lane != nullptr) {
    const bool plenty = payload.size() <= max_payload_bytes_ && lane->MakeRoom(payload.size()) == Lane::Room::kPlenty;
    if (plenty && !lane->give_back.load(std::memory_order_relaxed) && lane->TryAppend(type, payload)) {
      Pay(type, Charge(*lane, payload.size()), wait_ns);
      return true;
    }
  }
  LanePool& pool = *state_->pool;
  if (payload.size() > max_payload_bytes_ || !pool.EnsureFirstRing()) return Drop(type, payload, nullptr);
  state_->background->Start();
  if (t_lane.serial != serial_ || (t_lane.lane == nullptr && t_lane.generation != pool.generation())) TakeLane();
  if (t_lane.lane == nullptr) return AppendToOverflow(type, payload, wait_ns);
  if (t_lane.lane->TryAppend(type, payload)) return true;
  return AppendToFullLane(type, payload, wait_ns);
}

bool RecorderImpl::PutBlob(const BlobId& id, std::span<const std::byte> content) noexcept {
  ThreadLane& mine = FoundOnce(t_lane);
  if (mine.writing) {
    state_->pool->CountDrop(RecordType::kBlob, content.size(), /*nested=*/true);
    return false;
  }
  if (state_->recent_blobs.Holds(id)) return true;
  const WritingMark mark(mine);
  thread_local ByteBuffer scratch;
  const std::size_t piece_bytes = std::min(kBlobPieceBytes, max_payload_bytes_ - kBlobHeadBytes);
  std::int64_t wait_ns = options_.max_wait_ns * static_cast<std::int64_t>(content.size() / piece_bytes + 1);
  std::size_t at = 0;
  do {
    const auto bytes = content.subspan(at, std::min(piece_bytes, content.size() - at));
    WriteBlob({id, content.size(), at, bytes}, scratch);
    if (!AppendMarked(RecordType::kBlob, scratch.bytes(), mine, wait_ns)) {
      // This piece has been counted; what comes after it has not.
      state_->pool->CountDrop(RecordType::kBlob, content.size() - at - bytes.size(), /*nested=*/false);
      return false;
    }
    at += bytes.size();
  } while (at < content.size());
  state_->recent_blobs.Add(id);
  return true;
}

void RecorderImpl::TakeLane() noexcept {
  if (t_lane.exiting) {
    t_lane.serial = 0;
    return;
  }
  // Of another recorder, or of the parent before a fork: then the pool says that there is nothing to return to.
  if (t_lane.serial != serial_) t_returner.Return();
  LanePool& pool = *state_->pool;
  // The generation first: a lane returned after it makes the next record ask again.
  t_lane.generation = pool.generation();
  t_lane.lane = pool.Take();
  t_lane.serial = serial_;
  t_returner.pool = state_->pool;
  if (t_lane.lane == nullptr) state_->background->Wake();  // to make more lanes
}

bool RecorderImpl::MayWait(Lane& lane, bool waiting, std::int64_t wait_ns) const {
  switch (options_.full_ring_policy) {
    case FullRingPolicy::kDrop:
      return false;
    case FullRingPolicy::kWait:
      if (wait_ns > 0 && (waiting || !lane.stalled())) return true;
      lane.SetStalled();
      return false;
    case FullRingPolicy::kBlock:
      state_->background->Start();
      return state_->background->alive();
  }
  return false;
}

void RecorderImpl::Wait(std::int64_t ns, std::int64_t& wait_ns) const noexcept {
  const std::int64_t began_ns = MonotonicNowNs();
  if (options_.wait) {
    options_.wait(ns);
  } else {
    std::this_thread::sleep_for(std::chrono::nanoseconds(ns));
  }
  wait_ns -= std::max(ns, MonotonicNowNs() - began_ns);
}

void RecorderImpl::WaitForRoom(std::int64_t& wait_ns) const noexcept {
  const bool limited = options_.full_ring_policy == FullRingPolicy::kWait;
  Wait(limited ? std::min(kWaitStepNs, wait_ns) : kWaitStepNs, wait_ns);
}

// After a record of the lane's owner: what is owed for it. When room is short the next one comes the slow way too.
std::int64_t RecorderImpl::Charge(Lane& lane, std::size_t payload_bytes) noexcept {
  if (options_.full_ring_policy != FullRingPolicy::kWait || options_.max_wait_ns == 0) return 0;
  const LanePool::Room room = state_->pool->RoomFor(lane);
  if (room.left >= room.all / 2) return 0;
  lane.CloseLimit();
  return state_->pacer.Charge(sizeof(RecordHeader) + payload_bytes, room.left, room.all / 2, MonotonicNowNs(),
                              std::min(kMaxPaceNs, options_.max_wait_ns));
}

// Once the record is safe. What the START of a span owes is left to its END, if it can be: it would be part of what the
// span seems to take.
void RecorderImpl::Pay(RecordType type, std::int64_t owed_ns, std::int64_t& wait_ns) const noexcept {
  const std::int64_t least_ns = type == RecordType::kStart ? kMaxPaceNs : kWaitStepNs;
  if (owed_ns < std::min(least_ns, options_.max_wait_ns) || owed_ns == 0 || wait_ns <= 0) return;
  Wait(std::min(owed_ns, wait_ns), wait_ns);
}

// The lane is half full, or full, or room is short.
bool RecorderImpl::AppendToFullLane(RecordType type, std::span<const std::byte> payload,
                                    std::int64_t& wait_ns) noexcept {
  LanePool& pool = *state_->pool;
  for (bool waiting = false;; waiting = true) {
    Lane* lane = t_lane.lane;
    Lane::Room room = lane->MakeRoom(payload.size());
    if (room == Lane::Room::kFull || lane->give_back.load(std::memory_order_relaxed)) {
      if (Lane* const other = pool.Move(lane)) {
        lane = t_lane.lane = other;
        room = lane->MakeRoom(payload.size());
      }
    }
    if (room != Lane::Room::kPlenty) state_->background->Wake();
    if (lane->TryAppend(type, payload)) {
      Pay(type, Charge(*lane, payload.size()), wait_ns);
      return true;
    }
    if (!MayWait(*lane, waiting, wait_ns)) {
      return AppendShort(type, Shorter(type, payload), *lane) || Drop(type, payload, lane);
    }
    WaitForRoom(wait_ns);
  }
}

bool RecorderImpl::AppendToOverflow(RecordType type, std::span<const std::byte> payload,
                                    std::int64_t& wait_ns) noexcept {
  LanePool& pool = *state_->pool;
  Lane& lane = pool.overflow();
  for (bool waiting = false;; waiting = true) {
    pool.LockOverflow();
    bool accepted = lane.TryAppend(type, payload);
    const bool half_full = !accepted && lane.MakeRoom(payload.size()) != Lane::Room::kPlenty;
    if (!accepted) accepted = lane.TryAppend(type, payload);
    const bool may_wait = !accepted && MayWait(lane, waiting, wait_ns);
    const std::int64_t owed_ns = accepted ? Charge(lane, payload.size()) : 0;
    pool.UnlockOverflow();
    if (half_full) state_->background->Wake();
    Pay(type, owed_ns, wait_ns);
    if (accepted) return true;
    if (!may_wait) break;
    WaitForRoom(wait_ns);
  }
  const auto shorter = Shorter(type, payload);
  pool.LockOverflow();
  const bool accepted = AppendShort(type, shorter, lane);
  if (!accepted) lane.CountDrop(type, payload.size());
  pool.UnlockOverflow();
  if (!accepted) NoteIfLostEnd(type, payload);
  return accepted;
}

// For a record that finds no room in time; empty: it cannot be made shorter. Valid until the thread's next call.
std::span<const std::byte> RecorderImpl::Shorter(RecordType type, std::span<const std::byte> payload) const noexcept {
  thread_local ByteBuffer shorter;
  try {
    const bool may = options_.full_ring_policy == FullRingPolicy::kWait;
    return may && ShortenRecord(type, payload, shorter) ? shorter.bytes() : std::span<const std::byte>();
  } catch (const std::bad_alloc&) {
    return {};
  }
}

bool RecorderImpl::AppendShort(RecordType type, std::span<const std::byte> shorter, Lane& lane) noexcept {
  if (shorter.empty()) return false;
  lane.MakeRoom(shorter.size());
  if (!lane.TryAppend(type, shorter)) return false;
  state_->pool->CountDegraded();
  return true;
}

void RecorderImpl::NoteIfLostEnd(RecordType type, std::span<const std::byte> payload) noexcept {
  if (type != RecordType::kEnd) return;
  if (const auto span = SpanIdOf({type, payload}); span.ok()) state_->pool->NoteLostEnd(*span);
}

bool RecorderImpl::Drop(RecordType type, std::span<const std::byte> payload, Lane* lane) noexcept {
  if (lane != nullptr) {
    lane->CountDrop(type, payload.size());
  } else {
    state_->pool->CountDrop(type, payload.size(), /*nested=*/false);
  }
  NoteIfLostEnd(type, payload);
  return false;
}

// Options as they can be had under max_ring_bytes: smaller lanes first, then fewer.
Result<RecorderOptions> FitOptions(RecorderOptions options) {
  const bool size_good = options.lane_bytes >= kMinLaneBytes && options.lane_bytes <= kMaxLaneBytes;
  if (!size_good || !std::has_single_bit(options.lane_bytes)) {
    return InvalidArgument("lane_bytes is " + std::to_string(options.lane_bytes) +
                           "; give a power of two from 65536 to 67108864");
  }
  if (options.lanes < 1 || options.lanes > 64) {
    return InvalidArgument("lanes is " + std::to_string(options.lanes) + "; give 1 to 64");
  }
  if (options.commit_interval_ns < 1'000'000 || options.commit_bytes < 4096 || options.max_wait_ns < 0) {
    return InvalidArgument("commit_interval_ns must be at least 1000000, commit_bytes 4096, max_wait_ns 0");
  }
  const auto too_big = [&] { return RingFileBytes(options.lanes + 1, options.lane_bytes) > options.max_ring_bytes; };
  while (too_big() && options.lane_bytes > kMinLaneBytes) options.lane_bytes /= 2;
  while (too_big() && options.lanes > 1) --options.lanes;
  if (too_big()) {
    return InvalidArgument("max_ring_bytes is " + std::to_string(options.max_ring_bytes) + "; give at least " +
                           std::to_string(RingFileBytes(2, kMinLaneBytes)));
  }
  return options;
}

// This thread's buffer for the record it encodes. A signal handler that records meanwhile finds it taken.
class Scratch {
 public:
  Scratch() : mine_(!taken_) {
    taken_ = true;
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  ~Scratch() {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    if (mine_) taken_ = false;
  }
  bool mine() const { return mine_; }
  ByteBuffer& buffer() const {
    thread_local ByteBuffer buffer;
    return buffer;
  }

 private:
  static thread_local bool taken_;
  const bool mine_;
};
constinit thread_local bool Scratch::taken_ = false;

// Counts it as a record that came inside another.
bool DropNested(Recorder& recorder, RecordType type) noexcept {
  const bool before = std::exchange(t_lane.writing, true);
  recorder.Append(type, {});
  t_lane.writing = before;
  return false;
}

void AddFields(RecordWriter& writer, std::span<const Field> fields) {
  for (const Field& field : fields) writer.AddField(field);
}

}  // namespace

bool Recorder::Start(const SpanRow& span) noexcept {
  const Scratch scratch;
  if (!scratch.mine()) return DropNested(*this, RecordType::kStart);
  RecordWriter writer(scratch.buffer());
  writer.Start(span.trace_id, span.span_id, span.parent_id, span.start_ns, span.kind, span.name);
  AddFields(writer, span.fields);
  return Append(RecordType::kStart, writer.buffer().bytes());
}

bool Recorder::Fields(SpanId span, std::span<const Field> fields) noexcept {
  const Scratch scratch;
  if (!scratch.mine()) return DropNested(*this, RecordType::kFields);
  RecordWriter writer(scratch.buffer());
  writer.Fields(span);
  AddFields(writer, fields);
  return Append(RecordType::kFields, writer.buffer().bytes());
}

bool Recorder::End(SpanId span, SpanStatus status, std::int64_t duration_ns, std::span<const Field> fields) noexcept {
  const Scratch scratch;
  if (!scratch.mine()) return DropNested(*this, RecordType::kEnd);
  RecordWriter writer(scratch.buffer());
  writer.End(span, duration_ns, status);
  AddFields(writer, fields);
  return Append(RecordType::kEnd, writer.buffer().bytes());
}

bool Recorder::Score(const SpanRow& score) noexcept {
  const Scratch scratch;
  if (!scratch.mine()) return DropNested(*this, RecordType::kScore);
  RecordWriter writer(scratch.buffer());
  writer.Start(score.trace_id, score.span_id, 0, score.start_ns, SpanKind::kSpan, score.name);
  AddFields(writer, score.fields);
  return Append(RecordType::kScore, writer.buffer().bytes());
}

Result<std::unique_ptr<Recorder>> Recorder::Open(ExporterFactory make_exporter, std::string ring_dir,
                                                 const RecorderOptions& options) {
  if (!make_exporter) return InvalidArgument("a recorder needs an exporter factory");
  struct stat info {};
  if (stat(ring_dir.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    return NotFound("ring folder " + ring_dir + " is no folder; create it with mode 0700");
  }
  SPANBOX_ASSIGN_OR_RETURN(const RecorderOptions fitted, FitOptions(options));
  return std::unique_ptr<Recorder>(new RecorderImpl(std::move(make_exporter), std::move(ring_dir), fitted));
}

Result<std::unique_ptr<Recorder>> Recorder::Open(std::shared_ptr<SpanExporter> exporter, std::string ring_dir,
                                                 const RecorderOptions& options) {
  if (exporter == nullptr) return InvalidArgument("a recorder needs an exporter");
  return Open([exporter] { return Result<std::shared_ptr<SpanExporter>>(exporter); }, std::move(ring_dir), options);
}

}  // namespace spanbox
