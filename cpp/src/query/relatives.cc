#include "query/relatives.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <tuple>

#include "query/predicate.h"
#include "query/trace_numbers.h"

namespace spanbox {
namespace {

constexpr std::uint32_t kTracesBetweenChecks = 1 << 14;
constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

// Spans as nodes 0 to n - 1, in the order they were added; after them a node for every parent that is not stored.
class Forest {
 public:
  // The spans of one segment: those of `rows` are nodes first, first + 1 and so on.
  struct Part {
    SegmentMeta segment;
    Bitmap rows;
    std::uint32_t first = 0;
  };

  // `trace_of_row`: numbers from 0 on, none of them left out.
  Status Add(const SegmentMeta& segment, SegmentColumns& columns, Bitmap rows,
             const std::vector<std::uint32_t>& trace_of_row) {
    if (!rows.any()) return OkStatus();
    SPANBOX_ASSIGN_OR_RETURN(const SpanIdColumn* spans, columns.SpanIds());
    const ChunkInfo* chunk = columns.segment().Find("parent_id", ColumnType::kSpanId);
    const SpanIdColumn* parents = nullptr;
    if (chunk != nullptr) {
      SPANBOX_ASSIGN_OR_RETURN(parents, columns.SpanIds(*chunk));
    }
    if (rows.count() > kNone / 2 - spans_.size()) return ResourceExhausted("too many spans: ask for less time");
    Part part{segment, std::move(rows), static_cast<std::uint32_t>(spans_.size())};
    part.rows.ForEach([&](std::uint32_t row) {
      const SpanId parent = parents != nullptr && parents->valid[row] ? parents->values[row] : 0;
      spans_.push_back({spans->values[row], parent, trace_of_row[row]});
      traces_ = std::max(traces_, trace_of_row[row] + 1);
    });
    parts_.push_back(std::move(part));
    return OkStatus();
  }

  // Finds the parents. REQUIRES: everything is added; called once.
  Status Link(QueryRun& run) {
    if (parts_.size() > 1) SPANBOX_RETURN_IF_ERROR(LoadStarts(run));
    const auto n = static_cast<std::uint32_t>(spans_.size());
    std::vector<std::uint32_t> ends(traces_ + 1);  // counting sort by trace
    for (const Span& span : spans_) ++ends[span.trace + 1];
    for (std::uint32_t i = 0; i < traces_; ++i) ends[i + 1] += ends[i];
    std::vector<std::uint32_t> ordered(n), next(ends.begin(), ends.end() - 1);
    for (std::uint32_t i = 0; i < n; ++i) ordered[next[spans_[i].trace]++] = i;
    parent_.assign(n, kNone);
    std::vector<std::uint32_t> walk_of(n, kNone);
    for (std::uint32_t trace = 0; trace < traces_; ++trace) {
      const std::span<std::uint32_t> nodes(ordered.data() + ends[trace], ends[trace + 1] - ends[trace]);
      if (trace % kTracesBetweenChecks == 0) SPANBOX_RETURN_IF_ERROR(run.interrupt().Check());
      LinkTrace(nodes);
      SPANBOX_RETURN_IF_ERROR(CutCycles(nodes, walk_of, run));
    }
    parent_.resize(nodes_, kNone);
    spans_ = {};
    starts_ns_ = {};
    return OkStatus();
  }

  std::span<const Part> parts() const { return parts_; }
  std::uint32_t nodes() const { return nodes_; }
  std::uint32_t spans() const { return parts_.empty() ? 0 : parts_.back().first + Size(parts_.back()); }

