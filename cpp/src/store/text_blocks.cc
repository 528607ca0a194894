#include "store/text_blocks.h"

#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "base/hash.h"

namespace spanbox {
namespace {

constexpr int kLevels[] = {1, 3, 7};  // by TextPacker::Mode
// Of kQuick: a table that leaves room in the processor's first cache, and only longer matches. Three tenths less time
// than level 1 takes by itself, for a ninth more room until the text is packed again.
constexpr int kQuickHashLog = 12, kQuickMinMatch = 7;

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

// zstd takes a dictionary that begins like this for one of its own making, and not for plain content.
bool LooksLikeDictionary(std::string_view text) {
  return text.size() >= 4 && std::memcmp(text.data(), "\x37\xA4\x30\xEC", 4) == 0;
}

}  // namespace

TextBlockReader::TextBlockReader(TextBlockLoader loader, std::vector<TextBlockInfo> infos)
    : loader_(std::move(loader)), infos_(std::move(infos)) {}
TextBlockReader::~TextBlockReader() = default;

Result<std::shared_ptr<const UnpackedBlock>> TextBlockReader::Block(std::uint32_t number) {
  auto found = std::ranges::find_if(kept_, [number](const auto& b) { return b != nullptr && b->number == number; });
  if (found == kept_.end()) {
    found = kept_.end() - 1;
    SPANBOX_ASSIGN_OR_RETURN(*found, Unpack(number));
  }
  std::rotate(kept_.begin(), found, found + 1);
  return kept_.front();
}

Result<std::span<const std::byte>> TextBlockReader::Stored(std::uint32_t block) const {
  const TextBlockInfo& info = infos_[block];
  SPANBOX_ASSIGN_OR_RETURN(const auto stored, loader_(block));
  if (stored.size() != info.stored_bytes) {
    return Damaged(block,
                   "has " + std::to_string(stored.size()) + " bytes instead of " + std::to_string(info.stored_bytes));
  }
  if (Hash64(stored) != info.checksum) return Damaged(block, "checksum differs");
  return stored;
}

Result<std::shared_ptr<const UnpackedBlock>> TextBlockReader::Unpack(std::uint32_t number) {
  const TextBlockInfo& info = infos_[number];
  SPANBOX_ASSIGN_OR_RETURN(const auto stored, Stored(number));
  if (info.codec == TextCodec::kZstdBase && base_ == nullptr) {
    // A directory never says that block 0 is of this codec, so this ends.
    SPANBOX_ASSIGN_OR_RETURN(base_, Unpack(0));
  }
  auto block = std::make_shared<UnpackedBlock>();
  block->number = number;
  block->size = info.raw_bytes;
  // Uninitialised on purpose: a directory that lies about the size costs address space, not memory.
  block->data.reset(new (std::nothrow) char[block->size + 1]);
  if (block->data == nullptr) return ResourceExhausted("no memory to unpack text block " + std::to_string(number));
  if (info.codec == TextCodec::kStored) {
    if (info.stored_bytes != info.raw_bytes) return Damaged(number, "sizes differ");
    if (!stored.empty()) std::memcpy(block->data.get(), stored.data(), stored.size());
  } else {
    SPANBOX_RETURN_IF_ERROR(UnpackFrame(stored, *block));
  }
  return std::shared_ptr<const UnpackedBlock>(std::move(block));
}

Status TextBlockReader::UnpackFrame(std::span<const std::byte> stored, UnpackedBlock& to) {
  ZSTD_DCtx* context = Decompressor();
  if (context == nullptr) return ResourceExhausted("no memory to unpack text");
  const std::string_view base = infos_[to.number].codec == TextCodec::kZstdBase ? base_->text() : std::string_view();
  // A prefix, whatever it begins with, is plain content. It is good for one frame; none takes back the last one.
  ZSTD_DCtx_refPrefix(context, base.data(), base.size());
  const std::size_t got = ZSTD_decompressDCtx(context, to.data.get(), to.size, stored.data(), stored.size());
  if (ZSTD_isError(got)) return Damaged(to.number, ZSTD_getErrorName(got));
  if (got != to.size) return Damaged(to.number, "unpacks to another size");
  return OkStatus();
}

struct TextPacker::Context {
  explicit Context(Mode mode) : level(kLevels[static_cast<std::size_t>(mode)]), zstd(ZSTD_createCCtx()) {
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, level);
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_checksumFlag, 0);  // ours covers the bytes
    if (mode != Mode::kQuick) return;
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_hashLog, kQuickHashLog);
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_minMatch, kQuickMinMatch);
  }
  ~Context() {
    ZSTD_freeCCtx(zstd);
    ZSTD_freeCDict(base);
  }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  int level;
  ZSTD_CCtx* zstd;
  ZSTD_CDict* base = nullptr;
  std::string buffer;
};

TextPacker::TextPacker(Mode mode) : mode_(mode), context_(std::make_unique<Context>(mode)) {}
TextPacker::~TextPacker() = default;

std::uint32_t TextPacker::Adopt(std::span<const std::byte> stored, const TextBlockInfo& info) {
  blocks.emplace_back(reinterpret_cast<const char*>(stored.data()), stored.size());
  infos.push_back(info);
  return static_cast<std::uint32_t>(blocks.size() - 1);
}

TextPlace TextPacker::Add(std::string_view text) {
  const std::size_t limit = mode_ == Mode::kSmall ? kSettledBlockBytes : kTextBlockBytes;
  if (!pending_.empty() && pending_.size() + text.size() > limit) Close();
  const TextPlace place{static_cast<std::uint32_t>(blocks.size()), static_cast<std::uint32_t>(pending_.size()),
                        static_cast<std::uint32_t>(text.size())};
  pending_.append(text);
  return place;
}

void TextPacker::Finish() {
  // A block that holds only empty texts has no bytes, but its places name it.
  Close();
  filter = filter_builder_.Finish();
}

void TextPacker::Clear() {
  filter.clear();
  blocks.clear();
  infos.clear();
  ZSTD_freeCDict(std::exchange(context_->base, nullptr));
  ZSTD_CCtx_refCDict(context_->zstd, nullptr);
}

// What is pending becomes the base. Too large a text would cost more to go through for every block than it saves.
void TextPacker::MakeBase() {
  if (pending_.size() > kSettledBlockBytes || LooksLikeDictionary(pending_)) return;
  context_->base = ZSTD_createCDict(pending_.data(), pending_.size(), context_->level);
  ZSTD_CCtx_refCDict(context_->zstd, context_->base);
}

void TextPacker::Close() {
  const bool with_base = context_->base != nullptr;
  std::string& buffer = context_->buffer;
  buffer.resize(std::max(buffer.size(), ZSTD_compressBound(pending_.size())));
  const std::size_t size =
      ZSTD_compress2(context_->zstd, buffer.data(), buffer.size(), pending_.data(), pending_.size());
  TextBlockInfo info;
  info.raw_bytes = static_cast<std::uint32_t>(pending_.size());
  if (ZSTD_isError(size) || size >= pending_.size()) {
    blocks.push_back(pending_);
  } else {
    blocks.push_back(buffer.substr(0, size));
    info.codec = with_base ? TextCodec::kZstdBase : TextCodec::kZstd;
  }
  info.stored_bytes = static_cast<std::uint32_t>(blocks.back().size());
  info.checksum = Hash64(std::as_bytes(std::span(blocks.back().data(), blocks.back().size())));
  infos.push_back(info);
  if (mode_ == Mode::kSmall) {
    filter_builder_.AddBlock(pending_);
    if (infos.size() == 1) MakeBase();
  }
  pending_.clear();
}

}  // namespace spanbox
