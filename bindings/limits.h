// The hook of spanbox.limit(): asked before a span starts, and told what a span sets. And the lender: asked where a
// framework's span waits for that of a client's call in it.
//
// Thread rule: hold the GIL. Ownership: both belong to this module.
// Invariant: without a hook nothing happens, and the check for one is all that a call pays.
#pragma once

#include <Python.h>

#include "spanbox/span.h"

namespace spanbox::python {

struct ContextObject;
struct SpanObject;

// spanbox._limit's _Hook; nullptr: no limit is open.
inline PyObject* limit_hook = nullptr;

// spanbox._limit's lend(name, attributes) -> Span | None; nullptr: no framework has said that it calls a client.
inline PyObject* lender = nullptr;

// The open span that one of a tracer is to start under instead of in `place`, which is given back; else `place`.
ContextObject* LentOr(ContextObject* place, PyObject* name, PyObject* attributes);

// False with an exception set: a span of that kind must not start here. REQUIRES: limit_hook is set, as all of these
// do.
bool AskLimits(SpanKind kind);
// The same for a span that a tracer is to start in `place`; sets its kind, as far as it is known.
bool AskLimitsOfTracer(PyObject* name, PyObject* attributes, const ContextObject* place, SpanKind& kind);

// What a span sets: a dict of columns. What is raised is forgotten, as only a start can be refused.
void TellLimits(const SpanObject* span, PyObject* attributes);
// What a tracer's span sets: a dict of attributes of any dialect; nullptr: it has ended.
void TellLimitsOfTracer(const SpanObject* span, PyObject* attributes);

inline bool WithinLimits(SpanKind kind) { return limit_hook == nullptr || AskLimits(kind); }

// Add functions to the module: 0, or -1 with an exception set.
int RegisterLimits(PyObject* module);

}  // namespace spanbox::python