  // How many of each node's relatives have `holds`. REQUIRES: holds.size() == nodes().
  std::vector<std::uint32_t> Count(Relation relation, const std::vector<std::uint8_t>& holds) {
    std::vector<std::uint32_t> counts(nodes_);
    switch (relation) {
      case Relation::kParent:
        for (std::uint32_t i = 0; i < nodes_; ++i) counts[i] = parent_[i] == kNone ? 0 : holds[parent_[i]];
        break;
      case Relation::kChildren:
        return OfChildren(holds);
      case Relation::kSiblings: {
        const std::vector<std::uint32_t> children = OfChildren(holds);
        for (std::uint32_t i = 0; i < nodes_; ++i) {
          counts[i] = parent_[i] == kNone ? 0 : children[parent_[i]] - holds[i];
        }
        break;
      }
      case Relation::kDescendants:
        for (const std::uint32_t i : LeavesFirst()) {
          if (parent_[i] != kNone) counts[parent_[i]] += counts[i] + holds[i];
        }
        break;
      case Relation::kAncestors: {
        const std::vector<std::uint32_t>& order = LeavesFirst();
        for (std::size_t k = order.size(); k-- > 0;) {
          const std::uint32_t parent = parent_[order[k]];
          if (parent != kNone) counts[order[k]] = counts[parent] + holds[parent];
        }
      }
    }
    return counts;
  }

 private:
  struct Span {
    SpanId id, parent;
    std::uint32_t trace;
  };

  static std::uint32_t Size(const Part& part) { return static_cast<std::uint32_t>(part.rows.count()); }

  // When the spans started: only needed where the traces lie in several segments, or have cycles. The rows of a trace
  // in one segment are in the order of their starts.
  Status LoadStarts(QueryRun& run) {
    for (const Part& part : parts_) {
      SPANBOX_ASSIGN_OR_RETURN(const auto columns, run.Load(part.segment));
      SPANBOX_ASSIGN_OR_RETURN(const IntColumn* starts, columns->Starts());
      part.rows.ForEach([&](std::uint32_t row) { starts_ns_.push_back(starts->values[row]); });
    }
    return OkStatus();
  }

  void LinkTrace(std::span<std::uint32_t> nodes) {
    const auto key = [this](std::uint32_t node) {
      return std::tuple(spans_[node].id, starts_ns_.empty() ? 0 : starts_ns_[node], node);
    };
    const auto earlier = [&](std::uint32_t a, std::uint32_t b) { return key(a) < key(b); };
    std::ranges::sort(nodes, earlier);
    missing_.clear();
    const auto id_of = [this](std::uint32_t node) { return spans_[node].id; };
    for (const std::uint32_t node : nodes) {
      const SpanId id = spans_[node].parent;
      if (id == 0) continue;
      const auto parent = std::ranges::lower_bound(nodes, id, {}, id_of);
      if (parent != nodes.end() && spans_[*parent].id == id) {
        parent_[node] = *parent;
      } else {
        missing_.emplace_back(id, node);
      }
    }
    std::ranges::sort(missing_);
    for (std::size_t i = 0; i < missing_.size(); ++i) {
      if (i == 0 || missing_[i].first != missing_[i - 1].first) ++missing_parents_;
      parent_[missing_[i].second] = static_cast<std::uint32_t>(spans_.size()) + missing_parents_ - 1;
    }
    nodes_ = static_cast<std::uint32_t>(spans_.size()) + missing_parents_;
  }

  // Walks up from every span; a walk that meets itself has found a cycle.
  Status CutCycles(std::span<const std::uint32_t> nodes, std::vector<std::uint32_t>& walk_of, QueryRun& run) {
    const auto is_span = [this](std::uint32_t node) { return node < spans_.size(); };  // kNone is none
    const auto key = [this](std::uint32_t node) { return std::pair(starts_ns_[node], spans_[node].id); };
    for (const std::uint32_t start : nodes) {
      std::uint32_t i = start;
      for (; is_span(i) && walk_of[i] == kNone; i = parent_[i]) walk_of[i] = start;
      if (!is_span(i) || walk_of[i] != start) continue;
      if (starts_ns_.empty()) SPANBOX_RETURN_IF_ERROR(LoadStarts(run));
      std::uint32_t earliest = i;
      for (std::uint32_t j = parent_[i]; j != i; j = parent_[j]) earliest = key(j) < key(earliest) ? j : earliest;
      parent_[earliest] = kNone;
    }
    return OkStatus();
  }

