#include "record/ring.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>

#include "base/clock.h"
#include "record/fork_guard.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace spanbox {
namespace {

constexpr std::uint64_t kHeadBytes =
    64 << 10;  // header, process page, the first lane's control page and some of its data

std::string Hex(const RingId& ring) { return ToHex(TraceId{ring}); }

Status Failed(const std::string& what, const std::string& path, int error) {
  const std::string message = std::string("cannot ").append(what) + " ring file " + path + ": " + std::strerror(error);
  if (error == ENOSPC || error == EDQUOT || error == ENOMEM) {
    return ResourceExhausted(message + "; free space or lower max_ring_bytes");
  }
  if (error == EACCES || error == EPERM || error == EROFS) {
    return PermissionDenied(message + "; make the folder writable for this user");
  }
  return Unavailable(message);
}

void CopyText(std::string_view text, std::span<char> out) {
  const std::size_t n = std::min(text.size(), out.size() - 1);
  std::memcpy(out.data(), text.data(), n);
}

RingHeader MakeHeader(const RingSpec& spec) {
  RingHeader header{};
  std::memcpy(header.magic, kRingMagic, sizeof header.magic);
  header.version = kRingVersion;
  header.slot = spec.slot;
  header.ring = spec.ring;
  const auto boot_id = BootId();
  std::memcpy(header.boot_id, boot_id.data(), boot_id.size());
  header.pid = static_cast<std::uint64_t>(getpid());
  struct stat ns {};
  if (stat("/proc/self/ns/pid", &ns) == 0) header.pid_namespace = ns.st_ino;
  header.started_ns = WallNowNs();
  header.lanes = spec.lanes;
  header.lane_bytes = spec.lane_bytes;
  char exe[sizeof header.exe];
  if (const ssize_t n = readlink("/proc/self/exe", exe, sizeof exe); n > 0) {
    CopyText({exe, static_cast<std::size_t>(n)}, header.exe);
  }
  CopyText(spec.release, header.release);
  CopyText(spec.environment, header.environment);
  header.checksum = HeaderChecksum(header);
  return header;
}

// Real blocks for every byte: a store into the mapping can then not fail for lack of space.
int Allocate(int fd, std::uint64_t bytes) {
  if (fallocate(fd, 0, 0, static_cast<off_t>(bytes)) == 0) return 0;
  if (errno != EOPNOTSUPP && errno != ENOSYS) return errno;
  const std::vector<char> zeros(1 << 16);
  for (std::uint64_t at = 0; at < bytes;) {
    const ssize_t n =
        pwrite(fd, zeros.data(), std::min<std::uint64_t>(zeros.size(), bytes - at), static_cast<off_t>(at));
    if (n <= 0) return n < 0 ? errno : ENOSPC;
    at += static_cast<std::uint64_t>(n);
  }
  return 0;
}

// A kernel before 5.14 does not know it: pages come as they are touched, and fallocate has made that safe.
int PopulateRange(std::byte* base, std::uint64_t bytes) {
  return madvise(base, bytes, MADV_POPULATE_WRITE) == 0 || errno == EINVAL ? 0 : errno;
}

// Maps the file. No fork between the two calls: a child's copy of the mapping would keep the lock for ever.
std::byte* MapPrivatelyToThisProcess(int fd, std::uint64_t bytes) {
  const HoldFork hold;
  void* const base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED) return nullptr;
  madvise(base, bytes, MADV_DONTFORK);
  madvise(base, bytes, MADV_DONTDUMP);  // captured values stay out of core files
  return static_cast<std::byte*>(base);
}

// The first pages of a mapping, and no more: without the advice the kernel reads ahead, some milliseconds' worth.
int PopulateHead(std::byte* base, std::uint64_t bytes) {
  madvise(base, bytes, MADV_RANDOM);
  const int error = PopulateRange(base, std::min<std::uint64_t>(kHeadBytes, bytes));
  madvise(base, bytes, MADV_NORMAL);
  return error;
}

LaneStart StartOf(const RingSpec& spec, std::uint32_t index) {
  return index < spec.starts.size() ? spec.starts[index] : LaneStart{};
}

