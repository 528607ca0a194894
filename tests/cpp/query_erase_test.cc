// What leaves a store is gone, and nothing else is: retention, erased rows, wiped pages, backups.
#include <fstream>
#include <iterator>

#include "spanbox/query.h"
#include "store_test_util.h"

namespace spanbox::testing {
namespace {

std::string BytesOf(const std::filesystem::path& folder) {
  std::string bytes;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream file(entry.path(), std::ios::binary);
    bytes.append(std::istreambuf_iterator<char>(file), {});
  }
  return bytes;
}

// As a short string it stands in its column as it is, so it can be looked for.
std::string Canary(std::uint64_t n) { return "canary-" + std::to_string(n * 0x9E3779B97F4A7C15); }

class EraseTest : public ::testing::Test {
 protected:
  EraseTest() : store_(Must(Store::Open(dir_ / "s", {.merge_fan_in = 4}))) {}

  // Thirty spans a commit, ten of each of three users, an hour a commit.
  void Fill(std::uint64_t commits) {
    for (std::uint64_t n = 0; n < commits; ++n) {
      std::deque<Row> rows;
      for (std::uint64_t i = 0; i < 30; ++i) {
        const std::uint64_t id = n * 30 + i + 1;
        rows.emplace_back(Trace(id / 3), id)
            .Start(static_cast<std::int64_t>(n) * kHourNs)
            .Set(Column::kUserId, Value::String("user-" + std::to_string(i % 3)))
            .Set(Column::kSessionId, Value::String(Canary(id)))
            .Set(Column::kInput, Value::String("said by " + Canary(id)));
      }
      ASSERT_OK(store_->Append(Borrow(rows)));
    }
  }

