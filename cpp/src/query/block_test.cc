#include "query/block_test.h"

#include <algorithm>
#include <string>

#include "query/matchers.h"

namespace spanbox {
namespace {

// Strings that stand in memory one after the other, as those of a dictionary do. A match across two of them is none,
// but that is for others to see.
std::optional<std::string_view> AsOneText(std::span<const std::string_view> strings) {
  if (strings.empty()) return std::string_view();
  const char* end = strings.front().data();
  for (const std::string_view string : strings) {
    if (string.data() != end) return std::nullopt;
    end += string.size();
  }
  return std::string_view(strings.front().data(), static_cast<std::size_t>(end - strings.front().data()));
}

// ASCII letters in lower case. Without a table, so that compilers make many at once.
std::string Lower(std::string_view text) {
  std::string lower(text.size(), '\0');
  std::ranges::transform(text, lower.begin(),
                         [](char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c | 0x20 : c); });
  return lower;
}

// A character that may be there as another one: no gram has it.
bool IsUnsafe(char c, TextProbe::Case letters) {
  const char gram[] = {'a', 'a', 'a', c};
  return TextProbe(std::string_view(gram, sizeof gram), letters).hashes().empty();
}

std::string_view LongestSafePart(std::string_view text, TextProbe::Case letters) {
  std::string_view longest;
  for (std::size_t begin = 0, end = 0; begin < text.size(); begin = end + 1) {
    for (end = begin; end < text.size() && !IsUnsafe(text[end], letters);) ++end;
    if (end - begin > longest.size()) longest = text.substr(begin, end - begin);
  }
  return longest;
}

}  // namespace

BlockTest::Needed::Needed(std::string_view text, TextProbe::Case letters)
    : grams(text, letters), exact(letters == TextProbe::Case::kExact), part(LongestSafePart(text, letters)) {
  if (!exact) part = Lower(part);
}

void BlockTest::AddText(std::string_view text, TextProbe::Case letters) {
  const Needed& needed = texts_.emplace_back(text, letters);
  if (needed.grams.hashes().empty()) any_block_ = true;
}

void BlockTest::AddRegex(const re2::RE2& regex) {
  constexpr int kShortestAtom = 4;  // shorter ones have no gram
  Regex added{std::make_unique<re2::FilteredRE2>(kShortestAtom), {}};
  int id = 0;
  if (added.filtered->Add(regex.pattern(), regex.options(), &id) != re2::RE2::NoError) {
    any_block_ = any_text_ = true;
    return;
  }
  std::vector<std::string> atoms;
  added.filtered->Compile(&atoms);
  // RE2 gives its atoms in lower case, whatever case the expression asks for. A group with flags may ask for any.
  const bool exact = regex.options().case_sensitive() && regex.pattern().find("(?") == std::string::npos;
  const auto letters = exact ? TextProbe::Case::kAscii : TextProbe::Case::kIgnored;
  for (const std::string& atom : atoms) added.atoms.emplace_back(atom, letters);
  regexes_.push_back(std::move(added));
}

Result<std::optional<std::vector<bool>>> BlockTest::MayMatch(const Segment& segment) const {
  std::optional<std::vector<bool>> blocks;
  if (any_block_) return blocks;
  SPANBOX_ASSIGN_OR_RETURN(const std::optional<TextFilter> filter, segment.Filter());
  if (!filter) return blocks;
  blocks.emplace(segment.text_blocks());
  for (std::uint32_t block = 0; block < segment.text_blocks(); ++block) {
    (*blocks)[block] = MayMatchWhere([&](const Needed& needed) { return filter->MayHold(block, needed.grams); });
  }
  return blocks;
}

bool BlockTest::MayMatch(std::span<const std::string_view> strings) const {
  const std::optional<std::string_view> text = AsOneText(strings);
  if (any_text_ || !text) return true;
  std::optional<std::string> lower;
  return MayMatchWhere([&](const Needed& needed) {
    if (!needed.exact && !lower) lower = Lower(*text);
    return ContainsText(needed.exact ? *text : *lower, needed.part);
  });
}

template <typename Holds>
bool BlockTest::MayMatchWhere(const Holds& holds) const {
  if (std::ranges::any_of(texts_, holds)) return true;
  return std::ranges::any_of(regexes_, [&](const Regex& regex) {
    std::vector<int> held, potential;
    for (std::size_t i = 0; i < regex.atoms.size(); ++i) {
      if (holds(regex.atoms[i])) held.push_back(static_cast<int>(i));
    }
    regex.filtered->AllPotentials(held, &potential);
    return !potential.empty();
  });
}

}  // namespace spanbox
