"""Now against before, figure by figure: latency of models, failures of kinds and tools, every score, what requests
cost, and how columns are distributed.

Each comparison is a test and an effect (docs/statistics.md); which of them are findings is decided in _findings.py.
Thread rule: as Box. Units: nanoseconds, US dollars, shares from 0 to 1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from spanbox import _core
from spanbox._literals import column_name, equals, quoted
from spanbox._significance import fisher_more, kolmogorov_smirnov, mann_whitney, same_shares, stability_index
from spanbox._spans import Query, Scores, Spans

Interval = tuple[int, int]
Group = Literal["failing", "slow", "worse", "dearer", "budget", "drifted", "recording"]
Unit = Literal["ns", "rate", "usd", "score", "count"]

ROOT = "parent_id == none"
LLM = "kind == llm"
CALL = "kind in [llm, embedding]"
PRICED = f"{CALL} and cost != none"
TRACES = "traces"
_WORKING = ("llm", "embedding", "retriever", "reranker", "guardrail", "evaluator")
_TIMES = {"ttft": "TTFT", "tpot": "TPOT", "duration": "duration"}
_LEAST_TIMES, _LEAST_VALUES = 100, 20  # of either side: fewer are not compared
_RATIO, _POINTS = 1.5, 0.02  # the smallest effects
_BLOCKS = 12  # of the window; the time before is cut into blocks of that length
_VALUES = 20_000  # of a score, newest first
_WORDS = ((LLM, ("model", "finish_reason")), (ROOT, ("feature", "tenant")))  # columns of words that may drift
_NUMBERS = ("input_tokens", "output_tokens")
_QUANTILES = (10, 50, 90, 99)  # of which the one that moved most is told
_SLICES = 24  # of the time before: more tell no more of a drift
_STABLE, _NEAR = 0.1, 0.2  # a PSI, and a D, below which a drift does not matter
_WORSE_WHEN_HIGHER = (
    "toxic",
    "refus",
    "hallucin",
    "bias",
    "error",
    "harm",
    "injection",
    "pii",
    "frustrat",
    "drift",
    "latency",
    "unsafe",
    "jailbreak",
)


@dataclass(frozen=True, slots=True)
class Period:
    """What is compared: a filter, now, before. Spans of either are asked through it."""

    store: _core.Store
    filter: str
    now: Interval
    before: Interval

    def where(self, *clauses: str) -> str:
        """The filter, and these clauses besides."""
        return " and ".join(f"({each})" for each in (self.filter, *clauses) if each.strip())

    def spans(self, of: Interval, *clauses: str) -> Spans:
        return Spans(lambda: self.store, Query(filter=self.where(*clauses), since_ns=of[0], until_ns=of[1]))

    def scores(self, of: Interval, filter: str) -> Scores:
        return Scores(lambda: self.store, Query(filter=filter, since_ns=of[0], until_ns=of[1], scores=True))

    @property
    def block(self) -> str:
        return f"{max(1, (self.now[1] - self.now[0]) // _BLOCKS)}ns"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure, now and before."""

    group: Group
    what: str
    unit: Unit
    now: float
    before: float
    p: float  # that it is worse only by chance, not corrected
    of: int  # spans, scores or requests compared, now
    population: str  # a filter
    concerned: str  # a filter for those among them that are concerned
    figure: str  # an aggregate: the figure over time
    extreme: str  # column by which the proof is found: descending, for scores as they say
    score: str = ""
    chosen_by: tuple[str, ...] = field(default=())  # columns that say nothing new of the calls concerned
    worse_when_higher: bool = True
    drift: float = math.nan  # of a distribution: how far it has moved, as a share of what matters

    @property
    def is_worse(self) -> bool:
        """By enough to matter."""
        if self.group == "drifted":
            return self.drift >= 1
        if self.unit == "score":
            return (self.now > self.before) == self.worse_when_higher and abs(self.now - self.before) >= _POINTS
        if self.unit == "rate" and self.now - self.before >= _POINTS:
            return True
        return self.now >= _RATIO * self.before and self.now > 0


def compare(period: Period) -> tuple[list[Comparison], int]:
    """Every comparison that there is enough data for, and how many there was not."""
    found: list[Comparison] = []
    too_few = 0
    for each in (*_latencies(period), *_failures(period), *_scores(period), *_costs(period), *_drifts(period)):
        if each is None:
            too_few += 1
        else:
            found.append(each)
    return found, too_few


