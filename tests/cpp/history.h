// What several processes did to one store and what they saw of it, and whether one order of commits explains it all.
//
// The rules, by machine: a read sees whole batches; what was acknowledged before it began; nothing that was erased
// before it began, or that nobody wrote; no batch without those that were there when it was begun; what an earlier read
// saw, unless that was erased meanwhile; and of two reads one sees all that the other one sees.
//
// Thread rule: plain values. Units: a stamp is the turn of a counter that all processes share; 0 is never.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace spanbox::testing {

struct History {
  struct Span {
    std::uint64_t begin = 0, end = 0;
    bool EndedBefore(std::uint64_t stamp) const { return end != 0 && end < stamp; }
    bool BegunBefore(std::uint64_t stamp) const { return begin != 0 && begin < stamp; }
  };
  struct Batch {
    Span append;  // end 0: not acknowledged, so that it may be there or not
    Span erase;   // end 0: as above; begin 0: nobody tried
  };
  struct Read {
    Span when;
    std::vector<bool> saw;  // by batch
  };
  std::vector<Batch> batches;
  std::vector<Read> reads;  // that came to their end
};

class HistoryChecker {
 public:
  explicit HistoryChecker(History history) : history_(std::move(history)) {
    std::ranges::sort(history_.reads, {}, [](const History::Read& read) { return read.when.begin; });
  }

  // One line for each rule broken, at most a few; empty: the history is right.
  std::vector<std::string> Problems() {
    for (std::size_t b = 0; b < history_.batches.size(); ++b) {
      CheckRecent(b);
      CheckForwards(b);
    }
    for (const History::Read& read : history_.reads) CheckOrder(read);
    CheckOneOrder();
    return problems_;
  }

 private:
  using Read = History::Read;
  using Batch = History::Batch;

  void Broken(std::size_t batch, const Read& read, const std::string& what) {
    if (problems_.size() < 20) {
      problems_.push_back("batch " + std::to_string(batch) + ", read " + std::to_string(read.when.begin) + " to " +
                          std::to_string(read.when.end) + ": " + what);
    }
  }

  void CheckRecent(std::size_t b) {
    const Batch& batch = history_.batches[b];
    for (const Read& read : history_.reads) {
      if (read.saw[b]) {
        if (!batch.append.BegunBefore(read.when.end)) Broken(b, read, "seen before it was written");
        if (batch.erase.EndedBefore(read.when.begin)) Broken(b, read, "seen after it was erased");
      } else if (batch.append.EndedBefore(read.when.begin) && !batch.erase.BegunBefore(read.when.end)) {
        Broken(b, read, "acknowledged, and missing");
      }
    }
  }

  // Once seen it is there until it is erased; then it never comes back.
  void CheckForwards(std::size_t b) {
    const Batch& batch = history_.batches[b];
    constexpr std::uint64_t kNever = ~std::uint64_t{0};
    std::uint64_t there = batch.append.end == 0 ? kNever : batch.append.end, gone = kNever;
    for (const Read& read : history_.reads) {
      if (read.saw[b]) there = std::min(there, read.when.end);
    }
    for (const Read& read : history_.reads) {
      if (!read.saw[b] && there < read.when.begin) gone = std::min(gone, read.when.end);
    }
    for (const Read& read : history_.reads) {
      const bool late = there < read.when.begin;
      if (!read.saw[b] && late && !batch.erase.BegunBefore(read.when.end)) Broken(b, read, "seen before, and missing");
      if (read.saw[b] && gone < read.when.begin) Broken(b, read, "gone before, and back");
    }
  }

  void CheckOrder(const Read& read) {
    std::uint64_t latest = 0;
    for (std::size_t b = 0; b < history_.batches.size(); ++b) {
      if (read.saw[b]) latest = std::max(latest, history_.batches[b].append.begin);
    }
    for (std::size_t b = 0; b < history_.batches.size(); ++b) {
      const Batch& batch = history_.batches[b];
      if (!read.saw[b] && batch.append.EndedBefore(latest) && !batch.erase.BegunBefore(read.when.end)) {
        Broken(b, read, "missing, while one written after it is there");
      }
    }
  }

  void CheckOneOrder() {
    std::vector<std::pair<std::size_t, const Read*>> by_size;
    const auto kept = [&](std::size_t b) { return history_.batches[b].erase.begin == 0; };
    for (const Read& read : history_.reads) {
      std::size_t size = 0;
      for (std::size_t b = 0; b < history_.batches.size(); ++b) size += read.saw[b] && kept(b);
      by_size.emplace_back(size, &read);
    }
    std::ranges::stable_sort(by_size, {}, &std::pair<std::size_t, const Read*>::first);
    for (std::size_t i = 1; i < by_size.size(); ++i) {
      const Read &less = *by_size[i - 1].second, &more = *by_size[i].second;
      for (std::size_t b = 0; b < history_.batches.size(); ++b) {
        if (kept(b) && less.saw[b] && !more.saw[b]) Broken(b, more, "two reads saw commits in two orders");
      }
    }
  }

  History history_;
  std::vector<std::string> problems_;
};

}  // namespace spanbox::testing
