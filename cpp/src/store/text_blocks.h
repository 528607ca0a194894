// Text blocks: the long strings of neighbouring rows, compressed together with zstd.
//
// Thread rule: a TextPacker and a TextBlockReader belong to one thread.
// Ownership: whoever holds an UnpackedBlock keeps it.
// Invariant: damage of any kind is DataLoss; memory is touched only as far as real content was unpacked.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "spanbox/status.h"
#include "store/segment_format.h"
#include "store/text_filter.h"

namespace spanbox {

// What the directory says of one block.
struct TextBlockInfo {
  std::uint32_t stored_bytes = 0;
  std::uint32_t raw_bytes = 0;
  TextCodec codec = TextCodec::kStored;
  std::uint64_t checksum = 0;  // of the stored bytes
};

// Where a text lies.
struct TextPlace {
  std::uint32_t block = 0, offset = 0, size = 0;
};

// Gives the stored bytes of text block `block` of a segment.
using TextBlockLoader = std::function<Result<std::span<const std::byte>>(std::uint32_t block)>;

struct UnpackedBlock {
  std::uint32_t number = 0;
  std::unique_ptr<char[]> data;
  std::size_t size = 0;
  std::string_view text() const { return {data.get(), size}; }
};

// The texts of one segment, for all its columns: texts of a row share a block, so it is unpacked once for all of them.
class TextBlockReader {
 public:
  TextBlockReader(TextBlockLoader loader, std::vector<TextBlockInfo> infos);
  ~TextBlockReader();

  std::span<const TextBlockInfo> infos() const { return infos_; }

  // Unpacks the block unless it is among the few unpacked last.
  Result<std::shared_ptr<const UnpackedBlock>> Block(std::uint32_t number);

  // The bytes as they are stored, checked.
  Result<std::span<const std::byte>> Stored(std::uint32_t block) const;

 private:
  // Traces that were under way during several commits have texts in as many blocks.
  static constexpr std::size_t kKept = 4;

  Result<std::shared_ptr<const UnpackedBlock>> Unpack(std::uint32_t number);
  Status UnpackFrame(std::span<const std::byte> stored, UnpackedBlock& to);

  const TextBlockLoader loader_;
  const std::vector<TextBlockInfo> infos_;
  std::shared_ptr<const UnpackedBlock> base_;
  std::array<std::shared_ptr<const UnpackedBlock>, kKept> kept_;  // the one used last first
};

// Collects texts into blocks.
class TextPacker {
 public:
  // kQuick: for a commit, whose time counts. kMedium: for small blocks that a merge packs together. kSmall: for what
  // stays: blocks are larger, all but the first compressed against that one, and there is a search filter.
  enum class Mode { kQuick, kMedium, kSmall };
  explicit TextPacker(Mode mode);
  ~TextPacker();

  // Takes over a block of another segment as it is; returns its number. REQUIRES: nothing was added; not kZstdBase.
  std::uint32_t Adopt(std::span<const std::byte> stored, const TextBlockInfo& info);

  // REQUIRES: text.size() < 2^32 - kSettledBlockBytes.
  TextPlace Add(std::string_view text);
  void Finish();
  void Clear();  // for the next segment

  std::vector<std::string> blocks;  // complete after Finish
  std::vector<TextBlockInfo> infos;
  std::string filter;  // of mode kSmall

 private:
  void Close();
  void MakeBase();

  struct Context;
  const Mode mode_;
  std::unique_ptr<Context> context_;
  TextFilterBuilder filter_builder_;
  std::string pending_;
};

}  // namespace spanbox
