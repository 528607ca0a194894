#include <algorithm>
#include <cerrno>
#include <set>

#include "query/ingest_source.h"

namespace spanbox {
namespace {

// What the producer says went wrong.
Status StreamError(ArrowArrayStream* stream, int code) {
  const char* const text = stream->get_last_error == nullptr ? nullptr : stream->get_last_error(stream);
  return InvalidArgument("the Arrow stream failed: " +
                         (text == nullptr ? "error " + std::to_string(code) : std::string(text)));
}

Status CheckColumns(const std::vector<InputColumn>& columns) {
  using Role = InputColumn::Role;
  std::set<std::string_view> names;
  std::set<Role> roles;
  std::string listed;
  for (const InputColumn& column : columns) {
    if (column.name.empty()) return InvalidArgument("the table has a column without a name: name it");
    const bool twice = !names.insert(column.name).second;
    if (twice || (column.role != Role::kField && !roles.insert(column.role).second)) {
      return InvalidArgument("the table has two columns " + std::string(twice ? "named" : "that mean the same as") +
                             " \"" + column.name + "\": leave one out");
    }
    listed += (listed.empty() ? "" : ", ") + column.name;
  }
  if (roles.contains(Role::kStart) || (roles.contains(Role::kEnd) && roles.contains(Role::kDuration)))
    return OkStatus();
  if (listed.size() > 300) listed = listed.substr(0, 300) + " ...";
  return InvalidArgument(
      "the table says of no row when it was: it needs a column `start` (timestamp) or `start_ns`; it has " +
      (listed.empty() ? "no columns" : listed));
}

}  // namespace

Result<std::unique_ptr<Ingest::ArrowRows>> Ingest::ArrowRows::Open(ArrowOwned<ArrowArrayStream> stream) {
  if (stream->get_schema == nullptr || stream->get_next == nullptr) {
    return InvalidArgument("the Arrow stream is damaged: it has no functions");
  }
  ArrowOwned<ArrowSchema> schema;
  if (const int code = stream->get_schema(stream.get(), schema.get()); code != 0) {
    return StreamError(stream.get(), code);
  }
  SPANBOX_ASSIGN_OR_RETURN(ArrowType type, ReadArrowType(*schema));
  if (type.kind != ArrowType::Kind::kStruct || type.dictionary != nullptr) {
    return InvalidArgument("the Arrow stream holds single values, no table: give a table with named columns");
  }
  auto rows = std::make_unique<ArrowRows>();
  for (const ArrowType& child : type.children) rows->columns_.emplace_back(child.name, child.is_json);
  SPANBOX_RETURN_IF_ERROR(CheckColumns(rows->columns_));
  rows->table_ = std::make_unique<ArrowColumn>(std::move(type));
  rows->stream_ = std::move(stream);
  return rows;
}

Result<bool> Ingest::ArrowRows::Fill() {
  while (row_ == rows_) {
    if (!stream_.has()) return false;
    batch_.Reset();
    row_ = rows_ = 0;
    if (const int code = stream_->get_next(stream_.get(), batch_.get()); code != 0) {
      *batch_.get() = {};  // a producer that fails leaves nothing to release
      return StreamError(stream_.get(), code);
    }
    if (!batch_.has()) {
      stream_.Reset();
      return false;
    }
    SPANBOX_RETURN_IF_ERROR(table_->Bind(batch_.get(), batch_->length));
    rows_ = batch_->length;
  }
  return true;
}

std::uint64_t Ingest::ArrowRows::Skip(std::uint64_t most) {
  const std::uint64_t rows = std::min(most, static_cast<std::uint64_t>(rows_ - row_));
  row_ += static_cast<std::int64_t>(rows);
  return rows;
}

Status Ingest::ArrowRows::Read(RowMaker& maker) {
  const std::int64_t row = row_++;
  if (!table_->Has(row)) return InvalidArgument("the row is null");
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    SPANBOX_RETURN_IF_ERROR(maker.Set(columns_[i], table_->GetChild(i, row, maker.Scratch())));
  }
  return OkStatus();
}

}  // namespace spanbox
