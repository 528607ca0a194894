#include "chunks.h"

#include <algorithm>
#include <charconv>

#include "base/msgpack.h"

namespace spanbox::python {
namespace {

constexpr std::size_t kMaxDeltas = 16'384;  // of a stream: five minutes at 50 tokens a second

}  // namespace

void Chunks::Add(PyObject* value, std::int64_t since_start_ns, bool keep, const CaptureLimits& limits) {
  if (count_ == 0) {
    first_ns_ = since_start_ns;
  } else {
    longest_stall_ns_ = std::max(longest_stall_ns_, since_start_ns - last_ns_);
  }
  // From whole microseconds, so that the deltas add up to the last arrival.
  const std::int64_t delta_us = since_start_ns / 1000 - last_ns_ / 1000;
  if (deltas_us_.size() < kMaxDeltas) {
    deltas_us_.push_back(static_cast<std::uint32_t>(std::clamp<std::int64_t>(delta_us, 0, UINT32_MAX)));
  }
  last_ns_ = since_start_ns;
  ++count_;
  if (keep) Keep(value, limits);
}

void Chunks::Keep(PyObject* value, const CaptureLimits& limits) {
  if (packed_.size() >= limits.bytes || packed_count_ >= limits.nodes) {
    truncated_ = true;
    return;
  }
  RecordWriter writer(packed_);
  Capture capture(writer, limits);
  capture.AddElement(value);
  truncated_ |= capture.truncated();
  ++packed_count_;
  if (!all_text_) return;
  if (PyUnicode_Check(value)) {
    text_ += Utf8(value).view();
  } else {
    all_text_ = false;
    text_ = {};
  }
}

void Chunks::AddTo(Capture& capture, RecordWriter& record, bool keep) const {
  if (count_ == 0) return;
  record.AddInt(Column::kAttribute, "chunks", static_cast<std::int64_t>(count_));
  if (count_ > 1) record.AddInt(Column::kAttribute, "longest_stall_ns", longest_stall_ns_);
  std::string deltas = "[";
  for (const std::uint32_t delta : deltas_us_) {
    char digits[12];
    deltas.append(digits, std::to_chars(digits, digits + sizeof digits, delta).ptr);
    deltas += ',';
  }
  deltas.back() = ']';
  record.AddJson(Column::kAttribute, "chunk_deltas_us", deltas);
  if (!keep || packed_count_ == 0) return;
  if (all_text_ || hides_outputs) {
    capture.AddText(Column::kOutput, {}, text_);
  } else {
    const std::size_t begin = record.BeginPacked(Column::kOutput, {});
    MsgpackWriter(record.buffer()).Array(packed_count_);
    record.buffer().PutText(packed_.text());
    record.EndPacked(begin);
  }
  if (truncated_) capture.SetTruncated();
}

}  // namespace spanbox::python
