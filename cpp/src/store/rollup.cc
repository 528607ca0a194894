#include "store/rollup.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <variant>
#include <vector>

#include "base/coding.h"
#include "spanbox/sketch.h"
#include "store/env.h"
#include "store/segment_format.h"
#include "store/segment_rows.h"

namespace spanbox {
namespace {

constexpr std::size_t kDimensions = std::size(kRollupDimensions);
constexpr std::size_t kMeasures = std::size(kRollupMeasures);
constexpr std::size_t kParts = 6;
constexpr std::int64_t kMaxSpans = std::int64_t{1} << 53;  // in one cell: what a double can count

using Number = std::variant<std::int64_t, double>;

double AsDouble(const Number& n) {
  const auto* integer = std::get_if<std::int64_t>(&n);
  return integer != nullptr ? static_cast<double>(*integer) : std::get<double>(n);
}

Number Plus(const Number& a, const Number& b) {
  const auto *x = std::get_if<std::int64_t>(&a), *y = std::get_if<std::int64_t>(&b);
  std::int64_t sum;
  if (x != nullptr && y != nullptr && !__builtin_add_overflow(*x, *y, &sum)) return sum;
  return AsDouble(a) + AsDouble(b);
}

bool Less(const Number& a, const Number& b) {
  const auto *x = std::get_if<std::int64_t>(&a), *y = std::get_if<std::int64_t>(&b);
  return x != nullptr && y != nullptr ? *x < *y : AsDouble(a) < AsDouble(b);
}

std::optional<Number> NumberOf(const Value& value) {
  switch (value.type) {
    case ValueType::kInt:
      return value.integer;
    case ValueType::kBool:
      return std::int64_t{value.boolean};
    case ValueType::kFloat:
      return std::isnan(value.number) ? std::nullopt : std::optional<Number>(value.number);
    default:
      return std::nullopt;
  }
}

Value ValueOf(const Number& n) {
  const auto* integer = std::get_if<std::int64_t>(&n);
  return integer != nullptr ? Value::Int(*integer) : Value::Float(std::get<double>(n));
}

struct Measured {
  std::uint64_t values = 0;   // spans with any value
  std::uint64_t numbers = 0;  // spans with a number; the next three are of these
  Number sum = std::int64_t{0}, min = std::int64_t{0}, max = std::int64_t{0};

  void Merge(const Measured& other) {
    values += other.values;
    if (other.numbers == 0) return;
    if (numbers == 0 || Less(other.min, min)) min = other.min;
    if (numbers == 0 || Less(max, other.max)) max = other.max;
    sum = Plus(sum, other.sum);
    numbers += other.numbers;
  }
};

struct Cell {
  std::uint64_t spans = 0;
  std::array<Measured, kMeasures> measures;
  std::array<DDSketch, kSketchedMeasures> sketches;

  Status Merge(const Cell& other) {
    spans += other.spans;
    for (std::size_t i = 0; i < kMeasures; ++i) measures[i].Merge(other.measures[i]);
    for (std::size_t i = 0; i < kSketchedMeasures; ++i) SPANBOX_RETURN_IF_ERROR(sketches[i].Merge(other.sketches[i]));
    return OkStatus();
  }
};

// What tells cells apart, borrowed.
struct CellKey {
  std::int64_t bucket_ns = 0;
  SpanKind kind = SpanKind::kSpan;
  SpanStatus status = SpanStatus::kOk;
  bool folded = false;
  std::string_view name;
  std::array<const Value*, kDimensions> dimensions{};

