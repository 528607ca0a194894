// Free pages of data.mdb: overwriting them, giving their place on the disk back, and a copy without them.

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "store/env.h"

namespace spanbox {
namespace {

constexpr auto kReaderPatience = std::chrono::seconds(5);
constexpr auto kReaderPause = std::chrono::milliseconds(10);
constexpr auto kLongestTurn = std::chrono::milliseconds(5);  // of holding up other writers
constexpr std::uint64_t kPiecePages = 1024;
// A value of this size takes one page of its own, all of it but the page's header.
constexpr std::size_t kPageHeaderBytes = 16;
constexpr std::string_view kTouchKey = "touch";
// One page in so many that are in use keeps its place on the disk though it is free: those that LMDB takes next. So a
// small commit, such as one that drops expired spans, finds room on a full disk.
constexpr std::uint64_t kKeptShare = 32;
// What may be free unless all is to be released: freed space is mostly used again, and room that is there is the
// cheaper to write to.
constexpr std::uint64_t kSlackBytes = 1 << 20, kSlackShare = 4;

// A line of mdb_reader_list is "pid thread txnid", with "-" for a reader that reads nothing.
int TakeOldest(const char* line, void* oldest) {
  unsigned long pid = 0, thread = 0;
  unsigned long long transaction = 0;
  if (std::sscanf(line, "%lu %lx %llu", &pid, &thread, &transaction) == 3) {
    auto& least = *static_cast<unsigned long long*>(oldest);
    least = std::min(least, transaction);
  }
  return 0;
}

// A file system that cannot do this leaves the file as it is.
int PunchHole(int fd, off_t at, off_t bytes) {
  if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, bytes) == 0) return 0;
  return errno == EOPNOTSUPP || errno == ENOSYS ? 0 : errno;
}

// But for its holes, which read as zeros already.
int Overwrite(int fd, off_t at, off_t bytes) {
  static const std::string zeros(1 << 20, '\0');
  for (const off_t end = at + bytes; at < end;) {
    const off_t data = lseek(fd, at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) return 0;
    if (data >= end) return 0;
    at = std::max(at, data);
    const auto size = std::min<std::uint64_t>(zeros.size(), static_cast<std::uint64_t>(end - at));
    const ssize_t wrote = pwrite(fd, zeros.data(), size, at);
    if (wrote <= 0) return wrote < 0 ? errno : ENOSPC;
    at += wrote;
  }
  return 0;
}

}  // namespace

// By LMDB's list: under the number of the transaction that freed them their count, and page numbers, descending. A page
// freed before transaction `before` is in no state from then on. In the order in which LMDB takes them `kept` are left
// out. Ascending.
Result<std::vector<Env::PageRun>> Env::FreeRuns(MDB_txn* txn, std::uint64_t before, std::uint64_t kept) const {
  std::vector<PageRun> runs;
  MDB_cursor* cursor = nullptr;
  constexpr MDB_dbi kFreePages = 0;
  if (const int code = mdb_cursor_open(txn, kFreePages, &cursor); code != 0) return Error(code, "cannot read");
  for (MDB_val key{}, value{}; mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0;) {
    std::size_t freed_by = 0, count = 0;
    if (key.mv_size != sizeof freed_by || value.mv_size < sizeof count) break;
    std::memcpy(&freed_by, key.mv_data, sizeof freed_by);
    std::memcpy(&count, value.mv_data, sizeof count);
    if (freed_by >= before) break;
    const auto* const pages = static_cast<const char*>(value.mv_data);
    for (std::size_t i = std::min(count, value.mv_size / sizeof count - 1); i > 0; --i) {
      std::size_t page = 0;
      std::memcpy(&page, pages + i * sizeof page, sizeof page);
      if (kept > 0) {
        --kept;
      } else if (!runs.empty() && runs.back().first + runs.back().pages == page) {
        ++runs.back().pages;
      } else {
        runs.push_back({page, 1});
      }
    }
  }
  mdb_cursor_close(cursor);
  std::ranges::sort(runs, {}, &PageRun::first);
  return runs;
}

