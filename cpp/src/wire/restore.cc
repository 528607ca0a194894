#include <algorithm>

#include "base/simdjson.h"
#include "wire/flattened.h"
#include "wire/normalise.h"

namespace spanbox {

void Restorer::ReadKeys(std::string_view json) {
  if (json == keys_text_) return;  // spans of one program have the same
  keys_text_ = json;
  keys_.fill({});
  has_dialect_ = false;
  thread_local simdjson::dom::parser parser;
  simdjson::dom::object object;
  if (json.empty() || parser.parse(json.data(), json.size(), true).get(object)) return;
  for (const auto& [name, element] : object) {
    has_dialect_ |= name == kDialectAttribute;
    const ColumnInfo* const info = FindColumn(name);
    if (info == nullptr || info->name != name) continue;
    std::string_view key;
    if (element.is_string()) key = element.get_string().value_unsafe();
    keys_[static_cast<std::size_t>(info->column)] = {true, std::string(key)};
  }
}

void Restorer::Restore(const SpanRow& row, RowArena& arena, std::vector<Field>& out) {
  const auto is_keys = [](const Field& field) {
    return field.column == Column::kAttribute && field.name == kKeysAttribute;
  };
  const auto keys = std::ranges::find_if(row.fields, is_keys);
  ReadKeys(keys == row.fields.end() ? std::string_view() : keys->value.text);
  for (const Field& field : row.fields) {
    if (field.column != Column::kAttribute || is_keys(field)) continue;
    if (has_dialect_ && field.name == kDialectAttribute) continue;
    const bool is_raw = field.name.starts_with(kRawPrefix);
    out.push_back({Column::kAttribute, is_raw ? field.name.substr(kRawPrefix.size()) : field.name, field.value});
  }
  // Behind the attributes: what a column was made of may have stayed.
  for (const Field& field : row.fields) {
    if (field.column != Column::kAttribute) RestoreColumn(row, field, arena, out);
  }
}

void Restorer::RestoreColumn(const SpanRow& row, const Field& field, RowArena& arena, std::vector<Field>& out) {
  const Key& known = keys_[static_cast<std::size_t>(field.column)];
  if (known.is_set && known.key.empty()) return;
  const std::string_view key = known.is_set ? known.key : ExportKey(field.column, row.kind, field.value);
  if (key.empty()) return;
  const auto of_column = [&](const Rule& rule) { return rule.column == field.column && rule.key == key; };
  const auto rule = std::ranges::find_if(Rules(), of_column);
  if (rule == Rules().end()) return;
  if (rule->reading == Reading::kFlattened) {
    const std::string_view prefix = rule->key.substr(0, rule->key.size() - 1);
    if (std::ranges::any_of(out, [&](const Field& other) { return other.name.starts_with(prefix); })) return;
    const std::size_t size = out.size();
    if (Flatten(rule->key, field.value.text, arena, out)) return;
    out.resize(size);
    out.push_back({Column::kAttribute, ExportKey(field.column, row.kind, field.value), field.value});
    return;
  }
  const bool given = std::ranges::any_of(out, [&](const Field& other) { return other.name == rule->key; });
  if (!given) out.push_back({Column::kAttribute, rule->key, WrittenValue(*rule, field.value, arena)});
}

}  // namespace spanbox
