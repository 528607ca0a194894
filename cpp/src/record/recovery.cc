// Recovery of dead rings: the files of one process at a time, read into private memory, drained by the collector's own
// code, retired, removed. docs/recorder.md tells the steps.
//
// Thread rule: RecoverRings may run in several threads and processes at once; the lock of a ring file is what decides.
// Invariants:
//   1. A file whose lock is held by somebody else is not read (I6).
//   2. A file is removed only after the commit that retires its ring.
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "base/msgpack.h"
#include "record/drain.h"
#include "record/fork_guard.h"
#include "record/joiner.h"
#include "record/ring.h"
#include "spanbox/recorder.h"

namespace spanbox {
namespace {

constexpr std::uint64_t kMaxFileBytes = std::uint64_t{1} << 31;
constexpr std::size_t kBatchSpans = 4096;
constexpr const char* kElsewhere = "elsewhere";
constexpr std::size_t kMaxElsewhereBytes = 64 << 10;

// A dead ring's file, locked by us.
struct DeadFile {
  std::string path;
  RingFd fd;
  std::unique_ptr<std::byte, decltype(&std::free)> bytes{nullptr, &std::free};
  std::uint64_t size = 0;
  RingHeader header{};
  bool usable = false;  // the header is right
  bool blank = false;   // nothing of it ever reached the disk
  bool damaged = false;

  std::span<const std::byte> At(std::uint64_t offset, std::uint64_t n) const { return {bytes.get() + offset, n}; }
};

enum class Claim { kOurs, kAlive, kRefused };

bool IsOurs(const struct stat& info) {
  return S_ISREG(info.st_mode) && info.st_uid == geteuid() && (info.st_mode & 077) == 0 && info.st_nlink == 1;
}

// Locks the file if its process is dead. Refused: not a private regular file of this user, or gone meanwhile.
Claim Lock(const std::string& path, DeadFile& file) {
  file.path = path;
  // O_NONBLOCK: a named pipe in this place must not stop us.
  file.fd = RingFd(path, O_RDWR | O_NONBLOCK);
  struct stat info {
  }, named{};
  if (file.fd.get() < 0 || fstat(file.fd.get(), &info) != 0 || !IsOurs(info)) return Claim::kRefused;
  if (flock(file.fd.get(), LOCK_EX | LOCK_NB) != 0) return Claim::kAlive;
  // Somebody else may have finished with it and removed it between our open and our lock.
  if (lstat(path.c_str(), &named) != 0 || named.st_ino != info.st_ino || named.st_dev != info.st_dev) {
    return Claim::kRefused;
  }
  file.size = static_cast<std::uint64_t>(info.st_size);
  return Claim::kOurs;
}

bool HeaderIsRight(const RingHeader& header, std::uint64_t size) {
  if (std::memcmp(header.magic, kRingMagic, sizeof kRingMagic) != 0 || header.version != kRingVersion) return false;
  if (header.checksum != HeaderChecksum(header)) return false;
  if (header.lanes < 1 || header.lanes > kMaxLanesPerFile) return false;
  if (header.lane_bytes < kMinLaneBytes || header.lane_bytes > kMaxLaneBytes) return false;
  if ((header.lane_bytes & (header.lane_bytes - 1)) != 0) return false;
  return size == RingFileBytes(header.lanes, header.lane_bytes) && header.slot < 0x1000000;
}

// What has been written; the rest are zeros.
bool ReadData(DeadFile& file) {
  const int fd = file.fd.get();
  for (std::uint64_t at = 0; at < file.size;) {
    const off_t data = lseek(fd, static_cast<off_t>(at), SEEK_DATA);
    if (data < 0 && errno == ENXIO) return true;  // nothing more
    const off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
    const std::uint64_t end = hole < 0 ? file.size : std::min(file.size, static_cast<std::uint64_t>(hole));
    if (data >= 0) at = static_cast<std::uint64_t>(data);
    while (at < end) {
      const ssize_t n = pread(fd, file.bytes.get() + at, end - at, static_cast<off_t>(at));
      if (n <= 0) return false;
      at += static_cast<std::uint64_t>(n);
    }
  }
  return true;
}

// A private copy: no SIGBUS, and nobody changes it under our feet.
void Read(DeadFile& file) {
  file.blank = file.size == 0;
  file.damaged = !file.blank;
  if (file.size < 2 * kPageBytes || file.size > kMaxFileBytes) return;
  // Zeros that cost nothing until they are touched: most of a file has never been written.
  file.bytes.reset(static_cast<std::byte*>(std::calloc(file.size, 1)));
  if (file.bytes == nullptr || !ReadData(file)) return;
  std::memcpy(&file.header, file.bytes.get(), sizeof file.header);
  const auto page = file.At(0, kPageBytes);
  file.blank = std::ranges::all_of(page, [](std::byte b) { return b == std::byte{0}; });
  // A copy under another name would share the cursors of a ring that may be alive.
  file.usable = HeaderIsRight(file.header, file.size) &&
                file.path.ends_with(std::string("/").append(RingFileName(file.header.ring, file.header.slot)));
  file.damaged = !file.usable && !file.blank;
}

std::string CString(std::span<const char> text) { return {text.begin(), std::ranges::find(text, '\0')}; }

// Every ring file of one dead process.
class DeadRing {
 public:
  DeadRing(SpanExporter& exporter, std::vector<DeadFile> files, RecoveryReport& report)
      : exporter_(exporter), files_(std::move(files)), report_(report) {}