Env::PageUse Env::CountPages() {
  PageUse use;
  MDB_txn* txn = nullptr;
  if (BeginRead(env_, &txn) != 0) return use;
  if (const auto runs = FreeRuns(txn, ~std::uint64_t{0}, 0); runs.ok()) {
    for (const PageRun& run : *runs) use.free += run.pages;
  }
  mdb_txn_abort(txn);
  use.used = LastPage() + 1 - use.free;
  return use;
}

std::uint64_t Env::LastPage() {
  MDB_envinfo info{};
  mdb_env_info(env_, &info);
  return info.me_last_pgno;
}

Status Env::WaitForOldReaders() {
  MDB_envinfo info{};
  mdb_env_info(env_, &info);
  int dead = 0;
  mdb_reader_check(env_, &dead);
  for (const auto until = std::chrono::steady_clock::now() + kReaderPatience;;) {
    unsigned long long oldest = info.me_last_txnid;
    mdb_reader_list(env_, TakeOldest, &oldest);
    if (oldest >= info.me_last_txnid) return OkStatus();
    if (std::chrono::steady_clock::now() > until) {
      return Unavailable("the store " + folder_ +
                         " cannot be wiped: a query has been reading it for some seconds; try again when it has ended");
    }
    std::this_thread::sleep_for(kReaderPause);
  }
}

// The runs that LMDB itself would take now: no reader sees them, nor does the state before the last commit, which a
// power loss may bring back. The last one is what the file has beyond its last page. REQUIRES: this thread is writing.
Result<std::vector<Env::PageRun>> Env::UnusedRuns(std::uint64_t kept) {
  int dead = 0;
  mdb_reader_check(env_, &dead);
  MDB_txn* txn = nullptr;
  if (const int code = BeginRead(env_, &txn); code != 0) return Error(code, "cannot read");
  unsigned long long oldest = mdb_txn_id(txn);
  mdb_reader_list(env_, TakeOldest, &oldest);
  Result<std::vector<PageRun>> runs = FreeRuns(txn, oldest, kept);
  mdb_txn_abort(txn);
  MDB_stat stat{};
  mdb_env_stat(env_, &stat);
  const std::uint64_t behind_last = LastPage() + 1, end = file_bytes() / stat.ms_psize;
  if (runs.ok() && end > behind_last) runs->push_back({behind_last, end - behind_last});
  return runs;
}

// Lets `change` (its answer: an error number) have every run that is unused, in pieces. A turn holds the writers' lock,
// so that nobody takes a page meanwhile, for a short time.
Status Env::OnUnusedRuns(std::uint64_t kept, const std::function<int(int fd, off_t at, off_t bytes)>& change) {
  MDB_stat stat{};
  mdb_env_stat(env_, &stat);
  std::uint64_t from = 0;
  for (bool more = true; more;) {
    SPANBOX_RETURN_IF_ERROR(Write(0, [&](WriteTxn&) -> Status {
      SPANBOX_ASSIGN_OR_RETURN(const std::vector<PageRun> runs, UnusedRuns(kept));
      const auto until = std::chrono::steady_clock::now() + kLongestTurn;
      int fd = -1;
      mdb_env_get_fd(env_, &fd);
      for (const PageRun& run : runs) {
        const std::uint64_t end = run.first + run.pages;
        for (from = std::max(from, run.first); from < end;) {
          const std::uint64_t pages = std::min(end - from, kPiecePages);
          const int code =
              change(fd, static_cast<off_t>(from * stat.ms_psize), static_cast<off_t>(pages * stat.ms_psize));
          if (code != 0) return Error(code, "cannot release or wipe pages of");
          from += pages;
          if (std::chrono::steady_clock::now() > until) return OkStatus();
        }
      }
      more = false;
      return OkStatus();
    }));
  }
  return OkStatus();
}

// What a commit frees the one after the next may take.
Status Env::AgeFreePages() {
  SPANBOX_RETURN_IF_ERROR(Write(0, [](WriteTxn& txn) { return txn.Put(Table::kMeta, kTouchKey, {}); }));
  return Write(0, [](WriteTxn& txn) { return txn.Delete(Table::kMeta, kTouchKey); });
}

