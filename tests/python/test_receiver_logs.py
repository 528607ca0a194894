"""POST /v1/logs: events of model calls are stored, everything else is refused in plain words."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from spanbox._box import Box
from spanbox._protobuf import bytes_field, text_field
from spanbox.server import Server, _logs

PROTOBUF, JSON = "application/x-protobuf", "application/json"
TRACE, SPAN = "ab" * 16, "cd" * 8
DETAILS = "gen_ai.client.inference.operation.details"


@pytest.fixture
def server(box: Box) -> Iterator[Server]:
    with Server(box, otlp=True, port=0) as running:
        yield running


def post(server: Server, body: bytes, content_type: str = JSON) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("POST", "/v1/logs", body, {"Content-Type": content_type})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def record(name: str, attributes: dict[str, str | float], **more: Any) -> dict[str, Any]:
    values = [
        {"key": key, "value": {"stringValue": value} if isinstance(value, str) else {"doubleValue": value}}
        for key, value in attributes.items()
    ]
    about = {"timeUnixNano": "1790000000000000000", "traceId": TRACE, "spanId": SPAN, "eventName": name}
    return {**about, "attributes": values, **more}


def body(*records: dict[str, Any]) -> bytes:
    scope = {"scope": {"name": "emitter"}, "logRecords": list(records)}
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
    return json.dumps({"resourceLogs": [{"resource": resource, "scopeLogs": [scope]}]}).encode()


MESSAGES = '[{"role": "user", "parts": [{"type": "text", "content": "hello"}]}]'
CALL: dict[str, str | float] = {
    "gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-5", "gen_ai.input.messages": MESSAGES,
    "gen_ai.usage.input_tokens": 5.0,
}  # fmt: skip
VERDICT: dict[str, str | float] = {
    "gen_ai.evaluation.name": "faithful", "gen_ai.evaluation.score.value": 0.9, "gen_ai.evaluation.score.label": "yes",
}  # fmt: skip


def test_messages_become_a_span_below_their_span_once(box: Box, server: Server) -> None:
    sent = body(record(DETAILS, CALL), record(DETAILS, CALL, timeUnixNano="1790000000000000001"))
    for _ in range(2):
        assert post(server, sent) == (200, b"{}")
    names = ("name", "parent_id", "kind", "input", "model", "cost_source", "resource.service.name", "scope.name")
    rows = list(box.spans().columns(*names))
    assert len(rows) == 2
    for row in rows:
        assert (row["name"], row["parent_id"], row["kind"], row["model"]) == (DETAILS, SPAN, "span", "gpt-5")
        assert json.loads(row["input"])[0]["parts"][0]["content"] == "hello"
        assert (row["cost_source"], row["resource.service.name"], row["scope.name"]) == (None, "shop", "emitter")


def test_evaluations_become_scores_once(box: Box, server: Server) -> None:
    sent = body(
        record("gen_ai.evaluation.result", VERDICT), record("", {**VERDICT, "event.name": "gen_ai.evaluation.result"})
    )
    for _ in range(2):
        assert post(server, sent)[0] == 200
    [row] = box.scores().columns("trace_id", "span_id", "name", "value", "label", "source", "at")
    assert list(row.values()) == [TRACE, SPAN, "faithful", 0.9, "yes", "judge", 1_790_000_000_000_000_000]
    assert box.spans().count() == 0


def test_other_records_are_counted_and_told(box: Box, server: Server) -> None:
    others = [record("app.started", {}), record(DETAILS, CALL, traceId=""), record("gen_ai.evaluation.result", {})]
    status, answer = post(server, body(record(DETAILS, CALL), *others))
    assert status == 200
    said = json.loads(answer)["partialSuccess"]
    assert said == {"rejectedSpans": "3", "errorMessage": "only gen_ai events of spans are kept"}
    status, answer = post(server, body(*others))
    assert status == 404
    assert "OTEL_LOGS_EXPORTER=none" in json.loads(answer)["message"]


@pytest.mark.parametrize("wrong", [b"{", b"[]", b'{"resourceLogs": [7]}', b"[" * 100_000])
def test_what_is_no_otlp_is_refused(server: Server, wrong: bytes) -> None:
    assert post(server, wrong)[0] in (400, 404)


def test_protobuf_is_read_as_json_is(box: Box, server: Server) -> None:
    request = ExportLogsServiceRequest()
    logs = request.resource_logs.add()
    logs.resource.attributes.append(KeyValue(key="service.name", value=AnyValue(string_value="shop")))
    scope = logs.scope_logs.add()
    scope.scope.name = "emitter"
    one = scope.log_records.add(time_unix_nano=1_790_000_000_000_000_000, event_name=DETAILS)
    one.trace_id, one.span_id = bytes.fromhex(TRACE), bytes.fromhex(SPAN)
    values = {"deep": AnyValue(kvlist_value={"values": [KeyValue(key="n", value=AnyValue(int_value=-3))]})}
    values |= {"list": AnyValue(array_value={"values": [AnyValue(bool_value=True), AnyValue(double_value=0.5)]})}
    values |= {"gen_ai.input.messages": AnyValue(string_value=MESSAGES), "bytes": AnyValue(bytes_value=b"\0\1")}
    one.attributes.extend(KeyValue(key=key, value=value) for key, value in values.items())
    one.body.string_value = "said"
    assert post(server, request.SerializeToString(), PROTOBUF) == (200, b"")
    [row] = box.spans().columns("deep", "list", "bytes", "input", f"{DETAILS}.body", "parent_id")
    assert json.loads(row["deep"]) == {"n": -3}
    assert json.loads(row["list"]) == [True, 0.5]
    assert json.loads(row["bytes"]) == {"$bytes": "AAE="}
    assert (row[f"{DETAILS}.body"], row["parent_id"]) == ("said", SPAN)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200), st.integers(0, 400), st.binary(max_size=4))
def test_hostile_bytes_are_a_value_error_or_nothing(noise: bytes, at: int, patch: bytes) -> None:
    request = ExportLogsServiceRequest()
    one = request.resource_logs.add().scope_logs.add().log_records.add(event_name=DETAILS, time_unix_nano=5)
    one.trace_id = bytes.fromhex(TRACE)
    one.attributes.append(KeyValue(key="k", value=AnyValue(string_value="v" * 50)))
    good = request.SerializeToString()
    for hostile in (noise, good[:at] + patch + good[at + len(patch) :], good[:at]):
        for is_json in (True, False):
            try:
                _logs.read(hostile, is_json=is_json)
            except ValueError:
                continue


def test_nesting_is_bounded() -> None:
    value = text_field(1, "deep")
    for _ in range(60):  # deeper than the library of protobuf would write
        value = bytes_field(5, bytes_field(1, value))
    attribute = bytes_field(6, text_field(1, "k") + bytes_field(2, value))
    one = attribute + bytes_field(9, bytes.fromhex(TRACE)) + text_field(12, DETAILS)
    with pytest.raises(ValueError, match="nest deeper"):
        _logs.read(bytes_field(1, bytes_field(2, bytes_field(2, one))), is_json=False)
