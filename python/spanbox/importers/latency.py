"""Measured requests: llmperf's individual results (a JSON array) and vLLM replay logs (JSON lines).

Each request is a trace of one llm span with its true time to first token and total time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, ClassVar

from spanbox.importers import FormatName, Row
from spanbox.importers._source import EPOCH_NS, MAX_LINE_BYTES, BadElement, Element, Ids, Source

_GAP_NS = 1_000_000


class LlmPerf:
    name: ClassVar[FormatName] = "llmperf"

    def __init__(self, source: Source) -> None:
        self._source = source
        self._text = source.document()
        self._content = Ids(
            self.name, self._text
        ).trace()  # two failed requests may look alike: all of the file tells them apart
        self._now_ns = EPOCH_NS
        self._about = _summary_of(source)
        self.note = "the file has no clock: requests are laid out one after another from 2000-01-01" + (
            "; model and provider come from the summary file beside it" if self._about else ""
        )

    @staticmethod
    def recognises(head: str, first: Any) -> bool:
        return head.lstrip().startswith("[") and '"ttft_s"' in head and '"end_to_end_latency_s"' in head

    def elements(self) -> Iterator[Element]:
        return self._source.array(self._text)

    def rows(self, element: Element) -> list[Row]:
        result = element.value
        if not isinstance(result, dict):
            raise BadElement("a result must be a JSON object")
        duration_ns = _seconds_ns(result, "end_to_end_latency_s")
        ids = Ids(self._content, element.place)
        row: Row = {
            "trace_id": ids.trace(),
            "span_id": ids.span(0),
            "name": f"chat {self._about['model']}" if "model" in self._about else "chat",
            "kind": "llm",
            "operation": "chat",
            "start_ns": self._now_ns,
            "input_tokens": _count(result, "number_input_tokens"),
            **self._about,
        }
        failed = result.get("error_code") is not None
        if failed:
            row |= {
                "status": "error",
                "error_type": str(result["error_code"]),
                "error_message": result.get("error_msg"),
            }
        if not failed or duration_ns > 0:  # a request that failed at once has zeros for what was not measured
            row |= {
                "duration_ns": duration_ns,
                "ttft_ns": _seconds_ns(result, "ttft_s"),
                "tpot_ns": _seconds_ns(result, "inter_token_latency_s"),
                "output_tokens": _count(result, "number_output_tokens"),
            }
        self._now_ns += duration_ns + _GAP_NS
        return [row]


def _summary_of(source: Source) -> dict[str, Any]:
    """Model and provider from the summary file that llmperf writes beside the individual results."""
    path = source.path.with_name(source.path.name.replace(".individual.", ".summary."))
    try:
        if path == source.path or path.stat().st_size > MAX_LINE_BYTES:
            return {}
        summary = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(summary, dict):
        return {}
    keys = {"model": "model", "model_request": "model", "provider": "framework"}
    return {column: summary[key] for column, key in keys.items() if isinstance(summary.get(key), str)}


class VllmReplay:
    name: ClassVar[FormatName] = "vllm-replay"
    note = "the file's clock has no date: record_time counts from 2000-01-01"

    def __init__(self, source: Source) -> None:
        self._source = source

    @staticmethod
    def recognises(head: str, first: Any) -> bool:
        return isinstance(first, dict) and "first_chunk_time" in first and "total_chunk_time" in first

    def elements(self) -> Iterator[Element]:
        return self._source.json_lines()

    def rows(self, element: Element) -> list[Row]:
        request = element.value
        if not isinstance(request, dict):
            raise BadElement("a request must be a JSON object")
        duration_ns = _seconds_ns(request, "total_chunk_time")
        ids = Ids(self.name, element.text)
        mapped = ("first_chunk_time", "total_chunk_time", "in_len", "record_time")
        return [
            {
                **{key: value for key, value in request.items() if key not in mapped},
                "trace_id": ids.trace(),
                "span_id": ids.span(0),
                "name": "chat",
                "kind": "llm",
                "operation": "chat",
                "provider": "vllm",
                "start_ns": EPOCH_NS + max(0, _seconds_ns(request, "record_time") - duration_ns),
                "duration_ns": duration_ns,
                "ttft_ns": _seconds_ns(request, "first_chunk_time"),
                "input_tokens": _count(request, "in_len"),
            }
        ]


def _number(row: dict[str, Any], key: str) -> float:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadElement(f"{key} is missing" if value is None else f"{key} must be a number, not {value!r}")
    if not math.isfinite(value) or not 0 <= value < 4e9:
        raise BadElement(f"{key} {value!r} is out of range")
    return value


def _seconds_ns(row: dict[str, Any], key: str) -> int:
    return round(_number(row, key) * 1e9)


def _count(row: dict[str, Any], key: str) -> int:
    return round(_number(row, key))
