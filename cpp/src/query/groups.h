// Numbers the groups of a grouping: one for each combination of time bucket and key values that occurs.
//
// Thread rule: one thread. Ownership: owns keys and groups.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <span>
#include <vector>

#include "query/key_column.h"
#include "query/time_buckets.h"
#include "spanbox/query.h"

namespace spanbox {

class Groups {
 public:
  // Without columns and buckets everything is one group, which is there from the start.
  Groups(const std::vector<std::string>& by, TimeBuckets buckets);

  std::vector<KeyColumn>& columns() { return columns_; }

  // groups[i] becomes the group of rows[i]. REQUIRES: rows ascend.
  Status Read(SegmentColumns& columns, std::span<const std::uint32_t> rows, std::vector<std::uint32_t>& groups);

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
    absl::flat_hash_map<std::uint64_t, std::uint32_t> numbers;
    std::vector<Part> parts;  // by number
  };

  Status ReadBuckets(SegmentColumns& columns, std::span<const std::uint32_t> rows, std::vector<std::uint32_t>& keys);
  static void Combine(Level& level, std::uint32_t befores, std::uint32_t keys_so_far,
                      std::span<const std::uint32_t> keys, std::vector<std::uint32_t>& groups);
  std::vector<std::uint32_t> KeysOf(std::span<const std::uint32_t> groups, std::size_t level) const;

  std::size_t TimeLevels() const { return time_.none() ? 0 : 1; }

  TimeBuckets time_;
  absl::flat_hash_map<std::int64_t, std::uint32_t> bucket_numbers_;
  std::vector<std::int64_t> buckets_;
  std::vector<KeyColumn> columns_;
  std::vector<Level> levels_;  // buckets first, if there are any
};

}  // namespace spanbox
