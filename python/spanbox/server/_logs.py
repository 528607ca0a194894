"""OTLP's log records that are events of language models, as the store has them.

An evaluation becomes a score of the span it is about. Others, such as the messages of a call: a span is never changed
once it is stored, and its events may come before it or after, so each becomes a span below it, which ends when it
starts. Its id is made of what it says, so that what is sent again is stored once.

Thread rule: functions; call from any thread.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
import threading
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from spanbox._protobuf import fields
from spanbox.server._otlp import NothingKept, Sink

_TEXTS = {
    "name": "gen_ai.evaluation.name",
    "label": "gen_ai.evaluation.score.label",
    "explanation": "gen_ai.evaluation.explanation",
    "source": "spanbox.evaluation.kind",
    "evaluator": "spanbox.evaluation.evaluator",
    "version": "spanbox.evaluation.version",
}
_TRACE, _SPAN = re.compile(r"(?!0{32})[0-9a-fA-F]{32}"), re.compile(r"(?!0{16})[0-9a-fA-F]{16}")
_one_at_a_time = threading.Lock()  # a sender that has waited too long sends the same again while it is being stored
_LAST_NS = (1 << 63) - 1
_GEN_AI = "gen_ai."
_EVALUATION = "gen_ai.evaluation.result"
_MAX_DEPTH = 32
Json = dict[str, Any]


class Events(NamedTuple):
    """What a request holds."""

    traces: bytes | None  # a request of traces, as OTLP/JSON
    scores: list[Json]  # as Store.append_scores takes them
    left_out: int  # records that are no events of a model's call, or of no span


def receive(store: Sink, body: bytes, is_json: bool) -> tuple[int, int, int, str]:
    """Stored, duplicates, rejected, and why. ValueError: not OTLP."""
    events = read(body, is_json=is_json)
    if events.traces is None and not events.scores:
        raise NothingKept(
            "spanbox stores of logs only gen_ai events: set OTEL_LOGS_EXPORTER=none, or send them elsewhere"
        )
    stored = duplicates = 0
    if events.traces is not None:
        stored, duplicates, _, _ = store.receive_otlp(events.traces, True)
    with _one_at_a_time:
        new = _new(store, events.scores)
        if new:
            store.append_scores(new)
    duplicates += len(events.scores) - len(new)
    message = "only gen_ai events of spans are kept" if events.left_out else ""
    return stored + len(new), duplicates, events.left_out, message


def _new(store: Sink, scores: list[Json]) -> list[Json]:
    """Those that the store does not have."""
    known: set[Identity] = set()
    for trace in {score["trace_id"] for score in scores}:
        found = store.scan(f'trace_id == "{trace}"', None, None, [], None, "", False, True)
        for at in range(found.rows):
            row = {name: found.column(name)[at] for name in found.column_names}
            known.add(_identity({**row, "at_ns": row.get("at", row.get("start"))}))
    new = []
    for score in scores:
        if (identity := _identity(score)) not in known:
            known.add(identity)
            new.append(score)
    return new


Identity = tuple[object, ...]


def _identity(score: Mapping[str, Any]) -> Identity:
    return tuple(score.get(name) for name in ("trace_id", "span_id", "name", "at_ns", "value", "label", "evaluator"))


def read(body: bytes, *, is_json: bool) -> Events:
    """ValueError: the body is no OTLP."""
    resources, scores, left_out = [], [], 0
    for resource, scopes in _json_resources(body) if is_json else _protobuf_resources(body):
        spans = []
        for scope, records in scopes:
            found = [_event(record) for record in records]
            left_out += found.count(None)
            scores += [each for each in found if each is not None and "value" in each]
            spans.append(
                {"scope": scope, "spans": [each for each in found if each is not None and "value" not in each]}
            )
        if any(each["spans"] for each in spans):
            resources.append({"resource": resource, "scopeSpans": spans})
    return Events(json.dumps({"resourceSpans": resources}).encode() if resources else None, scores, left_out)


def _event(record: Json) -> Json | None:
    """A score, a span, or None."""
    attributes = [each for each in _list(record.get("attributes")) if isinstance(each, dict)]
    named = {str(each.get("key")): each.get("value") for each in attributes}
    name = record.get("eventName") or _text(named.get("event.name"))
    trace, span = record.get("traceId"), record.get("spanId")
    if not isinstance(name, str) or not name.startswith(_GEN_AI) or not isinstance(trace, str) or not trace:
        return None
    parent = span if isinstance(span, str) else ""
    at = str(record.get("timeUnixNano") or record.get("observedTimeUnixNano") or "0")
    if name == _EVALUATION:
        return _score(trace, parent, at, named)
    given = [each for each in attributes if each.get("key") != "event.name"]
    if body := record.get("body"):
        given.append({"key": f"{name}.body", "value": body})
    identity = json.dumps([trace, parent, name, at, given], sort_keys=True).encode()
    return {
        "traceId": trace,
        "spanId": hashlib.blake2b(identity, digest_size=8).hexdigest(),
        "parentSpanId": parent,
        "name": name,
        "kind": 1,
        "startTimeUnixNano": at,
        "endTimeUnixNano": at,
        "attributes": [*given, {"key": "spanbox.kind", "value": {"stringValue": "span"}}],
    }


def _score(trace: str, span: str, at: str, named: Mapping[str, Any]) -> Json | None:
    texts = {name: _text(named.get(key)) for name, key in _TEXTS.items()}
    value = _number(named.get("gen_ai.evaluation.score.value"))
    if not texts["name"] or not _TRACE.fullmatch(trace) or (value is None and not texts["label"]) or not at.isdigit():
        return None
    source = texts.pop("source")
    told = {name: text for name, text in texts.items() if text}
    known = source if source in ("rule", "judge", "human", "feedback", "experiment") else "judge"
    about = {"trace_id": trace.lower(), "span_id": span.lower() if _SPAN.fullmatch(span) else None}
    return {**told, **about, "source": known, "value": value, "at_ns": min(int(at), _LAST_NS)}


def _number(value: object) -> float | bool | None:
    if not isinstance(value, Mapping):
        return None
    if isinstance(value.get("boolValue"), bool):
        return bool(value["boolValue"])
    for key in ("doubleValue", "intValue"):
        if key in value:
            try:
                return float(value[key])
            except (TypeError, ValueError):
                return None
    return None


def _text(value: object) -> object:
    return value.get("stringValue") if isinstance(value, Mapping) else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


Scopes = list[tuple[Json, list[Json]]]


def _json_resources(body: bytes) -> Iterator[tuple[Json, Scopes]]:
    try:
        request = json.loads(body) if body else {}
    except RecursionError:
        raise ValueError("values nest too deep") from None
    if not isinstance(request, dict):
        raise ValueError("a request is a mapping")
    for logs in _list(request.get("resourceLogs")):
        if not isinstance(logs, dict):
            raise ValueError("resourceLogs is a list of mappings")
        scopes = [each for each in _list(logs.get("scopeLogs")) if isinstance(each, dict)]
        yield (
            logs.get("resource") or {},
            [
                (each.get("scope") or {}, [one for one in _list(each.get("logRecords")) if isinstance(one, dict)])
                for each in scopes
            ],
        )


def _protobuf_resources(body: bytes) -> Iterator[tuple[Json, Scopes]]:
    for number, logs in fields(body):
        if number != 1 or not isinstance(logs, bytes):
            continue
        resource: Json = {}
        scopes: Scopes = []
        for part, content in fields(logs):
            if part == 1 and isinstance(content, bytes):
                resource = {"attributes": _attributes(content, 1)}
            elif part == 2 and isinstance(content, bytes):
                scopes.append(_scope(content))
        yield resource, scopes


def _scope(message: bytes) -> tuple[Json, list[Json]]:
    scope: Json = {}
    records = []
    for number, content in fields(message):
        if number == 1 and isinstance(content, bytes):
            named = {"name": 1, "version": 2}
            scope = {key: _string(content, place) for key, place in named.items()}
            scope["attributes"] = _attributes(content, 3)
        elif number == 2 and isinstance(content, bytes):
            records.append(_record(content))
    return scope, records


def _record(message: bytes) -> Json:
    record: Json = {"attributes": _attributes(message, 6)}
    for number, content in fields(message):
        if number in (1, 11) and isinstance(content, int):
            record["timeUnixNano" if number == 1 else "observedTimeUnixNano"] = str(content)
        elif number == 5 and isinstance(content, bytes):
            record["body"] = _value(content)
        elif number in (9, 10) and isinstance(content, bytes):
            record["traceId" if number == 9 else "spanId"] = content.hex()
        elif number == 12 and isinstance(content, bytes):
            record["eventName"] = content.decode("utf-8", "replace")
    return record


def _string(message: bytes, place: int) -> str:
    found = [content for number, content in fields(message) if number == place and isinstance(content, bytes)]
    return found[-1].decode("utf-8", "replace") if found else ""


def _attributes(message: bytes, place: int, depth: int = 0) -> list[Json]:
    return [
        _pair(content, depth) for number, content in fields(message) if number == place and isinstance(content, bytes)
    ]


def _pair(message: bytes, depth: int) -> Json:
    values = [content for number, content in fields(message) if number == 2 and isinstance(content, bytes)]
    return {"key": _string(message, 1), "value": _value(values[-1], depth) if values else {}}


def _value(message: bytes, depth: int = 0) -> Json:
    """An AnyValue as OTLP/JSON has it."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"values nest deeper than {_MAX_DEPTH}")
    value: Json = {}
    for number, content in fields(message):
        if isinstance(content, int):
            if number == 2:
                value = {"boolValue": bool(content)}
            elif number == 3:
                value = {"intValue": str(content - (1 << 64) if content >> 63 else content)}
            elif number == 4:
                value = _double(content)
        elif number == 1:
            value = {"stringValue": content.decode("utf-8", "replace")}
        elif number == 5:
            each = [inner for place, inner in fields(content) if place == 1 and isinstance(inner, bytes)]
            value = {"arrayValue": {"values": [_value(inner, depth + 1) for inner in each]}}
        elif number == 6:
            value = {"kvlistValue": {"values": _attributes(content, 1, depth + 1)}}
        elif number == 7:
            value = {"bytesValue": base64.b64encode(content).decode()}
    return value


def _double(bits: int) -> Json:
    number: float = struct.unpack("<d", bits.to_bytes(8, "little"))[0]
    if number != number or number in (float("inf"), float("-inf")):
        return {"doubleValue": "NaN" if number != number else "Infinity" if number > 0 else "-Infinity"}
    return {"doubleValue": number}
