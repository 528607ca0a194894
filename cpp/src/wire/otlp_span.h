// A span of OTLP on its way to a row: the part that protobuf and JSON have in common.
//
// Thread rule: one thread. Ownership: borrows what it is given until the row has been used; a row lives until the next
// BeginSpan. Invariant: after BeginResource comes BeginScope, after BeginScope come spans.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/record_codec.h"
#include "spanbox/span.h"
#include "wire/normalise.h"

namespace spanbox {

// Names under which the rest of a span is kept.
inline constexpr std::string_view kOtelKind = "otel.kind";
inline constexpr std::string_view kOtelStatusCode = "otel.status_code";  // "ok"; absent: unset, or error
inline constexpr std::string_view kOtelTraceState = "otel.trace_state";
inline constexpr std::string_view kOtelFlags = "otel.flags";
inline constexpr std::string_view kOtelDropped[] = {"otel.dropped_attributes_count", "otel.dropped_events_count",
                                                    "otel.dropped_links_count"};
inline constexpr std::string_view kOtelMore = "otel.more_attributes";  // a mapping of those past kMaxOtlpColumns
inline constexpr std::string_view kSpanboxStatus = "spanbox.status";   // on the wire: running, interrupted
inline constexpr std::string_view kOtelKinds[] = {"", "internal", "server", "client", "producer", "consumer"};

// An attribute that has a name only; rows have none of them.
inline Value AbsentValue() { return Value::Json({}); }
inline bool IsAbsent(const Value& value) { return value.type == ValueType::kJson && value.text.empty(); }

struct OtlpSpan {
  TraceId trace_id;
  SpanId span_id = 0, parent_id = 0;
  std::string_view name, trace_state, status_message;
  std::uint64_t start_ns = 0, end_ns = 0;
  std::uint64_t kind = 0, status_code = 0, flags = 0;
  std::array<std::uint64_t, 3> dropped{};  // attributes, events, links
};

struct OtlpLink {
  TraceId trace_id;
  SpanId span_id = 0;
  std::string_view trace_state;
  std::uint64_t flags = 0, dropped = 0;
};

class SpanAssembler {
 public:
  void BeginResource(std::span<const Field> attributes, std::string_view schema_url);
  void BeginScope(std::string_view name, std::string_view version, std::span<const Field> attributes,
                  std::string_view schema_url);
  RowArena& resource_arena() { return resource_arena_; }  // for what these are given: reset it before
  RowArena& scope_arena() { return scope_arena_; }
  RowArena& arena() { return arena_; }  // for what a span is given

  void BeginSpan();
  OtlpSpan span;
  std::vector<Field> attributes;  // past kMaxOtlpSpanAttributes they are dropped by whoever adds them
  void AddEvent(std::string_view name, std::uint64_t time_ns, std::span<const Field> event, std::uint64_t dropped);
  void AddLink(const OtlpLink& link, std::span<const Field> link_attributes);
  std::size_t events_bytes() const { return events_.size() + links_.size(); }
  // `whole` false: only the ids. REQUIRES: they are valid.
  const SpanRow* Finish(bool whole);

  std::span<const SpanRow> scores() const { return scores_; }

 private:
  void TakeStatus();
  void AddSurroundings();
  void AddOtel(std::string_view name, Value value);
  void Fold();
  bool IsNewName(std::string_view name);
  void AddEventScore(std::uint64_t time_ns, std::span<const Field> event);
  void AddAttributeScores();

  RowArena resource_arena_, scope_arena_, arena_;
  std::vector<Field> resource_, scope_;  // with their prefixes
  std::vector<Field> otherwise_;         // columns that the resource tells
  std::vector<Field> derived_;           // and what the events tell
  std::vector<Field> fields_;
  std::vector<SpanRow> scores_;
  std::string events_, links_;
  std::string_view exception_type_, exception_message_;
  std::uint64_t first_token_ns_ = 0;
  Normaliser normaliser_;
  SpanRow row_;
  std::array<std::uint64_t, 4096> names_{};  // hashes of the attribute names seen: an open table
  std::size_t name_count_ = 0;
};

}  // namespace spanbox
