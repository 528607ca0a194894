#include <algorithm>
#include <cmath>
#include <limits>

#include "query/lexer.h"
#include "query/numbers.h"
#include "query/rollup_cells.h"
#include "spanbox/query.h"

namespace spanbox {
double ExactQuantile(std::vector<double>& values, double q) {
  const double place = q * static_cast<double>(values.size() - 1);
  const auto below = values.begin() + static_cast<std::ptrdiff_t>(std::floor(place));
  std::nth_element(values.begin(), below, values.end());
  const double fraction = place - std::floor(place);
  if (fraction == 0 || below + 1 == values.end()) return *below;
  const double above = *std::min_element(below + 1, values.end());
  return above == *below ? above : *below + fraction * (above - *below);  // also when both are infinite
}

Status CheckNumeric(const ColumnRef& column) {
  if (column.info == nullptr || column.info->type == ColumnType::kInt || column.info->type == ColumnType::kFloat ||
      column.info->type == ColumnType::kBool) {
    return OkStatus();
  }
  return InvalidArgument(Ticked(column.name) + " holds no numbers: " + std::string(column.info->description));
}

Status AppendNumbers(SegmentColumns& columns, std::string_view column, const Bitmap& selected,
                     std::vector<double>& numbers) {
  const auto append = [&](const auto& c) {
    Bitmap rows = selected;
    rows &= c.valid;
    const std::size_t before = numbers.size();
    numbers.resize(before + rows.count());
    double* to = numbers.data() + before;
    rows.ForEach([&](std::uint32_t row) { *to++ = static_cast<double>(c.values[row]); });
  };
  SPANBOX_ASSIGN_OR_RETURN(const auto chunks, columns.Find(column));
  for (const ChunkInfo* chunk : chunks) {
    if (chunk->type == ColumnType::kInt) {
      SPANBOX_ASSIGN_OR_RETURN(const IntColumn* c, columns.Ints(*chunk));
      append(*c);
    } else if (chunk->type == ColumnType::kFloat) {
      SPANBOX_ASSIGN_OR_RETURN(const FloatColumn* c, columns.Floats(*chunk));
      append(*c);
    } else if (chunk->type == ColumnType::kBool) {
      SPANBOX_ASSIGN_OR_RETURN(const BoolColumn* c, columns.Bools(*chunk));
      append(*c);
    }
  }
  return OkStatus();
}

Result<Quantiles> QuantilesOf(Store& store, const SpanQuery& query, std::string_view column, std::span<const double> qs,
                              bool exact) {
  for (const double q : qs) {
    if (!(q >= 0 && q <= 1)) return InvalidArgument("a quantile lies between 0 and 1, not at " + std::to_string(q));
  }
  const ColumnRef ref = Resolve(column, query.about);
  SPANBOX_RETURN_IF_ERROR(CheckNumeric(ref));
  SPANBOX_ASSIGN_OR_RETURN(const auto run, QueryRun::Start(store, query));
  SPANBOX_RETURN_IF_ERROR(run->CheckKnown(ref));
  struct Part {
    DDSketch sketch;
    std::vector<double> values;
  };
  std::vector<Part> parts(run->workers());
  const auto add_cells_to = [&](DDSketch& sketch) {
    return [&](const RollupCells& cells, const Bitmap& selected) {
      return ForEachSketch(cells, ref.name, selected.Rows(),
                           [&](std::size_t, const auto& other) { return sketch.Merge(other); });
    };
  };
  CellNeeds needs;
  needs.Sketched(ref);
  if (exact) needs.Numbers();
  CellNeeds with_filter = needs;
  with_filter.Test(run->filter());
  const auto visit = [&](unsigned worker, const SegmentMeta& segment) -> Status {
    Part& part = parts[worker];
    const auto add = [&](SegmentColumns& columns, const Bitmap& selected) {
      if (!exact) part.values.clear();
      SPANBOX_RETURN_IF_ERROR(AppendNumbers(columns, ref.name, selected, part.values));
      if (!exact) part.sketch.Add(part.values);
      return OkStatus();
    };
    return VisitCellsOrRows(*run, with_filter, segment, add_cells_to(part.sketch), add);
  };
  auto& [sketch, values] = parts[0];
  SPANBOX_ASSIGN_OR_RETURN(auto left, VisitRuns(*run, with_filter, add_cells_to(sketch)));
  SPANBOX_RETURN_IF_ERROR(run->VisitShared(std::move(left), visit));
  for (Part& part : std::span(parts).subspan(1)) {
    SPANBOX_RETURN_IF_ERROR(sketch.Merge(part.sketch));
    values.insert(values.end(), part.values.begin(), part.values.end());
    part.values = std::vector<double>();
  }
  if (exact) std::erase_if(values, [](double number) { return std::isnan(number); });
  Quantiles result;
  SPANBOX_ASSIGN_OR_RETURN(result.sampled_out, ForEachRollup(*run, needs, add_cells_to(sketch)));
  result.count = exact ? values.size() : sketch.count();
  result.relative_error = exact ? 0 : sketch.relative_error();
  for (const double q : qs) {
    const double none = std::numeric_limits<double>::quiet_NaN();
    result.values.push_back(result.count == 0 ? none : exact ? ExactQuantile(values, q) : sketch.Quantile(q));
  }
  return result;
}

}  // namespace spanbox
