// Merging, tiered: segments of similar size, merge_fan_in at a time, become one of the next size, until a segment holds
// target_segment_rows rows or as much text as one transaction should write. Merging moves full text blocks as they are.
//
// A segment that has nearly reached that size is packed once more when there is time (it settles): slower and smaller,
// with a search filter. This takes a small part of a core, however much there is to do. So do the runs of the cells of
// settled segments (cell_runs.h).

#include <algorithm>
#include <cmath>
#include <map>

#include "base/clock.h"
#include "store/cell_runs.h"
#include "store/disk.h"
#include "store/feeds.h"
#include "store/rollup.h"
#include "store/segment_cells.h"
#include "store/segment_rows.h"
#include "store/store_impl.h"

namespace spanbox {
namespace {

// What a finished segment holds at most, besides rows: keeps transactions short and memory small.
constexpr double kMaxTextBytes = 8 << 20, kMaxRawTextBytes = 32 << 20;
constexpr std::uint32_t kTargetCells = 8192;  // of a rollup; each with up to three sketches
constexpr std::int64_t kSettlingShare = 20;   // of a core's time settling takes one part in so many

// 1: as much as a segment should hold. From kLargeEnough on merging leaves it alone: writing it again would make it
// only a few times larger.
constexpr double kLargeEnough = 0.25;
double Fullness(const SegmentRecord& record, std::uint32_t target_rows) {
  return std::max({record.meta.rows / static_cast<double>(target_rows),
                   static_cast<double>(record.text_bytes) / kMaxTextBytes,
                   static_cast<double>(record.raw_text_bytes) / kMaxRawTextBytes});
}

// 0: nearly as large as can be; each further tier is fan_in times smaller.
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

struct Candidate {
  SegmentRecord record;
  double fullness;
};

// The first group of the smallest tier that has one.
std::vector<SegmentRecord> SmallestTier(std::vector<Candidate> candidates, std::uint32_t fan_in) {
  std::map<int, std::vector<Candidate>, std::greater<>> tiers;
  for (Candidate& candidate : candidates) {
    if (candidate.fullness < kLargeEnough) tiers[TierOf(candidate.fullness, fan_in)].push_back(std::move(candidate));
  }
  for (auto& [tier, members] : tiers) {
    std::vector<SegmentRecord> group;
    double fullness = 0;
    for (std::size_t i = 0; i < members.size() && i < fan_in && fullness < 1; ++i) {
      fullness += members[i].fullness;
      group.push_back(std::move(members[i].record));
    }
    if (group.size() == fan_in || fullness >= 1) return group;
  }
  return {};
}

// The oldest that are not full, as many as make a full one; at least two.
std::vector<SegmentRecord> FirstSmall(std::vector<Candidate> candidates) {
  std::vector<SegmentRecord> group;
  double fullness = 0;
  for (Candidate& candidate : candidates) {
    if (candidate.fullness >= 1) continue;
    if (fullness >= 1) break;
    fullness += candidate.fullness;
    group.push_back(std::move(candidate.record));
  }
  if (group.size() < 2) group.clear();
  return group;
}

std::vector<SegmentRecord> FirstUnsettled(std::vector<Candidate> candidates, bool small) {
  std::vector<SegmentRecord> group;
  for (Candidate& candidate : candidates) {
    if (candidate.record.settled || (candidate.fullness < kLargeEnough && !small)) continue;
    group.push_back(std::move(candidate.record));
    break;
  }
  return group;
}

}  // namespace

StoreImpl::MergingTurn::MergingTurn(StoreImpl& store, bool wait) : store_(store), lock_(store.ring_dir(), wait) {
  // The lock is the process's, so a thread of this one may hold it too.
  while (lock_.held() && !mine_) {
    mine_ = !store_.merging_.exchange(true);
    if (!wait) break;
    if (!mine_) store_.merging_.wait(true);
  }
}

StoreImpl::MergingTurn::~MergingTurn() {
  if (!mine_) return;
  store_.merging_ = false;
  store_.merging_.notify_one();
}

Result<bool> StoreImpl::DoBackgroundWork() {
  SPANBOX_ASSIGN_OR_RETURN(const bool merged, MergeOnce());
  if (!merged) SPANBOX_RETURN_IF_ERROR(SettleWhenDue());
  SPANBOX_RETURN_IF_ERROR(DropExpiredWhenDue());
  return merged;
}

Result<bool> StoreImpl::MergeOnce() {
  const MergingTurn turn(*this, /*wait=*/false);
  if (!turn.mine()) return false;
  for (const Table table : {Table::kSegments, Table::kScores, Table::kRollups}) {
    SPANBOX_ASSIGN_OR_RETURN(const bool merged, Replace(table, Plan::kMerge));
    if (merged) return true;
  }
  return false;
}

Status StoreImpl::SettleWhenDue() {
  const MergingTurn turn(*this, /*wait=*/false);
  if (!turn.mine()) return OkStatus();
  const std::int64_t now_ns = MonotonicNowNs();
  if (settle_at_ns_ == 0) settle_at_ns_ = now_ns + options_.settle_after_ns;
  if (settle_at_ns_ > now_ns) return OkStatus();
  SPANBOX_ASSIGN_OR_RETURN(bool settled, Replace(Table::kSegments, Plan::kSettle));
  if (!settled) {
    SPANBOX_ASSIGN_OR_RETURN(settled, Replace(Table::kScores, Plan::kSettle));
  }
  if (!settled) {
    SPANBOX_ASSIGN_OR_RETURN(settled, MakeRun());
  }
  const std::int64_t end_ns = MonotonicNowNs();
  settle_at_ns_ = end_ns + (settled ? kSettlingShare * (end_ns - now_ns) : options_.settle_after_ns);
  return OkStatus();
}

Status StoreImpl::Compact() {
  const MergingTurn turn(*this, /*wait=*/true);
  for (const Table table : {Table::kSegments, Table::kScores}) {
    for (const Plan plan : {Plan::kMergeAll, Plan::kSettleAll}) {
      for (bool more = true; more;) {
        SPANBOX_ASSIGN_OR_RETURN(more, Replace(table, plan));
      }
    }
  }
  for (bool more = true; more;) {
    SPANBOX_ASSIGN_OR_RETURN(more, Replace(Table::kRollups, Plan::kMergeAll));
  }
  for (bool more = true; more;) {
    SPANBOX_ASSIGN_OR_RETURN(more, MakeRun());
  }
  return ReleaseFreeSpace();
}

// Puts one segment in the place of those that the plan names; false when it names none.
Result<bool> StoreImpl::Replace(Table table, Plan plan) {
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  std::vector<SegmentRecord> sources;
  SegmentBuilder::Encoded encoded;
  {
    SPANBOX_ASSIGN_OR_RETURN(const auto txn, env->Read());
    SPANBOX_ASSIGN_OR_RETURN(sources, PlanReplace(*txn, table, plan));
    if (sources.empty()) return false;
    const bool settles = plan == Plan::kSettle || plan == Plan::kSettleAll;
    SPANBOX_ASSIGN_OR_RETURN(encoded, Rewrite(*txn, table, sources, settles));
  }
  bool gone = false;
  const auto swap = [&](WriteTxn& txn) -> Status {
    for (const SegmentRecord& source : sources) {
      SPANBOX_ASSIGN_OR_RETURN(const auto still, txn.Get(table, SegmentKey(source.meta.id)));
      gone = !still.has_value();
      if (gone) return OkStatus();
    }
    std::vector<std::uint64_t> ids;
    for (const SegmentRecord& source : sources) ids.push_back(source.meta.id);
    SPANBOX_ASSIGN_OR_RETURN(const bool can_replace, CanReplace(txn, ids));
    gone = !can_replace;
    if (gone) return OkStatus();
    SPANBOX_RETURN_IF_ERROR(PutSegment(txn, table, encoded, Joined(sources)));
    for (const SegmentRecord& source : sources) SPANBOX_RETURN_IF_ERROR(DeleteSegment(txn, table, source));
    SPANBOX_ASSIGN_OR_RETURN(const std::uint64_t result, GetMetaNumber(txn, "last_segment"));
    return ReplaceInFeeds(txn, ids, result);
  };
  SPANBOX_RETURN_IF_ERROR(env->Write(SizeOf(encoded), swap));
  return !gone;
}

// Stores the next run of cells, and removes those that are of no use; false when there was nothing to do.
Result<bool> StoreImpl::MakeRun() {
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  RunPlan plan;
  JoinedCells joined;
  {
    SPANBOX_ASSIGN_OR_RETURN(const auto txn, env->Read());
    SPANBOX_ASSIGN_OR_RETURN(plan, PlanRun(*txn, damaged_));
    if (!plan.segments.empty()) {
      SPANBOX_ASSIGN_OR_RETURN(joined, JoinCellsOf(*txn, plan));
    }
  }
  // Not an error: the segments themselves answer, and Verify names what is damaged.
  if (joined.damaged_segment != 0) damaged_.insert(joined.damaged_segment);
  if (!joined.damaged_run.empty()) plan.useless.push_back(joined.damaged_run);
  if (joined.cells.empty() && plan.useless.empty()) return !plan.segments.empty();
  SPANBOX_RETURN_IF_ERROR(env->Write(joined.cells.size(), [&](WriteTxn& txn) -> Status {
    for (const std::string& key : plan.useless) SPANBOX_RETURN_IF_ERROR(txn.Delete(Table::kRuns, key));
    SPANBOX_ASSIGN_OR_RETURN(const std::uint64_t generation, GetMetaNumber(txn, "generation"));
    SPANBOX_RETURN_IF_ERROR(PutMetaNumber(txn, "generation", generation + 1));
    for (const std::uint64_t id : plan.segments) {
      SPANBOX_ASSIGN_OR_RETURN(const auto still, txn.Get(Table::kSegments, SegmentKey(id)));
      if (!still) return OkStatus();
    }
    if (joined.cells.empty()) return OkStatus();
    return txn.Put(Table::kRuns, RunKey(plan.segments), AsBytes(EncodeRun(plan.segments, joined.cells)));
  }));
  return true;
}

// Empty when there is nothing to do.
Result<std::vector<SegmentRecord>> StoreImpl::PlanReplace(const Txn& txn, Table table, Plan plan) const {
  const std::uint32_t target_rows = table == Table::kRollups ? kTargetCells : options_.target_segment_rows;
  SPANBOX_ASSIGN_OR_RETURN(const FeedRecords feeds, LoadFeeds(txn));
  std::map<std::string, std::vector<Candidate>> classes;
  SPANBOX_RETURN_IF_ERROR(ForEachSegment(
      txn, table,
      [&](SegmentRecord record) {
        const auto of = ClassOf(feeds, record.meta.id);
        if (of && !damaged_.contains(record.meta.id)) {
          const double fullness = Fullness(record, target_rows);
          classes[*of].push_back({std::move(record), fullness});
        }
        return OkStatus();
      },
      [](std::uint64_t, const Status&) {}));
  const auto choose = [&](std::vector<Candidate> candidates) {
    if (plan == Plan::kMerge) return SmallestTier(std::move(candidates), options_.merge_fan_in);
    if (plan == Plan::kMergeAll) return FirstSmall(std::move(candidates));
    return FirstUnsettled(std::move(candidates), /*small=*/plan == Plan::kSettleAll);
  };
  for (auto& [of, candidates] : classes) {
    std::vector<SegmentRecord> group = choose(std::move(candidates));
    if (!group.empty()) return group;
  }
  return std::vector<SegmentRecord>{};
}

Result<SegmentBuilder::Encoded> StoreImpl::Rewrite(const Txn& txn, Table table, std::span<const SegmentRecord> sources,
                                                   bool settles) {
  RollupBuilder rollup;
  SegmentBuilder builder(settles ? TextPacker::Mode::kSmall : TextPacker::Mode::kMedium);
  const auto add_all = [&](const SegmentRecord& source) -> Status {
    SPANBOX_ASSIGN_OR_RETURN(const Segment segment, LoadSegment(txn, source));
    if (table == Table::kRollups) return rollup.AddCells(segment);
    SPANBOX_ASSIGN_OR_RETURN(SegmentRows rows, SegmentRows::Open(segment, settles ? nullptr : &builder));
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
  SegmentBuilder::Encoded encoded = table == Table::kRollups ? rollup.Finish(builder) : builder.Finish();
  if (table == Table::kSegments && settles) encoded.cells = CellsOf(encoded);
  return encoded;
}

}  // namespace spanbox
