// What bytes are, by how they begin, and base64 as messages carry it.
//
// Thread rule: pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace spanbox::python {

// "image/png", "audio/wav", ...; empty when it is none of the known ones.
std::string_view SniffType(std::string_view bytes);

// Image, audio, video, archive: holds no text to look for secrets in.
bool IsMedia(std::string_view type);

// The bytes, when `base64` is exactly what encoding them would give (padded, no line breaks); nullopt otherwise.
std::optional<std::string> DecodeBase64(std::string_view base64);

// "data:image/png;base64,....": type and payload. Other forms of data: URL are not taken apart.
struct DataUrl {
  std::string_view type;
  std::string_view base64;
};
std::optional<DataUrl> ParseDataUrl(std::string_view text);

}  // namespace spanbox::python
