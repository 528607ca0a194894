// The attributes of a span, in whatever dialect, as columns; and back, for export.
//
// Thread rule: not synchronised; one object a thread, used again and again. Ownership: results borrow from what they
// were made of, and from the arena given.
// Invariants:
//   1. Restore gives every attribute that Normalise was given, under its name, with its type and value.
//   2. A span without an attribute that a rule knows keeps its attributes as they are.
//   3. input_tokens means all tokens in, cached ones included, wherever the attributes prove which they mean.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/record_codec.h"
#include "spanbox/span.h"
#include "wire/rules.h"

namespace spanbox {

// The attribute that remembers, as JSON, which key a column came from when it was not the name on export; null: it was
// computed.
inline constexpr std::string_view kKeysAttribute = "semconv.keys";
// "exclusive": the provider counted input tokens without the cached ones.
inline constexpr std::string_view kDialectAttribute = "tokens_dialect";
// Before an attribute whose own name means something else here.
inline constexpr std::string_view kRawPrefix = "attributes.";

// simdjson stays out of this header: its types change their size with what else is included, as Python.h.
class Normaliser {
 public:
  Normaliser();
  ~Normaliser();

  // Appends columns and the attributes that remain. `given`: name and value count. `otherwise`: columns that what is
  // around the span tells, if its attributes do not. `start_ns`: of the span.
  SpanKind Normalise(std::span<const Field> given, std::span<const Field> otherwise,
                     std::optional<std::int64_t> start_ns, RowArena& arena, std::vector<Field>& out);

 private:
  struct Pick {
    int rule = -1;
    std::uint32_t attribute = 0;
  };
  struct Key {
    bool is_set = false;
    std::string_view key;  // empty: computed
  };

  void Look(std::span<const Field> given);
  bool IsReadable(const Rule& rule, const Value& value);
  std::optional<Value> Detail(const Rule& rule, std::string_view json);
  SpanKind FindKind(std::span<const Field> given) const;
  void Take(Column column, std::span<const Field> given, RowArena& arena, std::vector<Field>& out);
  bool TakeList(const Rule& rule, std::span<const Field> given, RowArena& arena, Value& value);
  Pick NextBest(std::span<const Field> given, const Rule& failed);
  void AddComputed(Column column, const Value& value, std::vector<Field>& out);
  void AddDerived(std::span<const Field> given, std::optional<std::int64_t> start_ns, std::vector<Field>& out);
  void CutProvider(std::vector<Field>& out);
  void CountAllTokens(std::span<const Field> given, std::vector<Field>& out);
  std::optional<Value> AsideOf(Aside aside, std::span<const Field> given) const;
  void AddKeys(RowArena& arena, std::vector<Field>& out) const;

  SpanKind kind_ = SpanKind::kSpan;
  std::array<Pick, kColumnCount> picks_{};
  std::array<Key, kColumnCount> keys_{};
  std::array<int, kColumnCount> places_{};  // in `out`; -1: not there
  std::array<int, kKindKeys> kind_keys_{};  // attributes; -1: not there
  std::array<int, kAsides> asides_{};
  std::vector<std::uint8_t> consumed_;  // by attribute
  std::vector<Field> list_;
  bool knows_any_ = false, has_dialect_ = false;
  struct Details;
  const std::unique_ptr<Details> details_;
};

class Restorer {
 public:
  // Appends the attributes that the row's columns and attributes were made of; those that are columns from the start
  // under today's names.
  void Restore(const SpanRow& row, RowArena& arena, std::vector<Field>& out);

  // Whether the column of the row restored last was no attribute of its own.
  bool IsComputed(Column column) const {
    const Key& key = keys_[static_cast<std::size_t>(column)];
    return key.is_set && key.key.empty();
  }

 private:
  struct Key {
    bool is_set = false;
    std::string key;
  };
  void ReadKeys(std::string_view json);
  void RestoreColumn(const SpanRow& row, const Field& field, RowArena& arena, std::vector<Field>& out);

  std::array<Key, kColumnCount> keys_;
  bool has_dialect_ = false;
  std::string keys_text_;  // what keys_ was read from
};

// The name under which an attribute is kept.
std::string_view RawName(std::string_view name, RowArena& arena);

// What kind of work the attributes describe.
SpanKind KindOfAttributes(std::span<const Field> attributes);

// What a column is as an attribute of this rule.
Value WrittenValue(const Rule& rule, const Value& value, RowArena& arena);

}  // namespace spanbox
