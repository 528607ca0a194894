"""What a month will have cost at its end, with an interval.

The days of the last eight weeks tell: their mean, the share of each weekday where there are four weeks of them, and how
far days are from that. Days to come are taken as independent, so an interval is too narrow where costs grow or come in
waves; formula and assumptions are in docs/cost.md.
Units: US dollars; days are those of UTC. Owns its rows; immutable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from statistics import NormalDist, fmean
from typing import Any, overload

from spanbox._cost_rows import TIME, CostReport
from spanbox._render import MISSING, clean, format_cost, plural, text_table

DAY_NS = 86_400_000_000_000
HISTORY_DAYS = 56
_LEAST_DAYS = 3  # for an interval
_LEAST_FOR_WEEKDAYS = 28
_THURSDAY = 3  # of a week from Monday: the day 1970 began with

Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class ProjectionRow:
    """One group. Without three days of history there is no interval, without one no projection."""

    group: dict[str, Any]
    spent_usd: float  # in this month until now
    projected_usd: float | None  # at its end
    low_usd: float | None
    high_usd: float | None
    days: int  # of history

    def as_dict(self) -> dict[str, Any]:
        row = asdict(self)
        return {**row.pop("group"), **row}


class Projection(Sequence[ProjectionRow]):
    """Projections by group, dearest first; `total` is that of all together, which is not the sum of the intervals."""

    def __init__(
        self, by: tuple[str, ...], rows: list[ProjectionRow], total: ProjectionRow, month: str, level: float
    ) -> None:
        self.by = by
        self.total = total
        self.month = month
        self.level = level
        self._rows = rows

    @overload
    def __getitem__(self, index: int) -> ProjectionRow: ...
    @overload
    def __getitem__(self, index: slice) -> list[ProjectionRow]: ...
    def __getitem__(self, index: int | slice) -> ProjectionRow | list[ProjectionRow]:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[ProjectionRow]:
        return iter(self._rows)

    def as_dict(self) -> dict[str, Any]:
        rows = [row.as_dict() for row in self]
        return {"month": self.month, "level": self.level, "rows": rows, "total": self.total.as_dict()}

    def cells(self) -> tuple[list[str], list[list[str]], set[int]]:
        shown = [*self, self.total] if self.by else [self.total]
        rows = []
        for row in shown:
            names = [clean(str(row.group.get(key, MISSING))) for key in self.by]
            if row is self.total and self.by:
                names[0] = "total"
            figures = (row.spent_usd, row.projected_usd, row.low_usd, row.high_usd)
            rows.append([*names, *map(format_cost, figures), str(row.days)])
        header = [*map(clean, self.by), "spent", f"end of {self.month}", "low", "high", "days"]
        return header, rows, set(range(len(self.by), len(header)))

    @property
    def remarks(self) -> list[str]:
        if not self.total.days:
            return [f"no call with a cost in the last {HISTORY_DAYS} days"]
        return [f"low to high: {100 * self.level:.0f} % of months like the last {plural(self.total.days, 'day')}"]

    def __repr__(self) -> str:
        row = self.total
        interval = "" if row.low_usd is None else f" ({format_cost(row.low_usd)} to {format_cost(row.high_usd)})"
        return f"<Projection {self.month} {format_cost(row.projected_usd)}{interval}>"

    def __str__(self) -> str:
        header, rows, right = self.cells()
        return "\n".join([*text_table(header, rows, right=right), *self.remarks])

    def _repr_html_(self) -> str:
        from spanbox._notebook_html import block
        from spanbox._notebook_tables import figures_html

        return block(
            figures_html("", self.cells(), self.remarks, {len(self.by) + 1: [row.projected_usd for row in self]})
        )


def project(costs: Callable[[int, int], CostReport], by: Sequence[str], now_ns: int, level: float = 0.9) -> Projection:
    """`costs` gives the report by day, and by the columns of `by`, from one moment to another."""
    if not 0 < level < 1:
        raise ValueError(f"level={level} is no share between 0 and 1, such as 0.9")
    now = datetime.fromtimestamp(now_ns / 1e9, UTC)
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    today = now_ns // DAY_NS
    month = range(
        int(first.timestamp()) * 1_000_000_000 // DAY_NS, int(following.timestamp()) * 1_000_000_000 // DAY_NS
    )
    since = min(month.start, today - HISTORY_DAYS)
    report = costs(since * DAY_NS, now_ns)
    found: dict[Key, dict[int, float]] = {}
    whole: dict[int, float] = {}
    for row in report:
        day, usd = row.group[TIME] // DAY_NS, row.cost_usd or 0.0
        days = found.setdefault(tuple(row.group[key] for key in by), {})
        days[day] = days.get(day, 0.0) + usd
        whole[day] = whole.get(day, 0.0) + usd
    left = 1 - now_ns % DAY_NS / DAY_NS
    rows = [_row(dict(zip(by, key, strict=True)), days, month, today, left, level) for key, days in found.items()]
    rows.sort(key=lambda row: -(row.projected_usd or row.spent_usd))
    return Projection(tuple(by), rows, _row({}, whole, month, today, left, level), f"{first:%Y-%m}", level)


def _row(
    group: dict[str, Any], costs: dict[int, float], month: range, today: int, left: float, level: float
) -> ProjectionRow:
    spent = sum([usd for day, usd in costs.items() if day in month], 0.0)
    begin = max(today - HISTORY_DAYS, min(costs, default=today))
    history = {day: costs.get(day, 0.0) for day in range(begin, today)}
    if not history:
        return ProjectionRow(group, spent, None, None, None, 0)
    to_come = {today: left, **dict.fromkeys(range(today + 1, month.stop), 1.0)}
    rest, half = rest_of(history, to_come, level)
    projected = spent + rest
    if half is None:
        return ProjectionRow(group, spent, projected, None, None, len(history))
    return ProjectionRow(group, spent, projected, max(spent, projected - half), projected + half, len(history))


def rest_of(history: dict[int, float], to_come: dict[int, float], level: float) -> tuple[float, float | None]:
    """What the days to come cost, whole ones or parts, and half the width of its interval."""
    mean = fmean(history.values())
    shares = _weekdays(history, mean)
    level_days = [usd / shares[_weekday(day)] if shares[_weekday(day)] else usd for day, usd in history.items()]
    weights = [part * shares[_weekday(day)] for day, part in to_come.items()]
    base = fmean(level_days)
    n = len(history)
    if n < _LEAST_DAYS:
        return base * sum(weights), None
    variance = sum((each - base) ** 2 for each in level_days) / (n - 1)
    width = _t(0.5 + level / 2, n - 1) * math.sqrt(variance * (sum(w * w for w in weights) + sum(weights) ** 2 / n))
    return base * sum(weights), width


def _weekday(day: int) -> int:
    return (day + _THURSDAY) % 7


def _weekdays(history: dict[int, float], mean: float) -> list[float]:
    """What a weekday costs, as a share of a mean day."""
    if len(history) < _LEAST_FOR_WEEKDAYS or not mean:
        return [1.0] * 7
    return [fmean([usd for day, usd in history.items() if _weekday(day) == each]) / mean for each in range(7)]


def _t(p: float, degrees: int) -> float:
    """A quantile of Student's t: the expansion around the normal one, within 1 % from 4 degrees of freedom on."""
    z = NormalDist().inv_cdf(p)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92_160,
    )
    return z + math.fsum(term / degrees**power for power, term in enumerate(terms, start=1))
