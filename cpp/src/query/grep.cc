#include <string.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "base/utf8.h"
#include "query/block_test.h"
#include "query/matchers.h"
#include "query/pattern.h"
#include "query/query_run.h"
#include "spanbox/query.h"

namespace spanbox {
namespace {

constexpr std::size_t kSnippetBytes = 80;

struct Match {
  std::size_t begin = std::string_view::npos, size = 0;
  bool found() const { return begin != std::string_view::npos; }
};

class Searcher {
 public:
  static Result<Searcher> Make(std::string_view pattern, bool regex, bool ignore_case) {
    if (pattern.empty()) return InvalidArgument("the pattern is empty: give some text to look for");
    Searcher searcher;
    const auto letters = ignore_case ? TextProbe::Case::kIgnored : TextProbe::Case::kExact;
    if (!regex) {
      searcher.blocks_.AddText(pattern, letters);
      searcher.blocks_.AddText(InsideJson(pattern), letters);
    }
    if (regex || ignore_case) {
      SPANBOX_ASSIGN_OR_RETURN(searcher.regex_,
                               CompilePattern(pattern, {.ignore_case = ignore_case, .literal = !regex}));
    } else {
      searcher.text_ = pattern;
    }
    if (regex) searcher.blocks_.AddRegex(*searcher.regex_);
    const std::string escaped = InsideJson(pattern);
    if (regex || escaped == pattern) return searcher;
    if (ignore_case) {
      SPANBOX_ASSIGN_OR_RETURN(searcher.json_regex_, CompilePattern(escaped, {.ignore_case = true, .literal = true}));
    } else {
      searcher.json_text_ = escaped;
    }
    return searcher;
  }

  const BlockTest& blocks() const { return blocks_; }

  // JSON texts are searched as they are stored, and for plain text also with the pattern as JSON would hold it.
  Match Find(std::string_view text, bool json) const {
    const Match match = regex_ != nullptr ? FindRegex(*regex_, text) : FindText(text_, text);
    if (match.found() || !json) return match;
    if (json_regex_ != nullptr) return FindRegex(*json_regex_, text);
    return json_text_.empty() ? match : FindText(json_text_, text);
  }

 private:
  static Match FindText(const std::string& needle, std::string_view text) {
    const void* place = memmem(text.data(), text.size(), needle.data(), needle.size());
    if (place == nullptr) return {};
    return {static_cast<std::size_t>(static_cast<const char*>(place) - text.data()), needle.size()};
  }
  static Match FindRegex(const re2::RE2& regex, std::string_view text) {
    re2::StringPiece group;
    if (!regex.Match(Piece(text), 0, text.size(), re2::RE2::UNANCHORED, &group, 1)) return {};
    return {static_cast<std::size_t>(group.data() - text.data()), group.size()};
  }

  std::string text_, json_text_;
  std::shared_ptr<const re2::RE2> regex_, json_regex_;
  BlockTest blocks_;
};

// The text around a match, cut where characters begin; a match longer than the snippet is cut too.
void Snip(std::string_view text, const Match& match, GrepHit& hit) {
  const std::size_t match_end = std::min(match.begin + match.size, match.begin + kSnippetBytes);
  const std::size_t room = kSnippetBytes - (match_end - match.begin);
  std::size_t begin = match.begin - std::min(match.begin, room / 2);
  std::size_t end = std::min(text.size(), match_end + (room - (match.begin - begin)));
  begin = match.begin - std::min(match.begin, room - (end - match_end));
  while (begin < match.begin && IsUtf8Continuation(text[begin])) ++begin;
  while (end > match_end && end < text.size() && IsUtf8Continuation(text[end])) --end;
  std::size_t shown_end = match_end;
  if (end == match_end && end < text.size()) {  // the cut goes through the match, or right behind it
    while (end > match.begin && IsUtf8Continuation(text[end])) --end;
    shown_end = std::min(shown_end, end);
  }
  hit.snippet = text.substr(begin, end - begin);
  hit.match_offset = static_cast<std::uint32_t>(match.begin - begin);
  hit.match_bytes = static_cast<std::uint32_t>(shown_end - match.begin);
}

// Newest first; the values of one span in the order of Columns(), then attributes by name.
bool Before(const GrepHit& a, const GrepHit& b) {
  if (a.start_ns != b.start_ns) return a.start_ns > b.start_ns;
  if (a.span_id != b.span_id) return a.span_id < b.span_id;
  const auto key = [](const GrepHit& hit) {
    const ColumnInfo* info = FindColumn(hit.column);
    return std::pair(info != nullptr ? static_cast<std::uint16_t>(info->column) : kColumnCount,
                     std::string_view(hit.column));
  };
  return key(a) < key(b);
}

// The first `limit` hits, and the number of all.
class Hits {
 public:
  explicit Hits(std::uint64_t limit) : limit_(limit) {}

