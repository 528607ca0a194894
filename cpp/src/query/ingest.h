// Brings the rows of tables that others made into a store, in commits of many rows, and remembers how far it has come.
//
// Thread rule: one thread. Ownership: an Ingest owns the Arrow stream it has taken.
// Invariants:
//   1. What Step or StoreLines counted as rows is stored and survives power loss; after a kill at any moment an ingest
//      of the same name goes on behind the last row stored.
//   2. A commit has at most kCommitRows rows and, but for its last row, kCommitBytes of values.
// Errors: InvalidArgument names the row (from 0) or the line (from 1), the column, and what to do. The rows of the
// commit under way are then not stored, those of the commits before it are.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "query/arrow_abi.h"
#include "query/row_maker.h"
#include "query/row_redactor.h"
#include "spanbox/store.h"
#include "wire/prices.h"

namespace spanbox {

class Ingest {
 public:
  static constexpr std::uint64_t kCommitRows = 65'536;  // a segment of the size that merging leaves alone
  static constexpr std::uint64_t kCommitBytes = 8 << 20;
  static constexpr std::size_t kListedProblems = 20;

  struct Counts {
    std::uint64_t rows = 0;             // stored by this ingest
    std::uint64_t skipped = 0;          // stored by an earlier one of its name
    std::uint64_t bad = 0;              // left out
    std::uint64_t bytes = 0;            // of the values stored: 8 a number, and the texts
    std::vector<std::string> problems;  // of the first bad rows
  };

  // `name` empty: nothing is remembered. `skip_bad`: rows that are wrong are counted and left out, else they end it.
  static Result<std::unique_ptr<Ingest>> Start(std::shared_ptr<Store> store, std::string name, bool skip_bad);
  ~Ingest();

  std::uint64_t stored_before() const { return stored_before_; }
  const Counts& counts() const { return counts_; }

  // Says that what comes now begins with this row of the input. REQUIRES: no rows have come; row <= stored_before().
  void SetFirstRow(std::uint64_t row) { position_ = counts_.skipped = row; }

  // From now on every text is shown to `redact` before it is stored.
  void SetRedact(RedactValue redact) { redactor_.emplace(std::move(redact)); }

  // Moves the stream out of `stream`.
  Status TakeArrow(ArrowArrayStream* stream);
  // Stores up to one commit of it; false when it has ended.
  Result<bool> Step();

  // Stores lines of JSON objects. REQUIRES: whole lines. `first_line`: number of the first, for messages.
  Status StoreLines(std::string_view lines, std::uint64_t first_line);

 private:
  class Source;
  class ArrowRows;
  class JsonRows;

  Ingest(std::shared_ptr<Store> store, std::string name, bool skip_bad, std::uint64_t stored_before);
  Result<bool> StoreSome(Source& source);
  Result<const SpanRow*> NextRow(Source& source, Counts& counts);

  const std::shared_ptr<Store> store_;
  const std::string name_;
  const bool skip_bad_;
  const std::uint64_t stored_before_;
  std::uint64_t position_ = 0;  // number of the next row of the input
  std::uint64_t stored_ = 0;    // what the store remembers
  Counts counts_;
  RowMaker maker_;
  std::optional<RowRedactor> redactor_;
  RowPricer pricer_;
  std::unique_ptr<ArrowRows> arrow_;
  std::unique_ptr<JsonRows> json_;
};

}  // namespace spanbox
