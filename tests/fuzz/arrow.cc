// An Arrow stream as others might make it: any schema, any lengths, offsets, indices and validity. Buffers are as large
// as their declared use can need, because their size is not part of the interface: see query/arrow_column.h.
#include "query/arrow.h"

#include <sys/mman.h>

#include <deque>

#include "any_store.h"
#include "query/ingest.h"

using namespace spanbox;

namespace {

constexpr const char* kFormats[] = {"n",   "b",   "c",   "C",    "s",    "S",       "i",   "I",      "l",        "L",
                                    "e",   "f",   "g",   "u",    "U",    "z",       "Z",   "vu",     "vz",       "w:3",
                                    "tdD", "tdm", "tts", "ttn",  "tsn:", "tsu:UTC", "tDn", "d:38,2", "d:9,3,32", "+l",
                                    "+L",  "+s",  "+m",  "+w:2", "+vl",  "w:-1",    "d:1", "tiM",    "",         "?"};
constexpr std::size_t kBufferBytes = 1 << 20;

// One stream, everything it points to, and nothing that is released by parts.
class Stream {
 public:
  explicit Stream(fuzz::Input& input) : input_(input) {
    MakeField(root_schema_, root_array_, 0);
    root_schema_.format = "+s";
    stream_.get_schema = [](ArrowArrayStream* self, ArrowSchema* out) {
      *out = static_cast<Stream*>(self->private_data)->root_schema_;
      return 0;
    };
    stream_.get_next = [](ArrowArrayStream* self, ArrowArray* out) {
      auto* const me = static_cast<Stream*>(self->private_data);
      *out = me->done_ ? ArrowArray{} : me->root_array_;
      me->done_ = true;
      return 0;
    };
    stream_.get_last_error = [](ArrowArrayStream*) -> const char* { return nullptr; };
    stream_.release = [](ArrowArrayStream* self) { self->release = nullptr; };
    stream_.private_data = this;
  }
  ArrowArrayStream* get() { return &stream_; }

 private:
  static void Released(ArrowSchema* schema) { schema->release = nullptr; }
  static void Released(ArrowArray* array) { array->release = nullptr; }

  void MakeField(ArrowSchema& schema, ArrowArray& array, int depth) {
    static constexpr const char* kNames[] = {"trace_id", "start", "duration_ns", "output", "x", "", "\xFF", "cost_usd"};
    schema = {};
    array = {};
    schema.format = depth == 0 ? "+s" : kFormats[input_.Below(std::size(kFormats))];
    schema.name = kNames[input_.Below(std::size(kNames))];
    schema.release = &Released;
    array.release = &Released;
    array.length = Number();
    array.offset = static_cast<std::int64_t>(input_.Below(5));
    array.null_count = input_.Byte() % 4 - 1;
    array.n_buffers = input_.Byte() % 16 == 0 ? input_.Byte() % 5 : BuffersOf(schema.format);
    auto& buffers = buffers_.emplace_back();
    // Two small numbers of 4 bytes are one large one of 8, which would be a lie about the size of what it points into.
    const bool wide = schema.format[0] == 'U' || schema.format[0] == 'Z' || std::string_view(schema.format) == "+L";
    for (std::int64_t i = 0; i < array.n_buffers; ++i) buffers.push_back(MakeBuffer(i == 0, wide));
    array.buffers = buffers.data();
    const std::string_view format = schema.format;
    std::int64_t children = format == "+s" ? input_.Byte() % 5 : format.starts_with('+') ? 1 : 0;
    if (depth >= 4) children = 0;
    auto& schemas = schemas_.emplace_back(static_cast<std::size_t>(children));
    auto& arrays = arrays_.emplace_back(static_cast<std::size_t>(children));
    auto& schema_list = schema_lists_.emplace_back();
    auto& array_list = array_lists_.emplace_back();
    for (std::size_t i = 0; i < static_cast<std::size_t>(children); ++i) {
      MakeField(schemas[i], arrays[i], depth + 1);
      schema_list.push_back(&schemas[i]);
      array_list.push_back(&arrays[i]);
    }
    schema.n_children = children;
    schema.children = schema_list.data();
    array.n_children = input_.Byte() % 32 == 0 ? std::min<std::int64_t>(children, 1) : children;
    array.children = array_list.data();
    if (depth < 4 && input_.Byte() % 8 == 0) {
      auto& values = schemas_.emplace_back(1);
      auto& value_array = arrays_.emplace_back(1);
      MakeField(values[0], value_array[0], depth + 1);
      schema.dictionary = &values[0];
      if (input_.Byte() % 16 != 0) array.dictionary = &value_array[0];
    }
  }

  std::int64_t Number() {
    const std::uint8_t kind = input_.Byte();
    if (kind == 255) return -1;
    return kind % 64;
  }

  static std::int64_t BuffersOf(std::string_view format) {
    if (format == "n") return 0;
    if (format == "+s" || format.starts_with("+w")) return 1;
    if (format == "u" || format == "U" || format == "z" || format == "Z") return 3;
    if (format == "vu" || format == "vz") return 4;
    return 2;
  }

  // Words of 8 bytes whose value, in whichever width it is read, is small or negative.
  const void* MakeBuffer(bool may_be_absent, bool wide) {
    if (may_be_absent && input_.Byte() % 2 == 0) return nullptr;
    if (next_ >= kMaxBuffers) return memory_;
    std::byte* const buffer = memory_ + kBufferBytes * next_++;
    std::memset(buffer, 0, 2048);
    const std::size_t style = input_.Byte() % (wide ? 3 : 4);
    std::int64_t running = 0;
    for (std::size_t i = 0; i < 100; ++i) {
      const std::int64_t word = input_.empty() ? running : input_.Byte();
      running += style == 1 ? word % 8 : 0;
      const std::int64_t value = style == 0 ? (word == 255 ? -1 : word) : style == 1 ? running : word * 0x0101;
      if (style == 3) {
        const auto narrow = static_cast<std::int32_t>(running += word % 8);
        std::memcpy(buffer + 4 * i, &narrow, sizeof narrow);
      } else {
        std::memcpy(buffer + 8 * i, &value, sizeof value);
      }
    }
    return buffer;
  }

  static constexpr std::size_t kMaxBuffers = 256;
  static std::byte* Memory() {
    void* const memory = mmap(nullptr, kMaxBuffers * kBufferBytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    return static_cast<std::byte*>(memory);
  }

  static inline std::byte* const memory_ = Memory();
  std::size_t next_ = 0;
  fuzz::Input& input_;
  ArrowArrayStream stream_{};
  ArrowSchema root_schema_{};
  ArrowArray root_array_{};
  bool done_ = false;
  std::deque<std::vector<const void*>> buffers_;
  std::deque<std::vector<ArrowSchema>> schemas_;
  std::deque<std::vector<ArrowArray>> arrays_;
  std::deque<std::vector<ArrowSchema*>> schema_lists_;
  std::deque<std::vector<ArrowArray*>> array_lists_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input(data, size);
  const bool ingested = input.Byte() % 2 == 0;
  Stream stream(input);
  if (!ingested) {
    (void)TableOfStream(ArrowOwned<ArrowArrayStream>(stream.get()));
    return 0;
  }
  const auto ingest = Ingest::Start(std::make_shared<fuzz::Sink>(), "", /*skip_bad=*/true);
  if (!(*ingest)->TakeArrow(stream.get()).ok()) return 0;
  for (;;) {
    const auto more = (*ingest)->Step();
    if (!more.ok() || !*more) return 0;
  }
}
