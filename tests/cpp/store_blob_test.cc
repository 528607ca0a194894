// Blobs in the store: content comes back as it was or not at all, and is there once however often it was written.
#include <gtest/gtest.h>
#include <lmdb.h>

#include <random>

#include "store/manifest.h"
#include "store_test_util.h"

namespace spanbox::testing {
namespace {

std::string Content(std::size_t bytes, unsigned seed = 1) {
  std::mt19937 random(seed);
  std::string content(bytes, '\0');
  // Half of it compresses.
  for (std::size_t i = 0; i < bytes; ++i) content[i] = i / 4096 % 2 == 0 ? 'a' : static_cast<char>(random());
  return content;
}
std::span<const std::byte> AsPayload(const std::string& content) { return std::as_bytes(std::span(content)); }

std::vector<BlobPiece> Pieces(const std::string& content, std::size_t piece_bytes) {
  const BlobId id = BlobIdOf(AsPayload(content));
  std::vector<BlobPiece> pieces;
  for (std::size_t at = 0; at == 0 || at < content.size(); at += piece_bytes) {
    pieces.push_back(
        {id, content.size(), at, AsPayload(content).subspan(at, std::min(piece_bytes, content.size() - at))});
  }
  return pieces;
}

class BlobTest : public ::testing::Test {
 protected:
  BlobTest() : store_(Must(Store::Open(dir_ / "store"))) {}

