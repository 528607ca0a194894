#include "query/arrow.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "base/utf8.h"
#include "query/arrow_column.h"

namespace spanbox {
namespace {

constexpr std::int64_t kNullable = 2;  // ARROW_FLAG_NULLABLE

// --- schema ----------------------------------------------------------------------------------------------------------

// What one exported ArrowSchema owns: released with it.
struct SchemaNode {
  std::string name, metadata;
  std::vector<ArrowSchema> children;
  std::vector<ArrowSchema*> child_pointers;
  std::unique_ptr<ArrowSchema> dictionary;
};

void ReleaseSchema(ArrowSchema* schema) {
  auto* node = static_cast<SchemaNode*>(schema->private_data);
  for (ArrowSchema& child : node->children) {
    if (child.release != nullptr) child.release(&child);
  }
  if (node->dictionary != nullptr && node->dictionary->release != nullptr) {
    node->dictionary->release(node->dictionary.get());
  }
  delete node;
  schema->release = nullptr;
}

SchemaNode* StartSchema(ArrowSchema* schema, const char* format, std::string name) {
  auto* node = new SchemaNode{
      .name = std::move(name), .metadata = {}, .children = {}, .child_pointers = {}, .dictionary = nullptr};
  *schema = {.format = format,
             .name = node->name.c_str(),
             .metadata = nullptr,
             .flags = kNullable,
             .n_children = 0,
             .children = nullptr,
             .dictionary = nullptr,
             .release = ReleaseSchema,
             .private_data = node};
  return node;
}

const char* FormatOf(TableColumn::Type type) {
  switch (type) {
    case TableColumn::Type::kInt:
      return "l";
    case TableColumn::Type::kFloat:
      return "g";
    case TableColumn::Type::kBool:
      return "b";
    case TableColumn::Type::kString:
      return "i";
    case TableColumn::Type::kTimestampNs:
      return "tsn:UTC";
  }
  return "n";
}

// Ids and long texts hardly repeat: a dictionary of them would cost its reader more than it saves.
bool IsPlainText(const TableColumn& column) {
  if (column.type != TableColumn::Type::kString) return false;
  const ColumnInfo* info = FindColumn(column.name);
  return info != nullptr && info->column != Column::kAttribute &&
         (info->type == ColumnType::kTraceId || info->type == ColumnType::kSpanId || info->type == ColumnType::kText);
}

// Metadata of one pair, as the interface lays it out.
std::string Metadata(std::string_view key, std::string_view value) {
  std::string out;
  const auto put = [&out](std::size_t number) {
    const auto size = static_cast<std::int32_t>(number);
    out.append(reinterpret_cast<const char*>(&size), sizeof size);
  };
  put(1);
  for (const std::string_view text : {key, value}) {
    put(text.size());
    out += text;
  }
  return out;
}

void ExportColumnSchema(const TableColumn& column, ArrowSchema* schema) {
  std::string name;
  AppendUtf8(column.name, name);
  const bool plain = IsPlainText(column);
  SchemaNode* node = StartSchema(schema, plain ? "u" : FormatOf(column.type), std::move(name));
  if (column.has_json) {
    node->metadata = Metadata(kJsonMetadata, "1");
    schema->metadata = node->metadata.data();
  }
  if (column.type != TableColumn::Type::kString || plain) return;
  node->dictionary = std::make_unique<ArrowSchema>();
  StartSchema(node->dictionary.get(), "u", "");
  schema->dictionary = node->dictionary.get();
}

// --- arrays ----------------------------------------------------------------------------------------------------------

// What one exported ArrowArray owns. Numbers that the Table has in Arrow's layout are shared through `table`.
struct ArrayNode {
  std::shared_ptr<const Table> table;
  std::vector<const void*> buffers;
  std::vector<std::uint8_t> validity;  // bits
  std::vector<std::uint8_t> bits;      // values of a bool column
  std::vector<std::int32_t> offsets, codes;
  std::string text;
  std::vector<ArrowArray> children;
  std::vector<ArrowArray*> child_pointers;
  std::unique_ptr<ArrowArray> dictionary;
};

void ReleaseArray(ArrowArray* array) {
  auto* node = static_cast<ArrayNode*>(array->private_data);
  for (ArrowArray& child : node->children) {
    if (child.release != nullptr) child.release(&child);
  }
  if (node->dictionary != nullptr && node->dictionary->release != nullptr) {
    node->dictionary->release(node->dictionary.get());
  }
  delete node;
  array->release = nullptr;
}

ArrayNode* StartArray(ArrowArray* array, std::shared_ptr<const Table> table, std::int64_t length) {
  auto* node = new ArrayNode;
  node->table = std::move(table);
  *array = {.length = length,
            .null_count = 0,
            .offset = 0,
            .n_buffers = 0,
            .n_children = 0,
            .buffers = nullptr,
            .children = nullptr,
            .dictionary = nullptr,
            .release = ReleaseArray,
            .private_data = node};
  return node;
}

void SetBuffers(ArrowArray* array, std::vector<const void*> buffers) {
  auto* node = static_cast<ArrayNode*>(array->private_data);
  node->buffers = std::move(buffers);
  array->buffers = node->buffers.data();
  array->n_buffers = static_cast<std::int64_t>(node->buffers.size());
}

template <typename IsSet>
std::vector<std::uint8_t> PackBits(std::uint64_t count, IsSet is_set) {
  std::vector<std::uint8_t> bits((count + 7) / 8);
  for (std::uint64_t i = 0; i < count; ++i) {
    if (is_set(i)) bits[i / 8] = static_cast<std::uint8_t>(bits[i / 8] | 1U << (i % 8));
  }
  return bits;
}

// --- stream ----------------------------------------------------------------------------------------------------------

struct StreamState {
  std::shared_ptr<const Table> schema;
  TableSource source;
  std::shared_ptr<const Table> table;  // what is handed out now
  std::uint64_t row = 0;               // its first row that is not
  std::vector<std::vector<std::int32_t>>
      numbers;  // by column and code of `table`: place in a batch's dictionary, or -1
  std::string error;
};

// Rows [begin, begin + rows) of one column.
class ColumnExport {
 public:
  ColumnExport(StreamState& state, std::size_t index, std::uint64_t begin, std::uint64_t rows)
      : table_(state.table),
        column_(table_->columns[index]),
        numbers_(state.numbers[index]),
        begin_(begin),
        rows_(rows) {}

