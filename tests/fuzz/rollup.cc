// Cells of dropped spans: read, added to others, and made a rollup again.
#include "store/rollup.h"

#include "any_store.h"

using namespace spanbox;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input(data, size);
  fuzz::AnySegment bytes;
  bytes.columns = input.Part();
  while (!input.empty()) bytes.blocks.push_back(input.Part());
  const auto rollup = bytes.Open();
  if (!rollup.ok() || rollup->rows() > 10'000) return 0;
  (void)SpansOfCells(*rollup);
  RollupBuilder builder;
  if (!builder.AddCells(*rollup).ok() || !builder.AddCells(*rollup).ok() || builder.empty()) return 0;
  SegmentBuilder rows;
  const auto encoded = builder.Finish(rows);
  fuzz::Require(encoded.rows > 0);
  return 0;
}
