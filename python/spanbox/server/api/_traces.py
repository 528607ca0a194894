"""The list of traces, the strip of all their values over time, and what sets a part of them apart."""

from __future__ import annotations

import json
import math
import re
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from spanbox._literals import column_name, one_of, quoted
from spanbox._render import plural
from spanbox._spans import Query, Spans
from spanbox.server.api._asked import SECOND_NS, Asked, Interval
from spanbox.server.api._columnar import column
from spanbox.server.api._filter_text import Search, clauses, searches
from spanbox.server.api._frame import CALL, LLM, Colors, Json, bucket_name, every, panel, time_axis
from spanbox.server.api._problem import Problem, utf16
from spanbox.server.api._roots import trace_clause
from spanbox.server.api._slices import sliced

PAGE = 200
_INPUT_CHARACTERS = 300
_SNIPPET = 60  # characters on either side
_OF_CALLS = {"cost": "sum(cost)", "tokens": "sum(input_tokens)", "ttft": "min(ttft)"}  # of a trace by its model calls
_ROOT = ("trace_id", "span_id", "name", "kind", "status", "start_ns", "duration_ns", "input")
_ROWS = 24  # of the strip
_HINTED = 8  # clauses that are left out in turn
Y = {  # of the strip: column, unit, of which spans
    "duration": ("duration_ns", "ns"),
    "ttft": ("ttft_ns", "ns"),
    "cost": ("cost_usd", "usd"),
    "tokens": ("input_tokens", "count"),
}


def traces(asked: Asked, colors: Colors) -> Json:
    began_s = time.perf_counter()
    offset = asked.number("offset", 0, least=0, most=10_000_000)
    limit = asked.number("limit", PAGE, least=1, most=PAGE)
    wanted = [name for name in asked.param("cols").split(",") if name][:20]
    which = _selected(asked, trace_clause(asked))
    sort = asked.param("sort", "-start")
    total, read_share, read_from_ns = _total(asked, which)
    found = _page(replace(asked, from_ns=read_from_ns), which, sort, offset, limit, wanted)
    newest = next(iter(_roots(asked, which).columns("start_ns").order_by("start_ns", descending=True).limit(1)), None)
    rows = _rows(asked, colors, found, wanted)
    state, text = ("ok", "") if total or read_share < 1 else ("empty", _nothing(asked))
    return {
        **panel(
            asked,
            began_s,
            state=state,
            text=text,
            basis=[
                f"{plural(total, 'trace')}, {_far(read_share)}",
                "a trace matches when one of its spans does" if asked.q else "",
            ],
            more="Times and values are those of the root; cost, tokens, model and TTFT those of its model calls",
        ),
        "total": total,
        "total_is": "exact" if read_share == 1 else "so far",
        "read_share": read_share,
        "offset": offset,
        "sort": sort,
        "columns": wanted,
        "hint": _hint(asked) if asked.q and not total and read_share == 1 else None,
        "newest_ns": None if newest is None else str(next(iter(newest.values()))),
        "max_duration_ns": max((row["duration_ns"] or 0 for row in rows), default=None),
        "rows": rows,
    }


def _roots(asked: Asked, which: str, of: Interval | None = None) -> Spans:
    return asked.spans(which, of=of, filtered=False)


def _total(asked: Asked, which: str) -> tuple[int, float, int]:
    """How many there are, as far as it is known; the share of the range that has been read, from which moment on."""
    key = ("traces", which, asked.from_ns, asked.to_ns)
    known: int | None = asked.answers.kept(asked.generation, key, lambda: None)
    if known is not None:
        return known, 1.0, asked.from_ns
    slices = sliced(asked, ("traces", which), lambda of: _roots(asked, which, of).count())
    total = sum(slices.found)
    if slices.share == 1:
        asked.answers.keep(asked.generation, key, total)
    return total, slices.share, slices.read_from_ns


