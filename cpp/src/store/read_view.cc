#include "store/read_view.h"

#include <algorithm>

#include "base/record_codec.h"
#include "store/store_impl.h"

namespace spanbox {
namespace {

class StoreReadView : public ReadView {
 public:
  explicit StoreReadView(std::unique_ptr<ReadTxn> txn) : txn_(std::move(txn)) {}

  Status Fill() {
    SPANBOX_RETURN_IF_ERROR(FillFrom(Table::kSegments, metas_, records_));
    SPANBOX_RETURN_IF_ERROR(FillFrom(Table::kRollups, rollup_metas_, rollup_records_));
    SPANBOX_RETURN_IF_ERROR(FillFrom(Table::kScores, score_metas_, score_records_));
    return FillOpen();
  }

  std::span<const SegmentMeta> segments() const override { return metas_; }
  std::span<const SegmentMeta> scores() const override { return score_metas_; }
  std::span<const SegmentMeta> rollups() const override { return rollup_metas_; }
  Result<Segment> LoadRollup(const SegmentMeta& rollup) override { return LoadFrom(rollup_records_, rollup.id); }

  Result<Segment> Load(const SegmentMeta& segment) override {
    if (segment.id == 0) {
      return Segment::Open(AsBytes(open_.columns),
                           [this](std::uint32_t block) -> Result<Bytes> { return AsBytes(open_.text_blocks[block]); });
    }
    auto loaded = LoadFrom(records_, segment.id);
    return loaded.status().code() == StatusCode::kNotFound ? LoadFrom(score_records_, segment.id) : std::move(loaded);
  }

  Result<std::span<const std::byte>> LoadCells(const SegmentMeta& segment) override {
    const SegmentRecord* record = Find(records_, segment.id);
    return record == nullptr ? Result<Bytes>(Bytes()) : spanbox::LoadCells(*txn_, *record);
  }

 private:
  Status FillFrom(Table table, std::vector<SegmentMeta>& metas, std::vector<SegmentRecord>& records) {
    return ForEachSegment(*txn_, table, [&](SegmentRecord record) {
      metas.push_back(record.meta);
      records.push_back(std::move(record));
      return OkStatus();
    });
  }

  static const SegmentRecord* Find(const std::vector<SegmentRecord>& records, std::uint64_t id) {
    const auto found = std::ranges::lower_bound(records, id, {}, [](const SegmentRecord& r) { return r.meta.id; });
    return found == records.end() || found->meta.id != id ? nullptr : &*found;
  }

  Result<Segment> LoadFrom(const std::vector<SegmentRecord>& records, std::uint64_t id) {
    const SegmentRecord* record = Find(records, id);
    if (record == nullptr) return NotFound("segment " + std::to_string(id) + " is not in this view");
    return LoadSegment(*txn_, *record);
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
      const auto row = AssembleSpan(records, arena);
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
    metas_.push_back({0, open_.rows, open_.min_start_ns, open_.max_start_ns, open_.min_trace, open_.max_trace});
    return OkStatus();
  }

  std::unique_ptr<ReadTxn> txn_;
  std::vector<SegmentMeta> metas_, rollup_metas_, score_metas_;
  std::vector<SegmentRecord> records_, rollup_records_, score_records_;
  SegmentBuilder::Encoded open_;
};

}  // namespace

Result<std::unique_ptr<ReadView>> Store::ReadAgain() { return Read(); }

Result<std::unique_ptr<ReadView>> StoreImpl::ViewOf(Env::Wait wait) {
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  SPANBOX_ASSIGN_OR_RETURN(auto txn, env->Read(wait));
  auto view = std::make_unique<StoreReadView>(std::move(txn));
  SPANBOX_RETURN_IF_ERROR(view->Fill());
  return std::unique_ptr<ReadView>(std::move(view));
}

}  // namespace spanbox
