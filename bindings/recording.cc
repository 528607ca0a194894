// The process-wide recorder: opened on first use, replaced by configure(), closed at exit.
#include "recording.h"

#include <pthread.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <unistd.h>

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <tuple>

#include "base/clock.h"
#include "casters.h"
#include "query.h"
#include "spanbox/query.h"
#include "spanbox/store.h"
#include "text_stage.h"
#include "wire/withheld.h"

namespace py = pybind11;

namespace spanbox::python {
namespace {

constexpr std::int64_t kRetryNs = 1'000'000'000;

// Guarded by the GIL.
struct State {
  std::shared_ptr<Recorder> recorder;              // shared with a Flush that runs without the GIL
  std::string path;                                // of the store recorded into; empty: not chosen yet
  std::string ring_dir;                            // for its rings; empty: in the store
  std::vector<std::shared_ptr<Recorder>> retired;  // replaced while some call was still writing to them
  RecorderOptions options;
  std::string open_error;  // why the last attempt to open failed; empty: it did not
  std::int64_t next_attempt_ns = 0;
  std::uint64_t unrecorded_spans = 0;  // asked for while there was no recorder
  bool opening = false;
  bool closed = false;
};

State& TheState() {
  static auto* state = new State;  // never destroyed: threads may record while the process exits
  return *state;
}

std::size_t waiting_threads = 0;  // in WaitWithoutGil, each with a lease; guarded by the GIL

// How a writer waits for room: other Python threads go on.
void WaitWithoutGil(std::int64_t ns) {
  static const int fork_handler =
      pthread_atfork(nullptr, nullptr, [] { Scratch::Forget(std::exchange(waiting_threads, 0)); });
  static_cast<void>(fork_handler);
  ++waiting_threads;
  PyThreadState* const thread = PyEval_SaveThread();
  std::this_thread::sleep_for(std::chrono::nanoseconds(ns));
  try {
    PyEval_RestoreThread(thread);
  } catch (...) {
    // The interpreter has ended and ends this thread. That must not unwind the recorder, which is in the middle of a
    // record: as in later versions of Python, the thread stays here until the process is gone.
    while (true) pause();
  }
  --waiting_threads;
}

struct Opened {
  std::shared_ptr<Recorder> recorder;
  std::string path;  // as the store calls itself
};

Result<Opened> OpenRecorder(const std::string& path, RecorderOptions options, const std::string& ring_dir) {
  SPANBOX_ASSIGN_OR_RETURN(const std::shared_ptr<Store> store, Store::Open(path));
  std::string rings = store->ring_dir();
  if (!ring_dir.empty()) {
    options.recover_dir = rings;
    SPANBOX_ASSIGN_OR_RETURN(rings, RingDirElsewhere(rings, ring_dir));
  }
  options.wait = WaitWithoutGil;
  // A commit waits for the stage, which has a timeout of its own for every text.
  constexpr std::int64_t kHourNs = 3'600'000'000'000;
  if (has_stage.load()) options.wedged_after_ns = kHourNs;
  const ExporterFactory open_store = [path, store]() -> Result<std::shared_ptr<SpanExporter>> {
    SPANBOX_ASSIGN_OR_RETURN(std::shared_ptr<Store> opened, Store::Open(path));
    return StageExporter(std::move(opened));
  };
  SPANBOX_ASSIGN_OR_RETURN(std::unique_ptr<Recorder> recorder, Recorder::Open(open_store, rings, options));
  return Opened{std::move(recorder), store->path()};
}

// Where to record when nobody said: spanbox._paths knows. nullopt with open_error set when that fails.
std::optional<std::string> DefaultPath(State& state) {
  try {
    const py::object path = py::module_::import("spanbox._paths").attr("resolve_store")();
    return py::str(path).cast<std::string>();
  } catch (py::error_already_set& error) {
    state.open_error = error.what();
    return std::nullopt;
  }
}

void Use(Recorder* recorder) {
  open_recorder = recorder;
  if (recorder != nullptr) process_limits.bytes = RecordLimits(recorder->MaxPayloadBytes()).bytes;
}

// At most once a second, never from within itself.
Recorder* OpenNow(State& state) {
  const std::int64_t now_ns = MonotonicNowNs();
  if (state.closed || state.opening || now_ns < state.next_attempt_ns) {
    ++state.unrecorded_spans;
    return nullptr;
  }
  state.opening = true;
  state.next_attempt_ns = now_ns + kRetryNs;
  PyObject *type = nullptr, *value = nullptr, *traceback = nullptr;
  PyErr_Fetch(&type, &value, &traceback);
  if (state.path.empty()) state.path = DefaultPath(state).value_or("");
  if (!state.path.empty()) {
    auto opened = OpenRecorder(state.path, state.options, state.ring_dir);
    if (opened.ok()) {
      state.recorder = std::move(opened->recorder);
      state.path = opened->path;
      state.open_error.clear();
    } else {
      state.open_error = opened.status().message();
    }
  }
  PyErr_Restore(type, value, traceback);
  state.opening = false;
  if (state.recorder == nullptr) ++state.unrecorded_spans;
  Use(state.recorder.get());
  return open_recorder;
}

// What the state says is replaced first, so that no other thread finds nothing, and opens yet another, while the GIL is
// released here.
void Replace(State& state, std::shared_ptr<Recorder> recorder) {
  if (state.recorder != nullptr) state.retired.push_back(std::move(state.recorder));
  state.recorder = std::move(recorder);
  Use(state.recorder.get());
  // An encoder that a user registered runs in the middle of a span, and may come here.
  if (Scratch::leased() > 0) return;
  auto retired = std::exchange(state.retired, {});
  py::gil_scoped_release release;
  retired.clear();
}

// rate, names, keep, first_of_kind, max_waiting_bytes, max_trace_age_ns: see spanbox._sampling.
using SamplingTuple = std::tuple<double, std::map<std::string, double>, std::string, bool, std::uint64_t, std::int64_t>;

Sampling MakeSampling(const SamplingTuple& given) {
  Sampling sampling;
  std::string keep;
  std::tie(sampling.rate, sampling.name_rates, keep, sampling.first_of_kind, sampling.max_waiting_bytes,
           sampling.max_trace_age_ns) = given;
  if (!keep.empty()) sampling.keep = Unwrap(CompileFilter(keep), Wrong::kFilter);
  return sampling;
}

void Configure(const std::string& path, const std::optional<std::string>& full_ring,
               std::optional<std::uint64_t> max_ring_bytes, const std::optional<std::string>& ring_dir_option,
               const std::optional<SamplingTuple>& sampling) {
  State& state = TheState();
  RecorderOptions options = state.options;
  const std::string ring_dir = ring_dir_option.value_or(state.ring_dir);
  if (sampling) options.sampling = MakeSampling(*sampling);
  if (max_ring_bytes) options.max_ring_bytes = *max_ring_bytes;
  if (full_ring) {
    options.full_ring_policy = *full_ring == "block"  ? FullRingPolicy::kBlock
                               : *full_ring == "drop" ? FullRingPolicy::kDrop
                                                      : FullRingPolicy::kWait;
  }
  if (recording_off) {  // spanbox.on() opens it
    state.path = path;
    state.options = options;
    state.ring_dir = ring_dir;
    state.open_error.clear();
    state.next_attempt_ns = 0;
    state.closed = false;
    return Replace(state, nullptr);
  }
  auto opened = [&] {
    py::gil_scoped_release release;
    return OpenRecorder(path, options, ring_dir);
  }();
  Opened replacement = Unwrap(std::move(opened), Wrong::kStore);
  state.path = std::move(replacement.path);
  state.options = options;
  state.ring_dir = ring_dir;
  state.open_error.clear();
  state.closed = false;
  Replace(state, std::move(replacement.recorder));
}

bool Flush(double timeout_s) {
  State& state = TheState();
  if (state.recorder == nullptr) return state.unrecorded_spans == 0;
  std::shared_ptr<Recorder> recorder = state.recorder;
  py::gil_scoped_release release;
  return recorder->Flush(static_cast<std::int64_t>(timeout_s * 1e9)).complete;
}

py::dict HealthDict() {
  using namespace py::literals;
  State& state = TheState();
  const Health health = state.recorder == nullptr ? Health{} : state.recorder->GetHealth();
  const std::string& error = state.recorder == nullptr ? state.open_error : health.last_error;
  return py::dict("path"_a = state.path.empty() ? py::object(py::none()) : py::str(state.path),
                  "recorded_spans"_a = health.recorded_spans + state.unrecorded_spans,
                  "stored_spans"_a = health.stored_spans, "sampled_out_spans"_a = health.sampled_out_spans,
                  "dropped_spans"_a = health.dropped_spans + state.unrecorded_spans,
                  "dropped_bytes"_a = health.dropped_bytes, "degraded_records"_a = health.degraded_records,
                  "open_spans"_a = health.open_spans, "waiting_bytes"_a = health.waiting_bytes,
                  "ring_bytes"_a = health.ring_bytes, "lag_ms"_a = static_cast<double>(health.lag_ns) / 1e6,
                  "commits"_a = health.commits, "commit_failures"_a = health.commit_failures,
                  "collector_alive"_a = health.collector_alive, "collector_restarts"_a = health.collector_restarts,
                  "rejected_scores"_a = rejected_scores, "crash_safe"_a = health.crash_safe,
                  "last_error"_a = Text(error));
}

}  // namespace

Recorder* OpenRecorderNow() { return OpenNow(TheState()); }

const std::string& RecordingPath() { return TheState().path; }

void SuggestPath(const std::string& path) {
  if (TheState().path.empty()) TheState().path = path;
}

void RegisterRecording(py::module_& module) {
  using namespace py::literals;
  module.def("configure", Configure, "path"_a, "full_ring"_a = py::none(), "max_ring_bytes"_a = py::none(),
             "ring_dir"_a = py::none(), "sampling"_a = py::none());
  module.def("recording_path", []() -> py::object {
    const State& state = TheState();
    if (state.recorder == nullptr) return py::none();
    return py::str(state.path);
  });
  module.def("flush", Flush, "timeout_s"_a);
  module.def("health", HealthDict);
  module.def("close", [] {
    State& state = TheState();
    state.closed = true;
    Replace(state, nullptr);
  });
}

}  // namespace spanbox::python
