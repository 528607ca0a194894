// The hook of spanbox.limit(): what is asked before a span starts, and told what a span sets.
//
// Thread rule: hold the GIL. Ownership: the hook belongs to this module.
// Invariant: without a hook nothing happens, and the check for one is all that a call pays.
#pragma once

#include <Python.h>

#include "spanbox/span.h"

namespace spanbox::python {

// hook(kind, tags, depth, attributes): kind is a str; tags the encoded tags around, or None; depth the number of spans
// around, of this thread or task. attributes: None before a span starts, which it does not when the hook raises; else
// what a span of that kind sets. nullptr: no limit is open.
inline PyObject* limit_hook = nullptr;

// False with an exception set: the span must not start. REQUIRES: limit_hook is set.
bool AskLimits(SpanKind kind, PyObject* attributes);

inline bool WithinLimits(SpanKind kind) { return limit_hook == nullptr || AskLimits(kind, nullptr); }

// Add functions to the module: 0, or -1 with an exception set.
int RegisterLimits(PyObject* module);

}  // namespace spanbox::python
