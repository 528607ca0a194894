#include "query/pattern.h"

#include <string>

namespace spanbox {

Result<std::shared_ptr<const re2::RE2>> CompilePattern(std::string_view pattern, const PatternOptions& options) {
  if (pattern.size() > kMaxPatternBytes) {
    return InvalidArgument("the pattern has " + std::to_string(pattern.size()) + " bytes: at most " +
                           std::to_string(kMaxPatternBytes) + " are allowed");
  }
  re2::RE2::Options re2_options;
  re2_options.set_max_mem(8 << 20);
  re2_options.set_log_errors(false);
  re2_options.set_case_sensitive(!options.ignore_case);
  re2_options.set_literal(options.literal);
  auto regex = std::make_shared<const re2::RE2>(Piece(pattern), re2_options);
  if (!regex->ok()) {
    const bool too_large = regex->error_code() == re2::RE2::ErrorPatternTooLarge;
    return InvalidArgument(too_large ? "the regular expression needs more than 8 MB: make its repetitions smaller"
                                     : "the regular expression is wrong: " + regex->error());
  }
  return regex;
}

}  // namespace spanbox
