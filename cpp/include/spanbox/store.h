// The store: a folder that holds spans as immutable columnar segments in LMDB, and the rings of the processes that
// record into it. docs/segment_format.md gives every byte.
//
//   <path>/data.mdb lock.mdb   LMDB environment            <path>/rings/*.ring   one or more per living process
//
// Thread rule: every method may be called from any thread. Several processes may open one store; within one process,
// opening the same folder again (by any path) gives the same handle.
// Ownership: handles are shared; the environment closes with the last one. After fork the child opens the folder anew.
// Invariants:
//   1. What Commit or Append returned OK for survives power loss; a failed call changed nothing.
//   2. A reader never blocks a writer, and sees one commit or all of it, never part.
//   3. No LMDB page or transaction escapes a ReadView.
//   4. Folder 0700, files 0600, whatever the umask; a store of another user, or behind a symbolic link, is refused.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "spanbox/blob.h"
#include "spanbox/exporter.h"
#include "spanbox/options.h"
#include "spanbox/span.h"
#include "spanbox/status.h"

namespace spanbox {

inline constexpr std::uint32_t kStoreFormat = 4;

struct StoreInfo {
  std::string path;
  std::uint32_t format = kStoreFormat;
  std::uint64_t segments = 0;
  std::uint64_t spans = 0;              // in segments
  std::uint64_t open_spans = 0;         // started, not ended
  std::uint64_t sampled_out_spans = 0;  // dropped by sampling: only their counts, sums and sketches are there
  std::uint64_t scores = 0;
  std::uint64_t column_bytes = 0;    // of segments, encoded, and of their cells
  std::uint64_t text_bytes = 0;      // of text blocks, compressed
  std::uint64_t raw_text_bytes = 0;  // before compression
  std::uint64_t filter_bytes = 0;    // of search filters
  std::uint64_t file_bytes = 0;      // size of data.mdb
  std::uint64_t disk_bytes = 0;      // what it takes of the disk: less, for freed space is given back
  std::int64_t first_start_ns = 0;   // 0 when empty
  std::int64_t last_start_ns = 0;
  std::string lmdb_version;
};

struct VerifyReport {
  std::uint64_t segments = 0;
  std::uint64_t spans = 0;
  std::uint64_t rollups = 0;
  std::uint64_t scores = 0;
  std::uint64_t blobs = 0;
  std::uint64_t documents = 0;        // versions of them
  std::vector<std::string> problems;  // one line each: what is damaged, where, what it costs
};

// What a store keeps; 0: no limit. It is written in the store, and whichever process records into it sees to it.
struct Retention {
  std::int64_t max_age_ns = 0;  // of a span's start
  std::uint64_t max_bytes = 0;  // of segments, encoded
};

// While one lives, no segment is merged, packed or dropped, by any process; new ones may come. Blobs stay.
class StorePause {
 public:
  virtual ~StorePause() = default;
};

struct LiveProcess {  // a ring that has been seen and not retired
  RingId ring{};
  std::string process;  // JSON: pid, exe, started_ns
  std::uint64_t dropped_spans = 0;
};

struct BlobInfo {
  BlobId id;
  std::uint64_t total_bytes = 0;
  std::uint64_t present_bytes = 0;  // less than total_bytes: its process is still writing it, or was killed
  std::uint64_t stored_bytes = 0;   // compressed
};

// What changes beside spans (prompt versions, alert rules, deploy marks): JSON with versions, which all stay.
struct Document {
  std::string kind, name;     // 1 to 64 characters of A-Z a-z 0-9 . _ : -
  std::uint64_t version = 0;  // 1, 2, 3, ...
  std::int64_t at_ns = 0;     // when it was put
  bool deleted = false;       // this version says that there is none any more
  std::string json;           // of one value; empty when deleted
};
inline constexpr std::size_t kMaxDocumentBytes = 1 << 20;

// How far an ingest has come. Without a name nothing is remembered.
struct IngestProgress {
  std::string name;
  std::uint64_t rows_before = 0;  // what IngestedRows tells before this commit
  std::uint64_t rows_after = 0;
};

// A feed takes every segment once, whatever is merged meanwhile: metrics and exports are ones (docs/bridges.md).
struct FeedSegment {
  enum class Of { kSpans, kRollups, kScores };
  std::uint64_t id = 0;
  std::uint32_t rows = 0;
  Of of = Of::kSpans;
};
struct Feed {
  std::uint64_t turn = 0;                    // counts its steps; 0: it has taken nothing yet
  std::string state;                         // as its last step has put it
  std::uint64_t taking = 0, taken_rows = 0;  // the segment under way (0: none)
  std::vector<FeedSegment> waiting = {};     // by id, the one under way among them
};
struct FeedStep {
  std::uint64_t turn = 0;                    // Feed::turn, as it was read
  std::vector<std::uint64_t> taken = {};     // segments that are taken now
  std::uint64_t taking = 0, taken_rows = 0;  // the one under way, which is not merged until it is taken
  std::string state = {};
};

class ReadView;

class Store : public SpanExporter {
 public:
  // PermissionDenied, ResourceExhausted (disk), NotFound, DataLoss (truncated or damaged), Unsupported (newer format,
  // file system without locks): each message names the path and what to do.
  static Result<std::shared_ptr<Store>> Open(const std::string& path, const StoreOptions& options = {});

  virtual const std::string& path() const = 0;  // absolute
  virtual std::string ring_dir() const = 0;     // exists, 0700

  // Stores rows made elsewhere (imports) in one commit. REQUIRES: at most a few thousand rows a call.
  virtual Status Append(std::span<const SpanRow> rows) = 0;

