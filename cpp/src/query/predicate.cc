#include "query/predicate.h"

#include <algorithm>
#include <bitset>
#include <functional>

#include "query/block_test.h"
#include "query/latest_scores.h"
#include "query/matchers.h"
#include "query/relatives.h"

namespace spanbox {
namespace {

enum class Verdict { kNone, kAll, kSome };

Verdict ZoneOfInts(const ChunkInfo& chunk, const std::vector<IntRange>& ranges) {
  if (ranges.empty()) return Verdict::kNone;
  if (!chunk.has_zone) return Verdict::kSome;
  bool overlaps = false;
  for (const IntRange& range : ranges) {
    if (range.low <= chunk.min_int && chunk.max_int <= range.high) return Verdict::kAll;
    overlaps |= range.low <= chunk.max_int && chunk.min_int <= range.high;
  }
  return overlaps ? Verdict::kSome : Verdict::kNone;
}

// Never kAll: a zone says nothing of NaN.
Verdict ZoneOfFloats(const ChunkInfo& chunk, const std::vector<FloatRange>& ranges) {
  if (ranges.empty()) return Verdict::kNone;
  const bool overlaps = std::ranges::any_of(
      ranges, [&](const FloatRange& range) { return range.low <= chunk.max_number && chunk.min_number <= range.high; });
  return !chunk.has_zone || overlaps ? Verdict::kSome : Verdict::kNone;
}

// Beside text a score is its label.
Prefer PreferredBy(const Term& term) {
  const bool text = term.comparison == Comparison::kMatches ||
                    (!term.values.empty() && std::ranges::all_of(term.values, [](const Literal& literal) {
                      return literal.type == Literal::Type::kText;
                    }));
  return text ? Prefer::kLabel : Prefer::kNumber;
}

class TermEvaluator {
 public:
  TermEvaluator(const Term& term, SegmentColumns& columns, const Bitmap& candidates)
      : term_(term), columns_(columns), candidates_(candidates), numbers_(term), texts_(term) {}

  Result<Bitmap> Run() {
    Bitmap selected(columns_.rows());
    SPANBOX_ASSIGN_OR_RETURN(const auto chunks, columns_.Find(term_.column, PreferredBy(term_)));
    for (const ChunkInfo* chunk : chunks) {
      matches_ = Bitmap(columns_.rows());
      SPANBOX_ASSIGN_OR_RETURN(const Verdict verdict, Match(*chunk));
      if (verdict == (term_.negated ? Verdict::kAll : Verdict::kNone)) continue;
      SPANBOX_ASSIGN_OR_RETURN(Bitmap rows, columns_.ValidRows(*chunk));
      if (verdict == Verdict::kSome) term_.negated ? rows -= matches_ : rows &= matches_;
      selected |= rows;
    }
    selected &= candidates_;
    return selected;
  }

 private:
  // kNone, kAll: of the rows with a value. kSome: those in matches_, where rows without one may be set as well.
  Result<Verdict> Match(const ChunkInfo& chunk) {
    switch (chunk.type) {
      case ColumnType::kInt:
        return MatchInts(chunk);
      case ColumnType::kFloat:
        return MatchFloats(chunk);
      case ColumnType::kBool:
        return MatchBools(chunk);
      case ColumnType::kString:
        return MatchStrings(chunk);
      case ColumnType::kText:
        return MatchText(chunk);
      case ColumnType::kTraceId:
        return MatchTraces(chunk);
      case ColumnType::kSpanId: {
        SPANBOX_ASSIGN_OR_RETURN(const SpanIdColumn* column, columns_.SpanIds(chunk));
        return MatchIds(column->values, [](const Literal& literal) { return literal.span_id; });
      }
    }
    return Verdict::kNone;
  }

  Result<Verdict> MatchInts(const ChunkInfo& chunk) {
    const Verdict verdict = ZoneOfInts(chunk, numbers_.ints());
    if (verdict != Verdict::kSome) return verdict;
    SPANBOX_ASSIGN_OR_RETURN(const IntColumn* column, columns_.Ints(chunk));
    const std::int64_t* values = column->values.data();
    if (numbers_.ints().size() == 1) {
      const auto low = static_cast<std::uint64_t>(numbers_.ints().front().low);
      const std::uint64_t width = static_cast<std::uint64_t>(numbers_.ints().front().high) - low;
      matches_.SetWhere([=](std::uint32_t row) { return static_cast<std::uint64_t>(values[row]) - low <= width; });
    } else {
      const auto& ranges = numbers_.ints();
      matches_.SetWhere(
          [&](std::uint32_t row) { return std::ranges::binary_search(ranges, values[row], {}, &IntRange::low); });
    }
    return Verdict::kSome;
  }

