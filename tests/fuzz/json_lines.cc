// Lines of JSON made rows, and the rows made a segment.
#include "any_store.h"
#include "query/ingest.h"

using namespace spanbox;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string lines(reinterpret_cast<const char*>(data), size);
  if (lines.empty() || lines.back() != '\n') lines.push_back('\n');
  const bool skip_bad = size % 2 == 0;
  const auto ingest = Ingest::Start(std::make_shared<fuzz::Sink>(), "", skip_bad);
  fuzz::Require(ingest.ok());
  const Status status = (*ingest)->StoreLines(lines, 1);
  fuzz::Require(status.ok() || !skip_bad);
  return 0;
}
