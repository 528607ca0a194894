#include "names.h"

namespace spanbox::python {
namespace {

// As spanbox.semconv has it: such names mean something in a row.
bool IsReserved(std::string_view name, const ColumnInfo* column) {
  return column != nullptr || name.empty() || name == "semconv.keys" || name == "tokens_dialect" ||
         name.starts_with("attributes.");
}

}  // namespace

NameInfo LookUpName(PyObject* name) {
  const Utf8 text(name);
  NameInfo info;
  const ColumnInfo* column = FindColumn(text.view());
  if (column != nullptr && column->name == text.view()) info.column = column->column;
  info.secret = spanbox::IsSecretName(text.view());
  info.reserved = IsReserved(text.view(), column);
  if (PyUnicode_CHECK_INTERNED(name)) {
    const auto address = reinterpret_cast<std::uintptr_t>(name);
    KnownName& known = known_names[(address >> 4 ^ address >> 12) % known_names.size()];
    Py_XSETREF(known.name, Py_NewRef(name));
    known.info = info;
  }
  info.secret |= has_denied_names && IsDeniedName(text.view());
  return info;
}

}  // namespace spanbox::python
