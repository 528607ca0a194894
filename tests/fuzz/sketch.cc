// DDSketch: what is accepted writes itself again byte for byte, and answers.
#include "spanbox/sketch.h"

#include "fuzz.h"

using namespace spanbox;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  auto sketch = DDSketch::Deserialize(fuzz::BytesOf(bytes));
  if (!sketch.ok()) return 0;
  fuzz::Require(sketch->Serialize() == bytes);
  for (const double q : {0.0, 0.01, 0.5, 0.99, 1.0}) (void)sketch->Quantile(q);
  (void)sketch->Bins(20);
  DDSketch sum(sketch->relative_error());
  sum.Add(1.5);
  fuzz::Require(sum.Merge(*sketch).ok());
  fuzz::Require(DDSketch::Deserialize(fuzz::BytesOf(sum.Serialize())).ok());
  return 0;
}
