#include "wire/export_names.h"

#include <algorithm>
#include <string>

#include "base/simdjson.h"
#include "wire/normalise.h"

namespace spanbox {
namespace {

bool Has(std::span<const Field> attributes, std::string_view name) {
  return std::ranges::find(attributes, name, &Field::name) != attributes.end();
}

void Add(std::string_view name, const Value& value, std::vector<Field>& attributes) {
  if (!Has(attributes, name)) attributes.push_back({Column::kAttribute, name, value});
}

const Value* ValueOf(const SpanRow& row, Column column) {
  const auto found = std::ranges::find(row.fields, column, &Field::column);
  return found == row.fields.end() ? nullptr : &found->value;
}

struct Name {
  Column column;
  std::string_view name;
};
constexpr Name kOpenInference[] = {
    {Column::kModel, "llm.model_name"},
    {Column::kModelRequest, "llm.model_name"},
    {Column::kProvider, "llm.provider"},
    {Column::kInputTokens, "llm.token_count.prompt"},
    {Column::kOutputTokens, "llm.token_count.completion"},
    {Column::kCacheReadTokens, "llm.token_count.prompt_details.cache_read"},
    {Column::kCacheWriteTokens, "llm.token_count.prompt_details.cache_write"},
    {Column::kReasoningTokens, "llm.token_count.completion_details.reasoning"},
    {Column::kCostUsd, "llm.cost.total"},
    {Column::kFinishReason, "llm.finish_reason"},
    {Column::kSessionId, "session.id"},
    {Column::kUserId, "user.id"},
    {Column::kToolName, "tool.name"},
    {Column::kToolCallId, "tool.id"},
    {Column::kAgentName, "agent.name"},
    {Column::kPromptName, "prompt.id"},
};

std::string_view OpenInferenceKind(SpanKind kind) {
  switch (kind) {
    case SpanKind::kLlm:
      return "LLM";
    case SpanKind::kEmbedding:
      return "EMBEDDING";
    case SpanKind::kRetriever:
      return "RETRIEVER";
    case SpanKind::kReranker:
      return "RERANKER";
    case SpanKind::kTool:
      return "TOOL";
    case SpanKind::kAgent:
      return "AGENT";
    case SpanKind::kGuardrail:
      return "GUARDRAIL";
    case SpanKind::kEvaluator:
      return "EVALUATOR";
    case SpanKind::kPrompt:
      return "PROMPT";
    default:
      return "CHAIN";
  }
}

// Messages as OpenTelemetry has them (parts) and as providers have them (content, tool_calls), as OpenInference's
// attributes.
class Messages {
 public:
  Messages(RowArena& arena, std::vector<Field>& attributes) : arena_(arena), attributes_(attributes) {}

  void Add(std::string_view list, const Value& value) {
    static constexpr std::size_t kMaxMessages = 1'000;
    simdjson::dom::parser parser;
    simdjson::dom::array messages;
    if (value.type != ValueType::kJson || parser.parse(value.text.data(), value.text.size(), true).get(messages))
      return;
    std::size_t number = 0;
    for (const simdjson::dom::element message : messages) {
      std::string_view role;
      if (message["role"].get(role) || number == kMaxMessages) return;
      prefix_ = std::string(list) + "." + std::to_string(number++) + ".message.";
      Put("role", role);
      AddOne(message);
    }
  }

 private:
  void AddOne(simdjson::dom::element message) {
    std::string_view text;
    simdjson::dom::array parts;
    calls_ = 0;
    std::string content;
    if (!message["content"].get(text)) content = text;
    for (const char* const key : {"parts", "content"}) {
      if (message[key].get(parts)) continue;
      for (const simdjson::dom::element part : parts) AddPart(part, content);
    }
    if (!content.empty()) Put("content", content);
    if (message["tool_calls"].get(parts)) return;
    for (const simdjson::dom::element call : parts) AddCall(call, "function");
  }

