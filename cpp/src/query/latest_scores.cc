#include "query/latest_scores.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <tuple>

#include "base/hash.h"
#include "spanbox/score.h"

namespace spanbox {
namespace {

// A column of a few rows' values; validity is the caller's.
template <typename Column>
auto& Values(std::optional<Column>& column, std::uint32_t rows) {
  if (!column) {
    column.emplace();
    column->values.resize(rows);
    column->valid.words.resize((rows + 63) / 64);
  }
  return *column;
}

void SetValid(Validity& valid, std::uint32_t row) { valid.words[row / 64] |= std::uint64_t{1} << (row % 64); }

}  // namespace

LatestScores::TraceKey LatestScores::KeyOf(const TraceId& id) {
  std::uint64_t halves[2];
  static_assert(std::endian::native == std::endian::little);
  std::memcpy(halves, id.bytes.data(), sizeof halves);
  return {__builtin_bswap64(halves[0]), __builtin_bswap64(halves[1])};
}

Result<LatestScores> LatestScores::Read(ReadView& view, std::span<const SegmentMeta> spans, std::string_view name,
                                        const Interrupt& interrupt) {
  std::uint64_t low = std::numeric_limits<std::uint64_t>::max(), high = 0;
  for (const SegmentMeta& segment : spans) {
    low = std::min(low, segment.min_trace);
    high = std::max(high, segment.max_trace);
  }
  LatestScores scores;
  for (const SegmentMeta& segment : view.scores()) {
    if (segment.max_trace < low || segment.min_trace > high) continue;
    SPANBOX_RETURN_IF_ERROR(interrupt.Check());
    SPANBOX_ASSIGN_OR_RETURN(Segment loaded, view.Load(segment));
    SegmentColumns columns(std::move(loaded), segment.id, &interrupt);
    SPANBOX_RETURN_IF_ERROR(scores.AddSegment(columns, name));
  }
  scores.Sort();
  return scores;
}

Status LatestScores::AddSegment(SegmentColumns& scores, std::string_view name) {
  const ChunkInfo* chunk = scores.segment().Find("name", ColumnType::kString);
  if (chunk == nullptr || (chunk->has_zone && (name < chunk->min_text || name > chunk->max_text))) return OkStatus();
  SPANBOX_ASSIGN_OR_RETURN(const StringColumn* names, scores.Strings(*chunk));
  const auto found = std::ranges::lower_bound(names->dictionary, name);
  if (found == names->dictionary.end() || *found != name) return OkStatus();
  const auto code = static_cast<std::uint32_t>(found - names->dictionary.begin());
  Bitmap named(scores.rows());
  named.SetWhere([&](std::uint32_t row) { return names->codes[row] == code; });
  named &= names->valid;
  const std::vector<std::uint32_t> rows = named.Rows();

  SPANBOX_ASSIGN_OR_RETURN(const TraceIdColumn* traces, scores.TraceIds());
  SPANBOX_ASSIGN_OR_RETURN(const SpanIdColumn* spans, scores.SpanIds());
  SPANBOX_ASSIGN_OR_RETURN(const IntColumn* times, scores.Starts());
  const std::size_t before = entries_.size();
  entries_.reserve(before + rows.size());
  for (const std::uint32_t row : rows) {
    entries_.push_back({KeyOf(traces->values[row]), spans->values[row], times->values[row], 0, kNone, Kind::kNothing});
    any_of_trace_ |= spans->values[row] == 0;
  }
  const std::span<Entry> added = std::span(entries_).subspan(before);
  SPANBOX_RETURN_IF_ERROR(ReadValues(scores, rows, added));
  return ReadLabels(scores, rows, added);
}

Status LatestScores::ReadValues(SegmentColumns& scores, std::span<const std::uint32_t> rows, std::span<Entry> entries) {
  const auto read = [&](const auto& column, Kind kind, auto bits_of) {
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (!column.valid[rows[i]]) continue;
      entries[i].kind = kind;
      entries[i].bits = bits_of(column.values[rows[i]]);
    }
  };
  for (const ChunkInfo* chunk : scores.segment().Find(kScoreValue)) {
    if (chunk->type == ColumnType::kInt) {
      SPANBOX_ASSIGN_OR_RETURN(const IntColumn* c, scores.Ints(*chunk));
      read(*c, Kind::kInt, [](std::int64_t v) { return std::bit_cast<std::uint64_t>(v); });
    } else if (chunk->type == ColumnType::kFloat) {
      SPANBOX_ASSIGN_OR_RETURN(const FloatColumn* c, scores.Floats(*chunk));
      read(*c, Kind::kFloat, [](double v) { return std::bit_cast<std::uint64_t>(v); });
    } else if (chunk->type == ColumnType::kBool) {
      SPANBOX_ASSIGN_OR_RETURN(const BoolColumn* c, scores.Bools(*chunk));
      read(*c, Kind::kBool, [](std::uint8_t v) { return std::uint64_t{v}; });
    }
  }
  return OkStatus();
}

