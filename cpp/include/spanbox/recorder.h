// Records spans: a memory-mapped ring on the caller's side, a collector thread behind it. docs/recorder.md tells how.
//
// Thread rule: every method of Recorder may be called from any thread at any time, also while another thread forks.
// Ownership: the recorder holds the exporter until it is destroyed. Arguments are copied before a call returns.
// Invariants:
//   1. When End returns true, the span survives the death of the process by any signal.
//   2. It reaches the exporter exactly once.
//   3. No call throws, and none but Flush waits longer than RecorderOptions::max_wait_ns (policy kBlock aside).
//   4. recorded == stored + waiting in the ring + dropped, at every quiescent point.
//   5. After fork the child has a ring of its own from its first span on; the parent's is untouched.
// Units: nanoseconds, bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "spanbox/blob.h"
#include "spanbox/exporter.h"
#include "spanbox/options.h"
#include "spanbox/span.h"
#include "spanbox/status.h"

namespace spanbox {

// Persisted in rings: never renumber.
enum class RecordType : std::uint8_t {
  kStart = 1,   // a span begins: identity, name, kind, start, captured input, inherited tags
  kEnd = 2,     // it ends: status, duration, captured output, attributes
  kFields = 3,  // attributes set in between
  kBlob = 4,    // a piece of a blob; written by PutBlob
  kScore = 5,   // a score: see spanbox/score.h
};

struct Health {
  std::uint64_t recorded_spans = 0;     // spans whose end was accepted by this process, or dropped
  std::uint64_t stored_spans = 0;       // handed to the exporter and committed
  std::uint64_t sampled_out_spans = 0;  // of those: stored as counts, sums and sketches only
  std::uint64_t dropped_spans = 0;      // exact, and never silent: no room in time, or no ring to be had
  std::uint64_t dropped_bytes = 0;
  std::uint64_t degraded_records = 0;  // STARTs and ENDs that found room only with their long texts cut
  std::uint64_t open_spans = 0;        // started, not ended, as the collector last saw them
  std::uint64_t waiting_bytes = 0;     // in the rings, not yet stored
  std::uint64_t ring_bytes = 0;        // size of all ring files of this process
  std::int64_t lag_ns = 0;             // age of the oldest record not yet stored; 0 when all is stored
  std::uint64_t commits = 0;
  std::uint64_t commit_failures = 0;
  bool collector_alive = false;
  std::uint64_t collector_restarts = 0;  // collectors that ended or hung, and were replaced
  bool crash_safe = true;  // false: no ring file can be made, spans wait in memory and die with the process
  std::string last_error;  // of the collector or of the rings, or why it was replaced; empty when all has gone well
};

struct FlushResult {
  bool complete = false;            // everything acknowledged before the call is stored
  std::uint64_t waiting_bytes = 0;  // what is not, if it is not
};

using ExporterFactory = std::function<Result<std::shared_ptr<SpanExporter>>()>;

class Recorder {
 public:
  // `ring_dir`: an existing directory (mode 0700) for the ring files. Starts no thread and makes no file before the
  // first record. Dead rings found in the directory are recovered by the collector, see also RecoverRings.
  // `make_exporter` is called by the collector thread when it starts: after the first record of this process, and again
  // after the first record of each forked child, which must not use its parent's exporter. When it fails, records wait
  // in the ring and it is called again.
  static Result<std::unique_ptr<Recorder>> Open(ExporterFactory make_exporter, std::string ring_dir,
                                                const RecorderOptions& options);
  // With an exporter that is ready, and is used in forked children too: for exporters that survive a fork.
  static Result<std::unique_ptr<Recorder>> Open(std::shared_ptr<SpanExporter> exporter, std::string ring_dir,
                                                const RecorderOptions& options);
  virtual ~Recorder() = default;  // commits what is in the ring (bounded), stops the collector, removes its ring files

  // Writes one record whose payload was made with base/record_codec.h. The return is the acknowledgement: true, the
  // record survives the death of the process; false, it was dropped and counted. A payload larger than MaxPayloadBytes
  // is dropped and counted. No allocation, no lock, no system call unless the lane is half full.
  // A dropped kStart or kEnd counts as one dropped span. So that a span is counted once, write no kFields and no kEnd
  // after a kStart that was dropped (they would be discarded). When the kEnd is dropped, what is known of the span is
  // stored as interrupted, and counts as dropped, not as stored.
  virtual bool Append(RecordType type, std::span<const std::byte> payload) noexcept = 0;

  // The largest payload Append accepts: a quarter of a lane. Writers cut captured values to fit.
  virtual std::size_t MaxPayloadBytes() const noexcept = 0;

  // Writes a payload of any size in pieces; `id` is BlobIdOf(content). The return is the acknowledgement, as with
  // Append. Under kWait it may wait max_wait_ns for every piece, in sum. When there is no room in time the rest is not
  // written, and counted in dropped_bytes. A blob that was accepted a moment ago is not written again.
  virtual bool PutBlob(const BlobId& id, std::span<const std::byte> content) noexcept = 0;

  // Start, Fields, End and Score encode their arguments and call Append.
  bool Start(const SpanRow& span) noexcept;  // status and duration are ignored
  bool Fields(SpanId span, std::span<const Field> fields) noexcept;
  bool End(SpanId span, SpanStatus status, std::int64_t duration_ns, std::span<const Field> fields) noexcept;

  bool Score(const SpanRow& score) noexcept;  // see spanbox/score.h; a dropped one counts in dropped_bytes

  // Stores everything acknowledged before the call, waiting at most `timeout_ns`. Does the collector's work itself
  // when the collector is not running.
  virtual FlushResult Flush(std::int64_t timeout_ns) noexcept = 0;

  virtual Health GetHealth() const = 0;
};

struct RecoveryReport {
  std::uint64_t rings = 0;              // dead rings emptied and removed
  std::uint64_t spans = 0;              // spans stored from them
  std::uint64_t interrupted_spans = 0;  // of those, spans that were still open
  std::uint64_t damaged_rings = 0;      // moved to ring_dir/quarantine after storing what could be read
};

// Stores the spans of every ring in `ring_dir` whose process has died, then removes the ring. Rings of living processes
// are left alone (liveness is the flock their mapping holds). Safe to call from several processes at once.
// Also looks into the folders that RingDirElsewhere has noted in `ring_dir`.
Result<RecoveryReport> RecoverRings(SpanExporter& exporter, const std::string& ring_dir);

// Makes a folder for the rings that belong into `ring_dir`, inside `elsewhere`: on a tmpfs, say, where writing to
// memory never waits for a disk, and what is not flushed does not survive the machine. Notes it in `ring_dir`, so that
// whoever recovers there finds it. Returns its path, for Recorder::Open; RecorderOptions::recover_dir is then
// `ring_dir`.
Result<std::string> RingDirElsewhere(const std::string& ring_dir, const std::string& elsewhere);

}  // namespace spanbox
