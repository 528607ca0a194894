// Texts that a second stage of redaction has to look at before they are stored (docs/redaction.md), and what is stored
// where it has not: nothing of them.
//
// Records that are written while there is such a stage say so: kStageMark. Whoever stores their span without having
// shown its texts to the stage withholds them: the collector of another process, or one whose stage is gone. Thread
// rule: functions, from any thread. Ownership: what is made lives in the arena.
#pragma once

#include <atomic>
#include <string>
#include <string_view>

#include "base/record_codec.h"
#include "spanbox/span.h"
#include "spanbox/status.h"

namespace spanbox {

inline constexpr std::string_view kStageMark = "redact.stage";  // an attribute, true: of no row that is stored
inline constexpr std::string_view kWithheld = "[withheld]";

// Whether all rows of this process pass a stage behind FinishRow, which sees to the mark.
inline std::atomic<bool> has_stage{false};

bool IsStageMark(const Field& field);
bool IsMarked(const SpanRow& row);
// Whether the stage looks at it: texts of columns, and of attributes that a program sets.
bool IsStaged(const Field& field);

// Takes the mark away, and every text with it.
void Withhold(SpanRow& row, RowArena& arena);

// The same for the records of a span that is open (OpenSpan::records), those that are marked; the mark stays. What
// cannot be read is left out.
std::string WithholdRecords(std::string_view records);

}  // namespace spanbox
