#include "record/redactor.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <optional>

#include "record/secret_finders.h"
#include "record/secret_table.h"
#include "record/text_blocks64.h"

namespace spanbox {
namespace {

// Where to look closer: a bit a byte.
struct Places {
  std::uint64_t runs = 0;     // the 16th or a later character of a run
  std::uint64_t assigns = 0;  // ':' or '='
  std::uint64_t dashes = 0;   // the fifth or a later dash of a row
  bool any() const { return (runs | assigns | dashes) != 0; }
};

// Finds rows of equal bits that may go on from one block to the next.
class RowDetector {
 public:
  [[gnu::always_inline]] Places Next(const BlockMasks& masks) {
    Places places{0, masks.assign, 0};
    // What is exact is asked seldom: ordinary words, short as they are, must not make the processor guess.
    const std::uint64_t nibbles = WholeNibbles(masks.key);
    const std::uint64_t triples = Joined(nibbles, nibbles_before_, 4) & Joined(nibbles, nibbles_before_, 8);
    if ((triples | triples_before_) != 0) places.runs = Rows(masks.key, before_.key, 16);
    const std::uint64_t pairs = Joined(masks.dash, before_.dash, 1);
    if (pairs != 0) places.dashes = Rows(masks.dash, before_.dash, 4) & pairs;
    nibbles_before_ = nibbles;
    triples_before_ = triples;
    before_ = masks;
    return places;
  }

 private:
  // A bit for each four, from a multiple of four on, that are all set: a row of 16 has three in a row, at least.
  static std::uint64_t WholeNibbles(std::uint64_t bits) {
    bits &= bits >> 1;
    return bits & bits >> 2 & 0x1111111111111111;
  }
  static std::uint64_t Joined(std::uint64_t now, std::uint64_t before, unsigned by) {
    return now & (now << by | before >> (64 - by));
  }
  // Where a row of `length`, a power of two, ends or goes on, by doubling.
  static std::uint64_t Rows(std::uint64_t now, std::uint64_t before, unsigned length) {
    for (unsigned by = 1; by < length; by *= 2) {
      now = Joined(now, before, by);
      before &= before << by;  // its first bits want the block before it: they are too far from here to matter
    }
    return now;
  }
  BlockMasks before_;
  std::uint64_t nibbles_before_ = 0, triples_before_ = 0;
};

// Asks the finders, in the order of the text.
class Looker {
 public:
  Looker(std::string_view text, std::vector<Finding>& findings) : text_(text), findings_(findings) {}

  [[gnu::noinline]] void Look(std::size_t base, Places places) {
    // Of each row its first bit, unless it has been looked at.
    places.runs &= ~(places.runs << 1 | std::uint64_t{run_end_ > base});
    for (std::uint64_t bits = places.assigns; bits != 0; bits &= bits - 1) {
      if (!MayBeAssignment(text_, base + static_cast<unsigned>(std::countr_zero(bits)))) places.assigns ^= bits & -bits;
    }
    for (std::uint64_t bits = places.runs | places.assigns | places.dashes; bits != 0; bits &= bits - 1) {
      const auto i = static_cast<unsigned>(std::countr_zero(bits));
      const std::size_t at = base + i;
      if ((places.runs >> i & 1) != 0) LookAtRun(at);
      if (at < done_) continue;
      if ((places.assigns >> i & 1) != 0) {
        if (const auto found = FindAtAssignment(text_, at)) Keep(*found);
      }
      if ((places.dashes >> i & 1) != 0 && at + 1 < text_.size() && text_[at + 1] == 'B') {
        if (const auto found = FindAfterDashes(text_, at + 1)) Keep(*found);
      }
    }
  }

 private:
  void LookAtRun(std::size_t at) {
    const std::size_t begin = at - 15;
    std::size_t end = at + 1;
    while (end < text_.size() && kIsKeyCharacter[static_cast<unsigned char>(text_[end])]) ++end;
    run_end_ = end;
    if (begin < done_ && end <= done_) return;
    found_.clear();
    FindInRun(text_, begin, end, found_);
    for (const Finding& finding : found_) Keep(finding);
  }

