// Keys and values of the LMDB tables: what docs/segment_format.md calls the manifest.
//
// Thread rule: functions and plain values.
// Invariant: every value ends in its XXH3 checksum; Parse functions return DataLoss for anything they did not write.
// Units: integers of values are little-endian, of keys big-endian (so that keys sort as numbers).
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "spanbox/exporter.h"
#include "spanbox/status.h"
#include "spanbox/store.h"
#include "store/env.h"
#include "store/read_view.h"
#include "store/segment_format.h"

namespace spanbox {

std::string SegmentKey(std::uint64_t id);
std::string ChunkKeyOf(std::uint64_t id, std::uint32_t number);  // 0: columns; n: text block n - 1; kFilterNumber
inline constexpr std::uint32_t kFilterNumber = 0xFFFFFFFF, kCellsNumber = 0xFFFFFFFE;
// The records of an open span lie in parts, a part a commit. Format 1 had one value a span, under the prefix alone.
std::string OpenPrefix(const RingId& ring, SpanId span);
std::string OpenKey(const RingId& ring, SpanId span, std::uint32_t part);
std::uint32_t NextOpenPart(std::string_view last_key);
std::string_view OpenPrefixOf(std::string_view key);  // empty when the key has the wrong size
std::string CursorKey(const RingId& ring, std::uint32_t lane);
std::string RingKey(const RingId& ring);
std::uint64_t SegmentIdOf(std::string_view key);  // 0 when the key has the wrong size
SpanId OpenSpanIdOf(std::string_view key);        // 0 when the key has the wrong size
std::string Hex(const RingId& ring);

// Which records of which lane a segment holds.
struct RingRange {
  RingId ring{};
  std::uint32_t lane = 0;
  std::uint64_t first_seq = 0, last_seq = 0;
};

struct SegmentRecord {
  SegmentMeta meta;  // id is the key
  std::uint32_t text_blocks = 0;
  std::uint64_t column_bytes = 0, text_bytes = 0, raw_text_bytes = 0;
  std::uint64_t columns_checksum = 0;  // bytes 8..16 of the columns value: the two belong together
  bool settled = false;                // will not be packed again
  std::uint64_t filter_bytes = 0;      // of the search filter of its text; only a settled one has one
  std::uint64_t cells_bytes = 0;       // of its cells; only a settled one has some
  std::vector<RingRange> ranges;
};
std::string Encode(const SegmentRecord& record);
Result<SegmentRecord> ParseSegmentRecord(std::string_view key, Bytes value);

// Under this lane stands, as its position, the turn of the ring's last batch.
inline constexpr std::uint32_t kTurnLane = 0xFFFFFFFF;
std::string Encode(const LaneCursor& cursor);
Result<LaneCursor> ParseCursor(std::string_view key, Bytes value);

struct RingRecord {
  bool retired = false;
  std::int64_t changed_ns = 0;                         // when it was retired, wall clock
  std::uint64_t dropped_spans = 0, dropped_bytes = 0;  // of a retired ring; before, its cursors have them
  std::string process;
};
std::string Encode(const RingRecord& record);
Result<RingRecord> ParseRing(Bytes value);

// A piece of a blob as it is stored. Key: blob id, offset.
struct BlobRecord {
  std::uint64_t total_bytes = 0;  // of the whole blob
  std::uint64_t offset = 0;       // of this piece: it is part of the key
  std::uint32_t raw_bytes = 0;    // of this piece
  TextCodec codec = TextCodec::kStored;
  Bytes content;  // as the codec says
};
std::string BlobKey(const BlobId& id, std::uint64_t offset);
BlobId BlobIdOfKey(std::string_view key);  // zeros when the key has the wrong size
std::string Encode(const BlobRecord& record);
// With `verify` the checksum is checked; without it only the first bytes of the value are read.
Result<BlobRecord> ParseBlob(std::string_view key, Bytes value, bool verify);

// Key: kind, 0, name, 0, version.
std::string DocumentPrefix(std::string_view kind);
std::string DocumentPrefix(std::string_view kind, std::string_view name);
std::string DocumentKey(const Document& document);
std::uint64_t DocumentVersionOf(std::string_view key);  // 0 when it is no key of a document
std::string Encode(const Document& document);
Result<Document> ParseDocument(std::string_view key, Bytes value);

// What a feed has taken, in table `meta` (store/feeds.h).
struct FeedRecord {
  std::uint64_t turn = 0;                    // counts its steps
  std::uint64_t taken_until = 0;             // all segments up to this id are taken,
  std::vector<std::uint64_t> taken;          // and these, ascending
  std::uint64_t taking = 0, taken_rows = 0;  // the segment under way (0: none), and how far
  std::string state;                         // the feed's own

  bool HasTaken(std::uint64_t segment) const {
    return segment <= taken_until || std::binary_search(taken.begin(), taken.end(), segment);
  }
};
std::string Encode(const FeedRecord& feed);
Result<FeedRecord> ParseFeed(Bytes value);

std::string EncodeOpen(std::string_view records);
Result<std::string_view> ParseOpen(Bytes value);

// Fixed-size numbers of table `meta`.
Result<std::uint64_t> GetMetaNumber(const Txn& txn, std::string_view key);  // 0 when absent
Status PutMetaNumber(WriteTxn& txn, std::string_view key, std::uint64_t value);

// `table` is kSegments, kScores or kRollups: all kinds share the ids and the chunks.
// Writes one segment under a new id; counts the generation up.
Status PutSegment(WriteTxn& txn, Table table, const SegmentBuilder::Encoded& encoded, std::vector<RingRange> ranges);
// With the runs of cells it is in (cell_runs.h).
Status DeleteSegment(WriteTxn& txn, Table table, const SegmentRecord& record);
// Visits every segment in order of id; damaged records go to `damaged` when given, else end the scan.
Status ForEachSegment(const Txn& txn, Table table, const std::function<Status(SegmentRecord)>& visit,
                      const std::function<void(std::uint64_t id, const Status&)>& damaged = nullptr);

// The segment's bytes, tied to `txn`. `memory`: what is remembered of it, if anything.
Result<Segment> LoadSegment(const Txn& txn, const SegmentRecord& record,
                            std::shared_ptr<SegmentMemory> memory = nullptr);
// The same of its cells (segment_cells.h); empty when it has none.
Result<Bytes> LoadCells(const Txn& txn, const SegmentRecord& record);

}  // namespace spanbox
