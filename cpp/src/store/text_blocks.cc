#include "store/text_blocks.h"

#include <zstd.h>

#include <cstring>
#include <new>

#include "base/hash.h"

namespace spanbox {
namespace {

struct DecompressorDeleter {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

// One a thread: a context is 100 KB, and making it costs more than unpacking a small block.
ZSTD_DCtx* Decompressor() {
  thread_local std::unique_ptr<ZSTD_DCtx, DecompressorDeleter> context(ZSTD_createDCtx());
  return context.get();
}

Status Damaged(std::uint32_t block, std::string_view what) {
  return DataLoss("text block " + std::to_string(block) + ": " + std::string(what));
}

}  // namespace

Result<UnpackedBlock> UnpackTextBlock(std::span<const std::byte> stored, const TextBlockInfo& info,
                                      std::uint32_t block) {
  if (stored.size() != info.stored_bytes) {
    return Damaged(block,
                   "has " + std::to_string(stored.size()) + " bytes instead of " + std::to_string(info.stored_bytes));
  }
  if (Hash64(stored) != info.checksum) return Damaged(block, "checksum differs");
  UnpackedBlock unpacked;
  unpacked.size = info.raw_bytes;
  // Uninitialised on purpose: a directory that lies about the size costs address space, not memory.
  unpacked.data.reset(new (std::nothrow) char[unpacked.size + 1]);
  if (unpacked.data == nullptr) return ResourceExhausted("no memory to unpack text block " + std::to_string(block));
  if (info.codec == TextCodec::kStored) {
    if (info.stored_bytes != info.raw_bytes) return Damaged(block, "sizes differ");
    if (!stored.empty()) std::memcpy(unpacked.data.get(), stored.data(), stored.size());
    return unpacked;
  }
  ZSTD_DCtx* context = Decompressor();
  if (context == nullptr) return ResourceExhausted("no memory to unpack text");
  const std::size_t got =
      ZSTD_decompressDCtx(context, unpacked.data.get(), unpacked.size, stored.data(), stored.size());
  if (ZSTD_isError(got)) return Damaged(block, ZSTD_getErrorName(got));
  if (got != unpacked.size) return Damaged(block, "unpacks to another size");
  return unpacked;
}

struct TextPacker::Context {
  explicit Context(int level) : zstd(ZSTD_createCCtx()) {
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, level);
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_checksumFlag, 0);  // ours covers the bytes
  }
  ~Context() { ZSTD_freeCCtx(zstd); }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  ZSTD_CCtx* zstd;
};

TextPacker::TextPacker(int level) : context_(std::make_unique<Context>(level)) {}
TextPacker::~TextPacker() = default;

TextPacker::Place TextPacker::Add(std::string_view text) {
  if (!pending_.empty() && pending_.size() + text.size() > kTextBlockBytes) Close();
  const Place place{static_cast<std::uint32_t>(blocks.size()), static_cast<std::uint32_t>(pending_.size())};
  pending_.append(text);
  return place;
}

void TextPacker::Finish() {
  // A block that holds only empty texts has no bytes, but its places name it.
  Close();
}

void TextPacker::Close() {
  std::string packed(ZSTD_compressBound(pending_.size()), '\0');
  const std::size_t size =
      ZSTD_compress2(context_->zstd, packed.data(), packed.size(), pending_.data(), pending_.size());
  TextBlockInfo info;
  info.raw_bytes = static_cast<std::uint32_t>(pending_.size());
  if (ZSTD_isError(size) || size >= pending_.size()) {
    packed = pending_;
  } else {
    packed.resize(size);
    packed.shrink_to_fit();
    info.codec = TextCodec::kZstd;
  }
  info.stored_bytes = static_cast<std::uint32_t>(packed.size());
  info.checksum = Hash64(std::as_bytes(std::span(packed.data(), packed.size())));
  blocks.push_back(std::move(packed));
  infos.push_back(info);
  pending_.clear();
}

}  // namespace spanbox
