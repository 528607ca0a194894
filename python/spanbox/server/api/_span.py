"""One span: its attributes, conversation, documents, scores and payloads; and when the chunks of its stream came."""

from __future__ import annotations

import json
from itertools import accumulate
from statistics import median
from typing import Any

from spanbox import _core
from spanbox._literals import equals, quoted
from spanbox.server.api._asked import Asked
from spanbox.server.api._columnar import column
from spanbox.server.api._frame import Colors, Json
from spanbox.server.api._messages import conversation, documents, parsed, plain_text
from spanbox.server.api._problem import Problem
from spanbox.server.api._tree import Tree, read_tree, scanned, score_json, span_row

_PREVIEW_BYTES = 1 << 16
_PAGE_BYTES = 1 << 20
_LONG = 2_000  # characters: a longer attribute is a payload
_STALL = 10  # times the median gap
_LEFT_OUT = {"input", "output", "events", "links", "chunk_deltas_us"}


def span(asked: Asked, colors: Colors, trace_id: str, span_id: str) -> Json:
    tree, place, row = _read(asked, trace_id, span_id)
    values = row["attributes"]
    scores = [
        each for each in asked.box._fresh_store().trace_scores(tree.trace_id) if each.get("span_id") in (span_id, None)
    ]
    of_it = [each for each in scores if each.get("span_id") == span_id or row["parent_id"] is None]
    messages = conversation(values.get("input"), values.get("output")) if values.keys() & {"input", "output"} else []
    _say_who_answered(asked, tree, messages)
    _count_same(asked, messages)
    latest = {each["name"]: each for each in of_it}
    return {
        "span": span_row(tree, place, row, colors, line=place, scores={row["span_id"]: latest}),
        "start_ns": str(row["start_ns"]),
        "attributes": [
            _attribute(name, value) for name, value in _facts(row) if name not in _LEFT_OUT and not _is_long(value)
        ],
        "messages": messages,
        "documents": documents(values, values.get("output"), _answer(asked, tree))
        if row["kind"] in ("retriever", "reranker")
        else documents(values, None, _answer(asked, tree)),
        "scores": [score_json(each) for each in of_it],
        "events": [_event(each, row["start_ns"]) for each in _list(values.get("events"))],
        "links": [_link(each) for each in _list(values.get("links"))],
        "payloads": [
            _payload(name, values[name]) for name in values if name in ("input", "output") or _is_long(values[name])
        ],
    }


def _read(asked: Asked, trace_id: str, span_id: str) -> tuple[Tree, int, _core.SpanDict]:
    """The span with all it has; it is read with its page of the tree."""
    tree = read_tree(asked, trace_id)
    place = tree.place(span_id)
    if place is None:
        raise Problem("not_found", "the trace has no such span")

    def read() -> _core.SpanDict:
        rows, _, _ = asked.box._fresh_store().trace_page(tree.trace_id, place, 1, [], True)
        return rows[0]

    return tree, place, asked.answers.kept(asked.generation, ("span", tree.trace_id, span_id), read)


def _facts(row: _core.SpanDict) -> list[tuple[str, Any]]:
    own = {name: row[name] for name in ("span_id", "parent_id", "name", "kind", "status", "start_ns", "duration_ns")}
    return [(name, value) for name, value in [*own.items(), *row["attributes"].items()] if value is not None]


def _attribute(name: str, value: Any) -> Json:
    if isinstance(value, bool):
        type_ = "bool"
    elif isinstance(value, (int, float)):
        type_ = "int" if isinstance(value, int) else "float"
    else:
        type_ = "string" if isinstance(value, str) else "json"
    shown = value if type_ != "json" else json.dumps(value, ensure_ascii=False, default=str)
    if type_ == "int" and abs(value) >= 1 << 53:
        shown, type_ = str(value), "int"  # more digits than a double has
    filter_ = None if type_ == "json" or name in ("start_ns", "events", "links") else _filter(name, value)
    return {"name": name, "value": shown, "type": type_, "is_column": name in _NAMED, "filter": filter_}


_NAMED = {name for name, *_ in _core.columns()}


def _filter(name: str, value: Any) -> str | None:
    if name in ("trace_id", "span_id", "parent_id"):
        return f'{name} == "{value}"'
    if name.endswith("_ns") and name in _NAMED:
        return f"{name} == {value}ns"
    return equals(name, value) or None


def _is_long(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) > _LONG
    return isinstance(value, (list, dict)) and len(json.dumps(value, default=str)) > _LONG


def _list(value: Any) -> list[Any]:
    value = parsed(value)
    return value[:1_000] if isinstance(value, list) else []


def _event(value: Any, start_ns: int) -> Json:
    if not isinstance(value, dict):
        return {"name": str(value)[:500], "offset_ns": None, "attributes": []}
    at_ns = next(
        (value[key] for key in ("time_ns", "at_ns", "timestamp", "time_unix_nano") if isinstance(value.get(key), int)),
        None,
    )
    given = value.get("attributes")
    attributes = given if isinstance(given, dict) else {}
    return {
        "name": str(value.get("name", ""))[:500],
        "offset_ns": None if at_ns is None else at_ns - start_ns,
        "attributes": [_attribute(str(name), each) for name, each in attributes.items()],
    }


def _link(value: Any) -> Json:
    value = value if isinstance(value, dict) else {}
    given = value.get("attributes")
    return {
        "trace_id": str(value.get("trace_id", "")),
        "span_id": str(value.get("span_id", "")),
        "attributes": [_attribute(str(name), each) for name, each in given.items()] if isinstance(given, dict) else [],
    }


