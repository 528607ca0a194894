#include "store/blobs.h"

#include <zstd.h>

#include <algorithm>
#include <map>
#include <memory>

#include "store/manifest.h"

namespace spanbox {
namespace {

// Pieces are written on the collector's thread while the ring waits for room: speed counts.
constexpr int kLevel = 1;
constexpr std::uint64_t kMaxPieceBytes = 64u << 20;  // a quarter of the largest lane, and more

std::string_view Prefix(const BlobId& id) { return {reinterpret_cast<const char*>(id.bytes.data()), id.bytes.size()}; }

// What pieces that come in the order of their offsets cover.
class Coverage {
 public:
  void Add(std::uint64_t offset, std::uint64_t bytes) {
    if (!parts_.empty() && offset <= parts_.back().end) {
      parts_.back().end = std::max(parts_.back().end, offset + bytes);
    } else {
      parts_.push_back({offset, offset + bytes});
    }
  }
  bool Holds(std::uint64_t offset, std::uint64_t bytes) const {
    return std::ranges::any_of(parts_, [&](const Part& p) { return p.begin <= offset && offset + bytes <= p.end; });
  }
  std::uint64_t bytes() const {
    std::uint64_t sum = 0;
    for (const Part& part : parts_) sum += part.end - part.begin;
    return sum;
  }

 private:
  struct Part {
    std::uint64_t begin, end;
  };
  std::vector<Part> parts_;
};

Result<Coverage> CoverageOf(const Txn& txn, const BlobId& id) {
  Coverage coverage;
  SPANBOX_RETURN_IF_ERROR(txn.Scan(Table::kBlobs, Prefix(id), [&](std::string_view key, Bytes value) -> Result<bool> {
    const auto piece = ParseBlob(key, value, /*verify=*/false);
    // A piece that does not decode is not there: a good one takes its place.
    if (piece.ok()) coverage.Add(piece->offset, piece->raw_bytes);
    return true;
  }));
  return coverage;
}

using Compressor = std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)>;

std::string EncodePiece(const BlobPiece& piece, ZSTD_CCtx* context) {
  std::string packed(ZSTD_compressBound(piece.bytes.size()), '\0');
  const std::size_t size = context == nullptr ? 0
                                              : ZSTD_compressCCtx(context, packed.data(), packed.size(),
                                                                  piece.bytes.data(), piece.bytes.size(), kLevel);
  BlobRecord record{piece.total_bytes, piece.offset, static_cast<std::uint32_t>(piece.bytes.size()), TextCodec::kStored,
                    piece.bytes};
  if (size > 0 && !ZSTD_isError(size) && size < piece.bytes.size()) {
    record.codec = TextCodec::kZstd;
    record.content = AsBytes(packed).first(size);
  }
  return Encode(record);
}

// The piece's bytes, at most `limit` of which can be honest.
Status AppendPiece(const BlobRecord& piece, std::uint64_t skip, ZSTD_DCtx* context, std::string& out) {
  if (piece.raw_bytes > kMaxPieceBytes) return DataLoss("a piece says that it is too large");
  if (piece.codec == TextCodec::kStored) {
    if (piece.content.size() != piece.raw_bytes) return DataLoss("a piece has another size than it says");
    out.append(AsText(piece.content.subspan(skip)));
    return OkStatus();
  }
  std::string raw(piece.raw_bytes, '\0');
  const std::size_t got =
      ZSTD_decompressDCtx(context, raw.data(), raw.size(), piece.content.data(), piece.content.size());
  if (ZSTD_isError(got) || got != raw.size()) return DataLoss("a piece does not unpack to the size it says");
  out.append(raw, skip);
  return OkStatus();
}

std::string Of(std::uint64_t part, std::uint64_t total) {
  return std::to_string(part) + " of " + std::to_string(total) + " bytes";
}

}  // namespace

