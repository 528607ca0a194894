// The LMDB environment of one store in this process: transactions that cope with a map that grows, readers that died,
// a disk that is full, and a process that forks.
//
// Thread rule: any thread, except that WriteTxn and ReadTxn belong to the thread that uses them, but for Get.
// Ownership: Env owns the environment; transactions must end before it does. After fork the child's copy is dead: every
// call returns Unavailable, and nothing of the parent is touched (LMDB's reader slots and locks are shared memory). It
// must be leaked, not destroyed: threads of the parent may have been waiting inside it.
// Invariants:
//   1. Default sync mode only: no flag that trades durability for speed (a power loss then corrupts the file).
//   2. The map is changed only while no transaction of this process is open.
//   3. Only free pages are changed in place: what a transaction of now, of the last commit but one, or of any reader
//   sees
//      stays as it is.
//   4. data.mdb is never shorter than its meta page says: room is reserved before a commit needs it. So a shorter file
//      has been truncated, and is refused before a page beyond its end kills the process.
#pragma once

#include <lmdb.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "spanbox/status.h"
#include "store/disk.h"
#include "store/tree_check.h"

namespace spanbox {

// The named databases. docs/segment_format.md describes keys and values.
enum class Table {
  kMeta = 0,
  kSegments,
  kChunks,
  kOpen,
  kCursors,
  kRings,
  kBlobs,
  kRollups,
  kScores,
  kDocuments,
  kRuns
};
inline constexpr int kTables = 11;
inline constexpr const char* kTableNames[kTables] = {"meta",  "segments", "chunks", "open",      "cursors", "rings",
                                                     "blobs", "rollups",  "scores", "documents", "runs"};
inline constexpr int kFirstTables = 6;  // of format 1; what came later is made in an old store when it is opened

using Bytes = std::span<const std::byte>;
inline Bytes AsBytes(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }
inline std::string_view AsText(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

class Env;

// Reading side of both kinds of transaction. Bytes returned live until the transaction ends or writes.
class Txn {
 public:
  // nullopt: no such key. Any thread, while nobody calls anything else.
  Result<std::optional<Bytes>> Get(Table table, std::string_view key) const;
  // Calls `visit(key, value)` in key order for every key that begins with `prefix`, until it returns false.
  using Visitor = std::function<Result<bool>(std::string_view key, Bytes value)>;
  Status Scan(Table table, std::string_view prefix, const Visitor& visit) const;
  Status ScanFrom(Table table, std::string_view first_key, const Visitor& visit) const;
  // The last key that begins with `prefix`; nullopt: there is none. REQUIRES: the key after the prefix has no more than
  // 16 bytes.
  Result<std::optional<std::string>> LastKey(Table table, std::string_view prefix) const;
  Result<std::uint64_t> Count(Table table) const;

 protected:
  friend class Env;
  Txn(const Env& env, MDB_txn* txn) : env_(&env), txn_(txn) {}
  Status Walk(Table table, std::string_view from, std::string_view prefix, const Visitor& visit) const;
  const Env* env_;
  MDB_txn* txn_;

 private:
  std::shared_ptr<std::mutex> get_mutex_ = std::make_shared<std::mutex>();  // of all copies
};

class WriteTxn : public Txn {
 public:
  Status Put(Table table, std::string_view key, Bytes value);
  Status PutNew(Table table, std::string_view key, Bytes value);  // Internal when the key exists
  Status Delete(Table table, std::string_view key);               // OK when there is no such key

 private:
  friend class Env;
  using Txn::Txn;
  Status PutWith(Table table, std::string_view key, Bytes value, unsigned flags);
  Status CheckOld(Table table, std::string_view key) const;
  int failed_ = 0;  // LMDB's code when a call failed in a way that Env::Write can mend
};

class ReadTxn : public Txn {
 public:
  ~ReadTxn();
  ReadTxn(const ReadTxn&) = delete;
  ReadTxn& operator=(const ReadTxn&) = delete;

 private:
  friend class Env;
  ReadTxn(Env& env, MDB_txn* txn) : Txn(env, txn), owner_(env) {}
  Env& owner_;
};

class Env {
 public:
  // `folder`: checked by open_check.h. Makes data.mdb and the tables when there are none.
  static Result<std::unique_ptr<Env>> Open(const std::string& folder, std::uint64_t map_bytes);
  ~Env();
  Env(const Env&) = delete;
  Env& operator=(const Env&) = delete;

  // Runs `body` in a write transaction and commits; an error of `body` aborts it. `body` may run several times (the
  // map grew), so it must compute everything from the transaction. `payload_bytes`: about what it will write.
  Status Write(std::uint64_t payload_bytes, const std::function<Status(WriteTxn&)>& body);
  // kNever: Unavailable where it would have to wait until this process has no transaction; for who holds one.
  enum class Wait { kForIdle, kNever };
  Result<std::unique_ptr<ReadTxn>> Read(Wait wait = Wait::kForIdle);
  // For what recording needs to read: where this process gets no slot for readers, `body` runs in a write transaction,
  // and so perhaps several times. REQUIRES: it is short, and this thread has no transaction.
  Status ReadBriefly(const std::function<Status(const Txn&)>& body);

  // Overwrites every page that is free, the gaps of those that are not, and what the file has beyond its last page.
  // Unavailable: a reader, here or in another process, has been holding on to an old state for some seconds.
  Status WipeFreeSpace();
  // Gives pages that are free, and that no reader sees, back to the file system: holes of a file that keeps its length.
  // kWhenMuch: nothing is done while they take less than a quarter of what is in use, and some MiB.
  enum class Release { kAll, kWhenMuch };
  Status ReleaseFreeSpace(Release release);
  // Writes a new file (0600) that holds the state of now, without free pages.
  Status CopyTo(const std::string& file);

  std::uint64_t file_bytes() const;
  std::uint64_t disk_bytes() const;  // which it takes: without its holes
  // DataLoss: pages were damaged when it was opened. What lies beside them can be read; nothing is written.
  Status Damaged() const;
  bool forked() const;  // this is a child's copy of its parent's environment

  // Called in the child after fork, when no other thread lives.
  static void NoteFork();

 private:
  friend class Txn;
  friend class WriteTxn;
  friend class ReadTxn;
  explicit Env(std::string folder) : folder_(std::move(folder)) {}

  Status Start();  // opens env_ and the tables; env_ stays null when it fails
  Status StartParts();
  Status CheckLength() const;
  Status CheckPages();
  // OK: LMDB can look for `key`; for all keys from `from` on that begin with `prefix`.
  Status CheckKeyReadable(Table table, std::string_view key) const;
  Status CheckReadable(Table table, std::string_view from, std::string_view prefix) const;
  Status OpenTables();
  int OpenTablesIn(unsigned txn_flags, unsigned table_flags, int* opened);
  Status Enter();
  void Leave();
  bool IsIdle();
  Status WhenIdle(const std::function<int()>& change, std::string_view what);
  Status Mend(int code, std::uint64_t payload_bytes);  // OK: try again
  Status Reopen();
  int ReserveFile(MDB_txn* txn, std::uint64_t payload_bytes);
  void CheckReadersSometimes();
  static int BeginRead(MDB_env* env, MDB_txn** txn);
  class WriterTurn;
  int TryWrite(std::uint64_t payload_bytes, const std::function<Status(WriteTxn&)>& body, Status& status);
  Status WaitForOldReaders();
  Status RewriteTree();
  struct PageRun {
    std::uint64_t first = 0, pages = 0;
  };
  struct PageUse {
    std::uint64_t used = 0, free = 0;
  };
  Result<std::vector<PageRun>> FreeRuns(MDB_txn* txn, std::uint64_t before, std::uint64_t kept) const;
  PageUse CountPages();
  Result<std::vector<PageRun>> UnusedRuns(std::uint64_t kept);
  Status OnUnusedRuns(std::uint64_t kept, const std::function<int(int fd, off_t at, off_t bytes)>& change);
  Status AgeFreePages();
  std::uint64_t LastPage();
  Status Error(int code, std::string_view what) const;
  static bool CanMend(int code);

  const std::string folder_;
  const std::uint64_t fork_count_ = ForkCount();
  static std::uint64_t ForkCount();

  MDB_env* env_ = nullptr;
  MDB_dbi tables_[kTables] = {};
  std::uint64_t map_bytes_ = 0;
  TreeDamage damage_;  // seen when it was opened

  std::mutex writing_;  // see WriterTurn

  // Transactions of this process, and whoever waits for them to end.
  std::mutex mutex_;
  std::condition_variable idle_;
  int active_ = 0;                                         // guarded by mutex_
  bool changing_ = false;                                  // guarded by mutex_
  std::chrono::steady_clock::time_point readers_checked_;  // guarded by mutex_
};

}  // namespace spanbox
