#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/hash.h"
#include "store/packing.h"
#include "store/segment.h"
#include "store/segment_format.h"
#include "store/text_blocks.h"

namespace spanbox {
namespace {

std::uint64_t AlignUp(std::uint64_t offset) {
  return (offset + kChunkAlignment - 1) / kChunkAlignment * kChunkAlignment;
}

Status BadDirectory(std::string_view what, std::size_t offset) {
  return DataLoss("segment directory: " + std::string(what) + " at byte " + std::to_string(offset));
}

}  // namespace

// Reads the directory into the members of a Segment. Offsets are not stored: they follow from the sizes.
class DirectoryParser {
 public:
  DirectoryParser(Segment& segment, std::span<const std::byte> directory, TextBlockLoader text_blocks)
      : s_(segment), in_(directory), text_loader_(std::move(text_blocks)) {
    next_offset_ = kSegmentHeaderBytes + directory.size();
  }

  Status Parse() {
    SPANBOX_RETURN_IF_ERROR(Validities());
    SPANBOX_RETURN_IF_ERROR(TextBlocks());
    const std::uint64_t count = GetVarint(in_);
    if (count > in_.remaining()) return Bad("impossible number of chunks");
    s_.chunks_.reserve(count);
    s_.places_.reserve(count);
    for (std::uint64_t i = 0; i < count; ++i) SPANBOX_RETURN_IF_ERROR(Chunk());
    if (!in_.ok() || in_.remaining() != 0) return Bad("has another length than it says");
    if (next_offset_ != s_.bytes_.size()) return Bad("describes another number of bytes than there are");
    return Complete();
  }

 private:
  Status Bad(std::string_view what) const { return BadDirectory(what, kSegmentHeaderBytes + in_.offset()); }

  Status Place(Segment::Place& place) {
    place.number = next_number_++;
    place.size = GetVarint(in_);
    if (place.size == 0) return OkStatus();
    place.checksum = in_.Get<std::uint64_t>();
    return Reserve(place.size, place.offset);
  }

  Status Reserve(std::uint64_t size, std::uint64_t& offset) {
    offset = AlignUp(next_offset_);
    if (!in_.ok() || offset > s_.bytes_.size() || size > s_.bytes_.size() - offset) {
      return Bad("describes bytes beyond the end");
    }
    next_offset_ = offset + size;
    return OkStatus();
  }

  Status Validities() {
    const std::uint64_t count = GetVarint(in_);
    if (count > in_.remaining()) return Bad("impossible number of validity sets");
    s_.validities_.resize(count + 1);
    for (std::uint64_t i = 1; i <= count; ++i) {
      auto& place = s_.validities_[i];
      place.kind = in_.Get<std::uint8_t>();
      const std::uint64_t valid = GetVarint(in_);
      if (valid == 0 || valid >= s_.rows_ || place.kind > 1) return Bad("impossible validity set");
      place.count = static_cast<std::uint32_t>(valid);
      SPANBOX_RETURN_IF_ERROR(Place(place));
    }
    return OkStatus();
  }

  Status TextBlocks() {
    const std::uint64_t count = GetVarint(in_);
    if (count > in_.remaining()) return Bad("impossible number of text blocks");
    std::vector<TextBlockInfo> infos(count);
    for (TextBlockInfo& info : infos) {
      const std::uint64_t stored = GetVarint(in_), raw = GetVarint(in_);
      const auto codec = in_.Get<std::uint8_t>();
      info.checksum = in_.Get<std::uint64_t>();
      const auto highest = &info == infos.data() ? TextCodec::kZstd : TextCodec::kZstdBase;
      if (!in_.ok() || stored > 0xFFFFFFFF || raw > 0xFFFFFFFF || codec > static_cast<std::uint8_t>(highest)) {
        return Bad("impossible text block");
      }
      info.stored_bytes = static_cast<std::uint32_t>(stored);
      info.raw_bytes = static_cast<std::uint32_t>(raw);
      info.codec = static_cast<TextCodec>(codec);
    }
    s_.text_ = std::make_shared<TextBlockReader>(std::move(text_loader_), std::move(infos));
    return OkStatus();
  }