def _far(read_share: float) -> str:
    return "exact" if read_share == 1 else f"{read_share:.0%} of the range read, newest first".replace("%", " %")


def _page(asked: Asked, which: str, sort: str, offset: int, limit: int, wanted: Sequence[str]) -> list[Json]:
    """The roots of one page, each value under the name it was asked by."""
    name, descending = sort.removeprefix("-"), sort.startswith("-")
    names = [*_ROOT, *(each for each in wanted if each not in _ROOT)]
    if name in _OF_CALLS:
        ids = _by_calls(asked, which, name, descending)[offset : offset + limit]
        rows = _scan(asked, f"{which} and {one_of('trace_id', ids)}", names, "", False, None, 0) if ids else []
        places = {trace_id: i for i, trace_id in enumerate(ids)}
        return sorted(rows, key=lambda row: places[row["trace_id"]])
    order = {"start": "start_ns", "duration": "duration_ns"}.get(name, name)
    return _scan(asked, which, names, order, descending, limit, offset)


def _scan(
    asked: Asked, which: str, names: Sequence[str], order: str, descending: bool, limit: int | None, skip: int
) -> list[Json]:
    store = asked.box._fresh_store()
    keep = None if limit is None else limit + skip
    table = store.scan(which, asked.from_ns, asked.to_ns, list(names), keep, order, descending)
    columns = [table.column(each)[skip:] for each in table.column_names]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _by_calls(asked: Asked, which: str, name: str, descending: bool) -> list[str]:
    """The ids of all traces, by what their model calls add up to; those without one come last."""

    def order() -> list[str]:
        ids = _roots(asked, which).columns("trace_id")._table().column("trace_id")
        until = (asked.from_ns, asked.now_ns)
        table = asked.spans(CALL, of=until, filtered=False).by("trace_id").agg(spanbox_value=_OF_CALLS[name])._table()
        values = dict(zip(table.column("trace_id"), table.column("spanbox_value"), strict=True))
        known = [trace_id for trace_id in ids if values.get(trace_id) is not None]
        return [
            *sorted(known, key=lambda trace_id: values[trace_id], reverse=descending),
            *(trace_id for trace_id in ids if values.get(trace_id) is None),
        ]

    return asked.kept(("by calls", which, name, descending), order)


def _rows(asked: Asked, colors: Colors, found: list[Json], wanted: Sequence[str]) -> list[Json]:
    if not found:
        return []
    ids = [row["trace_id"] for row in found]
    store = asked.box._fresh_store()
    summaries = {each["trace_id"]: each for each in store.summaries(ids)}
    models = _models(asked, ids)
    searched = searches(asked.q)
    snippets = _snippets(asked, ids, searched) if searched else {}
    rows = []
    for row in found:
        summary = summaries.get(row["trace_id"])
        totals = summary["totals"] if summary else (1, 0, 0, 0, None, None, None, None, None, None)
        of_trace = models.get(row["trace_id"], [])
        model = of_trace[0][0] if of_trace else None
        input_ = text_of(row["input"])[:_INPUT_CHARACTERS]
        rows.append(
            {
                "trace_id": row["trace_id"],
                "span_id": row["span_id"],
                "name": row["name"],
                "kind": row["kind"],
                "status": row["status"],
                "start_ns": str(row["start_ns"]),
                "duration_ns": row["duration_ns"],
                "input": input_,
                "snippet": snippets.get(row["trace_id"]),
                "input_match": _matches(input_, searched),
                "model": model,
                "color": colors.of(model),
                "more_models": max(0, len(of_trace) - 1),
                "ttft_ns": min((ttft for _, _, ttft in of_trace if ttft is not None), default=None),
                "input_tokens": totals[5],
                "output_tokens": totals[8],
                "cost_usd": totals[4],
                "spans": totals[0],
                "errors": totals[1],
                "cells": [_cell(row[name]) for name in wanted],
            }
        )
    return rows


