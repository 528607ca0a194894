#include "store/env.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

namespace spanbox {
namespace {

constexpr unsigned kMaxReaders = 1024;
constexpr auto kReaderCheckInterval = std::chrono::seconds(10);
constexpr auto kIdleTimeout = std::chrono::seconds(5);
constexpr int kMaxAttempts = 24;  // each doubling of the map is one
constexpr std::uint64_t kMinMapBytes = 256 * 1024;

// Growing data.mdb: at least this much at once, a sixteenth of the file, at most kMaxFileStep.
constexpr std::uint64_t kMinFileStep = 64 * 1024, kMaxFileStep = 16u << 20;
// Pages a transaction may need beyond its payload: copies of the way to each leaf, new branches, the list of free
// pages.
constexpr std::uint64_t kSparePages = 96;

std::atomic<std::uint64_t> fork_count{0};

std::uint64_t RoundToPages(std::uint64_t bytes) {
  const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

// All slots for readers are taken; or a process with the same id in another pid namespace has one.
bool HasNoSlot(int code) { return code == MDB_READERS_FULL || code == EAGAIN; }

MDB_val ToVal(std::string_view text) { return {text.size(), const_cast<char*>(text.data())}; }
Bytes ToBytes(const MDB_val& val) { return {static_cast<const std::byte*>(val.mv_data), val.mv_size}; }

}  // namespace

namespace {
constexpr int kMaxSettling = 64;
}  // namespace

// A reader that is interrupted while LMDB starts it may come away with a commit newer than the one it has announced,
// and then a later reader sees an older one. So it starts again until the newest commit is the one it has announced.
// Bounded: after a writer was killed between its last two steps the two differ until the next commit.
int Env::BeginRead(MDB_env* env, MDB_txn** txn) {
  int code = mdb_txn_begin(env, nullptr, MDB_RDONLY, txn);
  for (int attempt = 0; code == 0 && attempt < kMaxSettling; ++attempt) {
    MDB_envinfo info{};
    mdb_env_info(env, &info);
    if (info.me_last_txnid == mdb_txn_id(*txn)) return 0;
    mdb_txn_reset(*txn);
    code = mdb_txn_renew(*txn);
    if (code != 0) mdb_txn_abort(*txn);
  }
  return code;
}

std::uint64_t Env::ForkCount() { return fork_count.load(std::memory_order_relaxed); }
void Env::NoteFork() { fork_count.fetch_add(1, std::memory_order_relaxed); }
bool Env::forked() const { return fork_count_ != ForkCount(); }

Status Env::Error(int code, std::string_view what) const { return LmdbError(code, folder_, what); }

Result<std::unique_ptr<Env>> Env::Open(const std::string& folder, std::uint64_t map_bytes) {
  std::unique_ptr<Env> env(new Env(folder));
  // One process at a time makes lock.mdb and the tables.
  const FolderLock lock(folder);
  SPANBOX_RETURN_IF_ERROR(PreallocateLockFile(folder));
  env->map_bytes_ = std::max(map_bytes, kMinMapBytes);
  SPANBOX_RETURN_IF_ERROR(env->Start());
  return env;
}

Status Env::Start() {
  Status status = StartParts();
  if (!status.ok()) {
    mdb_env_close(env_);
    env_ = nullptr;
  }
  return status;
}

Status Env::StartParts() {
  SPANBOX_RETURN_IF_ERROR(CheckMetaPages(folder_));
  int code = mdb_env_create(&env_);
  if (code != 0) {
    env_ = nullptr;
    return Error(code, "cannot open");
  }
  // Twice the file: most stores then never have to grow the map while they are open.
  map_bytes_ = RoundToPages(std::max(map_bytes_, 2 * file_bytes()));
  mdb_env_set_maxdbs(env_, kTables);
  mdb_env_set_maxreaders(env_, kMaxReaders);
  mdb_env_set_mapsize(env_, map_bytes_);
  // NOTLS: a ReadView may move between threads, and one thread may hold several.
  code = mdb_env_open(env_, folder_.c_str(), MDB_NOTLS, 0600);
  if (code != 0) return Error(code, "cannot open");
  int dead = 0;
  mdb_reader_check(env_, &dead);
  SPANBOX_RETURN_IF_ERROR(CheckLength());
  SPANBOX_RETURN_IF_ERROR(CheckPages());
  return OpenTables();
}

Status Env::CheckLength() const {
  MDB_envinfo info{};
  MDB_stat stat{};
  mdb_env_info(env_, &info);
  mdb_env_stat(env_, &stat);
  const std::uint64_t needed = (info.me_last_pgno + 1) * stat.ms_psize;
  if (file_bytes() >= needed) return OkStatus();
  return DataLoss("the store " + folder_ + " is damaged: data.mdb has " + std::to_string(file_bytes()) +
                  " bytes of at least " + std::to_string(needed) +
                  "; it was cut off or copied while in use. Restore it from a backup, or move the folder away");
}

int Env::OpenTablesIn(unsigned txn_flags, unsigned table_flags, int* opened) {
  MDB_txn* txn = nullptr;
  int code = mdb_txn_begin(env_, nullptr, txn_flags, &txn);
  if (code != 0) return code;
  for (*opened = 0; *opened < kTables; ++*opened) {
    code = mdb_dbi_open(txn, kTableNames[*opened], table_flags, &tables_[*opened]);
    if (code != 0) break;
  }
  if (code != 0) {
    mdb_txn_abort(txn);
    return code;
  }
  return mdb_txn_commit(txn);  // also of a reading one: only a commit keeps the handles
}

Status Env::OpenTables() {
  int opened = 0;
  int code = OpenTablesIn(MDB_RDONLY, 0, &opened);
  if (HasNoSlot(code)) code = OpenTablesIn(0, 0, &opened);
  if (code == 0) return OkStatus();
  if (code != MDB_NOTFOUND) return Error(code, "cannot open");
  SPANBOX_RETURN_IF_ERROR(Damaged());
  MDB_stat stat{};
  mdb_env_stat(env_, &stat);
  if (stat.ms_entries != 0 && opened < kFirstTables) {
    return Unsupported(folder_ +
                       "/data.mdb is an LMDB file of another program, not a spanbox store; choose another folder");
  }
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    const int reserved = ReserveFile(nullptr, 0);
    if (reserved != 0) return Error(reserved, "cannot make the store");
    const int made = OpenTablesIn(0, MDB_CREATE, &opened);
    if (made == 0) return OkStatus();
    if (!CanMend(made)) return Error(made, "cannot make the store");
    SPANBOX_RETURN_IF_ERROR(Mend(made, 0));
  }
  return Unavailable("cannot make the store " + folder_ + ": the memory map keeps changing; try again");
}

Env::~Env() {
  if (env_ != nullptr && !forked()) mdb_env_close(env_);
}

std::uint64_t Env::file_bytes() const {
  struct stat info {};
  return stat((folder_ + "/data.mdb").c_str(), &info) == 0 ? static_cast<std::uint64_t>(info.st_size) : 0;
}

std::uint64_t Env::disk_bytes() const {
  constexpr std::uint64_t kBlockBytes = 512;  // of st_blocks, whatever the file system's are
  struct stat info {};
  return stat((folder_ + "/data.mdb").c_str(), &info) == 0 ? kBlockBytes * static_cast<std::uint64_t>(info.st_blocks)
                                                           : 0;
}

Status Env::Enter() {
  if (forked()) return Unavailable("the store " + folder_ + " was opened before a fork; open it again in this process");
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return !changing_; });
  if (env_ == nullptr) {  // opening it again after a disk error has failed: perhaps it works by now
    SPANBOX_RETURN_IF_ERROR(Start());
  }
  ++active_;
  return OkStatus();
}

