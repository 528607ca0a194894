// The redaction of this process: what configure(redact=...) has set.
//
// Thread rule: SetRedaction with the GIL held; ActiveRedaction from any thread.
// Ownership: who holds what ActiveRedaction returned may use it for as long as he holds it.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "record/redaction.h"

namespace spanbox::python {

// Never nullptr.
std::shared_ptr<const Redaction> ActiveRedaction();

// Adds set_redaction, redact, pii_entities and secret_entities to the module.
void RegisterRedaction(pybind11::module_& module);

}  // namespace spanbox::python
