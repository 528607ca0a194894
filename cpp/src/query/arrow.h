// Hands a Table over as Arrow: the C data and C stream interfaces.
//
// Specification: https://arrow.apache.org/docs/format/CDataInterface.html and CStreamInterface.html. The two structures
// below are the ABI those pages lay down.
//
// Types: int64, double, bool, timestamp[ns, UTC], and dictionary<int32 -> utf8> for strings.
//
// Thread rule: functions; a stream belongs to one consumer. Ownership: what is exported shares the Table and keeps it
// alive until the consumer calls release; nothing borrowed from a store is in it.
#pragma once

#include <cstdint>
#include <memory>

#include "spanbox/query.h"

extern "C" {

#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE
struct ArrowSchema {
  const char* format;
  const char* name;
  const char* metadata;
  std::int64_t flags;
  std::int64_t n_children;
  struct ArrowSchema** children;
  struct ArrowSchema* dictionary;
  void (*release)(struct ArrowSchema*);
  void* private_data;
};

struct ArrowArray {
  std::int64_t length;
  std::int64_t null_count;
  std::int64_t offset;
  std::int64_t n_buffers;
  std::int64_t n_children;
  const void** buffers;
  struct ArrowArray** children;
  struct ArrowArray* dictionary;
  void (*release)(struct ArrowArray*);
  void* private_data;
};
#endif

#ifndef ARROW_C_STREAM_INTERFACE
#define ARROW_C_STREAM_INTERFACE
struct ArrowArrayStream {
  int (*get_schema)(struct ArrowArrayStream*, struct ArrowSchema* out);
  int (*get_next)(struct ArrowArrayStream*, struct ArrowArray* out);
  const char* (*get_last_error)(struct ArrowArrayStream*);
  void (*release)(struct ArrowArrayStream*);
  void* private_data;
};
#endif

}  // extern "C"

namespace spanbox {

// Fills `schema`, which the caller releases.
void ExportSchema(const Table& table, ArrowSchema* schema);

// Fills `stream`, which the caller releases: one batch with all rows.
void ExportStream(std::shared_ptr<const Table> table, ArrowArrayStream* stream);

}  // namespace spanbox
