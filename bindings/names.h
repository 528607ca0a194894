// What is known of the names that code spells out: the column a name means, and whether it tells of a secret. Such
// names are interned, the same object at every call, and looked up by it.
//
// Thread rule: hold the GIL. Ownership: the names looked up last are kept, a thousand at most.
#pragma once

#include <Python.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "capture.h"

namespace spanbox::python {

struct NameInfo {
  Column column = Column::kAttribute;  // whose name (not alias) it is; kAttribute: an attribute's
  bool secret = false;                 // see IsSecretName
  bool plain = false;                  // a-z, dots and underscores: nothing to be redacted
  bool reserved = false;               // an attribute that came with this name is called "attributes.<name>" here
};

struct KnownName {
  PyObject* name = nullptr;  // owned
  NameInfo info;             // without the names of configure(redact_keys=...)
};
inline std::array<KnownName, 1024> known_names;  // many more than a program has: two at one place take turns, slowly

NameInfo LookUpName(PyObject* name);

// `name`: a str.
inline NameInfo InfoOf(PyObject* name) {
  const auto address = reinterpret_cast<std::uintptr_t>(name);
  const KnownName& known = known_names[(address >> 4 ^ address >> 12) % known_names.size()];
  if (known.name != name || has_denied_names) [[unlikely]]
    return LookUpName(name);
  return known.info;
}

// The same as IsSecretName of the text; `name` is the str that holds it.
inline bool IsSecretName(PyObject* name, std::string_view text) {
  if (has_denied_names) [[unlikely]]
    return IsSecretName(text);
  return text.size() >= 3 && internal::EndsLikeSecretName(text) && InfoOf(name).secret;
}

}  // namespace spanbox::python
