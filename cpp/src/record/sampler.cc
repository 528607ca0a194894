#include "record/sampler.h"

#include <algorithm>
#include <utility>

#include "base/hash.h"

namespace spanbox {
namespace {

constexpr std::string_view kKeepAttribute = "keep";
constexpr std::size_t kMaxErrorTypes = 16;  // of one trace
constexpr std::uint64_t kSpanBytes = 256;   // of what is kept besides its records

std::uint64_t HashOf(std::string_view text, std::uint64_t seed) {
  return Hash64(std::as_bytes(std::span(text.data(), text.size())), seed);
}

bool IsMarked(const SpanRow& span) {
  bool marked = false;
  for (const Field& field : span.fields) {
    if (field.column != Column::kAttribute || field.name != kKeepAttribute) continue;
    marked = field.value.type == ValueType::kBool && field.value.boolean;
  }
  return marked;
}

std::uint64_t ErrorTypeOf(const SpanRow& span) {
  std::string_view type;
  for (const Field& field : span.fields) {
    if (field.column == Column::kErrorType && field.value.type == ValueType::kString) type = field.value.text;
  }
  if (type.empty() && span.status == SpanStatus::kError) type = "error";
  return HashOf(type, 1);
}

}  // namespace

bool HeadChosen(const TraceId& trace, double rate) noexcept {
  if (rate >= 1) return true;
  if (!(rate > 0)) return false;
  return Hash64(std::as_bytes(std::span(trace.bytes))) < static_cast<std::uint64_t>(rate * 0x1p64);
}

std::optional<bool> SamplerMemory::VerdictOf(const TraceId& trace) const {
  for (const Verdicts* verdicts : {&young_, &old_}) {
    if (const auto found = verdicts->find(trace); found != verdicts->end()) return found->second;
  }
  return std::nullopt;
}

void SamplerMemory::Remember(const TraceId& trace, bool keep) {
  young_[trace] = keep;
  if (young_.size() < kMaxVerdicts) return;
  old_ = std::move(young_);
  young_.clear();
}

bool SamplerMemory::IsNew(std::uint64_t kind) const { return kinds_.size() < kMaxKinds && !kinds_.contains(kind); }

TraceSampler::Trace& TraceSampler::TraceOf(const TraceId& id, std::int64_t now_ns) {
  const auto [place, added] = traces_.try_emplace(id);
  Trace& trace = place->second;
  if (added) {
    trace.since_ns = now_ns;
    trace.number = next_number_++;
    by_age_.emplace_back(id, trace.number);
  }
  Touch(id, trace);
  return trace;
}

void TraceSampler::Touch(const TraceId& id, Trace& trace) {
  if (!std::exchange(trace.touched, true)) touched_.push_back(id);
}

void TraceSampler::Started(const TraceId& id, SpanId parent, std::int64_t start_ns, std::string_view name,
                           std::int64_t now_ns) {
  if (ByHead(id) || memory_.VerdictOf(id)) return;
  Trace& trace = TraceOf(id, now_ns);
  ++trace.running;
  const bool root = parent == 0;
  const bool first = trace.name.empty() && trace.start_ns == 0;
  if (first || (root && !trace.has_root) || (root == trace.has_root && start_ns < trace.start_ns)) {
    trace.name = name;
    trace.start_ns = start_ns;
    trace.has_root = root;
  }
}

TraceSampler::Verdict TraceSampler::Ended(const SpanRow& span, std::uint64_t bytes, std::int64_t now_ns) {
  if (ByHead(span.trace_id)) return Verdict::kKeep;
  if (const auto known = memory_.VerdictOf(span.trace_id)) return *known ? Verdict::kKeep : Verdict::kDrop;
  Trace& trace = TraceOf(span.trace_id, now_ns);
  if (trace.running > 0) --trace.running;
  if (trace.verdict) return *trace.verdict ? Verdict::kKeep : Verdict::kDrop;
  trace.wanted = trace.wanted || IsMarked(span) || (options_.keep && options_.keep(span));
  if (options_.first_of_kind && trace.errors.size() < kMaxErrorTypes) {
    const std::uint64_t type = ErrorTypeOf(span);
    if (std::ranges::find(trace.errors, type) == trace.errors.end()) trace.errors.push_back(type);
  }
  trace.waiting.push_back(span.span_id);
  trace.bytes += bytes + kSpanBytes;
  waiting_bytes_ += bytes + kSpanBytes;
  return Verdict::kWait;
}

TraceSampler::Verdict TraceSampler::Lost(const SpanRow& span) {
  if (ByHead(span.trace_id)) return Verdict::kKeep;
  if (const auto known = memory_.VerdictOf(span.trace_id)) return *known ? Verdict::kKeep : Verdict::kDrop;
  const auto found = traces_.find(span.trace_id);
  if (found == traces_.end()) return Verdict::kKeep;
  Trace& trace = found->second;
  Touch(span.trace_id, trace);
  if (trace.running > 0) --trace.running;
  if (trace.verdict) return *trace.verdict ? Verdict::kKeep : Verdict::kDrop;
  trace.wanted = true;
  return Verdict::kKeep;
}

// Of a name and an error type, or no error, that no trace had before.
bool TraceSampler::IsFirstOfKind(const Trace& trace) {
  bool first = false;
  for (const std::uint64_t error : trace.errors) {
    const std::uint64_t kind = HashOf(trace.name, error);
    if (memory_.IsNew(kind) && staged_kinds_.insert(kind).second) first = true;
  }
  return first;
}

void TraceSampler::Judge(const TraceId& id, Trace& trace, bool last_chance, std::vector<Decision>& decisions) {
  if (trace.verdict) return;
  if (!options_.name_rates.empty()) {
    const auto rate = options_.name_rates.find(trace.name);
    if (HeadChosen(id, rate != options_.name_rates.end() ? rate->second : options_.rate)) trace.verdict = true;
  }
  if (!trace.verdict && !last_chance) return;
  if (!trace.verdict) {
    // Asked also of a wanted one: it is the first of its kind all the same.
    const bool first = options_.first_of_kind && IsFirstOfKind(trace);
    trace.verdict = trace.wanted || first;
  }
  if (!trace.waiting.empty()) decisions.push_back({*trace.verdict, std::move(trace.waiting)});
  trace.waiting.clear();
  waiting_bytes_ -= trace.bytes;
  trace.bytes = 0;
}

void TraceSampler::Forget(Traces::iterator trace) {
  staged_verdicts_.emplace_back(trace->first, *trace->second.verdict);
  traces_.erase(trace);
}

// One old trace must not make the list of the young ones that came and went grow.
void TraceSampler::ForgetGone() {
  if (by_age_.size() < 2 * traces_.size() + 1024) return;
  std::erase_if(by_age_, [this](const auto& entry) {
    const auto trace = traces_.find(entry.first);
    return trace == traces_.end() || trace->second.number != entry.second;
  });
}

std::vector<TraceSampler::Decision> TraceSampler::Decide(std::int64_t now_ns) {
  std::vector<Decision> decisions;
  for (const TraceId& id : touched_) {
    const auto trace = traces_.find(id);
    if (trace == traces_.end()) continue;
    trace->second.touched = false;
    const bool over = trace->second.running == 0;
    Judge(id, trace->second, over, decisions);
    if (over) Forget(trace);
  }
  touched_.clear();
  while (!by_age_.empty()) {
    const auto& [id, number] = by_age_.front();
    const auto trace = traces_.find(id);
    const bool here = trace != traces_.end() && trace->second.number == number;
    const bool too_old = here && now_ns - trace->second.since_ns > options_.max_trace_age_ns;
    if (here && !too_old && waiting_bytes_ <= options_.max_waiting_bytes) break;
    if (here) {
      Judge(id, trace->second, /*last_chance=*/true, decisions);
      Forget(trace);
    }
    by_age_.pop_front();
  }
  ForgetGone();
  return decisions;
}

void TraceSampler::Committed() {
  for (const auto& [id, keep] : staged_verdicts_) memory_.Remember(id, keep);
  for (const std::uint64_t kind : staged_kinds_) memory_.Remember(kind);
  staged_verdicts_.clear();
  staged_kinds_.clear();
}

}  // namespace spanbox
