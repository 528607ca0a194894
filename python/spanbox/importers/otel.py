"""OpenTelemetry span dumps: what the Python SDK's spans look like as JSON.

{"spans": [...]}, a plain array, or one span a line; ids as integers or hexadecimal text, times as
integer nanoseconds or ISO text. Attributes go through semconv; resource and scope travel along as resource.* and
scope.* attributes.
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
        marks = '"start_time"' in head and '"context"' in head
        if isinstance(first, dict) and "context" in first:
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
        context = span.get("context")
        if not isinstance(context, dict):
            raise BadElement("the span has no 'context' object")
        start_ns = _time_ns(span, "start_time")
        attributes = span.get("attributes") or {}
        if not isinstance(attributes, dict):
            raise BadElement("'attributes' must be an object")
        row = semconv.normalise(_flat_values(attributes), start_ns=start_ns)
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


def _flat_values(attributes: dict[str, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in attributes.items()}


def _add_status(row: Row, span: dict[str, Any]) -> None:
    status = span.get("status") or {}
    code = str(status.get("status_code", "unset")).rpartition(".")[2].lower() if isinstance(status, dict) else "unset"
    row["status"] = "error" if code == "error" else "ok"
    if code == "unset":
        row["otel.status_code"] = "unset"
    if isinstance(status, dict) and status.get("description"):
        row["error_message"] = str(status["description"])
    for event in span.get("events") or []:
        about = event.get("attributes") if isinstance(event, dict) and event.get("name") == "exception" else None
        if isinstance(about, dict) and row["status"] == "error":
            row.setdefault("error_type", about.get("exception.type"))
            row.setdefault("error_message", about.get("exception.message"))


def _add_surroundings(row: Row, span: dict[str, Any]) -> None:
    if span.get("events"):
        row["events"] = span["events"]
    if span.get("links"):
        row["links"] = span["links"]
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
