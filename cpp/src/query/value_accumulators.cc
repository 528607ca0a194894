// Which different values each group has, and how often: exactly, or counted by a sketch.
#include <absl/container/flat_hash_map.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "base/hash.h"
#include "base/msgpack.h"
#include "query/accumulators.h"
#include "query/key_column.h"
#include "stats/hyperloglog.h"

namespace spanbox {
namespace {

using Function = AggregateSpec::Function;
using GroupList = std::span<const std::uint32_t>;

class ValuesAccumulator : public Accumulator {
 public:
  explicit ValuesAccumulator(const AggregateSpec& spec) : keys_(spec.column) {}

  Status Add(GroupedRows& in) override {
    return Count(in, [](std::uint32_t) { return std::uint64_t{1}; });
  }
  Status AddCells(GroupedRows& in, const RollupCells& cells) override {
    return Count(in, [&](std::uint32_t row) { return cells.spans[row]; });
  }

  Status Join(Accumulator& other, const GroupMap& groups) override {
    const auto& values = static_cast<ValuesAccumulator&>(other);
    const std::vector<std::uint32_t> keys = keys_.Join(values.keys_);
    distinct_.resize(groups.count);
    for (const auto& [pair, spans] : values.spans_) {
      const std::uint32_t group = groups.group_of[pair >> 32];
      const std::uint64_t mine = std::uint64_t{group} << 32 | keys[static_cast<std::uint32_t>(pair)];
      const auto [place, added] = spans_.try_emplace(mine, 0);
      if (added) ++distinct_[group];
      place->second += spans;
    }
    return OkStatus();
  }

  TableColumn Output(const AggregateSpec& spec, GroupList groups) const override {
    if (spec.function == Function::kTop) return Top(spec.top, groups);
    return CountColumn(distinct_, groups);
  }

 private:
  struct Counted {
    std::uint64_t spans = 0;
    std::uint32_t key = 0;
  };

  // Neighbours often agree: the last pair's count is kept at hand.
  template <typename SpansOf>
  Status Count(GroupedRows& in, SpansOf spans_of) {
    distinct_.resize(in.group_count);
    const std::span<const std::uint32_t> rows = in.rows(), group_of = in.group_of();
    SPANBOX_RETURN_IF_ERROR(keys_.Read(in.columns, rows, key_of_row_));
    std::uint64_t last = 0;  // no pair: the key 0 is "absent"
    std::uint64_t pending = 0;
    const auto flush = [&] {
      if (last == 0) return;
      const auto [place, added] = spans_.try_emplace(last, 0);
      if (added) ++distinct_[last >> 32];
      place->second += pending;
      pending = 0;
    };
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (key_of_row_[i] == KeyColumn::kAbsent) continue;
      const std::uint64_t pair = static_cast<std::uint64_t>(group_of[i]) << 32 | key_of_row_[i];
      if (pair != last) flush();
      last = pair;
      pending += spans_of(rows[i]);
    }
    flush();
    return OkStatus();
  }

  // [[value, count], ...], the most frequent first, equally frequent ones in the order of values.
  TableColumn Top(std::size_t most, GroupList groups) const {
    const std::vector<std::uint32_t> ranks = keys_.Ranks();
    std::vector<std::vector<Counted>> counted(distinct_.size());
    for (const auto& [pair, spans] : spans_) {
      counted[pair >> 32].push_back({spans, static_cast<std::uint32_t>(pair)});
    }
    std::vector<std::string> texts;
    for (const std::uint32_t group : groups) {
      std::string& json = texts.emplace_back();
      if (group >= counted.size() || counted[group].empty()) continue;
      std::vector<Counted>& all = counted[group];
      const auto more = [&](const Counted& a, const Counted& b) {
        return a.spans != b.spans ? a.spans > b.spans : ranks[a.key] < ranks[b.key];
      };
      const std::size_t n = std::min(most, all.size());
      std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(n), all.end(), more);
      json = "[";
      for (std::size_t i = 0; i < n; ++i) {
        json += i > 0 ? ",[" : "[";
        keys_.AppendJson(all[i].key, json);
        json += "," + std::to_string(all[i].spans) + "]";
      }
      json += "]";
    }
    return JsonColumnOf(texts);
  }

  KeyColumn keys_;
  std::vector<std::uint32_t> key_of_row_;
  absl::flat_hash_map<std::uint64_t, std::uint64_t> spans_;  // by group and key
  std::vector<std::uint64_t> distinct_;
};

class HashesAccumulator : public Accumulator {
 public:
  explicit HashesAccumulator(const AggregateSpec& spec) : column_(spec.column.name) {}

  Status Add(GroupedRows& in) override {
    sketches_.resize(in.group_count);
    SPANBOX_ASSIGN_OR_RETURN(const auto chunks, in.columns.Find(column_, Prefer::kLabel));
    for (const ChunkInfo* chunk : chunks) {
      SPANBOX_RETURN_IF_ERROR(AddChunk(in, *chunk));
    }
    return OkStatus();
  }
  Status AddCells(GroupedRows& in, const RollupCells&) override { return Add(in); }

