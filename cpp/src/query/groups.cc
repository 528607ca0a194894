#include "query/groups.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>

#include "query/grouped_rows.h"
#include "query/sparse.h"

namespace spanbox {
namespace {

// Up to here a number for every combination costs less than hashing those that occur.
constexpr std::uint64_t kMaxNumbers = 1 << 16;

// Gives rows that are not selected the number `count`.
void SetOthers(const Bitmap& selected, SegmentGroups& groups) {
  const auto words = selected.words();
  const std::size_t rows = selected.rows();
  const auto is_full = [&](std::size_t w) {
    return words[w] == ~std::uint64_t{0} || (w == rows / 64 && std::popcount(words[w]) == static_cast<int>(rows % 64));
  };
  for (std::size_t w = 0; w < words.size(); ++w) {
    if (is_full(w)) continue;
    if (groups.of_row.data() != groups.own.data()) {
      groups.own = Buffer<std::uint32_t>(rows);
      std::ranges::copy(groups.of_row, groups.own.begin());
      groups.of_row = groups.own;
    }
    const std::size_t end = std::min(rows, w * 64 + 64);
    for (std::size_t row = w * 64; row < end; ++row) {
      if ((words[w] >> (row % 64) & 1) == 0) groups.own[row] = groups.count;
    }
  }
}

}  // namespace

Groups::Groups(const std::vector<std::string>& by, About about, TimeBuckets buckets)
    : time_(std::move(buckets)), levels_(by.size() + TimeLevels()) {
  for (const std::string& name : by) columns_.emplace_back(Resolve(name, about));
}

Result<SegmentGroups> Groups::Read(SegmentColumns& columns, const Bitmap& selected) {
  SegmentGroups groups;
  std::vector<KeyCodes>& keys = groups.keys;
  std::vector<Step> steps;
  for (std::size_t i = 0; i < levels_.size(); ++i) {
    if (i < TimeLevels()) {
      SPANBOX_ASSIGN_OR_RETURN(keys.emplace_back(), ReadBuckets(columns));
    } else {
      SPANBOX_ASSIGN_OR_RETURN(keys.emplace_back(), columns_[i - TimeLevels()].ReadCodes(columns, selected));
    }
    steps.push_back(Combine(keys.back(), selected, groups));
  }
  if (levels_.empty()) {
    groups.own = Buffer<std::uint32_t>(columns.rows());
    std::ranges::fill(groups.own, 0u);
    groups.of_row = groups.own;
  }
  SetOthers(selected, groups);
  groups.rows = CountNumbers(groups.of_row, groups.count);
  groups.group.assign(groups.count, SegmentGroups::kNone);
  for (std::uint32_t number = 0; number < groups.count; ++number) {
    if (groups.rows[number] > 0) groups.group[number] = GroupOf(number, steps, keys);
  }
  return groups;
}

Result<KeyCodes> Groups::ReadBuckets(SegmentColumns& columns) {
  SPANBOX_ASSIGN_OR_RETURN(const ChunkInfo* chunk, columns.StartsChunk());
  KeyCodes keys;
  keys.own = Buffer<std::uint32_t>(columns.rows());
  std::uint32_t last = SegmentGroups::kNone;
  std::int64_t from_ns = 0, to_ns = -1;  // of the last bucket, as far as it is known
  absl::flat_hash_map<std::int64_t, std::uint32_t> local;
  const auto find = [&](std::int64_t start_ns) {
    const std::int64_t begin_ns = time_.BucketOf(start_ns);
    const auto [place, added] = local.try_emplace(begin_ns, static_cast<std::uint32_t>(local.size()));
    if (added) keys.keys.push_back(NumberOfBucket(begin_ns));
    last = place->second;
    from_ns = begin_ns;
    to_ns = time_.known_until_ns();
  };
  const auto add = [&](std::uint32_t* to, std::span<const std::int64_t> starts) {
    // The sign of one of the differences says that a moment lies outside, even where the other one wraps.
    const auto from = static_cast<std::uint64_t>(from_ns), until = static_cast<std::uint64_t>(to_ns);
    std::uint64_t outside = from_ns <= to_ns ? 0 : ~std::uint64_t{0};
    for (const std::int64_t start_ns : starts) {
      const auto start = static_cast<std::uint64_t>(start_ns);
      outside |= (start - from) | (until - start);
    }
    if (static_cast<std::int64_t>(outside) >= 0) {
      std::fill_n(to, starts.size(), last);
      return;
    }
    for (std::size_t i = 0; i < starts.size(); ++i) {
      if (starts[i] < from_ns || starts[i] > to_ns) find(starts[i]);
      to[i] = last;
    }
  };
  const auto visit = [&](std::size_t before, std::span<const std::int64_t> starts) {
    constexpr std::size_t kBlock = 64;
    for (std::size_t at = 0; at < starts.size(); at += kBlock) {
      add(keys.own.data() + before + at, starts.subspan(at, std::min(kBlock, starts.size() - at)));
    }
  };
  const auto skip = [&](std::size_t before, std::size_t count, std::int64_t low, std::int64_t high) {
    if (low < from_ns || low > to_ns) find(low);
    if (high > to_ns) return false;
    std::fill_n(keys.own.data() + before, count, last);
    return true;
  };
  SPANBOX_RETURN_IF_ERROR(columns.segment().VisitNumbers(*chunk, visit, skip));
  keys.of_row = keys.own;
  keys.count = static_cast<std::uint32_t>(keys.keys.size());
  return keys;
}

Groups::Step Groups::Combine(KeyCodes& keys, const Bitmap& selected, SegmentGroups& groups) {
  Step step;
  step.keys = keys.count;
  const std::size_t rows = selected.rows();
  const std::uint64_t numbers = std::uint64_t{groups.count} * keys.count;
  const bool first = groups.of_row.empty();
  step.hashed = numbers > kMaxNumbers;
  if (keys.sparse != nullptr && step.hashed) {
    keys.own = Buffer<std::uint32_t>(rows);
    CombineCodes({}, 0, *keys.sparse, *keys.valid, keys.own);
    keys.of_row = keys.own;
  }
  const std::uint32_t* const before = groups.of_row.data();
  const std::uint32_t* const key = keys.of_row.data();
  if (first && !step.hashed && keys.sparse == nullptr) {
    groups.of_row = keys.of_row;
  } else {
    Buffer<std::uint32_t> combined(rows);
    std::uint32_t* const to = combined.data();
    if (!step.hashed && keys.sparse != nullptr) {
      CombineCodes(groups.of_row, keys.count, *keys.sparse, *keys.valid, combined);
    } else if (!step.hashed) {
      for (std::size_t i = 0; i < rows; ++i) to[i] = before[i] * keys.count + key[i];
    } else {
      absl::flat_hash_map<std::uint64_t, std::uint32_t> known;
      std::fill_n(to, rows, 0u);
      selected.ForEach([&](std::uint32_t row) {
        const Part part{first ? 0 : before[row], key[row]};
        const auto [place, added] = known.try_emplace(static_cast<std::uint64_t>(part.before) << 32 | part.key,
                                                      static_cast<std::uint32_t>(step.parts.size()));
        if (added) step.parts.push_back(part);
        to[row] = place->second;
      });
    }
    groups.own = std::move(combined);
    groups.of_row = groups.own;
  }
  groups.count = static_cast<std::uint32_t>(step.hashed ? step.parts.size() : numbers);
  step.groups.assign(groups.count, SegmentGroups::kNone);
  return step;
}

// The number in the whole answer of what has this local number after the last of `steps`.
std::uint32_t Groups::GroupOf(std::uint32_t number, std::span<Step> steps, std::span<KeyCodes> keys) {
  if (steps.empty()) return 0;
  Step& step = steps.back();
  std::uint32_t& known = step.groups[number];
  if (known != SegmentGroups::kNone) return known;
  const Part part = step.hashed ? step.parts[number] : Part{number / step.keys, number % step.keys};
  const std::size_t i = steps.size() - 1;
  const std::uint32_t before = GroupOf(part.before, steps.first(i), keys);
  known = levels_[i].NumberOf(
      {before, i < TimeLevels() ? keys[i].keys[part.key] : columns_[i - TimeLevels()].KeyOf(part.key, keys[i])});
  return known;
}

std::uint32_t Groups::Level::NumberOf(Part part) {
  const auto next = static_cast<std::uint32_t>(parts.size());
  std::uint32_t* number = nullptr;
  if (part.before < kMaxBefore && part.key < kMaxKey) {
    if (part.before >= table.size()) table.resize(part.before + 1);
    std::vector<std::uint32_t>& of_key = table[part.before];
    if (part.key >= of_key.size()) of_key.resize(part.key + 1, SegmentGroups::kNone);
    number = &of_key[part.key];
  } else {
    number = &numbers.try_emplace(static_cast<std::uint64_t>(part.before) << 32 | part.key, SegmentGroups::kNone)
                  .first->second;
  }
  if (*number == SegmentGroups::kNone) {
    *number = next;
    parts.push_back(part);
  }
  return *number;
}

std::vector<std::uint32_t> Groups::Join(const Groups& other) {
  std::vector<std::uint32_t> numbers{0};
  for (std::size_t i = 0; i < levels_.size(); ++i) {
    std::vector<std::uint32_t> keys;
    if (i < TimeLevels()) {
      for (const std::int64_t begin_ns : other.buckets_) keys.push_back(NumberOfBucket(begin_ns));
    } else {
      keys = columns_[i - TimeLevels()].Join(other.columns_[i - TimeLevels()]);
    }
    std::vector<std::uint32_t> next;
    for (const Part part : other.levels_[i].parts) {
      next.push_back(levels_[i].NumberOf({numbers[part.before], keys[part.key]}));
    }
    numbers = std::move(next);
  }
  return numbers;
}

std::uint32_t Groups::NumberOfBucket(std::int64_t begin_ns) {
  const auto [known, fresh] = bucket_numbers_.try_emplace(begin_ns, static_cast<std::uint32_t>(buckets_.size()));
  if (fresh) buckets_.push_back(begin_ns);
  return known->second;
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
