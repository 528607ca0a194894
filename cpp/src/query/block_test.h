// What a text must hold so that it can match: asked of the search filter before a text block is unpacked, and of all
// strings of a dictionary at once before each is looked at.
//
// Thread rule: immutable once everything was added.
// Invariant: what holds a match is never excluded.
#pragma once

#include <re2/filtered_re2.h>
#include <re2/re2.h>

#include <memory>
#include <optional>
#include <span>
#include <string>
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

  // False: none of the strings matches.
  bool MayMatch(std::span<const std::string_view> strings) const;

 private:
  // A text that has to be there.
  struct Needed {
    Needed(std::string_view text, TextProbe::Case letters);
    TextProbe grams;
    bool exact;
    std::string part;  // the longest part that is there as it is, ASCII letters in lower case unless they are exact
  };
  struct Regex {
    std::unique_ptr<re2::FilteredRE2> filtered;
    std::vector<Needed> atoms;  // texts it needs, in some combination
  };
  template <typename Holds>
  bool MayMatchWhere(const Holds& holds) const;  // holds(Needed): it may be there

  std::vector<Needed> texts_;
  std::vector<Regex> regexes_;
  bool any_block_ = false, any_text_ = false;  // one of the ways says nothing
};

}  // namespace spanbox
