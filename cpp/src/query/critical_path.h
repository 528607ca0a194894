// Which spans determined when a trace ended.
//
// From the end of the root backwards: the child that was the last to end before the point we are at is next, as far as
// it lies inside its parent; what is between its end and the point is the parent's own. Children that were still
// running at the point had no say and are left out.
//
// Thread rule: functions. Ownership: values.
// Invariant: the parts follow each other without a gap from the root's start to its end.
#pragma once

#include <cstdint>
#include <vector>

#include "query/span_tree.h"

namespace spanbox {

struct PathPart {
  std::uint32_t node = 0;
  std::int64_t start_ns = 0, end_ns = 0;
};

std::vector<PathPart> CriticalPath(const SpanTree& tree);  // by time; none is empty

}  // namespace spanbox