  Result<Verdict> MatchFloats(const ChunkInfo& chunk) {
    const Verdict verdict = ZoneOfFloats(chunk, numbers_.floats());
    if (verdict != Verdict::kSome) return verdict;
    SPANBOX_ASSIGN_OR_RETURN(const FloatColumn* column, columns_.Floats(chunk));
    const double* values = column->values.data();
    for (const FloatRange range : numbers_.floats()) {
      matches_.SetWhere([=](std::uint32_t row) { return (values[row] >= range.low) & (values[row] <= range.high); });
    }
    return Verdict::kSome;
  }

  Result<Verdict> MatchBools(const ChunkInfo& chunk) {
    bool wants[2] = {false, false};
    for (const Literal& value : term_.values) {
      if (value.type == Literal::Type::kBool) wants[value.boolean ? 1 : 0] = true;
    }
    if (wants[0] == wants[1]) return wants[0] ? Verdict::kAll : Verdict::kNone;
    SPANBOX_ASSIGN_OR_RETURN(const BoolColumn* column, columns_.Bools(chunk));
    matches_.SetWhere([&](std::uint32_t row) { return (column->values[row] != 0) == wants[1]; });
    return Verdict::kSome;
  }

  Result<Verdict> MatchStrings(const ChunkInfo& chunk) {
    if (chunk.has_zone && chunk.min_text == chunk.max_text) {
      return texts_(chunk.min_text, false) ? Verdict::kAll : Verdict::kNone;
    }
    if (chunk.has_zone && !texts_.MayLieWithin(chunk.min_text, chunk.max_text)) return Verdict::kNone;
    if (chunk.valid_count == columns_.rows()) {  // as dense ones they need no copy
      SPANBOX_ASSIGN_OR_RETURN(const DenseStrings* dense, columns_.DenseStringsOf(chunk));
      return MatchCodes(dense->dictionary, dense->codes.data());
    }
    SPANBOX_ASSIGN_OR_RETURN(const StringColumn* column, columns_.Strings(chunk));
    return MatchCodes(column->dictionary, column->codes.data());
  }

  Verdict MatchCodes(std::span<const std::string_view> dictionary, const std::uint32_t* codes) {
    if (term_.blocks != nullptr && !term_.blocks->MayMatch(dictionary)) return Verdict::kNone;
    std::vector<std::uint8_t> passes(dictionary.size());
    std::uint32_t passing = 0, last = 0;
    for (std::uint32_t i = 0; i < passes.size(); ++i) {
      passes[i] = texts_(dictionary[i], false) ? 1 : 0;
      passing += passes[i];
      if (passes[i] != 0) last = i;
    }
    if (passing == 0) return Verdict::kNone;
    if (passing == 1) {
      matches_.SetWhere([=](std::uint32_t row) { return codes[row] == last; });
    } else {
      matches_.SetWhere([&](std::uint32_t row) { return passes[codes[row]] != 0; });
    }
    return Verdict::kSome;
  }

  Result<Verdict> MatchText(const ChunkInfo& chunk) {
    std::optional<std::vector<bool>> blocks;
    if (term_.blocks != nullptr) {
      SPANBOX_ASSIGN_OR_RETURN(blocks, term_.blocks->MayMatch(columns_.segment()));
      if (blocks && std::ranges::none_of(*blocks, std::identity())) return Verdict::kNone;
    }
    SPANBOX_ASSIGN_OR_RETURN(TextColumn * column, columns_.Text(chunk));
    Status status;
    candidates_.ForEach([&](std::uint32_t row) {
      if (!status.ok() || !column->valid(row) || !texts_.MayHaveSize(column->size_bytes(row))) return;
      if (blocks && !(*blocks)[column->place(row).block]) return;
      const auto text = column->Get(row);
      if (!text.ok()) {
        status = text.status();
      } else if (texts_(*text, column->is_json(row))) {
        matches_.Set(row);
      }
    });
    if (!status.ok()) return status;
    return Verdict::kSome;
  }

  // By the segment's index, unless there are so many that reading the column is cheaper.
  Result<Verdict> MatchTraces(const ChunkInfo& chunk) {
    constexpr std::size_t kMaxLookups = 64;
    if (term_.values.size() > kMaxLookups) {
      SPANBOX_ASSIGN_OR_RETURN(const TraceIdColumn* column, columns_.TraceIds(chunk));
      return MatchIds(column->values, [](const Literal& literal) { return literal.trace_id; });
    }
    for (const Literal& literal : term_.values) {
      SPANBOX_ASSIGN_OR_RETURN(const auto rows, columns_.segment().RowsOfTrace(literal.trace_id));
      for (const std::uint32_t row : rows) matches_.Set(row);
    }
    return Verdict::kSome;
  }

