#include "wire/rules.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

namespace spanbox {
namespace {

using enum Column;
using enum Reading;

constexpr std::string_view kUsage = "langfuse.observation.usage_details";

constexpr Rule kRules[] = {
    {kTtftNs, "gen_ai.response.time_to_first_chunk", kSeconds},
    {kTtftNs, "ai.response.msToFirstChunk", kMilliseconds},
    {kTpotNs, "spanbox.tpot_ns", kNanoseconds},
    {kErrorType, "error.type"},
    {kProvider, "gen_ai.provider.name"},
    {kProvider, "gen_ai.system"},
    {kProvider, "llm.provider"},
    {kProvider, "llm.system"},
    {kProvider, "ai.model.provider"},
    {kModelRequest, "gen_ai.request.model"},
    {kModelRequest, "llm.request.model_name"},
    {kModelRequest, "llm.model_name"},
    {kModelRequest, "langfuse.observation.model.name"},
    {kModelRequest, "ai.model.id"},
    {kModelRequest, "embedding.model_name"},
    {kModelRequest, "reranker.model_name"},
    {kModel, "gen_ai.response.model"},
    {kModel, "llm.response.model_name"},
    {kModel, "ai.response.model"},
    {kModel, "gen_ai.request.model"},
    {kModel, "llm.request.model_name"},
    {kModel, "llm.model_name"},
    {kModel, "langfuse.observation.model.name"},
    {kModel, "ai.model.id"},
    {kModel, "embedding.model_name"},
    {kModel, "reranker.model_name"},
    {kOperation, "gen_ai.operation.name"},
    {kInputTokens, "gen_ai.usage.input_tokens", kCount},
    {kInputTokens, "gen_ai.usage.prompt_tokens", kCount},
    {kInputTokens, "llm.token_count.prompt", kCount},
    {kInputTokens, kUsage, kCountDetail, "input"},
    {kInputTokens, "ai.usage.inputTokens", kCount},
    {kInputTokens, "ai.usage.promptTokens", kCount},
    {kInputTokens, "ai.usage.tokens", kCount},
    {kCacheReadTokens, "gen_ai.usage.cache_read.input_tokens", kCount},
    {kCacheReadTokens, "llm.token_count.prompt_details.cache_read", kCount},
    {kCacheReadTokens, "llm.token_count.prompt_details.cache_input", kCount},
    {kCacheReadTokens, "gen_ai.usage.cache_read_input_tokens", kCount},
    {kCacheReadTokens, "gen_ai.usage.input_tokens.cached", kCount},
    {kCacheReadTokens, kUsage, kCountDetail, "cache_read*|input_cache_read*|input_cached*"},
    {kCacheReadTokens, "ai.usage.cachedInputTokens", kCount},
    {kCacheWriteTokens, "gen_ai.usage.cache_write.input_tokens", kCount},
    {kCacheWriteTokens, "gen_ai.usage.cache_creation.input_tokens", kCount},
    {kCacheWriteTokens, "llm.token_count.prompt_details.cache_write", kCount},
    {kCacheWriteTokens, "gen_ai.usage.cache_creation_input_tokens", kCount},
    {kCacheWriteTokens, "gen_ai.usage.input_tokens.cache_write", kCount},
    {kCacheWriteTokens, kUsage, kCountDetail, "cache_creation*|input_cache_creation*"},
    {kOutputTokens, "gen_ai.usage.output_tokens", kCount},
    {kOutputTokens, "gen_ai.usage.completion_tokens", kCount},
    {kOutputTokens, "llm.token_count.completion", kCount},
    {kOutputTokens, kUsage, kCountDetail, "output"},
    {kOutputTokens, "ai.usage.outputTokens", kCount},
    {kOutputTokens, "ai.usage.completionTokens", kCount},
    {kReasoningTokens, "gen_ai.usage.reasoning.output_tokens", kCount},
    {kReasoningTokens, "llm.token_count.completion_details.reasoning", kCount},
    {kReasoningTokens, "gen_ai.usage.reasoning_tokens", kCount},
    {kReasoningTokens, kUsage, kCountDetail, "*reasoning*"},
    {kReasoningTokens, "ai.usage.reasoningTokens", kCount},
    {kCostUsd, "spanbox.cost.total", kNumber},
    {kCostUsd, "llm.cost.total", kNumber},
    {kCostUsd, "gen_ai.usage.cost", kNumber},
    {kCostUsd, "langfuse.observation.cost_details", kNumberDetail, "total"},
    {kCostUsd, "operation.cost", kNumber},
    {kCostSource, "spanbox.cost.source"},
    {kUserId, "user.id"},
    {kUserId, "enduser.id"},
    {kUserId, "traceloop.association.properties.user_id"},
    {kUserId, "llm.user"},
    {kUserId, "ai.telemetry.metadata.userId"},
    {kSessionId, "gen_ai.conversation.id"},
    {kSessionId, "session.id"},
    {kSessionId, "traceloop.association.properties.session_id"},
    {kSessionId, "ai.telemetry.metadata.sessionId"},
    {kTenant, "spanbox.tenant"},
    {kFeature, "spanbox.feature"},
    {kRelease, "spanbox.release"},
    {kRelease, "langfuse.release"},
    {kEnvironment, "deployment.environment.name"},
    {kEnvironment, "langfuse.environment"},
    {kPromptName, "gen_ai.prompt.name"},
    {kPromptName, "prompt.id"},
    {kPromptName, "traceloop.prompt.key"},
    {kPromptName, "langfuse.observation.prompt.name"},
    {kPromptName, "ai.telemetry.functionId"},
    {kPromptVersion, "gen_ai.prompt.version"},
    {kPromptVersion, "llm.prompt_template.version"},
    {kPromptVersion, "traceloop.prompt.version"},
    {kPromptVersion, "langfuse.observation.prompt.version"},
    {kFinishReason, "gen_ai.response.finish_reasons", kFirstText},
    {kFinishReason, "llm.finish_reason"},
    {kFinishReason, "gen_ai.response.finish_reason"},
    {kFinishReason, "gen_ai.completion.0.finish_reason", kTextCopy},
    {kFinishReason, "ai.response.finishReason"},
    {kToolName, "gen_ai.tool.name"},
    {kToolName, "tool.name"},
    {kToolName, "ai.toolCall.name"},
    {kToolCallId, "gen_ai.tool.call.id"},
    {kToolCallId, "tool.id"},
    {kToolCallId, "ai.toolCall.id"},
    {kAgentName, "gen_ai.agent.name"},
    {kAgentName, "agent.name"},
    {kAgentName, "agent_name"},
    {kInput, "gen_ai.input.messages", kPayload},
    {kInput, "gen_ai.tool.call.arguments", kPayload},
    {kInput, "gen_ai.tool.args", kPayload},
    {kInput, "gen_ai.retrieval.query.text", kPayload},
    {kInput, "llm.input_messages.*", kFlattened},
    {kInput, "input.value", kPayload},
    {kInput, "gen_ai.prompt.*", kFlattened},
    {kInput, "gen_ai.prompt", kPayload},
    {kInput, "traceloop.entity.input", kPayload},
    {kInput, "langfuse.observation.input", kPayload},
    {kInput, "ai.prompt.messages", kPayload},
    {kInput, "ai.prompt", kPayload},
    {kInput, "ai.toolCall.args", kPayload},
    {kInput, "ai.value", kPayload},
    {kInput, "ai.values", kPayload},
    {kInput, "tool_arguments", kPayload},
    {kInput, "pydantic_ai.all_messages", kPayload},
    {kInput, "spanbox.input", kPayload},
    {kOutput, "gen_ai.output.messages", kPayload},
    {kOutput, "gen_ai.tool.call.result", kPayload},
    {kOutput, "gen_ai.output", kPayload},
    {kOutput, "gen_ai.retrieval.documents", kPayload},
    {kOutput, "llm.output_messages.*", kFlattened},
    {kOutput, "retrieval.documents.*", kFlattened},
    {kOutput, "output.value", kPayload},
    {kOutput, "gen_ai.completion.*", kFlattened},
    {kOutput, "gen_ai.completion", kPayload},
    {kOutput, "traceloop.entity.output", kPayload},
    {kOutput, "langfuse.observation.output", kPayload},
    {kOutput, "ai.response.text", kPayload},
    {kOutput, "ai.response.object", kPayload},
    {kOutput, "ai.response.toolCalls", kPayload},
    {kOutput, "ai.toolCall.result", kPayload},
    {kOutput, "tool_response", kPayload},
    {kOutput, "final_result", kPayload},
    {kOutput, "spanbox.output", kPayload},
};
constexpr std::uint16_t kRuleCount = std::size(kRules);

constexpr std::array<std::uint16_t, kColumnCount> FirstRules() {
  std::array<std::uint16_t, kColumnCount> first{};
  first.fill(kRuleCount);
  for (std::uint16_t rule = kRuleCount; rule-- > 0;) first[static_cast<std::size_t>(kRules[rule].column)] = rule;
  return first;
}
constexpr auto kFirstRules = FirstRules();

struct KindName {
  std::string_view name;
  SpanKind kind;
};
// Sorted.
constexpr KindName kKindsOfOperations[] = {
    {"ai.embed", SpanKind::kSpan},
    {"ai.embed.doEmbed", SpanKind::kEmbedding},
    {"ai.embedMany", SpanKind::kSpan},
    {"ai.embedMany.doEmbed", SpanKind::kEmbedding},
    {"ai.generateObject", SpanKind::kAgent},
    {"ai.generateObject.doGenerate", SpanKind::kLlm},
    {"ai.generateText", SpanKind::kAgent},
    {"ai.generateText.doGenerate", SpanKind::kLlm},
    {"ai.streamObject", SpanKind::kAgent},
    {"ai.streamObject.doStream", SpanKind::kLlm},
    {"ai.streamText", SpanKind::kAgent},
    {"ai.streamText.doStream", SpanKind::kLlm},
    {"ai.toolCall", SpanKind::kTool},
    {"call_llm", SpanKind::kLlm},
    {"chat", SpanKind::kLlm},
    {"completion", SpanKind::kLlm},
    {"create_agent", SpanKind::kAgent},
    {"create_memory", SpanKind::kMemory},
    {"create_memory_store", SpanKind::kMemory},
    {"delete_memory", SpanKind::kMemory},
    {"delete_memory_store", SpanKind::kMemory},
    {"embedding", SpanKind::kEmbedding},
    {"embeddings", SpanKind::kEmbedding},
    {"execute_tool", SpanKind::kTool},
    {"generate_content", SpanKind::kLlm},
    {"invoke_agent", SpanKind::kAgent},
    {"invoke_workflow", SpanKind::kWorkflow},
    {"plan", SpanKind::kChain},
    {"rerank", SpanKind::kReranker},
    {"retrieval", SpanKind::kRetriever},
    {"search_memory", SpanKind::kMemory},
    {"text_completion", SpanKind::kLlm},
    {"update_memory", SpanKind::kMemory},
    {"upsert_memory", SpanKind::kMemory},
};
static_assert(std::ranges::is_sorted(kKindsOfOperations, {}, &KindName::name));

// Names of kinds that are not ours already.
constexpr KindName kKindsOfNames[] = {
    {"chat", SpanKind::kLlm},        {"completion", SpanKind::kLlm}, {"generation", SpanKind::kLlm},
    {"rerank", SpanKind::kReranker}, {"task", SpanKind::kChain},
};

struct KindKeyInfo {
  std::string_view key;
  bool is_operation;
};
constexpr KindKeyInfo kKindKeyInfos[kKindKeys] = {
    {"spanbox.kind", false},         {"openinference.span.kind", false}, {"langfuse.observation.type", false},
    {"gen_ai.operation.name", true}, {"traceloop.span.kind", false},     {"llm.request.type", false},
    {"ai.operationId", true},
};

struct AsideKey {
  std::string_view key;
  Aside aside;
};
constexpr AsideKey kAsideKeys[] = {
    {"gen_ai.usage.input_cost", Aside::kInputCost},
    {"gen_ai.usage.output_cost", Aside::kOutputCost},
    {"gen_ai.usage.total_tokens", Aside::kTotalTokens},
    {"llm.usage.total_tokens", Aside::kTotalTokens},
    {"llm.token_count.total", Aside::kTotalTokens},
    {"ai.usage.totalTokens", Aside::kTotalTokens},
    {"langfuse.observation.completion_start_time", Aside::kFirstTokenTime},
};

// An open hash table of the keys: most attributes of most spans are no keys, and are told so by one look.
class KeyIndex {
 public:
  KeyIndex() {
    for (std::uint16_t rule = 0; rule < kRuleCount; ++rule) {
      if (kRules[rule].reading == kFlattened) continue;
      KeyInfo& info = Slot(kRules[rule].key);
      info.rule_numbers.at(info.count++) = rule;
    }
    for (const AsideKey& aside : kAsideKeys) Slot(aside.key).aside = aside.aside;
    for (int i = 0; i < kKindKeys; ++i) Slot(kKindKeyInfos[i].key).kind_key = static_cast<std::int8_t>(i);
  }