Status Env::ReleaseFreeSpace(Release release) {
  SPANBOX_RETURN_IF_ERROR(Enter());
  MDB_stat stat{};
  mdb_env_stat(env_, &stat);
  const PageUse use = CountPages();
  Leave();
  const std::uint64_t used_bytes = use.used * stat.ms_psize;
  const std::uint64_t slack_bytes = release == Release::kAll ? 0 : kSlackBytes + used_bytes / kSlackShare;
  if (use.used == 0 || disk_bytes() <= used_bytes + slack_bytes) return OkStatus();
  SPANBOX_RETURN_IF_ERROR(AgeFreePages());
  const Status released = OnUnusedRuns(use.used / kKeptShare, PunchHole);
  // What could not be released now will be another time.
  return released.code() == StatusCode::kUnavailable ? OkStatus() : released;
}

Status Env::WipeFreeSpace() {
  SPANBOX_RETURN_IF_ERROR(Enter());
  Status waited = Damaged();
  if (waited.ok()) waited = WaitForOldReaders();
  Leave();
  SPANBOX_RETURN_IF_ERROR(waited);
  // LMDB writes pages from buffers that it uses again without clearing them, so the gaps of a page that is in use may
  // hold what another one held. A new environment has new buffers; then every page of the trees is written anew.
  SPANBOX_RETURN_IF_ERROR(Reopen());
  SPANBOX_RETURN_IF_ERROR(RewriteTree());
  SPANBOX_RETURN_IF_ERROR(AgeFreePages());
  SPANBOX_RETURN_IF_ERROR(OnUnusedRuns(0, Overwrite));
  SPANBOX_RETURN_IF_ERROR(Enter());
  const int code = mdb_env_sync(env_, /*force=*/1);
  Leave();
  return code == 0 ? OkStatus() : Error(code, "cannot wipe");
}

// Values that share pages, or have one of their own, are put anew. Larger ones have cleared buffers; there a key that
// comes and goes within the transaction makes LMDB copy the leaf and the way to it.
Status Env::RewriteTree() {
  for (int table = 0; table < kTables; ++table) {
    const auto name = static_cast<Table>(table);
    std::vector<std::string> keys;
    std::uint64_t bytes = 0;
    MDB_stat stat{};
    {
      SPANBOX_ASSIGN_OR_RETURN(const auto txn, Read());
      mdb_stat(txn->txn_, tables_[table], &stat);
      SPANBOX_RETURN_IF_ERROR(txn->Scan(name, {}, [&](std::string_view key, Bytes) -> Result<bool> {
        keys.emplace_back(key);
        return true;
      }));
      bytes = (2 * (stat.ms_branch_pages + stat.ms_leaf_pages) + stat.ms_overflow_pages) * stat.ms_psize;
    }
    SPANBOX_RETURN_IF_ERROR(Write(bytes, [&](WriteTxn& txn) -> Status {
      for (const std::string& key : keys) {
        SPANBOX_ASSIGN_OR_RETURN(const auto value, txn.Get(name, key));
        if (!value) continue;  // removed meanwhile
        if (value->size() <= stat.ms_psize - kPageHeaderBytes) {
          const std::string copy(AsText(*value));
          SPANBOX_RETURN_IF_ERROR(txn.Put(name, key, AsBytes(copy)));
        } else {
          SPANBOX_RETURN_IF_ERROR(txn.Put(name, key + '\0', {}));
          SPANBOX_RETURN_IF_ERROR(txn.Delete(name, key + '\0'));
        }
      }
      return OkStatus();
    }));
  }
  return OkStatus();
}

Status Env::CopyTo(const std::string& file) {
  const int fd = open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return LmdbError(errno, file, "cannot write the backup of");
  Status status = Enter();
  if (status.ok()) {
    status = Damaged();
    int code = status.ok() ? mdb_env_copyfd2(env_, fd, MDB_CP_COMPACT) : 0;
    if (code == 0 && fsync(fd) != 0) code = errno;
    if (code != 0) status = LmdbError(code, file, "cannot write the backup of");
    Leave();
  }
  close(fd);
  return status;
}

}  // namespace spanbox
