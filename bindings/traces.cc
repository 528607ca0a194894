// Traces: their trees, pages, critical paths and summaries; sessions. Every call lets go of the GIL while it reads.
#include <pybind11/stl.h>

#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "casters.h"
#include "query.h"
#include "spanbox/trace.h"

namespace py = pybind11;

namespace spanbox::python {
namespace {

TraceId ParseTraceId(const std::string& text) {
  const auto id = TraceIdFromHex(text);
  if (!id) Throw(InvalidArgument("\"" + text + "\" is not a trace id: 32 hexadecimal digits, not all zero"));
  return *id;
}

SpanId ParseSpanId(const std::string& text) {
  const auto id = SpanIdFromHex(text);
  if (!id) Throw(InvalidArgument("\"" + text + "\" is not a span id: 16 hexadecimal digits, not all zero"));
  return *id;
}

py::object NsOrNone(std::int64_t ns) { return ns < 0 ? py::object(py::none()) : py::int_(ns); }

py::object CellValue(const SpanAttribute& attribute, JsonLoads& parse_json) {
  if (const auto* flag = std::get_if<bool>(&attribute.value)) return py::bool_(*flag);
  if (const auto* integer = std::get_if<std::int64_t>(&attribute.value)) return py::int_(*integer);
  if (const auto* number = std::get_if<double>(&attribute.value)) return py::float_(*number);
  const py::str text = Text(std::get<std::string>(attribute.value));
  if (!attribute.is_json) return text;
  try {
    return parse_json(text);
  } catch (py::error_already_set&) {
    return text;  // imported text that called itself JSON: shown as it is
  }
}

// In the order of the fields of spanbox.Totals.
py::tuple TotalsTuple(const SpanTotals& totals) {
  const Usage& usage = totals.usage;
  return py::make_tuple(totals.spans, totals.errors, totals.model_calls, totals.unpriced_calls, usage.cost_usd,
                        usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens, usage.output_tokens,
                        usage.reasoning_tokens);
}

py::dict SpanDict(const TraceSpan& span, JsonLoads& parse_json) {
  py::dict attributes;
  for (const SpanAttribute& attribute : span.attributes) {
    attributes[Text(attribute.name)] = CellValue(attribute, parse_json);
  }
  py::dict result;
  result["trace_id"] = ToHex(span.trace_id);
  result["span_id"] = ToHex(span.span_id);
  result["parent_id"] = span.parent_id == 0 ? py::object(py::none()) : py::str(ToHex(span.parent_id));
  result["name"] = Text(span.name);
  result["kind"] = std::string(ToString(span.kind));
  result["status"] = std::string(ToString(span.status));
  result["start_ns"] = span.start_ns;
  result["duration_ns"] = NsOrNone(span.duration_ns);
  result["depth"] = span.depth;
  result["child_count"] = span.children;
  result["self_ns"] = NsOrNone(span.self_ns);
  result["critical_ns"] = span.critical_ns;
  result["totals"] = TotalsTuple(span.totals);
  result["attributes"] = attributes;
  return result;
}

py::list SpanDicts(const std::vector<TraceSpan>& spans) {
  JsonLoads parse_json;
  py::list result;
  for (const TraceSpan& span : spans) result.append(SpanDict(span, parse_json));
  return result;
}

py::dict SummaryDict(const TraceSummary& trace) {
  using namespace py::literals;
  return py::dict("trace_id"_a = ToHex(trace.trace_id), "root_id"_a = ToHex(trace.root_id), "name"_a = Text(trace.name),
                  "kind"_a = std::string(ToString(trace.kind)), "status"_a = std::string(ToString(trace.status)),
                  "start_ns"_a = trace.start_ns, "duration_ns"_a = NsOrNone(trace.duration_ns),
                  "totals"_a = TotalsTuple(trace.totals));
}

py::list TraceSpans(PyStore& self, const std::string& trace_id) {
  const TraceId id = ParseTraceId(trace_id);
  return SpanDicts(Unwrap(WithoutGil([&] { return TraceOf(*self.store, id); })));
}

py::list TraceScores(PyStore& self, const std::string& trace_id) {
  const TraceId id = ParseTraceId(trace_id);
  const auto scores = Unwrap(WithoutGil([&] { return ScoresOf(*self.store, id); }));
  JsonLoads parse_json;
  py::list result;
  for (const TraceSpan& score : scores) {
    py::dict row;
    row["trace_id"] = ToHex(score.trace_id);
    row["span_id"] = score.span_id == 0 ? py::object(py::none()) : py::str(ToHex(score.span_id));
    row["name"] = Text(score.name);
    row["at"] = score.start_ns;
    for (const SpanAttribute& attribute : score.attributes) {
      row[Text(attribute.name)] = CellValue(attribute, parse_json);
    }
    result.append(row);
  }
  return result;
}

py::tuple PageTuple(PyStore& self, const std::string& trace_id, std::uint64_t offset,
                    std::optional<std::uint64_t> limit, const std::vector<std::string>& collapsed, bool payloads) {
  const TraceId id = ParseTraceId(trace_id);
  TracePageOptions options{.offset = offset, .collapsed = {}};
  if (limit) options.limit = *limit;
  options.parts = payloads ? SpanParts::kEverything : SpanParts::kAttributes;
  for (const std::string& span : collapsed) options.collapsed.push_back(ParseSpanId(span));
  const TracePage page = Unwrap(WithoutGil([&] { return TracePageOf(*self.store, id, options); }));
  return py::make_tuple(SpanDicts(page.spans), page.lines, SummaryDict(page.trace));
}

py::list PathTuples(PyStore& self, const std::string& trace_id) {
  const TraceId id = ParseTraceId(trace_id);
  py::list steps;
  for (const PathStep& step : Unwrap(WithoutGil([&] { return CriticalPathOf(*self.store, id); }))) {
    steps.append(py::make_tuple(ToHex(step.span_id), Text(step.name), std::string(ToString(step.kind)), step.start_ns,
                                step.duration_ns));
  }
  return steps;
}

py::list SummaryDicts(PyStore& self, const std::vector<std::string>& trace_ids) {
  std::vector<TraceId> ids;
  for (const std::string& id : trace_ids) ids.push_back(ParseTraceId(id));
  py::list summaries;
  for (const TraceSummary& trace : Unwrap(WithoutGil([&] { return SummariesOf(*self.store, ids); }))) {
    summaries.append(SummaryDict(trace));
  }
  return summaries;
}

py::object SessionTable(PyStore& self, std::string filter, OptionalNs since_ns, OptionalNs until_ns,
                        std::string order_by, bool descending, std::optional<std::uint64_t> limit) {
  const SpanQuery query = MakeQuery(self, std::move(filter), since_ns, until_ns);
  SessionOptions options{.order_by = std::move(order_by), .descending = descending};
  if (limit) options.limit = *limit;
  return NewTable(Unwrap(WithoutGil([&] { return SessionsOf(*self.store, query, options); }), Wrong::kFilter));
}

py::dict SessionDict(PyStore& self, const std::string& id) {
  using namespace py::literals;
  const Session session = Unwrap(WithoutGil([&] { return SessionOf(*self.store, id); }));
  JsonLoads parse_json;
  py::list turns, users;
  for (const Turn& turn : session.turns) {
    turns.append(py::make_tuple(SummaryDict(turn.trace), SpanDict(turn.root, parse_json)));
  }
  for (const std::string& user : session.users) users.append(Text(user));
  return py::dict("session_id"_a = Text(session.id), "users"_a = users, "turns"_a = turns,
                  "totals"_a = TotalsTuple(session.totals));
}

py::list TraceIds(PyStore& self, const std::string& hex_prefix, std::uint64_t limit) {
  py::list ids;
  for (const TraceId& id : Unwrap(WithoutGil([&] { return FindTraces(*self.store, hex_prefix, limit); }))) {
    ids.append(ToHex(id));
  }
  return ids;
}

}  // namespace

void RegisterTraces(py::class_<PyStore>& store) {
  using namespace py::literals;
  store.def("trace", TraceSpans, "trace_id"_a)
      .def("trace_page", PageTuple, "trace_id"_a, "offset"_a, "limit"_a, "collapsed"_a, "payloads"_a)
      .def("trace_scores", TraceScores, "trace_id"_a)
      .def("critical_path", PathTuples, "trace_id"_a)
      .def("summaries", SummaryDicts, "trace_ids"_a)
      .def("sessions", SessionTable, "filter"_a, "since_ns"_a, "until_ns"_a, "order_by"_a, "descending"_a, "limit"_a)
      .def("session", SessionDict, "session_id"_a)
      .def("find_traces", TraceIds, "hex_prefix"_a, "limit"_a);
}

}  // namespace spanbox::python
