// Questions over a store: which spans, how many, which quantiles, grouped by what; text search.
//
// docs/query_language.md gives the grammar. A filter is text; parse errors are InvalidArgument with a message of three
// lines: what is wrong and where (column counted from 1), the filter, and a caret under the place; plus what would be
// right.
//
//   model == "gpt-5" and ttft > 2s and not (status == error or "refund" in output) and tenant in ["acme", "globex"]
//
// Semantics: a comparison with a value that is absent is false, and `not` turns false into true. Numbers compare as
// numbers whatever their stored type; a number never equals a string. `x == none` is true where x is absent. Beside
// spans `score.helpful` is their latest score of that name: its number, or its label where it has no number, beside
// text and in groups. docs/query_language.md tells more.
//
// Thread rule: functions; call from any thread. Each answers for the moment it is called: what is stored later is not
// seen. Ownership: results own everything they hold. Units: the columns' own (nanoseconds, US dollars); an alias
// without unit ("ttft") means the column ("ttft_ns"). Quantiles: DDSketch (relative error <= 1 %) unless `exact`; exact
// ones interpolate linearly between closest ranks (Hyndman & Fan 1996, type 7: numpy's default).
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "spanbox/sketch.h"
#include "spanbox/span.h"
#include "spanbox/status.h"
#include "spanbox/store.h"

namespace spanbox {

// What a question is about. The rows of scores (spanbox/score.h) have trace_id, span_id, name, at, and attributes; they
// have no relatives, and no others are sampled out.
enum class About { kSpans, kScores };

struct SpanQuery {
  std::string filter;                                                // empty: every span
  std::int64_t since_ns = std::numeric_limits<std::int64_t>::min();  // start_ns >= since_ns
  std::int64_t until_ns = std::numeric_limits<std::int64_t>::max();  // start_ns <  until_ns

  About about = About::kSpans;

  // Only these segments, of spans, rollups or scores, and no open spans. Unavailable when one of them is not there (any
  // more): they have been merged.
  std::optional<std::vector<std::uint64_t>> only = {};

  // Asked every few milliseconds, by the thread that put the question; true: it ends with Cancelled.
  std::function<bool()> cancelled = {};

  // Up to so many threads, the asking one among them, share the segments of Count, QuantilesOf, Aggregated and Grep.
  // The answers are those of one thread, but for the last digits of sums of floats, which are added in another order.
  unsigned threads = 1;

