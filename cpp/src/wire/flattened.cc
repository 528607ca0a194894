#include "wire/flattened.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/msgpack.h"
#include "base/simdjson.h"
#include "wire/json_text.h"

namespace spanbox {
namespace {

constexpr int kMaxDepth = 16;
constexpr std::size_t kMaxElements = 100'000;

// OpenInference puts what an element of a list is between its number and its names.
struct Wrapper {
  std::string_view list, element;
};
constexpr Wrapper kWrappers[] = {
    {"input_messages", "message"}, {"output_messages", "message"}, {"contents", "message_content"},
    {"tool_calls", "tool_call"},   {"documents", "document"},
};

std::string_view WrapperOf(std::string_view pattern, std::string_view list) {
  if (!pattern.starts_with("llm.") && !pattern.starts_with("retrieval.")) return {};
  const auto* const found = std::ranges::find(kWrappers, list, &Wrapper::list);
  return found == std::end(kWrappers) ? std::string_view() : found->element;
}

std::string_view Head(std::string_view path) { return path.substr(0, path.find('.')); }
std::string_view Tail(std::string_view path) {
  const std::size_t dot = path.find('.');
  return dot == path.npos ? std::string_view() : path.substr(dot + 1);
}

std::optional<std::size_t> NumberOf(std::string_view text) {
  if (text.empty() || text.size() > 6 || (text.size() > 1 && text[0] == '0')) return std::nullopt;
  std::size_t number = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    number = number * 10 + static_cast<std::size_t>(c - '0');
  }
  return number;
}

// By parts: numbers by value, before and after all else in the order of the text.
bool Before(std::string_view a, std::string_view b) {
  for (;;) {
    const std::string_view a_head = Head(a), b_head = Head(b);
    if (a_head != b_head) {
      const auto a_number = NumberOf(a_head), b_number = NumberOf(b_head);
      if (a_number && b_number) return *a_number < *b_number;
      return a_number.has_value() != b_number.has_value() ? a_number.has_value() : a_head < b_head;
    }
    const bool a_ends = a_head.size() == a.size(), b_ends = b_head.size() == b.size();
    if (a_ends || b_ends) return a_ends && !b_ends;
    a = Tail(a);
    b = Tail(b);
  }
}

// Writes sorted attributes, whose names are paths by now, as nested JSON.
class Nester {
 public:
  Nester(std::string_view pattern, std::string& json) : pattern_(pattern), json_(json) {}

  // `skip`: bytes of each name that are written already; `list`: the name of what is written.
  bool Container(std::span<const Field> fields, std::size_t skip, std::string_view list, int depth) {
    if (depth > kMaxDepth) return false;
    const bool is_list = NumberOf(Head(fields[0].name.substr(skip))).has_value();
    const std::string_view wrapper = is_list ? WrapperOf(pattern_, list) : std::string_view();
    json_ += is_list ? '[' : '{';
    std::size_t count = 0;
    while (!fields.empty()) {
      const std::string_view head = Head(fields[0].name.substr(skip));
      if (is_list && NumberOf(head) != count) return false;  // gaps, or names among numbers
      const auto same = [&](const Field& field) { return Head(field.name.substr(skip)) == head; };
      const std::size_t size = static_cast<std::size_t>(std::ranges::find_if_not(fields, same) - fields.begin());
      if (count++ > 0) json_ += ',';
      if (!is_list) {
        AppendJsonString(head, json_);
        json_ += ':';
      }
      if (!Member(fields.first(size), skip + head.size(), head, wrapper, depth)) return false;
      fields = fields.subspan(size);
    }
    json_ += is_list ? ']' : '}';
    return true;
  }

 private:
  bool Member(std::span<const Field> fields, std::size_t skip, std::string_view head, std::string_view wrapper,
              int depth) {
    if (fields[0].name.size() == skip) return wrapper.empty() && fields.size() == 1 && Leaf(fields[0].value);
    ++skip;  // the dot
    if (!wrapper.empty()) {
      for (const Field& field : fields) {
        const std::string_view rest = field.name.substr(skip);
        if (Head(rest) != wrapper || rest.size() == wrapper.size()) return false;
      }
      skip += wrapper.size() + 1;
      if (NumberOf(Head(fields[0].name.substr(skip)))) return false;
    }
    return Container(fields, skip, head, depth + 1);
  }

  bool Leaf(const Value& value) {
    if (value.type == ValueType::kJson || (value.type == ValueType::kFloat && !std::isfinite(value.number))) {
      return false;
    }
    AppendJsonValue(value, json_);
    return true;
  }

  const std::string_view pattern_;
  std::string& json_;
};

class Flattener {
 public:
  Flattener(std::string_view pattern, RowArena& arena, std::vector<Field>& fields)
      : pattern_(pattern), arena_(arena), fields_(fields), path_(pattern.substr(0, pattern.size() - 2)) {}

  bool Add(simdjson::dom::element value, std::string_view list, int depth) {
    if (depth > 2 * kMaxDepth || fields_.size() > kMaxElements) return false;
    if (value.is_array()) {
      const std::string_view wrapper = WrapperOf(pattern_, list);
      const simdjson::dom::array elements = value.get_array().value_unsafe();
      std::size_t number = 0;
      for (const simdjson::dom::element element : elements) {
        std::string name = std::to_string(number++);
        if (!wrapper.empty()) name.append(".").append(wrapper);
        if (!Below(name, element, {}, depth)) return false;
      }
      return number > 0;
    }
    if (value.is_object()) {
      const simdjson::dom::object members = value.get_object().value_unsafe();
      bool any = false;
      for (const auto& [key, member] : members) {
        if (!Below(key, member, key, depth)) return false;
        any = true;
      }
      return any;
    }
    const auto scalar = ScalarOf(value, arena_);
    if (!scalar) return false;
    std::string& name = arena_.NewText();
    name = path_;
    fields_.push_back({Column::kAttribute, name, *scalar});
    return true;
  }

 private:
  bool Below(std::string_view name, simdjson::dom::element value, std::string_view list, int depth) {
    const std::size_t size = path_.size();
    path_.append(".").append(name);
    const bool ok = Add(value, list, depth + 1);
    path_.resize(size);
    return ok;
  }

  const std::string_view pattern_;
  RowArena& arena_;
  std::vector<Field>& fields_;
  std::string path_;
};

std::string_view ListName(std::string_view pattern) {
  pattern.remove_suffix(2);
  return pattern.substr(pattern.rfind('.') + 1);
}

}  // namespace

bool Nest(std::string_view pattern, std::span<Field> fields, std::string& json) {
  const std::size_t skip = pattern.size() - 1;
  std::ranges::sort(fields,
                    [&](const Field& a, const Field& b) { return Before(a.name.substr(skip), b.name.substr(skip)); });
  const std::size_t begin = json.size();
  return Nester(pattern, json).Container(fields, skip, ListName(pattern), 0) && json[begin] == '[';
}

bool Flatten(std::string_view pattern, std::string_view json, RowArena& arena, std::vector<Field>& fields) {
  thread_local simdjson::dom::parser parser;
  simdjson::dom::element list;
  if (parser.parse(json.data(), json.size(), true).get(list) != simdjson::SUCCESS || !list.is_array()) return false;
  return Flattener(pattern, arena, fields).Add(list, ListName(pattern), 0);
}

}  // namespace spanbox
