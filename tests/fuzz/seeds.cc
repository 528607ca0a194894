// Writes what the fuzz targets begin with:   fuzz_seeds FOLDER   makes FOLDER/<target>/<number>.
#include <filesystem>
#include <fstream>

#include "../cpp/store_test_util.h"
#include "base/msgpack.h"
#include "base/record_codec.h"
#include "fuzz.h"
#include "spanbox/otlp.h"
#include "spanbox/sketch.h"
#include "stats/hyperloglog.h"
#include "store/cell_runs.h"
#include "store/manifest.h"
#include "store/rollup.h"
#include "store/segment_cells.h"
#include "store/text_blocks.h"
#include "store/text_filter.h"

using namespace spanbox;

namespace {

class Seeds {
 public:
  explicit Seeds(std::filesystem::path folder) : folder_(std::move(folder)) {}

  void Add(const std::string& target, const std::string& bytes) {
    std::filesystem::create_directories(folder_ / target);
    std::ofstream(folder_ / target / std::to_string(number_++), std::ios::binary) << bytes;
  }

 private:
  const std::filesystem::path folder_;
  int number_ = 0;
};

void AddSegments(Seeds& seeds) {
  for (const auto mode : {TextPacker::Mode::kQuick, TextPacker::Mode::kMedium, TextPacker::Mode::kSmall}) {
    for (const std::size_t count : {1, 5, 40}) {
      std::deque<spanbox::testing::Row> rows;
      SegmentBuilder builder(mode);
      for (const SpanRow& row : spanbox::testing::Borrow(spanbox::testing::MakeRows(rows, count, count)))
        builder.Add(row);
      const auto encoded = builder.Finish();
      std::vector<std::string> parts = {encoded.columns, encoded.text_filter};
      parts.insert(parts.end(), encoded.text_blocks.begin(), encoded.text_blocks.end());
      seeds.Add("segment", fuzz::Joined(parts));
    }
  }
}

void AddCells(Seeds& seeds) {
  for (const std::uint64_t count : {1, 60}) {
    std::deque<spanbox::testing::Row> rows;
    SegmentBuilder builder(TextPacker::Mode::kSmall);
    for (std::uint64_t i = 1; i <= count; ++i) {
      auto& row = rows.emplace_back(spanbox::testing::Trace(i / 7), i);
      row.Kind(i % 3 == 0 ? SpanKind::kTool : SpanKind::kLlm).Duration(static_cast<std::int64_t>(i * i * 1000));
      row.Start(static_cast<std::int64_t>(i) * 600'000'000'000);
      row.Set(Column::kTtftNs, Value::Int(static_cast<std::int64_t>(i) * 300));
      row.Set(Column::kInputTokens, Value::Int(static_cast<std::int64_t>(i)));
    }
    for (const SpanRow& row : spanbox::testing::Borrow(rows)) builder.Add(row);
    const auto encoded = builder.Finish();
    const auto segment = Segment::Open(fuzz::BytesOf(encoded.columns), [](std::uint32_t) {
      return Result<std::span<const std::byte>>(DataLoss("nobody reads the texts"));
    });
    if (!segment.ok()) continue;
    const std::string cells = EncodeCells(*segment, 1 << 20);
    seeds.Add("cells", cells);
    const std::string run = EncodeRun(std::vector<std::uint64_t>{3, 4, 7}, cells);
    seeds.Add("cell_runs", std::string(1, '\1') + fuzz::Joined({run, EncodeRun(std::vector<std::uint64_t>{9}, cells)}));
  }
}

void AddRollups(Seeds& seeds) {
  for (const std::size_t count : {3, 60}) {
    std::deque<spanbox::testing::Row> rows;
    RollupBuilder builder;
    for (const SpanRow& row : spanbox::testing::Borrow(spanbox::testing::MakeRows(rows, count, count)))
      builder.Add(row);
    SegmentBuilder segment;
    const auto encoded = builder.Finish(segment);
    std::vector<std::string> parts = {encoded.columns};
    parts.insert(parts.end(), encoded.text_blocks.begin(), encoded.text_blocks.end());
    seeds.Add("rollup", fuzz::Joined(parts));
  }
}

// As manifest.cc reads them.
void AddManifest(Seeds& seeds) {
  const auto add = [&](char what, const std::string& key, const std::string& value) {
    seeds.Add("manifest", std::string(1, what) + fuzz::Joined({key}) + value);
  };
  SegmentRecord segment;
  segment.meta.rows = 5;
  segment.ranges.push_back({.first_seq = 1, .last_seq = 9});
  add(0, SegmentKey(7), Encode(segment));
  segment.settled = true;
  segment.cells_bytes = 300;
  add(0, SegmentKey(7), Encode(segment));
  add(1, CursorKey({}, 3), Encode(LaneCursor{.lane = 3, .position = 64, .seq = 2}));
  add(2, {}, Encode(RingRecord{.retired = true, .process = "worker"}));
  const std::string content = "piece";
  add(3, BlobKey({}, 0), Encode(BlobRecord{.total_bytes = 9, .raw_bytes = 5, .content = fuzz::BytesOf(content)}));
  Document document;
  document.kind = "alert";
  document.name = "slow";
  document.version = 2;
  document.json = "{}";
  add(4, DocumentKey(document), Encode(document));
  add(5, {}, Encode(FeedRecord{.turn = 3, .taken_until = 8, .taken = {10, 12}, .state = "x"}));
  add(6, OpenKey({}, 5, 1), EncodeOpen("records"));
}

void AddTextFilters(Seeds& seeds) {
  TextFilterBuilder builder;
  builder.AddBlock("refund of order 17, please");
  builder.AddBlock(std::string(300, 'x'));
  seeds.Add("text_filter", std::string(1, '\2') + fuzz::Joined({"refund"}) + builder.Finish());
}

// As text_block.cc reads it.
std::string HeadOf(const TextBlockInfo& info) {
  return {static_cast<char>(info.codec), static_cast<char>(info.raw_bytes), static_cast<char>(info.raw_bytes >> 8),
          static_cast<char>(info.raw_bytes >> 16)};
}

void AddTextBlocks(Seeds& seeds) {
  for (const auto mode : {TextPacker::Mode::kQuick, TextPacker::Mode::kSmall}) {
    TextPacker packer(mode);
    for (int i = 0; i < 20'000; ++i) packer.Add("refund of order " + std::to_string(i % 700) + ", please. ");
    packer.Finish();
    for (std::size_t second = 1; second < std::min<std::size_t>(packer.blocks.size(), 3); ++second) {
      const std::string bytes = HeadOf(packer.infos[0]) + HeadOf(packer.infos[second]);
      seeds.Add("text_block", bytes + fuzz::Joined({packer.blocks[0]}) + packer.blocks[second]);
    }
  }
  TextPacker packer(TextPacker::Mode::kQuick);
  packer.Add(std::string(40, 'a'));
  packer.Finish();
  const std::string head = HeadOf(packer.infos[0]);
  seeds.Add("text_block", head + head + fuzz::Joined({packer.blocks[0]}) + packer.blocks[0]);
}

void AddMsgpack(Seeds& seeds) {
  ByteBuffer buffer;
  MsgpackWriter writer(buffer);
  writer.Map(3);
  writer.Str("a");
  writer.Array(4);
  writer.Int(-5);
  writer.Float(0.1);
  writer.Uint(~std::uint64_t{0});
  writer.Nil();
  writer.Str("text \xC3\xA9");
  writer.Bool(true);
  writer.Str("b");
  writer.Bin(fuzz::BytesOf("bytes"));
  const auto bytes = buffer.bytes();
  seeds.Add("msgpack", std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

void AddLanes(Seeds& seeds) {
  std::string plain, mixed;
  for (int i = 0; i < 60; ++i) plain.append(1, '\0').append(1, static_cast<char>(i)).append(1, '\1');
  for (int i = 0; i < 900; ++i) mixed.push_back(static_cast<char>(i * 131 >> 3));
  seeds.Add("ring_lane", std::string(6, '\0') + plain);
  seeds.Add("ring_lane", mixed);
}

void AddStatistics(Seeds& seeds) {
  DDSketch sketch;
  HyperLogLog counter;
  for (int i = -50; i < 3000; ++i) {
    if (i == -40 || i == 5 || i == 2999) {
      seeds.Add("sketch", sketch.Serialize());
      seeds.Add("hyperloglog", counter.Serialize());
    }
    sketch.Add(i * 0.37);
    counter.Add(static_cast<std::uint64_t>(i) * 0x9E3779B97F4A7C15);
  }
}

void AddRecords(Seeds& seeds) {
  ByteBuffer start, fields;
  RecordWriter writer(start);
  writer.Start(spanbox::testing::Trace(9), 5, 0, 1'000, SpanKind::kTool, "work");
  writer.AddJson(Column::kInput, "", "{\"a\":1}");
  RecordWriter(fields).Fields(5);
  std::string records;
  AppendOpenRecord({RecordType::kStart, start.bytes()}, records);
  AppendOpenRecord({RecordType::kFields, fields.bytes()}, records);
  seeds.Add("records", records);
}

// Every part of a span, and attributes of several dialects.
constexpr char kOtlp[] = R"({"resourceSpans":[{"resource":{"attributes":[
{"key":"service.name","value":{"stringValue":"shop"}},{"key":"telemetry.sdk.name","value":{"stringValue":"x"}}]},
"schemaUrl":"https://a/1","scopeSpans":[{"scope":{"name":"lib","version":"1","attributes":[]},"spans":[
{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","parentSpanId":"","name":"chat gpt-5","kind":3,
"startTimeUnixNano":"1700000000000000000","endTimeUnixNano":1700000001000000000,"flags":257,"traceState":"a=b",
"droppedAttributesCount":1,"status":{"code":2,"message":"no"},"attributes":[
{"key":"gen_ai.request.model","value":{"stringValue":"gpt-5"}},{"key":"gen_ai.usage.input_tokens","value":{"intValue":"12"}},
{"key":"d","value":{"doubleValue":0.5}},{"key":"b","value":{"boolValue":true}},{"key":"y","value":{"bytesValue":"AAE="}},
{"key":"l","value":{"arrayValue":{"values":[{"intValue":1},{"stringValue":"t"},{}]}}},
{"key":"m","value":{"kvlistValue":{"values":[{"key":"k","value":{"doubleValue":"NaN"}}]}}},
{"key":"llm.input_messages.0.message.role","value":{"stringValue":"user"}},
{"key":"llm.input_messages.0.message.content","value":{"stringValue":"hello"}},
{"key":"gen_ai.prompt.0.content","value":{"stringValue":"hi"}},{"key":"input.value","value":{"stringValue":"{\"a\":1}"}}],
"events":[{"timeUnixNano":"1700000000500000000","name":"exception","attributes":[
{"key":"exception.type","value":{"stringValue":"E"}},{"key":"exception.message","value":{"stringValue":"no"}}]},
{"name":"gen_ai.evaluation.result","attributes":[{"key":"gen_ai.evaluation.name","value":{"stringValue":"good"}},
{"key":"gen_ai.evaluation.score.value","value":{"doubleValue":1}}]}],
"links":[{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203332","traceState":"c=d","flags":1}]},
{"traceId":"","spanId":"zz","name":"rejected"}]}]}]})";

void AddOtlp(Seeds& seeds) {
  seeds.Add("otlp_json", kOtlp);
  const auto reader = OtlpReader::Open(kOtlp, OtlpForm::kJson);
  if (!reader.ok()) std::abort();
  OtlpWriter proto(OtlpForm::kProtobuf, /*openinference=*/true), json(OtlpForm::kJson, /*openinference=*/false);
  for (auto row = (*reader)->Next(); row.ok() && *row != nullptr; row = (*reader)->Next()) {
    proto.Add(**row);
    json.Add(**row);
  }
  seeds.Add("otlp", proto.Finish());
  seeds.Add("otlp_json", json.Finish());
}

constexpr char kPrices[] = R"({"version":"1","beginnings":[["azure","azure"]],"names":[["xai","x-ai"]],
"standard_tiers":["","default"],"rates":[{"tiers":[[1000,"0","4000","-36","0","2","0"],[0,"0","2","-1","0","1","0"]],
"without":[2,3]}],"providers":[{"id":"openai","matches":["*","openai"],"matches_models":["^","gpt-"],"fallbacks":["a"],
"models":[{"matches":["|",["=","gpt-5"],["~","^gpt-5-\\d{4}$"]],"prices":[{"until_ns":1000,"rate":0},{"tier":"batch",
"rate":0}]},{"matches":["&",["^","o"],["!",["$","-tts"]]],"prices":[{"to_s":3600,"rate":0}]}]}],
"own":[{"provider":"","matches":["=","x"],"matches_alone":null,"tier":"","version":"v","since_ns":5,"rate":0}]})";

// None of them is anybody's: each has the shape, and the check digits, of what it looks like.
constexpr char kSecrets[] = R"({"password":"hunter2hunter2","mail":"a.b@example.com","card":"4111 1111 1111 1111",
"iban":"GB82 WEST 1234 5698 7654 32","address":"https://user:secret@example.com/x?token=abcdef0123456789abcdef",
"ip":"10.0.0.1","phone":"phone +1 212 555 0123","ssn":"social security 078-05-1120"})";

