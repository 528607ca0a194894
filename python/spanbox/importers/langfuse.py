"""Langfuse exports: {"trace": {...}, "observations": [...]}, one observation a line, or an array of them.

What Langfuse took from OpenTelemetry is below `metadata` there, and is the span's own again here.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any, ClassVar

from spanbox import _core
from spanbox._time import iso_ns
from spanbox.importers import FormatName, Row
from spanbox.importers._source import BadElement, Element, Source, span_id_of, trace_id_of

_DOCUMENT = re.compile(r'\s*\{\s*"(?:trace|observations)"')
_TEXT_OF = {
    "langfuse.observation.model.name": "model",
    "langfuse.observation.prompt.name": "promptName",
    "langfuse.observation.completion_start_time": "completionStartTime",
    "langfuse.environment": "environment",
    "langfuse.version": "version",
}


class Langfuse:
    name: ClassVar[FormatName] = "langfuse"
    note = ""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._trace: dict[str, Any] = {}

    @staticmethod
    def recognises(head: str, first: Any) -> bool:
        return '"traceId"' in head and '"startTime"' in head and '"parentObservationId"' in head

    def elements(self) -> Iterator[Element]:
        head = self._source.peek()
        if _DOCUMENT.match(head):
            text = self._source.document()
            with contextlib.suppress(ValueError, RecursionError):  # damaged: what is whole comes without it
                trace = json.loads(text).get("trace")
                self._trace = trace if isinstance(trace, dict) else {}
            return self._source.array(text, key="observations")
        if head.lstrip().startswith("["):
            return self._source.array(self._source.document())
        return self._source.json_lines()

    def rows(self, element: Element) -> list[Row]:
        given = element.value
        if not isinstance(given, dict):
            raise BadElement("an observation must be a JSON object")
        start_ns = _time_ns(given, "startTime")
        metadata = _parsed(given.get("metadata"))
        metadata = dict(metadata) if isinstance(metadata, dict) else {"metadata": metadata} if metadata else {}
        attributes = _own_attributes(metadata.pop("attributes", None))
        attributes |= {key: given[of] for key, of in _TEXT_OF.items() if isinstance(given.get(of), str)}
        attributes |= _observation(given)
        for key, of in (("user.id", "userId"), ("session.id", "sessionId"), ("langfuse.release", "release")):
            if isinstance(self._trace.get(of), str):
                attributes.setdefault(key, self._trace[of])
        row = _core.normalise(attributes, start_ns)
        trace_id = str(given.get("traceId") or "")
        row |= {
            "trace_id": trace_id_of(trace_id, "traceId"),
            "span_id": span_id_of(str(given.get("id") or ""), "id"),
            "name": str(given.get("name") or ""),
            "start_ns": start_ns,
        }
        for prefix, key in (("resource", "resourceAttributes"), ("scope", "scope")):
            part = metadata.pop(key, None)
            row |= {f"{prefix}.{name}": value for name, value in part.items()} if isinstance(part, dict) else {}
        row["langfuse.metadata"] = metadata or None
        row["langfuse.tags"] = self._trace.get("tags") or None
        if given.get("parentObservationId"):
            row["parent_id"] = span_id_of(str(given["parentObservationId"]), "parentObservationId")
        if given.get("endTime") is not None:
            row["duration_ns"] = max(0, _time_ns(given, "endTime") - start_ns)
        if given.get("level") == "ERROR":
            row["status"] = "error"
            row["error_message"] = given.get("statusMessage")
        return [row]


def _observation(given: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"langfuse.observation.type": str(given.get("type") or "span").lower()}
    for key, of in (
        ("usage_details", "usageDetails"),
        ("cost_details", "costDetails"),
        ("model.parameters", "modelParameters"),
    ):
        details = _parsed(given.get(of))
        if isinstance(details, dict) and details:
            made[f"langfuse.observation.{key}"] = json.dumps(details)
    for key in ("input", "output"):
        if given.get(key) is not None:
            made[f"langfuse.observation.{key}"] = _parsed(given[key])
    if given.get("promptVersion") is not None:
        made["langfuse.observation.prompt.version"] = str(given["promptVersion"])
    if given.get("level") not in (None, "DEFAULT"):
        made["langfuse.observation.level"] = str(given["level"])
    return made


def _own_attributes(attributes: Any) -> dict[str, Any]:
    """Those of the span that Langfuse was sent, but for payloads, which it has made input and output of."""
    if not isinstance(attributes, dict):
        return {}
    payloads = tuple(key.removesuffix("*") for column, key in _core.attribute_rules() if column in ("input", "output"))
    return {str(key): value for key, value in attributes.items() if not str(key).startswith(payloads)}


def _parsed(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in "{[":
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(value)
    return value


def _time_ns(given: dict[str, Any], key: str) -> int:
    try:
        return iso_ns(given[key])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BadElement(f"{key} must be a date and time, not {given.get(key)!r}") from None