  const KeyInfo* Find(std::string_view key) const {
    for (std::size_t slot = Hash(key);; ++slot) {
      const KeyInfo& info = slots_[slot % kSlots];
      if (info.key.empty()) return nullptr;
      if (info.key == key) return &info;
    }
  }

 private:
  static constexpr std::size_t kSlots = 1024;

  // Names differ in their lengths, middles and ends.
  static std::size_t Hash(std::string_view key) {
    std::uint64_t end = 0, middle = 0;
    const std::size_t bytes = std::min<std::size_t>(key.size(), 8), rest = key.size() - bytes;
    if (bytes == 8) {
      std::memcpy(&end, key.data() + rest, 8);
      std::memcpy(&middle, key.data() + rest / 2, 8);
    } else {
      for (const char c : key) end = end << 8 | static_cast<unsigned char>(c);
    }
    return ((end ^ std::rotl(middle, 23) ^ key.size() << 56) * 0x9E3779B97F4A7C15) >> 54;
  }

  KeyInfo& Slot(std::string_view key) {
    std::size_t slot = Hash(key);
    while (!slots_[slot % kSlots].key.empty() && slots_[slot % kSlots].key != key) ++slot;
    KeyInfo& info = slots_[slot % kSlots];
    info.key = key;
    return info;
  }

