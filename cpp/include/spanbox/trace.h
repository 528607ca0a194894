// One trace as a tree with totals, page by page, and its critical path; sessions, which are traces in a row.
//
// docs/traces.md gives the rules. In short: tokens and costs are those of model calls (kinds llm and embedding), and a
// call that repeats what calls below it report is not counted; an error counts where it began.
//
// Thread rule: functions; call from any thread. Ownership: results own everything they hold.
// Invariant: the tree is depth first, children by start, then span id. A span whose parent is not in the store is a
// root; a cycle of parents is cut at its earliest span; of spans with the same id the earliest is the parent.
// Units: nanoseconds, US dollars, tokens.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "spanbox/query.h"
#include "spanbox/span.h"
#include "spanbox/status.h"
#include "spanbox/store.h"

namespace spanbox {

// What model calls took. Nothing: none of them told.
struct Usage {
  std::optional<double> cost_usd;
  std::optional<std::int64_t> input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens;

  bool has_tokens() const {
    return input_tokens || cache_read_tokens || cache_write_tokens || output_tokens || reasoning_tokens;
  }
  friend bool operator==(const Usage&, const Usage&) = default;
};

// Of a span and everything below it, or of a trace.
struct SpanTotals {
  std::uint64_t spans = 0;
  std::uint64_t errors = 0;          // failed spans with no failed child
  std::uint64_t model_calls = 0;     // with no model call below them
  std::uint64_t unpriced_calls = 0;  // of these: neither they nor a call around them have a cost
  // The cost of a model call counts if no model call below it has a cost; its tokens, if none below it has tokens.
  Usage usage;

  friend bool operator==(const SpanTotals&, const SpanTotals&) = default;
};

// One cell of a trace's span.
using Cell = std::variant<bool, std::int64_t, double, std::string>;
struct SpanAttribute {
  std::string name;
  Cell value;
  bool is_json = false;  // the string is JSON text
};

struct TraceSpan {
  TraceId trace_id;
  SpanId span_id = 0, parent_id = 0;
  std::string name;
  SpanKind kind = SpanKind::kSpan;
  SpanStatus status = SpanStatus::kOk;
  std::int64_t start_ns = 0;
  std::int64_t duration_ns = -1;          // -1: not known
  std::vector<SpanAttribute> attributes;  // all other columns and attributes that have a value

  // Its place in the tree.
  std::uint32_t depth = 0;
  std::uint32_t children = 0;
  std::int64_t self_ns = -1;     // the duration without the time when a child ran; -1: not known
  std::int64_t critical_ns = 0;  // of the critical path
  SpanTotals totals;
};

// A trace in one line.
struct TraceSummary {
  TraceId trace_id;
  SpanId root_id = 0;  // the earliest span without a parent, else the earliest whose parent is not in the store
  std::string name;    // of the root
  SpanKind kind = SpanKind::kSpan;
  SpanStatus status = SpanStatus::kOk;  // the worst of the roots: error, interrupted, running, ok
  std::int64_t start_ns = 0;            // of the earliest span
  std::int64_t duration_ns = -1;        // up to the last end that is known; -1: none is
  SpanTotals totals;
};

// What is read of each span: the columns up to duration_ns; all but input, output, events, links and other long texts,
// of which error_message stays; everything.
enum class SpanParts : std::uint8_t { kTree, kAttributes, kEverything };

struct TracePageOptions {
  std::uint64_t offset = 0, limit = std::numeric_limits<std::uint64_t>::max();  // lines of the tree
  std::vector<SpanId> collapsed;                                                // spans whose descendants are no lines
  SpanParts parts = SpanParts::kEverything;
};
struct TracePage {
  std::vector<TraceSpan> spans;
  std::uint64_t lines = 0;  // of all pages
  TraceSummary trace;       // of the whole trace
};
// Some lines of a trace's tree. Of the whole trace the tree's columns are read, of these lines the rest. NotFound when
// the store has no span of the trace.
Result<TracePage> TracePageOf(Store& store, const TraceId& trace, const TracePageOptions& options);

// A span as its tree needs it: its place and its times, without any text.
struct OutlineSpan {
  static constexpr std::uint32_t kNoParent = std::numeric_limits<std::uint32_t>::max();

  SpanId span_id = 0;
  std::uint32_t parent = kNoParent;  // its number in the outline
  std::uint32_t depth = 0;
  SpanKind kind = SpanKind::kSpan;
  SpanStatus status = SpanStatus::kOk;
  std::int64_t start_ns = 0, duration_ns = -1;  // -1: not known
  std::optional<double> cost_usd;               // its own; of model calls
};
struct TraceOutline {
  std::vector<OutlineSpan> spans;  // every one, in the order of the tree
  TraceSummary trace;
};
// Reads the tree's columns only. NotFound.
Result<TraceOutline> OutlineOf(Store& store, const TraceId& trace);

// Every span of a trace.
Result<std::vector<TraceSpan>> TraceOf(Store& store, const TraceId& trace);

// A time in which one span determined when the root ended.
struct PathStep {
  SpanId span_id = 0;
  std::string name;
  SpanKind kind = SpanKind::kSpan;
  std::int64_t start_ns = 0, duration_ns = 0;
};
// From the root's start to its end without a gap: durations add up to the root's. Of a root that has no end yet, up to
// the last moment known of it. NotFound.
Result<std::vector<PathStep>> CriticalPathOf(Store& store, const TraceId& trace);

// In the order of `traces`; what is not in the store is left out.
Result<std::vector<TraceSummary>> SummariesOf(Store& store, std::span<const TraceId> traces);

// A trace belongs to the session that its earliest span with a session_id names; all its spans count.
struct SessionOptions {
  std::string order_by = "active";  // a column of the result
  bool descending = true;
  std::uint64_t limit = std::numeric_limits<std::uint64_t>::max();
};
// A row for each session with a span that matches; figures are of the whole session. Columns: session_id, start, active
// (the start of the latest span that names the session), duration_ns (to the last end that is known), turns (traces),
// spans, model_calls, unpriced_calls, errors, cost_usd, input_tokens, cache_read_tokens, cache_write_tokens,
// output_tokens, users (distinct user_ids as a JSON list). Newest-active first with a limit is what is cheap: only
// those sessions are read.
Result<Table> SessionsOf(Store& store, const SpanQuery& query, const SessionOptions& options);

struct Turn {
  TraceSummary trace;
  TraceSpan root;  // with everything stored of it; critical_ns is not computed
};
struct Session {
  std::string id;
  std::vector<std::string> users;  // distinct, sorted
  std::vector<Turn> turns;         // by start
  SpanTotals totals;
};
Result<Session> SessionOf(Store& store, std::string_view id);  // NotFound

// Every score of a trace and its spans, in the order they were given, as spanbox/score.h has them; none: empty.
Result<std::vector<TraceSpan>> ScoresOf(Store& store, const TraceId& trace);

// Ids of the spans of a trace that are stored, in no order; empty when there is none. Reads one column.
Result<std::vector<SpanId>> SpanIdsOf(Store& store, const TraceId& trace);

// Traces whose id starts with these hexadecimal digits (at least 4), newest first, at most `limit`.
Result<std::vector<TraceId>> FindTraces(Store& store, std::string_view hex_prefix, std::uint64_t limit);

}  // namespace spanbox
