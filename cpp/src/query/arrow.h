// Hands a Table over as Arrow: the C data and C stream interfaces.
//
// Types: int64, double, bool, timestamp[ns, UTC], and dictionary<int32 -> utf8> for strings.
//
// Thread rule: functions; a stream belongs to one consumer. Ownership: what is exported shares the Table and keeps it
// alive until the consumer calls release; nothing borrowed from a store is in it.
#pragma once

#include <cstdint>
#include <memory>

#include "query/arrow_abi.h"
#include "spanbox/query.h"

namespace spanbox {

// Fills `schema`, which the caller releases.
void ExportSchema(const Table& table, ArrowSchema* schema);

// Fills `stream`, which the caller releases: one batch with all rows.
void ExportStream(std::shared_ptr<const Table> table, ArrowArrayStream* stream);

}  // namespace spanbox
