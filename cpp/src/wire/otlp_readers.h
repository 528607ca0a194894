// The readers behind OtlpReader::Open. Thread rule and ownership: as spanbox/otlp.h says.
#pragma once

#include <memory>
#include <string_view>

#include "spanbox/otlp.h"

namespace spanbox {

std::unique_ptr<OtlpReader> NewOtlpProtoReader(std::string_view body);
Result<std::unique_ptr<OtlpReader>> NewOtlpJsonReader(std::string_view body);

}  // namespace spanbox
