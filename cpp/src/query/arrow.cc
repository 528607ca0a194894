#include "query/arrow.h"

#include <cstring>
#include <string>
#include <vector>

namespace spanbox {
namespace {

constexpr std::int64_t kNullable = 2;  // ARROW_FLAG_NULLABLE

// --- schema ----------------------------------------------------------------------------------------------------------

// What one exported ArrowSchema owns: released with it.
struct SchemaNode {
  std::string name;
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
  auto* node = new SchemaNode{.name = std::move(name), .children = {}, .child_pointers = {}, .dictionary = nullptr};
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

void ExportColumnSchema(const TableColumn& column, ArrowSchema* schema) {
  SchemaNode* node = StartSchema(schema, FormatOf(column.type), column.name);
  if (column.type != TableColumn::Type::kString) return;
  node->dictionary = std::make_unique<ArrowSchema>();
  StartSchema(node->dictionary.get(), "u", "");
  schema->dictionary = node->dictionary.get();
}

// --- arrays ----------------------------------------------------------------------------------------------------------

// What one exported ArrowArray owns. Vectors that the Table has in Arrow's layout are shared through `table`.
struct ArrayNode {
  std::shared_ptr<const Table> table;
  std::vector<const void*> buffers;
  std::vector<std::uint8_t> validity;  // bits
  std::vector<std::uint8_t> bits;      // values of a bool column
  std::vector<std::int32_t> offsets;   // of a dictionary
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

// A dictionary larger than 2 GiB of text does not fit Arrow's utf8; entries past that are cut to nothing.
void ExportDictionary(const TableColumn& column, const std::shared_ptr<const Table>& table, ArrowArray* array) {
  ArrayNode* node = StartArray(array, table, static_cast<std::int64_t>(column.dictionary.size()));
  node->offsets.push_back(0);
  for (const std::string& entry : column.dictionary) {
    if (node->text.size() + entry.size() <= static_cast<std::size_t>(INT32_MAX)) node->text += entry;
    node->offsets.push_back(static_cast<std::int32_t>(node->text.size()));
  }
  SetBuffers(array, {nullptr, node->offsets.data(), node->text.data()});
}

void ExportColumn(const TableColumn& column, const std::shared_ptr<const Table>& table, ArrowArray* array) {
  const std::uint64_t rows = table->rows;
  ArrayNode* node = StartArray(array, table, static_cast<std::int64_t>(rows));
  const void* validity = nullptr;
  if (!column.valid.empty()) {
    node->validity = PackBits(rows, [&](std::uint64_t i) { return column.valid[i] != 0; });
    validity = node->validity.data();
    for (std::uint8_t valid : column.valid) array->null_count += valid == 0;
  }
  switch (column.type) {
    case TableColumn::Type::kInt:
    case TableColumn::Type::kTimestampNs:
      SetBuffers(array, {validity, column.ints.data()});
      break;
    case TableColumn::Type::kFloat:
      SetBuffers(array, {validity, column.floats.data()});
      break;
    case TableColumn::Type::kBool:
      node->bits = PackBits(rows, [&](std::uint64_t i) { return column.ints[i] != 0; });
      SetBuffers(array, {validity, node->bits.data()});
      break;
    case TableColumn::Type::kString:
      SetBuffers(array, {validity, column.codes.data()});
      node->dictionary = std::make_unique<ArrowArray>();
      ExportDictionary(column, table, node->dictionary.get());
      array->dictionary = node->dictionary.get();
      break;
  }
}

// --- stream ----------------------------------------------------------------------------------------------------------

struct StreamState {
  std::shared_ptr<const Table> table;
  bool done = false;
};

int NextArray(ArrowArrayStream* stream, ArrowArray* out) {
  auto* state = static_cast<StreamState*>(stream->private_data);
  if (state->done) {
    *out = {};
    return 0;
  }
  state->done = true;
  const std::shared_ptr<const Table>& table = state->table;
  ArrayNode* node = StartArray(out, table, static_cast<std::int64_t>(table->rows));
  SetBuffers(out, {nullptr});
  node->children.resize(table->columns.size());
  for (std::size_t i = 0; i < table->columns.size(); ++i) {
    ExportColumn(table->columns[i], table, &node->children[i]);
    node->child_pointers.push_back(&node->children[i]);
  }
  out->n_children = static_cast<std::int64_t>(node->children.size());
  out->children = node->child_pointers.data();
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

void ExportStream(std::shared_ptr<const Table> table, ArrowArrayStream* stream) {
  *stream = {.get_schema =
                 [](ArrowArrayStream* self, ArrowSchema* out) {
                   ExportSchema(*static_cast<StreamState*>(self->private_data)->table, out);
                   return 0;
                 },
             .get_next = NextArray,
             .get_last_error = [](ArrowArrayStream*) -> const char* { return nullptr; },
             .release =
                 [](ArrowArrayStream* self) {
                   delete static_cast<StreamState*>(self->private_data);
                   self->release = nullptr;
                 },
             .private_data = new StreamState{.table = std::move(table), .done = false}};
}

}  // namespace spanbox
