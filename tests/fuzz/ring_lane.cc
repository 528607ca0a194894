// A lane of a ring as a dead process, or a disk, may have left it: records that verify, some with one field that is not
// as it should be, pads, and any bytes between them.
#include <algorithm>

#include "fuzz.h"
#include "record/drain.h"
#include "record/ring_format.h"

using namespace spanbox;

namespace {

constexpr std::size_t kLaneBytes = 4096;
constexpr std::uint64_t kSeed = 77;

class Lane {
 public:
  explicit Lane(fuzz::Input& input) : bytes_(kLaneBytes) {
    start_.position = input.Below(3) * kLaneBytes + input.Below(kLaneBytes) / 8 * 8;
    start_.seq = input.Below(4);
    RecordHeader header{};
    header.position = start_.position;
    header.seq = start_.seq;
    while (!input.empty() && header.position < start_.position + kLaneBytes) {
      ++header.seq;
      header.position += Put(header, input);
    }
    limit_ = std::min(header.position - header.position % 8 + 8 * input.Below(5), start_.position + kLaneBytes);
  }

  // Every record lies in the lane, behind the one before it, and with a later number.
  void Walk() const {
    LaneWalker walker(std::span(bytes_), kSeed, start_, limit_);
    LaneCursor before = start_;
    while (const auto record = walker.Next()) {
      const std::byte* const first = record->payload.data();
      fuzz::Require(first >= bytes_.data() && first + record->payload.size() <= bytes_.data() + bytes_.size());
      fuzz::Require(walker.cursor().position > before.position && walker.cursor().position <= limit_);
      fuzz::Require(walker.cursor().seq > before.seq);
      before = walker.cursor();
    }
    fuzz::Require(walker.cursor().position >= limit_ || start_.position >= limit_);
  }

 private:
  std::uint64_t Put(RecordHeader header, fuzz::Input& input) {
    const std::uint8_t kind = input.Byte();
    const std::size_t offset = header.position % kLaneBytes, room = kLaneBytes - offset;
    if (kind % 16 == 1) {
      if (room >= sizeof kPadLength) std::memcpy(&bytes_[offset], &kPadLength, sizeof kPadLength);
      return room;
    }
    header.payload_bytes = input.Byte();
    header.length = static_cast<std::uint32_t>(AlignRecord(sizeof header + header.payload_bytes));
    header.type = static_cast<std::uint8_t>(1 + input.Byte() % 12);
    header.version = kRecordVersion;
    const std::uint64_t advance = std::min<std::uint64_t>(header.length, room);
    if (kind % 16 == 2) header.length = static_cast<std::uint32_t>(input.Below(65536));
    if (kind % 16 == 3) header.payload_bytes = static_cast<std::uint32_t>(input.Below(65536)) * 40'000;
    if (kind % 16 == 4) header.seq = ~std::uint64_t{0};
    if (kind % 16 == 5) header.position -= kLaneBytes;
    for (std::size_t i = sizeof header; i < advance; ++i) bytes_[offset + i] = std::byte{input.Byte()};
    const std::size_t payload = std::min<std::size_t>(header.payload_bytes, room - std::min(room, sizeof header));
    header.checksum = RecordChecksum(kSeed, header, std::span(bytes_).last(room).first(0));
    if (payload > 0) {
      header.checksum = RecordChecksum(kSeed, header, std::span(bytes_).subspan(offset + sizeof header, payload));
    }
    if (kind % 16 == 6) ++header.checksum;
    std::memcpy(&bytes_[offset], &header, std::min(room, sizeof header));
    return advance;
  }

  std::vector<std::byte> bytes_;
  LaneCursor start_;
  std::uint64_t limit_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input(data, size);
  Lane(input).Walk();
  return 0;
}