  void Fill(ArrowArray* array) {
    array_ = array;
    node_ = StartArray(array, table_, static_cast<std::int64_t>(rows_));
    if (!column_.valid.empty()) {
      node_->validity = PackBits(rows_, [&](std::uint64_t i) { return IsValid(i); });
      for (std::uint64_t i = 0; i < rows_; ++i) array->null_count += !IsValid(i);
    }
    const void* const validity = node_->validity.empty() ? nullptr : node_->validity.data();
    switch (column_.type) {
      case TableColumn::Type::kInt:
      case TableColumn::Type::kTimestampNs:
        return SetBuffers(array, {validity, column_.ints.data() + begin_});
      case TableColumn::Type::kFloat:
        return SetBuffers(array, {validity, column_.floats.data() + begin_});
      case TableColumn::Type::kBool:
        node_->bits = PackBits(rows_, [&](std::uint64_t i) { return column_.ints[begin_ + i] != 0; });
        return SetBuffers(array, {validity, node_->bits.data()});
      case TableColumn::Type::kString:
        return IsPlainText(column_) ? PlainText(validity) : DictionaryText(validity);
    }
  }

 private:
  bool IsValid(std::uint64_t i) const { return column_.valid.empty() || column_.valid[begin_ + i] != 0; }

  static void AddText(ArrayNode* node, std::string_view text) {
    if (IsUtf8(text)) {
      node->text += text;
    } else {
      AppendUtf8(text, node->text);
    }
    node->offsets.push_back(static_cast<std::int32_t>(node->text.size()));
  }

  void PlainText(const void* validity) {
    node_->offsets.push_back(0);
    for (std::uint64_t i = 0; i < rows_; ++i) {
      AddText(node_, IsValid(i) ? std::string_view(column_.dictionary[column_.codes[begin_ + i]]) : std::string_view());
    }
    SetBuffers(array_, {validity, node_->offsets.data(), node_->text.data()});
  }

  void DictionaryText(const void* validity) {
    node_->dictionary = std::make_unique<ArrowArray>();
    ArrayNode* const entries = StartArray(node_->dictionary.get(), table_, 0);
    entries->offsets.push_back(0);
    numbers_.resize(column_.dictionary.size(), -1);
    std::vector<std::uint32_t> used;
    node_->codes.resize(rows_);
    for (std::uint64_t i = 0; i < rows_; ++i) {
      if (!IsValid(i)) continue;
      const std::uint32_t code = column_.codes[begin_ + i];
      std::int32_t& number = numbers_[code];
      if (number < 0) {
        number = static_cast<std::int32_t>(used.size());
        used.push_back(code);
        AddText(entries, column_.dictionary[code]);
      }
      node_->codes[i] = number;
    }
    if (used.empty()) AddText(entries, "");  // a row without a value has a code, too
    for (const std::uint32_t code : used) numbers_[code] = -1;
    node_->dictionary->length = static_cast<std::int64_t>(entries->offsets.size()) - 1;
    SetBuffers(node_->dictionary.get(), {nullptr, entries->offsets.data(), entries->text.data()});
    array_->dictionary = node_->dictionary.get();
    SetBuffers(array_, {validity, node_->codes.data()});
  }