  void Fold() {
    static constexpr Value kOther{.type = ValueType::kString, .text = kFoldedText};
    folded = true;
    name = kFoldedText;
    dimensions.fill(&kOther);
  }
};

// A key as bytes: bucket i64, kind, status, folded u8, name, then for each dimension its type (0: none) and value.
void Encode(const CellKey& key, ByteBuffer& out) {
  const auto put_text = [&out](std::string_view text) {
    out.Put(static_cast<std::uint32_t>(text.size()));
    out.PutText(text);
  };
  out.Clear();
  out.Put(key.bucket_ns);
  out.Put(static_cast<std::uint8_t>(key.kind));
  out.Put(static_cast<std::uint8_t>(key.status));
  out.Put(static_cast<std::uint8_t>(key.folded));
  put_text(key.name);
  for (const Value* value : key.dimensions) {
    out.Put(static_cast<std::uint8_t>(value == nullptr ? 0 : static_cast<std::uint8_t>(value->type)));
    if (value == nullptr) continue;
    switch (value->type) {
      case ValueType::kBool:
        out.Put(static_cast<std::uint8_t>(value->boolean));
        break;
      case ValueType::kInt:
        out.Put(value->integer);
        break;
      case ValueType::kFloat:
        out.Put(value->number);
        break;
      default:
        put_text(value->text);
    }
  }
}

// The other way round; REQUIRES: bytes made by Encode. Values point into them.
void Decode(std::string_view bytes, CellKey& key, std::array<Value, kDimensions>& values) {
  ByteReader in(AsBytes(bytes));
  const auto get_text = [&in] { return in.GetText(in.Get<std::uint32_t>()); };
  key.bucket_ns = in.Get<std::int64_t>();
  key.kind = static_cast<SpanKind>(in.Get<std::uint8_t>());
  key.status = static_cast<SpanStatus>(in.Get<std::uint8_t>());
  key.folded = in.Get<std::uint8_t>() != 0;
  key.name = get_text();
  for (std::size_t i = 0; i < kDimensions; ++i) {
    const auto type = static_cast<ValueType>(in.Get<std::uint8_t>());
    key.dimensions[i] = type == ValueType{} ? nullptr : &values[i];
    switch (type) {
      case ValueType{}:
        break;
      case ValueType::kBool:
        values[i] = Value::Bool(in.Get<std::uint8_t>() != 0);
        break;
      case ValueType::kInt:
        values[i] = Value::Int(in.Get<std::int64_t>());
        break;
      case ValueType::kFloat:
        values[i] = Value::Float(in.Get<double>());
        break;
      default:
        values[i] = type == ValueType::kString ? Value::String(get_text()) : Value::Json(get_text());
    }
  }
}

constexpr std::int64_t FloorToBucket(std::int64_t ns) {
  const std::int64_t rest = ns % kRollupBucketNs;
  // The first bucket of all time begins before the first nanosecond there is: it begins late instead.
  constexpr std::int64_t kFirst = std::numeric_limits<std::int64_t>::min() / kRollupBucketNs * kRollupBucketNs;
  return rest >= 0 || ns < kFirst ? std::max(ns - rest, kFirst) : ns - rest - kRollupBucketNs;
}

Status NoRollup(std::string_view why) { return DataLoss("rollup: " + std::string(why)); }

// "ttft_ns.sum" and the like: names of the attributes a cell is stored as.
const std::map<std::string, std::pair<std::size_t, CellPart>, std::less<>>& PartNames() {
  static const auto* names = [] {
    auto* made = new std::map<std::string, std::pair<std::size_t, CellPart>, std::less<>>;
    for (std::size_t i = 0; i < kMeasures; ++i) {
      for (std::size_t part = 0; part < kParts; ++part) {
        const auto measure = Columns()[static_cast<std::size_t>(kRollupMeasures[i])].name;
        made->emplace(CellColumn(measure, static_cast<CellPart>(part)), std::pair(i, static_cast<CellPart>(part)));
      }
    }
    return made;
  }();
  return *names;
}

const std::string& PartName(std::size_t measure, CellPart part) {
  static const auto* names = [] {
    auto* made = new std::array<std::array<std::string, kParts>, kMeasures>;
    for (const auto& [name, place] : PartNames()) (*made)[place.first][static_cast<std::size_t>(place.second)] = name;
    return made;
  }();
  return (*names)[measure][static_cast<std::size_t>(part)];
}
// Made while the program is loaded: a child forked while another thread makes them would wait for that thread for ever.
[[maybe_unused]] const bool part_names_are_made = !PartName(0, CellPart{}).empty();

// Fills `cell` and `key` from a row of a rollup; `key` points into the row.
Status ReadCell(const SpanRow& row, CellKey& key, Cell& cell) {
  key = {.bucket_ns = row.start_ns, .kind = row.kind, .status = row.status, .name = row.name};
  if (FloorToBucket(row.start_ns) != row.start_ns) return NoRollup("a cell's time begins no bucket");
  std::array<bool, kMeasures> numbers_given{};
  for (const Field& field : row.fields) {
    const auto dimension = std::ranges::find(kRollupDimensions, field.column);
    if (dimension != std::end(kRollupDimensions)) {
      key.dimensions[static_cast<std::size_t>(dimension - kRollupDimensions)] = &field.value;
      continue;
    }
    const auto count = [&]() -> std::uint64_t {
      const bool fits = field.value.type == ValueType::kInt && field.value.integer >= 0;
      return fits ? static_cast<std::uint64_t>(field.value.integer) : ~std::uint64_t{0};
    };
    if (field.name == kCellCount) cell.spans = count();
    if (field.name == kCellFolded) key.folded = true;
    const auto part = PartNames().find(field.name);
    if (part == PartNames().end()) continue;  // of a later version
    const std::size_t i = part->second.first;
    Measured& measured = cell.measures[i];
    const auto number = NumberOf(field.value);
    switch (part->second.second) {
      case CellPart::kCount:
        measured.values = count();
        break;
      case CellPart::kNumbers:
        measured.numbers = count();
        numbers_given[i] = true;
        break;
      case CellPart::kSum:
        measured.sum = number.value_or(std::nan(""));
        break;
      case CellPart::kMin:
        measured.min = number.value_or(std::nan(""));
        break;
      case CellPart::kMax:
        measured.max = number.value_or(std::nan(""));
        break;
      case CellPart::kSketch:
        if (i >= kSketchedMeasures) return NoRollup("a sketch of what has none");
        SPANBOX_ASSIGN_OR_RETURN(cell.sketches[i], DDSketch::Deserialize(AsBytes(field.value.text)));
        if (cell.sketches[i].relative_error() != DDSketch::kDefaultRelativeError) return NoRollup("a foreign sketch");
    }
  }
  if (cell.spans == 0 || cell.spans > kMaxSpans) return NoRollup("impossible number of spans in a cell");
  for (std::size_t i = 0; i < kMeasures; ++i) {
    Measured& measured = cell.measures[i];
    if (!numbers_given[i]) measured.numbers = measured.values;
    if (measured.values > cell.spans || measured.numbers > measured.values) return NoRollup("impossible count");
  }
  return OkStatus();
}

// The other way round than ReadCell.
void AddRow(std::string_view key_bytes, const Cell& cell, SegmentBuilder& rows) {
  CellKey key;
  std::array<Value, kDimensions> values;
  Decode(key_bytes, key, values);
  std::vector<Field> fields;
  for (std::size_t i = 0; i < kDimensions; ++i) {
    if (key.dimensions[i] != nullptr) fields.push_back({kRollupDimensions[i], {}, *key.dimensions[i]});
  }
  const auto put = [&fields](std::string_view name, Value value) {
    fields.push_back({Column::kAttribute, name, value});
  };
  const auto count = [](std::uint64_t spans) { return Value::Int(static_cast<std::int64_t>(spans)); };
  put(kCellCount, count(cell.spans));
  if (key.folded) put(kCellFolded, Value::Bool(true));
  std::array<std::string, kSketchedMeasures> sketches;
  for (std::size_t i = 0; i < kMeasures; ++i) {
    const Measured& m = cell.measures[i];
    if (m.values == 0) continue;
    put(PartName(i, CellPart::kCount), count(m.values));
    if (m.numbers != m.values) put(PartName(i, CellPart::kNumbers), count(m.numbers));
    if (m.numbers == 0) continue;
    put(PartName(i, CellPart::kSum), ValueOf(m.sum));
    put(PartName(i, CellPart::kMin), ValueOf(m.min));
    put(PartName(i, CellPart::kMax), ValueOf(m.max));
    if (i >= kSketchedMeasures) continue;
    sketches[i] = cell.sketches[i].Serialize();
    // As JSON, which a sketch is not: what is JSON is stored as compressed text, however short.
    put(PartName(i, CellPart::kSketch), Value::Json(sketches[i]));
  }
  SpanRow row;
  row.trace_id.bytes.back() = 1;
  row.span_id = rows.rows() + 1;
  row.name = key.name;
  row.kind = key.kind;
  row.status = key.status;
  row.start_ns = key.bucket_ns;
  row.fields = fields;
  rows.Add(row);
}

}  // namespace

std::int64_t RollupBucketOf(std::int64_t start_ns) { return FloorToBucket(start_ns); }

std::string CellColumn(std::string_view measure, CellPart part) {
  static constexpr std::string_view kNames[kParts] = {".count", ".numbers", ".sum", ".min", ".max", ".sketch"};
  return std::string(measure) + std::string(kNames[static_cast<std::size_t>(part)]);
}

struct RollupBuilder::Impl {
  using Cells = std::map<std::string, Cell, std::less<>>;
  Cells cells;  // by encoded key
  ByteBuffer scratch;

