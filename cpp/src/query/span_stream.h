// The spans of a question as a stream of tables, so that an answer of any size needs little memory.
//
// A small answer is one Scan. A large one is read in slices of time, each a Scan of its own: the rows come in the same
// order, but a span that is stored while the stream is read is in it or not. No slice holds a view of the store longer
// than its Scan does.
//
// Thread rule: immutable; its sources belong to one thread each. Ownership: shares the store.
// Invariants: every table of the stream has the columns and types of schema(); a span comes at most once.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "query/arrow.h"
#include "query/query_run.h"

namespace spanbox {

class SpanStream : public std::enable_shared_from_this<SpanStream> {
 public:
  static constexpr std::uint64_t kSliceRows = 262'144;

  // Rows come by start, then span id: `options.order_by` must be empty. `lazy`: reads no rows yet. Without columns
  // named a small answer that is not lazy has those that its rows have; else all that any span of the asked time has.
  // `types`: with the column that tells the types of single values (value_types.h), where it is needed, or, of a large
  // answer, where it may be; only without columns named.
  static Result<std::shared_ptr<const SpanStream>> Make(std::shared_ptr<Store> store, const SpanQuery& query,
                                                        const ScanOptions& options, bool lazy, bool types = false);

  const std::shared_ptr<const Table>& schema() const { return schema_; }
  // By column of schema(): all its values have that type in the store, too, so that a filter sees what is handed out.
  const std::vector<bool>& is_uniform() const { return is_uniform_; }
  TableSource Read() const;  // from the beginning, each time

 private:
  SpanStream() = default;
  Status FindSchema(QueryRun& run);
  Status Plan(QueryRun& run);
  void CutTime(std::span<const SegmentMeta> segments, std::uint64_t rows);
  Result<std::shared_ptr<const Table>> Slice(std::size_t slice, std::uint64_t& left) const;

  std::shared_ptr<Store> store_;
  SpanQuery query_;
  ScanOptions options_;
  std::shared_ptr<const Table> schema_;
  std::vector<bool> is_uniform_;
  std::vector<std::int64_t> cuts_;  // slice i: [cuts_[i], cuts_[i + 1])
  bool is_whole_ = false;           // schema_ is the whole answer
  bool has_types_ = false;          // the last column of schema_ is that of types
};

}  // namespace spanbox
