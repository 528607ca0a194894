// The two kinds of input of an Ingest.
//
// Thread rule: one thread. Ownership: as ingest.h says.
#pragma once

#include "absl/container/flat_hash_map.h"
#include "query/cells.h"
#include "query/ingest.h"

namespace spanbox {

class Ingest::Source {
 public:
  virtual ~Source() = default;
  virtual Result<bool> Fill() = 0;  // whether there is a row
  // Goes past up to `most` rows without looking at them; says how many. REQUIRES: Fill gave true.
  virtual std::uint64_t Skip(std::uint64_t most) = 0;
  // Puts the row into `maker` and goes past it, also when it is wrong. REQUIRES: Fill gave true.
  virtual Status Read(RowMaker& maker) = 0;
  virtual std::string Place(std::uint64_t number) const = 0;  // of the row read last, for messages
};

class Ingest::ArrowRows : public Ingest::Source {
 public:
  static Result<std::unique_ptr<ArrowRows>> Open(ArrowOwned<ArrowArrayStream> stream);

  Result<bool> Fill() override;
  std::uint64_t Skip(std::uint64_t most) override;
  Status Read(RowMaker& maker) override;
  std::string Place(std::uint64_t number) const override { return "row " + std::to_string(number); }

 private:
  ArrowOwned<ArrowArrayStream> stream_;
  ArrowOwned<ArrowArray> batch_;
  std::vector<InputColumn> columns_;
  std::unique_ptr<ArrowColumn> table_;
  std::int64_t row_ = 0, rows_ = 0;
};

class Ingest::JsonRows : public Ingest::Source {
 public:
  JsonRows();
  ~JsonRows() override;
  void Take(std::string_view lines, std::uint64_t first_line);

  Result<bool> Fill() override;
  std::uint64_t Skip(std::uint64_t most) override;
  Status Read(RowMaker& maker) override;
  std::string Place(std::uint64_t) const override { return "line " + std::to_string(line_); }

 private:
  struct Parser;
  std::string_view NextLine();
  const InputColumn& ColumnOf(std::string_view key);

  std::unique_ptr<Parser> parser_;
  std::string_view left_;
  std::uint64_t line_ = 0;
  absl::flat_hash_map<std::string, std::unique_ptr<InputColumn>, TextHash, std::equal_to<>> columns_;
};

}  // namespace spanbox
