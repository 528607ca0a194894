// A SpanExporter for tests: keeps everything in memory, checks what a recorder must keep, and fails on request.
//
// Thread rule: any thread. Violations of the exporter's contract are collected in problems(), for the test to assert
// on.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "base/record_codec.h"
#include "spanbox/exporter.h"
#include "spanbox/recorder.h"

namespace spanbox {

struct StoredSpan {
  TraceId trace_id;
  SpanId span_id = 0, parent_id = 0;
  std::string name;
  SpanStatus status = SpanStatus::kOk;
  std::int64_t start_ns = 0, duration_ns = -1;
  std::map<std::string, std::string> fields;  // column or attribute name -> text
};

inline std::string FieldText(const Value& value) {
  switch (value.type) {
    case ValueType::kBool:
      return value.boolean ? "true" : "false";
    case ValueType::kInt:
      return std::to_string(value.integer);
    case ValueType::kFloat:
      return std::to_string(value.number);
    default:
      return std::string(value.text);
  }
}

class MemoryExporter : public SpanExporter {
 public:
  Result<RingState> LoadRing(const RingId& ring) override {
    const std::scoped_lock lock(mutex_);
    return rings_[ring];
  }

  Status Commit(const SpanBatch& batch) override {
    std::unique_lock lock(mutex_);
    ++attempts_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return !blocked_; });
    if (fail_commits_) return ResourceExhausted("the disk is full, says the test");
    if (batch.turn != 0 && batch.turn != rings_[batch.ring].turn + 1) return Unavailable("out of turn, says the test");
    Check(batch);
    Apply(batch);
    changed_.notify_all();
    return OkStatus();
  }

  void FailCommits(bool fail) { Set(fail_commits_, fail); }
  void Block(bool block) { Set(blocked_, block); }

  std::vector<StoredSpan> spans() const { return Copy(spans_); }
  std::size_t span_count() const {
    const std::scoped_lock lock(mutex_);
    return spans_.size();
  }
  std::vector<StoredSpan> sampled_out() const { return Copy(sampled_out_); }
  std::vector<StoredSpan> scores() const { return Copy(scores_); }
  std::uint64_t commits() const { return Copy(commits_); }
  std::uint64_t attempts() const { return Copy(attempts_); }
  std::vector<std::string> problems() const { return Copy(problems_); }
  std::map<RingId, RingState> rings() const { return Copy(rings_); }
  std::vector<std::string> processes() const { return Copy(processes_); }
  std::map<BlobId, std::string> blobs() const { return Copy(blobs_); }

  // Spans by id; an id that was stored twice is among the problems.
  std::map<SpanId, StoredSpan> by_id() const {
    std::map<SpanId, StoredSpan> result;
    for (StoredSpan& span : spans()) result[span.span_id] = std::move(span);
    return result;
  }

  // Waits until `condition` (called with the lock held elsewhere than here) holds; false after ten seconds.
  bool WaitFor(const std::function<bool()>& condition) const {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, std::chrono::milliseconds(2));
    }
    return true;
  }

 private:
  template <typename T>
  T Copy(const T& member) const {
    const std::scoped_lock lock(mutex_);
    return member;
  }
  void Set(bool& flag, bool value) {
    const std::scoped_lock lock(mutex_);
    flag = value;
    changed_.notify_all();
  }

  void Check(const SpanBatch& batch) {
    const RingState& state = rings_[batch.ring];
    if (state.retired) problems_.push_back("commit to a retired ring");
    for (const LaneCursor& cursor : batch.cursors) {
      const auto found = state.cursors.find(cursor.lane);
      if (found == state.cursors.end()) continue;
      if (cursor.position < found->second.position || cursor.seq < found->second.seq) {
        problems_.push_back("the cursor of lane " + std::to_string(cursor.lane) + " moved backwards");
      }
      if (cursor.dropped_spans < found->second.dropped_spans) problems_.push_back("a drop counter moved backwards");
    }
    for (const auto* rows : {&batch.spans, &batch.sampled_out}) {
      for (const SpanRow& row : *rows) {
        if (!ids_.insert(row.span_id).second) problems_.push_back("span " + ToHex(row.span_id) + " was stored twice");
      }
    }
  }

  static StoredSpan Stored(const SpanRow& row) {
    StoredSpan span{row.trace_id, row.span_id,  row.parent_id,   std::string(row.name),
                    row.status,   row.start_ns, row.duration_ns, {}};
    for (const Field& field : row.fields) {
      const auto name =
          field.column == Column::kAttribute ? field.name : Columns()[static_cast<std::size_t>(field.column)].name;
      span.fields[std::string(name)] = FieldText(field.value);
    }
    return span;
  }

  void Apply(const SpanBatch& batch) {
    RingState& state = rings_[batch.ring];
    for (const SpanRow& row : batch.spans) spans_.push_back(Stored(row));
    for (const SpanRow& row : batch.sampled_out) sampled_out_.push_back(Stored(row));
    for (const SpanRow& row : batch.scores) scores_.push_back(Stored(row));
    for (const OpenSpan& open : batch.open) state.open[open.span_id] += open.records;
    for (const SpanId closed : batch.closed) state.open.erase(closed);
    for (const LaneCursor& cursor : batch.cursors) state.cursors[cursor.lane] = cursor;
    for (const BlobPiece& piece : batch.blobs) {
      std::string& content = blobs_[piece.id];
      content.resize(piece.total_bytes);
      std::ranges::copy(piece.bytes,
                        std::as_writable_bytes(std::span(content)).begin() + static_cast<std::ptrdiff_t>(piece.offset));
    }
    if (!batch.process.empty()) processes_.push_back(batch.process);
    if (batch.turn != 0) state.turn = batch.turn;
    if (batch.retire) state = RingState{.retired = true, .turn = batch.turn, .cursors = {}, .open = {}};
    ++commits_;
  }

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::vector<StoredSpan> spans_, sampled_out_, scores_;
  std::set<SpanId> ids_;
  std::map<RingId, RingState> rings_;
  std::map<BlobId, std::string> blobs_;
  std::vector<std::string> problems_, processes_;
  std::uint64_t commits_ = 0, attempts_ = 0;
  bool fail_commits_ = false, blocked_ = false;
};

// A folder that is removed with what is in it.
class TempDir {
 public:
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "spanbox_test_XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::permissions(path_, std::filesystem::perms::owner_all, ignored);
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  std::vector<std::filesystem::path> Files(const std::string& suffix) const {
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) {
      if (entry.path().string().ends_with(suffix)) files.push_back(entry.path());
    }
    return files;
  }

 private:
  std::string path_;
};

inline TraceId TestTrace(std::uint8_t first = 1) {
  TraceId id;
  id.bytes[0] = first;
  return id;
}

inline SpanRow TestRow(SpanId id, std::string_view name = "work") {
  SpanRow row;
  row.trace_id = TestTrace();
  row.span_id = id;
  row.name = name;
  row.start_ns = 1'000'000 + static_cast<std::int64_t>(id);
  return row;
}

inline constexpr std::int64_t kTestTimeoutNs = 20'000'000'000;

}  // namespace spanbox
