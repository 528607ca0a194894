#include "store/segment_writer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "absl/container/flat_hash_map.h"
#include "base/hash.h"
#include "store/packing.h"
#include "store/segment.h"

namespace spanbox {
namespace {

std::span<const std::byte> AsBytes(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

void Align(std::string& out) { out.resize((out.size() + kChunkAlignment - 1) / kChunkAlignment * kChunkAlignment); }

void PutRuns(const Runs& runs, std::int64_t base, int width, std::string& out) {
  PutVarint(runs.lengths.size(), out);
  PutSequence(runs.lengths, out);
  PackBits(runs.values, base, width, out);
}

std::size_t RunsBytes(const Runs& runs, int width) {
  return 4 + SequenceBytes(runs.lengths) + PackedBytes(runs.values.size(), width);
}

// Runs and differences are slower to read, so they have to be clearly smaller.
bool ClearlySmaller(std::size_t size, std::size_t than) { return size + size / 4 < than; }

std::size_t CountRuns(std::span<const std::int64_t> values) {
  std::size_t runs = 1;
  for (std::size_t i = 1; i < values.size(); ++i) runs += values[i] != values[i - 1];
  return runs;
}

// A cheap test that keeps FindRuns away from columns without repetition.
bool WorthRuns(std::span<const std::int64_t> values) { return CountRuns(values) * 2 < values.size(); }

std::vector<std::int64_t> Differences(std::span<const std::int64_t> values) {
  std::vector<std::int64_t> differences(values.size() - 1);
  for (std::size_t i = 1; i < values.size(); ++i) {
    differences[i - 1] =
        static_cast<std::int64_t>(static_cast<std::uint64_t>(values[i]) - static_cast<std::uint64_t>(values[i - 1]));
  }
  return differences;
}

// Numbers that are close to those around them: start times. As bytes of Encoding::kBlocks.
std::string Blocks(std::span<const std::int64_t> values) {
  std::vector<std::int64_t> lowest, above(values.size());
  std::int64_t most = 0;
  for (std::size_t begin = 0; begin < values.size(); begin += kValuesPerBlock) {
    const auto block = values.subspan(begin, std::min(kValuesPerBlock, values.size() - begin));
    const std::uint64_t low = static_cast<std::uint64_t>(lowest.emplace_back(*std::ranges::min_element(block)));
    std::uint64_t wide = 0;
    for (std::size_t i = 0; i < block.size(); ++i) {
      const std::uint64_t difference = static_cast<std::uint64_t>(block[i]) - low;
      above[begin + i] = static_cast<std::int64_t>(difference);
      wide |= difference;
    }
    most = static_cast<std::int64_t>(static_cast<std::uint64_t>(most) | wide);
  }
  std::string out;
  PutSequence(lowest, out);
  const int width = BitWidth(static_cast<std::uint64_t>(most));
  out.push_back(static_cast<char>(width));
  PackBits(above, 0, width, out);
  return out;
}

// The distinct values in order of first use, or nothing when a dictionary would not pay.
struct FloatDictionary {
  std::vector<std::int64_t> values;
  std::vector<std::int64_t> codes;
};
FloatDictionary FindFloatDictionary(std::span<const std::int64_t> bits) {
  const std::size_t limit = std::min<std::size_t>(bits.size() / 4 + 1, 4096);
  FloatDictionary dictionary;
  absl::flat_hash_map<std::int64_t, std::int64_t> codes;
  dictionary.codes.reserve(bits.size());
  for (std::int64_t value : bits) {
    const auto [at, fresh] = codes.try_emplace(value, static_cast<std::int64_t>(codes.size()));
    if (fresh) {
      if (codes.size() > limit) return {};
      dictionary.values.push_back(value);
    }
    dictionary.codes.push_back(at->second);
  }
  return dictionary;
}

}  // namespace

std::uint32_t SegmentWriter::AddValidity(const std::vector<std::uint64_t>& words, std::uint32_t count) {
  if (count == rows_) return 0;
  for (std::size_t i = 0; i < validities_.size(); ++i) {
    if (validities_[i] == words) return static_cast<std::uint32_t>(i + 1);
  }
  std::string bitmap, list;
  const std::size_t bitmap_bytes = (rows_ + 7) / 8;
  bitmap.assign(reinterpret_cast<const char*>(words.data()), bitmap_bytes);
  const int width = BitWidth(rows_ - 1);
  ValidityKind kind = ValidityKind::kBitmap;
  if (PackedBytes(count, width) < bitmap_bytes) {
    kind = ValidityKind::kRowList;
    std::vector<std::int64_t> rows;
    rows.reserve(count);
    for (std::size_t w = 0; w < words.size(); ++w) {
      for (std::uint64_t bits = words[w]; bits != 0; bits &= bits - 1) {
        rows.push_back(static_cast<std::int64_t>(w * 64 + static_cast<std::size_t>(std::countr_zero(bits))));
      }
    }
    PackBits(rows, 0, width, list);
  }
  validity_directory_.push_back(static_cast<char>(kind));
  PutVarint(count, validity_directory_);
  PutPlace(kind == ValidityKind::kBitmap ? bitmap : list, validity_directory_, validity_body_);
  validities_.push_back(words);
  return static_cast<std::uint32_t>(validities_.size());
}

void SegmentWriter::AddInts(const ChunkKey& key, ColumnType type, std::span<const std::int64_t> values) {
  const auto [min_at, max_at] = std::minmax_element(values.begin(), values.end());
  const std::int64_t min = *min_at, max = *max_at;
  const std::uint64_t range = static_cast<std::uint64_t>(max) - static_cast<std::uint64_t>(min);
  const int width = BitWidth(range);
  if (range == 0) {
    PutHead(key, type, Encoding::kConstant);
    PutZigzag(min, chunk_directory_);
    return PutChunk({});
  }
  Encoding encoding = Encoding::kPacked;
  const std::size_t packed_bytes = PackedBytes(values.size(), width);
  scratch_.clear();
  if (WorthRuns(values)) {
    const Runs runs = FindRuns(values);
    if (ClearlySmaller(RunsBytes(runs, width), packed_bytes)) {
      encoding = Encoding::kRuns;
      PutRuns(runs, min, width, scratch_);
    }
  } else if (key.column == Column::kStartNs) {
    const auto differences = Differences(values);
    std::string blocks = Blocks(values);
    const std::size_t otherwise = std::min(blocks.size(), packed_bytes);
    if (!ClearlySmaller(SequenceBytes(differences) + 10, otherwise)) {
      if (blocks.size() < packed_bytes) {
        encoding = Encoding::kBlocks;
        scratch_ = std::move(blocks);
      }
    } else {
      encoding = Encoding::kDelta;
      PutZigzag(values[0], scratch_);
      PutSequence(differences, scratch_);
    }
  }
  if (encoding == Encoding::kPacked) PackBits(values, min, width, scratch_);
  PutHead(key, type, encoding);
  PutZigzag(min, chunk_directory_);
  PutVarint(range, chunk_directory_);
  PutChunk(scratch_);
}

void SegmentWriter::AddFloats(const ChunkKey& key, std::span<const std::int64_t> bits) {
  if (CountRuns(bits) == 1) {
    PutHead(key, ColumnType::kFloat, Encoding::kConstant);
    PutFixed(bits[0], chunk_directory_);
    return PutChunk({});
  }
  double min = std::numeric_limits<double>::infinity(), max = -min;
  for (std::int64_t value : bits) {
    const double number = std::bit_cast<double>(value);
    if (std::isnan(number)) continue;
    min = std::min(min, number);
    max = std::max(max, number);
  }
  scratch_.clear();
  const FloatDictionary dictionary = FindFloatDictionary(bits);
  Encoding encoding = Encoding::kPacked;
  if (!dictionary.values.empty()) {
    encoding = Encoding::kDictionary;
    PutVarint(dictionary.values.size(), scratch_);
    for (std::int64_t value : dictionary.values) PutFixed(value, scratch_);
    PackBits(dictionary.codes, 0, BitWidth(dictionary.values.size() - 1), scratch_);
  } else {
    PutSequence(bits, scratch_);
  }
  PutHead(key, ColumnType::kFloat, encoding);
  PutFixed(min, chunk_directory_);
  PutFixed(max, chunk_directory_);
  PutChunk(scratch_);
}

void SegmentWriter::AddStrings(const ChunkKey& key, std::span<const std::string_view> dictionary,
                               std::span<const std::int64_t> codes) {
  if (dictionary.size() == 1) {
    PutHead(key, ColumnType::kString, Encoding::kConstant);
    PutText(dictionary[0], chunk_directory_);
    return PutChunk({});
  }
  scratch_.clear();
  PutVarint(dictionary.size(), scratch_);
  for (std::string_view text : dictionary) PutVarint(text.size(), scratch_);
  for (std::string_view text : dictionary) scratch_.append(text);
  const int width = BitWidth(dictionary.size() - 1);
  Encoding encoding = Encoding::kDictionary;
  if (WorthRuns(codes)) {
    const Runs runs = FindRuns(codes);
    if (ClearlySmaller(RunsBytes(runs, width), PackedBytes(codes.size(), width))) {
      encoding = Encoding::kDictionaryRuns;
      PutRuns(runs, 0, width, scratch_);
    }
  }
  if (encoding == Encoding::kDictionary) PackBits(codes, 0, width, scratch_);
  PutHead(key, ColumnType::kString, encoding);
  const bool zone = dictionary.front().size() <= kMaxZoneText && dictionary.back().size() <= kMaxZoneText;
  chunk_directory_.push_back(zone ? 1 : 0);
  if (zone) {
    PutText(dictionary.front(), chunk_directory_);
    PutText(dictionary.back(), chunk_directory_);
  }
  PutChunk(scratch_);
}

void SegmentWriter::AddTraceIds(std::span<const TraceId> traces, std::span<const std::int64_t> lengths) {
  std::vector<std::int64_t> order(traces.size());  // position among the sorted ids -> run
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int64_t>(i);
  std::sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    return traces[static_cast<std::size_t>(a)] < traces[static_cast<std::size_t>(b)];
  });
  std::string ids;
  ids.reserve(traces.size() * sizeof(TraceId));
  for (std::int64_t run : order) {
    const TraceId& id = traces[static_cast<std::size_t>(run)];
    ids.append(reinterpret_cast<const char*>(id.bytes.data()), id.bytes.size());
  }
  PutHead({Column::kTraceId, {}, 0}, ColumnType::kTraceId, Encoding::kTraces);
  PutVarint(traces.size(), chunk_directory_);
  PutFixed(TracePrefix(traces[static_cast<std::size_t>(order.front())]), chunk_directory_);
  PutFixed(TracePrefix(traces[static_cast<std::size_t>(order.back())]), chunk_directory_);
  constexpr std::size_t kBlockBytes = kTraceIdsPerBlock * sizeof(TraceId);
  for (std::size_t at = 0; at < ids.size(); at += kBlockBytes) {
    PutFixed(Hash64(AsBytes(std::string_view(ids).substr(at, kBlockBytes))), chunk_directory_);
  }
  scratch_.clear();
  PutSequence(lengths, scratch_);
  PutSequence(order, scratch_);
  Align(chunk_body_);
  chunk_body_.append(ids);  // a multiple of the alignment: the chunk proper follows without a gap
  PutChunk(scratch_);
}

