#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cstring>
#include <type_traits>

#include "store/packing.h"
#include "store/segment.h"
#include "store/segment_format.h"
#include "store/text_blocks.h"

namespace spanbox {
namespace {

// Spreads the values of valid rows over all rows; 0 elsewhere. `To` has the size of `From`, an unsigned or signed
// integer, or is narrower and of no more values.
template <typename To, typename From>
std::vector<To> Spread(const Buffer<From>& values, const Validity& valid, std::uint32_t rows) {
  const auto convert = [](From value) {
    if constexpr (sizeof(To) == sizeof(From)) {
      return std::bit_cast<To>(value);
    } else {
      return static_cast<To>(value);
    }
  };
  if constexpr (std::is_same_v<To, From>) {
    if (valid.all()) return std::vector<To>(values.begin(), values.end());
  }
  std::vector<To> out(rows);
  if (valid.all()) {
    for (std::uint32_t row = 0; row < rows; ++row) out[row] = convert(values[row]);
    return out;
  }
  const From* next = values.data();  // one past the last is read, and masked away
  for (std::uint32_t begin = 0; begin < rows; begin += 64) {
    std::uint64_t word = valid.words[begin / 64];
    const std::uint32_t end = std::min(rows, begin + 64);
    if (word == 0) continue;
    for (std::uint32_t row = begin; row < end; ++row, word >>= 1) {
      // A mask and no branch: which spans have a value is close to random.
      const auto has = static_cast<From>(word & 1);
      out[row] = convert(static_cast<From>(*next & static_cast<From>(0 - has)));
      next += has;
    }
  }
  return out;
}

constexpr std::uint64_t kMaxCodes = std::uint64_t{1} << 30;  // more than rows can be

// Codes are below `count`. REQUIRES: count <= kMaxCodes. By the sign of differences: a maximum takes longer.
bool AreCodes(std::span<const std::uint32_t> codes, std::uint64_t count) {
  const auto last = static_cast<std::int32_t>(count - 1);
  std::int32_t outside = 0;
  for (const std::uint32_t code : codes)
    outside |= (last - static_cast<std::int32_t>(code)) | static_cast<std::int32_t>(code);
  return outside >= 0;
}

// Runs as PutRuns wrote them, with values in [base, base + range]; codes below `codes`, if that is given.
template <typename T>
bool GetRuns(ByteReader& in, std::int64_t base, int width, std::span<T> out, [[maybe_unused]] std::uint64_t codes = 0) {
  const std::uint64_t count = GetVarint(in);
  if (!in.ok() || count > out.size()) return false;
  Buffer<std::int64_t> lengths(count);
  Buffer<T> values(count);
  if (!GetSequence(in, std::span(lengths))) return false;
  const auto packed = in.GetBytes(PackedBytes(count, width));
  if (!in.ok()) return false;
  UnpackBits(packed, base, width, std::span<T>(values));
  if constexpr (std::is_same_v<T, std::uint32_t>) {
    if (!AreCodes(values, codes)) return false;
  }
  constexpr std::size_t kShort = 16;  // values are stored by so many where there is room: most runs are not longer
  T* to = out.data();
  T* const end = to + out.size();
  for (std::size_t i = 0; i < count; ++i) {
    const std::int64_t length = lengths[i];
    const std::int64_t room = end - to;
    if (length <= 0 || length > room) return false;
    if (length <= static_cast<std::int64_t>(kShort) && room >= static_cast<std::int64_t>(kShort)) {
      for (std::size_t k = 0; k < kShort; ++k) to[k] = values[i];
    } else {
      std::fill_n(to, length, values[i]);
    }
    to += length;
  }
  return to == end;
}

constexpr std::size_t kBlockValues = 1024;  // a multiple of 8: each block begins with a byte

// Calls fn(values before the block, block) for packed values, block by block; false when they are cut off.
template <typename T, typename Fn>
bool EachPacked(ByteReader& in, std::int64_t base, int width, std::size_t count, Fn fn) {
  const auto packed = in.GetBytes(PackedBytes(count, width));
  if (!in.ok()) return false;
  std::array<T, kBlockValues> block;
  for (std::size_t at = 0; at < count; at += kBlockValues) {
    const std::span<T> values = std::span(block).first(std::min(kBlockValues, count - at));
    UnpackBits(packed.subspan(at / 8 * static_cast<std::size_t>(width)), base, width, values);
    fn(at, values);
  }
  return true;
}

bool VisitDeltas(ByteReader& in, std::size_t count, const Segment::NumberVisitor& visit) {
  std::int64_t value = GetZigzag(in);
  visit(0, {&value, 1});
  std::int64_t base = 0;
  int width = 0;
  if (!GetSequenceHead(in, base, width)) return false;
  auto sum = static_cast<std::uint64_t>(value);
  return EachPacked<std::int64_t>(in, base, width, count - 1, [&](std::size_t at, std::span<std::int64_t> values) {
    for (std::int64_t& v : values) {
      sum += static_cast<std::uint64_t>(v);
      v = static_cast<std::int64_t>(sum);
    }
    visit(at + 1, values);
  });
}

bool VisitBlocks(ByteReader& in, std::size_t count, const Segment::NumberVisitor& visit,
                 const Segment::NumberTest& skip) {
  std::vector<std::int64_t> lowest((count + kValuesPerBlock - 1) / kValuesPerBlock);
  if (!GetSequence(in, lowest)) return false;
  const int width = in.Get<std::uint8_t>();
  if (!in.ok() || width > 64) return false;
  const auto packed = in.GetBytes(PackedBytes(count, width));
  if (!in.ok()) return false;
  const std::uint64_t range = width == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << width) - 1;
  std::array<std::int64_t, kValuesPerBlock> block;
  for (std::size_t i = 0; i < lowest.size(); ++i) {
    const std::size_t at = i * kValuesPerBlock, size = std::min(kValuesPerBlock, count - at);
    const bool wraps = range > static_cast<std::uint64_t>(INT64_MAX) - static_cast<std::uint64_t>(lowest[i]);
    const auto high = static_cast<std::int64_t>(static_cast<std::uint64_t>(lowest[i]) + range);
    if (skip && skip(at, size, lowest[i], wraps ? INT64_MAX : high)) continue;
    const std::span<std::int64_t> values = std::span(block).first(size);
    UnpackBits(packed.subspan(at / 8 * static_cast<std::size_t>(width)), lowest[i], width, values);
    visit(at, values);
  }
  return true;
}

bool VisitDictionary(ByteReader& in, std::size_t count, const Segment::NumberVisitor& visit) {
  const std::uint64_t entries = GetVarint(in);
  if (!in.ok() || entries == 0 || entries > in.remaining() / 8 || entries > kMaxCodes) return false;
  std::vector<std::int64_t> dictionary(entries);
  std::memcpy(dictionary.data(), in.GetBytes(entries * 8).data(), entries * 8);
  bool ok = true;
  std::array<std::int64_t, kBlockValues> block;
  return EachPacked<std::uint32_t>(in, 0, BitWidth(entries - 1), count,
                                   [&](std::size_t at, std::span<const std::uint32_t> codes) {
                                     ok = ok && AreCodes(codes, entries);
                                     if (!ok) return;
                                     for (std::size_t i = 0; i < codes.size(); ++i) block[i] = dictionary[codes[i]];
                                     visit(at, std::span(block).first(codes.size()));
                                   }) &&
         ok;
}

class PlacedText : public TextColumn {
 public:
  PlacedText(std::uint32_t rows, Validity validity, std::shared_ptr<TextBlockReader> reader)
      : places(rows), json(rows), valid_(std::move(validity)), reader_(std::move(reader)) {}

