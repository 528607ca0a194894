// Makes spans of the rows of a table: which column of the input is which part of a span, and what its values become.
//
// docs/import_export.md gives the rules. Thread rule: one thread. Ownership: a row lives until the next Begin.
// Invariant: equal rows at equal places of the input give equal spans, made-up ids included.
// Units: as the columns say; times are nanoseconds.
#pragma once

#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "query/arrow_column.h"
#include "spanbox/span.h"

namespace spanbox {

// A column of the input.
struct InputColumn {
  enum class Role : std::uint8_t {
    kTraceId,
    kSpanId,
    kParentId,
    kName,
    kKind,
    kStatus,
    kStart,
    kEnd,
    kDuration,
    kTypes,
    kField
  };

  InputColumn(std::string_view name, bool is_json);

  std::string name;
  Role role = Role::kField;
  Column column = Column::kAttribute;
  ColumnType type = ColumnType::kText;  // of a named column
  bool needs_unit = false;              // its name has no unit, so its values must have one
  bool is_json = false;                 // its texts are JSON where they look like it
};

class RowMaker {
 public:
  void Begin(std::uint64_t number);  // from 0: made-up ids depend on it
  // InvalidArgument: what is wrong with the value. REQUIRES: the cell's text lives as long as the row.
  Status Set(const InputColumn& column, const InputCell& cell);
  Result<const SpanRow*> Finish();

  std::string& Scratch();  // empty; for a text of this row

  std::uint64_t bytes() const { return bytes_; }  // of the row's values: 8 a number, and the texts

 private:
  std::string_view Clean(std::string_view text);
  std::string_view TextOf(const InputCell& cell);

  Status SetMoment(const InputColumn& column, const InputCell& cell, std::optional<std::int64_t>& out);
  Status SetLength(const InputColumn& column, const InputCell& cell);
  template <typename Id>
  Status SetId(const InputColumn& column, const InputCell& cell, std::optional<Id>& out);
  template <typename Enum>
  Status SetEnum(const InputColumn& column, const InputCell& cell, Enum& out);
  Status SetField(const InputColumn& column, const InputCell& cell);
  Value AttributeValue(const InputColumn& column, const InputCell& cell);
  Value TextValue(const InputColumn& column, std::string_view text);
  Status SetTimes();
  void MakeIds();

  std::uint64_t number_ = 0;
  std::uint64_t bytes_ = 0;
  SpanRow row_;
  std::vector<Field> fields_;
  std::string_view types_;  // of the fields, as value_types.h has them
  std::optional<TraceId> trace_id_;
  std::optional<SpanId> span_id_, parent_id_;
  std::optional<std::int64_t> start_ns_, end_ns_, duration_ns_;
  std::deque<std::string> scratch_;  // used_ of them hold texts of this row
  std::size_t used_ = 0;
  std::string hashed_;
};

// Whether `text` is a JSON list or mapping.
bool IsJsonContainer(std::string_view text);

}  // namespace spanbox
