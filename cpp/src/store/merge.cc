// Merging, tiered: segments of similar size, merge_fan_in at a time, become one of the next size, until a segment holds
// target_segment_rows rows or as much text as one transaction should write.

#include <algorithm>
#include <cmath>
#include <map>

#include "store/disk.h"
#include "store/rollup.h"
#include "store/segment_rows.h"
#include "store/store_impl.h"

namespace spanbox {
namespace {

// What a finished segment holds at most, besides rows: keeps transactions short and memory small.
constexpr double kMaxTextBytes = 8 << 20, kMaxRawTextBytes = 32 << 20;
constexpr std::uint32_t kTargetCells = 8192;  // of a rollup; each with up to three sketches

// 1 or more: finished.
double Fullness(const SegmentRecord& record, std::uint32_t target_rows) {
  return std::max({record.meta.rows / static_cast<double>(target_rows),
                   static_cast<double>(record.text_bytes) / kMaxTextBytes,
                   static_cast<double>(record.raw_text_bytes) / kMaxRawTextBytes});
}

// 0: nearly finished; each further tier is fan_in times smaller.
int TierOf(double fullness, std::uint32_t fan_in) {
  return static_cast<int>(std::floor(-std::log(fullness) / std::log(static_cast<double>(fan_in))));
}

std::vector<RingRange> Joined(std::span<const SegmentRecord> sources) {
  std::vector<RingRange> all, joined;
  for (const SegmentRecord& source : sources) all.insert(all.end(), source.ranges.begin(), source.ranges.end());
  std::sort(all.begin(), all.end(), [](const RingRange& a, const RingRange& b) {
    return std::tie(a.ring, a.lane, a.first_seq) < std::tie(b.ring, b.lane, b.first_seq);
  });
  for (const RingRange& range : all) {
    const bool adjacent = !joined.empty() && joined.back().ring == range.ring && joined.back().lane == range.lane &&
                          joined.back().last_seq + 1 == range.first_seq;
    if (adjacent) {
      joined.back().last_seq = range.last_seq;
    } else {
      joined.push_back(range);
    }
  }
  return joined;
}

struct MergingFlag {
  std::atomic<bool>& flag;
  ~MergingFlag() { flag = false; }
};

}  // namespace

Result<bool> StoreImpl::MergeOnce() {
  if (merging_.exchange(true)) return false;  // another thread is at it
  const MergingFlag reset{merging_};
  // Nor is it worth while that two processes merge the same segments: one would throw its work away.
  const FolderLock lock(ring_dir(), /*wait=*/false);
  if (!lock.held()) return false;
  SPANBOX_ASSIGN_OR_RETURN(const bool merged, MergeOneGroup(Table::kSegments));
  return merged ? true : MergeOneGroup(Table::kRollups);
}

Result<bool> StoreImpl::MergeOneGroup(Table table) {
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  std::vector<SegmentRecord> sources;
  SegmentBuilder::Encoded encoded;
  {
    SPANBOX_ASSIGN_OR_RETURN(const auto txn, env->Read());
    SPANBOX_ASSIGN_OR_RETURN(sources, PlanMerge(*txn, table));
    if (sources.empty()) return false;
    SPANBOX_ASSIGN_OR_RETURN(encoded, Rewrite(*txn, table, sources));
  }
  bool gone = false;
  const auto swap = [&](WriteTxn& txn) -> Status {
    for (const SegmentRecord& source : sources) {
      SPANBOX_ASSIGN_OR_RETURN(const auto still, txn.Get(table, SegmentKey(source.meta.id)));
      gone = !still.has_value();
      if (gone) return OkStatus();
    }
    SPANBOX_RETURN_IF_ERROR(PutSegment(txn, table, encoded, Joined(sources)));
    for (const SegmentRecord& source : sources) SPANBOX_RETURN_IF_ERROR(DeleteSegment(txn, table, source));
    return OkStatus();
  };
  SPANBOX_RETURN_IF_ERROR(env->Write(encoded.columns.size() + encoded.text_bytes, swap));
  return !gone;
}

// The first group of the smallest tier that has one; empty when there is nothing to merge.
Result<std::vector<SegmentRecord>> StoreImpl::PlanMerge(const Txn& txn, Table table) const {
  const bool rollups = table == Table::kRollups;
  const std::uint32_t target_rows = rollups ? kTargetCells : options_.target_segment_rows;
  std::map<int, std::vector<SegmentRecord>, std::greater<>> tiers;
  SPANBOX_RETURN_IF_ERROR(ForEachSegment(
      txn, table,
      [&](SegmentRecord record) {
        const double fullness = Fullness(record, target_rows);
        if (fullness < 1 && !damaged_.contains(record.meta.id)) {
          tiers[TierOf(fullness, options_.merge_fan_in)].push_back(std::move(record));
        }
        return OkStatus();
      },
      [](std::uint64_t, const Status&) {}));
  for (auto& [tier, records] : tiers) {
    std::size_t count = 0;
    double fullness = 0;
    while (count < records.size() && count < options_.merge_fan_in && fullness < 1) {
      fullness += Fullness(records[count++], target_rows);
    }
    if (count < options_.merge_fan_in && fullness < 1) continue;
    records.resize(count);
    return std::move(records);
  }
  return std::vector<SegmentRecord>{};
}

Result<SegmentBuilder::Encoded> StoreImpl::Rewrite(const Txn& txn, Table table,
                                                   std::span<const SegmentRecord> sources) {
  RollupBuilder rollup;
  SegmentBuilder builder(TextPacker::Mode::kMedium);
  const auto add_all = [&](const SegmentRecord& source) -> Status {
    SPANBOX_ASSIGN_OR_RETURN(const Segment segment, LoadSegment(txn, source));
    if (table == Table::kRollups) return rollup.AddCells(segment);
    SPANBOX_ASSIGN_OR_RETURN(SegmentRows rows, SegmentRows::Open(segment, &builder));
    for (std::uint32_t row = 0; row < rows.rows(); ++row) {
      SPANBOX_ASSIGN_OR_RETURN(const SpanRow span, rows.Row(row));
      builder.Add(span, rows.adopted());
    }
    return OkStatus();
  };
  for (const SegmentRecord& source : sources) {
    const Status status = add_all(source);
    if (status.ok()) continue;
    // Left as it is, for Verify to name and for a later version to save what it can.
    if (status.code() == StatusCode::kDataLoss) damaged_.insert(source.meta.id);
    return status;
  }
  return table == Table::kRollups ? rollup.Finish(builder) : builder.Finish();
}

}  // namespace spanbox
