// What Open refuses, and that each message says what, where and what to do.
#include <fcntl.h>
#include <lmdb.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <functional>

#include "base/record_codec.h"
#include "store/manifest.h"
#include "store_test_util.h"

namespace spanbox::testing {
namespace {

class StoreOpenTest : public ::testing::Test {
 protected:
  void ExpectRefused(const std::string& path, StatusCode code, const std::string& words) {
    const auto opened = Store::Open(path);
    ASSERT_FALSE(opened.ok()) << path;
    EXPECT_EQ(opened.status().code(), code) << opened.status().message();
    EXPECT_NE(opened.status().message().find(words), std::string::npos) << opened.status().message();
    EXPECT_NE(opened.status().message().find(path), std::string::npos) << opened.status().message();
  }
  void MakeStore(const std::string& path, std::size_t rows = 100) {
    const auto store = Must(Store::Open(path));
    std::deque<Row> made;
    ASSERT_OK(store->Append(Borrow(MakeRows(made, 1, rows))));
  }
  mode_t Mode(const std::string& path) {
    struct stat info {};
    EXPECT_EQ(stat(path.c_str(), &info), 0) << path;
    return info.st_mode & 07777;
  }

  TempDir dir_;
};

TEST_F(StoreOpenTest, MakesAFolderForItsUserAloneWhateverTheUmask) {
  for (const mode_t mask : {0, 022, 0177, 0277}) {
    const std::string path = dir_ / ("s" + std::to_string(mask));
    const mode_t before = umask(mask);
    const auto store = Store::Open(path);
    umask(before);
    ASSERT_OK(store.status());
    EXPECT_EQ(Mode(path), 0700u);
    EXPECT_EQ(Mode(path + "/rings"), 0700u);
    EXPECT_EQ(Mode(path + "/data.mdb") & 077, 0u);
    EXPECT_EQ(Mode(path + "/lock.mdb") & 077, 0u);
    EXPECT_EQ((*store)->ring_dir(), path + "/rings");
  }
}

// Whoever copies the folder copies the mark, and not the inode. The mark came with a version later than the file's
// first.
TEST_F(StoreOpenTest, LockFileIsMarkedWithItsInode) {
  const std::string path = dir_ / "s/lock.mdb";
  const auto mark = [&] {
    std::uint64_t inode = 0;
    std::ifstream file(path, std::ios::binary);
    file.seekg(-static_cast<int>(sizeof inode), std::ios::end);
    file.read(reinterpret_cast<char*>(&inode), sizeof inode);
    return inode;
  };
  MakeStore(dir_ / "s");
  struct stat info {};
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(mark(), info.st_ino);
  std::filesystem::resize_file(path, static_cast<std::uint64_t>(info.st_size) - 8);
  ASSERT_OK(Store::Open(dir_ / "s").status());
  EXPECT_EQ(mark(), info.st_ino);
  std::filesystem::copy_file(path, dir_ / "copy");
  std::filesystem::rename(dir_ / "copy", path);
  ASSERT_OK(Store::Open(dir_ / "s").status());
  EXPECT_EQ(mark(), info.st_ino) << "a copy stays one";
}

TEST_F(StoreOpenTest, RelativePathBecomesAbsolute) {
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(dir_.path());
  const auto store = Store::Open("traces/");
  std::filesystem::current_path(before);
  EXPECT_EQ(Must(store)->path(), std::filesystem::canonical(dir_.path()).string() + "/traces");
}

TEST_F(StoreOpenTest, FolderWithOtherThingsKeepsItsModeAndThem) {
  const std::string path = dir_ / "project";
  std::filesystem::create_directory(path);
  std::ofstream(path + "/notes.txt") << "mine";
  chmod(path.c_str(), 0755);
  (void)Must(Store::Open(path));
  EXPECT_EQ(Mode(path), 0755u);
  EXPECT_TRUE(std::filesystem::exists(path + "/notes.txt"));
}

TEST_F(StoreOpenTest, LockFileIsRealBytes) {
  (void)Must(Store::Open(dir_ / "s"));
  struct stat info {};
  ASSERT_EQ(stat((dir_ / "s/lock.mdb").c_str(), &info), 0);
  EXPECT_GE(info.st_size, 8192);
  EXPECT_GE(info.st_blocks * 512, info.st_size);
}

// Where the pages in use end, as the newest meta page says; asked of a copy.
std::uint64_t UsedBytes(const std::string& data, const std::string& scratch) {
  std::filesystem::remove_all(scratch);
  std::filesystem::create_directory(scratch);
  std::filesystem::copy_file(data, scratch + "/data.mdb");
  MDB_env* env = nullptr;
  mdb_env_create(&env);
  EXPECT_EQ(mdb_env_open(env, scratch.c_str(), MDB_RDONLY, 0600), 0);
  MDB_envinfo info{};
  MDB_stat stat{};
  mdb_env_info(env, &info);
  mdb_env_stat(env, &stat);
  mdb_env_close(env);
  return (info.me_last_pgno + 1) * stat.ms_psize;
}

TEST_F(StoreOpenTest, DataFileIsNeverShorterThanItSays) {
  const auto store = Must(Store::Open(dir_ / "s"));
  for (std::uint64_t i = 0; i < 30; ++i) {
    std::deque<Row> rows;
    ASSERT_OK(store->Append(Borrow(MakeRows(rows, i, 1 + i * 7 % 60))));
    (void)Must(store->MergeOnce());
    EXPECT_GE(std::filesystem::file_size(dir_ / "s/data.mdb"), UsedBytes(dir_ / "s/data.mdb", dir_ / "copy"));
  }
}

TEST_F(StoreOpenTest, MissingStoreIsNotMadeUnlessAsked) {
  StoreOptions options;
  options.create_if_missing = false;
  EXPECT_EQ(Store::Open(dir_ / "none", options).status().code(), StatusCode::kNotFound);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "none"));
  std::filesystem::create_directory(dir_ / "empty");
  EXPECT_EQ(Store::Open(dir_ / "empty", options).status().code(), StatusCode::kNotFound);
  EXPECT_TRUE(std::filesystem::is_empty(dir_ / "empty"));
  EXPECT_EQ(Store::Open("").status().code(), StatusCode::kInvalidArgument);
}

