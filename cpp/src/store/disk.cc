#include "store/disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <lmdb.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <system_error>

namespace spanbox {
namespace {

// Room for LMDB's head and slots of 64 bytes each for more than 1,024 readers. Behind them stands the inode of the
// file, too little for a slot, so LMDB leaves it alone: a file with another inode is a copy, which `spanbox doctor`
// looks for.
constexpr off_t kLockFileBytes = 17 * 4096;
using LockFileMark = std::uint64_t;
constexpr std::uint64_t kFullDiskBytes = 1 << 20;  // less free than this: an I/O error means "full"

bool DiskIsFull(const std::string& folder) {
  struct statvfs info {};
  if (statvfs(folder.c_str(), &info) != 0) return false;
  return std::uint64_t{info.f_bavail} * info.f_frsize < kFullDiskBytes;
}

Status Refused(const std::string& folder, const std::string& why) {
  return PermissionDenied("cannot open the store " + folder + ": " + why);
}

// Network file systems neither lock nor map files as one machine's processes need it.
std::string_view NetworkFileSystem(const std::string& folder) {
  struct statfs info {};
  if (statfs(folder.c_str(), &info) != 0) return {};
  switch (static_cast<std::uint32_t>(info.f_type)) {
    case 0x6969:
      return "NFS";
    case 0x517B:
    case 0xFF534D42:
    case 0xFE534D42:
      return "SMB";
    case 0x00C36400:
      return "Ceph";
    case 0x5346414F:
      return "AFS";
    default:
      return {};
  }
}

bool IsEmpty(const std::string& folder) {
  std::error_code error;
  return std::filesystem::is_empty(folder, error) && !error;
}

// One of the store's own files or folders. `type`: S_IFREG or S_IFDIR.
Status CheckOwned(const std::string& folder, const std::string& name, mode_t type) {
  struct stat info {};
  const std::string path = folder + "/" + name;
  if (lstat(path.c_str(), &info) != 0) {
    return errno == ENOENT ? OkStatus() : LmdbError(errno, folder, "cannot open");
  }
  if ((info.st_mode & S_IFMT) != type) return Refused(folder, name + " in it is not what it should be; remove it");
  if (info.st_uid != geteuid()) return Refused(folder, name + " in it belongs to another user; remove it");
  if (type == S_IFREG && info.st_nlink != 1) return Refused(folder, name + " in it has a second name (hard link)");
  return OkStatus();
}

Status CheckFolder(const std::string& folder, const struct stat& info) {
  if (S_ISLNK(info.st_mode)) return Refused(folder, "it is a symbolic link; give the folder it points to");
  if (!S_ISDIR(info.st_mode)) {
    return InvalidArgument("cannot open the store " + folder +
                           ": it is a file; a store is a folder, choose another path");
  }
  if (info.st_uid != geteuid()) {
    return Refused(folder, "it belongs to user id " + std::to_string(info.st_uid) + ", and you are " +
                               std::to_string(geteuid()) + "; open a store of your own");
  }
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return Refused(folder, "other users may write to it; run chmod 700 on it, or choose another folder");
  }
  if (access(folder.c_str(), R_OK | W_OK | X_OK) != 0) {
    return Refused(folder, std::string(std::strerror(errno)) + "; a store needs a folder you can write to");
  }
  return OkStatus();
}

// Two descriptors must conflict on flock; a file system that does not even do that is not trusted with a map.
Status CheckLocks(const std::string& folder) {
  const int a = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const int b = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  // The first one waits: another process may just be making the store.
  const bool works = a >= 0 && b >= 0 && flock(a, LOCK_SH) == 0 && flock(b, LOCK_EX | LOCK_NB) != 0;
  if (b >= 0) close(b);
  if (a >= 0) close(a);
  if (works) return OkStatus();
  return Unsupported("cannot make a store in " + folder +
                     ": this file system does not lock files; choose a local disk");
}

}  // namespace

Status LmdbError(int code, const std::string& folder, std::string_view what) {
  const std::string head = std::string(what) + " the store " + folder + ": ";
  switch (code) {
    case ENOSPC:
    case EDQUOT:
    case EIO:
      if (code != EIO || DiskIsFull(folder)) {
        return ResourceExhausted(head + "the disk is full; free some space and try again");
      }
      return Unavailable(head + "the disk reports an error (EIO); look at the system log and check the disk");
    case EACCES:
    case EPERM:
    case EROFS:
      return PermissionDenied(head + std::strerror(code) + "; a store needs a folder you can write to");
    case ENOENT:
      return NotFound(head + "there is none; check the path");
    case ENOTDIR:
      return InvalidArgument(head + "a part of the path is a file; choose another path");
    case MDB_INVALID:
      return DataLoss(head + "data.mdb is not a store file, or is damaged; restore it from a backup or move it away");
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
      return DataLoss(head + "data.mdb is damaged (" + mdb_strerror(code) +
                      "); restore it from a backup or move it away");
    case MDB_VERSION_MISMATCH:
      return Unsupported(head + "data.mdb or lock.mdb was made by another version of LMDB; use one version of it");
    case MDB_READERS_FULL:
      return Unavailable(head + "too many queries at once (1,024); try again");
    case EAGAIN:
      return Unavailable(head +
                         "a process of another container uses the same process id; give each container its own "
                         "store, or share the pid namespace");
    case MDB_MAP_FULL:
    case ENOMEM:
      return ResourceExhausted(head + "no address space or memory is left");
    case MDB_TXN_FULL:
      return ResourceExhausted(head + "one commit holds too much; store fewer spans at once");
    case MDB_BAD_VALSIZE:
      return InvalidArgument(head + "a key or value has an impossible size");
    default:
      return Unavailable(head + mdb_strerror(code));
  }
}

