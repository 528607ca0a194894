"""The report about a time: what is worse than before, latency, cost and failures, and the slowest traces."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from spanbox import _core
from spanbox._notebook_findings import findings_html
from spanbox._notebook_html import HTML_ROWS, number, table, text
from spanbox._notebook_tables import figures_html, rows_html, sparks_html
from spanbox._notebook_trace import failures_html, head_html, waterfall_html, where_html
from spanbox._render import MISSING, duration_column, format_cost, format_share, format_time, plural
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

_LEAST_BEFORE_NS = 7 * 86_400_000_000_000  # that the time is compared with
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
    models, traces = by_model(box, filter, begin, end), box.spans(both(filter, ROOTS), since=begin, until=end).count()
    newest = next(iter(spans.columns("start_ns").order_by("start_ns", descending=True).limit(1)), first)
    return (
        f"<h1>{text(title)}</h1><p>{text(_range(begin, end, filter))}, {plural(count, 'span')}, "
        f"{plural(traces, 'trace')}</p>"
        + _verdict_html(box, filter, begin, end)
        + _latency_html(box, models, filter, begin, end, newest["start"] - first["start"])
        + _cost_html(box, filter, begin, end, traces)
        + _failures_html(box, filter, begin, end)
        + _slow_html(box, filter, begin, end)
    )


def _range(begin: int | None, end: int | None, filter: str) -> str:
    told = "from the first span" if begin is None else f"from {format_time(begin)}"
    until = f" to {format_time(end)}" if end is not None else f" to {format_time(time.time_ns())}"
    return f"{told}{until}" + (f", {' '.join(filter.split())}" if filter.strip() else "")


def _verdict_html(box: Box, filter: str, begin: int | None, end: int | None) -> str:
    """What box.findings() finds: against the 7 days before, or as long as the time itself."""
    if begin is None:
        return "<p>All that is stored: there is no time before to compare with.</p>"
    length = (end if end is not None else time.time_ns()) - begin
    found = box.findings(filter, since=begin, until=end, vs=f"{max(length, _LEAST_BEFORE_NS)}ns")
    return findings_html(found, heading="h2")


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
