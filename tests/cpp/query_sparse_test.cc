// Rows of which some have a value: eight at a time as one by one.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "query/sparse.h"

namespace spanbox {
namespace {

struct Rows {
  std::vector<std::uint32_t> before;  // of every row
  std::vector<bool> has;
  Validity valid;
  Buffer<std::uint32_t> codes;  // of the rows that have one
};

Rows Draw(std::size_t count, unsigned percent, std::mt19937_64& random) {
  Rows rows;
  rows.valid.words.resize((count + 63) / 64);
  std::vector<std::uint32_t> codes;
  for (std::size_t row = 0; row < count; ++row) {
    rows.before.push_back(static_cast<std::uint32_t>(random() % 1000));
    rows.has.push_back(random() % 100 < percent);
    if (!rows.has.back()) continue;
    rows.valid.words[row / 64] |= std::uint64_t{1} << (row % 64);
    codes.push_back(static_cast<std::uint32_t>(random() % 50));
  }
  rows.codes = Buffer<std::uint32_t>(codes.size());
  std::ranges::copy(codes, rows.codes.begin());
  return rows;
}

template <typename Check>
void ForEachDraw(Check check) {
  std::mt19937_64 random(3);
  for (const std::size_t count : {1u, 7u, 8u, 9u, 63u, 64u, 65u, 127u, 130u, 1000u}) {
    for (const unsigned percent : {0u, 5u, 50u, 95u, 100u}) {
      for (int i = 0; i < 20; ++i) check(Draw(count, percent, random));
    }
  }
}

TEST(SparseTest, PickedRowsAreThoseThatHaveAValue) {
  ForEachDraw([](const Rows& rows) {
    std::vector<std::uint32_t> expected;
    for (std::size_t row = 0; row < rows.has.size(); ++row) {
      if (rows.has[row]) expected.push_back(rows.before[row]);
    }
    std::vector<std::uint32_t> picked(rows.has.size() + kPickRoom);
    picked.resize(PickRows(rows.before, rows.valid, picked.data()));
    ASSERT_EQ(picked, expected);
  });
}

TEST(SparseTest, CombinedCodesAreThoseOfTheirRows) {
  ForEachDraw([](const Rows& rows) {
    for (const bool first : {false, true}) {
      std::vector<std::uint32_t> expected;
      std::size_t next = 0;
      for (std::size_t row = 0; row < rows.has.size(); ++row) {
        const std::uint32_t code = rows.has[row] ? rows.codes[next++] + 1 : 0;
        expected.push_back((first ? 0 : rows.before[row] * 51) + code);
      }
      std::vector<std::uint32_t> combined(rows.has.size());
      const std::span<const std::uint32_t> before(rows.before);
      CombineCodes(first ? before.first(0) : before, 51, rows.codes, rows.valid, combined);
      ASSERT_EQ(combined, expected);
    }
  });
}

}  // namespace
}  // namespace spanbox
