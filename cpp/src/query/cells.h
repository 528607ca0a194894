// A column of cells of any scalar type, on its way to becoming a TableColumn of one type.
//
// Thread rule: not synchronised. Ownership: owns its strings.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "query/query_run.h"
#include "query/segment_columns.h"
#include "spanbox/query.h"

namespace spanbox {

// Lets a map of strings be asked with a std::string_view, whichever string_view Abseil was built with.
struct TextHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return Hash64(std::as_bytes(std::span(text))); }
};

// Distinct strings, numbered in the order they came.
class StringPool {
 public:
  StringPool() = default;
  StringPool(StringPool&&) = default;
  StringPool& operator=(StringPool&&) = default;

  std::uint32_t Intern(std::string_view text);
  std::uint32_t Append(std::string text);  // without looking for an equal one
  std::uint32_t size() const { return static_cast<std::uint32_t>(strings_.size()); }
  const std::string& operator[](std::uint32_t code) const { return strings_[code]; }
  std::vector<std::string> Take() &&;

 private:
  std::deque<std::string> strings_;  // never moves a string, so the keys of codes_ can point to them
  absl::flat_hash_map<std::string_view, std::uint32_t, TextHash, std::equal_to<>> codes_;
};

class Cells {
 public:
  enum class Tag : std::uint8_t { kInt, kFloat, kBool, kString, kAbsent };  // the order of values of different types

  struct Raw {
    Tag tag = Tag::kAbsent;
    std::uint64_t payload = 0;  // the int, the bits of the double, 0 or 1, or a code of strings()
  };

  explicit Cells(std::size_t rows = 0) : tags_(rows, Tag::kAbsent), payloads_(rows) {}

  std::size_t size() const { return tags_.size(); }
  void Resize(std::size_t rows) {
    tags_.resize(rows, Tag::kAbsent);
    payloads_.resize(rows);
    if (!json_.empty()) json_.resize(rows);
  }
  bool empty() const { return seen_ == 0; }  // no cell has a value

  void SetInt(std::size_t row, std::int64_t value) { Set(row, Tag::kInt, static_cast<std::uint64_t>(value)); }
  void SetFloat(std::size_t row, double value);
  void SetBool(std::size_t row, bool value) { Set(row, Tag::kBool, value ? 1 : 0); }
  void SetString(std::size_t row, std::uint32_t code) { Set(row, Tag::kString, code); }
  StringPool& strings() { return strings_; }
  const StringPool& strings() const { return strings_; }

  Raw operator[](std::size_t row) const { return {tags_[row], payloads_[row]}; }

  // Numbers by value, then truth values, then strings by bytes, then absent ones. < 0, 0, > 0.
  int Compare(Raw a, Raw b) const;

  // Sets the cells targets[i] from rows[i] of a segment. REQUIRES: rows ascend.
  Status Read(SegmentColumns& columns, std::string_view column, std::span<const std::uint32_t> rows,
              std::span<const std::uint32_t> targets);
  Status ReadChunk(SegmentColumns& columns, const ChunkInfo& chunk, std::span<const std::uint32_t> rows,
                   std::span<const std::uint32_t> targets);

  // The cells of these rows, in this order.
  Cells Gather(std::span<const std::uint32_t> rows) &&;

  // Of one type: the column's own; an attribute's if it has one, floats when it has ints and floats, else strings.
  TableColumn Finish(const ColumnRef& column) &&;
  // That type, of a column with values of these tags: bit 1 << tag each.
  static TableColumn::Type TypeOf(const ColumnRef& column, unsigned tags);

 private:
  void Set(std::size_t row, Tag tag, std::uint64_t payload) {
    tags_[row] = tag;
    payloads_[row] = payload;
    seen_ |= 1u << static_cast<unsigned>(tag);
  }
  void SetJson(std::size_t row);
  static Tag TagOf(TableColumn::Type type);
  std::vector<ValueType> Kinds() const;
  void FinishStrings(TableColumn& out);
  Status ReadPoints(SegmentColumns& columns, const ChunkInfo& chunk, std::span<const std::uint32_t> rows,
                    std::span<const std::uint32_t> targets);

  std::vector<Tag> tags_;
  std::vector<std::uint64_t> payloads_;
  StringPool strings_;
  unsigned seen_ = 0;
  std::vector<std::uint8_t> json_;  // a row each: whether its string is JSON text; empty: none is
};

// What a result calls the column: its name, but "start" for start_ns, which comes as a timestamp; of scores, "at".
std::string OutputName(const ColumnRef& column);

}  // namespace spanbox
