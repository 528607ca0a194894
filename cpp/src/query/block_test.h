// What a text block must hold so that one of its texts can match: asked of the search filter before the block is
// unpacked.
//
// Thread rule: immutable once everything was added.
// Invariant: a block that holds a match is never excluded.
#pragma once

#include <re2/filtered_re2.h>
#include <re2/re2.h>

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "store/segment.h"
#include "store/text_filter.h"

namespace spanbox {

class BlockTest {
 public:
  // One more way for a text to match: it contains this, or the expression is found in it.
  void AddText(std::string_view text, TextProbe::Case letters = TextProbe::Case::kExact);
  void AddRegex(const re2::RE2& regex);

  // By block of the segment, whether it may hold a match; nullopt: every block may.
  Result<std::optional<std::vector<bool>>> MayMatch(const Segment& segment) const;

 private:
  struct Regex {
    std::unique_ptr<re2::FilteredRE2> filtered;
    std::vector<TextProbe> atoms;  // texts it needs, in some combination
  };
  bool MayMatch(const TextFilter& filter, std::uint32_t block) const;

  std::vector<TextProbe> texts_;
  std::vector<Regex> regexes_;
  bool any_block_ = false;  // one of the ways says nothing
};

}  // namespace spanbox