  std::vector<std::uint32_t> OfChildren(const std::vector<std::uint8_t>& holds) const {
    std::vector<std::uint32_t> counts(nodes_);
    for (std::uint32_t i = 0; i < nodes_; ++i) {
      if (parent_[i] != kNone) counts[parent_[i]] += holds[i];
    }
    return counts;
  }

  // All nodes, each after all of its children.
  const std::vector<std::uint32_t>& LeavesFirst() {
    if (!leaves_first_.empty()) return leaves_first_;
    std::vector<std::uint32_t> waiting_for = OfChildren(std::vector<std::uint8_t>(nodes_, 1));
    for (std::uint32_t i = 0; i < nodes_; ++i) {
      if (waiting_for[i] == 0) leaves_first_.push_back(i);
    }
    for (std::size_t k = 0; k < leaves_first_.size(); ++k) {
      const std::uint32_t parent = parent_[leaves_first_[k]];
      if (parent != kNone && --waiting_for[parent] == 0) leaves_first_.push_back(parent);
    }
    return leaves_first_;
  }

  std::vector<Part> parts_;
  std::vector<Span> spans_;              // until they are linked
  std::vector<std::int64_t> starts_ns_;  // of spans_, once they are needed
  std::vector<std::uint32_t> parent_;
  std::vector<std::uint32_t> leaves_first_;
  std::vector<std::pair<SpanId, std::uint32_t>> missing_;  // of one trace: parent's id, child
  std::uint32_t traces_ = 0, missing_parents_ = 0, nodes_ = 0;
};

// The parts of the filter that every span must pass and that need no relatives.
std::vector<const FilterNode*> OwnConditions(const Filter& filter) {
  std::vector<const FilterNode*> conditions;
  if (filter.root.kind != FilterNode::Kind::kAnd) return conditions;
  for (const FilterNode& child : filter.root.children) {
    bool alone = true;
    ForEachRelatives(child, [&](const FilterNode&) { alone = false; });
    if (alone) conditions.push_back(&child);
  }
  return conditions;
}

// In which segment of the view each trace lies that the question touches. Traces whose ids have one hash are as one.
// Sorted arrays: 13 bytes a trace, where a hash table has 34 and twice that while it grows.
class TracePlaces {
 public:
  static constexpr std::uint32_t kUntouched = kNone, kScattered = kNone - 1;  // in none asked about; in several

  void Touch(const TraceId& id) {
    hashes_.push_back(TraceHash()(id));
    const auto time = static_cast<std::uint32_t>(TracePrefix(id) >> 32);
    if (times_.empty() || times_.back() != time) times_.push_back(time);
  }
  // Called once all are known; the others then.
  void Freeze() {
    SortOut(hashes_);
    SortOut(times_);
    places_.assign(hashes_.size(), kUntouched);
    shift_ = 64 - std::max(1, static_cast<int>(std::bit_width(hashes_.size() / kHashesOfOne)));
    for (std::size_t i = 0; i < hashes_.size(); ++i) {
      while (begins_.size() <= hashes_[i] >> shift_) begins_.push_back(static_cast<std::uint32_t>(i));
    }
    begins_.resize((~std::uint64_t{0} >> shift_) + 2, static_cast<std::uint32_t>(hashes_.size()));
  }
  // Whether any of them may be in a segment.
  bool MayBeIn(const SegmentMeta& segment) const {
    const auto first = std::ranges::lower_bound(times_, segment.min_trace >> 32);
    return first != times_.end() && *first <= segment.max_trace >> 32;
  }

  void See(const TraceId& id, std::uint32_t segment) {
    const std::size_t at = Find(id);
    if (at == hashes_.size()) return;
    std::uint32_t& place = places_[at];
    place = place == kUntouched || place == segment ? segment : kScattered;
  }
  std::uint32_t Of(const TraceId& id) const {
    const std::size_t at = Find(id);
    return at == hashes_.size() ? kUntouched : places_[at];
  }

 private:
  static constexpr std::size_t kHashesOfOne = 8;  // about as many share one of begins_

