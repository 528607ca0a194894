// What leaves a store: expired segments, erased rows, blobs; and what leaves with it, a backup.

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "base/clock.h"
#include "store/disk.h"
#include "store/feeds.h"
#include "store/segment_cells.h"
#include "store/segment_rows.h"
#include "store/store_impl.h"

namespace spanbox {
namespace {

constexpr std::int64_t kExpireEveryNs = 60'000'000'000;

}  // namespace

Result<Retention> StoreImpl::GetRetention() {
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  SPANBOX_ASSIGN_OR_RETURN(const auto txn, env->Read());
  SPANBOX_ASSIGN_OR_RETURN(const std::uint64_t age_ns, GetMetaNumber(*txn, "max_age_ns"));
  SPANBOX_ASSIGN_OR_RETURN(const std::uint64_t bytes, GetMetaNumber(*txn, "max_bytes"));
  return Retention{static_cast<std::int64_t>(age_ns), bytes};
}

Status StoreImpl::SetRetention(const Retention& retention) {
  if (retention.max_age_ns < 0) return InvalidArgument("max_age_ns cannot be negative: give 0 for no limit");
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  return env->Write(0, [&](WriteTxn& txn) -> Status {
    SPANBOX_RETURN_IF_ERROR(PutMetaNumber(txn, "max_age_ns", static_cast<std::uint64_t>(retention.max_age_ns)));
    return PutMetaNumber(txn, "max_bytes", retention.max_bytes);
  });
}

Result<std::uint64_t> StoreImpl::DropExpired(std::int64_t now_ns) {
  SPANBOX_ASSIGN_OR_RETURN(const Retention retention, GetRetention());
  if (retention.max_age_ns == 0 && retention.max_bytes == 0) return std::uint64_t{0};
  const MergingTurn turn(*this, /*wait=*/true);
  const std::int64_t older_than_ns = retention.max_age_ns == 0 ? INT64_MIN : now_ns - retention.max_age_ns;
  SPANBOX_ASSIGN_OR_RETURN(const std::uint64_t dropped, Drop(Table::kSegments, older_than_ns, retention.max_bytes));
  SPANBOX_RETURN_IF_ERROR(Drop(Table::kRollups, older_than_ns, 0).status());
  // What was said before the oldest span that is left began is about spans that are gone.
  SPANBOX_ASSIGN_OR_RETURN(const std::int64_t oldest_ns, OldestSpan());
  SPANBOX_RETURN_IF_ERROR(Drop(Table::kScores, std::max(older_than_ns, oldest_ns), 0).status());
  if (dropped > 0) {
    SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
    SPANBOX_RETURN_IF_ERROR(env->ReleaseFreeSpace(Env::Release::kWhenMuch));
  }
  return dropped;
}

Status StoreImpl::DropExpiredWhenDue() {
  const std::int64_t now_ns = MonotonicNowNs();
  {
    const MergingTurn turn(*this, /*wait=*/false);
    if (!turn.mine() || now_ns < expire_at_ns_) return OkStatus();
    expire_at_ns_ = now_ns + kExpireEveryNs;
  }
  SPANBOX_RETURN_IF_ERROR(DropExpired(WallNowNs()).status());
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  return env->ReleaseFreeSpace(Env::Release::kWhenMuch);
}

// Its start; the smallest number when there is none.
Result<std::int64_t> StoreImpl::OldestSpan() {
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  SPANBOX_ASSIGN_OR_RETURN(const auto txn, env->Read());
  std::int64_t oldest_ns = INT64_MAX;
  const auto look = [&](const SegmentRecord& record) {
    oldest_ns = std::min(oldest_ns, record.meta.min_start_ns);
    return OkStatus();
  };
  SPANBOX_RETURN_IF_ERROR(ForEachSegment(*txn, Table::kSegments, look, [](std::uint64_t, const Status&) {}));
  return oldest_ns == INT64_MAX ? INT64_MIN : oldest_ns;
}

// Rows of the segments that were dropped: those that end before the time, and the oldest until the rest has no more
// than `max_bytes` (0: any).
Result<std::uint64_t> StoreImpl::Drop(Table table, std::int64_t older_than_ns, std::uint64_t max_bytes) {
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  std::vector<SegmentRecord> records, dropped;
  {
    SPANBOX_ASSIGN_OR_RETURN(const auto txn, env->Read());
    const auto add = [&](SegmentRecord record) {
      records.push_back(std::move(record));
      return OkStatus();
    };
    // A damaged record tells neither its age nor its size.
    SPANBOX_RETURN_IF_ERROR(ForEachSegment(*txn, table, add, [](std::uint64_t, const Status&) {}));
  }
  const auto bytes_of = [](const SegmentRecord& r) {
    return r.column_bytes + r.text_bytes + r.filter_bytes + r.cells_bytes;
  };
  std::uint64_t bytes = 0, rows = 0;
  for (const SegmentRecord& record : records) bytes += bytes_of(record);
  std::ranges::sort(records, {}, [](const SegmentRecord& r) { return r.meta.max_start_ns; });
  for (SegmentRecord& record : records) {
    if (record.meta.max_start_ns >= older_than_ns && (max_bytes == 0 || bytes <= max_bytes)) break;
    bytes -= bytes_of(record);
    rows += record.meta.rows;
    dropped.push_back(std::move(record));
  }
  if (dropped.empty()) return rows;
  SPANBOX_RETURN_IF_ERROR(env->Write(0, [&](WriteTxn& txn) -> Status {
    for (const SegmentRecord& record : dropped) SPANBOX_RETURN_IF_ERROR(DeleteSegment(txn, table, record));
    return OkStatus();
  }));
  return rows;
}

Result<std::unique_ptr<StorePause>> StoreImpl::Pause() {
  auto turn = std::make_unique<MergingTurn>(*this, /*wait=*/true);
  if (!turn->mine()) return Unavailable("the store " + path_ + " cannot be locked: " + ring_dir() + " does not open");
  return std::unique_ptr<StorePause>(std::move(turn));
}

Status StoreImpl::RemoveRows(std::uint64_t segment, std::span<const std::uint32_t> rows) {
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  Table table = Table::kSegments;
  SegmentRecord record;
  SegmentBuilder::Encoded encoded;
  {
    SPANBOX_ASSIGN_OR_RETURN(const auto txn, env->Read());
    SPANBOX_ASSIGN_OR_RETURN(auto stored, txn->Get(table, SegmentKey(segment)));
    if (!stored) {
      table = Table::kScores;
      SPANBOX_ASSIGN_OR_RETURN(stored, txn->Get(table, SegmentKey(segment)));
    }
    if (!stored) return NotFound("segment " + std::to_string(segment) + " is gone");
    SPANBOX_ASSIGN_OR_RETURN(record, ParseSegmentRecord(SegmentKey(segment), *stored));
    SPANBOX_ASSIGN_OR_RETURN(const Segment source, LoadSegment(*txn, record));
    // Blocks that go over as they are would take the removed texts along.
    SPANBOX_ASSIGN_OR_RETURN(SegmentRows all, SegmentRows::Open(source));
    SegmentBuilder builder(record.settled ? TextPacker::Mode::kSmall : TextPacker::Mode::kMedium);
    auto next = rows.begin();
    for (std::uint32_t row = 0; row < all.rows(); ++row) {
      if (next != rows.end() && *next == row) {
        ++next;
        continue;
      }
      SPANBOX_ASSIGN_OR_RETURN(const SpanRow span, all.Row(row));
      builder.Add(span);
    }
    if (builder.rows() > 0) encoded = builder.Finish();
    if (encoded.settled && table == Table::kSegments) encoded.cells = CellsOf(encoded);
  }
  return env->Write(SizeOf(encoded), [&](WriteTxn& txn) -> Status {
    SPANBOX_ASSIGN_OR_RETURN(const auto still, txn.Get(table, SegmentKey(segment)));
    if (!still) return NotFound("segment " + std::to_string(segment) + " is gone");
    std::uint64_t result = 0;
    if (encoded.rows > 0) {
      SPANBOX_RETURN_IF_ERROR(PutSegment(txn, table, encoded, record.ranges));
      SPANBOX_ASSIGN_OR_RETURN(result, GetMetaNumber(txn, "last_segment"));
    }
    SPANBOX_RETURN_IF_ERROR(ReplaceInFeeds(txn, std::span(&segment, 1), result));
    return DeleteSegment(txn, table, record);
  });
}

Status StoreImpl::RemoveBlob(const BlobId& id) {
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  const std::string_view prefix(reinterpret_cast<const char*>(id.bytes.data()), id.bytes.size());
  return env->Write(0, [&](WriteTxn& txn) -> Status {
    std::vector<std::string> keys;
    SPANBOX_RETURN_IF_ERROR(txn.Scan(Table::kBlobs, prefix, [&](std::string_view key, Bytes) -> Result<bool> {
      keys.emplace_back(key);
      return true;
    }));
    for (const std::string& key : keys) SPANBOX_RETURN_IF_ERROR(txn.Delete(Table::kBlobs, key));
    return OkStatus();
  });
}

Status StoreImpl::WipeFreeSpace() {
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  return env->WipeFreeSpace();
}

Status StoreImpl::ReleaseFreeSpace() {
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  return env->ReleaseFreeSpace(Env::Release::kAll);
}

Status StoreImpl::Backup(const std::string& path) {
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  const std::string target = AbsolutePath(path);
  if (std::error_code error; std::filesystem::exists(target, error)) {
    return InvalidArgument("cannot write a backup to " + target + ": it exists; give a new folder");
  }
  SPANBOX_RETURN_IF_ERROR(PrepareFolder(target, /*create=*/true));
  Status status = env->CopyTo(target + "/data.mdb");
  std::error_code ignored;
  if (!status.ok()) std::filesystem::remove_all(target, ignored);
  return status;
}

}  // namespace spanbox
