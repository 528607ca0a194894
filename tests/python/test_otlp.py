"""OTLP bodies, in protobuf and JSON, become spans and come out again as they went in."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from spanbox import Box, _core

TRACE, SPAN = bytes(range(1, 17)), bytes(range(1, 9))
START_NS = 1_790_000_000_000_000_000


def any_value(value: Any) -> AnyValue:
    if value is None:
        return AnyValue()
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, bytes):
        return AnyValue(bytes_value=value)
    if isinstance(value, str):
        return AnyValue(string_value=value)
    message = AnyValue()
    if isinstance(value, dict):
        message.kvlist_value.values.extend(key_values(value))
    else:
        message.array_value.values.extend(any_value(each) for each in value)
    if not value:
        (message.kvlist_value if isinstance(value, dict) else message.array_value).SetInParent()
    return message


def key_values(attributes: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=any_value(value)) for key, value in attributes.items()]


def request(*spans: Span, resource: dict[str, Any] | None = None, scope: str = "") -> ExportTraceServiceRequest:
    message = ExportTraceServiceRequest()
    group = message.resource_spans.add()
    group.resource.attributes.extend(key_values(resource or {}))
    group.scope_spans.add(spans=spans).scope.name = scope
    return message


def span(attributes: dict[str, Any] | None = None, **given: Any) -> Span:
    basis = {"trace_id": TRACE, "span_id": SPAN, "name": "chat m", "start_time_unix_nano": START_NS}
    basis["end_time_unix_nano"] = START_NS + 5_000_000
    return Span(**{**basis, **given}, attributes=key_values(attributes or {}))


def otlp_json(message: ExportTraceServiceRequest) -> bytes:
    """The message as OTLP's JSON, in which ids are hexadecimal and enumerations numbers."""
    body = json_format.MessageToDict(message, use_integers_for_enums=True)
    for resource_spans in body.get("resourceSpans", []):
        for scope_spans in resource_spans.get("scopeSpans", []):
            for each in scope_spans.get("spans", []):
                for holder in (each, *each.get("links", [])):
                    for key in ("traceId", "spanId", "parentSpanId"):
                        if key in holder:
                            holder[key] = base64.b64decode(holder[key]).hex()
    return json.dumps(body).encode()


def body_of(message: ExportTraceServiceRequest, is_json: bool) -> bytes:
    return otlp_json(message) if is_json else message.SerializeToString()


def parsed(body: bytes, is_json: bool) -> ExportTraceServiceRequest:
    if not is_json:
        return ExportTraceServiceRequest.FromString(body)
    document = json.loads(body)
    for resource_spans in document["resourceSpans"]:
        for scope_spans in resource_spans["scopeSpans"]:
            for each in scope_spans["spans"]:
                for holder in (each, *each.get("links", [])):
                    for key in ("traceId", "spanId", "parentSpanId"):
                        if key in holder:
                            holder[key] = base64.b64encode(bytes.fromhex(holder[key])).decode()
    return json_format.ParseDict(document, ExportTraceServiceRequest())


def attributes_of(message: Iterable[KeyValue]) -> dict[str, bytes]:
    return {each.key: each.value.SerializeToString(deterministic=True) for each in message}


def the_span(message: ExportTraceServiceRequest) -> Span:
    [resource_spans] = message.resource_spans
    [scope_spans] = resource_spans.scope_spans
    [only] = scope_spans.spans
    return only


def exported(box: Box, *, is_json: bool = False, openinference: bool = False) -> ExportTraceServiceRequest:
    rows = box._store.trace(TRACE.hex())
    return parsed(_core.encode_otlp(rows, is_json, openinference), is_json)


both_forms = pytest.mark.parametrize("is_json", [False, True], ids=["protobuf", "json"])


# --- in ---------------------------------------------------------------------------------------------------------------


