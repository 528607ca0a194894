// The structures of the Arrow C data and C stream interfaces, and who releases them.
//
// Specification: https://arrow.apache.org/docs/format/CDataInterface.html and CStreamInterface.html. The three
// structures below are the ABI those pages lay down.
//
// Thread rule: values of one thread. Ownership: an ArrowOwned releases what it holds exactly once.
#pragma once

#include <cstdint>
#include <utility>

extern "C" {

#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE
struct ArrowSchema {
  const char* format;
  const char* name;
  const char* metadata;
  std::int64_t flags;
  std::int64_t n_children;
  struct ArrowSchema** children;
  struct ArrowSchema* dictionary;
  void (*release)(struct ArrowSchema*);
  void* private_data;
};

struct ArrowArray {
  std::int64_t length;
  std::int64_t null_count;
  std::int64_t offset;
  std::int64_t n_buffers;
  std::int64_t n_children;
  const void** buffers;
  struct ArrowArray** children;
  struct ArrowArray* dictionary;
  void (*release)(struct ArrowArray*);
  void* private_data;
};
#endif

#ifndef ARROW_C_STREAM_INTERFACE
#define ARROW_C_STREAM_INTERFACE
struct ArrowArrayStream {
  int (*get_schema)(struct ArrowArrayStream*, struct ArrowSchema* out);
  int (*get_next)(struct ArrowArrayStream*, struct ArrowArray* out);
  const char* (*get_last_error)(struct ArrowArrayStream*);
  void (*release)(struct ArrowArrayStream*);
  void* private_data;
};
#endif

}  // extern "C"

namespace spanbox {

template <typename T>
class ArrowOwned {
 public:
  ArrowOwned() = default;
  explicit ArrowOwned(T* taken) : value_(std::exchange(*taken, T{})) {}  // as the interface moves: by copy and mark
  ArrowOwned(ArrowOwned&& other) noexcept : value_(std::exchange(other.value_, T{})) {}
  ArrowOwned& operator=(ArrowOwned&& other) noexcept {
    if (this != &other) {
      Reset();
      value_ = std::exchange(other.value_, T{});
    }
    return *this;
  }
  ~ArrowOwned() { Reset(); }

  bool has() const { return value_.release != nullptr; }
  T* get() { return &value_; }
  const T& operator*() const { return value_; }
  T* operator->() { return &value_; }
  void Reset() {
    if (has()) value_.release(&value_);
    value_ = {};
  }

 private:
  T value_{};
};

}  // namespace spanbox