void StartLane(LaneControl& control, const LaneStart& start) {
  control.head.store(start.position, std::memory_order_relaxed);
  control.tail.store(start.position, std::memory_order_relaxed);
  control.ended_spans.store(start.ended_spans, std::memory_order_relaxed);
  control.dropped_spans.store(start.dropped_spans, std::memory_order_relaxed);
  control.dropped_bytes.store(start.dropped_bytes, std::memory_order_relaxed);
}

void FillHead(const RingSpec& spec, std::byte* base) {
  // A lane that starts at 0 is as its zeros say, and is not touched.
  for (std::uint32_t i = 0; i < std::min<std::size_t>(spec.lanes, spec.starts.size()); ++i) {
    StartLane(*reinterpret_cast<LaneControl*>(base + LaneOffset(i, spec.lane_bytes)), spec.starts[i]);
  }
  const RingHeader header = MakeHeader(spec);
  std::memcpy(base, &header, sizeof header);
}

struct Mapped {
  std::byte* base = nullptr;
  int error = 0;
  const char* what = "";
};

// Makes, locks, fills and maps the file under `temporary`, then gives it its name.
Mapped MakeFile(const RingSpec& spec, const std::string& temporary, const std::string& path, std::uint64_t bytes) {
  RingFd fd(temporary, O_RDWR | O_CREAT | O_EXCL, 0600);
  if (fd.get() < 0) return {nullptr, errno, "create"};
  Mapped made;
  const auto fail = [&](const char* what, int error) {
    if (made.base != nullptr) munmap(made.base, bytes);
    unlink(temporary.c_str());
    return Mapped{nullptr, error, what};
  };
  if (fchmod(fd.get(), 0600) != 0) return fail("set the mode of", errno);
  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) return fail("lock", errno);
  if (const int error = Allocate(fd.get(), bytes); error != 0) return fail("allocate", error);
  made.base = MapPrivatelyToThisProcess(fd.get(), bytes);
  if (made.base == nullptr) return fail("map", errno);
  if (const int error = PopulateHead(made.base, bytes); error != 0) return fail("write", error);
  FillHead(spec, made.base);
  if (rename(temporary.c_str(), path.c_str()) != 0) return fail("name", errno);
  return made;
}

}  // namespace

Lane::Lane(std::uint32_t number, std::uint64_t seed, std::uint64_t lane_bytes, LaneControl& control, std::byte* data,
           const LaneStart& start)
    : number_(number),
      seed_(seed),
      mask_(lane_bytes - 1),
      control_(control),
      data_(data),
      head_(start.position),
      seq_(start.seq),
      limit_(start.position + lane_bytes / 2) {}

void Lane::SetState(LaneState state) {
  state_ = state;
  ever_owned_ = true;
  // Release: whoever sees kClosing, in a dead process's file too, sees the closed_order that was stored before.
  control_.state.store(state, std::memory_order_release);
}

LaneStart Lane::Stop() const {
  constexpr auto kRelaxed = std::memory_order_relaxed;
  return {head_, seq_, control_.ended_spans.load(kRelaxed), control_.dropped_spans.load(kRelaxed),
          control_.dropped_bytes.load(kRelaxed)};
}

Lane::Room Lane::MakeRoom(std::size_t payload_bytes) noexcept {
  const std::uint64_t need = AlignRecord(sizeof(RecordHeader) + payload_bytes);
  const std::uint64_t end = head_ + PadBefore(need) + need;
  // Acquire: the collector has read everything before this tail, so it may be written over.
  const std::uint64_t tail = control_.tail.load(std::memory_order_acquire);
  limit_ = tail + lane_bytes() / 2;
  if (end <= limit_) return Room::kPlenty;
  const std::uint64_t full = tail + lane_bytes();
  // An empty lane takes any record: the largest may need all of it.
  limit_ = tail == head_ ? full : tail + whole_bytes();
  if (end <= limit_) return Room::kPastHalf;
  if (payload_bytes > kShortPayloadBytes || end > full) return Room::kFull;
  limit_ = end;  // for this one
  return Room::kPastHalf;
}

