// Arrow data of hostile or broken producers: refused with a reason, and released exactly once.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/moment.h"
#include "query/arrow_column.h"
#include "query/ingest.h"
#include "spanbox/query.h"

namespace spanbox {
namespace {

// One column named x beside start_ns, as a producer would lay it out; tests spoil parts of it.
struct Producer {
  struct Column {
    std::string format, name;
    ArrowSchema schema{};
    ArrowArray array{};
    std::vector<const void*> buffers;
    std::vector<ArrowSchema*> schema_children;
    std::vector<ArrowArray*> array_children;
  };

  Producer() {
    table.format = "+s";
    table.buffers = {nullptr};
    start.format = "l";
    start.name = "start_ns";
    start.buffers = {nullptr, starts.data()};
    x.name = "x";
  }

  static void ReleaseSchema(ArrowSchema* schema) {
    ++*static_cast<int*>(schema->private_data);
    schema->release = nullptr;
  }
  static void ReleaseArray(ArrowArray* array) {
    ++*static_cast<int*>(array->private_data);
    array->release = nullptr;
  }

  void Prepare(Column& column, std::vector<Column*> children) {
    column.schema = {.format = column.format.c_str(),
                     .name = column.name.c_str(),
                     .metadata = nullptr,
                     .flags = 2,
                     .n_children = static_cast<std::int64_t>(children.size()),
                     .children = nullptr,
                     .dictionary = nullptr,
                     .release = ReleaseSchema,
                     .private_data = &released_children};
    column.array = {.length = rows,
                    .null_count = -1,
                    .offset = 0,
                    .n_buffers = static_cast<std::int64_t>(column.buffers.size()),
                    .n_children = static_cast<std::int64_t>(children.size()),
                    .buffers = column.buffers.data(),
                    .children = nullptr,
                    .dictionary = nullptr,
                    .release = ReleaseArray,
                    .private_data = &released_children};
    for (Column* child : children) {
      column.schema_children.push_back(&child->schema);
      column.array_children.push_back(&child->array);
    }
    column.schema.children = column.schema_children.data();
    column.array.children = column.array_children.data();
  }

  // The stream; `spoil` changes what has been prepared.
  ArrowArrayStream Stream(const std::function<void(Producer&)>& spoil = {}) {
    Prepare(start, {});
    Prepare(x, inner.format.empty() ? std::vector<Column*>{} : std::vector<Column*>{&inner});
    Prepare(inner, {});
    Prepare(table, {&start, &x});
    table.schema.private_data = &released_schemas;
    table.array.private_data = &released_arrays;
    if (spoil) spoil(*this);
    return {.get_schema =
                [](ArrowArrayStream* self, ArrowSchema* out) {
                  *out = static_cast<Producer*>(self->private_data)->table.schema;
                  return 0;
                },
            .get_next =
                [](ArrowArrayStream* self, ArrowArray* out) {
                  auto* producer = static_cast<Producer*>(self->private_data);
                  if (producer->error != 0) return producer->error;
                  *out = producer->given++ == 0 ? producer->table.array : ArrowArray{};
                  return 0;
                },
            .get_last_error = [](ArrowArrayStream*) -> const char* { return "the producer's own words"; },
            .release =
                [](ArrowArrayStream* self) {
                  ++static_cast<Producer*>(self->private_data)->released_streams;
                  self->release = nullptr;
                },
            .private_data = this};
  }

  std::int64_t rows = 3;
  std::vector<std::int64_t> starts = {1, 2, 3};
  Column table, start, x, inner;
  int error = 0, given = 0;
  int released_streams = 0, released_schemas = 0, released_arrays = 0, released_children = 0;
};

class ArrowInTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string folder = (std::filesystem::temp_directory_path() / "spanbox-arrow-XXXXXX").string();
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    folder_ = folder;
    auto store = Store::Open(folder + "/store");
    ASSERT_TRUE(store.ok()) << store.status().message();
    store_ = *store;
  }
  void TearDown() override {
    store_.reset();
    std::filesystem::remove_all(folder_);
  }

  // What ingesting says; checks that everything was released once.
  std::string Message(Producer& producer, const std::function<void(Producer&)>& spoil = {}) {
    ArrowArrayStream stream = producer.Stream(spoil);
    std::string message;
    {
      auto ingest = Ingest::Start(store_, "", false);
      EXPECT_TRUE(ingest.ok());
      Status status = (*ingest)->TakeArrow(&stream);
      EXPECT_EQ(stream.release, nullptr) << "the stream was moved";
      while (status.ok()) {
        const Result<bool> more = (*ingest)->Step();
        if (!more.ok()) status = more.status();
        if (more.ok() && !*more) break;
      }
      message = status.message();
    }
    EXPECT_EQ(producer.released_streams, 1);
    EXPECT_EQ(producer.released_schemas, 1);
    EXPECT_EQ(producer.released_arrays, producer.given > 0 ? 1 : 0);
    EXPECT_EQ(producer.released_children, 0) << "children belong to their parent";
    return message;
  }

