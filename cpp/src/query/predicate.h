// Which rows of a segment a filter selects.
//
// Zone maps are asked first, then one column at a time, the cheapest terms before the ones that read text; text is read
// only of rows that everything cheaper has left over. Dictionary strings are tested once each, not once a row.
//
// Thread rule: functions; a SegmentColumns belongs to one thread.
#pragma once

#include "query/bitmap.h"
#include "query/filter.h"
#include "query/segment_columns.h"

namespace spanbox {

// The rows of `candidates` for which the filter holds. REQUIRES: candidates.rows() == columns.rows().
// Filters over relatives must be bound (QueryRun::Bind).
Result<Bitmap> Select(const Filter& filter, SegmentColumns& columns, const Bitmap& candidates);

// The same of a part of a filter. `relatives` may be null when the part asks for none.
Result<Bitmap> Select(const FilterNode& part, const RelativesAnswers* relatives, SegmentColumns& columns,
                      const Bitmap& candidates);

// True when text is read for it, which costs more than everything else.
bool ReadsText(const FilterNode& part, const SegmentColumns& columns);

// The rows of `candidates` that have any value in the column or attribute.
Result<Bitmap> RowsWithValue(std::string_view column, SegmentColumns& columns, const Bitmap& candidates);

}  // namespace spanbox
