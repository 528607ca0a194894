"""What the model calls of a store cost, by any columns: costs as recorded, and computed where none was.

Every token and every cent counts once, as in docs/traces.md: of model calls (kind llm and embedding) inside one another
the innermost that tells. A cost is computed for calls with tokens where neither they nor a model call below or around
them has one.
Owns its rows; immutable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, overload

from spanbox import cost as prices_of
from spanbox._render import clean, format_cost, format_share, html_table, plural, short_count, text_table

if TYPE_CHECKING:
    from spanbox._spans import Result, Spans

_CALL = "kind in [llm, embedding]"
_TOLD = "(input_tokens != none or output_tokens != none)"
_PRICED = "cost != none"
CALLS = f"{_CALL} and not any(descendants, {_CALL})"
RECORDED = f"{_CALL} and {_PRICED} and not any(descendants, {_CALL} and {_PRICED})"
TOKENS = f"{_CALL} and {_TOLD} and not any(descendants, {_CALL} and {_TOLD})"
UNPRICED = (
    f"{_CALL} and {_TOLD} and cost == none and not any(descendants, {_CALL} and ({_TOLD} or {_PRICED}))"
    f" and not any(ancestors, {_CALL} and {_PRICED})"
)
CACHED = f"{TOKENS} and (cache_read_tokens > 0 or cache_write_tokens > 0)"
_COUNTS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
_READ = ("provider", "model", "model_request", "start_ns", *_COUNTS)
Source = Literal["recorded", "computed", "both"]
Key = tuple[Any, ...]


@dataclass(slots=True)
class _Sums:
    calls: int = 0
    recorded_calls: int = 0
    recorded_usd: float = 0.0
    computed_calls: int = 0
    computed_usd: Decimal = Decimal(0)
    unpriced_calls: int = 0
    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    output_tokens: int | None = None
    saved_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class CostRow:
    """One group. None: not known."""

    group: dict[str, Any]
    calls: int
    cost_usd: float | None
    cost_source: Source | None
    usd_per_1k_calls: float | None
    unpriced_calls: int  # have tokens, and no cost or price: not in cost_usd
    input_tokens: int | None
    cache_read_tokens: int | None
    output_tokens: int | None
    cache_hit_rate: float | None  # of the input tokens, those read from the provider's cache
    saved_usd: float | None  # what caching saved by the prices; below 0: writing into it cost more

    def as_dict(self) -> dict[str, Any]:
        row = asdict(self)
        return {**row.pop("group"), **row}


class CostReport(Sequence[CostRow]):
    """Costs by group, dearest first. `total` is all of them; `price_versions` are those of computed costs."""

    def __init__(
        self, by: tuple[str, ...], rows: list[CostRow], total: CostRow, price_versions: list[str], notes: list[str]
    ) -> None:
        self.by = by
        self.total = total
        self.price_versions = price_versions
        self.notes = notes
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
            "notes": self.notes,
        }

    def cells(self) -> tuple[list[str], list[list[str]], set[int]]:
        """Header, rows and right-aligned columns, for people. A * marks costs that were computed, at least in part."""
        figures = ["calls", "cost", "per 1k", "in", "out", "cached", "saved"]
        shown = [*self, self.total] if len(self) > 1 and self.by else list(self)
        rows = []
        for row in shown:
            names = [clean(str(row.group[key])) if row.group.get(key) is not None else "–" for key in self.by]
            if row is self.total and self.by:
                names[0] = "total"
            mark = "*" if row.cost_source in ("computed", "both") else ""
            tokens = (short_count(row.input_tokens), short_count(row.output_tokens))
            rows.append(
                [
                    *names,
                    short_count(row.calls),
                    f"{format_cost(row.cost_usd)}{mark}",
                    format_cost(row.usd_per_1k_calls),
                    *tokens,
                    format_share(row.cache_hit_rate),
                    format_cost(row.saved_usd),
                ]
            )
        return [*map(clean, self.by), *figures], rows, set(range(len(self.by), len(self.by) + len(figures)))

    @property
    def remarks(self) -> list[str]:
        """What is to be known of these figures, a sentence each."""
        remarks = list(self.notes)
        if self.price_versions:
            remarks.insert(0, f"* computed from tokens: {', '.join(map(clean, self.price_versions))}")
        if count := self.total.unpriced_calls:
            remarks.append(f"{plural(count, 'call')} with tokens {'has' if count == 1 else 'have'} no known price")
        return remarks

    def __repr__(self) -> str:
        total = self.total
        return f"<CostReport {plural(len(self), 'row')}, {plural(total.calls, 'call')}, {format_cost(total.cost_usd)}>"

    def __str__(self) -> str:
        header, rows, right = self.cells()
        return "\n".join([*text_table(header, rows, right=right), *self.remarks])

    def _repr_html_(self) -> str:
        header, rows, right = self.cells()
        return html_table("; ".join([plural(self.total.calls, "call"), *self.remarks]), header, rows, right=right)


def report(spans: Callable[[str], Spans], filter: str, by: Sequence[str], prices: prices_of.Prices) -> CostReport:
    """`spans` gives the spans of the asked time that match a filter."""
    if isinstance(by, str):
        raise TypeError(f"by={by!r}: give a list of columns, such as by=[{by!r}]")
    keys = tuple(by)
    if wrong := {"calls", *_COUNTS, "cost_usd", "start_ns"} & set(keys):
        raise ValueError(f"by={list(keys)}: {min(wrong)} is a figure, not a group")

    def which(rule: str) -> Spans:
        return spans(f"({filter}) and {rule}" if filter.strip() else rule)

    groups: dict[Key, _Sums] = {}
    calls = which(CALLS).by(*keys).agg(spanbox_n="count()")
    for key, row in _grouped(calls, keys):
        groups.setdefault(key, _Sums()).calls = row["spanbox_n"]
    for key, row in _grouped(which(RECORDED).by(*keys).agg(spanbox_n="count()", spanbox_usd="sum(cost)"), keys):
        sums = groups.setdefault(key, _Sums())
        sums.recorded_calls, sums.recorded_usd = row["spanbox_n"], row["spanbox_usd"]
    figures = {f"spanbox_{name}": f"sum({name})" for name in ("input_tokens", "cache_read_tokens", "output_tokens")}
    tokens = which(TOKENS).by(*keys).agg(**figures, spanbox_told="count(cache_read_tokens)")
    for key, row in _grouped(tokens, keys):
        sums = groups.setdefault(key, _Sums())
        for name in figures:
            setattr(sums, name.removeprefix("spanbox_"), row[name])
        if not row["spanbox_told"]:
            sums.cache_read_tokens = None
    versions: set[str] = set()
    notes = list(calls.notes)
    try:
        _compute(which(UNPRICED), keys, prices, groups, versions)
        _savings(which(CACHED), keys, prices, groups)
    except prices_of.MissingExtra as error:
        notes.append(f"nothing is computed: {error}")
    rows = [_row(dict(zip(keys, key, strict=True)), sums) for key, sums in groups.items()]
    rows.sort(key=lambda row: (-(row.cost_usd or 0.0), -row.calls, str(list(row.group.values()))))
    return CostReport(keys, rows, _row({}, _total(groups.values())), sorted(versions), notes)


def _grouped(result: Result, keys: tuple[str, ...]) -> Iterator[tuple[Key, dict[str, Any]]]:
    for row in result:
        yield tuple(row[key] for key in keys), row


def _columns(spans: Spans, keys: tuple[str, ...]) -> tuple[list[Key], dict[str, list[Any]]]:
    names = list(dict.fromkeys((*keys, *_READ)))
    table = spans.columns(*names)._table()
    columns = {name: table.column(given) for name, given in zip(names, table.column_names, strict=True)}
    groups = list(zip(*(columns[key] for key in keys), strict=True)) if keys else [()] * table.rows
    models = [a or b for a, b in zip(columns["model"], columns["model_request"], strict=True)]
    about = {"provider": columns["provider"], "model": models, "at": columns["start_ns"]}
    return groups, {**about, **{name: columns[name] for name in _COUNTS}}


def _compute(
    spans: Spans, keys: tuple[str, ...], prices: prices_of.Prices, groups: dict[Key, _Sums], versions: set[str]
) -> None:
    found, columns = _columns(spans, keys)
    for key in found:
        groups.setdefault(key, _Sums()).unpriced_calls += 1
    for key, usd in zip(found, prices_of.price_columns(columns, prices, versions), strict=True):
        if usd is not None:
            sums = groups[key]
            sums.unpriced_calls -= 1
            sums.computed_calls += 1
            sums.computed_usd += usd


def _savings(spans: Spans, keys: tuple[str, ...], prices: prices_of.Prices, groups: dict[Key, _Sums]) -> None:
    found, columns = _columns(spans, keys)
    cached = [
        (read or 0) + (write or 0)
        for read, write in zip(columns["cache_read_tokens"], columns["cache_write_tokens"], strict=True)
    ]
    columns["input_tokens"] = [  # all in, also where the cached ones are provably beside
        None if tokens is None else tokens + (more if more > tokens else 0)
        for tokens, more in zip(columns["input_tokens"], cached, strict=True)
    ]
    nothing: list[int | None] = [0] * len(found)
    uncached = {**columns, "cache_read_tokens": nothing, "cache_write_tokens": nothing}
    costs = (prices_of.price_columns(each, prices, set()) for each in (uncached, columns))
    for key, without, with_cache in zip(found, *costs, strict=True):
        if without is not None and with_cache is not None:
            sums = groups.setdefault(key, _Sums())
            sums.saved_usd = (sums.saved_usd or Decimal(0)) + without - with_cache


def _plus(one: Any, other: Any) -> Any:
    return other if one is None else one if other is None else one + other


def _total(groups: Any) -> _Sums:
    total = _Sums()
    for sums in groups:
        for name in _Sums.__slots__:
            setattr(total, name, _plus(getattr(total, name), getattr(sums, name)))
    return total


def _row(group: dict[str, Any], sums: _Sums) -> CostRow:
    source: Source | None = None
    if sums.recorded_calls:
        source = "both" if sums.computed_calls else "recorded"
    elif sums.computed_calls:
        source = "computed"
    usd = None if source is None else sums.recorded_usd + float(sums.computed_usd)
    hits = sums.cache_read_tokens
    return CostRow(
        group=group,
        calls=sums.calls,
        cost_usd=usd,
        cost_source=source,
        usd_per_1k_calls=None if usd is None or not sums.calls else 1_000 * usd / sums.calls,
        unpriced_calls=sums.unpriced_calls,
        input_tokens=sums.input_tokens,
        cache_read_tokens=sums.cache_read_tokens,
        output_tokens=sums.output_tokens,
        cache_hit_rate=hits / sums.input_tokens if sums.input_tokens and hits is not None else None,
        saved_usd=None if sums.saved_usd is None else float(sums.saved_usd),
    )
