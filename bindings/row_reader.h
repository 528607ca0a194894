// Rows from dicts, as Store.append takes them, by way of the record codec, which knows every Python value.
//
// Thread rule: hold the GIL. Ownership: rows live as long as their reader.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "base/record_codec.h"
#include "capture.h"
#include "spanbox/span.h"

namespace spanbox::python {

class RowReader {
 public:
  // `redact`: as configure(redact=...) says; else every value is what it is.
  explicit RowReader(bool redact = false) : redact_(redact) {}

  // ValueError names the row and what is wrong with it.
  void Add(std::size_t index, const pybind11::dict& row);

  // The same for a dict as Store.trace gives it, with its attributes below "attributes".
  void AddSpan(std::size_t index, const pybind11::dict& span);

  // Attributes alone, under the names they have. They live as long as the reader.
  std::span<const Field> AddAttributes(const pybind11::dict& attributes);

  // Columns and attributes without what identifies a span; its kind, if it is there.
  const SpanRow& AddColumns(const pybind11::dict& row);

  std::vector<SpanRow>& rows() { return rows_; }

 private:
  static bool Has(const pybind11::dict& row, const char* key);
  [[noreturn]] void Wrong(const std::string& what) const;
  std::string Str(const pybind11::dict& row, const char* key) const;
  std::int64_t Int(const pybind11::dict& row, const char* key) const;
  template <typename Id, typename Parse>
  Id ParseId(const pybind11::dict& row, const char* key, Parse parse, const char* digits) const;
  template <typename T, typename Parse>
  T OneOf(const pybind11::dict& row, const char* key, Parse parse, T otherwise) const;
  void AddFields(const pybind11::dict& row, RecordWriter& record);

  const bool redact_;
  std::size_t index_ = 0;
  std::deque<ByteBuffer> payloads_;
  RowArena arena_;
  std::vector<SpanRow> rows_;
};

}  // namespace spanbox::python
