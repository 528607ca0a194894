#include "wire/withheld.h"

#include <algorithm>
#include <vector>

#include "spanbox/score.h"

namespace spanbox {
namespace {

Field Hidden(const Field& field) {
  Field hidden = field;
  if (IsStaged(field)) hidden.value = Value::String(kWithheld);
  return hidden;
}

void AppendWithheld(const RecordView& record, std::string& out) {
  RowArena arena;
  const auto row = AssembleSpan({&record, 1}, arena);
  if (!row.ok()) return;
  if (!IsMarked(*row)) return AppendOpenRecord(record, out);
  ByteBuffer payload;
  RecordWriter writer(payload);
  if (record.type == RecordType::kStart) {
    writer.Start(row->trace_id, row->span_id, row->parent_id, row->start_ns, row->kind, row->name);
  } else if (record.type == RecordType::kEnd) {
    writer.End(row->span_id, row->duration_ns, row->status);
  } else {
    writer.Fields(row->span_id);
  }
  for (const Field& field : row->fields) writer.AddField(Hidden(field));
  AppendOpenRecord({record.type, payload.bytes()}, out);
}

}  // namespace

bool IsStageMark(const Field& field) { return field.column == Column::kAttribute && field.name == kStageMark; }
bool IsMarked(const SpanRow& row) { return std::ranges::any_of(row.fields, IsStageMark); }

bool IsStaged(const Field& field) {
  if (field.value.type != ValueType::kString && field.value.type != ValueType::kJson) return false;
  if (field.column != Column::kAttribute) {
    return Columns()[static_cast<std::size_t>(field.column)].type == ColumnType::kText;
  }
  constexpr std::string_view kOurs[] = {kScoreSource, kScoreEvaluator, kScoreVersion, "semconv.keys", "price_version"};
  if (std::ranges::find(kOurs, field.name) != std::end(kOurs)) return false;
  constexpr std::string_view kBeginnings[] = {"otel.", "scope.", "resource.", "spanbox."};
  return std::ranges::none_of(kBeginnings, [&](std::string_view begin) { return field.name.starts_with(begin); });
}

void Withhold(SpanRow& row, RowArena& arena) {
  std::vector<Field>& fields = arena.NewFields();
  for (const Field& field : row.fields) {
    if (!IsStageMark(field)) fields.push_back(Hidden(field));
  }
  row.fields = fields;
}

std::string WithholdRecords(std::string_view records) {
  std::string withheld;
  const auto views = ParseOpenRecords(records);
  for (const RecordView& view : views.ok() ? *views : std::vector<RecordView>()) AppendWithheld(view, withheld);
  return withheld;
}

}  // namespace spanbox
