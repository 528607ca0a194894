// Format strings and metadata of ArrowSchema.
#include <charconv>
#include <cstring>
#include <map>
#include <optional>

#include "query/arrow_column.h"

namespace spanbox {
namespace {

using Kind = ArrowType::Kind;
using Layout = ArrowType::Layout;

constexpr std::int64_t kMaxMetadataBytes = 1 << 20;

struct Plain {
  Kind kind;
  Layout layout;
  std::int32_t width = 0;
  std::int64_t unit_ns = 1;
};

const std::map<std::string_view, Plain>& PlainTypes() {
  constexpr std::int64_t kUs = 1'000, kMs = 1'000'000, kS = 1'000'000'000;
  static const std::map<std::string_view, Plain> types = {
      {"n", {Kind::kNull, Layout::kNone}},
      {"b", {Kind::kBool, Layout::kBits}},
      {"c", {Kind::kInt, Layout::kFixed, 1}},
      {"s", {Kind::kInt, Layout::kFixed, 2}},
      {"i", {Kind::kInt, Layout::kFixed, 4}},
      {"l", {Kind::kInt, Layout::kFixed, 8}},
      {"C", {Kind::kUint, Layout::kFixed, 1}},
      {"S", {Kind::kUint, Layout::kFixed, 2}},
      {"I", {Kind::kUint, Layout::kFixed, 4}},
      {"L", {Kind::kUint, Layout::kFixed, 8}},
      {"e", {Kind::kFloat, Layout::kFixed, 2}},
      {"f", {Kind::kFloat, Layout::kFixed, 4}},
      {"g", {Kind::kFloat, Layout::kFixed, 8}},
      {"u", {Kind::kText, Layout::kOffsets32}},
      {"U", {Kind::kText, Layout::kOffsets64}},
      {"vu", {Kind::kText, Layout::kViews}},
      {"z", {Kind::kBytes, Layout::kOffsets32}},
      {"Z", {Kind::kBytes, Layout::kOffsets64}},
      {"vz", {Kind::kBytes, Layout::kViews}},
      {"tdD", {Kind::kDay, Layout::kFixed, 4}},
      {"tdm", {Kind::kDay, Layout::kFixed, 8, kMs}},
      {"tts", {Kind::kTime, Layout::kFixed, 4, kS}},
      {"ttm", {Kind::kTime, Layout::kFixed, 4, kMs}},
      {"ttu", {Kind::kTime, Layout::kFixed, 8, kUs}},
      {"ttn", {Kind::kTime, Layout::kFixed, 8}},
      {"tDs", {Kind::kLength, Layout::kFixed, 8, kS}},
      {"tDm", {Kind::kLength, Layout::kFixed, 8, kMs}},
      {"tDu", {Kind::kLength, Layout::kFixed, 8, kUs}},
      {"tDn", {Kind::kLength, Layout::kFixed, 8}},
      {"tss:", {Kind::kMoment, Layout::kFixed, 8, kS}},
      {"tsm:", {Kind::kMoment, Layout::kFixed, 8, kMs}},
      {"tsu:", {Kind::kMoment, Layout::kFixed, 8, kUs}},
      {"tsn:", {Kind::kMoment, Layout::kFixed, 8}},
      {"+l", {Kind::kList, Layout::kOffsets32}},
      {"+L", {Kind::kList, Layout::kOffsets64}},
      {"+s", {Kind::kStruct, Layout::kChildren}},
      {"+m", {Kind::kMap, Layout::kOffsets32}},
  };
  return types;
}

// The numbers of "w:16" or "d:38,2".
std::optional<std::vector<std::int32_t>> Numbers(std::string_view text) {
  std::vector<std::int32_t> numbers;
  while (!text.empty()) {
    std::int32_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc()) return std::nullopt;
    numbers.push_back(number);
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    if (!text.empty() && text.front() != ',') return std::nullopt;
    if (!text.empty()) text.remove_prefix(1);
  }
  return numbers;
}

// Fixed-size binary and lists, and decimals; false: it is none of them, or cannot be read.
bool ReadSized(std::string_view format, ArrowType& type) {
  const bool list = format.starts_with("+w:");
  if (list || format.starts_with("w:")) {
    const auto numbers = Numbers(format.substr(list ? 3 : 2));
    if (!numbers || numbers->size() != 1 || numbers->front() < 0) return false;
    type.kind = list ? Kind::kList : Kind::kBytes;
    type.layout = list ? Layout::kFixedList : Layout::kFixed;
    type.width = numbers->front();
    return true;
  }
  if (!format.starts_with("d:")) return false;
  const auto numbers = Numbers(format.substr(2));
  if (!numbers || numbers->size() < 2 || numbers->size() > 3) return false;
  const std::int32_t bits = numbers->size() == 3 ? numbers->back() : 128;
  if (bits != 32 && bits != 64 && bits != 128) return false;
  type.kind = Kind::kDecimal;
  type.layout = Layout::kFixed;
  type.width = bits / 8;
  type.scale = (*numbers)[1];
  return type.scale >= -64 && type.scale <= 64;
}

// Whether metadata says that texts are JSON. The length of the whole is not part of the interface.
bool SaysJson(const char* metadata) {
  if (metadata == nullptr) return false;
  const auto number = [&metadata] {
    std::int32_t value = 0;
    std::memcpy(&value, metadata, sizeof value);
    metadata += sizeof value;
    return value;
  };
  std::int64_t total = 0;
  std::string_view pair[2];
  for (std::int32_t left = number(); left > 0; --left) {
    for (std::string_view& text : pair) {
      const std::int32_t size = number();
      total += size;
      if (size < 0 || total > kMaxMetadataBytes) return false;
      text = {metadata, static_cast<std::size_t>(size)};
      metadata += size;
    }
    if (pair[0] == kJsonMetadata || (pair[0] == "ARROW:extension:name" && pair[1] == "arrow.json")) return true;
  }
  return false;
}

class TypeReader {
 public:
  Result<ArrowType> Read(const ArrowSchema* schema, int depth) {
    if (schema == nullptr || schema->release == nullptr || schema->format == nullptr) {
      return InvalidArgument("the Arrow schema" + Place() + " is damaged: a field without a format");
    }
    ArrowType type;
    type.name = schema->name == nullptr ? "" : schema->name;
    if (depth == 1) column_ = type.name;
    if (depth > kMaxArrowDepth || ++fields_ > kMaxArrowFields) {
      return InvalidArgument("the Arrow schema" + Place() + " has too many fields or levels: at most " +
                             std::to_string(kMaxArrowFields) + " and " + std::to_string(kMaxArrowDepth));
    }
    SPANBOX_RETURN_IF_ERROR(ReadFormat(schema->format, type));
    type.is_json = SaysJson(schema->metadata);
    if (schema->dictionary != nullptr) return ReadDictionary(*schema, std::move(type), depth);
    return ReadChildren(*schema, std::move(type), depth);
  }

