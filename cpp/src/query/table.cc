// Tables that are there already: their rows in another order.
#include <algorithm>
#include <numeric>

#include "query/lexer.h"
#include "spanbox/query.h"

namespace spanbox {
namespace {

bool IsPresent(const TableColumn& column, std::uint32_t row) { return column.valid.empty() || column.valid[row] != 0; }

// < 0, 0, > 0. NaN after every number.
int Compare(const TableColumn& column, std::uint32_t a, std::uint32_t b) {
  const auto sign = [](const auto& x, const auto& y) { return x < y ? -1 : y < x ? 1 : 0; };
  switch (column.type) {
    case TableColumn::Type::kFloat: {
      const double x = column.floats[a], y = column.floats[b];
      if (x != x || y != y) return static_cast<int>(x != x) - static_cast<int>(y != y);
      return sign(x, y);
    }
    case TableColumn::Type::kString:
      return column.dictionary[column.codes[a]].compare(column.dictionary[column.codes[b]]);
    default:
      return sign(column.ints[a], column.ints[b]);
  }
}

template <typename T>
std::vector<T> Gathered(const std::vector<T>& values, std::span<const std::uint32_t> rows) {
  std::vector<T> out;
  if (values.empty()) return out;
  out.reserve(rows.size());
  for (const std::uint32_t row : rows) out.push_back(values[row]);
  return out;
}

}  // namespace

Result<Table> Ordered(const Table& table, std::string_view order_by, bool descending, std::uint64_t limit) {
  std::vector<std::uint32_t> rows(table.rows);
  std::iota(rows.begin(), rows.end(), 0u);
  if (!order_by.empty()) {
    const auto column = std::ranges::find(table.columns, order_by, &TableColumn::name);
    if (column == table.columns.end()) {
      std::string names;
      for (const TableColumn& each : table.columns) names += (names.empty() ? "" : ", ") + Ticked(each.name);
      return InvalidArgument("no column " + Ticked(order_by) + " among " + names);
    }
    std::ranges::stable_sort(rows, [&](std::uint32_t a, std::uint32_t b) {
      const bool a_present = IsPresent(*column, a), b_present = IsPresent(*column, b);
      if (!a_present || !b_present) return a_present && !b_present;
      const int order = Compare(*column, a, b);
      return descending ? order > 0 : order < 0;
    });
  }
  if (limit < rows.size()) rows.resize(limit);
  Table out;
  out.rows = rows.size();
  out.sampled_out = table.sampled_out;
  for (const TableColumn& column : table.columns) {
    TableColumn& to = out.columns.emplace_back();
    to.name = column.name;
    to.type = column.type;
    to.is_json = column.is_json;
    to.has_json = column.has_json;
    to.kinds = Gathered(column.kinds, rows);
    to.ints = Gathered(column.ints, rows);
    to.floats = Gathered(column.floats, rows);
    to.codes = Gathered(column.codes, rows);
    to.valid = Gathered(column.valid, rows);
    to.dictionary = column.dictionary;
  }
  return out;
}

}  // namespace spanbox
