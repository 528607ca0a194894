// A storm of forks: eight threads record while the parent forks again and again. Recorder and store together.
//
// Children record and leave without cleaning up, or record and become another program, or fork again. Nothing hangs,
// nothing is lost or stored twice, and what a child records goes through a ring of its own.
#include <mutex>
#include <set>

#include "crash_testing.h"

namespace spanbox {
namespace {

constexpr int kForks = 200;
constexpr int kWriters = 8;
constexpr SpanId kChildren = 1ull << 40;  // ids of children's spans are above; those of a child's own children higher
constexpr SpanId kGrandchildren = 1ull << 41;
constexpr int kSpansPerChild = 20;

// The store, and notes of whose ring each span came from.
class NotingStore : public SpanExporter {
 public:
  explicit NotingStore(std::shared_ptr<Store> store) : store_(std::move(store)) {}

  Result<RingState> LoadRing(const RingId& ring) override { return store_->LoadRing(ring); }
  Status Commit(const SpanBatch& batch) override {
    Status status = store_->Commit(batch);
    const std::scoped_lock lock(mutex_);
    if (status.ok()) {
      for (const SpanRow& row : batch.spans) ring_of_[row.span_id] = batch.ring;
    }
    return status;
  }
  std::map<SpanId, RingId> ring_of() const {
    const std::scoped_lock lock(mutex_);
    return ring_of_;
  }

 private:
  const std::shared_ptr<Store> store_;
  mutable std::mutex mutex_;
  std::map<SpanId, RingId> ring_of_;
};

class ForkStormTest : public CrashTest {
 protected:
  void SetUp() override {
#if defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "ThreadSanitizer cannot follow threads started in a forked child (\"dup thread with used id\")";
#elif defined(__SANITIZE_ADDRESS__)
    GTEST_SKIP() << "this AddressSanitizer leaves its allocator locked in a child forked while a thread allocates";
#endif
    CrashTest::SetUp();
  }

  // `children_store`: children commit what they record themselves; otherwise they only leave it in their rings.
  void OpenRecorder(bool children_store) {
    auto store = Store::Open(path);
    ASSERT_TRUE(store.ok());
    noting = std::make_shared<NotingStore>(*store);
    RecorderOptions options;
    options.lane_bytes = 64 << 10;
    options.lanes = 4;
    options.max_ring_bytes = 4 << 20;
    options.commit_interval_ns = 2'000'000;
    options.full_ring_policy = FullRingPolicy::kBlock;
    const pid_t parent = getpid();
    auto opened = Recorder::Open(
        [this, parent, children_store]() -> Result<std::shared_ptr<SpanExporter>> {
          if (getpid() == parent) return std::shared_ptr<SpanExporter>(noting);
          if (!children_store) return Unavailable("this child stores nothing");
          auto own = Store::Open(path);
          if (!own.ok()) return own.status();
          return std::shared_ptr<SpanExporter>(*own);
        },
        ring_dir(), options);
    ASSERT_TRUE(opened.ok());
    recorder = *std::move(opened);
  }

  bool RecordSpan(SpanId id) {
    SpanRow row;
    row.trace_id.bytes[0] = 1;
    row.span_id = id;
    row.name = "work";
    row.start_ns = static_cast<std::int64_t>(id);
    return recorder->Start(row) && recorder->End(id, SpanStatus::kOk, 7, {});
  }
  bool RecordSpans(SpanId base) {
    for (SpanId i = 0; i < kSpansPerChild; ++i) {
      if (!RecordSpan(base + i)) return false;
    }
    return true;
  }

  static SpanId ChildBase(int i) { return kChildren + static_cast<SpanId>(i) * 1000; }
  static SpanId GrandchildBase(int i) { return kGrandchildren + static_cast<SpanId>(i) * 1000; }

  void BeChild(int i) {
    if (!RecordSpans(ChildBase(i))) _exit(1);
    if (i % 3 == 0) _exit(0);
    if (i % 3 == 1) {
      execl("/bin/sh", "sh", "-c", "exit 0", nullptr);
      _exit(2);
    }
    const pid_t grandchild = Fork([&] { _exit(RecordSpans(GrandchildBase(i)) ? 0 : 1); });
    _exit(WaitFor(grandchild) == 0 ? 0 : 3);
  }

