// The hook that texts which others made pass on their way into a store.
//
// Thread rule: called on the thread that stores. Ownership: what it returns belongs to the caller.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "spanbox/span.h"

namespace spanbox {

// What is stored in place of a value; nullopt: the value itself. `name`: of its column or attribute; for a name, the
// value is the name, and `name` is empty. An empty function stores everything as it is.
using RedactValue = std::function<std::optional<std::string>(std::string_view name, const Value& value)>;

}  // namespace spanbox