Status BlobWriter::Prepare(const Txn& txn, std::span<const BlobPiece> pieces) {
  encoded_.clear();
  bytes_ = 0;
  std::map<BlobId, Coverage> there;
  const Compressor compressor(ZSTD_createCCtx(), &ZSTD_freeCCtx);
  for (const BlobPiece& piece : pieces) {
    auto found = there.find(piece.id);
    if (found == there.end()) {
      SPANBOX_ASSIGN_OR_RETURN(Coverage coverage, CoverageOf(txn, piece.id));
      found = there.emplace(piece.id, std::move(coverage)).first;
    }
    if (found->second.Holds(piece.offset, piece.bytes.size())) continue;
    encoded_.push_back({BlobKey(piece.id, piece.offset), EncodePiece(piece, compressor.get())});
    bytes_ += encoded_.back().value.size();
  }
  return OkStatus();
}

Status BlobWriter::Put(WriteTxn& txn) const {
  for (const Encoded& piece : encoded_)
    SPANBOX_RETURN_IF_ERROR(txn.Put(Table::kBlobs, piece.key, AsBytes(piece.value)));
  return OkStatus();
}

Result<std::string> ReadBlobFrom(const Txn& txn, const BlobId& id) {
  const auto damaged = [&](std::string_view why) { return DataLoss("blob " + ToHex(id) + ": " + std::string(why)); };
  const std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context(ZSTD_createDCtx(), &ZSTD_freeDCtx);
  if (context == nullptr) return ResourceExhausted("no memory to unpack blob " + ToHex(id));
  std::string content;
  std::uint64_t total = 0;
  bool any = false, gap = false;
  SPANBOX_RETURN_IF_ERROR(txn.Scan(Table::kBlobs, Prefix(id), [&](std::string_view key, Bytes value) -> Result<bool> {
    const auto piece = ParseBlob(key, value, /*verify=*/true);
    if (!piece.ok()) return damaged(piece.status().message());
    if (any && piece->total_bytes != total) return damaged("its pieces disagree about its size");
    any = true;
    total = piece->total_bytes;
    gap |= piece->offset > content.size();
    if (gap || piece->offset + piece->raw_bytes <= content.size()) return true;
    const Status status = AppendPiece(*piece, content.size() - piece->offset, context.get(), content);
    if (!status.ok()) return damaged(status.message());
    return true;
  }));
  if (!any) return NotFound("there is no blob " + ToHex(id) + " in this store");
  if (gap || content.size() != total) {
    SPANBOX_ASSIGN_OR_RETURN(const Coverage coverage, CoverageOf(txn, id));
    return Unavailable("blob " + ToHex(id) + " is incomplete: " + Of(coverage.bytes(), total) +
                       " are there; its process is still writing it, was killed meanwhile, or had no room in its ring");
  }
  if (BlobIdOf(std::as_bytes(std::span(content))) != id) return damaged("its content does not match its name");
  return content;
}

Result<std::vector<BlobInfo>> ListBlobs(const Txn& txn, const BlobId& first, std::size_t limit) {
  std::vector<BlobInfo> blobs;
  Coverage coverage;
  SPANBOX_RETURN_IF_ERROR(
      txn.ScanFrom(Table::kBlobs, Prefix(first), [&](std::string_view key, Bytes value) -> Result<bool> {
        if (key.size() != BlobKey({}, 0).size()) return true;  // not ours, and never read
        const BlobId id = BlobIdOfKey(key);
        if (blobs.empty() || blobs.back().id != id) {
          if (blobs.size() == limit) return false;
          blobs.push_back({.id = id});
          coverage = {};
        }
        BlobInfo& blob = blobs.back();
        blob.stored_bytes += value.size();
        if (const auto piece = ParseBlob(key, value, /*verify=*/false); piece.ok()) {
          coverage.Add(piece->offset, piece->raw_bytes);
          blob.total_bytes = piece->total_bytes;
          blob.present_bytes = coverage.bytes();
        }
        return true;
      }));
  return blobs;
}

}  // namespace spanbox
