// The small values of the LMDB tables: what is accepted is encoded again byte for byte.
#include "store/manifest.h"

#include "fuzz.h"

using namespace spanbox;

namespace {

// Encoding again is equal where all of the value has a meaning.
template <typename Record>
void Check(const Result<Record>& record, std::string_view value, bool all_means_something = true) {
  if (record.ok() && all_means_something) fuzz::Require(Encode(*record).size() == value.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input(data, size);
  const std::uint8_t what = input.Byte();
  const std::string key = input.Part();
  const std::string value(input.Rest());
  const Bytes bytes = fuzz::BytesOf(value);
  switch (what % 7) {
    case 0: {
      const auto record = ParseSegmentRecord(key, bytes);
      // Before segments had cells a settled one told of its filter alone.
      if (record.ok()) {
        const std::size_t encoded = Encode(*record).size();
        fuzz::Require(encoded == value.size() || (record->cells_bytes == 0 && encoded == value.size() + 8));
      }
      break;
    }
    case 1:
      Check(ParseCursor(key, bytes), value);
      break;
    case 2:
      Check(ParseRing(bytes), value);
      break;
    case 3:
      Check(ParseBlob(key, bytes, /*verify=*/true), value);
      (void)ParseBlob(key, bytes, /*verify=*/false);
      (void)BlobIdOfKey(key);
      break;
    case 4: {
      const auto document = ParseDocument(key, bytes);
      Check(document, value);
      if (document.ok()) fuzz::Require(DocumentKey(*document) == key);
      break;
    }
    case 5:
      Check(ParseFeed(bytes), value);
      break;
    default:
      (void)ParseOpen(bytes);
      (void)NextOpenPart(key);
      (void)OpenSpanIdOf(key);
  }
  return 0;
}