  std::uint64_t Stored() { return *Count(*store_, {}); }

  std::string folder_;
  std::shared_ptr<Store> store_;
};

struct Texts {
  std::vector<std::int32_t> offsets = {0, 1, 1, 4};
  std::string text = "abcd";

  void PutInto(Producer& producer) {
    producer.x.format = "u";
    producer.x.buffers = {nullptr, offsets.data(), text.data()};
  }
};

TEST_F(ArrowInTest, SoundTableIsStoredAndReleasedOnce) {
  Producer producer;
  Texts texts;
  texts.PutInto(producer);
  EXPECT_EQ(Message(producer), "");
  EXPECT_EQ(Stored(), 3u);
}

TEST_F(ArrowInTest, FailureOfTheProducerIsToldAndReleasesTheStream) {
  Producer producer;
  Texts texts;
  texts.PutInto(producer);
  producer.error = 5;
  EXPECT_EQ(Message(producer), "the Arrow stream failed: the producer's own words");
}

TEST_F(ArrowInTest, OffsetsAndLengthsThatCannotBeAreRefused) {
  using Spoil = std::function<void(Producer&, Texts&)>;
  const std::vector<std::pair<Spoil, std::string>> cases = {
      {[](Producer&, Texts& t) {
         t.offsets = {0, 3, 1, 4};
       },
       "its offsets go backwards"},
      {[](Producer&, Texts& t) {
         t.offsets = {-1, 0, 1, 4};
       },
       "an offset is out of range"},
      {[](Producer& p, Texts&) { p.x.array.length = 2; }, "an array is too short"},
      {[](Producer& p, Texts&) { p.x.array.length = -1; }, "a length or offset is out of range"},
      {[](Producer& p, Texts&) { p.x.array.offset = -1; }, "a length or offset is out of range"},
      {[](Producer& p, Texts&) { p.x.array.offset = INT64_MAX; }, "a length or offset is out of range"},
      {[](Producer& p, Texts&) { p.x.array.n_buffers = 2; }, "it has a wrong number of buffers"},
      {[](Producer& p, Texts&) { p.x.array.buffers = nullptr; }, "its buffers are missing"},
      {[](Producer& p, Texts&) { p.x.buffers[1] = nullptr; }, "a buffer is missing"},
      {[](Producer& p, Texts&) { p.x.buffers[2] = nullptr; }, "its text is missing"},
      {[](Producer& p, Texts&) { p.x.array.n_children = 1; }, "it has a wrong number of children"},
      {[](Producer& p, Texts&) { p.x.array.release = nullptr; }, "an array is missing"},
      {[](Producer& p, Texts&) { p.table.array.n_children = 1; }, "it has a wrong number of children"},
      {[](Producer& p, Texts&) { p.table.array.length = INT64_MAX; }, "a length or offset is out of range"},
      {[](Producer& p, Texts&) { p.table.array_children[1] = nullptr; }, "an array is missing"},
  };
  for (const auto& [spoil, expected] : cases) {
    Producer producer;
    Texts texts;
    texts.PutInto(producer);
    const std::string message = Message(producer, [&, &spoil = spoil](Producer& p) { spoil(p, texts); });
    EXPECT_NE(message.find("is damaged: " + expected), message.npos) << message << " instead of " << expected;
  }
  EXPECT_EQ(Stored(), 0u);
}

TEST_F(ArrowInTest, SchemaThatCannotBeIsRefused) {
  const std::vector<std::pair<std::function<void(Producer&)>, std::string>> cases = {
      {[](Producer& p) { p.x.schema.format = nullptr; }, "a field without a format"},
      {[](Producer& p) { p.x.schema.format = "+l"; }, "it has 0 children"},
      {[](Producer& p) { p.x.schema.format = "w:99999999999"; }, "which is not read"},
      {[](Producer& p) { p.x.schema.format = "d:"; }, "decimal (`d:`), which is not read: cast it to float64"},
      {[](Producer& p) { p.x.schema.format = ""; }, "which is not read: cast it to text"},
      {[](Producer& p) { p.x.schema.release = nullptr; }, "a field without a format"},
      {[](Producer& p) { p.x.schema.n_children = -1; }, "it has -1 children"},
      {[](Producer& p) { p.x.schema.dictionary = &p.x.schema; }, "a dictionary whose indices are no integers"},
      {[](Producer& p) { p.table.schema.children = nullptr; }, "it has 2 children"},
      {[](Producer& p) { p.table.schema.format = "i"; }, "it has 2 children"},
      {[](Producer& p) { p.x.schema.name = nullptr; }, "a column without a name"},
      {[](Producer& p) { p.x.schema.name = "start_ns"; }, "two columns named \"start_ns\""},
      {[](Producer& p) { p.start.schema.name = "name"; }, "needs a column `start`"},
  };
  for (const auto& [spoil, expected] : cases) {
    Producer producer;
    Texts texts;
    texts.PutInto(producer);
    const std::string message = Message(producer, spoil);
    EXPECT_NE(message.find(expected), message.npos) << message << " instead of " << expected;
  }
}

