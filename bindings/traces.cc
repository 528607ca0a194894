// Traces: their trees, pages, critical paths and summaries; sessions. Every call lets go of the GIL while it reads.
#include <pybind11/stl.h>

#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
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

struct NameHash : std::hash<std::string_view> {
  using is_transparent = void;
};
// The str of a name that many spans have, made once a process and interned, as those in the code that looks for it are.
// Past kMostNames names are made anew: whoever wrote the spans chose them.
py::str NameOf(std::string_view name) {
  constexpr std::size_t kMostNames = 1024;
  using Names = std::unordered_map<std::string, PyObject*, NameHash, std::equal_to<>>;
  static auto* const names = new Names;  // with what they point to, for the life of the process
  const auto known = names->find(name);
  if (known != names->end()) return py::reinterpret_borrow<py::str>(known->second);
  py::str text = Text(name);
  if (names->size() >= kMostNames) return text;
  PyObject* interned = text.release().ptr();
  PyUnicode_InternInPlace(&interned);
  names->emplace(name, interned);
  return py::reinterpret_borrow<py::str>(interned);
}

void Put(py::dict& dict, std::string_view name, const py::object& value) {
  if (PyDict_SetItem(dict.ptr(), NameOf(name).ptr(), value.ptr()) != 0) throw py::error_already_set();
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

// `trace_id`: the span's.
py::dict SpanDict(const TraceSpan& span, const py::str& trace_id, JsonLoads& parse_json) {
  py::dict attributes;
  for (const SpanAttribute& attribute : span.attributes) {
    Put(attributes, attribute.name, CellValue(attribute, parse_json));
  }
  py::dict result;
  Put(result, "trace_id", trace_id);
  Put(result, "span_id", py::str(ToHex(span.span_id)));
  Put(result, "parent_id", span.parent_id == 0 ? py::object(py::none()) : py::str(ToHex(span.parent_id)));
  Put(result, "name", Text(span.name));
  Put(result, "kind", NameOf(ToString(span.kind)));
  Put(result, "status", NameOf(ToString(span.status)));
  Put(result, "start_ns", py::int_(span.start_ns));
  Put(result, "duration_ns", NsOrNone(span.duration_ns));
  Put(result, "depth", py::int_(span.depth));
  Put(result, "child_count", py::int_(span.children));
  Put(result, "self_ns", NsOrNone(span.self_ns));
  Put(result, "critical_ns", py::int_(span.critical_ns));
  Put(result, "totals", TotalsTuple(span.totals));
  Put(result, "attributes", attributes);
  return result;
}

py::list SpanDicts(const std::vector<TraceSpan>& spans) {
  JsonLoads parse_json;
  py::list result;
  py::str trace_id;
  for (const TraceSpan& span : spans) {
    if (&span == spans.data() || span.trace_id != (&span - 1)->trace_id) trace_id = py::str(ToHex(span.trace_id));
    result.append(SpanDict(span, trace_id, parse_json));
  }
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

// One column of an outline, packed as array.array reads it.
template <typename Value, typename Get>
py::bytes Packed(const std::vector<OutlineSpan>& spans, Get&& get) {
  std::string packed(spans.size() * sizeof(Value), '\0');
  for (std::size_t i = 0; i < spans.size(); ++i) {
    const auto value = static_cast<Value>(get(spans[i]));
    std::memcpy(packed.data() + i * sizeof(Value), &value, sizeof(Value));
  }
  return py::bytes(packed);
}

template <typename Get>
py::list Words(const std::vector<OutlineSpan>& spans, Get&& get) {
  std::map<std::string_view, py::str> known;
  py::list words(spans.size());
  for (std::size_t i = 0; i < spans.size(); ++i) {
    const std::string_view word = ToString(get(spans[i]));
    words[i] = known.try_emplace(word, py::str(word.data(), word.size())).first->second;
  }
  return words;
}

py::tuple OutlineTuple(PyStore& self, const std::string& trace_id) {
  using namespace py::literals;
  const TraceId id = ParseTraceId(trace_id);
  const TraceOutline outline = Unwrap(WithoutGil([&] { return OutlineOf(*self.store, id); }));
  const std::vector<OutlineSpan>& spans = outline.spans;
  py::dict columns(
      "span_id"_a = Packed<std::uint64_t>(spans, [](const OutlineSpan& span) { return span.span_id; }),
      "parent"_a = Packed<std::int64_t>(spans,
                                        [](const OutlineSpan& span) {
                                          return span.parent == OutlineSpan::kNoParent ? std::int64_t{-1}
                                                                                       : std::int64_t{span.parent};
                                        }),
      "depth"_a = Packed<std::int64_t>(spans, [](const OutlineSpan& span) { return span.depth; }),
      "start_ns"_a = Packed<std::int64_t>(spans, [](const OutlineSpan& span) { return span.start_ns; }),
      "duration_ns"_a = Packed<std::int64_t>(spans, [](const OutlineSpan& span) { return span.duration_ns; }),
      "cost_usd"_a = Packed<double>(
          spans,
          [](const OutlineSpan& span) { return span.cost_usd.value_or(std::numeric_limits<double>::quiet_NaN()); }),
      "kind"_a = Words(spans, [](const OutlineSpan& span) { return span.kind; }),
      "status"_a = Words(spans, [](const OutlineSpan& span) { return span.status; }));
  return py::make_tuple(SummaryDict(outline.trace), columns);
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
    turns.append(
        py::make_tuple(SummaryDict(turn.trace), SpanDict(turn.root, py::str(ToHex(turn.root.trace_id)), parse_json)));
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
      .def("trace_outline", OutlineTuple, "trace_id"_a)
      .def("trace_scores", TraceScores, "trace_id"_a)
      .def("critical_path", PathTuples, "trace_id"_a)
      .def("summaries", SummaryDicts, "trace_ids"_a)
      .def("sessions", SessionTable, "filter"_a, "since_ns"_a, "until_ns"_a, "order_by"_a, "descending"_a, "limit"_a)
      .def("session", SessionDict, "session_id"_a)
      .def("find_traces", TraceIds, "hex_prefix"_a, "limit"_a);
}

}  // namespace spanbox::python