  Status Chunk() {
    ChunkInfo info;
    const std::uint64_t column = GetVarint(in_);
    if (column >= kColumnCount) return Bad("unknown column");
    info.column = static_cast<Column>(column);
    info.name = column == 0 ? GetSizedText(in_) : Columns()[column].name;
    const auto type = in_.Get<std::uint8_t>();
    if (type < 1 || type > 7) return Bad("unknown column type");
    info.type = static_cast<ColumnType>(type);
    Segment::ChunkPlace place;
    place.encoding = in_.Get<std::uint8_t>();
    const std::uint64_t validity = GetVarint(in_);
    if (validity >= s_.validities_.size()) return Bad("unknown validity set");
    place.validity = static_cast<std::uint32_t>(validity);
    info.valid_count = validity == 0 ? s_.rows_ : s_.validities_[validity].count;
    SPANBOX_RETURN_IF_ERROR(Zone(info, static_cast<Encoding>(place.encoding)));
    SPANBOX_RETURN_IF_ERROR(Place(place));
    info.index = static_cast<std::uint32_t>(s_.chunks_.size());
    s_.chunks_.push_back(info);
    s_.places_.push_back(place);
    return OkStatus();
  }

  Status Zone(ChunkInfo& info, Encoding encoding) {
    const bool constant = encoding == Encoding::kConstant;
    switch (info.type) {
      case ColumnType::kInt:
      case ColumnType::kBool: {
        info.has_zone = true;
        info.min_int = GetZigzag(in_);
        const std::uint64_t range = constant ? 0 : GetVarint(in_);
        if (range > static_cast<std::uint64_t>(INT64_MAX) - static_cast<std::uint64_t>(info.min_int)) {
          return Bad("impossible zone map");
        }
        info.max_int = static_cast<std::int64_t>(static_cast<std::uint64_t>(info.min_int) + range);
        break;
      }
      case ColumnType::kFloat:
        info.min_number = in_.Get<double>();
        info.max_number = constant ? info.min_number : in_.Get<double>();
        info.has_zone = info.min_number <= info.max_number;
        break;
      case ColumnType::kString:
        info.has_zone = constant || in_.Get<std::uint8_t>() != 0;
        if (!info.has_zone) break;
        info.min_text = GetSizedText(in_);
        info.max_text = constant ? info.min_text : GetSizedText(in_);
        break;
      case ColumnType::kTraceId:
        return Traces();
      case ColumnType::kSpanId:
      case ColumnType::kText:
        break;
    }
    return in_.ok() ? OkStatus() : Bad("is truncated");
  }

  Status Traces() {
    auto& traces = s_.traces_;
    const std::uint64_t count = GetVarint(in_);
    if (traces.count != 0 || count == 0 || count > s_.rows_) return Bad("impossible number of traces");
    traces.count = static_cast<std::uint32_t>(count);
    traces.min_prefix = in_.Get<std::uint64_t>();
    traces.max_prefix = in_.Get<std::uint64_t>();
    traces.block_checksums = in_.GetBytes((count + kTraceIdsPerBlock - 1) / kTraceIdsPerBlock * 8);
    return Reserve(count * sizeof(TraceId), traces.ids_offset);
  }

  // The columns every segment has. Span ids bound the number of rows by the bytes that are there.
  Status Complete() {
    const auto present = [&](Column column, ColumnType type) {
      const ChunkInfo* chunk = s_.Find(Columns()[static_cast<std::size_t>(column)].name, type);
      return chunk != nullptr && chunk->column == column && chunk->valid_count == s_.rows_;
    };
    const ChunkInfo* spans = s_.Find("span_id", ColumnType::kSpanId);
    if (spans == nullptr || s_.places_[spans->index].size != std::uint64_t{s_.rows_} * sizeof(SpanId)) {
      return Bad("has no span ids");
    }
    if (!present(Column::kTraceId, ColumnType::kTraceId) || !present(Column::kStartNs, ColumnType::kInt)) {
      return Bad("lacks trace ids or start times");
    }
    return OkStatus();
  }

