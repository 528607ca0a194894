// Durable ingest: N spans like those of LLM applications, 1,000 a commit, through Store::Commit; then merging.
//
//   bench_ingest [--text] [--score] [--commit SPANS] N DIR
//
// --score gives three of ten spans an attribute "score". --commit 65536 makes segments that need no merging, which is
// the fastest way to a large store. DIR must not exist. Prints one JSON line. Times are of this
// thread's CPU (`cpu_ns_per_span`: builder, encoding, commit) and of the wall; bytes are of the stored values and of
// data.mdb. Making the data is not timed.
#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "spanbox/store.h"

namespace {

using spanbox::Column;
using spanbox::Field;
using spanbox::SpanKind;
using spanbox::SpanRow;
using spanbox::SpanStatus;
using spanbox::Value;

constexpr std::int64_t kStartNs = 1'767'225'600'000'000'000;

class Random {
 public:
  std::uint64_t Next() {
    state_ += 0x9E3779B97F4A7C15;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }
  double Unit() { return static_cast<double>(Next() >> 11) * 0x1p-53; }
  std::uint32_t Below(std::uint32_t n) { return static_cast<std::uint32_t>(Unit() * n); }
  double LogNormal(double median, double sigma) {
    return median * std::exp(sigma * std::sqrt(-2 * std::log(Unit() + 1e-300)) * std::cos(6.283185307179586 * Unit()));
  }
  // Rank by popularity, about as 1 / rank.
  std::uint32_t Zipf(std::uint32_t n) { return static_cast<std::uint32_t>(std::pow(n, Unit())) - 1; }

