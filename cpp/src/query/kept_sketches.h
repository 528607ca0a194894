// Sketches of cells by group, kept as they come and added up when all are there: all groups' counts then lie in one
// place, instead of one for each group that is made, cleared and grows.
//
// Thread rule: one thread. Ownership: copies what it is given.
// Invariant: what is kept takes no more than about twice kMostCounts, or what the groups themselves take.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "spanbox/sketch.h"

namespace spanbox {

class KeptSketches {
 public:
  static constexpr std::size_t kMostCounts = 1 << 20;  // 4 MiB

  // DataLoss when no sketch can be so.
  Status Add(std::uint32_t group, const DDSketch::Part& part);

  // Adds up; false: some group has more values or wider ones than can be counted here, and all are as they were.
  bool Join();
  // After Join: count 0 of a group that has none. Lives until the next Add.
  DDSketch::Part Of(std::uint32_t group) const;

  // Calls fn(group, part) for all of them and forgets them; fn returns a Status.
  template <typename Fn>
  Status Drain(Fn fn) {
    for (const Kept& kept : parts_) SPANBOX_RETURN_IF_ERROR(fn(kept.group, PartOf(kept)));
    *this = {};
    return OkStatus();
  }
  bool empty() const { return parts_.empty(); }
  bool full() const { return counts_.size() >= most_; }

 private:
  struct Kept {
    std::uint32_t group = 0, size = 0;
    std::size_t at = 0;  // of its counts
    std::int64_t first = 0;
    std::uint64_t count = 0;
    double sum = 0, min = 0, max = 0;
  };
  DDSketch::Part PartOf(const Kept& kept) const;
  void SortByGroup();
  bool JoinOne(std::span<const Kept> of_group, Kept& joined, std::vector<std::uint32_t>& counts) const;

  std::vector<Kept> parts_;
  std::vector<std::uint32_t> counts_;
  std::vector<std::uint32_t> place_;  // by group, one higher: of its part, once they are added up
  std::size_t most_ = kMostCounts;
  std::uint32_t groups_ = 0;
};

}  // namespace spanbox
