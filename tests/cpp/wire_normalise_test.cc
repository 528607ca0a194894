#include <gtest/gtest.h>

#include <map>
#include <string>

#include "wire/flattened.h"
#include "wire/normalise.h"

namespace spanbox {
namespace {

using Attributes = std::vector<std::pair<std::string, Value>>;

// What a span of these attributes becomes, and what comes back.
class Journey {
 public:
  explicit Journey(const Attributes& attributes, std::optional<std::int64_t> start_ns = {}) {
    std::vector<Field> given;
    for (const auto& [name, value] : attributes) given.push_back({Column::kAttribute, name, value});
    row_.kind = Normaliser().Normalise(given, {}, start_ns, arena_, fields_);
    row_.fields = fields_;
    Restorer().Restore(row_, arena_, restored_);
  }

  SpanKind kind() const { return row_.kind; }
  const Value* Column_(Column column) const {
    for (const Field& field : fields_) {
      if (field.column == column) return &field.value;
    }
    return nullptr;
  }
  std::int64_t Int(Column column) const { return Column_(column) == nullptr ? -1 : Column_(column)->integer; }
  std::string Text(Column column) const { return Column_(column) == nullptr ? "" : std::string(Column_(column)->text); }
  std::string Attribute(std::string_view name) const {
    for (const Field& field : fields_) {
      if (field.column == Column::kAttribute && field.name == name) return std::string(field.value.text);
    }
    return "";
  }
  std::map<std::string, std::string> Restored() const { return Shown(restored_); }

  static std::map<std::string, std::string> Shown(std::span<const Field> fields) {
    std::map<std::string, std::string> shown;
    for (const Field& field : fields) {
      const Value& value = field.value;
      const bool is_text = value.type == ValueType::kString || value.type == ValueType::kJson;
      const std::string text = is_text                           ? std::string(value.text)
                               : value.type == ValueType::kFloat ? std::to_string(value.number)
                               : value.type == ValueType::kBool  ? (value.boolean ? "true" : "false")
                                                                 : std::to_string(value.integer);
      shown[std::string(field.name)] = std::to_string(static_cast<int>(value.type)) + ":" + text;
    }
    return shown;
  }
  static std::map<std::string, std::string> Shown(const Attributes& attributes) {
    std::vector<Field> fields;
    for (const auto& [name, value] : attributes) fields.push_back({Column::kAttribute, name, value});
    return Shown(fields);
  }