  bool valid(std::uint32_t row) const override { return valid_[row]; }
  bool is_json(std::uint32_t row) const override { return json[row]; }
  std::uint32_t size_bytes(std::uint32_t row) const override { return places[row].size; }
  TextPlace place(std::uint32_t row) const override { return places[row]; }

  Result<std::string_view> Get(std::uint32_t row) override {
    if (!valid_[row]) return std::string_view{};
    const TextPlace& place = places[row];
    if (block_ == nullptr || block_->number != place.block) {
      SPANBOX_ASSIGN_OR_RETURN(block_, reader_->Block(place.block));
    }
    return block_->text().substr(place.offset, place.size);  // ReadText has checked the bounds
  }

  std::vector<TextPlace> places;  // by row
  std::vector<bool> json;         // by row

 private:
  const Validity valid_;
  const std::shared_ptr<TextBlockReader> reader_;
  std::shared_ptr<const UnpackedBlock> block_;  // what Get gave lies in it
};

}  // namespace

Result<Validity> Segment::ReadValidity(const ChunkInfo& chunk) const {
  Validity validity;
  const std::uint32_t number = places_[chunk.index].validity;
  if (number == 0) return validity;
  const ValidityPlace& place = validities_[number];
  SPANBOX_ASSIGN_OR_RETURN(const auto bytes, Bytes(place, "a validity set"));
  validity.words.resize((rows_ + 63) / 64);
  if (place.kind == static_cast<std::uint8_t>(ValidityKind::kBitmap)) {
    if (bytes.size() != (rows_ + 7) / 8) return Damaged("a validity bitmap has the wrong size");
    std::memcpy(validity.words.data(), bytes.data(), bytes.size());
    if (rows_ % 64 != 0 && validity.words.back() >> (rows_ % 64) != 0)
      return Damaged("a validity bitmap has excess bits");
  } else {
    const int width = BitWidth(rows_ - 1);
    if (bytes.size() != PackedBytes(place.count, width)) return Damaged("a validity list has the wrong size");
    std::vector<std::int64_t> rows(place.count);
    UnpackBits(bytes, 0, width, std::span(rows));
    for (std::int64_t row : rows) {
      if (row >= rows_) return Damaged("a validity list names rows that do not exist");
      validity.words[static_cast<std::size_t>(row) / 64] |= std::uint64_t{1} << (row % 64);
    }
  }
  std::uint32_t count = 0;
  for (std::uint64_t word : validity.words) count += static_cast<std::uint32_t>(std::popcount(word));
  if (count != place.count) return Damaged("a validity set has another number of rows than it says");
  return validity;
}

