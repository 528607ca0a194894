#include "redaction.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "capture_settings.h"
#include "casters.h"
#include "record/secret_names.h"
#include "scalars.h"

namespace py = pybind11;

namespace spanbox::python {
namespace {

struct Active {
  std::mutex mutex;
  std::shared_ptr<const Redaction> redaction = std::make_shared<Redaction>(RedactionSettings{});
};

Active& TheActive() {
  static auto* active = new Active;
  return *active;
}

constexpr std::pair<std::string_view, Replacing> kOperators[] = {
    {"replace", Replacing::kName}, {"text", Replacing::kText},           {"mask", Replacing::kMask},
    {"hash", Replacing::kHash},    {"surrogate", Replacing::kSurrogate}, {"call", Replacing::kCall},
    {"keep", Replacing::kKeep}};

Replacing ReplacingNamed(const std::string& name) {
  for (const auto& [known, how] : kOperators) {
    if (known == name) return how;
  }
  throw py::value_error("no such operator: " + name);
}

// Takes the GIL: an ingest lets go of it. What is raised goes no further, and the finding is replaced by its name.
RedactionSettings::Call Caller(py::object callable) {
  if (callable.is_none()) return nullptr;
  const std::shared_ptr<py::object> held(new py::object(std::move(callable)), [](py::object* object) {
    if (Py_IsInitialized() == 0) return;  // its process ends
    const py::gil_scoped_acquire gil;
    delete object;
  });
  return [held](std::string_view entity, std::string_view text) -> std::optional<std::string> {
    const py::gil_scoped_acquire gil;
    const py::error_scope keep;
    try {
      return (*held)(Text(entity), Text(text)).cast<std::string>();
    } catch (const std::exception&) {
      return std::nullopt;
    }
  };
}

using Spec = std::tuple<std::string, std::string, std::size_t>;  // operator, text, characters shown

void SetRedaction(bool secrets, const std::vector<std::string>& pii, const std::map<std::string, Spec>& operators,
                  const py::bytes& key, py::object call) {
  RedactionSettings settings{.secrets = secrets, .key = std::string(key), .call = Caller(std::move(call))};
  for (const std::string& name : pii) {
    const auto entity = PiiNamed(name);
    if (!entity) throw py::value_error("no such entity: " + name);
    settings.pii |= Bit(*entity);
  }
  for (const auto& [entity, spec] : operators) {
    const auto& [how, text, shown] = spec;
    settings.operators[entity] = {ReplacingNamed(how), text, shown};
  }
  auto redaction = std::make_shared<const Redaction>(std::move(settings));
  process_limits.redact_text = redaction->any();
  plain_redaction = redaction->plain();
  looks_for_pii = redaction->pii();
  {
    const std::lock_guard lock(TheActive().mutex);
    std::swap(TheActive().redaction, redaction);
  }
}  // the redaction before, which may hold a callable, ends here with the GIL held

// The place in characters of a place in bytes.
std::size_t CharactersBefore(std::string_view utf8, std::size_t bytes) {
  return static_cast<std::size_t>(std::count_if(utf8.begin(), utf8.begin() + static_cast<std::ptrdiff_t>(bytes),
                                                [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

py::tuple RedactText(const py::str& text, const py::str& before) {
  const Utf8 utf8(text.ptr());
  const auto redaction = ActiveRedaction();
  std::vector<Finding> findings;
  py::list found;
  if (!redaction->Find(utf8.view(), Utf8(before.ptr()).view(), findings)) return py::make_tuple(text, found);
  for (const Finding& one : findings) {
    found.append(py::make_tuple(Text(one.entity), CharactersBefore(utf8.view(), one.begin),
                                CharactersBefore(utf8.view(), one.end)));
  }
  return py::make_tuple(Text(redaction->Replaced(utf8.view(), findings)), found);
}

}  // namespace

std::shared_ptr<const Redaction> ActiveRedaction() {
  const std::lock_guard lock(TheActive().mutex);
  return TheActive().redaction;
}

std::string RedactedName(std::string_view name) {
  if (process_limits.redact_text && !SurelyPlain(name)) {
    if (auto redacted = ActiveRedaction()->Redact(name)) return *std::move(redacted);
  }
  return std::string(name);
}

RedactValue ValueRedactor() {
  auto redaction = ActiveRedaction();
  if (!redaction->any()) return {};
  return [redaction](std::string_view name, const Value& value) -> std::optional<std::string> {
    if (value.type != ValueType::kString && value.type != ValueType::kJson) return std::nullopt;
    if (redaction->secrets() && spanbox::IsSecretName(name)) return std::string(kRedacted);
    return value.type == ValueType::kJson ? redaction->RedactJson(value.text) : redaction->Redact(value.text, name);
  };
}

void RegisterRedaction(py::module_& module) {
  using namespace py::literals;
  module.def("set_redaction", SetRedaction, "secrets"_a, "pii"_a, "operators"_a, "key"_a, "call"_a);
  module.def("redact", RedactText, "text"_a, "before"_a);
  module.def("pii_entities", [] {
    py::list names;
    for (const std::string_view name : kPiiNames) names.append(Text(name));
    return names;
  });
  module.def("secret_entities", [] {
    py::list names;
    for (const std::string_view name : SecretEntities()) names.append(Text(name));
    return names;
  });
}

}  // namespace spanbox::python
