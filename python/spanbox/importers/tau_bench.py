"""tau-bench runs (JSON lines): a customer-service agent, its model calls and its tool calls.

Each run is a trace: an agent span; an llm span for each assistant message, its input the conversation so far; below it
a tool span for each call it asked for, with the tool's answer; a span "user" for each message of the user.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any, ClassVar

from spanbox.importers import FormatName, Row
from spanbox.importers._source import EPOCH_NS, BadElement, Element, Ids, Source

_STEP_NS = 1_000_000
_RUN_NS = 3_600_000_000_000


class TauBench:
    name: ClassVar[FormatName] = "tau-bench"
    note = "the file has no clock: spans are laid out in order from 2000-01-01, without durations"

    def __init__(self, source: Source) -> None:
        self._source = source
        self._runs = 0

    @staticmethod
    def recognises(head: str, first: Any) -> bool:
        return isinstance(first, dict) and "traj" in first and "task_id" in first

    def elements(self) -> Iterator[Element]:
        return self._source.json_lines()

    def rows(self, element: Element) -> list[Row]:
        run = element.value
        if not isinstance(run, dict) or not isinstance(run.get("traj"), list):
            raise BadElement("a run must be an object with a list 'traj'")
        messages = run["traj"]
        for number, message in enumerate(messages, 1):
            if not isinstance(message, dict) or not isinstance(message.get("role"), str):
                raise BadElement(f"message {number} of 'traj' has no role")
        trace = _RunTrace(Ids(self.name, element.text), EPOCH_NS + self._runs * _RUN_NS)
        self._runs += 1
        trace.add_root(run)
        for position in range(len(messages)):
            trace.add_message(messages, position)
        return trace.rows


class _RunTrace:
    """The rows of one run, growing."""

    def __init__(self, ids: Ids, start_ns: int) -> None:
        self.rows: list[Row] = []
        self._ids = ids
        self._start_ns = start_ns
        self._asked: dict[str, Row] = {}  # tool call id -> its span, until it is answered

    def _add(self, name: str, kind: str, parent: Row | None, **values: Any) -> Row:
        row: Row = {
            "trace_id": self._ids.trace(),
            "span_id": self._ids.span(len(self.rows)),
            "name": name,
            "kind": kind,
            "start_ns": self._start_ns + len(self.rows) * _STEP_NS,
            **{key: value for key, value in values.items() if value is not None},
        }
        if parent is not None:
            row["parent_id"] = parent["span_id"]
        self.rows.append(row)
        return row

    def add_root(self, run: dict[str, Any]) -> None:
        info = run["info"] if isinstance(run.get("info"), dict) else {}
        task = info["task"] if isinstance(info.get("task"), dict) else {}
        says = [m.get("content") for m in run["traj"] if m["role"] == "assistant" and m.get("content")]
        self._add(
            f"task {run.get('task_id')}",
            "agent",
            None,
            input=task.get("instruction"),
            output=says[-1] if says else None,
            user_id=task.get("user_id"),
            task_id=run.get("task_id"),
            trial=run.get("trial"),
            reward=run.get("reward"),
            user_cost=info.get("user_cost"),
            expected_actions=task.get("actions"),
            reward_info=info.get("reward_info"),
        )

    def add_message(self, messages: list[dict[str, Any]], position: int) -> None:
        message, root = messages[position], self.rows[0]
        role = message["role"]
        if role == "user":
            self._add("user", "span", root, output=message.get("content"))
        elif role == "assistant":
            said = {key: value for key, value in message.items() if key != "role" and value is not None}
            output = said["content"] if set(said) == {"content"} else said
            call = self._add("chat", "llm", root, input=messages[:position], output=output)
            for tool_call in message.get("tool_calls") or []:
                self._add_tool_call(call, tool_call)
        elif role == "tool":
            self._answer(message)
        elif role != "system":  # the system message is part of every call's input
            raise BadElement(f"message {position + 1} has the unknown role {role!r}")

    def _add_tool_call(self, call: Row, tool_call: Any) -> None:
        function = tool_call.get("function") if isinstance(tool_call, dict) else None
        if not isinstance(function, dict):
            raise BadElement("a tool call has no 'function'")
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            with contextlib.suppress(ValueError, RecursionError):  # no JSON: kept as the text the model wrote
                arguments = json.loads(arguments)
        name = str(function.get("name") or "tool")
        call_id = str(tool_call.get("id") or "")
        self._asked[call_id] = self._add(
            name, "tool", call, input=arguments, tool_name=name, tool_call_id=call_id, operation="execute_tool"
        )

    def _answer(self, message: dict[str, Any]) -> None:
        span = self._asked.pop(str(message.get("tool_call_id") or ""), None)
        if span is None:
            raise BadElement(f"a tool message answers {message.get('tool_call_id')!r}, which nothing asked for")
        content = message.get("content")
        span["output"] = content
        if isinstance(content, str) and content.startswith("Error"):
            span |= {"status": "error", "error_type": "ToolError", "error_message": content}
