#include "record/pii_scan.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "record/pii_finders.h"
#include "record/pii_table.h"
#include "record/text_blocks64.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace spanbox {
namespace {

// --- where to look ---------------------------------------------------------------------------------------------------

struct PiiMasks {
  std::uint64_t digit = 0, at = 0, colon = 0;
};

constexpr std::size_t kContextBytes = 48;  // a multiple of 16

struct LetterMasks {
  std::uint64_t any = 0, upper = 0, backslash = 0;
};

#if defined(__x86_64__)
PiiMasks Classify(const char* text) {
  PiiMasks masks;
  for (unsigned i = 0; i < kBlockBytes; i += 16) {
    const __m128i c = _mm_loadu_si128(reinterpret_cast<const __m128i*>(text + i));
    const auto bits = [i](__m128i mask) {
      return std::uint64_t{static_cast<std::uint32_t>(_mm_movemask_epi8(mask))} << i;
    };
    const __m128i digit = _mm_sub_epi8(c, _mm_set1_epi8('0'));
    masks.digit |= bits(_mm_cmpeq_epi8(_mm_min_epu8(digit, _mm_set1_epi8(9)), digit));
    masks.at |= bits(_mm_cmpeq_epi8(c, _mm_set1_epi8('@')));
    masks.colon |= bits(_mm_cmpeq_epi8(c, _mm_set1_epi8(':')));
  }
  return masks;
}

std::uint64_t Spaces(const char* text) {
  std::uint64_t spaces = 0;
  for (unsigned i = 0; i < kBlockBytes; i += 16) {
    const __m128i c = _mm_loadu_si128(reinterpret_cast<const __m128i*>(text + i));
    const __m128i space = _mm_cmpeq_epi8(c, _mm_set1_epi8(' '));
    spaces |= std::uint64_t{static_cast<std::uint32_t>(_mm_movemask_epi8(space))} << i;
  }
  return spaces;
}

LetterMasks ClassifyLetters(const char* text) {
  LetterMasks masks;
  for (unsigned i = 0; i < kContextBytes; i += 16) {
    const __m128i c = _mm_loadu_si128(reinterpret_cast<const __m128i*>(text + i));
    const auto bits = [i](__m128i mask) {
      return std::uint64_t{static_cast<std::uint32_t>(_mm_movemask_epi8(mask))} << i;
    };
    const auto letters = [](__m128i x, char first) {
      const __m128i place = _mm_sub_epi8(x, _mm_set1_epi8(first));
      return _mm_cmpeq_epi8(_mm_min_epu8(place, _mm_set1_epi8(25)), place);
    };
    masks.any |= bits(letters(_mm_or_si128(c, _mm_set1_epi8(0x20)), 'a'));
    masks.upper |= bits(letters(c, 'A'));
    masks.backslash |= bits(_mm_cmpeq_epi8(c, _mm_set1_epi8('\\')));
  }
  return masks;
}
#else
std::uint64_t Spaces(const char* text) {
  std::uint64_t spaces = 0;
  for (unsigned i = 0; i < kBlockBytes; ++i) spaces |= std::uint64_t{text[i] == ' '} << i;
  return spaces;
}
LetterMasks ClassifyLetters(const char* text) {
  LetterMasks masks;
  for (unsigned i = 0; i < kContextBytes; ++i) {
    masks.any |= std::uint64_t{IsPiiLetter(text[i])} << i;
    masks.upper |= std::uint64_t{text[i] >= 'A' && text[i] <= 'Z'} << i;
    masks.backslash |= std::uint64_t{text[i] == '\\'} << i;
  }
  return masks;
}
PiiMasks Classify(const char* text) {
  PiiMasks masks;
  for (unsigned i = 0; i < kBlockBytes; ++i) {
    masks.digit |= std::uint64_t{IsPiiDigit(text[i])} << i;
    masks.at |= std::uint64_t{text[i] == '@'} << i;
    masks.colon |= std::uint64_t{text[i] == ':'} << i;
  }
  return masks;
}
#endif

// --- words -----------------------------------------------------------------------------------------------------------

constexpr int kContextWords = 5;
constexpr std::uint8_t kNone = 255;
static_assert(std::size(kPiiWords) < kNone);

// By their first three letters, which every word has, words are in lists. A bit says that there is one.
constexpr std::size_t WordPlace(const char* word) {
  return static_cast<std::size_t>((word[0] & 31) * 37 + (word[1] & 31) * 11 + (word[2] & 31)) & 511;
}
struct WordLists {
  std::array<std::uint8_t, 512> first{};
  std::array<std::uint8_t, std::size(kPiiWords)> next{};
};
constexpr WordLists kWordLists = [] {
  WordLists lists;
  lists.first.fill(kNone);
  for (std::size_t i = std::size(kPiiWords); i-- > 0;) {
    auto& head = lists.first[WordPlace(kPiiWords[i].word.data())];
    lists.next[i] = head;
    head = static_cast<std::uint8_t>(i);
  }
  return lists;
}();

bool SameWord(std::string_view word, std::string_view known) {
  if (word.size() < known.size() || (word.size() > known.size() && known.size() < 5)) return false;
  for (std::size_t i = 0; i < known.size(); ++i) {
    if ((word[i] | 0x20) != known[i]) return false;
  }
  return true;
}

PiiSet SpokenOfBy(std::string_view word) {
  for (auto i = kWordLists.first[WordPlace(word.data())]; i != kNone; i = kWordLists.next[i]) {
    if (SameWord(word, kPiiWords[i].word)) return kPiiWords[i].entities;
  }
  return 0;
}

// The entities that the last words of `text` speak of. Words end where camelCase turns, too.
PiiSet SpokenOf(std::string_view text) {
  char last[kContextBytes] = {};
  const std::size_t size = std::min(text.size(), kContextBytes);
  if (size < 3) return 0;
  const char* from = text.data() + text.size() - size;
  if (size < kContextBytes) from = static_cast<const char*>(std::memcpy(last, from, size));
  const LetterMasks letters = ClassifyLetters(from);
  // The letter of an escape is none of a word's.
  const std::uint64_t words = letters.any & ~(letters.backslash << 1);
  const std::uint64_t turns = letters.upper & (words & ~letters.upper) << 1;
  PiiSet spoken = 0;
  int next = static_cast<int>(kContextBytes), seen = 0;
  for (std::uint64_t begins = words & (~(words << 1) | turns); begins != 0 && seen < kContextWords; ++seen) {
    const int begin = 63 - std::countl_zero(begins);
    begins ^= std::uint64_t{1} << begin;
    const int length = std::min(std::countr_one(words >> begin), next - begin);
    next = begin;
    if (length >= 3) spoken |= SpokenOfBy({from + begin, static_cast<std::size_t>(length)});
  }
  return spoken;
}

// --- shapes ----------------------------------------------------------------------------------------------------------

constexpr std::size_t kLongestRun = 32;
constexpr bool IsSeparator(char shape) { return shape == '-' || shape == '+' || shape == '/'; }

// By what a shape begins with, a letter or not, and the length of the run of letters and digits: the shapes it may be,
// a bit each. `whole`: of those that are one run.
struct ShapeIndex {
  std::array<std::array<std::uint64_t, kLongestRun>, 2> any{}, whole{};
};
constexpr ShapeIndex kShapesOfRun = [] {
  ShapeIndex index;
  for (std::size_t row = 0; row < std::size(kPiiPatterns); ++row) {
    const PiiPattern& pattern = kPiiPatterns[row];
    const auto add = [&](auto& lengths, std::size_t length) {
      if (pattern.shape[0] != 'A') lengths[0][length] |= std::uint64_t{1} << row;
      if (pattern.shape[0] != '9') lengths[1][length] |= std::uint64_t{1} << row;
    };
    std::size_t length = 0;
    bool one_run = true;
    for (const char c : pattern.shape) {
      if (!IsSeparator(c)) {
        ++length;
        continue;
      }
      add(index.any, length);
      one_run = c == '-';  // it may be missing
      if (!one_run) break;
    }
    for (std::size_t more = 0; one_run && more <= pattern.more; ++more) {
      add(index.any, length + more);
      add(index.whole, length + more);
    }
  }
  return index;
}();

struct ShapeMatch {
  std::size_t end = 0;
  bool parted = false;  // every separator is there
};

bool IsOf(char shape, char c) { return shape == '9' ? IsPiiDigit(c) : shape == 'A' ? IsPiiLetter(c) : IsPiiAlnum(c); }

// `id` takes the letters, in upper case, and digits.
std::optional<ShapeMatch> MatchShape(const PiiPattern& pattern, std::string_view text, std::size_t at,
                                     std::array<char, kLongestRun>& id, std::size_t& size) {
  size = 0;
  char separator = '\0';
  bool some = false, all = true;
  for (const char c : pattern.shape) {
    if (at >= text.size()) return std::nullopt;
    if (!IsSeparator(c)) {
      if (!IsOf(c, text[at])) return std::nullopt;
      id[size++] = Uppercase(text[at++]);
      continue;
    }
    const bool there = c == '-' ? text[at] == ' ' || text[at] == '-' || text[at] == '.' : text[at] == c;
    if (!there && c != '-') return std::nullopt;
    if (there && separator != '\0' && text[at] != separator) return std::nullopt;
    if (there) separator = text[at++];
    some |= there;
    all &= there;
  }
  if (pattern.more > 0 && separator != '\0' && at < text.size() && text[at] == separator) {
    const std::size_t last = at + 1;  // "4111 1111 1111 1111 110"
    std::size_t end = last;
    while (end < text.size() && end - last < pattern.more && IsOf(pattern.shape.back(), text[end])) ++end;
    if (end - last == pattern.more && EndsWhole(text, end)) ++at;
  }
  for (std::size_t more = 0; more < pattern.more && at < text.size() && IsOf(pattern.shape.back(), text[at]); ++more) {
    id[size++] = Uppercase(text[at++]);
  }
  if (!EndsWhole(text, at)) return std::nullopt;
  return ShapeMatch{at, some && all};
}

// --- looking ---------------------------------------------------------------------------------------------------------

constexpr std::uint64_t ShapesThat(When when) {
  std::uint64_t rows = 0;
  for (std::size_t row = 0; row < std::size(kPiiPatterns); ++row) {
    if (kPiiPatterns[row].when == when) rows |= std::uint64_t{1} << row;
  }
  return rows;
}
constexpr std::uint64_t kNeverSure = ShapesThat(When::kSpokenOf), kSureIfParted = ShapesThat(When::kParted);

constexpr std::array<std::uint64_t, kPiiCount> kShapesOfEntity = [] {
  std::array<std::uint64_t, kPiiCount> shapes{};
  for (std::size_t row = 0; row < std::size(kPiiPatterns); ++row) {
    shapes[static_cast<std::size_t>(kPiiPatterns[row].entity)] |= std::uint64_t{1} << row;
  }
  return shapes;
}();

// The shapes of some entities, a bit each.
std::uint64_t ShapesOf(PiiSet entities) {
  std::uint64_t rows = 0;
  for (; entities != 0; entities &= entities - 1) {
    rows |= kShapesOfEntity[static_cast<std::size_t>(std::countr_zero(entities))];
  }
  return rows;
}

// What may stand between the parts of a number.
constexpr std::array<bool, 256> kIsParting = [] {
  std::array<bool, 256> is{};
  for (const char c : std::string_view(" -./()+")) is[static_cast<unsigned char>(c)] = true;
  return is;
}();

class PiiLooker {
 public:
  PiiLooker(std::string_view text, std::string_view before, PiiSet wanted, std::vector<Finding>& findings)
      : text_(text), before_(before), wanted_(wanted), shapes_(ShapesOf(wanted)), findings_(findings) {}