  Status Recover() {
    for (DeadFile& file : files_) Read(file);
    const auto first = std::ranges::find_if(files_, &DeadFile::usable);
    if (first != files_.end()) SPANBOX_RETURN_IF_ERROR(StoreAll(first->header));
    Remove();
    return OkStatus();
  }

 private:
  Status StoreAll(const RingHeader& header) {
    SPANBOX_ASSIGN_OR_RETURN(const RingState state, exporter_.LoadRing(header.ring));
    if (state.retired) return OkStatus();
    SpanJoiner joiner(CString(header.release), CString(header.environment));
    joiner.Restore(state.open);
    turn_ = state.turn;
    OpenLanes(state);
    while (std::ranges::any_of(sources_, [](const auto& s) { return !s.empty(); }) || joiner.has_ready()) {
      SpanBatch batch = NewBatch(header);
      joiner.Begin();
      DrainLanes(sources_, {}, joiner);
      joiner.Finish(batch);
      SPANBOX_RETURN_IF_ERROR(Commit(batch));
    }
    for (bool more = true; more;) {
      SpanBatch batch = NewBatch(header);
      joiner.Begin();
      more = joiner.InterruptAll(batch, std::max(alive_ns_, joiner.last_record_ns()), kBatchSpans);
      if (!more) {
        batch.retire = true;
        batch.process = ProcessJson(header, joiner);
      }
      SPANBOX_RETURN_IF_ERROR(Commit(batch));
    }
    report_.interrupted_spans += joiner.counters().interrupted;
    MarkDamage();
    return OkStatus();
  }

  // Decides how far each lane may be read, and in which order: as in LanePool::LanesToDrain, the overflow lane and
  // lanes left by threads that moved on go first.
  void OpenLanes(const RingState& state) {
    for (std::size_t f = 0; f < files_.size(); ++f) {
      const DeadFile& file = files_[f];
      if (!file.usable) continue;
      const auto boot_id = BootId();
      const bool rebooted = std::memcmp(file.header.boot_id, boot_id.data(), boot_id.size()) != 0;
      ProcessPage process{};
      std::memcpy(static_cast<void*>(&process), file.bytes.get() + kPageBytes, sizeof(ProcessPage));
      if (file.header.slot == 0) alive_ns_ = process.alive_ns.load(std::memory_order_relaxed);
      for (std::uint32_t i = 0; i < file.header.lanes; ++i) {
        // As in LanePool::AllCursors: the overflow lane carries what the process dropped outside lanes.
        const bool overflow = file.header.slot == 0 && i + 1 == file.header.lanes;
        OpenLane(f, i, rebooted, overflow ? &process : nullptr, state);
      }
    }
    std::ranges::stable_sort(origins_, {}, &Origin::order);
    std::vector<LaneSource> ordered;
    for (const Origin& origin : origins_) ordered.push_back(sources_[origin.source]);
    sources_ = std::move(ordered);
  }

