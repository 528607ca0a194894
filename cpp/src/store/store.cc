#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <map>
#include <mutex>
#include <thread>

#include "base/clock.h"
#include "base/hash.h"
#include "base/ids.h"
#include "store/blobs.h"
#include "store/disk.h"
#include "store/rollup.h"
#include "store/store_impl.h"

namespace spanbox {
namespace {

// Every open store of this process, by the identity of its folder. The lock is held across fork, so that a child finds
// neither it nor an environment half changed.
class Registry {
 public:
  using Key = std::pair<dev_t, ino_t>;

  static Registry& Get() {
    static Registry* registry = new Registry;  // outlives static destruction
    return *registry;
  }

  std::mutex mutex;
  std::map<Key, std::weak_ptr<StoreImpl>> stores;  // guarded by mutex

 private:
  Registry() { pthread_atfork(&Prepare, &Parent, &Child); }
  static void Prepare() { Get().mutex.lock(); }
  static void Parent() { Get().mutex.unlock(); }
  static void Child() {
    Registry& registry = Get();
    Env::NoteFork();
    // A store that another thread was closing stays as it was: nobody can close it here.
    std::erase_if(registry.stores, [](const auto& entry) { return entry.second.expired(); });
    registry.mutex.unlock();
  }
};

Result<Registry::Key> KeyOf(const std::string& folder) {
  struct stat info {};
  if (stat(folder.c_str(), &info) != 0) return LmdbError(errno, folder, "cannot open");
  return Registry::Key{info.st_dev, info.st_ino};
}

void CloseStore(Registry::Key key, StoreImpl* store) {
  Registry& registry = Registry::Get();
  const std::lock_guard lock(registry.mutex);
  // In a forked child the entry may be gone, or be another store's by now.
  const auto entry = registry.stores.find(key);
  if (entry != registry.stores.end() && entry->second.expired()) registry.stores.erase(entry);
  delete store;
}

Status CheckOrMakeFormat(Env& env, const std::string& folder) {
  std::uint64_t format = 0;
  SPANBOX_RETURN_IF_ERROR(env.ReadBriefly([&](const Txn& txn) -> Status {
    SPANBOX_ASSIGN_OR_RETURN(format, GetMetaNumber(txn, "format"));
    SPANBOX_ASSIGN_OR_RETURN(const std::uint64_t segments, txn.Count(Table::kSegments));
    if (format != 0 || segments == 0) return OkStatus();
    return DataLoss("the store " + folder + " has lost its format number; restore it from a backup");
  }));
  if (format > kStoreFormat) {
    return Unsupported("the store " + folder + " has format " + std::to_string(format) +
                       ", and this spanbox reads formats up to " + std::to_string(kStoreFormat) + ": upgrade spanbox");
  }
  if (format == kStoreFormat) return OkStatus();
  if (format != 0) {
    // What this version writes a former one would misread; what that one wrote this one reads.
    return env.Write(0, [&](WriteTxn& txn) { return PutMetaNumber(txn, "format", kStoreFormat); });
  }
  const RingId uuid = NewRingId();
  return env.Write(0, [&](WriteTxn& txn) -> Status {
    SPANBOX_ASSIGN_OR_RETURN(const std::uint64_t made, GetMetaNumber(txn, "format"));
    if (made != 0) return OkStatus();  // by another process, just now
    SPANBOX_RETURN_IF_ERROR(PutMetaNumber(txn, "format", kStoreFormat));
    SPANBOX_RETURN_IF_ERROR(PutMetaNumber(txn, "created_ns", static_cast<std::uint64_t>(WallNowNs())));
    return txn.Put(Table::kMeta, "uuid", std::as_bytes(std::span(uuid)));
  });
}

// What the batch does to its ring's cursors; gives the records its segment holds.
Result<std::vector<RingRange>> PutCursors(WriteTxn& txn, const SpanBatch& batch) {
  std::vector<RingRange> ranges;
  for (const LaneCursor& cursor : batch.cursors) {
    const std::string key = CursorKey(batch.ring, cursor.lane);
    LaneCursor before;
    SPANBOX_ASSIGN_OR_RETURN(const auto stored, txn.Get(Table::kCursors, key));
    if (stored) {
      SPANBOX_ASSIGN_OR_RETURN(before, ParseCursor(key, *stored));
    }
    if (cursor.position < before.position || cursor.seq < before.seq) {
      return Internal("the cursor of ring " + Hex(batch.ring) + " lane " + std::to_string(cursor.lane) +
                      " would move backwards; nothing was stored. Please report this");
    }
    if (cursor.seq > before.seq) ranges.push_back({batch.ring, cursor.lane, before.seq + 1, cursor.seq});
    SPANBOX_RETURN_IF_ERROR(txn.Put(Table::kCursors, key, AsBytes(Encode(cursor))));
  }
  return ranges;
}

// Of two who believe to collect the same ring one is refused here.
Status TakeTurn(WriteTxn& txn, const SpanBatch& batch) {
  if (batch.turn == 0) return OkStatus();
  const std::string key = CursorKey(batch.ring, kTurnLane);
  LaneCursor last;
  SPANBOX_ASSIGN_OR_RETURN(const auto stored, txn.Get(Table::kCursors, key));
  if (stored) {
    SPANBOX_ASSIGN_OR_RETURN(last, ParseCursor(key, *stored));
  }
  if (batch.turn != last.position + 1) {
    return Unavailable("batch " + std::to_string(batch.turn) + " of ring " + Hex(batch.ring) +
                       " is out of turn after " + std::to_string(last.position) +
                       ": another collector has been at work; nothing was stored");
  }
  last.position = batch.turn;
  return txn.Put(Table::kCursors, key, AsBytes(Encode(last)));
}

Status AppendOpen(WriteTxn& txn, const RingId& ring, const OpenSpan& open) {
  SPANBOX_ASSIGN_OR_RETURN(const auto last, txn.LastKey(Table::kOpen, OpenPrefix(ring, open.span_id)));
  const std::uint32_t part = last ? NextOpenPart(*last) : 0;
  return txn.PutNew(Table::kOpen, OpenKey(ring, open.span_id, part), AsBytes(EncodeOpen(open.records)));
}

// Every part of one span, or of all spans of a ring.
Status ForgetOpen(WriteTxn& txn, const std::string& prefix) {
  std::vector<std::string> keys;
  SPANBOX_RETURN_IF_ERROR(txn.Scan(Table::kOpen, prefix, [&](std::string_view key, Bytes) -> Result<bool> {
    keys.emplace_back(key);
    return true;
  }));
  for (const std::string& key : keys) SPANBOX_RETURN_IF_ERROR(txn.Delete(Table::kOpen, key));
  return OkStatus();
}

// Forgets the ring's cursors and open spans, keeping their counters.
Status ForgetRing(WriteTxn& txn, const RingId& ring, RingRecord& record) {
  SPANBOX_RETURN_IF_ERROR(ForgetOpen(txn, RingKey(ring)));
  std::vector<std::string> cursor_keys;
  SPANBOX_RETURN_IF_ERROR(
      txn.Scan(Table::kCursors, RingKey(ring), [&](std::string_view key, Bytes value) -> Result<bool> {
        SPANBOX_ASSIGN_OR_RETURN(const LaneCursor cursor, ParseCursor(key, value));
        record.dropped_spans += cursor.dropped_spans;
        record.dropped_bytes += cursor.dropped_bytes;
        cursor_keys.emplace_back(key);
        return true;
      }));
  for (const std::string& key : cursor_keys) SPANBOX_RETURN_IF_ERROR(txn.Delete(Table::kCursors, key));
  return OkStatus();
}

Status PutRing(WriteTxn& txn, const SpanBatch& batch) {
  if (batch.ring == RingId{}) return OkStatus();
  RingRecord record;
  SPANBOX_ASSIGN_OR_RETURN(const auto stored, txn.Get(Table::kRings, RingKey(batch.ring)));
  if (stored) {
    SPANBOX_ASSIGN_OR_RETURN(record, ParseRing(*stored));
  }
  if (stored && batch.process.empty() && !batch.retire) return OkStatus();
  if (!batch.process.empty()) record.process = batch.process;
  if (batch.retire && !record.retired) {
    SPANBOX_RETURN_IF_ERROR(ForgetRing(txn, batch.ring, record));
    record.retired = true;
    record.changed_ns = WallNowNs();
  }
  return txn.Put(Table::kRings, RingKey(batch.ring), AsBytes(Encode(record)));
}

Status CheckNotRetired(const Txn& txn, const SpanBatch& batch) {
  SPANBOX_ASSIGN_OR_RETURN(const auto stored, txn.Get(Table::kRings, RingKey(batch.ring)));
  if (!stored) return OkStatus();
  SPANBOX_ASSIGN_OR_RETURN(const RingRecord record, ParseRing(*stored));
  const bool brings = !batch.spans.empty() || !batch.sampled_out.empty() || !batch.scores.empty() ||
                      !batch.open.empty() || !batch.blobs.empty() || !batch.cursors.empty();
  if (!record.retired || !brings) return OkStatus();
  return Internal("ring " + Hex(batch.ring) + " has been retired; nothing more of it is stored. Please report this");
}

// Without rows: nothing.
SegmentBuilder::Encoded Encode(std::span<const SpanRow> rows) {
  SegmentBuilder& builder = ThreadBuilder();
  for (const SpanRow& row : rows) builder.Add(row);
  return rows.empty() ? SegmentBuilder::Encoded{} : builder.Finish();
}

std::string IngestKey(std::string_view name) {
  std::string key = "ingest ";
  for (const std::uint64_t seed : {0, 1}) key += ToHex(SpanId{Hash64(AsBytes(name), seed)});
  return key;
}

Status PutProgress(WriteTxn& txn, const IngestProgress& progress) {
  const std::string key = IngestKey(progress.name);
  SPANBOX_ASSIGN_OR_RETURN(const std::uint64_t stored, GetMetaNumber(txn, key));
  if (stored != progress.rows_before) {
    return Unavailable("the ingest \"" + progress.name + "\" is at row " + std::to_string(stored) + " and not at " +
                       std::to_string(progress.rows_before) +
                       ": another one of that name is at work; try again after it");
  }
  return PutMetaNumber(txn, key, progress.rows_after);
}

}  // namespace

SegmentBuilder& ThreadBuilder() {
  thread_local SegmentBuilder builder;
  return builder;
}

Result<std::shared_ptr<Store>> Store::Open(const std::string& path, const StoreOptions& options) {
  if (path.empty()) return InvalidArgument("the path of a store is empty; give a folder");
  if (options.merge_fan_in < 2 || options.target_segment_rows < 1 ||
      options.target_segment_rows > SegmentBuilder::kMaxRows / 4) {
    return InvalidArgument("StoreOptions: merge_fan_in is at least 2, target_segment_rows 1 to " +
                           std::to_string(SegmentBuilder::kMaxRows / 4));
  }
  const std::string folder = AbsolutePath(path);
  SPANBOX_RETURN_IF_ERROR(PrepareFolder(folder, options.create_if_missing));
  SPANBOX_ASSIGN_OR_RETURN(const Registry::Key key, KeyOf(folder));
  Registry& registry = Registry::Get();
  std::unique_lock lock(registry.mutex);
  for (auto entry = registry.stores.find(key); entry != registry.stores.end(); entry = registry.stores.find(key)) {
    if (auto store = entry->second.lock()) return std::shared_ptr<Store>(std::move(store));
    // Its last owner is closing it. No condition variable: it would not survive a fork in a waiting thread.
    lock.unlock();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    lock.lock();
  }
  auto fresh = std::make_unique<StoreImpl>(folder, options);
  SPANBOX_RETURN_IF_ERROR(fresh->OpenEnv());
  std::shared_ptr<StoreImpl> store(fresh.release(), [key](StoreImpl* impl) { CloseStore(key, impl); });
  registry.stores[key] = store;
  return std::shared_ptr<Store>(std::move(store));
}

StoreImpl::~StoreImpl() {
  if (env_ != nullptr && env_->forked()) env_.release();  // see Env: the parent's must not even be destroyed
}

Status StoreImpl::OpenEnv() {
  SPANBOX_ASSIGN_OR_RETURN(env_, Env::Open(path_, options_.map_bytes));
  segment_lists_ = std::make_unique<SegmentLists>();
  Status status = CheckOrMakeFormat(*env_, path_);
  if (!status.ok()) env_.reset();
  return status;
}

Result<Env*> StoreImpl::LiveEnv() {
  const std::lock_guard lock(Registry::Get().mutex);
  if (env_ != nullptr && env_->forked()) {
    env_.release();
    segment_lists_.release();  // a thread of the parent may hold its lock
    merging_ = false;          // the thread that was merging lives in the parent only
  }
  if (env_ == nullptr) SPANBOX_RETURN_IF_ERROR(OpenEnv());
  return env_.get();
}

Result<RingState> StoreImpl::LoadRing(const RingId& ring) {
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  // Its process may have died between writing LMDB's meta page and announcing it. Until somebody takes the writers'
  // lock, other processes then read the state before its last commit, and would store the spans of that commit again.
  RingState state;
  SPANBOX_RETURN_IF_ERROR(env->Write(0, [&](WriteTxn& txn) -> Status {
    state = {};
    SPANBOX_ASSIGN_OR_RETURN(const auto stored, txn.Get(Table::kRings, RingKey(ring)));
    if (stored) {
      SPANBOX_ASSIGN_OR_RETURN(const RingRecord record, ParseRing(*stored));
      state.retired = record.retired;
    }
    SPANBOX_RETURN_IF_ERROR(
        txn.Scan(Table::kCursors, RingKey(ring), [&](std::string_view key, Bytes value) -> Result<bool> {
          SPANBOX_ASSIGN_OR_RETURN(const LaneCursor cursor, ParseCursor(key, value));
          if (cursor.lane == kTurnLane) {
            state.turn = cursor.position;
          } else {
            state.cursors[cursor.lane] = cursor;
          }
          return true;
        }));
    return txn.Scan(Table::kOpen, RingKey(ring), [&](std::string_view key, Bytes value) -> Result<bool> {
      SPANBOX_ASSIGN_OR_RETURN(const std::string_view records, ParseOpen(value));
      state.open[OpenSpanIdOf(key)] += records;
      return true;
    });
  }));
  return state;
}

Status StoreImpl::Commit(const SpanBatch& batch) {
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  const SegmentBuilder::Encoded encoded = Encode(batch.spans), scores = Encode(batch.scores);
  SegmentBuilder::Encoded rollup;
  if (!batch.sampled_out.empty()) {
    RollupBuilder cells;
    for (const SpanRow& row : batch.sampled_out) cells.Add(row);
    rollup = cells.Finish(ThreadBuilder());
  }
  BlobWriter blobs;
  if (!batch.blobs.empty()) {
    SPANBOX_RETURN_IF_ERROR(env->ReadBriefly([&](const Txn& txn) { return blobs.Prepare(txn, batch.blobs); }));
  }
  std::uint64_t payload_bytes =
      SizeOf(encoded) + SizeOf(scores) + SizeOf(rollup) + blobs.bytes() + batch.process.size();
  for (const OpenSpan& open : batch.open) payload_bytes += open.records.size() + 64;
  return env->Write(payload_bytes, [&](WriteTxn& txn) -> Status {
    SPANBOX_RETURN_IF_ERROR(CheckNotRetired(txn, batch));
    SPANBOX_RETURN_IF_ERROR(TakeTurn(txn, batch));
    SPANBOX_ASSIGN_OR_RETURN(auto ranges, PutCursors(txn, batch));
    if (encoded.rows > 0) SPANBOX_RETURN_IF_ERROR(PutSegment(txn, Table::kSegments, encoded, std::move(ranges)));
    if (scores.rows > 0) SPANBOX_RETURN_IF_ERROR(PutSegment(txn, Table::kScores, scores, {}));
    if (rollup.rows > 0) SPANBOX_RETURN_IF_ERROR(PutSegment(txn, Table::kRollups, rollup, {}));
    SPANBOX_RETURN_IF_ERROR(blobs.Put(txn));
    for (const OpenSpan& open : batch.open) {
      SPANBOX_RETURN_IF_ERROR(AppendOpen(txn, batch.ring, open));
    }
    for (SpanId closed : batch.closed) SPANBOX_RETURN_IF_ERROR(ForgetOpen(txn, OpenPrefix(batch.ring, closed)));
    return PutRing(txn, batch);
  });
}

std::uint64_t SizeOf(const SegmentBuilder::Encoded& encoded) {
  return encoded.columns.size() + encoded.text_bytes + encoded.text_filter.size() + encoded.cells.size();
}

Result<std::string> StoreImpl::ReadBlob(const BlobId& id) {
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  SPANBOX_ASSIGN_OR_RETURN(const auto txn, env->Read());
  return ReadBlobFrom(*txn, id);
}

Result<std::vector<BlobInfo>> StoreImpl::Blobs() {
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  SPANBOX_ASSIGN_OR_RETURN(const auto txn, env->Read());
  return ListBlobs(*txn, {}, ~std::size_t{0});
}

Status StoreImpl::Append(std::span<const SpanRow> rows) { return AppendTo(Table::kSegments, rows); }
Status StoreImpl::AppendScores(std::span<const SpanRow> scores) { return AppendTo(Table::kScores, scores); }

Status StoreImpl::AppendTo(Table table, std::span<const SpanRow> rows) {
  if (rows.empty()) return OkStatus();
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  const SegmentBuilder::Encoded encoded = Encode(rows);
  return env->Write(SizeOf(encoded), [&](WriteTxn& txn) { return PutSegment(txn, table, encoded, {}); });
}

Status StoreImpl::Append(const NextRow& next, const IngestProgress& progress) {
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  SegmentBuilder& builder = ThreadBuilder();
  Status status;
  for (;;) {
    Result<const SpanRow*> row = next();
    if (!row.ok()) status = row.status();
    if (!row.ok() || *row == nullptr) break;
    builder.Add(**row);
  }
  SegmentBuilder::Encoded encoded;
  if (builder.rows() > 0) encoded = builder.Finish();  // also after an error: it leaves the builder empty
  SPANBOX_RETURN_IF_ERROR(status);
  return env->Write(SizeOf(encoded), [&](WriteTxn& txn) -> Status {
    if (!progress.name.empty()) SPANBOX_RETURN_IF_ERROR(PutProgress(txn, progress));
    return encoded.rows > 0 ? PutSegment(txn, Table::kSegments, encoded, {}) : OkStatus();
  });
}

Result<std::uint64_t> StoreImpl::IngestedRows(std::string_view name) {
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  std::uint64_t rows = 0;
  // As in LoadRing: whoever wrote last may have died.
  SPANBOX_RETURN_IF_ERROR(env->Write(0, [&](WriteTxn& txn) -> Status {
    SPANBOX_ASSIGN_OR_RETURN(rows, GetMetaNumber(txn, IngestKey(name)));
    return OkStatus();
  }));
  return rows;
}

}  // namespace spanbox
