#include "store/segment_list.h"

#include <algorithm>

namespace spanbox {
namespace {

Status Fill(const Txn& txn, Table table, const SegmentList* former, SegmentList& list) {
  return ForEachSegment(txn, table, [&](SegmentRecord record) {
    const std::size_t known = former == nullptr ? SegmentList::kNone : former->Find(record.meta.id);
    const bool same =
        known != SegmentList::kNone && former->memories[known]->columns_checksum() == record.columns_checksum;
    list.memories.push_back(same ? former->memories[known] : std::make_shared<SegmentMemory>(record.columns_checksum));
    list.metas.push_back(record.meta);
    list.records.push_back(std::move(record));
    return OkStatus();
  });
}

}  // namespace

std::size_t SegmentList::Find(std::uint64_t id) const {
  const auto found = std::ranges::lower_bound(metas, id, {}, &SegmentMeta::id);
  return found == metas.end() || found->id != id ? kNone : static_cast<std::size_t>(found - metas.begin());
}

Result<std::shared_ptr<const SegmentsOfStore>> SegmentLists::Read(const Txn& txn) {
  SPANBOX_ASSIGN_OR_RETURN(const std::uint64_t generation, GetMetaNumber(txn, "generation"));
  std::shared_ptr<const SegmentsOfStore> last;
  {
    const std::lock_guard lock(mutex_);
    last = last_;
  }
  if (last != nullptr && last->generation == generation) return last;
  auto fresh = std::make_shared<SegmentsOfStore>();
  fresh->generation = generation;
  SPANBOX_RETURN_IF_ERROR(Fill(txn, Table::kSegments, last ? &last->segments : nullptr, fresh->segments));
  SPANBOX_RETURN_IF_ERROR(Fill(txn, Table::kRollups, last ? &last->rollups : nullptr, fresh->rollups));
  SPANBOX_RETURN_IF_ERROR(Fill(txn, Table::kScores, last ? &last->scores : nullptr, fresh->scores));
  const std::lock_guard lock(mutex_);
  if (last_ == nullptr || last_->generation < generation) last_ = fresh;
  return std::shared_ptr<const SegmentsOfStore>(std::move(fresh));
}

}  // namespace spanbox
