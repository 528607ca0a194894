// What tests of cells share: a store, and every answer that cells can give as one text, to be compared.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "query_testing.h"
#include "store/rollup.h"

namespace spanbox::testing {

inline constexpr std::int64_t kBucket = kRollupBucketNs;

class StoreOfCells : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "spanbox-cells-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    Open();
  }
  void TearDown() override {
    store_.reset();
    std::filesystem::remove_all(folder_);
  }

  void Open(const std::string& name = "store", const StoreOptions& options = {}) {
    store_.reset();
    auto opened = Store::Open((folder_ / name).string(), options);
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    store_ = *opened;
  }

  void Append(const std::vector<Row>& rows) {
    std::vector<std::vector<Field>> fields(rows.size());
    std::vector<SpanRow> spans;
    for (std::size_t i = 0; i < rows.size(); ++i) spans.push_back(SpanRowOf(rows[i], fields[i]));
    ASSERT_TRUE(store_->Append(spans).ok());
  }

  // Bytes of all numbers and texts, so that "nearly" is not enough.
  static std::string AsText(const Table& table) {
    std::string text;
    for (const TableColumn& column : table.columns) {
      text += column.name + ":";
      for (std::size_t row = 0; row < table.rows; ++row) {
        if (!column.valid.empty() && column.valid[row] == 0) {
          text += " -";
        } else if (column.type == TableColumn::Type::kFloat) {
          char number[40];
          snprintf(number, sizeof number, " %.17g", column.floats[row]);
          text += number;
        } else if (column.type == TableColumn::Type::kString) {
          text += " " + column.dictionary[column.codes[row]];
        } else {
          text += " " + std::to_string(column.ints[row]);
        }
      }
      text += "\n";
    }
    return text;
  }

  std::string Answers(SpanQuery query = {}) {
    const std::vector<Aggregate> numbers = {{"n", "count()"},
                                            {"sum", "sum(ttft)"},
                                            {"mean", "mean(duration)"},
                                            {"least", "min(tpot)"},
                                            {"most", "max(duration)"},
                                            {"p50", "p50(ttft)"},
                                            {"p99", "p99(tpot)"},
                                            {"p90", "p90(duration)"},
                                            {"bins", "histogram(duration)"},
                                            {"failed", "rate(status == error)"}};
    std::string text;
    const std::vector<Aggregate> by_bucket(numbers.begin(), numbers.begin() + 7);  // none sketches durations
    for (const char* filter : {"", "kind == llm", "ttft != none", "model == 'large' or kind == tool", "tpot == none"}) {
      for (const Grouping& grouping : std::vector<Grouping>{{},
                                                            {.by = {"model"}},
                                                            {.by = {"status", "kind"}, .every_ns = kBucket},
                                                            {.by = {"model"}, .every_ns = 2 * kBucket}}) {
        query.filter = filter;
        const auto table = Aggregated(*store_, query, grouping, numbers);
        text += std::string(filter) + "\n" + (table.ok() ? AsText(*table) : table.status().message());
        const auto some = Aggregated(*store_, query, grouping, by_bucket);
        text += some.ok() ? AsText(*some) : some.status().message();
      }
      const double qs[] = {0, 0.5, 0.99, 1};
      for (const char* column : {"ttft", "duration"}) {
        const auto quantiles = QuantilesOf(*store_, query, column, qs, false);
        for (const double value : quantiles->values) text += std::to_string(value) + " ";
        text += std::to_string(quantiles->count) + "\n";
      }
    }
    return text;
  }

  std::filesystem::path folder_;
  std::shared_ptr<Store> store_;
};

}  // namespace spanbox::testing