Status LatestScores::ReadLabels(SegmentColumns& scores, std::span<const std::uint32_t> rows, std::span<Entry> entries) {
  const auto code_of = [this](std::string_view label) {
    const auto found = label_codes_.find(label);
    if (found != label_codes_.end()) return found->second;
    return label_codes_.emplace(label, static_cast<std::uint32_t>(label_codes_.size())).first->second;
  };
  for (const ChunkInfo* chunk : scores.segment().Find(kScoreLabel)) {
    if (chunk->type == ColumnType::kString) {
      SPANBOX_ASSIGN_OR_RETURN(const StringColumn* c, scores.Strings(*chunk));
      std::vector<std::uint32_t> codes(c->dictionary.size(), kNone);
      for (std::size_t i = 0; i < rows.size(); ++i) {
        if (!c->valid[rows[i]]) continue;
        std::uint32_t& code = codes[c->codes[rows[i]]];
        if (code == kNone) code = code_of(c->dictionary[c->codes[rows[i]]]);
        entries[i].label = code;
      }
    } else if (chunk->type == ColumnType::kText) {
      SPANBOX_ASSIGN_OR_RETURN(TextColumn * c, scores.Text(*chunk));
      for (std::size_t i = 0; i < rows.size(); ++i) {
        if (!c->valid(rows[i])) continue;
        SPANBOX_ASSIGN_OR_RETURN(const std::string_view label, c->Get(rows[i]));
        entries[i].label = code_of(label);
      }
    }
  }
  return OkStatus();
}

void LatestScores::Sort() {
  // Those stored later come later, and stay so: the last of the equal ones is the one that counts.
  const auto before = [](const Entry& a, const Entry& b) {
    return std::tie(a.trace, a.span, a.at_ns) < std::tie(b.trace, b.span, b.at_ns);
  };
  if (!std::ranges::is_sorted(entries_, before)) std::ranges::stable_sort(entries_, before);
  std::size_t kept = 0;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const bool superseded = i + 1 < entries_.size() && entries_[i].trace == entries_[i + 1].trace &&
                            entries_[i].span == entries_[i + 1].span;
    if (!superseded) entries_[kept++] = entries_[i];
  }
  entries_.resize(kept);
  std::vector<std::uint32_t> rank(label_codes_.size());
  for (const auto& [label, code] : label_codes_) {
    rank[code] = static_cast<std::uint32_t>(labels_.size());
    labels_.push_back(label);
  }
  for (Entry& entry : entries_) {
    if (entry.label != kNone) entry.label = rank[entry.label];
  }
}

std::vector<ColumnType> LatestScores::Types() const {
  bool has_label = false;
  bool has[4] = {};
  for (const Entry& entry : entries_) {
    has[static_cast<std::size_t>(entry.kind)] = true;
    has_label |= entry.kind == Kind::kNothing && entry.label != kNone;
  }
  std::vector<ColumnType> types;
  if (has[static_cast<std::size_t>(Kind::kInt)]) types.push_back(ColumnType::kInt);
  if (has[static_cast<std::size_t>(Kind::kFloat)]) types.push_back(ColumnType::kFloat);
  if (has[static_cast<std::size_t>(Kind::kBool)]) types.push_back(ColumnType::kBool);
  if (has_label) types.push_back(ColumnType::kString);
  return types;
}