  void Keep(Finding finding) {
    if (finding.end <= done_) return;
    finding.begin = std::max(finding.begin, done_);
    findings_.push_back(finding);
    done_ = finding.end;
  }

  const std::string_view text_;
  std::vector<Finding>& findings_;
  std::vector<Finding> found_;
  std::size_t run_end_ = 0;  // this run has been looked at
  std::size_t done_ = 0;     // found and past
};

// The masks of the last block, cut where the text ends.
BlockMasks Cut(BlockMasks masks, std::size_t bytes) {
  const std::uint64_t kept = (std::uint64_t{1} << bytes) - 1;
  return {masks.key & kept, masks.assign & kept, masks.dash & kept};
}

template <BlockMasks Classify(const char*)>
[[gnu::always_inline]] inline bool Scan(std::string_view text, bool padded, std::vector<Finding>& findings) {
  Looker looker(text, findings);
  RowDetector detector;
  char rest[kBlockBytes] = {};
  for (std::size_t base = 0; base < text.size();) {
    Places places;
    // The inner loop calls nothing, so that what Classify compares with stays in registers.
    do {
      const std::size_t left = text.size() - base;
      const char* block = text.data() + base;
      if (left < kBlockBytes && !padded) block = static_cast<const char*>(std::memcpy(rest, block, left));
      BlockMasks masks = Classify(block);
      if (left < kBlockBytes) masks = Cut(masks, left);
      places = detector.Next(masks);
      base += kBlockBytes;
    } while (!places.any() && base < text.size());
    if (places.any()) looker.Look(base - kBlockBytes, places);
  }
  return !findings.empty();
}

#if defined(__x86_64__)
[[gnu::target("avx512bw")]] bool ScanAvx512(std::string_view text, bool padded, std::vector<Finding>& findings) {
  return Scan<ClassifyAvx512>(text, padded, findings);
}
[[gnu::target("avx2")]] bool ScanAvx2(std::string_view text, bool padded, std::vector<Finding>& findings) {
  return Scan<ClassifyAvx2>(text, padded, findings);
}
bool ScanSse2(std::string_view text, bool padded, std::vector<Finding>& findings) {
  return Scan<ClassifySse2>(text, padded, findings);
}
const auto scan = __builtin_cpu_supports("avx512bw") ? ScanAvx512
                  : __builtin_cpu_supports("avx2")   ? ScanAvx2
                                                     : ScanSse2;
#else
bool scan(std::string_view text, bool padded, std::vector<Finding>& findings) {
  return Scan<ClassifyByTable>(text, padded, findings);
}
#endif

}  // namespace

bool FindSecrets(std::string_view text, std::vector<Finding>& findings) {
  return text.size() >= kMinSecretText && scan(text, /*padded=*/false, findings);
}

bool FindSecretsPadded(std::string_view text, std::vector<Finding>& findings) {
  return text.size() >= kMinSecretText && scan(text, /*padded=*/true, findings);
}

std::string Redacted(std::string_view text, std::span<const Finding> findings) {
  std::string result;
  std::size_t kept = 0;
  for (const Finding& finding : findings) {
    result.append(text, kept, finding.begin - kept);
    result.append("[redacted:").append(finding.entity).append("]");
    kept = finding.end;
  }
  return result.append(text, kept);
}

std::vector<std::string_view> SecretEntities() {
  std::vector<std::string_view> names = {"jwt",          "bearer_token",   "basic_auth",    "discord_token",
                                         "url_password", "telegram_token", "slack_webhook", "discord_webhook",
                                         "named_secret", "private_key"};
  for (const SecretPrefix& secret : kSecretPrefixes) names.push_back(secret.entity);
  for (const SecretPrefix& secret : kDottedPrefixes) names.push_back(secret.entity);
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

}  // namespace spanbox
