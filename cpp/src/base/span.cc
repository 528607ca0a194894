#include "spanbox/span.h"

#include <algorithm>
#include <vector>

namespace spanbox {
namespace {

constexpr std::string_view kKindNames[] = {"span",     "llm",   "embedding", "retriever", "reranker", "tool",  "agent",
                                           "workflow", "chain", "guardrail", "evaluator", "prompt",   "memory"};
constexpr std::string_view kStatusNames[] = {"ok", "error", "running", "interrupted"};

using Type = ColumnType;
constexpr ColumnInfo kColumns[] = {
    {Column::kAttribute, "", "", Type::kText, "any attribute the program has set"},
    {Column::kTraceId, "trace_id", "", Type::kTraceId, "the trace the span belongs to, 32 hexadecimal digits"},
    {Column::kSpanId, "span_id", "", Type::kSpanId, "the span, 16 hexadecimal digits"},
    {Column::kParentId, "parent_id", "", Type::kSpanId, "the span that called it; absent in a root"},
    {Column::kName, "name", "", Type::kString, "what was called"},
    {Column::kKind, "kind", "", Type::kString, "kind of work: llm, tool, agent, retriever, ..."},
    {Column::kStatus, "status", "", Type::kString, "how it ended: ok, error, running, interrupted"},
    {Column::kStartNs, "start_ns", "start", Type::kInt, "start, nanoseconds since 1970-01-01 UTC"},
    {Column::kDurationNs, "duration_ns", "duration", Type::kInt, "end minus start, nanoseconds"},
    {Column::kTtftNs, "ttft_ns", "ttft", Type::kInt, "time to the first token, nanoseconds"},
    {Column::kTpotNs, "tpot_ns", "tpot", Type::kInt, "time per output token after the first, nanoseconds"},
    {Column::kErrorType, "error_type", "", Type::kString, "class of the error"},
    {Column::kErrorMessage, "error_message", "", Type::kText, "message of the error"},
    {Column::kProvider, "provider", "", Type::kString, "who served the model"},
    {Column::kModelRequest, "model_request", "", Type::kString, "model asked for"},
    {Column::kModel, "model", "", Type::kString, "model that answered, the one billed"},
    {Column::kOperation, "operation", "", Type::kString, "operation of the provider: chat, embeddings, ..."},
    {Column::kInputTokens, "input_tokens", "", Type::kInt, "tokens in, cached ones included"},
    {Column::kCacheReadTokens, "cache_read_tokens", "", Type::kInt, "tokens in that came from the provider's cache"},
    {Column::kCacheWriteTokens, "cache_write_tokens", "", Type::kInt, "tokens in that went into the provider's cache"},
    {Column::kOutputTokens, "output_tokens", "", Type::kInt, "tokens out, reasoning included"},
    {Column::kReasoningTokens, "reasoning_tokens", "", Type::kInt, "tokens out spent on reasoning"},
    {Column::kCostUsd, "cost_usd", "cost", Type::kFloat, "cost, US dollars"},
    {Column::kCostSource, "cost_source", "", Type::kString, "where the cost comes from"},
    {Column::kUserId, "user_id", "", Type::kString, "the user served"},
    {Column::kSessionId, "session_id", "", Type::kString, "the conversation or session"},
    {Column::kTenant, "tenant", "", Type::kString, "the customer served"},
    {Column::kFeature, "feature", "", Type::kString, "the feature of the product"},
    {Column::kRelease, "release", "", Type::kString, "release of the program"},
    {Column::kEnvironment, "environment", "", Type::kString, "where it ran: production, staging, ..."},
    {Column::kPromptName, "prompt_name", "", Type::kString, "name of the prompt used"},
    {Column::kPromptVersion, "prompt_version", "", Type::kString, "version of the prompt used"},
    {Column::kFinishReason, "finish_reason", "", Type::kString, "why the model stopped"},
    {Column::kToolName, "tool_name", "", Type::kString, "the tool called"},
    {Column::kToolCallId, "tool_call_id", "", Type::kString, "the model's id of the tool call"},
    {Column::kAgentName, "agent_name", "", Type::kString, "the agent at work"},
    {Column::kInput, "input", "", Type::kText, "what went in"},
    {Column::kOutput, "output", "", Type::kText, "what came out"},
    {Column::kEvents, "events", "", Type::kText, "timed events inside the span, JSON"},
    {Column::kLinks, "links", "", Type::kText, "other spans it is linked with, JSON"},
};

constexpr bool IndexedByColumn() {
  for (std::size_t i = 0; i < std::size(kColumns); ++i) {
    if (static_cast<std::size_t>(kColumns[i].column) != i) return false;
  }
  return std::size(kColumns) == kColumnCount;
}
static_assert(IndexedByColumn());

void PutHex(std::uint8_t byte, char* out) {
  constexpr char kDigits[] = "0123456789abcdef";
  out[0] = kDigits[byte >> 4];
  out[1] = kDigits[byte & 15];
}

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool ParseHex(std::string_view hex, std::span<std::uint8_t> bytes) {
  if (hex.size() != 2 * bytes.size()) return false;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const int high = HexValue(hex[2 * i]);
    const int low = HexValue(hex[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    bytes[i] = static_cast<std::uint8_t>(high << 4 | low);
  }
  return true;
}

template <typename Enum>
std::optional<Enum> FromName(std::span<const std::string_view> names, std::string_view name) {
  const auto found = std::ranges::find(names, name);
  if (found == names.end()) return std::nullopt;
  return static_cast<Enum>(found - names.begin());
}

struct NameEntry {
  std::string_view name;
  const ColumnInfo* info;
};

// Names and aliases, sorted.
const std::vector<NameEntry>& NameIndex() {
  static const std::vector<NameEntry> index = [] {
    std::vector<NameEntry> entries;
    for (const ColumnInfo& info : kColumns) {
      if (!info.name.empty()) entries.push_back({info.name, &info});
      if (!info.alias.empty()) entries.push_back({info.alias, &info});
    }
    std::ranges::sort(entries, {}, &NameEntry::name);
    return entries;
  }();
  return index;
}
// Made while the program is loaded: a child forked while another thread makes it would wait for that thread for ever.
[[maybe_unused]] const bool name_index_is_made = !NameIndex().empty();

}  // namespace

std::string ToHex(const TraceId& id) {
  std::string hex(32, '0');
  for (std::size_t i = 0; i < id.bytes.size(); ++i) PutHex(id.bytes[i], &hex[2 * i]);
  return hex;
}

std::string ToHex(SpanId id) {
  std::string hex(16, '0');
  for (int i = 0; i < 8; ++i)
    PutHex(static_cast<std::uint8_t>(id >> (56 - 8 * i)), &hex[2 * static_cast<std::size_t>(i)]);
  return hex;
}

std::optional<TraceId> TraceIdFromHex(std::string_view hex) {
  TraceId id;
  if (!ParseHex(hex, id.bytes) || !id.is_valid()) return std::nullopt;
  return id;
}

std::optional<SpanId> SpanIdFromHex(std::string_view hex) {
  std::array<std::uint8_t, 8> bytes{};
  if (!ParseHex(hex, bytes)) return std::nullopt;
  SpanId id = 0;
  for (const std::uint8_t byte : bytes) id = id << 8 | byte;
  if (id == 0) return std::nullopt;
  return id;
}

std::optional<TraceParent> ParseTraceparent(std::string_view text) {
  constexpr std::size_t kLength = 55;  // "vv-", 32 digits, "-", 16 digits, "-ff"
  if (text.size() < kLength || text[2] != '-' || text[35] != '-' || text[52] != '-') return std::nullopt;
  const std::string_view known = text.substr(0, kLength);
  if (std::ranges::any_of(known, [](char c) { return c >= 'A' && c <= 'F'; })) return std::nullopt;
  const std::string_view version = known.substr(0, 2);
  // A later version may go on after another dash; 00 ends here; ff is none.
  if (version == "ff" || (text.size() > kLength && (version == "00" || text[kLength] != '-'))) return std::nullopt;
  std::uint8_t number[1], flags[1];
  const auto trace_id = TraceIdFromHex(known.substr(3, 32));
  const auto span_id = SpanIdFromHex(known.substr(36, 16));
  if (!ParseHex(version, number) || !ParseHex(known.substr(53), flags) || !trace_id || !span_id) return std::nullopt;
  return TraceParent{*trace_id, *span_id, (flags[0] & 1) != 0};
}

std::string ToTraceparent(const TraceParent& parent) {
  return "00-" + ToHex(parent.trace_id) + "-" + ToHex(parent.span_id) + (parent.sampled ? "-01" : "-00");
}

std::string_view ToString(SpanKind kind) {
  const auto index = static_cast<std::size_t>(kind);
  return index < std::size(kKindNames) ? kKindNames[index] : kKindNames[0];
}
std::optional<SpanKind> SpanKindFromString(std::string_view name) { return FromName<SpanKind>(kKindNames, name); }
std::span<const std::string_view> SpanKindNames() { return kKindNames; }

std::string_view ToString(SpanStatus status) {
  const auto index = static_cast<std::size_t>(status);
  return index < std::size(kStatusNames) ? kStatusNames[index] : kStatusNames[0];
}
std::optional<SpanStatus> SpanStatusFromString(std::string_view name) {
  return FromName<SpanStatus>(kStatusNames, name);
}

std::span<const ColumnInfo> Columns() { return kColumns; }

const ColumnInfo* FindColumn(std::string_view name_or_alias) {
  const auto& index = NameIndex();
  const auto found = std::ranges::lower_bound(index, name_or_alias, {}, &NameEntry::name);
  return found != index.end() && found->name == name_or_alias ? found->info : nullptr;
}

}  // namespace spanbox
