// Feeds of a store: what a consumer has taken of it, and what waits.
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "casters.h"
#include "query.h"

namespace py = pybind11;

namespace spanbox::python {
namespace {

constexpr const char* kOf[] = {"spans", "rollups", "scores"};

py::dict FeedDict(PyStore& self, const std::string& name) {
  using namespace py::literals;
  const Feed feed = Unwrap(WithoutGil([&] { return self.store->ReadFeed(name); }));
  py::list waiting;
  for (const FeedSegment& segment : feed.waiting) {
    waiting.append(py::make_tuple(segment.id, segment.rows, kOf[static_cast<std::size_t>(segment.of)]));
  }
  return py::dict("turn"_a = feed.turn, "state"_a = py::bytes(feed.state), "taking"_a = feed.taking,
                  "taken_rows"_a = feed.taken_rows, "waiting"_a = waiting);
}

// False: another step was taken, or a segment merged, since the feed was read.
bool Advance(PyStore& self, const std::string& name, std::uint64_t turn, std::vector<std::uint64_t> taken,
             std::uint64_t taking, std::uint64_t taken_rows, const py::bytes& state) {
  const FeedStep step{turn, std::move(taken), taking, taken_rows, std::string(state)};
  const Status status = WithoutGil([&] { return self.store->AdvanceFeed(name, step); });
  if (status.code() == StatusCode::kUnavailable) return false;
  Check(status);
  return true;
}

}  // namespace

void RegisterFeeds(py::class_<PyStore>& store) {
  using namespace py::literals;
  store.def("feed", FeedDict, "name"_a)
      .def("advance_feed", Advance, "name"_a, "turn"_a, "taken"_a, "taking"_a, "taken_rows"_a, "state"_a)
      .def(
          "drop_feed",
          [](PyStore& self, const std::string& name) { Check(WithoutGil([&] { return self.store->DropFeed(name); })); },
          "name"_a)
      .def("feeds", [](PyStore& self) { return Unwrap(WithoutGil([&] { return self.store->Feeds(); })); });
}

}  // namespace spanbox::python