  const std::shared_ptr<const Table>& table_;
  const TableColumn& column_;
  std::vector<std::int32_t>& numbers_;
  const std::uint64_t begin_, rows_;
  ArrowArray* array_ = nullptr;
  ArrayNode* node_ = nullptr;
};

// How many rows the next batch has: fewer than kBatchRows where texts are long. Mending may make a text three times as
// long, which still fits offsets of 31 bits.
std::uint64_t BatchRows(const Table& table, std::uint64_t begin) {
  std::uint64_t rows = std::min(kBatchRows, table.rows - begin);
  for (const TableColumn& column : table.columns) {
    if (column.type != TableColumn::Type::kString) continue;
    std::uint64_t bytes = 0;
    for (std::uint64_t i = 0; i < rows; ++i) {
      bytes += column.dictionary[column.codes[begin + i]].size();
      if (bytes > kBatchTextBytes) rows = std::max<std::uint64_t>(1, i);
    }
  }
  return rows;
}

// 0 with a released array at the end, as the interface has it.
int NextArray(ArrowArrayStream* stream, ArrowArray* out) {
  auto* state = static_cast<StreamState*>(stream->private_data);
  *out = {};
  while (state->table == nullptr || state->row == state->table->rows) {
    auto next = state->source();
    if (!next.ok()) {
      state->error = next.status().message();
      return EIO;
    }
    state->table = *std::move(next);
    state->row = 0;
    if (state->table == nullptr) {
      state->source = [] { return Result<std::shared_ptr<const Table>>(std::shared_ptr<const Table>()); };
      return 0;
    }
    state->numbers.assign(state->table->columns.size(), {});
  }
  const std::uint64_t rows = BatchRows(*state->table, state->row);
  ArrayNode* node = StartArray(out, state->table, static_cast<std::int64_t>(rows));
  SetBuffers(out, {nullptr});
  node->children.resize(state->table->columns.size());
  for (std::size_t i = 0; i < node->children.size(); ++i) {
    ColumnExport(*state, i, state->row, rows).Fill(&node->children[i]);
    node->child_pointers.push_back(&node->children[i]);
  }
  out->n_children = static_cast<std::int64_t>(node->children.size());
  out->children = node->child_pointers.data();
  state->row += rows;
  return 0;
}

}  // namespace

void ExportSchema(const Table& table, ArrowSchema* schema) {
  SchemaNode* node = StartSchema(schema, "+s", "");
  schema->flags = 0;
  node->children.resize(table.columns.size());
  for (std::size_t i = 0; i < table.columns.size(); ++i) {
    ExportColumnSchema(table.columns[i], &node->children[i]);
    node->child_pointers.push_back(&node->children[i]);
  }
  schema->n_children = static_cast<std::int64_t>(node->children.size());
  schema->children = node->child_pointers.data();
}

void ExportStream(std::shared_ptr<const Table> schema, TableSource source, ArrowArrayStream* stream) {
  *stream = {.get_schema =
                 [](ArrowArrayStream* self, ArrowSchema* out) {
                   ExportSchema(*static_cast<StreamState*>(self->private_data)->schema, out);
                   return 0;
                 },
             .get_next = NextArray,
             .get_last_error = [](ArrowArrayStream* self) -> const char* {
               const std::string& error = static_cast<StreamState*>(self->private_data)->error;
               return error.empty() ? nullptr : error.c_str();
             },
             .release =
                 [](ArrowArrayStream* self) {
                   delete static_cast<StreamState*>(self->private_data);
                   self->release = nullptr;
                 },
             .private_data = new StreamState{.schema = std::move(schema),
                                             .source = std::move(source),
                                             .table = nullptr,
                                             .row = 0,
                                             .numbers = {},
                                             .error = {}}};
}

void ExportStream(std::shared_ptr<const Table> table, ArrowArrayStream* stream) {
  TableSource once = [left = table]() mutable -> Result<std::shared_ptr<const Table>> {
    return std::exchange(left, nullptr);
  };
  ExportStream(std::move(table), std::move(once), stream);
}

}  // namespace spanbox