# --- what the conversation needs from the rest of the trace ---


def _say_who_answered(asked: Asked, tree: Tree, messages: list[Json]) -> None:
    """Cards of tools name the span that ran: the one with the call's id, or the only one of the tool's name."""
    cards = [
        part for message in messages for part in message["parts"] if part["type"] == "tool_call" and part["result"]
    ]
    if not cards:
        return
    names = ("span_id", "name", "tool_name", "tool_call_id", "duration_ns", "status")
    tools = asked.answers.kept(
        asked.generation, ("tools", tree.trace_id), lambda: scanned(asked, tree, "kind == tool", *names)
    )
    by_id = {str(tool[3]): tool for tool in tools if tool[3] is not None}
    by_name: dict[str, list[Any]] = {}
    for tool in tools:
        by_name.setdefault(str(tool[1] if tool[2] is None else tool[2]), []).append(tool)
    for part in cards:
        alike = by_name.get(part["name"], [])
        ran = by_id.get(part["id"]) or (alike[0] if len(alike) == 1 else None)
        if ran is not None:
            span_id, _, _, _, duration_ns, status = ran
            part["result"] |= {"span_id": span_id, "duration_ns": duration_ns}
            part["result"]["is_error"] = part["result"]["is_error"] or status == "error"


def _count_same(asked: Asked, messages: list[Json]) -> None:
    """Of a system message in how many calls of the range it stands, by its first line."""
    for message in messages:
        if message["role"] == "system" and message["parts"] and message["parts"][0]["type"] == "text":
            line = message["parts"][0]["text"][:200].split("\n")[0].split('"')[0].split("\\")[0]
            if len(line) >= 20:
                count = asked.answers.kept(
                    asked.generation,
                    ("same", line, asked.from_ns, asked.to_ns),
                    lambda line=line: asked.spans("kind == llm", f"{quoted(line)} in input", filtered=False).count(),  # type: ignore[misc]
                )
                message["same_in"] = max(0, count - 1)


def _answer(asked: Asked, tree: Tree) -> str | None:
    """The text of what the trace answered."""

    def read() -> str | None:
        rows, _, _ = asked.box._fresh_store().trace_page(tree.trace_id, tree.root, 1, [], True)
        output = rows[0]["attributes"].get("output")
        text = plain_text(conversation(None, output)) if output is not None else ""
        return text or None

    return asked.answers.kept(asked.generation, ("answer", tree.trace_id), read)


# --- long texts ---


def _encoded(value: Any) -> tuple[bytes, str]:
    is_text = isinstance(value, str)
    text = value if is_text else json.dumps(value, ensure_ascii=False, indent=1, default=str)
    return text.encode("utf-8", "replace"), "text" if is_text else "json"


def _payload(name: str, value: Any) -> Json:
    encoded, media = _encoded(value)
    text, following = _cut(encoded, 0, _PREVIEW_BYTES)
    return {"column": name, "media": media, "text": text, "size_bytes": len(encoded), "next_offset": following}


def _cut(encoded: bytes, offset: int, most: int) -> tuple[str, int | None]:
    """Whole characters from a place on."""
    while offset < len(encoded) and encoded[offset] & 0xC0 == 0x80:
        offset += 1
    end = min(len(encoded), offset + most)
    while end < len(encoded) and encoded[end] & 0xC0 == 0x80:
        end -= 1
    return encoded[offset:end].decode("utf-8", "replace"), end if end < len(encoded) else None


def payload(asked: Asked, colors: Colors, trace_id: str, span_id: str) -> Json:
    _, _, row = _read(asked, trace_id, span_id)
    name = asked.param("column", "input")
    if name not in row["attributes"]:
        raise Problem("not_found", "the span has no such column")
    encoded, _ = _encoded(row["attributes"][name])
    offset = asked.number("offset", 0, least=0, most=1 << 40)
    text, following = _cut(encoded, offset, _PAGE_BYTES)
    return {"column": name, "offset": offset, "text": text, "size_bytes": len(encoded), "next_offset": following}


# --- chunks ---


def chunks(asked: Asked, colors: Colors, trace_id: str, span_id: str) -> Json:
    _, _, row = _read(asked, trace_id, span_id)
    deltas = parsed(row["attributes"].get("chunk_deltas_us"))
    if not isinstance(deltas, list) or not all(isinstance(each, (int, float)) for each in deltas):
        deltas = []
    at_ns = [each * 1_000 for each in accumulate(deltas)]
    gaps = sorted(each * 1_000 for each in deltas[1:])
    typical = median(gaps) if gaps else 0
    stalls = [
        {"from_ns": at_ns[i], "to_ns": at_ns[i + 1], "after_chunk": i + 1}
        for i in range(len(at_ns) - 1)
        if typical > 0 and at_ns[i + 1] - at_ns[i] > _STALL * typical
    ]
    return {
        "at_ns": column(at_ns),
        "n": len(at_ns),
        "first_token_ns": row["attributes"].get("ttft_ns", at_ns[0] if at_ns else None),
        "gap_p50_ns": typical if gaps else None,
        "gap_p99_ns": gaps[min(len(gaps) - 1, int(0.99 * len(gaps)))] if gaps else None,
        "longest_gap_ns": gaps[-1] if gaps else None,
        "stalls": stalls,
    }
