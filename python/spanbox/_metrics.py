"""Metrics of a store, for monitoring: counters and histograms by model, provider and kind, and gauges of its size.

Counters count every span, score and dropped span of the store once, whatever is merged or dropped by retention later:
they are a feed (docs/bridges.md), whose state is in the store. So a scrape reads what has come since the last one, all
who scrape the same store see the same counters, and these neither fall nor begin anew when a process does.

Thread rule: a Metrics may be used from any thread; of two scrapes at once one takes what is new.
Units: state holds nanoseconds as they are stored; what is exposed is in seconds, US dollars and bytes.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spanbox import _core
from spanbox._exposition import Exemplar, Family, Histogram

if TYPE_CHECKING:
    from spanbox._box import Box

__all__ = ["LABELS", "MAX_SERIES", "Delta", "Metrics", "take"]

LABELS = ("kind", "provider", "model")
MORE_LABELS = ("tenant", "feature", "environment", "name")  # with LABELS: what is kept of spans that sampling drops
MAX_SERIES = 1000
OTHER = "(other)"
TIMES = ("duration_ns", "ttft_ns", "tpot_ns")

_TOKENS = {
    "input": "input_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "output": "output_tokens",
    "reasoning": "reasoning_tokens",
}
_ROWS_A_STEP = 1 << 20
_TRIES = 20  # a merge that comes in between is rare; this many in a row do not happen
_SLOW_TRACES = 10
_SLOW_FOR_NS = 3_600_000_000_000
_LONGEST_NS = 86_400_000_000_000
_SLOT_NS = 300_000_000_000
_EXEMPLAR_ROWS = 100
_LABEL_CHARACTERS = 120
_STATE_VERSION = 1


@dataclass(slots=True)
class Distribution:
    """Counts by bucket, 8 to a power of two, of seconds (`buckets()` in docs/query_language.md); None: not above 0."""

    count: int = 0
    total_ns: int = 0
    buckets: dict[int | None, int] = field(default_factory=dict)

    def add(self, other: Distribution) -> None:
        self.count += other.count
        self.total_ns += other.total_ns
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count


@dataclass(slots=True)
class Series:
    """What spans with the same labels have counted up to."""

    statuses: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    cost_usd: float = 0.0
    priced: int = 0
    times: dict[str, Distribution] = field(default_factory=dict)
    exemplars: dict[str, list[Any]] = field(default_factory=dict)  # of each time: value_ns, trace, span, end_ns

    def add(self, other: Series) -> None:
        for mine, theirs in ((self.statuses, other.statuses), (self.errors, other.errors), (self.tokens, other.tokens)):
            for key, count in theirs.items():
                mine[key] = mine.get(key, 0) + count
        self.cost_usd += other.cost_usd
        self.priced += other.priced
        for name, distribution in other.times.items():
            self.times.setdefault(name, Distribution()).add(distribution)
        self.exemplars.update(other.exemplars)


@dataclass(slots=True)
class ScoreSeries:
    count: int = 0
    numbers: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, other: ScoreSeries) -> None:
        self.count += other.count
        self.numbers += other.numbers
        self.total += other.total
        self.squares += other.squares


@dataclass(slots=True)
class Delta:
    """What some segments of a store add up to; also the sum of all that a feed has taken."""

    series: dict[tuple[str, ...], Series] = field(default_factory=dict)
    scores: dict[tuple[str, ...], ScoreSeries] = field(default_factory=dict)
    slow: list[list[Any]] = field(default_factory=list)  # duration_ns, trace, name, end_ns
    folded: int = 0  # additions of label sets that came when there were as many as may be

    def add(self, other: Delta, max_series: int) -> None:
        for key, series in other.series.items():
            self.series.setdefault(self._place(self.series, key, max_series), Series()).add(series)
        for key, scores in other.scores.items():
            self.scores.setdefault(self._place(self.scores, key, max_series), ScoreSeries()).add(scores)
        self.slow = _slowest(self.slow + other.slow)

    def _place(self, known: dict[tuple[str, ...], Any], key: tuple[str, ...], max_series: int) -> tuple[str, ...]:
        """The key itself, or that of all label sets that came too late."""
        if key in known or len(known) < max_series:
            return key
        self.folded += 1
        return (OTHER,) * len(key)

    def to_json(self) -> bytes:
        value = {
            "version": _STATE_VERSION,
            "series": [
                [
                    key,
                    each.statuses,
                    each.errors,
                    each.tokens,
                    each.cost_usd,
                    each.priced,
                    {name: [d.count, d.total_ns, list(d.buckets.items())] for name, d in each.times.items()},
                    each.exemplars,
                ]
                for key, each in self.series.items()
            ],
            "scores": [[key, s.count, s.numbers, s.total, s.squares] for key, s in self.scores.items()],
            "slow": self.slow,
            "folded": self.folded,
        }
        return json.dumps(value, separators=(",", ":")).encode()

    @staticmethod
    def from_json(state: bytes) -> Delta:
        if not state:
            return Delta()
        value = json.loads(state)
        if value["version"] != _STATE_VERSION:
            raise _core.StoreError(
                f"the metrics of this store were written by another spanbox (version {value['version']}): upgrade it, "
                "or `spanbox metrics --reset` to count from what is stored now"
            )
        result = Delta(slow=value["slow"], folded=value["folded"])
        for key, statuses, errors, tokens, cost_usd, priced, times, exemplars in value["series"]:
            distributions = {name: Distribution(n, total, dict(b)) for name, (n, total, b) in times.items()}
            series = Series(statuses, errors, tokens, cost_usd, priced, distributions, exemplars)
            result.series[tuple(key)] = series
        for key, *numbers in value["scores"]:
            result.scores[tuple(key)] = ScoreSeries(*numbers)
        return result


def _slowest(slow: list[list[Any]]) -> list[list[Any]]:
    """The slowest traces of each five minutes of the last hour; newer ones of the same trace win."""
    newest = max((end_ns for *_, end_ns in slow), default=0)
    slots: dict[int, list[list[Any]]] = {}
    for each in sorted(slow, key=lambda each: -each[0]):
        slot = slots.setdefault(each[3] // _SLOT_NS, [])
        if each[3] > newest - _SLOW_FOR_NS and len(slot) < _SLOW_TRACES:
            slot.append(each)
    return [each for slot in slots.values() for each in slot]


def take(
    store: _core.Store,
    name: str,
    labels: Sequence[str],
    new_state: Callable[[bytes, Delta], bytes],
) -> bytes:
    """Lets the feed `name` take all there is, a step at a time; returns its last state. new_state(state, delta) gives
    what is stored with each step: a step that is refused, because of a merge meanwhile, is computed again."""
    failed = 0
    while True:
        feed = store.feed(name)
        if not feed["waiting"]:
            return feed["state"]
        step: list[tuple[int, int, str]] = []
        rows = 0
        for segment in feed["waiting"]:
            if step and rows + segment[1] > _ROWS_A_STEP:
                break
            step.append(segment)
            rows += segment[1]
        try:
            state = new_state(feed["state"], _read(store, step, labels))
        except _core.StoreError:
            failed += 1
            if failed == _TRIES:
                raise
            continue
        if store.advance_feed(name, feed["turn"], [segment[0] for segment in step], 0, 0, state):
            failed = 0
            continue
        failed += 1
        if failed == _TRIES:
            raise _core.StoreError(f"the feed {name!r} is read by too many at once: try again")


def _read(store: _core.Store, segments: Iterable[tuple[int, int, str]], labels: Sequence[str]) -> Delta:
    of: dict[str, list[int]] = {"spans": [], "rollups": [], "scores": []}
    for id, _, what in segments:
        of[what].append(id)
    delta = Delta()
    if of["spans"] or of["rollups"]:
        _read_spans(store, of["spans"] + of["rollups"], labels, delta)
    if of["spans"]:
        _read_slowest(store, of["spans"], labels, delta)
    if of["scores"]:
        _read_scores(store, of["scores"], delta)
    return delta


def _read_spans(store: _core.Store, only: list[int], labels: Sequence[str], delta: Delta) -> None:
    asked = [("n", "count()"), ("cost", "sum(cost_usd)"), ("priced", "count(cost_usd)")]
    asked += [(label, f"sum({column})") for label, column in _TOKENS.items()]
    for time_ in TIMES:
        asked += [(f"{time_} n", f"count({time_})"), (f"{time_} sum", f"sum({time_})")]
        asked.append((f"{time_} buckets", f"buckets({time_})"))
    by = [*labels, "status", "error_type"]
    table = store.aggregate("", None, None, by, 0, "", asked, only=only)
    names = table.column_names
    for values in zip(*(table.column(name) for name in names), strict=True):
        row = dict(zip(names, values, strict=True))
        one = Series(statuses={row["status"]: row["n"]}, cost_usd=row["cost"] or 0.0, priced=row["priced"])
        if row["status"] == "error":
            one.errors[_label(row["error_type"])] = row["n"]
        one.tokens = {label: int(row[label]) for label in _TOKENS if row[label]}
        for time_ in TIMES:
            if row[f"{time_} n"]:
                buckets = dict(row[f"{time_} buckets"] or ())
                one.times[time_] = Distribution(row[f"{time_} n"], int(row[f"{time_} sum"]), buckets)
        delta.series.setdefault(_key(row, labels), Series()).add(one)


def _read_slowest(store: _core.Store, only: list[int], labels: Sequence[str], delta: Delta) -> None:
    """Of each series the span with the longest of each time; and the slowest traces."""
    for time_ in TIMES:
        columns = [*labels, "trace_id", "span_id", "start_ns", "duration_ns", time_]
        rows = _rows(store, f"{time_} != none", columns, _EXEMPLAR_ROWS, time_, only)
        for row in rows:
            exemplars = delta.series.setdefault(_key(row, labels), Series()).exemplars
            exemplars.setdefault(time_, [row[time_], row["trace_id"], row["span_id"], _end_ns(row)])
    columns = ["name", "trace_id", "start_ns", "duration_ns"]
    filter = "parent_id == none and duration_ns != none"
    since_ns = time.time_ns() - _LONGEST_NS  # what is imported from former days does not come in between
    for row in _rows(store, filter, columns, _EXEMPLAR_ROWS, "duration_ns", only, since_ns=since_ns):
        delta.slow.append([row["duration_ns"], row["trace_id"], _label(row["name"]), _end_ns(row)])


def _read_scores(store: _core.Store, only: list[int], delta: Delta) -> None:
    for row in _rows(store, "", ["name", "source", "value"], None, "", only, scores=True):
        value = _score_number(row["value"])
        one = ScoreSeries(count=1) if value is None else ScoreSeries(1, 1, value, value * value)
        key = (_label(row["name"]), _label(row["source"]))
        delta.scores.setdefault(key, ScoreSeries()).add(one)


def _score_number(value: Any) -> float | None:
    """Values of several types come as their texts."""
    try:
        number = float({"true": 1, "false": 0}.get(value, value)) if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _rows(
    store: _core.Store,
    filter: str,
    columns: Sequence[str],
    limit: int | None,
    order_by: str,
    only: list[int],
    *,
    scores: bool = False,
    since_ns: int | None = None,
) -> Iterable[dict[str, Any]]:
    names = list(dict.fromkeys(columns))
    table = store.scan(filter, since_ns, None, names, limit, order_by, True, scores, only=only)
    found = table.column_names
    return (dict(zip(found, row, strict=True)) for row in zip(*(table.column(name) for name in found), strict=True))


def _end_ns(row: dict[str, Any]) -> int:
    return int(row["start"]) + int(row["duration_ns"] or 0)


def _key(row: dict[str, Any], labels: Sequence[str]) -> tuple[str, ...]:
    return tuple(_label(row[label]) for label in labels)


def _label(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= _LABEL_CHARACTERS else text[: _LABEL_CHARACTERS - 1] + "…"


class Metrics:
    """The metrics of one store; made by Box.metrics(). collect() takes what is new and gives all of them."""

    def __init__(self, box: Box, *, labels: Sequence[str] = (), max_series: int = MAX_SERIES) -> None:
        for label in labels:
            if label not in MORE_LABELS:
                raise ValueError(f"labels={list(labels)}: {label!r} is none of {', '.join(MORE_LABELS)}")
        if max_series < 1:
            raise ValueError(f"max_series={max_series} must be at least 1")
        self.labels = (*LABELS, *dict.fromkeys(labels))
        self.max_series = max_series
        self._box = box
        self._name = "metrics " + ",".join(self.labels)

    def collect(self) -> list[Family]:
        """Every family of metrics, up to date."""
        started = time.perf_counter()
        store = self._box._fresh_store()

        def new_state(state: bytes, delta: Delta) -> bytes:
            total = Delta.from_json(state)
            total.add(delta, self.max_series)
            return total.to_json()

        total = Delta.from_json(take(store, self._name, self.labels, new_state))
        families = [*_span_families(total, self.labels), *_score_families(total), *_slow_families(total)]
        families += [*_store_families(store), *_sink_families(store)]
        overflow = Family(
            "spanbox_metrics_folded", "counter", "Additions to the label set (other), of those beyond the limit"
        )
        overflow.add((), total.folded)
        seconds = Family("spanbox_metrics_collect_seconds", "gauge", "How long this collection took")
        seconds.add((), time.perf_counter() - started)
        return [*families, overflow, seconds]

    def reset(self) -> None:
        """Forgets all counters; the next collection counts what is stored then."""
        self._box._store.drop_feed(self._name)


_HELP = {
    "duration_ns": ("spanbox_duration_seconds", "How long spans took", -80, 96),
    "ttft_ns": ("spanbox_ttft_seconds", "Time to the first token", -64, 64),
    "tpot_ns": ("spanbox_tpot_seconds", "Time per output token after the first", -80, 32),
}


def _span_families(total: Delta, labels: Sequence[str]) -> list[Family]:
    spans = Family("spanbox_spans", "counter", "Spans that have ended, by how")
    errors = Family("spanbox_errors", "counter", "Spans that failed, by the type of error")
    tokens = Family("spanbox_tokens", "counter", "Tokens; input includes cache_read and cache_write, output reasoning")
    cost = Family("spanbox_cost_usd", "counter", "Recorded cost in US dollars")
    priced = Family("spanbox_priced_spans", "counter", "Spans that have a cost")
    times = {name: Family(metric, "histogram", text) for name, (metric, text, *_) in _HELP.items()}
    for key, series in sorted(total.series.items()):
        own = tuple(zip(labels, key, strict=True))
        for status, count in sorted(series.statuses.items()):
            spans.add((*own, ("status", status)), count)
        for error_type, count in sorted(series.errors.items()):
            errors.add((*own, ("error_type", error_type)), count)
        for type_, count in sorted(series.tokens.items()):
            tokens.add((*own, ("type", type_)), count)
        if series.priced:
            cost.add(own, series.cost_usd)
            priced.add(own, series.priced)
        for name, distribution in series.times.items():
            times[name].add(own, _histogram(name, distribution, series.exemplars.get(name)))
    return [spans, errors, tokens, cost, priced, *times.values()]


def _histogram(name: str, distribution: Distribution, exemplar: list[Any] | None) -> Histogram:
    *_, first, last = _HELP[name]
    buckets = {bucket: count for bucket, count in distribution.buckets.items() if bucket is not None}
    shown = None
    if exemplar is not None:
        value_ns, trace_id, span_id, end_ns = exemplar
        shown = Exemplar((("trace_id", trace_id), ("span_id", span_id)), value_ns / 1e9, end_ns / 1e9)
    return Histogram(
        count=distribution.count,
        total=distribution.total_ns / 1e9,
        zeros=distribution.buckets.get(None, 0),
        buckets=dict(sorted(buckets.items())),
        bounds=range(first, last + 1, 4),
        exemplar=shown,
    )


def _score_families(total: Delta) -> list[Family]:
    count = Family("spanbox_scores", "counter", "Scores that were given")
    numbers = Family(
        "spanbox_score_values", "counter", "Scores that were given as a number, or as true (1) or false (0)"
    )
    values = Family(
        "spanbox_score_sum", "gauge", "Sum of these numbers since counting began; it falls when they are negative"
    )
    squares = Family("spanbox_score_squares", "counter", "Sum of the squares of these numbers")
    for key, series in sorted(total.scores.items()):
        own = tuple(zip(("name", "source"), key, strict=True))
        count.add(own, series.count)
        if series.numbers:
            numbers.add(own, series.numbers)
            values.add(own, series.total)
            squares.add(own, series.squares)
    return [count, numbers, values, squares]


def _slow_families(total: Delta) -> list[Family]:
    slow = Family("spanbox_slow_trace_seconds", "gauge", "The slowest traces that ended within the last hour")
    since_ns = time.time_ns() - _SLOW_FOR_NS
    recent = sorted((each for each in total.slow if each[3] > since_ns), key=lambda each: -each[0])
    for duration_ns, trace_id, name, _ in recent[:_SLOW_TRACES]:
        slow.add((("trace_id", trace_id), ("name", name)), duration_ns / 1e9)
    return [slow]


def _store_families(store: _core.Store) -> list[Family]:
    info = store.info()
    gauges = {
        "spanbox_store_spans": ("Spans in the store", info["spans"]),
        "spanbox_store_open_spans": ("Spans that are running", info["open_spans"]),
        "spanbox_store_sampled_out_spans": (
            "Spans of which sampling has left the figures only",
            info["sampled_out_spans"],
        ),
        "spanbox_store_segments": ("Segments of the store", info["segments"]),
        "spanbox_store_bytes": ("What data.mdb takes of the disk", info["disk_bytes"]),
        "spanbox_recorders": ("Processes that record into the store", len(processes := store.processes())),
        "spanbox_recorders_dropped_spans": (
            "Spans that these processes have dropped because their rings were full",
            sum(int(str(each["dropped_spans"])) for each in processes),
        ),
    }
    families = []
    for name, (text, value) in gauges.items():
        family = Family(name, "gauge", text)
        family.add((), value)
        families.append(family)
    return families


def _sink_families(store: _core.Store) -> list[Family]:
    waiting = Family("spanbox_sink_waiting_spans", "gauge", "Stored spans that the sink has not got yet")
    sent = Family("spanbox_sink_sent_spans", "counter", "Spans that the sink has taken")
    refused = Family("spanbox_sink_refused_spans", "counter", "Spans that the sink has refused for good")
    for name in store.feeds():
        if not name.startswith("sink "):
            continue
        feed = store.feed(name)
        own = (("sink", name.removeprefix("sink ")),)
        state = json.loads(feed["state"] or b"{}")
        waiting.add(own, sum(rows for _, rows, of in feed["waiting"] if of == "spans") - feed["taken_rows"])
        sent.add(own, state.get("sent", 0))
        refused.add(own, state.get("refused", 0))
    return [waiting, sent, refused]
