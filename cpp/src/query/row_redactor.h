// Rows of others as they are stored: every text has been shown to a RedactValue.
//
// Thread rule: one thread. Ownership: a row that was returned lives until the next call, and borrows what was not
// replaced from the row that was given.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "spanbox/redact.h"

namespace spanbox {

class RowRedactor {
 public:
  explicit RowRedactor(RedactValue redact) : redact_(std::move(redact)) {}

  const SpanRow& Redacted(const SpanRow& row) {
    if (!redact_) return row;
    row_ = row;
    fields_.assign(row.fields.begin(), row.fields.end());
    texts_.clear();
    Replace({}, Value::String(row.name), row_.name);
    for (Field& field : fields_) {
      const bool named = field.column != Column::kAttribute;
      const std::string_view name = named ? Columns()[static_cast<std::size_t>(field.column)].name : field.name;
      Replace(name, field.value, field.value.text);
      if (!named) Replace({}, Value::String(field.name), field.name);
    }
    row_.fields = fields_;
    return row_;
  }

 private:
  void Replace(std::string_view name, const Value& value, std::string_view& text) {
    if (auto redacted = redact_(name, value)) text = texts_.emplace_back(*std::move(redacted));
  }

  const RedactValue redact_;
  SpanRow row_;
  std::vector<Field> fields_;
  std::deque<std::string> texts_;
};

}  // namespace spanbox
