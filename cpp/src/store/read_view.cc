#include "store/read_view.h"

#include <functional>

#include "base/record_codec.h"
#include "store/cell_runs.h"
#include "store/store_impl.h"

namespace spanbox {
namespace {

class StoreReadView : public ReadView {
 public:
  StoreReadView(std::unique_ptr<ReadTxn> txn, std::shared_ptr<const SegmentsOfStore> stored)
      : txn_(std::move(txn)), stored_(std::move(stored)), metas_(stored_->segments.metas) {}

  Status Fill() { return FillOpen(); }

  std::span<const SegmentMeta> segments() const override { return metas_; }
  std::span<const SegmentMeta> scores() const override { return stored_->scores.metas; }
  std::span<const SegmentMeta> rollups() const override { return stored_->rollups.metas; }
  Result<Segment> LoadRollup(const SegmentMeta& rollup) override { return LoadFrom(stored_->rollups, rollup); }

  Result<Segment> Load(const SegmentMeta& segment) override {
    if (segment.id == 0) {
      return Segment::Open(AsBytes(open_.columns),
                           [this](std::uint32_t block) -> Result<Bytes> { return AsBytes(open_.text_blocks[block]); });
    }
    auto loaded = LoadFrom(stored_->segments, segment);
    return loaded.status().code() == StatusCode::kNotFound ? LoadFrom(stored_->scores, segment) : std::move(loaded);
  }

  bool MayHold(const SegmentMeta& segment, const TraceId& trace) const override {
    if (!segment.MayHold(trace)) return false;
    for (const SegmentList* list : {&stored_->segments, &stored_->scores}) {
      const std::size_t at = Find(*list, segment);
      if (at != SegmentList::kNone) return list->memories[at]->MayHold(TraceSieve::HashOf(trace));
    }
    return true;
  }

  std::vector<const SegmentMeta*> Holders(const TraceId& trace) const override {
    const std::uint64_t prefix = TracePrefix(trace), hash = TraceSieve::HashOf(trace);
    const auto& memories = stored_->segments.memories;
    std::vector<const SegmentMeta*> holders;
    for (std::size_t i = 0; i < metas_.size(); ++i) {
      if (prefix < metas_[i].min_trace || prefix > metas_[i].max_trace) continue;
      if (i >= memories.size() || memories[i]->MayHold(hash)) holders.push_back(&metas_[i]);
    }
    return holders;
  }

  Result<CellsValue> LoadCells(const SegmentMeta& segment) override {
    const std::size_t at = Find(stored_->segments, segment);
    if (at == SegmentList::kNone) return CellsValue{};
    SPANBOX_ASSIGN_OR_RETURN(const Bytes bytes, spanbox::LoadCells(*txn_, stored_->segments.records[at]));
    return CellsValue{bytes, &stored_->segments.memories[at]->cells_verified()};
  }

  std::span<const RunMeta> runs() const override { return stored_->runs.metas; }
  Result<CellsValue> LoadRun(std::size_t i) override {
    const std::string& key = stored_->runs.keys[i];
    SPANBOX_ASSIGN_OR_RETURN(const auto value, txn_->Get(Table::kRuns, key));
    if (!value) return NotFound("a run of cells is gone");
    SPANBOX_ASSIGN_OR_RETURN(const CellRun run, ParseRun(key, *value));
    return CellsValue{run.cells, &stored_->runs.memories[i]->cells_verified()};
  }

 private:
  // Most are asked for by a reference into metas_.
  std::size_t Find(const SegmentList& list, const SegmentMeta& segment) const {
    const bool among =
        !std::less<>()(&segment, metas_.data()) && std::less<>()(&segment, metas_.data() + metas_.size());
    const auto at = among ? static_cast<std::size_t>(&segment - metas_.data()) : SegmentList::kNone;
    return &list == &stored_->segments && at < list.metas.size() ? at : list.Find(segment.id);
  }

  Result<Segment> LoadFrom(const SegmentList& list, const SegmentMeta& segment) {
    const std::size_t at = Find(list, segment);
    if (at == SegmentList::kNone) return NotFound("segment " + std::to_string(segment.id) + " is not in this view");
    return LoadSegment(*txn_, list.records[at], list.memories[at]);
  }

  // Spans that have started and not ended, each in one or more parts. One that does not decode is left out: Verify
  // names it.
  Status FillOpen() {
    SegmentBuilder& builder = ThreadBuilder();
    std::string_view span;  // its prefix of the key
    std::vector<RecordView> records;
    bool whole = true;
    RowArena arena;
    const auto add = [&] {
      arena.Reset();
      const auto row = AssembleWholeSpan(records, arena);
      if (whole && row.ok() && row->trace_id.is_valid()) builder.Add(*row);
      records.clear();
      whole = true;
    };
    SPANBOX_RETURN_IF_ERROR(txn_->Scan(Table::kOpen, {}, [&](std::string_view key, Bytes value) -> Result<bool> {
      if (OpenPrefixOf(key) != span) add();
      span = OpenPrefixOf(key);
      const auto bytes = ParseOpen(value);
      const auto part = bytes.ok() ? ParseOpenRecords(*bytes) : bytes.status();
      whole &= part.ok();
      if (part.ok()) records.insert(records.end(), part->begin(), part->end());
      return true;
    }));
    add();
    if (builder.rows() == 0) return OkStatus();
    open_ = builder.Finish();
    with_open_.assign(metas_.begin(), metas_.end());
    with_open_.push_back({0, open_.rows, open_.min_start_ns, open_.max_start_ns, open_.min_trace, open_.max_trace});
    metas_ = with_open_;
    return OkStatus();
  }

  std::unique_ptr<ReadTxn> txn_;
  std::shared_ptr<const SegmentsOfStore> stored_;
  std::span<const SegmentMeta> metas_;  // the stored ones, or with_open_
  std::vector<SegmentMeta> with_open_;
  SegmentBuilder::Encoded open_;
};

}  // namespace

std::vector<const SegmentMeta*> ReadView::Holders(const TraceId& trace) const {
  std::vector<const SegmentMeta*> holders;
  for (const SegmentMeta& segment : segments()) {
    if (MayHold(segment, trace)) holders.push_back(&segment);
  }
  return holders;
}

Result<std::unique_ptr<ReadView>> Store::ReadAgain() { return Read(); }

Result<std::unique_ptr<ReadView>> StoreImpl::ViewOf(Env::Wait wait) {
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  SPANBOX_ASSIGN_OR_RETURN(auto txn, env->Read(wait));
  SPANBOX_ASSIGN_OR_RETURN(auto stored, segment_lists_->Read(*txn));
  auto view = std::make_unique<StoreReadView>(std::move(txn), std::move(stored));
  SPANBOX_RETURN_IF_ERROR(view->Fill());
  return std::unique_ptr<ReadView>(std::move(view));
}

}  // namespace spanbox
