"""OpenTelemetry span dumps: what the spans of the SDKs of Python and JavaScript look like as JSON.

{"spans": [...]}, a plain array, or one span a line; ids as integers or hexadecimal text, times as integer nanoseconds,
ISO text, or seconds and nanoseconds. Resource and scope travel along as resource.* and scope.* attributes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar

from spanbox import semconv
from spanbox._time import iso_ns
from spanbox.importers import FormatName, Row
from spanbox.importers._source import BadElement, Element, Source

_SPANS_KEY = re.compile(r'\s*\{[^\[]{0,2000}"spans"\s*:\s*\[')
_ARRAY = re.compile(r"\s*\[")


class Otel:
    name: ClassVar[FormatName] = "otel"
    note = ""

    def __init__(self, source: Source) -> None:
        self._source = source

    @staticmethod
    def recognises(head: str, first: Any) -> bool:
        marks = ('"start_time"' in head and '"context"' in head) or ('"startTime"' in head and '"spanContext"' in head)
        if isinstance(first, dict) and ("context" in first or "spanContext" in first):
            return marks
        return marks and bool(_SPANS_KEY.match(head) or _ARRAY.match(head))

    def elements(self) -> Iterator[Element]:
        head = self._source.peek()
        if _SPANS_KEY.match(head):
            return self._source.array(self._source.document(), key="spans")
        if _ARRAY.match(head):
            return self._source.array(self._source.document())
        return self._source.json_lines()

    def rows(self, element: Element) -> list[Row]:
        span = element.value
        if not isinstance(span, dict):
            raise BadElement("a span must be a JSON object")
        if "spanContext" in span:
            span = _as_python(span)
        context = span.get("context")
        if not isinstance(context, dict):
            raise BadElement("the span has no 'context' object")
        start_ns = _time_ns(span, "start_time")
        attributes = span.get("attributes") or {}
        if not isinstance(attributes, dict):
            raise BadElement("'attributes' must be an object")
        named = {str(key): value for key, value in attributes.items()}
        row = semconv.normalise(named, start_ns if -(2**63) <= start_ns < 2**63 else None)
        row |= {
            "trace_id": _hex_id(context.get("trace_id"), 32, "context.trace_id"),
            "span_id": _hex_id(context.get("span_id"), 16, "context.span_id"),
            "name": str(span.get("name") or ""),
            "start_ns": start_ns,
        }
        parent = span.get("parent_id")
        if isinstance(span.get("parent"), dict):
            parent = span["parent"].get("span_id")
        if parent is not None:
            row["parent_id"] = _hex_id(parent, 16, "parent.span_id")
        if span.get("end_time") is not None:
            row["duration_ns"] = _time_ns(span, "end_time") - start_ns
            if row["duration_ns"] < 0:
                raise BadElement("end_time is before start_time")
        _add_status(row, span)
        _add_surroundings(row, span)
        return [row]


def _hex_id(value: Any, digits: int, what: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise BadElement(f"{what} is missing or no id")
    try:
        number = value if isinstance(value, int) else int(value.removeprefix("0x"), 16)
    except ValueError:
        raise BadElement(f"{what} {value!r} is not hexadecimal") from None
    if not 0 < number < 1 << (4 * digits):
        raise BadElement(f"{what} {value!r} is not a number of {4 * digits} bits other than 0")
    return f"{number:0{digits}x}"


def _time_ns(span: dict[str, Any], key: str) -> int:
    value = span.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            return iso_ns(value)
        except ValueError:
            pass
    raise BadElement(f"{key} must be nanoseconds or ISO text, not {value!r}")


_JS_KINDS = ("internal", "server", "client", "producer", "consumer")


def _as_python(span: dict[str, Any]) -> dict[str, Any]:
    """A span of the JavaScript SDK as the one of Python writes it."""

    def time_ns(value: Any) -> Any:
        if isinstance(value, list) and len(value) == 2 and all(type(part) is int for part in value):
            return value[0] * 10**9 + value[1]
        return value

    def context(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            "trace_id": value.get("traceId"),
            "span_id": value.get("spanId"),
            "trace_state": value.get("traceState"),
        }

    status = span.get("status")
    code = status.get("code") if isinstance(status, dict) else None
    kind = span.get("kind")
    parent = span.get("parentSpanContext") or ({"spanId": span["parentSpanId"]} if span.get("parentSpanId") else None)
    return {
        **span,
        "context": context(span.get("spanContext")),
        "parent": context(parent),
        "start_time": time_ns(span.get("startTime")),
        "end_time": time_ns(span.get("endTime")),
        "kind": _JS_KINDS[kind] if type(kind) is int and 0 <= kind < len(_JS_KINDS) else None,
        "status": {
            "status_code": {1: "ok", 2: "error"}.get(code, "unset") if type(code) is int else "unset",
            "description": status.get("message") if isinstance(status, dict) else None,
        },
        "events": [
            {**event, "timestamp": time_ns(event.get("time"))}
            for event in span.get("events") or []
            if isinstance(event, dict)
        ],
        "links": [
            {**link, "context": context(link.get("context"))}
            for link in span.get("links") or []
            if isinstance(link, dict)
        ],
    }


def _add_status(row: Row, span: dict[str, Any]) -> None:
    status = span.get("status") or {}
    code = str(status.get("status_code", "unset")).rpartition(".")[2].lower() if isinstance(status, dict) else "unset"
    row["status"] = "error" if code == "error" else "ok"
    if code == "ok":
        row["otel.status_code"] = "ok"
    if isinstance(status, dict) and status.get("description"):
        row["error_message"] = str(status["description"])
    for event in span.get("events") or []:
        about = event.get("attributes") if isinstance(event, dict) and event.get("name") == "exception" else None
        if isinstance(about, dict) and row["status"] == "error":
            for column in ("error_type", "error_message"):
                said = about.get(f"exception.{column.removeprefix('error_')}")
                if column not in row and isinstance(said, str):
                    row[column] = said
                    row[semconv.KEYS] = {**row.get(semconv.KEYS, {}), column: None}  # no attribute of its own


def _add_surroundings(row: Row, span: dict[str, Any]) -> None:
    if isinstance(span.get("events"), list):
        row["events"] = [_event(event) for event in span["events"] if isinstance(event, dict)] or None
    if isinstance(span.get("links"), list):
        row["links"] = [_link(link) for link in span["links"] if isinstance(link, dict)] or None
    if span.get("kind"):
        row["otel.kind"] = str(span["kind"]).rpartition(".")[2].lower()
    resource = span.get("resource")
    if isinstance(resource, dict) and isinstance(resource.get("attributes"), dict):
        row |= {f"resource.{key}": value for key, value in resource["attributes"].items()}
        if resource.get("schema_url"):
            row["resource.schema_url"] = resource["schema_url"]
    scope = span.get("instrumentation_scope") or span.get("scope")
    if isinstance(scope, dict):
        row |= {f"scope.{key}": value for key, value in scope.items() if value not in (None, "", {})}


def _event(event: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"name": str(event.get("name") or "")}
    if event.get("timestamp") is not None:
        made["time_ns"] = _time_ns(event, "timestamp")
    return made | ({"attributes": event["attributes"]} if event.get("attributes") else {})


def _link(link: dict[str, Any]) -> dict[str, Any]:
    context = link.get("context")
    context = context if isinstance(context, dict) else {}
    made = {
        "trace_id": _hex_id(context.get("trace_id"), 32, "context.trace_id of a link"),
        "span_id": _hex_id(context.get("span_id"), 16, "context.span_id of a link"),
    }
    return made | ({"attributes": link["attributes"]} if link.get("attributes") else {})
