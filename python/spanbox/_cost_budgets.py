"""Budgets: so many US dollars a day, week or month for what matches a filter, of all together or of each group; and
how far they are spent.

A budget is a document of the store (kind `budget`), so that every process and the page know the same ones. What a
thousand requests may cost, which the page keeps as the budget `cost`, is told with them.
Units: US dollars; days are those of UTC, weeks begin on Monday. Owns its rows; immutable. Thread rule: as Box.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args, overload

from spanbox import _core
from spanbox._cost_report import report
from spanbox._cost_rows import CostReport
from spanbox._documents import of_tuple
from spanbox._literals import equals
from spanbox._render import MISSING, clean, format_cost, format_share, plural, short_time, text_table
from spanbox._spans import Query, Scores, Spans

Per = Literal["day", "week", "month"]
Level = Literal["ok", "warning", "alert", "over"]

KIND = "budget"
PER_1K = "1k requests"  # of the last 24 hours
LEVELS: tuple[tuple[float, Level], ...] = ((1.0, "over"), (0.95, "alert"), (0.8, "warning"))
_OF_THE_PAGE = "cost"
_ROOT = "parent_id == none"
_DAY_NS = 86_400_000_000_000
_LEAST_ELAPSED_NS = 3_600_000_000_000  # before a rate is known


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent, by each group of `by`."""

    name: str
    usd: float
    per: str
    filter: str = ""
    by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """How far one group of a budget is."""

    budget: Budget
    group: dict[str, Any]
    spent_usd: float  # since begin_ns
    calls: int
    begin_ns: int
    end_ns: int  # when it begins anew
    used_up_ns: int | None  # when it is spent at the mean rate since begin_ns; None: it lasts, or no rate is known

    @property
    def share(self) -> float:
        return self.spent_usd / self.budget.usd

    @property
    def left_usd(self) -> float:
        return max(0.0, self.budget.usd - self.spent_usd)

    @property
    def level(self) -> Level:
        """ok, warning from 80 % on, alert from 95 %, over from 100 %."""
        return next((level for share, level in LEVELS if self.share >= share), "ok")

    @property
    def what(self) -> str:
        """The budget and the group, as a text."""
        group = (f"{key} {MISSING if value is None else value}" for key, value in self.group.items())
        return ", ".join([self.budget.name, *group])

    @property
    def filter(self) -> str:
        """The calls that it counts."""
        clauses = (f"({self.budget.filter})" if self.budget.filter.strip() else "", "kind in [llm, embedding]")
        return " and ".join(filter(None, (*clauses, *(equals(key, value) for key, value in self.group.items()))))

    def as_dict(self) -> dict[str, Any]:
        row = {name: getattr(self, name) for name in ("group", "spent_usd", "calls", "begin_ns", "end_ns")}
        told = {name: getattr(self, name) for name in ("used_up_ns", "share", "left_usd", "level")}
        return {**asdict(self.budget), **row, **told}


class Budgets(Sequence[BudgetRow]):
    """The groups of all budgets, the one that is spent furthest first."""

    def __init__(self, budgets: Sequence[Budget], rows: list[BudgetRow]) -> None:
        self.budgets = tuple(budgets)
        self._rows = sorted(rows, key=lambda row: (-row.share, row.what))

    @overload
    def __getitem__(self, index: int) -> BudgetRow: ...
    @overload
    def __getitem__(self, index: slice) -> list[BudgetRow]: ...
    def __getitem__(self, index: int | slice) -> BudgetRow | list[BudgetRow]:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[BudgetRow]:
        return iter(self._rows)

    def left_usd(self, name: str, /, **group: Any) -> float:
        """What is left of a budget, for spanbox.limit(cost_usd=...): all of it where the group has spent nothing."""
        budget = next((each for each in self.budgets if each.name == name), None)
        if budget is None:
            there_are = ", ".join(each.name for each in self.budgets) or "none"
            raise KeyError(f"there is no budget {name!r}; there are {there_are}")
        if set(group) != set(budget.by):
            raise TypeError(f"the budget {name!r} is by {list(budget.by)}: name a value of each")
        found = (row for row in self if row.budget == budget and row.group == group)
        return next((row.left_usd for row in found), budget.usd)

    def as_dict(self) -> dict[str, Any]:
        return {"rows": [row.as_dict() for row in self]}

    def cells(self) -> tuple[list[str], list[list[str]], set[int]]:
        rows = [
            [
                clean(row.what),
                format_cost(row.spent_usd),
                f"{format_cost(row.budget.usd)} per {row.budget.per}",
                format_share(row.share),
                row.level if row.level == "ok" else f"✗ {row.level}",
                _used_up(row),
            ]
            for row in self
        ]
        return ["budget", "spent", "of", "", "level", "used up"], rows, {1, 2, 3}

    @property
    def remarks(self) -> list[str]:
        if not self.budgets:
            return ["no budget is set: spanbox budget NAME --usd 500 --per month --by tenant"]
        return [f"{plural(len(self.budgets), 'budget')}; used up: at the mean rate of the day, week or month so far"]

    def __repr__(self) -> str:
        worst = f", {self[0].what}: {format_share(self[0].share)}" if self else ""
        return f"<Budgets {plural(len(self.budgets), 'budget')}{clean(worst)}>"

    def __str__(self) -> str:
        header, rows, right = self.cells()
        return "\n".join([*(text_table(header, rows, right=right) if rows else []), *self.remarks])

    def _repr_html_(self) -> str:
        from spanbox._notebook_html import block
        from spanbox._notebook_tables import figures_html

        return block(figures_html("", self.cells(), self.remarks, {1: [row.spent_usd for row in self]}))