 private:
  RowArena arena_;
  std::vector<Field> fields_, restored_;
  SpanRow row_;
};

TEST(NormaliserTest, SpanWithoutKnownAttributesStaysAsItIs) {
  const Attributes attributes = {{"mine", Value::Int(1)}, {"http.method", Value::String("GET")}};
  const Journey journey(attributes);
  EXPECT_EQ(journey.kind(), SpanKind::kSpan);
  EXPECT_EQ(journey.Attribute("http.method"), "GET");
  EXPECT_EQ(journey.Attribute(kKeysAttribute), "");
  EXPECT_EQ(journey.Restored(), Journey::Shown(attributes));
}

TEST(NormaliserTest, DetailsOfLangfuseAreRead) {
  const Attributes attributes = {
      {"langfuse.observation.type", Value::String("generation")},
      {"langfuse.observation.usage_details",
       Value::String(R"({"input": 7, "output": 3, "cache_read_input_tokens": 2, "output_reasoning": 1})")},
      {"langfuse.observation.cost_details", Value::String(R"({"input": 0.1, "total": 0.5})")},
      {"langfuse.observation.completion_start_time", Value::String("\"2023-11-14T22:13:20.250Z\"")}};
  const Journey journey(attributes, 1'700'000'000'000'000'000);
  EXPECT_EQ(journey.kind(), SpanKind::kLlm);
  EXPECT_EQ(journey.Int(Column::kInputTokens), 7);
  EXPECT_EQ(journey.Int(Column::kOutputTokens), 3);
  EXPECT_EQ(journey.Int(Column::kCacheReadTokens), 2);
  EXPECT_EQ(journey.Int(Column::kReasoningTokens), 1);
  EXPECT_EQ(journey.Column_(Column::kCostUsd)->number, 0.5);
  EXPECT_EQ(journey.Text(Column::kCostSource), "reported");
  EXPECT_EQ(journey.Int(Column::kTtftNs), 250'000'000);
  EXPECT_EQ(journey.Restored(), Journey::Shown(attributes));
}

TEST(NormaliserTest, NamesOfModelsThatBeginWithTheProviderAreCut) {
  // LiteLLM's "openai/gpt-5-mini" was a model of its own beside gpt-5-mini, and had no price.
  const Attributes asked = {{"llm.provider", Value::String("openai")},
                            {"llm.model_name", Value::String("openai/gpt-5")}};
  const Journey journey(asked);
  EXPECT_EQ(journey.Text(Column::kModel), "gpt-5");
  EXPECT_EQ(journey.Text(Column::kModelRequest), "openai/gpt-5");
  EXPECT_EQ(journey.Attribute("llm.model_name"), "");
  EXPECT_EQ(journey.Restored(), Journey::Shown(asked));
  const Attributes answered = {{"gen_ai.system", Value::String("openrouter")},
                               {"gen_ai.request.model", Value::String("openai/gpt-5")},
                               {"gen_ai.response.model", Value::String("openrouter/openai/gpt-5")}};
  const Journey routed(answered);
  EXPECT_EQ(routed.Text(Column::kModel), "openai/gpt-5");
  EXPECT_EQ(routed.Text(Column::kModelRequest), "openai/gpt-5");
  EXPECT_EQ(routed.Restored(), Journey::Shown(answered));
  for (const char* name : {"meta/llama", "openai/", "openai", "openai-x/gpt", "/gpt-5"}) {
    const Attributes other = {{"gen_ai.system", Value::String("openai")},
                              {"gen_ai.request.model", Value::String(name)}};
    EXPECT_EQ(Journey(other).Text(Column::kModel), name);
    EXPECT_EQ(Journey(other).Restored(), Journey::Shown(other));
  }
}

TEST(NormaliserTest, InputTokensAreMadeAllInOnlyWhereThatIsProven) {
  const auto input = [](const Attributes& attributes) {
    const Journey journey(attributes);
    EXPECT_EQ(journey.Restored(), Journey::Shown(attributes));
    return std::pair(journey.Int(Column::kInputTokens), journey.Attribute(kDialectAttribute));
  };
  const std::pair<std::string, Value> read{"gen_ai.usage.cache_read.input_tokens", Value::Int(800)};
  const auto with_input = [&](std::int64_t tokens) {
    return Attributes{{"gen_ai.usage.input_tokens", Value::Int(tokens)}, read};
  };
  EXPECT_EQ(input(with_input(200)), std::pair(std::int64_t{1000}, std::string("exclusive")));
  EXPECT_EQ(input(with_input(900)), std::pair(std::int64_t{900}, std::string()));

  // A total that fits only with the cached ones beside the others.
  const auto langfuse = [&](std::string_view details) {
    return input({{"langfuse.observation.usage_details", Value::String(details)}});
  };
  EXPECT_EQ(langfuse(R"({"input":900,"output":5,"input_cached_tokens":800,"total":1705})").first, 1700);
  EXPECT_EQ(langfuse(R"({"input":900,"output":5,"input_cached_tokens":800,"total":905})").first, 900);

  const std::int64_t most = INT64_MAX;
  EXPECT_EQ(input({{"gen_ai.usage.input_tokens", Value::Int(5)},
                   {"gen_ai.usage.cache_read.input_tokens", Value::Int(most)},
                   {"gen_ai.usage.cache_write.input_tokens", Value::Int(most)}})
                .first,
            5);
}

TEST(NormaliserTest, FlattenedMessagesAreOneValueAndComeBack) {
  const Attributes attributes = {
      {"llm.input_messages.1.message.tool_calls.0.tool_call.function.name", Value::String("f")},
      {"llm.input_messages.1.message.role", Value::String("assistant")},
      {"llm.input_messages.0.message.role", Value::String("user")},
      {"llm.input_messages.0.message.contents.0.message_content.type", Value::String("text")},
      {"llm.input_messages.0.message.contents.1.message_content.type", Value::String("image")},
      {"gen_ai.completion.0.content", Value::String("hi")},
      {"gen_ai.completion.0.finish_reason", Value::String("stop")}};
  const Journey journey(attributes);
  EXPECT_EQ(journey.Text(Column::kInput), R"([{"contents":[{"type":"text"},{"type":"image"}],"role":"user"},)"
                                          R"({"role":"assistant","tool_calls":[{"function":{"name":"f"}}]}])");
  EXPECT_EQ(journey.Text(Column::kOutput), R"([{"content":"hi","finish_reason":"stop"}])");
  EXPECT_EQ(journey.Text(Column::kFinishReason), "stop");
  EXPECT_EQ(journey.Restored(), Journey::Shown(attributes));
}

TEST(NormaliserTest, ListThatCannotBeTurnedBackStaysFlat) {
  for (const Attributes& attributes : std::vector<Attributes>{
           {{"llm.input_messages.1.message.role", Value::String("gap")}},
           {{"llm.input_messages.0.message.role", Value::String("a")},
            {"llm.input_messages.0.message.role.x", Value::String("b")}},
           {{"llm.input_messages.0.message.x", Value::Json("[1]")}},
           {{"llm.input_messages.00.message.x", Value::Int(1)}},
           {{"llm.input_messages.0.other", Value::Int(1)}, {"input.value", Value::String("next")}}}) {
    const Journey journey(attributes);
    EXPECT_EQ(journey.Restored(), Journey::Shown(attributes));
  }
  const Journey journey({{"llm.input_messages.0.other", Value::Int(1)}, {"input.value", Value::String("next")}});
  EXPECT_EQ(journey.Text(Column::kInput), "next");
}

TEST(NormaliserTest, FirstOfSeveralSourcesIsTakenAndTheOthersStay) {
  const Attributes attributes = {{"llm.provider", Value::String("b")},
                                 {"gen_ai.provider.name", Value::String("a")},
                                 {"gen_ai.request.model", Value::String("m")},
                                 {"gen_ai.usage.input_tokens", Value::String("many")},
                                 {"llm.token_count.prompt", Value::Float(3.0)}};
  const Journey journey(attributes);
  EXPECT_EQ(journey.Text(Column::kProvider), "a");
  EXPECT_EQ(journey.Text(Column::kModel), "m");
  EXPECT_EQ(journey.Text(Column::kModelRequest), "m");
  EXPECT_EQ(journey.Int(Column::kInputTokens), 3);
  EXPECT_EQ(journey.Restored(), Journey::Shown(attributes));
}

TEST(NormaliserTest, KindIsWhatTheFirstKeyThatSaysSomethingSays) {
  const auto kind = [](const Attributes& attributes) { return Journey(attributes).kind(); };
  EXPECT_EQ(kind({{"gen_ai.operation.name", Value::String("execute_tool")}}), SpanKind::kTool);
  EXPECT_EQ(
      kind({{"gen_ai.operation.name", Value::String("chat")}, {"openinference.span.kind", Value::String("AGENT")}}),
      SpanKind::kAgent);
  EXPECT_EQ(
      kind({{"gen_ai.operation.name", Value::String("chat")}, {"openinference.span.kind", Value::String("UNKNOWN")}}),
      SpanKind::kLlm);
  EXPECT_EQ(kind({{"traceloop.span.kind", Value::String("task")}}), SpanKind::kChain);
  EXPECT_EQ(kind({{"ai.operationId", Value::String("ai.streamText.doStream")}}), SpanKind::kLlm);
  EXPECT_EQ(kind({{"langfuse.observation.type", Value::String("span")}}), SpanKind::kSpan);
  EXPECT_EQ(kind({{"gen_ai.operation.name", Value::Int(1)}}), SpanKind::kSpan);
}

// OTLP/JSON may name its key "jey": the name is then not even an empty text, and was searched through a null pointer.
TEST(NormaliserTest, AttributeWithoutAKeyIsKept) {
  const Attributes attributes = {{"", Value::Int(5)}};
  EXPECT_EQ(Journey(attributes).Restored(), Journey::Shown(attributes));
  RowArena arena;
  EXPECT_EQ(RawName({}, arena), kRawPrefix);
}

TEST(FlattenedTest, JsonThatIsNoSuchListIsRefused) {
  for (const std::string_view json : {"", "{}", "[]", "[{}]", "[[]]", "[null]", R"([{"a":null}])", "[1"}) {
    RowArena arena;
    std::vector<Field> fields;
    EXPECT_FALSE(Flatten("llm.input_messages.*", json, arena, fields)) << json;
  }
}

}  // namespace
}  // namespace spanbox
