// Store: opening, importing and asking. Every call that reads or writes the store lets go of the GIL.
#include "spanbox/store.h"

#include <pybind11/stl.h>

#include <chrono>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "casters.h"
#include "query.h"
#include "row_reader.h"
#include "spanbox/query.h"
#include "spanbox/recorder.h"
#include "spanbox/trace.h"
#include "text_stage.h"
#include "wire/prices.h"

namespace py = pybind11;

namespace spanbox::python {
namespace {

// Lets signal handlers run while a question is answered without the GIL: true when one has raised, as for Ctrl-C.
class SignalCheck {
 public:
  bool operator()() {
    const auto now = std::chrono::steady_clock::now();
    if (now - last_ < kInterval) return false;
    last_ = now;
    const py::gil_scoped_acquire gil;
    return PyErr_CheckSignals() != 0;
  }

 private:
  static constexpr std::chrono::milliseconds kInterval{30};
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

PyStore OpenStore(const std::string& path, bool create) {
  auto opened = WithoutGil([&]() -> Result<PyStore> {
    StoreOptions options;
    options.create_if_missing = create;
    SPANBOX_ASSIGN_OR_RETURN(auto store, Store::Open(path, options));
    SPANBOX_ASSIGN_OR_RETURN(const RecoveryReport recovery, RecoverRings(*StageExporter(store), store->ring_dir()));
    return PyStore{std::move(store), recovery};
  });
  return Unwrap(std::move(opened), Wrong::kStore);
}

// --- import ----------------------------------------------------------------------------------------------------------

// Drops rows that are stored already or stand twice among `rows`.
Status KeepNew(Store& store, std::vector<SpanRow>& rows) {
  std::map<TraceId, std::set<SpanId>> known;
  for (const SpanRow& row : rows) {
    if (known.contains(row.trace_id)) continue;
    SPANBOX_ASSIGN_OR_RETURN(const std::vector<SpanId> ids, SpanIdsOf(store, row.trace_id));
    known[row.trace_id].insert(ids.begin(), ids.end());
  }
  std::erase_if(rows, [&](const SpanRow& row) { return !known[row.trace_id].insert(row.span_id).second; });
  return OkStatus();
}

std::size_t AppendRows(PyStore& self, const py::sequence& dicts) {
  RowReader reader(/*redact=*/true);
  std::size_t index = 0;
  for (const py::handle row : dicts) {
    if (!PyDict_Check(row.ptr())) Throw(InvalidArgument("row " + std::to_string(index) + " is not a dict"));
    reader.Add(index++, py::reinterpret_borrow<py::dict>(row));
  }
  std::vector<SpanRow>& rows = reader.rows();
  RowArena staged;
  StageRows(rows, staged);
  Check(WithoutGil([&]() -> Status {
    SPANBOX_RETURN_IF_ERROR(KeepNew(*self.store, rows));
    RowArena arena;
    for (SpanRow& row : rows) AddCost(row, arena);
    return rows.empty() ? OkStatus() : self.store->Append(rows);
  }));
  return rows.size();
}

// --- asking ----------------------------------------------------------------------------------------------------------

py::tuple GrepText(PyStore& self, std::string filter, OptionalNs since_ns, OptionalNs until_ns,
                   const std::string& pattern, bool regex, bool ignore_case, std::uint64_t limit) {
  const SpanQuery query = MakeQuery(self, std::move(filter), since_ns, until_ns);
  const GrepResult found =
      Unwrap(WithoutGil([&] { return Grep(*self.store, query, pattern, regex, ignore_case, limit); }), Wrong::kFilter);
  py::list hits;
  for (const GrepHit& hit : found.hits) {
    const std::string_view snippet = hit.snippet;
    const std::size_t begin = py::len(Text(snippet.substr(0, hit.match_offset)));
    const std::size_t length = py::len(Text(snippet.substr(hit.match_offset, hit.match_bytes)));
    py::dict row;
    row["trace_id"] = ToHex(hit.trace_id);
    row["span_id"] = ToHex(hit.span_id);
    row["span_name"] = Text(hit.span_name);
    row["start_ns"] = hit.start_ns;
    row["column"] = Text(hit.column);
    row["snippet"] = Text(snippet);
    row["match"] = py::make_tuple(begin, begin + length);
    hits.append(row);
  }
  return py::make_tuple(hits, found.matched);
}

using Segments = std::optional<std::vector<std::uint64_t>>;

py::object AggregateTable(PyStore& self, std::string filter, OptionalNs since_ns, OptionalNs until_ns,
                          std::vector<std::string> by, std::int64_t every_ns, std::string time_zone,
                          const std::vector<std::pair<std::string, std::string>>& expressions, bool scores,
                          Segments only) {
  SpanQuery query = MakeQuery(self, std::move(filter), since_ns, until_ns, scores);
  query.only = std::move(only);
  const Grouping grouping{.by = std::move(by), .every_ns = every_ns, .time_zone = std::move(time_zone)};
  std::vector<Aggregate> aggregates;
  for (const auto& [name, expression] : expressions) aggregates.push_back({name, expression});
  return NewTable(
      Unwrap(WithoutGil([&] { return Aggregated(*self.store, query, grouping, aggregates); }), Wrong::kFilter));
}

py::object ScanTable(PyStore& self, std::string filter, OptionalNs since_ns, OptionalNs until_ns,
                     std::vector<std::string> columns, std::optional<std::uint64_t> limit, std::string order_by,
                     bool descending, bool scores, Segments only, std::uint64_t skip) {
  SpanQuery query = MakeQuery(self, std::move(filter), since_ns, until_ns, scores);
  query.only = std::move(only);
  ScanOptions options{
      .columns = std::move(columns), .skip = skip, .order_by = std::move(order_by), .descending = descending};
  if (limit) options.limit = *limit;
  return NewTable(Unwrap(WithoutGil([&] { return Scan(*self.store, query, options); }), Wrong::kFilter));
}

py::bytes BlobBytes(PyStore& self, const std::string& id) {
  const BlobId blob = Unwrap(BlobIdFromHex(id));
  return py::bytes(Unwrap(WithoutGil([&] { return self.store->ReadBlob(blob); })));
}

py::dict InfoDict(PyStore& self) {
  const StoreInfo info = Unwrap(WithoutGil([&] { return self.store->Info(); }));
  using namespace py::literals;
  return py::dict("path"_a = info.path, "format"_a = info.format, "segments"_a = info.segments, "spans"_a = info.spans,
                  "open_spans"_a = info.open_spans, "sampled_out_spans"_a = info.sampled_out_spans,
                  "scores"_a = info.scores, "column_bytes"_a = info.column_bytes, "text_bytes"_a = info.text_bytes,
                  "raw_text_bytes"_a = info.raw_text_bytes, "filter_bytes"_a = info.filter_bytes,
                  "file_bytes"_a = info.file_bytes, "disk_bytes"_a = info.disk_bytes,
                  "first_start_ns"_a = info.first_start_ns, "last_start_ns"_a = info.last_start_ns,
                  "lmdb_version"_a = info.lmdb_version);
}

py::dict VerifyDict(PyStore& self) {
  const VerifyReport report = Unwrap(WithoutGil([&] { return self.store->Verify(); }));
  using namespace py::literals;
  py::list problems;
  for (const std::string& problem : report.problems) problems.append(Text(problem));
  return py::dict("segments"_a = report.segments, "spans"_a = report.spans, "rollups"_a = report.rollups,
                  "scores"_a = report.scores, "documents"_a = report.documents, "problems"_a = problems);
}

std::size_t MergeAll(PyStore& self) {
  return Unwrap(WithoutGil([&]() -> Result<std::size_t> {
    std::size_t merges = 0;
    for (;; ++merges) {
      SPANBOX_ASSIGN_OR_RETURN(const bool merged, self.store->MergeOnce());
      if (!merged) return merges;
    }
  }));
}

py::tuple EraseSpans(PyStore& self, std::string filter, OptionalNs since_ns, OptionalNs until_ns, bool secure) {
  const SpanQuery query = MakeQuery(self, std::move(filter), since_ns, until_ns);
  const Erased erased = Unwrap(WithoutGil([&] { return Erase(*self.store, query, secure); }), Wrong::kFilter);
  return py::make_tuple(erased.spans, erased.blobs);
}

py::tuple RetentionPair(PyStore& self) {
  const Retention retention = Unwrap(WithoutGil([&] { return self.store->GetRetention(); }));
  return py::make_tuple(retention.max_age_ns, retention.max_bytes);
}

std::uint64_t SetRetention(PyStore& self, std::int64_t max_age_ns, std::uint64_t max_bytes) {
  return Unwrap(WithoutGil([&]() -> Result<std::uint64_t> {
    SPANBOX_RETURN_IF_ERROR(self.store->SetRetention({max_age_ns, max_bytes}));
    return self.store->DropExpired(WallNowNs());
  }));
}

py::list ProcessList(PyStore& self) {
  const auto processes = Unwrap(WithoutGil([&] { return self.store->Processes(); }));
  JsonLoads parse_json;
  py::list result;
  for (const LiveProcess& process : processes) {
    py::dict row = process.process.empty() ? py::dict() : parse_json(Text(process.process)).cast<py::dict>();
    row["dropped_spans"] = process.dropped_spans;
    result.append(row);
  }
  return result;
}

py::dict RecoveryDict(const PyStore& self) {
  using namespace py::literals;
  return py::dict("rings"_a = self.recovery.rings, "spans"_a = self.recovery.spans,
                  "interrupted_spans"_a = self.recovery.interrupted_spans,
                  "damaged_rings"_a = self.recovery.damaged_rings);
}

py::tuple QuantileValues(PyStore& self, std::string filter, OptionalNs since_ns, OptionalNs until_ns,
                         const std::string& column, const std::vector<double>& qs, bool exact, bool scores) {
  const SpanQuery query = MakeQuery(self, std::move(filter), since_ns, until_ns, scores);
  const Quantiles quantiles =
      Unwrap(WithoutGil([&] { return QuantilesOf(*self.store, query, column, qs, exact); }), Wrong::kFilter);
  return py::make_tuple(quantiles.values, quantiles.count, quantiles.relative_error, Pair(quantiles.sampled_out));
}

py::tuple SampledOutPair(PyStore& self, std::string filter, OptionalNs since_ns, OptionalNs until_ns, bool scores) {
  const SpanQuery query = MakeQuery(self, std::move(filter), since_ns, until_ns, scores);
  return Pair(Unwrap(WithoutGil([&] { return SampledOutOf(*self.store, query); }), Wrong::kFilter));
}

py::list ColumnList() {
  static constexpr const char* kTypes[] = {"", "trace id", "span id", "int", "float", "bool", "string", "text"};
  py::list result;
  for (const ColumnInfo& info : Columns().subspan(1)) {
    result.append(py::make_tuple(Text(info.name), Text(info.alias), kTypes[static_cast<std::size_t>(info.type)],
                                 Text(info.description)));
  }
  return result;
}

}  // namespace

SpanQuery MakeQuery(const PyStore& self, std::string filter, OptionalNs since_ns, OptionalNs until_ns, bool scores) {
  SpanQuery query{.filter = std::move(filter), .cancelled = SignalCheck(), .threads = self.threads};
  if (scores) query.about = About::kScores;
  if (since_ns) query.since_ns = *since_ns;
  if (until_ns) query.until_ns = *until_ns;
  return query;
}

void RegisterStore(py::module_& module) {
  using namespace py::literals;
  py::class_<PyStore> store(module, "Store", "A store on disk; opened by spanbox.open().", py::is_final());
  RegisterTraces(store);
  RegisterFeeds(store);
  RegisterDocuments(store);
  RegisterWire(module, store);
  store.def(py::init(&OpenStore), "path"_a, "create"_a)
      .def_property_readonly("path", [](const PyStore& self) { return self.store->path(); })
      .def_property_readonly("recovery", RecoveryDict)
      .def_readwrite("threads", &PyStore::threads)
      .def("append", AppendRows, "rows"_a)
      .def("append_scores", AppendScores, "scores"_a)
      .def(
          "count",
          [](PyStore& self, std::string filter, OptionalNs since_ns, OptionalNs until_ns, bool scores) {
            const SpanQuery query = MakeQuery(self, std::move(filter), since_ns, until_ns, scores);
            return Unwrap(WithoutGil([&] { return Count(*self.store, query); }), Wrong::kFilter);
          },
          "filter"_a, "since_ns"_a, "until_ns"_a, "scores"_a = false)
      .def("sampled_out", SampledOutPair, "filter"_a, "since_ns"_a, "until_ns"_a, "scores"_a = false)
      .def("quantiles", QuantileValues, "filter"_a, "since_ns"_a, "until_ns"_a, "column"_a, "qs"_a, "exact"_a,
           "scores"_a = false)
      .def("aggregate", AggregateTable, "filter"_a, "since_ns"_a, "until_ns"_a, "by"_a, "every_ns"_a, "time_zone"_a,
           "aggregates"_a, "scores"_a = false, "only"_a = py::none())
      .def("scan", ScanTable, "filter"_a, "since_ns"_a, "until_ns"_a, "columns"_a, "limit"_a, "order_by"_a,
           "descending"_a, "scores"_a = false, "only"_a = py::none(), "skip"_a = 0)
      .def("grep", GrepText, "filter"_a, "since_ns"_a, "until_ns"_a, "pattern"_a, "regex"_a, "ignore_case"_a, "limit"_a)
      .def("blob", BlobBytes, "id"_a)
      .def("info", InfoDict)
      .def("verify", VerifyDict)
      .def("merge", MergeAll)
      .def("erase", EraseSpans, "filter"_a, "since_ns"_a, "until_ns"_a, "secure"_a)
      .def("retention", RetentionPair)
      .def("set_retention", SetRetention, "max_age_ns"_a, "max_bytes"_a)
      .def(
          "backup",
          [](PyStore& self, const std::string& path) { Check(WithoutGil([&] { return self.store->Backup(path); })); },
          "path"_a)
      .def("compact", [](PyStore& self) { Check(WithoutGil([&] { return self.store->Compact(); })); })
      .def("processes", ProcessList);
  module.def(
      "check_filter",
      [](const std::string& filter, bool scores) {
        Check(CheckFilter(filter, scores ? About::kScores : About::kSpans), Wrong::kFilter);
      },
      "filter"_a, "scores"_a = false);
  module.def("columns", ColumnList);
}

}  // namespace spanbox::python