  void OpenLane(std::size_t f, std::uint32_t index, bool rebooted, const ProcessPage* process, const RingState& state) {
    const DeadFile& file = files_[f];
    const std::uint64_t at = LaneOffset(index, file.header.lane_bytes);
    LaneControl control{};
    std::memcpy(static_cast<void*>(&control), file.bytes.get() + at, sizeof control);
    LaneSource source;
    source.data = file.At(at + kPageBytes, file.header.lane_bytes);
    const std::uint32_t number = file.header.slot * kLanesPerSlot + index;
    source.seed = RecordSeed(file.header.ring, number);
    if (const auto found = state.cursors.find(number); found != state.cursors.end()) source.cursor = found->second;
    source.cursor.lane = number;
    source.cursor.position &= ~std::uint64_t{7};
    const std::uint64_t head = control.head.load(std::memory_order_relaxed);
    const std::uint64_t end = source.cursor.position + file.header.lane_bytes;
    const bool head_is_true = head >= source.cursor.position && head <= end;
    source.limit = head_is_true && !rebooted ? head : end;
    source.end_limit = source.limit;
    if (!rebooted && head_is_true) {
      std::uint64_t spans = control.dropped_spans.load(std::memory_order_relaxed);
      std::uint64_t bytes = control.dropped_bytes.load(std::memory_order_relaxed);
      if (process != nullptr) {
        spans += process->dropped_spans.load(std::memory_order_relaxed);
        bytes += process->dropped_bytes.load(std::memory_order_relaxed);
      }
      // The counters never go back.
      source.cursor.dropped_spans = std::max(source.cursor.dropped_spans, spans);
      source.cursor.dropped_bytes = std::max(source.cursor.dropped_bytes, bytes);
    }
    if (!head_is_true && !rebooted) bad_heads_.push_back(f);
    const bool closing = control.state.load(std::memory_order_relaxed) == LaneState::kClosing;
    const std::uint64_t closed_order =
        closing ? control.closed_order.load(std::memory_order_relaxed) : ~std::uint64_t{0};
    const std::uint64_t order = process != nullptr ? 0 : closed_order;
    origins_.push_back({sources_.size(), f, rebooted, order});
    sources_.push_back(source);
  }

  SpanBatch NewBatch(const RingHeader& header) {
    SpanBatch batch;
    batch.ring = header.ring;
    batch.turn = turn_ + 1;
    return batch;
  }

  Status Commit(SpanBatch& batch) {
    for (const LaneSource& source : sources_) {
      if (source.used()) batch.cursors.push_back(source.cursor);
    }
    SPANBOX_RETURN_IF_ERROR(exporter_.Commit(batch));
    ++turn_;
    report_.spans += batch.spans.size();
    spans_ += batch.spans.size();
    return OkStatus();
  }

  void MarkDamage() {
    for (const std::size_t f : bad_heads_) files_[f].damaged = true;
    for (std::size_t i = 0; i < sources_.size(); ++i) {
      // After a power loss records may be missing, and that is no damage.
      if (sources_[i].gaps > 0 && !origins_[i].rebooted) files_[origins_[i].file].damaged = true;
    }
  }

