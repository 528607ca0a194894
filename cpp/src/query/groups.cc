#include "query/groups.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace spanbox {
namespace {

constexpr std::uint32_t kUnknown = std::numeric_limits<std::uint32_t>::max();

// Up to here, a table of all combinations is cheaper than hashing.
constexpr std::uint64_t kMaxTable = 1 << 18;

}  // namespace

Groups::Groups(const std::vector<std::string>& by, TimeBuckets buckets)
    : time_(std::move(buckets)), levels_(by.size() + TimeLevels()) {
  for (const std::string& name : by) columns_.emplace_back(Resolve(name));
}

Status Groups::Read(SegmentColumns& columns, std::span<const std::uint32_t> rows, std::vector<std::uint32_t>& groups) {
  groups.assign(rows.size(), 0);
  std::vector<std::uint32_t> keys;
  std::uint32_t befores = 1;
  const std::size_t time_levels = TimeLevels();
  for (std::size_t i = 0; i < levels_.size(); ++i) {
    std::uint32_t keys_so_far = 0;
    if (i < time_levels) {
      SPANBOX_RETURN_IF_ERROR(ReadBuckets(columns, rows, keys));
      keys_so_far = static_cast<std::uint32_t>(buckets_.size());
    } else {
      KeyColumn& column = columns_[i - time_levels];
      SPANBOX_RETURN_IF_ERROR(column.Read(columns, rows, keys));
      keys_so_far = column.size();
    }
    Combine(levels_[i], befores, keys_so_far, keys, groups);
    befores = static_cast<std::uint32_t>(levels_[i].parts.size());
  }
  return OkStatus();
}

Status Groups::ReadBuckets(SegmentColumns& columns, std::span<const std::uint32_t> rows,
                           std::vector<std::uint32_t>& keys) {
  SPANBOX_ASSIGN_OR_RETURN(const IntColumn* starts, columns.Starts());
  keys.resize(rows.size());
  std::int64_t bucket = 0;
  std::uint32_t key = kUnknown;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::int64_t begin_ns = time_.BucketOf(starts->values[rows[i]]);
    if (key == kUnknown || begin_ns != bucket) {
      bucket = begin_ns;
      const auto [place, added] = bucket_numbers_.try_emplace(bucket, static_cast<std::uint32_t>(buckets_.size()));
      if (added) buckets_.push_back(bucket);
      key = place->second;
    }
    keys[i] = key;
  }
  return OkStatus();
}

void Groups::Combine(Level& level, std::uint32_t befores, std::uint32_t keys_so_far,
                     std::span<const std::uint32_t> keys, std::vector<std::uint32_t>& groups) {
  const auto number = [&level](std::uint32_t before, std::uint32_t key) {
    const std::uint64_t pair = static_cast<std::uint64_t>(before) << 32 | key;
    const auto [place, added] = level.numbers.try_emplace(pair, static_cast<std::uint32_t>(level.parts.size()));
    if (added) level.parts.push_back({before, key});
    return place->second;
  };
  const std::uint64_t combinations = static_cast<std::uint64_t>(befores) * keys_so_far;
  if (combinations > kMaxTable || combinations > 8 * keys.size()) {
    for (std::size_t i = 0; i < keys.size(); ++i) groups[i] = number(groups[i], keys[i]);
    return;
  }
  std::vector<std::uint32_t> table(combinations, kUnknown);
  if (befores == 1) {  // of the first level: groups are all 0
    for (std::size_t i = 0; i < keys.size(); ++i) {
      std::uint32_t& known = table[keys[i]];
      if (known == kUnknown) known = number(0, keys[i]);
      groups[i] = known;
    }
    return;
  }
  for (std::size_t i = 0; i < keys.size(); ++i) {
    std::uint32_t& known = table[static_cast<std::size_t>(groups[i]) * keys_so_far + keys[i]];
    if (known == kUnknown) known = number(groups[i], keys[i]);
    groups[i] = known;
  }
}

std::vector<std::uint32_t> Groups::KeysOf(std::span<const std::uint32_t> groups, std::size_t level) const {
  std::vector<std::uint32_t> keys;
  keys.reserve(groups.size());
  for (std::uint32_t group : groups) {
    for (std::size_t i = levels_.size() - 1; i > level; --i) group = levels_[i].parts[group].before;
    keys.push_back(levels_[level].parts[group].key);
  }
  return keys;
}

std::vector<std::uint32_t> Groups::Ordered() const {
  std::vector<std::uint32_t> groups(count());
  std::iota(groups.begin(), groups.end(), 0u);
  const std::size_t time_levels = TimeLevels();
  // Sorting by the last column first, stably, leaves the first one deciding.
  for (std::size_t level = levels_.size(); level-- > 0;) {
    std::vector<std::uint32_t> ranks;
    if (level >= time_levels) ranks = columns_[level - time_levels].Ranks();
    const std::vector<std::uint32_t> keys = KeysOf(groups, level);
    std::vector<std::pair<std::int64_t, std::uint32_t>> order;
    for (std::size_t i = 0; i < groups.size(); ++i) {
      order.emplace_back(level < time_levels ? buckets_[keys[i]] : ranks[keys[i]], groups[i]);
    }
    std::ranges::stable_sort(order, {}, &std::pair<std::int64_t, std::uint32_t>::first);
    for (std::size_t i = 0; i < groups.size(); ++i) groups[i] = order[i].second;
  }
  return groups;
}

std::vector<TableColumn> Groups::Output(std::span<const std::uint32_t> groups) && {
  std::vector<TableColumn> out;
  const std::size_t time_levels = TimeLevels();
  if (time_levels > 0) {
    TableColumn& time = out.emplace_back();
    time.name = "time";
    time.type = TableColumn::Type::kTimestampNs;
    for (const std::uint32_t key : KeysOf(groups, 0)) time.ints.push_back(buckets_[key]);
  }
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    out.push_back(std::move(columns_[i]).Output(KeysOf(groups, i + time_levels)));
  }
  return out;
}

}  // namespace spanbox
