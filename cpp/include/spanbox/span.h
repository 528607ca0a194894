// A span: one timed operation of a trace, as a row of typed columns. Open this header first.
//
// Every row has the fixed part of SpanRow; everything else is a list of Fields. A Field is either one of the columns
// named in `Column` (their names and units are in Columns()), or an attribute: any name the user chose, which is a
// column like the others.
//
// Thread rule: plain values.
// Ownership: SpanRow, Field and Value borrow: every string_view and span inside them belongs to whoever made them.
// Units: times are nanoseconds; wall-clock times count from 1970-01-01T00:00:00Z; cost is US dollars.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace spanbox {

// 16 bytes as W3C Trace Context writes them: hexadecimal order is byte order; all zero means "none".
struct TraceId {
  std::array<std::uint8_t, 16> bytes{};

  bool is_valid() const { return *this != TraceId{}; }
  friend bool operator==(const TraceId&, const TraceId&) = default;
  friend auto operator<=>(const TraceId&, const TraceId&) = default;
};

// A W3C span id; written as 16 hexadecimal digits, most significant first. 0 means "none".
using SpanId = std::uint64_t;

std::string ToHex(const TraceId& id);                         // 32 digits
std::string ToHex(SpanId id);                                 // 16 digits
std::optional<TraceId> TraceIdFromHex(std::string_view hex);  // nullopt unless 32 hexadecimal digits, not all zero
std::optional<SpanId> SpanIdFromHex(std::string_view hex);    // nullopt unless 16 hexadecimal digits, not all zero

// Where another process stands in a trace, as the `traceparent` of W3C Trace Context (level 1) carries it:
// 00-<trace id>-<span id>-<flags>. Spans begun under it have its trace id, and its span id as their parent.
struct TraceParent {
  TraceId trace_id;
  SpanId span_id = 0;
  bool sampled = true;

  friend bool operator==(const TraceParent&, const TraceParent&) = default;
};

// nullopt unless it is one, in lowercase. Of a version that is not known yet, the part that every version has is read.
std::optional<TraceParent> ParseTraceparent(std::string_view text);
std::string ToTraceparent(const TraceParent& parent);  // version 00. REQUIRES: both ids valid

// What kind of work the span is. Persisted in ring records: never renumber.
enum class SpanKind : std::uint8_t {
  kSpan = 0,
  kLlm = 1,
  kEmbedding = 2,
  kRetriever = 3,
  kReranker = 4,
  kTool = 5,
  kAgent = 6,
  kWorkflow = 7,
  kChain = 8,
  kGuardrail = 9,
  kEvaluator = 10,
  kPrompt = 11,
  kMemory = 12,
};
std::string_view ToString(SpanKind kind);
std::optional<SpanKind> SpanKindFromString(std::string_view name);
std::span<const std::string_view> SpanKindNames();  // in the order of the enumeration

// How it ended. kRunning: a START without an END so far. kInterrupted: the process died first.
// Persisted in ring records: never renumber.
enum class SpanStatus : std::uint8_t { kOk = 0, kError = 1, kRunning = 2, kInterrupted = 3 };
std::string_view ToString(SpanStatus status);
std::optional<SpanStatus> SpanStatusFromString(std::string_view name);

// Persisted in ring records and segments: never renumber.
enum class ValueType : std::uint8_t {
  kBool = 1,
  kInt = 2,     // signed 64-bit
  kFloat = 3,   // IEEE 754 binary64
  kString = 4,  // UTF-8
  kJson = 5,    // UTF-8 JSON text of a list, a mapping, or anything that is no scalar
};

struct Value {
  ValueType type = ValueType::kInt;
  union {
    bool boolean;
    std::int64_t integer = 0;
    double number;
  };
  std::string_view text;  // kString and kJson only

  static Value Bool(bool v) {
    Value r;
    r.type = ValueType::kBool;
    r.boolean = v;
    return r;
  }
  static Value Int(std::int64_t v) {
    Value r;
    r.integer = v;
    return r;
  }
  static Value Float(double v) {
    Value r;
    r.type = ValueType::kFloat;
    r.number = v;
    return r;
  }
  static Value String(std::string_view v) {
    Value r;
    r.type = ValueType::kString;
    r.text = v;
    return r;
  }
  static Value Json(std::string_view v) {
    Value r;
    r.type = ValueType::kJson;
    r.text = v;
    return r;
  }
};

// The named columns. Persisted in ring records and segments: never renumber, only append.
enum class Column : std::uint16_t {
  kAttribute = 0,  // not a named column: the Field carries its own name
  kTraceId = 1,
  kSpanId = 2,
  kParentId = 3,
  kName = 4,
  kKind = 5,
  kStatus = 6,
  kStartNs = 7,
  kDurationNs = 8,
  kTtftNs = 9,
  kTpotNs = 10,
  kErrorType = 11,
  kErrorMessage = 12,
  kProvider = 13,
  kModelRequest = 14,
  kModel = 15,
  kOperation = 16,
  kInputTokens = 17,
  kCacheReadTokens = 18,
  kCacheWriteTokens = 19,
  kOutputTokens = 20,
  kReasoningTokens = 21,
  kCostUsd = 22,
  kCostSource = 23,
  kUserId = 24,
  kSessionId = 25,
  kTenant = 26,
  kFeature = 27,
  kRelease = 28,
  kEnvironment = 29,
  kPromptName = 30,
  kPromptVersion = 31,
  kFinishReason = 32,
  kToolName = 33,
  kToolCallId = 34,
  kAgentName = 35,
  kInput = 36,
  kOutput = 37,
  kEvents = 38,
  kLinks = 39,
};
inline constexpr std::uint16_t kColumnCount = 40;

// How a column is stored. Persisted in segments: never renumber.
enum class ColumnType : std::uint8_t {
  kTraceId = 1,  // 16 bytes
  kSpanId = 2,   // u64
  kInt = 3,
  kFloat = 4,
  kBool = 5,
  kString = 6,  // short strings, dictionary coded
  kText = 7,    // long strings and JSON, in compressed text blocks
};

struct ColumnInfo {
  Column column;
  std::string_view name;   // "ttft_ns"
  std::string_view alias;  // "ttft": the name without its unit, for filters; empty where there is none
  ColumnType type;
  std::string_view description;  // one line, for docs and completion
};

std::span<const ColumnInfo> Columns();                         // index = Column value; [0] describes kAttribute
const ColumnInfo* FindColumn(std::string_view name_or_alias);  // nullptr when it is an attribute's name

struct Field {
  Column column = Column::kAttribute;
  std::string_view name;  // attributes only
  Value value;
};

struct SpanRow {
  TraceId trace_id;
  SpanId span_id = 0;
  SpanId parent_id = 0;  // 0: a root
  std::string_view name;
  SpanKind kind = SpanKind::kSpan;
  SpanStatus status = SpanStatus::kOk;
  std::int64_t start_ns = 0;
  std::int64_t duration_ns = -1;  // -1: not known
  std::span<const Field> fields;  // a name given twice: the last one wins
};

}  // namespace spanbox
