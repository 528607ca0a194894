// What an environment does about pages that are damaged: it looks for them when it is opened, and keeps LMDB away.

#include <unistd.h>

#include <cstring>
#include <string>

#include "store/env.h"

namespace spanbox {
namespace {

constexpr int kMaxStates = 24;

}  // namespace

// A state whose meta page two later commits have overwritten is given up for a newer one.
Status Env::CheckPages() {
  Status status;
  for (int attempt = 0; attempt < kMaxStates; ++attempt) {
    MDB_txn* txn = nullptr;
    int fd = -1;
    const bool reads = mdb_env_get_fd(env_, &fd) == 0 && BeginRead(env_, &txn) == 0;
    // A process that gets no slot for readers keeps the pages in place by being the one who writes.
    if (!reads && mdb_txn_begin(env_, nullptr, 0, &txn) != 0) return OkStatus();  // whoever reads next says so
    auto damage = CheckTrees(fd, mdb_txn_id(txn) - (reads ? 0 : 1), folder_);
    mdb_txn_abort(txn);
    status = damage.status();
    if (damage.ok()) damage_ = *std::move(damage);
    if (status.code() != StatusCode::kUnavailable) break;
  }
  return status;
}

Status Env::Damaged() const {
  return damage_.what.empty() ? OkStatus() : DataLoss(damage_.what + "; what is not damaged can be read");
}

// LMDB may look at the page behind the last key that is asked for, and at the one before the first.
Status Env::CheckReadable(Table table, std::string_view from, std::string_view prefix) const {
  for (const BrokenKeys& keys : damage_.broken) {
    if (keys.table != kTableNames[static_cast<int>(table)]) continue;
    const bool behind = keys.after > prefix && !keys.after.starts_with(prefix);
    if (!behind && (!keys.up_to || *keys.up_to >= from)) return Damaged();
  }
  return OkStatus();
}

Status Env::CheckKeyReadable(Table table, std::string_view key) const {
  for (const BrokenKeys& keys : damage_.broken) {
    if (keys.table != kTableNames[static_cast<int>(table)]) continue;
    const bool before = !keys.after.empty() && key <= keys.after;
    if (!before && (!keys.up_to || key < *keys.up_to)) return Damaged();
  }
  return OkStatus();
}

// LMDB frees as many pages of a large value as the first of them says. A number that is damaged would take pages from
// others; this is the only place where it can be seen in time.
Status WriteTxn::CheckOld(Table table, std::string_view key) const {
  SPANBOX_ASSIGN_OR_RETURN(const auto old, Get(table, key));
  const auto page_bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  constexpr std::size_t kHeadBytes = 16, kNodeBytes = 8;
  const std::size_t most = (page_bytes - kHeadBytes) / 2 / 2 * 2 - 2;  // of a value that lies beside its key
  if (!old || kNodeBytes + key.size() + old->size() <= most) return OkStatus();
  std::uint16_t flags = 0;
  std::uint32_t pages = 0;
  std::memcpy(&flags, old->data() - kHeadBytes + 10, sizeof flags);
  std::memcpy(&pages, old->data() - kHeadBytes + 12, sizeof pages);
  constexpr std::uint16_t kOverflow = 4, kDirty = 16;
  if ((flags & ~kDirty) == kOverflow && pages == (kHeadBytes - 1 + old->size()) / page_bytes + 1) return OkStatus();
  return DataLoss("the store is damaged: a value of table " + std::string(kTableNames[static_cast<int>(table)]) +
                  " has lost its first page, and cannot be taken out");
}

}  // namespace spanbox
