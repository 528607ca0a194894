// The rows of a segment, whole again: what merging and tests need; queries read columns.
//
// Thread rule: one thread. Ownership: borrows the segment; a row is valid until the next call.
// Invariant: adding every row to a SegmentBuilder gives a segment with the same values of the same types.
#pragma once

#include <memory>
#include <variant>
#include <vector>

#include "store/segment.h"

namespace spanbox {

class SegmentRows {
 public:
  // Reads every column. With `adopter`, which then gets the rows, text blocks that are large enough go over to it as
  // they are, and their texts are not read: Row says in adopted() where they lie.
  static Result<SegmentRows> Open(const Segment& segment, SegmentBuilder* adopter = nullptr);

  std::uint32_t rows() const { return static_cast<std::uint32_t>(span_ids_.size()); }
  Result<SpanRow> Row(std::uint32_t row);
  std::span<const SegmentBuilder::AdoptedText> adopted() const { return adopted_; }  // of the last row

 private:
  struct Other {
    ChunkInfo info;
    std::variant<IntColumn, FloatColumn, BoolColumn, StringColumn, std::unique_ptr<TextColumn>> column;
  };
  Status Load(const Segment& segment, const ChunkInfo& chunk);
  Result<bool> FillField(const Other& other, std::uint32_t row, Field& field);
  Status FillText(TextColumn& text, std::uint32_t row, Field& field);

  const TextBlockReader* text_ = nullptr;
  SegmentBuilder* adopter_ = nullptr;
  std::vector<std::uint32_t> adopted_blocks_;  // by block: its number in the adopter
  std::vector<SegmentBuilder::AdoptedText> adopted_;
  std::vector<TraceId> trace_ids_;
  std::vector<SpanId> span_ids_, parent_ids_;  // parent_ids_: empty when there are none
  std::vector<std::int64_t> starts_;
  std::vector<Other> others_;
  std::vector<Field> fields_;
};

}  // namespace spanbox
