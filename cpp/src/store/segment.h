// Segments: how rows are encoded into immutable column chunks and read back. docs/segment_format.md gives the bytes.
//
// A segment is one "columns" value (directory, column chunks, trace index) and any number of text blocks. Rows are
// ordered by trace (traces by their first start), then by start: spans of a trace are neighbours.
//
// Thread rule: Segment is immutable after Open and may be read from several threads, but for its text: the TextColumns
// of a segment share what they have unpacked, and all belong to one thread. SegmentBuilder belongs to one thread.
// Ownership: Segment borrows its bytes (an LMDB page during a ReadView, or a buffer): everything it returns as
// string_view lives as long as those bytes, or as long as the column object that unpacked them.
// Invariant: no bytes given to Open, however damaged, make a method read outside them; damage is DataLoss.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "spanbox/span.h"
#include "spanbox/status.h"
#include "store/segment_memory.h"
#include "store/text_blocks.h"

namespace spanbox {

// The first 8 bytes of a trace id as a number that sorts like the id.
inline std::uint64_t TracePrefix(const TraceId& id) {
  std::uint64_t prefix = 0;
  for (int i = 0; i < 8; ++i) prefix = prefix << 8 | id.bytes[static_cast<std::size_t>(i)];
  return prefix;
}

// One encoded column of one type. A name has several chunks when its values differ in type (an attribute that was an
// int and became a string), or when some of its strings are long: a row has a value in at most one of them.
struct ChunkInfo {
  std::string_view name;
  Column column = Column::kAttribute;
  ColumnType type = ColumnType::kInt;
  std::uint32_t valid_count = 0;  // rows that have a value here, > 0
  // Zone map. Ints and bools: min_int, max_int. Floats: min_number, max_number (NaN ignored). Strings: min_text and
  // max_text, whole values. Ids and text: none.
  bool has_zone = false;
  std::int64_t min_int = 0, max_int = 0;
  double min_number = 0, max_number = 0;
  std::string_view min_text, max_text;
  std::uint32_t index = 0;  // position in Segment::chunks()
};

// Which rows have a value: bit r of words[r / 64]. Empty: all of them.
struct Validity {
  std::vector<std::uint64_t> words;
  bool all() const { return words.empty(); }
  bool operator[](std::uint32_t row) const { return words.empty() || (words[row / 64] >> (row % 64) & 1) != 0; }
};

struct IntColumn {
  std::vector<std::int64_t> values;
  Validity valid;
};  // 0 where there is no value
struct FloatColumn {
  std::vector<double> values;
  Validity valid;
};
struct BoolColumn {
  std::vector<std::uint8_t> values;
  Validity valid;
};  // 0 or 1
struct StringColumn {
  std::vector<std::string_view> dictionary;  // sorted by bytes, distinct
  std::vector<std::uint32_t> codes;          // index into dictionary; 0 where invalid
  Validity valid;
};
struct TraceIdColumn {
  std::vector<TraceId> values;
};  // always valid
struct SpanIdColumn {
  std::vector<SpanId> values;
  Validity valid;
};

// Values in a row that are all about to be written: the memory is not cleared first. One past the last may be read.
template <typename T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t size) : values_(std::make_unique_for_overwrite<T[]>(size + 1)), size_(size) {
    values_[size] = T{};
  }

  std::size_t size() const { return size_; }
  T* data() { return values_.get(); }
  const T* data() const { return values_.get(); }
  T* begin() { return data(); }
  T* end() { return data() + size_; }
  const T* begin() const { return data(); }
  const T* end() const { return data() + size_; }
  T& operator[](std::size_t i) { return values_[i]; }
  const T& operator[](std::size_t i) const { return values_[i]; }

 private:
  std::unique_ptr<T[]> values_;
  std::size_t size_ = 0;
};

// The values of the rows that have one, in row order, without places for the others.
struct DenseStrings {
  std::vector<std::string_view> dictionary;  // sorted by bytes, distinct
  Buffer<std::uint32_t> codes;
};

class TextColumn {
 public:
  virtual ~TextColumn() = default;
  virtual bool valid(std::uint32_t row) const = 0;
  virtual bool is_json(std::uint32_t row) const = 0;  // JSON text, not a plain string
  virtual std::uint32_t size_bytes(std::uint32_t row) const = 0;
  virtual TextPlace place(std::uint32_t row) const = 0;
  // The text; valid until the next Get. Ask in row order: of a segment's blocks the few that were unpacked last are
  // kept.
  virtual Result<std::string_view> Get(std::uint32_t row) = 0;
};