Status Segment::VisitNumbers(const ChunkInfo& chunk, const NumberVisitor& visit, const NumberTest& skip) const {
  const ChunkPlace& place = places_[chunk.index];
  SPANBOX_ASSIGN_OR_RETURN(const auto bytes, Bytes(place, chunk.name));
  const bool is_float = chunk.type == ColumnType::kFloat;
  const auto encoding = static_cast<Encoding>(place.encoding);
  const std::size_t count = chunk.valid_count;
  int width = BitWidth(static_cast<std::uint64_t>(chunk.max_int) - static_cast<std::uint64_t>(chunk.min_int));
  std::int64_t base = chunk.min_int;
  if (chunk.type == ColumnType::kBool && (base < 0 || chunk.max_int > 1)) {
    return Damaged("a boolean is neither 0 nor 1");
  }
  ByteReader in(bytes);
  bool ok = false;
  if (encoding == Encoding::kConstant) {
    std::array<std::int64_t, kBlockValues> block;
    block.fill(is_float ? std::bit_cast<std::int64_t>(chunk.min_number) : base);
    for (std::size_t at = 0; at < count; at += kBlockValues) {
      visit(at, std::span(block).first(std::min(kBlockValues, count - at)));
    }
    ok = true;
  } else if (encoding == Encoding::kPacked) {
    if (is_float) ok = GetSequenceHead(in, base, width);
    if (!is_float || ok) ok = EachPacked<std::int64_t>(in, base, width, count, visit);
  } else if (encoding == Encoding::kRuns && !is_float) {
    Buffer<std::int64_t> values(count);
    ok = GetRuns(in, base, width, std::span(values));
    if (ok) visit(0, values);
  } else if (encoding == Encoding::kBlocks && !is_float) {
    ok = VisitBlocks(in, count, visit, skip);
  } else if (encoding == Encoding::kDelta && !is_float) {
    ok = VisitDeltas(in, count, visit);
  } else if (encoding == Encoding::kDictionary && is_float) {
    ok = VisitDictionary(in, count, visit);
  }
  if (!ok || in.remaining() != 0) return Damaged("column " + std::string(chunk.name) + " does not decode");
  return OkStatus();
}

Result<Buffer<std::int64_t>> Segment::ReadDenseNumbers(const ChunkInfo& chunk) const {
  Buffer<std::int64_t> numbers(chunk.valid_count);
  SPANBOX_RETURN_IF_ERROR(VisitNumbers(chunk, [&](std::size_t before, std::span<const std::int64_t> values) {
    std::ranges::copy(values, numbers.begin() + before);
  }));
  return numbers;
}

Result<IntColumn> Segment::ReadInts(const ChunkInfo& chunk) const {
  assert(chunk.type == ColumnType::kInt);
  IntColumn column;
  SPANBOX_ASSIGN_OR_RETURN(column.valid, ReadValidity(chunk));
  SPANBOX_ASSIGN_OR_RETURN(const auto values, ReadDenseNumbers(chunk));
  column.values = Spread<std::int64_t>(values, column.valid, rows_);
  return column;
}

