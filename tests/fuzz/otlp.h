// What the targets of OTLP share: a body is read, stored, and what was read is written and read again.
#pragma once

#include "any_store.h"
#include "spanbox/otlp.h"

namespace spanbox::fuzz {

inline void ReadOtlp(std::string_view body, OtlpForm form) {
  const auto reader = OtlpReader::Open(body, form);
  if (!reader.ok()) return;
  std::vector<std::pair<TraceId, SpanId>> ids;
  for (;;) {
    const auto row = (*reader)->Next(/*whole=*/false);
    if (!row.ok()) return;  // a body is read as a whole or not at all
    if (*row == nullptr) break;
    ids.emplace_back((*row)->trace_id, (*row)->span_id);
  }
  const std::uint64_t rejected = (*reader)->rejected();
  (*reader)->Rewind();
  OtlpWriter proto(OtlpForm::kProtobuf, /*openinference=*/body.size() % 2 == 0);
  OtlpWriter json(OtlpForm::kJson, /*openinference=*/false);
  for (const auto& [trace, span] : ids) {
    const auto row = (*reader)->Next();
    Require(row.ok() && *row != nullptr && (*row)->trace_id == trace && (*row)->span_id == span);
    proto.Add(**row);
    json.Add(**row);
  }
  Require(*(*reader)->Next() == nullptr && (*reader)->rejected() == rejected);
  for (const auto& [written, its_form] :
       {std::pair(proto.Finish(), OtlpForm::kProtobuf), std::pair(json.Finish(), OtlpForm::kJson)}) {
    const auto again = OtlpReader::Open(written, its_form);
    Require(again.ok());
    for (const auto& [trace, span] : ids) {
      const auto row = (*again)->Next();
      Require(row.ok() && *row != nullptr && (*row)->trace_id == trace && (*row)->span_id == span);
    }
    Require(*(*again)->Next() == nullptr);
  }
  Sink store;
  Require(ReceiveOtlp(store, body, form).ok());
}

}  // namespace spanbox::fuzz