  Status Join(Accumulator& other, const GroupMap& groups) override {
    JoinGroups(sketches_, static_cast<HashesAccumulator&>(other).sketches_, groups,
               [](HyperLogLog& mine, const HyperLogLog& theirs) { mine.Merge(theirs); });
    return OkStatus();
  }

  TableColumn Output(const AggregateSpec&, GroupList groups) const override {
    std::vector<std::uint64_t> counts;
    for (const HyperLogLog& sketch : sketches_) {
      counts.push_back(static_cast<std::uint64_t>(std::llround(sketch.Estimate())));
    }
    return CountColumn(counts, groups);
  }

 private:
  enum Seed : std::uint64_t { kNumber, kFraction, kTruth, kText };  // values of different types differ

  template <typename T>
  static std::uint64_t HashOf(const T& value, Seed seed) {
    return Hash64(std::as_bytes(std::span(&value, 1)), seed);
  }
  static std::uint64_t HashOfText(std::string_view text) { return Hash64(std::as_bytes(std::span(text)), kText); }
  static std::uint64_t HashOfNumber(double value) {
    const bool whole = value == std::floor(value) && std::abs(value) < 0x1p63;
    if (whole) return HashOf(static_cast<std::int64_t>(value), kNumber);
    return HashOf(std::isnan(value) ? std::numeric_limits<double>::quiet_NaN() : value, kFraction);
  }

  // hash(row) of each row with a value, but not twice in a row for the same value and group.
  template <typename Column, typename Hash>
  void Each(GroupedRows& in, const Column& column, Hash hash) {
    const std::span<const std::uint32_t> rows = in.rows(), group_of = in.group_of();
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if constexpr (requires { column.valid; }) {
        if (!column.valid[rows[i]]) continue;
      }
      sketches_[group_of[i]].Add(hash(column.values[rows[i]]));
    }
  }

  Status AddChunk(GroupedRows& in, const ChunkInfo& chunk) {
    switch (chunk.type) {
      case ColumnType::kInt: {
        SPANBOX_ASSIGN_OR_RETURN(const IntColumn* c, in.columns.Ints(chunk));
        Each(in, *c, [](std::int64_t v) { return HashOf(v, kNumber); });
        return OkStatus();
      }
      case ColumnType::kFloat: {
        SPANBOX_ASSIGN_OR_RETURN(const FloatColumn* c, in.columns.Floats(chunk));
        Each(in, *c, HashOfNumber);
        return OkStatus();
      }
      case ColumnType::kBool: {
        SPANBOX_ASSIGN_OR_RETURN(const BoolColumn* c, in.columns.Bools(chunk));
        Each(in, *c, [](std::uint8_t v) { return HashOf(v, kTruth); });
        return OkStatus();
      }
      case ColumnType::kTraceId: {
        SPANBOX_ASSIGN_OR_RETURN(const TraceIdColumn* c, in.columns.TraceIds(chunk));
        Each(in, *c, [](const TraceId& v) { return HashOf(v.bytes, kText); });
        return OkStatus();
      }
      case ColumnType::kSpanId: {
        SPANBOX_ASSIGN_OR_RETURN(const SpanIdColumn* c, in.columns.SpanIds(chunk));
        Each(in, *c, [](SpanId v) { return HashOf(v, kText); });
        return OkStatus();
      }
      case ColumnType::kString:
        return AddStrings(in, chunk);
      case ColumnType::kText:
        return AddText(in, chunk);
    }
    return OkStatus();
  }

  Status AddStrings(GroupedRows& in, const ChunkInfo& chunk) {
    SPANBOX_ASSIGN_OR_RETURN(const StringColumn* c, in.columns.Strings(chunk));
    std::vector<std::uint64_t> hashes;
    const std::span<const std::uint32_t> rows = in.rows(), group_of = in.group_of();
    for (const std::string_view text : c->dictionary) hashes.push_back(HashOfText(text));
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (c->valid[rows[i]]) sketches_[group_of[i]].Add(hashes[c->codes[rows[i]]]);
    }
    return OkStatus();
  }

  Status AddText(GroupedRows& in, const ChunkInfo& chunk) {
    SPANBOX_ASSIGN_OR_RETURN(TextColumn * c, in.columns.Text(chunk));
    const std::span<const std::uint32_t> rows = in.rows(), group_of = in.group_of();
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (!c->valid(rows[i])) continue;
      SPANBOX_ASSIGN_OR_RETURN(const std::string_view text, c->Get(rows[i]));
      sketches_[group_of[i]].Add(HashOfText(text));
    }
    return OkStatus();
  }

  const std::string column_;
  std::vector<HyperLogLog> sketches_;
};

}  // namespace

std::unique_ptr<Accumulator> NewValues(const AggregateSpec& spec) {
  if (spec.function == Function::kApproxDistinct) return std::make_unique<HashesAccumulator>(spec);
  return std::make_unique<ValuesAccumulator>(spec);
}

}  // namespace spanbox
