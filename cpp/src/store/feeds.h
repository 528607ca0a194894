// Feeds: who has taken which segments, kept right while segments are merged, packed and erased from.
//
// Every segment is, for every feed, taken or waiting, and one may be under way. A merge joins segments of one class
// only, so what comes of it is of that class, too: a feed that had taken all sources has taken their result.
//
// Thread rule: functions; call inside the transaction that is given. Units: segment ids.
// Invariants:
//   1. A segment that holds a row which the feed has not taken is never marked as taken.
//   2. A segment that holds a row which it has taken is waiting only when it is under way, or rows were erased of it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "store/manifest.h"

namespace spanbox {

std::string FeedKey(std::string_view name);

using FeedRecords = std::map<std::string, FeedRecord>;  // by key; those that are damaged are left out
Result<FeedRecords> LoadFeeds(const Txn& txn);

// Segments with equal classes may be merged; nullopt: it is under way, and must stay as it is.
std::optional<std::string> ClassOf(const FeedRecords& feeds, std::uint64_t segment);

// Whether one segment may take the place of these.
Result<bool> CanReplace(const Txn& txn, std::span<const std::uint64_t> sources);

// One segment (0: none) is in their place now. REQUIRES: CanReplace, or a single source, which waits again if it was
// under way.
Status ReplaceInFeeds(WriteTxn& txn, std::span<const std::uint64_t> sources, std::uint64_t result);

}  // namespace spanbox
