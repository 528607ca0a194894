// A row as OTLP has it: the part that protobuf and JSON have in common, and the two of them.
//
// Thread rule: one thread. Ownership: an OutSpan borrows from the row and its maker, until the next one is made.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wire/normalise.h"
#include "wire/otlp_span.h"

namespace spanbox {

struct OutSpan {
  const SpanRow* row = nullptr;
  std::vector<Field> resource, attributes, scope_attributes;
  std::string_view resource_schema_url, scope_name, scope_version, scope_schema_url;
  std::string_view trace_state, status_message, events, links;  // of these JSON text
  std::uint64_t kind = 0, status_code = 0, flags = 0, end_ns = 0;
  std::array<std::uint64_t, 3> dropped{};
};

class OutSpanMaker {
 public:
  const OutSpan& Make(const SpanRow& row, bool openinference);

 private:
  void Sort(const Field& field);
  bool SortOtel(const Field& field);
  void Unfold(std::string_view json);
  void AddMembers(std::string_view json, std::vector<Field>& out);

  RowArena arena_;
  OutSpan out_;
  SpanRow rest_;
  std::vector<Field> rest_fields_;  // of row, without what is not the span's own
  Restorer restorer_;
};

// Writes one form. Resource and Scope give what a span's surroundings are; spans of equal ones belong together.
class OtlpEncoder {
 public:
  virtual ~OtlpEncoder() = default;
  virtual void AppendResource(const OutSpan& span, std::string& out) = 0;
  virtual void AppendScope(const OutSpan& span, std::string& out) = 0;
  virtual void AppendSpan(const OutSpan& span, std::string& spans) = 0;
  virtual void AppendScopeSpans(std::string_view scope, std::string_view spans, std::string& scopes) = 0;
  virtual void AppendResourceSpans(std::string_view resource, std::string_view scopes, std::string& out) = 0;
  virtual std::string Body(std::string resources) = 0;
};
std::unique_ptr<OtlpEncoder> NewOtlpProtoEncoder();
std::unique_ptr<OtlpEncoder> NewOtlpJsonEncoder();

}  // namespace spanbox