  std::array<KeyInfo, kSlots> slots_;
};

}  // namespace

std::span<const Rule> Rules() { return kRules; }

const Rule* FirstRule(Column column) {
  const std::uint16_t rule = kFirstRules[static_cast<std::size_t>(column)];
  return rule == kRuleCount ? nullptr : &kRules[rule];
}

const KeyInfo* InfoOf(std::string_view key) {
  static const KeyIndex index;
  return index.Find(key);
}

int FlattenedRule(std::string_view key) {
  static const std::vector<std::pair<std::string_view, int>> lists = [] {
    std::vector<std::pair<std::string_view, int>> found;
    for (int rule = 0; rule < kRuleCount; ++rule) {
      std::string_view pattern = kRules[rule].key;
      if (kRules[rule].reading != kFlattened) continue;
      pattern.remove_suffix(1);
      found.emplace_back(pattern, rule);
    }
    return found;
  }();
  for (const auto& [prefix, rule] : lists) {
    if (key.size() > prefix.size() && key.starts_with(prefix) && key[prefix.size()] >= '0' &&
        key[prefix.size()] <= '9') {
      return rule;
    }
  }
  return -1;
}

std::optional<SpanKind> KindOf(int kind_key, std::string_view value) {
  if (kKindKeyInfos[kind_key].is_operation) {
    const auto found = std::ranges::lower_bound(kKindsOfOperations, value, {}, &KindName::name);
    if (found == std::end(kKindsOfOperations) || found->name != value) return std::nullopt;
    return found->kind;
  }
  std::string lower(value.substr(0, 16));  // longer than any of them
  std::ranges::transform(lower, lower.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c; });
  const auto found = std::ranges::find(kKindsOfNames, std::string_view(lower), &KindName::name);
  if (found != std::end(kKindsOfNames)) return found->kind;
  const auto kind = SpanKindFromString(lower);
  if (kind == SpanKind::kSpan && kind_key > 0) return std::nullopt;  // "span" of others says nothing
  return kind;
}

std::string_view ExportKey(Column column, SpanKind kind, const Value& value) {
  if (column != kInput && column != kOutput) {
    const Rule* const first = FirstRule(column);
    return first == nullptr ? std::string_view() : first->key;
  }
  const bool is_input = column == kInput;
  const bool is_list = value.type == ValueType::kJson && value.text.starts_with('[');
  if (kind == SpanKind::kTool) return is_input ? "gen_ai.tool.call.arguments" : "gen_ai.tool.call.result";
  if (kind == SpanKind::kLlm && is_list) return is_input ? "gen_ai.input.messages" : "gen_ai.output.messages";
  return is_input ? "spanbox.input" : "spanbox.output";
}

std::string_view OperationOf(SpanKind kind) {
  switch (kind) {
    case SpanKind::kLlm:
      return "chat";
    case SpanKind::kEmbedding:
      return "embeddings";
    case SpanKind::kRetriever:
      return "retrieval";
    case SpanKind::kTool:
      return "execute_tool";
    case SpanKind::kAgent:
      return "invoke_agent";
    case SpanKind::kWorkflow:
      return "invoke_workflow";
    default:
      return {};
  }
}

}  // namespace spanbox