void Env::Leave() {
  const std::lock_guard lock(mutex_);
  if (--active_ == 0) idle_.notify_all();
}

bool Env::IsIdle() {
  const std::lock_guard lock(mutex_);
  return active_ == 0;
}

// Runs `change` while this process has no transaction; newcomers wait meanwhile.
Status Env::WhenIdle(const std::function<int()>& change, std::string_view what) {
  std::unique_lock lock(mutex_);
  if (!idle_.wait_for(lock, kIdleTimeout, [this] { return !changing_; })) {
    return Unavailable("the store " + folder_ + " is busy; try again");
  }
  changing_ = true;
  const bool idle = idle_.wait_for(lock, kIdleTimeout, [this] { return active_ == 0; });
  int code = 0;
  if (idle && (env_ != nullptr)) code = change();
  changing_ = false;
  idle_.notify_all();
  if (!idle) {
    return Unavailable("the memory map of " + folder_ +
                       " must change, but a query of this process has been holding it; end the query and try again");
  }
  return code == 0 ? OkStatus() : Error(code, what);
}

bool Env::CanMend(int code) { return code == MDB_MAP_FULL || code == MDB_MAP_RESIZED || code == MDB_PANIC; }

Status Env::Mend(int code, std::uint64_t payload_bytes) {
  if (code == MDB_MAP_RESIZED) {
    return WhenIdle([this] { return mdb_env_set_mapsize(env_, 0); }, "cannot follow a grown store");
  }
  // A sync failed: what the environment believes of the file is unknown until it is read anew.
  if (code == MDB_PANIC) return Reopen();
  return WhenIdle(
      [this, payload_bytes] {
        MDB_envinfo info{};
        mdb_env_info(env_, &info);
        map_bytes_ = RoundToPages(std::max<std::uint64_t>(2 * info.me_mapsize, info.me_mapsize + 2 * payload_bytes));
        return mdb_env_set_mapsize(env_, map_bytes_);
      },
      "cannot grow the memory map");
}

