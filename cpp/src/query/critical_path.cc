#include "query/critical_path.h"

#include <algorithm>
#include <tuple>

namespace spanbox {
namespace {

// A span on the path on the way from its end to its start.
struct Walk {
  std::uint32_t node = 0;
  std::int64_t from_ns = 0, at_ns = 0;  // the part of it inside all its ancestors that is left
  std::vector<PathPart> children;       // clipped to it, the last to end at the back
};

Walk Begin(const SpanTree& tree, std::uint32_t node, std::int64_t from_ns, std::int64_t until_ns) {
  Walk walk{node, from_ns, until_ns, {}};
  tree.ForEachChild(node, [&](std::uint32_t child) {
    const std::int64_t start_ns = std::max(from_ns, tree.node(child).span.start_ns);
    const std::int64_t end_ns = std::min(until_ns, tree.node(child).end_ns);
    if (start_ns < end_ns) walk.children.push_back({child, start_ns, end_ns});
  });
  // Of those that end together the longest explains most.
  std::ranges::sort(walk.children, [](const PathPart& a, const PathPart& b) {
    return std::tuple(a.end_ns, b.start_ns, b.node) < std::tuple(b.end_ns, a.start_ns, a.node);
  });
  return walk;
}

}  // namespace

std::vector<PathPart> CriticalPath(const SpanTree& tree) {
  std::vector<PathPart> path;  // backwards
  std::vector<Walk> open;
  const auto take = [&](Walk& walk, std::int64_t down_to_ns) {
    if (down_to_ns < walk.at_ns) path.push_back({walk.node, down_to_ns, walk.at_ns});
    walk.at_ns = down_to_ns;
  };
  const SpanTree::Node& root = tree.node(tree.root());
  open.push_back(Begin(tree, tree.root(), root.span.start_ns, root.end_ns));
  while (!open.empty()) {
    Walk& walk = open.back();
    while (!walk.children.empty() && walk.children.back().end_ns > walk.at_ns) walk.children.pop_back();
    if (walk.children.empty()) {
      take(walk, walk.from_ns);
      open.pop_back();
      continue;
    }
    const PathPart child = walk.children.back();
    walk.children.pop_back();
    take(walk, child.end_ns);
    walk.at_ns = child.start_ns;
    open.push_back(Begin(tree, child.node, child.start_ns, child.end_ns));  // `walk` may have moved: not used again
  }
  std::ranges::reverse(path);
  return path;
}

}  // namespace spanbox
