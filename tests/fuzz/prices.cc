// Lists of prices: what is accepted prices a call, or says that there is no price.
#include "fuzz.h"
#include "wire/price_list.h"

using namespace spanbox;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string json(reinterpret_cast<const char*>(data), size);
  const auto list = PriceList::Parse(json);
  if (!list.ok()) return 0;
  const TokenCounts counts = {2000, 100, 50, 300, 20};
  const auto cost = [&](const DatedPrice& price) {
    if (price.Holds("", 2000) && price.rate != nullptr) (void)price.rate->CostOf(counts);
  };
  const std::string provider = (*list)->ProviderId("openai");
  (void)(*list)->TierOf("batch");
  bool borrowed = false;
  for (const char* model : {"gpt-5", "o3", "x"}) {
    if (const ListedModel* listed = (*list)->Find(provider, model, borrowed); listed != nullptr) {
      for (const DatedPrice& price : listed->prices) cost(price);
    }
    for (const OwnPrice& own : (*list)->own()) {
      if (own.matches.Matches(model) || own.matches_alone.Matches(model)) cost(own.price);
    }
  }
  return 0;
}
