// Hands a Table over as Arrow: the C data and C stream interfaces.
//
// Types: int64, double, bool, timestamp[ns, UTC]; ids and long texts are utf8, all other texts dictionary<int32, utf8>.
// A column with JSON among its texts says so in its metadata (kJsonMetadata), so that ingesting it gives lists and
// mappings again. Text that is not UTF-8 is mended on the way.
//
// Thread rule: functions; a stream belongs to one consumer, on any thread. Ownership: what is exported shares the Table
// and keeps it alive until the consumer calls release; nothing borrowed from a store is in it.
// Invariant: a batch has at most kBatchRows rows and, but for one row, kBatchTextBytes of text: a dictionary holds what
// its batch uses.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "query/arrow_abi.h"
#include "spanbox/query.h"

namespace spanbox {

inline constexpr std::uint64_t kBatchRows = 65'536;
inline constexpr std::uint64_t kBatchTextBytes = 256 << 20;

// Fills `schema`, which the caller releases.
void ExportSchema(const Table& table, ArrowSchema* schema);

// Tables with the columns of one schema, one after the other; nullptr after the last.
using TableSource = std::function<Result<std::shared_ptr<const Table>>()>;

// Fills `stream`, which the caller releases. `schema`: its rows do not count.
void ExportStream(std::shared_ptr<const Table> schema, TableSource source, ArrowArrayStream* stream);
void ExportStream(std::shared_ptr<const Table> table, ArrowArrayStream* stream);

// All rows of a stream that others made. Lengths of time come as ints of nanoseconds, lists and structs as JSON text.
Result<Table> TableOfStream(ArrowOwned<ArrowArrayStream> stream);

}  // namespace spanbox
