"""The report about a time: what changed against the time before, latency, cost and failures, and the slowest traces.

A change is marked from ×1.5 or 2 points on, with at least 20 calls on both sides; chance is not tested.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from spanbox import _core
from spanbox._notebook_html import HTML_ROWS, number, table, text
from spanbox._notebook_tables import figures_html, rows_html, sparks_html
from spanbox._notebook_trace import failures_html, head_html, waterfall_html, where_html
from spanbox._render import MISSING, duration_column, format_cost, format_duration, format_share, format_time, plural
from spanbox._report_figures import (
    FIRST_FAILED,
    MODEL_CALLS,
    ROOTS,
    Row,
    both,
    by_kind,
    by_model,
    failures,
    slowest_traces,
)
from spanbox._time import Moment, length_ns, moment_ns

if TYPE_CHECKING:
    from spanbox._box import Box

_FEW = 20  # calls that tell nothing of a p99 or a rate
_TIMES = 1.5
_POINTS = 0.02
_SLOW = 10
_LOOKED_AT = 2_000  # failures among which the newest of each kind is looked for
_DRAWN = 3
_ENOUGH_BUCKETS = 48
_BUCKETS = ("1s", "10s", "1m", "5m", "15m", "1h", "6h", "1d", "7d")
_QUANTILES = "quantiles by sketch, within 1 %"


def range_body(box: Box, filter: str, since: Moment | None, until: Moment | None, title: str) -> str:
    _core.check_filter(filter)
    begin, end = moment_ns(since, what="since"), moment_ns(until, what="until")
    spans = box.spans(filter, since=begin, until=end)
    count = spans.count()
    first = next(iter(spans.columns("start_ns").order_by("start_ns").limit(1)), None)
    if not count or first is None:
        return f"<h1>{text(title)}</h1><p>{text(_range(begin, end, filter))}</p><p>No spans match.</p>"
    models, (failed, traces) = by_model(box, filter, begin, end), _roots(box, filter, begin, end)
    changes: list[Row] = []
    if begin is not None:
        length = (end if end is not None else time.time_ns()) - begin
        changes += _model_changes(models, by_model(box, filter, begin - length, begin))
        changes += _root_changes((failed, traces), _roots(box, filter, begin - length, begin))
    newest = next(iter(spans.columns("start_ns").order_by("start_ns", descending=True).limit(1)), first)
    return (
        f"<h1>{text(title)}</h1><p>{text(_range(begin, end, filter))}, {plural(count, 'span')}, "
        f"{plural(traces, 'trace')}</p>"
        + _verdict_html(changes, begin)
        + _latency_html(box, models, filter, begin, end, newest["start"] - first["start"])
        + _cost_html(box, filter, begin, end, traces)
        + _failures_html(box, filter, begin, end)
        + _slow_html(box, filter, begin, end)
    )


def _range(begin: int | None, end: int | None, filter: str) -> str:
    told = "from the first span" if begin is None else f"from {format_time(begin)}"
    until = f" to {format_time(end)}" if end is not None else f" to {format_time(time.time_ns())}"
    return f"{told}{until}" + (f", {' '.join(filter.split())}" if filter.strip() else "")


def _roots(box: Box, filter: str, begin: int | None, end: int | None) -> tuple[float | None, int]:
    """The share of traces whose root failed, and how many there are."""
    rows = list(box.spans(both(filter, ROOTS), since=begin, until=end).by().agg(n="count()", bad="rate(status==error)"))
    return (rows[0]["bad"], rows[0]["n"]) if rows else (None, 0)


# --- what changed ----------------------------------------------------------------------------------------------------


def _change(what: str, now: float | None, before: float | None, enough: bool, unit: str) -> Row:
    return {"what": what, "now": now, "before": before, "enough": enough, "unit": unit}


def _model_changes(now: list[Row], before: list[Row]) -> list[Row]:
    earlier = {row["model"]: row for row in before}
    changes = []
    for row in now[:HTML_ROWS]:
        was = earlier.get(row["model"], {})
        enough = min(row["calls"], was.get("calls", 0)) >= _FEW
        name = row["model"] or "(no model)"
        for what, key in (("TTFT p99", "ttft_p99"), ("duration p99", "took_p99"), ("TPOT p99", "tpot_p99")):
            if row[key] is not None:
                changes.append(_change(f"{name} {what}", row[key], was.get(key), enough, "duration"))
        per = [_per_call(each) for each in (row, was)]
        if per[0] is not None:
            changes.append(_change(f"{name} cost of 1,000 calls", per[0], per[1], enough, "cost"))
        changes.append(_change(f"{name} failing", row["failed"], was.get("failed"), enough, "share"))
    return changes


def _per_call(row: Row) -> float | None:
    priced = row.get("calls_with_cost")
    return 1000 * row["cost_usd"] / priced if priced else None


def _root_changes(now: tuple[float | None, int], before: tuple[float | None, int]) -> list[Row]:
    enough = min(now[1], before[1]) >= _FEW
    return [_change("traces failing", now[0], before[0], enough, "share")] if now[1] else []


def _worse(change: Row) -> float:
    """How much worse, as a ratio; 0: not, or there is too little to tell."""
    now, before = change["now"], change["before"]
    if not change["enough"] or now is None or before is None:
        return 0.0
    if change["unit"] == "share":
        return (1 + now) / (1 + before) if now - before >= _POINTS else 0.0
    return now / before if before > 0 and now / before >= _TIMES else 0.0


def _ratio(change: Row) -> str:
    now, before = change["now"], change["before"]
    if now is None or before is None:
        return MISSING
    if not change["enough"]:
        return f"n < {_FEW}"
    if change["unit"] == "share":
        points = (now - before) * 100
        return f"{'+' if points > 0 else '−' if points < 0 else ''}{abs(points):.1f} points"
    if before <= 0:
        return MISSING
    times = now / before
    if times >= 2:
        return f"×{times:.1f}"
    return f"{'+' if times >= 1 else '−'}{abs(times - 1) * 100:.0f} %"


def _verdict_html(changes: list[Row], begin: int | None) -> str:
    worse = sorted((each for each in changes if _worse(each)), key=lambda each: -_worse(each))
    compared = sum(each["before"] is not None and each["enough"] for each in changes)
    if begin is None:
        verdict = "All that is stored: there is no time before to compare with."
    elif not compared:
        verdict = "Too few calls in the time before to compare with."
    elif not worse:
        verdict = f"Nothing is worse than in the time before. {plural(compared, 'comparison')}."
    else:
        are = "thing is" if len(worse) == 1 else "things are"
        verdict = f"{len(worse):,} {are} worse than in the time before. {plural(compared, 'comparison')}."
    shown = [*worse, *(each for each in changes if not _worse(each))][:HTML_ROWS]
    rows = [
        [
            ("▲ " if each["unit"] == "share" else "◆ ") + each["what"] if _worse(each) else each["what"],
            *(_value(each[key], each["unit"]) for key in ("now", "before")),
            _ratio(each),
        ]
        for each in shown
    ]
    if not any(each["before"] is not None for each in shown):
        return f"<p>{text(verdict)}</p>"
    note = "marked from ×1.5 or 2 points on, with 20 calls on both sides; chance is not tested; " + _QUANTILES
    return f"<h2>{text(verdict)}</h2>" + table(
        "", ["what", "now", "before", "change"], rows, right={1, 2, 3}, notes=[note]
    )


def _value(value: float | None, unit: str) -> str:
    return {"duration": format_duration, "cost": format_cost, "share": format_share}[unit](value)


# --- figures ---------------------------------------------------------------------------------------------------------


def _latency_html(box: Box, models: list[Row], filter: str, begin: int | None, end: int | None, lasts_ns: int) -> str:
    if not models:
        return "<h2>By kind</h2>" + rows_html(by_kind(box, filter, begin, end), "")
    keys = ("ttft_p50", "ttft_p99", "tpot_p50", "tpot_p99", "took_p50", "took_p99")
    shown = models[:HTML_ROWS]
    columns = [duration_column([row[key] for row in shown]) for key in keys]
    rows = [
        [
            row["model"] or "(no model)",
            f"{row['calls']:,}",
            *(column[at] for column in columns),
            format_share(row["failed"]),
        ]
        for at, row in enumerate(shown)
    ]
    header = ["model", "calls", "TTFT p50", "p99", "TPOT p50", "p99", "duration p50", "p99", "failed"]
    bars = {1: [row["calls"] for row in shown], 3: [row["ttft_p99"] for row in shown]} if len(shown) > 1 else {}
    streamed = box.spans(both(filter, f"{MODEL_CALLS} and ttft > 0s"), since=begin, until=end).count()
    calls = sum(row["calls"] for row in models)
    left_out = f"; {calls - streamed:,} of {calls:,} calls tell no first token and are left out of TTFT"
    over = (
        box.spans(both(filter, MODEL_CALLS), since=begin, until=end)
        .by("model", every=_bucket(lasts_ns))
        .agg(calls="count()", ttft_p99="p99(ttft)", failed="rate(status == error)")
    )
    return (
        "<h2>Latency by model</h2>"
        + table("", header, rows, right=set(range(1, 9)), bars=bars, notes=[_QUANTILES + left_out])
        + sparks_html(over)
        + f'<p class="sb-note">{text(over.basis)}</p>'
    )


def _bucket(lasts_ns: int) -> str:
    return next((each for each in _BUCKETS if lasts_ns / length_ns(each) <= _ENOUGH_BUCKETS), _BUCKETS[-1])


def _cost_html(box: Box, filter: str, begin: int | None, end: int | None, traces: int) -> str:
    report = box.cost(filter, since=begin, until=end)
    if not report:
        return ""
    usd = report.total.cost_usd
    per = f", {number(format_cost(1000 * usd / traces))} for 1,000 traces" if usd is not None and traces else ""
    bars = {1: [row.calls for row in report], 2: [row.cost_usd for row in report]}
    html = figures_html("", report.cells(), report.remarks, bars)  # type: ignore[arg-type]
    return f"<h2>Cost {number(format_cost(usd))}{per}</h2>{html}"


def _failures_html(box: Box, filter: str, begin: int | None, end: int | None) -> str:
    found = failures(box, filter, begin, end)
    if not found:
        return "<h2>No span failed</h2>"
    shown = found[:HTML_ROWS]
    failed = box.spans(both(filter, FIRST_FAILED), since=begin, until=end)
    columns = ("kind", "name", "error_type", "trace_id", "error_message")
    newest: dict[tuple[Any, ...], Row] = {}
    for row in failed.columns(*columns, "start_ns").order_by("start_ns", descending=True).limit(_LOOKED_AT):
        newest.setdefault(_kind_of(row), row)
    rows = [
        [
            f"▲ {row['name']}", row["kind"], row["error_type"] or MISSING, f"{row['failed']:,}",
            str(one.get("trace_id") or ""), str(one.get("error_message") or "")[:300],
        ]
        for row, one in ((row, newest.get(_kind_of(row), {})) for row in shown)
    ]  # fmt: skip
    header = ["span", "kind", "error", "failed", "newest in trace", "which said"]
    note = "spans that failed while none of their children did, exact"
    html = table("", header, rows, right={3}, wrap={5}, bars={3: [row["failed"] for row in shown]}, notes=[note])
    return f"<h2>{text(plural(failed.count(), 'failure'))}</h2>{html}"


def _kind_of(row: Row) -> tuple[Any, ...]:
    return row["kind"], row["name"], row["error_type"]


def _slow_html(box: Box, filter: str, begin: int | None, end: int | None) -> str:
    traces = slowest_traces(box, filter, begin, end, _SLOW)
    if not traces:
        return ""
    took = duration_column([trace.duration_ns for trace in traces])
    rows = [
        [
            trace.name, trace.trace_id, format_time(trace.start_ns), took[at], f"{trace.spans:,}",
            format_cost(trace.cost_usd), f"▲ {plural(trace.errors, 'error')}" if trace.errors else trace.status,
        ]
        for at, trace in enumerate(traces)
    ]  # fmt: skip
    header = ["trace", "id", "start", "duration", "spans", "cost", ""]
    html = table("", header, rows, right={3, 4, 5}, bars={3: [trace.duration_ns for trace in traces]},
                 notes=["traces by the duration of their root, exact; running ones do not count"])  # fmt: skip
    for trace in traces[:_DRAWN]:
        shown = box.trace(trace.trace_id, payloads=False)
        drawn = head_html(shown) + failures_html(shown) + waterfall_html(shown) + where_html(shown)
        html += f"<details><summary>{text(trace.name)} {text(trace.trace_id)}</summary>{drawn}</details>"
    return f"<h2>Slowest traces</h2>{html}"