@both_forms
def test_body_becomes_spans_with_columns(box: Box, is_json: bool) -> None:
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 7, "x": 1}
    message = request(
        span(attributes, parent_span_id=b"\x01" * 8, kind=3, trace_state="a=b", flags=257),
        resource={"service.name": "shop", "service.version": "1.2", "deployment.environment.name": "prod"},
        scope="instrumentor",
    )
    assert box._store.receive_otlp(body_of(message, is_json), is_json) == (1, 0, 0, "")
    [row] = box._store.trace(TRACE.hex())
    assert (row["name"], row["kind"], row["status"]) == ("chat m", "llm", "ok")
    assert (row["span_id"], row["parent_id"]) == (SPAN.hex(), "01" * 8)
    assert (row["start_ns"], row["duration_ns"]) == (START_NS, 5_000_000)
    assert row["attributes"] == {
        "model_request": "m", "model": "m", "operation": "chat", "input_tokens": 7, "cost_source": "unpriced", "x": 1,
        "release": "1.2", "environment": "prod",
        "otel.kind": "client", "otel.trace_state": "a=b", "otel.flags": 257,
        "resource.service.name": "shop", "resource.service.version": "1.2",
        "resource.deployment.environment.name": "prod", "scope.name": "instrumentor",
        "semconv.keys": {"model": "gen_ai.request.model", "release": None, "environment": None},
    }  # fmt: skip


@both_forms
def test_failure_has_its_type_and_message(box: Box, is_json: bool) -> None:
    failed = span()
    failed.status.code = 2
    event = failed.events.add(name="exception", time_unix_nano=START_NS + 1)
    event.attributes.extend(key_values({"exception.type": "ValueError", "exception.message": "no"}))
    box._store.receive_otlp(body_of(request(failed), is_json), is_json)
    [row] = box._store.trace(TRACE.hex())
    assert (row["status"], row["attributes"]["error_type"], row["attributes"]["error_message"]) == (
        "error",
        "ValueError",
        "no",
    )
    found = the_span(exported(box))
    assert attributes_of(found.attributes) == attributes_of(key_values({"error.type": "ValueError"}))
    del found.attributes[:]
    assert found == failed  # no status message that was not there


@both_forms
def test_span_sent_again_is_stored_once(box: Box, is_json: bool) -> None:
    twice = request(span(), span(), span(span_id=b"\x02" * 8))
    assert box._store.receive_otlp(body_of(twice, is_json), is_json) == (2, 1, 0, "")
    assert box._store.receive_otlp(body_of(twice, is_json), is_json) == (0, 3, 0, "")
    assert box.spans().count() == 2


@both_forms
def test_span_without_valid_ids_is_rejected_and_the_rest_stored(box: Box, is_json: bool) -> None:
    message = request(span(trace_id=b"\x01" * 15), span(span_id=b""), span(trace_id=bytes(16)), span())
    stored, duplicates, rejected, why = box._store.receive_otlp(body_of(message, is_json), is_json)
    assert (stored, duplicates, rejected) == (1, 0, 3)
    assert "id" in why


@pytest.mark.parametrize("body", [b"", b"{}", b'{"resourceSpans": []}', b'{"unknown": {"deep": [1]}}'])
def test_empty_request_is_a_success(box: Box, body: bytes) -> None:
    assert box._store.receive_otlp(body, bool(body)) == (0, 0, 0, "")


def test_json_takes_numbers_as_text_and_skips_what_it_does_not_know(box: Box) -> None:
    one = {
        "traceId": TRACE.hex().upper(), "spanId": SPAN.hex(), "name": "n", "new": {"x": 1}, "parentSpanId": "",
        "startTimeUnixNano": str(START_NS), "endTimeUnixNano": START_NS + 1, "kind": 1, "status": None,
        "attributes": [
            {"key": "text", "value": {"intValue": "9007199254740993"}},
            {"key": "number", "value": {"intValue": 5}},
            {"key": "nan", "value": {"doubleValue": "NaN"}},
            {"key": "bytes", "value": {"bytesValue": "AAE="}},
            {"key": "none", "value": {}},
        ],
    }  # fmt: skip
    body = {"resourceSpans": [{"resource": None, "scopeSpans": [{"spans": [one], "later": 1}]}]}
    assert box._store.receive_otlp(json.dumps(body).encode(), True) == (1, 0, 0, "")
    [row] = box._store.trace(TRACE.hex())
    found = row["attributes"]
    assert (found["text"], found["number"], found["bytes"]) == (9007199254740993, 5, {"$bytes": "AAE="})
    assert math.isnan(found["nan"])  # type: ignore[arg-type]
    assert "none" not in found
    assert (row["start_ns"], row["duration_ns"], row["parent_id"]) == (START_NS, 1, None)


