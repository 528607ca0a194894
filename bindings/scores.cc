// score(): what is said of a span or a trace, on its way into the ring; and of a store directly.
#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "casters.h"
#include "query.h"
#include "recording.h"
#include "redaction.h"
#include "spanbox/score.h"
#include "text_stage.h"

namespace py = pybind11;

namespace spanbox::python {
namespace {

enum Parameter {
  kName,
  kValue,
  kLabel,
  kExplanation,
  kSource,
  kEvaluator,
  kVersion,
  kTraceId,
  kSpanId,
  kMetadata,
  kSpan,  // of calls only
  kAtNs,  // of rows only
  kParameters
};
constexpr std::array<const char*, kParameters> kParameterNames = {"name",    "value",     "label",   "explanation",
                                                                  "source",  "evaluator", "version", "trace_id",
                                                                  "span_id", "metadata",  "span",    "at_ns"};

// Borrowed; nullptr: not given, as is None.
using Given = std::array<PyObject*, kParameters>;

struct Target {
  TraceId trace_id;
  SpanId span_id = 0;  // 0: the trace
};

// Why something is no score; nullptr: it is one.
using Problem = const char*;

int ParameterOf(PyObject* name) {
  for (int i = 0; i < kParameters; ++i) {
    if (PyUnicode_CompareWithASCIIString(name, kParameterNames[static_cast<std::size_t>(i)]) == 0) return i;
  }
  return -1;
}

bool IsNumber(PyObject* value) {
  if (PyFloat_Check(value) || PyBool_Check(value)) return true;
  if (PyLong_Check(value)) {
    int overflow = 0;
    PyLong_AsLongLongAndOverflow(value, &overflow);
    return overflow == 0;
  }
  const std::string_view type = Py_TYPE(value)->tp_name;
  const PyNumberMethods* const number = Py_TYPE(value)->tp_as_number;
  return type.starts_with("numpy.") && type != "numpy.ndarray" && number != nullptr &&
         (number->nb_float != nullptr || type.starts_with("numpy.bool"));
}

template <typename Id>
bool ReadId(PyObject* text, std::optional<Id> (*parse)(std::string_view), Id& id) {
  const auto parsed = PyUnicode_Check(text) ? parse(Utf8(text).view()) : std::nullopt;
  if (parsed) id = *parsed;
  return parsed.has_value();
}

Problem ReadIds(const Given& given, Target& target) {
  if (given[kTraceId] == nullptr) return "a span_id needs the trace_id too";
  if (!ReadId<TraceId>(given[kTraceId], TraceIdFromHex, target.trace_id)) {
    return "trace_id must be 32 hexadecimal digits, not all zero";
  }
  if (given[kSpanId] != nullptr && !ReadId<SpanId>(given[kSpanId], SpanIdFromHex, target.span_id)) {
    return "span_id must be 16 hexadecimal digits, not all zero";
  }
  return nullptr;
}

// What a call is about: the ids it gives, the span it gives, or the current one.
Problem FindTarget(const Given& given, Target& target) {
  const bool by_id = given[kTraceId] != nullptr || given[kSpanId] != nullptr;
  if (by_id && given[kSpan] != nullptr) return "give span=, or trace_id= and span_id=, not both";
  if (by_id) return ReadIds(given, target);
  ContextObject* const place = given[kSpan] != nullptr ? ContextOf(given[kSpan]) : CurrentContext();
  if (place == nullptr && given[kSpan] != nullptr) {
    PyErr_Clear();
    return "span must be a Span, a Handle or a traceparent";
  }
  if (place != nullptr) target = {place->trace_id, place->span_id};
  Py_XDECREF(place);
  if (target.span_id != 0) return nullptr;
  return given[kSpan] != nullptr ? "the span has not started"
                                 : "there is no current span: give span=, or trace_id= and perhaps span_id=";
}

Problem CheckTexts(const Given& given) {
  const auto is_text = [&given](Parameter which) { return given[which] == nullptr || PyUnicode_Check(given[which]); };
  if (!is_text(kLabel)) return "label must be text";
  if (!is_text(kExplanation)) return "explanation must be text";
  if (!is_text(kEvaluator)) return "evaluator must be text";
  if (!is_text(kVersion)) return "version must be text";
  if (!is_text(kSource)) return "source must be text";
  if (given[kSource] != nullptr &&
      std::ranges::find(kScoreSources, Utf8(given[kSource]).view()) == std::end(kScoreSources))
    return "source must be one of rule, judge, human, feedback, experiment";
  if (given[kMetadata] != nullptr && !PyDict_Check(given[kMetadata])) return "metadata must be a dict";
  return nullptr;
}

// Encodes a SCORE record.
Problem Encode(const Given& given, const Target& target, std::int64_t at_ns, const CaptureLimits& limits,
               ByteBuffer& out) {
  if (given[kName] == nullptr || !PyUnicode_Check(given[kName])) return "the name must be text";
  const Utf8 name(given[kName]);
  if (name.view().empty() || name.view().size() > kMaxScoreNameBytes) return "the name must have 1 to 1,024 bytes";
  if (const Problem problem = CheckTexts(given)) return problem;
  PyObject* value = given[kValue];
  PyObject* label = given[kLabel];
  if (value != nullptr && PyUnicode_Check(value) && label == nullptr) label = std::exchange(value, nullptr);
  if (value != nullptr && !IsNumber(value)) return "the value must be a number of 64 bits, a bool, or text (the label)";
  if (value == nullptr && label == nullptr && given[kExplanation] == nullptr) {
    return "there is nothing in it: give a value, a label or an explanation";
  }
  RecordWriter record(out);
  record.Start(target.trace_id, target.span_id, 0, at_ns, SpanKind::kSpan, RedactedName(name.view()));
  MarkStage(record);
  Capture capture(record, limits);
  if (given[kMetadata] != nullptr) capture.AddAll(given[kMetadata]);
  const auto add = [&](std::string_view attribute, PyObject* object) {
    if (object != nullptr) capture.AddValue(Column::kAttribute, attribute, object);
  };
  add(kScoreValue, value);
  add(kScoreLabel, label);
  add(kScoreExplanation, given[kExplanation]);
  if (given[kSource] == nullptr) record.AddString(Column::kAttribute, kScoreSource, kScoreSources[0]);
  add(kScoreSource, given[kSource]);
  add(kScoreEvaluator, given[kEvaluator]);
  add(kScoreVersion, given[kVersion]);
  capture.MarkTruncated();
  return nullptr;
}

// Counted always, told once: a score that cannot be is no reason to stop the program.
void Reject(Problem problem) {
  static auto* const told = new std::set<std::string_view>;
  ++rejected_scores;
  if (!told->insert(problem).second) return;
  PyObject* const logging = PyImport_ImportModule("logging");
  PyObject* const logger = logging == nullptr ? nullptr : PyObject_CallMethod(logging, "getLogger", "s", "spanbox");
  PyObject* const done =
      logger == nullptr ? nullptr
                        : PyObject_CallMethod(logger, "warning", "sss",
                                              "score() was ignored: %s. Others like it are counted in health()[%r]",
                                              problem, "rejected_scores");
  Py_XDECREF(done);
  Py_XDECREF(logger);
  Py_XDECREF(logging);
  PyErr_Clear();
}

void WriteScore(const Given& given) {
  Recorder* const recorder = ActiveRecorder();
  if (recorder == nullptr) return;
  Target target;
  Problem problem = FindTarget(given, target);
  Scratch scratch;
  if (problem == nullptr)
    problem = Encode(given, target, WallFromMonotonic(MonotonicNowNs()), process_limits, scratch.buffer());
  if (problem != nullptr) return Reject(problem);
  recorder->Append(RecordType::kScore, scratch.buffer().bytes());
}

// False with TypeError set: it is not called like that. `most`: the last parameter it knows.
bool ReadCall(PyObject* const* args, Py_ssize_t count, PyObject* names, Parameter most, Given& given) {
  given.fill(nullptr);
  if (count > 2) {
    PyErr_SetString(PyExc_TypeError, "score() takes a name and a value by position, and the rest by keyword");
    return false;
  }
  for (Py_ssize_t i = 0; i < count; ++i) given[static_cast<std::size_t>(i)] = args[i];
  const Py_ssize_t named = names == nullptr ? 0 : PyTuple_GET_SIZE(names);
  for (Py_ssize_t i = 0; i < named; ++i) {
    PyObject* const name = PyTuple_GET_ITEM(names, i);
    const int parameter = ParameterOf(name);
    if (parameter < 0 || parameter > most || parameter < count) {
      PyErr_Format(PyExc_TypeError, "score() got %s keyword argument %R",
                   parameter >= 0 && parameter < count ? "two values for the" : "an unexpected", name);
      return false;
    }
    given[static_cast<std::size_t>(parameter)] = args[count + i];
  }
  for (PyObject*& each : given) each = each == Py_None ? nullptr : each;
  return true;
}

PyObject* ScoreCall(PyObject*, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  Given given;
  if (!ReadCall(args, count, names, kSpan, given)) return nullptr;
  WriteScore(given);
  Py_RETURN_NONE;
}

PyMethodDef functions[] = {
    {"score", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(ScoreCall)), METH_FASTCALL | METH_KEYWORDS,
     "score(name, value=None, *, label=None, explanation=None, source='rule', evaluator=None, version=None, "
     "trace_id=None, span_id=None, metadata=None, span=None)\n--\n\n"
     "Records what is said of a span: of the current one, of span= (a Span or a Handle), or of trace_id= and "
     "span_id=;\n"
     "without span_id of the whole trace. The value is a number or a bool; text is the label. source: rule, judge,\n"
     "human, feedback or experiment. It is safe as soon as score returns. It never raises for what it is given: what\n"
     "is no score is counted in health() and logged once."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

PyObject* ScoreSpan(PyObject* span, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  Given given;
  if (!ReadCall(args, count, names, kVersion, given)) return nullptr;
  given[kSpan] = span;
  WriteScore(given);
  Py_RETURN_NONE;
}

int RegisterScores(PyObject* module) { return PyModule_AddFunctions(module, functions); }

std::size_t AppendScores(PyStore& self, const py::sequence& dicts) {
  const CaptureLimits no_limits{.bytes = std::numeric_limits<std::uint32_t>::max(),
                                .nodes = std::numeric_limits<std::uint32_t>::max(),
                                .depth = kMaxCaptureDepth,
                                .redact_text = process_limits.redact_text,
                                .value_bytes = std::numeric_limits<std::uint32_t>::max()};
  std::deque<ByteBuffer> payloads;
  RowArena arena;
  std::vector<SpanRow> rows;
  for (const py::handle each : dicts) {
    const auto fail = [&](const std::string& what) {
      Throw(InvalidArgument("score " + std::to_string(rows.size()) + ": " + what));
    };
    if (!PyDict_Check(each.ptr())) fail("is not a dict");
    Given given{};
    for (const auto& [key, value] : py::reinterpret_borrow<py::dict>(each)) {
      const int parameter = PyUnicode_Check(key.ptr()) ? ParameterOf(key.ptr()) : -1;
      if (parameter < 0 || parameter == kSpan) fail(py::repr(key).cast<std::string>() + " is nothing that a score has");
      if (!value.is_none()) given[static_cast<std::size_t>(parameter)] = value.ptr();
    }
    Target target;
    Problem problem =
        given[kTraceId] == nullptr && given[kSpanId] == nullptr ? "trace_id is missing" : ReadIds(given, target);
    std::int64_t at_ns = WallNowNs();
    if (problem == nullptr && given[kAtNs] != nullptr) {
      int overflow = 1;
      if (PyLong_Check(given[kAtNs])) at_ns = PyLong_AsLongLongAndOverflow(given[kAtNs], &overflow);
      if (overflow != 0) problem = "at_ns must be a 64-bit int of nanoseconds";
    }
    ByteBuffer& payload = payloads.emplace_back();
    if (problem == nullptr) problem = Encode(given, target, at_ns, no_limits, payload);
    if (problem != nullptr) fail(problem);
    rows.push_back(Unwrap(ParseScore({RecordType::kScore, payload.bytes()}, arena)));
  }
  StageRows(rows, arena);
  const auto store = [&] {
    const py::gil_scoped_release release;
    return self.store->AppendScores(rows);
  };
  Check(store());
  return rows.size();
}

}  // namespace spanbox::python