Status Env::Reopen() {
  return WhenIdle(
      [this] {
        mdb_env_close(env_);
        env_ = nullptr;
        return Start().ok() ? 0 : EIO;
      },
      "cannot open again");
}

// Makes the file long enough for whatever `txn` may allocate. `txn` may be null while the tables are made.
int Env::ReserveFile(MDB_txn* txn, std::uint64_t payload_bytes) {
  MDB_envinfo info{};
  MDB_stat stat{}, open{};
  mdb_env_info(env_, &info);
  mdb_env_stat(env_, &stat);
  // Closing spans may copy any page of that table: their keys are random.
  if (txn != nullptr) mdb_stat(txn, tables_[static_cast<int>(Table::kOpen)], &open);
  const std::uint64_t pages = info.me_last_pgno + 1 + kSparePages + open.ms_branch_pages + open.ms_leaf_pages;
  const std::uint64_t needed = pages * stat.ms_psize + payload_bytes + payload_bytes / 4;
  int fd = -1;
  struct stat file {};
  if (mdb_env_get_fd(env_, &fd) != 0 || fstat(fd, &file) != 0) return errno;
  const auto size = static_cast<std::uint64_t>(file.st_size);
  if (size >= needed) return 0;
  // Perhaps the file grows because nobody has noticed the death of a reader.
  int dead = 0;
  mdb_reader_check(env_, &dead);
  const std::uint64_t step = std::clamp(size / 16, kMinFileStep, kMaxFileStep);
  const std::uint64_t target = (std::max(needed, size + step) + stat.ms_psize - 1) / stat.ms_psize * stat.ms_psize;
  if (posix_fallocate(fd, file.st_size, static_cast<off_t>(target - size)) == 0) return 0;
  // A nearly full disk may still have what is needed now.
  return posix_fallocate(fd, file.st_size, static_cast<off_t>(needed - size));
}

void Env::CheckReadersSometimes() {
  {
    const std::lock_guard lock(mutex_);
    const auto now = std::chrono::steady_clock::now();
    if (now - readers_checked_ < kReaderCheckInterval) return;
    readers_checked_ = now;
  }
  int dead = 0;
  mdb_reader_check(env_, &dead);
}

// Writers queue up here, and not at LMDB's mutex: a process that is killed just when that mutex has woken it takes the
// call with it, and another process then sleeps before a mutex that nobody holds until somebody contends for it again.
// The lock of a file is given on by the kernel, ends with its process, and is not inherited by a forked child. It only
// makes a queue; who may write is still LMDB's to say. So it does no harm that closing any descriptor of the file ends
// the lock, or that the kernel may see a circle in two threads that wait for two stores, and refuse it.
class Env::WriterTurn {
 public:
  explicit WriterTurn(Env& env) : thread_(env.writing_) {
    mdb_env_get_fd(env.env_, &fd_);
    while (!Lock(F_WRLCK) && errno == EINTR) {
    }
  }
  ~WriterTurn() { Lock(F_UNLCK); }
  WriterTurn(const WriterTurn&) = delete;
  WriterTurn& operator=(const WriterTurn&) = delete;