def test_scores_that_come_with_spans_are_scores(box: Box) -> None:
    judged = span({"evaluations.0.evaluation.name": "tone", "evaluations.0.evaluation.score": 0.5,
                   "evaluations.0.evaluation.annotator_kind": "HUMAN"})  # fmt: skip
    event = judged.events.add(name="gen_ai.evaluation.result", time_unix_nano=START_NS + 1)
    said = {"name": "faithful", "score.value": 1.0, "score.label": "pass", "explanation": "as the text says"}
    event.attributes.extend(key_values({f"gen_ai.evaluation.{key}": value for key, value in said.items()}))
    body = request(judged).SerializeToString()
    box._store.receive_otlp(body, False)
    box._store.receive_otlp(body, False)
    scores = {row["name"]: row for row in box._store.trace_scores(TRACE.hex())}
    assert len(box._store.trace_scores(TRACE.hex())) == 2
    assert (scores["faithful"]["value"], scores["faithful"]["label"]) == (1.0, "pass")
    assert (scores["faithful"]["span_id"], scores["faithful"]["at"]) == (SPAN.hex(), START_NS + 1)
    assert (scores["tone"]["value"], scores["tone"]["source"]) == (0.5, "human")
    assert box.spans("score.faithful > 0.5").count() == 1


# --- in and out -------------------------------------------------------------------------------------------------------

_TEXTS = st.text(max_size=20)
_SCALARS = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | _TEXTS
_NESTED = st.recursive(
    _SCALARS | st.none() | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=8,
).filter(lambda value: not (isinstance(value, dict) and "$bytes" in value))
_RULES = _core.attribute_rules()
_LISTS = [key[:-1] for _, key in _RULES if key.endswith("*")]
_KEYS = (
    st.sampled_from([key for _, key in _RULES if not key.endswith("*")])
    | st.builds("{}{}.{}".format, st.sampled_from(_LISTS), st.integers(0, 2), st.sampled_from(
        ["message.role", "message.content", "message.tool_calls.0.tool_call.id", "document.id", "content", "0.x",
         "a..b"]
    ))
    | st.sampled_from(["name", "ttft", "status", "resource.x", "scope.name", "otel.kind", "attributes.name",
                       "semconv.keys", "tokens_dialect", "gen_ai.usage.total_tokens", "__proto__",
                       "evaluations.0.evaluation.name"])
    | _TEXTS
)  # fmt: skip
_VALUES = _NESTED.filter(lambda value: value is not None)  # no value, no attribute
_ATTRIBUTES = st.dictionaries(_KEYS, _VALUES, max_size=12)


@st.composite
def whole_spans(draw: st.DrawFn) -> Span:
    count = st.integers(0, 2**32 - 1)
    drawn = span(
        draw(_ATTRIBUTES),
        name=draw(_TEXTS),
        kind=draw(st.integers(0, 5)),
        parent_span_id=draw(st.just(b"") | st.binary(min_size=8, max_size=8).filter(any)),
        trace_state=draw(_TEXTS),
        flags=draw(count),
        dropped_attributes_count=draw(count),
        dropped_events_count=draw(count),
        dropped_links_count=draw(count),
    )
    code, message = draw(st.integers(0, 2)), draw(_TEXTS)
    if code or message:
        drawn.status.code, drawn.status.message = code, message
    for _ in range(draw(st.integers(0, 2))):
        event = drawn.events.add(
            name=draw(st.just("exception") | _TEXTS), time_unix_nano=draw(st.integers(0, 2**63 - 1))
        )
        event.attributes.extend(key_values(draw(st.dictionaries(_TEXTS, _VALUES, max_size=3))))
        event.dropped_attributes_count = draw(count)
        link = drawn.links.add(trace_id=draw(st.binary(min_size=16, max_size=16).filter(any)), flags=draw(count))
        link.span_id = draw(st.binary(min_size=8, max_size=8).filter(any))
        link.attributes.extend(key_values(draw(st.dictionaries(_TEXTS, _VALUES, max_size=3))))
    return drawn


