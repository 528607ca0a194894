// What the tests of the store share: folders that vanish, rows that own their strings, and rows as text to compare.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "spanbox/store.h"
#include "store/read_view.h"
#include "store/segment.h"
#include "store/segment_rows.h"

namespace spanbox::testing {

class TempDir {
 public:
  TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "spanbox-test-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

#define ASSERT_OK(expr)                                           \
  do {                                                            \
    const ::spanbox::Status status_of_expr = (expr);              \
    ASSERT_TRUE(status_of_expr.ok()) << status_of_expr.message(); \
  } while (false)

// The value of a Result that must be OK; ends the test program otherwise.
template <typename T>
T Must(Result<T> result) {
  if (!result.ok()) {
    ADD_FAILURE() << result.status().message();
    std::fprintf(stderr, "%s\n", result.status().message().c_str());
    std::abort();
  }
  return *std::move(result);
}

inline TraceId Trace(std::uint64_t n) {
  TraceId id;
  for (int i = 0; i < 8; ++i) id.bytes[static_cast<std::size_t>(15 - i)] = static_cast<std::uint8_t>(n >> (8 * i));
  return id;
}

// A row whose strings live in the object. Not movable: rows borrow from it.
class Row {
 public:
  explicit Row(TraceId trace = Trace(1), SpanId span = 1) {
    row_.trace_id = trace;
    row_.span_id = span;
    row_.name = "step";
    row_.start_ns = 1000;
    row_.duration_ns = 10;
  }
  Row(const Row&) = delete;
  Row& operator=(const Row&) = delete;

  Row& Name(std::string name) { return row_.name = Keep(std::move(name)), *this; }
  Row& Start(std::int64_t ns) { return row_.start_ns = ns, *this; }
  Row& Duration(std::int64_t ns) { return row_.duration_ns = ns, *this; }
  Row& Parent(SpanId id) { return row_.parent_id = id, *this; }
  Row& Kind(SpanKind kind) { return row_.kind = kind, *this; }
  Row& End(SpanStatus status) { return row_.status = status, *this; }
  Row& Set(Column column, Value value) { return Set(column, "", value); }
  Row& Set(std::string name, Value value) { return Set(Column::kAttribute, std::move(name), value); }
  Row& Set(Column column, std::string name, Value value) {
    value.text = Keep(std::string(value.text));
    fields_.push_back({column, Keep(std::move(name)), value});
    row_.fields = fields_;
    return *this;
  }
  const SpanRow& row() const { return row_; }

 private:
  std::string_view Keep(std::string text) { return kept_.emplace_back(std::move(text)); }

  std::deque<std::string> kept_;
  std::vector<Field> fields_;
  SpanRow row_;
};

inline std::string ToText(const Value& value) {
  switch (value.type) {
    case ValueType::kBool:
      return value.boolean ? "bool true" : "bool false";
    case ValueType::kInt:
      return "int " + std::to_string(value.integer);
    case ValueType::kFloat:
      return "float bits " + std::to_string(std::bit_cast<std::uint64_t>(value.number));
    case ValueType::kString:
      return "string " + std::to_string(value.text.size()) + ":" + std::string(value.text);
    case ValueType::kJson:
      return "json " + std::to_string(value.text.size()) + ":" + std::string(value.text);
  }
  return "?";
}

// Everything a row says, the last of fields of one name, in the order of names: equal text is an equal row.
// With `derived`, tpot_ns is what the builder adds where it can.
inline std::string ToText(const SpanRow& row, bool derived = true) {
  std::map<std::string, std::string> fields;
  const auto named = [&](Column c) { return std::string(Columns()[static_cast<std::size_t>(c)].name); };
  std::map<std::string, Value> values;
  for (const Field& f : row.fields) {
    values[f.column == Column::kAttribute ? std::string(f.name) : named(f.column)] = f.value;
  }
  const auto ttft = values.find("ttft_ns"), tokens = values.find("output_tokens");
  if (derived && !values.contains("tpot_ns") && ttft != values.end() && tokens != values.end() &&
      ttft->second.type == ValueType::kInt && tokens->second.type == ValueType::kInt && tokens->second.integer > 1 &&
      ttft->second.integer >= 0 && row.duration_ns >= ttft->second.integer) {
    values["tpot_ns"] = Value::Int((row.duration_ns - ttft->second.integer) / (tokens->second.integer - 1));
  }
  std::string text = ToHex(row.trace_id) + " " + ToHex(row.span_id) + " " + ToHex(row.parent_id) + " " +
                     std::string(row.name) + " " + std::string(ToString(row.kind)) + " " +
                     std::string(ToString(row.status)) + " " + std::to_string(row.start_ns) + " " +
                     std::to_string(row.duration_ns);
  for (const auto& [name, value] : values) text += "\n  " + name + " = " + ToText(value);
  return text;
}

inline Result<std::vector<std::string>> RowsAsText(const Segment& segment) {
  SPANBOX_ASSIGN_OR_RETURN(SegmentRows rows, SegmentRows::Open(segment));
  std::vector<std::string> out;
  for (std::uint32_t r = 0; r < rows.rows(); ++r) {
    SPANBOX_ASSIGN_OR_RETURN(const SpanRow row, rows.Row(r));
    out.push_back(ToText(row, /*derived=*/false));
  }
  return out;
}

// Every row of the store, sorted.
inline std::vector<std::string> AllRows(Store& store) {
  const auto view = Must(store.Read());
  std::vector<std::string> all;
  for (const SegmentMeta& meta : view->segments()) {
    const Segment segment = Must(view->Load(meta));
    const auto rows = Must(RowsAsText(segment));
    all.insert(all.end(), rows.begin(), rows.end());
  }
  std::sort(all.begin(), all.end());
  return all;
}

inline std::uint64_t CountRows(Store& store) {
  const auto view = Must(store.Read());
  std::uint64_t rows = 0;
  for (const SegmentMeta& meta : view->segments()) rows += meta.rows;
  return rows;
}

// Rows of every shape: all types, names that change type, absent values, empty and long strings, bytes that are no
// UTF-8.
class RandomRows {
 public:
  explicit RandomRows(std::uint64_t seed) : random_(seed) {}

