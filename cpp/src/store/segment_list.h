// The segments of a store as of one of its generations, which every view of that generation shares.
//
// Thread rule: SegmentLists may be used from any thread; what it gives does not change.
// Ownership: shared. What is remembered of a segment goes on from list to list as long as the segment is there.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "store/manifest.h"
#include "store/segment_memory.h"

namespace spanbox {

struct SegmentList {
  // All of the same size, by id.
  std::vector<SegmentMeta> metas;
  std::vector<SegmentRecord> records;
  std::vector<std::shared_ptr<SegmentMemory>> memories;

  static constexpr std::size_t kNone = ~std::size_t{0};
  std::size_t Find(std::uint64_t id) const;
};

// The runs whose segments are all there. All of the same size, those of most segments first.
struct RunList {
  std::vector<RunMeta> metas;
  std::vector<std::string> keys;
  std::vector<std::shared_ptr<SegmentMemory>> memories;
};

struct SegmentsOfStore {
  std::uint64_t generation = 0;
  SegmentList segments, rollups, scores;
  RunList runs;  // of segments
};

class SegmentLists {
 public:
  // What `txn` sees.
  Result<std::shared_ptr<const SegmentsOfStore>> Read(const Txn& txn);

 private:
  std::mutex mutex_;
  std::shared_ptr<const SegmentsOfStore> last_;  // guarded by mutex_
};

}  // namespace spanbox
