"""Files of other tools become spans: what each of them says is found in columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from spanbox import Box, _core
from spanbox.importers import ImportFileError

ROW = {"trace_id": "ab" * 16, "span_id": "cd" * 8, "name": "chat", "kind": "llm", "start_ns": 10**18, "model": "m"}


def lines(path: Path, *values: Any) -> Path:
    path.write_text("\n".join(json.dumps(value) for value in values))
    return path


def test_collector_files_are_recognised(box: Box, tmp_path: Path) -> None:
    rows = [{**ROW, "span_id": f"{number:016x}"} for number in range(1, 5)]
    as_json = [_core.encode_otlp([row], True, False) for row in rows[:2]]
    (tmp_path / "lines.json").write_bytes(b"\n".join(as_json))
    (tmp_path / "body.bin").write_bytes(_core.encode_otlp([rows[2]], False, False))
    framed = _core.encode_otlp([rows[3]], False, False)
    (tmp_path / "framed.bin").write_bytes(len(framed).to_bytes(4, "big") + framed)
    found = [box.import_file(tmp_path / name) for name in ("lines.json", "body.bin", "framed.bin")]
    assert [(report.format, report.added) for report in found] == [("otlp", 2), ("otlp", 1), ("otlp", 1)]
    assert box.import_file(tmp_path / "lines.json").added == 0
    assert box.spans('kind == llm and model == "m"').count() == 4


def test_damaged_otlp_line_is_named_and_the_rest_imported_on_request(box: Box, tmp_path: Path) -> None:
    good = _core.encode_otlp([ROW], True, False).decode()
    (tmp_path / "x.json").write_text("\n".join([good, good[:50], good.replace("cd" * 8, "ce" * 8)]))
    with pytest.raises(ImportFileError, match=r"x\.json: line 2: not valid JSON"):
        box.import_file(tmp_path / "x.json")
    report = box.import_file(tmp_path / "x.json", skip_bad=True)
    assert (report.spans, report.skipped) == (2, 1)


def test_langfuse_export_keeps_tree_usage_and_the_original_attributes(box: Box, tmp_path: Path) -> None:
    metadata = {"attributes": {"gen_ai.system": "acme", "input.value": "again"}, "mine": 1}
    observation = {
        "id": "cd" * 8, "traceId": "ab" * 16, "parentObservationId": None, "type": "GENERATION", "name": "call",
        "startTime": "2026-11-21T10:00:00.000Z", "endTime": "2026-11-21T10:00:01.500Z", "model": "m",
        "completionStartTime": "2026-11-21T10:00:00.250Z", "level": "ERROR", "statusMessage": "no",
        "usageDetails": {"input": 10, "output": 5, "input_cached_tokens": 20, "total": 35},
        "costDetails": {"total": 0.5}, "input": '[{"role": "user"}]', "metadata": json.dumps(metadata),
    }  # fmt: skip
    child = {**observation, "id": "own-id", "parentObservationId": "cd" * 8, "type": "TOOL", "level": "DEFAULT"}
    path = tmp_path / "export.json"
    path.write_text(json.dumps({"trace": {"userId": "u", "sessionId": "s"}, "observations": [observation, child]}))
    report = box.import_file(path)
    assert (report.format, report.added, box.import_file(path).added) == ("langfuse", 2, 0)
    root, below = box.trace("ab" * 16)
    assert (root.kind, root.status, root.duration_s, below.kind, below.parent) == ("llm", "error", 1.5, "tool", root)
    found = root.attributes
    assert (found["provider"], found["model"], found["user_id"], found["session_id"]) == ("acme", "m", "u", "s")
    assert (found["input_tokens"], found["cache_read_tokens"], found["output_tokens"]) == (30, 20, 5)
    assert (found["ttft_ns"], found["cost_usd"], found["error_message"]) == (250_000_000, 0.5, "no")
    assert root.input == [{"role": "user"}]
    assert "input.value" not in found
    assert found["langfuse.metadata"] == {"mine": 1}


def test_langsmith_runs_keep_their_tree(box: Box, tmp_path: Path) -> None:
    ids = [f"0190{number:04d}-0000-7000-8000-000000000000" for number in range(2)]
    runs = [
        {"id": ids[0], "trace_id": ids[0], "run_type": "chain", "name": "root", "start_time": "2026-11-21T10:00:00.5",
         "end_time": "2026-11-21T10:00:02", "inputs": {"q": 1}, "outputs": {"a": 2}},
        {"id": ids[1], "trace_id": ids[0], "parent_run_id": ids[0], "run_type": "llm", "name": "call", "error": "boom",
         "start_time": "2026-11-21T10:00:01+00:00", "prompt_tokens": 3, "completion_tokens": 4, "total_cost": "0.25",
         "extra": {"metadata": {"ls_model_name": "m", "ls_provider": "p", "thread_id": "t"}}},
    ]  # fmt: skip
    assert box.import_file(lines(tmp_path / "runs.jsonl", *runs)).format == "langsmith"
    root, call = box.trace(ids[0].replace("-", ""))
    assert (root.kind, root.duration_s, root.input, root.output) == ("chain", 1.5, {"q": 1}, {"a": 2})
    assert (call.parent, call.kind, call.status, call.attributes["cost_usd"]) == (root, "llm", "error", 0.25)
    assert (call.attributes["input_tokens"], call.attributes["model"]) == (3, "m")


def test_phoenix_rows_are_openinference(box: Box, tmp_path: Path) -> None:
    row = {
        "context.trace_id": "ab" * 16, "context.span_id": "cd" * 8, "parent_id": None, "name": "call",
        "start_time": "2026-11-21T10:00:00+00:00", "end_time": 1_795_255_201_000, "status_code": "OK",
        "span_kind": "LLM", "attributes.llm.model_name": "m", "attributes.llm.token_count.prompt": 3,
        "attributes.llm.input_messages": [{"message.role": "user", "message.content": "hi"}],
    }  # fmt: skip
    assert box.import_file(lines(tmp_path / "spans.jsonl", row)).format == "phoenix"
    [span] = box.trace("ab" * 16)
    assert (span.kind, span.attributes["model"], span.attributes["input_tokens"]) == ("llm", "m", 3)
    assert span.input == [{"content": "hi", "role": "user"}]


def test_transcript_of_a_coding_agent_is_a_trace(box: Box, tmp_path: Path) -> None:
    session = "6e0a4f5e-0000-4000-8000-000000000001"

    def line(second: int, kind: str, content: Any, **message: Any) -> dict[str, Any]:
        return {
            "type": kind, "sessionId": session, "parentUuid": None, "uuid": f"u{second}", "cwd": "/w",
            "timestamp": f"2026-11-21T10:00:{second:02d}.000Z",
            "message": {"role": kind, "content": content, **message},
        }  # fmt: skip

    usage = {"input_tokens": 5, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 10, "output_tokens": 7}
    answer = {"id": "msg_1", "model": "m", "usage": usage, "stop_reason": "tool_use"}
    call = {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "a b", "is_error": True}
    path = lines(
        tmp_path / "session.jsonl",
        line(0, "user", "list it"),
        line(2, "assistant", [{"type": "text", "text": "Looking."}], **answer),
        line(3, "assistant", [call], **answer),
        line(5, "user", [result]),
        line(6, "assistant", [{"type": "text", "text": "Done."}], **{**answer, "id": "msg_2"}),
    )
    assert box.import_file(path).format == "claude-code"
    trace = box.trace(session.replace("-", ""))
    assert [(span.depth, span.name, span.kind, span.duration_s) for span in trace] == [
        (0, "session", "agent", 6.0),
        (1, "chat", "llm", 3.0),
        (2, "Bash", "tool", 2.0),
        (1, "chat", "llm", 1.0),
    ]
    assert (trace.root.input, trace.root.output) == ("list it", "Done.")
    assert trace.totals.input_tokens == 2 * 115
    assert (trace[2].input, trace[2].output, trace[2].status) == ({"command": "ls"}, "a b", "error")


@pytest.mark.realdata
def test_real_exports_are_read_whole(box: Box, data: Path) -> None:
    for path in sorted((data / "otel_traces" / "langfuse_exports").glob("*.trace.json")):
        observations = json.loads(path.read_text())["observations"]
        report = box.import_file(path)
        assert (report.format, report.added) == ("langfuse", len(observations)), path.name
        trace = box.trace(observations[0]["traceId"])
        usage = sum(o["usageDetails"].get("output", 0) for o in observations if o["type"] == "GENERATION")
        assert sum(span.attributes.get("output_tokens", 0) for span in trace if span.kind == "llm") == usage
    for path in sorted((data / "otel_traces" / "openinference_js").glob("a*.json")):
        report = box.import_file(path)
        assert (report.format, report.spans) == ("otel", len(json.loads(path.read_text()))), path.name
    assert box.spans('kind == llm and input_tokens > 0 and provider == "openai.responses"').count() > 0


def helicone_request(number: int, **other: Any) -> dict[str, Any]:
    reply = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "42"}],
        "usage": {"input_tokens": 20, "cache_read_input_tokens": 80, "output_tokens": 5},
    }  # fmt: skip
    return {
        "request_id": f"0198c0de-0000-7000-8000-{number:012x}", "request_created_at": "2026-03-01 10:00:00.250",
        "response_created_at": "2026-03-01T10:00:01.000Z", "request_path": "https://api.anthropic.com/v1/messages",
        "request_user_id": "u", "properties": {"Helicone-Session-Id": "s", "team": "t"}, "provider": "ANTHROPIC",
        "request_model": "claude-sonnet-4-5", "model": "claude-sonnet-4-5", "delay_ms": 1_500, "response_status": 200,
        "time_to_first_token": 200, "prompt_tokens": 20, "prompt_cache_read_tokens": 80, "completion_tokens": 5,
        "request_body": {"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "six by seven?"}]},
        "response_body": reply, **other,
    }  # fmt: skip


def test_helicone_requests_keep_usage_session_and_bodies(box: Box, tmp_path: Path) -> None:
    failed = {"error": {"type": "overloaded_error", "message": "later"}}
    bare = {"request_body": None, "response_body": None, "costUSD": 0.5, "provider": "OPENAI", "model": "m"}
    given = [
        helicone_request(1),
        helicone_request(2, **bare, request_model="m"),
        helicone_request(3, response_status=529, response_body=json.dumps(failed)),
        helicone_request(4, cache_reference_id="0198c0de-0000-7000-8000-000000000001"),
    ]
    path = lines(tmp_path / "x.jsonl", *given)
    report = box.import_file(path)
    assert (report.format, report.added, box.import_file(path).added) == ("helicone", 4, 0)
    (tmp_path / "array.json").write_text(json.dumps({"data": given}))
    assert box.import_file(tmp_path / "array.json").added == 0
    names = ("trace_id", "provider", "model", "session_id", "user_id", "input_tokens", "cache_read_tokens", "cost_usd",
             "cost_source", "duration_ns", "ttft_ns", "finish_reason", "status", "error_message", "start")  # fmt: skip
    first, second, third, fourth = sorted(
        box.spans().columns(*names, "served_from_cache"), key=lambda row: row["trace_id"]
    )
    assert (first["provider"], first["model"], first["session_id"], first["user_id"]) == (
        "anthropic", "claude-sonnet-4-5", "s", "u",
    )  # fmt: skip
    assert (first["input_tokens"], first["cache_read_tokens"], first["finish_reason"]) == (100, 80, "end_turn")
    assert (first["duration_ns"], first["ttft_ns"], first["cost_source"]) == (1_500_000_000, 200_000_000, "computed")
    assert first["start"] == 1_772_359_200_250_000_000
    assert (second["cost_usd"], second["cost_source"], second["input_tokens"]) == (0.5, "reported", 20)
    assert (third["status"], third["error_message"]) == ("error", "later")
    assert (fourth["served_from_cache"], fourth["cost_usd"]) == (True, None)
    [span] = box.trace(first["trace_id"])
    assert (span.input[0]["content"], span.output["content"][0]["text"]) == ("six by seven?", "42")
    assert span.attributes["helicone.properties"]["team"] == "t"


def test_damaged_helicone_line_is_named(box: Box, tmp_path: Path) -> None:
    path = lines(tmp_path / "x.jsonl", helicone_request(1), helicone_request(2, request_created_at="noon"), [])
    with pytest.raises(ImportFileError, match="line 2: request_created_at must be a date and time, not 'noon'"):
        box.import_file(path)
    report = box.import_file(path, skip_bad=True)
    assert (report.spans, report.skipped) == (1, 2)