  template <typename T>
  static void SortOut(std::vector<T>& values) {
    std::ranges::sort(values);
    values.erase(std::unique(values.begin(), values.end()), values.end());
  }
  std::size_t Find(const TraceId& id) const {
    const std::uint64_t hash = TraceHash()(id);
    const auto* const first = begins_.data() + (hash >> shift_);
    const std::span<const std::uint64_t> near(hashes_.data() + first[0], first[1] - first[0]);
    const auto found = std::ranges::lower_bound(near, hash);
    return found != near.end() && *found == hash ? static_cast<std::size_t>(&*found - hashes_.data()) : hashes_.size();
  }

  std::vector<std::uint64_t> hashes_;  // sorted once frozen
  std::vector<std::uint32_t> places_;  // of hashes_
  std::vector<std::uint32_t> begins_;  // where the hashes begin whose first bits are 0, 1, ...; and the end
  std::vector<std::uint32_t> times_;   // first four bytes of ids, where ids made here have the time; sorted
  int shift_ = 63;                     // what leaves those first bits
};

// Touches the traces of the rows that can matter: in time, and passing what is cheap to know of them alone.
Status TouchTraces(QueryRun& run, const std::vector<const FilterNode*>& conditions, TracePlaces& places) {
  for (const SegmentMeta& segment : run.segments()) {
    SPANBOX_ASSIGN_OR_RETURN(const auto columns, run.Load(segment));
    SPANBOX_ASSIGN_OR_RETURN(Bitmap rows, run.RowsInTime(segment, *columns));
    for (const FilterNode* condition : conditions) {
      if (ReadsText(*condition, *columns)) continue;
      SPANBOX_ASSIGN_OR_RETURN(rows, Select(*condition, nullptr, *columns, rows));
    }
    if (!rows.any()) continue;
    SPANBOX_ASSIGN_OR_RETURN(const TraceIdColumn* ids, columns->TraceIds());
    const TraceId* last = nullptr;
    rows.ForEach([&](std::uint32_t row) {
      if (last == nullptr || *last != ids->values[row]) places.Touch(ids->values[row]);
      last = &ids->values[row];
    });
  }
  return OkStatus();
}

Result<TracePlaces> PlacesOf(QueryRun& run, const Filter& filter) {
  TracePlaces places;
  SPANBOX_RETURN_IF_ERROR(TouchTraces(run, OwnConditions(filter), places));
  places.Freeze();
  const std::span<const SegmentMeta> segments = run.view().segments();
  for (std::uint32_t number = 0; number < segments.size(); ++number) {
    if (!places.MayBeIn(segments[number])) continue;
    SPANBOX_ASSIGN_OR_RETURN(const auto columns, run.Load(segments[number]));
    SPANBOX_ASSIGN_OR_RETURN(const TraceIdColumn* ids, columns->TraceIds());
    for (std::uint32_t row = 0; row < columns->rows(); ++row) {
      if (row == 0 || ids->values[row] != ids->values[row - 1]) places.See(ids->values[row], number);
    }
  }
  return places;
}

// The spans of touched traces that lie in several segments.
struct Scattered {
  Forest forest;
  TraceNumbers traces;
};

// Adds the spans of a segment: those of touched traces that are here alone to `alone`, those of others to `scattered`.
Status AddSegment(QueryRun& run, std::uint32_t number, const TracePlaces& places, Forest& alone, Scattered& scattered) {
  const SegmentMeta& segment = run.view().segments()[number];
  SPANBOX_ASSIGN_OR_RETURN(const auto columns, run.Load(segment));
  SPANBOX_ASSIGN_OR_RETURN(const TraceIdColumn* ids, columns->TraceIds());
  std::vector<std::uint32_t> trace_of_row(columns->rows(), kNone);
  Bitmap alone_rows(columns->rows()), scattered_rows(columns->rows());
  Bitmap* rows = nullptr;  // that the trace's go to
  std::uint32_t trace = kNone, traces_alone = 0;
  for (std::uint32_t row = 0; row < columns->rows(); ++row) {
    const TraceId& id = ids->values[row];
    if (row == 0 || id != ids->values[row - 1]) {
      const std::uint32_t place = places.Of(id);
      rows = place == number ? &alone_rows : place == TracePlaces::kScattered ? &scattered_rows : nullptr;
      if (rows != nullptr) trace = place == number ? traces_alone++ : scattered.traces.NumberOf(id);
    }
    if (rows == nullptr) continue;
    trace_of_row[row] = trace;
    rows->Set(row);
  }
  // A trace that is also stored is in several segments.
  if (segment.id == kOpenSpans && scattered_rows.any()) {
    SPANBOX_RETURN_IF_ERROR(run.DropStored(*columns, scattered_rows));
  }
  SPANBOX_RETURN_IF_ERROR(scattered.forest.Add(segment, *columns, std::move(scattered_rows), trace_of_row));
  return alone.Add(segment, *columns, std::move(alone_rows), trace_of_row);
}

// The nodes for which the predicate's inner filter holds.
Result<std::vector<std::uint8_t>> Holding(QueryRun& run, const Forest& forest, const FilterNode& predicate,
                                          const RelativesAnswers& answers) {
  std::vector<std::uint8_t> holds(forest.nodes());
  if (predicate.children.empty()) {
    std::fill_n(holds.begin(), forest.spans(), std::uint8_t{1});
    return holds;
  }
  for (const Forest::Part& part : forest.parts()) {
    SPANBOX_ASSIGN_OR_RETURN(const auto columns, run.Load(part.segment));
    SPANBOX_ASSIGN_OR_RETURN(const Bitmap selected, Select(predicate.children.front(), &answers, *columns, part.rows));
    std::uint32_t node = part.first;
    part.rows.ForEach([&](std::uint32_t row) { holds[node++] = selected[row] ? 1 : 0; });
  }
  return holds;
}

// Answers the predicates, inner ones first, for the spans of the forest.
Status Answer(QueryRun& run, std::span<const FilterNode* const> predicates, Forest& forest, RelativesAnswers& answers) {
  SPANBOX_RETURN_IF_ERROR(forest.Link(run));
  for (const FilterNode* predicate : predicates) {
    const RelativesTest& test = predicate->relatives;
    SPANBOX_ASSIGN_OR_RETURN(const auto holds, Holding(run, forest, *predicate, answers));
    const std::vector<std::uint32_t> counts = forest.Count(test.relation, holds);
    for (const Forest::Part& part : forest.parts()) {
      Bitmap& passing = answers.by_test[test.index].try_emplace(part.segment.id, part.rows.rows()).first->second;
      std::uint32_t node = part.first;
      part.rows.ForEach([&](std::uint32_t row) {
        const std::uint32_t count = counts[node++];
        if (count >= test.low && count <= test.high) passing.Set(row);
      });
    }
  }
  return OkStatus();
}

}  // namespace

Result<std::shared_ptr<const RelativesAnswers>> AnswerRelatives(QueryRun& run, const Filter& filter) {
  SPANBOX_ASSIGN_OR_RETURN(const TracePlaces places, PlacesOf(run, filter));
  auto answers = std::make_shared<RelativesAnswers>();
  answers->by_test.resize(filter.relatives_tests);
  std::vector<const FilterNode*> predicates;  // inner ones first
  ForEachRelatives(filter.root, [&](const FilterNode& node) { predicates.push_back(&node); });
  Scattered scattered;
  const std::span<const SegmentMeta> segments = run.view().segments();
  for (std::uint32_t number = 0; number < segments.size(); ++number) {
    if (!places.MayBeIn(segments[number])) continue;
    Forest alone;
    SPANBOX_RETURN_IF_ERROR(AddSegment(run, number, places, alone, scattered));
    SPANBOX_RETURN_IF_ERROR(Answer(run, predicates, alone, *answers));
  }
  SPANBOX_RETURN_IF_ERROR(Answer(run, predicates, scattered.forest, *answers));
  return std::shared_ptr<const RelativesAnswers>(std::move(answers));
}

}  // namespace spanbox