std::string AbsolutePath(const std::string& path) {
  std::error_code error;
  std::string absolute = std::filesystem::absolute(path, error).lexically_normal().string();
  while (absolute.size() > 1 && absolute.back() == '/') absolute.pop_back();
  return absolute;
}

Status PrepareFolder(const std::string& folder, bool create) {
  struct stat info {};
  if (lstat(folder.c_str(), &info) != 0) {
    if (errno != ENOENT) return LmdbError(errno, folder, "cannot open");
    if (!create) return NotFound("there is no store at " + folder + "; check the path, or record some spans first");
    std::error_code error;
    std::filesystem::create_directories(std::filesystem::path(folder).parent_path(), error);
    if (error) return LmdbError(error.value(), folder, "cannot make");
    if (mkdir(folder.c_str(), 0700) == 0) {
      chmod(folder.c_str(), 0700);  // a umask may have taken bits of ours
    } else if (errno != EEXIST) {
      return LmdbError(errno, folder, "cannot make");
    }
    if (lstat(folder.c_str(), &info) != 0) return LmdbError(errno, folder, "cannot open");
  }
  SPANBOX_RETURN_IF_ERROR(CheckFolder(folder, info));
  for (const char* file : {"data.mdb", "lock.mdb"}) {
    SPANBOX_RETURN_IF_ERROR(CheckOwned(folder, file, S_IFREG));
  }
  const bool exists = access((folder + "/data.mdb").c_str(), F_OK) == 0;
  if (!exists && !create)
    return NotFound("there is no store at " + folder + "; check the path, or record some spans first");
  if (const auto network = NetworkFileSystem(folder); !network.empty()) {
    return Unsupported("cannot open the store " + folder + ": it lies on " + std::string(network) +
                       ", which cannot be shared safely between processes; choose a local disk");
  }
  if (!exists) SPANBOX_RETURN_IF_ERROR(CheckLocks(folder));
  // A folder that holds other things keeps its mode: it is not ours alone.
  if ((exists || IsEmpty(folder)) && (info.st_mode & 07777) != 0700 && chmod(folder.c_str(), 0700) != 0) {
    return LmdbError(errno, folder, "cannot open");
  }
  const std::string rings = folder + "/rings";
  if (mkdir(rings.c_str(), 0700) != 0 && errno != EEXIST) return LmdbError(errno, folder, "cannot make");
  SPANBOX_RETURN_IF_ERROR(CheckOwned(folder, "rings", S_IFDIR));
  if (chmod(rings.c_str(), 0700) != 0) return LmdbError(errno, folder, "cannot open");
  return OkStatus();
}

Status PreallocateLockFile(const std::string& folder) {
  const std::string path = folder + "/lock.mdb";
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return LmdbError(errno, folder, "cannot open");
  int code = 0;
  struct stat info {};
  if (fstat(fd, &info) != 0) code = errno;
  const LockFileMark mark = info.st_ino;
  constexpr off_t kMarkedBytes = kLockFileBytes + static_cast<off_t>(sizeof mark);
  if (code == 0 && info.st_size < kMarkedBytes) {
    std::string missing(static_cast<std::size_t>(std::max<off_t>(kLockFileBytes - info.st_size, 0)), '\0');
    missing.append(reinterpret_cast<const char*>(&mark), sizeof mark);
    const ssize_t wrote = pwrite(fd, missing.data(), missing.size(), std::min(info.st_size, kLockFileBytes));
    if (wrote < 0) code = errno;
    if (wrote >= 0 && static_cast<std::size_t>(wrote) != missing.size()) code = ENOSPC;
  }
  close(fd);
  return code == 0 ? OkStatus() : LmdbError(code, folder, "cannot open");
}

FolderLock::FolderLock(const std::string& path, bool wait) : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (fd_ < 0) return;
  int code = 0;
  do {
    code = flock(fd_, wait ? LOCK_EX : LOCK_EX | LOCK_NB);
  } while (code != 0 && errno == EINTR);
  held_ = code == 0;
}

FolderLock::~FolderLock() {
  if (fd_ < 0) return;
  if (held_) flock(fd_, LOCK_UN);  // a forked child may hold a copy of the descriptor
  close(fd_);
}

}  // namespace spanbox