  void LookAtDigit(std::size_t at) {
    if (at < seen_) return;
    std::size_t begin = at, end = at + 1;
    while (begin > 0 && IsPiiAlnum(text_[begin - 1]) && at - begin <= kLongestWord) --begin;
    while (end < text_.size() && IsPiiAlnum(text_[end])) ++end;
    seen_ = end;
    if (end - begin > kLongestWord || begin < done_) return;
    if (begin < at && begin > 0) {  // "\n4155551234", "%204155551234"
      if (text_[begin - 1] == '\\') ++begin;
      if (text_[begin - 1] == '%') begin = std::min(begin + 2, at);
    }
    spoken_known_ = false;
    best_ = {};
    LookAtRun(begin, end);
    if (best_.end > 0) Keep(best_);
  }

  void LookAtSign(std::size_t at) {
    if (at < done_ || !Wanted(Pii::kEmailAddress)) return;
    if (const auto found = FindEmail(text_, at)) Keep(*found);
  }

  void LookAtColon(std::size_t at) {
    if (at < done_ || at + 1 >= text_.size()) return;
    if (text_[at + 1] == '/') {
      if (!Wanted(Pii::kUrl) || !text_.substr(at).starts_with("://")) return;
      if (const auto found = FindWebAddress(text_, at)) Keep(*found);
    } else if (text_[at + 1] == ':' || (IsPiiAlnum(text_[at + 1]) && at > 0 && IsPiiAlnum(text_[at - 1]))) {
      if (at < colons_seen_) return;
      const auto found = FindColons(text_, at);
      colons_seen_ = at + 6;
      if (found && Wanted(found->entity)) Keep(*found);
    }
  }

