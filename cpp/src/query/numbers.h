// The numeric values of a column, whatever types they are stored in.
//
// Thread rule: functions; a SegmentColumns belongs to one thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "query/query_run.h"
#include "query/segment_columns.h"

namespace spanbox {

// InvalidArgument when the column is known to hold no numbers.
Status CheckNumeric(const ColumnRef& column);

// Hyndman and Fan's type 7. Reorders `values`. REQUIRES: values is not empty.
double ExactQuantile(std::vector<double>& values, double q);

// The shortest text that reads back as the same number.
std::string NumberText(std::int64_t value);
std::string NumberText(double value);

// Calls fn(i, value) for every i whose rows[i] has a number in the column; value is a std::int64_t or a double. Truth
// values count as 0 and 1.
template <typename Fn>
Status ForEachNumber(SegmentColumns& columns, std::string_view column, std::span<const std::uint32_t> rows, Fn&& fn) {
  const auto each = [&](const auto& c, auto as_number) {
    if (c.valid.all()) {
      for (std::size_t i = 0; i < rows.size(); ++i) fn(i, as_number(c.values[rows[i]]));
    } else {
      for (std::size_t i = 0; i < rows.size(); ++i) {
        if (c.valid[rows[i]]) fn(i, as_number(c.values[rows[i]]));
      }
    }
  };
  SPANBOX_ASSIGN_OR_RETURN(const auto chunks, columns.Find(column));
  for (const ChunkInfo* chunk : chunks) {
    const bool is_number =
        chunk->type == ColumnType::kInt || chunk->type == ColumnType::kFloat || chunk->type == ColumnType::kBool;
    if (is_number && columns.AreFew(*chunk, rows)) {
      SPANBOX_ASSIGN_OR_RETURN(const Points<std::int64_t> points, columns.NumbersAt(*chunk, rows));
      for (std::size_t i = 0; i < rows.size(); ++i) {
        if (points.valid[i] == 0) continue;
        chunk->type == ColumnType::kFloat ? fn(i, std::bit_cast<double>(points.values[i])) : fn(i, points.values[i]);
      }
    } else if (chunk->type == ColumnType::kInt) {
      SPANBOX_ASSIGN_OR_RETURN(const IntColumn* c, columns.Ints(*chunk));
      each(*c, [](std::int64_t v) { return v; });
    } else if (chunk->type == ColumnType::kFloat) {
      SPANBOX_ASSIGN_OR_RETURN(const FloatColumn* c, columns.Floats(*chunk));
      each(*c, [](double v) { return v; });
    } else if (chunk->type == ColumnType::kBool) {
      SPANBOX_ASSIGN_OR_RETURN(const BoolColumn* c, columns.Bools(*chunk));
      each(*c, [](std::uint8_t v) { return static_cast<std::int64_t>(v); });
    }
  }
  return OkStatus();
}

// Appends the numbers of the selected rows, as doubles.
Status AppendNumbers(SegmentColumns& columns, std::string_view column, const Bitmap& selected,
                     std::vector<double>& numbers);

}  // namespace spanbox
