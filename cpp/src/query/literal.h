// Which values can stand beside which column, and what to say of those that cannot.
//
// Thread rule: pure functions.
#pragma once

#include <string>
#include <string_view>

#include "query/filter.h"
#include "query/lexer.h"

namespace spanbox {

enum class ColumnClass { kAttribute, kText, kKind, kStatus, kTime, kMoment, kMoney, kCount, kTraceId, kSpanId };

ColumnClass ClassOf(const ColumnInfo* info);        // nullptr: an attribute
std::string_view Nature(ColumnClass column_class);  // "is a time"
bool HoldsText(ColumnClass column_class);           // `in` and ~ can search it
bool HasOrder(ColumnClass column_class, const Literal& value);

// The token as a value for a column called `name`. InvalidArgument with one line: what is wrong and what to write.
Result<Literal> LiteralFor(ColumnClass column_class, const std::string& name, const Token& token, const Token& before);

}  // namespace spanbox
