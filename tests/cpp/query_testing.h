// A store in memory for query tests: real segments, no LMDB. Rows are plain values a test can also evaluate itself.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "spanbox/query.h"
#include "spanbox/store.h"
#include "store/read_view.h"
#include "store/segment.h"

namespace spanbox::testing {

struct Json {
  std::string text;
};
using AnyValue = std::variant<bool, std::int64_t, double, std::string, Json>;

struct Row {
  std::uint64_t trace = 1;  // TraceIdOf(trace)
  SpanId span = 1;
  SpanId parent = 0;
  std::string name = "work";
  SpanKind kind = SpanKind::kSpan;
  SpanStatus status = SpanStatus::kOk;
  std::int64_t start_ns = 0;
  std::int64_t duration_ns = -1;
  std::map<std::string, AnyValue> fields;  // column or attribute names
};

inline TraceId TraceIdOf(std::uint64_t number) {
  TraceId id;
  for (int i = 0; i < 8; ++i) id.bytes[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(number >> (56 - 8 * i));
  id.bytes[15] = 1;
  return id;
}

inline Value ValueOf(const AnyValue& value) {
  if (const auto* v = std::get_if<bool>(&value)) return Value::Bool(*v);
  if (const auto* v = std::get_if<std::int64_t>(&value)) return Value::Int(*v);
  if (const auto* v = std::get_if<double>(&value)) return Value::Float(*v);
  if (const auto* v = std::get_if<std::string>(&value)) return Value::String(*v);
  return Value::Json(std::get<Json>(value).text);
}

// The row as the store takes it. Borrows from `row` and `fields`.
inline SpanRow SpanRowOf(const Row& row, std::vector<Field>& fields) {
  fields.clear();
  for (const auto& [name, value] : row.fields) {
    const ColumnInfo* info = FindColumn(name);
    const bool named = info != nullptr && info->name == name;
    fields.push_back({named ? info->column : Column::kAttribute, name, ValueOf(value)});
  }
  return {.trace_id = TraceIdOf(row.trace),
          .span_id = row.span,
          .parent_id = row.parent,
          .name = row.name,
          .kind = row.kind,
          .status = row.status,
          .start_ns = row.start_ns,
          .duration_ns = row.duration_ns,
          .fields = fields};
}

struct BuiltSegment {
  SegmentMeta meta;
  SegmentBuilder::Encoded encoded;
  std::shared_ptr<SegmentMemory> memory = std::make_shared<SegmentMemory>(0);
};

inline std::shared_ptr<const BuiltSegment> Build(std::uint64_t id, const std::vector<Row>& rows) {
  SegmentBuilder builder;
  for (const Row& row : rows) {
    std::vector<Field> fields;
    builder.Add(SpanRowOf(row, fields));
  }
  auto built = std::make_shared<BuiltSegment>();
  built->encoded = builder.Finish();
  const auto& e = built->encoded;
  built->meta.id = id;
  built->meta.rows = e.rows;
  built->meta.min_start_ns = e.min_start_ns;
  built->meta.max_start_ns = e.max_start_ns;
  built->meta.min_trace = e.min_trace;
  built->meta.max_trace = e.max_trace;
  return built;
}

class MemoryStore : public Store {
 public:
  void AddSegment(const std::vector<Row>& rows) { segments_.push_back(Build(next_id_++, rows)); }
  // Rows of scores: see spanbox/score.h.
  void AddScores(const std::vector<Row>& rows) { scores_.push_back(Build(next_id_++, rows)); }
  void SetOpen(const std::vector<Row>& rows) { open_ = Build(0, rows); }
  // As a merge does: the segments with these ids become one with a new id.
  void Merge(const std::vector<std::uint64_t>& ids, const std::vector<Row>& rows) {
    std::erase_if(segments_, [&](const auto& s) { return std::ranges::find(ids, s->meta.id) != ids.end(); });
    segments_.push_back(Build(next_id_++, rows));
  }

  // Bits of all its columns, in views to come.
  void Damage(std::uint64_t id) {
    for (auto& segment : segments_) {
      if (segment->meta.id != id) continue;
      auto damaged = std::make_shared<BuiltSegment>(*segment);
      auto& bytes = damaged->encoded.columns;
      for (std::size_t i = bytes.size() / 8; i < bytes.size(); i += 16) bytes[i] ^= 1;
      segment = std::move(damaged);
    }
  }

  const std::string& path() const override { return path_; }
  std::string ring_dir() const override { return path_; }
  Status Append(std::span<const SpanRow>) override { return Unsupported("memory"); }
  Status Append(const NextRow&, const IngestProgress&) override { return Unsupported("memory"); }
  Status AppendScores(std::span<const SpanRow>) override { return Unsupported("memory"); }
  Result<std::uint64_t> IngestedRows(std::string_view) override { return std::uint64_t{0}; }
  Result<std::unique_ptr<ReadView>> Read() override {
    ++reads;
    std::vector<std::shared_ptr<const BuiltSegment>> all = segments_;
    if (open_ != nullptr) all.push_back(open_);
    return std::unique_ptr<ReadView>(new View(std::move(all), scores_, &loads));
  }
  Result<bool> MergeOnce() override { return false; }
  Status Compact() override { return OkStatus(); }
  Result<Retention> GetRetention() override { return Retention{}; }
  Status SetRetention(const Retention&) override { return Unsupported("memory"); }
  Result<std::uint64_t> DropExpired(std::int64_t) override { return std::uint64_t{0}; }
  Result<std::unique_ptr<StorePause>> Pause() override { return Unsupported("memory"); }
  Status RemoveRows(std::uint64_t, std::span<const std::uint32_t>) override { return Unsupported("memory"); }
  Status RemoveBlob(const BlobId&) override { return Unsupported("memory"); }
  Status WipeFreeSpace() override { return Unsupported("memory"); }
  Status ReleaseFreeSpace() override { return Unsupported("memory"); }
  Status Backup(const std::string&) override { return Unsupported("memory"); }
  Result<StoreInfo> Info() override { return StoreInfo{}; }
  Result<VerifyReport> Verify() override { return VerifyReport{}; }
  Result<std::string> ReadBlob(const BlobId&) override { return NotFound("memory"); }
  Result<std::vector<BlobInfo>> Blobs() override { return std::vector<BlobInfo>{}; }
  Result<std::vector<LiveProcess>> Processes() override { return std::vector<LiveProcess>{}; }
  Result<RingState> LoadRing(const RingId&) override { return RingState{}; }
  Status Commit(const SpanBatch&) override { return Unsupported("memory"); }

  int loads = 0;  // segments loaded by all views so far
  int reads = 0;  // views made

 private:
  class View : public ReadView {
   public:
    View(std::vector<std::shared_ptr<const BuiltSegment>> segments,
         const std::vector<std::shared_ptr<const BuiltSegment>>& scores, int* loads)
        : segments_(std::move(segments)), loads_(loads) {
      for (const auto& segment : segments_) metas_.push_back(segment->meta);
      for (const auto& segment : scores) score_metas_.push_back(segment->meta);
      segments_.insert(segments_.end(), scores.begin(), scores.end());
    }
    std::span<const SegmentMeta> scores() const override { return score_metas_; }
    std::span<const SegmentMeta> segments() const override { return metas_; }
    Result<Segment> Load(const SegmentMeta& meta) override {
      std::atomic_ref(*loads_).fetch_add(1);
      for (const auto& segment : segments_) {
        if (segment->meta.id != meta.id) continue;
        auto loaded = Segment::Open(std::as_bytes(std::span(segment->encoded.columns)),
                                    [segment](std::uint32_t block) -> Result<std::span<const std::byte>> {
                                      if (block >= segment->encoded.text_blocks.size()) return DataLoss("no block");
                                      return std::as_bytes(std::span(segment->encoded.text_blocks[block]));
                                    });
        if (loaded.ok()) loaded->Remember(segment->memory);
        return loaded;
      }
      return NotFound("no such segment");
    }

   private:
    std::vector<std::shared_ptr<const BuiltSegment>> segments_;
    std::vector<SegmentMeta> metas_, score_metas_;
    int* loads_;
  };

  std::string path_ = "memory";
  std::uint64_t next_id_ = 1;
  std::vector<std::shared_ptr<const BuiltSegment>> segments_, scores_;
  std::shared_ptr<const BuiltSegment> open_;
};

}  // namespace spanbox::testing