def _models(asked: Asked, ids: list[str]) -> dict[str, list[tuple[str, int, Any]]]:
    """Of each trace its models: name, time, first TTFT; that with the most time first."""
    query = Query(filter=f"{LLM} and {one_of('trace_id', ids)}")
    store = asked.box._fresh_store()
    calls = Spans(lambda: store, query).by("trace_id", "model").agg(took="sum(duration)", ttft="min(ttft)")
    found: dict[str, list[tuple[str, int, Any]]] = defaultdict(list)
    for row in calls:
        if row["model"] is not None:
            found[row["trace_id"]].append((str(row["model"]), row["took"] or 0, row["ttft"]))
    for each in found.values():
        each.sort(key=lambda model: -model[1])
    return found


def text_of(value: Any) -> str:
    """What somebody wrote, of an input as it was captured: its text on one line."""
    if isinstance(value, str) and value[:1] in "{[":
        try:
            value = json.loads(value)
        except ValueError:
            return " ".join(value.split())
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        value = next((each for each in reversed(value) if each.get("role") == "user"), value[-1])
    if isinstance(value, dict):
        for name in ("content", "parts", "question", "query", "text", "input", "prompt", "message", "messages"):
            if name in value:
                return text_of(value[name])
        texts = [each for each in value.values() if isinstance(each, str)]
        value = texts[0] if len(texts) == 1 else json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        value = " ".join(text_of(each) for each in value[:8])
    return "" if value is None else " ".join(str(value).split())


def _matches(text: str, searched: Sequence[Search]) -> list[list[int]]:
    """Where plain searches match, in UTF-16 units."""
    found = []
    for pattern in {each.pattern for each in searched if not each.is_regex}:
        found += [[utf16(text[: m.start()]), utf16(text[: m.end()])] for m in re.finditer(re.escape(pattern), text)]
    return sorted(found)[:8]


def _snippets(asked: Asked, ids: list[str], searched: Sequence[Search]) -> dict[str, Json]:
    """A place of each trace where what is searched for stands."""
    store, found = asked.box._fresh_store(), {}
    for search in searched:
        left = [trace_id for trace_id in ids if trace_id not in found]
        name = column_name(search.column)
        if not left or not name:
            continue
        literal_ = quoted(search.pattern)
        clause = f"{name} ~ {literal_}" if search.is_regex else f"{literal_} in {name}"
        which = f"{one_of('trace_id', left)} and {clause}"
        hits, _ = store.grep(which, None, None, search.pattern, search.is_regex, False, 8 * len(left))
        for hit in hits:
            if hit["column"] == search.column and hit["trace_id"] not in found:
                found[hit["trace_id"]] = _snippet(hit)
    return found


def _snippet(hit: Any) -> Json:
    text, (begin, end) = hit["snippet"], hit["match"]
    first = max(0, begin - _SNIPPET)
    cut = text[first : end + _SNIPPET]
    match = [utf16(cut[: begin - first]), utf16(cut[: end - first])]
    return {"column": hit["column"], "text": cut, "match": [match]}


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)[:500]


def _hint(asked: Asked) -> Json | None:
    """Nothing matches: the clause without which most would, and how many."""
    parts = clauses(asked.q)[:_HINTED]
    found: list[Json] = []
    for i, part in enumerate(parts):
        rest = replace(asked, q=" and ".join(parts[:i] + parts[i + 1 :]))
        count = _roots(rest, trace_clause(rest)).count()
        found.append({"drop": part, "q": rest.q, "total": count})
    best = max(found, key=lambda each: each["total"], default=None)
    return best if best is not None and best["total"] else None


def _nothing(asked: Asked) -> str:
    return "No trace matches in this range." if asked.q else "No trace begins in this range."


# --- the strip of values over time ---