# --- latency ---


def _latencies(period: Period) -> Iterator[Comparison | None]:
    figures: dict[str, str] = {}
    for name in _TIMES:
        figures |= {f"{name}_n": f"count({name})", f"{name}_p99": f"p99({name})"}
    now, before = (
        {row["model"]: row for row in period.spans(of, LLM).by("model").agg(**figures)}
        for of in (period.now, period.before)
    )
    for model in sorted(now, key=str):
        for name, label in _TIMES.items():
            count, count_before = now[model][f"{name}_n"], before[model][f"{name}_n"] if model in before else 0
            if not count:
                continue
            if min(count, count_before) < _LEAST_TIMES:
                yield None
                continue
            yield _latency(period, model, name, label, now[model], before[model])


def _latency(period: Period, model: Any, name: str, label: str, now: Any, before: Any) -> Comparison:
    count, count_before = now[f"{name}_n"], before[f"{name}_n"]
    p = 1.0  # without an effect it is no finding, and counts as a comparison all the same
    if now[f"{name}_p99"] >= _RATIO * before[f"{name}_p99"]:
        of_model = [period.spans(of, LLM, equals("model", model)) for of in (period.now, period.before)]
        slow, slow_before = _beyond_p99(*(next(iter(each.by().agg(b=f"buckets({name})")))["b"] for each in of_model))
        p = fisher_more(slow, count, slow_before, count_before)
    population = f"{LLM} and {equals('model', model)} and {name} != none"
    return Comparison(
        group="slow",
        what=f"{_shown(model) if model is not None else 'calls without a model'} {label} p99",
        unit="ns",
        now=now[f"{name}_p99"],
        before=before[f"{name}_p99"],
        p=p,
        of=count,
        population=population,
        concerned=f"{population} and {name} > {math.ceil(before[f'{name}_p99'])}ns",
        figure=f"p99({name})",
        extreme=f"{name}_ns",
        chosen_by=("duration_ns", "ttft_ns", "tpot_ns", "cost_usd"),
    )


def _beyond_p99(now: Sequence[Sequence[int]], before: Sequence[Sequence[int]]) -> tuple[int, int]:
    """How many of both lie beyond the edge of a bucket: that with at least one percent of all of them beyond it. The
    edge depends on both together, so that by chance alone each of those beyond is as likely to be of the one as of the
    other."""
    one, other = ({(-math.inf if i is None else i): n for i, n in rows or ()} for rows in (now, before))
    total = sum(one.values()) + sum(other.values())
    beyond = beyond_before = 0
    for edge in sorted(one.keys() | other.keys(), reverse=True):
        if 100 * (beyond + beyond_before) >= total:
            break
        beyond, beyond_before = beyond + one.get(edge, 0), beyond_before + other.get(edge, 0)
    return beyond, beyond_before


# --- failures ---


def _failures(period: Period) -> Iterator[Comparison | None]:
    """Of each tool, of each other kind that calls something outside, and of whole traces."""
    kinds = f"kind in [{', '.join(_WORKING)}]"
    groups = [("kind == tool", "name", "tool {}"), (kinds, "kind", "{}"), (ROOT, "", TRACES)]
    for which, column, label in groups:
        now, before = (_failed(period, of, which, column) for of in (period.now, period.before))
        for key in sorted(now, key=str):
            (hits, n), (hits_before, n_before) = now[key], before.get(key, (0, 0))
            if min(n, n_before) < _LEAST_VALUES:
                yield None
                continue
            population = f"{which} and {equals(column, key)}" if column else which
            concerned = f"{population} and status == error"
            what = label.format(_shown(key))
            if hits:
                what += _most_frequent_error(period.spans(period.now, concerned), hits)
            yield Comparison(
                group="failing",
                what=what,
                unit="rate",
                now=hits / n,
                before=hits_before / n_before,
                p=fisher_more(hits, n, hits_before, n_before),
                of=n,
                population=population,
                concerned=concerned,
                figure="rate(status == error)",
                extreme="start_ns",
                chosen_by=("error_type", "tool_error", "finish_reason"),
            )


def _failed(period: Period, of: Interval, which: str, column: str) -> dict[Any, tuple[int, int]]:
    """Of each value of the column how many failed, of how many."""
    rows = period.spans(of, which).by(*([column] if column else [])).agg(n="count()", share="rate(status == error)")
    counts = {row[column] if column else None: (row["share"] or 0.0, row["n"]) for row in rows if row["n"]}
    return {key: (round(share * n), n) for key, (share, n) in counts.items()}


