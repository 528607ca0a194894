// Single values of a segment's chunks, without decoding the others: what a trace or a few chosen rows take.

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "store/packing.h"
#include "store/segment.h"
#include "store/segment_format.h"
#include "store/segment_memory.h"

namespace spanbox {
namespace {

using Bytes = std::span<const std::byte>;
using Places = std::span<const std::uint32_t>;

// A sequence of `count` numbers, of which single ones are wanted.
class Sequence {
 public:
  // False (and `in` failed) on damage.
  bool Open(ByteReader& in, std::size_t count) {
    if (!GetSequenceHead(in, base_, width_)) return false;
    packed_ = in.GetBytes(PackedBytes(count, width_));
    return in.ok();
  }
  std::int64_t operator[](std::size_t i) const { return UnpackOne(packed_, base_, width_, i); }

  // Calls fn(at, numbers) for neighbours, from numbers 0 to count - 1, until it returns false.
  template <typename Fn>
  void VisitBlocks(std::size_t count, Fn fn) const {
    constexpr std::size_t kBlock = 512;  // a multiple of 8: each block begins with a byte
    std::array<std::int64_t, kBlock> block;
    for (std::size_t at = 0; at < count; at += kBlock) {
      const std::span<std::int64_t> values = std::span(block).first(std::min(kBlock, count - at));
      UnpackBits(packed_.subspan(at / 8 * static_cast<std::size_t>(width_)), base_, width_, values);
      if (!fn(at, std::span<const std::int64_t>(values))) return;
    }
  }
  // Calls fn(i, number) for numbers 0 to count - 1 until it returns false.
  template <typename Fn>
  void Visit(std::size_t count, Fn fn) const {
    VisitBlocks(count, [&](std::size_t at, std::span<const std::int64_t> values) {
      for (std::size_t i = 0; i < values.size(); ++i) {
        if (!fn(at + i, values[i])) return false;
      }
      return true;
    });
  }

