// Captured values: what is accepted becomes JSON text, and any bytes a JSON string.
#include "base/msgpack.h"

#include "fuzz.h"

using namespace spanbox;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  std::string json = "before";
  if (AppendJson(fuzz::BytesOf(bytes), json).ok()) fuzz::Require(json.size() > 6 && json.starts_with("before"));
  std::string text;
  AppendJsonString(bytes, text);
  fuzz::Require(text.size() >= 2 && text.front() == '"' && text.back() == '"');
  return 0;
}