  // The same for rows that come one after the other: `next` gives a row that lives until it is called again, nullptr
  // after the last, or an error, which is returned and nothing stored. After that `progress` is read and stored in the
  // same transaction. Unavailable when another call has moved the ingest of that name on; then nothing is stored.
  // REQUIRES: no more rows than a segment should have (StoreOptions::target_segment_rows).
  using NextRow = std::function<Result<const SpanRow*>()>;
  virtual Status Append(const NextRow& next, const IngestProgress& progress) = 0;

  // Stores scores (spanbox/score.h) in one commit. REQUIRES: as Append.
  virtual Status AppendScores(std::span<const SpanRow> scores) = 0;

  // How many rows of the ingest of this name are stored; 0 for an unknown one.
  virtual Result<std::uint64_t> IngestedRows(std::string_view name) = 0;

  // A consistent view at this moment, for one query. Keep it short (<= 2 s): a long one makes the file grow.
  virtual Result<std::unique_ptr<ReadView>> Read() = 0;
  // The same for one who holds a view already: Unavailable at once where Read would wait until all views have ended.
  virtual Result<std::unique_ptr<ReadView>> ReadAgain();  // by default Read

  // The whole content, checked against its name. NotFound: no such blob. Unavailable: not all of it is there,
  // because its process is still writing it or was killed meanwhile; the message says how many bytes of how many are.
  // DataLoss: damaged.
  virtual Result<std::string> ReadBlob(const BlobId& id) = 0;
  virtual Result<std::vector<BlobInfo>> Blobs() = 0;  // in the order of their ids; reads no content

  // Merges one group of small segments if there is one; true when something was merged.
  virtual Result<bool> MergeOnce() = 0;

  // Merges all there is and packs it as small as it gets, whatever its age. Takes some 25 ms of CPU a MB of text. Then
  // ReleaseFreeSpace.
  virtual Status Compact() = 0;

  // Drops whole segments whose spans are all older than the limit, and the oldest beyond the limit of bytes; and scores
  // given before the oldest span that is left. Done every
  // minute by recording processes, too. Returns how many spans were dropped.
  virtual Result<Retention> GetRetention() = 0;
  virtual Status SetRetention(const Retention& retention) = 0;  // InvalidArgument: negative
  virtual Result<std::uint64_t> DropExpired(std::int64_t now_ns) = 0;

  // A feed of an unknown name has taken nothing. Open spans are no part of it: they come when they have ended.
  virtual Result<Feed> ReadFeed(std::string_view) { return Unsupported("this store has no feeds"); }
  // Durable on return. Unavailable, and nothing changed: another step was taken, or a segment was merged, meanwhile.
  virtual Status AdvanceFeed(std::string_view, const FeedStep&) { return Unsupported("this store has no feeds"); }
  virtual Status DropFeed(std::string_view) { return Unsupported("this store has no feeds"); }
  virtual Result<std::vector<std::string>> Feeds() { return std::vector<std::string>(); }

  // Durable on return, which tells the version given. With `expected` it is put only where that is the newest version
  // (0: where there is none, or it is deleted); else Unavailable. InvalidArgument: a bad name, no JSON, or too large.
  virtual Result<std::uint64_t> PutDocument(std::string_view /*kind*/, std::string_view /*name*/,
                                            std::string_view /*json*/, std::int64_t /*at_ns*/,
                                            std::optional<std::uint64_t> /*expected*/ = {}) {
    return Unsupported("this store has no documents");
  }
  virtual Result<std::uint64_t> DeleteDocument(std::string_view /*kind*/, std::string_view /*name*/,
                                               std::int64_t /*at_ns*/, std::optional<std::uint64_t> /*expected*/ = {}) {
    return Unsupported("this store has no documents");
  }
  // `version` 0: the newest. NotFound: no such version, or it is a deletion.
  virtual Result<Document> GetDocument(std::string_view /*kind*/, std::string_view /*name*/,
                                       std::uint64_t /*version*/ = 0) {
    return Unsupported("this store has no documents");
  }
  // The newest version of each document of the kind that is not deleted, by name.
  virtual Result<std::vector<Document>> Documents(std::string_view /*kind*/) { return std::vector<Document>(); }
  // All versions, oldest first, deletions among them; empty for an unknown one.
  virtual Result<std::vector<Document>> DocumentHistory(std::string_view /*kind*/, std::string_view /*name*/) {
    return std::vector<Document>();
  }

  // Waits for a merge that is under way.
  virtual Result<std::unique_ptr<StorePause>> Pause() = 0;
  // Writes the segment, of spans or scores, anew without these rows (ascending), or drops it when none is left. Its
  // text is packed again, so nothing of theirs stays but in pages that are free. NotFound: no such segment. REQUIRES: a
  // StorePause.
  virtual Status RemoveRows(std::uint64_t segment, std::span<const std::uint32_t> rows) = 0;
  virtual Status RemoveBlob(const BlobId& id) = 0;  // OK when there is none
  // Overwrites with zeros what data.mdb holds beside its content: what was erased, merged, or stored for a while.
  // Unavailable: another process has been reading an old state for some seconds.
  virtual Status WipeFreeSpace() = 0;
  // Gives what data.mdb holds beside its content back to the file system, as holes: its length stays. Safe while others
  // read and write; what old readers see is kept. Recording processes do so when a quarter of the file is free.
  virtual Status ReleaseFreeSpace() = 0;

  // Writes a whole store to a folder that must not exist: consistent, without free space, 0700. Spans that are still in
  // rings are not in it. Readers and writers go on meanwhile.
  virtual Status Backup(const std::string& path) = 0;

  virtual Result<StoreInfo> Info() = 0;
  virtual Result<VerifyReport> Verify() = 0;  // reads everything, checks every checksum
  virtual Result<std::vector<LiveProcess>> Processes() = 0;
};

}  // namespace spanbox
