// OTLP: traces as OpenTelemetry sends them, in protobuf and in JSON (opentelemetry-proto 1.x), read as rows and written
// from rows. Requests (ExportTraceServiceRequest) and files (TracesData) are the same bytes.
//
// Attributes of any tracing dialect become columns; docs/opentelemetry.md says which, and what else of a span is kept
// under which name. What was read comes out again when it is written.
//
// Thread rule: an object belongs to one thread. Ownership: readers borrow the body; rows borrow from their reader.
// Invariants:
//   1. No bytes make a reader crash, recurse deeper than kMaxOtlpDepth, or hold much more memory than the body takes.
//   2. A body is read as a whole or not at all: only spans without valid ids are left out, and counted.
// Errors: InvalidArgument says what is wrong with the body, and where.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "spanbox/redact.h"
#include "spanbox/span.h"
#include "spanbox/status.h"
#include "spanbox/store.h"

namespace spanbox {

enum class OtlpForm { kProtobuf, kJson };

inline constexpr int kMaxOtlpDepth = 32;                       // of lists and mappings in a value
inline constexpr std::size_t kMaxOtlpJsonBytes = 32 << 20;     // of one list or mapping, or of a span's events
inline constexpr std::size_t kMaxOtlpSpanAttributes = 65'536;  // more are dropped, and counted as dropped
inline constexpr std::size_t kMaxOtlpColumns = 128;            // of a span; more attributes are kept as one
inline constexpr std::size_t kMaxOtlpNames = 1'000;            // of attributes in a body; the same

class OtlpReader {
 public:
  static Result<std::unique_ptr<OtlpReader>> Open(std::string_view body, OtlpForm form);
  virtual ~OtlpReader() = default;

  // The next span; nullptr after the last. It lives until the next call. `whole` false: only what identifies it.
  virtual Result<const SpanRow*> Next(bool whole = true) = 0;
  virtual void Rewind() = 0;

  // What the span read last says of itself or its trace, as spanbox/score.h has it.
  virtual std::span<const SpanRow> scores() const = 0;

  std::uint64_t rejected() const { return rejected_; }         // spans left out since Rewind
  const std::string& rejection() const { return rejection_; }  // why the first of them

 protected:
  void Reject(std::string why) {
    if (rejected_++ == 0) rejection_ = std::move(why);
  }
  void ForgetRejected() {
    rejected_ = 0;
    rejection_.clear();
  }

 private:
  std::uint64_t rejected_ = 0;
  std::string rejection_;
};

// Rows that follow each other with the same resource and scope are written under one.
class OtlpWriter {
 public:
  // `openinference`: adds the names that Phoenix and its like read.
  OtlpWriter(OtlpForm form, bool openinference);
  ~OtlpWriter();

  void Add(const SpanRow& row);
  std::string Finish();  // an ExportTraceServiceRequest

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

struct OtlpReceipt {
  std::uint64_t stored = 0;
  std::uint64_t duplicates = 0;  // in the store already, or twice in the body
  std::uint64_t rejected = 0;
  std::string message;  // why the first was rejected
};
// Stores the spans of a body and their scores; what it counts as stored survives power loss. Senders send again what
// they have no answer for: a span whose trace id and span id the store has is not stored twice.
Result<OtlpReceipt> ReceiveOtlp(Store& store, std::string_view body, OtlpForm form, const RedactValue& redact = {});

}  // namespace spanbox