class Segment {
 public:
  // Checks the directory (magic, version, bounds, checksum); chunks are checked when they are read.
  // `text_filter` gives the bytes of the search filter, none when there is none.
  using TextFilterLoader = std::function<Result<std::span<const std::byte>>()>;
  static Result<Segment> Open(std::span<const std::byte> columns, TextBlockLoader text_blocks,
                              TextFilterLoader text_filter = nullptr);

  std::uint32_t rows() const { return rows_; }
  std::int64_t min_start_ns() const { return min_start_ns_; }
  std::int64_t max_start_ns() const { return max_start_ns_; }
  std::span<const ChunkInfo> chunks() const { return chunks_; }

  // The chunk of this name and type; nullptr when no row has such a value. `Find(name)` gives them all.
  const ChunkInfo* Find(std::string_view name, ColumnType type) const;
  std::vector<const ChunkInfo*> Find(std::string_view name) const;

  // REQUIRES: chunk comes from chunks() and has the type the method is named after. Each verifies the checksum.
  Result<IntColumn> ReadInts(const ChunkInfo& chunk) const;
  Result<FloatColumn> ReadFloats(const ChunkInfo& chunk) const;
  Result<BoolColumn> ReadBools(const ChunkInfo& chunk) const;
  Result<StringColumn> ReadStrings(const ChunkInfo& chunk) const;
  Result<TraceIdColumn> ReadTraceIds(const ChunkInfo& chunk) const;
  // A span id of 0 is no value: of scores that are about a whole trace.
  Result<SpanIdColumn> ReadSpanIds(const ChunkInfo& chunk) const;
  Result<std::unique_ptr<TextColumn>> ReadText(const ChunkInfo& chunk) const;

  // The same as dense values. Numbers: ints and bools, or floats as their bits; `visit` gets them in blocks that stay
  // in a processor's nearest cache, each with the number of values before it.
  using NumberVisitor = std::function<void(std::size_t before, std::span<const std::int64_t> values)>;
  // `skip` may be asked first: true when it is enough to know that values lie between two others.
  using NumberTest = std::function<bool(std::size_t before, std::size_t count, std::int64_t low, std::int64_t high)>;
  Status VisitNumbers(const ChunkInfo& chunk, const NumberVisitor& visit, const NumberTest& skip = nullptr) const;
  Result<Buffer<std::int64_t>> ReadDenseNumbers(const ChunkInfo& chunk) const;
  Result<DenseStrings> ReadDenseStrings(const ChunkInfo& chunk) const;
  // Which rows they are of. Chunks with the same number of a set have values in the same rows; 0: in all.
  Result<Validity> ReadValidity(const ChunkInfo& chunk) const;
  std::uint32_t ValiditySet(const ChunkInfo& chunk) const { return places_[chunk.index].validity; }
  std::size_t validity_sets() const { return validities_.size(); }

  // Single values: those at these places among the dense ones. REQUIRES: places ascend and are below
  // chunk.valid_count; as many go out. Rows are those of the places.
  Status NumbersAt(const ChunkInfo& chunk, std::span<const std::uint32_t> places, std::span<std::int64_t> out) const;
  Status StringsAt(const ChunkInfo& chunk, std::span<const std::uint32_t> places,
                   std::span<std::string_view> out) const;
  Status SpanIdsAt(const ChunkInfo& chunk, std::span<const std::uint32_t> rows, std::span<const std::uint32_t> places,
                   std::span<SpanId> out) const;
  Result<std::vector<TraceId>> TraceIdsAt(std::span<const std::uint32_t> rows) const;  // REQUIRES: rows ascend

  // From now on what is verified is remembered, and what has been is not verified again.
  void Remember(std::shared_ptr<SegmentMemory> memory) { memory_ = std::move(memory); }
  SegmentMemory* memory() const { return memory_.get(); }  // null: none

  // Rows of one trace, ascending; empty when it is not here.
  Result<std::vector<std::uint32_t>> RowsOfTrace(const TraceId& trace) const;

  // Number of text blocks; block k holds text of rows that are neighbours, or of rows that were committed together.
  std::uint32_t text_blocks() const { return static_cast<std::uint32_t>(text_->infos().size()); }
  const TextBlockReader& text() const { return *text_; }

  // Which blocks may hold a text; absent for segments that have not settled.
  Result<std::optional<TextFilter>> Filter() const;

