"""Prices of many calls at once: a rate as a row of whole numbers, which gives the same cost as Rate.parts() to the last
digit in a tenth of the time.

A row is used where it is exact: for counts that are whole and contain one another as they should. Every other call goes
the long way.
Thread rule: a Pricing belongs to one thread; the functions may be called from any.
Units: money is a whole number of 10^-30 US dollars.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Context, Decimal
from typing import Any, NamedTuple

from spanbox._rates import Rate
from spanbox._usage import Count, UsageError, count_of

COLUMNS = {  # of spans, and the units they count
    "input_tokens": "input_tokens",
    "cache_read_tokens": "cache_read_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "output_tokens": "output_tokens",
    "reasoning_tokens": "output_reasoning_tokens",
    "input_audio_tokens": "input_audio_tokens",
    "output_audio_tokens": "output_audio_tokens",
    "input_image_tokens": "input_image_tokens",
    "output_image_tokens": "output_image_tokens",
}
SHORT = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")

_UNITS = tuple(COLUMNS[name] for name in SHORT)
_PLACES = -30
_EXACT = Context(prec=80)
_BASE = dict.fromkeys(_UNITS, 10) | {"input_tokens": 100, "output_tokens": 100}


class Tier(NamedTuple):
    start: int  # it holds for more input tokens than this
    fixed: int  # a call, whatever it used
    each: tuple[int, int, int, int, int]  # one more of each of SHORT


class Row(NamedTuple):
    rate: Rate
    tiers: tuple[Tier, ...]  # the highest first; empty: the rate is no row
    without_price: tuple[int, ...]  # places in SHORT


def row_of(rate: Rate) -> Row:
    """Found by asking the rate what one more costs, so that there is one arithmetic of parts and wholes."""
    without = tuple(place for place, unit in enumerate(_UNITS) if rate.unpriced({unit: 1}))
    base: dict[str, int] = {unit: 0 if place in without else _BASE[unit] for place, unit in enumerate(_UNITS)}
    starts = sorted({0, *rate.tier_starts()})
    tiers = []
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        base["input_tokens"] = 0 if 0 in without else max(start + 1, 100)
        if following is not None and base["input_tokens"] + 1 > following:
            return Row(rate, (), without)
        try:
            at = _money(rate, base)
            each = [0 if i in without else _money(rate, {**base, u: base[u] + 1}) - at for i, u in enumerate(_UNITS)]
        except UsageError:
            return Row(rate, (), without)
        fixed = at - sum(price * base[unit] for price, unit in zip(each, _UNITS, strict=True))
        a, b, c, d, e = each
        tiers.append(Tier(start, fixed, (a, b, c, d, e)))
    return Row(rate, tuple(reversed(tiers)), without)


def _money(rate: Rate, counts: Mapping[str, Count]) -> int:
    return int(_EXACT.scaleb(sum([usd for _, usd in rate.parts(counts).values()], Decimal(0)), -_PLACES))


def usd_of(money: int) -> Decimal:
    """Exact, without zeros at the end."""
    usd = _EXACT.scaleb(Decimal(money), _PLACES).normalize(_EXACT)
    return usd.quantize(Decimal(1), context=_EXACT) if usd == usd.to_integral_value() else usd


def long_cost(rate: Rate, counts: dict[str, Any]) -> int | None:
    """The cost of counts of any units and of any kind."""
    try:
        for name, count in counts.items():
            counts[name] = count_of(name, count)
        cached = counts.get("cache_read_tokens", 0) + counts.get("cache_write_tokens", 0)
        if cached and "input_tokens" in counts and cached > counts["input_tokens"]:
            counts["input_tokens"] += cached  # proven to be counted beside it
        return None if not counts or rate.unpriced(counts) else _money(rate, counts)
    except UsageError:
        return None


class Pricing:
    """The rates of many calls, each looked up once for as long as it holds.

    find(provider, model, at_ns, tier) gives a rate or why there is none, and for how many ns around it does.
    """

    def __init__(self, find: Callable[[str | None, str, int, str], tuple[Rate | str, int]]) -> None:
        self.versions: set[str] = set()
        self._find = find
        self._steps: dict[tuple[Any, ...], int] = {}
        self._rows: dict[tuple[Any, ...], Row | None] = {}

    def row(self, provider: str | None, model: Any, at_ns: int, tier: str = "") -> Row | None:
        """None where nothing is known of the model, or the model is none."""
        step = self._steps.get((provider, model, tier))
        if step:
            dated = (provider, model, tier, at_ns // step)
            if dated in self._rows:
                return self._rows[dated]
        if not model or not isinstance(model, str):
            return None
        rate, step = self._find(provider, model, at_ns, tier)
        row = None if isinstance(rate, str) else row_of(rate)
        self._steps[provider, model, tier] = step
        self._rows[provider, model, tier, at_ns // step] = row
        return row

    def costs(self, columns: Mapping[str, Sequence[Any]]) -> list[int | None]:
        """The cost of each call, None where there is no price. `columns` has provider (as provider_id() gives it),
        model, at (ns), tier, and SHORT. The versions of the prices used are kept."""
        found: list[int | None] = []
        names = ("provider", "model", "at", "tier", *SHORT)
        for provider, model, at_ns, tier, *counts in zip(*(columns[name] for name in names), strict=True):
            row = self.row(provider, model, at_ns, tier)
            if row is None:
                found.append(None)
                continue
            money = _short(row, *counts)
            if money is None:
                units = zip(_UNITS, counts, strict=True)
                money = long_cost(row.rate, {unit: count for unit, count in units if count is not None})
            if money is not None:
                self.versions.add(row.rate.version)
            found.append(money)
        return found


def _short(row: Row, total: Any, read: Any, written: Any, output: Any, reasoning: Any) -> int | None:
    """None: the long way is to be gone."""
    r, w, o, q = read or 0, written or 0, output or 0, reasoning or 0
    if not type(total) is type(r) is type(w) is type(o) is type(q) is int:
        return None
    if not (r >= 0 and w >= 0 and r + w <= total and 0 <= q <= o):
        return None
    if row.without_price and any((total, r, w, o, q)[place] for place in row.without_price):
        return None
    for start, fixed, (a, b, c, d, e) in row.tiers:
        if total > start or start == 0:
            return fixed + a * total + b * r + c * w + d * o + e * q
    return None
