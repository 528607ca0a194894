"""Figures that reports and the command line share: recent traces, calls by model and by kind, failures, slow traces."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from spanbox import _core
from spanbox._spans import Result
from spanbox._time import Moment
from spanbox._trace import Totals

if TYPE_CHECKING:
    from spanbox._box import Box

_SPANS_A_TRACE = 16  # a guess to start with
MODEL_CALLS = 'kind in ["llm", "embedding"]'
ROOTS = "parent_id == none"
Row = dict[str, Any]


def both(filter: str, clause: str) -> str:
    """Spans that match the filter and the clause."""
    return f"({filter}) and {clause}" if filter.strip() else clause


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """What a list says of a trace."""

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


def by_model(box: Box, filter: str, since: Moment | None, until: Moment | None = None) -> list[Row]:
    """Figures of the model calls of each model, busiest first. cost_usd is None where no call has a cost."""
    result = (
        box.spans(both(filter, MODEL_CALLS), since=since, until=until)
        .by("model")
        .agg(
            calls="count()",
            ttft_p50="p50(ttft)",
            ttft_p99="p99(ttft)",
            took_p50="p50(duration)",
            took_p99="p99(duration)",
            tpot_p50="p50(tpot)",
            tpot_p99="p99(tpot)",
            input_tokens="sum(input_tokens)",
            output_tokens="sum(output_tokens)",
            cost_usd="sum(cost)",
            calls_with_cost="count(cost)",
            failed="rate(status == error)",
        )
    )
    rows = sorted(result, key=lambda row: -row["calls"])
    return [row if row["calls_with_cost"] else {**row, "cost_usd": None} for row in rows]


def by_kind(box: Box, filter: str, since: Moment | None, until: Moment | None = None) -> Result:
    """How many spans of each kind, how slow, how many failed."""
    return (
        box.spans(filter, since=since, until=until)
        .by("kind")
        .agg(spans="count()", took_p50="p50(duration)", took_p99="p99(duration)", failed="rate(status == error)")
    )


def slowest_traces(box: Box, filter: str, since: Moment | None, until: Moment | None, limit: int) -> list[TraceSummary]:
    """By the duration of their roots, longest first."""
    roots = box.spans(both(filter, ROOTS), since=since, until=until)
    ids = [
        row["trace_id"]
        for row in roots.columns("trace_id", "duration_ns").order_by("duration_ns", descending=True).limit(limit)
        if row["duration_ns"] is not None
    ]
    found = map(_summary, box._store.summaries(ids)) if ids else ()
    return sorted(found, key=lambda trace: -(trace.duration_ns or 0))


def failures(box: Box, filter: str, since: Moment | None, until: Moment | None) -> list[Row]:
    """Failed spans none of whose children failed, by kind, name and type of the error, most first; and the newest."""
    failed = box.spans(both(filter, FIRST_FAILED), since=since, until=until)
    return sorted(failed.by("kind", "name", "error_type").agg(failed="count()", last="max(start)"),
                  key=lambda row: -row["failed"])  # fmt: skip


FIRST_FAILED = "status == error and not any(children, status == error)"
