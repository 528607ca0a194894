// Documents: one value a version in table `documents`.
//
// Versions are counted by keys alone: one that is damaged does not keep the next from being stored.

#include <algorithm>

#include "base/simdjson.h"
#include "store/store_impl.h"

namespace spanbox {
namespace {

constexpr std::size_t kMaxNameChars = 64;

bool IsNameChar(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("._:-").find(c) != std::string_view::npos;
}

Status CheckName(std::string_view what, std::string_view name) {
  if (!name.empty() && name.size() <= kMaxNameChars && std::ranges::all_of(name, IsNameChar)) return OkStatus();
  return InvalidArgument("the " + std::string(what) + " of a document has 1 to " + std::to_string(kMaxNameChars) +
                         " characters of A-Z a-z 0-9 . _ : -, and not \"" + std::string(name.substr(0, 100)) + "\"");
}

Status CheckId(std::string_view kind, std::string_view name) {
  SPANBOX_RETURN_IF_ERROR(CheckName("kind", kind));
  return CheckName("name", name);
}

Status CheckJson(std::string_view json) {
  if (json.size() > kMaxDocumentBytes) {
    return InvalidArgument("a document has at most " + std::to_string(kMaxDocumentBytes) + " bytes of JSON, this one " +
                           std::to_string(json.size()) + ": keep what is large in a file, and its path here");
  }
  simdjson::dom::parser parser;
  const simdjson::error_code error = parser.parse(json.data(), json.size()).error();
  if (error == simdjson::SUCCESS) return OkStatus();
  return InvalidArgument(std::string("a document is not valid JSON: ") + simdjson::error_message(error));
}

std::string Called(const Document& document) { return "the " + document.kind + " document " + document.name; }

Status Missing(const Document& document, const std::string& why) {
  return NotFound("there is no such document: " + Called(document) + " " + why);
}

struct Newest {
  std::uint64_t version = 0;  // 0: none
  bool deleted = false;
};
Result<Newest> NewestOf(const Txn& txn, const Document& document) {
  const std::string prefix = DocumentPrefix(document.kind, document.name);
  SPANBOX_ASSIGN_OR_RETURN(const auto key, txn.LastKey(Table::kDocuments, prefix));
  if (!key) return Newest{};
  Newest newest{DocumentVersionOf(*key)};
  SPANBOX_ASSIGN_OR_RETURN(const auto value, txn.Get(Table::kDocuments, *key));
  if (value) {
    const auto parsed = ParseDocument(*key, *value);
    newest.deleted = parsed.ok() && parsed->deleted;
  }
  return newest;
}

}  // namespace

Result<std::uint64_t> StoreImpl::PutDocument(std::string_view kind, std::string_view name, std::string_view json,
                                             std::int64_t at_ns, std::optional<std::uint64_t> expected) {
  SPANBOX_RETURN_IF_ERROR(CheckId(kind, name));
  SPANBOX_RETURN_IF_ERROR(CheckJson(json));
  Document document{.kind = std::string(kind), .name = std::string(name), .at_ns = at_ns};
  document.json = json;
  return PutVersion(std::move(document), expected);
}

Result<std::uint64_t> StoreImpl::DeleteDocument(std::string_view kind, std::string_view name, std::int64_t at_ns,
                                                std::optional<std::uint64_t> expected) {
  SPANBOX_RETURN_IF_ERROR(CheckId(kind, name));
  return PutVersion({.kind = std::string(kind), .name = std::string(name), .at_ns = at_ns, .deleted = true}, expected);
}

Result<std::uint64_t> StoreImpl::PutVersion(Document document, std::optional<std::uint64_t> expected) {
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  SPANBOX_RETURN_IF_ERROR(env->Write(document.json.size(), [&](WriteTxn& txn) -> Status {
    SPANBOX_ASSIGN_OR_RETURN(const Newest newest, NewestOf(txn, document));
    const bool none = newest.version == 0 || newest.deleted;
    if (document.deleted && none) return Missing(document, "cannot be deleted");
    if (expected && *expected != newest.version && !(*expected == 0 && none)) {
      return Unavailable(Called(document) + " is at version " + std::to_string(newest.version) + ", not at " +
                         std::to_string(*expected) +
                         ": it was changed meanwhile, nothing was stored; read it again and try again");
    }
    document.version = newest.version + 1;
    return txn.PutNew(Table::kDocuments, DocumentKey(document), AsBytes(Encode(document)));
  }));
  return document.version;
}

Result<Document> StoreImpl::GetDocument(std::string_view kind, std::string_view name, std::uint64_t version) {
  SPANBOX_RETURN_IF_ERROR(CheckId(kind, name));
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  SPANBOX_ASSIGN_OR_RETURN(const auto txn, env->Read());
  Document document{.kind = std::string(kind), .name = std::string(name), .version = version};
  if (version == 0) {
    SPANBOX_ASSIGN_OR_RETURN(const Newest newest, NewestOf(*txn, document));
    document.version = newest.version;
  }
  if (document.version == 0) return Missing(document, "was never put");
  const std::string key = DocumentKey(document);
  SPANBOX_ASSIGN_OR_RETURN(const auto value, txn->Get(Table::kDocuments, key));
  if (!value) return Missing(document, "has no version " + std::to_string(version));
  SPANBOX_ASSIGN_OR_RETURN(document, ParseDocument(key, *value));
  if (document.deleted) return Missing(document, "was deleted by version " + std::to_string(document.version));
  return document;
}

Result<std::vector<Document>> StoreImpl::Documents(std::string_view kind) {
  SPANBOX_RETURN_IF_ERROR(CheckName("kind", kind));
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  SPANBOX_ASSIGN_OR_RETURN(const auto txn, env->Read());
  std::vector<std::pair<std::string, Bytes>> newest;  // by name; keys of one stand together, versions ascending
  const auto of_same = [&newest](std::string_view key) {
    const std::size_t bytes = key.size() - sizeof(std::uint64_t);
    return !newest.empty() && newest.back().first.size() == key.size() &&
           key.substr(0, bytes) == std::string_view(newest.back().first).substr(0, bytes);
  };
  SPANBOX_RETURN_IF_ERROR(
      txn->Scan(Table::kDocuments, DocumentPrefix(kind), [&](std::string_view key, Bytes value) -> Result<bool> {
        if (DocumentVersionOf(key) == 0) return DataLoss("a document's key does not decode");
        if (!of_same(key)) newest.emplace_back();
        newest.back() = {std::string(key), value};
        return true;
      }));
  std::vector<Document> documents;
  for (const auto& [key, value] : newest) {
    SPANBOX_ASSIGN_OR_RETURN(Document document, ParseDocument(key, value));
    if (!document.deleted) documents.push_back(std::move(document));
  }
  return documents;
}

Result<std::vector<Document>> StoreImpl::DocumentHistory(std::string_view kind, std::string_view name) {
  SPANBOX_RETURN_IF_ERROR(CheckId(kind, name));
  SPANBOX_ASSIGN_OR_RETURN(Env* const env, LiveEnv());
  SPANBOX_ASSIGN_OR_RETURN(const auto txn, env->Read());
  std::vector<Document> versions;
  SPANBOX_RETURN_IF_ERROR(
      txn->Scan(Table::kDocuments, DocumentPrefix(kind, name), [&](std::string_view key, Bytes value) -> Result<bool> {
        SPANBOX_ASSIGN_OR_RETURN(Document document, ParseDocument(key, value));
        versions.push_back(std::move(document));
        return true;
      }));
  return versions;
}

}  // namespace spanbox
