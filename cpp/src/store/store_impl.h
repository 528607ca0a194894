// The one implementation of Store. store.cc opens and commits, read_view.cc reads, merge.cc merges, erase.cc removes,
// feeds.cc and documents.cc keep what changes, verify.cc checks.
//
// Thread rule: as Store. Ownership: the process-wide registry in store.cc finds a living StoreImpl by the folder's
// identity; the environment is closed under the registry's lock, so that no second one can be opened meanwhile.
#pragma once

#include <atomic>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "spanbox/store.h"
#include "store/env.h"
#include "store/manifest.h"
#include "store/segment_list.h"

namespace spanbox {

class StoreImpl : public Store {
 public:
  StoreImpl(std::string folder, StoreOptions options) : path_(std::move(folder)), options_(options) {}
  ~StoreImpl() override;

  const std::string& path() const override { return path_; }
  std::string ring_dir() const override { return path_ + "/rings"; }

  Result<RingState> LoadRing(const RingId& ring) override;
  Status Commit(const SpanBatch& batch) override;
  Status Append(std::span<const SpanRow> rows) override;
  Status Append(const NextRow& next, const IngestProgress& progress) override;
  Status AppendScores(std::span<const SpanRow> scores) override;
  Result<std::uint64_t> IngestedRows(std::string_view name) override;
  Result<bool> DoBackgroundWork() override;
  Result<bool> MergeOnce() override;
  Status Compact() override;
  Result<Retention> GetRetention() override;
  Status SetRetention(const Retention& retention) override;
  Result<std::uint64_t> DropExpired(std::int64_t now_ns) override;
  Result<Feed> ReadFeed(std::string_view name) override;
  Status AdvanceFeed(std::string_view name, const FeedStep& step) override;
  Status DropFeed(std::string_view name) override;
  Result<std::vector<std::string>> Feeds() override;
  Result<std::uint64_t> PutDocument(std::string_view kind, std::string_view name, std::string_view json,
                                    std::int64_t at_ns, std::optional<std::uint64_t> expected) override;
  Result<std::uint64_t> DeleteDocument(std::string_view kind, std::string_view name, std::int64_t at_ns,
                                       std::optional<std::uint64_t> expected) override;
  Result<Document> GetDocument(std::string_view kind, std::string_view name, std::uint64_t version) override;
  Result<std::vector<Document>> Documents(std::string_view kind) override;
  Result<std::vector<Document>> DocumentHistory(std::string_view kind, std::string_view name) override;
  Result<std::unique_ptr<StorePause>> Pause() override;
  Status RemoveRows(std::uint64_t segment, std::span<const std::uint32_t> rows) override;
  Status RemoveBlob(const BlobId& id) override;
  Status WipeFreeSpace() override;
  Status ReleaseFreeSpace() override;
  Status Backup(const std::string& path) override;

  Result<std::unique_ptr<ReadView>> Read() override { return ViewOf(Env::Wait::kForIdle); }
  Result<std::unique_ptr<ReadView>> ReadAgain() override { return ViewOf(Env::Wait::kNever); }
  Result<StoreInfo> Info() override;
  Result<VerifyReport> Verify() override;
  Result<std::string> ReadBlob(const BlobId& id) override;
  Result<std::vector<BlobInfo>> Blobs() override;
  Result<std::vector<LiveProcess>> Processes() override;

  // Opens the environment. REQUIRES: the registry's lock.
  Status OpenEnv();

 private:
  // The environment of this process: opened anew in a forked child.
  Result<Env*> LiveEnv();
  Result<std::unique_ptr<ReadView>> ViewOf(Env::Wait wait);

  // kMerge: a group of similar size. kSettle: a full segment that has not settled. All: also what is not due by itself.
  enum class Plan { kMerge, kMergeAll, kSettle, kSettleAll };
  class MergingTurn;
  Result<std::uint64_t> PutVersion(Document document, std::optional<std::uint64_t> expected);
  Status AppendTo(Table table, std::span<const SpanRow> rows);
  Status SettleWhenDue();
  Result<bool> MakeRun();
  Status DropExpiredWhenDue();
  Result<std::int64_t> OldestSpan();
  Result<std::uint64_t> Drop(Table table, std::int64_t older_than_ns, std::uint64_t max_bytes);
  Result<bool> Replace(Table table, Plan plan);
  Result<std::vector<SegmentRecord>> PlanReplace(const Txn& txn, Table table, Plan plan) const;
  Result<SegmentBuilder::Encoded> Rewrite(const Txn& txn, Table table, std::span<const SegmentRecord> sources,
                                          bool settles);

  const std::string path_;
  const StoreOptions options_;
  std::unique_ptr<Env> env_;                     // guarded by the registry's lock
  std::unique_ptr<SegmentLists> segment_lists_;  // of env_; another one when that is opened anew
  std::atomic<bool> merging_ = false;
  // These belong to whoever has set merging_.
  std::set<std::uint64_t> damaged_;  // segments that merging and runs leave alone
  std::int64_t settle_at_ns_ = 0;    // monotonic
  std::int64_t expire_at_ns_ = 0;    // monotonic
};

// Of all threads and processes one merges: another would throw its work away.
class StoreImpl::MergingTurn : public StorePause {
 public:
  MergingTurn(StoreImpl& store, bool wait);
  ~MergingTurn() override;
  MergingTurn(const MergingTurn&) = delete;
  MergingTurn& operator=(const MergingTurn&) = delete;

  bool mine() const { return mine_; }

 private:
  StoreImpl& store_;
  const FolderLock lock_;
  bool mine_ = false;
};

// This thread's builder for commits, empty. One a thread, because making its buffers costs more than a small commit.
SegmentBuilder& ThreadBuilder();

std::uint64_t SizeOf(const SegmentBuilder::Encoded& encoded);

}  // namespace spanbox
