// The selected rows of one segment and their groups, in the forms that accumulators ask for.
//
// Accumulators that add up go over all values of a column at once, with the local number of each value's group, and
// carry one sum a group over to the answer. Others take the selected rows one by one.
//
// Thread rule: one thread. Ownership: borrows columns, rows and groups; owns what it derives from them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "query/bitmap.h"
#include "query/groups.h"
#include "query/segment_columns.h"

namespace spanbox {

class GroupedRows {
 public:
  // `count`: groups so far, over all segments.
  GroupedRows(SegmentColumns& of, const Bitmap& rows, const SegmentGroups& numbered, std::uint32_t count)
      : columns(of), selected(rows), groups(numbered), group_count(count) {}

  SegmentColumns& columns;
  const Bitmap& selected;
  const SegmentGroups& groups;
  const std::uint32_t group_count;

  // The selected rows, ascending, and the group of each in the whole answer.
  std::span<const std::uint32_t> rows();
  std::span<const std::uint32_t> group_of();

  // The local number of the group of each value of a chunk, and how many values each group has.
  struct OfValues {
    std::span<const std::uint32_t> of_value;
    std::vector<std::uint64_t> values;  // by local number, one more for those of no selected row
    Buffer<std::uint32_t> own;          // what of_value points to, unless these are all rows
  };
  Result<const OfValues*> ValuesOf(const ChunkInfo& chunk);

  // Rows of `some` in each group, by local number. REQUIRES: they are selected.
  std::vector<std::uint64_t> CountIn(const Bitmap& some) const;

  // Calls fn(local number, group in the whole answer) for every group that has rows here.
  template <typename Fn>
  void ForEachGroup(Fn fn) const {
    for (std::uint32_t number = 0; number < groups.count; ++number) {
      if (groups.group[number] != SegmentGroups::kNone) fn(number, groups.group[number]);
    }
  }

 private:
  void ListRows();

  std::vector<std::uint32_t> rows_, group_of_;      // empty until they are asked for
  std::vector<std::optional<OfValues>> of_values_;  // by validity set
};

// Sums by local number. Each has several places, taken in turns, as adding to one waits until the last sum is stored.
template <typename T>
class LocalSums {
 public:
  explicit LocalSums(std::uint32_t count)
      : shift_(count <= kManyTurnsUpTo ? 2 : 0),
        mask_((std::size_t{1} << shift_) - 1),
        sums_((std::size_t{count} + 1) << shift_) {}

  void Add(std::uint32_t number, std::size_t turn, T value) {
    sums_[(std::size_t{number} << shift_) + (turn & mask_)] += value;
  }
  T operator[](std::uint32_t number) const {
    const std::size_t begin = std::size_t{number} << shift_;
    T sum = sums_[begin];
    for (std::size_t turn = 1; turn <= mask_; ++turn) sum += sums_[begin + turn];
    return sum;
  }

  // Adds read(i) to the sum of numbers[i] for all i.
  template <typename Read>
  void AddAll(std::span<const std::uint32_t> numbers, Read read) {
    LocalSums& sums = *this;
    const auto all = [&](std::size_t begin, std::size_t end, std::uint32_t number) {
      T parts[4] = {};
      std::size_t i = begin;
      for (; i + 4 <= end; i += 4) {
        for (std::size_t k = 0; k < 4; ++k) parts[k] += read(i + k);
      }
      for (; i < end; ++i) parts[0] += read(i);
      sums.Add(number, 0, (parts[0] + parts[1]) + (parts[2] + parts[3]));
    };
    const auto each = [&](std::size_t begin, std::size_t end) {
      T* const to = sums_.data();
      std::size_t i = begin;
      if (mask_ == 0) {
        for (; i < end; ++i) to[numbers[i]] += read(i);
        return;
      }
      for (; i + 4 <= end; i += 4) {
        for (std::size_t k = 0; k < 4; ++k) to[std::size_t{numbers[i + k]} * 4 + k] += read(i + k);
      }
      for (; i < end; ++i) to[std::size_t{numbers[i]} * 4] += read(i);
    };
    ByGroup(numbers, all, each);
  }

 private:
  static constexpr std::uint32_t kManyTurnsUpTo = 1024;
  int shift_;
  std::size_t mask_;
  std::vector<T> sums_;
};

// How often each number occurs; numbers are up to `count`.
std::vector<std::uint64_t> CountNumbers(std::span<const std::uint32_t> numbers, std::uint32_t count);

}  // namespace spanbox