TEST_F(StoreOpenTest, FileInsteadOfFolderIsRefused) {
  std::ofstream(dir_ / "file") << "x";
  ExpectRefused(dir_ / "file", StatusCode::kInvalidArgument, "is a file");
  ExpectRefused(dir_ / "file/below", StatusCode::kInvalidArgument, "a part of the path is a file");
}

TEST_F(StoreOpenTest, SymbolicLinkIsRefused) {
  MakeStore(dir_ / "s");
  std::filesystem::create_directory_symlink(dir_ / "s", dir_ / "link");
  ExpectRefused(dir_ / "link", StatusCode::kPermissionDenied, "symbolic link");
  std::filesystem::create_symlink(dir_ / "nowhere", dir_ / "dangling");
  ExpectRefused(dir_ / "dangling", StatusCode::kPermissionDenied, "symbolic link");
}

TEST_F(StoreOpenTest, LinksInsideTheFolderAreRefused) {
  std::filesystem::create_directory(dir_ / "s");
  std::ofstream(dir_ / "elsewhere") << "";
  std::filesystem::create_symlink(dir_ / "elsewhere", dir_ / "s/data.mdb");
  ExpectRefused(dir_ / "s", StatusCode::kPermissionDenied, "data.mdb");
  MakeStore(dir_ / "t");
  std::filesystem::create_hard_link(dir_ / "t/data.mdb", dir_ / "second");
  ExpectRefused(dir_ / "t", StatusCode::kPermissionDenied, "hard link");
  std::filesystem::create_directory(dir_ / "u");
  std::filesystem::create_directory_symlink(dir_.path(), dir_ / "u/rings");
  ExpectRefused(dir_ / "u", StatusCode::kPermissionDenied, "rings");
}

TEST_F(StoreOpenTest, FolderOthersMayWriteToIsRefused) {
  std::filesystem::create_directory(dir_ / "open");
  for (const mode_t mode : {0777, 0770, 0702}) {
    chmod((dir_ / "open").c_str(), mode);
    ExpectRefused(dir_ / "open", StatusCode::kPermissionDenied, "chmod 700");
  }
}

TEST_F(StoreOpenTest, FolderOfAnotherUserIsRefused) {
  if (geteuid() != 0) GTEST_SKIP() << "giving a folder to another user takes root";
  std::filesystem::create_directory(dir_ / "theirs");
  ASSERT_EQ(chown((dir_ / "theirs").c_str(), 12345, 12345), 0);
  ExpectRefused(dir_ / "theirs", StatusCode::kPermissionDenied, "belongs to user id 12345");
}