void SegmentWriter::AddSpanIds(const ChunkKey& key, std::span<const SpanId> ids) {
  PutHead(key, ColumnType::kSpanId, Encoding::kPacked);
  PutChunk({reinterpret_cast<const char*>(ids.data()), ids.size_bytes()});
}

void SegmentWriter::AddParents(const ChunkKey& key, std::span<const std::int64_t> distances,
                               std::span<const SpanId> others) {
  scratch_.clear();
  PutSequence(distances, scratch_);
  scratch_.append(reinterpret_cast<const char*>(others.data()), others.size_bytes());
  PutHead(key, ColumnType::kSpanId, Encoding::kParents);
  PutChunk(scratch_);
}

void SegmentWriter::AddText(const ChunkKey& key, const TextPlaces& places) {
  scratch_.clear();
  PutSequence(places.is_json, scratch_);
  PutSequence(places.blocks, scratch_);
  PutSequence(places.offsets, scratch_);
  PutSequence(places.sizes, scratch_);
  PutHead(key, ColumnType::kText, Encoding::kTextPlaces);
  PutChunk(scratch_);
}

void SegmentWriter::PutHead(const ChunkKey& key, ColumnType type, Encoding encoding) {
  ++chunks_;
  PutVarint(static_cast<std::uint64_t>(key.column), chunk_directory_);
  if (key.column == Column::kAttribute) PutText(key.name, chunk_directory_);
  chunk_directory_.push_back(static_cast<char>(type));
  chunk_directory_.push_back(static_cast<char>(encoding));
  PutVarint(key.validity, chunk_directory_);
}

