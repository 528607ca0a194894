// The process-wide recorder, and the spans Python code sees.
//
// Thread rule: hold the GIL. Ownership: the recorder belongs to this module.
// Invariant: nothing here leaves a Python exception set that the user's code did not raise.
#pragma once

#include <Python.h>

#include <cstdint>
#include <string>

#include "base/coding.h"
#include "base/record_codec.h"
#include "capture.h"
#include "context.h"
#include "spanbox/recorder.h"
#include "spanbox/span.h"

namespace spanbox::python {

// nullptr when nothing can be recorded (health() has the reason). Opens the recorder on first use.
Recorder* ActiveRecorder();

// The store recorded into; empty: not chosen yet.
const std::string& RecordingPath();
// Records there, unless the place has been chosen or a span has started.
void SuggestPath(const std::string& path);

struct SpanObject : ContextObject {
  SpanId parent_id;
  PyObject* name;        // str
  PyObject* attributes;  // dict given before the start, or nullptr
  PyObject* input;       // what .input and .output were set to, while open
  PyObject* output;
  std::int64_t start_monotonic_ns;
  std::int64_t ttft_ns;  // -1: no first token yet
  SpanKind kind;
  SpanStatus status;  // what END will say
  bool open;          // entered and not left
  bool recorded;      // its START was accepted, so its END is owed
};

// A buffer to encode into; thread-local. Nested use (a finalizer that runs during capture) gets another one.
class Scratch {
 public:
  Scratch() : buffer_(Lease()) {}
  ~Scratch() { Release(); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ByteBuffer& buffer() { return buffer_; }

 private:
  static ByteBuffer& Lease();
  static void Release();

  ByteBuffer& buffer_;
};

// A span that has not started; nullptr with MemoryError set.
SpanObject* NewSpan(PyObject* name, SpanKind kind);

CaptureLimits LimitsFor(const Recorder& recorder);

// Makes the span current and writes its START: identity, inherited tags, then what `add_fields(Capture&)` adds.
template <typename AddFields>
void StartSpan(Recorder& recorder, SpanObject* span, AddFields add_fields);

// Writes END with what `add_fields(Capture&, RecordWriter&)` adds, and puts the parent context back.
template <typename AddFields>
void EndSpan(Recorder& recorder, SpanObject* span, AddFields add_fields);

// Adds error_type, error_message and error_stack; sets the span's status. Takes a normalised exception.
void AddError(SpanObject* span, RecordWriter& record, PyObject* exception);

// The parts of the templates above that do not depend on what is captured.
void EnterSpan(SpanObject* span);
void WriteStart(SpanObject* span, RecordWriter& record);
void WriteEnd(SpanObject* span, RecordWriter& record);

// Add the types and functions to the module: 0, or -1 with an exception set.
int RegisterSpans(PyObject* module);
int RegisterObserved(PyObject* module);

template <typename AddFields>
void StartSpan(Recorder& recorder, SpanObject* span, AddFields add_fields) {
  EnterSpan(span);
  Scratch scratch;
  RecordWriter record(scratch.buffer());
  WriteStart(span, record);
  const CaptureLimits limits = LimitsFor(recorder);
  Capture capture(record, limits);
  add_fields(capture);
  capture.MarkTruncated();
  span->recorded = recorder.Append(RecordType::kStart, scratch.buffer().bytes());
}

template <typename AddFields>
void EndSpan(Recorder& recorder, SpanObject* span, AddFields add_fields) {
  if (span->recorded) {
    Scratch scratch;
    RecordWriter record(scratch.buffer());
    WriteEnd(span, record);
    const CaptureLimits limits = LimitsFor(recorder);
    Capture capture(record, limits);
    add_fields(capture, record);
    capture.MarkTruncated();
    // The status may have been learnt while the fields were written.
    scratch.buffer().PatchAt(sizeof(SpanId) + sizeof(std::int64_t), static_cast<std::uint8_t>(span->status));
    recorder.Append(RecordType::kEnd, scratch.buffer().bytes());
  }
  span->open = false;
  LeaveContext(span);
}

}  // namespace spanbox::python
