// The cells of a settled segment: both tables, and every sketch in them.
#include <functional>

#include "fuzz.h"
#include "store/segment_cells.h"

using namespace spanbox;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  const auto cells = SegmentCells::Open(fuzz::BytesOf(bytes));
  if (!cells.ok()) return 0;
  for (const auto& table : {std::cref(cells->whole), std::cref(cells->buckets)}) {
    if (!table.get() || table.get()->rows.rows() > 10'000) continue;
    for (std::size_t measure = 0; measure < kSketchedMeasures; ++measure) {
      auto sketches = table.get()->Sketches(table.get()->rows, measure);
      if (!sketches.ok()) continue;
      for (std::uint32_t row = 0; row < table.get()->rows.rows(); ++row) {
        DDSketch::Part part;
        const auto some = sketches->Get(row, part);
        if (!some.ok()) break;
        DDSketch sum;
        if (*some && sum.Merge(part).ok()) (void)sum.Quantile(0.99);
      }
    }
  }
  return 0;
}
