"""Imports of files made by hand: what is mapped, what is kept, and what happens when something is wrong."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spanbox import Box, _core, semconv
from spanbox.importers import ImportFileError
from spanbox.importers import _source as source


def otel_span(number: int, parent: int | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "name": f"s{number}",
        "context": {"trace_id": 1 << 100, "span_id": number},
        "parent": None if parent is None else {"trace_id": 1 << 100, "span_id": parent},
        "start_time": 1_000_000_000 + number,
        "end_time": 2_000_000_000 + number,
        "status": {"status_code": "ok"},
        "attributes": {},
        **changes,
    }


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def llmperf_result(**changes: Any) -> dict[str, Any]:
    return {
        "error_code": None,
        "error_msg": "",
        "inter_token_latency_s": 0.01,
        "ttft_s": 0.5,
        "end_to_end_latency_s": 1.5,
        "number_input_tokens": 550,
        "number_output_tokens": 101,
        **changes,
    }


# --- OpenTelemetry dumps ----------------------------------------------------------------------------------------------


def test_otel_ids_times_tree_and_status(box: Box, tmp_path: Path) -> None:
    failed = otel_span(
        3,
        2,
        status={"status_code": "StatusCode.ERROR", "description": "it broke"},
        events=[{"name": "exception", "attributes": {"exception.type": "ValueError", "exception.message": "bad"}}],
        links=[{"context": {"trace_id": 5, "span_id": 6}, "attributes": {"x": 1}}],
    )
    spans = [otel_span(2, 1, attributes={"gen_ai.operation.name": "chat"}), otel_span(1), failed]
    report = box.import_file(write(tmp_path / "dump.json", {"spans": spans}))
    assert (report.format, report.spans, report.added) == ("otel", 3, 3)
    trace = box.trace(f"{1 << 100:032x}")
    assert [(s.depth, s.name, s.kind, s.status) for s in trace] == [
        (0, "s1", "span", "ok"),
        (1, "s2", "llm", "ok"),
        (2, "s3", "span", "error"),
    ]
    assert trace[2].error == "ValueError: it broke"
    assert trace[2].attributes["events"][0]["name"] == "exception"
    assert trace[2].attributes["links"] == [{"trace_id": f"{5:032x}", "span_id": f"{6:016x}", "attributes": {"x": 1}}]
    assert (trace.root.start_ns, trace.root.duration_ns) == (1_000_000_001, 1_000_000_000)


def test_otel_console_output_with_hexadecimal_ids_and_iso_times(box: Box, tmp_path: Path) -> None:
    line = otel_span(
        1,
        context={"trace_id": "0x" + "ab" * 16, "span_id": "0x" + "cd" * 8},
        parent_id=None,
        start_time="2026-11-21T10:00:00.123456Z",
        end_time="2026-11-21T10:00:01.123456Z",
        kind="SpanKind.CLIENT",
        resource={"attributes": {"service.name": "shop"}, "schema_url": ""},
    )
    path = tmp_path / "spans.jsonl"
    path.write_text(json.dumps(line) + "\n")
    assert box.import_file(path).added == 1
    [span] = box.trace("ab" * 16)
    assert span.span_id == "cd" * 8
    assert span.duration_s == 1.0
    assert span.attributes["otel.kind"] == "client"
    assert span.attributes["resource.service.name"] == "shop"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": None}, "no 'context'"),
        ({"context": {"trace_id": 0, "span_id": 1}}, r"trace_id 0 is not a number of 128 bits"),
        ({"context": {"trace_id": 1, "span_id": 1 << 64}}, "not a number of 64 bits"),
        ({"context": {"trace_id": "xyz", "span_id": 1}}, "not hexadecimal"),
        ({"start_time": None}, "start_time must be nanoseconds or ISO text"),
        ({"end_time": 5}, "before start_time"),
        ({"attributes": [1]}, "'attributes' must be an object"),
    ],
)
def test_wrong_otel_span_is_named(box: Box, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "dump.json", {"spans": [otel_span(1), {**otel_span(2), **change}]})
    with pytest.raises(ImportFileError, match=rf"dump\.json: element 2 \(line 1, column \d+\): .*{message}"):
        box.import_file(path)
    report = box.import_file(path, skip_bad=True)
    assert (report.spans, report.skipped) == (1, 1)
    assert message.split(" ")[0] in report.problems[0]


# --- attribute names --------------------------------------------------------------------------------------------------


def test_each_dialect_becomes_the_same_columns() -> None:
    expected = {"kind": "llm", "provider": "acme", "model": "m", "input_tokens": 10, "output_tokens": 5}
    dialects = [
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "acme",
            "gen_ai.request.model": "m",
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.output_tokens": 5,
        },
        {
            "openinference.span.kind": "LLM",
            "llm.provider": "acme",
            "llm.model_name": "m",
            "llm.token_count.prompt": 10,
            "llm.token_count.completion": 5,
        },
        {
            "llm.request.type": "chat",
            "gen_ai.system": "acme",
            "gen_ai.response.model": "m",
            "gen_ai.usage.prompt_tokens": 10,
            "gen_ai.usage.completion_tokens": 5,
        },
        {
            "ai.operationId": "ai.streamText.doStream",
            "ai.model.provider": "acme",
            "ai.model.id": "m",
            "ai.usage.promptTokens": 10,
            "ai.usage.completionTokens": 5,
        },
    ]
    for attributes in dialects:
        row = semconv.normalise(attributes)
        assert {key: row.get(key) for key in expected} == expected
        assert semconv.restore(row) == attributes


def test_exclusive_token_counts_become_all_in() -> None:
    attributes = {
        "gen_ai.usage.input_tokens": 200,
        "gen_ai.usage.cache_read.input_tokens": 800,
        "gen_ai.usage.cache_creation.input_tokens": 100,
    }
    row = semconv.normalise(attributes)
    assert (row["input_tokens"], row["cache_read_tokens"], row["cache_write_tokens"]) == (1100, 800, 100)
    assert row["tokens_dialect"] == "exclusive"
    assert semconv.restore(row) == attributes


def test_times_details_and_flattened_messages_are_read() -> None:
    start_ns = 1_700_000_000_000_000_000
    row = semconv.normalise(
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.usage_details": '{"input": 7, "output": 3, "cache_read_input_tokens": 2}',
            "langfuse.observation.cost_details": '{"total": 0.5}',
            "langfuse.observation.completion_start_time": "2023-11-14T22:13:20.250Z",
            "llm.input_messages.1.message.content": "b",
            "llm.input_messages.0.message.content": "a",
            "llm.input_messages.0.message.role": "user",
        },
        start_ns=start_ns,
    )
    assert (row["kind"], row["input_tokens"], row["cache_read_tokens"], row["cost_usd"]) == ("llm", 7, 2, 0.5)
    assert row["ttft_ns"] == 250_000_000
    assert row["input"] == [{"content": "a", "role": "user"}, {"content": "b"}]
    assert row["cost_source"] == "reported"
    assert semconv.normalise({"gen_ai.response.time_to_first_chunk": 0.25})["ttft_ns"] == 250_000_000


def test_attribute_named_like_a_column_keeps_its_value_and_name() -> None:
    attributes = {
        "name": "mine",
        "ttft": 3,
        "attributes.name": "other",
        "status": "fine",
        "gen_ai.usage.input_tokens": "x",
    }
    row = semconv.normalise(attributes)
    assert row["attributes.name"] == "mine"
    assert "input_tokens" not in row
    assert semconv.restore(row) == attributes


_KEYS = st.sampled_from([key for _, key in _core.attribute_rules() if not key.endswith("*")]) | st.text(max_size=20)
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)


@given(st.dictionaries(_KEYS, _SCALARS | st.lists(_SCALARS, max_size=3), max_size=12))
def test_no_attribute_is_lost(attributes: dict[str, Any]) -> None:
    restored = semconv.restore(semconv.normalise(attributes))
    assert json.dumps(restored, sort_keys=True) == json.dumps(
        {key: value for key, value in attributes.items() if value is not None}, sort_keys=True
    )


def test_rows_made_here_are_exported_under_todays_names() -> None:
    row = {
        "trace_id": "x",
        "name": "n",
        "model_request": "m",
        "ttft_ns": 250_000_000,
        "finish_reason": "stop",
        "mine": 1,
    }
    assert semconv.restore(row) == {
        "gen_ai.request.model": "m",
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.response.finish_reasons": ["stop"],
        "mine": 1,
    }
    assert semconv.CONVENTIONS == "opentelemetry-util-genai 1.3b0"


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_corrupt_line_is_named_and_the_rest_imported_on_request(box: Box, tmp_path: Path) -> None:
    lines = [json.dumps({"timestamp": n, "input_length": 10, "output_length": 2, "hash_ids": []}) for n in range(5)]
    lines[2] = lines[2][:20]
    lines[3] = '{"timestamp": 3, "input_length": "many", "output_length": 2, "hash_ids": []}'
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(
        ImportFileError, match=r"trace\.jsonl: line 3: not valid JSON: .* at column \d+.*import the rest"
    ):
        box.import_file(path)
    report = box.import_file(path, skip_bad=True)
    assert (report.spans, report.skipped) == (3, 2)
    assert report.problems[1] == "line 4: input_length must be a whole number, not 'many'"
    assert box.spans().count() == 3


def test_corrupt_element_of_an_array_is_stepped_over(box: Box, tmp_path: Path) -> None:
    parts = [json.dumps(llmperf_result(ttft_s=n)) for n in range(1, 5)]
    parts[1] = parts[1].replace("550", "5 5 0")
    path = tmp_path / "x.individual.json"
    path.write_text("[" + ",\n ".join(parts) + "]")
    with pytest.raises(ImportFileError, match=r"element 2 \(line 2, column 2\): not valid JSON"):
        box.import_file(path)
    report = box.import_file(path, skip_bad=True)
    assert (report.spans, report.skipped) == (3, 1)
    assert [r["ttft_ns"] for r in box.spans().columns("ttft_ns")] == [10**9, 3 * 10**9, 4 * 10**9]


def test_truncated_array_gives_what_is_whole(box: Box, tmp_path: Path) -> None:
    path = tmp_path / "x.individual.json"
    path.write_text(json.dumps([llmperf_result()] * 4)[:-30])
    with pytest.raises(ImportFileError, match="element 4"):
        box.import_file(path)
    assert box.import_file(path, skip_bad=True).spans == 3


def test_truncated_gzip_gives_what_is_whole(box: Box, tmp_path: Path) -> None:
    lines = [
        json.dumps({"timestamp": n, "input_length": n * 7919, "output_length": 2, "hash_ids": [n]}) for n in range(999)
    ]
    path = tmp_path / "trace.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0)[:-500])
    with pytest.raises(ImportFileError, match="damaged gzip data"):
        box.import_file(path)
    report = box.import_file(path, skip_bad=True)
    assert 100 < report.spans < 999
    assert "gzip" in report.problems[-1]


def test_line_that_is_no_utf8_is_named(box: Box, tmp_path: Path) -> None:
    good = b'{"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": []}\n'
    (tmp_path / "x.jsonl").write_bytes(good + good.replace(b"[]", b'["\xff"]'))
    with pytest.raises(ImportFileError, match="line 2: not UTF-8 text: byte 71"):
        box.import_file(tmp_path / "x.jsonl")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.json", b"", "is empty"),
        ("blank.json", b" \n\n", "is empty"),
        ("noise.bin", bytes(range(256)) * 4, "format not recognised; known are otlp, otel, langfuse"),
        ("text.md", b"# hello\n", "format not recognised"),
        ("empty.csv", b"TIMESTAMP,ContextTokens,GeneratedTokens\n", "no spans in it"),
        ("rates.csv", b"0,0,0,0,,0,0\n0,600,0,0,,0,0\n0,1200,0,0,,0,0\n", "request rates of clients"),
        ("azure.csv", b"TIMESTAMP,ContextTokens,GeneratedTokens\nsoon,1,2\n", "line 2: TIMESTAMP 'soon' is no date"),
        ("deep.traj", b'{"trajectory": ' + b"[" * 100_000, "not valid JSON"),
        ("bare.traj", b'{"trajectory": [], "history": []}', "neither 'trajectory' nor 'history' has a step"),
        ("tau.jsonl", b'{"task_id": 1, "traj": [{"content": "x"}]}', "line 1: message 1 of 'traj' has no role"),
        ("gzip.gz", b"\x1f\x8bgarbage", "damaged gzip file"),
    ],
)
def test_file_that_is_none_of_ours_is_refused_with_a_reason(
    box: Box, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImportFileError, match=message):
        box.import_file(tmp_path / name)
    assert box.spans().count() == 0


def test_missing_file_and_unknown_format_are_named(box: Box, tmp_path: Path) -> None:
    with pytest.raises(ImportFileError, match=r"nowhere\.json: cannot be read: No such file"):
        box.import_file(tmp_path / "nowhere.json")
    with pytest.raises(ImportFileError, match=r"is a folder: name its files, such as .*\*\.jsonl"):
        box.import_file(tmp_path)
    with pytest.raises(ValueError, match=r"format='csv' is not one of auto, otlp, otel"):
        box.import_file(tmp_path, format="csv")  # type: ignore[arg-type]


def test_unpacking_is_bounded(box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_DOCUMENT_BYTES", 1 << 20)
    monkeypatch.setattr(source, "MAX_LINE_BYTES", 1 << 20)
    bomb = gzip.compress(b'{"trajectory": "' + b"x" * (8 << 20) + b'"}')
    (tmp_path / "bomb.traj.gz").write_bytes(bomb)
    with pytest.raises(ImportFileError, match="more than 1 MiB, too large"):
        box.import_file(tmp_path / "bomb.traj.gz", format="swe-agent")
    with pytest.raises(ImportFileError, match="line 1: longer than 1 MiB"):
        box.import_file(tmp_path / "bomb.traj.gz", format="mooncake")


# --- the other formats ------------------------------------------------------------------------------------------------


def test_llmperf_failures_count_without_inventing_latencies(box: Box, tmp_path: Path) -> None:
    at_once = llmperf_result(error_code=429, ttft_s=0, end_to_end_latency_s=0, inter_token_latency_s=0.0)
    path = write(tmp_path / "x.individual.json", [llmperf_result(), at_once, at_once])
    write(tmp_path / "x.summary.json", {"model": "llama", "framework": "acme"})
    report = box.import_file(path)
    assert report.added == 3  # two that look alike are two
    assert "summary file" in report.note
    assert box.spans('model == "llama" and provider == "acme"').count() == 3
    assert box.spans('status == error and error_type == "429"').count() == 2
    quantiles = box.spans().quantile("ttft", [0.0, 1.0], exact=True)
    assert (quantiles.count, quantiles[0.0]) == (1, 5e8)
    assert box.spans().quantile("tpot", 0.5, exact=True) == 1e7
    assert box.import_file(path).added == 0


def test_tool_answer_nobody_asked_for_is_an_error(box: Box, tmp_path: Path) -> None:
    run = {"task_id": 1, "traj": [{"role": "tool", "tool_call_id": "c9", "content": "x"}]}
    (tmp_path / "tau.jsonl").write_text(json.dumps(run))
    with pytest.raises(ImportFileError, match="line 1: a tool message answers 'c9', which nothing asked for"):
        box.import_file(tmp_path / "tau.jsonl")