  Segment& s_;
  ByteReader in_;
  TextBlockLoader text_loader_;
  std::uint64_t next_offset_ = 0;
  std::uint32_t next_number_ = 0;
};

Result<Segment> Segment::Open(std::span<const std::byte> columns, TextBlockLoader text_blocks,
                              TextFilterLoader text_filter) {
  ByteReader in(columns);
  const auto magic = in.Get<std::uint32_t>();
  const auto version = in.Get<std::uint16_t>();
  in.Get<std::uint16_t>();
  const auto checksum = in.Get<std::uint64_t>();
  Segment segment;
  segment.bytes_ = columns;
  segment.filter_loader_ = std::move(text_filter);
  segment.rows_ = in.Get<std::uint32_t>();
  const auto directory_bytes = in.Get<std::uint32_t>();
  segment.min_start_ns_ = in.Get<std::int64_t>();
  segment.max_start_ns_ = in.Get<std::int64_t>();
  const auto directory = in.GetBytes(directory_bytes);
  if (!in.ok() && columns.size() < 6) return BadDirectory("is truncated", columns.size());
  if (magic != kSegmentMagic) return BadDirectory("is not a segment", 0);
  if (version > kSegmentVersion) {
    return Unsupported("segment of format " + std::to_string(version) + "; this spanbox reads up to " +
                       std::to_string(kSegmentVersion) + ": upgrade spanbox");
  }
  if (!in.ok()) return BadDirectory("is truncated", columns.size());
  if (version == 0) return BadDirectory("has version 0", 4);
  if (Hash64(columns.subspan(kChecksumFrom, kSegmentHeaderBytes - kChecksumFrom + directory_bytes)) != checksum) {
    return BadDirectory("checksum differs", 8);
  }
  if (segment.rows_ == 0) return BadDirectory("has no rows", kChecksumFrom);
  SPANBOX_RETURN_IF_ERROR(DirectoryParser(segment, directory, std::move(text_blocks)).Parse());
  return segment;
}

Result<std::optional<TextFilter>> Segment::Filter() const {
  if (filter_loader_ == nullptr) return std::optional<TextFilter>();
  SPANBOX_ASSIGN_OR_RETURN(const auto bytes, filter_loader_());
  SPANBOX_ASSIGN_OR_RETURN(TextFilter filter, TextFilter::Open(bytes, text_blocks()));
  return std::optional(std::move(filter));
}

const ChunkInfo* Segment::Find(std::string_view name, ColumnType type) const {
  for (const ChunkInfo& chunk : chunks_) {
    if (chunk.type == type && chunk.name == name) return &chunk;
  }
  return nullptr;
}

std::vector<const ChunkInfo*> Segment::Find(std::string_view name) const {
  std::vector<const ChunkInfo*> found;
  for (const ChunkInfo& chunk : chunks_) {
    if (chunk.name == name) found.push_back(&chunk);
  }
  return found;
}

Status Segment::Damaged(std::string_view what) const { return DataLoss("segment: " + std::string(what)); }

Result<std::span<const std::byte>> Segment::Bytes(const Place& place, std::string_view what) const {
  if (place.size == 0) return std::span<const std::byte>{};
  const auto bytes = bytes_.subspan(place.offset, place.size);
  if (memory_ != nullptr && memory_->IsVerified(place.number)) return bytes;
  if (Hash64(bytes) != place.checksum) {
    return Damaged("checksum of " + std::string(what) + " at byte " + std::to_string(place.offset) + " differs");
  }
  if (memory_ != nullptr) memory_->SetVerified(place.number);
  return bytes;
}

// One id of the sorted list. Its block is verified unless it is `checked_block`, which is then set.
Result<TraceId> Segment::TraceAt(std::uint32_t position, std::uint32_t& checked_block) const {
  const std::uint32_t block = position / kTraceIdsPerBlock;
  const auto ids = bytes_.subspan(traces_.ids_offset, std::size_t{traces_.count} * sizeof(TraceId));
  if (block != checked_block) {
    constexpr std::size_t kBlockBytes = kTraceIdsPerBlock * sizeof(TraceId);
    const std::size_t begin = block * kBlockBytes;
    std::uint64_t checksum;
    std::memcpy(&checksum, traces_.block_checksums.data() + std::size_t{block} * 8, sizeof checksum);
    if (Hash64(ids.subspan(begin, std::min(kBlockBytes, ids.size() - begin))) != checksum) {
      return Damaged("checksum of trace ids differs in block " + std::to_string(block));
    }
    checked_block = block;
  }
  TraceId id;
  std::memcpy(id.bytes.data(), ids.data() + std::size_t{position} * sizeof id, sizeof id);
  return id;
}

// Lengths of the runs in row order, and for each position of the sorted list the run it is.
Status Segment::ReadTraceRuns(std::vector<std::int64_t>& lengths, std::vector<std::int64_t>& run_of_position) const {
  const ChunkInfo* chunk = Find("trace_id", ColumnType::kTraceId);
  SPANBOX_ASSIGN_OR_RETURN(const auto bytes, Bytes(places_[chunk->index], "trace_id"));
  ByteReader in(bytes);
  lengths.resize(traces_.count);
  run_of_position.resize(traces_.count);
  if (!GetSequence(in, lengths) || !GetSequence(in, run_of_position) || in.remaining() != 0) {
    return Damaged("trace runs are truncated");
  }
  std::uint64_t rows = 0;
  for (std::int64_t length : lengths) {
    if (length <= 0 || length > rows_) return Damaged("impossible length of a trace");
    rows += static_cast<std::uint64_t>(length);
  }
  if (rows != rows_) return Damaged("traces have another number of rows than the segment");
  for (std::int64_t run : run_of_position) {
    if (run < 0 || run >= traces_.count) return Damaged("impossible trace number");
  }
  return OkStatus();
}

Result<std::vector<std::uint32_t>> Segment::RowsOfTrace(const TraceId& trace) const {
  SPANBOX_ASSIGN_OR_RETURN(const std::uint32_t position, PositionOf(trace));
  if (memory_ != nullptr && memory_->WantsSieve()) MakeSieve();
  if (position == kNoPosition) return std::vector<std::uint32_t>{};
  return RowsOfRun(position);
}

// A damaged list makes none: whoever searches it says so.
void Segment::MakeSieve() const {
  auto sieve = std::make_unique<TraceSieve>(traces_.count);
  std::uint32_t checked_block = kNoPosition;
  for (std::uint32_t position = 0; position < traces_.count; ++position) {
    const auto id = TraceAt(position, checked_block);
    if (!id.ok()) return;
    sieve->Add(*id);
  }
  memory_->Keep(std::move(sieve));
}

// Where the id stands in the sorted list; kNoPosition: nowhere.
Result<std::uint32_t> Segment::PositionOf(const TraceId& trace) const {
  const std::uint64_t prefix = TracePrefix(trace);
  if (prefix < traces_.min_prefix || prefix > traces_.max_prefix) return kNoPosition;
  // Ids are random or made in time order: either way evenly spread, so guessing the place saves most steps of a
  // binary search. Every other step halves, which bounds the number of steps whatever the ids are.
  std::uint32_t low = 0, high = traces_.count, checked_block = kNoPosition;
  double low_key = static_cast<double>(traces_.min_prefix), high_key = static_cast<double>(traces_.max_prefix);
  for (bool guess = true; low < high; guess = !guess) {
    std::uint32_t at = low + (high - low) / 2;
    if (guess && high_key > low_key) {
      const double part = (static_cast<double>(prefix) - low_key) / (high_key - low_key);
      at = low + static_cast<std::uint32_t>(std::clamp(part, 0.0, 1.0) * (high - low - 1));
    }
    SPANBOX_ASSIGN_OR_RETURN(const TraceId id, TraceAt(at, checked_block));
    if (id == trace) return at;
    if (id < trace) {
      low = at + 1;
      low_key = static_cast<double>(TracePrefix(id));
    } else {
      high = at;
      high_key = static_cast<double>(TracePrefix(id));
    }
  }
  return kNoPosition;
}

}  // namespace spanbox
