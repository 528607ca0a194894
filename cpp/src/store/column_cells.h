// The values a SegmentBuilder has collected, column by column, in the order the rows came.
//
// Thread rule: as the builder they belong to. Ownership: strings live in the builder's Arena, texts in its buffer.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "spanbox/span.h"

namespace spanbox {

inline constexpr std::uint32_t kNoRow = 0xFFFFFFFF;

// Memory for short strings that are kept until the builder is emptied.
class Arena {
 public:
  std::string_view Keep(std::string_view text) {
    if (text.empty()) return {};
    if (text.size() > room_) {
      const std::size_t block = std::max(text.size(), kBlock);
      blocks_.push_back(std::make_unique<char[]>(block));
      at_ = blocks_.back().get();
      room_ = block;
    }
    std::memcpy(at_, text.data(), text.size());
    const std::string_view kept(at_, text.size());
    at_ += text.size();
    room_ -= text.size();
    return kept;
  }
  void Clear() {
    blocks_.clear();
    room_ = 0;
  }

 private:
  static constexpr std::size_t kBlock = 64 * 1024;
  std::vector<std::unique_ptr<char[]>> blocks_;
  char* at_ = nullptr;
  std::size_t room_ = 0;
};

template <typename T>
struct Cells {
  std::vector<std::uint32_t> rows;  // ascending
  std::vector<T> values;

  void Add(std::uint32_t row, T value) {
    rows.push_back(row);
    values.push_back(value);
  }
  void Pop() {
    rows.pop_back();
    values.pop_back();
  }
  void Clear() {
    rows.clear();
    values.clear();
  }
  bool empty() const { return rows.empty(); }
};

// Strings by code; the code is the order of first use.
class StringCells : public Cells<std::int64_t> {
 public:
  void AddText(std::uint32_t row, std::string_view text, Arena& arena) {
    // The neighbour's value is the best guess: spans of one trace share most tags.
    if (!values.empty() && entries_[static_cast<std::size_t>(values.back())] == text) return Add(row, values.back());
    const auto found = codes_.find(text);
    if (found != codes_.end()) return Add(row, found->second);
    const auto code = static_cast<std::int64_t>(entries_.size());
    entries_.push_back(arena.Keep(text));
    codes_.emplace(entries_.back(), code);
    Add(row, code);
  }
  void ClearAll() {
    Clear();
    codes_.clear();
    entries_.clear();
  }
  std::span<const std::string_view> entries() const { return entries_; }

 private:
  absl::flat_hash_map<std::string_view, std::int64_t> codes_;
  std::vector<std::string_view> entries_;
};

inline constexpr std::uint32_t kNoBlock = 0xFFFFFFFF;

struct TextRef {
  std::uint64_t offset = 0;
  std::uint32_t size = 0;
  bool is_json = false;
  std::uint32_t block = kNoBlock;  // the adopted block it lies in; none: the builder's buffer
};

enum class StoredAs : std::uint8_t { kNone, kInt, kFloat, kBool, kString, kText };

// All values of one name: a chunk for each way they are stored.
struct ColumnCells {
  Column column = Column::kAttribute;
  std::string name;  // attributes only
  bool always_text = false;

  std::uint32_t last_row = kNoRow;
  StoredAs last_store = StoredAs::kNone;
  Cells<std::int64_t> ints, floats, bools;  // floats as their bits
  StringCells strings;
  Cells<TextRef> texts;

  void PopLast() {
    switch (last_store) {
      case StoredAs::kNone:
        break;
      case StoredAs::kInt:
        ints.Pop();
        break;
      case StoredAs::kFloat:
        floats.Pop();
        break;
      case StoredAs::kBool:
        bools.Pop();
        break;
      case StoredAs::kString:
        strings.Pop();
        break;
      case StoredAs::kText:
        texts.Pop();
        break;
    }
    last_store = StoredAs::kNone;
  }
  void Clear() {
    last_row = kNoRow;
    last_store = StoredAs::kNone;
    ints.Clear();
    floats.Clear();
    bools.Clear();
    strings.ClearAll();
    texts.Clear();
  }
};

}  // namespace spanbox
