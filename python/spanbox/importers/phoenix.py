"""Spans of Phoenix as its data frames are written, an object a line: context.trace_id, attributes.llm.model_name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from spanbox import _core
from spanbox._time import iso_ns
from spanbox.importers import FormatName, Row
from spanbox.importers._source import BadElement, Element, Source, span_id_of, trace_id_of

_ATTRIBUTES = "attributes."


class Phoenix:
    name: ClassVar[FormatName] = "phoenix"
    note = ""

    def __init__(self, source: Source) -> None:
        self._source = source

    @staticmethod
    def recognises(head: str, first: Any) -> bool:
        return '"context.trace_id"' in head and '"start_time"' in head

    def elements(self) -> Iterator[Element]:
        if self._source.peek().lstrip().startswith("["):
            return self._source.array(self._source.document())
        return self._source.json_lines()

    def rows(self, element: Element) -> list[Row]:
        span = element.value
        if not isinstance(span, dict):
            raise BadElement("a span must be a JSON object")
        start_ns = _time_ns(span, "start_time")
        attributes: dict[str, Any] = {}
        for key, value in span.items():
            if key.startswith(_ATTRIBUTES):
                _flatten(key.removeprefix(_ATTRIBUTES), value, attributes, 0)
        if span.get("span_kind"):
            attributes.setdefault("openinference.span.kind", str(span["span_kind"]))
        row = _core.normalise(attributes, start_ns)
        row |= {
            "trace_id": trace_id_of(str(span.get("context.trace_id") or ""), "context.trace_id"),
            "span_id": span_id_of(str(span.get("context.span_id") or ""), "context.span_id"),
            "name": str(span.get("name") or ""),
            "start_ns": start_ns,
            "status": "error" if span.get("status_code") == "ERROR" else "ok",
            "error_message": span.get("status_message") or None,
            "events": span.get("events") or None,
        }
        if span.get("parent_id"):
            row["parent_id"] = span_id_of(str(span["parent_id"]), "parent_id")
        if span.get("end_time") is not None:
            row["duration_ns"] = max(0, _time_ns(span, "end_time") - start_ns)
        return [row]


def _flatten(name: str, value: Any, attributes: dict[str, Any], depth: int) -> None:
    """Data frames nest what OpenInference spells flat: llm.input_messages = [{"message.role": "user"}]."""
    parts = (
        value.items() if isinstance(value, dict)
        else enumerate(value) if isinstance(value, list) and value and isinstance(value[0], dict)
        else None
    )  # fmt: skip
    if parts is None or depth > 16:
        attributes[name] = value
        return
    for key, part in parts:
        _flatten(f"{name}.{key}", part, attributes, depth + 1)


def _time_ns(span: dict[str, Any], key: str) -> int:
    value = span.get(key)
    if type(value) is int:  # as pandas writes moments: milliseconds
        return value * 1_000_000
    try:
        return iso_ns(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, AttributeError):
        raise BadElement(f"{key} must be a date and time, not {value!r}") from None
