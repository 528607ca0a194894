// Stores for fuzz targets: one whose only segment is made of any bytes, and one that packs what it is given and forgets
// it.
#pragma once

#include "../cpp/query_testing.h"
#include "fuzz.h"

namespace spanbox::fuzz {

class Sink : public testing::MemoryStore {
 public:
  Status Append(const NextRow& next, const IngestProgress&) override {
    SegmentBuilder builder;
    for (;;) {
      SPANBOX_ASSIGN_OR_RETURN(const SpanRow* const row, next());
      if (row == nullptr) break;
      builder.Add(*row);
    }
    if (builder.rows() > 0) (void)builder.Finish();
    return OkStatus();
  }
  Status AppendScores(std::span<const SpanRow> scores) override {
    SegmentBuilder builder;
    for (const SpanRow& score : scores) builder.Add(score);
    (void)builder.Finish();
    return OkStatus();
  }
};

// A store of one segment, made of any bytes, and of nothing else.
struct AnySegment {
  std::string columns, filter;
  std::vector<std::string> blocks;

  Result<Segment> Open() const {
    Segment::TextFilterLoader load_filter;
    if (!filter.empty()) load_filter = [this]() -> Result<std::span<const std::byte>> { return BytesOf(filter); };
    return Segment::Open(
        BytesOf(columns),
        [this](std::uint32_t block) -> Result<std::span<const std::byte>> {
          if (block >= blocks.size()) return DataLoss("no such block");
          return BytesOf(blocks[block]);
        },
        load_filter);
  }
};

class AnyStore : public testing::MemoryStore {
 public:
  AnyStore(const AnySegment& bytes, const Segment& opened) : bytes_(bytes) {
    meta_ = {1, opened.rows(), opened.min_start_ns(), opened.max_start_ns(), 0, ~std::uint64_t{0}};
  }
  Result<std::unique_ptr<ReadView>> Read() override { return std::unique_ptr<ReadView>(new View(*this)); }

 private:
  class View : public ReadView {
   public:
    explicit View(const AnyStore& store) : store_(store) {}
    std::span<const SegmentMeta> segments() const override { return {&store_.meta_, 1}; }
    Result<Segment> Load(const SegmentMeta&) override { return store_.bytes_.Open(); }

   private:
    const AnyStore& store_;
  };
  const AnySegment& bytes_;
  SegmentMeta meta_;
};

}  // namespace spanbox::fuzz
