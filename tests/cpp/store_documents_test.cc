// Documents: versions that stay, whoever puts them, and of two who change what they have read one is refused.
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "store_test_util.h"

namespace spanbox::testing {
namespace {

class DocumentsTest : public ::testing::Test {
 protected:
  DocumentsTest() : store_(Must(Store::Open(dir_ / "s"))) {}

  std::string Newest(std::string_view kind, std::string_view name) {
    const auto found = store_->GetDocument(kind, name);
    return found.ok() ? std::to_string(found->version) + " " + found->json : found.status().message();
  }

  TempDir dir_;
  std::shared_ptr<Store> store_;
};

TEST_F(DocumentsTest, EveryVersionStays) {
  EXPECT_EQ(Must(store_->PutDocument("prompt", "a", R"({"v":1})", 10)), 1u);
  EXPECT_EQ(Must(store_->PutDocument("prompt", "a", R"({"v":2})", 20)), 2u);
  EXPECT_EQ(Must(store_->PutDocument("prompt", "a:b", "3", 30)), 1u);
  EXPECT_EQ(Must(store_->PutDocument("prompts", "a", "4", 40)), 1u);
  const Document first = Must(store_->GetDocument("prompt", "a", 1));
  EXPECT_EQ(first.kind + " " + first.name + " " + first.json, R"(prompt a {"v":1})");
  EXPECT_EQ(first.at_ns, 10);
  EXPECT_EQ(Newest("prompt", "a"), R"(2 {"v":2})");
  EXPECT_EQ(store_->GetDocument("prompt", "a", 3).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(store_->GetDocument("prompt", "c").status().code(), StatusCode::kNotFound);
  const auto all = Must(store_->Documents("prompt"));
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].name + all[0].json + " " + all[1].name + all[1].json, R"(a{"v":2} a:b3)");
  EXPECT_TRUE(Must(store_->Documents("other")).empty());
}

TEST_F(DocumentsTest, DeletionIsAVersion) {
  ASSERT_OK(store_->PutDocument("rule", "slow", "1", 1).status());
  EXPECT_EQ(Must(store_->DeleteDocument("rule", "slow", 2)), 2u);
  EXPECT_NE(Newest("rule", "slow").find("deleted by version 2"), std::string::npos) << Newest("rule", "slow");
  EXPECT_EQ(Must(store_->GetDocument("rule", "slow", 1)).json, "1");
  EXPECT_TRUE(Must(store_->Documents("rule")).empty());
  EXPECT_EQ(store_->DeleteDocument("rule", "slow", 3).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(store_->DeleteDocument("rule", "never", 3).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(Must(store_->PutDocument("rule", "slow", "3", 4)), 3u);
  const auto history = Must(store_->DocumentHistory("rule", "slow"));
  ASSERT_EQ(history.size(), 3u);
  EXPECT_TRUE(!history[0].deleted && history[1].deleted && !history[2].deleted);
}

TEST_F(DocumentsTest, ExpectedVersionThatIsNotTheNewestStoresNothing) {
  EXPECT_EQ(Must(store_->PutDocument("k", "n", "1", 0, 0)), 1u);
  const Status refused = store_->PutDocument("k", "n", "2", 0, 0).status();
  EXPECT_EQ(refused.code(), StatusCode::kUnavailable);
  EXPECT_NE(refused.message().find("at version 1, not at 0"), std::string::npos) << refused.message();
  EXPECT_EQ(store_->DeleteDocument("k", "n", 0, 2).status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(Must(store_->PutDocument("k", "n", "2", 0, 1)), 2u);
  EXPECT_EQ(Must(store_->DeleteDocument("k", "n", 0, 2)), 3u);
  EXPECT_EQ(Must(store_->PutDocument("k", "n", "4", 0, 0)), 4u) << "a deleted one is none";
  EXPECT_EQ(Must(store_->DocumentHistory("k", "n")).size(), 4u);
}

TEST_F(DocumentsTest, WhatIsNoNameOrNoJsonIsRefused) {
  const std::string longest(64, 'x');
  EXPECT_TRUE(store_->PutDocument(longest, longest, "1", 0).ok());
  EXPECT_EQ(Newest(longest, longest), "1 1");
  for (const std::string& name : {std::string(), longest + "x", std::string("a b"), std::string("a/b"),
                                  std::string("é"), std::string("a\0b", 3)}) {
    EXPECT_EQ(store_->PutDocument("k", name, "1", 0).status().code(), StatusCode::kInvalidArgument) << name;
    EXPECT_EQ(store_->PutDocument(name, "n", "1", 0).status().code(), StatusCode::kInvalidArgument) << name;
    EXPECT_EQ(store_->GetDocument("k", name).status().code(), StatusCode::kInvalidArgument) << name;
    EXPECT_EQ(store_->Documents(name).status().code(), StatusCode::kInvalidArgument) << name;
  }
  for (const std::string json : {"", "{", "nul", "{\"a\":1}x", "\xFF"}) {
    EXPECT_EQ(store_->PutDocument("k", "n", json, 0).status().code(), StatusCode::kInvalidArgument) << json;
  }
  const std::string largest = '"' + std::string(kMaxDocumentBytes - 2, 'x') + '"';
  EXPECT_TRUE(store_->PutDocument("k", "n", largest, 0).ok());
  EXPECT_EQ(Must(store_->GetDocument("k", "n")).json, largest);
  EXPECT_EQ(store_->PutDocument("k", "n", largest + " ", 0).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(DocumentsTest, OutliveCompactionWipingRetentionAndBackups) {
  for (int n = 1; n <= 300; ++n) {
    ASSERT_OK(store_->PutDocument("k", "n" + std::to_string(n % 7), std::to_string(n), n).status());
    std::deque<Row> rows;
    if (n % 30 == 0) ASSERT_OK(store_->Append(Borrow(MakeRows(rows, static_cast<std::uint64_t>(n), 20))));
  }
  ASSERT_OK(store_->Compact());
  ASSERT_OK(store_->WipeFreeSpace());
  ASSERT_OK(store_->SetRetention({.max_bytes = 1}));
  ASSERT_OK(store_->DropExpired(0).status());
  ASSERT_OK(store_->Backup(dir_ / "copy"));
  store_.reset();
  for (const char* folder : {"s", "copy"}) {
    store_ = Must(Store::Open(dir_ / folder));
    EXPECT_EQ(Must(store_->Documents("k")).size(), 7u);
    EXPECT_EQ(Newest("k", "n6"), "43 300");
    const VerifyReport report = Must(store_->Verify());
    EXPECT_EQ(report.documents, 300u);
    EXPECT_EQ(report.problems, std::vector<std::string>{});
    store_.reset();
  }
}

TEST_F(DocumentsTest, CountersOfProcessesThatCheckTheVersionLoseNoStep) {
  constexpr int kProcesses = 4, kSteps = 50;
  std::vector<pid_t> children;
  for (int p = 0; p < kProcesses; ++p) {
    const pid_t pid = fork();
    if (pid == 0) {
      alarm(120);
      const auto store = Store::Open(dir_ / "s");
      if (!store.ok()) _exit(1);
      for (int step = 0; step < kSteps;) {
        const auto now = (*store)->GetDocument("counter", "c");
        const int count = now.ok() ? std::stoi(now->json) : 0;
        const auto put =
            (*store)->PutDocument("counter", "c", std::to_string(count + 1), 0, now.ok() ? now->version : 0);
        if (put.ok()) ++step;
        if (!put.ok() && put.status().code() != StatusCode::kUnavailable) _exit(2);
      }
      _exit(0);
    }
    children.push_back(pid);
  }
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  EXPECT_EQ(Newest("counter", "c"), "200 200");
}

TEST_F(DocumentsTest, KilledProcessLeavesWholeVersionsAndAllItWasToldOf) {
  for (int round = 0; round < 5; ++round) {
    int said[2];
    ASSERT_EQ(pipe(said), 0);
    const pid_t pid = fork();
    if (pid == 0) {
      alarm(60);
      const auto store = Store::Open(dir_ / "s");
      for (;;) {
        const auto version = (*store)->PutDocument("k", "n", '"' + std::string(20'000, 'x') + '"', 0);
        if (!version.ok() || write(said[1], &*version, sizeof *version) < 0) _exit(1);
      }
    }
    std::uint64_t told = 0;
    for (int n = 0; n < 5 + round; ++n) ASSERT_EQ(read(said[0], &told, sizeof told), static_cast<int>(sizeof told));
    kill(pid, SIGKILL);
    int status = 0;
    waitpid(pid, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status));
    // Others may have come between the last word and the end.
    const auto history = Must(store_->DocumentHistory("k", "n"));
    ASSERT_GE(history.size(), told);
    for (std::size_t i = 0; i < history.size(); ++i) {
      ASSERT_EQ(history[i].version, i + 1);
      ASSERT_EQ(history[i].json.size(), 20'002u);
    }
    close(said[0]);
    close(said[1]);
  }
}

// A version whose bytes were damaged is told, and is in nobody's way.
TEST_F(DocumentsTest, DamagedVersionIsToldAndTheNextCanBePut) {
  ASSERT_OK(store_->PutDocument("k", "n", "\"first of all\"", 0).status());
  ASSERT_OK(store_->PutDocument("k", "other", "2", 0).status());
  store_.reset();
  {
    std::fstream file(dir_ / "s/data.mdb", std::ios::in | std::ios::out | std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    std::size_t found = 0;
    for (std::size_t at = 0; (at = bytes.find("first of all", at)) != std::string::npos; ++at, ++found) {
      file.seekp(static_cast<std::streamoff>(at));
      file.put('F');
    }
    ASSERT_GT(found, 0u);
  }
  store_ = Must(Store::Open(dir_ / "s"));
  EXPECT_EQ(store_->GetDocument("k", "n").status().code(), StatusCode::kDataLoss);
  const VerifyReport report = Must(store_->Verify());
  ASSERT_EQ(report.problems.size(), 1u);
  EXPECT_NE(report.problems[0].find("version 1 of the k document n"), std::string::npos) << report.problems[0];
  EXPECT_EQ(Must(store_->PutDocument("k", "n", "3", 0)), 2u);
  EXPECT_EQ(Must(store_->Documents("k")).size(), 2u);
}

}  // namespace
}  // namespace spanbox::testing
