// Text blocks: two of them, of any codec, size and bytes; the second may use the first as its dictionary.
#include "fuzz.h"
#include "store/text_blocks.h"

using namespace spanbox;

constexpr std::uint32_t kMostBytes = (1u << 20) - 1;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input(data, size);
  std::vector<TextBlockInfo> infos(2);
  for (TextBlockInfo& info : infos) {
    // The first one is no base for itself: whoever reads the directory sees to that.
    info.codec = static_cast<TextCodec>(input.Byte() % (&info == infos.data() ? 2 : 3));
    for (int shift = 0; shift < 24; shift += 8) info.raw_bytes |= std::uint32_t{input.Byte()} << shift;
    info.raw_bytes &= kMostBytes;  // a block is a quarter of a megabyte: making room for more takes all the time
  }
  const std::string blocks[] = {input.Part(), std::string(input.Rest())};
  for (std::size_t i = 0; i < 2; ++i) infos[i].stored_bytes = static_cast<std::uint32_t>(blocks[i].size());
  TextBlockReader reader(
      [&](std::uint32_t block) -> Result<std::span<const std::byte>> { return fuzz::BytesOf(blocks[block]); }, infos);
  for (const std::uint32_t block : {1, 0}) {
    const auto unpacked = reader.Block(block);
    if (unpacked.ok()) fuzz::Require((*unpacked)->size == infos[block].raw_bytes);
  }
  return 0;
}
