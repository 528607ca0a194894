#include "text_stage.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <iterator>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "base/record_codec.h"
#include "capture_settings.h"
#include "casters.h"
#include "recording.h"
#include "wire/withheld.h"

namespace py = pybind11;

namespace spanbox::python {
namespace {

struct Asked {
  std::string text;
  bool is_json = false;
};

// Texts of one batch on their way.
struct Job {
  std::vector<Asked> texts;
  std::vector<std::optional<std::string>> answers;  // nullopt: withheld
  std::size_t asked = 0, answered = 0;
};

class Stage {
 public:
  // The answers to `texts`: of those the worker does not answer in time none.
  std::vector<std::optional<std::string>> Ask(std::vector<Asked> texts) {
    auto job = std::make_shared<Job>();
    job->texts = std::move(texts);
    job->answers.resize(job->texts.size());
    std::unique_lock lock(mutex_);
    if (!hangs_) jobs_.push_back(job);
    asked_.notify_one();
    while (!hangs_ && job->answered < job->texts.size()) {
      const std::uint64_t seen = progress_;
      const auto moved = [&] { return progress_ != seen; };
      if (!answered_.wait_for(lock, std::chrono::nanoseconds(kStageTimeoutNs), moved)) hangs_ = true;
    }
    std::erase(jobs_, job);
    return job->answers;
  }

  // The next text to look at; waits at most so long.
  std::optional<Asked> Next(std::chrono::milliseconds wait) {
    std::unique_lock lock(mutex_);
    hangs_ = stopped_;  // whoever asks does not hang
    if (!asked_.wait_for(lock, wait, [&] { return stopped_ || !jobs_.empty(); }) || stopped_) return std::nullopt;
    const std::shared_ptr<Job>& job = jobs_.front();
    under_way_ = job;
    return job->texts[job->asked];
  }

  // From now on everything is withheld, and nobody waits.
  void Stop() {
    const std::lock_guard lock(mutex_);
    stopped_ = hangs_ = true;
    ++progress_;
    asked_.notify_all();
    answered_.notify_all();
  }

  void Answer(std::optional<std::string> text) {
    const std::lock_guard lock(mutex_);
    const std::shared_ptr<Job> job = std::exchange(under_way_, nullptr);
    if (job == nullptr || job->asked == job->texts.size()) return;
    job->answers[job->asked++] = std::move(text);
    ++job->answered;
    ++progress_;
    if (job->asked == job->texts.size()) std::erase(jobs_, job);
    answered_.notify_all();
  }

 private:
  std::mutex mutex_;  // what follows
  std::condition_variable asked_, answered_;
  std::deque<std::shared_ptr<Job>> jobs_;
  std::shared_ptr<Job> under_way_;
  std::uint64_t progress_ = 0;
  bool hangs_ = false, stopped_ = false;
};

// The one of this process: a forked child has another, as threads of the parent's may hold the first one's lock.
std::atomic<Stage*> the_stage{nullptr};

// Rows of a batch whose texts have been looked at.
class StagedRows {
 public:
  explicit StagedRows(Stage* stage) : stage_(stage) {}

  void Take(std::vector<SpanRow>& rows) {
    for (SpanRow& row : rows) {
      if (!IsMarked(row)) continue;
      if (stage_ == nullptr) {
        Withhold(row, arena_);
        continue;
      }
      std::vector<Field>& fields = arena_.NewFields();
      for (const Field& field : row.fields) {
        if (!IsStageMark(field)) fields.push_back(field);
      }
      row.fields = fields;
      for (Field& field : fields) {
        if (!IsStaged(field)) continue;
        texts_.push_back({std::string(field.value.text), field.value.type == ValueType::kJson});
        places_.push_back(&field.value);
      }
    }
  }

  void Finish() {
    if (texts_.empty()) return;
    const std::vector<Asked> given = texts_;
    auto answers = stage_->Ask(std::move(texts_));
    for (std::size_t i = 0; i < answers.size(); ++i) {
      if (!answers[i]) {
        *places_[i] = Value::String(kWithheld);
      } else if (*answers[i] != given[i].text) {
        std::string& text = arena_.NewText();
        text = *std::move(answers[i]);
        places_[i]->text = text;
      }
    }
  }

 private:
  Stage* const stage_;
  RowArena arena_;
  std::vector<Asked> texts_;
  std::vector<Value*> places_;
};

class StagingExporter : public SpanExporter {
 public:
  explicit StagingExporter(std::shared_ptr<SpanExporter> next) : next_(std::move(next)) {}

