"""Transcripts of the coding agent Claude Code (JSON lines, one file a session).

A session is a trace: the agent; below it an llm span for each answer of the model, and a tool span for each call it
asked for, from the answer to the result. An answer comes in several lines with the same message id, which repeat its
usage: it counts once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from spanbox._time import iso_ns
from spanbox.importers import FormatName, Row
from spanbox.importers._source import BadElement, Element, Ids, Source, trace_id_of


class ClaudeCode:
    name: ClassVar[FormatName] = "claude-code"
    note = "transcripts say when an answer came, not when it was asked for: model calls begin with what came before"

    def __init__(self, source: Source) -> None:
        self._source = source

    @staticmethod
    def recognises(head: str, first: Any) -> bool:
        return '"sessionId"' in head and '"parentUuid"' in head

    def elements(self) -> Iterator[Element]:
        """One element a session."""
        sessions: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        for line in self._source.json_lines():
            if line.problem or not isinstance(line.value, dict):
                yield Element(line.place, "", problem=line.problem or "a line must be a JSON object")
            elif isinstance(line.value.get("message"), dict) and line.value.get("type") in ("user", "assistant"):
                sessions.setdefault(str(line.value.get("sessionId")), []).append((line.place, line.value))
        for session, lines in sessions.items():
            yield Element(f"session {session}", session, lines)

    def rows(self, element: Element) -> list[Row]:
        session = _Session(element.text)
        for place, line in element.value:
            try:
                at_ns = iso_ns(line["timestamp"])
            except (KeyError, TypeError, ValueError, AttributeError):
                raise BadElement(f"{place} has no timestamp") from None
            session.add(line, at_ns)
        return session.rows


class _Session:
    """The rows of a session, growing."""

    def __init__(self, session: str) -> None:
        self.rows: list[Row] = []
        self._session = session
        self._ids = Ids("claude-code", session)
        self._answers: dict[str, Row] = {}  # message id -> its span
        self._asked: dict[str, Row] = {}  # tool call id -> its span, until it is answered
        self._before_ns = 0  # when the line before came
        self._said: Any = None  # what the model was told last

    def add(self, line: dict[str, Any], at_ns: int) -> None:
        if not self.rows:
            about = {f"claude_code.{key}": line[key] for key in ("cwd", "version", "gitBranch") if line.get(key)}
            self._add("session", "agent", None, at_ns, agent_name="claude-code", **about)
            self._before_ns = at_ns
        message = line["message"]
        content = message.get("content")
        blocks = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
        if line["type"] == "assistant":
            self._answer(line, message, blocks, at_ns)
        else:
            for block in blocks:
                if block.get("type") == "tool_result":
                    self._result(block, at_ns)
            self._said = content
            self.rows[0].setdefault("input", content)
        self.rows[0]["duration_ns"] = max(self.rows[0].get("duration_ns", 0), at_ns - self.rows[0]["start_ns"])
        self._before_ns = max(self._before_ns, at_ns)

    def _answer(self, line: dict[str, Any], message: dict[str, Any], blocks: list[dict[str, Any]], at_ns: int) -> None:
        key = str(message.get("id") or line.get("uuid"))
        span = self._answers.get(key)
        if span is None:
            start_ns = min(self._before_ns, at_ns)
            span = self._add("chat", "llm", self.rows[0], start_ns, operation="chat", provider="anthropic")
            self._answers[key] = span
            span |= {"input": self._said, "output": [], "model": message.get("model")}
        span["output"] = [*span["output"], *blocks]
        span["duration_ns"] = max(0, at_ns - span["start_ns"])
        span["finish_reason"] = message.get("stop_reason") or span.get("finish_reason")
        span["is_sidechain"] = True if line.get("isSidechain") else None
        _add_usage(span, message.get("usage"))
        texts = [
            block["text"] for block in blocks if block.get("type") == "text" and isinstance(block.get("text"), str)
        ]
        if texts:
            self.rows[0]["output"] = texts[-1]
        for block in blocks:
            if block.get("type") == "tool_use":
                name = str(block.get("name") or "tool")
                call = {"tool_name": name, "tool_call_id": str(block.get("id") or ""), "operation": "execute_tool"}
                tool = self._add(name, "tool", span, at_ns, input=block.get("input"), **call)
                self._asked[call["tool_call_id"]] = tool

    def _result(self, block: dict[str, Any], at_ns: int) -> None:
        tool = self._asked.pop(str(block.get("tool_use_id") or ""), None)
        if tool is None:  # asked for before the transcript begins
            return
        tool |= {"output": block.get("content"), "duration_ns": max(0, at_ns - tool["start_ns"])}
        if block.get("is_error"):
            tool |= {"status": "error", "error_type": "ToolError"}

    def _add(self, name: str, kind: str, parent: Row | None, start_ns: int, **values: Any) -> Row:
        row: Row = {
            "trace_id": trace_id_of(self._session, "sessionId"),
            "span_id": self._ids.span(len(self.rows)),
            "name": name,
            "kind": kind,
            "start_ns": start_ns,
            "session_id": self._session,
            **values,
        }
        if parent is not None:
            row["parent_id"] = parent["span_id"]
        self.rows.append(row)
        return row


def _add_usage(span: Row, usage: Any) -> None:
    """Anthropic counts input without what comes from or goes to its cache."""
    if not isinstance(usage, dict):
        return

    def count(key: str) -> int:
        value = usage.get(key)
        return value if type(value) is int and 0 <= value < 1 << 53 else 0

    read, written = count("cache_read_input_tokens"), count("cache_creation_input_tokens")
    span["input_tokens"] = count("input_tokens") + read + written
    span["cache_read_tokens"], span["cache_write_tokens"] = read, written
    span["output_tokens"] = count("output_tokens")
