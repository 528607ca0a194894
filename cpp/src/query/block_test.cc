#include "query/block_test.h"

#include <algorithm>
#include <string>

namespace spanbox {

void BlockTest::AddText(std::string_view text, TextProbe::Case letters) {
  TextProbe probe(text, letters);
  if (probe.hashes().empty()) any_block_ = true;
  texts_.push_back(std::move(probe));
}

void BlockTest::AddRegex(const re2::RE2& regex) {
  constexpr int kShortestAtom = 4;  // shorter ones have no gram
  Regex added{std::make_unique<re2::FilteredRE2>(kShortestAtom), {}};
  int id = 0;
  if (added.filtered->Add(regex.pattern(), regex.options(), &id) != re2::RE2::NoError) {
    any_block_ = true;
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
  for (std::uint32_t block = 0; block < segment.text_blocks(); ++block) (*blocks)[block] = MayMatch(*filter, block);
  return blocks;
}

bool BlockTest::MayMatch(const TextFilter& filter, std::uint32_t block) const {
  const auto holds = [&](const TextProbe& probe) { return filter.MayHold(block, probe); };
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
