#include "store/segment_list.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <utility>

#include "store/cell_runs.h"

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

// The places of the run's segments; empty when one is missing.
std::vector<std::uint32_t> PlacesOf(const CellRun& run, const SegmentList& segments) {
  std::vector<std::uint32_t> places;
  for (const std::uint64_t id : run.segments) {
    const std::size_t at = segments.Find(id);
    if (at == SegmentList::kNone) return {};
    places.push_back(static_cast<std::uint32_t>(at));
  }
  return places;
}

Status FillRuns(const Txn& txn, const SegmentList& segments, const RunList* former, RunList& list) {
  struct Found {
    RunMeta meta;
    std::string key;
    std::uint64_t checksum;
  };
  std::vector<Found> found;
  SPANBOX_RETURN_IF_ERROR(ForEachRun(txn, [&](std::string_view key, const Result<CellRun>& run) {
    RunMeta meta;
    if (run.ok()) meta.members = PlacesOf(*run, segments);
    if (meta.members.empty() || run->cells.size() < sizeof(std::uint64_t)) return OkStatus();
    meta.min_start_ns = std::numeric_limits<std::int64_t>::max();
    meta.max_start_ns = std::numeric_limits<std::int64_t>::min();
    for (const std::uint32_t at : meta.members) {
      meta.min_start_ns = std::min(meta.min_start_ns, segments.metas[at].min_start_ns);
      meta.max_start_ns = std::max(meta.max_start_ns, segments.metas[at].max_start_ns);
    }
    std::uint64_t checksum;
    std::memcpy(&checksum, run->cells.data(), sizeof checksum);
    found.push_back({std::move(meta), std::string(key), checksum});
    return OkStatus();
  }));
  std::ranges::stable_sort(found, std::greater<>(), [](const Found& run) { return run.meta.members.size(); });
  for (Found& run : found) {
    std::shared_ptr<SegmentMemory> memory;
    for (std::size_t i = 0; former != nullptr && i < former->keys.size(); ++i) {
      const bool same = former->keys[i] == run.key && former->memories[i]->columns_checksum() == run.checksum;
      if (same) memory = former->memories[i];
    }
    list.memories.push_back(memory != nullptr ? std::move(memory) : std::make_shared<SegmentMemory>(run.checksum));
    list.metas.push_back(std::move(run.meta));
    list.keys.push_back(std::move(run.key));
  }
  return OkStatus();
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
  SPANBOX_RETURN_IF_ERROR(FillRuns(txn, fresh->segments, last ? &last->runs : nullptr, fresh->runs));
  const std::lock_guard lock(mutex_);
  if (last_ == nullptr || last_->generation < generation) last_ = fresh;
  return std::shared_ptr<const SegmentsOfStore>(std::move(fresh));
}

}  // namespace spanbox