 private:
  static constexpr std::size_t kLongestWord = 80;

  bool Wanted(Pii entity) const { return (wanted_ & Bit(entity)) != 0; }

  PiiSet Spoken(std::size_t begin) {
    if (!spoken_known_) {
      spoken_ = SpokenOf(text_.substr(0, begin));
      if (begin < kContextBytes) spoken_ |= SpokenOf(before_);
      spoken_known_ = true;
    }
    return spoken_;
  }

  // After a short run, a separator: another short run, and nothing more.
  bool IsShortPair(std::size_t end) const {
    std::size_t second = end + 1;
    while (second < text_.size() && second - end < 5 && IsPiiAlnum(text_[second])) ++second;
    const std::size_t size = second - end - 1;
    if (size == 0 || size > 3) return false;
    return second + 1 >= text_.size() || !kIsParting[static_cast<unsigned char>(text_[second])] ||
           (!IsPiiAlnum(text_[second + 1]) && text_[second + 1] != '(');
  }

  void LookAtRun(std::size_t begin, std::size_t end) {
    const char next = end < text_.size() ? text_[end] : '\0';
    const char after = end + 1 < text_.size() ? text_[end + 1] : '\0';
    const bool number = IsPiiDigit(text_[begin]);
    const bool parted =
        kIsParting[static_cast<unsigned char>(next)] && (IsPiiAlnum(after) || after == '(' || after == ' ');
    // What most numbers are: short, and alone or with a fraction.
    if (end - begin <= 4 && !Wanted(Pii::kDateTime) && (!parted || IsShortPair(end))) return;
    if (number && next == '.' && Wanted(Pii::kIpAddress)) Take(FindIpv4(text_, begin, end));
    if (begin >= 2 && (text_[begin - 1] == ' ' || text_[begin - 1] == '-')) LookBehind(begin);
    if (best_.end == 0) LookAtShapes(begin, end, parted);
    if (!number && Wanted(Pii::kIbanCode)) Take(FindIban(text_, begin, end));
    if (end - begin >= 14 && Wanted(Pii::kCrypto) && IsBitcoinAddress(text_.substr(begin, end - begin))) {
      Take(PiiMatch{begin, end, Pii::kCrypto});
    }
    if (number && Wanted(Pii::kDateTime)) Take(FindDate(text_, begin, end));
    if (number && Wanted(Pii::kPhoneNumber) && (parted || end - begin >= 7)) LookAtPhone(begin, parted);
  }

