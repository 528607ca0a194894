// Text blocks: the long strings of neighbouring rows, compressed together with zstd.
//
// Thread rule: functions may be called from any thread; a TextPacker belongs to one.
// Ownership: an UnpackedBlock owns its bytes.
// Invariant: damage of any kind is DataLoss; memory is touched only as far as real content was unpacked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "spanbox/status.h"
#include "store/segment_format.h"

namespace spanbox {

// What the directory says of one block.
struct TextBlockInfo {
  std::uint32_t stored_bytes = 0;
  std::uint32_t raw_bytes = 0;
  TextCodec codec = TextCodec::kStored;
  std::uint64_t checksum = 0;  // of the stored bytes
};

struct UnpackedBlock {
  std::unique_ptr<char[]> data;
  std::size_t size = 0;
  std::string_view text() const { return {data.get(), size}; }
};

Result<UnpackedBlock> UnpackTextBlock(std::span<const std::byte> stored, const TextBlockInfo& info,
                                      std::uint32_t block);

// Collects texts into blocks.
class TextPacker {
 public:
  struct Place {
    std::uint32_t block = 0;
    std::uint32_t offset = 0;
  };

  explicit TextPacker(int level);
  ~TextPacker();

  // REQUIRES: text.size() < 2^32 - kTextBlockBytes.
  Place Add(std::string_view text);
  void Finish();

  std::vector<std::string> blocks;  // complete after Finish
  std::vector<TextBlockInfo> infos;

 private:
  void Close();

  struct Context;
  std::unique_ptr<Context> context_;
  std::string pending_;
};

}  // namespace spanbox