  Cell& CellOf(const CellKey& key) {
    Encode(key, scratch);
    const auto found = cells.find(scratch.text());
    return found != cells.end() ? found->second : cells.try_emplace(std::string(scratch.text())).first->second;
  }

  void FoldBucket(std::vector<Cells::iterator>& bucket);
  void FoldRare();
};

RollupBuilder::RollupBuilder() : impl_(std::make_unique<Impl>()) {}
RollupBuilder::~RollupBuilder() = default;

bool RollupBuilder::empty() const { return impl_->cells.empty(); }

void RollupBuilder::Add(const SpanRow& span) {
  CellKey key{.bucket_ns = FloorToBucket(span.start_ns), .kind = span.kind, .status = span.status, .name = span.name};
  std::array<const Value*, kMeasures> values{};
  const Value duration = Value::Int(span.duration_ns);
  if (span.duration_ns != -1) values[0] = &duration;
  for (const Field& field : span.fields) {
    const Column column = StoredColumn(field);
    if (column == Column::kAttribute) continue;
    const auto measure = std::ranges::find(kRollupMeasures, column);
    if (measure != std::end(kRollupMeasures))
      values[static_cast<std::size_t>(measure - kRollupMeasures)] = &field.value;
    const auto dimension = std::ranges::find(kRollupDimensions, column);
    if (dimension != std::end(kRollupDimensions)) {
      key.dimensions[static_cast<std::size_t>(dimension - kRollupDimensions)] = &field.value;
    }
  }
  const auto is_long = [](const Value* value) { return value != nullptr && value->text.size() > kMaxShortString; };
  if (key.name.size() > kMaxShortString || std::ranges::any_of(key.dimensions, is_long)) key.Fold();
  const auto place = [](Column c) { return std::ranges::find(kRollupMeasures, c) - kRollupMeasures; };
  static const auto ttft = place(Column::kTtftNs), tpot = place(Column::kTpotNs), output = place(Column::kOutputTokens);
  Value derived;
  if (values[tpot] == nullptr && values[ttft] != nullptr && values[output] != nullptr) {
    if (const auto tpot_ns = DerivedTpot(span.duration_ns, *values[ttft], *values[output])) {
      derived = Value::Int(*tpot_ns);
      values[tpot] = &derived;
    }
  }

  Cell& cell = impl_->CellOf(key);
  ++cell.spans;
  for (std::size_t i = 0; i < kMeasures; ++i) {
    if (values[i] == nullptr) continue;
    const auto number = NumberOf(*values[i]);
    const std::uint64_t numbers = number ? 1 : 0;
    const Number one = number.value_or(std::int64_t{0});
    cell.measures[i].Merge({.values = 1, .numbers = numbers, .sum = one, .min = one, .max = one});
    if (number && i < kSketchedMeasures) cell.sketches[i].Add(AsDouble(*number));
  }
}

Status RollupBuilder::AddCells(const Segment& rollup) {
  SPANBOX_ASSIGN_OR_RETURN(SegmentRows rows, SegmentRows::Open(rollup));
  for (std::uint32_t row = 0; row < rows.rows(); ++row) {
    SPANBOX_ASSIGN_OR_RETURN(const SpanRow span, rows.Row(row));
    CellKey key;
    Cell read;
    SPANBOX_RETURN_IF_ERROR(ReadCell(span, key, read));
    Cell& cell = impl_->CellOf(key);
    if (cell.spans + read.spans > kMaxSpans) return NoRollup("more spans in a cell than can be counted");
    SPANBOX_RETURN_IF_ERROR(cell.Merge(read));
  }
  return OkStatus();
}

// Leaves the cells with most spans, and puts the others into one for each kind and status.
void RollupBuilder::Impl::FoldBucket(std::vector<Cells::iterator>& bucket) {
  std::ranges::sort(bucket, [](const auto& a, const auto& b) {
    return a->second.spans != b->second.spans ? a->second.spans > b->second.spans : a->first < b->first;
  });
  for (std::size_t i = kMaxBucketCells; i < bucket.size(); ++i) {
    const auto rare = cells.extract(bucket[i]);
    CellKey key;
    std::array<Value, kDimensions> values;
    Decode(rare.key(), key, values);
    key.Fold();
    [[maybe_unused]] const Status merged = CellOf(key).Merge(rare.mapped());  // sketches of one error: never fails
  }
}

void RollupBuilder::Impl::FoldRare() {
  if (cells.size() <= kMaxBucketCells) return;
  std::map<std::int64_t, std::vector<Cells::iterator>> buckets;
  for (auto cell = cells.begin(); cell != cells.end(); ++cell) {
    CellKey key;
    std::array<Value, kDimensions> values;
    Decode(cell->first, key, values);
    if (!key.folded) buckets[key.bucket_ns].push_back(cell);
  }
  for (auto& [bucket_ns, bucket] : buckets) {
    if (bucket.size() > kMaxBucketCells) FoldBucket(bucket);
  }
}

SegmentBuilder::Encoded RollupBuilder::Finish(SegmentBuilder& rows) {
  impl_->FoldRare();
  for (const auto& [key, cell] : impl_->cells) AddRow(key, cell, rows);
  impl_->cells.clear();
  return rows.Finish();
}

Result<std::vector<std::uint64_t>> SpansOfCells(const Segment& rollup) {
  const ChunkInfo* chunk = rollup.Find(kCellCount, ColumnType::kInt);
  if (chunk == nullptr || chunk->valid_count != rollup.rows()) return NoRollup("cells without a number of spans");
  SPANBOX_ASSIGN_OR_RETURN(const IntColumn column, rollup.ReadInts(*chunk));
  std::vector<std::uint64_t> spans;
  for (const std::int64_t count : column.values) {
    if (count < 1 || count > kMaxSpans) return NoRollup("impossible number of spans in a cell");
    spans.push_back(static_cast<std::uint64_t>(count));
  }
  return spans;
}

}  // namespace spanbox