 private:
  std::string Place() const { return column_.empty() ? std::string() : " of column \"" + column_ + "\""; }

  Status ReadFormat(std::string_view format, ArrowType& type) const {
    std::string_view plain = format;
    if (format.starts_with("ts") && format.size() >= 4) {
      plain = format.substr(0, 4);
      type.utc = format.size() > 4;
    }
    if (const auto found = PlainTypes().find(plain); found != PlainTypes().end()) {
      type.kind = found->second.kind;
      type.layout = found->second.layout;
      type.width = found->second.width;
      type.unit_ns = found->second.unit_ns;
      return OkStatus();
    }
    if (ReadSized(format, type)) return OkStatus();
    return InvalidArgument((column_.empty() ? "the table" : "column \"" + column_ + "\"") + " has the Arrow type " +
                           Told(format) + ", which is not read: cast it to " + InsteadOf(format));
  }

  static std::string Told(std::string_view format) {
    static const std::map<std::string_view, std::string_view> names = {
        {"+r", "run-end encoded"}, {"+v", "list view"}, {"+u", "union"}, {"ti", "interval"}, {"d:", "decimal"}};
    const auto found = names.find(format.substr(0, 2));
    const std::string shown(format.substr(0, 40));
    return found == names.end() ? "`" + shown + "`" : std::string(found->second) + " (`" + shown + "`)";
  }
  static std::string InsteadOf(std::string_view format) {
    if (format.starts_with("d:")) return "float64";
    if (format.starts_with("ti")) return "a duration";
    if (format.starts_with("+v")) return "a list";
    if (format.starts_with("+r")) return "the type of its values";
    return "text, a number, a timestamp or JSON text";
  }

  Result<ArrowType> ReadDictionary(const ArrowSchema& schema, ArrowType indices, int depth) {
    if (indices.kind != Kind::kInt && indices.kind != Kind::kUint) {
      return InvalidArgument("the Arrow schema" + Place() + " is damaged: a dictionary whose indices are no integers");
    }
    SPANBOX_ASSIGN_OR_RETURN(ArrowType values, Read(schema.dictionary, depth + 1));
    indices.is_json |= values.is_json;
    indices.dictionary = std::make_shared<const ArrowType>(std::move(values));
    return indices;
  }

  Result<ArrowType> ReadChildren(const ArrowSchema& schema, ArrowType type, int depth) {
    const bool nested = type.kind == Kind::kList || type.kind == Kind::kMap;
    const bool wrong = type.kind == Kind::kStruct ? schema.n_children < 0 : schema.n_children != (nested ? 1 : 0);
    if (wrong || (schema.n_children > 0 && schema.children == nullptr)) {
      return InvalidArgument("the Arrow schema" + Place() + " is damaged: it has " + std::to_string(schema.n_children) +
                             " children");
    }
    for (std::int64_t i = 0; i < schema.n_children; ++i) {
      SPANBOX_ASSIGN_OR_RETURN(ArrowType child, Read(schema.children[i], depth + 1));
      type.children.push_back(std::move(child));
    }
    if (type.kind == Kind::kMap && type.children[0].children.size() != 2) {
      return InvalidArgument("the Arrow schema" + Place() + " is damaged: a map whose entries are no pairs");
    }
    return type;
  }

  std::string column_;
  int fields_ = 0;
};

}  // namespace

Result<ArrowType> ReadArrowType(const ArrowSchema& schema) { return TypeReader().Read(&schema, 0); }

}  // namespace spanbox
