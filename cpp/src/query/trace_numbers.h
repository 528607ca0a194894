// The traces that a question touches, numbered in the order they came up.
//
// Thread rule: not synchronised.
// Invariant: numbers are 0 to count() - 1.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "base/hash.h"
#include "spanbox/span.h"
#include "store/read_view.h"

namespace spanbox {

struct TraceHash {
  std::size_t operator()(const TraceId& id) const { return Hash64(std::as_bytes(std::span(id.bytes))); }
};

class TraceNumbers {
 public:
  static constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

  std::uint32_t NumberOf(const TraceId& id) {
    const auto [place, is_new] = numbers_.try_emplace(id, count());
    if (is_new) ids_.push_back(id);
    return place->second;
  }
  std::uint32_t Find(const TraceId& id) const {
    const auto found = numbers_.find(id);
    return found == numbers_.end() ? kNone : found->second;
  }
  std::uint32_t count() const { return static_cast<std::uint32_t>(ids_.size()); }
  const std::vector<TraceId>& ids() const { return ids_; }  // by number

  // Called once all are known; then MayBeIn tells whether any of them may be in a segment.
  void Freeze() {
    prefixes_.reserve(ids_.size());
    for (const TraceId& id : ids_) prefixes_.push_back(TracePrefix(id));
    std::ranges::sort(prefixes_);
  }
  bool MayBeIn(const SegmentMeta& segment) const {
    const auto first = std::ranges::lower_bound(prefixes_, segment.min_trace);
    return first != prefixes_.end() && *first <= segment.max_trace;
  }

 private:
  absl::flat_hash_map<TraceId, std::uint32_t, TraceHash> numbers_;
  std::vector<TraceId> ids_;
  std::vector<std::uint64_t> prefixes_;  // of ids_, sorted
};

}  // namespace spanbox
