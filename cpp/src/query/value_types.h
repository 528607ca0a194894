// What a table's columns cannot say of single values: the column `spanbox.types`, so that what is handed over comes
// back as it was. A row of it is a JSON object of columns and types, absent where every value is what it looks like.
//
//   {"answer": "text", "top_k": "int"}     text that looks like JSON among JSON; a whole number among texts or floats
//
// Types: int, float, bool, text, json; or the number itself, for ints that no float holds.
// Thread rule: pure functions.
#pragma once

#include <string_view>
#include <vector>

#include "spanbox/query.h"

namespace spanbox {

inline constexpr std::string_view kTypesColumn = "spanbox.types";

// The type of values of which the column says no other (TableColumn::kinds).
ValueType KindOf(TableColumn::Type type);

// Whether a table with such a column may need one. `kinds`: bits 1 << ValueType of its values.
bool MayNeedTypes(const TableColumn& column, unsigned kinds);

// The column for the rows of a table; `needed` is set when one of them has a value.
TableColumn TypesOf(const Table& table, bool& needed);

// Makes the values of a row what a row of the column says. What it does not understand stays as it is. The values go on
// pointing to the texts they had.
void ApplyTypes(std::string_view types, std::vector<Field>& fields);

}  // namespace spanbox