// A message and code from a child that may have given up rights.
std::pair<int, std::string> OpenInChild(const std::string& path, const std::function<bool()>& prepare) {
  int fds[2];
  if (pipe(fds) != 0) return {-1, ""};
  const pid_t pid = fork();
  if (pid == 0) {
    if (!prepare()) _exit(99);
    const auto opened = Store::Open(path);
    const std::string message = opened.status().message();
    if (write(fds[1], message.data(), message.size()) < 0) _exit(98);
    _exit(static_cast<int>(opened.status().code()));
  }
  close(fds[1]);
  std::string message(4096, '\0');
  const ssize_t size = read(fds[0], message.data(), message.size());
  close(fds[0]);
  message.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
  int status = 0;
  waitpid(pid, &status, 0);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, message};
}

TEST_F(StoreOpenTest, FolderThatCannotBeWrittenIsRefused) {
  std::filesystem::create_directory(dir_ / "parent");
  std::filesystem::create_directory(dir_ / "parent/frozen");
  const uid_t user = geteuid() == 0 ? 12345 : geteuid();
  ASSERT_EQ(chown((dir_ / "parent/frozen").c_str(), user, static_cast<gid_t>(-1)), 0);
  chmod((dir_ / "parent/frozen").c_str(), 0500);
  chmod((dir_ / "parent").c_str(), 0555);
  chmod(dir_.path().c_str(), 0755);
  const auto become_user = [user] { return geteuid() == user || setuid(user) == 0; };
  for (const std::string path : {dir_ / "parent/frozen", dir_ / "parent/new"}) {
    const auto [code, message] = OpenInChild(path, become_user);
    EXPECT_EQ(code, static_cast<int>(StatusCode::kPermissionDenied)) << message;
    EXPECT_NE(message.find(path), std::string::npos) << message;
    EXPECT_NE(message.find("write"), std::string::npos) << message;
  }
  chmod((dir_ / "parent").c_str(), 0755);
}

TEST_F(StoreOpenTest, TruncatedDataFileIsRefusedWithoutDying) {
  MakeStore(dir_ / "s", 3000);
  const std::string data = dir_ / "s/data.mdb";
  const std::uint64_t used = UsedBytes(data, dir_ / "copy");
  std::filesystem::resize_file(data, used);  // only room that was reserved is gone
  EXPECT_EQ(CountRows(*Must(Store::Open(dir_ / "s"))), 3000u);
  for (const std::uint64_t size : {used - 4096, used / 2, used / 10, std::uint64_t{5000}}) {
    std::filesystem::resize_file(data, size);
    ExpectRefused(dir_ / "s", StatusCode::kDataLoss, "cut off");
  }
  std::filesystem::resize_file(data, 100);
  ExpectRefused(dir_ / "s", StatusCode::kDataLoss, "not a store file");
}

