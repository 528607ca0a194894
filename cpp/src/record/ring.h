// The writer's side: one ring file of this process, mapped, and its lanes. Where no file can be made the same bytes lie
// in anonymous memory.
//
// Thread rule: a lane's writing methods belong to its owner (one thread at a time; ownership is handed over under the
// lane pool's mutex, or the overflow lane's spin lock); MarkStored to the collector; the counters to anyone; what says
// so to whoever holds the pool's mutex.
// Ownership: a RingFile owns its mapping, and with it the lock that says "this process lives"; its lanes live as long.
// Invariants: I1 head and seq never decrease. I2 bytes in [tail, head) are not written by the owner. I4 tail <= cursor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "record/ring_format.h"
#include "record/shortening.h"
#include "spanbox/recorder.h"
#include "spanbox/status.h"

namespace spanbox {

// A span is lost with its START or its END; of anything else only bytes are.
inline bool LosesSpan(RecordType type) { return type == RecordType::kStart || type == RecordType::kEnd; }

// Where a lane goes on, when its slot had a file before.
struct LaneStart {
  std::uint64_t position = 0, seq = 0;
  std::uint64_t ended_spans = 0, dropped_spans = 0, dropped_bytes = 0;
};

class alignas(64) Lane {
 public:
  Lane(std::uint32_t number, std::uint64_t seed, std::uint64_t lane_bytes, LaneControl& control, std::byte* data,
       const LaneStart& start);