 private:
  bool Lock(short type) const {
    struct flock first_byte {};
    first_byte.l_type = type;
    first_byte.l_whence = SEEK_SET;
    first_byte.l_len = 1;
    return fcntl(fd_, F_SETLKW, &first_byte) == 0;
  }

  const std::lock_guard<std::mutex> thread_;
  int fd_ = -1;
};

int Env::TryWrite(std::uint64_t payload_bytes, const std::function<Status(WriteTxn&)>& body, Status& status) {
  const WriterTurn turn(*this);
  MDB_txn* txn = nullptr;
  int code = mdb_txn_begin(env_, nullptr, 0, &txn);
  if (code != 0) return code;
  code = ReserveFile(txn, payload_bytes);
  if (code != 0) {
    mdb_txn_abort(txn);
    return code;
  }
  WriteTxn write(*this, txn);
  status = body(write);
  if (!status.ok()) {
    mdb_txn_abort(txn);
    return write.failed_;
  }
  return mdb_txn_commit(txn);
}

Status Env::Write(std::uint64_t payload_bytes, const std::function<Status(WriteTxn&)>& body) {
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    SPANBOX_RETURN_IF_ERROR(Enter());
    Status status = Damaged();
    int code = 0;
    if (status.ok()) {
      CheckReadersSometimes();
      code = TryWrite(payload_bytes, body, status);
    }
    Leave();
    if (code == 0) return status;
    if (!CanMend(code)) return status.ok() ? Error(code, "cannot write") : status;
    SPANBOX_RETURN_IF_ERROR(Mend(code, payload_bytes));
  }
  return Unavailable("the store " + folder_ + " cannot be written: the memory map keeps changing; try again");
}

Result<std::unique_ptr<ReadTxn>> Env::Read(Wait wait) {
  bool readers_checked = false;
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    SPANBOX_RETURN_IF_ERROR(Enter());
    MDB_txn* txn = nullptr;
    const int code = BeginRead(env_, &txn);
    if (code == 0) return std::unique_ptr<ReadTxn>(new ReadTxn(*this, txn));
    // Slots of processes that died are taken back; then one more try.
    const bool slots = HasNoSlot(code) && !readers_checked;
    if (slots) {
      int dead = 0;
      mdb_reader_check(env_, &dead);
      readers_checked = true;
    }
    Leave();
    if (slots) continue;
    if (!CanMend(code)) return Error(code, "cannot read");
    if (wait == Wait::kNever && !IsIdle()) {
      return Unavailable("the memory map of " + folder_ + " must change, and this process is using it");
    }
    SPANBOX_RETURN_IF_ERROR(Mend(code, 0));
  }
  return Unavailable("the store " + folder_ + " cannot be read: the memory map keeps changing; try again");
}

Status Env::ReadBriefly(const std::function<Status(const Txn&)>& body) {
  const auto txn = Read();
  if (txn.ok()) return body(**txn);
  if (txn.status().code() != StatusCode::kUnavailable) return txn.status();
  return Write(0, [&](WriteTxn& write) { return body(write); });
}

ReadTxn::~ReadTxn() {
  // In a forked child the slot is the parent's.
  if (owner_.forked()) return;
  mdb_txn_abort(txn_);
  owner_.Leave();
}

Result<std::optional<Bytes>> Txn::Get(Table table, std::string_view key) const {
  SPANBOX_RETURN_IF_ERROR(env_->CheckKeyReadable(table, key));
  MDB_val k = ToVal(key), v{};
  const std::lock_guard lock(*get_mutex_);
  const int code = mdb_get(txn_, env_->tables_[static_cast<int>(table)], &k, &v);
  if (code == MDB_NOTFOUND) return std::optional<Bytes>{};
  if (code != 0) return env_->Error(code, "cannot read");
  return std::optional<Bytes>(ToBytes(v));
}

Status Txn::Scan(Table table, std::string_view prefix, const Visitor& visit) const {
  return Walk(table, prefix, prefix, visit);
}

