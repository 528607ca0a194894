// Runs of cells: what is accepted is encoded again byte for byte, and its cells are added up with others'.
#include "store/cell_runs.h"

#include "fuzz.h"
#include "store/segment_cells.h"

using namespace spanbox;

namespace {

// What a value says its key is.
std::string KeyOf(std::string_view value) {
  std::uint32_t count = 0;
  std::uint64_t first = 0;
  if (value.size() < 16) return {};
  std::memcpy(&count, value.data() + 4, sizeof count);
  std::memcpy(&first, value.data() + 8, sizeof first);
  const std::vector<std::uint64_t> ids(count <= 1024 ? count : 0, first);
  return ids.empty() ? std::string() : RunKey(ids);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input(data, size);
  const bool buckets = (input.Byte() & 1) != 0;
  std::vector<std::string> values;
  while (!input.empty() && values.size() < kRunSegments) values.push_back(input.Part());
  std::vector<SegmentCells> parts;
  for (const std::string& value : values) {
    const auto run = ParseRun(KeyOf(value), fuzz::BytesOf(value));
    if (!run.ok()) continue;
    const std::string_view cells(reinterpret_cast<const char*>(run->cells.data()), run->cells.size());
    fuzz::Require(EncodeRun(run->segments, cells) == value);
    auto opened = SegmentCells::Open(run->cells);
    const bool small = opened.ok() && (!opened->whole || opened->whole->rows.rows() <= 1'000) &&
                       (!opened->buckets || opened->buckets->rows.rows() <= 1'000);
    if (small) parts.push_back(*std::move(opened));
  }
  if (parts.empty()) return 0;
  const auto joined = JoinCells(parts, buckets);
  if (joined.ok() && !joined->empty()) fuzz::Require(SegmentCells::Open(fuzz::BytesOf(*joined)).ok());
  return 0;
}
