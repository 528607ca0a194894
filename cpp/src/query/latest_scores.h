// The latest score of one name for each span and trace: what `score.helpful` means beside spans.
//
// Scores are sorted by trace and span once a question; a segment of spans, whose rows stand by trace too, is then
// joined in one walk over both. Of the store is read what that name needs: no explanation, no metadata.
//
// Thread rule: immutable. Ownership: copies what it reads; joined columns borrow their labels from it.
// Invariants:
//   1. Of several scores of a name for one span the one given last counts, of equally late ones the one stored last.
//   2. A score without a span counts for the spans of its trace that have no parent, unless they have a later one.
//   3. Joined columns have at most one value a row.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "query/segment_columns.h"
#include "store/read_view.h"

namespace spanbox {

inline constexpr std::string_view kScorePrefix = "score.";

// The name after the prefix; nullopt: no score is meant.
inline std::optional<std::string_view> ScoreNameOf(std::string_view column) {
  if (!column.starts_with(kScorePrefix) || column.size() == kScorePrefix.size()) return std::nullopt;
  return column.substr(kScorePrefix.size());
}

class LatestScores {
 public:
  // Those of traces that may be among `spans`.
  static Result<LatestScores> Read(ReadView& view, std::span<const SegmentMeta> spans, std::string_view name,
                                   const Interrupt& interrupt);

  bool empty() const { return entries_.empty(); }
  // The types of its values, as ColumnType: ints, floats, bools, and strings where there are labels only.
  std::vector<ColumnType> Types() const;

  // The scores of the rows: at most one column of each type, each with a value at least.
  struct Joined {
    std::optional<IntColumn> ints;
    std::optional<FloatColumn> floats;
    std::optional<BoolColumn> bools;
    std::optional<StringColumn> labels;
  };
  Result<Joined> Join(SegmentColumns& columns, Prefer prefer) const;

 private:
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;
  enum class Kind : std::uint8_t { kNothing, kInt, kFloat, kBool };

  struct TraceKey {
    std::uint64_t high, low;  // sort as the id does
    friend auto operator<=>(const TraceKey&, const TraceKey&) = default;
  };
  struct Entry {
    TraceKey trace;
    SpanId span;  // 0: the trace
    std::int64_t at_ns;
    std::uint64_t bits;   // of the value
    std::uint32_t label;  // of labels_; kNone: none
    Kind kind;
  };

  static TraceKey KeyOf(const TraceId& id);
  Status AddSegment(SegmentColumns& scores, std::string_view name);
  Status ReadValues(SegmentColumns& scores, std::span<const std::uint32_t> rows, std::span<Entry> entries);
  Status ReadLabels(SegmentColumns& scores, std::span<const std::uint32_t> rows, std::span<Entry> entries);
  void Sort();
  // The entry of each row, kNone where there is none; false: of no row.
  Result<bool> Match(SegmentColumns& columns, std::vector<std::uint32_t>& entry_of_row) const;

  std::vector<Entry> entries_;  // by trace, then span; one for each
  std::map<std::string, std::uint32_t, std::less<>> label_codes_;
  std::vector<std::string_view> labels_;  // sorted, once all are read: the keys of label_codes_
  bool any_of_trace_ = false;
};

}  // namespace spanbox