def _counts(spans: Spans, column: str) -> Iterable[tuple[Any, int]]:
    return ((row[column], row["spanbox_n"]) for row in spans.by(column).agg(spanbox_n="count()"))


def _most_frequent_error(failed: Spans, hits: int) -> str:
    """The error that most of them have."""
    counts = Counter(dict(_counts(failed, "error_type")))
    [(name, n)] = counts.most_common(1)
    return f", {_shown(name)}" if name is not None and 2 * n > hits else ""


# --- scores ---


def _scores(period: Period) -> Iterator[Comparison | None]:
    own = 'evaluator != "spanbox" or evaluator == none'  # corrections of costs and tokens are no judgements
    names = sorted({row["name"] for row in period.scores(period.now, own).by("name").agg(n="count(value)") if row["n"]})
    matching = [_traces(period, of) for of in (period.now, period.before)] if period.filter.strip() else [None, None]
    for name in names:
        now, before = (
            _values(period, name, of, only) for of, only in zip((period.now, period.before), matching, strict=True)
        )
        if min(len(now), len(before)) < _LEAST_VALUES:
            yield None
            continue
        higher, lower = mann_whitney(now, before)
        up = any(part in name.lower() for part in _WORSE_WHEN_HIGHER)
        column = column_name(f"score.{name}")
        bound = sorted(before)[int(len(before) * (0.95 if up else 0.05))]
        yield Comparison(
            group="worse",
            what=_shown(name),
            unit="score",
            now=math.fsum(now) / len(now),
            before=math.fsum(before) / len(before),
            p=higher if up else lower,
            of=len(now),
            population=f"{column} != none",
            concerned=f"{column} {'>' if up else '<'} {bound!r}"
            if 0 < bound < 1
            else f"{column} {'>' if up else '<'} 0.5",
            figure=f"mean({column})",
            extreme=column,
            score=name,
            worse_when_higher=up,
        )


def _traces(period: Period, of: Interval) -> set[str]:
    return set(period.spans(of).by("trace_id").agg(n="count()")._table().column("trace_id"))


def _values(period: Period, name: str, of: Interval, only: set[str] | None) -> list[float]:
    found = period.scores(of, f"name == {quoted(name)} and value != none").columns("trace_id", "value", "start_ns")
    table = found.order_by("start_ns", descending=True).limit(_VALUES)._table()
    traces, values, _ = (table.column(each) for each in table.column_names)
    numbers = zip(traces, map(as_number, values), strict=True)
    return [value for trace_id, value in numbers if value is not None and (only is None or trace_id in only)]


def as_number(value: Any) -> float | None:
    """A score's value, which is text in a table where others of its name have another type."""
    if isinstance(value, str):
        value = {"true": 1.0, "false": 0.0}.get(value, value)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


# --- cost ---


def _costs(period: Period) -> Iterator[Comparison | None]:
    """US dollars for 1,000 requests, in blocks of time: requests of one block are alike, blocks less so."""
    sides = [_blocks(period, of) for of in (period.now, period.before)]
    blocks, before = ([1_000 * usd / n for usd, n in side if n] for side in sides)
    requests = [sum(n for _, n in side) for side in sides]
    spent = [math.fsum(usd for usd, _ in side) for side in sides]
    if not spent[0]:
        return
    if len(blocks) < 4 or len(before) < _BLOCKS or min(requests) < _LEAST_VALUES:
        yield None
        return
    yield Comparison(
        group="dearer",
        what="$ per 1 K requests",
        unit="usd",
        now=1_000 * spent[0] / requests[0],
        before=1_000 * spent[1] / requests[1],
        p=mann_whitney(blocks, before)[0],
        of=requests[0],
        population=ROOT,
        concerned=ROOT,
        figure="",
        extreme="cost_usd",
        chosen_by=("cost_usd",),
    )


def _blocks(period: Period, of: Interval) -> list[tuple[float, int]]:
    usd = {row["time"]: row["usd"] for row in period.spans(of, PRICED).by(every=period.block).agg(usd="sum(cost)")}
    requests = period.spans(of, ROOT).by(every=period.block).agg(n="count()")
    return [(usd.get(row["time"], 0.0), row["n"]) for row in requests]


# --- drift ---


