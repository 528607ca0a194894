#include "store/manifest.h"

#include <algorithm>

#include "base/hash.h"
#include "store/cell_runs.h"
#include "store/packing.h"

namespace spanbox {
namespace {

constexpr std::uint32_t kRecordVersion = 1;

template <typename T>
void PutBigEndian(T value, std::string& out) {
  for (int shift = static_cast<int>(sizeof value) * 8 - 8; shift >= 0; shift -= 8) {
    out.push_back(static_cast<char>(value >> shift));
  }
}

std::uint64_t BigEndian(std::string_view bytes) {
  std::uint64_t value = 0;
  for (char c : bytes) value = value << 8 | static_cast<std::uint8_t>(c);
  return value;
}

std::string RingPrefix(const RingId& ring) { return {reinterpret_cast<const char*>(ring.data()), ring.size()}; }

std::string Sealed(std::string value) {
  PutFixed(Hash64(AsBytes(value)), value);
  return value;
}

// The value without its version and checksum.
Result<Bytes> Unsealed(Bytes value, std::string_view what) {
  const auto damaged = [&](std::string_view why) { return DataLoss(std::string(what) + ": " + std::string(why)); };
  if (value.size() < sizeof(std::uint32_t) + sizeof(std::uint64_t)) return damaged("is truncated");
  const Bytes content = value.first(value.size() - sizeof(std::uint64_t));
  std::uint64_t checksum;
  std::memcpy(&checksum, value.data() + content.size(), sizeof checksum);
  if (Hash64(content) != checksum) return damaged("checksum differs");
  std::uint32_t version;
  std::memcpy(&version, content.data(), sizeof version);
  if (version != kRecordVersion) {
    return Unsupported(std::string(what) + " has format " + std::to_string(version) + ", this spanbox reads " +
                       std::to_string(kRecordVersion) + ": upgrade spanbox");
  }
  return content.subspan(sizeof version);
}

std::string NewRecord() {
  std::string out;
  PutFixed(kRecordVersion, out);
  return out;
}

}  // namespace

std::string SegmentKey(std::uint64_t id) {
  std::string key;
  PutBigEndian(id, key);
  return key;
}

std::string ChunkKeyOf(std::uint64_t id, std::uint32_t number) {
  std::string key = SegmentKey(id);
  PutBigEndian(number, key);
  return key;
}

std::string OpenPrefix(const RingId& ring, SpanId span) {
  std::string key = RingPrefix(ring);
  PutBigEndian(span, key);
  return key;
}

std::string OpenKey(const RingId& ring, SpanId span, std::uint32_t part) {
  std::string key = OpenPrefix(ring, span);
  PutBigEndian(part, key);
  return key;
}

std::uint32_t NextOpenPart(std::string_view last_key) {
  const std::string_view part = last_key.substr(OpenPrefixOf(last_key).size());
  return part.empty() ? 0 : static_cast<std::uint32_t>(BigEndian(part)) + 1;
}

std::string_view OpenPrefixOf(std::string_view key) {
  constexpr std::size_t kPrefixBytes = sizeof(RingId) + sizeof(SpanId);
  const bool right = key.size() == kPrefixBytes || key.size() == kPrefixBytes + sizeof(std::uint32_t);
  return right ? key.substr(0, kPrefixBytes) : std::string_view();
}

std::string CursorKey(const RingId& ring, std::uint32_t lane) {
  std::string key = RingPrefix(ring);
  PutBigEndian(lane, key);
  return key;
}

std::string RingKey(const RingId& ring) { return RingPrefix(ring); }

std::uint64_t SegmentIdOf(std::string_view key) { return key.size() == 8 ? BigEndian(key) : 0; }

SpanId OpenSpanIdOf(std::string_view key) {
  const std::string_view prefix = OpenPrefixOf(key);
  return prefix.empty() ? 0 : BigEndian(prefix.substr(sizeof(RingId)));
}

std::string Hex(const RingId& ring) {
  TraceId same_shape;
  same_shape.bytes = ring;
  return ToHex(same_shape);
}

std::string Encode(const SegmentRecord& record) {
  std::string out = NewRecord();
  PutFixed(record.meta.rows, out);
  PutFixed(record.meta.min_start_ns, out);
  PutFixed(record.meta.max_start_ns, out);
  PutFixed(record.meta.min_trace, out);
  PutFixed(record.meta.max_trace, out);
  PutFixed(record.column_bytes, out);
  PutFixed(record.text_bytes, out);
  PutFixed(record.raw_text_bytes, out);
  PutFixed(record.columns_checksum, out);
  PutFixed(record.text_blocks, out);
  PutFixed(static_cast<std::uint32_t>(record.ranges.size()), out);
  for (const RingRange& range : record.ranges) {
    out.append(RingPrefix(range.ring));
    PutFixed(range.lane, out);
    PutFixed(range.first_seq, out);
    PutFixed(range.last_seq, out);
  }
  if (record.settled) {
    PutFixed(record.filter_bytes, out);
    PutFixed(record.cells_bytes, out);
  }
  return Sealed(std::move(out));
}

Result<SegmentRecord> ParseSegmentRecord(std::string_view key, Bytes value) {
  SegmentRecord record;
  record.meta.id = SegmentIdOf(key);
  SPANBOX_ASSIGN_OR_RETURN(const Bytes content, Unsealed(value, "record of a segment"));
  ByteReader in(content);
  record.meta.rows = in.Get<std::uint32_t>();
  record.meta.min_start_ns = in.Get<std::int64_t>();
  record.meta.max_start_ns = in.Get<std::int64_t>();
  record.meta.min_trace = in.Get<std::uint64_t>();
  record.meta.max_trace = in.Get<std::uint64_t>();
  record.column_bytes = in.Get<std::uint64_t>();
  record.text_bytes = in.Get<std::uint64_t>();
  record.raw_text_bytes = in.Get<std::uint64_t>();
  record.columns_checksum = in.Get<std::uint64_t>();
  record.text_blocks = in.Get<std::uint32_t>();
  const auto ranges = in.Get<std::uint32_t>();
  for (std::uint32_t i = 0; i < ranges && in.ok(); ++i) {
    RingRange& range = record.ranges.emplace_back();
    const auto ring = in.GetBytes(range.ring.size());
    if (in.ok()) std::memcpy(range.ring.data(), ring.data(), ring.size());
    range.lane = in.Get<std::uint32_t>();
    range.first_seq = in.Get<std::uint64_t>();
    range.last_seq = in.Get<std::uint64_t>();
  }
  record.settled = in.remaining() != 0;
  if (record.settled) record.filter_bytes = in.Get<std::uint64_t>();
  if (in.remaining() != 0) record.cells_bytes = in.Get<std::uint64_t>();
  if (!in.ok() || in.remaining() != 0 || record.meta.id == 0) return DataLoss("record of a segment does not decode");
  return record;
}

std::string Encode(const LaneCursor& cursor) {
  std::string out = NewRecord();
  PutFixed(cursor.position, out);
  PutFixed(cursor.seq, out);
  PutFixed(cursor.dropped_spans, out);
  PutFixed(cursor.dropped_bytes, out);
  return Sealed(std::move(out));
}

Result<LaneCursor> ParseCursor(std::string_view key, Bytes value) {
  SPANBOX_ASSIGN_OR_RETURN(const Bytes content, Unsealed(value, "cursor of a ring"));
  ByteReader in(content);
  LaneCursor cursor;
  if (key.size() != sizeof(RingId) + sizeof cursor.lane)
    return DataLoss("cursor of a ring: its key has the wrong size");
  cursor.lane = static_cast<std::uint32_t>(BigEndian(key.substr(sizeof(RingId))));
  cursor.position = in.Get<std::uint64_t>();
  cursor.seq = in.Get<std::uint64_t>();
  cursor.dropped_spans = in.Get<std::uint64_t>();
  cursor.dropped_bytes = in.Get<std::uint64_t>();
  if (!in.ok() || in.remaining() != 0) return DataLoss("cursor of a ring does not decode");
  return cursor;
}

std::string Encode(const RingRecord& record) {
  std::string out = NewRecord();
  PutFixed(std::uint32_t{record.retired ? 1u : 0u}, out);
  PutFixed(record.changed_ns, out);
  PutFixed(record.dropped_spans, out);
  PutFixed(record.dropped_bytes, out);
  out.append(record.process);
  return Sealed(std::move(out));
}

Result<RingRecord> ParseRing(Bytes value) {
  SPANBOX_ASSIGN_OR_RETURN(const Bytes content, Unsealed(value, "record of a ring"));
  ByteReader in(content);
  RingRecord record;
  record.retired = (in.Get<std::uint32_t>() & 1) != 0;
  record.changed_ns = in.Get<std::int64_t>();
  record.dropped_spans = in.Get<std::uint64_t>();
  record.dropped_bytes = in.Get<std::uint64_t>();
  if (!in.ok()) return DataLoss("record of a ring does not decode");
  record.process = in.GetText(in.remaining());
  return record;
}

std::string BlobKey(const BlobId& id, std::uint64_t offset) {
  std::string key(reinterpret_cast<const char*>(id.bytes.data()), id.bytes.size());
  PutBigEndian(offset, key);
  return key;
}

BlobId BlobIdOfKey(std::string_view key) {
  BlobId id;
  if (key.size() == sizeof(BlobId) + sizeof(std::uint64_t)) std::memcpy(id.bytes.data(), key.data(), sizeof id);
  return id;
}

std::string Encode(const BlobRecord& record) {
  std::string out = NewRecord();
  out.reserve(record.content.size() + 64);
  PutFixed(record.total_bytes, out);
  PutFixed(record.raw_bytes, out);
  PutFixed(static_cast<std::uint32_t>(record.codec), out);
  out.append(AsText(record.content));
  return Sealed(std::move(out));
}

Result<BlobRecord> ParseBlob(std::string_view key, Bytes value, bool verify) {
  constexpr std::string_view kWhat = "piece of a blob";
  constexpr std::size_t kChecksumBytes = sizeof(std::uint64_t);
  if (key.size() != sizeof(BlobId) + sizeof(std::uint64_t))
    return DataLoss("piece of a blob: its key has a wrong size");
  BlobRecord record;
  record.offset = BigEndian(key.substr(sizeof(BlobId)));
  if (verify) SPANBOX_RETURN_IF_ERROR(Unsealed(value, kWhat).status());
  ByteReader in(value.first(value.size() - std::min(value.size(), kChecksumBytes)));
  const auto version = in.Get<std::uint32_t>();
  record.total_bytes = in.Get<std::uint64_t>();
  record.raw_bytes = in.Get<std::uint32_t>();
  const auto codec = in.Get<std::uint32_t>();
  record.content = in.GetBytes(in.remaining());
  const bool fits = record.offset <= record.total_bytes && record.raw_bytes <= record.total_bytes - record.offset;
  const bool known = codec <= static_cast<std::uint32_t>(TextCodec::kZstd);
  if (!in.ok() || version != kRecordVersion || !fits || !known) return DataLoss("piece of a blob does not decode");
  record.codec = static_cast<TextCodec>(codec);
  return record;
}

std::string DocumentPrefix(std::string_view kind) { return std::string(kind) + '\0'; }

std::string DocumentPrefix(std::string_view kind, std::string_view name) {
  return DocumentPrefix(kind).append(name) + '\0';
}

std::string DocumentKey(const Document& document) {
  std::string key = DocumentPrefix(document.kind, document.name);
  PutBigEndian(document.version, key);
  return key;
}

std::uint64_t DocumentVersionOf(std::string_view key) {
  const std::size_t version_at = key.size() - std::min(key.size(), sizeof(std::uint64_t));
  const bool right = std::count(key.begin(), key.begin() + static_cast<std::ptrdiff_t>(version_at), '\0') == 2 &&
                     key[version_at - 1] == '\0';
  return right ? BigEndian(key.substr(version_at)) : 0;
}

std::string Encode(const Document& document) {
  std::string out = NewRecord();
  PutFixed(document.at_ns, out);
  PutFixed(std::uint32_t{document.deleted ? 1u : 0u}, out);
  out += document.json;
  return Sealed(std::move(out));
}

Result<Document> ParseDocument(std::string_view key, Bytes value) {
  Document document;
  document.version = DocumentVersionOf(key);
  if (document.version == 0) return DataLoss("a document's key does not decode");
  document.kind = key.substr(0, key.find('\0'));
  const std::size_t name_at = document.kind.size() + 1;
  document.name = key.substr(name_at, key.find('\0', name_at) - name_at);
  const std::string what =
      "version " + std::to_string(document.version) + " of the " + document.kind + " document " + document.name;
  SPANBOX_ASSIGN_OR_RETURN(const Bytes content, Unsealed(value, what));
  ByteReader in(content);
  document.at_ns = in.Get<std::int64_t>();
  document.deleted = (in.Get<std::uint32_t>() & 1) != 0;
  if (!in.ok()) return DataLoss(what + " does not decode");
  document.json = AsText(in.GetBytes(in.remaining()));
  return document;
}

std::string Encode(const FeedRecord& feed) {
  std::string out = NewRecord();
  PutFixed(feed.turn, out);
  PutFixed(feed.taken_until, out);
  PutFixed(feed.taking, out);
  PutFixed(feed.taken_rows, out);
  PutFixed(static_cast<std::uint32_t>(feed.taken.size()), out);
  for (const std::uint64_t id : feed.taken) PutFixed(id, out);
  out.append(feed.state);
  return Sealed(std::move(out));
}

Result<FeedRecord> ParseFeed(Bytes value) {
  SPANBOX_ASSIGN_OR_RETURN(const Bytes content, Unsealed(value, "record of a feed"));
  ByteReader in(content);
  FeedRecord feed;
  feed.turn = in.Get<std::uint64_t>();
  feed.taken_until = in.Get<std::uint64_t>();
  feed.taking = in.Get<std::uint64_t>();
  feed.taken_rows = in.Get<std::uint64_t>();
  const auto taken = in.Get<std::uint32_t>();
  for (std::uint32_t i = 0; i < taken && in.ok(); ++i) feed.taken.push_back(in.Get<std::uint64_t>());
  if (!in.ok()) return DataLoss("record of a feed does not decode");
  feed.state = in.GetText(in.remaining());
  return feed;
}

std::string EncodeOpen(std::string_view records) {
  std::string out = NewRecord();
  out.append(records);
  return Sealed(std::move(out));
}

Result<std::string_view> ParseOpen(Bytes value) {
  SPANBOX_ASSIGN_OR_RETURN(const Bytes content, Unsealed(value, "open span"));
  return AsText(content);
}

Result<std::uint64_t> GetMetaNumber(const Txn& txn, std::string_view key) {
  SPANBOX_ASSIGN_OR_RETURN(const auto value, txn.Get(Table::kMeta, key));
  if (!value) return std::uint64_t{0};
  std::uint64_t number = 0;
  if (value->size() != sizeof number) return DataLoss("table meta: " + std::string(key) + " has the wrong size");
  std::memcpy(&number, value->data(), sizeof number);
  return number;
}

Status PutMetaNumber(WriteTxn& txn, std::string_view key, std::uint64_t value) {
  return txn.Put(Table::kMeta, key, std::as_bytes(std::span(&value, 1)));
}

Status PutSegment(WriteTxn& txn, Table table, const SegmentBuilder::Encoded& encoded, std::vector<RingRange> ranges) {
  SPANBOX_ASSIGN_OR_RETURN(const std::uint64_t last, GetMetaNumber(txn, "last_segment"));
  SPANBOX_ASSIGN_OR_RETURN(const std::uint64_t generation, GetMetaNumber(txn, "generation"));
  SegmentRecord record;
  record.meta = {last + 1,          encoded.rows,     encoded.min_start_ns, encoded.max_start_ns,
                 encoded.min_trace, encoded.max_trace};
  record.text_blocks = static_cast<std::uint32_t>(encoded.text_blocks.size());
  record.column_bytes = encoded.columns.size();
  record.text_bytes = encoded.text_bytes;
  record.raw_text_bytes = encoded.raw_text_bytes;
  std::memcpy(&record.columns_checksum, encoded.columns.data() + 8, sizeof record.columns_checksum);
  record.settled = encoded.settled;
  record.filter_bytes = encoded.text_filter.size();
  record.cells_bytes = encoded.cells.size();
  record.ranges = std::move(ranges);
  const std::uint64_t id = record.meta.id;
  SPANBOX_RETURN_IF_ERROR(txn.PutNew(table, SegmentKey(id), AsBytes(Encode(record))));
  SPANBOX_RETURN_IF_ERROR(txn.PutNew(Table::kChunks, ChunkKeyOf(id, 0), AsBytes(encoded.columns)));
  for (std::uint32_t i = 0; i < record.text_blocks; ++i) {
    SPANBOX_RETURN_IF_ERROR(txn.PutNew(Table::kChunks, ChunkKeyOf(id, i + 1), AsBytes(encoded.text_blocks[i])));
  }
  if (!encoded.text_filter.empty()) {
    SPANBOX_RETURN_IF_ERROR(txn.PutNew(Table::kChunks, ChunkKeyOf(id, kFilterNumber), AsBytes(encoded.text_filter)));
  }
  if (!encoded.cells.empty()) {
    SPANBOX_RETURN_IF_ERROR(txn.PutNew(Table::kChunks, ChunkKeyOf(id, kCellsNumber), AsBytes(encoded.cells)));
  }
  SPANBOX_RETURN_IF_ERROR(PutMetaNumber(txn, "last_segment", id));
  return PutMetaNumber(txn, "generation", generation + 1);
}

Status DeleteSegment(WriteTxn& txn, Table table, const SegmentRecord& record) {
  SPANBOX_ASSIGN_OR_RETURN(const std::uint64_t generation, GetMetaNumber(txn, "generation"));
  SPANBOX_RETURN_IF_ERROR(PutMetaNumber(txn, "generation", generation + 1));
  for (std::uint32_t i = 0; i <= record.text_blocks; ++i) {
    SPANBOX_RETURN_IF_ERROR(txn.Delete(Table::kChunks, ChunkKeyOf(record.meta.id, i)));
  }
  if (record.filter_bytes > 0) {
    SPANBOX_RETURN_IF_ERROR(txn.Delete(Table::kChunks, ChunkKeyOf(record.meta.id, kFilterNumber)));
  }
  if (record.cells_bytes > 0) {
    SPANBOX_RETURN_IF_ERROR(txn.Delete(Table::kChunks, ChunkKeyOf(record.meta.id, kCellsNumber)));
    SPANBOX_RETURN_IF_ERROR(DeleteRunsOf(txn, record.meta.id));
  }
  return txn.Delete(table, SegmentKey(record.meta.id));
}

Status ForEachSegment(const Txn& txn, Table table, const std::function<Status(SegmentRecord)>& visit,
                      const std::function<void(std::uint64_t, const Status&)>& damaged) {
  return txn.Scan(table, {}, [&](std::string_view key, Bytes value) -> Result<bool> {
    auto record = ParseSegmentRecord(key, value);
    if (record.ok()) {
      SPANBOX_RETURN_IF_ERROR(visit(*std::move(record)));
    } else if (damaged) {
      damaged(SegmentIdOf(key), record.status());
    } else {
      return Status(record.status().code(), "segment " + std::to_string(SegmentIdOf(key)) + ": " +
                                                record.status().message() +
                                                "; verify the store to see what is affected");
    }
    return true;
  });
}

Result<Bytes> LoadCells(const Txn& txn, const SegmentRecord& record) {
  if (record.cells_bytes == 0) return Bytes();
  SPANBOX_ASSIGN_OR_RETURN(const auto bytes, txn.Get(Table::kChunks, ChunkKeyOf(record.meta.id, kCellsNumber)));
  if (!bytes || bytes->size() != record.cells_bytes) {
    return DataLoss("segment " + std::to_string(record.meta.id) + " has lost its cells");
  }
  return *bytes;
}

Result<Segment> LoadSegment(const Txn& txn, const SegmentRecord& record, std::shared_ptr<SegmentMemory> memory) {
  const std::uint64_t id = record.meta.id;
  const auto what = [id] { return "segment " + std::to_string(id); };
  SPANBOX_ASSIGN_OR_RETURN(const auto columns, txn.Get(Table::kChunks, ChunkKeyOf(id, 0)));
  if (!columns) return DataLoss(what() + " has lost its columns");
  // By value: the transaction outlives what is read through it, the record need not.
  const Txn reader = txn;
  const auto load_block = [reader, id](std::uint32_t block) -> Result<Bytes> {
    SPANBOX_ASSIGN_OR_RETURN(const auto bytes, reader.Get(Table::kChunks, ChunkKeyOf(id, block + 1)));
    if (!bytes) return DataLoss("segment " + std::to_string(id) + " has lost text block " + std::to_string(block));
    return *bytes;
  };
  Segment::TextFilterLoader load_filter;
  if (record.filter_bytes > 0) {
    load_filter = [reader, id]() -> Result<Bytes> {
      SPANBOX_ASSIGN_OR_RETURN(const auto bytes, reader.Get(Table::kChunks, ChunkKeyOf(id, kFilterNumber)));
      if (!bytes) return DataLoss("segment " + std::to_string(id) + " has lost its search filter");
      return *bytes;
    };
  }
  auto segment = Segment::Open(*columns, load_block, load_filter);
  if (!segment.ok()) return Status(segment.status().code(), what() + ": " + segment.status().message());
  std::uint64_t checksum = 0;
  std::memcpy(&checksum, columns->data() + 8, sizeof checksum);
  if (checksum != record.columns_checksum || segment->rows() != record.meta.rows) {
    return DataLoss(what() + ": columns and record do not belong together");
  }
  segment->Remember(std::move(memory));
  return segment;
}

}  // namespace spanbox