 private:
  Bytes packed_;
  std::int64_t base_ = 0;
  int width_ = 0;
};

// Their sum; nullopt when one is not above 0 or the sum is more than `most`, which is below 2^32.
std::optional<std::uint64_t> SumOfLengths(std::span<const std::int64_t> lengths, std::uint64_t most) {
  std::uint64_t sum = 0, wrong = 0;
  for (const std::int64_t length : lengths) {
    const auto size = static_cast<std::uint64_t>(length);
    sum += size;
    wrong |= (size - 1) | (most - size);  // the top bit of one is set for those outside
  }
  if (wrong >> 63 != 0 || sum > most) return std::nullopt;
  return sum;
}

// Which run each place lies in; false when the lengths are impossible. REQUIRES: places ascend and are below `values`.
bool FindRunsOf(Places places, const Sequence& lengths, std::uint64_t runs, std::uint64_t values,
                std::vector<std::uint32_t>& run_of) {
  std::uint64_t end = 0;
  std::size_t next = 0;
  run_of.resize(places.size());
  lengths.VisitBlocks(runs, [&](std::size_t run, std::span<const std::int64_t> block) {
    const auto sum = SumOfLengths(block, values - end);
    if (sum && next < places.size() && places[next] >= end + *sum) {  // none of these: as for nearly all blocks
      end += *sum;
      return true;
    }
    for (const std::int64_t length : block) {
      if (length <= 0 || static_cast<std::uint64_t>(length) > values - end) return false;
      end += static_cast<std::uint64_t>(length);
      for (; next < places.size() && places[next] < end; ++next) run_of[next] = static_cast<std::uint32_t>(run);
      if (next == places.size()) return false;
      ++run;
    }
    return true;
  });
  return next == places.size();
}

// Values packed by their run. `fn` gets the index into places and the value.
template <typename Fn>
bool FromRuns(ByteReader& in, Places places, std::uint64_t values, std::int64_t base, int width, Fn fn) {
  const std::uint64_t runs = GetVarint(in);
  Sequence lengths;
  if (!in.ok() || runs > values || !lengths.Open(in, runs)) return false;
  const auto packed = in.GetBytes(PackedBytes(runs, width));
  std::vector<std::uint32_t> run_of;
  if (!in.ok() || !FindRunsOf(places, lengths, runs, values, run_of)) return false;
  for (std::size_t i = 0; i < places.size(); ++i) fn(i, UnpackOne(packed, base, width, run_of[i]));
  return true;
}

template <typename Fn>
bool FromPacked(ByteReader& in, Places places, std::uint64_t values, std::int64_t base, int width, Fn fn) {
  const auto packed = in.GetBytes(PackedBytes(values, width));
  if (!in.ok()) return false;
  for (std::size_t i = 0; i < places.size(); ++i) fn(i, UnpackOne(packed, base, width, places[i]));
  return true;
}

bool FromBlocks(ByteReader& in, Places places, std::uint64_t values, std::span<std::int64_t> out) {
  Sequence lowest;
  if (!lowest.Open(in, (values + kValuesPerBlock - 1) / kValuesPerBlock)) return false;
  const int width = in.Get<std::uint8_t>();
  if (!in.ok() || width > 64) return false;
  const auto packed = in.GetBytes(PackedBytes(values, width));
  if (!in.ok()) return false;
  for (std::size_t i = 0; i < places.size(); ++i) {
    out[i] = UnpackOne(packed, lowest[places[i] / kValuesPerBlock], width, places[i]);
  }
  return true;
}

bool FromFloats(ByteReader& in, Places places, std::uint64_t values, std::span<std::int64_t> out) {
  const std::uint64_t entries = GetVarint(in);
  if (!in.ok() || entries == 0 || entries > in.remaining() / 8) return false;
  const auto dictionary = in.GetBytes(entries * 8);
  bool inside = true;
  return FromPacked(in, places, values, 0, BitWidth(entries - 1),
                    [&](std::size_t i, std::int64_t code) {
                      inside &= static_cast<std::uint64_t>(code) < entries;
                      if (inside) std::memcpy(&out[i], dictionary.data() + static_cast<std::size_t>(code) * 8, 8);
                    }) &&
         inside;
}

// The sizes of a dictionary's strings when all of them take one byte, as nearly always.
bool HasShortSizes(Bytes sizes) {
  std::uint8_t all = 0;
  for (const std::byte size : sizes) all |= static_cast<std::uint8_t>(size);
  return all < 0x80;
}

std::size_t Sum(Bytes sizes) {
  std::size_t sum = 0;
  for (const std::byte size : sizes) sum += static_cast<std::uint8_t>(size);
  return sum;
}

}  // namespace

Status Segment::NumbersAt(const ChunkInfo& chunk, Places places, std::span<std::int64_t> out) const {
  const ChunkPlace& place = places_[chunk.index];
  SPANBOX_ASSIGN_OR_RETURN(const auto bytes, Bytes(place, chunk.name));
  const bool is_float = chunk.type == ColumnType::kFloat;
  const std::size_t count = chunk.valid_count;
  int width = BitWidth(static_cast<std::uint64_t>(chunk.max_int) - static_cast<std::uint64_t>(chunk.min_int));
  std::int64_t base = chunk.min_int;
  if (chunk.type == ColumnType::kBool && (base < 0 || chunk.max_int > 1)) {
    return Damaged("a boolean is neither 0 nor 1");
  }
  const auto set = [&out](std::size_t i, std::int64_t value) { out[i] = value; };
  ByteReader in(bytes);
  bool ok = false;
  switch (static_cast<Encoding>(place.encoding)) {
    case Encoding::kConstant:
      std::ranges::fill(out, is_float ? std::bit_cast<std::int64_t>(chunk.min_number) : base);
      ok = true;
      break;
    case Encoding::kPacked:
      ok = (!is_float || GetSequenceHead(in, base, width)) && FromPacked(in, places, count, base, width, set);
      break;
    case Encoding::kRuns:
      ok = !is_float && FromRuns(in, places, count, base, width, set);
      break;
    case Encoding::kBlocks:
      ok = !is_float && FromBlocks(in, places, count, out);
      break;
    case Encoding::kDictionary:
      ok = is_float && FromFloats(in, places, count, out);
      break;
    default: {  // each value follows from those before
      std::size_t next = 0;
      return VisitNumbers(chunk, [&](std::size_t before, std::span<const std::int64_t> values) {
        for (; next < places.size() && places[next] < before + values.size(); ++next) {
          out[next] = values[places[next] - before];
        }
      });
    }
  }
  if (!ok || in.remaining() != 0) return Damaged("column " + std::string(chunk.name) + " does not decode");
  return OkStatus();
}

Status Segment::StringsAt(const ChunkInfo& chunk, Places places, std::span<std::string_view> out) const {
  const ChunkPlace& place = places_[chunk.index];
  SPANBOX_ASSIGN_OR_RETURN(const auto bytes, Bytes(place, chunk.name));
  const auto encoding = static_cast<Encoding>(place.encoding);
  if (encoding == Encoding::kConstant) {
    std::ranges::fill(out, chunk.min_text);
    return OkStatus();
  }
  ByteReader in(bytes);
  const std::uint64_t count = GetVarint(in);
  const auto sizes = in.ok() && count <= in.remaining() ? in.GetBytes(count) : std::span<const std::byte>();
  if (sizes.empty() || !HasShortSizes(sizes)) {
    SPANBOX_ASSIGN_OR_RETURN(const DenseStrings strings, ReadDenseStrings(chunk));
    for (std::size_t i = 0; i < places.size(); ++i) out[i] = strings.dictionary[strings.codes[places[i]]];
    return OkStatus();
  }
  const std::string_view texts = in.GetText(Sum(sizes));
  bool inside = in.ok();
  std::uint64_t known = ~std::uint64_t{0};
  std::size_t begin = 0;
  const auto set = [&](std::size_t i, std::int64_t value) {
    const auto code = static_cast<std::uint64_t>(value);
    inside &= code < count;
    if (!inside) return;
    if (code != known) begin = Sum(sizes.first(code));
    known = code;
    out[i] = texts.substr(begin, static_cast<std::uint8_t>(sizes[code]));
  };
  const int width = BitWidth(count - 1);
  bool ok = false;
  if (encoding == Encoding::kDictionary) ok = FromPacked(in, places, chunk.valid_count, 0, width, set);
  if (encoding == Encoding::kDictionaryRuns) ok = FromRuns(in, places, chunk.valid_count, 0, width, set);
  if (!ok || !inside || in.remaining() != 0) {
    return Damaged("column " + std::string(chunk.name) + " does not decode");
  }
  return OkStatus();
}

Status Segment::SpanIdsAt(const ChunkInfo& chunk, Places rows, Places places, std::span<SpanId> out) const {
  const ChunkPlace& place = places_[chunk.index];
  SPANBOX_ASSIGN_OR_RETURN(const auto bytes, Bytes(place, chunk.name));
  const auto encoding = static_cast<Encoding>(place.encoding);
  const Status undecodable = Damaged("column " + std::string(chunk.name) + " does not decode");
  const auto id_at = [](std::span<const std::byte> ids, std::size_t i) {
    SpanId id;
    std::memcpy(&id, ids.data() + i * sizeof id, sizeof id);
    return id;
  };
  if (encoding == Encoding::kPacked) {
    if (bytes.size() != std::size_t{chunk.valid_count} * sizeof(SpanId)) return undecodable;
    for (std::size_t i = 0; i < places.size(); ++i) out[i] = id_at(bytes, places[i]);
    return OkStatus();
  }
  ByteReader in(bytes);
  Sequence distances;
  if (encoding != Encoding::kParents || !distances.Open(in, chunk.valid_count)) return undecodable;
  const ChunkInfo* span_chunk = Find("span_id", ColumnType::kSpanId);  // every segment has one, of this size
  SPANBOX_ASSIGN_OR_RETURN(const auto ids, Bytes(places_[span_chunk->index], span_chunk->name));
  if (static_cast<Encoding>(places_[span_chunk->index].encoding) != Encoding::kPacked) return undecodable;
  for (std::size_t i = 0; i < places.size(); ++i) {
    const auto zigzag = static_cast<std::uint64_t>(distances[places[i]]);
    const auto distance = (zigzag >> 1) ^ (~(zigzag & 1) + 1);
    if (distance == 0) {  // no row of the trace: how many such there are before says which
      SPANBOX_ASSIGN_OR_RETURN(const std::vector<SpanId> all, ReadParents(chunk));
      for (std::size_t k = 0; k < rows.size(); ++k) out[k] = all[rows[k]];
      return OkStatus();
    }
    const std::uint64_t at = std::uint64_t{rows[i]} - distance;
    if (at >= rows_) return undecodable;
    out[i] = id_at(ids, at);
  }
  return OkStatus();
}

Result<std::vector<TraceId>> Segment::TraceIdsAt(Places rows) const {
  const ChunkInfo* chunk = Find("trace_id", ColumnType::kTraceId);
  SPANBOX_ASSIGN_OR_RETURN(const auto bytes, Bytes(places_[chunk->index], "trace_id"));
  ByteReader in(bytes);
  Sequence lengths, run_of_position;
  std::vector<std::uint32_t> run_of;
  const bool ok = lengths.Open(in, traces_.count) && run_of_position.Open(in, traces_.count) && in.remaining() == 0 &&
                  FindRunsOf(rows, lengths, traces_.count, rows_, run_of);
  if (!ok) return Damaged("impossible lengths of traces");
  // Not cleared first: one that is never set is found out below.
  const auto position_of_run = std::make_unique_for_overwrite<std::uint32_t[]>(std::size_t{traces_.count} + 1);
  run_of_position.VisitBlocks(traces_.count, [&](std::size_t position, std::span<const std::int64_t> runs) {
    for (const std::int64_t run : runs) {
      const auto to = std::min<std::uint64_t>(static_cast<std::uint64_t>(run), traces_.count);
      position_of_run[to] = static_cast<std::uint32_t>(position++);
    }
    return true;
  });
  std::vector<TraceId> ids(rows.size());
  std::uint32_t checked_block = kNoPosition;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::uint32_t position = position_of_run[run_of[i]];
    if (position >= traces_.count || run_of_position[position] != run_of[i]) return Damaged("a trace has no id");
    SPANBOX_ASSIGN_OR_RETURN(ids[i], TraceAt(position, checked_block));
  }
  return ids;
}

