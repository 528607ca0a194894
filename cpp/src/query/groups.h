// Numbers the groups of a grouping: one for each combination of time bucket and key values that occurs.
//
// The rows of a segment are numbered by what lies close at hand, codes of dictionaries and the segment's own buckets,
// so that it takes no look-up a row; only the combinations that occur get a number among the groups of the whole
// answer.
//
// Thread rule: one thread. Ownership: owns keys and groups; what Read gives is the caller's.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <span>
#include <vector>

#include "query/bitmap.h"
#include "query/key_column.h"
#include "query/time_buckets.h"
#include "spanbox/query.h"

namespace spanbox {

// The groups of one segment's rows, by local numbers.
struct SegmentGroups {
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;

  std::span<const std::uint32_t> of_row;  // of every row; `count` for rows that are not selected
  Buffer<std::uint32_t> own;              // what of_row points to, unless these are codes of the segment's columns
  std::vector<KeyCodes> keys;             // of each level: of_row may point to these, too
  std::uint32_t count = 1;                // local numbers are below
  std::vector<std::uint64_t> rows;        // by local number, one more for `count`
  std::vector<std::uint32_t> group;       // by local number, in the whole answer; kNone where no row is
};

class Groups {
 public:
  // Without columns and buckets everything is one group, which is there from the start.
  Groups(const std::vector<std::string>& by, About about, TimeBuckets buckets);

  std::vector<KeyColumn>& columns() { return columns_; }

  Result<SegmentGroups> Read(SegmentColumns& columns, const Bitmap& selected);

  // Takes the groups of another one of the same grouping in; gives the number here for each number there.
  std::vector<std::uint32_t> Join(const Groups& other);

  std::uint32_t count() const { return levels_.empty() ? 1 : static_cast<std::uint32_t>(levels_.back().parts.size()); }

  // All groups, by time, then by the columns' values in their order.
  std::vector<std::uint32_t> Ordered() const;

  // "time" if there are buckets, then the columns, for these groups.
  std::vector<TableColumn> Output(std::span<const std::uint32_t> groups) &&;

 private:
  struct Part {
    std::uint32_t before, key;
  };  // the group of one level less, and this level's key
  struct Level {
    static constexpr std::uint32_t kMaxBefore = 4096, kMaxKey = 1024;  // of the table: larger ones are hashed

    std::uint32_t NumberOf(Part part);

    std::vector<std::vector<std::uint32_t>> table;              // [before][key]
    absl::flat_hash_map<std::uint64_t, std::uint32_t> numbers;  // before << 32 | key
    std::vector<Part> parts;                                    // by number
  };
  // How the local numbers of a level come from those of the level before.
  struct Step {
    std::uint32_t keys = 0;             // number = before * keys + key, unless
    bool hashed = false;                // that would be too many:
    std::vector<Part> parts;            // by number, local ones
    std::vector<std::uint32_t> groups;  // by number, those of the whole answer as they become known
  };

  std::uint32_t NumberOfBucket(std::int64_t begin_ns);
  Result<KeyCodes> ReadBuckets(SegmentColumns& columns);
  static Step Combine(KeyCodes& keys, const Bitmap& selected, SegmentGroups& groups);
  std::uint32_t GroupOf(std::uint32_t number, std::span<Step> steps, std::span<KeyCodes> keys);
  std::vector<std::uint32_t> KeysOf(std::span<const std::uint32_t> groups, std::size_t level) const;

  std::size_t TimeLevels() const { return time_.none() ? 0 : 1; }

  TimeBuckets time_;
  absl::flat_hash_map<std::int64_t, std::uint32_t> bucket_numbers_;
  std::vector<std::int64_t> buckets_;
  std::vector<KeyColumn> columns_;
  std::vector<Level> levels_;  // buckets first, if there are any
};

// Whether `n` neighbours are of one group. Those of a trace, and of traces close in time, often are.
inline bool OfOneGroup(const std::uint32_t* groups, std::size_t n) {
  if (groups[0] != groups[n - 1] || groups[0] != groups[n / 2]) return false;
  std::uint32_t differ = 0;
  if (n == 64) {  // as nearly always: without a loop's remainder
    for (std::size_t i = 0; i < 64; ++i) differ |= groups[i] ^ groups[0];
  } else {
    for (std::size_t i = 0; i < n; ++i) differ |= groups[i] ^ groups[0];
  }
  return differ == 0;
}

// Calls all(begin, end, group) for neighbours that are of one group, each(begin, end) for others; together they cover
// `groups` in order, 64 at a time.
template <typename All, typename Each>
void ByGroup(std::span<const std::uint32_t> groups, All all, Each each) {
  constexpr std::size_t kBlock = 64;
  for (std::size_t begin = 0; begin < groups.size(); begin += kBlock) {
    const std::size_t end = std::min(groups.size(), begin + kBlock);
    OfOneGroup(groups.data() + begin, end - begin) ? all(begin, end, groups[begin]) : each(begin, end);
  }
}

}  // namespace spanbox
