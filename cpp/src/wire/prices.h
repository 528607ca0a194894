// Costs of model calls as they are stored: the prices of this process, and what makes a row's cost of its tokens.
//
// Prices of one's own come before the list, which is read from its file when the first call has to be priced.
// Thread rule: any thread. Ownership: Prices lives as long as the program; what AddCost adds lives in the arena.
// Invariants:
//   1. A cost that a row brings stays. One that is computed has cost_source kComputed and a price_version.
//   2. Of a model without a price none is guessed: such a row gets cost_source kUnpriced.
//   3. The lock is held across fork: a child finds neither it nor the lists half changed.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/record_codec.h"
#include "spanbox/span.h"
#include "spanbox/status.h"
#include "wire/price_list.h"

namespace spanbox {

inline constexpr std::string_view kComputed = "computed", kUnpriced = "unpriced";  // values of cost_source
inline constexpr std::string_view kPriceVersion = "price_version";                 // an attribute

class Prices {
 public:
  static Prices& Get();

  // Where the list is. Nothing is read yet; a file that is not there or damaged is no list.
  void SetFile(std::string path);
  // A list whose `own` come first from now on. DataLoss: it is not as it should be, and nothing changes.
  Status SetOwn(std::string_view json);

  struct Call {
    std::string_view provider, model, tier;  // as a span has them; empty: none
    std::int64_t at_ns = 0;
    TokenCounts counts{};
  };
  struct Cost {
    bool known = false;
    bool sure = true;  // false: whether there is a price is not known, as nothing has been read that would tell
    double usd = 0;
    std::string version;
  };
  Cost CostOf(const Call& call);

 private:
  struct Found {                                                      // of a provider, model and tier
    std::vector<std::pair<const OwnPrice*, const ListedModel*>> own;  // with what the list says of OwnPrice::like
    const ListedModel* listed = nullptr;
  };
  Prices();
  const PriceList* List();
  const Found& FindModel(const Call& call);

  std::mutex mutex_;  // what follows
  std::string file_;
  bool tried_ = false;
  std::unique_ptr<const PriceList> list_, own_;
  std::unordered_map<std::string, Found> found_;
};

// Adds the cost of a model call that has tokens and none, or says that there is no price.
void AddCost(SpanRow& row, RowArena& arena);

// The same for rows that come one after the other: one that was returned lives until the next call.
class RowPricer {
 public:
  const SpanRow& Priced(const SpanRow& row) {
    arena_.Reset();
    row_ = row;
    AddCost(row_, arena_);
    return row_;
  }

 private:
  RowArena arena_;
  SpanRow row_;
};

// A RowFinisher: AddColumnsOfAttributes, AddCost, and what wire/withheld.h says of texts that wait for a stage.
void FinishRow(SpanRow& row, RowArena& arena);

}  // namespace spanbox
