// Regular expressions as spanbox allows them: RE2, 8 MB of memory, patterns of at most 1,000 bytes.
//
// Thread rule: pure functions; an RE2 may be used from several threads.
#pragma once

#include <re2/re2.h>

#include <memory>
#include <string_view>

#include "spanbox/status.h"

namespace spanbox {

inline constexpr std::size_t kMaxPatternBytes = 1000;

struct PatternOptions {
  bool ignore_case = false;
  bool literal = false;  // the pattern is plain text
};

// InvalidArgument with one line that says what is wrong with the pattern.
Result<std::shared_ptr<const re2::RE2>> CompilePattern(std::string_view pattern, const PatternOptions& options = {});

inline re2::StringPiece Piece(std::string_view text) { return {text.data(), text.size()}; }

}  // namespace spanbox
