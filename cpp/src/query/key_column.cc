#include "query/key_column.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/msgpack.h"
#include "query/numbers.h"

namespace spanbox {
namespace {

constexpr std::uint32_t kUnknown = std::numeric_limits<std::uint32_t>::max();

// Calls find(value) for rows with a value, but not again while the value stays the same: neighbours often agree.
template <typename Column, typename Find>
void Fill(const Column& column, std::span<const std::uint32_t> rows, std::vector<std::uint32_t>& keys, Find find) {
  using T = std::decay_t<decltype(column.values[0])>;
  T last{};
  std::uint32_t last_key = kUnknown;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if constexpr (requires { column.valid; }) {
      if (!column.valid[rows[i]]) continue;
    }
    const T value = column.values[rows[i]];
    if (last_key == kUnknown || value != last) {
      last_key = find(value);
      last = value;
    }
    keys[i] = last_key;
  }
}

}  // namespace

Result<KeyCodes> KeyColumn::ReadCodes(SegmentColumns& columns, const Bitmap& selected) {
  SPANBOX_ASSIGN_OR_RETURN(const auto chunks, columns.Find(column_.name, Prefer::kLabel));
  KeyCodes codes;
  if (chunks.size() == 1 && chunks.front()->type == ColumnType::kString) {
    SPANBOX_ASSIGN_OR_RETURN(const DenseStrings* strings, columns.DenseStringsOf(*chunks.front()));
    SPANBOX_ASSIGN_OR_RETURN(const Validity* valid, columns.Valid(*chunks.front()));
    codes.texts = strings->dictionary;
    codes.count = static_cast<std::uint32_t>(strings->dictionary.size()) + (valid->all() ? 0 : 1);
    codes.keys.assign(codes.count, kUnknown);
    if (valid->all()) {
      codes.of_row = strings->codes;
    } else {
      codes.sparse = &strings->codes;
      codes.valid = valid;
    }
    return codes;
  }
  const std::vector<std::uint32_t> rows = selected.Rows();
  std::vector<std::uint32_t> keys;
  SPANBOX_RETURN_IF_ERROR(Read(columns, rows, keys));
  codes.own = Buffer<std::uint32_t>(columns.rows());
  std::ranges::fill(codes.own, kAbsent);
  for (std::size_t i = 0; i < rows.size(); ++i) codes.own[rows[i]] = keys[i];
  codes.of_row = codes.own;
  codes.count = size();
  return codes;
}

std::uint32_t KeyColumn::KeyOf(std::uint32_t code, KeyCodes& codes) {
  if (codes.keys.empty()) return code;
  std::uint32_t& key = codes.keys[code];
  if (key == kUnknown) {
    const std::size_t before = codes.count - codes.texts.size();
    key = code < before ? kAbsent : OfString(codes.texts[code - before]);
  }
  return key;
}

Status KeyColumn::Read(SegmentColumns& columns, Rows rows, Keys& keys) {
  keys.assign(rows.size(), kAbsent);
  SPANBOX_ASSIGN_OR_RETURN(const auto chunks, columns.Find(column_.name, Prefer::kLabel));
  for (const ChunkInfo* chunk : chunks) {
    switch (chunk->type) {
      case ColumnType::kInt: {
        SPANBOX_ASSIGN_OR_RETURN(const IntColumn* c, columns.Ints(*chunk));
        Fill(*c, rows, keys, [this](std::int64_t v) { return OfInt(v); });
        break;
      }
      case ColumnType::kFloat: {
        SPANBOX_ASSIGN_OR_RETURN(const FloatColumn* c, columns.Floats(*chunk));
        Fill(*c, rows, keys, [this](double v) { return OfFloat(v); });
        break;
      }
      case ColumnType::kBool: {
        SPANBOX_ASSIGN_OR_RETURN(const BoolColumn* c, columns.Bools(*chunk));
        Fill(*c, rows, keys, [this](std::uint8_t v) { return OfBool(v != 0); });
        break;
      }
      case ColumnType::kString:
        SPANBOX_RETURN_IF_ERROR(ReadStrings(columns, *chunk, rows, keys));
        break;
      case ColumnType::kText:
        SPANBOX_RETURN_IF_ERROR(ReadText(columns, *chunk, rows, keys));
        break;
      case ColumnType::kTraceId:
      case ColumnType::kSpanId:
        SPANBOX_RETURN_IF_ERROR(ReadIds(columns, *chunk, rows, keys));
        break;
    }
  }
  return OkStatus();
}

Status KeyColumn::ReadStrings(SegmentColumns& columns, const ChunkInfo& chunk, Rows rows, Keys& keys) {
  SPANBOX_ASSIGN_OR_RETURN(const StringColumn* c, columns.Strings(chunk));
  std::vector<std::uint32_t> key_of_code(c->dictionary.size(), kUnknown);
  static_assert(kAbsent == 0);
  for (std::size_t i = 0; i < rows.size();
       ++i) {  // a row without a value has the code 0: its key is masked, not skipped
    const std::uint32_t code = c->codes[rows[i]];
    if (key_of_code[code] == kUnknown) key_of_code[code] = OfString(c->dictionary[code]);
    keys[i] |= key_of_code[code] & (0u - static_cast<std::uint32_t>(c->valid[rows[i]]));
  }
  return OkStatus();
}