void AddTexts(Seeds& seeds) {
  for (const char* filter :
       {"model == \"gpt-2\" and duration > 2s", "not (status == error or \"refund\" in output) and x in [1, \"text\"]",
        "any(children, kind == tool)", "count(descendants) > 2", "output ~ \"ref.nd\"", "cost >= $0.01",
        "start >= 2023-11-14T22:13:20Z", "x == none or x != none", "name not in [\"tool\"] and trace_id == 00ff"}) {
    seeds.Add("filter", filter);
  }
  seeds.Add("json_lines",
            "{\"trace_id\":\"000102030405060708090a0b0c0d0e0f\",\"span_id\":\"0001020304050607\",\"name\":\"a\","
            "\"start\":\"2024-01-01T00:00:00Z\",\"duration_ns\":5,\"output\":{\"b\":[1,2.5,null,true]}}\n");
  seeds.Add("json_lines", "{\"start_ns\":1e18,\"x\":\"\\ud83d\\ude00\",\"cost_usd\":0.1}\n[]\n\n{\n");
  for (const char* text :
       {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "0af7651916cd43dd8448eb211c80319c",
        "b7ad6b7169203331", "2026-11-21T09:30:00.123456789+02:00", "2026-11-21 09:30Z"}) {
    seeds.Add("traceparent", text);
  }
  seeds.Add("prices", kPrices);
  for (char how = 0; how < 5; ++how) {
    seeds.Add("redact", std::string(1, how) + fuzz::Joined({"phone"}) + kSecrets);
  }
  std::string any;
  for (int i = 0; i < 400; ++i) any.push_back(static_cast<char>(i * 37));
  seeds.Add("arrow", any);
  seeds.Add("arrow", std::string(200, '\1'));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  Seeds seeds(argv[1]);
  AddSegments(seeds);
  AddCells(seeds);
  AddRollups(seeds);
  AddManifest(seeds);
  AddTextFilters(seeds);
  AddTextBlocks(seeds);
  AddMsgpack(seeds);
  AddLanes(seeds);
  AddStatistics(seeds);
  AddRecords(seeds);
  AddOtlp(seeds);
  AddTexts(seeds);
  return 0;
}
