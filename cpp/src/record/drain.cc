#include "record/drain.h"

#include <algorithm>
#include <cstring>

#include "record/joiner.h"
#include "record/ring_format.h"

namespace spanbox {

std::optional<RecordView> LaneWalker::RecordAt(std::uint64_t position, bool exact_seq) {
  const std::uint64_t offset = position & (lane_.size() - 1);
  const std::uint64_t room = std::min<std::uint64_t>(lane_.size() - offset, limit_ - position);
  if (room < sizeof(RecordHeader)) return std::nullopt;
  RecordHeader header;
  std::memcpy(&header, lane_.data() + offset, sizeof header);
  if (header.position != position || header.version != kRecordVersion) return std::nullopt;
  if (header.type < 1 || header.type > static_cast<std::uint8_t>(RecordType::kScore)) return std::nullopt;
  if (exact_seq ? header.seq != cursor_.seq + 1 : header.seq <= cursor_.seq) return std::nullopt;
  const std::uint64_t bytes = sizeof header + std::uint64_t{header.payload_bytes};
  if (header.length != AlignRecord(bytes) || header.length > room) return std::nullopt;
  const auto payload = lane_.subspan(offset + sizeof header, header.payload_bytes);
  if (RecordChecksum(seed_, header, payload) != header.checksum) return std::nullopt;
  cursor_.position = position + header.length;
  cursor_.seq = header.seq;
  return RecordView{static_cast<RecordType>(header.type), payload};
}

std::optional<RecordView> LaneWalker::Next() {
  if (cursor_.position >= limit_) return std::nullopt;
  std::uint64_t position = cursor_.position;
  const std::uint64_t offset = position & (lane_.size() - 1);
  std::uint32_t length = 0;
  if (lane_.size() - offset >= sizeof length) std::memcpy(&length, lane_.data() + offset, sizeof length);
  if (length == kPadLength) {
    position += lane_.size() - offset;
    if (position >= limit_) {
      // A pad is published together with the record behind it, so this one is debris.
      return Salvage();
    }
  }
  if (auto record = RecordAt(position, /*exact_seq=*/true)) return record;
  return Salvage();
}

std::optional<RecordView> LaneWalker::Salvage() {
  ++gaps_;
  // The pad itself may be the wrong byte, so the search starts at the last good record's end.
  for (std::uint64_t position = (cursor_.position + 7) & ~std::uint64_t{7}; position < limit_; position += 8) {
    if (auto record = RecordAt(position, /*exact_seq=*/false)) return record;
  }
  cursor_.position = limit_;
  return std::nullopt;
}

std::span<const std::byte> RecordCopies::Copy(std::span<const std::byte> bytes) {
  constexpr std::size_t kChunkBytes = 1 << 20;
  while (current_ < chunks_.size() && chunks_[current_].size - chunks_[current_].used < bytes.size()) ++current_;
  if (current_ == chunks_.size()) {
    const std::size_t size = std::max(kChunkBytes, bytes.size());
    chunks_.push_back({std::unique_ptr<std::byte[]>(new std::byte[size]), size, 0});
  }
  Chunk& chunk = chunks_[current_];
  std::byte* const at = chunk.bytes.get() + chunk.used;
  if (!bytes.empty()) std::memcpy(at, bytes.data(), bytes.size());
  chunk.used += bytes.size();
  return {at, bytes.size()};
}

void RecordCopies::Clear() {
  constexpr std::size_t kKeptChunks = 5;
  if (chunks_.size() > kKeptChunks) chunks_.resize(kKeptChunks);
  for (Chunk& chunk : chunks_) chunk.used = 0;
  current_ = 0;
}

void DrainLanes(std::span<LaneSource> lanes, DrainBudget budget, SpanJoiner& joiner, RecordCopies* copies) {
  std::uint64_t bytes = 0;
  std::uint64_t ends = 0;
  for (LaneSource& lane : lanes) {
    LaneWalker walker(lane.data, lane.seed, lane.cursor, lane.limit);
    const std::uint64_t begin = lane.cursor.position;
    while (bytes + (walker.cursor().position - begin) < budget.bytes && ends < budget.spans) {
      auto record = walker.Next();
      if (!record) break;
      if (record->type == RecordType::kEnd || record->type == RecordType::kScore) ++ends;
      if (copies != nullptr) record->payload = copies->Copy(record->payload);
      joiner.Add(*record, /*held=*/walker.cursor().position > lane.end_limit);
    }
    bytes += walker.cursor().position - begin;
    lane.cursor.position = walker.cursor().position;
    lane.cursor.seq = walker.cursor().seq;
    lane.gaps += walker.gaps();
  }
}

}  // namespace spanbox
