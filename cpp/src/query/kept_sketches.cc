#include "query/kept_sketches.h"

#include <algorithm>
#include <limits>

namespace spanbox {
namespace {

constexpr std::uint64_t kMostOfOne = std::numeric_limits<std::uint32_t>::max();

// Few bits in each let the sum of a sketch's buckets be taken without looking for an overflow.
std::uint64_t SumOf(std::span<const std::uint32_t> counts) {
  std::uint32_t sum = 0, bits = 0;
  for (const std::uint32_t count : counts) {
    sum += count;
    bits |= count;
  }
  if (std::uint64_t{bits} * counts.size() <= kMostOfOne) return sum;
  std::uint64_t wide = 0;
  for (const std::uint32_t count : counts) wide += count;
  return wide;
}

// Nothing else is in reach of these pointers, which lets several be added at once.
void AddTo(std::uint32_t* __restrict to, const std::uint32_t* __restrict from, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) to[i] += from[i];
}

}  // namespace

Status KeptSketches::Add(std::uint32_t group, const DDSketch::Part& part) {
  if (part.count == 0) return OkStatus();
  constexpr std::int64_t kMaxIndex = std::int64_t{1} << 20;  // far beyond what a number can have
  const bool possible = part.counts.size() <= DDSketch::kMaxBuckets && part.first >= -kMaxIndex &&
                        part.first <= kMaxIndex && part.min <= part.max && part.min >= 0;
  if (!possible || SumOf(part.counts) > part.count) return DataLoss("sketch: impossible buckets");
  parts_.push_back({group, static_cast<std::uint32_t>(part.counts.size()), counts_.size(), part.first, part.count,
                    part.sum, part.min, part.max});
  if (counts_.capacity() == 0) counts_.reserve(kMostCounts + DDSketch::kMaxBuckets);
  counts_.insert(counts_.end(), part.counts.begin(), part.counts.end());
  groups_ = std::max(groups_, group + 1);
  place_.clear();
  return OkStatus();
}

DDSketch::Part KeptSketches::PartOf(const Kept& kept) const {
  return {kept.first, std::span(counts_).subspan(kept.at, kept.size), kept.count, kept.sum, kept.min, kept.max};
}

DDSketch::Part KeptSketches::Of(std::uint32_t group) const {
  return group < place_.size() && place_[group] != 0 ? PartOf(parts_[place_[group] - 1]) : DDSketch::Part{};
}

void KeptSketches::SortByGroup() {
  std::vector<std::uint32_t> next(std::size_t{groups_} + 1);
  for (const Kept& part : parts_) ++next[part.group + 1];
  for (std::uint32_t group = 0; group < groups_; ++group) next[group + 1] += next[group];
  std::vector<Kept> sorted(parts_.size());
  for (const Kept& part : parts_) sorted[next[part.group]++] = part;
  parts_ = std::move(sorted);
}

bool KeptSketches::JoinOne(std::span<const Kept> of_group, Kept& joined, std::vector<std::uint32_t>& counts) const {
  joined = of_group.front();
  std::int64_t begin = std::numeric_limits<std::int64_t>::max(), end = std::numeric_limits<std::int64_t>::min();
  joined.count = 0;
  joined.sum = 0;
  for (const Kept& part : of_group) {
    joined.count += part.count;
    joined.sum += part.sum;
    joined.min = std::min(joined.min, part.min);
    joined.max = std::max(joined.max, part.max);
    if (part.size == 0) continue;
    begin = std::min(begin, part.first);
    end = std::max(end, part.first + part.size);
    if (part.count > kMostOfOne) return false;
  }
  joined.at = counts.size();
  joined.first = begin;
  joined.size = begin < end ? static_cast<std::uint32_t>(end - begin) : 0;
  if (joined.count > kMostOfOne || (begin < end && end - begin > std::int64_t{DDSketch::kMaxBuckets})) return false;
  counts.resize(counts.size() + joined.size);
  for (const Kept& part : of_group) {
    if (part.size == 0) continue;
    AddTo(counts.data() + joined.at + (part.first - begin), counts_.data() + part.at, part.size);
  }
  return true;
}

bool KeptSketches::Join() {
  if (!place_.empty() || parts_.empty()) return true;
  SortByGroup();
  std::vector<Kept> joined;
  std::vector<std::uint32_t> counts, place(groups_);
  counts.reserve(counts_.size());
  for (std::size_t begin = 0; begin < parts_.size();) {
    const std::uint32_t group = parts_[begin].group;
    std::size_t end = begin;
    while (end < parts_.size() && parts_[end].group == group) ++end;
    if (!JoinOne(std::span(parts_).subspan(begin, end - begin), joined.emplace_back(), counts)) return false;
    place[group] = static_cast<std::uint32_t>(joined.size());
    begin = end;
  }
  parts_ = std::move(joined);
  counts_ = std::move(counts);
  place_ = std::move(place);
  most_ = std::max(kMostCounts, 2 * counts_.size());
  return true;
}

}  // namespace spanbox
