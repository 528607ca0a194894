// The redaction of this process: what configure(redact=...) has set.
//
// Thread rule: SetRedaction with the GIL held; ActiveRedaction from any thread.
// Ownership: who holds what ActiveRedaction returned may use it for as long as he holds it.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <string>
#include <string_view>

#include "record/redaction.h"
#include "spanbox/redact.h"

namespace spanbox::python {

// Never nullptr.
std::shared_ptr<const Redaction> ActiveRedaction();

// A name of the user's (of a span, an attribute, a score) as it is stored.
std::string RedactedName(std::string_view name);

// What values that others made pass, such as the cells of a table: the redaction of now. For any thread.
RedactValue ValueRedactor();

// Adds set_redaction, redact, pii_entities and secret_entities to the module.
void RegisterRedaction(pybind11::module_& module);

}  // namespace spanbox::python
