// Columns that some rows have a value in: from all rows to those that have one, and back. Eight rows at a time where
// the processor can.
//
// Thread rule: functions. Ownership: they borrow what they are given.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "store/segment.h"

namespace spanbox {

// How much room PickRows wants behind the last number.
inline constexpr std::size_t kPickRoom = 8;

// Writes the numbers of the rows that have a value, in order, and returns how many there are.
// REQUIRES: `to` has room for all rows and kPickRoom more; !valid.all().
std::size_t PickRows(std::span<const std::uint32_t> of_row, const Validity& valid, std::uint32_t* to);

// to[row] = before[row] * keys, and for the rows that have one of `codes`, which come in row order, that and 1 besides.
// `before`: empty, as if all 0, or as many as `to`.
// REQUIRES: valid is of to.size() rows, as many of them valid as there are codes; !valid.all().
void CombineCodes(std::span<const std::uint32_t> before, std::uint32_t keys, const Buffer<std::uint32_t>& codes,
                  const Validity& valid, std::span<std::uint32_t> to);

}  // namespace spanbox