TEST_F(StoreOpenTest, FileThatIsNoLmdbFileIsRefused) {
  std::filesystem::create_directory(dir_ / "s");
  std::ofstream(dir_ / "s/data.mdb") << std::string(100'000, 'x');
  ExpectRefused(dir_ / "s", StatusCode::kDataLoss, "not a store file");
}

// Opens the LMDB file at `path` with plain LMDB and lets `change` write to it.
void WithLmdb(const std::string& path, const std::function<void(MDB_txn*)>& change) {
  MDB_env* env = nullptr;
  mdb_env_create(&env);
  mdb_env_set_maxdbs(env, 10);
  mdb_env_set_mapsize(env, 64 << 20);
  ASSERT_EQ(mdb_env_open(env, path.c_str(), 0, 0600), 0);
  MDB_txn* txn = nullptr;
  ASSERT_EQ(mdb_txn_begin(env, nullptr, 0, &txn), 0);
  change(txn);
  ASSERT_EQ(mdb_txn_commit(txn), 0);
  mdb_env_close(env);
}

void Put(MDB_txn* txn, const char* table, const std::string& key, const std::string& value) {
  MDB_dbi dbi = 0;
  ASSERT_EQ(mdb_dbi_open(txn, table, MDB_CREATE, &dbi), 0);
  MDB_val k{key.size(), const_cast<char*>(key.data())}, v{value.size(), const_cast<char*>(value.data())};
  ASSERT_EQ(mdb_put(txn, dbi, &k, &v, 0), 0);
}

TEST_F(StoreOpenTest, LmdbFileOfAnotherProgramIsRefused) {
  std::filesystem::create_directory(dir_ / "s");
  WithLmdb(dir_ / "s", [](MDB_txn* txn) { Put(txn, "theirs", "key", "value"); });
  ExpectRefused(dir_ / "s", StatusCode::kUnsupported, "another program");
}

// Format 1 had no table of blobs, and one value for each open span.
TEST_F(StoreOpenTest, StoreOfFormat1IsReadAndBecomesOneOfTheNext) {
  MakeStore(dir_ / "s");
  ByteBuffer payload;
  RecordWriter(payload).Start(Trace(9), 5, 0, 1'000, SpanKind::kTool, "old");
  std::string records, more;
  AppendOpenRecord({RecordType::kStart, payload.bytes()}, records);
  RecordWriter(payload).Fields(5);
  AppendOpenRecord({RecordType::kFields, payload.bytes()}, more);
  RingId ring{};
  ring[0] = 1;
  WithLmdb(dir_ / "s", [&](MDB_txn* txn) {
    Put(txn, "meta", "format", std::string("\x01\0\0\0\0\0\0\0", 8));
    Put(txn, "open", OpenPrefix(ring, 5), EncodeOpen(records));
    MDB_dbi blobs = 0;
    ASSERT_EQ(mdb_dbi_open(txn, "blobs", 0, &blobs), 0);
    ASSERT_EQ(mdb_drop(txn, blobs, 1), 0);
  });
  const auto store = Must(Store::Open(dir_ / "s"));
  EXPECT_EQ(Must(store->Info()).format, kStoreFormat);
  EXPECT_EQ(Must(store->Info()).open_spans, 1u);
  EXPECT_EQ(Must(store->LoadRing(ring)).open.at(5), records);
  SpanBatch batch;
  batch.ring = ring;
  batch.open = {{5, more}, {5, more}};
  ASSERT_OK(store->Commit(batch));
  EXPECT_EQ(Must(store->LoadRing(ring)).open.at(5), records + more + more);
  EXPECT_TRUE(Must(store->Blobs()).empty());
  batch.open.clear();
  batch.closed = {5};
  ASSERT_OK(store->Commit(batch));
  EXPECT_EQ(Must(store->Info()).open_spans, 0u);
}

TEST_F(StoreOpenTest, NewerFormatIsRefusedNamingBoth) {
  MakeStore(dir_ / "s");
  WithLmdb(dir_ / "s", [](MDB_txn* txn) { Put(txn, "meta", "format", std::string("\x07\0\0\0\0\0\0\0", 8)); });
  ExpectRefused(dir_ / "s", StatusCode::kUnsupported, "format 7");
  ExpectRefused(dir_ / "s", StatusCode::kUnsupported, "up to " + std::to_string(kStoreFormat));
}

TEST_F(StoreOpenTest, DamagedSegmentIsNamedByVerifyAndTheOthersStayReadable) {
  MakeStore(dir_ / "s");
  MakeStore(dir_ / "s");
  MakeStore(dir_ / "s");
  WithLmdb(dir_ / "s", [](MDB_txn* txn) {
    Put(txn, "chunks", std::string("\0\0\0\0\0\0\0\x02\0\0\0\0", 12), std::string(3000, 'x'));
    Put(txn, "chunks", std::string("\0\0\0\0\0\0\0\x03\0\0\0\1", 12), std::string(3000, 'x'));
    Put(txn, "chunks", std::string("\0\0\0\0\0\0\0\x09\0\0\0\0", 12), "orphan");
    Put(txn, "cursors", std::string(20, 'r'), "garbage");
    Put(txn, "open", std::string(24, 'r'), "garbage");
  });
  StoreOptions options;
  options.merge_fan_in = 2;
  const auto store = Must(Store::Open(dir_ / "s", options));
  const VerifyReport report = Must(store->Verify());
  EXPECT_EQ(report.segments, 3u);
  ASSERT_EQ(report.problems.size(), 5u);
  EXPECT_NE(report.problems[0].find("segment 2"), std::string::npos) << report.problems[0];
  EXPECT_NE(report.problems[1].find("segment 3"), std::string::npos) << report.problems[1];
  const auto view = Must(store->Read());
  EXPECT_EQ(Must(RowsAsText(Must(view->Load(view->segments()[0])))).size(), 100u);
  EXPECT_EQ(view->Load(view->segments()[1]).status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(RowsAsText(Must(view->Load(view->segments()[2]))).status().code(), StatusCode::kDataLoss);
  // Merging reports each damaged segment once and then leaves it alone.
  int errors = 0;
  for (int i = 0; i < 5; ++i) errors += !store->MergeOnce().ok();
  EXPECT_EQ(errors, 2);
}

class FullDiskTest : public StoreOpenTest {
 protected:
  void SetUp() override {
    mount_ = dir_ / "mount";
    std::filesystem::create_directory(mount_);
    if (mount("tmpfs", mount_.c_str(), "tmpfs", 0, "size=2m,mode=700") != 0) {
      mount_.clear();
      GTEST_SKIP() << "a small file system cannot be mounted here: " << strerror(errno);
    }
  }
  void TearDown() override {
    if (!mount_.empty()) umount2(mount_.c_str(), MNT_DETACH);
  }
  void Fill(std::size_t leave_bytes) {
    std::ofstream filler(mount_ + "/filler");
    const std::string block(4096, 'x');
    while (filler << block && filler.flush()) {
    }
    filler.close();
    std::filesystem::resize_file(mount_ + "/filler", std::filesystem::file_size(mount_ + "/filler") - leave_bytes);
  }
  std::string mount_;
};

TEST_F(FullDiskTest, CommitThatFindsTheDiskFullChangesNothingAndWorksLater) {
  const auto store = Must(Store::Open(mount_ + "/s"));
  std::uint64_t stored = 0;
  Status status;
  while (status.ok()) {
    std::deque<Row> rows;
    status = store->Append(Borrow(MakeRows(rows, stored, 100)));
    if (status.ok()) stored += 100;
    ASSERT_LT(stored, 100'000u);
  }
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status.message();
  EXPECT_NE(status.message().find("disk is full"), std::string::npos) << status.message();
  EXPECT_NE(status.message().find(mount_), std::string::npos) << status.message();
  EXPECT_EQ(CountRows(*store), stored);
  ASSERT_EQ(mount("tmpfs", mount_.c_str(), "tmpfs", MS_REMOUNT, "size=16m,mode=700"), 0);
  std::deque<Row> rows;
  ASSERT_OK(store->Append(Borrow(MakeRows(rows, 1, 100))));
  EXPECT_EQ(CountRows(*store), stored + 100);
  EXPECT_EQ(Must(store->Verify()).problems, std::vector<std::string>{});
}

// A store whose free pages have been given back to a disk that others have filled.
TEST_F(FullDiskTest, SpansCanBeDroppedWhereNothingIsLeft) {
  ASSERT_EQ(mount("tmpfs", mount_.c_str(), "tmpfs", MS_REMOUNT, "size=64m,mode=700"), 0);
  const auto store = Must(Store::Open(mount_ + "/s"));
  std::mt19937_64 random(1);
  std::string text(200'000, '\0');
  for (std::uint64_t n = 0; n < 80; ++n) {
    for (char& c : text) c = static_cast<char>(' ' + random() % 90);
    Row row(Trace(n + 1), n + 1);
    row.Set(Column::kInput, Value::String(text));
    ASSERT_OK(store->Append(std::span(&row.row(), 1)));
  }
  ASSERT_OK(store->SetRetention({.max_bytes = 8 << 20}));
  EXPECT_GT(Must(store->DropExpired(0)), 20u);
  ASSERT_OK(store->ReleaseFreeSpace());
  Fill(0);
  ASSERT_OK(store->SetRetention({.max_bytes = 1 << 20}));
  EXPECT_GT(Must(store->DropExpired(0)), 20u);
  EXPECT_GT(std::filesystem::space(mount_).available, 2u << 20) << "what they took is there again";
  EXPECT_EQ(Must(store->Verify()).problems, std::vector<std::string>{});
}

TEST_F(FullDiskTest, FirstOpenOnAFullDiskIsRefusedWithoutDying) {
  std::filesystem::create_directory(mount_ + "/s");
  chmod((mount_ + "/s").c_str(), 0700);
  for (const std::size_t left : {0, 8192, 73'728, 90'112, 300'000}) {
    Fill(left);
    const auto opened = Store::Open(mount_ + "/s");
    if (!opened.ok()) {
      EXPECT_EQ(opened.status().code(), StatusCode::kResourceExhausted) << left << ": " << opened.status().message();
      EXPECT_NE(opened.status().message().find("disk is full"), std::string::npos) << opened.status().message();
    } else {
      EXPECT_GE(left, 90'112u);
    }
  }
}

}  // namespace
}  // namespace spanbox::testing
