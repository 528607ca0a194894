#include "names.h"

#include <algorithm>

namespace spanbox::python {
namespace {

// Such names mean something in a row: the rule of the conventions' normaliser.
bool IsReserved(std::string_view name, const ColumnInfo* column) {
  if (column != nullptr || name.empty() || name == "tokens_dialect" || name == "semconv.keys") return true;
  return name.starts_with("attributes.") || name.starts_with("resource.") || name.starts_with("scope.") ||
         name.starts_with("otel.");
}

}  // namespace

NameInfo LookUpName(PyObject* name) {
  const Utf8 text(name);
  NameInfo info;
  const ColumnInfo* column = FindColumn(text.view());
  if (column != nullptr && column->name == text.view()) info.column = column->column;
  info.secret = spanbox::IsSecretName(text.view());
  info.plain = std::ranges::all_of(text.view(), [](char c) { return (c >= 'a' && c <= 'z') || c == '.' || c == '_'; });
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