  // One pass, however many ids there are: most rows are told by the last bits of their id.
  template <typename Id, typename IdOf>
  Result<Verdict> MatchIds(const std::vector<Id>& values, IdOf id_of) {
    std::vector<Id> wanted;
    std::bitset<kLastBits> ends;
    for (const Literal& literal : term_.values) {
      wanted.push_back(id_of(literal));
      ends.set(LastBits(wanted.back()));
    }
    std::ranges::sort(wanted);
    matches_.SetWhere([&](std::uint32_t row) {
      return ends[LastBits(values[row])] && std::ranges::binary_search(wanted, values[row]);
    });
    return Verdict::kSome;
  }
  static constexpr std::size_t kLastBits = 1 << 14;
  static std::size_t LastBits(SpanId id) { return id % kLastBits; }
  static std::size_t LastBits(const TraceId& id) { return (id.bytes[14] << 8 | id.bytes[15]) % kLastBits; }

  const Term& term_;
  SegmentColumns& columns_;
  const Bitmap& candidates_;
  const NumberTest numbers_;
  const TextTest texts_;
  Bitmap matches_;
};

Result<Bitmap> SelectTerm(const Term& term, SegmentColumns& columns, const Bitmap& candidates) {
  if (term.comparison != Comparison::kPresent) return TermEvaluator(term, columns, candidates).Run();
  SPANBOX_ASSIGN_OR_RETURN(Bitmap present, RowsWithValue(term.column, columns, candidates));
  if (!term.negated) return present;
  Bitmap absent = candidates;
  absent -= present;
  return absent;
}

// What a row costs, roughly: 0 numbers, 1 dictionary strings or scores, 2 text.
int Cost(const FilterNode& node, const SegmentColumns& columns) {
  int cost = 0;
  if (node.kind == FilterNode::Kind::kRelatives) return cost;  // answered already
  for (const FilterNode& child : node.children) cost = std::max(cost, Cost(child, columns));
  if (node.kind != FilterNode::Kind::kTerm) return cost;
  if (ScoreNameOf(node.term.column)) return 1;
  if (node.term.comparison == Comparison::kPresent) return cost;
  for (const ChunkInfo* chunk : columns.segment().Find(node.term.column)) {
    cost = std::max(cost, chunk->type == ColumnType::kText ? 2 : chunk->type == ColumnType::kString ? 1 : 0);
  }
  return cost;
}

Result<Bitmap> SelectNode(const FilterNode& node, const RelativesAnswers* relatives, SegmentColumns& columns,
                          const Bitmap& candidates) {
  if (!candidates.any()) return candidates;
  if (node.kind == FilterNode::Kind::kTerm) return SelectTerm(node.term, columns, candidates);
  if (node.kind == FilterNode::Kind::kRelatives) {
    if (relatives == nullptr) return Internal("a filter over relatives was asked before they were known");
    const Bitmap* holds = relatives->Find(node.relatives.index, columns.id());
    Bitmap rows(columns.rows());
    if (holds == nullptr) return rows;
    rows = *holds;
    rows &= candidates;
    return rows;
  }
  Bitmap left = candidates;
  if (node.kind == FilterNode::Kind::kNot) {
    SPANBOX_ASSIGN_OR_RETURN(const Bitmap inner, SelectNode(node.children.front(), relatives, columns, candidates));
    left -= inner;
    return left;
  }
  std::vector<std::pair<int, const FilterNode*>> order;
  for (const FilterNode& child : node.children) order.emplace_back(Cost(child, columns), &child);
  std::ranges::stable_sort(order, {}, &std::pair<int, const FilterNode*>::first);
  for (const auto& [cost, child] : order) {
    SPANBOX_ASSIGN_OR_RETURN(Bitmap rows, SelectNode(*child, relatives, columns, left));
    node.kind == FilterNode::Kind::kAnd ? left = std::move(rows) : left -= rows;
  }
  if (node.kind == FilterNode::Kind::kAnd) return left;
  Bitmap selected = candidates;  // of an `or`, `left` is what no child wanted
  selected -= left;
  return selected;
}

}  // namespace

Result<Bitmap> Select(const Filter& filter, SegmentColumns& columns, const Bitmap& candidates) {
  if (filter.everything) return candidates;
  return SelectNode(filter.root, filter.relatives.get(), columns, candidates);
}

Result<Bitmap> Select(const FilterNode& part, const RelativesAnswers* relatives, SegmentColumns& columns,
                      const Bitmap& candidates) {
  return SelectNode(part, relatives, columns, candidates);
}

bool ReadsText(const FilterNode& part, const SegmentColumns& columns) { return Cost(part, columns) == 2; }

Result<Bitmap> RowsWithValue(std::string_view column, SegmentColumns& columns, const Bitmap& candidates) {
  Bitmap present(columns.rows());
  SPANBOX_ASSIGN_OR_RETURN(const auto chunks, columns.Find(column));
  for (const ChunkInfo* chunk : chunks) {
    SPANBOX_ASSIGN_OR_RETURN(const Bitmap rows, columns.ValidRows(*chunk));
    present |= rows;
  }
  present &= candidates;
  return present;
}

}  // namespace spanbox
