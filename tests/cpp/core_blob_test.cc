// Blobs from the recorder into the store and back.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <random>

#include "base/record_codec.h"
#include "spanbox/recorder.h"
#include "spanbox/store.h"
#include "store_test_util.h"

namespace spanbox::testing {
namespace {

constexpr std::int64_t kTimeoutNs = 60'000'000'000;

std::string Noise(std::size_t bytes) {
  std::mt19937_64 random(bytes);
  std::string text(bytes, '\0');
  for (std::size_t i = 0; i + 8 <= bytes; i += 8) {
    const std::uint64_t word = random();
    std::memcpy(text.data() + i, &word, sizeof word);
  }
  return text;
}
std::span<const std::byte> AsPayload(const std::string& content) { return std::as_bytes(std::span(content)); }

std::unique_ptr<Recorder> OpenRecorder(const std::shared_ptr<Store>& store, FullRingPolicy policy) {
  RecorderOptions options;
  options.full_ring_policy = policy;
  options.close_timeout_ns = kTimeoutNs;
  return Must(Recorder::Open(store, store->ring_dir(), options));
}

TEST(CoreBlobTest, HundredMebibytesGoThroughTheRingAndAreStoredOnce) {
  TempDir dir;
  const auto store = Must(Store::Open(dir / "s"));
  const std::string content = Noise(100 << 20);
  const BlobId id = BlobIdOf(AsPayload(content));
  std::uint64_t stored = 0;
  for (int round = 0; round < 2; ++round) {
    const auto recorder = OpenRecorder(store, FullRingPolicy::kBlock);  // however slow the disk is
    ASSERT_TRUE(recorder->PutBlob(id, AsPayload(content)));
    ASSERT_TRUE(recorder->Flush(kTimeoutNs).complete);
    EXPECT_EQ(recorder->GetHealth().dropped_bytes, 0u);
    const std::string back = Must(store->ReadBlob(id));
    ASSERT_TRUE(back == content);
    if (round == 0) stored = Must(store->Blobs()).at(0).stored_bytes;
    EXPECT_EQ(Must(store->Blobs()).at(0).stored_bytes, stored);
  }
}

// By default the writer waits a while for the collector, and loses nothing as long as the disk keeps up.
TEST(CoreBlobTest, DefaultPolicyStoresAllOfItOrSaysThatItDidNot) {
  TempDir dir;
  const auto store = Must(Store::Open(dir / "s"));
  const std::string content = Noise(100 << 20);
  const BlobId id = BlobIdOf(AsPayload(content));
  const auto recorder = OpenRecorder(store, FullRingPolicy::kWait);
  const bool accepted = recorder->PutBlob(id, AsPayload(content));
  ASSERT_TRUE(recorder->Flush(kTimeoutNs).complete);
  EXPECT_EQ(store->ReadBlob(id).ok(), accepted);
  EXPECT_EQ(recorder->GetHealth().dropped_bytes == 0, accepted);
}

TEST(CoreBlobTest, ProcessKilledInTheMiddleLeavesAnIncompleteOneThatTheNextCompletes) {
  TempDir dir;
  const auto store = Must(Store::Open(dir / "s"));
  const std::string content = Noise(4 << 20);
  const BlobId id = BlobIdOf(AsPayload(content));
  const pid_t child = fork();
  if (child == 0) {
    const auto own = Must(Store::Open(dir / "s"));
    const auto recorder = OpenRecorder(own, FullRingPolicy::kBlock);
    // Three quarters of it, as if it had been killed then.
    ByteBuffer record;
    for (std::size_t at = 0; at < 3 << 20; at += 64 << 10) {
      WriteBlob({id, content.size(), at, AsPayload(content).subspan(at, 64 << 10)}, record);
      if (!recorder->Append(RecordType::kBlob, record.bytes())) _exit(1);
    }
    kill(getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  ASSERT_TRUE(RecoverRings(*store, store->ring_dir()).ok());
  const Status incomplete = store->ReadBlob(id).status();
  EXPECT_EQ(incomplete.code(), StatusCode::kUnavailable);
  EXPECT_NE(incomplete.message().find("3145728 of 4194304 bytes"), std::string::npos) << incomplete.message();
  EXPECT_TRUE(Must(store->Verify()).problems.empty());
  const auto recorder = OpenRecorder(store, FullRingPolicy::kBlock);
  ASSERT_TRUE(recorder->PutBlob(id, AsPayload(content)));
  ASSERT_TRUE(recorder->Flush(kTimeoutNs).complete);
  EXPECT_TRUE(Must(store->ReadBlob(id)) == content);
}

}  // namespace
}  // namespace spanbox::testing