def check_nothing_lost(given: Span, found: Span) -> None:
    before, after = attributes_of(given.attributes), attributes_of(found.attributes)
    assert {key: after.get(key) for key in before} == before
    names = {key for _, key in _RULES} | {"gen_ai.operation.name", "spanbox.kind"}
    assert after.keys() - before.keys() <= names  # today's names for what older ones say
    for message in (given, found):
        del message.attributes[:]
        for part in (*message.events, *message.links):
            part.attributes.sort(key=lambda each: each.key)
    assert found == given


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=whole_spans(), is_json=st.booleans(), out_json=st.booleans())
def test_what_went_in_comes_out(box: Box, message: Span, is_json: bool, out_json: bool) -> None:
    resource = {"service.name": "shop", "list": ["a", 1], "schema": {"x": None}}
    body = body_of(request(message, resource=resource, scope="s"), is_json)
    assert box._store.receive_otlp(body, is_json)[0] == 1
    found = exported(box, is_json=out_json)
    box.erase(f'trace_id == "{TRACE.hex()}"')
    assert attributes_of(found.resource_spans[0].resource.attributes) == attributes_of(key_values(resource))
    assert found.resource_spans[0].scope_spans[0].scope.name == "s"
    check_nothing_lost(message, the_span(found))


def test_table_is_exported_like_dicts(box: Box) -> None:
    attributes = {"gen_ai.request.model": "m", "gen_ai.input.messages": [{"role": "user"}], "y": 2}
    box._store.receive_otlp(request(span(attributes), scope="s").SerializeToString(), False)
    [table] = list(_core.SpanStream(box._store, "", None, None, [], None, False))
    assert _core.encode_otlp(table, False, False) == _core.encode_otlp(box._store.trace(TRACE.hex()), False, False)
    [bare] = list(_core.SpanStream(box._store, "", None, None, ["name"], None, False))
    with pytest.raises(ValueError, match="row 0 has no trace_id, span_id or start"):
        _core.encode_otlp(bare, False, False)


def test_spans_recorded_here_are_exported_under_todays_names() -> None:
    row = {"trace_id": "ab" * 16, "span_id": "cd" * 8, "name": "n", "start_ns": 1, "status": "error", "duration_ns": 1,
           "kind": "llm", "model_request": "m", "ttft_ns": 250_000_000, "finish_reason": "stop", "mine": 1,
           "error_type": "E", "error_message": "no", "tenant": "t",
           "input": [{"role": "user", "content": "hi"}]}  # fmt: skip
    message = the_span(ExportTraceServiceRequest.FromString(_core.encode_otlp([row], False, False)))
    assert (message.status.code, message.status.message) == (2, "no")
    assert attributes_of(message.attributes) == attributes_of(key_values({
        "gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.response.finish_reasons": ["stop"], "error.type": "E", "spanbox.tenant": "t", "mine": 1,
        "gen_ai.input.messages": [{"role": "user", "content": "hi"}],
    }))  # fmt: skip


