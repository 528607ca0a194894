// Where another process stands in a trace: what is accepted is written and read again.
#include "base/moment.h"
#include "fuzz.h"
#include "spanbox/span.h"

using namespace spanbox;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (const auto parent = ParseTraceparent(text)) {
    fuzz::Require(parent->trace_id.is_valid() && parent->span_id != 0);
    fuzz::Require(ParseTraceparent(ToTraceparent(*parent)) == parent);
  }
  if (const auto id = TraceIdFromHex(text)) fuzz::Require(TraceIdFromHex(ToHex(*id)) == id);
  if (const auto id = SpanIdFromHex(text)) fuzz::Require(SpanIdFromHex(ToHex(*id)) == id);
  if (const auto ns = ParseMoment(text)) fuzz::Require(ParseMoment(FormatMoment(*ns, /*utc=*/true)) == ns);
  return 0;
}
