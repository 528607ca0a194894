"""A provider's bill beside what was recorded: what is on one side only, and what has another amount.

Joined by the id of the request where the bill has one, else by day and model.
Hostile files raise ValueError with the line. Units: US dollars; days are those of UTC.
"""

from __future__ import annotations

import csv
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal

from spanbox._cost_rows import TIME
from spanbox._render import clean, format_cost, text_table
from spanbox._time import iso_ns

State = Literal["missing", "surplus", "duplicate", "amount", "same"]

ID_COLUMNS = ("request_id", "response_id", "generation_id", "completion_id", "x_request_id", "transaction_id", "id")
ID_ATTRIBUTES = ("gen_ai.response.id", "response_id", "request_id", "llm.response.id")
_COSTS = (
    "cost_usd", "amount_usd", "cost", "amount", "total_cost", "usage_cost", "amount_value", "cost_in_usd", "price",
    "spend",
)  # fmt: skip
_DAYS = ("date", "day", "usage_date", "start_time", "timestamp", "created_at", "time")
_MODELS = ("model", "model_name", "snapshot_id", "model_version", "line_item", "sku")
_MAX_BYTES = 500_000_000
_SHOWN = 20
NO_ID = "calls without an id"
Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """One request, or one day of a model. None: that side does not have it."""

    key: str
    state: State
    billed_usd: float | None
    recorded_usd: float | None
    lines: int = 1  # of the bill


class Reconciliation:
    """`differences`, the largest first. missing: on the bill, and not recorded; surplus: recorded, and not on the bill;
    duplicate: billed more than once; amount: both have it, with other amounts."""

    def __init__(self, on: str, differences: list[Difference], same: int, billed: float, recorded: float) -> None:
        self.on = on
        self.differences = differences
        self.same = same
        self.billed_usd = billed
        self.recorded_usd = recorded

    def count(self, state: State) -> int:
        return self.same if state == "same" else sum(each.state == state for each in self.differences)

    def as_dict(self) -> dict[str, Any]:
        return {
            "on": self.on,
            "billed_usd": self.billed_usd,
            "recorded_usd": self.recorded_usd,
            "same": self.same,
            "differences": [asdict(each) for each in self.differences],
        }

    def cells(self) -> tuple[list[str], list[list[str]], set[int]]:
        rows = [
            [clean(each.key), each.state, format_cost(each.billed_usd), format_cost(each.recorded_usd)]
            for each in self.differences[:_SHOWN]
        ]
        return [self.on, "state", "billed", "recorded"], rows, {2, 3}

    @property
    def remarks(self) -> list[str]:
        counts = [f"{self.count(state):,} {state}" for state in ("missing", "surplus", "duplicate", "amount", "same")]
        more = len(self.differences) - _SHOWN
        return [
            *([f"… {more:,} more"] if more > 0 else []),
            f"billed {format_cost(self.billed_usd)}, recorded {format_cost(self.recorded_usd)}: {', '.join(counts)}",
        ]

    def __repr__(self) -> str:
        return f"<Reconciliation by {self.on}: {self.remarks[-1]}>"

    def __str__(self) -> str:
        header, rows, right = self.cells()
        return "\n".join([*(text_table(header, rows, right=right) if rows else []), *self.remarks])

    def _repr_html_(self) -> str:
        from spanbox._notebook_html import block
        from spanbox._notebook_tables import figures_html

        return block(figures_html("", self.cells(), self.remarks, {}))


@dataclass(slots=True)
class Bill:
    """The lines of a bill: dollars and how many, by key."""

    by_id: bool
    usd: dict[Key, Decimal]
    lines: dict[Key, int]


