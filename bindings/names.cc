#include "names.h"

namespace spanbox::python {

NameInfo LookUpName(PyObject* name) {
  const Utf8 text(name);
  NameInfo info;
  const ColumnInfo* column = FindColumn(text.view());
  if (column != nullptr && column->name == text.view()) info.column = column->column;
  info.secret = spanbox::IsSecretName(text.view());
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
