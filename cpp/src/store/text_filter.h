// Which short pieces of text each text block of a segment may hold, so that a search unpacks few of them.
//
// Of every four bytes in a row (grams), ASCII letters in lower case, a hash sets one bit of the block's bitmap, which
// has a quarter more bits than there are different hashes. A text of n bytes that is not there passes a block by chance
// with a probability of about 0.55^(n-3); one that is there always passes.
//
// Thread rule: TextFilter is immutable; a TextFilterBuilder belongs to one thread. Ownership: TextFilter borrows its
// bytes. Invariant: no bytes given to Open make a method read outside them; damage is DataLoss.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "spanbox/status.h"

namespace spanbox {

class TextFilterBuilder {
 public:
  void AddBlock(std::string_view text);
  std::string Finish();  // empty without blocks; leaves the builder empty

 private:
  std::vector<std::uint64_t> seen_;  // by hash
  std::string directory_, bitmaps_;
  std::uint32_t blocks_ = 0;
};

// Grams that a text must have. Made once a search.
class TextProbe {
 public:
  // kAscii: only what is ASCII is as it is, the rest may be in another case. kIgnored: all of it may, and then k and s
  // may not be ASCII either (the Kelvin sign, the long s).
  enum class Case { kExact, kAscii, kIgnored };

  // Of a text to be found. Empty when it is too short to say anything.
  explicit TextProbe(std::string_view text, Case letters = Case::kExact);

  std::span<const std::uint32_t> hashes() const { return hashes_; }

 private:
  std::vector<std::uint32_t> hashes_;
};

class TextFilter {
 public:
  static Result<TextFilter> Open(std::span<const std::byte> bytes, std::uint32_t blocks);

  // False: the text is not in the block. REQUIRES: block < the number of blocks given to Open.
  bool MayHold(std::uint32_t block, const TextProbe& probe) const;

 private:
  struct Bitmap {
    const std::byte* bytes;
    std::uint32_t bits;
  };
  std::vector<Bitmap> bitmaps_;
};

}  // namespace spanbox
