// Writes the columns value: takes columns whose rows are in their final order, chooses encodings, lays out the bytes.
//
// Thread rule: belongs to one thread. Ownership: borrows its arguments during a call; Finish gives the bytes away.
// Invariants:
//   1. `values` holds the values of valid rows only, in row order; `validity` comes from AddValidity.
//   2. Bytes depend on the arguments alone.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "spanbox/span.h"
#include "store/segment_format.h"
#include "store/text_blocks.h"

namespace spanbox {

// Which column a chunk belongs to. `name` of attributes only.
struct ChunkKey {
  Column column = Column::kAttribute;
  std::string_view name;
  std::uint32_t validity = 0;
};

struct TextPlaces {
  std::vector<std::int64_t> is_json, blocks, offsets, sizes;
};

class SegmentWriter {
 public:
  explicit SegmentWriter(std::uint32_t rows) : rows_(rows) {}

  // 0 when all rows are valid. Equal sets are stored once.
  std::uint32_t AddValidity(const std::vector<std::uint64_t>& words, std::uint32_t count);

  // REQUIRES: the values are not empty, and all of one length with the validity.
  void AddInts(const ChunkKey& key, ColumnType type, std::span<const std::int64_t> values);
  void AddFloats(const ChunkKey& key, std::span<const std::int64_t> bits);
  // `dictionary` sorted and distinct, every entry used by `codes`.
  void AddStrings(const ChunkKey& key, std::span<const std::string_view> dictionary,
                  std::span<const std::int64_t> codes);
  // `traces` in row order with their numbers of rows.
  void AddTraceIds(std::span<const TraceId> traces, std::span<const std::int64_t> lengths);
  void AddSpanIds(const ChunkKey& key, std::span<const SpanId> ids);
  // `distances[i]` zigzag of (row - parent's row), or 0: the next of `others` is the id.
  void AddParents(const ChunkKey& key, std::span<const std::int64_t> distances, std::span<const SpanId> others);
  void AddText(const ChunkKey& key, const TextPlaces& places);

  std::string Finish(std::span<const TextBlockInfo> text_blocks, std::int64_t min_start_ns, std::int64_t max_start_ns);

 private:
  void PutHead(const ChunkKey& key, ColumnType type, Encoding encoding);
  void PutChunk(std::string_view bytes);
  void PutPlace(std::string_view bytes, std::string& directory, std::string& body);

  std::uint32_t rows_;
  std::string validity_directory_, validity_body_;
  std::vector<std::vector<std::uint64_t>> validities_;
  std::string chunk_directory_, chunk_body_;
  std::uint32_t chunks_ = 0;
  std::string scratch_;
};

}  // namespace spanbox
