// Where finished spans go. The recorder knows only this interface; the store is one implementation.
//
// Thread rule: Commit and LoadRing are called by one collector per ring (or whoever recovers a dead ring), but for
// different rings, and by a collector that was left behind while it hung, at the same time; DoBackgroundWork comes from
// a thread of its own. Implementations lock for themselves. Ownership: a SpanBatch and all it points to belongs to the
// caller and is valid during the call only. Invariants:
//   1. Commit is atomic and durable: when it returns OK, the spans, the open spans and the cursors are all stored and
//      survive power loss; when it fails, none is.
//   2. A cursor never moves backwards, and a batch out of turn is refused. Exactly-once delivery rests on cursor and
//   turn
//      being stored with the spans.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "spanbox/blob.h"
#include "spanbox/span.h"
#include "spanbox/status.h"

namespace spanbox {

using RingId = std::array<std::uint8_t, 16>;

// How far one lane of one ring has been stored.
struct LaneCursor {
  std::uint32_t lane = 0;
  std::uint64_t position = 0;       // absolute byte position of the first record not yet stored
  std::uint64_t seq = 0;            // sequence number of the last record stored; the first record of a lane is 1
  std::uint64_t dropped_spans = 0;  // the lane's own counters, as last seen
  std::uint64_t dropped_bytes = 0;
};

// Records of a span that has started and not ended: see base/record_codec.h for the bytes.
struct OpenSpan {
  SpanId span_id = 0;
  std::string_view records;
};

struct SpanBatch {
  RingId ring{};
  // Batches of a ring are numbered 1, 2, ...: one whose turn is not one more than the stored one is refused, so that of
  // two who believe to be at work only one stores. 0: not numbered.
  std::uint64_t turn = 0;
  std::vector<SpanRow> spans;        // ended or interrupted
  std::vector<SpanRow> sampled_out;  // ended, and not to be kept: only counted and summed up
  std::vector<SpanRow> scores;  // see spanbox/score.h; of any span, also one that is stored already or never will be
  std::vector<OpenSpan> open;   // what is new of them: it goes behind what is stored already
  std::vector<SpanId> closed;   // no longer open (their spans are in `spans` or `sampled_out`)
  std::vector<LaneCursor> cursors;  // after this batch
  std::vector<BlobPiece> blobs;     // stored once each: what is there already is not written again
  std::string process;              // JSON about the process that wrote the ring; empty: unchanged
  bool retire = false;              // the ring is finished: forget cursors and open spans, remember its id
};

// What is stored about one ring.
struct RingState {
  bool retired = false;
  std::uint64_t turn = 0;  // of the last batch
  std::map<std::uint32_t, LaneCursor> cursors;
  std::map<SpanId, std::string> open;  // all their records, as in OpenSpan
};

class SpanExporter {
 public:
  virtual ~SpanExporter() = default;
  virtual Result<RingState> LoadRing(const RingId& ring) = 0;  // an unknown ring: empty state
  virtual Status Commit(const SpanBatch& batch) = 0;

  // Called again and again, also while another thread is in Commit, for work that may wait (merging). Returns true when
  // there is more.
  virtual Result<bool> DoBackgroundWork() { return false; }
};

}  // namespace spanbox
