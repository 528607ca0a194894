// Reads columns of Arrow arrays that others made, one value at a time.
//
// Layouts: every fixed-width type, utf8 and binary in all their layouts (views too), dictionary, timestamp, duration,
// date, time, decimal up to 128 bits, null, list, struct, map. Others are refused with what to cast them to.
//
// Thread rule: one thread. Ownership: borrows the arrays while bound: they must live until the next Bind. A
// Cell's text lives as long as the array, or until `scratch` changes.
// Invariants:
//   1. After Bind succeeded no value of the bound rows makes a read outside of what the producer declared: offsets,
//      indices and child lengths have been checked. The lengths of most buffers are not part of the interface, so a
//      producer that lies about them cannot be found out.
//   2. A schema has at most kMaxArrowDepth levels and kMaxArrowFields fields.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "query/arrow_abi.h"
#include "spanbox/status.h"

namespace spanbox {

inline constexpr int kMaxArrowDepth = 32;
inline constexpr int kMaxArrowFields = 20'000;

// The metadata of a field whose texts are JSON where they look like it.
inline constexpr std::string_view kJsonMetadata = "spanbox.json";

struct ArrowType {
  enum class Kind : std::uint8_t {
    kNull,
    kBool,
    kInt,
    kUint,
    kFloat,
    kDecimal,
    kText,
    kBytes,
    kMoment,
    kLength,
    kDay,
    kTime,
    kList,
    kStruct,
    kMap,
  };
  enum class Layout : std::uint8_t { kNone, kBits, kFixed, kOffsets32, kOffsets64, kViews, kFixedList, kChildren };

  Kind kind = Kind::kNull;
  Layout layout = Layout::kNone;
  std::int32_t width = 0;    // kFixed: bytes of a value; kFixedList: entries of a list
  std::int64_t unit_ns = 1;  // of moments, lengths and times; of days given in milliseconds: 1,000,000
  std::int32_t scale = 0;    // of decimals
  bool utc = false;          // a moment with a time zone
  bool is_json = false;      // the field says that its texts are JSON
  std::string name;
  std::vector<ArrowType> children;
  std::shared_ptr<const ArrowType> dictionary;  // of the values; kind, layout and width are those of the indices then
};

// InvalidArgument names the column and what to cast it to.
Result<ArrowType> ReadArrowType(const ArrowSchema& schema);

// One value of the input: of a column, or of a JSON document.
struct InputCell {
  enum class Kind : std::uint8_t {
    kAbsent,
    kBool,    // integer
    kInt,     // integer
    kFloat,   // number
    kText,    // text, not checked for being UTF-8
    kBytes,   // text
    kJson,    // text
    kMoment,  // integer: nanoseconds since 1970; `utc`
    kLength,  // integer: nanoseconds
    kWrong,   // text: why there is no value
  };
  Kind kind = Kind::kAbsent;
  bool utc = false;
  std::int64_t integer = 0;
  double number = 0;
  std::string_view text = {};
};

class ArrowColumn {
 public:
  explicit ArrowColumn(ArrowType type);

  const ArrowType& type() const { return type_; }

  // Reads rows [0, rows) of `array` from now on.
  Status Bind(const ArrowArray* array, std::int64_t rows);
  bool Has(std::int64_t row) const;
  InputCell Get(std::int64_t row, std::string& scratch) const;
  // Of a struct: the value of one of its fields.
  InputCell GetChild(std::size_t child, std::int64_t row, std::string& scratch) const {
    return children_[child].Get(offset_ + row, scratch);
  }

 private:
  using Kind = ArrowType::Kind;
  using Layout = ArrowType::Layout;

  Status BindChildren(const ArrowArray& array, std::int64_t rows);
  Status BindViews(const ArrowArray& array, std::int64_t rows);
  template <typename Offset>
  Status BindOffsets(const ArrowArray& array, std::int64_t rows);
  Status Wrong(std::string_view what) const;

  template <typename T>
  T Load(std::int64_t row) const;
  std::int64_t IntAt(std::int64_t row) const;
  std::string_view BytesAt(std::int64_t row) const;
  std::pair<std::int64_t, std::int64_t> EntriesAt(std::int64_t row) const;
  InputCell NumberAt(std::int64_t row, std::string& scratch) const;
  InputCell TimeAt(std::int64_t row, std::string& scratch) const;
  void AppendJson(std::int64_t row, std::string& json) const;
  void AppendEntries(std::int64_t row, std::string& json) const;

  ArrowType type_;
  std::vector<ArrowColumn> children_;
  std::unique_ptr<ArrowColumn> dictionary_;
  const ArrowArray* array_ = nullptr;
  const std::uint8_t* validity_ = nullptr;  // null: every row is valid
  const std::uint8_t* data_ = nullptr;      // values, offsets or views
  const char* bytes_ = nullptr;             // what offsets point into
  std::int64_t offset_ = 0;
};

}  // namespace spanbox
