#include "wire/recorded.h"

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "wire/normalise.h"

namespace spanbox {
namespace {

bool IsMark(const Field& field) { return field.column == Column::kAttribute && field.name == kOtelRaw; }

// What the recorder itself has put around the attributes.
bool IsSurrounding(std::string_view name) {
  return name.starts_with("otel.") || name.starts_with("scope.") || name.starts_with("resource.");
}

}  // namespace

void AddColumnsOfAttributes(SpanRow& row, RowArena& arena) {
  if (std::ranges::none_of(row.fields, IsMark)) return;
  Normaliser normaliser;
  std::vector<Field> given;
  std::unordered_map<std::string_view, std::size_t> places;
  given.reserve(row.fields.size());
  std::vector<Field>& fields = arena.NewFields();
  for (const Field& field : row.fields) {
    if (field.column != Column::kAttribute || IsSurrounding(field.name)) {
      if (!IsMark(field)) fields.push_back(field);
      continue;
    }
    Field attribute = field;
    if (attribute.name.starts_with(kRawPrefix)) attribute.name.remove_prefix(kRawPrefix.size());
    const auto [known, is_new] = places.try_emplace(attribute.name, given.size());
    if (is_new) {
      given.push_back(attribute);
    } else {
      given[known->second] = attribute;
    }
  }
  const SpanKind kind = normaliser.Normalise(given, {}, row.start_ns, arena, fields);
  if (kind != SpanKind::kSpan) row.kind = kind;
  row.fields = fields;
}

}  // namespace spanbox
