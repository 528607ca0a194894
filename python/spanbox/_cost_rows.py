"""A cost report: rows of groups, for people, programs, spreadsheets and pages.

Owns its rows; immutable. Money is US dollars.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any, Literal, overload

from spanbox._render import MISSING, clean, format_cost, format_share, plural, short_count, text_table

Source = Literal["recorded", "repriced", "computed", "both"]

TIME = "time"
_NAMED = 3  # models without a price
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")  # what makes a spreadsheet compute a text


@dataclass(frozen=True, slots=True)
class CostRow:
    """One group. None: not known."""

    group: dict[str, Any]
    calls: int
    cost_usd: float | None
    cost_source: Source | None
    usd_per_1k_calls: float | None
    unpriced_calls: int  # have tokens, and no cost or price: not in cost_usd
    untold_calls: int  # ended well, and tell neither tokens nor cost: not in cost_usd
    input_tokens: int | None
    cache_read_tokens: int | None
    output_tokens: int | None
    out_in_ratio: float | None
    cache_hit_rate: float | None  # of the input tokens, those read from the provider's cache
    saved_usd: float | None  # what caching saved by the prices; below 0: writing into it cost more
    lost_usd: float | None  # what tokens cost more that were in the cache, and were not read from it
    served_calls: int  # answered from a cache of the program's own: they cost nothing
    served_usd: float | None  # what they would have cost

    def as_dict(self) -> dict[str, Any]:
        row = asdict(self)
        return {**row.pop("group"), **row}


class CostReport(Sequence[CostRow]):
    """Costs by group, dearest first; by time, in its order. `total` is all of them; `price_versions` are those of
    computed costs."""

    def __init__(
        self,
        by: tuple[str, ...],
        rows: list[CostRow],
        total: CostRow,
        price_versions: list[str],
        notes: list[str],
        period: tuple[int | None, int | None] = (None, None),
        unpriced: Mapping[str, int] | None = None,
    ) -> None:
        self.by = by
        self.total = total
        self.price_versions = price_versions
        self.notes = notes
        self.period = period  # ns since 1970; None: open
        self.unpriced = dict(unpriced or {})  # calls of models that have tokens and no known price
        self._rows = rows

    @overload
    def __getitem__(self, index: int) -> CostRow: ...
    @overload
    def __getitem__(self, index: slice) -> list[CostRow]: ...
    def __getitem__(self, index: int | slice) -> CostRow | list[CostRow]:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[CostRow]:
        return iter(self._rows)

    def as_dict(self) -> dict[str, Any]:
        return {
            "by": list(self.by),
            "rows": [row.as_dict() for row in self],
            "total": self.total.as_dict(),
            "price_versions": self.price_versions,
            "unpriced": self.unpriced,
            "notes": self.notes,
        }

    def cells(self) -> tuple[list[str], list[list[str]], set[int]]:
        """Header, rows and right-aligned columns, for people. A * marks costs that were computed, at least in part."""
        figures = ["calls", "cost", "per 1k", "in", "out", "cached", "saved"]
        lost = bool(self.total.lost_usd)
        shown = [*self, self.total] if len(self) > 1 and self.by else list(self)
        rows = []
        for row in shown:
            names = [_name(key, row.group.get(key)) for key in self.by]
            if row is self.total and self.by:
                names[0] = "total"
            mark = "*" if row.cost_source in ("computed", "both") else ""
            rows.append(
                [
                    *names,
                    short_count(row.calls),
                    f"{format_cost(row.cost_usd)}{mark}",
                    format_cost(row.usd_per_1k_calls),
                    short_count(row.input_tokens),
                    short_count(row.output_tokens),
                    format_share(row.cache_hit_rate),
                    format_cost(row.saved_usd),
                    *([format_cost(row.lost_usd)] if lost else []),
                ]
            )
        header = [*map(clean, self.by), *figures, *(["lost"] if lost else [])]
        return header, rows, set(range(len(self.by), len(header)))

    @property
    def remarks(self) -> list[str]:
        """What is to be known of these figures, a sentence each."""
        remarks = list(self.notes)
        if self.price_versions:
            remarks.insert(0, f"* computed from tokens: {', '.join(map(clean, self.price_versions))}")
        if count := self.total.unpriced_calls:
            have = "has" if count == 1 else "have"
            remarks.append(f"{plural(count, 'call')} with tokens {have} no known price{_named(self.unpriced)}")
        if count := self.total.untold_calls:
            tells = "tells" if count == 1 else "tell"
            remarks.append(f"{plural(count, 'call')} {tells} neither tokens nor cost, and cannot be priced")
        if count := self.total.served_calls:
            saved = "" if self.total.served_usd is None else f", which saved {format_cost(self.total.served_usd)}"
            remarks.append(f"{plural(count, 'call')} answered from a cache of its own{saved}")
        return remarks

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str:
        """The rows and the total as CSV, written to `path` if one is given. Texts that a spreadsheet would take for a
        formula begin with a '."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        figures = [name for name in CostRow.__slots__ if name != "group"]
        writer.writerow([_cell(name) for name in (*self.by, *figures)])
        for row in [*self, self.total]:
            group = [_time(value) if key == TIME else value for key, value in _group(row, self.by).items()]
            if row is self.total and self.by:
                group[0] = "total"
            writer.writerow([_cell(value) for value in (*group, *(getattr(row, name) for name in figures))])
        if path is not None:
            Path(path).write_text(text.getvalue(), "utf-8")
        return text.getvalue()

    def to_html(self, path: str | os.PathLike[str] | None = None, *, title: str = "Model costs") -> str:
        """The report as a page of its own, written to `path` if one is given. All texts are escaped."""
        from spanbox._report import page, write_page

        begin, end = ("…" if at is None else f"{_time(at)} UTC" for at in self.period)
        made = page(title, f"<h1>{escape(title)}</h1><p>{escape(begin)} – {escape(end)}</p>{self._body_html()}")
        if path is not None:
            write_page(Path(path), made)
        return made

    def __repr__(self) -> str:
        total = self.total
        return f"<CostReport {plural(len(self), 'row')}, {plural(total.calls, 'call')}, {format_cost(total.cost_usd)}>"

    def __str__(self) -> str:
        header, rows, right = self.cells()
        return "\n".join([*text_table(header, rows, right=right), *self.remarks])

    def _repr_html_(self) -> str:
        from spanbox._notebook_html import block

        return block(self._body_html())

    def _body_html(self) -> str:
        from spanbox._notebook_tables import figures_html

        bars = {
            len(self.by) + at: [getattr(row, name) for row in self] for at, name in enumerate(("calls", "cost_usd"))
        }
        return figures_html(plural(self.total.calls, "call"), self.cells(), self.remarks, bars)


def _named(unpriced: Mapping[str, int]) -> str:
    names = [clean(name) for name in sorted(unpriced, key=lambda name: (-unpriced[name], name))]
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return f": {', '.join(names[:_NAMED])}{more}" if names else ""


def _group(row: CostRow, by: tuple[str, ...]) -> dict[str, Any]:
    return {key: row.group.get(key) for key in by}


def _time(at_ns: int | None) -> str:
    """UTC, as the groups are; without a time of day at midnight."""
    if at_ns is None:
        return ""
    try:
        text = datetime.fromtimestamp(at_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"{at_ns} ns"
    return text.removesuffix(" 00:00:00")


def _name(key: str, value: Any) -> str:
    if value is None:
        return MISSING
    return _time(value) if key == TIME else clean(str(value))


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
