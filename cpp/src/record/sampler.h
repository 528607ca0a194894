// Decides which traces are kept, as spans begin and end.
//
// A trace is decided when nothing of it is running: what it still may bring afterwards, a late span, follows the
// verdict. Verdicts and kinds seen are remembered when the batch that carries them out is committed (Committed), so
// that a batch tried again comes out the same.
//
// Thread rule: one thread at a time. Ownership: copies names and ids; borrows options and memory.
// Invariants:
//   1. A span that Ended has told to wait comes back in exactly one Decision.
//   2. All spans of a trace get one verdict, as long as it is remembered.
//   3. No more than max_waiting_bytes wait after Decide, and memory has at most 2 * kMaxVerdicts + kMaxKinds entries.
// Units: bytes; nanoseconds of the monotonic clock for `now_ns`.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/hash.h"
#include "spanbox/sampling.h"
#include "spanbox/span.h"

namespace spanbox {

struct TraceIdHash {
  // All of it: ids made elsewhere may have their randomness anywhere.
  std::size_t operator()(const TraceId& id) const noexcept { return Hash64(std::as_bytes(std::span(id.bytes))); }
};

// What outlives a sampler.
class SamplerMemory {
 public:
  static constexpr std::size_t kMaxVerdicts = 32'768;
  static constexpr std::size_t kMaxKinds = 65'536;

  std::optional<bool> VerdictOf(const TraceId& trace) const;
  void Remember(const TraceId& trace, bool keep);  // forgets the oldest
  bool IsNew(std::uint64_t kind) const;            // false for ever once there are kMaxKinds
  void Remember(std::uint64_t kind) { kinds_.insert(kind); }

 private:
  using Verdicts = std::unordered_map<TraceId, bool, TraceIdHash>;
  Verdicts young_, old_;
  std::unordered_set<std::uint64_t> kinds_;
};

class TraceSampler {
 public:
  enum class Verdict { kKeep, kDrop, kWait };

  // REQUIRES: options.active().
  TraceSampler(const Sampling& options, SamplerMemory& memory) : options_(options), memory_(memory) {}

  void Started(const TraceId& trace, SpanId parent, std::int64_t start_ns, std::string_view name, std::int64_t now_ns);
  Verdict Ended(const SpanRow& span, std::uint64_t bytes, std::int64_t now_ns);
  // A running span that will not end: its trace is kept, and so is what is known of it unless that is dropped already.
  Verdict Lost(const SpanRow& span);

  struct Decision {
    bool keep = false;
    std::vector<SpanId> spans;  // those that wait
  };
  // REQUIRES: whatever was published before an Ended so far has been seen. So an end of a parent that was seen does not
  // overtake the begin of a child.
  std::vector<Decision> Decide(std::int64_t now_ns);

  // The batch with the decisions so far is stored.
  void Committed();

  std::uint64_t waiting_bytes() const { return waiting_bytes_; }
  std::size_t traces() const { return traces_.size(); }

 private:
  struct Trace {
    std::string name;  // of its first span
    std::int64_t start_ns = 0;
    bool has_root = false;  // `name` is of a span without parent
    std::optional<bool> verdict;
    bool wanted = false;  // something says that it is to be kept
    bool touched = false;
    std::uint64_t running = 0;
    std::vector<SpanId> waiting;
    std::vector<std::uint64_t> errors;  // hashes of error types
    std::uint64_t bytes = 0;
    std::int64_t since_ns = 0;
    std::uint64_t number = 0;  // in the order they came
  };
  using Traces = std::unordered_map<TraceId, Trace, TraceIdHash>;

  bool ByHead(const TraceId& id) const { return options_.name_rates.empty() && HeadChosen(id, options_.rate); }
  Trace& TraceOf(const TraceId& id, std::int64_t now_ns);
  void Touch(const TraceId& id, Trace& trace);
  bool IsFirstOfKind(const Trace& trace);
  void Judge(const TraceId& id, Trace& trace, bool last_chance, std::vector<Decision>& decisions);
  void Forget(Traces::iterator trace);
  void ForgetGone();

  const Sampling& options_;
  SamplerMemory& memory_;
  Traces traces_;
  std::vector<TraceId> touched_;                          // since the last Decide
  std::deque<std::pair<TraceId, std::uint64_t>> by_age_;  // with their numbers; some may be gone
  std::vector<std::pair<TraceId, bool>> staged_verdicts_;
  std::unordered_set<std::uint64_t> staged_kinds_;
  std::uint64_t waiting_bytes_ = 0;
  std::uint64_t next_number_ = 0;
};

}  // namespace spanbox
