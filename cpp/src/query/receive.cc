// OTLP into a store: what of a body is new, and storing it.
#include <cstring>
#include <mutex>
#include <unordered_map>
#include <unordered_set>

#include "base/record_codec.h"
#include "query/ingest.h"
#include "query/row_redactor.h"
#include "spanbox/otlp.h"
#include "spanbox/trace.h"
#include "wire/prices.h"

namespace spanbox {
namespace {

struct TraceHash {
  std::size_t operator()(const TraceId& id) const {
    std::uint64_t hash = 0;
    std::memcpy(&hash, id.bytes.data() + 8, sizeof hash);
    return hash * 0x9E3779B97F4A7C15;
  }
};
using SpansOfTraces = std::unordered_map<TraceId, std::unordered_set<SpanId>, TraceHash>;

// The spans of the body that the store does not have. Reads the whole body: what is wrong with it shows here.
Result<SpansOfTraces> NewSpans(Store& store, OtlpReader& reader, OtlpReceipt& receipt) {
  SpansOfTraces spans;
  for (;;) {
    SPANBOX_ASSIGN_OR_RETURN(const SpanRow* const row, reader.Next(false));
    if (row == nullptr) break;
    if (!spans[row->trace_id].insert(row->span_id).second) ++receipt.duplicates;
  }
  receipt.rejected = reader.rejected();
  receipt.message = reader.rejection();
  for (auto& [trace, ids] : spans) {
    SPANBOX_ASSIGN_OR_RETURN(const std::vector<SpanId> stored, SpanIdsOf(store, trace));
    for (const SpanId id : stored) receipt.duplicates += ids.erase(id);
  }
  return spans;
}

// Scores of the spans that have been read, until they are stored.
class HeldScores {
 public:
  void Add(std::span<const SpanRow> scores, RowRedactor& redactor) {
    for (const SpanRow& given : scores) {
      const SpanRow& score = redactor.Redacted(given);
      SpanRow& copy = rows_.emplace_back(score);
      std::vector<Field>& fields = arena_.NewFields();
      copy.name = Copy(score.name);
      for (Field field : score.fields) {
        field.name = Copy(field.name);
        field.value.text = Copy(field.value.text);
        fields.push_back(field);
      }
      copy.fields = fields;
    }
  }
  const std::vector<SpanRow>& rows() const { return rows_; }

 private:
  std::string_view Copy(std::string_view text) { return arena_.NewText() = text; }

  RowArena arena_;
  std::vector<SpanRow> rows_;
};

std::uint64_t SizeOf(const SpanRow& row) {
  std::uint64_t bytes = 0;
  for (const Field& field : row.fields) bytes += 8 + field.value.text.size();
  return bytes;
}

}  // namespace

Result<OtlpReceipt> ReceiveOtlp(Store& store, std::string_view body, OtlpForm form, const RedactValue& redact) {
  // One at a time: a sender that has waited too long sends the same again while the first is being stored.
  static std::mutex one_at_a_time;
  const std::lock_guard lock(one_at_a_time);
  OtlpReceipt receipt;
  SPANBOX_ASSIGN_OR_RETURN(const std::unique_ptr<OtlpReader> reader, OtlpReader::Open(body, form));
  SPANBOX_ASSIGN_OR_RETURN(SpansOfTraces wanted, NewSpans(store, *reader, receipt));
  reader->Rewind();
  HeldScores scores;
  RowRedactor redactor(redact);
  RowPricer pricer;
  for (bool more = true; more;) {
    std::uint64_t rows = 0, bytes = 0;
    const auto next = [&]() -> Result<const SpanRow*> {
      while (rows < Ingest::kCommitRows && bytes < Ingest::kCommitBytes) {
        SPANBOX_ASSIGN_OR_RETURN(const SpanRow* const row, reader->Next());
        more = row != nullptr;
        if (!more) break;
        if (wanted[row->trace_id].erase(row->span_id) == 0) continue;
        scores.Add(reader->scores(), redactor);
        ++rows;
        bytes += SizeOf(*row);
        return &pricer.Priced(redactor.Redacted(*row));
      }
      return static_cast<const SpanRow*>(nullptr);
    };
    SPANBOX_RETURN_IF_ERROR(store.Append(next, {}));
    receipt.stored += rows;
  }
  if (!scores.rows().empty()) SPANBOX_RETURN_IF_ERROR(store.AppendScores(scores.rows()));
  return receipt;
}

}  // namespace spanbox
