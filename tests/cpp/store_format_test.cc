// The worked example of docs/segment_format.md is what the encoder writes, byte for byte.
#include <cstdio>
#include <fstream>
#include <sstream>

#include "store_test_util.h"

namespace spanbox::testing {
namespace {

std::string Document() {
  const auto root = std::filesystem::path(__FILE__).parent_path().parent_path().parent_path();
  std::ifstream file(root / "docs" / "segment_format.md");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// Lines of the block are "offset  bytes in hexadecimal  | what they are".
std::string BytesOfBlock(const std::string& document) {
  const std::string fence = "```hexdump\n";
  const std::size_t begin = document.find(fence);
  EXPECT_NE(begin, std::string::npos) << "the page has no example";
  if (begin == std::string::npos) return {};
  std::istringstream block(
      document.substr(begin + fence.size(), document.find("```", begin + 3) - begin - fence.size()));
  std::string bytes, line;
  while (std::getline(block, line)) {
    std::istringstream parts(line.substr(0, line.find('|')));
    std::string part;
    parts >> part;
    EXPECT_EQ(std::stoul(part), bytes.size()) << "offset of the line: " << line;
    while (parts >> part) bytes.push_back(static_cast<char>(std::stoi(part, nullptr, 16)));
  }
  return bytes;
}

std::string Hexdump(const std::string& bytes) {
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    char part[16];
    std::snprintf(part, sizeof part, i % 8 == 0 ? "\n%zu " : " ", i);
    out += part;
    std::snprintf(part, sizeof part, "%02x", static_cast<std::uint8_t>(bytes[i]));
    out += part;
  }
  return out;
}

TEST(StoreFormatTest, WorkedExampleIsWhatTheEncoderWrites) {
  std::deque<Row> rows;
  rows.emplace_back(Trace(10), 1)
      .Name("ask")
      .Kind(SpanKind::kAgent)
      .Start(1000)
      .Duration(500)
      .Set(Column::kInput, Value::String("hi"));
  rows.emplace_back(Trace(10), 2)
      .Name("ask")
      .Kind(SpanKind::kLlm)
      .Start(1010)
      .Duration(200)
      .Parent(1)
      .Set(Column::kModel, Value::String("gpt-5"))
      .Set(Column::kInputTokens, Value::Int(120));
  rows.emplace_back(Trace(11), 3)
      .Name("find")
      .Kind(SpanKind::kTool)
      .Start(1250)
      .Duration(-1)
      .Parent(99)
      .Set(Column::kInput, Value::Json("{}"));
  const Built built(Borrow(rows));
  ASSERT_EQ(built.encoded.text_blocks, std::vector<std::string>{"hi{}"});
  EXPECT_TRUE(BytesOfBlock(Document()) == built.encoded.columns) << "it writes" << Hexdump(built.encoded.columns);
}

}  // namespace
}  // namespace spanbox::testing