  std::uint64_t Below(std::uint64_t n) { return std::uniform_int_distribution<std::uint64_t>(0, n - 1)(random_); }

  void Fill(Row& row, std::uint64_t span) {
    row.Name(Text(Below(50) == 0 ? 2000 : 12))
        .Start(static_cast<std::int64_t>(1'700'000'000'000'000'000 + Below(5'000'000'000)));
    row.Duration(Below(10) == 0 ? -1 : static_cast<std::int64_t>(Below(1ull << Below(50))));
    row.Kind(static_cast<SpanKind>(Below(13))).End(static_cast<SpanStatus>(Below(4)));
    if (Below(4) != 0) row.Parent(Below(3) == 0 ? random_() | 1 : (span > 3 ? span - 1 - Below(3) : 1));
    for (std::uint64_t n = Below(12); n > 0; --n) {
      if (Below(2) == 0) {
        row.Set(static_cast<Column>(9 + Below(31)), AnyValue());
      } else {
        row.Set("attribute " + std::to_string(Below(8)), AnyValue());
      }
    }
    if (Below(2) == 0) row.Set(Column::kTtftNs, Value::Int(static_cast<std::int64_t>(Below(1000))));
    if (Below(2) == 0) row.Set(Column::kOutputTokens, Value::Int(static_cast<std::int64_t>(Below(5))));
  }

  Value AnyValue() {
    switch (Below(7)) {
      case 0:
        return Value::Bool(Below(2) == 0);
      case 1:
        return Value::Int(static_cast<std::int64_t>(random_()));
      case 2:
        return Value::Int(static_cast<std::int64_t>(Below(100)));
      case 3:
        return Value::Float(Below(4) == 0 ? std::bit_cast<double>(random_()) : static_cast<double>(Below(9)) / 4);
      case 4:
        return Value::String(Scratch(Below(3) == 0 ? 0 : 20));
      case 5:
        return Value::String(Scratch(Below(4) == 0 ? 5000 : 8));
      default:
        return Value::Json(Scratch(300));
    }
  }

 private:
  std::string Text(std::uint64_t most) {
    std::string text(Below(most + 1), '\0');
    const bool words = Below(2) == 0;
    for (char& c : text) c = words ? "aeinrst "[Below(8)] : static_cast<char>(Below(256));
    return text;
  }
  std::string_view Scratch(std::uint64_t most) { return scratch_ = Text(most); }

  std::mt19937_64 random_;
  std::string scratch_;
};

// `count` random rows of a few traces, some in several of them by the same span id.
inline std::deque<Row>& MakeRows(std::deque<Row>& rows, std::uint64_t seed, std::size_t count) {
  RandomRows random(seed);
  const std::uint64_t traces = 1 + random.Below(count);
  for (std::size_t i = 0; i < count; ++i) {
    const TraceId trace = Trace(random.Below(traces) * 0x9E3779B97F4A7C15 + 1);
    random.Fill(rows.emplace_back(trace, seed * 1'000'000 + i + 1), seed * 1'000'000 + i + 1);
  }
  return rows;
}

inline std::vector<SpanRow> Borrow(const std::deque<Row>& rows) {
  std::vector<SpanRow> out;
  for (const Row& row : rows) out.push_back(row.row());
  return out;
}

inline std::vector<std::string> Expected(const std::deque<Row>& rows) {
  std::vector<std::string> out;
  for (const Row& row : rows) out.push_back(ToText(row.row()));
  std::sort(out.begin(), out.end());
  return out;
}

// Encoded rows and the segment over them.
struct Built {
  explicit Built(const std::vector<SpanRow>& rows, TextPacker::Mode mode = TextPacker::Mode::kQuick) {
    SegmentBuilder builder(mode);
    for (const SpanRow& row : rows) builder.Add(row);
    encoded = builder.Finish();
  }
  Result<Segment> Open() const { return Open(encoded.columns, encoded.text_blocks); }
  static Result<Segment> Open(const std::string& columns, const std::vector<std::string>& blocks) {
    return Segment::Open(std::as_bytes(std::span(columns.data(), columns.size())),
                         [&blocks](std::uint32_t block) -> Result<std::span<const std::byte>> {
                           return std::as_bytes(std::span(blocks.at(block).data(), blocks.at(block).size()));
                         });
  }

  SegmentBuilder::Encoded encoded;
};

}  // namespace spanbox::testing