  Result<RingState> LoadRing(const RingId& ring) override { return next_->LoadRing(ring); }
  Result<bool> DoBackgroundWork() override { return next_->DoBackgroundWork(); }

  Status Commit(const SpanBatch& given) override {
    if (!ever_staged_.load(std::memory_order_relaxed)) return next_->Commit(given);
    SpanBatch batch = given;
    StagedRows rows(has_stage.load(std::memory_order_relaxed) ? the_stage.load() : nullptr);
    rows.Take(batch.spans);
    rows.Take(batch.scores);
    rows.Finish();
    std::deque<std::string> records;
    for (OpenSpan& open : batch.open) open.records = records.emplace_back(WithholdRecords(open.records));
    return next_->Commit(batch);
  }

  inline static std::atomic<bool> ever_staged_{false};

 private:
  const std::shared_ptr<SpanExporter> next_;
};

PyObject* stage_function = nullptr;  // (text, is_json) -> str or None; guarded by the GIL

void SetStage(const py::object& function) {
  const bool on = !function.is_none();
  if (on && the_stage.load() == nullptr) the_stage.store(new Stage);
  if (on) StagingExporter::ever_staged_.store(true);
  Py_XSETREF(stage_function, on ? function.inc_ref().ptr() : nullptr);
  marks_stage = on;
  process_limits.blobs = !on;  // what the stage cannot read is not kept
  has_stage.store(on);
}

py::object StageNext(int wait_ms) {
  Stage* const stage = the_stage.load();
  std::optional<Asked> text;
  {
    py::gil_scoped_release release;
    text = stage->Next(std::chrono::milliseconds(wait_ms));
  }
  if (!text) return py::none();
  return py::make_tuple(Text(text->text), text->is_json);
}

void StageAnswer(const py::object& text) {
  std::optional<std::string> answer;
  if (!text.is_none()) answer = Utf8(text.ptr()).view();
  py::gil_scoped_release release;
  the_stage.load()->Answer(std::move(answer));
}

}  // namespace

std::shared_ptr<SpanExporter> StageExporter(std::shared_ptr<SpanExporter> next) {
  return std::make_shared<StagingExporter>(std::move(next));
}

RedactValue WithStage(RedactValue redact) {
  if (!has_stage.load()) return redact;
  return [redact](std::string_view name, const Value& value) -> std::optional<std::string> {
    std::optional<std::string> first = redact ? redact(name, value) : std::nullopt;
    const ColumnInfo* const info = FindColumn(name);
    const bool named = info != nullptr && info->name == name;
    Field field{named ? info->column : Column::kAttribute, name, value};
    if (name.empty() || !IsStaged(field)) return first;
    const py::gil_scoped_acquire gil;
    const py::error_scope keep;
    if (stage_function == nullptr) return std::string(kWithheld);
    try {
      const py::object answer = py::reinterpret_borrow<py::object>(stage_function)(
          Text(first ? std::string_view(*first) : value.text), value.type == ValueType::kJson);
      return answer.is_none() ? std::string(kWithheld) : answer.cast<std::string>();
    } catch (const std::exception&) {
      return std::string(kWithheld);
    }
  };
}

void StageRows(std::vector<SpanRow>& rows, RowArena& arena) {
  const RedactValue stage = WithStage({});
  if (!stage) return;
  for (SpanRow& row : rows) {
    std::vector<Field>& fields = arena.NewFields();
    std::ranges::remove_copy_if(row.fields, std::back_inserter(fields), IsStageMark);
    for (Field& field : fields) {
      const bool named = field.column != Column::kAttribute;
      const std::string_view name = named ? Columns()[static_cast<std::size_t>(field.column)].name : field.name;
      if (auto staged = stage(name, field.value)) {
        std::string& text = arena.NewText();
        text = *std::move(staged);
        field.value.text = text;
      }
    }
    row.fields = fields;
  }
}

void RegisterStage(py::module_& module) {
  using namespace py::literals;
  module.def("set_stage", SetStage, "function"_a);
  module.def("has_stage", [] { return has_stage.load(); });
  module.def("stage_next", StageNext, "wait_ms"_a);
  module.def("stage_answer", StageAnswer, "text"_a);
  module.def("stop_stage", [] { the_stage.load()->Stop(); });
  module.def("forget_stage", [] { the_stage.store(the_stage.load() == nullptr ? nullptr : new Stage); });
}

}  // namespace spanbox::python
