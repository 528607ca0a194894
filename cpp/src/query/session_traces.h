// Which traces belong to which session.
//
// Thread rule: one thread. Ownership: owns its texts.
// Invariant: a trace belongs to the session that its earliest span with a session_id names, ties by the id.
#pragma once

#include <functional>
#include <limits>
#include <string_view>
#include <vector>

#include "query/cells.h"
#include "query/segment_columns.h"
#include "query/trace_numbers.h"
#include "store/read_view.h"

namespace spanbox {

// Calls fn(i, text) for every i whose rows[i] has a text or an integer in the column. REQUIRES: rows ascend.
Status ForEachText(SegmentColumns& columns, std::string_view column, std::span<const std::uint32_t> rows,
                   const std::function<void(std::size_t i, std::string_view text)>& fn);

class SessionTraces {
 public:
  static constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

  // Finds the session of every trace; of those in `among` only, unless it is null. Called once.
  Status Read(ReadView& view, const TraceNumbers* among, const Interrupt& interrupt);

  const TraceNumbers& traces() const { return traces_; }
  std::uint32_t SessionOf(std::uint32_t trace) const { return session_[trace]; }
  std::uint32_t sessions() const { return ids_.size(); }
  const std::string& Id(std::uint32_t session) const { return ids_[session]; }
  std::int64_t ActiveNs(std::uint32_t session) const { return active_ns_[session]; }
  std::uint32_t Find(std::string_view id) { return ids_.Intern(id); }  // sessions() or more: none has this id

 private:
  void See(const TraceId& trace, std::int64_t start_ns, std::string_view id);

  StringPool ids_;
  std::vector<std::int64_t> active_ns_;  // by session
  TraceNumbers traces_;
  std::vector<std::uint32_t> session_;  // by trace
  std::vector<std::int64_t> named_ns_;  // by trace: start of the span that names the session
};

}  // namespace spanbox
