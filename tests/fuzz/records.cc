// The records of a span as they lie in rings and in the table of open spans.
#include "base/record_codec.h"
#include "fuzz.h"
#include "store/segment.h"

using namespace spanbox;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto records = ParseOpenRecords(bytes);
  if (!records.ok()) return 0;
  for (const RecordView& record : *records) {
    (void)SpanIdOf(record);
    (void)ParseBlobRecord(record.payload);
  }
  RowArena arena;
  const auto row = AssembleSpan(*records, arena);
  if (!row.ok()) return 0;
  SegmentBuilder builder;
  builder.Add(*row);
  const auto encoded = builder.Finish();
  fuzz::Require(encoded.rows == 1);
  return 0;
}