  void Storm() {
    std::atomic<bool> stop{false};
    std::vector<std::thread> writers;
    for (int t = 0; t < kWriters; ++t) {
      writers.emplace_back([&] {
        while (!stop) {
          accepted += RecordSpan(++next);
          std::this_thread::yield();
        }
      });
    }
    std::vector<pid_t> children;
    for (int i = 0; i < kForks; ++i) {
      children.push_back(Fork([&] { BeChild(i); }));
      // A few at a time: they share two processors with eight writers.
      if (i % 4 == 3) WaitForAll(children);
    }
    stop = true;
    for (auto& writer : writers) writer.join();
    WaitForAll(children);
  }
  static void WaitForAll(std::vector<pid_t>& children) {
    for (const pid_t child : children) EXPECT_EQ(WaitFor(child), 0) << "a child failed, or hung until its alarm";
    children.clear();
  }

  void Finish() {
    ASSERT_TRUE(recorder->Flush(60'000'000'000).complete);
    // The parent's collector may be at some of them: then the next look finds them gone.
    const auto rings = [&] { return std::distance(std::filesystem::directory_iterator(ring_dir()), {}); };
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    recorder.reset();
    while (rings() > 0 && std::chrono::steady_clock::now() < give_up) {
      ASSERT_TRUE(RecoverRings(*noting, ring_dir()).ok());
    }
    ASSERT_EQ(rings(), 0);
  }

  void ExpectEverySpanOnce() {
    const auto store = Store::Open(path);
    ASSERT_TRUE(store.ok());
    ScanOptions options;
    options.columns = {"span_id", "status"};
    const auto table = Scan(**store, {}, options);
    ASSERT_TRUE(table.ok());
    std::map<SpanId, int> times;
    for (std::uint64_t row = 0; row < table->rows; ++row) {
      ASSERT_EQ(table->columns[1].dictionary[table->columns[1].codes[row]], "ok");
      ++times[*SpanIdFromHex(table->columns[0].dictionary[table->columns[0].codes[row]])];
    }
    const auto expect_once = [&](SpanId id) { ASSERT_EQ(times[id], 1) << "span " << id; };
    ASSERT_EQ(accepted, next);
    for (SpanId id = 1; id <= next; ++id) expect_once(id);
    std::size_t all = next;
    for (int i = 0; i < kForks; ++i) {
      for (SpanId n = 0; n < kSpansPerChild; ++n) {
        expect_once(ChildBase(i) + n);
        if (i % 3 == 2) expect_once(GrandchildBase(i) + n);
        all += i % 3 == 2 ? 2 : 1;
      }
    }
    ASSERT_EQ(times.size(), all) << "spans nobody has recorded";
  }

  std::shared_ptr<NotingStore> noting;
  std::unique_ptr<Recorder> recorder;
  std::atomic<SpanId> next{0};
  std::atomic<std::uint64_t> accepted{0};
};

TEST_F(ForkStormTest, EveryProcessHasItsOwnRingAndNothingIsLost) {
  OpenRecorder(/*children_store=*/false);
  Storm();
  ASSERT_NO_FATAL_FAILURE(Finish());
  ExpectEverySpanOnce();
  std::map<RingId, std::set<SpanId>> writers;  // ring -> processes, by the first of their spans
  for (const auto& [id, ring] : noting->ring_of()) {
    writers[ring].insert(id < kChildren ? 0 : id / 1000 * 1000);
  }
  for (const auto& [ring, who] : writers) EXPECT_EQ(who.size(), 1u) << "a ring with spans of several processes";
  EXPECT_EQ(writers.size(), 1u + kForks + kForks / 3);
}

TEST_F(ForkStormTest, ChildrenThatStoreForThemselvesLoseNothingEither) {
  OpenRecorder(/*children_store=*/true);
  Storm();
  ASSERT_NO_FATAL_FAILURE(Finish());
  ExpectEverySpanOnce();
}

}  // namespace
}  // namespace spanbox