  // "AB 12 34 56 C", "X-1234567-A", "AB-12-...": letters stand before the first digit, and a separator.
  void LookBehind(std::size_t begin) {
    std::size_t first = begin;
    while (first >= 3 && text_[first - 1] == '-' && IsPiiAlnum(text_[first - 2]) && IsPiiAlnum(text_[first - 3]) &&
           begin - first < 15) {
      first -= 3;
    }
    if (first + 3 < begin && first >= done_) LookAtShapes(first, first + 2, /*parted=*/true);
    const std::size_t at = begin - 1;
    std::size_t word = at;
    while (word > 0 && at - word < 3 && IsPiiLetter(text_[word - 1])) --word;
    if (word > 0 && text_[word - 1] == '\\') ++word;
    if (best_.end == 0 && at - word >= 1 && at - word <= 2 && word >= done_) LookAtShapes(word, at, /*parted=*/true);
  }

  void LookAtShapes(std::size_t begin, std::size_t end, bool parted) {
    if (end - begin >= kLongestRun) return;
    const auto& lengths = (parted ? kShapesOfRun.any : kShapesOfRun.whole)[IsPiiLetter(text_[begin]) ? 1 : 0];
    std::uint64_t rows = lengths[end - begin] & shapes_;
    const std::uint64_t unsure = rows & (parted ? kNeverSure : kNeverSure | kSureIfParted);
    if (unsure != 0) rows = (rows ^ unsure) | (unsure & ShapesOf(Spoken(begin)));
    if (rows == 0 || !BeginsWhole(text_, begin)) return;
    std::array<char, kLongestRun> id;
    std::size_t size = 0;
    for (; rows != 0; rows &= rows - 1) {
      const PiiPattern& pattern = kPiiPatterns[std::countr_zero(rows)];
      const auto match = MatchShape(pattern, text_, begin, id, size);
      if (!match || (best_.end != 0 && match->end - begin <= best_.end - best_.begin)) continue;
      if (pattern.check != nullptr && !pattern.check({id.data(), size})) continue;
      const bool enough = pattern.when == When::kAlways || (pattern.when == When::kParted && match->parted);
      if (!enough && (Spoken(begin) & Bit(pattern.entity)) == 0) continue;
      best_ = {begin, match->end, pattern.entity};
    }
  }

