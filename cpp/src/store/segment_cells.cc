#include "store/segment_cells.h"

#include <absl/container/flat_hash_map.h>

#include <algorithm>
#include <array>
#include <limits>
#include <tuple>

#include "base/hash.h"
#include "store/packing.h"
#include "store/segment_format.h"

namespace spanbox {
namespace {

constexpr std::uint32_t kMaxTables = 2;

std::string_view NameOf(Column column) { return Columns()[static_cast<std::size_t>(column)].name; }
std::string_view MeasureName(std::size_t measure) { return NameOf(kRollupMeasures[measure]); }

std::string Named(std::size_t measure, std::string_view part) { return std::string(MeasureName(measure)).append(part); }
constexpr std::string_view kFirst = ".first", kSize = ".size", kAt = ".at";

struct Measured {
  std::int64_t sum = 0, min = std::numeric_limits<std::int64_t>::max(), max = 0;
  DDSketch sketch;
};
struct Cell {
  std::int64_t bucket_ns = 0;
  std::uint32_t kind = 0, status = 0, model = 0;  // codes; the model's one higher, 0: none
  std::uint32_t has = 0;                          // a bit for each measure
  std::int64_t spans = 0;
  std::array<Measured, kSketchedMeasures> measures;
};

// The columns of the segment that make cells.
struct Source {
  IntColumn starts;
  StringColumn kinds, statuses, models;
  std::array<IntColumn, kSketchedMeasures> measures;
  std::array<bool, kSketchedMeasures> measured{};
  bool has_models = false;
};

// The only chunk of this name, if it has this type; `other`: there is one, of another type.
const ChunkInfo* Only(const Segment& segment, std::string_view name, ColumnType type, bool& other) {
  const auto chunks = segment.Find(name);
  if (chunks.size() == 1 && chunks.front()->type == type) return chunks.front();
  other |= !chunks.empty();
  return nullptr;
}

// nullopt: cells cannot say what the segment holds.
Result<std::optional<Source>> ReadSource(const Segment& segment) {
  Source source;
  bool other = false;
  const ChunkInfo* starts = Only(segment, NameOf(Column::kStartNs), ColumnType::kInt, other);
  const ChunkInfo* kinds = Only(segment, NameOf(Column::kKind), ColumnType::kString, other);
  const ChunkInfo* statuses = Only(segment, NameOf(Column::kStatus), ColumnType::kString, other);
  const ChunkInfo* models = Only(segment, NameOf(Column::kModel), ColumnType::kString, other);
  if (other || starts == nullptr || kinds == nullptr || statuses == nullptr) return std::optional<Source>();
  SPANBOX_ASSIGN_OR_RETURN(source.starts, segment.ReadInts(*starts));
  SPANBOX_ASSIGN_OR_RETURN(source.kinds, segment.ReadStrings(*kinds));
  SPANBOX_ASSIGN_OR_RETURN(source.statuses, segment.ReadStrings(*statuses));
  source.has_models = models != nullptr;
  if (models != nullptr) {
    SPANBOX_ASSIGN_OR_RETURN(source.models, segment.ReadStrings(*models));
  }
  for (std::size_t i = 0; i < kSketchedMeasures; ++i) {
    const ChunkInfo* chunk = Only(segment, MeasureName(i), ColumnType::kInt, other);
    if (chunk == nullptr) continue;
    const bool fits =
        chunk->min_int >= 0 && chunk->max_int <= std::numeric_limits<std::int64_t>::max() / segment.rows();
    if (!fits) return std::optional<Source>();
    SPANBOX_ASSIGN_OR_RETURN(source.measures[i], segment.ReadInts(*chunk));
    source.measured[i] = true;
  }
  if (other) return std::optional<Source>();
  return std::optional(std::move(source));
}

// Cells of all rows; `by_bucket` tells buckets apart.
std::vector<Cell> MakeCells(const Source& source, std::int64_t whole_ns, bool by_bucket) {
  std::vector<Cell> cells;
  absl::flat_hash_map<std::tuple<std::int64_t, std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t>, std::size_t>
      known;
  for (std::uint32_t row = 0; row < source.starts.values.size(); ++row) {
    const std::int64_t bucket_ns = by_bucket ? RollupBucketOf(source.starts.values[row]) : whole_ns;
    const std::uint32_t model = source.has_models && source.models.valid[row] ? source.models.codes[row] + 1 : 0;
    std::uint32_t has = 0;
    for (std::size_t i = 0; i < kSketchedMeasures; ++i) {
      if (source.measured[i] && source.measures[i].valid[row]) has |= 1u << i;
    }
    const auto [place, added] =
        known.try_emplace({bucket_ns, source.kinds.codes[row], source.statuses.codes[row], model, has}, cells.size());
    if (added) {
      Cell& cell = cells.emplace_back();
      cell.bucket_ns = bucket_ns;
      cell.kind = source.kinds.codes[row];
      cell.status = source.statuses.codes[row];
      cell.model = model;
      cell.has = has;
    }
    Cell& cell = cells[place->second];
    ++cell.spans;
    for (std::size_t i = 0; i < kSketchedMeasures; ++i) {
      if ((has >> i & 1) == 0) continue;
      const std::int64_t value = source.measures[i].values[row];
      Measured& measured = cell.measures[i];
      measured.sum += value;
      measured.min = std::min(measured.min, value);
      measured.max = std::max(measured.max, value);
      measured.sketch.Add(static_cast<double>(value));
    }
  }
  return cells;
}

// Columns bytes u32, bytes of the counts u32 each, the columns, the counts.
std::string EncodeTable(const Source& source, const std::vector<Cell>& cells, bool by_bucket) {
  SegmentBuilder rows;
  std::array<std::vector<std::int64_t>, kSketchedMeasures> counts;
  std::vector<Field> fields;
  std::array<std::array<std::string, 7>, kSketchedMeasures> names;
  for (std::size_t i = 0; i < kSketchedMeasures; ++i) {
    names[i] = {CellColumn(MeasureName(i), CellPart::kCount),
                CellColumn(MeasureName(i), CellPart::kSum),
                CellColumn(MeasureName(i), CellPart::kMax),
                Named(i, kFirst),
                Named(i, kSize),
                Named(i, kAt),
                CellColumn(MeasureName(i), CellPart::kMin)};
  }
  for (const Cell& cell : cells) {
    fields.clear();
    const auto put = [&fields](std::string_view name, std::int64_t value) {
      fields.push_back({Column::kAttribute, name, Value::Int(value)});
    };
    SpanRow row;
    row.trace_id.bytes.back() = 1;
    row.span_id = rows.rows() + 1;
    row.start_ns = cell.bucket_ns;
    row.kind = SpanKindFromString(source.kinds.dictionary[cell.kind]).value_or(SpanKind::kSpan);
    row.status = SpanStatusFromString(source.statuses.dictionary[cell.status]).value_or(SpanStatus::kOk);
    row.duration_ns = -1;
    if (cell.model > 0) {
      fields.push_back({Column::kModel, {}, Value::String(source.models.dictionary[cell.model - 1])});
    }
    put(kCellCount, cell.spans);
    for (std::size_t i = 0; i < kSketchedMeasures; ++i) {
      if ((cell.has >> i & 1) == 0) continue;
      const Measured& measured = cell.measures[i];
      if (kRollupMeasures[i] == Column::kDurationNs) {
        row.duration_ns = 0;
      } else {
        fields.push_back({kRollupMeasures[i], {}, Value::Int(0)});
      }
      put(names[i][0], cell.spans);
      put(names[i][1], measured.sum);
      put(names[i][6], measured.min);
      put(names[i][2], measured.max);
      if (!SegmentCells::Sketches(i, by_bucket)) continue;
      const DDSketch::Buckets buckets = measured.sketch.Positive();
      put(names[i][3], buckets.first);
      put(names[i][4], static_cast<std::int64_t>(buckets.counts.size()));
      put(names[i][5], static_cast<std::int64_t>(counts[i].size()));
      counts[i].insert(counts[i].end(), buckets.counts.begin(), buckets.counts.end());
    }
    row.fields = fields;
    rows.Add(row);
  }
  const SegmentBuilder::Encoded encoded = rows.Finish();
  std::string out, bytes[kSketchedMeasures];
  PutFixed(static_cast<std::uint32_t>(encoded.columns.size()), out);
  for (std::size_t i = 0; i < kSketchedMeasures; ++i) {
    PutVarint(counts[i].size(), bytes[i]);
    PutSequence(counts[i], bytes[i]);
    PutFixed(static_cast<std::uint32_t>(bytes[i].size()), out);
  }
  out += encoded.columns;
  for (const std::string& of_measure : bytes) out += of_measure;
  return out;
}

Status BadCells(std::string_view why) { return DataLoss("cells: " + std::string(why)); }

}  // namespace

std::string EncodeCells(const Segment& segment, std::size_t most_bytes) {
  const auto source = ReadSource(segment);
  if (!source.ok() || !source->has_value()) return {};
  const std::string whole = EncodeTable(**source, MakeCells(**source, segment.min_start_ns(), false), false);
  if (whole.size() > most_bytes) return {};
  const std::string buckets = EncodeTable(**source, MakeCells(**source, 0, true), true);
  const bool both = whole.size() + buckets.size() <= most_bytes;
  std::string out;
  PutFixed(std::uint32_t{both ? 2u : 1u}, out);
  out += whole;
  if (both) out += buckets;
  const std::uint64_t checksum = Hash64(std::as_bytes(std::span(out)));
  std::string sealed;
  PutFixed(checksum, sealed);
  return sealed + out;
}

std::string CellsOf(const SegmentBuilder::Encoded& encoded) {
  constexpr std::size_t kPart = 25, kMostBytesPerRow = 2;
  const auto no_text = [](std::uint32_t) -> Result<std::span<const std::byte>> { return BadCells("need no text"); };
  const auto segment = Segment::Open(std::as_bytes(std::span(encoded.columns)), no_text);
  if (!segment.ok()) return {};
  const std::size_t bytes = encoded.columns.size() + encoded.text_bytes;
  return EncodeCells(*segment, std::min(bytes / kPart, kMostBytesPerRow * encoded.rows));
}

Result<SegmentCells> SegmentCells::Open(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  const auto checksum = in.Get<std::uint64_t>();
  if (!in.ok() || Hash64(bytes.subspan(sizeof checksum)) != checksum) return BadCells("checksum differs");
  const auto tables = in.Get<std::uint32_t>();
  if (tables == 0 || tables > kMaxTables) return BadCells("impossible number of tables");
  SegmentCells cells;
  for (std::uint32_t i = 0; i < tables; ++i) {
    const auto column_bytes = in.Get<std::uint32_t>();
    std::array<std::uint32_t, kSketchedMeasures> count_bytes;
    for (std::uint32_t& size : count_bytes) size = in.Get<std::uint32_t>();
    const auto columns = in.GetBytes(column_bytes);
    if (!in.ok()) return BadCells("are truncated");
    const auto no_text = [](std::uint32_t) -> Result<std::span<const std::byte>> { return BadCells("have no text"); };
    SPANBOX_ASSIGN_OR_RETURN(Segment rows, Segment::Open(columns, no_text));
    Table table{std::move(rows), {}};
    for (std::size_t m = 0; m < kSketchedMeasures; ++m) table.counts[m] = in.GetBytes(count_bytes[m]);
    (i == 0 ? cells.whole : cells.buckets).emplace(std::move(table));
  }
  if (!in.ok() || in.remaining() != 0) return BadCells("are truncated");
  return cells;
}

Result<CellSketches> SegmentCells::Table::Sketches(const Segment& cells, std::size_t measure) const {
  CellSketches sketches;
  const ChunkInfo* values = cells.Find(MeasureName(measure), ColumnType::kInt);
  sketches.valid_.words.assign((cells.rows() + 63) / 64, 0);
  if (values == nullptr) return sketches;
  SPANBOX_ASSIGN_OR_RETURN(sketches.valid_, cells.ReadValidity(*values));
  const auto read = [&](const std::string& name, std::vector<std::int64_t>& to) -> Status {
    const ChunkInfo* chunk = cells.Find(name, ColumnType::kInt);
    if (chunk == nullptr || cells.ValiditySet(*chunk) != cells.ValiditySet(*values)) return BadCells("lack " + name);
    SPANBOX_ASSIGN_OR_RETURN(IntColumn column, cells.ReadInts(*chunk));
    to = std::move(column.values);
    return OkStatus();
  };
  SPANBOX_RETURN_IF_ERROR(read(Named(measure, kFirst), sketches.first_));
  SPANBOX_RETURN_IF_ERROR(read(Named(measure, kSize), sketches.size_));
  SPANBOX_RETURN_IF_ERROR(read(Named(measure, kAt), sketches.at_));
  SPANBOX_RETURN_IF_ERROR(read(CellColumn(MeasureName(measure), CellPart::kCount), sketches.count_));
  SPANBOX_RETURN_IF_ERROR(read(CellColumn(MeasureName(measure), CellPart::kSum), sketches.sum_));
  SPANBOX_RETURN_IF_ERROR(read(CellColumn(MeasureName(measure), CellPart::kMin), sketches.min_));
  SPANBOX_RETURN_IF_ERROR(read(CellColumn(MeasureName(measure), CellPart::kMax), sketches.max_));
  ByteReader in(counts[measure]);
  const std::uint64_t size = GetVarint(in);
  std::int64_t base = 0;
  int width = 0;
  if (!GetSequenceHead(in, base, width) || width > 32 || size > (std::uint64_t{1} << 32)) return BadCells("counts");
  const auto packed = in.GetBytes(PackedBytes(size, width));
  if (!in.ok() || in.remaining() != 0) return BadCells("counts are truncated");
  if (width == 0 && size > std::uint64_t{cells.rows()} * DDSketch::kMaxBuckets) return BadCells("too many counts");
  sketches.counts_.resize(size);
  UnpackBits(packed, base, width, std::span(sketches.counts_));
  return sketches;
}

Result<bool> CellSketches::Get(std::uint32_t row, DDSketch::Part& part) {
  if (!valid_[row]) return false;
  const auto at = static_cast<std::uint64_t>(at_[row]), size = static_cast<std::uint64_t>(size_[row]);
  if (at > counts_.size() || size > counts_.size() - at) return BadCells("counts of a cell lie outside");
  part.first = first_[row];
  part.counts = std::span<const std::uint32_t>(counts_).subspan(at, size);
  part.count = static_cast<std::uint64_t>(count_[row]);
  part.sum = static_cast<double>(sum_[row]);
  part.min = static_cast<double>(min_[row]);
  part.max = static_cast<double>(max_[row]);
  return true;
}

}  // namespace spanbox
