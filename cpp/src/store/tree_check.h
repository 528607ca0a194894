// Whether the pages of data.mdb make trees that LMDB can walk. LMDB trusts what it reads: a damaged page makes it
// abort, or read beyond its map. So a store is looked over once, when a process opens it, before LMDB follows any page.
//
// Checked are the meta pages and the pages of every table and of the list of free pages: their places, sizes, order of
// keys, and counts. What values hold is not: they have checksums of their own. Reads some pages a thousand values.
//
// Thread rule: functions; any thread. Ownership: borrows the descriptor. Invariant: nothing is mapped, and nothing that
// the bytes say is trusted.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "spanbox/status.h"

namespace spanbox {

// Of the file that LMDB is about to open. OK also when there is none, or an empty one.
Status CheckMetaPages(const std::string& folder);

// What cannot be walked: the keys of a table between the last one before it and the first one behind it.
struct BrokenKeys {
  std::string table, after;               // `after` is not broken; empty: from the beginning
  std::optional<std::string> up_to = {};  // nor is this; nullopt: to the end
};
// Reading is safe beside the broken keys; writing is not, for it takes pages from the list of free ones.
struct TreeDamage {
  std::string what;  // the first thing found; empty: none
  std::vector<BrokenKeys> broken;
};

// Of the state that the transaction sees. REQUIRES: it is open, so that its pages stay. DataLoss: nothing can be read.
// Unavailable: two commits have come since it began, and its meta page is gone; begin another one.
Result<TreeDamage> CheckTrees(int fd, std::uint64_t txn_id, const std::string& folder);

}  // namespace spanbox
