"""Helicone requests, as its export and its API give them: one request a line, or an array, or {"data": [...]}.

A request is a trace of its own; requests of a session have its id as `session_id`.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from spanbox import replies
from spanbox._time import iso_ns
from spanbox.importers import FormatName, Row
from spanbox.importers._source import BadElement, Element, Source, span_id_of, trace_id_of

_DOCUMENT = re.compile(r'\s*\{\s*"data"\s*:')
_SESSION, _PROMPT = "Helicone-Session-Id", "Helicone-Prompt-Id"
_COUNTS = {
    "input_tokens": "prompt_tokens",
    "output_tokens": "completion_tokens",
    "cache_read_tokens": "prompt_cache_read_tokens",
    "cache_write_tokens": "prompt_cache_write_tokens",
    "reasoning_tokens": "reasoning_tokens",
}
_PROMPTS = ("messages", "input", "contents", "prompt")


class Helicone:
    name: ClassVar[FormatName] = "helicone"
    note = ""

    def __init__(self, source: Source) -> None:
        self._source = source

    @staticmethod
    def recognises(head: str, first: Any) -> bool:
        return '"request_created_at"' in head and '"request_id"' in head

    def elements(self) -> Iterator[Element]:
        head = self._source.peek()
        if _DOCUMENT.match(head):
            return self._source.array(self._source.document(), key="data")
        if head.lstrip().startswith("["):
            return self._source.array(self._source.document())
        return self._source.json_lines()

    def rows(self, element: Element) -> list[Row]:
        given = element.value
        if not isinstance(given, dict):
            raise BadElement("a request must be a JSON object")
        request, response = _parsed(given.get("request_body")), _parsed(given.get("response_body"))
        properties = _mapping(given.get("properties")) | _mapping(given.get("request_properties"))
        status = given.get("response_status")
        reply = replies.parse(_text(given, "provider"), response or "", status=status if type(status) is int else None)
        asked = _text(given, "request_model") or _text(_mapping(request), "model")
        answered = _text(given, "response_model") or reply.model or _text(given, "model") or asked
        identity = str(given.get("request_id") or "")
        row: Row = {
            "trace_id": trace_id_of(identity, "request_id"),
            "span_id": span_id_of(identity, "request_id"),
            "name": f"chat {answered}" if answered else str(given.get("request_path") or "request"),
            "kind": "embedding" if "embedding" in str(given.get("request_path")) else "llm",
            "start_ns": _time_ns(given, "request_created_at"),
            "provider": (_text(given, "provider") or "").lower() or None,
            "model_request": asked,
            "model": answered,
            "user_id": _text(given, "request_user_id") or _text(given, "helicone_user") or _text(given, "user_id"),
            "session_id": _text(properties, _SESSION),
            "prompt_name": _text(properties, _PROMPT) or _text(given, "prompt_id"),
            "finish_reason": reply.finish_reason,
            "input": next((request[key] for key in _PROMPTS if key in request), request)
            if isinstance(request, dict)
            else request,
            "output": response,
            "gen_ai.response.id": reply.id,
            "helicone.properties": properties or None,
            "helicone.request_path": given.get("request_path"),
            "helicone.scores": given.get("scores") or None,
        }
        _add_times(row, given)
        _add_usage(row, given, reply.tokens)
        if type(status) is int and (status >= 400 or status < 0):
            message = reply.error.message if reply.error else None
            row |= {"status": "error", "error_type": str(status), "error_message": message}
        if given.get("cache_reference_id"):  # the request that the answer was kept of
            row["served_from_cache"] = True
        return [{name: value for name, value in row.items() if value is not None}]


def _add_times(row: Row, given: Mapping[str, Any]) -> None:
    delay_ms = given.get("delay_ms", given.get("latency"))
    if isinstance(delay_ms, int | float) and delay_ms >= 0:
        row["duration_ns"] = round(delay_ms * 1e6)
    elif given.get("response_created_at"):
        row["duration_ns"] = max(0, _time_ns(given, "response_created_at") - row["start_ns"])
    first_ms = given.get("time_to_first_token")
    if isinstance(first_ms, int | float) and first_ms > 0:
        row["ttft_ns"] = round(first_ms * 1e6)


def _add_usage(row: Row, given: Mapping[str, Any], tokens: Mapping[str, int]) -> None:
    """What the reply tells; where it is not kept, what Helicone counted."""
    counted = {column: given.get(key) for column, key in _COUNTS.items()}
    row.update(tokens or {column: count for column, count in counted.items() if type(count) is int and count >= 0})
    cost = given.get("costUSD", given.get("cost"))
    if isinstance(cost, int | float) and not isinstance(cost, bool) and cost > 0:
        row |= {"cost_usd": float(cost), "cost_source": "reported"}


def _parsed(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in "{[":
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(value)
    return value


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(given: Mapping[str, Any], key: str) -> str | None:
    value = given.get(key)
    return value if isinstance(value, str) and value else None


def _time_ns(given: Mapping[str, Any], key: str) -> int:
    """ISO 8601, or as ClickHouse writes it; without an offset UTC."""
    value = given.get(key)
    try:
        text = str(value).replace(" ", "T", 1)
        return iso_ns(text if text.endswith("Z") or re.search(r"[+-]\d\d:?\d\d$", text) else text + "Z")
    except ValueError:
        raise BadElement(f"{key} must be a date and time, not {value!r}") from None
