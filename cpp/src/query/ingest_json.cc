
#include "base/simdjson.h"
#include "query/ingest_source.h"

namespace spanbox {
namespace {

constexpr std::size_t kMaxKnownColumns = 4096;  // beyond it they are forgotten and found anew

std::string Reason(simdjson::error_code error) {
  return std::string("not valid JSON: ") + simdjson::error_message(error);
}

InputCell CellOf(simdjson::dom::element value, std::string& scratch) {
  using Type = simdjson::dom::element_type;
  switch (value.type()) {
    case Type::NULL_VALUE:
      return {};
    case Type::BOOL:
      return {.kind = InputCell::Kind::kBool, .integer = bool(value) ? 1 : 0};
    case Type::INT64:
      return {.kind = InputCell::Kind::kInt, .integer = std::int64_t(value)};
    case Type::UINT64:  // beyond 63 bits: no number that is stored holds it exactly
      scratch = std::to_string(std::uint64_t(value));
      return {.kind = InputCell::Kind::kText, .text = scratch};
    case Type::DOUBLE:
      return {.kind = InputCell::Kind::kFloat, .number = double(value)};
    case Type::STRING: {
      const auto text = value.get_string().value_unsafe();
      return {.kind = InputCell::Kind::kText, .text = {text.data(), text.size()}};
    }
    default:
      scratch = simdjson::minify(value);
      return {.kind = InputCell::Kind::kJson, .text = scratch};
  }
}

}  // namespace

struct Ingest::JsonRows::Parser {
  simdjson::dom::parser parser;
};

Ingest::JsonRows::JsonRows() : parser_(std::make_unique<Parser>()) {}
Ingest::JsonRows::~JsonRows() = default;

void Ingest::JsonRows::Take(std::string_view lines, std::uint64_t first_line) {
  left_ = lines;
  line_ = first_line - 1;
}

Result<bool> Ingest::JsonRows::Fill() {
  for (;;) {
    const std::size_t begin = left_.find_first_not_of(" \t\r");
    if (begin == left_.npos) return false;
    if (left_[begin] != '\n') return true;
    ++line_;
    left_.remove_prefix(begin + 1);
  }
}

std::string_view Ingest::JsonRows::NextLine() {
  ++line_;
  const std::string_view line = left_.substr(0, left_.find('\n'));
  left_.remove_prefix(std::min(left_.size(), line.size() + 1));
  return line;
}

std::uint64_t Ingest::JsonRows::Skip(std::uint64_t) {
  NextLine();
  return 1;
}

const InputColumn& Ingest::JsonRows::ColumnOf(std::string_view key) {
  if (const auto found = columns_.find(key); found != columns_.end()) return *found->second;
  return *columns_.emplace(std::string(key), std::make_unique<InputColumn>(key, false)).first->second;
}

Status Ingest::JsonRows::Read(RowMaker& maker) {
  if (columns_.size() > kMaxKnownColumns) columns_.clear();
  const std::string_view line = NextLine();
  simdjson::dom::element row;
  if (const auto error = parser_->parser.parse(line.data(), line.size(), true).get(row)) {
    return InvalidArgument(Reason(error));
  }
  simdjson::dom::object object;
  if (row.get(object)) return InvalidArgument("no JSON object: a line is {\"start\": ..., \"name\": ...}");
  for (const auto& [key, value] : object) {
    if (key.empty()) return InvalidArgument("a key is empty: name it");
    SPANBOX_RETURN_IF_ERROR(maker.Set(ColumnOf({key.data(), key.size()}), CellOf(value, maker.Scratch())));
  }
  return OkStatus();
}

bool IsJsonContainer(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == text.npos || (text[begin] != '{' && text[begin] != '[')) return false;
  thread_local simdjson::dom::parser parser;
  simdjson::dom::element ignored;
  return parser.parse(text.data(), text.size(), true).get(ignored) == simdjson::SUCCESS;
}

}  // namespace spanbox