Status KeyColumn::ReadText(SegmentColumns& columns, const ChunkInfo& chunk, Rows rows, Keys& keys) {
  SPANBOX_ASSIGN_OR_RETURN(TextColumn * c, columns.Text(chunk));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (!c->valid(rows[i])) continue;
    SPANBOX_ASSIGN_OR_RETURN(const std::string_view text, c->Get(rows[i]));
    keys[i] = OfString(text);
  }
  return OkStatus();
}

Status KeyColumn::ReadIds(SegmentColumns& columns, const ChunkInfo& chunk, Rows rows, Keys& keys) {
  if (chunk.type == ColumnType::kTraceId) {
    SPANBOX_ASSIGN_OR_RETURN(const TraceIdColumn* c, columns.TraceIds(chunk));
    Fill(*c, rows, keys, [this](const TraceId& id) { return OfString(ToHex(id)); });
  } else {
    SPANBOX_ASSIGN_OR_RETURN(const SpanIdColumn* c, columns.SpanIds(chunk));
    Fill(*c, rows, keys, [this](SpanId id) { return OfString(ToHex(id)); });
  }
  return OkStatus();
}

std::uint32_t KeyColumn::NewKey() {
  values_.Resize(values_.size() + 1);
  return static_cast<std::uint32_t>(values_.size() - 1);
}

std::uint32_t KeyColumn::OfInt(std::int64_t value) {
  const auto [place, added] = ints_.try_emplace(value, kUnknown);
  if (!added) return place->second;
  place->second = NewKey();
  values_.SetInt(place->second, value);
  return place->second;
}

std::uint32_t KeyColumn::OfFloat(double value) {
  const bool whole = value == std::floor(value) && std::abs(value) < 0x1p53;
  const double one = std::isnan(value) ? std::numeric_limits<double>::quiet_NaN() : value;
  const std::uint32_t key = whole ? OfInt(static_cast<std::int64_t>(value)) : [&] {
    const auto [place, added] = floats_.try_emplace(std::bit_cast<std::uint64_t>(one), kUnknown);
    if (added) place->second = NewKey();
    return place->second;
  }();
  values_.SetFloat(key, value == 0 ? 0.0 : one);
  return key;
}

std::uint32_t KeyColumn::OfBool(bool value) {
  std::uint32_t& key = bools_[value ? 1 : 0];
  if (key == kAbsent) {
    key = NewKey();
    values_.SetBool(key, value);
  }
  return key;
}

std::uint32_t KeyColumn::OfString(std::string_view value) {
  const std::uint32_t code = values_.strings().Intern(value);
  if (code == key_of_string_.size()) {
    key_of_string_.push_back(NewKey());
    values_.SetString(key_of_string_.back(), code);
  }
  return key_of_string_[code];
}

std::vector<std::uint32_t> KeyColumn::Join(const KeyColumn& other) {
  std::vector<std::uint32_t> keys;
  for (std::uint32_t key = 0; key < other.size(); ++key) {
    const Cells::Raw cell = other.values_[key];
    switch (cell.tag) {
      case Cells::Tag::kInt:
        keys.push_back(OfInt(static_cast<std::int64_t>(cell.payload)));
        break;
      case Cells::Tag::kFloat:
        keys.push_back(OfFloat(std::bit_cast<double>(cell.payload)));
        break;
      case Cells::Tag::kBool:
        keys.push_back(OfBool(cell.payload != 0));
        break;
      case Cells::Tag::kString:
        keys.push_back(OfString(other.values_.strings()[static_cast<std::uint32_t>(cell.payload)]));
        break;
      case Cells::Tag::kAbsent:
        keys.push_back(kAbsent);
        break;
    }
  }
  return keys;
}

std::vector<std::uint32_t> KeyColumn::Ranks() const {
  std::vector<std::uint32_t> keys(values_.size());
  std::iota(keys.begin(), keys.end(), 0u);
  std::ranges::sort(keys,
                    [this](std::uint32_t a, std::uint32_t b) { return values_.Compare(values_[a], values_[b]) < 0; });
  std::vector<std::uint32_t> ranks(keys.size());
  for (std::uint32_t i = 0; i < keys.size(); ++i) ranks[keys[i]] = i;
  return ranks;
}

void KeyColumn::AppendJson(std::uint32_t key, std::string& json) const {
  const Cells::Raw cell = values_[key];
  switch (cell.tag) {
    case Cells::Tag::kInt:
      json += NumberText(static_cast<std::int64_t>(cell.payload));
      break;
    case Cells::Tag::kFloat: {
      const auto number = std::bit_cast<double>(cell.payload);
      json += std::isfinite(number) ? NumberText(number) : "null";
      break;
    }
    case Cells::Tag::kBool:
      json += cell.payload != 0 ? "true" : "false";
      break;
    case Cells::Tag::kString:
      AppendJsonString(values_.strings()[static_cast<std::uint32_t>(cell.payload)], json);
      break;
    case Cells::Tag::kAbsent:
      json += "null";
  }
}

TableColumn KeyColumn::Output(std::span<const std::uint32_t> keys) && {
  return std::move(values_).Gather(keys).Finish(column_);
}

}  // namespace spanbox