  void AddPart(simdjson::dom::element part, std::string& content) {
    std::string_view type, text;
    if (part["type"].get(type)) return;
    if (type == "tool_call") return AddCall(part, {});
    if (type != "text" || (part["content"].get(text) && part["text"].get(text))) return;
    if (!content.empty()) content += '\n';
    content += text;
  }

  // `below`: where the call has its name and arguments; empty: in itself.
  void AddCall(simdjson::dom::element call, std::string_view below) {
    simdjson::dom::element function = call;
    if (!below.empty() && call[below].get(function)) return;
    const std::string name = "tool_calls." + std::to_string(calls_++) + ".tool_call.";
    std::string_view text;
    if (!call["id"].get(text)) Put(name + "id", text);
    if (!function["name"].get(text)) Put(name + "function.name", text);
    simdjson::dom::element arguments;
    if (function["arguments"].get(arguments)) return;
    Put(name + "function.arguments",
        arguments.get(text) == simdjson::SUCCESS ? std::string(text) : simdjson::to_string(arguments));
  }

  void Put(std::string_view name, std::string_view text) {
    std::string& key = arena_.NewText();
    std::string& value = arena_.NewText();
    key = prefix_;
    key += name;
    value = text;
    attributes_.push_back({Column::kAttribute, key, Value::String(value)});
  }

  RowArena& arena_;
  std::vector<Field>& attributes_;
  std::string prefix_;
  std::size_t calls_ = 0;
};

bool HasList(std::span<const Field> attributes, std::string_view list) {
  return std::ranges::any_of(attributes, [&](const Field& field) { return field.name.starts_with(list); });
}

}  // namespace

void AddCurrentNames(const SpanRow& row, RowArena& arena, std::vector<Field>& attributes) {
  for (const Field& field : row.fields) {
    const bool is_payload = field.column == Column::kInput || field.column == Column::kOutput;
    const Rule* const rule = field.column == Column::kAttribute ? nullptr : FirstRule(field.column);
    if (rule != nullptr && !is_payload) Add(rule->key, WrittenValue(*rule, field.value, arena), attributes);
  }
  const std::string_view operation = OperationOf(row.kind);
  if (!operation.empty()) Add("gen_ai.operation.name", Value::String(operation), attributes);
  if (KindOfAttributes(attributes) != row.kind) Add("spanbox.kind", Value::String(ToString(row.kind)), attributes);
}

void AddOpenInference(const SpanRow& row, RowArena& arena, std::vector<Field>& attributes) {
  Add("openinference.span.kind", Value::String(OpenInferenceKind(row.kind)), attributes);
  for (const Name& each : kOpenInference) {
    if (const Value* const value = ValueOf(row, each.column)) Add(each.name, *value, attributes);
  }
  const Value* const input_tokens = ValueOf(row, Column::kInputTokens);
  const Value* const output_tokens = ValueOf(row, Column::kOutputTokens);
  std::int64_t total = 0;
  if (input_tokens != nullptr && output_tokens != nullptr &&
      !__builtin_add_overflow(input_tokens->integer, output_tokens->integer, &total)) {
    Add("llm.token_count.total", Value::Int(total), attributes);
  }
  const auto payload = [&](Column column, std::string_view key, std::string_view mime_key, std::string_view list) {
    const Value* const value = ValueOf(row, column);
    if (value == nullptr) return;
    const bool is_json = value->type == ValueType::kJson;
    if (is_json || value->type == ValueType::kString) {
      Add(key, Value::String(value->text), attributes);
      Add(mime_key, Value::String(is_json ? "application/json" : "text/plain"), attributes);
    }
    if (row.kind == SpanKind::kLlm && !HasList(attributes, list)) Messages(arena, attributes).Add(list, *value);
  };
  payload(Column::kInput, "input.value", "input.mime_type", "llm.input_messages");
  payload(Column::kOutput, "output.value", "output.mime_type", "llm.output_messages");
}

}  // namespace spanbox
