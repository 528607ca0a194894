"""What a finding says, for people and programs. Immutable; owns its values. Thread rule: none is needed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any, Literal, overload

from spanbox._apart import Trait
from spanbox._comparisons import Group, Interval, Unit
from spanbox._render import (
    clean,
    distinct_digits,
    format_cost,
    format_count,
    format_duration,
    format_share,
    plural,
    text_table,
)

_AFTER_MARK_NS = 600_000_000_000
_LABELS: dict[Group, str] = {
    "failing": "Failing",
    "slow": "Slow",
    "worse": "Worse",
    "dearer": "Dearer",
    "budget": "Budget",
    "drifted": "Drifted",
    "recording": "Recording",
}
_MARK_KINDS = ("deploy", "note", "prompt_version", "release")  # which of two at one moment is named


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment with a name: a deploy, or a release or version of a prompt that was seen first."""

    at_ns: int
    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Proof:
    """A call to look at."""

    trace_id: str
    span_id: str
    start_ns: int
    why: Literal["newest", "slowest", "dearest", "lowest", "highest"]
    value: float | None  # in the finding's unit
    text: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure that is worse now than before; of what has drifted: that is another."""

    group: Group
    what: str
    unit: Unit
    now: float
    before: float
    p: float | None  # corrected; None: a fact, not a test
    since_ns: int | None  # the bucket in which it began
    bucket_ns: int
    spark: tuple[float | None, ...]  # the figure over time; the window is the last sixth
    spark_mark: int | None  # where it began
    differs: Trait | None  # what the calls concerned share
    proof: Proof | None
    n: int  # calls concerned
    of: int  # calls compared
    filter: str  # the calls concerned

    @property
    def change(self) -> float:
        """How many times as much; of rates and scores the difference."""
        if self.unit == "score" or not self.before:
            return self.now - self.before
        return self.now / self.before

    @property
    def label(self) -> str:
        return _LABELS[self.group]

    @property
    def severity(self) -> Literal["error", "warning"]:
        spent = self.group == "budget" and self.now >= self.before
        return "error" if spent or self.group in ("failing", "slow") else "warning"

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "change": self.change, "label": self.label, "severity": self.severity}

    def __repr__(self) -> str:
        before, now = _value(self.before, self.unit), _value(self.now, self.unit)
        return f"<Finding {self.label}: {clean(self.what)} {before} → {now}>"


class Findings(Sequence[Finding]):
    """What is worse now than before, worst first, then what is otherwise than it was. `checked` comparisons were made;
    for `too_few` there was not the data."""

    def __init__(
        self,
        items: Sequence[Finding],
        *,
        checked: int,
        too_few: int,
        now: Interval,
        before: Interval,
        marks: Sequence[Mark],
        zone: tzinfo = UTC,
    ) -> None:
        self.items = tuple(items)
        self.checked = checked
        self.too_few = too_few
        self.now = now  # from and until, ns since 1970
        self.before = before
        self.mark = _mark_of(self.items, marks)
        self._zone = zone

    @overload
    def __getitem__(self, index: int) -> Finding: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Finding]: ...
    def __getitem__(self, index: int | slice) -> Finding | Sequence[Finding]:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.items)

    @property
    def sentence(self) -> str:
        """What there is to say first."""
        if not self.checked and not self.items:
            return "There is too little data to compare with." if self.too_few else "There is nothing to compare."
        than = f" than in the {_length(self.before)} before"
        since = ""
        if self.mark is not None:
            than, since = "", f" since {clean(f'{self.mark.kind} {self.mark.name}')} at {self._clock(self.mark.at_ns)}"
        drifted, budgets = (sum(item.group == group for item in self.items) for group in ("drifted", "budget"))
        worse = len(self) - drifted - budgets
        besides = []
        if budgets:
            besides.append(f"{plural(budgets, 'budget')} {'is' if budgets == 1 else 'are'} spent to 80 % and more")
        if drifted:
            besides.append(f"{plural(drifted, 'column')} {'has' if drifted == 1 else 'have'} drifted")
        have = " and ".join(besides)
        if not worse:
            return f"Nothing is worse{than}{f', but {have}{since}' if have else ''}."
        things = f"{worse} thing{' is' if worse == 1 else 's are'} worse{than}"
        comma = "," if than else ""
        return f"{things}{f'{comma} and {have}' if have else ''}{since}."

    @property
    def detail(self) -> str:
        """What follows the sentence."""
        parts = []
        if self.mark is not None:
            near = [item for item in self.items if _follows(item, self.mark)]
            who = "All" if len(near) == len(self) else f"{len(near)} of {len(self)}"
            latest = max(max(0, (item.since_ns or 0) + item.bucket_ns - self.mark.at_ns) for item in near)
            parts.append(f"{who} began within {math.ceil(latest / 60e9)} min of it.")
        shared = [item.differs for item in self.items if item.differs is not None]
        common = max(shared, key=lambda trait: sum(each.text == trait.text for each in shared), default=None)
        if common is not None and sum(each.text == common.text for each in shared) > 1:
            parts.append(f"{clean(common.text)} is what most of the calls concerned share.")
        counted = bool(self.checked) and (not self.items or not parts)
        if counted:
            parts.append(f"{plural(self.checked, 'comparison')}.")
        if self.too_few:
            few = f"{self.too_few:,} more" if counted else plural(self.too_few, "comparison")
            parts.append(f"{few} {'has' if self.too_few == 1 else 'have'} too little data.")
        return " ".join(parts)

    def _clock(self, at_ns: int) -> str:
        moment, end = (datetime.fromtimestamp(ns / 1e9, self._zone) for ns in (at_ns, self.now[1]))
        return f"{moment:%H:%M}" if moment.date() == end.date() else f"{moment:%H:%M on %Y-%m-%d}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "sentence": self.sentence,
            "detail": self.detail,
            "checked": self.checked,
            "too_few": self.too_few,
            "now": self.now,
            "before": self.before,
            "mark": None if self.mark is None else asdict(self.mark),
            "items": [item.as_dict() for item in self.items],
        }

    def cells(self) -> tuple[list[str], list[list[str]], set[int]]:
        """Header, rows and right-aligned columns, for people."""
        digits = distinct_digits([item.proof.trace_id for item in self.items if item.proof is not None])
        rows = [
            [
                item.label,
                clean(item.what),
                _value(item.now, item.unit),
                "" if item.group == "recording" else _value(item.before, item.unit),
                "" if item.group == "recording" else _change(item),
                ""
                if item.differs is None
                else f"{clean(item.differs.text)} {format_share(item.differs.of_them)} "
                f"({format_share(item.differs.of_others)} of others)",
                "" if item.proof is None else f"{item.proof.why} {item.proof.trace_id[:digits]}",
            ]
            for item in self.items
        ]
        return (
            ["", "what", "now", "before", "change", "what the calls concerned share", "the call that proves it"],
            rows,
            {2, 3, 4},
        )

    def __repr__(self) -> str:
        return f"<Findings {plural(len(self), 'finding')}, {plural(self.checked, 'comparison')}>"

    def __str__(self) -> str:
        header, rows, right = self.cells()
        return "\n".join([f"{self.sentence} {self.detail}", *(text_table(header, rows, right=right) if rows else [])])

    def _repr_html_(self) -> str:
        from spanbox._notebook_findings import findings_html
        from spanbox._notebook_html import block

        return block(findings_html(self))


def _follows(item: Finding, mark: Mark) -> bool:
    return (
        item.since_ns is not None
        and item.since_ns + item.bucket_ns > mark.at_ns
        and item.since_ns <= mark.at_ns + _AFTER_MARK_NS
    )


def _mark_of(items: Sequence[Finding], marks: Sequence[Mark]) -> Mark | None:
    """The mark that most findings begin after, at least two."""
    counted = [(sum(_follows(item, mark) for item in items), mark) for mark in marks]
    best = max((count for count, _ in counted), default=0)
    named = [mark for count, mark in counted if count == best]
    order = {kind: place for place, kind in enumerate(_MARK_KINDS)}
    return min(named, key=lambda mark: (order.get(mark.kind, len(order)), -mark.at_ns)) if best >= 2 else None


def _length(of: Interval) -> str:
    seconds = (of[1] - of[0]) // 1_000_000_000
    for size, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            return plural(round(seconds / size), name)
    return plural(seconds, "second")


def _value(value: float, unit: Unit) -> str:
    if unit == "ns":
        return format_duration(value)
    if unit == "usd":
        return format_cost(value)
    if unit == "count":
        return format_count(value)
    return format_share(value) if unit == "rate" else f"{value:.2f}"


def _change(item: Finding) -> str:
    if item.group == "budget":
        return f"{format_share(item.now / item.before)} of it"
    if item.unit == "score" or not item.before:
        return f"{item.now - item.before:+.2f}".replace("-", "−") if item.unit == "score" else "new"
    if item.change >= 2:
        return f"×{item.change:.1f}"
    by = f"{(item.now - item.before) * 100:+.1f} points" if item.unit == "rate" else f"{item.change - 1:+.0%}"
    return by.replace("%", " %").replace("-", "−")
