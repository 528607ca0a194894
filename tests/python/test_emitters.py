"""What real emitters send (fixtures/, made by make_fixtures.py) is understood, and goes out as it came in."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import spanbox
from google.protobuf.json_format import MessageToDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from spanbox import Box, _core

sys.path.insert(0, str(Path(__file__).parent))
from make_fixtures import EMITTERS, FIXTURES, emit, version_of

NAMES = sorted(path.stem for path in FIXTURES.glob("*.json"))
CALLS = {"llm", "embedding"}
Spans = list[dict[str, Any]]


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text("utf-8"))
    return found


def spans_of(request: Any) -> Iterator[dict[str, Any]]:
    for resource in request["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            yield from scope["spans"]


def value_of(value: dict[str, Any]) -> Any:
    [(kind, content)] = value.items() or [("", None)]
    if kind == "arrayValue":
        return [value_of(each) for each in content.get("values", [])]
    if kind == "kvlistValue":
        return {each["key"]: value_of(each["value"]) for each in content.get("values", [])}
    return int(content) if kind == "intValue" else content


def attributes_of(span: dict[str, Any]) -> dict[str, Any]:
    return {each["key"]: value_of(each["value"]) for each in span.get("attributes", [])}


def names_of(request: Any) -> set[tuple[str, str]]:
    """The attributes by the names of their spans, where those of lists are one."""
    return {
        (span["name"], "".join("#" if part.isdecimal() else part + "." for part in key.split(".")))
        for span in spans_of(request)
        for key in attributes_of(span)
    }


def test_every_emitter_has_a_fixture() -> None:
    assert set(NAMES) == EMITTERS.keys()


@pytest.mark.parametrize("name", NAMES)
def test_its_calls_are_understood(box: Box, tmp_path: Path, name: str) -> None:
    path = tmp_path / "body.json"
    path.write_text(json.dumps(load(name)["request"]))
    report = box.import_file(path)
    assert (report.format, report.spans) == ("otlp", len(list(spans_of(load(name)["request"]))))
    columns = ("kind", "model", "provider", "input", "output", "input_tokens", "output_tokens", "status", "cost_source")
    rows = list(box.spans().columns(*columns))
    calls = [row for row in rows if row["kind"] in CALLS]
    assert calls
    answered = [row for row in calls if row["status"] == "ok"]
    assert answered
    assert all(row["input"] and row["output"] for row in answered), answered
    if EMITTERS[name].calls.__name__ in ("call_openai", "call_anthropic"):
        assert all(row["model"] and row["provider"] for row in answered)
        assert all(row["input_tokens"] > 0 and row["output_tokens"] > 0 for row in answered)
        assert {row["cost_source"] for row in answered} == {"computed"}
        assert name.endswith("anthropic") or [row["status"] for row in calls].count("error") == 1


def test_openinferences_event_of_the_first_token_is_the_ttft(box: Box) -> None:
    [resource] = load("openinference_openai")["request"]["resourceSpans"]
    box._store.receive_otlp(json.dumps({"resourceSpans": [resource]}).encode(), True)
    streamed = [
        span for span in spans_of({"resourceSpans": [resource]})
        if any(event["name"] == "First Token Stream Event" for event in span.get("events", []))
    ]  # fmt: skip
    assert streamed
    for span in streamed:
        [row] = box.spans(f'span_id == "{span["spanId"]}"').columns("ttft_ns")
        assert row["ttft_ns"] == int(span["events"][0]["timeUnixNano"]) - int(span["startTimeUnixNano"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("is_json", [True, False])
def test_it_goes_out_as_it_came_in(box: Box, name: str, is_json: bool) -> None:
    request = load(name)["request"]
    assert sent_again(box, request, is_json=is_json) == told_by(request)


def told_by(request: Any) -> dict[str, tuple[Any, ...]]:
    return {
        span["spanId"]: (
            span["traceId"], span.get("parentSpanId", ""), span["name"], span.get("kind", 0),
            span["startTimeUnixNano"], span["endTimeUnixNano"], span.get("status", {}).get("code", 0),
            attributes_of(span), len(span.get("events", [])), len(span.get("links", [])),
        )
        for span in spans_of(request)
    }  # fmt: skip


def sent_again(box: Box, request: Any, *, is_json: bool) -> dict[str, tuple[Any, ...]]:
    """What comes out, without the attributes that are added to those that came in."""
    stored, _, rejected, _ = box._store.receive_otlp(json.dumps(request).encode(), True)
    given = told_by(request)
    assert (stored, rejected) == (len(given), 0)
    found: dict[str, tuple[Any, ...]] = {}
    for span in given:  # each alone: a column of one answer has one type
        rows = box._store.scan(f'span_id == "{span}"', None, None, [], None, "", False)
        encoded = _core.encode_otlp(rows, is_json, False)
        if not is_json:
            request_of = ExportTraceServiceRequest.FromString(encoded)
            assert [one.span_id.hex() for one in _spans(request_of)] == [span]
            encoded = _as_json(encoded)
        found |= told_by(json.loads(encoded))
    for span, told in found.items():
        wanted = given[span][7]
        found[span] = (*told[:7], {key: value for key, value in told[7].items() if key in wanted}, *told[8:])
    return found


def _spans(request: ExportTraceServiceRequest) -> Iterator[Any]:
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            yield from scope.spans


def _as_json(body: bytes) -> bytes:
    """By the library of protobuf, with ids as OTLP/JSON has them."""
    request = MessageToDict(ExportTraceServiceRequest.FromString(body), use_integers_for_enums=True)
    for span in spans_of(request):
        for key in ("traceId", "spanId", "parentSpanId"):
            if key in span:
                span[key] = base64.b64decode(span[key]).hex()
    return json.dumps(request).encode()


@pytest.mark.parametrize("name", NAMES)
def test_the_emitter_still_sends_the_same_attributes(name: str) -> None:
    version = version_of(name)
    package = EMITTERS[name].package
    if version is None:
        pytest.skip(f"{package} is not installed")
    known = load(name)
    if known["emitter"] != f"{package} {version}":
        pytest.skip(f"{package} {version} is not the one of the fixture: python tests/python/make_fixtures.py {name}")
    assert names_of(emit(name)) == names_of(known["request"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_mixture_of_their_attributes_goes_out_as_it_came_in(tmp_path_factory: Any, data: st.DataObject) -> None:
    """Attributes of several dialects on one span, some left out, some of another value."""
    pool = sorted(
        {json.dumps(each, sort_keys=True) for name in NAMES for span in spans_of(load(name)["request"])
         for each in span.get("attributes", [])}
    )  # fmt: skip
    chosen = [json.loads(each) for each in data.draw(st.lists(st.sampled_from(pool), max_size=30))]
    others = {
        "stringValue": st.text(max_size=20),
        "intValue": st.integers(0, 2**63 - 1).map(str),
        "boolValue": st.booleans(),
        "doubleValue": st.floats(allow_nan=False, allow_infinity=False),
    }

    def drawn(value: dict[str, Any]) -> dict[str, Any]:
        [kind] = value
        other = st.just(value) if kind not in others else others[kind].map(lambda content: {kind: content})
        return data.draw(st.one_of(st.just(value), other))

    attributes = {each["key"]: drawn(each["value"]) for each in chosen}
    span = {
        "traceId": "ab" * 16, "spanId": "cd" * 8, "name": "chat", "kind": 3, "startTimeUnixNano": "1790000000000000000",
        "endTimeUnixNano": "1790000000001000000", "status": {},
        "attributes": [{"key": key, "value": value} for key, value in attributes.items()],
    }  # fmt: skip
    request = {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {}, "spans": [span]}]}]}
    box = spanbox.open(tmp_path_factory.mktemp("box"), create=True)
    assert sent_again(box, request, is_json=data.draw(st.booleans())) == told_by(request)
