#include <algorithm>
#include <set>

#include "base/msgpack.h"
#include "query/query_run.h"
#include "query/session_traces.h"
#include "query/trace_reader.h"
#include "spanbox/trace.h"

namespace spanbox {
namespace {

struct Figures {
  std::int64_t start_ns = std::numeric_limits<std::int64_t>::max();
  std::int64_t end_ns = std::numeric_limits<std::int64_t>::min();  // with `ended`
  bool ended = false;
  std::int64_t turns = 0;
  SpanTotals totals;
  std::set<std::string, std::less<>> users;

  void Add(const TraceSummary& turn) {
    ++turns;
    start_ns = std::min(start_ns, turn.start_ns);
    if (turn.duration_ns >= 0) {
      ended = true;
      end_ns = std::max(end_ns, SaturatingAdd(turn.start_ns, turn.duration_ns));
    }
    spanbox::Add(turn.totals, totals);
  }
};

// The sessions with a row of the question.
Result<std::vector<bool>> Matching(QueryRun& run, SessionTraces& sessions) {
  std::vector<bool> matching(sessions.sessions());
  SPANBOX_RETURN_IF_ERROR(run.ForEach([&](SegmentColumns& columns, const Bitmap& selected) {
    return ForEachText(columns, "session_id", selected.Rows(), [&](std::size_t, std::string_view id) {
      const std::uint32_t session = sessions.Find(id);
      if (session < matching.size()) matching[session] = true;
    });
  }));
  return matching;
}

// Leaves the `limit` sessions that were active last.
void KeepNewest(const SessionTraces& sessions, std::uint64_t limit, std::vector<bool>& chosen) {
  std::vector<std::uint32_t> numbers;
  for (std::uint32_t session = 0; session < chosen.size(); ++session) {
    if (chosen[session]) numbers.push_back(session);
  }
  if (numbers.size() <= limit) return;
  const auto last = numbers.begin() + static_cast<std::ptrdiff_t>(limit);
  std::ranges::nth_element(numbers, last, [&](std::uint32_t a, std::uint32_t b) {
    return std::pair(sessions.ActiveNs(b), a) < std::pair(sessions.ActiveNs(a), b);
  });
  std::for_each(last, numbers.end(), [&](std::uint32_t session) { chosen[session] = false; });
}

// What the traces of the chosen sessions add up to, by session. Reads every segment that holds any of them once.
Result<std::vector<Figures>> FiguresOf(ReadView& view, const SessionTraces& sessions, const std::vector<bool>& chosen,
                                       const Interrupt& interrupt) {
  TraceNumbers traces;
  std::vector<std::uint32_t> session_of;
  for (std::uint32_t trace = 0; trace < sessions.traces().count(); ++trace) {
    if (!chosen[sessions.SessionOf(trace)]) continue;
    traces.NumberOf(sessions.traces().ids()[trace]);
    session_of.push_back(sessions.SessionOf(trace));
  }
  traces.Freeze();
  std::vector<Figures> figures(chosen.size());
  TraceFacts facts;
  std::size_t stored = 0;
  const auto add = [&](const SegmentMeta& segment, std::unique_ptr<SegmentColumns> columns, const TraceRows& rows) {
    SPANBOX_RETURN_IF_ERROR(AppendFacts(*columns, rows, 0, facts));
    if (segment.id != kOpenSpans) stored = facts.spans.size();
    return ForEachText(*columns, "user_id", rows.rows, [&](std::size_t i, std::string_view user) {
      auto& users = figures[session_of[rows.trace[i]]].users;
      if (!users.contains(user)) users.emplace(user);
    });
  };
  SPANBOX_RETURN_IF_ERROR(ForEachTracePart(view, traces, interrupt, add));
  DropStored(stored, facts);
  const std::vector<std::uint32_t> ends = GroupByTrace(traces.count(), facts.spans);
  for (std::uint32_t trace = 0, begin = 0; trace < traces.count(); begin = ends[trace++]) {
    const auto spans = std::span(facts.spans).subspan(begin, ends[trace] - begin);
    if (!spans.empty()) figures[session_of[trace]].Add(SpanTree(spans, facts.usages).Summary());
  }
  return figures;
}

std::string JsonList(const std::set<std::string, std::less<>>& texts) {
  std::string json = "[";
  for (const std::string& text : texts) {
    if (json.size() > 1) json += ',';
    AppendJsonString(text, json);
  }
  return json + "]";
}

class SessionTable {
 public:
  void Add(const std::string& id, std::int64_t active_ns, const Figures& session) {
    const SpanTotals& totals = session.totals;
    const Usage& usage = totals.usage;
    std::size_t at = 0;
    const auto text = [&](std::string_view name, std::string value, bool json) {
      TableColumn& column = At(at++, name, TableColumn::Type::kString);
      column.is_json = json;
      column.codes.push_back(static_cast<std::uint32_t>(column.dictionary.size()));
      column.dictionary.push_back(std::move(value));
    };
    const auto number = [&](std::string_view name, std::optional<std::int64_t> value,
                            TableColumn::Type type = TableColumn::Type::kInt) {
      TableColumn& column = At(at++, name, type);
      column.ints.push_back(value.value_or(0));
      column.valid.push_back(value.has_value());
    };
    const auto count = [&](std::string_view name, std::uint64_t n) { number(name, static_cast<std::int64_t>(n)); };
    text("session_id", id, false);
    number("start", session.start_ns, TableColumn::Type::kTimestampNs);
    number("active", active_ns, TableColumn::Type::kTimestampNs);
    std::optional<std::int64_t> duration_ns;
    if (session.ended) duration_ns = SaturatingSub(session.end_ns, session.start_ns);
    number("duration_ns", duration_ns);
    number("turns", session.turns);
    count("spans", totals.spans);
    count("model_calls", totals.model_calls);
    count("unpriced_calls", totals.unpriced_calls);
    count("errors", totals.errors);
    TableColumn& cost = At(at++, "cost_usd", TableColumn::Type::kFloat);
    cost.floats.push_back(usage.cost_usd.value_or(0));
    cost.valid.push_back(usage.cost_usd.has_value());
    number("input_tokens", usage.input_tokens);
    number("cache_read_tokens", usage.cache_read_tokens);
    number("cache_write_tokens", usage.cache_write_tokens);
    number("output_tokens", usage.output_tokens);
    text("users", JsonList(session.users), true);
    ++table_.rows;
  }
  // Also the columns of a table without rows.
  Table Finish() && {
    if (table_.rows > 0) return std::move(table_);
    Add("", 0, {});
    for (TableColumn& column : table_.columns) column = {.name = column.name, .type = column.type};
    table_.rows = 0;
    return std::move(table_);
  }

