// The boundary between Status and Python exceptions: the only table of its kind, and the only place that throws.
//
// Thread rule: hold the GIL. Units: none.
#pragma once

#include <pybind11/pybind11.h>

#include <string_view>
#include <utility>

#include "spanbox/status.h"

namespace spanbox::python {

// What InvalidArgument means to the caller: a filter or expression of a query, a folder that cannot be a store, or
// another argument.
enum class Wrong { kArgument, kFilter, kStore };

// Creates SpanboxError and its kin in the module.
void RegisterExceptions(pybind11::module_& module);

// Sets the Python exception of `status` and throws it. REQUIRES: !status.ok().
[[noreturn]] void Throw(const Status& status, Wrong wrong = Wrong::kArgument);

inline void Check(const Status& status, Wrong wrong = Wrong::kArgument) {
  if (!status.ok()) Throw(status, wrong);
}

template <typename T>
T Unwrap(Result<T> result, Wrong wrong = Wrong::kArgument) {
  if (!result.ok()) Throw(result.status(), wrong);
  return *std::move(result);
}

// UTF-8 to str; bytes that are no UTF-8 become U+FFFD.
pybind11::str Text(std::string_view utf8);

// json.loads, imported with the first text that needs it: that takes longer than many an answer.
class JsonLoads {
 public:
  pybind11::object operator()(const pybind11::str& text) {
    if (!loads_) loads_ = pybind11::module_::import("json").attr("loads");
    return loads_(text);
  }

 private:
  pybind11::object loads_;
};

}  // namespace spanbox::python
