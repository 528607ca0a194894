#include "wire/normalise.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/moment.h"
#include "base/msgpack.h"
#include "base/simdjson.h"
#include "wire/flattened.h"
#include "wire/json_text.h"

namespace spanbox {
namespace {

constexpr double kMaxTimeUnits = 1e9;

std::size_t Index(Column column) { return static_cast<std::size_t>(column); }

std::optional<double> NumberOf(const Value& value) {
  if (value.type == ValueType::kFloat) return value.number;
  if (value.type == ValueType::kInt) return static_cast<double>(value.integer);
  return std::nullopt;
}

std::optional<std::int64_t> CountOf(const Value& value) {
  if (value.type == ValueType::kInt && value.integer >= 0) return value.integer;
  if (value.type != ValueType::kFloat || !(value.number >= 0 && value.number < 9e15)) return std::nullopt;
  const auto whole = static_cast<std::int64_t>(value.number);
  if (static_cast<double>(whole) != value.number) return std::nullopt;
  return whole;
}

double UnitsPerNs(Reading reading) { return reading == Reading::kSeconds ? 1e9 : 1e6; }

// The text of ["text"] when it stands there without escapes; empty: it is something else.
std::string_view OnlyText(std::string_view json) {
  if (json.size() < 5 || !json.starts_with("[\"") || !json.ends_with("\"]")) return {};
  json = json.substr(2, json.size() - 4);
  return json.find_first_of("\"\\") == json.npos ? json : std::string_view();
}

bool IsSame(const Value& a, const Value& b) {
  if (a.type != b.type) return false;
  if (a.type == ValueType::kString || a.type == ValueType::kJson) return a.text == b.text;
  if (a.type == ValueType::kBool) return a.boolean == b.boolean;
  return a.type == ValueType::kInt ? a.integer == b.integer
                                   : std::bit_cast<std::uint64_t>(a.number) == std::bit_cast<std::uint64_t>(b.number);
}

bool MatchesOne(std::string_view name, std::string_view pattern) {
  const bool open_begin = pattern.starts_with('*'), open_end = pattern.ends_with('*');
  const std::string_view text = pattern.substr(open_begin, pattern.size() - open_begin - open_end);
  if (open_begin && open_end) return name.find(text) != name.npos;
  return open_end ? name.starts_with(text) : name == text;
}

bool Matches(std::string_view name, std::string_view patterns) {
  for (;;) {
    const std::size_t bar = patterns.find('|');
    if (MatchesOne(name, patterns.substr(0, bar))) return true;
    if (bar == patterns.npos) return false;
    patterns.remove_prefix(bar + 1);
  }
}

std::int64_t SumOrZero(std::int64_t a, std::int64_t b) {
  std::int64_t sum = 0;
  return __builtin_add_overflow(a, b, &sum) ? 0 : sum;
}

// The value a rule makes of an attribute's. REQUIRES: Normaliser::IsReadable said so; no list, no detail.
Value ReadValue(const Rule& rule, const Value& value, RowArena& arena) {
  switch (rule.reading) {
    case Reading::kCount:
    case Reading::kNanoseconds:
      return Value::Int(*CountOf(value));
    case Reading::kNumber:
      return Value::Float(*NumberOf(value));
    case Reading::kSeconds:
    case Reading::kMilliseconds:
      return Value::Int(std::llround(*NumberOf(value) * UnitsPerNs(rule.reading)));
    case Reading::kFirstText: {
      if (value.type == ValueType::kString) return value;
      if (const std::string_view text = OnlyText(value.text); !text.empty()) return Value::String(text);
      simdjson::dom::parser parser;
      simdjson::dom::element list;
      std::string& text = arena.NewText();
      if (!parser.parse(value.text.data(), value.text.size(), true).get(list)) {
        std::string_view first;
        if (!list.at_pointer("/0").get(first)) text = first;
      }
      return Value::String(text);
    }
    default:
      return value;
  }
}

}  // namespace

// A JSON text that several columns are read from.
struct Normaliser::Details {
  simdjson::dom::parser parser;
  const char* text = nullptr;  // that object holds
  std::optional<simdjson::dom::object> object;
};

Normaliser::Normaliser() : details_(std::make_unique<Details>()) {}
Normaliser::~Normaliser() = default;

Value WrittenValue(const Rule& rule, const Value& value, RowArena& arena) {
  switch (rule.reading) {
    case Reading::kSeconds:
    case Reading::kMilliseconds:
      if (value.type != ValueType::kInt) return value;
      return Value::Float(static_cast<double>(value.integer) / UnitsPerNs(rule.reading));
    case Reading::kFirstText: {
      std::string& json = arena.NewText();
      json = '[';
      AppendJsonValue(value, json);
      json += ']';
      return Value::Json(json);
    }
    default:
      return value;
  }
}

std::string_view RawName(std::string_view name, RowArena& arena) {
  // Of the names that mean something else, only these have a dot; the columns have none.
  const bool has_dot = name.find('.') != name.npos;
  const bool is_taken = has_dot ? name.starts_with(kRawPrefix) || name.starts_with("resource.") ||
                                      name.starts_with("scope.") || name.starts_with("otel.") || name == kKeysAttribute
                                : name.empty() || name == kDialectAttribute || FindColumn(name) != nullptr;
  if (!is_taken) return name;
  std::string& raw = arena.NewText();
  raw = kRawPrefix;
  raw += name;
  return raw;
}

SpanKind KindOfAttributes(std::span<const Field> attributes) {
  int best = kKindKeys;
  SpanKind kind = SpanKind::kSpan;
  for (const Field& attribute : attributes) {
    const KeyInfo* const info = InfoOf(attribute.name);
    if (info == nullptr || info->kind_key < 0 || info->kind_key >= best) continue;
    if (attribute.value.type != ValueType::kString) continue;
    if (const auto found = KindOf(info->kind_key, attribute.value.text)) {
      kind = *found;
      best = info->kind_key;
    }
  }
  return kind;
}

SpanKind Normaliser::Normalise(std::span<const Field> given, std::span<const Field> otherwise,
                               std::optional<std::int64_t> start_ns, RowArena& arena, std::vector<Field>& out) {
  Look(given);
  if (knows_any_) {
    kind_ = FindKind(given);
    for (std::size_t column = 0; column < kColumnCount; ++column) {
      if (picks_[column].rule >= 0) Take(static_cast<Column>(column), given, arena, out);
    }
    AddDerived(given, start_ns, out);
  }
  for (const Field& field : otherwise) {
    if (places_[Index(field.column)] < 0) AddComputed(field.column, field.value, out);
  }
  for (std::size_t i = 0; i < given.size(); ++i) {
    if (consumed_[i] == 0) out.push_back({Column::kAttribute, RawName(given[i].name, arena), given[i].value});
  }
  AddKeys(arena, out);
  return kind_;
}

void Normaliser::Look(std::span<const Field> given) {
  picks_.fill({});
  keys_.fill({});
  places_.fill(-1);
  kind_keys_.fill(-1);
  asides_.fill(-1);
  consumed_.assign(given.size(), 0);
  knows_any_ = has_dialect_ = false;
  kind_ = SpanKind::kSpan;
  details_->text = nullptr;
  const auto pick = [&](int number, std::size_t attribute) {
    Pick& best = picks_[Index(Rules()[static_cast<std::size_t>(number)].column)];
    if (best.rule < 0 || number < best.rule) best = {number, static_cast<std::uint32_t>(attribute)};
  };
  for (std::size_t i = 0; i < given.size(); ++i) {
    const KeyInfo* const info = InfoOf(given[i].name);
    if (info == nullptr) {
      if (const int rule = FlattenedRule(given[i].name); rule >= 0) {
        pick(rule, i);
        knows_any_ = true;
      }
      continue;
    }
    knows_any_ = true;
    if (info->kind_key >= 0) kind_keys_[static_cast<std::size_t>(info->kind_key)] = static_cast<int>(i);
    asides_[static_cast<std::size_t>(info->aside)] = static_cast<int>(i);
    for (const std::uint16_t number : info->rules()) {
      if (IsReadable(Rules()[number], given[i].value)) pick(number, i);
    }
  }
}

bool Normaliser::IsReadable(const Rule& rule, const Value& value) {
  const bool is_text = value.type == ValueType::kString && !value.text.empty();
  switch (rule.reading) {
    case Reading::kText:
    case Reading::kTextCopy:
      return is_text;
    case Reading::kCount:
    case Reading::kNanoseconds:
      return CountOf(value).has_value();
    case Reading::kNumber:
      return NumberOf(value).has_value();
    case Reading::kPayload:
      return value.type == ValueType::kJson ? value.text != "null" : value.type != ValueType::kString || is_text;
    case Reading::kFirstText:
      return is_text || (value.type == ValueType::kJson && value.text.starts_with("[\""));
    case Reading::kSeconds:
    case Reading::kMilliseconds: {
      const auto number = NumberOf(value);
      return number && *number >= 0 && *number < kMaxTimeUnits;
    }
    case Reading::kCountDetail:
    case Reading::kNumberDetail:
      return (is_text || value.type == ValueType::kJson) && Detail(rule, value.text).has_value();
    case Reading::kFlattened:
      return false;
  }
  return false;
}

std::optional<Value> Normaliser::Detail(const Rule& rule, std::string_view json) {
  if (details_->text != json.data()) {
    details_->text = json.data();
    details_->object.reset();
    simdjson::dom::object object;
    if (!details_->parser.parse(json.data(), json.size(), true).get(object)) details_->object = object;
  }
  if (!details_->object) return std::nullopt;
  for (const auto& [key, element] : *details_->object) {
    if (!Matches(key, rule.detail) || !element.is_number()) continue;
    const Value value = element.is_double()  ? Value::Float(element.get_double().value_unsafe())
                        : element.is_int64() ? Value::Int(element.get_int64().value_unsafe())
                                             : Value::Float(static_cast<double>(element.get_uint64().value_unsafe()));
    if (rule.reading == Reading::kNumberDetail) return Value::Float(*NumberOf(value));
    if (const auto count = CountOf(value)) return Value::Int(*count);
  }
  return std::nullopt;
}

SpanKind Normaliser::FindKind(std::span<const Field> given) const {
  for (int i = 0; i < kKindKeys; ++i) {
    const int attribute = kind_keys_[static_cast<std::size_t>(i)];
    if (attribute < 0) continue;
    const Value& value = given[static_cast<std::size_t>(attribute)].value;
    if (value.type != ValueType::kString) continue;
    if (const auto kind = KindOf(i, value.text)) return *kind;
  }
  return SpanKind::kSpan;
}

void Normaliser::Take(Column column, std::span<const Field> given, RowArena& arena, std::vector<Field>& out) {
  Pick pick = picks_[Index(column)];
  Value value;
  for (; pick.rule >= 0; pick = NextBest(given, Rules()[static_cast<std::size_t>(pick.rule)])) {
    if (Rules()[static_cast<std::size_t>(pick.rule)].reading != Reading::kFlattened) break;
    if (TakeList(Rules()[static_cast<std::size_t>(pick.rule)], given, arena, value)) break;
  }
  if (pick.rule < 0) return;
  const Rule& rule = Rules()[static_cast<std::size_t>(pick.rule)];
  const Value& raw = given[pick.attribute].value;
  bool returns = true;
  if (rule.reading == Reading::kCountDetail || rule.reading == Reading::kNumberDetail) {
    value = *Detail(rule, raw.text);
    returns = false;
  } else if (rule.reading != Reading::kFlattened) {
    value = ReadValue(rule, raw, arena);
    if (rule.reading == Reading::kFirstText && value.text.empty()) return;
    returns = rule.reading != Reading::kTextCopy && IsSame(WrittenValue(rule, value, arena), raw);
    if (returns) consumed_[pick.attribute] = 1;
  }
  places_[Index(column)] = static_cast<int>(out.size());
  out.push_back({column, {}, value});
  if (!returns || rule.key != ExportKey(column, kind_, value)) {
    keys_[Index(column)] = {true, returns ? rule.key : std::string_view()};
  }
}

bool Normaliser::TakeList(const Rule& rule, std::span<const Field> given, RowArena& arena, Value& value) {
  const auto is_element = [&](const Field& field) {
    const int number = FlattenedRule(field.name);
    return number >= 0 && &Rules()[static_cast<std::size_t>(number)] == &rule;
  };
  list_.clear();
  for (const Field& field : given) {
    if (is_element(field)) list_.push_back(field);
  }
  std::string& json = arena.NewText();
  if (!Nest(rule.key, list_, json)) return false;
  for (std::size_t i = 0; i < given.size(); ++i) {
    if (is_element(given[i])) consumed_[i] = 1;
  }
  value = Value::Json(json);
  return true;
}

// The best source of a column behind one that turned out to be none.
Normaliser::Pick Normaliser::NextBest(std::span<const Field> given, const Rule& failed) {
  Pick best;
  const auto consider = [&](int number, std::size_t attribute) {
    const Rule& rule = Rules()[static_cast<std::size_t>(number)];
    if (rule.column != failed.column || &rule <= &failed || (best.rule >= 0 && number >= best.rule)) return;
    if (rule.reading == Reading::kFlattened || IsReadable(rule, given[attribute].value)) {
      best = {number, static_cast<std::uint32_t>(attribute)};
    }
  };
  for (std::size_t i = 0; i < given.size(); ++i) {
    if (const KeyInfo* const info = InfoOf(given[i].name)) {
      for (const std::uint16_t number : info->rules()) consider(number, i);
    } else if (const int number = FlattenedRule(given[i].name); number >= 0) {
      consider(number, i);
    }
  }
  return best;
}

void Normaliser::AddComputed(Column column, const Value& value, std::vector<Field>& out) {
  places_[Index(column)] = static_cast<int>(out.size());
  out.push_back({column, {}, value});
  keys_[Index(column)] = {true, {}};
}

std::optional<Value> Normaliser::AsideOf(Aside aside, std::span<const Field> given) const {
  const int attribute = asides_[static_cast<std::size_t>(aside)];
  if (attribute < 0) return std::nullopt;
  return given[static_cast<std::size_t>(attribute)].value;
}

// Columns that need more than one attribute.
void Normaliser::AddDerived(std::span<const Field> given, std::optional<std::int64_t> start_ns,
                            std::vector<Field>& out) {
  CutProvider(out);
  CountAllTokens(given, out);
  if (places_[Index(Column::kCostUsd)] < 0) {
    double cost = 0;
    bool any = false;
    for (const Aside half : {Aside::kInputCost, Aside::kOutputCost}) {
      const auto value = AsideOf(half, given);
      const auto number = value ? NumberOf(*value) : std::nullopt;
      cost += number.value_or(0);
      any |= number.has_value();
    }
    if (any) AddComputed(Column::kCostUsd, Value::Float(cost), out);
  }
  if (places_[Index(Column::kCostUsd)] >= 0 && places_[Index(Column::kCostSource)] < 0) {
    AddComputed(Column::kCostSource, Value::String("reported"), out);
  }
  const auto first_token = AsideOf(Aside::kFirstTokenTime, given);
  if (places_[Index(Column::kTtftNs)] >= 0 || !first_token || !start_ns) return;
  std::string_view text = first_token->text;
  if (text.size() > 2 && text.front() == '"' && text.back() == '"') text = text.substr(1, text.size() - 2);
  std::int64_t ttft_ns = 0;
  const auto at_ns = first_token->type == ValueType::kString ? ParseMoment(text) : std::nullopt;
  if (!at_ns || __builtin_sub_overflow(*at_ns, *start_ns, &ttft_ns)) return;
  AddComputed(Column::kTtftNs, Value::Int(std::max<std::int64_t>(0, ttft_ns)), out);
}

// LiteLLM's names of models begin with the provider, as in "openai/gpt-5-mini". The column is the model's own name, by
// which it is grouped and priced; model_request, or the attribute, stays as it was.
void Normaliser::CutProvider(std::vector<Field>& out) {
  const int provider = places_[Index(Column::kProvider)], model = places_[Index(Column::kModel)];
  if (provider < 0 || model < 0) return;
  const std::string_view prefix = out[static_cast<std::size_t>(provider)].value.text;
  Value& name = out[static_cast<std::size_t>(model)].value;
  if (name.text.size() < prefix.size() + 2 || !name.text.starts_with(prefix) || name.text[prefix.size()] != '/') return;
  name = Value::String(name.text.substr(prefix.size() + 1));
  const Pick pick = picks_[Index(Column::kModel)], asked = picks_[Index(Column::kModelRequest)];
  if (asked.rule < 0 || asked.attribute != pick.attribute) consumed_[pick.attribute] = 0;
  keys_[Index(Column::kModel)] = {true, {}};
}

// Providers and dialects disagree whether input tokens include cached ones. Where the numbers prove that they do not,
// the column gets the sum, and the attribute stays as it was.
void Normaliser::CountAllTokens(std::span<const Field> given, std::vector<Field>& out) {
  const auto count = [&](Column column) {
    const int place = places_[Index(column)];
    return place < 0 ? 0 : out[static_cast<std::size_t>(place)].value.integer;
  };
  const int place = places_[Index(Column::kInputTokens)];
  const std::int64_t cached = SumOrZero(count(Column::kCacheReadTokens), count(Column::kCacheWriteTokens));
  if (place < 0 || cached == 0) return;
  const std::int64_t input = count(Column::kInputTokens), all = SumOrZero(input, cached);
  const Pick pick = picks_[Index(Column::kInputTokens)];
  const Rule& rule = Rules()[static_cast<std::size_t>(pick.rule)];
  std::optional<Value> total = AsideOf(Aside::kTotalTokens, given);
  if (rule.reading == Reading::kCountDetail) {
    total = Detail({rule.column, rule.key, rule.reading, "total"}, given[pick.attribute].value.text);
  }
  const bool total_proves = total && CountOf(*total) == SumOrZero(all, count(Column::kOutputTokens)) && cached <= input;
  if (all == 0 || (cached <= input && !total_proves)) return;
  out[static_cast<std::size_t>(place)].value = Value::Int(all);
  consumed_[pick.attribute] = 0;
  keys_[Index(Column::kInputTokens)] = {true, {}};
  out.push_back({Column::kAttribute, kDialectAttribute, Value::String("exclusive")});
  has_dialect_ = true;
}

void Normaliser::AddKeys(RowArena& arena, std::vector<Field>& out) const {
  std::string* json = nullptr;
  const auto add = [&](std::string_view column, std::string_view key) {
    if (json == nullptr) {
      json = &arena.NewText();
      *json = '{';
    } else {
      *json += ',';
    }
    json->append("\"").append(column).append("\":");
    if (key.empty()) {
      *json += "null";
    } else {
      json->append("\"").append(key).append("\"");
    }
  };
  for (std::size_t column = 0; column < kColumnCount; ++column) {
    if (keys_[column].is_set) add(Columns()[column].name, keys_[column].key);
  }
  if (has_dialect_) add(kDialectAttribute, {});
  if (json == nullptr) return;
  *json += '}';
  out.push_back({Column::kAttribute, kKeysAttribute, Value::Json(*json)});
}

}  // namespace spanbox
