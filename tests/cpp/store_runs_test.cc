// Runs of cells as they are stored: what is not what was written is refused.
#include <gtest/gtest.h>

#include "store/cell_runs.h"

namespace spanbox {
namespace {

TEST(CellRunTest, HostileBytesAreRefused) {
  const std::vector<std::uint64_t> ids = {4, 5, 6, 9};
  const std::string key = RunKey(ids), sound = EncodeRun(ids, "cells");
  const auto parse = [&](std::string_view value) { return ParseRun(key, AsBytes(value)); };
  ASSERT_EQ(parse(sound)->segments, ids);
  ASSERT_EQ(AsText(parse(sound)->cells), "cells");
  const std::size_t head = sound.size() - 5;
  for (std::size_t size = 0; size < head; ++size) EXPECT_FALSE(parse(sound.substr(0, size)).ok()) << size;
  for (std::size_t bit = 0; bit < head * 8; ++bit) {
    std::string bytes = sound;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
    EXPECT_FALSE(parse(bytes).ok()) << bit;
  }
  EXPECT_FALSE(ParseRun(RunKey(std::vector<std::uint64_t>{4, 5}), AsBytes(sound)).ok());
}

}  // namespace
}  // namespace spanbox