TEST_F(ArrowInTest, SchemaThatContainsItselfIsRefused) {
  Producer producer;
  producer.x.format = "+l";
  producer.inner.format = "+l";
  const std::string message = Message(producer, [](Producer& p) {
    p.inner.schema.n_children = 1;
    p.inner.schema_children = {&p.inner.schema};
    p.inner.schema.children = p.inner.schema_children.data();
  });
  EXPECT_NE(message.find("too many fields or levels"), message.npos) << message;
}

TEST_F(ArrowInTest, IndexOutsideOfTheDictionaryIsRefused) {
  for (const std::int8_t bad : {std::int8_t{2}, std::int8_t{-1}}) {
    Producer producer;
    Texts values;
    std::vector<std::int8_t> indices = {0, 1, bad};
    producer.x.format = "c";
    producer.x.buffers = {nullptr, indices.data()};
    Producer::Column dictionary;
    dictionary.format = "u";
    dictionary.buffers = {nullptr, values.offsets.data(), values.text.data()};
    const std::string message = Message(producer, [&](Producer& p) {
      p.Prepare(dictionary, {});
      dictionary.array.length = 2;
      p.x.schema.dictionary = &dictionary.schema;
      p.x.array.dictionary = &dictionary.array;
    });
    EXPECT_NE(message.find("an index is outside of its dictionary"), message.npos) << message;
  }
}

TEST_F(ArrowInTest, ViewOutsideOfItsBufferIsRefused) {
  struct View {
    std::int32_t size;
    char prefix[4];
    std::int32_t buffer, offset;
  };
  const std::string text = "longer than twelve bytes";
  const auto size = static_cast<std::int32_t>(text.size());
  for (const View& bad : {View{size, {}, 0, 1}, View{size, {}, 1, 0}, View{size, {}, -1, 0}, View{size, {}, 0, -1},
                          View{INT32_MAX, {}, 0, 0}, View{-1, {}, 0, 0}}) {
    Producer producer;
    std::vector<View> views = {{size, {}, 0, 0}, {3, {'a', 'b', 'c', 0}, 0, 0}, bad};
    std::vector<std::int64_t> sizes = {size};
    producer.x.format = "vu";
    producer.x.buffers = {nullptr, views.data(), text.data(), sizes.data()};
    const std::string message = Message(producer);
    EXPECT_NE(message.find("is damaged"), message.npos) << message;
  }
}

// A list of nulls has no buffer that bounds its length, so that three numbers can ask for terabytes of JSON.
TEST_F(ArrowInTest, ListOfBillionsOfNullsIsRefused) {
  Producer producer;
  producer.rows = 1;
  std::vector<std::int64_t> offsets = {0, std::int64_t{1} << 40};
  producer.x.format = "+L";
  producer.x.buffers = {nullptr, offsets.data()};
  producer.inner.format = "n";
  const std::string message = Message(producer, [](Producer& p) { p.inner.array.length = std::int64_t{1} << 40; });
  EXPECT_EQ(message, "row 0: column \"x\": the value is larger than 256 MiB as JSON");
}

TEST(MomentTest, TextAndBack) {
  for (const std::int64_t ns : {std::int64_t{0}, std::int64_t{-1}, std::int64_t{1'767'225'600'000'000'001}, INT64_MAX,
                                INT64_MIN + 1'000'000'000, std::int64_t{951'782'400'000'000'000}}) {
    EXPECT_EQ(ParseMoment(FormatMoment(ns, true)), ns) << FormatMoment(ns, true);
  }
  EXPECT_EQ(FormatMoment(0, true), "1970-01-01T00:00:00Z");
  EXPECT_EQ(ParseMoment("1970-01-01T02:00+02:00"), 0);
  EXPECT_EQ(ParseMoment("1970-01-01 00:00:00.0000000019-0000"), 1);
  EXPECT_EQ(ParseMoment("2000-02-29"), 951'782'400'000'000'000);
  for (const char* wrong : {"", "2000", "2000-02-30", "2000-13-01", "2001-02-29", "2000-01-01T25:00", "2000-01-01T",
                            "x", "2000-01-01T00:00:00.", "2000-01-01T00:00:00 ", "9999-01-01", "2000-01-01T00:00+25:00",
                            "2000-01-01Z", "2000-01-01T00:00:00+"}) {
    EXPECT_EQ(ParseMoment(wrong), std::nullopt) << wrong;
  }
}

}  // namespace
}  // namespace spanbox
