// Joins the records of spans, which may come from several lanes and in any order between lanes, into rows. Scores and
// pieces of blobs pass through: a score is stored whatever becomes of its span.
//
// A span whose START and END come in one batch goes straight from the ring into the batch. Any other waits in the open
// table, and its records so far are part of the batch, so that the cursor may pass them.
//
// Thread rule: one thread at a time. Ownership: owns the open table and what decoding makes; a batch it filled borrows
// from it and from the ring until the next Begin.
// Invariants:
//   1. A span is put into exactly one batch's `spans`.
//   2. With a sampler, spans of undecided traces stay in the open table until the verdict.
//   3. What a batch's `open` and `closed` leave behind in the exporter is the open table as of that batch.
// Units: bytes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/record_codec.h"
#include "record/sampler.h"
#include "spanbox/exporter.h"

namespace spanbox {

class SpanJoiner {
 public:
  // `sampler`: decides which spans are kept; nullptr: all are.
  SpanJoiner(std::string release, std::string environment, TraceSampler* sampler = nullptr)
      : release_(std::move(release)), environment_(std::move(environment)), sampler_(sampler) {}

  // Recovery: the open spans stored by the dead process. Malformed ones are counted as undecodable.
  void Restore(const std::map<SpanId, std::string>& open);

  // What was held may be completed from now on. Call at the start of a pass over all lanes.
  void ReleaseHeld();

  // Starts a batch. REQUIRES: the one before is committed, or never will be.
  void Begin();
  // `held`: an END that may not complete its span before the next pass, because records that came before it in time
  // may not have been seen yet.
  void Add(const RecordView& record, bool held);
  // Appends to spans, sampled_out, scores, open, closed and blobs of `batch`. `all_seen`: every record of the pass has
  // been added, so that traces may be decided.
  void Finish(SpanBatch& batch, bool all_seen = false);

  // These four want a batch of their own, begun with Begin and not finished with Finish.
  // At most `max_spans` spans without END become interrupted. `alive_ns`: wall time when their process was last alive;
  // 0: not known. Returns true when there are more.
  bool InterruptAll(SpanBatch& batch, std::int64_t alive_ns, std::size_t max_spans);
  // The same for one span whose END was dropped.
  void Interrupt(SpanId span, SpanBatch& batch);
  // Forgets records that have waited for a START since before the last round. REQUIRES: every lane was drained since.
  void ExpireOrphans(SpanBatch& batch);
  // Decides traces that can be, or have waited too long. REQUIRES: every lane was drained in this pass.
  void Decide(SpanBatch& batch);

  struct Counters {
    std::uint64_t ended = 0;           // rows made from an END
    std::uint64_t sampled_out = 0;     // of all rows: those that were not kept
    std::uint64_t interrupted = 0;     // rows made without one
    std::uint64_t discarded_ends = 0;  // ENDs that made no row: their START was dropped, or they came twice
    std::uint64_t undecodable = 0;     // spans whose records are malformed
  };
  const Counters& counters() const { return counters_; }
  std::uint64_t open_spans() const { return open_spans_; }
  bool has_held() const { return !held_.empty(); }
  bool has_ready() const { return !ready_.empty(); }
  // Wall time of the last thing a record told.
  std::int64_t last_record_ns() const { return last_record_ns_; }

 private:
  struct Partial {
    std::string records;  // as in OpenSpan
    bool has_start = false, has_end = false;
    bool done = false;       // its row is in the batch; erased at the next Begin
    bool undecided = false;  // complete, and its trace waits for a verdict
    std::uint64_t round = 0;
  };
  struct Link {  // the records of one span within the batch are a list
    RecordView record;
    std::uint32_t next;
  };
  struct Slot {  // of a flat hash table, cleared every batch
    SpanId span = 0;
    std::uint32_t first = 0, last = 0;
    std::uint32_t starts = 0, ends = 0;
    bool held = false;
    bool used = false;
  };

  struct Pending {  // a span of this batch that waits for a verdict
    SpanId span = 0;
    std::uint32_t first = 0;  // of its records in the batch
    SpanRow row;
    bool done = false;
  };

  std::size_t PlaceOf(SpanId span) const;  // where it is, or would be. The table is never more than half full
  Slot& SlotOf(SpanId span);               // made when there is none. REQUIRES: room in the table
  void GrowTable();
  void FinishSpan(const Slot& slot, SpanBatch& batch);
  void FinishReady(SpanBatch& batch);
  Slot* FindSlot(SpanId span);
  void Gather(const Partial* partial, const Slot* slot);  // into scratch_
  Result<SpanRow> AssembleGathered();
  bool Emit(SpanId span, std::uint32_t first, SpanBatch& batch);
  void Put(const SpanRow& row, bool keep, SpanBatch& batch);
  void PutComplete(const Partial& partial, bool keep, SpanBatch& batch);
  void TellStart(const RecordView& record);
  void TellStarts();
  void AppendRecords(SpanId span, Partial& partial, std::uint32_t first, SpanBatch& batch);
  void Wait(SpanId span, std::uint32_t first, SpanBatch& batch);
  void EmitInterrupted(SpanId span, Partial& partial, std::int64_t alive_ns, SpanBatch& batch);
  void Close(SpanId span, Partial& partial, SpanBatch& batch);
  void AddProcessFields(SpanRow& row);
  void AddBlob(const RecordView& record);
  void AddScore(const RecordView& record);
  void NoteTime(std::int64_t wall_ns) { last_record_ns_ = std::max(last_record_ns_, wall_ns); }

  const std::string release_, environment_;
  TraceSampler* const sampler_;
  std::unordered_map<SpanId, Partial> open_;
  std::vector<SpanId> held_;       // complete, to be emitted in the next pass
  std::vector<SpanId> ready_;      // complete, to be emitted in the next batch
  std::vector<SpanId> startless_;  // in open_ without a START when they came
  std::vector<SpanId> done_;       // to erase at the next Begin
  std::vector<Link> links_;
  std::vector<Slot> table_;
  std::vector<std::uint32_t> order_;  // used slots, in the order of first sight
  std::vector<RecordView> scratch_;
  std::vector<Pending> pending_;
  std::vector<BlobPiece> blobs_;
  std::vector<SpanRow> scores_;
  RowArena arena_;
  Counters counters_;
  std::uint64_t open_spans_ = 0;  // in open_, with START and without END
  std::uint64_t round_ = 1;
  std::int64_t last_record_ns_ = 0;
  std::int64_t now_ns_ = 0;  // when the batch began, if there is a sampler
};

}  // namespace spanbox