Result<bool> LatestScores::Match(SegmentColumns& columns, std::vector<std::uint32_t>& entry_of_row) const {
  SPANBOX_ASSIGN_OR_RETURN(const TraceIdColumn* traces, columns.TraceIds());
  SPANBOX_ASSIGN_OR_RETURN(const SpanIdColumn* spans, columns.SpanIds());
  const SpanIdColumn* parents = nullptr;
  const ChunkInfo* chunk = columns.segment().Find("parent_id", ColumnType::kSpanId);
  if (any_of_trace_ && chunk != nullptr) {
    SPANBOX_ASSIGN_OR_RETURN(parents, columns.SpanIds(*chunk));
  }
  bool any = false;
  entry_of_row.assign(columns.rows(), kNone);
  const auto trace_of = [](const Entry& entry) { return entry.trace; };
  std::size_t at = 0;  // of the trace found last: the next one is often behind it
  for (std::uint32_t begin = 0, end = 0; begin < columns.rows(); begin = end) {
    const TraceId& id = traces->values[begin];
    for (end = begin + 1; end < columns.rows() && traces->values[end] == id;) ++end;
    const TraceKey key = KeyOf(id);
    const bool behind = at > 0 && !(entries_[at - 1].trace < key);
    std::size_t low = behind ? 0 : at, step = 1;
    if (!behind) {
      for (; low + step < entries_.size() && entries_[low + step].trace < key; step *= 2) low += step;
    }
    const std::size_t high = behind ? at : std::min(entries_.size(), low + step + 1);
    at = static_cast<std::size_t>(std::ranges::lower_bound(entries_.begin() + static_cast<std::ptrdiff_t>(low),
                                                           entries_.begin() + static_cast<std::ptrdiff_t>(high), key,
                                                           {}, trace_of) -
                                  entries_.begin());
    std::size_t last = at;
    while (last < entries_.size() && entries_[last].trace == key) ++last;
    if (last == at) continue;
    const std::span<const Entry> of_trace = std::span(entries_).subspan(at, last - at);
    for (std::uint32_t row = begin; row < end; ++row) {
      const auto own = std::ranges::lower_bound(of_trace, spans->values[row], {}, &Entry::span);
      const bool has_own = own != of_trace.end() && own->span == spans->values[row];
      const bool is_root = parents == nullptr || !parents->valid[row];
      const bool of_whole = of_trace.front().span == 0 && is_root;
      if (!has_own && !of_whole) continue;
      const bool own_counts = has_own && (!of_whole || own->at_ns >= of_trace.front().at_ns);
      const std::size_t place = own_counts ? static_cast<std::size_t>(own - of_trace.begin()) : 0;
      entry_of_row[row] = static_cast<std::uint32_t>(at + place);
      any = true;
    }
  }
  return any;
}

Result<LatestScores::Joined> LatestScores::Join(SegmentColumns& columns, Prefer prefer) const {
  Joined joined;
  std::vector<std::uint32_t> entry_of_row;
  SPANBOX_ASSIGN_OR_RETURN(const bool any, Match(columns, entry_of_row));
  if (!any) return joined;
  const std::uint32_t rows = columns.rows();
  for (std::uint32_t row = 0; row < rows; ++row) {
    if (entry_of_row[row] == kNone) continue;
    const Entry& entry = entries_[entry_of_row[row]];
    const bool labelled = entry.label != kNone && (prefer == Prefer::kLabel || entry.kind == Kind::kNothing);
    if (labelled) {
      if (!joined.labels) {
        joined.labels.emplace();
        joined.labels->dictionary = labels_;
        joined.labels->codes.resize(rows);
        joined.labels->valid.words.resize((rows + 63) / 64);
      }
      joined.labels->codes[row] = entry.label;
      SetValid(joined.labels->valid, row);
    } else if (entry.kind == Kind::kInt) {
      auto& column = Values(joined.ints, rows);
      column.values[row] = std::bit_cast<std::int64_t>(entry.bits);
      SetValid(column.valid, row);
    } else if (entry.kind == Kind::kFloat) {
      auto& column = Values(joined.floats, rows);
      column.values[row] = std::bit_cast<double>(entry.bits);
      SetValid(column.valid, row);
    } else if (entry.kind == Kind::kBool) {
      auto& column = Values(joined.bools, rows);
      column.values[row] = entry.bits != 0;
      SetValid(column.valid, row);
    }
  }
  return joined;
}

}  // namespace spanbox
