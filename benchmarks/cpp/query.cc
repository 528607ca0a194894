// The questions of part B, asked of a store that bench_ingest has filled, without Python: CPU ms, the least of ROUNDS.
//
//   bench_query STORE [ROUNDS [QUESTION]]
//
// Prints one JSON line: of each question, or of those whose name begins so, what it took, rows of its answer, the
// process's own resident memory after it, and the peak of all so far, pages of the store's file included. One thread.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "spanbox/store.h"
#include "spanbox/trace.h"

namespace {

using spanbox::Aggregate;
using spanbox::Grouping;
using spanbox::Result;
using spanbox::SpanQuery;
using spanbox::Store;

constexpr std::int64_t kSecondNs = 1'000'000'000, kHourNs = 3'600 * kSecondNs, kDayNs = 24 * kHourNs;

struct Question {
  std::string name;
  std::function<Result<std::size_t>()> ask;  // rows of the answer
};

double CpuMs() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) * 1e-6;
}

// "RssAnon" and the like, in MB.
long StatusMb(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    long kb = 0;
    if (word == name + ":" && status >> kb) return kb / 1024;
  }
  return -1;
}

Question Aggregated(Store& store, std::string name, SpanQuery query, Grouping grouping,
                    std::vector<Aggregate> aggregates) {
  return {std::move(name), [&store, query, grouping, aggregates]() -> Result<std::size_t> {
            SPANBOX_ASSIGN_OR_RETURN(const auto table, spanbox::Aggregated(store, query, grouping, aggregates));
            return table.rows;
          }};
}

std::vector<Question> Questions(Store& store, std::int64_t end_ns, const spanbox::TraceId& trace) {
  const std::vector<Aggregate> latencies = {
      {"a", "p50(ttft)"}, {"b", "p99(ttft)"}, {"c", "p50(tpot)"}, {"d", "p99(tpot)"}};
  const std::vector<Aggregate> usage = {
      {"cost", "sum(cost)"}, {"i", "sum(input_tokens)"}, {"o", "sum(output_tokens)"}, {"c", "sum(cache_read_tokens)"}};
  std::vector<Question> all;
  all.push_back(Aggregated(store, "Q1", {.filter = "ttft != none", .since_ns = end_ns - kDayNs},
                           {.by = {"model"}, .every_ns = 300 * kSecondNs}, latencies));
  all.push_back({"Q4", [&store, end_ns]() -> Result<std::size_t> {
                   const SpanQuery query{.filter = "parent_id == none", .since_ns = end_ns - kHourNs};
                   SPANBOX_ASSIGN_OR_RETURN(const auto table, spanbox::Scan(store, query,
                                                                            {.columns = {"trace_id", "duration_ns"},
                                                                             .limit = 20,
                                                                             .order_by = "duration",
                                                                             .descending = true}));
                   return table.rows;
                 }});
  all.push_back({"Q5", [&store, trace]() -> Result<std::size_t> {
                   SPANBOX_ASSIGN_OR_RETURN(const auto spans, spanbox::TraceOf(store, trace));
                   return spans.size();
                 }});
  all.push_back(Aggregated(store, "Q6", {}, {.by = {"tenant", "model"}}, usage));
  all.push_back({"Q10", [&store]() -> Result<std::size_t> {
                   const double q = 0.99;
                   SPANBOX_ASSIGN_OR_RETURN(const auto found, spanbox::QuantilesOf(store, {}, "ttft", {&q, 1}, false));
                   return found.count;
                 }});
  all.push_back(
      Aggregated(store, "tree", {.filter = "any(children, status == error)"}, {.by = {"kind"}}, {{"n", "count()"}}));
  all.push_back(Aggregated(store, "tree of agents", {.filter = "kind == agent and any(descendants, status == error)"},
                           {}, {{"n", "count()"}}));
  return all;
}

int Fail(const spanbox::Status& status) {
  std::fprintf(stderr, "%s\n", status.message().c_str());
  return 1;
}

int Run(const std::string& folder, int rounds, const std::string& wanted) {
  const auto opened = Store::Open(folder, {.create_if_missing = false});
  if (!opened.ok()) return Fail(opened.status());
  Store& store = **opened;
  const auto info = store.Info();
  if (!info.ok()) return Fail(info.status());
  const std::int64_t end_ns = info->last_start_ns + 1;
  const auto newest = spanbox::Scan(store, {.since_ns = end_ns - kHourNs}, {.columns = {"trace_id"}, .limit = 1});
  if (!newest.ok()) return Fail(newest.status());
  const spanbox::TableColumn& ids = newest->columns[0];
  std::printf("{\"spans\": %llu", static_cast<unsigned long long>(info->spans));
  for (const Question& question : Questions(store, end_ns, *spanbox::TraceIdFromHex(ids.dictionary[ids.codes[0]]))) {
    if (!question.name.starts_with(wanted)) continue;
    double least = std::numeric_limits<double>::infinity();
    std::size_t rows = 0;
    long anonymous = 0;
    for (int round = 0; round < rounds; ++round) {
      const double begin = CpuMs();
      const auto answered = question.ask();
      least = std::min(least, CpuMs() - begin);
      if (!answered.ok()) return Fail(answered.status());
      rows = *answered;
      anonymous = std::max(anonymous, StatusMb("RssAnon"));
    }
    std::printf(", \"%s\": {\"ms\": %.3f, \"rows\": %zu, \"anonymous_mb\": %ld, \"peak_mb\": %ld}",
                question.name.c_str(), least, rows, anonymous, StatusMb("VmHWM"));
  }
  std::printf("}\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || argc > 4) {
    std::fprintf(stderr, "usage: bench_query STORE [ROUNDS [QUESTION]]\n");
    return 2;
  }
  return Run(argv[1], argc > 2 ? std::atoi(argv[2]) : 7, argc > 3 ? argv[3] : "");
}