 private:
  Segment() = default;
  struct Place {
    std::uint64_t offset = 0, size = 0, checksum = 0;
    std::uint32_t number = 0;  // of all places
  };
  struct ChunkPlace : Place {
    std::uint8_t encoding = 0;
    std::uint32_t validity = 0;
  };
  struct ValidityPlace : Place {
    std::uint8_t kind = 0;
    std::uint32_t count = 0;
  };
  struct TracePlaces {
    std::uint32_t count = 0;                       // distinct traces
    std::uint64_t min_prefix = 0, max_prefix = 0;  // first 8 bytes of the smallest and the largest id, big-endian
    std::span<const std::byte> block_checksums;
    std::uint64_t ids_offset = 0;  // the ids, sorted; the chunk itself follows them
  };
  friend class DirectoryParser;

  Result<std::span<const std::byte>> Bytes(const Place& place, std::string_view what) const;
  Status Damaged(std::string_view what) const;
  Result<std::vector<SpanId>> ReadParents(const ChunkInfo& chunk) const;
  Result<TraceId> TraceAt(std::uint32_t position, std::uint32_t& checked_block) const;
  Status ReadTraceRuns(std::vector<std::int64_t>& lengths, std::vector<std::int64_t>& run_of_position) const;
  static constexpr std::uint32_t kNoPosition = 0xFFFFFFFF;
  Result<std::uint32_t> PositionOf(const TraceId& trace) const;
  Result<std::vector<std::uint32_t>> RowsOfRun(std::uint32_t position) const;
  void MakeSieve() const;

  std::span<const std::byte> bytes_;
  std::uint32_t rows_ = 0;
  std::int64_t min_start_ns_ = 0, max_start_ns_ = 0;
  std::vector<ChunkInfo> chunks_;
  std::vector<ChunkPlace> places_;         // of chunks_
  std::vector<ValidityPlace> validities_;  // [0] unused: "all rows"
  std::shared_ptr<TextBlockReader> text_;
  std::shared_ptr<SegmentMemory> memory_;  // null: nothing is remembered
  TextFilterLoader filter_loader_;
  TracePlaces traces_;
};

// The named column that a field of a row is stored as: an attribute named like one is that column. kAttribute: none, or
// one of the fixed part of SpanRow (trace_id ... duration_ns), which is kept as the attribute "attribute.<name>".
Column StoredColumn(const Field& field);

// Time per output token after the first, rounded down: (duration - ttft) / (output tokens - 1). nullopt where these are
// no ints or make no sense.
std::optional<std::int64_t> DerivedTpot(std::int64_t duration_ns, const Value& ttft_ns, const Value& output_tokens);

// Collects rows and encodes them. Copies what it is given. A value of more than 1 GiB is cut. StoredColumn and
// DerivedTpot say where values go.
class SegmentBuilder {
 public:
  explicit SegmentBuilder(TextPacker::Mode text_mode = TextPacker::Mode::kQuick);
  ~SegmentBuilder();
  SegmentBuilder(const SegmentBuilder&) = delete;
  SegmentBuilder& operator=(const SegmentBuilder&) = delete;

  // Also derives tpot_ns where it is absent and can be.
  // REQUIRES: rows() < kMaxRows.
  static constexpr std::uint32_t kMaxRows = 1u << 24;
  void Add(const SpanRow& row) { Add(row, {}); }
  std::uint32_t rows() const;

  // A text that lies in an adopted block: it stands for the value of a field, which says no more than string or JSON.
  struct AdoptedText {
    std::size_t field = 0;
    TextPlace place;
  };
  // Takes over a text block as it is, for rows whose text need not be packed again; returns its number.
  std::uint32_t Adopt(std::span<const std::byte> stored, const TextBlockInfo& info);
  // `adopted` in the order of the fields.
  void Add(const SpanRow& row, std::span<const AdoptedText> adopted);

  struct Encoded {
    std::string columns;                   // the columns value
    std::vector<std::string> text_blocks;  // each at most ~256 KiB before compression, or one larger payload alone
    std::uint32_t rows = 0;
    std::int64_t min_start_ns = 0, max_start_ns = 0;
    std::uint64_t raw_text_bytes = 0;
    std::uint64_t text_bytes = 0;                // of text_blocks
    std::uint64_t min_trace = 0, max_trace = 0;  // first 8 bytes of the smallest and the largest trace id, big-endian
    bool settled = false;                        // packed by mode kSmall
    std::string text_filter;                     // of a settled one with text
    std::string cells;                           // segment_cells.h; whoever stores it as settled fills them in
  };
  // REQUIRES: rows() > 0. Leaves the builder empty.
  Encoded Finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace spanbox