def _drifts(period: Period) -> Iterator[Comparison | None]:
    """Of columns of words and of numbers: whether their values are distributed as they were. Versions and releases are
    left out: that they change is what a deploy is."""
    for population, columns in _WORDS:
        now, before = (_tables(period, of, population, columns) for of in (period.now, period.before))
        for column in columns:
            values = now[column].keys() | before[column].keys()
            if values <= {None} or len(values) < 2:
                continue
            few = min(sum(side[column].values()) for side in (now, before)) < _LEAST_TIMES
            yield None if few else _words_drift(population, column, now[column], before[column])
    numbers = [_buckets(period, times) for times in ([period.now], _slices(period))]
    for name in _NUMBERS:
        sides = [side[name] for side in numbers]
        if sides[0]:
            few = min(side.total() for side in sides) < _LEAST_TIMES
            yield None if few else _numbers_drift(period, name, sides[0], sides[1])


def _tables(period: Period, of: Interval, population: str, columns: tuple[str, ...]) -> dict[str, Counter[Any]]:
    """Of each column how often each value stands there."""
    found: dict[str, Counter[Any]] = {column: Counter() for column in columns}
    for row in period.spans(of, population).by(*columns).agg(spanbox_n="count()"):
        for column in columns:
            found[column][row[column]] += row["spanbox_n"]
    return found


def _slices(period: Period) -> list[Interval]:
    """The time before; of a long one slices as long as the window, evenly spread, so that all hours of a day count."""
    begin, end = period.before
    length = period.now[1] - period.now[0]
    if end - begin <= _SLICES * length:
        return [period.before]
    return [(at := begin + i * (end - begin - length) // (_SLICES - 1), at + length) for i in range(_SLICES)]


def _buckets(period: Period, times: list[Interval]) -> dict[str, Counter[float]]:
    """Of each column how many values lie in each bucket; -inf: of those not above 0."""
    found: dict[str, Counter[float]] = {name: Counter() for name in _NUMBERS}
    for of in times:
        for row in period.spans(of, LLM).by().agg(**{name: f"buckets({name})" for name in _NUMBERS}):
            for name in _NUMBERS:
                found[name].update({(-math.inf if i is None else i): n for i, n in row[name] or ()})
    return found


def _words_drift(population: str, column: str, now: Counter[Any], before: Counter[Any]) -> Comparison:
    """Told by the value whose share grew by the most points."""
    n, m = now.total(), before.total()
    value = max(sorted(now, key=str), key=lambda each: now[each] / n - before[each] / m)
    clause = equals(column, value)
    return Comparison(
        group="drifted",
        what=f"no {column}" if value is None else f"{column} {_shown(value)}",
        unit="rate",
        now=now[value] / n,
        before=before[value] / m,
        p=same_shares(now, before),
        of=n,
        population=population,
        concerned=f"{population} and {clause}",
        figure=f"rate({clause})",
        extreme="start_ns",
        chosen_by=(column,),
        drift=stability_index(now, before) / _STABLE,
    )


def _numbers_drift(period: Period, name: str, now: Counter[float], before: Counter[float]) -> Comparison:
    """Told by the quantile that moved by the largest factor."""
    distance, p = kolmogorov_smirnov(now, before)
    at = max(_QUANTILES, key=lambda q: abs(_quantile(now, q) - _quantile(before, q)))
    values = [0.0, 0.0]
    if distance >= _NEAR:
        values = [period.spans(of, LLM).quantile(name, at / 100) for of in (period.now, period.before)]
    is_more = values[0] >= values[1]
    return Comparison(
        group="drifted",
        what=f"{name} p{at}",
        unit="count",
        now=values[0],
        before=values[1],
        p=p,
        of=sum(now.values()),
        population=f"{LLM} and {name} != none",
        concerned=f"{LLM} and {name} {'>' if is_more else '<'} {values[1]!r}",
        figure=f"p{at}({name})",
        extreme=name,
        chosen_by=(name,),
        worse_when_higher=is_more,
        drift=distance / _NEAR,
    )


def _quantile(counts: Counter[float], percent: int) -> float:
    """The bucket in which it lies; those of 0 and less are 0."""
    rest = percent * sum(counts.values()) / 100
    for bucket in sorted(counts):
        rest -= counts[bucket]
        if rest <= 0:
            break
    return max(bucket, 0.0)


def _shown(value: Any) -> str:
    return str(value)[:80]