  void LookAtPhone(std::size_t begin, bool parted) {
    const bool called = begin > 0 && (text_[begin - 1] == '+' || text_[begin - 1] == '(');
    if (!parted && !called && (Spoken(begin) & Bit(Pii::kPhoneNumber)) == 0) return;
    const auto shape = FindPhone(text_, begin);
    if (!shape || shape->begin < done_) return;
    if (!shape->certain && (Spoken(begin) & Bit(Pii::kPhoneNumber)) == 0) return;
    Take(PiiMatch{shape->begin, shape->end, Pii::kPhoneNumber});
    seen_ = std::max(seen_, best_.end);
  }

  void Take(const MaybePii& found) {
    if (found && found->begin >= done_ && found->end - found->begin > best_.end - best_.begin) best_ = *found;
  }

  // What is found later and begins earlier holds what was found in it.
  void Keep(const PiiMatch& found) {
    while (!findings_.empty() && findings_.back().begin >= found.begin) findings_.pop_back();
    std::size_t begin = found.begin;
    if (!findings_.empty()) begin = std::max(begin, findings_.back().end);
    if (begin >= found.end) return;
    findings_.push_back({begin, found.end, NameOf(found.entity)});
    done_ = found.end;
    seen_ = std::max(seen_, done_);
  }

  const std::string_view text_, before_;
  const PiiSet wanted_;
  const std::uint64_t shapes_;
  std::vector<Finding>& findings_;
  std::size_t seen_ = 0;         // runs before it have been looked at
  std::size_t colons_seen_ = 0;  // so have colons
  std::size_t done_ = 0;         // found and past
  PiiMatch best_;                // of the run
  PiiSet spoken_ = 0;
  bool spoken_known_ = false;
};

}  // namespace

bool FindPii(std::string_view text, std::string_view before, PiiSet wanted, std::vector<Finding>& findings) {
  if (text.size() < kMinPiiText || wanted == 0) return false;
  PiiLooker looker(text, before, wanted, findings);
  char rest[kBlockBytes] = {};
  std::uint64_t digit_before = 0;
  for (std::size_t base = 0; base < text.size(); base += kBlockBytes) {
    const std::size_t left = text.size() - base;
    const char* block = text.data() + base;
    if (left < kBlockBytes) {
      std::memset(rest, 0, sizeof rest);
      block = static_cast<const char*>(std::memcpy(rest, block, left));
    }
    PiiMasks masks = Classify(block);
    // Of a colon before a space, as behind every key of JSON, nothing comes.
    if (masks.colon != 0) masks.colon &= ~(Spaces(block) >> 1);
    const std::uint64_t first_digits = masks.digit & ~(masks.digit << 1 | digit_before);
    digit_before = masks.digit >> 63;
    for (std::uint64_t bits = first_digits | masks.at | masks.colon; bits != 0; bits &= bits - 1) {
      const auto i = static_cast<unsigned>(std::countr_zero(bits));
      if ((first_digits >> i & 1) != 0) {
        looker.LookAtDigit(base + i);
      } else if ((masks.at >> i & 1) != 0) {
        looker.LookAtSign(base + i);
      } else {
        looker.LookAtColon(base + i);
      }
    }
  }
  return !findings.empty();
}

}  // namespace spanbox
