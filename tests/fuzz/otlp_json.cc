// OTLP in JSON.
#include "otlp.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string body(reinterpret_cast<const char*>(data), size);
  spanbox::fuzz::ReadOtlp(body, spanbox::OtlpForm::kJson);
  return 0;
}
