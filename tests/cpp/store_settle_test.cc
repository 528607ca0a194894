// Settling: a segment packed for the last time holds the same rows in less room, and its search filter never hides a
// text that is there.
#include <cctype>
#include <cstring>

#include "base/hash.h"
#include "store/text_filter.h"
#include "store_test_util.h"

namespace spanbox::testing {
namespace {

std::span<const std::byte> AsBytes(const std::string& text) { return std::as_bytes(std::span(text)); }

// Words drawn from few, so that there is something to compress.
std::string Prose(std::mt19937_64& random, std::size_t bytes) {
  static const std::vector<std::string> words = [] {
    std::mt19937_64 letters(3);
    std::vector<std::string> made(2000);
    for (std::string& word : made) {
      for (std::uint64_t n = 3 + letters() % 6; n > 0; --n) word.push_back(static_cast<char>('a' + letters() % 26));
    }
    return made;
  }();
  std::string text;
  while (text.size() < bytes) text.append(words[random() % words.size()]).append(random() % 9 == 0 ? ". " : " ");
  return text;
}

std::deque<Row> ProseRows(std::uint64_t seed, std::uint64_t traces) {
  std::mt19937_64 random(seed);
  std::deque<Row> rows;
  for (std::uint64_t i = 0; i < traces * 5; ++i) {
    rows.emplace_back(Trace(seed * 1000 + i / 5), seed * 10'000 + i + 1)
        .Start(static_cast<std::int64_t>(i))
        .Set(Column::kInput, Value::Json("[\"" + Prose(random, 1000) + "\"]"))
        .Set(Column::kOutput, Value::String(Prose(random, 2000)))
        .Set(Column::kInputTokens, Value::Int(static_cast<std::int64_t>(i)));
  }
  return rows;
}

class SettleTest : public ::testing::Test {
 protected:
  // Three hundred spans a commit are a few full blocks.
  void Fill(Store& store, std::uint64_t commits) {
    for (std::uint64_t n = 1; n <= commits; ++n) {
      const std::deque<Row> rows = ProseRows(n, 60);
      ASSERT_OK(store.Append(Borrow(rows)));
      const auto more = Expected(rows);
      expected_.insert(expected_.end(), more.begin(), more.end());
    }
    std::sort(expected_.begin(), expected_.end());
  }

  TempDir dir_;
  std::vector<std::string> expected_;
};

TEST_F(SettleTest, MergedTextBlocksAreTheOnesThatWereCommitted) {
  const auto store = Must(Store::Open(dir_ / "s", {.merge_fan_in = 4}));
  Fill(*store, 4);
  const auto before = Must(store->Info());
  ASSERT_TRUE(Must(store->MergeOnce()));
  const auto after = Must(store->Info());
  EXPECT_EQ(after.segments, 1u);
  EXPECT_EQ(after.raw_text_bytes, before.raw_text_bytes);
  // All but the four last blocks, which were not full, went over as they were.
  EXPECT_NEAR(static_cast<double>(after.text_bytes), static_cast<double>(before.text_bytes),
              static_cast<double>(before.text_bytes) / 20);
  EXPECT_EQ(AllRows(*store), expected_);
}

TEST_F(SettleTest, CompactedStoreHoldsTheSameRowsInLessRoom) {
  const auto store = Must(Store::Open(dir_ / "s"));
  Fill(*store, 5);
  const auto before = Must(store->Info());
  ASSERT_OK(store->Compact());
  const auto after = Must(store->Info());
  EXPECT_EQ(after.segments, 1u);
  EXPECT_LT(after.text_bytes + after.filter_bytes, before.text_bytes);
  EXPECT_GT(after.filter_bytes, 0u);
  EXPECT_EQ(AllRows(*store), expected_);
  EXPECT_EQ(Must(store->Verify()).problems, std::vector<std::string>{});

  // What comes later is packed together with it.
  Fill(*store, 2);
  ASSERT_OK(store->Compact());
  EXPECT_EQ(Must(store->Info()).segments, 1u);
  EXPECT_EQ(AllRows(*store), expected_);
  EXPECT_EQ(Must(store->Verify()).problems, std::vector<std::string>{});
}

TEST_F(SettleTest, FullSegmentsSettleInTheBackgroundAndSmallOnesDoNot) {
  StoreOptions options;
  options.target_segment_rows = 300;
  options.settle_after_ns = 0;
  const auto store = Must(Store::Open(dir_ / "s", options));
  Fill(*store, 3);
  ASSERT_OK(store->Append(Borrow(ProseRows(99, 2))));
  for (int i = 0; i < 100'000 && Must(store->Info()).filter_bytes == 0; ++i) (void)Must(store->DoBackgroundWork());
  EXPECT_GT(Must(store->Info()).filter_bytes, 0u);
  EXPECT_EQ(Must(store->Info()).segments, 4u);
}

TEST_F(SettleTest, TextThatLooksLikeAZstdDictionaryIsOnlyText) {
  const auto store = Must(Store::Open(dir_ / "s"));
  std::mt19937_64 random(1);
  std::deque<Row> rows;
  for (std::uint64_t i = 0; i < 9; ++i) {
    rows.emplace_back(Trace(i), i + 1)
        .Start(static_cast<std::int64_t>(i))
        .Set(Column::kInput, Value::String("\x37\xA4\x30\xEC" + Prose(random, 200'000)));
  }
  ASSERT_OK(store->Append(Borrow(rows)));
  ASSERT_OK(store->Compact());
  EXPECT_EQ(AllRows(*store), Expected(rows));
}

TEST(TextFilterTest, NeverHidesATextThatIsThere) {
  std::mt19937_64 random(7);
  std::vector<std::string> blocks;
  TextFilterBuilder builder;
  for (std::size_t bytes : {0u, 1u, 3u, 4u, 5u, 100u, 20'000u, 300'000u}) {
    std::string& block = blocks.emplace_back();
    if (bytes > 5) block = Prose(random, bytes / 2);
    while (block.size() < bytes) block.push_back(static_cast<char>(random()));
    builder.AddBlock(block);
  }
  const std::string bytes = builder.Finish();
  const auto filter = Must(TextFilter::Open(AsBytes(bytes), static_cast<std::uint32_t>(blocks.size())));
  for (std::uint32_t b = 0; b < blocks.size(); ++b) {
    for (int round = 0; round < 2000; ++round) {
      const std::size_t at = random() % (blocks[b].size() + 1);
      std::string piece = blocks[b].substr(at, random() % 30);
      EXPECT_TRUE(filter.MayHold(b, TextProbe(piece)));
      EXPECT_TRUE(filter.MayHold(b, TextProbe(piece, TextProbe::Case::kIgnored)));
      EXPECT_TRUE(filter.MayHold(b, TextProbe(piece, TextProbe::Case::kAscii)));
      for (char& c : piece) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
      EXPECT_TRUE(filter.MayHold(b, TextProbe(piece, TextProbe::Case::kIgnored)));
    }
  }
}

TEST(TextFilterTest, PassesFewBlocksThatLackTheText) {
  std::mt19937_64 random(8);
  TextFilterBuilder builder;
  constexpr std::uint32_t kBlocks = 60;
  for (std::uint32_t b = 0; b < kBlocks; ++b) builder.AddBlock(Prose(random, 100'000));
  const std::string bytes = builder.Finish();
  const auto filter = Must(TextFilter::Open(AsBytes(bytes), kBlocks));
  int passed = 0;
  constexpr int kProbes = 200;
  for (int i = 0; i < kProbes; ++i) {
    const TextProbe probe("req-" + std::to_string(100'000'000'000 + random() % 800'000'000'000));
    for (std::uint32_t b = 0; b < kBlocks; ++b) passed += filter.MayHold(b, probe);
  }
  // 0.55^13 is 0.04 %.
  EXPECT_LT(passed, kProbes * kBlocks / 200);
}

TEST(TextFilterTest, OtherCasesOutsideAsciiAreNotHidden) {
  TextFilterBuilder builder;
  builder.AddBlock(
      "the K\xC3\x89Y and the me\xC5\xBF\xC5\xBF"
      "age in \xE2\x84\xAA"
      "elvin");  // long s, Kelvin sign
  const std::string bytes = builder.Finish();
  const auto filter = Must(TextFilter::Open(AsBytes(bytes), 1));
  for (const char* text : {"message", "kelvin", "k\xC3\xA9y", "THE K"}) {
    EXPECT_TRUE(filter.MayHold(0, TextProbe(text, TextProbe::Case::kIgnored))) << text;
  }
  EXPECT_FALSE(filter.MayHold(0, TextProbe("another", TextProbe::Case::kIgnored)));
}

TEST(TextFilterTest, HostileBytesAreAnErrorOrAFilter) {
  std::mt19937_64 random(9);
  TextFilterBuilder builder;
  for (int b = 0; b < 3; ++b) builder.AddBlock(Prose(random, 400));
  const std::string good = builder.Finish();
  const TextProbe probe("anything at all");
  EXPECT_FALSE(TextFilter::Open(AsBytes(good), 2).ok());
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(TextFilter::Open(AsBytes(good.substr(0, size)), 3).ok()) << size;
  }
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = good;
    bytes[8 + random() % 12] = static_cast<char>(random());
    if (round % 2 == 0) bytes.resize(8 + random() % (bytes.size() - 8));
    const std::uint64_t checksum = Hash64(AsBytes(bytes).subspan(8));
    std::memcpy(bytes.data(), &checksum, sizeof checksum);
    const std::string owned(bytes);
    const auto filter = TextFilter::Open(AsBytes(owned), 3);
    if (!filter.ok()) continue;
    for (std::uint32_t b = 0; b < 3; ++b) (void)filter->MayHold(b, probe);
  }
}

}  // namespace
}  // namespace spanbox::testing
