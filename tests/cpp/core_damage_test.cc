// A store file that a disk has damaged: every question gives an error or rows that were there, the segments that were
// not touched still answer, and the process lives. Also when it goes on writing.
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>

#include "spanbox/query.h"
#include "spanbox/trace.h"
#include "store_test_util.h"

namespace spanbox::testing {
namespace {

constexpr std::size_t kPage = 4096;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::uint64_t kDamages = 40;
#else
constexpr std::uint64_t kDamages = 250;  // make soak: more
#endif

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

std::uint64_t FromEnvironment(const char* name, std::uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

// What children did with their mutations, in memory that outlives them.
struct Tally {
  std::atomic<std::uint64_t> at, refused, failed, answered, wrong, lost;
};

class StoreDamageTest : public ::testing::Test {
 protected:
  void SetUp() override {
    void* const shared =
        mmap(nullptr, sizeof(Tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ASSERT_NE(shared, MAP_FAILED);
    tally_ = new (shared) Tally;
    MakeStore();
  }
  void TearDown() override { munmap(tally_, sizeof(Tally)); }

  // A settled segment with a search filter and text blocks that share a dictionary, a merged one, small ones, rollups,
  // a blob, open spans; and pages that are free.
  void MakeStore() {
    StoreOptions options;
    options.merge_fan_in = 3;
    const auto store = Must(Store::Open(dir_ / "s", options));
    const auto append = [&](std::uint64_t seed, std::size_t count) {
      std::deque<Row> rows;
      ASSERT_OK(store->Append(Borrow(MakeRows(rows, seed, count))));
    };
    std::mt19937_64 random(3);
    for (std::uint64_t i = 0; i < 12; ++i) {
      std::string text;
      while (text.size() < 90'000) text.append(std::to_string(random() % 5000)).append(" refund ");
      Row row(Trace(77), i + 1);
      row.Set(Column::kInput, Value::String(text));
      ASSERT_OK(store->Append(std::vector<SpanRow>{row.row()}));
    }
    for (std::uint64_t seed = 1; seed <= 4; ++seed) append(seed, 60);
    ASSERT_OK(store->Compact());
    before_ = ReadFile(dir_ / "s/data.mdb");
    for (std::uint64_t seed = 11; seed <= 14; ++seed) append(seed, 80);
    (void)Must(store->MergeOnce());
    for (std::uint64_t seed = 21; seed <= 24; ++seed) append(seed, 30);
    SpanBatch batch;
    batch.ring[0] = 1;
    std::deque<Row> dropped;
    MakeRows(dropped, 31, 50);
    batch.sampled_out = Borrow(dropped);
    ASSERT_OK(store->Commit(batch));
    for (const std::string& row : AllRows(*store)) rows_.insert(row);
    count_ = CountRows(*store);
    image_ = ReadFile(dir_ / "s/data.mdb");
    segments_ = Must(store->Read())->segments().size();
    ASSERT_GT(segments_, 4u);
  }

  // Pages that begin like those of LMDB's trees, and the two meta pages: there damage does the most.
  std::vector<std::size_t> TreePages() const {
    std::vector<std::size_t> pages = {0, 1};
    for (std::size_t p = 2; p < image_.size() / kPage; ++p) {
      std::uint64_t number = 0;
      std::uint16_t flags = 0;
      std::memcpy(&number, &image_[p * kPage], sizeof number);
      std::memcpy(&flags, &image_[p * kPage + 10], sizeof flags);
      if (number == p && (flags == 1 || flags == 2)) pages.push_back(p);
    }
    return pages;
  }

  std::string Mutated(std::uint64_t seed) const {
    std::mt19937_64 random(seed);
    std::string image = image_;
    const auto tree = TreePages();
    const std::size_t pages = image.size() / kPage;
    const auto any_page = [&] { return random() % 3 == 0 ? tree[random() % tree.size()] : random() % pages; };
    const std::size_t page = any_page(), offset = random() % kPage;
    char* const at = &image[page * kPage];
    switch (random() % 8) {
      case 0:
      case 1:
        at[offset] = static_cast<char>(at[offset] ^ 1 << random() % 8);
        break;
      case 2:  // in the head of the page, and in its places of nodes
        for (int i = 0; i < 3; ++i) at[random() % 64] = static_cast<char>(random());
        break;
      case 3:
        std::memset(at + offset, random() % 2 == 0 ? 0 : 0xFF,
                    std::min<std::size_t>(kPage - offset, 1 + random() % 600));
        break;
      case 4: {
        const std::size_t other = any_page();
        std::swap_ranges(at, at + kPage, &image[other * kPage]);
        break;
      }
      case 5:  // torn: the new page as far as it came, then what was there before
        if (before_.size() >= (page + 1) * kPage) {
          std::memcpy(at + offset / 512 * 512, &before_[page * kPage + offset / 512 * 512], kPage - offset / 512 * 512);
        }
        break;
      case 6:  // never written
        if (before_.size() >= (page + 1) * kPage) std::memcpy(at, &before_[page * kPage], kPage);
        break;
      default:
        random() % 2 == 0 ? image.resize(random() % image.size()) : (void)std::memset(at, 0, kPage);
    }
    return image;
  }

  // In the child. False: a row that never was.
  void TryOne(std::uint64_t seed) {
    std::filesystem::remove(dir_ / "s/lock.mdb");
    std::ofstream(dir_ / "s/data.mdb", std::ios::binary | std::ios::trunc) << Mutated(seed);
    StoreOptions options;
    options.merge_fan_in = 2;
    const auto opened = Store::Open(dir_ / "s", options);
    if (!opened.ok()) {
      ++tally_->refused;
      return;
    }
    Store& store = **opened;
    ReadAll(store);
    Ask(store);
    if (seed % 4 != 0) return;
    WriteOn(store);  // which costs most
    ReadAll(store);
  }

  void ReadAll(Store& store) {
    const auto view = store.Read();
    if (!view.ok()) {
      ++tally_->failed;
      return;
    }
    for (const SegmentMeta& meta : (*view)->segments()) {
      const auto segment = (*view)->Load(meta);
      const auto rows = segment.ok() ? RowsAsText(*segment) : Result<std::vector<std::string>>(segment.status());
      ++(rows.ok() ? tally_->answered : tally_->failed);
      if (!rows.ok()) continue;
      for (const std::string& row : *rows) tally_->wrong += !rows_.contains(row) && row.find("afterwards") == row.npos;
    }
    for (const SegmentMeta& meta : (*view)->rollups()) {
      if (const auto rollup = (*view)->LoadRollup(meta); rollup.ok()) (void)RowsAsText(*rollup);
    }
  }

  void Ask(Store& store) {
    const auto count = Count(store, {});
    if (count.ok() && *count > count_ + 50) ++tally_->wrong;
    (void)Count(store, {.filter = "duration > 5ms and \"refund\" in input"});
    (void)Scan(store, {}, {.limit = 1000});
    const Aggregate aggregates[] = {{"p", "p99(duration)"}, {"d", "distinct(model)"}, {"n", "count()"}};
    (void)Aggregated(store, {}, {.by = {"name"}}, aggregates);
    (void)Grep(store, {}, "4711 refund", /*regex=*/false, /*ignore_case=*/false, 5);
    (void)SpanIdsOf(store, Trace(77));
    (void)store.Info();
    (void)store.Verify();
  }

  // As a program does that goes on recording.
  void WriteOn(Store& store) {
    for (std::uint64_t i = 0; i < 3; ++i) {
      Row row(Trace(99), 1000 + i);
      row.Set("afterwards", Value::String(std::string(9000, 'a')));
      (void)store.Append(std::vector<SpanRow>{row.row()});
      (void)store.MergeOnce();
    }
    (void)Erase(store, {.filter = "trace_id == \"0000000000000000000000000000004d\""}, /*secure=*/false);
    (void)store.Compact();
  }

  TempDir dir_;
  Tally* tally_ = nullptr;
  std::string image_, before_;
  std::set<std::string> rows_;
  std::uint64_t count_ = 0;
  std::size_t segments_ = 0;
};

TEST_F(StoreDamageTest, EveryAnswerIsAnErrorOrWhatWasThereAndTheProcessLives) {
  const std::uint64_t first = FromEnvironment("SPANBOX_DAMAGE_SEED", 1);
  const std::uint64_t end = first + FromEnvironment("SPANBOX_DAMAGES", kDamages);
  int deaths = 0;
  for (std::uint64_t next = first; next < end && deaths < 10; next = tally_->at + 1) {
    const pid_t child = fork();
    if (child == 0) {
      const rlimit none{0, 0};
      setrlimit(RLIMIT_CORE, &none);
      for (std::uint64_t seed = next; seed < end && seed < next + 100; ++seed) {
        alarm(60);
        tally_->at = seed;
        const std::uint64_t wrong = tally_->wrong;
        TryOne(seed);
        if (tally_->wrong != wrong)
          std::fprintf(stderr, "mutation %llu: a row that never was\n", static_cast<unsigned long long>(seed));
      }
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (status != 0) {
      ++deaths;
      ADD_FAILURE() << "mutation " << tally_->at << " killed the process: " << status;
    }
  }
  std::printf("%llu refused, %llu segments answered, %llu did not\n", static_cast<unsigned long long>(tally_->refused),
              static_cast<unsigned long long>(tally_->answered), static_cast<unsigned long long>(tally_->failed));
  EXPECT_EQ(tally_->wrong, 0u);
  if (end - first >= 200) {  // fewer say nothing
    EXPECT_LT(tally_->refused, (end - first) / 5);
    EXPECT_GT(tally_->answered, 10 * tally_->failed) << "what was not damaged has to answer";
    EXPECT_GT(tally_->failed, 0u);
  }
}

}  // namespace
}  // namespace spanbox::testing