Result<BoolColumn> Segment::ReadBools(const ChunkInfo& chunk) const {
  assert(chunk.type == ColumnType::kBool);
  BoolColumn column;
  SPANBOX_ASSIGN_OR_RETURN(column.valid, ReadValidity(chunk));
  SPANBOX_ASSIGN_OR_RETURN(const auto values, ReadDenseNumbers(chunk));
  column.values = Spread<std::uint8_t>(values, column.valid, rows_);
  return column;
}

Result<FloatColumn> Segment::ReadFloats(const ChunkInfo& chunk) const {
  assert(chunk.type == ColumnType::kFloat);
  FloatColumn column;
  SPANBOX_ASSIGN_OR_RETURN(column.valid, ReadValidity(chunk));
  SPANBOX_ASSIGN_OR_RETURN(const auto bits, ReadDenseNumbers(chunk));
  column.values = Spread<double>(bits, column.valid, rows_);
  return column;
}

Result<StringColumn> Segment::ReadStrings(const ChunkInfo& chunk) const {
  assert(chunk.type == ColumnType::kString);
  StringColumn column;
  SPANBOX_ASSIGN_OR_RETURN(column.valid, ReadValidity(chunk));
  SPANBOX_ASSIGN_OR_RETURN(DenseStrings strings, ReadDenseStrings(chunk));
  column.dictionary = std::move(strings.dictionary);
  column.codes = Spread<std::uint32_t>(strings.codes, column.valid, rows_);
  return column;
}

Result<DenseStrings> Segment::ReadDenseStrings(const ChunkInfo& chunk) const {
  const ChunkPlace& place = places_[chunk.index];
  SPANBOX_ASSIGN_OR_RETURN(const auto bytes, Bytes(place, chunk.name));
  const auto encoding = static_cast<Encoding>(place.encoding);
  DenseStrings strings;
  strings.codes = Buffer<std::uint32_t>(chunk.valid_count);
  if (encoding == Encoding::kConstant) {
    strings.dictionary.push_back(chunk.min_text);
    std::fill(strings.codes.begin(), strings.codes.end(), 0u);
    return strings;
  }
  const Status undecodable = Damaged("column " + std::string(chunk.name) + " does not decode");
  ByteReader in(bytes);
  const std::uint64_t count = GetVarint(in);
  if (!in.ok() || count == 0 || count > in.remaining() || count > kMaxCodes) return undecodable;
  std::vector<std::uint64_t> lengths(count);
  for (std::uint64_t& length : lengths) length = GetVarint(in);
  strings.dictionary.reserve(count);
  for (std::uint64_t length : lengths) strings.dictionary.push_back(in.GetText(length));
  const int width = BitWidth(count - 1);
  bool ok = false;
  if (encoding == Encoding::kDictionary) {
    bool inside = true;
    ok = EachPacked<std::uint32_t>(in, 0, width, strings.codes.size(),
                                   [&](std::size_t at, std::span<const std::uint32_t> codes) {
                                     inside = inside && AreCodes(codes, count);
                                     std::ranges::copy(codes, strings.codes.begin() + at);
                                   }) &&
         inside;
  }
  if (encoding == Encoding::kDictionaryRuns) ok = GetRuns(in, 0, width, std::span(strings.codes), count);
  if (!ok || in.remaining() != 0) return undecodable;
  return strings;
}

Result<TraceIdColumn> Segment::ReadTraceIds(const ChunkInfo& chunk) const {
  assert(chunk.type == ColumnType::kTraceId);
  (void)chunk;
  std::vector<std::int64_t> lengths, runs;
  SPANBOX_RETURN_IF_ERROR(ReadTraceRuns(lengths, runs));
  std::vector<TraceId> by_run(lengths.size());
  std::uint32_t checked_block = 0xFFFFFFFF;
  for (std::uint32_t position = 0; position < runs.size(); ++position) {
    SPANBOX_ASSIGN_OR_RETURN(by_run[static_cast<std::size_t>(runs[position])], TraceAt(position, checked_block));
  }
  TraceIdColumn column;
  column.values.resize(rows_);
  auto to = column.values.begin();
  for (std::size_t run = 0; run < by_run.size(); ++run) to = std::fill_n(to, lengths[run], by_run[run]);
  return column;
}

