// The search filter of a segment.
#include "store/text_filter.h"

#include "fuzz.h"

using namespace spanbox;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input(data, size);
  const std::uint32_t blocks = input.Byte();
  const TextProbe probe(input.Part());
  const auto filter = TextFilter::Open(fuzz::BytesOf(input.Rest()), blocks);
  if (!filter.ok()) return 0;
  for (std::uint32_t block = 0; block < blocks; ++block) (void)filter->MayHold(block, probe);
  return 0;
}