void Lane::CountDrop(RecordType type, std::size_t payload_bytes) noexcept {
  // Relaxed: only the owner writes them, and they order nothing.
  constexpr auto kRelaxed = std::memory_order_relaxed;
  if (LosesSpan(type)) control_.dropped_spans.store(control_.dropped_spans.load(kRelaxed) + 1, kRelaxed);
  control_.dropped_bytes.store(control_.dropped_bytes.load(kRelaxed) + payload_bytes, kRelaxed);
}

void Lane::MarkStored(std::uint64_t position) noexcept {
  if (position <= control_.tail.load(std::memory_order_relaxed)) return;
  // Release: our reads of these bytes come before the owner's next writes to them.
  control_.tail.store(position, std::memory_order_release);
}

std::uint64_t Lane::used_bytes() const {
  // The tail first: it never passes a head read later.
  const std::uint64_t tail = control_.tail.load(std::memory_order_acquire);
  return control_.head.load(std::memory_order_acquire) - tail;
}

std::string RingFileName(const RingId& ring, std::uint32_t slot) {
  return Hex(ring).append("-").append(std::to_string(slot)).append(".ring");
}

std::array<std::uint8_t, 16> BootId() {
  std::array<std::uint8_t, 16> id{};
  const int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return id;
  char text[64];
  const ssize_t n = read(fd, text, sizeof text);
  close(fd);
  std::string digits;
  for (ssize_t i = 0; i < n; ++i) {
    if (text[i] != '-' && text[i] != '\n') digits += text[i];
  }
  if (const auto parsed = TraceIdFromHex(digits)) id = parsed->bytes;
  return id;
}

Result<std::unique_ptr<RingFile>> RingFile::Create(const RingSpec& spec) {
  const std::uint64_t bytes = RingFileBytes(spec.lanes, spec.lane_bytes);
  const std::string path = spec.ring_dir + "/" + RingFileName(spec.ring, spec.slot);
  Mapped made;
  // A recoverer may take the temporary file for debris in the moment before it is locked: then make another.
  for (int attempt = 0; attempt < 3 && made.base == nullptr; ++attempt) {
    made = MakeFile(spec, (path + ".").append(std::to_string(attempt)).append(".tmp"), path, bytes);
    if (made.base == nullptr && made.error != ENOENT && made.error != EEXIST && made.error != EWOULDBLOCK) break;
  }
  if (made.base == nullptr) return Failed(made.what, path, made.error);
  return std::unique_ptr<RingFile>(new RingFile(path, spec, made.base, bytes));
}

Result<std::unique_ptr<RingFile>> RingFile::CreateInMemory(const RingSpec& spec) {
  const std::uint64_t bytes = RingFileBytes(spec.lanes, spec.lane_bytes);
  void* const base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return ResourceExhausted("no memory for a ring; lower max_ring_bytes");
  madvise(base, bytes, MADV_DONTFORK);
  madvise(base, bytes, MADV_DONTDUMP);
  FillHead(spec, static_cast<std::byte*>(base));
  return std::unique_ptr<RingFile>(new RingFile({}, spec, static_cast<std::byte*>(base), bytes));
}

RingFile::RingFile(std::string path, const RingSpec& spec, std::byte* base, std::uint64_t bytes)
    : path_(std::move(path)), slot_(spec.slot), base_(base), bytes_(bytes) {
  for (std::uint32_t i = 0; i < spec.lanes; ++i) {
    const std::uint32_t number = spec.slot * kLanesPerSlot + i;
    std::byte* const at = base + LaneOffset(i, spec.lane_bytes);
    auto& control = *reinterpret_cast<LaneControl*>(at);
    lanes_.push_back(std::make_unique<Lane>(number, RecordSeed(spec.ring, number), spec.lane_bytes, control,
                                            at + kPageBytes, StartOf(spec, i)));
  }
}

RingFile::~RingFile() { munmap(base_, bytes_); }

void RingFile::Populate(const Lane& lane) noexcept {
  PopulateRange(const_cast<std::byte*>(lane.data().data()) - kPageBytes, kPageBytes + lane.lane_bytes());
}

void RingFile::Unlink() noexcept {
  if (!path_.empty()) unlink(path_.c_str());
}

}  // namespace spanbox
