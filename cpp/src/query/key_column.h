// The distinct values of a column over all segments of a query, numbered: what grouping and distinct() count by.
//
// Dictionary codes of a segment are translated through a flat array, so a string is hashed once a segment, not once a
// row. Numbers that are equal are one value whatever their stored type.
//
// Thread rule: one thread. Ownership: owns its values.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <span>
#include <vector>

#include "query/cells.h"
#include "query/segment_columns.h"

namespace spanbox {

// What one segment's rows are told apart by in a column: numbers below `count`, of which KeyColumn::KeyOf knows the
// key.
struct KeyCodes {
  std::span<const std::uint32_t> of_row;  // every row; of any value for rows that were not asked for
  // Instead of them: the codes of the rows that have one. Their numbers are one higher; 0 is that of the other rows.
  const Buffer<std::uint32_t>* sparse = nullptr;
  const Validity* valid = nullptr;
  std::uint32_t count = 0;
  std::span<const std::string_view> texts;  // of the last numbers below `count`; the number before them is "absent"
  std::vector<std::uint32_t> keys;          // by number, where already known; none: a number is its key
  Buffer<std::uint32_t> own;                // what `of_row` points to, unless it lies in the segment's columns
};

class KeyColumn {
 public:
  static constexpr std::uint32_t kAbsent = 0;  // the key of rows without a value

  explicit KeyColumn(ColumnRef column) : column_(std::move(column)), values_(1) {}

  // keys[i] becomes the key of rows[i]. REQUIRES: rows ascend.
  Status Read(SegmentColumns& columns, std::span<const std::uint32_t> rows, std::vector<std::uint32_t>& keys);

  // The same for all rows at once, in numbers of the segment's own.
  Result<KeyCodes> ReadCodes(SegmentColumns& columns, const Bitmap& selected);
  std::uint32_t KeyOf(std::uint32_t code, KeyCodes& codes);

  // Takes the values of another one of the same column in; gives the key here for each key there.
  std::vector<std::uint32_t> Join(const KeyColumn& other);

  const ColumnRef& column() const { return column_; }
  std::uint32_t size() const { return static_cast<std::uint32_t>(values_.size()); }

  std::vector<std::uint32_t> Ranks() const;  // rank[key], ordered as Cells::Compare says
  void AppendJson(std::uint32_t key, std::string& json) const;
  TableColumn Output(std::span<const std::uint32_t> keys) &&;  // the values of these keys

 private:
  using Rows = std::span<const std::uint32_t>;
  using Keys = std::vector<std::uint32_t>;
  Status ReadStrings(SegmentColumns& columns, const ChunkInfo& chunk, Rows rows, Keys& keys);
  Status ReadText(SegmentColumns& columns, const ChunkInfo& chunk, Rows rows, Keys& keys);
  Status ReadIds(SegmentColumns& columns, const ChunkInfo& chunk, Rows rows, Keys& keys);
  std::uint32_t NewKey();
  std::uint32_t OfInt(std::int64_t value);
  std::uint32_t OfFloat(double value);
  std::uint32_t OfBool(bool value);
  std::uint32_t OfString(std::string_view value);

  ColumnRef column_;
  Cells values_;  // the value of each key; [kAbsent] has none
  absl::flat_hash_map<std::int64_t, std::uint32_t> ints_;
  absl::flat_hash_map<std::uint64_t, std::uint32_t> floats_;  // by bits
  std::vector<std::uint32_t> key_of_string_;                  // by code of values_.strings()
  std::uint32_t bools_[2] = {kAbsent, kAbsent};
};

}  // namespace spanbox
