#include "store/feeds.h"

#include <algorithm>

#include "store/store_impl.h"

namespace spanbox {
namespace {

constexpr std::string_view kPrefix = "feed ";
constexpr std::size_t kMaxNameBytes = 200;

Status CheckName(std::string_view name) {
  if (!name.empty() && name.size() <= kMaxNameBytes) return OkStatus();
  return InvalidArgument("the name of a feed has 1 to " + std::to_string(kMaxNameBytes) + " bytes, this one has " +
                         std::to_string(name.size()));
}

Result<FeedRecord> LoadFeed(const Txn& txn, std::string_view name) {
  SPANBOX_ASSIGN_OR_RETURN(const auto stored, txn.Get(Table::kMeta, FeedKey(name)));
  if (!stored) return FeedRecord{};
  return ParseFeed(*stored);
}

Status PutFeed(WriteTxn& txn, const std::string& key, const FeedRecord& feed) {
  return txn.Put(Table::kMeta, key, AsBytes(Encode(feed)));
}

// Every segment there is, by id.
Result<std::vector<FeedSegment>> AllSegments(const Txn& txn) {
  std::vector<FeedSegment> all;
  for (const auto& [table, of] :
       {std::pair{Table::kSegments, FeedSegment::Of::kSpans}, std::pair{Table::kRollups, FeedSegment::Of::kRollups},
        std::pair{Table::kScores, FeedSegment::Of::kScores}}) {
    const auto add = [&, of = of](const SegmentRecord& record) {
      all.push_back({record.meta.id, record.meta.rows, of});
      return OkStatus();
    };
    SPANBOX_RETURN_IF_ERROR(ForEachSegment(txn, table, add, [](std::uint64_t, const Status&) {}));
  }
  std::ranges::sort(all, {}, &FeedSegment::id);
  return all;
}

Status Changed(std::string_view name) {
  return Unavailable("the feed \"" + std::string(name) +
                     "\" has changed, or segments were merged, since it was read; nothing was stored: read it again");
}

}  // namespace

std::string FeedKey(std::string_view name) { return std::string(kPrefix) + std::string(name); }

Result<FeedRecords> LoadFeeds(const Txn& txn) {
  FeedRecords feeds;
  SPANBOX_RETURN_IF_ERROR(txn.Scan(Table::kMeta, kPrefix, [&](std::string_view key, Bytes value) -> Result<bool> {
    auto feed = ParseFeed(value);
    if (feed.ok()) feeds.emplace(key, *std::move(feed));
    return true;
  }));
  return feeds;
}

std::optional<std::string> ClassOf(const FeedRecords& feeds, std::uint64_t segment) {
  std::string classes;
  for (const auto& [key, feed] : feeds) {
    if (feed.taking == segment) return std::nullopt;
    classes += feed.HasTaken(segment) ? 't' : 'w';
  }
  return classes;
}

Result<bool> CanReplace(const Txn& txn, std::span<const std::uint64_t> sources) {
  SPANBOX_ASSIGN_OR_RETURN(const FeedRecords feeds, LoadFeeds(txn));
  const auto first = ClassOf(feeds, sources.front());
  return first && std::ranges::all_of(sources, [&](std::uint64_t id) { return ClassOf(feeds, id) == first; });
}

Status ReplaceInFeeds(WriteTxn& txn, std::span<const std::uint64_t> sources, std::uint64_t result) {
  SPANBOX_ASSIGN_OR_RETURN(FeedRecords feeds, LoadFeeds(txn));
  for (auto& [key, feed] : feeds) {
    const bool taken = feed.HasTaken(sources.front());
    const bool under_way = std::ranges::find(sources, feed.taking) != sources.end();
    if (!taken && !under_way) continue;
    if (under_way) feed.taking = feed.taken_rows = 0;
    std::erase_if(feed.taken, [&](std::uint64_t id) { return std::ranges::find(sources, id) != sources.end(); });
    if (taken && result != 0) feed.taken.push_back(result);  // the newest there is: they stay in order
    SPANBOX_RETURN_IF_ERROR(PutFeed(txn, key, feed));
  }
  return OkStatus();
}

Result<Feed> StoreImpl::ReadFeed(std::string_view name) {
  SPANBOX_RETURN_IF_ERROR(CheckName(name));
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  SPANBOX_ASSIGN_OR_RETURN(const auto txn, env->Read());
  SPANBOX_ASSIGN_OR_RETURN(FeedRecord record, LoadFeed(*txn, name));
  Feed feed{.turn = record.turn, .state = std::move(record.state)};
  SPANBOX_ASSIGN_OR_RETURN(const std::vector<FeedSegment> all, AllSegments(*txn));
  for (const FeedSegment& segment : all) {
    if (!record.HasTaken(segment.id)) feed.waiting.push_back(segment);
    if (segment.id != record.taking) continue;  // of one that retention has dropped nothing is left to take
    feed.taking = record.taking;
    feed.taken_rows = record.taken_rows;
  }
  return feed;
}

Status StoreImpl::AdvanceFeed(std::string_view name, const FeedStep& step) {
  SPANBOX_RETURN_IF_ERROR(CheckName(name));
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  return env->Write(step.state.size(), [&](WriteTxn& txn) -> Status {
    SPANBOX_ASSIGN_OR_RETURN(FeedRecord feed, LoadFeed(txn, name));
    if (feed.turn != step.turn) return Changed(name);
    SPANBOX_ASSIGN_OR_RETURN(const std::vector<FeedSegment> all, AllSegments(txn));
    const auto is_there = [&](std::uint64_t id) { return std::ranges::binary_search(all, id, {}, &FeedSegment::id); };
    const bool there = std::ranges::all_of(step.taken, is_there) && (step.taking == 0 || is_there(step.taking));
    if (!there) return Changed(name);
    feed.taken.insert(feed.taken.end(), step.taken.begin(), step.taken.end());
    std::ranges::sort(feed.taken);
    const FeedRecord before = feed;
    feed.taken.clear();
    bool without_gap = true;  // all up to here are taken: one number says so
    for (const FeedSegment& segment : all) {
      const bool taken = before.HasTaken(segment.id);
      without_gap &= taken;
      if (without_gap) feed.taken_until = std::max(feed.taken_until, segment.id);
      if (taken && segment.id > feed.taken_until) feed.taken.push_back(segment.id);
    }
    feed.turn = step.turn + 1;
    feed.taking = step.taking;
    feed.taken_rows = step.taken_rows;
    feed.state = step.state;
    return PutFeed(txn, FeedKey(name), feed);
  });
}

Status StoreImpl::DropFeed(std::string_view name) {
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  return env->Write(0, [&](WriteTxn& txn) { return txn.Delete(Table::kMeta, FeedKey(name)); });
}

Result<std::vector<std::string>> StoreImpl::Feeds() {
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  SPANBOX_ASSIGN_OR_RETURN(const auto txn, env->Read());
  std::vector<std::string> names;
  SPANBOX_RETURN_IF_ERROR(txn->Scan(Table::kMeta, kPrefix, [&](std::string_view key, Bytes) -> Result<bool> {
    names.emplace_back(key.substr(kPrefix.size()));
    return true;
  }));
  return names;
}

}  // namespace spanbox
