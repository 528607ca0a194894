// Finds personal data in text: what is known by pattern, checksum and the words before it.
//
// One pass looks for what all of it shows, a digit, '@' or ':', a few vector instructions a block of 64 bytes. From
// there the shapes of pii_table.h are tried that begin with as many letters and digits, and the finders of
// pii_finders.h. Shapes that many numbers have count only where a word in the text before speaks of them.
//
// Thread rule: pure functions.
// Invariants:
//   1. Findings are in the order of the text and do not overlap.
//   2. The time is linear in the size of the text, whatever it holds.
#pragma once

#include <string_view>
#include <vector>

#include "record/pii_entities.h"
#include "record/redactor.h"

namespace spanbox {

// Shorter texts hold no personal data.
inline constexpr std::size_t kMinPiiText = 6;

// Appends what of `wanted` is in `text`; true when there is any. `findings` must be empty. `before`: what a reader has
// before the text, such as the key of a value.
bool FindPii(std::string_view text, std::string_view before, PiiSet wanted, std::vector<Finding>& findings);

}  // namespace spanbox
