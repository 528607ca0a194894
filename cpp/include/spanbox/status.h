// What an operation came to: a Status, or a Result holding a value or the Status that prevented it.
//
// Thread rule: values; no shared state.
// Ownership: a Result owns its value. `*result` and `result->` REQUIRE result.ok().
// Messages say what failed, where, and what to do next; they are shown to users as they are.
//
// These two types stand here instead of Abseil's because a C++ program that includes spanbox may be linked with an
// Abseil of another version: no Abseil type appears in a public header.
#pragma once

#include <cassert>
#include <optional>
#include <string>
#include <utility>

namespace spanbox {

enum class StatusCode {
  kOk = 0,
  kInvalidArgument,    // the caller's value is wrong: a filter, a name, an option
  kNotFound,           // no such trace, store or column
  kDataLoss,           // stored bytes fail their checks
  kResourceExhausted,  // disk, map or limit is full
  kPermissionDenied,   // the operating system or the ownership rule refuses
  kUnsupported,        // a newer format, a file system that cannot be trusted
  kUnavailable,        // try again: busy, timed out, moved
  kInternal,           // a bug in spanbox
  kCancelled,          // the caller wanted it to end
};

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

inline Status OkStatus() { return {}; }
inline Status InvalidArgument(std::string m) { return {StatusCode::kInvalidArgument, std::move(m)}; }
inline Status NotFound(std::string m) { return {StatusCode::kNotFound, std::move(m)}; }
inline Status DataLoss(std::string m) { return {StatusCode::kDataLoss, std::move(m)}; }
inline Status ResourceExhausted(std::string m) { return {StatusCode::kResourceExhausted, std::move(m)}; }
inline Status PermissionDenied(std::string m) { return {StatusCode::kPermissionDenied, std::move(m)}; }
inline Status Unsupported(std::string m) { return {StatusCode::kUnsupported, std::move(m)}; }
inline Status Unavailable(std::string m) { return {StatusCode::kUnavailable, std::move(m)}; }
inline Status Internal(std::string m) { return {StatusCode::kInternal, std::move(m)}; }
inline Status Cancelled(std::string m) { return {StatusCode::kCancelled, std::move(m)}; }

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}  // NOLINT(google-explicit-constructor): `return value;` reads best
  Result(Status status) : status_(std::move(status)) { assert(!status_.ok()); }  // NOLINT(google-explicit-constructor)

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }

  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return *std::move(value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  Status status_;
  std::optional<T> value_;
};

}  // namespace spanbox

// Returns from the enclosing function when `expr` (a Status) is not OK.
#define SPANBOX_RETURN_IF_ERROR(expr)                                              \
  do {                                                                             \
    if (auto spanbox_status = (expr); !spanbox_status.ok()) return spanbox_status; \
  } while (false)

#define SPANBOX_CONCAT_INNER(a, b) a##b
#define SPANBOX_CONCAT(a, b) SPANBOX_CONCAT_INNER(a, b)

// Declares or assigns `lhs` from `expr` (a Result<T>), or returns its Status.
#define SPANBOX_ASSIGN_OR_RETURN(lhs, expr) \
  SPANBOX_ASSIGN_OR_RETURN_IMPL(SPANBOX_CONCAT(spanbox_result_, __LINE__), lhs, expr)
#define SPANBOX_ASSIGN_OR_RETURN_IMPL(result, lhs, expr) \
  auto result = (expr);                                  \
  if (!result.ok()) return result.status();              \
  lhs = *std::move(result)