def _used_up(row: BudgetRow) -> str:
    if row.level == "over":
        return ""
    return MISSING if row.used_up_ns is None else short_time(row.used_up_ns)


def checked(usd: float, per: Per, filter: str, by: Sequence[str]) -> dict[str, Any]:
    """A budget as it is stored; ValueError says what is wrong."""
    if isinstance(usd, bool) or not isinstance(usd, int | float) or not (math.isfinite(usd) and 0 < usd < 1e12):
        raise ValueError(f"usd={usd!r} is no budget: give US dollars, more than 0")
    if per not in get_args(Per):
        raise ValueError(f"per={per!r}: a budget is for a {', '.join(get_args(Per)[:-1])} or {get_args(Per)[-1]}")
    if isinstance(by, str):
        raise TypeError(f"by={by!r}: give a list of columns, such as by=[{by!r}]")
    _core.check_filter(filter)
    return {"usd": float(usd), "per": per, "filter": filter, "by": list(by)}


def check_name(name: str) -> None:
    if name == _OF_THE_PAGE:
        raise ValueError(f"{name!r} is what a thousand requests may cost, which the page sets; give another name")


def stored(store: _core.Store) -> list[Budget]:
    """The budgets of a store. What is none, as another program may have put it there, is left out."""
    found = []
    for document in (of_tuple(KIND, each) for each in store.documents(KIND)):
        value = document.value if isinstance(document.value, dict) else {}
        if document.name == _OF_THE_PAGE:
            value = {"usd": value.get("usd_per_1k"), "per": "day"}
        try:
            told = checked(value.get("usd"), value.get("per"), value.get("filter", ""), value.get("by", ()))  # type: ignore[arg-type]
        except (ValueError, TypeError):
            continue
        per = PER_1K if document.name == _OF_THE_PAGE else told["per"]
        found.append(Budget(document.name, told["usd"], per, told["filter"], tuple(told["by"])))
    return found


def budgets(store: _core.Store, at_ns: int) -> Budgets:
    """How far those of a store are at a moment."""
    found = stored(store)
    return Budgets(found, [row for budget in found for row in _rows(store, budget, at_ns)])


def _rows(store: _core.Store, budget: Budget, at_ns: int) -> Iterator[BudgetRow]:
    begin_ns, end_ns = _period(budget.per, at_ns)
    costs = _costs(store, budget, (begin_ns, at_ns))
    if budget.per == PER_1K:
        requests = Spans(lambda: store, Query(filter=_ROOT, since_ns=begin_ns, until_ns=at_ns)).count()
        usd = 1_000 * (costs.total.cost_usd or 0.0) / requests if requests else 0.0
        yield BudgetRow(budget, {}, usd, costs.total.calls, begin_ns, end_ns, None)
        return
    for row in costs if budget.by else [costs.total]:
        spent = row.cost_usd or 0.0
        elapsed_ns = at_ns - begin_ns
        used_up_ns = None
        if spent > 0 and elapsed_ns >= _LEAST_ELAPSED_NS:
            used_up_ns = begin_ns + math.ceil(elapsed_ns * budget.usd / spent)
        if used_up_ns is not None and used_up_ns >= end_ns:
            used_up_ns = None
        yield BudgetRow(budget, row.group, spent, row.calls, begin_ns, end_ns, used_up_ns)


def _costs(store: _core.Store, budget: Budget, of: tuple[int, int]) -> CostReport:
    return report(
        lambda rule: Spans(lambda: store, Query(filter=rule, since_ns=of[0], until_ns=of[1])),
        lambda rule: Scores(lambda: store, Query(filter=rule, scores=True)),
        budget.filter,
        budget.by,
        period=of,
        caching=False,
    )


def _period(per: str, at_ns: int) -> tuple[int, int]:
    if per == PER_1K:
        return at_ns - _DAY_NS, at_ns
    day = datetime.fromtimestamp(at_ns // 1_000_000_000, UTC).replace(hour=0, minute=0, second=0)
    if per == "day":
        begin, end = day, day + timedelta(days=1)
    elif per == "week":
        begin = day - timedelta(days=day.weekday())
        end = begin + timedelta(days=7)
    else:
        begin = day.replace(day=1)
        end = (begin + timedelta(days=32)).replace(day=1)
    return int(begin.timestamp()) * 1_000_000_000, int(end.timestamp()) * 1_000_000_000
