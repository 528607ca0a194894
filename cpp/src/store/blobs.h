// The table of blobs: pieces of payloads too large for a span's row, each stored once.
//
// Pieces of one blob may overlap, when recorders with lanes of other sizes wrote it: what counts is what they cover.
//
// Thread rule: functions; a BlobWriter belongs to one thread.
// Ownership: a BlobWriter borrows the batch's pieces.
// Invariant: content is handed out only when all of it is there and its hash is its name.
// Units: bytes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "spanbox/blob.h"
#include "spanbox/status.h"
#include "spanbox/store.h"
#include "store/env.h"

namespace spanbox {

// Compresses, outside the write transaction, what the store does not have yet.
class BlobWriter {
 public:
  // REQUIRES: `pieces` outlive the writer.
  Status Prepare(const Txn& txn, std::span<const BlobPiece> pieces);
  std::uint64_t bytes() const { return bytes_; }
  Status Put(WriteTxn& txn) const;

 private:
  struct Encoded {
    std::string key, value;
  };
  std::vector<Encoded> encoded_;
  std::uint64_t bytes_ = 0;
};

// See Store::ReadBlob.
Result<std::string> ReadBlobFrom(const Txn& txn, const BlobId& id);

// Blobs with ids from `first` on, at most `limit` of them.
Result<std::vector<BlobInfo>> ListBlobs(const Txn& txn, const BlobId& first, std::size_t limit);

}  // namespace spanbox
