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

// What the codes of cells stand for.
struct Names {
  std::span<const std::string_view> kinds, statuses, models;
};

// Columns bytes u32, bytes of the counts u32 each, the columns, the counts.
std::string EncodeTable(const Names& texts, const std::vector<Cell>& cells, bool by_bucket) {
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
    row.kind = SpanKindFromString(texts.kinds[cell.kind]).value_or(SpanKind::kSpan);
    row.status = SpanStatusFromString(texts.statuses[cell.status]).value_or(SpanStatus::kOk);
    row.duration_ns = -1;
    if (cell.model > 0) {
      fields.push_back({Column::kModel, {}, Value::String(texts.models[cell.model - 1])});
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

// The value of one table, or of two.
std::string Sealed(const std::string& whole, const std::string& buckets) {
  std::string out;
  PutFixed(std::uint32_t{buckets.empty() ? 1u : 2u}, out);
  out += whole;
  out += buckets;
  const std::uint64_t checksum = Hash64(std::as_bytes(std::span(out)));
  std::string sealed;
  PutFixed(checksum, sealed);
  return sealed + out;
}

// Strings by code, in the order they come. Borrows them.
class Codes {
 public:
  std::uint32_t Of(std::string_view text) {
    const auto [place, added] = codes_.try_emplace(text, static_cast<std::uint32_t>(texts_.size()));
    if (added) texts_.push_back(text);
    return place->second;
  }
  std::span<const std::string_view> texts() const { return texts_; }

 private:
  absl::flat_hash_map<std::string_view, std::uint32_t> codes_;
  std::vector<std::string_view> texts_;
};

// Adds up the cells of several tables of one kind.
class CellJoiner {
 public:
  CellJoiner(std::int64_t whole_ns, bool by_bucket) : whole_ns_(whole_ns), by_bucket_(by_bucket) {}

  Status Add(const SegmentCells::Table& table) {
    const Segment& rows = table.rows;
    std::vector<std::size_t> places;
    SPANBOX_RETURN_IF_ERROR(FindCells(rows, places));
    SPANBOX_ASSIGN_OR_RETURN(const std::vector<std::uint64_t> spans, SpansOfCells(rows));
    for (std::size_t row = 0; row < places.size(); ++row) Sum(cells_[places[row]].spans, spans[row]);
    for (std::size_t i = 0; i < kSketchedMeasures; ++i) SPANBOX_RETURN_IF_ERROR(AddMeasure(table, i, places));
    return OkStatus();
  }

  // Empty when a sum was too large.
  std::string Finish() const {
    if (too_large_) return {};
    return EncodeTable({kinds_.texts(), statuses_.texts(), models_.texts()}, cells_, by_bucket_);
  }

 private:
  using Key = std::tuple<std::int64_t, std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t>;

  template <typename T>
  void Sum(std::int64_t& sum, T value) {
    too_large_ |= __builtin_add_overflow(sum, value, &sum);
  }

  // The cell that each of the table's goes to.
  Status FindCells(const Segment& rows, std::vector<std::size_t>& places) {
    bool other = false;
    const ChunkInfo* models = Only(rows, NameOf(Column::kModel), ColumnType::kString, other);
    const ChunkInfo* kinds = Only(rows, NameOf(Column::kKind), ColumnType::kString, other);
    const ChunkInfo* statuses = Only(rows, NameOf(Column::kStatus), ColumnType::kString, other);
    if (other || kinds == nullptr || statuses == nullptr) return BadCells("lack kind or status");
    SPANBOX_ASSIGN_OR_RETURN(const StringColumn kind, rows.ReadStrings(*kinds));
    SPANBOX_ASSIGN_OR_RETURN(const StringColumn status, rows.ReadStrings(*statuses));
    SPANBOX_ASSIGN_OR_RETURN(const IntColumn starts,
                             rows.ReadInts(*rows.Find(NameOf(Column::kStartNs), ColumnType::kInt)));
    StringColumn model;
    if (models != nullptr) {
      SPANBOX_ASSIGN_OR_RETURN(model, rows.ReadStrings(*models));
    }
    std::vector<std::uint32_t> has(rows.rows());
    for (std::size_t i = 0; i < kSketchedMeasures; ++i) {
      const ChunkInfo* values = rows.Find(MeasureName(i), ColumnType::kInt);
      if (values == nullptr) continue;
      SPANBOX_ASSIGN_OR_RETURN(const Validity valid, rows.ReadValidity(*values));
      for (std::uint32_t row = 0; row < has.size(); ++row) has[row] |= valid[row] ? 1u << i : 0;
    }
    for (std::uint32_t row = 0; row < has.size(); ++row) {
      const bool named = models != nullptr && model.valid[row];
      const Key key{by_bucket_ ? starts.values[row] : whole_ns_, kinds_.Of(kind.dictionary[kind.codes[row]]),
                    statuses_.Of(status.dictionary[status.codes[row]]),
                    named ? models_.Of(model.dictionary[model.codes[row]]) + 1 : 0, has[row]};
      const auto [place, added] = known_.try_emplace(key, cells_.size());
      if (added) {
        Cell& cell = cells_.emplace_back();
        std::tie(cell.bucket_ns, cell.kind, cell.status, cell.model, cell.has) = key;
      }
      places.push_back(place->second);
    }
    return OkStatus();
  }

  Status AddMeasure(const SegmentCells::Table& table, std::size_t i, std::span<const std::size_t> places) {
    const ChunkInfo* values = table.rows.Find(MeasureName(i), ColumnType::kInt);
    if (values == nullptr) return OkStatus();
    SPANBOX_ASSIGN_OR_RETURN(const Validity valid, table.rows.ReadValidity(*values));
    IntColumn sums, least, most;
    const std::pair<CellPart, IntColumn*> parts[] = {
        {CellPart::kSum, &sums}, {CellPart::kMin, &least}, {CellPart::kMax, &most}};
    for (const auto& [part, to] : parts) {
      const ChunkInfo* chunk = table.rows.Find(CellColumn(MeasureName(i), part), ColumnType::kInt);
      if (chunk == nullptr) return BadCells("lack a sum or an extreme");
      SPANBOX_ASSIGN_OR_RETURN(*to, table.rows.ReadInts(*chunk));
    }
    const bool sketched = SegmentCells::Sketches(i, by_bucket_);
    CellSketches sketches;
    if (sketched) {
      SPANBOX_ASSIGN_OR_RETURN(sketches, table.Sketches(table.rows, i));
    }
    DDSketch::Part part;
    for (std::uint32_t row = 0; row < places.size(); ++row) {
      if (!valid[row]) continue;
      Measured& measured = cells_[places[row]].measures[i];
      Sum(measured.sum, sums.values[row]);
      measured.min = std::min(measured.min, least.values[row]);
      measured.max = std::max(measured.max, most.values[row]);
      if (!sketched) continue;
      SPANBOX_ASSIGN_OR_RETURN(const bool any, sketches.Get(row, part));
      if (any) SPANBOX_RETURN_IF_ERROR(measured.sketch.Merge(part));
    }
    return OkStatus();
  }

  const std::int64_t whole_ns_;
  const bool by_bucket_;
  Codes kinds_, statuses_, models_;
  absl::flat_hash_map<Key, std::size_t> known_;
  std::vector<Cell> cells_;
  bool too_large_ = false;
};

}  // namespace

std::string EncodeCells(const Segment& segment, std::size_t most_bytes) {
  const auto source = ReadSource(segment);
  if (!source.ok() || !source->has_value()) return {};
  const Names names{(*source)->kinds.dictionary, (*source)->statuses.dictionary, (*source)->models.dictionary};
  const std::string whole = EncodeTable(names, MakeCells(**source, segment.min_start_ns(), false), false);
  if (whole.size() > most_bytes) return {};
  const std::string buckets = EncodeTable(names, MakeCells(**source, 0, true), true);
  return Sealed(whole, whole.size() + buckets.size() <= most_bytes ? buckets : std::string());
}

Result<std::string> JoinCells(std::span<const SegmentCells> parts, bool buckets) {
  std::int64_t first_ns = std::numeric_limits<std::int64_t>::max();
  for (const SegmentCells& part : parts) first_ns = std::min(first_ns, part.whole->rows.min_start_ns());
  CellJoiner whole(first_ns, false), by_bucket(0, true);
  std::size_t apart = 0;
  for (const SegmentCells& part : parts) {
    SPANBOX_RETURN_IF_ERROR(whole.Add(*part.whole));
    buckets &= part.buckets.has_value();
    if (!buckets) continue;
    SPANBOX_RETURN_IF_ERROR(by_bucket.Add(*part.buckets));
    apart += part.buckets->bytes;
  }
  const std::string first = whole.Finish();
  if (first.empty()) return first;
  std::string second = buckets ? by_bucket.Finish() : std::string();
  if (second.size() > apart / 4 * 3) second.clear();
  return Sealed(first, second);
}

std::string CellsOf(const SegmentBuilder::Encoded& encoded) {
  constexpr std::size_t kPart = 25, kMostBytesPerRow = 2;
  const auto no_text = [](std::uint32_t) -> Result<std::span<const std::byte>> { return BadCells("need no text"); };
  const auto segment = Segment::Open(std::as_bytes(std::span(encoded.columns)), no_text);
  if (!segment.ok()) return {};
  const std::size_t bytes = encoded.columns.size() + encoded.text_bytes;
  return EncodeCells(*segment, std::min(bytes / kPart, kMostBytesPerRow * encoded.rows));
}

Result<SegmentCells> SegmentCells::Open(CellsValue value, Tables wanted) {
  ByteReader in(value.bytes);
  const auto checksum = in.Get<std::uint64_t>();
  const bool known = value.verified != nullptr && value.verified->load(std::memory_order_relaxed);
  if (!in.ok() || (!known && Hash64(value.bytes.subspan(sizeof checksum)) != checksum)) {
    return BadCells("checksum differs");
  }
  if (value.verified != nullptr) value.verified->store(true, std::memory_order_relaxed);
  const auto tables = in.Get<std::uint32_t>();
  if (tables == 0 || tables > kMaxTables) return BadCells("impossible number of tables");
  SegmentCells cells;
  for (std::uint32_t i = 0; i < tables; ++i) {
    const auto column_bytes = in.Get<std::uint32_t>();
    std::array<std::uint32_t, kSketchedMeasures> count_bytes;
    for (std::uint32_t& size : count_bytes) size = in.Get<std::uint32_t>();
    const auto columns = in.GetBytes(column_bytes);
    std::array<std::span<const std::byte>, kSketchedMeasures> counts;
    for (std::size_t m = 0; m < kSketchedMeasures; ++m) counts[m] = in.GetBytes(count_bytes[m]);
    if (!in.ok()) return BadCells("are truncated");
    if (wanted == (i == 0 ? Tables::kBuckets : Tables::kWhole)) continue;
    const auto no_text = [](std::uint32_t) -> Result<std::span<const std::byte>> { return BadCells("have no text"); };
    SPANBOX_ASSIGN_OR_RETURN(Segment rows, Segment::Open(columns, no_text));
    std::size_t size = columns.size();
    for (const auto& part : counts) size += part.size();
    (i == 0 ? cells.whole : cells.buckets).emplace(Table{std::move(rows), counts, size});
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