void SegmentWriter::PutChunk(std::string_view bytes) { PutPlace(bytes, chunk_directory_, chunk_body_); }

void SegmentWriter::PutPlace(std::string_view bytes, std::string& directory, std::string& body) {
  PutVarint(bytes.size(), directory);
  if (bytes.empty()) return;
  PutFixed(Hash64(AsBytes(bytes)), directory);
  Align(body);
  body.append(bytes);
}

std::string SegmentWriter::Finish(std::span<const TextBlockInfo> text_blocks, std::int64_t min_start_ns,
                                  std::int64_t max_start_ns) {
  std::string directory;
  PutVarint(validities_.size(), directory);
  directory.append(validity_directory_);
  PutVarint(text_blocks.size(), directory);
  for (const TextBlockInfo& info : text_blocks) {
    PutVarint(info.stored_bytes, directory);
    PutVarint(info.raw_bytes, directory);
    directory.push_back(static_cast<char>(info.codec));
    PutFixed(info.checksum, directory);
  }
  PutVarint(chunks_, directory);
  directory.append(chunk_directory_);

  std::string out;
  out.reserve(kSegmentHeaderBytes + directory.size() + validity_body_.size() + chunk_body_.size() +
              3 * kChunkAlignment);
  PutFixed(kSegmentMagic, out);
  PutFixed(kSegmentVersion, out);
  PutFixed(std::uint16_t{0}, out);
  PutFixed(std::uint64_t{0}, out);
  PutFixed(rows_, out);
  PutFixed(static_cast<std::uint32_t>(directory.size()), out);
  PutFixed(min_start_ns, out);
  PutFixed(max_start_ns, out);
  out.append(directory);
  const std::uint64_t checksum = Hash64(AsBytes(out).subspan(kChecksumFrom));
  std::memcpy(out.data() + 8, &checksum, sizeof checksum);
  Align(out);
  out.append(validity_body_);
  Align(out);
  out.append(chunk_body_);
  return out;
}

}  // namespace spanbox