// The rows of the trace whose id stands at this position of the sorted list.
Result<std::vector<std::uint32_t>> Segment::RowsOfRun(std::uint32_t position) const {
  const ChunkInfo* chunk = Find("trace_id", ColumnType::kTraceId);
  SPANBOX_ASSIGN_OR_RETURN(const auto bytes, Bytes(places_[chunk->index], "trace_id"));
  ByteReader in(bytes);
  Sequence lengths, run_of_position;
  if (!lengths.Open(in, traces_.count) || !run_of_position.Open(in, traces_.count) || in.remaining() != 0) {
    return Damaged("trace runs are truncated");
  }
  const std::int64_t run = run_of_position[position];
  if (run < 0 || run >= traces_.count) return Damaged("impossible trace number");
  std::uint64_t begin = 0, end = 0;
  bool possible = true;
  lengths.VisitBlocks(static_cast<std::size_t>(run) + 1, [&](std::size_t, std::span<const std::int64_t> block) {
    const auto sum = SumOfLengths(block, rows_ - end);
    possible = sum.has_value();
    if (!possible) return false;
    end += *sum;
    begin = end - static_cast<std::uint64_t>(block.back());
    return true;
  });
  if (!possible) return Damaged("impossible length of a trace");
  std::vector<std::uint32_t> rows(end - begin);
  for (std::uint32_t& row : rows) row = static_cast<std::uint32_t>(begin++);
  return rows;
}

}  // namespace spanbox
