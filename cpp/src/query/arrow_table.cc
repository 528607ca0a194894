// A Table of an Arrow stream.
#include "base/moment.h"
#include "base/msgpack.h"
#include "base/utf8.h"
#include "query/arrow.h"
#include "query/arrow_column.h"
#include "query/cells.h"

namespace spanbox {
namespace {

void SetCell(Cells& cells, std::size_t row, const InputCell& cell) {
  using Kind = InputCell::Kind;
  std::string text;
  switch (cell.kind) {
    case Kind::kAbsent:
    case Kind::kWrong:
      return;
    case Kind::kBool:
      return cells.SetBool(row, cell.integer != 0);
    case Kind::kInt:
    case Kind::kMoment:
    case Kind::kLength:
      return cells.SetInt(row, cell.integer);
    case Kind::kFloat:
      return cells.SetFloat(row, cell.number);
    case Kind::kBytes:
      if (!IsUtf8(cell.text)) {
        AppendJsonBytes(std::as_bytes(std::span(cell.text)), text);
        return cells.SetString(row, cells.strings().Intern(text));
      }
      break;
    case Kind::kText:
      if (!IsUtf8(cell.text)) return cells.SetString(row, cells.strings().Intern(AppendUtf8(cell.text, text)));
      break;
    case Kind::kJson:
      break;
  }
  cells.SetString(row, cells.strings().Intern(cell.text));
}

Status StreamError(ArrowOwned<ArrowArrayStream>& stream, int code) {
  const char* const text = stream->get_last_error == nullptr ? nullptr : stream->get_last_error(stream.get());
  return InvalidArgument(text == nullptr ? "the Arrow stream failed: error " + std::to_string(code)
                                         : std::string(text));
}

}  // namespace

Result<Table> TableOfStream(ArrowOwned<ArrowArrayStream> stream) {
  ArrowOwned<ArrowSchema> schema;
  if (const int code = stream->get_schema(stream.get(), schema.get()); code != 0) return StreamError(stream, code);
  SPANBOX_ASSIGN_OR_RETURN(const ArrowType type, ReadArrowType(*schema));
  if (type.kind != ArrowType::Kind::kStruct) return InvalidArgument("the Arrow stream holds no table");
  ArrowColumn rows(type);
  std::vector<Cells> cells(type.children.size());
  Table table;
  std::string scratch;
  for (;;) {
    ArrowOwned<ArrowArray> batch;
    if (const int code = stream->get_next(stream.get(), batch.get()); code != 0) {
      *batch.get() = {};
      return StreamError(stream, code);
    }
    if (!batch.has()) break;
    SPANBOX_RETURN_IF_ERROR(rows.Bind(batch.get(), batch->length));
    const auto begin = static_cast<std::size_t>(table.rows);
    table.rows += static_cast<std::uint64_t>(batch->length);
    for (std::size_t i = 0; i < cells.size(); ++i) {
      cells[i].Resize(static_cast<std::size_t>(table.rows));
      for (std::int64_t row = 0; row < batch->length; ++row) {
        SetCell(cells[i], begin + static_cast<std::size_t>(row), rows.GetChild(i, row, scratch));
      }
    }
  }
  for (std::size_t i = 0; i < cells.size(); ++i) {
    TableColumn column = std::move(cells[i]).Finish(ColumnRef{type.children[i].name, nullptr});
    const bool moments = type.children[i].kind == ArrowType::Kind::kMoment;
    if (moments && column.type == TableColumn::Type::kInt) column.type = TableColumn::Type::kTimestampNs;
    table.columns.push_back(std::move(column));
  }
  return table;
}

}  // namespace spanbox
