// Protocol buffers on the wire (https://protobuf.dev/programming-guides/encoding): fields one by one, no messages.
//
// Thread rule: not synchronised. Ownership: readers borrow.
// Invariant: a reader never reads past its bytes; after something malformed it gives no more fields, and failed() is
// true. Groups, which nothing of ours uses, count as malformed.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace spanbox {

enum class WireType : std::uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

struct ProtoField {
  std::uint32_t number = 0;
  WireType type = WireType::kVarint;
  std::uint64_t value = 0;  // of all types but kBytes
  std::string_view bytes;

  bool Is(std::uint32_t n, WireType t) const { return number == n && type == t; }
};

class ProtoReader {
 public:
  explicit ProtoReader(std::string_view bytes) : at_(bytes.data()), end_(bytes.data() + bytes.size()) {}
  ProtoReader() = default;

  bool failed() const { return failed_; }
  const char* place() const { return at_; }  // of what comes next, or of what is malformed

  // False at the end, or when something is malformed.
  bool Next(ProtoField& field) {
    if (at_ == end_) return false;
    const char* const begin = at_;
    if (ReadField(field)) return true;
    failed_ = true;
    at_ = begin;
    end_ = begin;
    return false;
  }

 private:
  bool Varint(std::uint64_t& value) {
    value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      if (at_ == end_) return false;
      const auto byte = static_cast<std::uint8_t>(*at_++);
      if (shift == 63 && byte > 1) return false;
      value |= std::uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }

  template <typename T>
  bool Fixed(std::uint64_t& value) {
    static_assert(std::endian::native == std::endian::little);
    T fixed = 0;
    if (static_cast<std::size_t>(end_ - at_) < sizeof fixed) return false;
    std::memcpy(&fixed, at_, sizeof fixed);
    at_ += sizeof fixed;
    value = fixed;
    return true;
  }

  bool ReadField(ProtoField& field) {
    std::uint64_t tag = 0;
    if (!Varint(tag) || tag > 0xFFFFFFFF || tag < 8) return false;
    field.number = static_cast<std::uint32_t>(tag >> 3);
    field.type = static_cast<WireType>(tag & 7);
    switch (field.type) {
      case WireType::kVarint:
        return Varint(field.value);
      case WireType::kFixed64:
        return Fixed<std::uint64_t>(field.value);
      case WireType::kFixed32:
        return Fixed<std::uint32_t>(field.value);
      case WireType::kBytes: {
        std::uint64_t size = 0;
        if (!Varint(size) || size > static_cast<std::uint64_t>(end_ - at_)) return false;
        field.bytes = {at_, static_cast<std::size_t>(size)};
        at_ += size;
        return true;
      }
    }
    return false;
  }

  const char* at_ = nullptr;
  const char* end_ = nullptr;
  bool failed_ = false;
};

// Appends fields to a text. Values that are the default are written, too: leave them out where that matters.
class ProtoWriter {
 public:
  explicit ProtoWriter(std::string& out) : out_(out) {}

  void Varint(std::uint32_t number, std::uint64_t value) {
    Raw(number << 3);
    Raw(value);
  }
  void Fixed64(std::uint32_t number, std::uint64_t value) { Fixed(number << 3 | 1, value); }
  void Fixed32(std::uint32_t number, std::uint32_t value) { Fixed(number << 3 | 5, value); }
  void Double(std::uint32_t number, double value) { Fixed64(number, std::bit_cast<std::uint64_t>(value)); }
  void Bytes(std::uint32_t number, std::string_view bytes) {
    Raw(number << 3 | 2);
    Raw(bytes.size());
    out_ += bytes;
  }

  // A message whose size is known when it has been written: `write` appends its fields.
  template <typename Write>
  void Message(std::uint32_t number, Write write) {
    Raw(number << 3 | 2);
    const std::size_t begin = out_.size();
    write();
    std::string size;
    ProtoWriter(size).Raw(out_.size() - begin);
    out_.insert(begin, size);
  }

 private:
  void Raw(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) out_ += static_cast<char>(value | 0x80);
    out_ += static_cast<char>(value);
  }
  template <typename T>
  void Fixed(std::uint32_t tag, T value) {
    Raw(tag);
    out_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }

  std::string& out_;
};

}  // namespace spanbox