 private:
  TableColumn& At(std::size_t at, std::string_view name, TableColumn::Type type) {
    if (at == table_.columns.size()) table_.columns.push_back({.name = std::string(name), .type = type});
    return table_.columns[at];
  }

  Table table_;
};

}  // namespace

Result<Table> SessionsOf(Store& store, const SpanQuery& query, const SessionOptions& options) {
  SPANBOX_ASSIGN_OR_RETURN(const auto run, QueryRun::Start(store, query));
  SessionTraces sessions;
  SPANBOX_RETURN_IF_ERROR(sessions.Read(run->view(), nullptr, run->interrupt()));
  SPANBOX_ASSIGN_OR_RETURN(std::vector<bool> chosen, Matching(*run, sessions));
  if (options.order_by == "active" && options.descending) KeepNewest(sessions, options.limit, chosen);
  SPANBOX_ASSIGN_OR_RETURN(const auto figures, FiguresOf(run->view(), sessions, chosen, run->interrupt()));
  SessionTable table;
  for (std::uint32_t session = 0; session < chosen.size(); ++session) {
    if (figures[session].turns > 0) table.Add(sessions.Id(session), sessions.ActiveNs(session), figures[session]);
  }
  return Ordered(std::move(table).Finish(), options.order_by, options.descending, options.limit);
}

Result<Session> SessionOf(Store& store, std::string_view id) {
  SPANBOX_ASSIGN_OR_RETURN(const auto view, store.Read());
  const Interrupt never;
  // Traces that name it anywhere, of which those are its own whose earliest name it is.
  TraceNumbers candidates;
  for (const SegmentMeta& segment : view->segments()) {
    SPANBOX_ASSIGN_OR_RETURN(Segment loaded, view->Load(segment));
    const auto may_hold = [&](const ChunkInfo* chunk) {
      return chunk->type != ColumnType::kString || !chunk->has_zone || (chunk->min_text <= id && id <= chunk->max_text);
    };
    if (std::ranges::none_of(loaded.Find("session_id"), may_hold)) continue;
    SegmentColumns columns(std::move(loaded));
    SPANBOX_ASSIGN_OR_RETURN(const TraceIdColumn* traces, columns.TraceIds());
    const std::vector<std::uint32_t> rows = Bitmap(columns.rows(), true).Rows();
    SPANBOX_RETURN_IF_ERROR(ForEachText(columns, "session_id", rows, [&](std::size_t i, std::string_view named) {
      if (named == id) candidates.NumberOf(traces->values[i]);
    }));
  }
  candidates.Freeze();
  SessionTraces sessions;
  SPANBOX_RETURN_IF_ERROR(sessions.Read(*view, &candidates, never));
  std::vector<bool> chosen(sessions.sessions());
  TraceNumbers own;
  const std::uint32_t number = sessions.Find(id);
  if (number < chosen.size()) chosen[number] = true;
  for (std::uint32_t trace = 0; trace < sessions.traces().count(); ++trace) {
    if (sessions.SessionOf(trace) == number) own.NumberOf(sessions.traces().ids()[trace]);
  }
  if (own.count() == 0) return NotFound("no session \"" + std::string(id) + "\" in " + store.path());
  own.Freeze();
  SPANBOX_ASSIGN_OR_RETURN(auto figures, FiguresOf(*view, sessions, chosen, never));
  SPANBOX_ASSIGN_OR_RETURN(const auto reader, TraceReader::Read(*view, std::move(own), never));
  Session session{.id = std::string(id), .totals = figures[number].totals};
  for (const std::string& user : figures[number].users) session.users.push_back(user);
  for (std::uint32_t trace = 0; trace < reader->traces(); ++trace) {
    if (!reader->Has(trace)) continue;
    const SpanTree tree = reader->Tree(trace);
    SPANBOX_ASSIGN_OR_RETURN(TraceSummary summary, reader->Summary(trace, tree));
    const SpanFacts* root = &tree.node(tree.root()).span;
    SPANBOX_ASSIGN_OR_RETURN(std::vector<TraceSpan> roots, reader->Spans({&root, 1}, SpanParts::kEverything));
    roots.front().children = tree.node(tree.root()).children;
    roots.front().self_ns = tree.SelfNs(tree.root());
    roots.front().totals = tree.totals(tree.root());
    session.turns.push_back({std::move(summary), std::move(roots.front())});
  }
  std::ranges::sort(session.turns, {},
                    [](const Turn& turn) { return std::pair(turn.trace.start_ns, turn.trace.trace_id); });
  return session;
}

}  // namespace spanbox
