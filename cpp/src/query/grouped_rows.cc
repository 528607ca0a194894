#include "query/grouped_rows.h"

#include <bit>

#include "query/sparse.h"

namespace spanbox {
namespace {

std::vector<std::uint64_t> Totals(const LocalSums<std::uint32_t>& sums, std::uint32_t count) {
  std::vector<std::uint64_t> totals(std::size_t{count} + 1);
  for (std::uint32_t number = 0; number <= count; ++number) totals[number] = sums[number];
  return totals;
}

}  // namespace

std::vector<std::uint64_t> CountNumbers(std::span<const std::uint32_t> numbers, std::uint32_t count) {
  LocalSums<std::uint32_t> counts(count);
  counts.AddAll(numbers, [](std::size_t) { return 1u; });
  return Totals(counts, count);
}

void GroupedRows::ListRows() {
  if (!rows_.empty()) return;
  rows_ = selected.Rows();
  group_of_.reserve(rows_.size());
  for (const std::uint32_t row : rows_) group_of_.push_back(groups.group[groups.of_row[row]]);
}

std::span<const std::uint32_t> GroupedRows::rows() {
  ListRows();
  return rows_;
}

std::span<const std::uint32_t> GroupedRows::group_of() {
  ListRows();
  return group_of_;
}

Result<const GroupedRows::OfValues*> GroupedRows::ValuesOf(const ChunkInfo& chunk) {
  SPANBOX_ASSIGN_OR_RETURN(const Validity* valid, columns.Valid(chunk));
  of_values_.resize(columns.validity_sets());
  std::optional<OfValues>& place = of_values_[columns.ValiditySet(chunk)];
  if (place) return &*place;
  place.emplace();
  const std::span<const std::uint32_t> of_row(groups.of_row);
  if (valid->all()) {
    place->of_value = of_row;
    place->values = groups.rows;
    return &*place;
  }
  place->own = Buffer<std::uint32_t>(of_row.size() + kPickRoom);
  place->of_value = {place->own.data(), PickRows(of_row, *valid, place->own.data())};
  place->values = CountNumbers(place->of_value, groups.count);
  return &*place;
}

std::vector<std::uint64_t> GroupedRows::CountIn(const Bitmap& some) const {
  LocalSums<std::uint32_t> counts(groups.count);
  const std::span<const std::uint32_t> of_row(groups.of_row);
  const auto words = some.words();
  ByGroup(
      of_row,
      [&](std::size_t begin, std::size_t, std::uint32_t number) {
        counts.Add(number, 0, static_cast<std::uint32_t>(std::popcount(words[begin / 64])));
      },
      [&](std::size_t begin, std::size_t) {
        for (std::uint64_t word = words[begin / 64]; word != 0; word &= word - 1) {
          const std::size_t row = begin + static_cast<std::size_t>(std::countr_zero(word));
          counts.Add(of_row[row], row, 1);
        }
      });
  return Totals(counts, groups.count);
}

}  // namespace spanbox
