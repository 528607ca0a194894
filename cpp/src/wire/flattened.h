// Lists of mappings that a dialect spells as many attributes, as OpenInference does:
//
//   llm.input_messages.0.message.role = "user"        ->  [{"role":"user","tool_calls":[{"id":"c1"}]}]
//   llm.input_messages.0.message.tool_calls.0.tool_call.id = "c1"
//
// Thread rule: functions, not synchronised. Ownership: results borrow names and texts from what they were made of.
// Invariant: what Nest says is whole, Flatten gives back.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/record_codec.h"
#include "spanbox/span.h"

namespace spanbox {

// Appends the JSON text of the list. `pattern`: "llm.input_messages.*"; `fields`: attributes whose names begin with it
// (without the star), in any order, which changes. False: the list could not be turned back into these attributes:
// there is nothing useful in `json` then.
bool Nest(std::string_view pattern, std::span<Field> fields, std::string& json);

// The attributes that `json` was made of. Names and texts live in `arena`. False: it is no such list.
bool Flatten(std::string_view pattern, std::string_view json, RowArena& arena, std::vector<Field>& fields);

}  // namespace spanbox
