"""Findings that need no test: times in which nothing was recorded, spans that were dropped, spans that run for longer
than nearly all of their kind ever did.

Thread rule: as Box. Units: nanoseconds since 1970.
"""

from __future__ import annotations

import time
from itertools import pairwise
from statistics import fmean, median

from spanbox import _core
from spanbox._comparisons import Group, Interval, Period, Unit
from spanbox._finding import Finding, Proof
from spanbox._literals import equals
from spanbox._spans import Query, Spans

_MINUTE_NS = 60_000_000_000
_USUAL_SPANS = 10  # in a bucket: of fewer none may come by chance
_SILENT_BUCKETS = 2  # in a row: spans come in traces, and a single bucket may miss them
_FEW = 20  # a bucket with less than a twentieth of the usual is silent: what runs on into a gap is no traffic
_EXPECTED_TRACES = 12.0  # in a gap: by chance none come once in 160,000 times
_AROUND = 10  # buckets on either side of a gap
_LEAST_ENDED = 1_000  # spans of a kind that a p99.9 needs
_RUNNING = "status == running"
_LISTED = 1_000  # running spans, oldest first


def facts(period: Period, around: Interval) -> list[Finding]:
    """Of the window; `around`: the longer time that says what is usual."""
    return [*_silent(period, around), *_dropped(period), *_running(period)]


def silences(store: _core.Store, of: Interval, now_ns: int) -> list[Interval]:
    """Times when nothing at all was recorded, though as much as before and after would have been seen; newest
    first."""
    length_ns = max(1, (of[1] - of[0]) // (200 * _MINUTE_NS)) * _MINUTE_NS
    rows = Spans(lambda: store, Query(since_ns=of[0], until_ns=of[1])).by(every=f"{length_ns}ns")
    seen = {row["time"]: row for row in rows.agg(n="count()", roots="rate(parent_id == none)")}
    usual = median(row["n"] for row in seen.values()) if seen else 0
    if len(seen) < 3 or usual < _USUAL_SPANS:
        return []
    begins = sorted(at_ns for at_ns, row in seen.items() if _FEW * row["n"] >= usual)
    # Where no root is stored, spans.
    traces = {at_ns: row["n"] * (row["roots"] or 0.0) for at_ns, row in seen.items()}
    if not any(traces.values()):
        traces = {at_ns: row["n"] for at_ns, row in seen.items()}
    found = []
    for before, after in pairwise([*begins, min(of[1], now_ns)]):
        missing = (after - before) // length_ns - 1
        if missing >= _SILENT_BUCKETS and missing * _rate(traces, before, after, length_ns) >= _EXPECTED_TRACES:
            found.append((before + length_ns, after))
    return found[::-1]


def _rate(traces: dict[int, float], before: int, after: int, length_ns: int) -> float:
    """Traces that began in a bucket, on the mean of some before and after a gap."""
    around = [at_ns for i in range(_AROUND) for at_ns in (before - i * length_ns, after + i * length_ns)]
    return fmean(traces.get(at_ns, 0.0) for at_ns in around if min(traces) <= at_ns <= max(traces))


def _fact(
    group: Group, what: str, unit: Unit, now: float, before: float = 0.0, *, since_ns: int | None = None, n: int = 0,
    of: int = 0, filter: str = "", proof: Proof | None = None,
) -> Finding:  # fmt: skip
    return Finding(
        group=group, what=what, unit=unit, now=now, before=before, p=None, since_ns=since_ns, bucket_ns=0, spark=(),
        spark_mark=None, differs=None, proof=proof, n=n, of=of, filter=filter,
    )  # fmt: skip


def _silent(period: Period, around: Interval) -> list[Finding]:
    found = silences(period.store, around, time.time_ns())
    return [
        _fact("recording", "nothing recorded", "ns", float(end - begin), since_ns=begin)
        for begin, end in found
        if end > period.now[0]
    ]


def _dropped(period: Period) -> list[Finding]:
    """By the processes that record now, since each began."""
    if period.now[1] < time.time_ns() - _MINUTE_NS:
        return []  # how many had been dropped by then is not known
    dropped = [int(str(each.get("dropped_spans", 0))) for each in period.store.processes()]
    if not any(dropped):
        return []
    return [_fact("recording", "spans dropped, a ring was full", "count", float(sum(dropped)), n=sum(dropped))]


def _running(period: Period) -> list[Finding]:
    """Of each kind those that run for longer than 99.9 % of the ended ones took, and not because of one below them."""
    end = period.now[1]
    names = ("trace_id", "span_id", "kind", "start_ns", "parent_id")
    running = period.spans((0, end), _RUNNING).columns(*names).order_by("start_ns").limit(_LISTED)._table()
    columns = [running.column(name) for name in running.column_names]
    above = set(zip(columns[0], columns[4], strict=True)) if columns else set()
    oldest: dict[str, list[tuple[str, str, int]]] = {}
    for trace_id, span_id, kind, start_ns, _ in zip(*columns, strict=True):
        if (trace_id, span_id) not in above:
            oldest.setdefault(kind, []).append((trace_id, span_id, start_ns))
    found = []
    for kind, spans in oldest.items():
        which = equals("kind", kind)
        ended = period.spans((period.before[0], end), which).by().agg(n="count(duration)", most="p99.9(duration)")
        for row in ended:
            beyond = [each for each in spans if row["n"] >= _LEAST_ENDED and end - each[2] > row["most"]]
            if not beyond:
                continue
            trace_id, span_id, start_ns = beyond[0]
            age_ns = float(end - start_ns)
            concerned = period.where(which, _RUNNING, f"not any(children, {_RUNNING})", _until(beyond[-1][2]))
            found.append(
                _fact(
                    "slow", f"{kind} running", "ns", age_ns, row["most"], since_ns=start_ns, n=len(beyond),
                    of=len(spans), filter=concerned,
                    proof=Proof(trace_id, span_id, start_ns, "slowest", age_ns, "is still running"),
                )
            )  # fmt: skip
    return found


def _until(start_ns: int) -> str:
    """Those that began until then, to the microsecond above."""
    micros = -(-start_ns // 1_000)
    return f"start <= {time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(micros // 1_000_000))}.{micros % 1_000_000:06d}Z"