  std::string ProcessJson(const RingHeader& header, const SpanJoiner& joiner) const {
    std::uint64_t dropped = 0;
    for (const LaneSource& source : sources_) dropped += source.cursor.dropped_spans;
    std::string json = std::string("{\"pid\":").append(std::to_string(header.pid)).append(",\"exe\":");
    AppendJsonString(CString(header.exe), json);
    json += ",\"started_ns\":" + std::to_string(header.started_ns) + ",\"alive_ns\":" + std::to_string(alive_ns_);
    json += ",\"rescued_spans\":" + std::to_string(spans_ + joiner.counters().interrupted);
    json += ",\"interrupted_spans\":" + std::to_string(joiner.counters().interrupted);
    return json + ",\"dropped_spans\":" + std::to_string(dropped) + "}";
  }

  // Retired, or never readable: the files go, damaged ones aside for whoever wants to look. Slot 0 last, as in
  // LanePool::Close.
  void Remove() {
    for (auto file = files_.rbegin(); file != files_.rend(); ++file) {
      if (!file->damaged) {
        unlink(file->path.c_str());
        continue;
      }
      ++report_.damaged_rings;
      const auto slash = file->path.rfind('/');
      const std::string aside = file->path.substr(0, slash) + "/quarantine";
      mkdir(aside.c_str(), 0700);
      // When this fails the file stays, and is looked at again: better than losing it.
      rename(file->path.c_str(), (aside + file->path.substr(slash)).c_str());
    }
    ++report_.rings;
  }

  struct Origin {  // of sources_[i], at i once they are sorted
    std::size_t source;
    std::size_t file;
    bool rebooted;
    std::uint64_t order;  // all ones: owned or free
  };

