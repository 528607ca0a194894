// The rows of a Table of spans, as Scan and SpanStream give it, one by one.
//
// Thread rule: one thread. Ownership: borrows the table; a row lives until the next one is asked for.
#pragma once

#include <cstdint>
#include <vector>

#include "spanbox/query.h"

namespace spanbox {

class TableRows {
 public:
  explicit TableRows(const Table& table);

  // InvalidArgument: the row lacks an id or a start.
  Result<const SpanRow*> Row(std::uint64_t number);  // REQUIRES: number < table.rows

 private:
  struct Part {
    const TableColumn* column;
    Column named;  // kAttribute: an attribute
  };
  void Put(const Part& part, std::uint64_t number);

  std::vector<Part> parts_;
  std::vector<Field> fields_;
  SpanRow row_;
  bool has_start_ = false;
};

}  // namespace spanbox
