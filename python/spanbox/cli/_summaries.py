"""Tables the commands share: recent traces, figures by model and by kind."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from spanbox import _core
from spanbox._box import Box
from spanbox._render import (
    clean,
    distinct_digits,
    format_cost,
    format_count,
    format_duration,
    format_share,
    plural,
    short_count,
    short_time,
)
from spanbox._spans import Result
from spanbox._time import Moment
from spanbox._trace import Totals
from spanbox.cli._output import Output

_SPANS_A_TRACE = 16  # a guess to start with
_MODEL_CALLS = 'kind in ["llm", "embedding"]'
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """One line of `spanbox ls`."""

    trace_id: str
    start_ns: int
    name: str
    spans: int
    duration_ns: int | None
    tokens: int | None
    cost_usd: float | None
    errors: int
    status: str

    def as_dict(self) -> Row:
        return asdict(self)


def recent_traces(box: Box, filter: str, since: Moment | None, limit: int) -> list[TraceSummary]:
    """The traces of the newest spans that match, newest first."""
    ids: dict[str, None] = {}
    page = _SPANS_A_TRACE * limit
    newest = box.spans(filter, since=since).columns("trace_id", "start_ns").order_by("start_ns", descending=True)
    while True:
        rows = [row["trace_id"] for row in newest.limit(page)]
        ids = dict.fromkeys(rows)
        if len(ids) >= limit or len(rows) < page:
            break
        page *= 4
    chosen = list(ids)[:limit]
    if not chosen:
        return []
    return sorted(map(_summary, box._store.summaries(chosen)), key=lambda trace: -trace.start_ns)


def _summary(trace: _core.TraceSummary) -> TraceSummary:
    totals = Totals(*trace["totals"])
    return TraceSummary(
        trace_id=trace["trace_id"],
        start_ns=trace["start_ns"],
        name=trace["name"],
        spans=totals.spans,
        duration_ns=trace["duration_ns"],
        tokens=_sum([totals.input_tokens, totals.output_tokens]),
        cost_usd=totals.cost_usd,
        errors=totals.errors,
        status=trace["status"],
    )


def _sum(values: Any) -> Any:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def print_traces(out: Output, traces: list[TraceSummary]) -> None:
    rows = []
    digits = distinct_digits([trace.trace_id for trace in traces])
    for trace in traces:
        status = trace.status if trace.status == "ok" else f"✗ {trace.status}"
        if trace.errors and trace.status == "ok":
            status = plural(trace.errors, "error")
        rows.append(
            [
                trace.trace_id[:digits],
                short_time(trace.start_ns),
                clean(trace.name),
                format_count(trace.spans),
                format_duration(trace.duration_ns),
                short_count(trace.tokens),
                format_cost(trace.cost_usd),
                status,
            ]
        )
    out.table(
        ["trace", "start", "name", "spans", "took", "tokens", "cost", "status"], rows, right={3, 4, 5, 6}, cut={2, 7}
    )


def by_model(box: Box, filter: str, since: Moment | None) -> list[Row]:
    """Figures of the model calls of each model, busiest first. cost_usd is None where no call has a cost."""
    which = f"({filter}) and {_MODEL_CALLS}" if filter else _MODEL_CALLS
    result = (
        box.spans(which, since=since)
        .by("model")
        .agg(
            calls="count()",
            ttft_p50="p50(ttft)",
            ttft_p99="p99(ttft)",
            took_p50="p50(duration)",
            took_p99="p99(duration)",
            tpot_p50="p50(tpot)",
            input_tokens="sum(input_tokens)",
            output_tokens="sum(output_tokens)",
            cost_usd="sum(cost)",
            calls_with_cost="count(cost)",
            failed="rate(status == error)",
        )
    )
    rows = sorted(result, key=lambda row: -row["calls"])
    return [row if row["calls_with_cost"] else {**row, "cost_usd": None} for row in rows]


def by_kind(box: Box, filter: str, since: Moment | None) -> Result:
    """How many spans of each kind, how slow, how many failed."""
    return (
        box.spans(filter, since=since)
        .by("kind")
        .agg(spans="count()", took_p50="p50(duration)", took_p99="p99(duration)", failed="rate(status == error)")
    )


def print_models(out: Output, figures: list[Row]) -> None:
    rows = []
    for row in figures:
        tokens = f"{format_count(row['input_tokens'])}→{format_count(row['output_tokens'])}"
        times = [format_duration(row[key]) for key in ("ttft_p50", "ttft_p99")]
        name = clean(row["model"] or "(no model)")
        cost, failed = format_cost(row["cost_usd"]), format_share(row["failed"])
        rows.append([name, format_count(row["calls"]), *times, tokens, cost, failed])
    header = ["model", "calls", "p50 ttft", "p99 ttft", "tokens in→out", "cost", "failed"]
    out.table(header, rows, right=set(range(1, 7)), cut={0})


def print_kinds(out: Output, result: Result) -> None:
    rows = [
        [
            clean(row["kind"]),
            format_count(row["spans"]),
            format_duration(row["took_p50"]),
            format_duration(row["took_p99"]),
            format_share(row["failed"]),
        ]
        for row in sorted(result, key=lambda row: -row["spans"])
    ]
    out.table(["kind", "spans", "p50 took", "p99 took", "failed"], rows, right={1, 2, 3, 4})
