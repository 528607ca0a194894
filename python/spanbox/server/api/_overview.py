"""The first screen's panels: latency by model, failures by kind, the slowest traces. Cost and quality have files of
their own."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from typing import Any

from spanbox._literals import equals
from spanbox._render import format_duration, plural
from spanbox.server.api._asked import DAY_NS, Asked, Axis, Interval
from spanbox.server.api._columnar import column
from spanbox.server.api._frame import (
    FEW,
    LLM,
    Colors,
    Json,
    bucket_name,
    every,
    panel,
    partial_note,
    time_axis,
)
from spanbox.server.api._roots import root_clause

_ROWS = 12
_KINDS = 6  # of failures, before "other"
HOUR_NS = 3_600_000_000_000
_LATENCY = {
    "ttft": ("p50(ttft)", "p99(ttft)", "count(ttft)"),
    "tpot": ("p50(tpot)", "p99(tpot)", "count(tpot)"),
}
_OWN_KINDS = {"agent", "workflow", "chain", "span", "prompt", "memory"}


# --- latency ---


def latency(asked: Asked, colors: Colors) -> Json:
    began_s = time.perf_counter()
    axis = asked.axis()
    whole = (axis.begin_ns, asked.to_ns)
    by_time: dict[Any, list[Json]] = defaultdict(list)
    for row in asked.spans(LLM, of=whole).by("model", every=every(axis)).agg(**_aggregates()):
        by_time[row["model"]].append(row)
    totals = _by_model(asked, whole)
    recent = _by_model(asked, asked.window)
    before = _by_model(asked, asked.baseline) if asked.baseline else {}
    models = sorted(totals, key=lambda name: (-totals[name]["n"], str(name)))
    rows = [
        {
            "model": name,
            "color": colors.of(name),
            "n": totals[name]["n"],
            **{
                what: _part(what, axis, by_time[name], totals[name], recent.get(name), before.get(name), bool(before))
                for what in _LATENCY
            },
        }
        for name in models[:_ROWS]
    ]
    calls = sum(row["n"] for row in totals.values())
    streamed = sum(row["ttft_n"] for row in totals.values())
    timed = sum(row["tpot_n"] for row in totals.values())
    answer = time_axis(asked, axis)
    return {
        **panel(
            asked,
            began_s,
            state="ok" if streamed else "empty",
            text="" if streamed else "No model call in this range has a time to its first token.",
            basis=[
                f"{plural(streamed, 'LLM call')} that streamed ({calls - streamed:,} did not and are left out)",
                "DDSketch, relative error ≤ 1 %",
                bucket_name(axis),
                partial_note(answer),
                "hatched: nothing recorded" if answer["gaps"] else "",
            ],
            more="TTFT is the time to the first chunk. "
            f"TPOT is that of {plural(timed, 'call')}: it takes two output tokens",
        ),
        **answer,
        "recent": {"from_ns": str(asked.window[0]), "to_ns": str(asked.window[1])},
        "rows": rows,
        "more_models": max(0, len(models) - _ROWS),
        "min_ns": {what: _extreme(rows, what, "p50", min) for what in _LATENCY},
        "max_ns": {what: _extreme(rows, what, "p99", max) for what in _LATENCY},
    }


def _aggregates() -> dict[str, str]:
    found = {"n": "count()"}
    for what, (p50, p99, count) in _LATENCY.items():
        found |= {f"{what}_p50": p50, f"{what}_p99": p99, f"{what}_n": count}
    return found


def _by_model(asked: Asked, of: Interval) -> dict[Any, Json]:
    return asked.kept(
        ("models", of), lambda: {row["model"]: row for row in asked.spans(LLM, of=of).by("model").agg(**_aggregates())}
    )


def _part(
    what: str, axis: Axis, rows: list[Json], total: Json, recent: Json | None, before: Json | None, compared: bool
) -> Json:
    p50, p99 = [None] * axis.buckets, [None] * axis.buckets
    for row in rows:
        place = axis.place(row["time"])
        if place is not None:
            p50[place], p99[place] = row[f"{what}_p50"], row[f"{what}_p99"]
    now, then = _figures(what, recent), _figures(what, before)
    worse = (
        now["n"] >= FEW
        and then["n"] >= FEW
        and then["p99_ns"]
        and now["p99_ns"] is not None
        and now["p99_ns"] > 1.5 * then["p99_ns"]
    )
    return {
        "n": total[f"{what}_n"],
        "p50": column(p50),
        "p99": column(p99),
        "recent": now,
        "before": then if compared else None,
        "worse": bool(compared and worse),
    }


def _figures(what: str, row: Json | None) -> Json:
    if row is None:
        return {"n": 0, "p50_ns": None, "p99_ns": None}
    return {"n": row[f"{what}_n"], "p50_ns": row[f"{what}_p50"], "p99_ns": row[f"{what}_p99"]}


def _extreme(rows: list[Json], what: str, name: str, choose: Any) -> float | None:
    values = [value for row in rows for value in row[what][name] if value == value]
    return choose(values) if values else None


# --- failures ---


def failures(asked: Asked, colors: Colors) -> Json:
    began_s = time.perf_counter()
    axis = asked.axis()
    of = (axis.begin_ns, asked.to_ns)
    root = root_clause(asked)
    totals = {row["time"]: row["n"] for row in asked.spans(root, of=of).by(every=every(axis)).agg(n="count()")}
    failed = first_failures(asked, of)
    window, before = asked.window, asked.baseline
    in_window = asked.spans(root, of=window).count()
    now = Counter(kind for at_ns, kind, _ in failed if window[0] <= at_ns)
    known = Counter(kind for _, kind, _ in failed)
    then = Counter(kind for _, kind, _ in first_failures(asked, before)) if before else Counter()
    in_before = asked.spans(root, of=before).count() if before else 0
    names = sorted(known, key=lambda kind: (-now[kind], -known[kind], kind))
    shown, rest = names[:_KINDS], names[_KINDS:]
    filters = {kind: clause for _, kind, clause in failed}
    groups = [(kind, [kind], filters[kind]) for kind in shown] + ([("other", rest, "status == error")] if rest else [])
    counts = Counter((axis.place(at_ns), kind) for at_ns, kind, _ in failed)
    kinds = [
        {
            "name": name,
            "rate": column(
                sum(counts[place, kind] for kind in of_it) / total
                if (total := totals.get(axis.begin_ns + place * axis.bucket_ns, 0))
                else None
                for place in range(axis.buckets)
            ),
            "now": sum(now[kind] for kind in of_it) / in_window if in_window else 0.0,
            "before": sum(then[kind] for kind in of_it) / in_before if in_before else None,
            "n": sum(known[kind] for kind in of_it),
            "filter": filter_,
        }
        for name, of_it, filter_ in groups
    ]
    all_roots = sum(totals.values())
    answer = time_axis(asked, axis)
    state, text = ("ok", "") if all_roots else ("empty", "No trace begins in this range.")
    return {
        **panel(
            asked,
            began_s,
            state=state,
            text=text,
            basis=[
                f"{plural(all_roots, 'root span')}, exact",
                "counted once, by the first failure",
                partial_note(answer),
            ],
            more="A trace counts when any of its spans failed, under the error_type of the one that failed first",
        ),
        **answer,
        "kinds": kinds,
        "rate": now.total() / in_window if in_window else None,
        "failed": now.total(),
        "of": in_window,
        "rate_before": then.total() / in_before if in_before else None,
    }


def first_failures(asked: Asked, of: Interval) -> list[tuple[int, str, str]]:
    """Of each trace with a failed span: when its root began, the kind of its first failure, and a filter for that."""
    return asked.kept(("first failures", of), lambda: _first_failures(asked, of))


def _first_failures(asked: Asked, of: Interval) -> list[tuple[int, str, str]]:
    failed = asked.spans("status == error", of=(of[0], min(asked.now_ns, of[1] + HOUR_NS)), filtered=False)
    table = failed.columns("trace_id", "start_ns", "error_type", "kind").order_by("start_ns")._table()
    ids, starts, types, kinds = map(table.column, table.column_names)
    first = dict(zip(reversed(ids), range(len(ids) - 1, -1, -1), strict=True))  # of each trace its earliest
    # A failure comes soon after its root began: of days the edges do not matter.
    begun = _begun(asked, of) if asked.q or of[1] - of[0] <= DAY_NS else None
    named: dict[tuple[Any, str], tuple[str, str]] = {}
    found = []
    for trace_id, i in first.items():
        at_ns = starts[i] if begun is None else begun.get(trace_id)
        if at_ns is None or (begun is None and at_ns >= of[1]):
            continue
        what = (types[i], kinds[i])
        if what not in named:
            named[what] = _kind(*what)
        found.append((at_ns, *named[what]))
    return found


def _begun(asked: Asked, of: Interval) -> dict[str, int]:
    """When the roots began of traces that match and have a failure."""
    failed = asked.spans(root_clause(asked), "status == error or any(descendants, status == error)", of=of)
    table = failed.columns("trace_id", "start_ns")._table()
    return dict(zip(*map(table.column, table.column_names), strict=True))


def _kind(error_type: Any, kind: str) -> tuple[str, str]:
    """The name of a kind of failure, and a filter for it."""
    if error_type is None:
        return f"{kind} failed", f"status == error and error_type == none and kind == {kind}"
    return str(error_type)[:80], f"status == error and {equals('error_type', error_type)}"


# --- the slowest traces ---


def slow(asked: Asked, colors: Colors) -> Json:
    began_s = time.perf_counter()
    root, count = root_clause(asked), asked.number("n", 10, least=1, most=50)
    window = asked.window
    names = ("trace_id", "span_id", "name", "start_ns", "duration_ns", "status")
    ended = asked.spans(root, of=window).columns(*names).order_by("duration_ns", descending=True).limit(count)
    running = asked.spans(root, "status == running", of=window).columns(*names).order_by("start_ns").limit(count)
    rows = [dict(zip(names, row.values(), strict=True)) for spans in (ended, running) for row in spans]
    for row in rows:
        if row["status"] == "running":
            row["duration_ns"] = max(0, asked.now_ns - row["start_ns"])
    unique = {row["trace_id"]: row for row in rows if row["duration_ns"] is not None}
    rows = sorted(unique.values(), key=lambda row: -row["duration_ns"])[:count]
    of = asked.spans(root, of=window).count()
    return {
        **panel(
            asked,
            began_s,
            state="ok" if rows else "empty",
            text="" if rows else "No trace begins in this time.",
            basis=["root spans by duration, exact", "running ones counted to now"],
        ),
        "of": of,
        "rows": [_slow_row(asked, colors, row) for row in rows],
    }


def _slow_row(asked: Asked, colors: Colors, row: Json) -> Json:
    spans, _, summary = asked.box._fresh_store().trace_page(row["trace_id"], 0, 512, [], False)
    total = row["duration_ns"]
    parts, longest = time_parts(spans, total, asked.now_ns)
    names = {"waiting_ns": "wait", "streaming_ns": "streaming", "tools_ns": "tool", "own_ns": "own code"}
    dominant = max(names, key=lambda name: parts[name])
    model_call = longest["model"]
    model = None if model_call is None else model_call["attributes"].get("model")
    guilty = longest.get(dominant)
    waits = dominant == "waiting_ns" and guilty is not None and guilty["status"] == "running"
    return {
        "trace_id": row["trace_id"],
        "span_id": row["span_id"] if guilty is None else guilty["span_id"],
        "name": row["name"],
        "start_ns": str(row["start_ns"]),
        "duration_ns": total,
        "status": row["status"],
        "errors": summary["totals"][1],
        "model": None if model is None else str(model),
        "color": colors.of(None if model is None else str(model)),
        "parts": parts,
        "dominant": "still waiting" if waits else f"{format_duration(parts[dominant])} {names[dominant]}",
    }


def time_parts(spans: list[Any], total_ns: int, now_ns: int) -> tuple[Json, dict[str, Any]]:
    """Where the time of a trace went, by its critical path: parts that add up to `total_ns`, and the span with the
    most of
    each."""
    parts = {"waiting_ns": 0, "streaming_ns": 0, "tools_ns": 0, "own_ns": 0}
    longest: dict[str, Any] = {"model": None}
    most: Counter[str] = Counter()

    def add(name: str, span: Any, length_ns: int) -> None:
        parts[name] += length_ns
        if length_ns > most[name]:
            most[name], longest[name] = length_ns, span

    for span in spans:
        critical_ns = span["critical_ns"]
        if span["kind"] == "llm":
            length_ns = span["duration_ns"] if span["duration_ns"] is not None else now_ns - span["start_ns"]
            if length_ns > most["model"]:
                most["model"], longest["model"] = length_ns, span
            ttft_ns = span["attributes"].get("ttft_ns")
            streams = isinstance(ttft_ns, int)
            waited = min(critical_ns, ttft_ns) if streams else critical_ns
            add("waiting_ns", span, waited)
            add("streaming_ns", span, critical_ns - waited)
        else:
            add("own_ns" if span["kind"] in _OWN_KINDS else "tools_ns", span, critical_ns)
    parts["own_ns"] += total_ns - sum(parts.values())  # what no span on this page has
    if parts["own_ns"] < 0:  # an unfinished trace: its path ends with what is known
        parts = dict.fromkeys(parts, 0) | {"own_ns": total_ns}
    return parts, longest
