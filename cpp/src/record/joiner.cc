#include "record/joiner.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/clock.h"

namespace spanbox {
namespace {

constexpr std::uint32_t kNoLink = 0xFFFFFFFF;

// Records of one span as AssembleSpan wants them. Between lanes the order of reading is not the order of writing.
void OrderRecords(std::vector<RecordView>& records) {
  const auto rank = [](const RecordView& record) {
    if (record.type == RecordType::kStart) return 0;
    return record.type == RecordType::kFields ? 1 : 2;
  };
  if (std::ranges::is_sorted(records, {}, rank)) return;
  std::ranges::stable_sort(records, {}, rank);
}

}  // namespace

void SpanJoiner::Restore(const std::map<SpanId, std::string>& open) {
  if (sampler_ != nullptr) now_ns_ = MonotonicNowNs();
  for (const auto& [span, records] : open) {
    const auto views = ParseOpenRecords(records);
    if (!views.ok()) {
      ++counters_.undecodable;
      continue;
    }
    Partial& partial = open_[span];
    partial.records = records;
    for (const RecordView& view : *views) {
      partial.has_start |= view.type == RecordType::kStart;
      partial.has_end |= view.type == RecordType::kEnd;
    }
    partial.round = round_;
    for (const RecordView& view : *views) TellStart(view);
    if (!partial.has_start) startless_.push_back(span);
    if (partial.has_start && partial.has_end) ready_.push_back(span);
    if (partial.has_start && !partial.has_end) ++open_spans_;
  }
}

void SpanJoiner::ReleaseHeld() {
  ready_.insert(ready_.end(), held_.begin(), held_.end());
  held_.clear();
}

void SpanJoiner::Begin() {
  for (const SpanId span : done_) open_.erase(span);
  done_.clear();
  arena_.Reset();
  blobs_.clear();
  scores_.clear();
  links_.clear();
  for (const std::uint32_t at : order_) table_[at] = Slot{};
  order_.clear();
  pending_.clear();
  if (sampler_ != nullptr) now_ns_ = MonotonicNowNs();
  if (table_.empty()) table_.resize(1024);
}

void SpanJoiner::AddBlob(const RecordView& record) {
  const auto piece = ParseBlobRecord(record.payload);
  if (piece.ok()) blobs_.push_back(*piece);
}

void SpanJoiner::AddScore(const RecordView& record) {
  const auto row = ParseScore(record, arena_);
  if (!row.ok() || !row->trace_id.is_valid()) return;
  NoteTime(row->start_ns);
  scores_.push_back(*row);
}

void SpanJoiner::Add(const RecordView& record, bool held) {
  if (record.type == RecordType::kBlob) return AddBlob(record);
  if (record.type == RecordType::kScore) return AddScore(record);
  const auto span = SpanIdOf(record);
  if (!span.ok()) {
    ++counters_.undecodable;
    if (record.type == RecordType::kEnd) ++counters_.discarded_ends;
    return;
  }
  if (2 * (order_.size() + 1) > table_.size()) GrowTable();
  Slot& slot = SlotOf(*span);
  const auto at = static_cast<std::uint32_t>(links_.size());
  links_.push_back({record, kNoLink});
  if (slot.first == kNoLink) {
    slot.first = at;
  } else {
    links_[slot.last].next = at;
  }
  slot.last = at;
  if (record.type == RecordType::kStart) ++slot.starts;
  if (record.type == RecordType::kEnd) {
    ++slot.ends;
    slot.held |= held;
  }
}

std::size_t SpanJoiner::PlaceOf(SpanId span) const {
  const std::size_t mask = table_.size() - 1;
  std::size_t at = (span * 0x9E3779B97F4A7C15u >> 20) & mask;
  while (table_[at].used && table_[at].span != span) at = (at + 1) & mask;
  return at;
}

SpanJoiner::Slot& SpanJoiner::SlotOf(SpanId span) {
  const std::size_t at = PlaceOf(span);
  Slot& slot = table_[at];
  if (!slot.used) {
    slot = {span, kNoLink, kNoLink, 0, 0, false, true};
    order_.push_back(static_cast<std::uint32_t>(at));
  }
  return slot;
}

SpanJoiner::Slot* SpanJoiner::FindSlot(SpanId span) {
  Slot& slot = table_[PlaceOf(span)];
  return slot.used ? &slot : nullptr;
}

void SpanJoiner::GrowTable() {
  const std::vector<Slot> old = std::move(table_);
  const std::vector<std::uint32_t> old_order = std::move(order_);
  table_.assign(old.size() * 2, Slot{});
  order_.clear();
  for (const std::uint32_t at : old_order) SlotOf(old[at].span) = old[at];
}

void SpanJoiner::Finish(SpanBatch& batch, bool all_seen) {
  batch.blobs = blobs_;
  batch.scores = scores_;
  if (sampler_ != nullptr) TellStarts();
  FinishReady(batch);
  for (const std::uint32_t at : order_) FinishSpan(table_[at], batch);
  if (sampler_ == nullptr) return;
  if (all_seen) Decide(batch);
  for (const Pending& pending : pending_) {
    if (!pending.done) Wait(pending.span, pending.first, batch);
  }
}

void SpanJoiner::TellStart(const RecordView& record) {
  constexpr std::size_t kNameAt = 43;
  if (sampler_ == nullptr || record.type != RecordType::kStart || record.payload.size() < kNameAt) return;
  ByteReader in(record.payload);
  TraceId trace;
  std::memcpy(trace.bytes.data(), in.GetBytes(trace.bytes.size()).data(), trace.bytes.size());
  in.Get<SpanId>();
  const auto parent = in.Get<SpanId>();
  const auto start_ns = in.Get<std::int64_t>();
  in.Get<std::uint8_t>();
  sampler_->Started(trace, parent, start_ns, in.GetText(in.Get<std::uint16_t>()), now_ns_);
}

void SpanJoiner::TellStarts() {
  for (const std::uint32_t at : order_) {
    const Slot& slot = table_[at];
    if (slot.starts == 0) continue;
    const auto known = open_.find(slot.span);
    if (known != open_.end() && (known->second.has_start || known->second.done)) continue;
    std::uint32_t link = slot.first;
    while (links_[link].record.type != RecordType::kStart) link = links_[link].next;
    TellStart(links_[link].record);
  }
}

void SpanJoiner::FinishReady(SpanBatch& batch) {
  for (const SpanId span : std::exchange(ready_, {})) {
    const auto found = open_.find(span);
    if (found == open_.end() || found->second.done) continue;
    Partial& partial = found->second;
    Gather(&partial, nullptr);
    std::uint32_t first = kNoLink;
    if (Slot* slot = FindSlot(span)) {
      // Records that came since belong to it too.
      Gather(nullptr, slot);
      counters_.discarded_ends += slot->ends;
      first = std::exchange(slot->first, kNoLink);
    }
    if (Emit(span, first, batch)) Close(span, partial, batch);
  }
}

void SpanJoiner::FinishSpan(const Slot& slot, SpanBatch& batch) {
  if (slot.first == kNoLink) return;
  const auto found = open_.find(slot.span);
  Partial* partial = found == open_.end() || found->second.done ? nullptr : &found->second;
  if (slot.ends > 1) counters_.discarded_ends += slot.ends - 1;
  const bool has_start = slot.starts > 0 || (partial != nullptr && partial->has_start);
  const bool has_end = slot.ends > 0 || (partial != nullptr && partial->has_end);
  if (slot.ends > 0 && partial != nullptr && partial->has_end) ++counters_.discarded_ends;

  if (partial != nullptr && partial->undecided) return Wait(slot.span, slot.first, batch);
  if (has_start && has_end && !slot.held) {
    Gather(partial, &slot);
    const bool emitted = Emit(slot.span, slot.first, batch);
    if (emitted && partial != nullptr) Close(slot.span, *partial, batch);
    return;
  }

  if (found != open_.end() && found->second.done) {
    // The span is complete in this very batch; what comes after its END changes nothing.
    counters_.discarded_ends += slot.ends;
    return;
  }
  Partial& waiting = open_[slot.span];
  if (partial == nullptr) {
    waiting.round = round_;
    if (!has_start) startless_.push_back(slot.span);
  }
  const bool was_open = waiting.has_start && !waiting.has_end;
  AppendRecords(slot.span, waiting, slot.first, batch);
  waiting.has_start = has_start;
  waiting.has_end = has_end;
  open_spans_ += (has_start && !has_end) - was_open;
  // By the END now, or by a START whose END was seen earlier and was not yet allowed to.
  if (has_start && has_end && slot.held) held_.push_back(slot.span);
}

// To what is known of the span, and to the batch.
void SpanJoiner::AppendRecords(SpanId span, Partial& partial, std::uint32_t first, SpanBatch& batch) {
  if (first == kNoLink) return;
  const std::size_t known = partial.records.size();
  for (std::uint32_t link = first; link != kNoLink; link = links_[link].next) {
    const RecordView& record = links_[link].record;
    AppendOpenRecord(record, partial.records);
    if (record.type == RecordType::kStart && record.payload.size() >= 40) {
      std::int64_t start_ns;
      std::memcpy(&start_ns, record.payload.data() + 32, sizeof start_ns);
      NoteTime(start_ns);
    }
  }
  batch.open.push_back({span, std::string_view(partial.records).substr(known)});
}

// Complete, and not yet decided.
void SpanJoiner::Wait(SpanId span, std::uint32_t first, SpanBatch& batch) {
  Partial& partial = open_[span];
  if (partial.has_start && !partial.has_end) --open_spans_;
  AppendRecords(span, partial, first, batch);
  partial.has_start = partial.has_end = partial.undecided = true;
}

void SpanJoiner::Decide(SpanBatch& batch) {
  if (sampler_ == nullptr) return;
  const auto decisions = sampler_->Decide(now_ns_);
  if (decisions.empty()) return;
  std::unordered_map<SpanId, Pending*> here;
  for (Pending& pending : pending_) here[pending.span] = &pending;
  for (const auto& [keep, spans] : decisions) {
    for (const SpanId span : spans) {
      const auto known = open_.find(span);
      if (const auto found = here.find(span); found != here.end()) {
        found->second->done = true;
        ++counters_.ended;
        Put(found->second->row, keep, batch);
      } else if (known != open_.end() && !known->second.done) {
        PutComplete(known->second, keep, batch);
      }
      if (known != open_.end() && !known->second.done) Close(span, known->second, batch);
    }
  }
}

void SpanJoiner::Gather(const Partial* partial, const Slot* slot) {
  if (partial != nullptr) {
    if (const auto views = ParseOpenRecords(partial->records); views.ok()) {
      scratch_.insert(scratch_.end(), views->begin(), views->end());
    }
  }
  if (slot == nullptr) return;
  for (std::uint32_t link = slot->first; link != kNoLink; link = links_[link].next) {
    scratch_.push_back(links_[link].record);
  }
}

Result<SpanRow> SpanJoiner::AssembleGathered() {
  OrderRecords(scratch_);
  auto row = AssembleWholeSpan(scratch_, arena_);
  scratch_.clear();
  if (row.ok()) AddProcessFields(*row);
  return row;
}

// What was gathered of a complete span. False: it waits for a verdict. `first`: of its records in this batch.
bool SpanJoiner::Emit(SpanId span, std::uint32_t first, SpanBatch& batch) {
  std::uint64_t bytes = 0;
  for (const RecordView& record : scratch_) bytes += record.payload.size();
  auto row = AssembleGathered();
  if (!row.ok()) {
    ++counters_.undecodable;
    ++counters_.discarded_ends;
    return true;
  }
  NoteTime(row->start_ns + std::max<std::int64_t>(row->duration_ns, 0));
  const auto verdict = sampler_ != nullptr ? sampler_->Ended(*row, bytes, now_ns_) : TraceSampler::Verdict::kKeep;
  if (verdict == TraceSampler::Verdict::kWait) {
    pending_.push_back({span, first, *row});
    return false;
  }
  ++counters_.ended;
  Put(*row, verdict == TraceSampler::Verdict::kKeep, batch);
  return true;
}

void SpanJoiner::PutComplete(const Partial& partial, bool keep, SpanBatch& batch) {
  Gather(&partial, nullptr);
  const auto row = AssembleGathered();
  ++(row.ok() ? counters_.ended : counters_.undecodable);
  if (row.ok()) Put(*row, keep, batch);
}

void SpanJoiner::Put(const SpanRow& row, bool keep, SpanBatch& batch) {
  if (!keep) ++counters_.sampled_out;
  (keep ? batch.spans : batch.sampled_out).push_back(row);
}

void SpanJoiner::AddProcessFields(SpanRow& row) {
  if (release_.empty() && environment_.empty()) return;
  std::vector<Field>& fields = arena_.NewFields();
  // First, so that what the span says itself wins.
  if (!release_.empty()) fields.push_back({Column::kRelease, {}, Value::String(release_)});
  if (!environment_.empty()) fields.push_back({Column::kEnvironment, {}, Value::String(environment_)});
  fields.insert(fields.end(), row.fields.begin(), row.fields.end());
  row.fields = fields;
}

void SpanJoiner::Close(SpanId span, Partial& partial, SpanBatch& batch) {
  if (partial.has_start && !partial.has_end) --open_spans_;
  partial.done = true;
  done_.push_back(span);
  batch.closed.push_back(span);
}

void SpanJoiner::EmitInterrupted(SpanId span, Partial& partial, std::int64_t alive_ns, SpanBatch& batch) {
  Gather(&partial, nullptr);
  auto row = AssembleGathered();
  if (row.ok()) {
    row->status = SpanStatus::kInterrupted;
    row->duration_ns = alive_ns == 0 ? -1 : std::max<std::int64_t>(0, alive_ns - row->start_ns);
    ++counters_.interrupted;
    Put(*row, sampler_ == nullptr || sampler_->Lost(*row) != TraceSampler::Verdict::kDrop, batch);
  } else {
    ++counters_.undecodable;
  }
  Close(span, partial, batch);
}

bool SpanJoiner::InterruptAll(SpanBatch& batch, std::int64_t alive_ns, std::size_t max_spans) {
  for (auto& [span, partial] : open_) {
    if (partial.done) continue;
    if (max_spans-- == 0) return true;
    if (partial.has_start && partial.has_end) {
      // Its trace was never decided, because something of it still runs: it is kept whole.
      PutComplete(partial, /*keep=*/true, batch);
      Close(span, partial, batch);
    } else if (partial.has_start) {
      EmitInterrupted(span, partial, alive_ns, batch);
    } else {
      counters_.discarded_ends += partial.has_end;
      Close(span, partial, batch);
    }
  }
  return false;
}

void SpanJoiner::Interrupt(SpanId span, SpanBatch& batch) {
  const auto found = open_.find(span);
  if (found == open_.end() || found->second.done) return;
  if (found->second.has_start && !found->second.has_end) EmitInterrupted(span, found->second, 0, batch);
}

void SpanJoiner::ExpireOrphans(SpanBatch& batch) {
  std::erase_if(startless_, [&](SpanId span) {
    const auto found = open_.find(span);
    if (found == open_.end() || found->second.done || found->second.has_start) return true;
    Partial& partial = found->second;
    if (partial.round >= round_) return false;
    counters_.discarded_ends += partial.has_end;
    Close(span, partial, batch);
    return true;
  });
  ++round_;
}

}  // namespace spanbox