  static constexpr std::int64_t kHourNs = 3'600'000'000'000;
  TempDir dir_;
  std::shared_ptr<Store> store_;
};

TEST_F(EraseTest, RemovesTheSpansOfOneUserAndNoOthers) {
  Fill(9);
  ASSERT_TRUE(Must(store_->MergeOnce()));
  const Erased erased = Must(Erase(*store_, {.filter = "user_id == \"user-1\""}, false));
  EXPECT_EQ(erased.spans, 90u);
  EXPECT_EQ(Must(Count(*store_, {.filter = "user_id == \"user-1\""})), 0u);
  EXPECT_EQ(Must(Count(*store_, {})), 180u);
  EXPECT_EQ(Must(Erase(*store_, {.filter = "user_id == \"user-1\""}, false)).spans, 0u);
  EXPECT_EQ(Must(store_->Verify()).problems, std::vector<std::string>{});
}

TEST_F(EraseTest, RemovesOnlyWhatStartedInTheAskedTime) {
  Fill(4);
  EXPECT_EQ(
      Must(Erase(*store_, {.filter = "user_id != none", .since_ns = kHourNs, .until_ns = 3 * kHourNs}, false)).spans,
      60u);
  EXPECT_EQ(Must(Count(*store_, {})), 60u);
}

TEST_F(EraseTest, RefusesToEraseEverythingByAnEmptyFilter) {
  Fill(1);
  EXPECT_EQ(Erase(*store_, {}, false).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Erase(*store_, {.filter = "user_id = 3"}, false).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Must(Count(*store_, {})), 30u);
}

TEST_F(EraseTest, SecurelyErasedTextIsNowhereInTheFolder) {
  Fill(12);
  while (Must(store_->MergeOnce())) {
  }
  Fill(3);
  ASSERT_OK(store_->Compact());
  ASSERT_NE(BytesOf(dir_ / "s").find(Canary(2)), std::string::npos) << "the test can find what is there";
  const Erased erased = Must(Erase(*store_, {.filter = "user_id == \"user-1\""}, true));
  EXPECT_EQ(erased.spans, 150u);
  const std::string bytes = BytesOf(dir_ / "s");
  for (std::uint64_t id = 1; id <= 360; ++id) {
    if ((id - 1) % 30 % 3 == 1) EXPECT_EQ(bytes.find(Canary(id)), std::string::npos) << id;
  }
  EXPECT_EQ(Must(Count(*store_, {})), 300u);
  EXPECT_EQ(Must(store_->Verify()).problems, std::vector<std::string>{});
  Fill(1);
  EXPECT_EQ(Must(Count(*store_, {})), 330u);
}

TEST_F(EraseTest, WipingGrowsTheFileLittleAndTwiceNoMore) {
  Fill(40);
  ASSERT_OK(store_->Compact());
  ASSERT_OK(store_->WipeFreeSpace());
  const std::uint64_t once = Must(store_->Info()).file_bytes;
  ASSERT_OK(store_->WipeFreeSpace());
  EXPECT_LE(Must(store_->Info()).file_bytes, once + (1u << 20));
}

TEST_F(EraseTest, BlobsThatOnlyErasedSpansNameGoWithThem) {
  const auto put = [&](std::string_view content, std::uint64_t turn) {
    const BlobId id = BlobIdOf(std::as_bytes(std::span(content)));
    SpanBatch batch;
    batch.ring[0] = 1;
    batch.turn = turn;
    batch.blobs = {{id, content.size(), 0, std::as_bytes(std::span(content))}};
    EXPECT_TRUE(store_->Commit(batch).ok());
    return id;
  };
  const BlobId own = put("a document of user one", 1), shared = put("a document of both", 2);
  const std::string own_text = R"({"$blob": ")" + ToHex(own) + R"(", "bytes": 22})";
  const std::string shared_text = R"({"$blob":")" + ToHex(shared) + R"(","bytes":18})";
  std::deque<Row> rows;
  rows.emplace_back(Trace(1), 1)
      .Set(Column::kUserId, Value::String("one"))
      .Set(Column::kInput, Value::Json(own_text))
      .Set(Column::kOutput, Value::Json(shared_text));
  rows.emplace_back(Trace(1), 2)
      .Set(Column::kUserId, Value::String("two"))
      .Set(Column::kInput, Value::Json(shared_text));
  ASSERT_OK(store_->Append(Borrow(rows)));
  const Erased erased = Must(Erase(*store_, {.filter = "user_id == \"one\""}, true));
  EXPECT_EQ(erased.blobs, 1u);
  EXPECT_EQ(store_->ReadBlob(own).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(Must(store_->ReadBlob(shared)), "a document of both");
  EXPECT_EQ(BytesOf(dir_ / "s").find("user one"), std::string::npos);
}

TEST_F(EraseTest, RetentionDropsSegmentsOfTheirAge) {
  Fill(6);
  EXPECT_EQ(Must(store_->DropExpired(100 * kHourNs)), 0u) << "without a limit";
  ASSERT_OK(store_->SetRetention({.max_age_ns = 2 * kHourNs}));
  EXPECT_EQ(Must(store_->GetRetention()).max_age_ns, 2 * kHourNs);
  EXPECT_EQ(Must(store_->DropExpired(5 * kHourNs)), 90u);
  EXPECT_EQ(Must(Count(*store_, {})), 90u);
  EXPECT_EQ(Must(store_->DropExpired(5 * kHourNs)), 0u);
  EXPECT_EQ(store_->SetRetention({.max_age_ns = -1}).code(), StatusCode::kInvalidArgument);
}

TEST_F(EraseTest, RetentionDropsTheOldestBeyondItsBytes) {
  Fill(10);
  const auto info = Must(store_->Info());
  ASSERT_OK(store_->SetRetention({.max_bytes = (info.column_bytes + info.text_bytes) / 2}));
  EXPECT_EQ(Must(store_->DropExpired(0)), 150u);
  EXPECT_EQ(Must(Count(*store_, {.since_ns = 5 * kHourNs})), 150u);
}

TEST_F(EraseTest, RetentionIsSeenToInTheBackground) {
  Fill(2);
  ASSERT_OK(store_->SetRetention({.max_age_ns = 1}));
  (void)Must(store_->DoBackgroundWork());
  EXPECT_EQ(Must(Count(*store_, {})), 0u);
}

TEST_F(EraseTest, BackupIsAWholeStoreAndSmaller) {
  Fill(20);
  ASSERT_OK(store_->Compact());
  const std::string path = dir_ / "copy";
  ASSERT_OK(store_->Backup(path));
  EXPECT_EQ(store_->Backup(path).code(), StatusCode::kInvalidArgument) << "it is there already";
  const auto copy = Must(Store::Open(path, {.create_if_missing = false}));
  EXPECT_EQ(AllRows(*copy), AllRows(*store_));
  EXPECT_EQ(Must(copy->Verify()).problems, std::vector<std::string>{});
  EXPECT_LT(Must(copy->Info()).file_bytes, Must(store_->Info()).file_bytes);
  EXPECT_EQ(std::filesystem::status(path).permissions(), std::filesystem::perms::owner_all);
  EXPECT_EQ(std::filesystem::status(path + "/data.mdb").permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

}  // namespace
}  // namespace spanbox::testing