  // Owner. Writes the record and acknowledges it; false when there is no room below the limit (see MakeRoom).
  bool TryAppend(RecordType type, std::span<const std::byte> payload) noexcept {
    const std::uint64_t need = AlignRecord(sizeof(RecordHeader) + payload.size());
    const std::uint64_t pad = PadBefore(need);
    const std::uint64_t end = head_ + pad + need;
    if (end > limit_) [[unlikely]]
      return false;
    if (pad > 0) [[unlikely]] {
      std::memcpy(data_ + (head_ & mask_), &kPadLength, sizeof kPadLength);
      head_ += pad;
    }
    WriteRecord(type, payload, static_cast<std::uint32_t>(need));
    if (type == RecordType::kEnd) {
      control_.ended_spans.store(control_.ended_spans.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }
    head_ = end;
    // The acknowledgement. Release: whoever sees this head sees the whole record.
    control_.head.store(end, std::memory_order_release);
    return true;
  }

  // Owner. Looks at how far the collector has come and moves the limit; says how full the lane is. The last eighth
  // is for short records (kShortPayloadBytes): where no other finds room any more, they do.
  enum class Room { kPlenty, kPastHalf, kFull };
  Room MakeRoom(std::size_t payload_bytes) noexcept;

  // Owner. The next record does not fit before MakeRoom.
  void CloseLimit() { limit_ = head_; }

  // Owner. Counts a record that was given up.
  void CountDrop(RecordType type, std::size_t payload_bytes) noexcept;

  // Owner. Waiting again is pointless while the collector has not moved since the last time it was in vain.
  bool stalled() const { return stalled_tail_ == control_.tail.load(std::memory_order_relaxed); }
  void SetStalled() { stalled_tail_ = control_.tail.load(std::memory_order_relaxed); }

  // Collector. Everything before `position` is stored: the owner may write over it. Never goes back.
  void MarkStored(std::uint64_t position) noexcept;

  std::uint32_t number() const { return number_; }
  std::uint64_t seed() const { return seed_; }
  std::uint64_t lane_bytes() const { return mask_ + 1; }
  std::uint64_t whole_bytes() const { return lane_bytes() - lane_bytes() / 8; }  // for records of any size
  std::span<const std::byte> data() const { return {data_, mask_ + 1}; }
  LaneControl& control() { return control_; }
  const LaneControl& control() const { return control_; }
  std::uint64_t used_bytes() const;

  // Set by the keeper, read by the owner when it looks for room: go back to a lane of the first file.
  std::atomic<bool> give_back{false};

  // Under the pool's mutex. A lane that nobody has ever owned is not touched: its pages stay unmade.
  LaneState state() const { return state_; }
  void SetState(LaneState state);
  bool ever_owned() const { return ever_owned_; }
  bool populated = false;  // its pages have been made, or are being made
  LaneStart Stop() const;  // where it stopped. REQUIRES: free and drained

 private:
  // Bytes to skip so that the record does not cross the end of the data.
  std::uint64_t PadBefore(std::uint64_t need) const {
    const std::uint64_t to_end = mask_ + 1 - (head_ & mask_);
    return need > to_end ? to_end : 0;
  }
  // The lines of the lane were last read by the collector, on another processor: storing to one that is not here takes
  // longer than all else, so for each that is about to be written one further on is asked for.
  void PrefetchAhead([[maybe_unused]] std::uint32_t length) const noexcept {
#if defined(__x86_64__)
    constexpr std::uint64_t kAheadBytes = 4096, kLineBytes = 64;
    const std::uint64_t bytes = length < kAheadBytes ? length : kAheadBytes;
    for (std::uint64_t at = head_ + kAheadBytes, end = at + bytes; at < end; at += kLineBytes) {
      asm volatile("prefetchw %0" : : "m"(data_[at & mask_]));
    }
#endif
  }
  // The header as its four words, see RecordHeader.
  void WriteRecord(RecordType type, std::span<const std::byte> payload, std::uint32_t length) noexcept {
    PrefetchAhead(length);
    std::byte* const at = data_ + (head_ & mask_);
    const std::uint64_t last_word =
        LastWord(static_cast<std::uint32_t>(payload.size()), static_cast<std::uint8_t>(type), 0, kRecordVersion);
    const std::uint64_t first_word = length | std::uint64_t{RecordChecksum(seed_, head_, ++seq_, last_word, payload)}
                                                  << 32;
    std::memcpy(at, &first_word, 8);
    std::memcpy(at + 8, &head_, 8);
    std::memcpy(at + 16, &seq_, 8);
    std::memcpy(at + 24, &last_word, 8);
    if (!payload.empty()) std::memcpy(at + sizeof(RecordHeader), payload.data(), payload.size());
  }

  const std::uint32_t number_;
  const std::uint64_t seed_;
  const std::uint64_t mask_;
  LaneControl& control_;
  std::byte* const data_;

  // Owner.
  alignas(64) std::uint64_t head_;
  std::uint64_t seq_;
  std::uint64_t limit_ = 0;  // records must end at or before it: first half full, then full
  std::uint64_t stalled_tail_ = ~std::uint64_t{0};

  // Under the pool's mutex.
  alignas(64) LaneState state_ = LaneState::kFree;
  bool ever_owned_ = false;
};

struct RingSpec {
  std::string ring_dir;
  RingId ring{};
  std::uint32_t slot = 0;
  std::uint32_t lanes = 1;
  std::uint64_t lane_bytes = kMinLaneBytes;
  std::string release, environment;
  std::vector<LaneStart> starts;  // of the slot's lanes, when it had a file before
};

class RingFile {
 public:
  // Some 200 us of metadata, whatever the size: only the pages of the header are made.
  static Result<std::unique_ptr<RingFile>> Create(const RingSpec& spec);
  // Not in a file: what it holds does not survive the process.
  static Result<std::unique_ptr<RingFile>> CreateInMemory(const RingSpec& spec);
  ~RingFile();
  RingFile(const RingFile&) = delete;
  RingFile& operator=(const RingFile&) = delete;

  std::uint32_t slot() const { return slot_; }
  std::uint64_t bytes() const { return bytes_; }
  std::span<const std::unique_ptr<Lane>> lanes() const { return lanes_; }
  ProcessPage& process() { return *reinterpret_cast<ProcessPage*>(base_ + kPageBytes); }

  void Populate(const Lane& lane) noexcept;  // makes its pages, so that the writer does not wait for them
  void Unlink() noexcept;

 private:
  RingFile(std::string path, const RingSpec& spec, std::byte* base, std::uint64_t bytes);

  const std::string path_;  // empty: in memory
  const std::uint32_t slot_;
  std::byte* const base_;
  const std::uint64_t bytes_;
  std::vector<std::unique_ptr<Lane>> lanes_;
};

std::string RingFileName(const RingId& ring, std::uint32_t slot);

// Of the running kernel; zeros when it cannot be read.
std::array<std::uint8_t, 16> BootId();

}  // namespace spanbox
