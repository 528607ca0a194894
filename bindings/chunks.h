// When the chunks of a stream arrived, and what they were, gathered while it runs and written with its END.
//
// Thread rule: hold the GIL. Ownership: copies what it is given.
// Units: nanoseconds, microseconds, bytes.
#pragma once

#include <Python.h>

#include <cstdint>
#include <string>
#include <vector>

#include "capture.h"

namespace spanbox::python {

class Chunks {
 public:
  // `value` came `since_start_ns` after the span began. keep: it is part of the output.
  void Add(PyObject* value, std::int64_t since_start_ns, bool keep, const CaptureLimits& limits);

  bool empty() const { return count_ == 0; }
  std::int64_t first_ns() const { return first_ns_; }

  // Adds chunks, chunk_deltas_us and longest_stall_ns; and the output: text when every chunk was text, else a list.
  void AddTo(Capture& capture, RecordWriter& record, bool keep) const;

 private:
  void Keep(PyObject* value, const CaptureLimits& limits);

  std::vector<std::uint32_t> deltas_us_;  // the first since the span's start, every other since the one before
  std::int64_t first_ns_ = -1, last_ns_ = 0, longest_stall_ns_ = 0;
  std::uint64_t count_ = 0;

  ByteBuffer packed_;  // the chunks as MessagePack values
  std::uint32_t packed_count_ = 0;
  std::string text_;  // all chunks, while every one of them is text
  bool all_text_ = true;
  bool truncated_ = false;
};

}  // namespace spanbox::python
