// Free pages of data.mdb: overwriting them, and a copy without them.

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "store/env.h"
#include "store/packing.h"

namespace spanbox {
namespace {

constexpr std::uint32_t kPagesPerCommit = 1024;
constexpr std::uint32_t kPagesPerTry = 8;  // once the known free pages are taken
constexpr auto kReaderPatience = std::chrono::seconds(5);
constexpr auto kReaderPause = std::chrono::milliseconds(10);
// A value of this size takes one page of its own, all of it but the page's header.
constexpr std::size_t kPageHeaderBytes = 16;

std::string WipeKey(std::uint32_t number) {
  std::string key = "wipe";
  PutFixed(number, key);
  return key;
}

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

}  // namespace

// By LMDB's list of them: each entry begins with their number.
std::uint64_t Env::FreePages() {
  MDB_txn* txn = nullptr;
  if (BeginRead(env_, &txn) != 0) return 0;
  std::uint64_t pages = 0;
  MDB_cursor* cursor = nullptr;
  constexpr MDB_dbi kFreePages = 0;
  if (mdb_cursor_open(txn, kFreePages, &cursor) == 0) {
    for (MDB_val key{}, value{}; mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0;) {
      std::size_t count = 0;
      if (value.mv_size >= sizeof count) std::memcpy(&count, value.mv_data, sizeof count);
      pages += count;
    }
    mdb_cursor_close(cursor);
  }
  mdb_txn_abort(txn);
  return pages;
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

Status Env::WipeFreeSpace() {
  SPANBOX_RETURN_IF_ERROR(Enter());
  Status waited = Damaged();
  if (waited.ok()) waited = WaitForOldReaders();
  Leave();
  SPANBOX_RETURN_IF_ERROR(waited);
  // LMDB writes pages from buffers that it uses again without clearing them, so the gaps of a page that is in use may
  // hold what another one held. A new environment has new buffers; then every page of the trees is written anew.
  SPANBOX_RETURN_IF_ERROR(Reopen());
  SPANBOX_RETURN_IF_ERROR(WipePages());
  SPANBOX_RETURN_IF_ERROR(RewriteTree());
  SPANBOX_RETURN_IF_ERROR(WipePages());
  return WipeTail();
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

// Takes free pages for values of zeros, until there are none and the file grows; then gives them back.
Status Env::WipePages() {
  MDB_stat stat{};
  mdb_env_stat(env_, &stat);
  const std::string zeros(stat.ms_psize - kPageHeaderBytes, '\0');
  const auto touch = [&](WriteTxn& txn) { return txn.Put(Table::kMeta, WipeKey(0), AsBytes("")); };
  SPANBOX_RETURN_IF_ERROR(Write(0, touch));
  SPANBOX_RETURN_IF_ERROR(Write(0, touch));
  SPANBOX_RETURN_IF_ERROR(Enter());
  const std::uint64_t free_pages = FreePages();
  Leave();
  std::uint32_t taken = 1;
  // What a commit frees can be taken by the one after the next: so the end is not believed the first times.
  for (int ends = 0; ends < 3;) {
    const std::uint64_t before = LastPage();
    const std::uint32_t pages = taken + kPagesPerCommit < free_pages ? kPagesPerCommit : kPagesPerTry;
    SPANBOX_RETURN_IF_ERROR(Write(std::uint64_t{pages} * stat.ms_psize, [&](WriteTxn& txn) -> Status {
      for (std::uint32_t i = 0; i < pages; ++i) {
        SPANBOX_RETURN_IF_ERROR(txn.Put(Table::kMeta, WipeKey(taken + i), AsBytes(zeros)));
      }
      return OkStatus();
    }));
    taken += pages;
    if (LastPage() == before) continue;  // all of them were free ones
    ++ends;
    SPANBOX_RETURN_IF_ERROR(Write(0, touch));
    SPANBOX_RETURN_IF_ERROR(Write(0, touch));
  }
  for (std::uint32_t first = 0; first < taken; first += kPagesPerCommit) {
    SPANBOX_RETURN_IF_ERROR(Write(0, [&](WriteTxn& txn) -> Status {
      for (std::uint32_t i = first; i < std::min(taken, first + kPagesPerCommit); ++i) {
        SPANBOX_RETURN_IF_ERROR(txn.Delete(Table::kMeta, WipeKey(i)));
      }
      return OkStatus();
    }));
  }
  return OkStatus();
}

// Inside a transaction, so that nobody takes a page there meanwhile.
Status Env::WipeTail() {
  return Write(0, [this](WriteTxn&) -> Status {
    MDB_stat stat{};
    mdb_env_stat(env_, &stat);
    int fd = -1;
    mdb_env_get_fd(env_, &fd);
    const std::string zeros(1 << 20, '\0');
    const std::uint64_t end = file_bytes();
    for (std::uint64_t at = (LastPage() + 1) * stat.ms_psize; at < end;) {
      const ssize_t wrote =
          pwrite(fd, zeros.data(), std::min<std::uint64_t>(zeros.size(), end - at), static_cast<off_t>(at));
      if (wrote <= 0) return Error(errno, "cannot wipe");
      at += static_cast<std::uint64_t>(wrote);
    }
    return OkStatus();
  });
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
