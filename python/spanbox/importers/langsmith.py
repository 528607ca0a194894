"""LangSmith runs, as its SDK and its bulk export write them: one run a line, or an array."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from spanbox._time import iso_ns
from spanbox.importers import FormatName, Row
from spanbox.importers._source import BadElement, Element, Source, span_id_of, trace_id_of

_KINDS = {"llm": "llm", "chat_model": "llm", "tool": "tool", "retriever": "retriever", "embedding": "embedding",
          "prompt": "prompt", "chain": "chain"}  # fmt: skip


class LangSmith:
    name: ClassVar[FormatName] = "langsmith"
    note = ""

    def __init__(self, source: Source) -> None:
        self._source = source

    @staticmethod
    def recognises(head: str, first: Any) -> bool:
        return '"run_type"' in head and '"start_time"' in head

    def elements(self) -> Iterator[Element]:
        if self._source.peek().lstrip().startswith("["):
            return self._source.array(self._source.document())
        return self._source.json_lines()

    def rows(self, element: Element) -> list[Row]:
        run = element.value
        if not isinstance(run, dict):
            raise BadElement("a run must be a JSON object")
        start_ns = _time_ns(run, "start_time")
        root = str(run.get("trace_id") or run.get("id") or "")
        row: Row = {
            "trace_id": trace_id_of(root, "trace_id"),
            "span_id": span_id_of(str(run.get("id") or ""), "id"),
            "name": str(run.get("name") or ""),
            "kind": _KINDS.get(str(run.get("run_type")), "span"),
            "start_ns": start_ns,
            "input": run.get("inputs"),
            "output": run.get("outputs"),
            "langsmith.tags": run.get("tags") or None,
            "langsmith.extra": run.get("extra") or None,
            "langsmith.session_id": run.get("session_id"),
        }
        if run.get("parent_run_id"):
            row["parent_id"] = span_id_of(str(run["parent_run_id"]), "parent_run_id")
        if run.get("end_time") is not None:
            row["duration_ns"] = max(0, _time_ns(run, "end_time") - start_ns)
        if run.get("first_token_time") is not None:
            row["ttft_ns"] = max(0, _time_ns(run, "first_token_time") - start_ns)
        if run.get("error"):
            row |= {"status": "error", "error_message": str(run["error"])}
        _add_usage(row, run)
        return [row]


def _add_usage(row: Row, run: dict[str, Any]) -> None:
    for column, key in (("input_tokens", "prompt_tokens"), ("output_tokens", "completion_tokens")):
        if type(run.get(key)) is int and run[key] > 0:
            row[column] = run[key]
    cost = run.get("total_cost")
    try:
        if cost is not None and float(cost) > 0:
            row |= {"cost_usd": float(cost), "cost_source": "reported"}
    except (TypeError, ValueError):
        raise BadElement(f"total_cost {cost!r} is no number") from None
    extra = run.get("extra")
    metadata = extra.get("metadata") if isinstance(extra, dict) else None
    if not isinstance(metadata, dict):
        return
    for column, key in (("model", "ls_model_name"), ("provider", "ls_provider"), ("session_id", "session_id")):
        if isinstance(metadata.get(key), str):
            row[column] = metadata[key]
    if isinstance(metadata.get("thread_id"), str):
        row.setdefault("session_id", metadata["thread_id"])


def _time_ns(run: dict[str, Any], key: str) -> int:
    value = run.get(key)
    try:
        text = str(value)
        return iso_ns(text if text.endswith("Z") or text[-6:-5] in ("+", "-") else text + "Z")
    except ValueError:
        raise BadElement(f"{key} must be a date and time, not {value!r}") from None