def test_every_kind_and_status_survives_a_journey(box: Box) -> None:
    kinds = ["span", "llm", "embedding", "retriever", "reranker", "tool", "agent", "workflow", "chain", "guardrail",
             "evaluator", "prompt", "memory"]  # fmt: skip
    statuses = ["ok", "error", "running", "interrupted"]
    rows = [
        {"trace_id": TRACE.hex(), "span_id": f"{number + 1:016x}", "name": kind, "start_ns": START_NS + number,
         "kind": kind, "status": statuses[number % 4], "input": {"q": 1}, "output": "o"}
        for number, kind in enumerate(kinds)
    ]  # fmt: skip
    box._store.receive_otlp(_core.encode_otlp(rows, False, False), False)
    found = box._store.trace(TRACE.hex())
    assert [(row["kind"], row["status"]) for row in found] == [(row["kind"], row["status"]) for row in rows]
    assert all(row["attributes"]["input"] == {"q": 1} and row["attributes"]["output"] == "o" for row in found)
    assert all(row["duration_ns"] is None for row in found)


def test_openinference_names_are_added_on_request(box: Box) -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": '{"x": 1}'}}
    rows = [
        {"trace_id": "ab" * 16, "span_id": "cd" * 8, "name": "n", "start_ns": 1, "kind": "llm", "model": "m",
         "input_tokens": 3, "output_tokens": 4, "input": [{"role": "user", "content": "hi"}],
         "output": [{"role": "assistant", "content": None, "tool_calls": [call]}]}
    ]  # fmt: skip
    message = ExportTraceServiceRequest.FromString(_core.encode_otlp(rows, False, True))
    found = {each.key: each.value for each in the_span(message).attributes}
    assert found["openinference.span.kind"].string_value == "LLM"
    assert found["llm.token_count.total"].int_value == 7
    assert found["input.value"].string_value == '[{"role":"user","content":"hi"}]'
    assert found["input.mime_type"].string_value == "application/json"
    assert found["llm.input_messages.0.message.content"].string_value == "hi"
    prefix = "llm.output_messages.0.message.tool_calls.0.tool_call."
    assert found[prefix + "function.name"].string_value == "f"
    assert found[prefix + "function.arguments"].string_value == '{"x": 1}'
    assert found["gen_ai.response.model"].string_value == "m"


def test_spans_are_grouped_by_resource_and_scope(box: Box) -> None:
    message = ExportTraceServiceRequest()
    for service in ("a", "b"):
        group = message.resource_spans.add(schema_url="https://r")
        group.resource.attributes.extend(key_values({"service.name": service}))
        for scope in ("x", "y"):
            part = group.scope_spans.add(schema_url="https://s")
            part.scope.name, part.scope.version = scope, "1"
            part.scope.attributes.extend(key_values({"k": 1}))
            for number in range(2):
                offset = 4 * (service == "b") + 2 * (scope == "y") + number
                part.spans.append(span(span_id=bytes(7) + bytes([offset + 1]), start_time_unix_nano=START_NS + offset))
    for is_json in (False, True):
        assert box._store.receive_otlp(body_of(message, is_json), is_json)[0] == 8
        assert exported(box, is_json=is_json) == message
        box.erase(f'trace_id == "{TRACE.hex()}"')


def test_more_attributes_than_columns_are_kept_as_one(box: Box) -> None:
    many = {f"k{number}": number for number in range(500)} | {"list": [1], "f": 1.5}
    box._store.receive_otlp(request(span(many)).SerializeToString(), False)
    [row] = box._store.trace(TRACE.hex())
    assert len(row["attributes"]) < 150
    assert attributes_of(the_span(exported(box)).attributes) == attributes_of(key_values(many))


def test_table_of_the_documentation_is_the_one_in_use() -> None:
    page = (Path(__file__).parents[2] / "docs" / "opentelemetry.md").read_text(encoding="utf-8")
    columns: dict[str, list[str]] = {}
    for column, key in _RULES:
        columns.setdefault(column, []).append(f"`{key}`")
    missing = [name for name, keys in columns.items() if f"| `{name}` | {', '.join(keys)} |" not in page]
    assert missing == []
    assert f"`{_core.CONVENTIONS.split()[0]}` {_core.CONVENTIONS.split()[1]}" in page