  SpanExporter& exporter_;
  std::vector<DeadFile> files_;
  RecoveryReport& report_;
  std::vector<LaneSource> sources_;
  std::vector<Origin> origins_;
  std::vector<std::size_t> bad_heads_;
  std::uint64_t turn_ = 0;
  std::int64_t alive_ns_ = 0;
  std::uint64_t spans_ = 0;
};

// Ring files by process, in the order of their slots; temporary files under the key "".
using Listing = std::map<std::string, std::map<std::uint64_t, std::string>>;

Result<Listing> List(const std::string& ring_dir) {
  DIR* const dir = opendir(ring_dir.c_str());
  if (dir == nullptr) return NotFound("cannot read ring folder " + ring_dir + ": " + std::strerror(errno));
  Listing listing;
  while (const dirent* entry = readdir(dir)) {
    const std::string name = entry->d_name;
    if (name.ends_with(".tmp")) {
      auto& debris = listing[""];
      debris[debris.size()] = name;
    } else if (name.ends_with(".ring")) {
      const std::string stem = name.substr(0, name.size() - 5);
      const auto dash = stem.rfind('-');
      const std::string slot = dash == std::string::npos ? "" : stem.substr(dash + 1);
      const bool numbered =
          !slot.empty() && slot.size() < 8 && slot.find_first_not_of("0123456789") == std::string::npos;
      // A name we did not give stands for itself.
      listing[numbered ? stem.substr(0, dash) : name][numbered ? std::stoul(slot) : 0] = name;
    }
  }
  closedir(dir);
  return listing;
}

void RemoveDebris(const std::string& path) {
  DeadFile file;
  if (Lock(path, file) == Claim::kOurs) unlink(path.c_str());
}

// The files of one process, locked. None: it lives, or another recoverer is at work, or they are not for us.
std::vector<DeadFile> LockAll(const std::string& ring_dir, const Listing::mapped_type& names) {
  std::vector<DeadFile> files;
  for (const auto& [slot, name] : names) {
    DeadFile file;
    const Claim claim = Lock(ring_dir + "/" + name, file);
    if (claim == Claim::kAlive) return {};
    if (claim == Claim::kOurs) files.push_back(std::move(file));
  }
  return files;
}

}  // namespace

namespace {

// The lines of ring_dir/elsewhere.
std::vector<std::string> RingDirsElsewhere(const std::string& ring_dir) {
  std::vector<std::string> dirs;
  const RingFd fd(ring_dir + "/" + kElsewhere, O_RDONLY);
  std::string text(kMaxElsewhereBytes, '\0');
  const ssize_t n = fd.get() < 0 ? 0 : pread(fd.get(), text.data(), text.size(), 0);
  std::string_view rest(text.data(), static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
  for (std::size_t end; (end = rest.find('\n')) != std::string_view::npos; rest.remove_prefix(end + 1)) {
    if (end > 0 && rest[0] == '/') dirs.emplace_back(rest.substr(0, end));
  }
  return dirs;
}

// A folder of ours that nobody else may write: what is in it may be trusted as far as our own files may.
bool IsPrivateDir(const std::string& dir) {
  struct stat info {};
  return lstat(dir.c_str(), &info) == 0 && S_ISDIR(info.st_mode) && info.st_uid == geteuid() &&
         (info.st_mode & 0077) == 0;
}

Status RecoverDir(SpanExporter& exporter, const std::string& ring_dir, RecoveryReport& report) {
  SPANBOX_ASSIGN_OR_RETURN(const Listing listing, List(ring_dir));
  if (const auto debris = listing.find(""); debris != listing.end()) {
    for (const auto& [number, name] : debris->second) RemoveDebris(ring_dir + "/" + name);
  }
  for (auto [process, names] : listing) {
    if (process.empty()) continue;
    std::vector<DeadFile> files = LockAll(ring_dir, names);
    // Until we had its lock the process may have lived, and made files that were not there when we looked.
    while (!files.empty()) {
      SPANBOX_ASSIGN_OR_RETURN(Listing now, List(ring_dir));
      if (now[process] == names) break;
      names = std::move(now[process]);
      files.clear();
      files = LockAll(ring_dir, names);
    }
    if (!files.empty()) SPANBOX_RETURN_IF_ERROR(DeadRing(exporter, std::move(files), report).Recover());
  }
  return OkStatus();
}

}  // namespace

Result<RecoveryReport> RecoverRings(SpanExporter& exporter, const std::string& ring_dir) {
  RecoveryReport report;
  SPANBOX_RETURN_IF_ERROR(RecoverDir(exporter, ring_dir, report));
  for (const std::string& dir : RingDirsElsewhere(ring_dir)) {
    if (IsPrivateDir(dir)) SPANBOX_RETURN_IF_ERROR(RecoverDir(exporter, dir, report));
  }
  return report;
}

Result<std::string> RingDirElsewhere(const std::string& ring_dir, const std::string& elsewhere) {
  if (elsewhere.empty() || elsewhere[0] != '/' || elsewhere.find('\n') != std::string::npos) {
    return InvalidArgument("ring_dir must be an absolute path, not " + elsewhere);
  }
  const std::string home = std::to_string(Hash64(std::as_bytes(std::span(ring_dir))));
  const std::string dir = elsewhere + "/spanbox-" + std::to_string(geteuid()) + "-" + home;
  if (mkdir(dir.c_str(), 0700) != 0 && errno != EEXIST) {
    return Unavailable("cannot make the ring folder " + dir + ": " + std::strerror(errno));
  }
  if (!IsPrivateDir(dir)) return Unavailable("the ring folder " + dir + " is not ours alone; remove it");
  const std::vector<std::string> known = RingDirsElsewhere(ring_dir);
  if (std::ranges::find(known, dir) != known.end()) return dir;
  const std::string line = dir + "\n";
  const RingFd fd(ring_dir + "/" + kElsewhere, O_WRONLY | O_APPEND | O_CREAT, 0600);
  // In one piece, at the end: two processes at once leave two lines.
  if (fd.get() < 0 || write(fd.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size()) ||
      fsync(fd.get()) != 0) {
    return Unavailable("cannot note the ring folder " + dir + " in " + ring_dir + ": " + std::strerror(errno));
  }
  return dir;
}

}  // namespace spanbox
