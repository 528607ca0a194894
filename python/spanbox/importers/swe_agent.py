"""SWE-agent trajectories (.traj): a programming agent's thoughts, commands and what they printed.

A file is a trace: an agent span; for each step an llm span (the response) and below it a tool span (the action and its
observation, with its execution time where the file has one). Files that hold only the history give the same tree.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from spanbox.importers import FormatName, Row
from spanbox.importers._source import EPOCH_NS, BadElement, Element, Ids, ImportFileError, Source

_STEP_NS = 1_000_000


class SweAgent:
    name: ClassVar[FormatName] = "swe-agent"
    note = "the file has no clock: steps are laid out in order from 2000-01-01, with the execution times it has"

    def __init__(self, source: Source) -> None:
        self._source = source

    @staticmethod
    def recognises(head: str, first: Any) -> bool:
        if isinstance(first, dict):
            return "history" in first or "trajectory" in first
        return head.lstrip().startswith("{") and ('"trajectory"' in head or '"history"' in head)

    def elements(self) -> Iterator[Element]:
        text = self._source.document()
        try:
            yield Element("the trajectory", text, json.loads(text))
        except (ValueError, RecursionError) as error:
            place = (
                f"line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else "the file"
            )
            raise ImportFileError(f"{self._source.path}: {place}: not valid JSON: {error}") from None

    def rows(self, element: Element) -> list[Row]:
        run = element.value
        if not isinstance(run, dict):
            raise BadElement("a trajectory must be a JSON object")
        history = _objects(run.get("history"), "history")
        steps = _objects(run.get("trajectory"), "trajectory") or _steps_of(history)
        if not steps:
            raise BadElement("neither 'trajectory' nor 'history' has a step in it")
        said = [
            i for i, message in enumerate(history) if message.get("role") == "assistant" and not message.get("is_demo")
        ]
        inputs = [history[:i] for i in said] if len(said) == len(steps) else []
        return _Layout(Ids(self.name, element.text), self._source.path).rows(run, steps, inputs)


def _objects(value: Any, what: str) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise BadElement(f"{what!r} must be a list of objects")
    return value


def _steps_of(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Steps from the messages alone: what follows an assistant's message is its observation."""
    steps = []
    for position, message in enumerate(history):
        if message.get("role") != "assistant" or message.get("is_demo"):
            continue
        following = history[position + 1] if position + 1 < len(history) else {}
        steps.append(
            {
                "response": message.get("content"),
                "thought": message.get("thought"),
                "action": message.get("action"),
                "observation": following.get("content") if following.get("role") in ("user", "tool") else None,
            }
        )
    return steps


class _Layout:
    """Places the spans of one trajectory on a time line."""

    def __init__(self, ids: Ids, path: Path) -> None:
        self._ids = ids
        self._name = path.name.removesuffix(".gz").removesuffix(".traj")
        self._rows: list[Row] = []
        self._now_ns = EPOCH_NS

    def rows(self, run: dict[str, Any], steps: list[dict[str, Any]], inputs: list[Any]) -> list[Row]:
        info = run["info"] if isinstance(run.get("info"), dict) else {}
        root = self._add(
            str(run.get("environment") or self._name),
            "agent",
            None,
            trajectory=self._name,
            environment=run.get("environment"),
            exit_status=info.get("exit_status"),
            output=info.get("submission"),
            model_stats=info.get("model_stats"),
            replay_config=run.get("replay_config"),
        )
        previous: Any = None
        for number, step in enumerate(steps):
            call = self._add(
                "chat",
                "llm",
                root,
                input=inputs[number] if inputs else previous,
                output=step.get("response"),
                thought=step.get("thought"),
            )
            previous = step.get("observation")
            action = step.get("action")
            if isinstance(action, str) and action.strip():
                self._add_action(call, step, action)
        if any(row["kind"] == "tool" and "duration_ns" in row for row in self._rows):
            root["duration_ns"] = self._now_ns - root["start_ns"]
        return self._rows

    def _add_action(self, call: Row, step: dict[str, Any], action: str) -> None:
        command = action.split(maxsplit=1)[0][:100]
        seconds = _seconds(step.get("execution_time"))
        self._add(
            command,
            "tool",
            call,
            input=action,
            output=step.get("observation"),
            tool_name=command,
            operation="execute_tool",
            state=step.get("state"),
            duration_ns=None if seconds is None else round(seconds * 1e9),
        )
        self._now_ns += round((seconds or 0) * 1e9)

    def _add(self, name: str, kind: str, parent: Row | None, **values: Any) -> Row:
        row: Row = {
            "trace_id": self._ids.trace(),
            "span_id": self._ids.span(len(self._rows)),
            "name": name,
            "kind": kind,
            "start_ns": self._now_ns,
            **{key: value for key, value in values.items() if value is not None},
        }
        if parent is not None:
            row["parent_id"] = parent["span_id"]
        self._now_ns += _STEP_NS
        self._rows.append(row)
        return row


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        raise BadElement(f"execution_time {value!r} is no number") from None
    if not math.isfinite(seconds) or not 0 <= seconds < 1e9:
        raise BadElement(f"execution_time {value!r} is no length of time")
    return seconds