  Status Put(std::vector<BlobPiece> pieces) {
    SpanBatch batch;
    batch.blobs = std::move(pieces);
    return store_->Commit(batch);
  }
  // Changes the table behind the store's back.
  void WithTable(const std::function<void(MDB_txn*, MDB_dbi)>& change) {
    store_.reset();
    MDB_env* env = nullptr;
    mdb_env_create(&env);
    mdb_env_set_maxdbs(env, 10);
    ASSERT_EQ(mdb_env_open(env, (dir_ / "store").c_str(), 0, 0600), 0);
    MDB_txn* txn = nullptr;
    MDB_dbi dbi = 0;
    ASSERT_EQ(mdb_txn_begin(env, nullptr, 0, &txn), 0);
    ASSERT_EQ(mdb_dbi_open(txn, "blobs", 0, &dbi), 0);
    change(txn, dbi);
    ASSERT_EQ(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    store_ = Must(Store::Open(dir_ / "store"));
  }

  TempDir dir_;
  std::shared_ptr<Store> store_;
};

TEST_F(BlobTest, ContentOfAnySizeComesBack) {
  for (const std::size_t size : {0, 1, 1000, 4096, 1'000'000}) {
    const std::string content = Content(size);
    ASSERT_OK(Put(Pieces(content, 4096)));
    EXPECT_EQ(Must(store_->ReadBlob(BlobIdOf(AsPayload(content)))), content) << size;
  }
  EXPECT_TRUE(Must(store_->Verify()).problems.empty());
  EXPECT_EQ(Must(store_->Verify()).blobs, 5u);
}

TEST_F(BlobTest, IdIsNamedByItsDigits) {
  const BlobId id = BlobIdOf(AsPayload("hello"));
  EXPECT_EQ(ToHex(id), "b5e9c1ad071b3e7fc779cfaa5e523818");  // xxhsum -H2
  EXPECT_EQ(Must(BlobIdFromHex(ToHex(id))), id);
  EXPECT_EQ(BlobIdFromHex("b5e9").status().code(), StatusCode::kInvalidArgument);
}

TEST_F(BlobTest, SameContentIsStoredOnceInWhateverPieces) {
  const std::string content = Content(1'000'000);
  ASSERT_OK(Put(Pieces(content, 64 << 10)));
  const std::uint64_t stored = Must(store_->Blobs()).at(0).stored_bytes;
  EXPECT_LT(stored, content.size());
  ASSERT_OK(Put(Pieces(content, 64 << 10)));
  ASSERT_OK(Put(Pieces(content, 10'000)));
  EXPECT_EQ(Must(store_->Blobs()).at(0).stored_bytes, stored);
}

TEST_F(BlobTest, IncompleteOneSaysWhatIsThereAndIsCompletedByWhoeverWritesItAgain) {
  const std::string content = Content(100'000);
  const BlobId id = BlobIdOf(AsPayload(content));
  std::vector<BlobPiece> pieces = Pieces(content, 30'000);
  const BlobPiece second = pieces[1];
  pieces.erase(pieces.begin() + 1);
  ASSERT_OK(Put(pieces));
  const Status incomplete = store_->ReadBlob(id).status();
  EXPECT_EQ(incomplete.code(), StatusCode::kUnavailable);
  EXPECT_NE(incomplete.message().find("70000 of 100000 bytes"), std::string::npos) << incomplete.message();
  EXPECT_EQ(Must(store_->Blobs()).at(0).present_bytes, 70'000u);
  EXPECT_TRUE(Must(store_->Verify()).problems.empty());
  // In other pieces, of which some overlap what is there.
  ASSERT_OK(Put(Pieces(content, 16'384)));
  EXPECT_EQ(Must(store_->ReadBlob(id)), content);
  ASSERT_OK(Put({second}));
  EXPECT_EQ(Must(store_->ReadBlob(id)), content);
}

TEST_F(BlobTest, UnknownOneIsNotFound) { EXPECT_EQ(store_->ReadBlob({}).status().code(), StatusCode::kNotFound); }

TEST_F(BlobTest, DamagedPieceIsRefusedAndNamedByVerify) {
  const std::string content = Content(50'000), other = Content(50'000, 2);
  const BlobId id = BlobIdOf(AsPayload(content));
  ASSERT_OK(Put(Pieces(content, 10'000)));
  ASSERT_OK(Put(Pieces(other, 10'000)));
  WithTable([&](MDB_txn* txn, MDB_dbi dbi) {
    const std::string key = BlobKey(id, 20'000);
    MDB_val k{key.size(), const_cast<char*>(key.data())}, v{};
    ASSERT_EQ(mdb_get(txn, dbi, &k, &v), 0);
    std::string value(static_cast<const char*>(v.mv_data), v.mv_size);
    value[value.size() / 2] ^= 1;
    v = {value.size(), value.data()};
    ASSERT_EQ(mdb_put(txn, dbi, &k, &v, 0), 0);
  });
  EXPECT_EQ(store_->ReadBlob(id).status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(Must(store_->ReadBlob(BlobIdOf(AsPayload(other)))), other);
  const VerifyReport report = Must(store_->Verify());
  ASSERT_EQ(report.problems.size(), 1u);
  EXPECT_NE(report.problems[0].find(ToHex(id)), std::string::npos) << report.problems[0];
}

TEST_F(BlobTest, ContentThatIsNotWhatItsNameSaysIsRefused) {
  const std::string content = Content(1000);
  std::vector<BlobPiece> pieces = Pieces(content, 1000);
  pieces[0].id = BlobIdOf(AsPayload("something else"));
  ASSERT_OK(Put(pieces));
  EXPECT_EQ(store_->ReadBlob(pieces[0].id).status().code(), StatusCode::kDataLoss);
}

TEST_F(BlobTest, HostileValuesAreDamageAndNoMore) {
  const std::string content = Content(1000);
  const BlobId id = BlobIdOf(AsPayload(content));
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    std::string value(random() % 60, '\0');
    for (char& c : value) c = static_cast<char>(random() % 4 == 0 ? random() : 0);
    // Half of them with a right checksum: what lies inside lies on purpose.
    if (round % 2 == 0) {
      BlobRecord record{random() % 2 == 0 ? ~std::uint64_t{0} : 4'000'000'000u, 0, static_cast<std::uint32_t>(random()),
                        random() % 2 == 0 ? TextCodec::kZstd : TextCodec::kStored, AsBytes(value)};
      value = Encode(record);
    }
    const auto parsed = ParseBlob(BlobKey(id, random() % 3), AsBytes(value), round % 4 < 2);
    if (parsed.ok()) EXPECT_LE(parsed->raw_bytes, parsed->total_bytes);
    if (round >= 20) continue;
    WithTable([&](MDB_txn* txn, MDB_dbi dbi) {
      const std::string key = BlobKey(id, 0);
      MDB_val k{key.size(), const_cast<char*>(key.data())}, v{value.size(), value.data()};
      ASSERT_EQ(mdb_put(txn, dbi, &k, &v, 0), 0);
    });
    EXPECT_FALSE(store_->ReadBlob(id).ok());
    ASSERT_TRUE(store_->Verify().ok());
    ASSERT_TRUE(store_->Blobs().ok());
  }
}

}  // namespace
}  // namespace spanbox::testing
