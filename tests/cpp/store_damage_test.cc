// Damaged bytes: whatever a disk or a stranger does to a segment, reading it is an error or the right answer, never a
// wrong value and never a crash.
#include <cstring>
#include <unordered_map>

#include "base/hash.h"
#include "store_test_util.h"

namespace spanbox::testing {
namespace {

class SegmentDamageTest : public ::testing::Test {
 protected:
  SegmentDamageTest() : built_(Borrow(MakeRows(rows_, 11, 40))), expected_(Must(RowsAsText(Must(built_.Open())))) {}

  // Errors are fine; answers have to be right. Returns whether there was an answer.
  bool AnswersAreRight(const std::string& columns, const std::vector<std::string>& blocks) {
    const auto segment = Built::Open(columns, blocks);
    if (!segment.ok()) return false;
    for (const Row& row : rows_) {
      const auto found = segment->RowsOfTrace(row.row().trace_id);
      EXPECT_TRUE(!found.ok() || !found->empty()) << "a trace is lost without an error";
    }
    const auto rows = RowsAsText(*segment);
    if (!rows.ok()) return false;
    EXPECT_EQ(*rows, expected_);
    return true;
  }

  std::deque<Row> rows_;
  Built built_;
  std::vector<std::string> expected_;
};

TEST_F(SegmentDamageTest, UndamagedBytesAnswer) {
  EXPECT_TRUE(AnswersAreRight(built_.encoded.columns, built_.encoded.text_blocks));
}

TEST_F(SegmentDamageTest, FlippedBitAnywhereInColumnsIsAnErrorOrHarmless) {
  std::size_t harmless = 0;
  for (std::size_t at = 0; at < built_.encoded.columns.size(); ++at) {
    std::string columns = built_.encoded.columns;
    columns[at] = static_cast<char>(columns[at] ^ 1 << (at % 8));
    harmless += AnswersAreRight(columns, built_.encoded.text_blocks);
    ASSERT_FALSE(HasFailure()) << "at byte " << at;
  }
  // Only the two reserved bytes and the padding between chunks are covered by no checksum.
  EXPECT_LE(harmless, 2 + 7 * 2 * Must(built_.Open()).chunks().size());
}

TEST_F(SegmentDamageTest, TruncationAnywhereIsAnError) {
  for (std::size_t size = 0; size < built_.encoded.columns.size(); ++size) {
    EXPECT_FALSE(AnswersAreRight(built_.encoded.columns.substr(0, size), built_.encoded.text_blocks)) << size;
  }
  EXPECT_FALSE(AnswersAreRight(built_.encoded.columns + "x", built_.encoded.text_blocks));
}

TEST_F(SegmentDamageTest, DamagedTextBlocksAreErrors) {
  ASSERT_FALSE(built_.encoded.text_blocks.empty());
  const std::string block = built_.encoded.text_blocks[0];
  for (std::size_t at = 0; at < block.size(); at += 1 + block.size() / 2000) {
    auto blocks = built_.encoded.text_blocks;
    blocks[0][at] = static_cast<char>(blocks[0][at] ^ 0x10);
    EXPECT_FALSE(AnswersAreRight(built_.encoded.columns, blocks)) << at;
    blocks[0] = block.substr(0, at);
    EXPECT_FALSE(AnswersAreRight(built_.encoded.columns, blocks)) << at;
  }
}

TEST(SegmentHostileTest, SwappedTextBlocksAreErrors) {
  std::deque<Row> rows;
  for (std::uint64_t i = 0; i < 4; ++i) {
    rows.emplace_back(Trace(1), i + 1)
        .Start(static_cast<std::int64_t>(i))
        .Set(Column::kInput, Value::String(std::string(300'000, static_cast<char>('a' + i))));
  }
  const Built built(Borrow(rows));
  ASSERT_GE(built.encoded.text_blocks.size(), 2u);
  auto blocks = built.encoded.text_blocks;
  std::swap(blocks[0], blocks[1]);
  EXPECT_FALSE(RowsAsText(Must(Built::Open(built.encoded.columns, blocks))).ok());
}

TEST(SegmentHostileTest, DamagedBaseOfTextBlocksIsAnError) {
  std::deque<Row> rows;
  std::mt19937_64 random(4);
  for (std::uint64_t i = 0; i < 20; ++i) {
    std::string text;
    while (text.size() < 100'000) text.append(std::to_string(random() % 1000)).push_back(' ');
    rows.emplace_back(Trace(i), i + 1).Start(static_cast<std::int64_t>(i)).Set(Column::kInput, Value::String(text));
  }
  const Built built(Borrow(rows), TextPacker::Mode::kSmall);
  ASSERT_GE(built.encoded.text_blocks.size(), 3u);
  EXPECT_TRUE(RowsAsText(Must(built.Open())).ok());
  auto blocks = built.encoded.text_blocks;
  blocks[0][100] = static_cast<char>(blocks[0][100] ^ 1);
  EXPECT_FALSE(RowsAsText(Must(Built::Open(built.encoded.columns, blocks))).ok());
  blocks[0].clear();
  EXPECT_FALSE(RowsAsText(Must(Built::Open(built.encoded.columns, blocks))).ok());
}

// The same, with checksums made good again: now only the bounds protect the reader. Values may be wrong, memory may
// not.
TEST_F(SegmentDamageTest, HostileBytesWithValidChecksumsNeverCrash) {
  std::mt19937_64 random(5);
  std::uint32_t directory_bytes;
  std::memcpy(&directory_bytes, built_.encoded.columns.data() + 20, sizeof directory_bytes);
  std::size_t opened = 0;
  for (int round = 0; round < 30'000; ++round) {
    std::string columns = built_.encoded.columns;
    const std::size_t covered = 40 + directory_bytes;
    for (int changes = 1 + static_cast<int>(random() % 2); changes > 0; --changes) {
      columns[16 + random() % (covered - 16)] = static_cast<char>(random());
    }
    const std::uint64_t checksum = Hash64(std::as_bytes(std::span(columns.data() + 16, covered - 16)));
    std::memcpy(columns.data() + 8, &checksum, sizeof checksum);
    const auto segment = Built::Open(columns, built_.encoded.text_blocks);
    if (!segment.ok()) continue;
    ++opened;
    (void)RowsAsText(*segment);
    (void)segment->RowsOfTrace(rows_[0].row().trace_id);
  }
  EXPECT_GT(opened, 100u) << "the test must reach beyond the directory";
}

// A chunk whose checksum the directory holds, found without knowing the format.
struct ChunkSite {
  std::size_t begin, size, checksum_at;
};
std::vector<ChunkSite> FindChunks(const std::string& columns, std::size_t directory_end) {
  const auto hash = [&](std::size_t begin, std::size_t size) {
    return Hash64(std::as_bytes(std::span(columns.data() + begin, size)));
  };
  std::unordered_map<std::uint64_t, std::pair<std::size_t, std::size_t>> places;
  for (std::size_t begin = (directory_end + 7) / 8 * 8; begin < columns.size(); begin += 8) {
    for (std::size_t size = 1; size <= std::min<std::size_t>(1200, columns.size() - begin); ++size) {
      places[hash(begin, size)] = {begin, size};
    }
  }
  std::vector<ChunkSite> sites;
  for (std::size_t at = 40; at + 8 <= directory_end; ++at) {
    std::uint64_t word;
    std::memcpy(&word, columns.data() + at, sizeof word);
    if (const auto found = places.find(word); found != places.end()) {
      sites.push_back({found->second.first, found->second.second, at});
    }
  }
  return sites;
}

TEST_F(SegmentDamageTest, HostileChunksWithValidChecksumsNeverCrash) {
  std::uint32_t directory_bytes;
  std::memcpy(&directory_bytes, built_.encoded.columns.data() + 20, sizeof directory_bytes);
  const std::size_t covered = 40 + directory_bytes;
  const auto sites = FindChunks(built_.encoded.columns, covered);
  ASSERT_GT(sites.size(), 20u);
  std::mt19937_64 random(6);
  for (int round = 0; round < 20'000; ++round) {
    std::string columns = built_.encoded.columns;
    const ChunkSite& site = sites[random() % sites.size()];
    for (int changes = 1 + static_cast<int>(random() % 3); changes > 0; --changes) {
      const std::size_t near = random() % 2 == 0 ? std::min<std::size_t>(site.size, 12) : site.size;
      columns[site.begin + random() % near] = static_cast<char>(random());
    }
    std::uint64_t checksum = Hash64(std::as_bytes(std::span(columns.data() + site.begin, site.size)));
    std::memcpy(columns.data() + site.checksum_at, &checksum, sizeof checksum);
    checksum = Hash64(std::as_bytes(std::span(columns.data() + 16, covered - 16)));
    std::memcpy(columns.data() + 8, &checksum, sizeof checksum);
    const auto segment = Built::Open(columns, built_.encoded.text_blocks);
    ASSERT_TRUE(segment.ok()) << "the directory is good";
    (void)RowsAsText(*segment);
    (void)segment->RowsOfTrace(rows_[0].row().trace_id);
  }
}

TEST(SegmentHostileTest, NewerVersionIsNamed) {
  Row row;
  Built built({row.row()});
  built.encoded.columns[4] = 9;
  const auto segment = built.Open();
  EXPECT_EQ(segment.status().code(), StatusCode::kUnsupported);
  EXPECT_NE(segment.status().message().find("9"), std::string::npos);
}

TEST(SegmentHostileTest, EmptyAndForeignBytesAreErrors) {
  EXPECT_EQ(Built::Open("", {}).status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(Built::Open(std::string(100, '\0'), {}).status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(Built::Open(std::string(1000, 'x'), {}).status().code(), StatusCode::kDataLoss);
}

}  // namespace
}  // namespace spanbox::testing
