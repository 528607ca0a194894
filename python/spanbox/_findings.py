"""What got worse: findings, each with how much, since when, what the calls concerned share, and the call that proves
it.

Listed is a comparison that passes Holm's correction over all of them, and whose effect matters (docs/statistics.md);
and facts that need no test: what was not recorded, what runs for too long. Thread rule: as Box.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from datetime import UTC, tzinfo
from typing import Any

from spanbox import _core
from spanbox._apart import Trait, traits
from spanbox._comparisons import CALL, LLM, PRICED, ROOT, TRACES, Comparison, Group, Interval, Period, compare
from spanbox._documents import marks_between
from spanbox._facts import facts
from spanbox._finding import Finding, Findings, Mark, Proof
from spanbox._literals import quoted
from spanbox._significance import change_point, holm

ALPHA = 0.01
WINDOWS_SHOWN = 6  # the window is the last of so many that sparks show
_POINTS = 72  # of a spark
_SAMPLE = 150  # traces of each side, to see what the calls concerned share
_ORDER: tuple[Group, ...] = ("failing", "slow", "worse", "dearer", "budget", "drifted", "recording")
_DEPLOY = "deploy "


def findings(store: _core.Store, filter: str, bounds: tuple[int | None, int | None], before_ns: int) -> Findings:
    """What Box.findings answers; marks are those of Box.mark, and releases and versions of prompts seen first."""
    end = time.time_ns() if bounds[1] is None else bounds[1]
    begin = end if bounds[0] is None else bounds[0]
    if begin >= end:
        raise ValueError("since= must be before until=")
    period = Period(store, filter, (begin, end), (begin - before_ns, begin))
    return find(period, [*noted(store, *shown(period)), *first_seen(period)])


def find(period: Period, marks: Sequence[Mark] = (), *, zone: tzinfo = UTC) -> Findings:
    """What is worse in `period`."""
    comparisons, too_few = compare(period)
    corrected = holm([each.p for each in comparisons])
    worse = [(each, p) for each, p in zip(comparisons, corrected, strict=True) if p < ALPHA and each.is_worse]
    items = [_finding(period, each, p) for each, p in _without_repetitions(worse)]
    items = sorted([*items, *facts(period, shown(period))], key=_weight)
    return Findings(
        items, checked=len(comparisons), too_few=too_few, now=period.now, before=period.before, marks=marks, zone=zone
    )


def noted(store: _core.Store, begin_ns: int, end_ns: int) -> list[Mark]:
    """What Box.mark noted in that time: "deploy v7.3" is the deploy v7.3, anything else a note."""
    named = (
        (each.at_ns, each.name.removeprefix(_DEPLOY), each.name) for each in marks_between(store, begin_ns, end_ns)
    )
    return [Mark(at_ns, short, "note" if short == name else "deploy") for at_ns, short, name in named]


def first_seen(period: Period) -> list[Mark]:
    """Releases and versions of prompts that were seen first in the time that sparks show."""
    begin, end = shown(period)
    found: list[Mark] = []
    for name in ("release", "prompt_version"):
        rows = list(
            period.spans((min(begin, period.before[0]), end), f"{name} != none").by(name).agg(first="min(start_ns)")
        )
        earliest = min((row["first"] for row in rows), default=0)
        found += [
            Mark(int(row["first"]), str(row[name]), name) for row in rows if max(earliest + 1, begin) <= row["first"]
        ]
    return sorted(found, key=lambda mark: mark.at_ns)


def shown(period: Period) -> Interval:
    """The time that sparks show."""
    begin, end = period.now
    return end - WINDOWS_SHOWN * (end - begin), end


def _weight(item: Finding) -> tuple[int, float]:
    if item.group == "budget":
        return _ORDER.index(item.group), -item.now / item.before
    size = (
        abs(math.log(item.now / item.before)) if item.now > 0 and item.before > 0 else abs(item.now - item.before) * 10
    )
    return _ORDER.index(item.group), -size * item.n


def _without_repetitions(worse: list[tuple[Comparison, float]]) -> list[tuple[Comparison, float]]:
    """Calls that take longer because of their first or later tokens are told once; so are traces that fail because a
    tool or a call in them does."""
    slow = {each.what.rsplit(" ", 2)[0] for each, _ in worse if each.group == "slow" and each.extreme != "duration_ns"}
    inside = any(each.group == "failing" and not each.what.startswith(TRACES) for each, _ in worse)
    return [
        (each, p)
        for each, p in worse
        if not (each.extreme == "duration_ns" and each.what.rsplit(" ", 2)[0] in slow)
        and not (inside and each.group == "failing" and each.what.startswith(TRACES))
    ]


def _finding(period: Period, each: Comparison, p: float) -> Finding:
    begin, end = shown(period)
    bucket_ns = max(1, (end - begin) // _POINTS)
    begin = -(-begin // bucket_ns) * bucket_ns  # groups by time begin at multiples
    spark, counts = _spark(period, each, begin, bucket_ns)
    place = _began(each, spark, counts)
    concerned = period.spans(period.now, each.concerned)
    return Finding(
        group=each.group,
        what=each.what,
        unit=each.unit,
        now=each.now,
        before=each.before,
        p=p,
        since_ns=None if place is None else begin + place * bucket_ns,
        bucket_ns=bucket_ns,
        spark=tuple(spark),
        spark_mark=place,
        differs=_differs(period, each),
        proof=_proof(period, each),
        n=concerned.count(),
        of=each.of,
        filter=period.where(each.concerned),
    )


def _spark(period: Period, each: Comparison, begin: int, bucket_ns: int) -> tuple[list[float | None], list[float]]:
    """The figure of each bucket, and of how many calls it is."""
    values: list[float | None] = [None] * _POINTS
    counts = [1.0] * _POINTS
    of = (begin, period.now[1])
    every = f"{bucket_ns}ns"
    if each.group == "dearer":
        usd = {row["time"]: row["usd"] for row in period.spans(of, PRICED).by(every=every).agg(usd="sum(cost)")}
        requests = period.spans(of, ROOT).by(every=every).agg(n="count()")
        rows = [(row["time"], 1_000 * usd.get(row["time"], 0.0) / row["n"], row["n"]) for row in requests]
    else:
        found = period.spans(of, each.population).by(every=every).agg(spanbox_value=each.figure, spanbox_n="count()")
        rows = [(row["time"], row["spanbox_value"], row["spanbox_n"]) for row in found]
    for at_ns, value, count in rows:
        place = min(max((at_ns - begin) // bucket_ns, 0), _POINTS - 1)
        values[place], counts[place] = value, count
    return values, counts


def _began(each: Comparison, spark: Sequence[float | None], counts: Sequence[float]) -> int | None:
    """The bucket in which it began; of times and costs the factor counts, not the difference."""
    if each.unit in ("ns", "usd", "count"):
        spark = [math.log(value) if value else None for value in spark]
    return change_point(spark, counts)


def _differs(period: Period, each: Comparison) -> Trait | None:
    """What the newest of the traces concerned share, and the newest others do not; where all calls of now are
    concerned, the
    others are those of before."""
    them = _ids(period, period.now, each.concerned)
    all_of_them = each.group == "dearer"
    others = [] if all_of_them else _ids(period, period.now, each.population, f"not ({each.concerned})")
    long_before = (period.now[0] - (period.now[1] - period.now[0]), period.now[0])
    rest = _SAMPLE - len(others)
    if rest > 0:
        others += [trace for trace in _ids(period, long_before, each.population)[:rest] if trace not in them]
    found = traits(period.store, them, [trace for trace in others if trace not in them], without=each.chosen_by)
    best = next((trait for trait in found.items if trait.is_significant), None)
    return best


def _ids(period: Period, of: Interval, *clauses: str) -> list[str]:
    newest = period.spans(of, *clauses).columns("trace_id", "start_ns").order_by("start_ns", descending=True)
    return list(dict.fromkeys(newest.limit(4 * _SAMPLE)._table().column("trace_id")))[:_SAMPLE]


def _proof(period: Period, each: Comparison) -> Proof | None:
    if each.group == "worse":
        return _judged(period, each)
    if each.group == "dearer":
        return _dearest(period)
    names = ("trace_id", "span_id", "start_ns", each.extreme, "error_message")
    spans = period.spans(period.now, each.concerned).columns(*dict.fromkeys(names))
    newest = each.extreme == "start_ns"
    why: Any = "slowest" if each.unit == "ns" else "highest" if each.worse_when_higher else "lowest"
    for row in spans.order_by(each.extreme, descending=newest or each.worse_when_higher).limit(1):
        values = list(row.values())
        text = row.get("error_message")
        return Proof(
            values[0],
            values[1],
            values[2],
            "newest" if newest else why,
            None if newest else values[3],
            "" if text is None else " ".join(str(text).split())[:120],
        )
    return None


def _judged(period: Period, each: Comparison) -> Proof | None:
    """The lowest (or highest) score of the window: the newest of equal ones."""
    found = period.scores(period.now, f"name == {quoted(each.score)} and value != none")
    names = ("trace_id", "span_id", "value", "start_ns", "explanation")
    table = found.columns(*names).order_by("start_ns", descending=True).limit(20_000)._table()
    rows = list(zip(*(table.column(name) for name in table.column_names), strict=True))
    if not rows:
        return None
    choose = max if each.worse_when_higher else min
    trace_id, span_id, value, at_ns, explanation = choose(rows, key=lambda row: float(row[2]))
    if span_id is None:
        roots = (
            period.spans((0, period.now[1]), f"trace_id == {quoted(trace_id)} and {ROOT}").columns("span_id").limit(1)
        )
        span_id = next((row["span_id"] for row in roots), "")
    why: Any = "highest" if each.worse_when_higher else "lowest"
    return Proof(trace_id, span_id, at_ns, why, float(value), "" if explanation is None else str(explanation)[:120])


def _dearest(period: Period) -> Proof | None:
    by_trace = (
        period.spans(period.now, CALL).by("trace_id").agg(usd="sum(cost)").order_by("usd", descending=True).limit(1)
    )
    for row in by_trace:
        calls = period.spans(period.now, f"trace_id == {quoted(row['trace_id'])} and {LLM}").columns(
            "span_id", "start_ns"
        )
        for span_id, at_ns in (call.values() for call in calls.order_by("cost_usd", descending=True).limit(1)):
            return Proof(row["trace_id"], span_id, at_ns, "dearest", row["usd"], "")
    return None
