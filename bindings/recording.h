// The process-wide recorder, and the spans Python code sees.
//
// Thread rule: hold the GIL. Ownership: the recorder belongs to this module.
// Invariant: nothing here leaves a Python exception set that the user's code did not raise.
#pragma once

#include <Python.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "base/coding.h"
#include "base/record_codec.h"
#include "capture.h"
#include "capture_settings.h"
#include "context.h"
#include "spanbox/recorder.h"
#include "spanbox/span.h"
#include "wire/withheld.h"

namespace spanbox::python {

// What spans go to; nullptr until the first one, and when nothing can be recorded.
inline Recorder* open_recorder = nullptr;
// Opens the recorder, at most once a second; nullptr when that fails (health() has the reason).
Recorder* OpenRecorderNow();

inline Recorder* ActiveRecorder() {
  if (recording_off) [[unlikely]]
    return nullptr;
  return open_recorder != nullptr ? open_recorder : OpenRecorderNow();
}

// The store recorded into; empty: not chosen yet.
const std::string& RecordingPath();
// Records there, unless the place has been chosen or a span has started.
void SuggestPath(const std::string& path);

// Whether records say that a stage has to see their texts (text_stage.h). Guarded by the GIL.
inline bool marks_stage = false;
inline void MarkStage(RecordWriter& record) {
  if (marks_stage) [[unlikely]]
    record.AddBool(Column::kAttribute, kStageMark, true);
}

// Of a span that OpenTelemetry's API has started.
struct OtelState {
  bool started = false;  // it has; end() ends it
  bool records_exceptions = false;
  bool sets_status = false;      // on exceptions
  bool has_message = false;      // error_message has been written
  std::uint8_t status_code = 0;  // StatusCode: unset, ok, error
};

struct SpanObject : ContextObject {
  SpanId parent_id;
  PyObject* name;        // str
  PyObject* attributes;  // dict given before the start, or nullptr
  PyObject* input;       // what .input and .output were set to, while open
  PyObject* output;
  std::int64_t start_monotonic_ns;
  std::int64_t ttft_ns;         // -1: no first token yet
  std::int64_t given_start_ns;  // wall time that the start was given as; 0: it was not
  PyObject* events;             // list, of what add_event and record_exception gave; nullptr: none
  PyObject* links;              // list, of what add_link gave; nullptr: none
  SpanKind kind;
  SpanStatus status;  // what END will say
  bool open;          // entered and not left
  bool recorded;      // its START was accepted, so its END is owed
  OtelState otel_state;
};

// A buffer to encode into. Nested use (a finalizer that runs during capture) gets another one.
class Scratch {
 public:
  Scratch() : buffer_(spare_ != nullptr ? std::exchange(spare_, nullptr) : Lease()) { ++leased_; }
  ~Scratch() {
    --leased_;
    if (spare_ == nullptr && buffer_->capacity() <= kMaxKeptBytes) {
      spare_ = buffer_;
    } else {
      GiveBack(buffer_);
    }
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ByteBuffer& buffer() { return *buffer_; }

  // Records being written right now, by all threads: as many hold on to the open recorder.
  static std::size_t leased() { return leased_; }
  // In a forked child: `count` of them belong to threads that are not in it.
  static void Forget(std::size_t count) { leased_ -= count; }

 private:
  static constexpr std::size_t kMaxKeptBytes = 4u << 20;
  static ByteBuffer* Lease();
  static void GiveBack(ByteBuffer* buffer);

  inline static ByteBuffer* spare_ = nullptr;
  inline static std::size_t leased_ = 0;
  ByteBuffer* const buffer_;
};

// A span that has not started; nullptr with MemoryError set.
SpanObject* NewSpan(PyObject* name, SpanKind kind);

// As a START record begins: kind and name, encoded once for the many spans that have them.
std::string EncodeHead(SpanKind kind, std::string_view name);

// Starts the span under the current context and makes it current: writes START with `head`, inherited tags, and what
// `add_fields(RecordWriter&)` adds. Returns the token of the ContextVar (a new reference, nullptr when that
// failed).
template <typename AddFields>
PyObject* StartSpan(Recorder& recorder, SpanObject* span, std::string_view head, const AddFields& add_fields);

// Ends the span: writes END with what `add_fields(RecordWriter&)` adds. `leave()` puts another context back.
// `recorder`: what is open now; nullptr: the span's has been closed, and nothing is written.
template <typename AddFields, typename Leave>
void EndSpan(Recorder* recorder, SpanObject* span, const AddFields& add_fields, const Leave& leave);

// The same for a span whose code raised: adds the exception. What is raised stays raised.
template <typename AddFields, typename Leave>
void EndSpanRaised(Recorder* recorder, SpanObject* span, const AddFields& add_fields, const Leave& leave);

// The exception being raised, normalised, set aside: nothing is raised until RaiseAgain, which takes the references
// back.
struct Raised {
  PyObject *type = nullptr, *value = nullptr, *traceback = nullptr;
};
Raised SetAside();
inline void RaiseAgain(const Raised& raised) { PyErr_Restore(raised.type, raised.value, raised.traceback); }

// Adds error_type, error_message and error_stack; sets the span's status. Takes a normalised exception.
void AddError(SpanObject* span, RecordWriter& record, PyObject* exception);

// Puts back what was current before StartSpan gave `token`, in the same call: for code that cannot be suspended between
// the two. Steals the token. REQUIRES: nothing is raised.
void LeaveCall(SpanObject* span, PyObject* token);

// Writes fields of an open span at once, so that they survive a kill.
template <typename AddFields>
void WriteFields(SpanObject* span, const AddFields& add_fields);

// The parts of the templates below that do not depend on what is captured.
void BeginSpan(SpanObject* span);  // identity, time, parent, tags
void BeginStart(SpanObject* span, std::string_view head, RecordWriter& record);
void BeginEnd(SpanObject* span, RecordWriter& record);

// Add the types and functions to the module: 0, or -1 with an exception set.
int RegisterSpans(PyObject* module);
int RegisterObserved(PyObject* module);
int RegisterDriven(PyObject* module);
int RegisterScores(PyObject* module);
int RegisterTracer(PyObject* module);
int RegisterOtelContext(PyObject* module);

// span.score(...).
PyObject* ScoreSpan(PyObject* span, PyObject* const* args, Py_ssize_t count, PyObject* names);
inline std::uint64_t rejected_scores = 0;  // calls of score() that said nothing a score can be

// Adds what `add(Capture&)` captures.
template <typename Add>
void AddCaptured(RecordWriter& record, const Add& add) {
  Capture capture(record, process_limits);
  add(capture);
  capture.MarkTruncated();
}

template <typename AddFields>
void WriteFields(SpanObject* span, const AddFields& add_fields) {
  Recorder* recorder = span->open && span->recorded ? open_recorder : nullptr;
  if (recorder == nullptr) return;
  Scratch scratch;
  RecordWriter record(scratch.buffer());
  record.Fields(span->span_id);
  MarkStage(record);
  AddCaptured(record, add_fields);
  recorder->Append(RecordType::kFields, scratch.buffer().bytes());
}

// Both encode first, then change the context, then write: bytes just stored would have to be waited for when the
// checksum reads them back.
template <typename AddFields>
PyObject* StartSpan(Recorder& recorder, SpanObject* span, std::string_view head, const AddFields& add_fields) {
  BeginSpan(span);
  Scratch scratch;
  RecordWriter record(scratch.buffer());
  BeginStart(span, head, record);
  add_fields(record);
  PyObject* token = PyContextVar_Set(context_var, reinterpret_cast<PyObject*>(span));
  if (token == nullptr) PyErr_Clear();
  span->recorded = recorder.Append(RecordType::kStart, scratch.buffer().bytes());
  return token;
}

template <typename AddFields, typename Leave>
void EndSpan(Recorder* recorder, SpanObject* span, const AddFields& add_fields, const Leave& leave) {
  span->open = false;
  if (recorder == nullptr || !span->recorded) return leave();
  Scratch scratch;
  RecordWriter record(scratch.buffer());
  BeginEnd(span, record);
  add_fields(record);
  // The status may have been learnt while the fields were written.
  scratch.buffer().PatchAt(sizeof(SpanId) + sizeof(std::int64_t), static_cast<std::uint8_t>(span->status));
  leave();
  recorder->Append(RecordType::kEnd, scratch.buffer().bytes());
}

template <typename AddFields, typename Leave>
void EndSpanRaised(Recorder* recorder, SpanObject* span, const AddFields& add_fields, const Leave& leave) {
  const Raised raised = SetAside();
  const auto add_all = [&](RecordWriter& record) {
    add_fields(record);
    if (raised.value != nullptr) AddError(span, record, raised.value);
  };
  EndSpan(recorder, span, add_all, leave);
  RaiseAgain(raised);
}

}  // namespace spanbox::python
