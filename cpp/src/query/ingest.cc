#include "query/ingest.h"

#include <algorithm>

#include "query/ingest_source.h"

namespace spanbox {

Ingest::Ingest(std::shared_ptr<Store> store, std::string name, bool skip_bad, std::uint64_t stored_before)
    : store_(std::move(store)),
      name_(std::move(name)),
      skip_bad_(skip_bad),
      stored_before_(stored_before),
      stored_(stored_before) {}

Ingest::~Ingest() = default;

Result<std::unique_ptr<Ingest>> Ingest::Start(std::shared_ptr<Store> store, std::string name, bool skip_bad) {
  std::uint64_t stored = 0;
  if (!name.empty()) {
    SPANBOX_ASSIGN_OR_RETURN(stored, store->IngestedRows(name));
  }
  return std::unique_ptr<Ingest>(new Ingest(std::move(store), std::move(name), skip_bad, stored));
}

Status Ingest::TakeArrow(ArrowArrayStream* stream) {
  ArrowOwned<ArrowArrayStream> owned(stream);
  if (!owned.has()) return InvalidArgument("the Arrow stream has been read already: make a new one");
  SPANBOX_ASSIGN_OR_RETURN(arrow_, ArrowRows::Open(std::move(owned)));
  return OkStatus();
}

Result<bool> Ingest::Step() { return arrow_ == nullptr ? Result<bool>(false) : StoreSome(*arrow_); }

Status Ingest::StoreLines(std::string_view lines, std::uint64_t first_line) {
  if (json_ == nullptr) json_ = std::make_unique<JsonRows>();
  json_->Take(lines, first_line);
  for (;;) {
    SPANBOX_ASSIGN_OR_RETURN(const bool more, StoreSome(*json_));
    if (!more) return OkStatus();
  }
}

// nullptr: the input has ended.
Result<const SpanRow*> Ingest::NextRow(Source& source, Counts& counts) {
  for (;;) {
    SPANBOX_ASSIGN_OR_RETURN(const bool more, source.Fill());
    if (!more) return static_cast<const SpanRow*>(nullptr);
    if (position_ < stored_before_) {
      const std::uint64_t skipped = source.Skip(stored_before_ - position_);
      position_ += skipped;
      counts.skipped += skipped;
      continue;
    }
    maker_.Begin(position_);
    Result<const SpanRow*> row = static_cast<const SpanRow*>(nullptr);
    if (Status read = source.Read(maker_); read.ok()) {
      row = maker_.Finish();
    } else {
      row = std::move(read);
    }
    const std::uint64_t number = position_++;
    if (row.ok()) {
      return &pricer_.Priced(redactor_ ? redactor_->Redacted(**row) : **row);
    }
    std::string problem = source.Place(number) + ": " + row.status().message();
    if (!skip_bad_) return Status(row.status().code(), std::move(problem));
    ++counts.bad;
    if (counts.problems.size() < kListedProblems) counts.problems.push_back(std::move(problem));
  }
}

Result<bool> Ingest::StoreSome(Source& source) {
  SPANBOX_ASSIGN_OR_RETURN(const bool more, source.Fill());
  if (!more) return false;
  Counts counts = counts_;  // taken over when they are true
  IngestProgress progress{.name = name_, .rows_before = stored_, .rows_after = stored_};
  std::uint64_t rows = 0, bytes = 0;
  const auto next = [&]() -> Result<const SpanRow*> {
    if (rows == kCommitRows || bytes >= kCommitBytes) return static_cast<const SpanRow*>(nullptr);
    SPANBOX_ASSIGN_OR_RETURN(const SpanRow* const row, NextRow(source, counts));
    progress.rows_after = std::max(stored_, position_);
    if (row == nullptr) return row;
    ++rows;
    bytes += maker_.bytes();
    return row;
  };
  SPANBOX_RETURN_IF_ERROR(store_->Append(next, progress));
  counts.rows += rows;
  counts.bytes += bytes;
  counts_ = std::move(counts);
  stored_ = progress.rows_after;
  return true;
}

}  // namespace spanbox
