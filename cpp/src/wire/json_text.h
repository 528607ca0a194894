// JSON text of attribute values, both ways.
//
// Thread rule: functions, not synchronised. Ownership: texts that are read live in the arena given.
#pragma once

#include <optional>
#include <string>

#include "base/msgpack.h"
#include "base/record_codec.h"
#include "base/simdjson.h"
#include "spanbox/span.h"

namespace spanbox {

inline void AppendJsonValue(const Value& value, std::string& json) {
  switch (value.type) {
    case ValueType::kBool:
      json += value.boolean ? "true" : "false";
      break;
    case ValueType::kInt:
      json += std::to_string(value.integer);
      break;
    case ValueType::kFloat:
      AppendJsonFloat(value.number, json);
      break;
    case ValueType::kString:
      AppendJsonString(value.text, json);
      break;
    case ValueType::kJson:
      json += value.text;
      break;
  }
}

// nullopt: null, a list or a mapping. An integer past 63 bits becomes a float.
inline std::optional<Value> ScalarOf(simdjson::dom::element value, RowArena& arena) {
  using Type = simdjson::dom::element_type;
  switch (value.type()) {
    case Type::BOOL:
      return Value::Bool(value.get_bool().value_unsafe());
    case Type::INT64:
      return Value::Int(value.get_int64().value_unsafe());
    case Type::UINT64:
      return Value::Float(static_cast<double>(value.get_uint64().value_unsafe()));
    case Type::DOUBLE:
      return Value::Float(value.get_double().value_unsafe());
    case Type::STRING: {
      std::string& text = arena.NewText();
      text = value.get_string().value_unsafe();
      return Value::String(text);
    }
    default:
      return std::nullopt;
  }
}

}  // namespace spanbox
