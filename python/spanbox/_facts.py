"""Findings that need no test: times in which nothing was recorded, spans that were dropped, spans that run for longer
than nearly all of their kind ever did, budgets that are nearly spent.

Thread rule: as Box. Units: nanoseconds since 1970.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from itertools import accumulate, pairwise
from statistics import median

from spanbox import _core
from spanbox._comparisons import ROOT, Group, Interval, Period, Unit
from spanbox._finding import Finding, Proof
from spanbox._literals import equals
from spanbox._spans import Query, Spans

_MINUTE_NS = 60_000_000_000
_HOUR_NS = 60 * _MINUTE_NS
_MISSED = 16  # traces that would have come in a silence: with so many the chance that none does is e^-16
_SILENT_MINUTES = 2  # in a row, at least
_AROUND_NS = 3 * _HOUR_NS  # on each side of a silence: what is usual
_OFTEN = 3  # silences at least half as long: then it is how the traffic comes
_FEW = 20  # a minute with less than a twentieth of the usual is silent: what runs on into a gap is no traffic
_LEAST_ENDED = 1_000  # spans of a kind that a p99.9 needs
_RUNNING = "status == running"
_LISTED = 1_000  # running spans, oldest first


def facts(period: Period, around: Interval) -> list[Finding]:
    """Of the window; `around`: the longer time that says what is usual. What was not recorded at all is told where all
    calls are asked for: of some of them nobody knows; and so are budgets, which have filters of their own."""
    of_all = [] if period.filter.strip() else [*_silent(period, around), *_dropped(period), *_budgets(period)]
    return [*of_all, *_running(period)]


def silences(store: _core.Store, of: Interval, now_ns: int) -> list[Interval]:
    """Times in which no trace began, though at the rate around them some would have; newest first. Traffic that comes
    in bursts has silences of its own, which are none. What is told of a time does not depend on how much else is asked
    for: it is judged by the hours around it, minute by minute."""
    end = min(of[1] + _AROUND_NS, now_ns)
    roots = Spans(lambda: store, Query(filter=ROOT, since_ns=(of[0] - _AROUND_NS) // _HOUR_NS * _HOUR_NS, until_ns=end))
    counts = {row["time"]: row["n"] for row in roots.by(every=f"{_MINUTE_NS}ns").agg(n="count()")}
    if len(counts) < 3:
        return []
    minutes = _Minutes(counts)
    busy = [at_ns for at_ns in minutes.begins if _FEW * counts[at_ns] >= minutes.usual(at_ns // _HOUR_NS)]
    quiet = [(a + _MINUTE_NS, b) for a, b in pairwise(busy) if b - a > _SILENT_MINUTES * _MINUTE_NS]
    last = busy[-1] + _MINUTE_NS
    if last + _SILENT_MINUTES * _MINUTE_NS <= end:
        quiet.append((last, end))
    return [
        (a, b)
        for a, b in reversed(quiet)
        if a < of[1] and b > of[0] and minutes.missed(a, b, end) >= _MISSED and _alike(quiet, a, b) < _OFTEN
    ]


def _alike(quiet: list[Interval], begin_ns: int, end_ns: int) -> int:
    """How many around are at least half as long, itself among them."""
    first = bisect_left(quiet, (begin_ns - _AROUND_NS,))
    after = bisect_left(quiet, (end_ns + _AROUND_NS,))
    return sum(2 * (b - a) >= end_ns - begin_ns for a, b in quiet[first:after])


class _Minutes:
    """How many traces began in each minute that has any."""

    def __init__(self, counts: dict[int, int]) -> None:
        self.begins = sorted(counts)
        self._counts = [counts[at_ns] for at_ns in self.begins]
        self._before = [0, *accumulate(self._counts)]
        self._usual: dict[int, float] = {}

    def usual(self, hour: int) -> float:
        """In a minute that has any, around this hour: a burst does not change it."""
        if hour not in self._usual:
            first, after = self._places(hour * _HOUR_NS - _AROUND_NS, (hour + 1) * _HOUR_NS + _AROUND_NS)
            self._usual[hour] = median(self._counts[first:after])
        return self._usual[hour]

    def missed(self, begin_ns: int, end_ns: int, known_until_ns: int) -> float:
        """How many would have come in this silence: at the lower one of the rates before and after it, so that
        where traffic rises or falls there is none."""
        minutes = (end_ns - begin_ns) / _MINUTE_NS
        before = (max(self.begins[0], begin_ns - _AROUND_NS), begin_ns)
        after = (end_ns, min(known_until_ns, end_ns + _AROUND_NS))
        missed = minutes * self._rate(*before, least=_MISSED / minutes)
        if missed >= _MISSED and after[1] - after[0] >= min(_AROUND_NS, end_ns - begin_ns):
            missed = min(missed, minutes * self._rate(*after, least=_MISSED / minutes))
        return missed

    def _rate(self, begin_ns: int, end_ns: int, *, least: float) -> float:
        """Traces a minute; of a burst not more than what is usual. Below `least` the mean is enough."""
        first, after = self._places(begin_ns, end_ns)
        mean = (self._before[after] - self._before[first]) * _MINUTE_NS / (end_ns - begin_ns)
        return mean if mean < least else min(mean, median(self._counts[first:after]))

    def _places(self, begin_ns: int, end_ns: int) -> Interval:
        return bisect_left(self.begins, begin_ns), bisect_left(self.begins, end_ns)


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


def _budgets(period: Period) -> list[Finding]:
    """Those that are spent to 80 % and more; `before` is what may be spent."""
    if not period.store.documents("budget"):
        return []
    from spanbox._cost_budgets import budgets

    return [
        _fact(
            "budget", f"{row.what}, per {row.budget.per}", "usd", row.spent_usd, row.budget.usd,
            since_ns=row.begin_ns, n=row.calls, of=row.calls, filter=row.filter,
        )
        for row in budgets(period.store, period.now[1])
        if row.level != "ok"
    ]  # fmt: skip


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
