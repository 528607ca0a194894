"""What a request asks: its parameters, read; and the store, with what was answered before.

Thread rule: an Asked is made for one request and used by one thread; Answers may be used from any thread.
Units: nanoseconds. A moment "now" is rounded up to the whole second, so that the panels of one screen ask the same.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from spanbox import _core
from spanbox._box import Box
from spanbox._spans import Query, Scores, Spans
from spanbox._time import iso_ns, length_ns
from spanbox.server.api._problem import Problem, filter_problem

SECOND_NS = 1_000_000_000
DAY_NS = 86_400 * SECOND_NS
_BUCKETS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 604_800)
_CACHED = 512
_GOING_ON = 16
_DAMAGES = 20  # that are remembered
MOST_POINTS = 400
T = TypeVar("T")
Interval = tuple[int, int]  # from, until


class Answers:
    """What one store has answered lately. An answer holds until the store has changed."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self._lock = threading.Lock()
        self._kept: OrderedDict[Any, Any] = OrderedDict()
        self._generation: Any = None
        self._going_on: OrderedDict[Any, Any] = OrderedDict()
        self._damage: dict[str, None] = {}

    @property
    def damage(self) -> list[str]:
        """What reading met that failed its checksum, since the server began."""
        return list(self._damage)

    def saw(self, damage: _core.CorruptionError) -> None:
        if len(self._damage) < _DAMAGES:
            self._damage[str(damage)] = None

    def readable(self, read: Callable[[], T], otherwise: Any) -> T:
        """What can be read; `otherwise` where a part of the store is damaged, which is remembered and told."""
        try:
            return read()
        except _core.CorruptionError as error:
            self.saw(error)
            instead: T = otherwise
            return instead

    def generation(self) -> tuple[int, ...]:
        """Differs when the store has."""
        info = self.box.info()
        return (info["spans"], info["open_spans"], info["sampled_out_spans"], info["scores"], info["segments"])

    def keep(self, generation: tuple[int, ...], key: Any, value: Any) -> None:
        with self._lock:
            if generation == self._generation:
                self._kept[key] = value

    def going_on(self, key: Any, make: Callable[[], T]) -> T:
        """What has been begun of a long answer; it outlives changes of the store."""
        with self._lock:
            found: T = self._going_on.setdefault(key, make())
            self._going_on.move_to_end(key)
            while len(self._going_on) > _GOING_ON:
                self._going_on.popitem(last=False)
            return found

    def ended(self, key: Any) -> None:
        with self._lock:
            self._going_on.pop(key, None)

    def kept(self, generation: tuple[int, ...], key: Any, make: Callable[[], T]) -> T:
        with self._lock:
            if generation != self._generation:
                self._kept.clear()
                self._generation = generation
            if key in self._kept:
                self._kept.move_to_end(key)
                found: T = self._kept[key]
                return found
        made = make()
        with self._lock:
            if generation == self._generation:
                self._kept[key] = made
                while len(self._kept) > _CACHED:
                    self._kept.popitem(last=False)
        return made


@dataclass(frozen=True, slots=True)
class Axis:
    """Buckets of equal length that cover the asked range."""

    begin_ns: int
    bucket_ns: int
    buckets: int

    @property
    def end_ns(self) -> int:
        return self.begin_ns + self.buckets * self.bucket_ns

    def place(self, at_ns: int) -> int | None:
        place = (at_ns - self.begin_ns) // self.bucket_ns
        return place if 0 <= place < self.buckets else None


