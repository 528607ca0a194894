"""Values to choose from: beside the list of traces, and while a filter is written."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from spanbox import _core
from spanbox._literals import column_name, equals, literal
from spanbox._observe import KINDS
from spanbox.server.api._asked import Asked
from spanbox.server.api._filter_text import Word, clauses, column_of, without, words
from spanbox.server.api._frame import Colors, Json, panel
from spanbox.server.api._problem import filter_problem, from_utf16, utf16
from spanbox.server.api._roots import trace_clause
from spanbox.server.api._status import columns

_FACETS = (
    "status",
    "model",
    "feature",
    "prompt_version",
    "tenant",
    "error_type",
    "environment",
    "release",
    "tool_name",
)
_VALUES = 8
_INNER = {"model", "error_type", "tool_name"}  # said of spans inside a trace
_OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "in", "~")
_STATUSES = ("ok", "error", "running", "interrupted")
_ITEMS = 12


def facets(asked: Asked, colors: Colors) -> Json:
    began_s = time.perf_counter()
    chosen = clauses(asked.q)
    found = [facet for name in _FACETS if (facet := _facet(asked, colors, name, chosen)) is not None]
    return {
        **panel(asked, began_s, basis=["counts of traces under the filter without the facet's own clause, exact"]),
        "facets": found,
    }


def _facet(asked: Asked, colors: Colors, name: str, chosen: list[str]) -> Json | None:
    own = without(asked.q, name)
    others = replace(asked, q=own)

    def count() -> list[tuple[Any, int]]:
        if name in _INNER:  # the traces in which some span has the value
            rows = others.spans(f"{name} != none").by(name).agg(spanbox_n="distinct(trace_id)")
        else:
            rows = (
                others.spans(trace_clause(others), f"{name} != none", filtered=False).by(name).agg(spanbox_n="count()")
            )
        return sorted(((row[name], row["spanbox_n"]) for row in rows), key=lambda each: (-each[1], str(each[0])))

    counted = asked.answers.kept(asked.generation, ("facet", name, own, asked.from_ns, asked.to_ns), count)
    if not counted or (len(counted) == 1 and name != "status" and not any(column_of(each) == name for each in chosen)):
        return None
    rest = counted[_VALUES:]
    return {
        "column": name,
        "values": [
            {
                "label": str(value),
                "value": value,
                "filter": equals(name, value),
                "count": n,
                "selected": any(_same(each, equals(name, value)) for each in chosen),
                "color": colors.of(str(value)) if name == "model" else None,
            }
            for value, n in counted[:_VALUES]
        ],
        "more": {"values": len(rest), "count": sum(n for _, n in rest)} if rest else None,
    }


def _same(clause: str, other: str) -> bool:
    return [word.value for word in words(clause)] == [word.value for word in words(other)]


# --- completion ---


def complete(asked: Asked, colors: Colors) -> Json:
    """What could stand at the caret of a filter that is being written."""
    text = asked.param("text")[:65_536]
    caret = from_utf16(text, asked.number("at", utf16(text), least=0, most=1 << 20))
    before = [word for word in words(text) if word.begin < caret]
    current = before.pop() if before and before[-1].end >= caret and before[-1].text not in ("[", "(", ",") else None
    begin = current.begin if current else caret
    typed = text[begin:caret]
    items = _items(asked, before, current, typed)
    return {
        "from": utf16(text[:begin]),
        "to": utf16(text[: current.end if current else caret]),
        "items": items,
        "error": _mistake(text),
    }


def _items(asked: Asked, before: list[Word], current: Word | None, typed: str) -> list[Json]:
    last = before[-1] if before else None
    if last is not None and (last.kind == "operator" or last.text in ("[", ",") or last.text == "in"):
        name = next(
            (word.value for word in reversed(before) if word.kind == "name" and word.text not in ("in", "not")), ""
        )
        return _values(asked, name, typed)
    if current is not None and current.kind == "operator":
        return _operators(typed)
    if last is not None and last.kind == "name" and last.text not in ("and", "or", "not"):
        if current is None or current.kind in ("operator", "wrong"):
            return _operators(typed)
        return [_item(word, "keyword", "") for word in ("in", "not in") if word.startswith(typed)]
    if last is not None and (last.kind in ("text", "number") or last.text in (")", "]")):
        return [_item(word, "keyword", "") for word in ("and", "or", "in") if word.startswith(typed)]
    return _columns(asked, typed)


def _item(text: str, kind: str, detail: str, count: int | None = None) -> Json:
    return {"text": text, "kind": kind, "detail": detail, "count": count}


def _operators(typed: str) -> list[Json]:
    return [_item(each, "operator", "") for each in _OPERATORS if each.startswith(typed)]


def _columns(asked: Asked, typed: str) -> list[Json]:
    wanted = typed.strip("`").lower()
    found: list[tuple[bool, int, Json]] = []
    for each in columns(asked):
        name = each["alias"] or each["name"]
        place = name.lower().find(wanted)
        written = column_name(name)
        if place >= 0 and written:
            found.append((place > 0, len(found), _item(written, "column", each["description"] or each["source"])))
    found.sort(key=lambda each: each[:2])
    words_ = [
        _item(word, "keyword", "") for word in ("not", "any(", "all(", "count(") if typed and word.startswith(typed)
    ]
    return [*(item for *_, item in found[:_ITEMS]), *words_]


def _values(asked: Asked, name: str, typed: str) -> list[Json]:
    if name == "kind":
        return [_item(each, "value", "") for each in KINDS if each.startswith(typed)]
    if name == "status":
        return [_item(each, "value", "") for each in _STATUSES if each.startswith(typed)]
    written = column_name(name)
    if not written:
        return []
    wanted = typed.strip("\"'").lower()
    store_wide = replace(asked, q="")

    def read() -> list[tuple[Any, int]]:
        try:
            rows = store_wide.spans(f"{written} != none").by().agg(spanbox_top=f"top({written}, 200)")
            return [(value, count) for row in rows for value, count in row["spanbox_top"] or ()]
        except (_core.SpanboxError, ValueError):
            return []

    counted = asked.answers.kept(asked.generation, ("values", name, asked.from_ns, asked.to_ns), read)
    return [
        _item(literal(value), "value", "", count)
        for value, count in counted
        if wanted in str(value).lower() and len(str(value)) <= 200
    ][:_ITEMS]


def _mistake(text: str) -> Json | None:
    try:
        _core.check_filter(text)
    except _core.FilterError as error:
        return filter_problem(error, text).body
    return None
