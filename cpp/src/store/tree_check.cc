// The layout is LMDB's data format 1, as lmdb 0.9 writes it on 64-bit machines.
#include "store/tree_check.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace spanbox {
namespace {

constexpr std::uint32_t kMagic = 0xBEEFC0DE, kFormat = 1;
constexpr std::size_t kHeadBytes = 16, kNodeBytes = 8, kTreeBytes = 48;
constexpr std::size_t kFreeTreeAt = kHeadBytes + 24, kMainTreeAt = kFreeTreeAt + kTreeBytes;
constexpr std::size_t kMetaBytes = kMainTreeAt + kTreeBytes + 16;
constexpr std::uint16_t kBranch = 1, kLeaf = 2, kMeta = 8, kDirty = 16;
constexpr std::uint16_t kBigValue = 1, kSubTree = 2;
constexpr std::uint64_t kNoPage = ~std::uint64_t{0};
constexpr int kMaxDepth = 32;  // LMDB's own

template <typename T>
T At(std::string_view bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

struct Tree {
  std::uint16_t depth = 0;
  std::uint64_t branches = 0, leaves = 0, overflows = 0, entries = 0, root = kNoPage;
};
Tree TreeAt(std::string_view bytes, std::size_t at) {
  return {At<std::uint16_t>(bytes, at + 6),  At<std::uint64_t>(bytes, at + 8),  At<std::uint64_t>(bytes, at + 16),
          At<std::uint64_t>(bytes, at + 24), At<std::uint64_t>(bytes, at + 32), At<std::uint64_t>(bytes, at + 40)};
}

struct Meta {
  std::uint32_t page_bytes = 0;
  Tree free, main;
  std::uint64_t last_page = 0, txn_id = 0;
};

Status Damaged(const std::string& folder, std::string_view what) {
  return DataLoss("the store " + folder + " is damaged: in data.mdb " + std::string(what) +
                  ". Restore it from a backup, or move the folder away");
}

bool ReadAt(int fd, std::uint64_t offset, std::string& into) {
  return pread(fd, into.data(), into.size(), static_cast<off_t>(offset)) == static_cast<ssize_t>(into.size());
}

std::optional<Meta> ReadMeta(int fd, std::uint64_t offset) {
  std::string page(kMetaBytes, '\0');
  if (!ReadAt(fd, offset, page)) return std::nullopt;
  const bool right = (At<std::uint16_t>(page, 10) & kMeta) != 0 && At<std::uint32_t>(page, kHeadBytes) == kMagic &&
                     (At<std::uint32_t>(page, kHeadBytes + 4) & 0xFFFF) == kFormat;
  if (!right) return std::nullopt;
  Meta meta;
  meta.page_bytes = At<std::uint32_t>(page, kFreeTreeAt);
  meta.free = TreeAt(page, kFreeTreeAt);
  meta.main = TreeAt(page, kMainTreeAt);
  meta.last_page = At<std::uint64_t>(page, kMetaBytes - 16);
  meta.txn_id = At<std::uint64_t>(page, kMetaBytes - 8);
  const std::uint32_t size = meta.page_bytes;
  if (size < 512 || size > 65'536 || (size & (size - 1)) != 0) return std::nullopt;
  return meta;
}

class Walk {
 public:
  Walk(int fd, const Meta& meta, const std::string& folder)
      : fd_(fd), meta_(meta), folder_(folder), used_(meta.last_page + 1) {}

  // The tree of tables must be whole; of the others it is said what is broken.
  Result<TreeDamage> Check() {
    used_[0] = used_[1] = true;
    State tables;
    SPANBOX_RETURN_IF_ERROR(CheckTree(meta_.main, tables));
    for (const auto& [name, tree] : tables.tables) {
      State table{.kind = Kind::kTable, .table = name};
      Note(CheckTree(tree, table));
    }
    State free{.kind = Kind::kFree};
    Note(CheckTree(meta_.free, free));
    return std::move(damage_);
  }

 private:
  enum class Kind { kMain, kTable, kFree };
  struct State {  // of one tree
    Kind kind = Kind::kMain;
    std::string table = {};
    Tree seen = {};
    std::optional<std::string> last = {};  // key
    std::string floor = {};                // the next key is not below it
    std::vector<std::pair<std::string, Tree>> tables = {};
  };
  struct Node {
    std::uint16_t flags = 0;
    std::uint64_t child = 0;  // of a branch
    std::uint32_t size = 0;   // of a leaf's value
    std::string_view key, value;
  };

  Status Wrong(std::uint64_t page, std::string_view what) const {
    return Damaged(folder_, "page " + std::to_string(page) + " " + std::string(what));
  }

  Status Use(std::uint64_t page, std::uint64_t count) {
    if (page > meta_.last_page || count > meta_.last_page + 1 - page) return Wrong(page, "lies beyond the end");
    for (std::uint64_t p = page; p < page + count; ++p) {
      if (used_[p]) return Wrong(p, "is used twice");
      used_[p] = true;
    }
    return OkStatus();
  }

  // Keys of the list of free pages are numbers.
  static bool Less(Kind kind, std::string_view a, std::string_view b) {
    if (kind != Kind::kFree) return a < b;
    return a.size() == 8 && b.size() == 8 && At<std::uint64_t>(a, 0) < At<std::uint64_t>(b, 0);
  }

  void Note(const Status& status) {
    if (!status.ok() && damage_.what.empty()) damage_.what = status.message();
  }

  // Entries that are lost are not noticed by whoever reads the table, except that a segment looks for all its chunks.
  Status CheckTree(const Tree& tree, State& state) {
    if (tree.root == kNoPage) return tree.entries == 0 ? OkStatus() : Damaged(folder_, "a tree has lost its root");
    const std::size_t broken_before = damage_.broken.size();
    Status status = tree.depth == 0 || tree.depth > kMaxDepth ? Wrong(tree.root, "is the root of a tree of no depth")
                                                              : CheckPage(tree.root, tree.depth, std::nullopt, state);
    const Tree& seen = state.seen;
    if (status.ok() && damage_.broken.size() == broken_before &&
        (seen.branches != tree.branches || seen.leaves != tree.leaves || seen.overflows != tree.overflows ||
         seen.entries != tree.entries)) {
      status = Damaged(folder_, "a tree has lost pages or entries");
      if (seen.entries == tree.entries || state.table == "chunks") return status;
    }
    if (!status.ok() && state.kind == Kind::kTable) damage_.broken.push_back({state.table, ""});
    return status;
  }

  Result<Node> ReadNode(std::uint64_t number, std::string_view page, std::size_t i, std::size_t upper,
                        bool branch) const {
    const auto at = At<std::uint16_t>(page, kHeadBytes + 2 * i);
    if (at < upper || at % 2 != 0 || at + kNodeBytes > page.size()) return Wrong(number, "has a node out of bounds");
    const std::uint32_t low = At<std::uint16_t>(page, at), high = At<std::uint16_t>(page, at + 2);
    Node node;
    node.flags = At<std::uint16_t>(page, at + 4);
    const std::size_t key_bytes = At<std::uint16_t>(page, at + 6), key_at = at + kNodeBytes;
    std::size_t value_bytes = 0;
    if (branch) {
      node.child = low | std::uint64_t{high} << 16 | std::uint64_t{node.flags} << 32;
    } else {
      node.size = low | high << 16;
      value_bytes = (node.flags & kBigValue) != 0 ? sizeof(std::uint64_t) : node.size;
    }
    if (key_bytes > page.size() - key_at || value_bytes > page.size() - key_at - key_bytes) {
      return Wrong(number, "has a node out of bounds");
    }
    node.key = page.substr(key_at, key_bytes);
    node.value = page.substr(key_at + key_bytes, value_bytes);
    return node;
  }

  // `up_to`: the first key of the page behind this one.
  Status CheckPage(std::uint64_t number, int depth, const std::optional<std::string>& up_to, State& state) {
    SPANBOX_RETURN_IF_ERROR(Use(number, 1));
    std::string page(meta_.page_bytes, '\0');
    if (!ReadAt(fd_, number * meta_.page_bytes, page)) return Wrong(number, "cannot be read");
    const auto flags = static_cast<std::uint16_t>(At<std::uint16_t>(page, 10) & ~kDirty);
    const std::size_t lower = At<std::uint16_t>(page, 12), upper = At<std::uint16_t>(page, 14);
    const bool branch = depth > 1;
    if (At<std::uint64_t>(page, 0) != number || flags != (branch ? kBranch : kLeaf)) {
      return Wrong(number, "is not what it should be");
    }
    const bool bounded = lower >= kHeadBytes && lower % 2 == 0 && lower <= upper && upper <= page.size();
    const std::size_t nodes = bounded ? (lower - kHeadBytes) / 2 : 0;
    if (nodes < (branch ? 2u : 1u)) return Wrong(number, "has impossible bounds");
    (branch ? state.seen.branches : state.seen.leaves) += 1;
    for (std::size_t i = 0; i < nodes; ++i) {
      SPANBOX_ASSIGN_OR_RETURN(const Node node, ReadNode(number, page, i, upper, branch));
      if (!branch) {
        SPANBOX_RETURN_IF_ERROR(CheckEntry(number, node, state));
        continue;
      }
      std::optional<std::string> child_up_to = up_to;
      if (i + 1 < nodes) {
        SPANBOX_ASSIGN_OR_RETURN(const Node next, ReadNode(number, page, i + 1, upper, branch));
        child_up_to = next.key;
      }
      SPANBOX_RETURN_IF_ERROR(CheckChild(number, node, i, depth, child_up_to, state));
    }
    return OkStatus();
  }

  // The first key of a branch page stands for all that is smaller. Of a table the other children are still walked when
  // one is broken.
  Status CheckChild(std::uint64_t number, const Node& node, std::size_t i, int depth,
                    const std::optional<std::string>& up_to, State& state) {
    if (i > 0) {
      if (state.last && !Less(state.kind, *state.last, node.key)) return Wrong(number, "has keys in disorder");
      state.floor = node.key;
    }
    const auto before = state.last;
    const Status status = CheckPage(node.child, depth - 1, up_to, state);
    if (status.ok() || state.kind != Kind::kTable) return status;
    Note(status);
    damage_.broken.push_back({state.table, before.value_or(""), up_to});
    state.last = before;
    state.floor.clear();
    return OkStatus();
  }

  Status CheckEntry(std::uint64_t number, const Node& node, State& state) {
    const bool ordered = !state.last || Less(state.kind, *state.last, node.key);
    const bool above = state.floor.empty() || !Less(state.kind, node.key, state.floor);
    if (node.key.empty() || !ordered || !above) return Wrong(number, "has keys in disorder");
    state.last = node.key;
    state.floor.clear();
    ++state.seen.entries;
    if ((node.flags & ~(kBigValue | kSubTree)) != 0) return Wrong(number, "has a node of an unknown kind");
    if ((node.flags & kSubTree) != 0) {
      if (state.kind != Kind::kMain || node.value.size() != kTreeBytes) return Wrong(number, "has a false table");
      state.tables.emplace_back(node.key, TreeAt(node.value, 0));
      return OkStatus();
    }
    if ((node.flags & kBigValue) == 0) {
      return state.kind == Kind::kFree ? CheckFree(number, node.value) : OkStatus();
    }
    const auto first = At<std::uint64_t>(node.value, 0);
    const std::uint64_t pages = (kHeadBytes - 1 + node.size) / meta_.page_bytes + 1;
    if (first > meta_.last_page || pages > meta_.last_page + 1 - first) return Wrong(first, "lies beyond the end");
    const Status used = Use(first, pages);
    if (state.kind != Kind::kTable) SPANBOX_RETURN_IF_ERROR(used);
    Note(used);  // what the value holds has its own checksum
    state.seen.overflows += pages;
    if (state.kind != Kind::kFree) return OkStatus();
    std::string list(node.size, '\0');
    if (!ReadAt(fd_, first * meta_.page_bytes + kHeadBytes, list)) return Wrong(first, "cannot be read");
    return CheckFree(first, list);
  }

  // A count, and so many page numbers, descending.
  Status CheckFree(std::uint64_t number, std::string_view list) {
    const std::uint64_t count = list.size() < 8 ? kNoPage : At<std::uint64_t>(list, 0);
    if (count > list.size() / 8 - (list.size() < 8 ? 0 : 1)) return Wrong(number, "has a list that is cut off");
    for (std::uint64_t i = 1; i <= count; ++i) SPANBOX_RETURN_IF_ERROR(Use(At<std::uint64_t>(list, 8 * i), 1));
    return OkStatus();
  }

  const int fd_;
  const Meta& meta_;
  const std::string& folder_;
  std::vector<bool> used_;
  TreeDamage damage_;
};

}  // namespace

Status CheckMetaPages(const std::string& folder) {
  const int fd = open((folder + "/data.mdb").c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return OkStatus();
  struct stat info {};
  const auto size = fstat(fd, &info) == 0 ? static_cast<std::uint64_t>(info.st_size) : 0;
  Status status;
  // A process that is just committing may be read in the middle.
  for (int attempt = 0; size > 0 && attempt < 3; ++attempt) {
    const auto first = ReadMeta(fd, 0);
    const auto second = first ? ReadMeta(fd, first->page_bytes) : std::nullopt;
    status = OkStatus();
    if (!first || !second || first->page_bytes != second->page_bytes) {
      status = DataLoss("cannot open the store " + folder +
                        ": data.mdb is not a store file, or is damaged; restore it from a backup or move it away");
      continue;
    }
    const Meta& newest = first->txn_id > second->txn_id ? *first : *second;
    const std::uint64_t pages = size / newest.page_bytes;
    if (newest.last_page >= pages) {
      status = DataLoss("the store " + folder + " is damaged: data.mdb has " + std::to_string(size) +
                        " bytes, and needs more; it was cut off or copied while in use. Restore it from a backup, or "
                        "move the folder away");
      continue;
    }
    break;
  }
  close(fd);
  return status;
}

Result<TreeDamage> CheckTrees(int fd, std::uint64_t txn_id, const std::string& folder) {
  const auto first = ReadMeta(fd, 0);
  const auto meta = first && txn_id % 2 == 1 ? ReadMeta(fd, first->page_bytes) : first;
  if (!meta) return Damaged(folder, "a meta page is wrong");
  if (meta->txn_id != txn_id) return Unavailable("the store " + folder + " is busy; try again");
  struct stat info {};
  if (fstat(fd, &info) != 0 || meta->last_page >= static_cast<std::uint64_t>(info.st_size) / meta->page_bytes) {
    return Damaged(folder, "pages are missing at the end");
  }
  return Walk(fd, *meta, folder).Check();
}

}  // namespace spanbox
