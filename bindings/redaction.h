// The redaction of this process: what configure(redact=...) has set.
//
// Thread rule: SetRedaction with the GIL held; ActiveRedaction from any thread.
// Ownership: who holds what ActiveRedaction returned may use it for as long as he holds it.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "record/redaction.h"
#include "spanbox/span.h"

namespace spanbox::python {

// Never nullptr.
std::shared_ptr<const Redaction> ActiveRedaction();

// A name of the user's (of a span, an attribute, a score) as it is stored.
std::string RedactedName(std::string_view name);

// What is stored of a value that others made, such as a cell of a table; nullopt: it is stored as it is. `name`: of its
// column. From any thread.
std::optional<std::string> RedactedCell(const Redaction& redaction, std::string_view name, const Value& value);

// Adds set_redaction, redact, pii_entities and secret_entities to the module.
void RegisterRedaction(pybind11::module_& module);

}  // namespace spanbox::python