 private:
  std::uint64_t state_ = 42;
};

// Names drawn once, so that rows only borrow.
struct Names {
  std::vector<std::string> users, tenants, features, prompts, models, spans, words;
  Names() {
    const auto fill = [](std::vector<std::string>& out, const char* prefix, int n) {
      for (int i = 0; i < n; ++i) out.push_back(prefix + std::to_string(i));
    };
    fill(users, "user-", 50'000);
    fill(tenants, "tenant-", 200);
    fill(features, "feature-", 15);
    fill(prompts, "v", 30);
    fill(models, "model-", 12);
    fill(spans, "step-", 40);
    MakeWords();
    for (int version = 0; version < 30; ++version) {
      std::string& prompt = system_prompts.emplace_back("You are a helpful assistant.");
      while (prompt.size() < 250) prompt.append(" ").append(words[random_.Zipf(20'000)]);
    }
  }

  std::vector<std::string> system_prompts;

 private:
  // Made of syllables, the frequent ones short, so that text compresses about as English does.
  void MakeWords() {
    static constexpr const char* kOnsets[] = {"",  "b", "c", "d",  "f",  "g",  "h",  "l",  "m",  "n",  "p",  "r", "s",
                                              "t", "v", "w", "br", "ch", "cl", "gr", "pl", "sh", "st", "th", "tr"};
    static constexpr const char* kVowels[] = {"a", "e", "i", "o", "u", "ai", "ea", "ee", "io", "ou"};
    static constexpr const char* kCodas[] = {"", "", "l", "m", "n", "r", "s", "t", "ck", "nd", "ng", "rt", "st"};
    std::set<std::string> known;
    while (words.size() < 20'000) {
      std::string word;
      const std::size_t most = words.size() < 50 ? 1 : words.size() < 1000 ? 2 : 4;
      for (std::size_t n = 1 + random_.Below(static_cast<std::uint32_t>(most)); n > 0; --n) {
        word.append(kOnsets[random_.Below(25)]).append(kVowels[random_.Below(10)]);
        if (n == 1 || random_.Below(3) == 0) word.append(kCodas[random_.Below(13)]);
      }
      if (word.size() > 1 && known.insert(word).second) words.push_back(word);
    }
  }

  Random random_;
};

struct Generated {
  SpanRow row;
  std::vector<Field> fields;
  std::int64_t end_ns = 0;
};

// Traces of 2 to 10 spans: a root, then model calls, tools and retrievals.
class Generator {
 public:
  Generator(std::size_t spans, bool text, bool score) : spans_(spans), text_(text), score_(score) {}

  // The next million spans or so, in the order they arrive, which is when they end; none: that was all. They live until
  // the call after the next.
  std::deque<Generated> Next() {
    std::deque<Generated> out = std::move(waiting_);
    waiting_.clear();
    old_strings_ = std::move(strings_);
    strings_.clear();
    const double step_ns = 8.0 * 86'400e9 / static_cast<double>(spans_);
    const std::size_t until = std::min(spans_, made_ + kSpansAtOnce);
    std::int64_t start_ns = 0;
    while (made_ < until) {
      start_ns = kStartNs + static_cast<std::int64_t>(step_ns * static_cast<double>(made_));
      const std::size_t before = out.size();
      MakeTrace(start_ns, out);
      made_ += out.size() - before;
    }
    if (made_ > spans_) out.resize(out.size() - (made_ - spans_));
    made_ = std::min(made_, spans_);
    std::ranges::stable_sort(out, {}, &Generated::end_ns);
    if (made_ < spans_) {
      const auto later = std::ranges::upper_bound(out, start_ns, {}, &Generated::end_ns);
      waiting_.assign(std::make_move_iterator(later), std::make_move_iterator(out.end()));
      out.erase(later, out.end());
    }
    for (Generated& g : out) g.row.fields = g.fields;
    return out;
  }

 private:
  static constexpr std::size_t kSpansAtOnce = 1'000'000;

  void MakeTrace(std::int64_t start_ns, std::deque<Generated>& out) {
    spanbox::TraceId trace;
    for (std::size_t i = 0; i < 16; i += 8) {
      const std::uint64_t bits = random_.Next();
      std::memcpy(trace.bytes.data() + i, &bits, 8);
    }
    const std::uint32_t user = random_.Zipf(50'000), prompt = random_.Zipf(30);
    const std::string& session =
        strings_.emplace_back("s" + std::to_string(user) + "-" + std::to_string(start_ns / 1'800'000'000'000));
    const std::vector<Field> tags = {
        {Column::kUserId, {}, Value::String(names_.users[user])},
        {Column::kSessionId, {}, Value::String(session)},
        {Column::kTenant, {}, Value::String(names_.tenants[user % 200])},
        {Column::kFeature, {}, Value::String(names_.features[random_.Zipf(15)])},
        {Column::kPromptVersion, {}, Value::String(names_.prompts[prompt])},
    };
    const std::size_t root = out.size();
    const std::uint32_t children = 1 + random_.Below(9);
    std::int64_t at = start_ns, last = start_ns;
    for (std::uint32_t i = 0; i <= children; ++i) {
      Generated& g = out.emplace_back();
      g.fields = tags;
      g.row.trace_id = trace;
      g.row.span_id = random_.Next() | 1;
      g.row.parent_id = i == 0 ? 0 : out[root].row.span_id;
      g.row.start_ns = i == 0 ? start_ns : at;
      g.row.status = random_.Unit() < 0.015 ? SpanStatus::kError : SpanStatus::kOk;
      if (i == 0) {
        g.row.kind = SpanKind::kAgent;
        g.row.name = names_.spans[random_.Below(8)];
      } else if (random_.Below(100) < 65) {
        AddModelCall(g);
      } else {
        g.row.kind = random_.Below(2) == 0 ? SpanKind::kTool : SpanKind::kRetriever;
        g.row.name = names_.spans[16 + random_.Below(16)];
        g.row.duration_ns = static_cast<std::int64_t>(random_.LogNormal(1.2e8, 1));
      }
      if (text_) AddText(g, prompt);
      if (score_ && random_.Below(10) < 3) {
        const double score = 0.75 + 0.1 * (random_.Unit() + random_.Unit() - 1);
        g.fields.push_back({Column::kAttribute, "score", Value::Float(std::round(score * 100) / 100)});
      }
      g.end_ns = g.row.start_ns + g.row.duration_ns;
      at = g.end_ns + static_cast<std::int64_t>(random_.LogNormal(2e6, 0.8));
      last = std::max(last, g.end_ns);
    }
    out[root].row.duration_ns = last - start_ns + 1'000'000;
    out[root].end_ns = last + 1'000'000;
  }

  void AddModelCall(Generated& g) {
    const std::uint32_t model = random_.Zipf(12);
    const auto ttft = static_cast<std::int64_t>(random_.LogNormal(2.2e8, 0.6));
    const auto input = static_cast<std::int64_t>(random_.LogNormal(900, 0.9));
    const auto output = 1 + static_cast<std::int64_t>(random_.LogNormal(220, 0.8));
    const std::int64_t cached =
        random_.Below(3) != 0 ? 0 : static_cast<std::int64_t>(static_cast<double>(input) * random_.Unit());
    g.row.kind = SpanKind::kLlm;
    g.row.name = names_.spans[8 + random_.Below(8)];
    g.row.duration_ns = ttft + static_cast<std::int64_t>(random_.LogNormal(1.4e7, 0.35)) * output;
    const double cost =
        (static_cast<double>(input) * 0.5 * (1 + model) + static_cast<double>(output) * 2 * (1 + model)) * 1e-6;
    const Field fields[] = {
        {Column::kModel, {}, Value::String(names_.models[model])},
        {Column::kProvider, {}, Value::String(names_.models[model % 5])},
        {Column::kTtftNs, {}, Value::Int(ttft)},
        {Column::kInputTokens, {}, Value::Int(input)},
        {Column::kOutputTokens, {}, Value::Int(output)},
        {Column::kCacheReadTokens, {}, Value::Int(cached)},
        {Column::kCostUsd, {}, Value::Float(cost)},
    };
    g.fields.insert(g.fields.end(), std::begin(fields), std::end(fields));
  }

  void Words(double bytes, std::string& text) {
    const double end = static_cast<double>(text.size()) + bytes;
    bool begins = true;
    while (static_cast<double>(text.size()) < end) {
      const std::size_t at = text.size();
      text.append(names_.words[random_.Zipf(20'000)]);
      if (begins) text[at] = static_cast<char>(text[at] - ('a' - 'A'));
      const std::uint32_t stop = random_.Below(16);
      begins = stop == 0;
      text.append(stop == 0 ? ". " : stop == 1 ? ", " : " ");
    }
    text.back() = '.';
  }

  // A conversation of one or three turns behind the prompt version's system prompt, and the answer.
  void AddText(Generated& g, std::size_t prompt_version) {
    std::string& input = strings_.emplace_back(R"([{"role":"system","content":")");
    input.append(names_.system_prompts[prompt_version]).append("\"}");
    const std::uint32_t turns = 1 + 2 * random_.Below(2);
    const double bytes = random_.LogNormal(560, 0.55);
    for (std::uint32_t turn = 0; turn < turns; ++turn) {
      input.append(turn % 2 == 1 ? R"(,{"role":"assistant","content":")" : R"(,{"role":"user","content":")");
      Words(bytes / turns, input);
      input.append("\"}");
    }
    input.append("]");
    std::string& output = strings_.emplace_back(R"({"role":"assistant","content":")");
    Words(random_.LogNormal(1230, 0.55), output);
    output.append("\"}");
    g.fields.push_back({Column::kInput, {}, Value::Json(input)});
    g.fields.push_back({Column::kOutput, {}, Value::Json(output)});
  }

  std::size_t spans_;
  bool text_, score_;
  Random random_;
  Names names_;
  std::size_t made_ = 0;
  std::deque<Generated> waiting_;  // that end after the next trace begins
  std::deque<std::string> strings_, old_strings_;
};

double Seconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

int Fail(const spanbox::Status& status) {
  std::fprintf(stderr, "%s\n", status.message().c_str());
  return 1;
}

struct Options {
  std::size_t spans = 0;
  std::size_t commit = 1000;  // spans each
  bool text = false, score = false;
  std::string folder;
};

int Run(const Options& options) {
  const auto& [spans, spans_per_commit, text, score, folder] = options;
  Generator generator(spans, text, score);
  auto opened = spanbox::Store::Open(folder);
  if (!opened.ok()) return Fail(opened.status());
  spanbox::Store& store = **opened;

  std::vector<double> commit_ms;
  double commit_wall = 0, commit_cpu = 0, merge_cpu = 0, committed_bytes_per_span = 0;
  int merges = 0;
  spanbox::SpanBatch batch;
  batch.ring[0] = 1;
  std::size_t committed = 0;
  std::deque<Generated> carried;  // too few for a commit, unless they are the last
  for (std::deque<Generated> rows = generator.Next(); !rows.empty(); rows = generator.Next()) {
    rows.insert(rows.begin(), std::make_move_iterator(carried.begin()), std::make_move_iterator(carried.end()));
    const bool last = committed + rows.size() == spans;
    carried.assign(
        std::make_move_iterator(rows.end() - static_cast<std::ptrdiff_t>(last ? 0 : rows.size() % spans_per_commit)),
        std::make_move_iterator(rows.end()));
    rows.resize(rows.size() - carried.size());
    const double wall = Seconds(CLOCK_MONOTONIC), cpu = Seconds(CLOCK_THREAD_CPUTIME_ID);
    for (std::size_t at = 0; at < rows.size(); at += spans_per_commit) {
      batch.spans.clear();
      for (std::size_t i = at; i < std::min(rows.size(), at + spans_per_commit); ++i)
        batch.spans.push_back(rows[i].row);
      batch.cursors = {{0, committed * 100 + 1, committed + 1, 0, 0}};
      committed += batch.spans.size();
      const double begin = Seconds(CLOCK_MONOTONIC);
      const spanbox::Status status = store.Commit(batch);
      if (!status.ok()) return Fail(status);
      commit_ms.push_back((Seconds(CLOCK_MONOTONIC) - begin) * 1e3);
    }
    commit_wall += Seconds(CLOCK_MONOTONIC) - wall;
    commit_cpu += Seconds(CLOCK_THREAD_CPUTIME_ID) - cpu;
    const auto info = store.Info();
    if (!info.ok()) return Fail(info.status());
    const auto bytes = static_cast<double>(info->column_bytes + info->text_bytes);
    if (merges == 0) committed_bytes_per_span = bytes / static_cast<double>(committed);
    // Each million by itself: planning a merge takes as long as there are segments.
    const double merge_begin = Seconds(CLOCK_THREAD_CPUTIME_ID);
    for (;; ++merges) {
      const auto merged = store.MergeOnce();
      if (!merged.ok()) return Fail(merged.status());
      if (!*merged) break;
    }
    merge_cpu += Seconds(CLOCK_THREAD_CPUTIME_ID) - merge_begin;
  }
  const auto merged_info = store.Info();
  if (!merged_info.ok()) return Fail(merged_info.status());
  const double compact_begin = Seconds(CLOCK_THREAD_CPUTIME_ID);
  if (const spanbox::Status status = store.Compact(); !status.ok()) return Fail(status);
  const double compact_cpu = Seconds(CLOCK_THREAD_CPUTIME_ID) - compact_begin;
  const auto after = store.Info();
  if (!after.ok()) return Fail(after.status());
  std::sort(commit_ms.begin(), commit_ms.end());
  const auto n = static_cast<double>(spans);
  std::printf(
      "{\"bench\": \"ingest\", \"spans\": %zu, \"text\": %s, \"spans_per_s\": %.0f, \"cpu_ns_per_span\": %.0f, "
      "\"commit_p50_ms\": %.3f, \"commit_p99_ms\": %.3f, \"bytes_per_span_committed\": %.1f, \"merges\": %d, "
      "\"merge_cpu_ns_per_span\": %.0f, \"bytes_per_span_merged\": %.1f, \"compact_cpu_ns_per_span\": %.0f, "
      "\"segments\": %llu, \"column_bytes_per_span\": %.2f, \"text_bytes_per_span\": %.1f, "
      "\"filter_bytes_per_span\": %.1f, \"raw_text_bytes_per_span\": %.1f, \"file_bytes_per_span\": %.1f}\n",
      spans, text ? "true" : "false", n / commit_wall, commit_cpu * 1e9 / n, commit_ms[commit_ms.size() / 2],
      commit_ms[commit_ms.size() * 99 / 100], committed_bytes_per_span, merges, merge_cpu * 1e9 / n,
      static_cast<double>(merged_info->column_bytes + merged_info->text_bytes) / n, compact_cpu * 1e9 / n,
      static_cast<unsigned long long>(after->segments), static_cast<double>(after->column_bytes) / n,
      static_cast<double>(after->text_bytes) / n, static_cast<double>(after->filter_bytes) / n,
      static_cast<double>(after->raw_text_bytes) / n, static_cast<double>(after->file_bytes) / n);
  return 0;
}

// The word after this one, taken out with it.
std::size_t Number(std::vector<std::string>& words, const std::string& flag, std::size_t otherwise) {
  const auto found = std::find(words.begin(), words.end(), flag);
  if (found == words.end() || found + 1 == words.end()) return otherwise;
  const std::size_t number = std::strtoull((found + 1)->c_str(), nullptr, 10);
  words.erase(found, found + 2);
  return number;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  Options options;
  options.commit = Number(words, "--commit", options.commit);
  options.text = std::erase(words, "--text") > 0;
  options.score = std::erase(words, "--score") > 0;
  options.spans = words.size() == 2 ? std::strtoull(words[0].c_str(), nullptr, 10) : 0;
  if (options.spans == 0 || options.commit == 0 || std::filesystem::exists(words[1])) {
    std::fprintf(stderr, "usage: bench_ingest [--text] [--score] [--commit SPANS] N DIR   (DIR must not exist)\n");
    return 2;
  }
  options.folder = words[1];
  return Run(options);
}
