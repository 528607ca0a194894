// What configure() and register_encoder() set for the whole process.
//
// Thread rule: hold the GIL. Ownership: this module keeps what is registered until the process ends.
#pragma once

#include <Python.h>

#include <string_view>

#include "capture.h"

namespace spanbox::python {

inline constexpr std::string_view kRedacted = "[redacted]";

// The limits that spans are captured with. `bytes` is the recorder's to set: see RecordLimits.
inline CaptureLimits process_limits = {.blobs = true};

inline PyObject* registered_encoders = nullptr;  // dict of type to callable; nullptr: none registered
inline bool HasEncoders() { return registered_encoders != nullptr; }

// The encoder of the first class in the type's resolution order that has one; borrowed, or nullptr.
PyObject* EncoderOf(PyTypeObject* type);

// Adds set_capture and register_encoder to the module: 0, or -1 with an exception set.
int RegisterCapture(PyObject* module);

}  // namespace spanbox::python
