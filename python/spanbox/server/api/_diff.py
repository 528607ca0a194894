"""Two traces as one tree: what matched, came and went, with the differences of time, tokens and cost."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from spanbox import _core
from spanbox._render import plural
from spanbox._trace import Totals
from spanbox._trace_diff import Change, Pair, align, changes, first_divergence
from spanbox.server.api._asked import Asked
from spanbox.server.api._frame import Colors, Json
from spanbox.server.api._problem import Problem
from spanbox.server.api._tree import error_of, full_id, tag_of

PAGE = 2_000
_CHANGES = 6  # of a span
_OUTPUTS = 4_000  # spans of a trace whose outputs are read
_FIGURES = ("input_tokens", "output_tokens", "cost_usd")


def diff(asked: Asked, colors: Colors, trace_id: str) -> Json:
    """`vs`: the trace it is compared with."""
    given = asked.param("vs")
    if not given:
        raise Problem("bad_request", "say with which trace: vs=ID")
    now, before = full_id(asked, trace_id), full_id(asked, given)
    answer: Json = asked.answers.kept(
        asked.generation, ("diff", now, before), lambda: _diff(colors, _whole(asked, now), _whole(asked, before))
    )
    offset = asked.number("offset", 0, least=0, most=1 << 40)
    limit = asked.number("limit", PAGE, least=1, most=PAGE)
    return {**answer, "offset": offset, "rows": answer["rows"][offset : offset + limit]}


@dataclass(frozen=True, slots=True)
class _Whole:
    """Every span of a trace with all its attributes; with inputs and outputs where there are not too many."""

    rows: list[_core.SpanDict]
    summary: _core.TraceSummary
    has_texts: bool


def _whole(asked: Asked, trace_id: str) -> _Whole:
    store = asked.box._fresh_store()
    try:
        _, count, _ = store.trace_page(trace_id, 0, 0, [], False)
        rows, _, summary = store.trace_page(trace_id, 0, None, [], count <= _OUTPUTS)
    except _core.NotFoundError:
        raise Problem("not_found", "no trace has this id") from None
    return _Whole(rows, summary, count <= _OUTPUTS)


def _diff(colors: Colors, now: _Whole, before: _Whole) -> Json:
    began_s = time.perf_counter()
    pairs = align(now.rows, before.rows)
    rows = [_row(pair, now, before, colors) for pair in pairs]
    counts = Counter(row["state"] for row in rows)
    compared, divergence = _divergence(now, before, pairs)
    sizes = [plural(len(each.rows), "span") for each in (now, before)]
    return {
        "trace_id": now.summary["trace_id"],
        "now": _side(now),
        "before": _side(before),
        "matched": counts["same"] + counts["changed"],
        "changed": counts["changed"],
        "added": counts["added"],
        "removed": counts["removed"],
        "divergence": divergence,
        "line_count": len(rows),
        "rows": rows,
        "longest_change_ns": max((abs(row["delta_ns"] or 0) for row in rows), default=0),
        "basis": f"{sizes[0]} against {sizes[1]}, all of them · {compared}",
        "basis_full": "Spans are each other's when their parents are and they have the same kind and name, in their "
        "order; a span without a counterpart has come or gone with all below it. Tokens and costs are a span's own; "
        "the first output that differs is the one of the span that ended first.",
        "took_ms": round((time.perf_counter() - began_s) * 1e3, 1),
    }


def _side(tree: _Whole) -> Json:
    summary = tree.summary
    names = ("trace_id", "name", "status", "duration_ns")
    totals = Totals(*summary["totals"]).as_dict()
    return {**{name: summary[name] for name in names}, "start_ns": str(summary["start_ns"]), "totals": totals}  # type: ignore[literal-required]


def _row(pair: Pair, now: _Whole, before: _Whole, colors: Colors) -> Json:
    mine = None if pair.now is None else now.rows[pair.now]
    theirs = None if pair.before is None else before.rows[pair.before]
    shown: Any = mine or theirs
    differ: list[Change] = changes(mine, theirs) if mine and theirs else []
    model = shown["attributes"].get("model")
    lengths = [None if row is None else row["duration_ns"] for row in (mine, theirs)]
    return {
        "state": "removed" if mine is None else "added" if theirs is None else "changed" if differ else "same",
        "depth": pair.depth,
        "name": shown["name"],
        "tag": tag_of(shown),
        "model": None if model is None else str(model),
        "color": colors.of(None if model is None else str(model)),
        "now": None if mine is None else _span(mine, now),
        "before": None if theirs is None else _span(theirs, before),
        "delta_ns": None if lengths[0] is None or lengths[1] is None else lengths[0] - lengths[1],
        "changes": [_change(each) for each in differ[:_CHANGES]],
        "more_changes": max(0, len(differ) - _CHANGES),
    }


def _span(row: Any, tree: _Whole) -> Json:
    return {
        "span_id": row["span_id"],
        "status": row["status"],
        "offset_ns": row["start_ns"] - tree.summary["start_ns"],
        "duration_ns": row["duration_ns"],
        **{name: row["attributes"].get(name) for name in _FIGURES},
        "error": error_of(row),
    }


def _change(each: Change) -> Json:
    return {"name": each.name, "before": _scalar(each.before), "now": _scalar(each.now)}


def _scalar(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _divergence(now: _Whole, before: _Whole, pairs: list[Pair]) -> tuple[str, Json | None]:
    """How many outputs were compared, in words; and the first that differs."""
    if not now.has_texts or not before.has_texts:
        return f"outputs of traces with more than {_OUTPUTS:,} spans are not compared", None
    found = first_divergence(now.rows, before.rows, pairs)
    if found is None:
        return "all outputs that both have are the same", None
    return f"{plural(found.compared, 'output')} compared", {
        "span_id": found.now["span_id"],
        "before_span_id": found.before["span_id"],
        "name": found.now["name"],
        "same_input": found.is_input_same,
        "at": found.at,
        "now": found.now_text,
        "before": found.before_text,
    }
