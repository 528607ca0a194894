// The filter language: a filter either has an error with a place, or it and its negation part the rows between them.
#include "any_store.h"

using namespace spanbox;

namespace {

std::unique_ptr<testing::MemoryStore> MakeStore() {
  auto store = std::make_unique<testing::MemoryStore>();
  std::vector<testing::Row> rows;
  for (std::uint64_t i = 0; i < 40; ++i) {
    testing::Row& row = rows.emplace_back();
    row.trace = i / 8;
    row.span = i + 1;
    row.parent = i % 8 == 0 ? 0 : i - i % 3;
    row.name = i % 3 == 0 ? "tool" : "llm call";
    row.kind = i % 2 == 0 ? SpanKind::kLlm : SpanKind::kTool;
    row.status = i % 7 == 0 ? SpanStatus::kError : SpanStatus::kOk;
    row.start_ns = static_cast<std::int64_t>(1'700'000'000 + i) * 1'000'000'000;
    row.duration_ns = i % 5 == 0 ? -1 : static_cast<std::int64_t>(i) * 100'000'000;
    row.fields = {{"model", "gpt-" + std::to_string(i % 4)}, {"cost_usd", 0.01 * static_cast<double>(i)}};
    if (i % 2 == 0) row.fields["output"] = std::string(i * 90, 'x') + " refund of order \xC3\xA9";
    if (i % 4 == 0) row.fields["x"] = static_cast<std::int64_t>(i);
    if (i % 4 == 1) row.fields["x"] = "text";
    if (i % 4 == 2) row.fields["x"] = testing::Json{"[1,2]"};
    if (rows.size() < 20) continue;
    store->AddSegment(rows);
    rows.clear();
  }
  return store;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto store = MakeStore();
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto matching = Count(*store, {.filter = text});
  if (!matching.ok()) {
    fuzz::Require(!matching.status().message().empty());
    return 0;
  }
  fuzz::Require(CheckFilter(text).ok());
  if (text.find_first_not_of(" \t\r\n") == std::string::npos) return 0;
  const auto others = Count(*store, {.filter = "not (" + text + "\n)"});
  if (others.ok()) fuzz::Require(*matching + *others == 40);  // else too deep or too long by this much
  return 0;
}