  void Add(GrepHit hit, std::string_view text, const Match& match) {
    ++result_.matched;
    const bool full = result_.hits.size() == limit_;
    if (limit_ == 0 || (full && !Before(hit, result_.hits.front()))) return;
    Snip(text, match, hit);
    if (full) {
      std::ranges::pop_heap(result_.hits, Before);
      result_.hits.pop_back();
    }
    result_.hits.push_back(std::move(hit));
    std::ranges::push_heap(result_.hits, Before);
  }

  void Join(Hits&& other) {
    result_.matched += other.result_.matched;
    auto& hits = result_.hits;
    std::ranges::move(other.result_.hits, std::back_inserter(hits));
    std::ranges::sort(hits, Before);
    if (hits.size() > limit_) hits.resize(limit_);
  }

  GrepResult Take() && {
    std::ranges::sort(result_.hits, Before);
    return std::move(result_);
  }

 private:
  const std::uint64_t limit_;
  GrepResult result_;
};

class SegmentGrep {
 public:
  SegmentGrep(const Searcher& searcher, SegmentColumns& columns, Hits& hits)
      : searcher_(searcher), columns_(columns), hits_(hits) {}

  Status Run(const Bitmap& selected) {
    SPANBOX_ASSIGN_OR_RETURN(blocks_, searcher_.blocks().MayMatch(columns_.segment()));
    const bool no_text = blocks_ && std::ranges::none_of(*blocks_, std::identity());
    looks_at_blocks_ = blocks_ && std::ranges::any_of(*blocks_, std::logical_not());
    const std::vector<std::uint32_t> rows = selected.Rows();
    std::vector<std::pair<const ChunkInfo*, TextColumn*>> texts;
    for (const ChunkInfo& chunk : columns_.segment().chunks()) {
      // Kind and status are words of ours: finding them in every span would bury what is looked for.
      if (chunk.column == Column::kKind || chunk.column == Column::kStatus) continue;
      if (chunk.type == ColumnType::kString) SPANBOX_RETURN_IF_ERROR(Strings(chunk, rows));
      if (chunk.type != ColumnType::kText || no_text) continue;
      SPANBOX_ASSIGN_OR_RETURN(TextColumn * text, columns_.Text(chunk));
      texts.emplace_back(&chunk, text);
    }
    if (texts.empty()) return OkStatus();
    for (const std::uint32_t row : rows) {  // row by row, as text blocks are filled
      for (const auto& [chunk, text] : texts) {
        if (!text->valid(row) || (blocks_ && !(*blocks_)[text->place(row).block])) continue;
        SPANBOX_RETURN_IF_ERROR(Text(*chunk, *text, row));
      }
    }
    return OkStatus();
  }

 private:
  Status Strings(const ChunkInfo& chunk, const std::vector<std::uint32_t>& rows) {
    SPANBOX_ASSIGN_OR_RETURN(const StringColumn* c, columns_.Strings(chunk));
    if (!searcher_.blocks().MayMatch(c->dictionary)) return OkStatus();
    std::vector<Match> matches(c->dictionary.size());
    bool any = false;
    for (std::size_t i = 0; i < matches.size(); ++i) {
      matches[i] = searcher_.Find(c->dictionary[i], false);
      any |= matches[i].found();
    }
    if (!any) return OkStatus();
    for (const std::uint32_t row : rows) {
      const std::uint32_t code = c->codes[row];
      if (!c->valid[row] || !matches[code].found()) continue;
      SPANBOX_RETURN_IF_ERROR(Report(chunk, row, c->dictionary[code], matches[code]));
    }
    return OkStatus();
  }