  // A view of the store is held no longer than this where that can be, so that merging can use the pages it has freed.
  // The answer is of the moment when the question was put all the same; only spans that sampling drops meanwhile may
  // be counted, too, and the rows of Scan may be those of a later moment when segments were merged meanwhile.
  std::int64_t max_view_ns = 1'000'000'000;
};

// Only parses: OK, or the error a query with this filter would give.
Status CheckFilter(std::string_view filter, About about = About::kSpans);

// The filter as a function of one span, e.g. for Sampling::keep. It may be called from any thread.
Result<std::function<bool(const SpanRow&)>> CompileFilter(std::string_view filter);

// Spans that sampling has dropped and that started in the asked time. Of them only counts, sums and sketches by name,
// kind, status and some other columns are left (docs/sampling.md); buckets of five minutes count as their begin.
struct SampledOut {
  std::uint64_t included = 0;  // match, and are part of the answer
  std::uint64_t excluded = 0;  // are not in the answer: what is left of them does not tell whether or how they would be
};

Result<std::uint64_t> Count(Store& store, const SpanQuery& query);  // with those of SampledOutOf that are included
Result<SampledOut> SampledOutOf(Store& store, const SpanQuery& query);

struct Quantiles {
  std::vector<double> values;  // one for each q asked; NaN when count == 0
  std::uint64_t count = 0;     // spans that match and have a value
  double relative_error = 0;   // 0 when exact
  SampledOut sampled_out;      // exact: none is included
};
// `column`: a numeric column or attribute, or an alias. REQUIRES: every q in [0, 1], else InvalidArgument.
Result<Quantiles> QuantilesOf(Store& store, const SpanQuery& query, std::string_view column, std::span<const double> qs,
                              bool exact);

// One output column. Exactly one of the vectors is used, by `type`; `valid` is empty when every row has a value.
struct TableColumn {
  enum class Type { kInt, kFloat, kBool, kString, kTimestampNs };  // kTimestampNs: ints, UTC
  std::string name;
  Type type = Type::kInt;
  std::vector<std::int64_t> ints;  // kInt, kTimestampNs; kBool as 0 or 1
  std::vector<double> floats;
  std::vector<std::uint32_t> codes;  // kString: index into dictionary
  std::vector<std::string> dictionary;
  std::vector<std::uint8_t> valid;  // 0 or 1 a row; the value where 0 is unspecified
  bool is_json = false;             // kString: every value is JSON text
  bool has_json = false;            // kString: some values are JSON text, of lists and mappings
  // kString, kFloat: what each value is, where they are of several types; a row each, unspecified where there is none.
  // Ints among floats are in `ints`, too, which has room for all of their digits.
  std::vector<ValueType> kinds;
};

struct Table {
  std::vector<TableColumn> columns;
  std::uint64_t rows = 0;
  SampledOut sampled_out;  // of Aggregated: all columns include them, or none does
};

// The rows in the order of a column, absent values last, equal ones as they came; at most `limit` of them. No column
// named: the first ones. InvalidArgument: there is no such column.
Result<Table> Ordered(const Table& table, std::string_view order_by, bool descending, std::uint64_t limit);

// What to compute of each group: text like p99(ttft), p99(ttft, exact), sum(cost), mean(score), min(x), max(x),
// count(), count(x), rate(status == error), distinct(user_id), approx_distinct(user_id), top(model, 5),
// histogram(duration).
struct Aggregate {
  std::string name;  // of the output column
  std::string expression;
};

struct Grouping {
  std::vector<std::string> by;  // columns or attributes
  std::int64_t every_ns = 0;    // > 0: also by time bucket
  // Empty: buckets begin at multiples of every_ns since 1970 UTC. Else an IANA name: they begin when clocks there show
  // such a multiple; of whole days, when the day begins, however long it is.
  std::string time_zone;
};

// Columns: "time" (kTimestampNs, when every_ns > 0), the group columns, the aggregates. Rows ordered by time, then
// groups. Ratios and quantiles of an empty set are absent.
Result<Table> Aggregated(Store& store, const SpanQuery& query, const Grouping& grouping,
                         std::span<const Aggregate> aggregates);

struct ScanOptions {
  // Columns or attributes, in this order. Empty: every column and attribute that any matching span has, named columns
  // first in the order of Columns(), then attributes by name. Ids are hexadecimal strings. start_ns comes as
  // kTimestampNs named "start", every other column under its full name. An attribute of ints and floats comes as
  // floats, of several other types as strings (JSON for lists and mappings).
  std::vector<std::string> columns;
  std::uint64_t limit = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t skip = 0;  // leave out the first ones; `limit` counts those behind
  // Column or attribute to order by; empty: by start, then span id. Ties by start. Absent values last.
  std::string order_by;
  bool descending = false;
};
Result<Table> Scan(Store& store, const SpanQuery& query, const ScanOptions& options);

struct Erased {
  std::uint64_t spans = 0;
  std::uint64_t scores = 0;  // of those spans; and of traces, with their root or the last of their spans
  std::uint64_t blobs = 0;   // that nothing else names
};
// Takes the matching spans out of the store, with their scores and the blobs that nothing else names. REQUIRES: the
// query is about spans. Spans that are still running
// stay, and so do the counts that sampling left. `secure`: also overwrites every byte of data.mdb that is not in use,
// so that nothing of them is left in the file; ring files are their processes' business. InvalidArgument: an empty
// filter.
Result<Erased> Erase(Store& store, const SpanQuery& query, bool secure);

struct GrepHit {
  TraceId trace_id;
  SpanId span_id = 0;
  std::string span_name;
  std::int64_t start_ns = 0;
  std::string column;              // "input", "output", an attribute's name
  std::string snippet;             // up to ~80 bytes around the match, cut at UTF-8 boundaries
  std::uint32_t match_offset = 0;  // of the match in the snippet, bytes
  std::uint32_t match_bytes = 0;
};
struct GrepResult {
  std::vector<GrepHit> hits;  // newest first, at most `limit`
  std::uint64_t matched = 0;  // values that match, all of them
};
// Searches the text of every column and attribute of the matching spans: substring, or RE2 regular expression.
Result<GrepResult> Grep(Store& store, const SpanQuery& query, std::string_view pattern, bool regex, bool ignore_case,
                        std::uint64_t limit);

}  // namespace spanbox
