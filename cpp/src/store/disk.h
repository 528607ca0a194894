// What stands between a path and an LMDB environment: the folder's own checks, and messages for what goes wrong.
//
// Thread rule: functions, any thread; but while an environment of the folder is open in this process, only LmdbError
// may be called (closing any descriptor of LMDB's files drops LMDB's locks).
#pragma once

#include <string>
#include <string_view>

#include "spanbox/status.h"

namespace spanbox {

// "<what> the store <folder>: <why>; <what to do>". `code`: of LMDB or errno. A full disk shows as EIO in LMDB (short
// write), so free space is asked for before the disk is blamed.
Status LmdbError(int code, const std::string& folder, std::string_view what);

// Absolute and without trailing slashes; symbolic links in the parents stay.
std::string AbsolutePath(const std::string& path);

// Checks that `folder` is a folder of this user that others cannot write to, and not behind a symbolic link; makes it
// (0700, with rings/) when `create`. NotFound: there is no store and none may be made.
Status PrepareFolder(const std::string& folder, bool create);

// Writes lock.mdb with real bytes: LMDB maps it, and a hole in it on a full disk kills the process.
// REQUIRES: the FolderLock.
Status PreallocateLockFile(const std::string& folder);

// An advisory lock on a folder among processes; released at the end of scope, also for forked children.
class FolderLock {
 public:
  explicit FolderLock(const std::string& path, bool wait = true);
  ~FolderLock();
  bool held() const { return held_; }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int fd_ = -1;
  bool held_ = false;
};

}  // namespace spanbox