@dataclass(frozen=True, slots=True)
class Asked:
    """One question. `params` has what is only of its kind."""

    answers: Answers
    q: str
    from_ns: int
    to_ns: int
    now_ns: int
    vs: str  # as given: "prev", "7d", "none", "from..to"
    params: Mapping[str, Sequence[str]]
    generation: tuple[int, ...] = field(default=(), repr=False)

    @property
    def box(self) -> Box:
        return self.answers.box

    def param(self, name: str, default: str = "") -> str:
        values = self.params.get(name)
        return values[-1] if values else default

    def number(self, name: str, default: int, *, least: int, most: int) -> int:
        text = self.param(name) or str(default)
        if not text.lstrip("-").isascii() or not text.lstrip("-").isdigit() or len(text) > 12:
            raise Problem("bad_request", f"{name} must be a whole number from {least} to {most}")
        return max(least, min(most, int(text)))

    # --- what is asked about ------------------------------------------------------------------------------------------

    def where(self, *clauses: str) -> str:
        """The filter, and these clauses besides."""
        return " and ".join(f"({each})" for each in (self.q, *clauses) if each.strip())

    def spans(self, *clauses: str, of: Interval | None = None, filtered: bool = True) -> Spans:
        begin_ns, end_ns = of or (self.from_ns, self.to_ns)
        text = self.where(*clauses) if filtered else " and ".join(f"({each})" for each in clauses if each)
        store = self.box._fresh_store()
        return Spans(lambda: store, Query(filter=text, since_ns=begin_ns, until_ns=end_ns))

    def scores(self, filter: str, *, of: Interval | None = None) -> Scores:
        begin_ns, end_ns = of or (self.from_ns, self.to_ns)
        store = self.box._fresh_store()
        return Scores(lambda: store, Query(filter=filter, since_ns=begin_ns, until_ns=end_ns, scores=True))

    def kept(self, what: Any, make: Callable[[], T]) -> T:
        """What `make` gives, once for this store, filter and range."""
        key = (what, self.q, self.from_ns, self.to_ns, self.vs)
        return self.answers.kept(self.generation, key, make)

    # --- time ---------------------------------------------------------------------------------------------------------

    @property
    def window(self) -> Interval:
        """What "now" is: the last sixth of the range, at least a minute."""
        length = max((self.to_ns - self.from_ns) // 6, 60 * SECOND_NS)
        return max(self.from_ns, self.to_ns - length), self.to_ns

    @property
    def baseline(self) -> Interval | None:
        """What the window is compared with; None: nothing."""
        begin_ns, _ = self.window
        if self.vs == "none":
            return None
        if self.vs == "prev":
            return self.from_ns - (self.to_ns - self.from_ns), self.from_ns
        if ".." in self.vs:
            first, _, last = self.vs.partition("..")
            return moment(first, self.now_ns, "vs"), moment(last, self.now_ns, "vs")
        try:
            return begin_ns - length_ns(self.vs, what="vs"), begin_ns
        except ValueError as error:
            raise Problem("bad_request", f"{error}; or prev, none, FROM..TO") from None

    def axis(self, *, default_px: int = 240) -> Axis:
        """At most a bucket for three pixels, and MOST_POINTS."""
        most = max(8, min(self.number("px", default_px, least=24, most=10_000) // 3, MOST_POINTS))
        length = self.to_ns - self.from_ns
        bucket_ns = next((s * SECOND_NS for s in _BUCKETS_S if length <= s * SECOND_NS * most), 0)
        if not bucket_ns:
            bucket_ns = -(-length // most // DAY_NS) * DAY_NS
        begin_ns = self.from_ns // bucket_ns * bucket_ns
        return Axis(begin_ns, bucket_ns, max(1, -(-(self.to_ns - begin_ns) // bucket_ns)))

    def range(self) -> dict[str, str | None]:
        vs = self.baseline
        return {
            "from_ns": str(self.from_ns),
            "to_ns": str(self.to_ns),
            "vs_from_ns": None if vs is None else str(vs[0]),
            "vs_to_ns": None if vs is None else str(vs[1]),
        }


def ask(answers: Answers, params: Mapping[str, Sequence[str]]) -> Asked:
    """What the parameters of a request ask. Problem for those that are wrong."""

    def one(name: str, default: str) -> str:
        values = params.get(name) or [default]
        return values[-1].strip() or default

    now_ns = -(-time.time_ns() // SECOND_NS) * SECOND_NS
    from_ns, to_ns = (moment(one(name, default), now_ns, name) for name, default in (("from", "-6h"), ("to", "now")))
    if from_ns >= to_ns:
        raise Problem("bad_request", "`from` must be before `to`")
    asked = Asked(answers, one("q", ""), from_ns, to_ns, now_ns, one("vs", "7d"), params, answers.generation())
    asked.baseline  # noqa: B018  (a wrong `vs` is told now)
    if asked.q:
        check(asked)
    return asked


def check(asked: Asked) -> None:
    """The filter alone, before it is joined with others: places in messages are those the reader sees."""
    try:
        _core.check_filter(asked.q)
    except _core.FilterError as error:
        raise filter_problem(error, asked.q) from None


def moment(text: str, now_ns: int, what: str) -> int:
    """`now`, `-6h`, `6h`, ISO 8601 (UTC unless it says otherwise), nanoseconds since 1970."""
    text = text.strip()
    if text == "now":
        return now_ns
    try:
        if text.isascii() and text.isdigit() and len(text) > 8:
            return min(int(text), (1 << 63) - 1)
        if text[:1] == "-" or text[-1:] in "smhdw":
            return max(0, now_ns - length_ns(text.removeprefix("-"), what=what))
        zoned = "T" in text and any(mark in text.split("T")[1] for mark in "+-Z")
        return max(0, iso_ns(text if zoned else f"{text}+00:00" if "T" in text else f"{text}T00:00:00+00:00"))
    except (ValueError, OverflowError):
        raise Problem(
            "bad_request", f"{what}={text[:60]!r} is no moment: write now, -6h, or 2026-11-21T09:30:00Z"
        ) from None
