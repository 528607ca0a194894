// Which traces are kept. Metrics stay exact whatever is chosen: what is dropped is still counted (docs/sampling.md).
//
// A trace is kept when its head is chosen: the hash of its id, as a share of all hashes, lies below the rate, so that
// every process of a distributed trace chooses alike. Of the others the spans wait until nothing of the trace runs in
// this process any more; then it is kept if one of them passes `keep` or has the attribute `keep` = true, or if it is
// the first of its kind. Else it is dropped.
//
// Thread rule: plain values; `keep` is called by the collector's thread and must not throw.
// Ownership: a row given to `keep` is borrowed during the call.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "spanbox/span.h"

namespace spanbox {

struct Sampling {
  double rate = 1;                           // share of traces kept by their id
  std::map<std::string, double> name_rates;  // instead of `rate`, by the name of the trace's first span in this process
  std::function<bool(const SpanRow&)> keep;  // empty: nothing passes
  bool first_of_kind = false;                // keep the first trace with a name of its first span and an error type

  // What waits for a verdict: past either, the oldest traces are decided by what is known of them.
  std::uint64_t max_waiting_bytes = 64u << 20;
  std::int64_t max_trace_age_ns = 600'000'000'000;

  bool active() const { return rate < 1 || !name_rates.empty(); }
};

// Whether the trace is one of the share `rate`. The same in every process and version.
bool HeadChosen(const TraceId& trace, double rate) noexcept;

}  // namespace spanbox