def selection(asked: Asked, *, negated: bool = False) -> str:
    """What `sel=t0,t1,y0,y1` has chosen, as a clause; '' for nothing. Times in seconds since 1970, y in its unit."""
    text = asked.param("sel")
    if not text:
        return ""
    parts = text.split(",")
    try:
        t0, t1, *ys = [float(part) if part else math.nan for part in parts]
    except ValueError:
        raise Problem("bad_request", "sel takes four numbers: t0,t1,y0,y1") from None
    if len(ys) not in (0, 2):
        raise Problem("bad_request", "sel takes four numbers: t0,t1,y0,y1")
    name, unit = _y(asked)
    bounds = [f"start >= {_date(t0)}", f"start < {_date(t1)}"]
    for bound, value in zip((">=", "<"), ys, strict=False):
        if math.isfinite(value):
            bounds.append(f"{name} {bound} {f'{round(value)}ns' if unit == 'ns' else repr(value)}")
    clause = " and ".join(bounds)
    return f"not ({clause})" if negated else clause


def _selected(asked: Asked, roots: str) -> str:
    clause = selection(asked)
    if clause and asked.param("y", "duration") != "duration":
        return f"{roots} and any(descendants, {LLM} and {clause})"
    return f"{roots} and {clause}" if clause else roots


def _date(seconds: float) -> str:
    if not 0 <= seconds < 4e9:
        raise Problem("bad_request", "sel: times are seconds since 1970")
    ns = round(seconds * 1e9)
    moment = datetime.fromtimestamp(ns // SECOND_NS, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns % SECOND_NS:09d}Z"


def _y(asked: Asked) -> tuple[str, str]:
    y = asked.param("y", "duration")
    if y not in Y:
        raise Problem("bad_request", f"y must be one of {', '.join(Y)}")
    return Y[y]


def _measured(asked: Asked) -> Spans:
    """Whose values the strip shows: roots; of other values than durations, model calls."""
    if _y(asked)[0] == "duration_ns":
        return _roots(asked, trace_clause(asked))
    return asked.spans(LLM)


def heat(asked: Asked, colors: Colors) -> Json:
    began_s = time.perf_counter()
    name, unit = _y(asked)
    axis = asked.axis(default_px=360)
    rows = _measured(asked).by(every=every(axis)).agg(b=f"buckets({name})")
    cells: dict[tuple[int, int], int] = defaultdict(int)
    total = 0
    for row in rows:
        place = axis.place(max(row["time"], axis.begin_ns))
        for index, count in row["b"] or ():
            total += count
            if index is not None and place is not None:
                cells[place, index] += count
    answer = time_axis(asked, axis)
    indices = [index for _, index in cells]
    low, high = (min(indices), max(indices)) if indices else (0, 0)
    step = -(-(high - low + 1) // _ROWS)
    height = -(-(high - low + 1) // step) if indices else 0
    scale = 1e9 if unit == "ns" else 1.0  # buckets of times are in seconds
    counts = [0.0] * (height * axis.buckets)
    for (place, index), count in cells.items():
        counts[place * height + (index - low) // step] += count
    y = asked.param("y", "duration")
    selected = None
    if clause := selection(asked):
        selected = (
            asked.spans(LLM, clause) if y != "duration" else _roots(asked, _selected(asked, trace_clause(asked)))
        ).count()
    return {
        **panel(
            asked,
            began_s,
            state="ok" if total else "empty",
            text="" if total else _nothing(asked),
            basis=[f"{plural(total, 'trace' if y == 'duration' else 'model call')}, all of them", bucket_name(axis)],
            more=f"Rows are {2 ** (step / 8):.2f} times as high as those below them",
        ),
        **answer,
        "y": y,
        "y_unit": unit,
        "y_edges": column(scale * 2 ** ((low - 1 + i * step) / 8) for i in range(height + 1)) if height else column([]),
        "counts": column(counts),
        "max_count": max(counts, default=0),
        "total": total,
        "selected": selected,
    }