  Status Text(const ChunkInfo& chunk, TextColumn& column, std::uint32_t row) {
    SPANBOX_ASSIGN_OR_RETURN(const std::string_view text, column.Get(row));
    if (looks_at_blocks_ && !MayMatch(column.place(row), text)) return OkStatus();
    const Match match = searcher_.Find(text, column.is_json(row));
    return match.found() ? Report(chunk, row, text, match) : OkStatus();
  }

  // A block that the search filter has let through by chance is looked at as a whole, once it is unpacked: that is much
  // less than looking at all of its texts. Where the filter excludes no block, such a look would not either.
  bool MayMatch(const TextPlace& place, std::string_view text) {
    if (place.block != block_) {
      block_ = place.block;
      const std::size_t size = columns_.segment().text().infos()[block_].raw_bytes;
      const std::string_view whole(text.data() - place.offset, size);  // a text is a part of its unpacked block
      (*blocks_)[block_] = searcher_.blocks().MayMatch(std::span(&whole, 1));
    }
    return (*blocks_)[block_];
  }

  // What a hit shows besides the text is read with a segment's first one.
  Status ReadColumns() {
    SPANBOX_ASSIGN_OR_RETURN(traces_, columns_.TraceIds());
    SPANBOX_ASSIGN_OR_RETURN(spans_, columns_.SpanIds());
    SPANBOX_ASSIGN_OR_RETURN(starts_, columns_.Starts());
    if (const ChunkInfo* chunk = columns_.segment().Find("name", ColumnType::kString); chunk != nullptr) {
      SPANBOX_ASSIGN_OR_RETURN(names_, columns_.Strings(*chunk));
    }
    return OkStatus();
  }

  Status Report(const ChunkInfo& chunk, std::uint32_t row, std::string_view text, const Match& match) {
    if (traces_ == nullptr) SPANBOX_RETURN_IF_ERROR(ReadColumns());
    GrepHit hit;
    hit.trace_id = traces_->values[row];
    hit.span_id = spans_->values[row];
    if (names_ != nullptr && names_->valid[row]) hit.span_name = names_->dictionary[names_->codes[row]];
    hit.start_ns = starts_->values[row];
    hit.column = chunk.name;
    hits_.Add(std::move(hit), text, match);
    return OkStatus();
  }

  const Searcher& searcher_;
  SegmentColumns& columns_;
  Hits& hits_;
  std::optional<std::vector<bool>> blocks_;  // which may hold a match
  bool looks_at_blocks_ = false;
  std::uint32_t block_ = 0xFFFFFFFF;  // looked at last
  const TraceIdColumn* traces_ = nullptr;
  const SpanIdColumn* spans_ = nullptr;
  const IntColumn* starts_ = nullptr;
  const StringColumn* names_ = nullptr;
};

}  // namespace

Result<GrepResult> Grep(Store& store, const SpanQuery& query, std::string_view pattern, bool regex, bool ignore_case,
                        std::uint64_t limit) {
  SPANBOX_ASSIGN_OR_RETURN(const Searcher searcher, Searcher::Make(pattern, regex, ignore_case));
  SPANBOX_ASSIGN_OR_RETURN(const auto run, QueryRun::Start(store, query));
  std::vector<Hits> hits(run->workers(), Hits(limit));
  SPANBOX_RETURN_IF_ERROR(run->VisitShared(run->AllSegments(), [&](unsigned worker, const SegmentMeta& segment) {
    return run->WithRows(segment, [&](SegmentColumns& columns, const Bitmap& selected) {
      return SegmentGrep(searcher, columns, hits[worker]).Run(selected);
    });
  }));
  for (unsigned worker = 1; worker < run->workers(); ++worker) hits[0].Join(std::move(hits[worker]));
  return std::move(hits[0]).Take();
}

}  // namespace spanbox