def read_bill(path: str | os.PathLike[str], *, id: str | None = None, cost: str | None = None) -> Bill:
    """A CSV file. Its columns are told by their names; `id` and `cost` name those that are not."""
    found = Path(path)
    if found.stat().st_size > _MAX_BYTES:
        raise ValueError(f"{found}: {found.stat().st_size:,} bytes are no bill")
    with found.open(encoding="utf-8-sig", errors="replace", newline="") as text:
        reader = csv.DictReader(text)
        names = {re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_"): name for name in reader.fieldnames or ()}
        cost_column = _column(names, cost, _COSTS)
        id_column = _column(names, id, ID_COLUMNS)
        day_column, model_column = _column(names, None, _DAYS), _column(names, None, _MODELS)
        if cost_column is None:
            raise ValueError(f"{found}: no column of costs among {_listed(reader.fieldnames)}; name it with cost=")
        if id_column is None and (day_column is None or model_column is None):
            raise ValueError(f"{found}: no column of request ids, nor of days and models; name it with id=")
        bill = Bill(id_column is not None, defaultdict(Decimal), defaultdict(int))
        try:
            for row in reader:
                if id_column is not None:
                    key: Key = (row[id_column] or "",)
                else:
                    key = (_day(row[day_column or ""]), row[model_column or ""] or "")
                bill.usd[key] += _amount(row[cost_column])
                bill.lines[key] += 1
        except (ValueError, TypeError, csv.Error) as error:
            raise ValueError(f"{found}: line {reader.line_num}: {error}") from None
    return bill


def _column(names: Mapping[str, str], given: str | None, known: Iterable[str]) -> str | None:
    if given is not None:
        if given not in names.values():
            raise ValueError(f"the bill has no column {given!r}; it has {_listed(names.values())}")
        return given
    return next((names[name] for name in known if name in names), None)


def _listed(names: Iterable[str] | None) -> str:
    return ", ".join(list(names or ())[:30]) or "none"


def _amount(text: str | None) -> Decimal:
    try:
        amount = Decimal((text or "0").replace("$", "").replace("USD", "").replace(",", "").strip() or "0")
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite():
        raise ValueError(f"{text!r} is no amount")
    return amount


def _day(text: str | None) -> str:
    value = (text or "").strip()
    if re.fullmatch(r"\d{10}", value, re.ASCII):
        return day_of(int(value) * 1_000_000_000)
    if re.match(r"\d{4}-\d{2}-\d{2}", value, re.ASCII):
        return value[:10] if len(value) == 10 else day_of(iso_ns(value))
    raise ValueError(f"{text!r} is no day such as 2026-11-21")


def day_of(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d")


def compare(bill: Bill, recorded: Mapping[Key, float | None], *, tolerance_usd: float = 1e-6) -> Reconciliation:
    """`recorded` has what calls cost by the same key; None: that is not known."""
    differences = []
    same = 0
    for key in dict.fromkeys((*bill.usd, *recorded)):
        lines = bill.lines.get(key, 0)
        billed = float(bill.usd[key]) if lines else None
        ours = recorded.get(key)
        if not lines:
            state: State = "surplus"
        elif key not in recorded:
            state = "missing"
        elif bill.by_id and lines > 1:
            state = "duplicate"
        elif ours is None or abs((billed or 0.0) - ours) > tolerance_usd + 1e-9 * abs(ours):
            state = "amount"
        else:
            same += 1
            continue
        differences.append(Difference(" ".join(key), state, billed, ours, lines))
    differences.sort(key=lambda each: -abs((each.billed_usd or 0.0) - (each.recorded_usd or 0.0)))
    on = "request" if bill.by_id else "day and model"
    total = sum(bill.usd.values(), Decimal(0))
    return Reconciliation(on, differences, same, float(total), sum(usd or 0.0 for usd in recorded.values()))


def recorded_by_day(rows: Iterable[Any]) -> dict[Key, float | None]:
    """Of a cost report by day and model."""
    return {(day_of(row.group[TIME]), str(row.group["model"] or "")): row.cost_usd for row in rows}


def recorded_by_id(rows: Iterable[Any]) -> dict[Key, float | None]:
    """Of a cost report by ID_ATTRIBUTES: the first that a call has."""
    found: dict[Key, float | None] = {}
    for row in rows:
        told = next((row.group[name] for name in ID_ATTRIBUTES if row.group[name]), NO_ID)
        key = (str(told),)
        before = found.get(key)
        found[key] = row.cost_usd if before is None else before + (row.cost_usd or 0.0)
    return found
