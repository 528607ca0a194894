// A second stage of redaction: a Python function that sees every text before it is stored. The collector, which never
// takes the GIL, hands texts to a thread of Python's (spanbox._redact_stage) and waits for them.
//
// Thread rule: StageExporter as any exporter; StageText and the functions of the module with the GIL held.
// Ownership: the queue lives as long as the program; a forked child makes another one.
// Invariants:
//   1. A text that is not given back in kStageTimeoutNs, or for which the function has raised, is withheld.
//   2. While one hangs, no other is waited for.
//   3. What the store keeps of spans that are still open has no texts: they are stored when the span has ended.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <vector>

#include "base/record_codec.h"
#include "spanbox/exporter.h"
#include "spanbox/redact.h"

namespace spanbox::python {

inline constexpr std::int64_t kStageTimeoutNs = 5'000'000'000;

// An exporter that shows texts to the stage, if there is one, and hands the batch on.
std::shared_ptr<SpanExporter> StageExporter(std::shared_ptr<SpanExporter> next);

// What values that others made pass: as ValueRedactor, then the stage. On whatever thread stores; takes the GIL.
RedactValue WithStage(RedactValue redact);

// The texts of rows that are to be stored, after the stage. REQUIRES: the GIL.
void StageRows(std::vector<SpanRow>& rows, RowArena& arena);

// Adds set_stage, stage_next, stage_answer and forget_stage to the module.
void RegisterStage(pybind11::module_& module);

}  // namespace spanbox::python
