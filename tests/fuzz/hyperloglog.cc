// HyperLogLog: what is accepted writes itself again byte for byte, and answers.
#include "stats/hyperloglog.h"

#include "fuzz.h"

using namespace spanbox;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  auto counter = HyperLogLog::Deserialize(fuzz::BytesOf(bytes));
  if (!counter.ok()) return 0;
  fuzz::Require(counter->Serialize() == bytes);
  fuzz::Require(counter->Estimate() >= 0);
  counter->Add(0x9E3779B97F4A7C15);
  HyperLogLog sum;
  sum.Merge(*counter);
  fuzz::Require(sum.Serialize() == counter->Serialize());
  return 0;
}