Result<SpanIdColumn> Segment::ReadSpanIds(const ChunkInfo& chunk) const {
  assert(chunk.type == ColumnType::kSpanId);
  SpanIdColumn column;
  SPANBOX_ASSIGN_OR_RETURN(column.valid, ReadValidity(chunk));
  const ChunkPlace& place = places_[chunk.index];
  if (static_cast<Encoding>(place.encoding) == Encoding::kParents) {
    SPANBOX_ASSIGN_OR_RETURN(column.values, ReadParents(chunk));
    return column;
  }
  SPANBOX_ASSIGN_OR_RETURN(const auto bytes, Bytes(place, chunk.name));
  if (static_cast<Encoding>(place.encoding) != Encoding::kPacked ||
      bytes.size() != std::size_t{chunk.valid_count} * sizeof(SpanId)) {
    return Damaged("column " + std::string(chunk.name) + " does not decode");
  }
  Buffer<SpanId> values(chunk.valid_count);
  std::memcpy(values.data(), bytes.data(), bytes.size());
  column.values = Spread<SpanId>(values, column.valid, rows_);
  // Of a score: it is about the whole trace.
  if (column.valid.all() && std::ranges::find(column.values, SpanId{0}) != column.values.end()) {
    column.valid.words.resize((rows_ + 63) / 64);
    for (std::uint32_t row = 0; row < rows_; ++row) {
      if (column.values[row] != 0) column.valid.words[row / 64] |= std::uint64_t{1} << (row % 64);
    }
  }
  return column;
}

Result<std::vector<SpanId>> Segment::ReadParents(const ChunkInfo& chunk) const {
  const Status undecodable = Damaged("column " + std::string(chunk.name) + " does not decode");
  const ChunkInfo* span_chunk = Find("span_id", ColumnType::kSpanId);
  if (static_cast<Encoding>(places_[span_chunk->index].encoding) != Encoding::kPacked) return undecodable;
  SPANBOX_ASSIGN_OR_RETURN(const SpanIdColumn spans, ReadSpanIds(*span_chunk));
  SPANBOX_ASSIGN_OR_RETURN(const Validity validity, ReadValidity(chunk));
  SPANBOX_ASSIGN_OR_RETURN(const auto bytes, Bytes(places_[chunk.index], chunk.name));
  ByteReader in(bytes);
  std::vector<std::int64_t> distances(chunk.valid_count);
  if (!GetSequence(in, distances)) return undecodable;
  std::vector<SpanId> parents(rows_);
  std::size_t next = 0;
  for (std::uint32_t row = 0; row < rows_; ++row) {
    if (!validity[row]) continue;
    const auto zigzag = static_cast<std::uint64_t>(distances[next++]);
    const auto distance = static_cast<std::int64_t>((zigzag >> 1) ^ (~(zigzag & 1) + 1));
    if (distance == 0) {
      parents[row] = in.Get<SpanId>();
      continue;
    }
    const std::uint64_t at = std::uint64_t{row} - static_cast<std::uint64_t>(distance);
    if (at >= rows_) return undecodable;
    parents[row] = spans.values[at];
  }
  if (!in.ok() || in.remaining() != 0) return undecodable;
  return parents;
}

Result<std::unique_ptr<TextColumn>> Segment::ReadText(const ChunkInfo& chunk) const {
  assert(chunk.type == ColumnType::kText);
  const Status undecodable = Damaged("column " + std::string(chunk.name) + " does not decode");
  SPANBOX_ASSIGN_OR_RETURN(Validity validity, ReadValidity(chunk));
  const ChunkPlace& place = places_[chunk.index];
  SPANBOX_ASSIGN_OR_RETURN(const auto bytes, Bytes(place, chunk.name));
  if (static_cast<Encoding>(place.encoding) != Encoding::kTextPlaces) return undecodable;
  ByteReader in(bytes);
  const std::uint32_t count = chunk.valid_count;
  std::vector<std::int64_t> is_json(count), blocks(count), offsets(count), sizes(count);
  if (!GetSequence(in, is_json) || !GetSequence(in, blocks) || !GetSequence(in, offsets) || !GetSequence(in, sizes) ||
      in.remaining() != 0) {
    return undecodable;
  }
  auto column = std::make_unique<PlacedText>(rows_, validity, text_);
  const auto infos = text_->infos();
  std::size_t next = 0;
  for (std::uint32_t row = 0; row < rows_; ++row) {
    if (!validity[row]) continue;
    const auto block = static_cast<std::uint64_t>(blocks[next]), offset = static_cast<std::uint64_t>(offsets[next]),
               size = static_cast<std::uint64_t>(sizes[next]);
    if (block >= infos.size()) return undecodable;
    const std::uint64_t raw = infos[block].raw_bytes;
    if (offset > raw || size > raw - offset) return undecodable;
    column->places[row] = {static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(offset),
                           static_cast<std::uint32_t>(size)};
    column->json[row] = is_json[next] != 0;
    ++next;
  }
  return std::unique_ptr<TextColumn>(std::move(column));
}

}  // namespace spanbox