Status Txn::ScanFrom(Table table, std::string_view first_key, const Visitor& visit) const {
  return Walk(table, first_key, {}, visit);
}

Status Txn::Walk(Table table, std::string_view from, std::string_view prefix, const Visitor& visit) const {
  SPANBOX_RETURN_IF_ERROR(env_->CheckReadable(table, from, prefix));
  MDB_cursor* raw = nullptr;
  int code = mdb_cursor_open(txn_, env_->tables_[static_cast<int>(table)], &raw);
  if (code != 0) return env_->Error(code, "cannot read");
  const std::unique_ptr<MDB_cursor, void (*)(MDB_cursor*)> cursor(raw, mdb_cursor_close);
  MDB_val k = ToVal(from), v{};
  code = mdb_cursor_get(raw, &k, &v, from.empty() ? MDB_FIRST : MDB_SET_RANGE);
  for (; code == 0; code = mdb_cursor_get(raw, &k, &v, MDB_NEXT)) {
    const std::string_view key = AsText(ToBytes(k));
    if (!key.starts_with(prefix)) return OkStatus();
    SPANBOX_ASSIGN_OR_RETURN(const bool more, visit(key, ToBytes(v)));
    if (!more) return OkStatus();
  }
  return code == MDB_NOTFOUND ? OkStatus() : env_->Error(code, "cannot read");
}

Result<std::optional<std::string>> Txn::LastKey(Table table, std::string_view prefix) const {
  SPANBOX_RETURN_IF_ERROR(env_->CheckReadable(table, {}, {}));
  MDB_cursor* raw = nullptr;
  int code = mdb_cursor_open(txn_, env_->tables_[static_cast<int>(table)], &raw);
  if (code != 0) return env_->Error(code, "cannot read");
  const std::unique_ptr<MDB_cursor, void (*)(MDB_cursor*)> cursor(raw, mdb_cursor_close);
  const std::string behind = std::string(prefix).append(17, '\xFF');
  MDB_val k = ToVal(behind), v{};
  code = mdb_cursor_get(raw, &k, &v, MDB_SET_RANGE);
  code = mdb_cursor_get(raw, &k, &v, code == MDB_NOTFOUND ? MDB_LAST : MDB_PREV);
  if (code != 0 && code != MDB_NOTFOUND) return env_->Error(code, "cannot read");
  if (code == MDB_NOTFOUND || !AsText(ToBytes(k)).starts_with(prefix)) return std::optional<std::string>{};
  return std::optional<std::string>(AsText(ToBytes(k)));
}

Result<std::uint64_t> Txn::Count(Table table) const {
  MDB_stat stat{};
  const int code = mdb_stat(txn_, env_->tables_[static_cast<int>(table)], &stat);
  if (code != 0) return env_->Error(code, "cannot read");
  return std::uint64_t{stat.ms_entries};
}

Status WriteTxn::PutWith(Table table, std::string_view key, Bytes value, unsigned flags) {
  if ((flags & MDB_NOOVERWRITE) == 0) SPANBOX_RETURN_IF_ERROR(CheckOld(table, key));
  MDB_val k = ToVal(key), v = ToVal(AsText(value));
  const int code = mdb_put(txn_, env_->tables_[static_cast<int>(table)], &k, &v, flags);
  if (code == 0) return OkStatus();
  if (code == MDB_KEYEXIST) {
    return Internal(std::string("a key of table ") + kTableNames[static_cast<int>(table)] +
                    " exists already; nothing was stored. Please report this");
  }
  failed_ = code;
  return env_->Error(code, "cannot write");
}

Status WriteTxn::Put(Table table, std::string_view key, Bytes value) { return PutWith(table, key, value, 0); }
Status WriteTxn::PutNew(Table table, std::string_view key, Bytes value) {
  return PutWith(table, key, value, MDB_NOOVERWRITE);
}

Status WriteTxn::Delete(Table table, std::string_view key) {
  SPANBOX_RETURN_IF_ERROR(CheckOld(table, key));
  MDB_val k = ToVal(key);
  const int code = mdb_del(txn_, env_->tables_[static_cast<int>(table)], &k, nullptr);
  if (code == 0 || code == MDB_NOTFOUND) return OkStatus();
  failed_ = code;
  return env_->Error(code, "cannot write");
}

}  // namespace spanbox
