// Which attribute of which tracing dialect says what a column holds: the mapping, as a table.
//
// Dialects: OpenTelemetry GenAI (today's names first, then older ones), OpenInference, OpenLLMetry/Traceloop, Langfuse,
// Vercel AI SDK, Pydantic AI. docs/opentelemetry.md shows the table to users.
//
// Thread rule: immutable. Ownership: everything lives as long as the program.
// Invariants: the rules of a column stand together, in order of precedence; the first one's key is the name on export.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "spanbox/span.h"

namespace spanbox {

// The conventions have no release of their own yet: this is the emitter whose names are followed.
inline constexpr std::string_view kConventions = "opentelemetry-util-genai 1.3b0";

// How an attribute's value becomes the column's.
enum class Reading : std::uint8_t {
  kText,       // text that is not empty
  kTextCopy,   // the same; the attribute stays, too
  kCount,      // a whole number >= 0
  kNumber,     // an int or a float
  kPayload,    // whatever is not empty
  kFirstText,  // of a list, or text
  kSeconds,    // a time, as nanoseconds
  kMilliseconds,
  kNanoseconds,
  kCountDetail,   // of a JSON mapping, the first entry whose name matches `detail`
  kNumberDetail,  // the same
  kFlattened,     // key.0.x, key.1.x, ...: a list of mappings
};

struct Rule {
  Column column;
  std::string_view key;
  Reading reading = Reading::kText;
  std::string_view detail = {};  // patterns with a "*" at an end, divided by "|"
};

std::span<const Rule> Rules();
const Rule* FirstRule(Column column);  // nullptr: no dialect has a name for it

// Attributes that columns are computed with.
enum class Aside : std::uint8_t { kNone, kInputCost, kOutputCost, kTotalTokens, kFirstTokenTime };
inline constexpr std::size_t kAsides = 5;

// What a key means. Of flattened keys only FlattenedRule tells.
struct KeyInfo {
  std::string_view key;
  std::uint8_t count = 0;
  std::int8_t kind_key = -1;  // >= 0: it tells what kind of work a span is; by precedence
  Aside aside = Aside::kNone;
  std::array<std::uint16_t, 6> rule_numbers{};

  std::span<const std::uint16_t> rules() const { return {rule_numbers.data(), count}; }  // numbers, ascending
};
const KeyInfo* InfoOf(std::string_view key);  // nullptr: nothing
// The number of the rule whose list the key is an element of (llm.input_messages.0.message.role), or -1.
int FlattenedRule(std::string_view key);

inline constexpr int kKindKeys = 7;
// nullopt: the value says nothing of the kind.
std::optional<SpanKind> KindOf(int kind_key, std::string_view value);
// The name on export of a column of a span of this kind: usually the first rule's.
std::string_view ExportKey(Column column, SpanKind kind, const Value& value);
// The operation of today's conventions for the kind; empty: there is none.
std::string_view OperationOf(SpanKind kind);

}  // namespace spanbox
