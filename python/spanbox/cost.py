"""What model calls cost, in US dollars, exact to the last digit, with the price list that was used.

    cost = spanbox.cost.of(provider="openai", model="gpt-5", usage=reply.usage)
    cost.usd, cost.parts, cost.price_version

Prices are those of genai-prices (extra `cost`) or of a file of its format; override() and load() put prices of your own
before them. Nothing is downloaded, and nothing guessed:
what has no price has `known=False` and says why.

Thread rule: everything here may be called from any thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from spanbox import _overrides
from spanbox._overrides import Override
from spanbox._price_files import Loaded, own, read_file
from spanbox._price_rows import COLUMNS, SHORT, Pricing, long_cost, usd_of
from spanbox._price_table import MissingExtra, PriceTable, installed_prices, known_units, prices_from, provider_id
from spanbox._rates import Rate
from spanbox._time import Moment, moment_ns
from spanbox._usage import STANDARD_TIERS, Count, UsageError, read_usage

__all__ = [
    "COLUMNS",
    "Cost",
    "Loaded",
    "MissingExtra",
    "Override",
    "Prices",
    "clear",
    "load",
    "of",
    "of_columns",
    "override",
    "overrides",
]

_ZERO = Decimal(0)
Prices = str | os.PathLike[str] | None


@dataclass(frozen=True, slots=True)
class Cost:
    """The price of one call. `parts` are disjoint and add up to `usd`: of input_tokens they hold what was not cached.

    Without a price `known` is False, `usd` None and `reason` says why. With one, `reason` is empty, or names what was
    used besides and has no price in the list, such as a web search.
    """

    usd: Decimal | None
    parts: Mapping[str, tuple[Count, Decimal]]
    price_version: str
    provider: str | None
    model: str | None
    known: bool = True
    reason: str = ""

    def __repr__(self) -> str:
        named = "/".join(each for each in (self.provider, self.model) if each)
        price = f"${self.usd:f}" if self.usd is not None else "unknown"
        return f"<Cost {price} {named}, {self.price_version}{': ' if self.reason else ''}{self.reason}>"


def of(
    *,
    provider: str | None = None,
    model: str | None,
    usage: object,
    at: Moment | None = None,
    tier: str | None = None,
    prices: Prices = None,
) -> Cost:
    """The cost of one call.

    usage: what the provider's reply says it used, or the whole reply, as a mapping or as its client's object; or a
    mapping of a span's token columns. at: when the call was made (now), for prices that change. tier: "batch", "flex",
    "priority", by default what the usage names. prices: a JSON file of genai-prices' format instead of the installed
    list.
    """
    at_ns = moment_ns(at, what="at")
    name = provider_id(provider)
    version = ""
    try:
        if not model or not isinstance(model, str):
            raise UsageError("no model is given")
        counts, named_tier = read_usage(usage, name, known_units())
        rate = _Lists(prices).rate(name, model, time.time_ns() if at_ns is None else at_ns, _tier(tier, named_tier))
        if isinstance(rate, str):
            raise UsageError(rate)
        version = rate.version
        return _priced(rate, counts)
    except UsageError as error:
        return Cost(None, {}, version, name, model or None, False, str(error))


class _Lists:
    """Your own prices, then a price list, which is read when it is needed."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._table: PriceTable | None = None
        self._times: dict[tuple[Rate, str, Decimal], Rate] = {}

    def find(self, provider: str | None, model: str, at_ns: int, tier: str) -> tuple[Rate | str, int]:
        """The rate, and how long it holds: to the next multiple of so many ns."""
        rate = self.rate(provider, model, at_ns, tier)
        if _overrides.every():  # of which any may begin or end at any moment
            return rate, 1
        return rate, self._table.holds_ns(provider, model, tier) if self._table else 1

    def rate(self, provider: str | None, model: str, at_ns: int, tier: str = "") -> Rate | str:
        own = _overrides.find(provider, model, at_ns, tier)
        if isinstance(own, Rate):
            return own
        if self._table is None:
            self._table = installed_prices() if self._prices is None else prices_from(self._prices)
        if own is None or own.listed is None:
            return self._table.rate(provider, model, at_ns, tier)
        listed = own.listed
        rate = self._table.rate(listed.provider or provider, listed.model or model, at_ns, tier)
        if isinstance(rate, str):
            return rate
        key = (rate, own.name, listed.share)
        if key not in self._times:
            self._times[key] = rate.times(listed.share, f"{own.name}, {rate.version}")
        return self._times[key]


def _tier(asked: str | None, named: str) -> str:
    if asked is None:
        return named
    return "" if asked.lower() in ("standard", "default") else asked.lower()


def _priced(rate: Rate, counts: Mapping[str, Count]) -> Cost:
    parts = rate.parts(counts)
    unpriced = rate.unpriced(counts)
    missing = f"no price for {', '.join(f'{name}={counts[name]}' for name in unpriced)}" if unpriced else ""
    if any(name.endswith("_tokens") for name in unpriced):
        return Cost(None, {}, rate.version, rate.provider, rate.model, False, missing)
    usd = sum([usd for _, usd in parts.values()], _ZERO)
    return Cost(usd, parts, rate.version, rate.provider, rate.model, True, missing)


def of_columns(
    *,
    provider: str | Sequence[str | None] | None,
    model: str | Sequence[str | None] | None,
    at: Moment | Sequence[int] | None = None,
    prices: Prices = None,
    **columns: Sequence[int | None],
) -> list[Decimal | None]:
    """The costs of many calls by the columns of their spans, None where there is no price.

    provider, model and at are one for all, or one a call (at: nanoseconds since 1970); the others are COLUMNS, of one
    length. What a cost is made of, or why there is none, tells of().
    """
    if unknown := columns.keys() - COLUMNS.keys():
        raise TypeError(f"of_columns() has no column {min(unknown)!r}; there are {', '.join(COLUMNS)}")
    if not columns:
        raise TypeError(f"of_columns() needs a column of counts; there are {', '.join(COLUMNS)}")
    length = len(next(iter(columns.values())))
    providers = [provider] * length if provider is None or isinstance(provider, str) else provider
    models = [model] * length if model is None or isinstance(model, str) else model
    if at is None or not isinstance(at, Sequence) or isinstance(at, str):
        one = moment_ns(at, what="at")
        moments: Sequence[int] = [time.time_ns() if one is None else one] * length
    else:
        moments = at
    return price_columns({"provider": providers, "model": models, "at": moments, **columns}, prices, set())


def price_columns(columns: Mapping[str, Sequence[Any]], prices: Prices, versions: set[str]) -> list[Decimal | None]:
    """of_columns() for whole columns; the versions of the prices used are added to `versions`."""
    pricing = pricing_of(prices)
    ids = {name: provider_id(name) for name in set(columns["provider"])}
    nothing: Sequence[Any] = [None] * len(columns["model"])
    every = {**dict.fromkeys(SHORT, nothing), "tier": [""] * len(nothing), **columns}
    every["provider"] = [ids[name] for name in columns["provider"]]
    short = columns.keys() & COLUMNS.keys() <= set(SHORT)
    found = pricing.costs(every) if short else _long_costs(pricing, every)
    versions |= pricing.versions
    return [None if money is None else usd_of(money) for money in found]


def _long_costs(pricing: Pricing, columns: Mapping[str, Sequence[Any]]) -> list[int | None]:
    names = [name for name in columns if name in COLUMNS]
    about = zip(*(columns[name] for name in ("provider", "model", "at", "tier", *names)), strict=True)
    found: list[int | None] = []
    for provider, model, at_ns, tier, *counts in about:
        row = pricing.row(provider, model, at_ns, tier)
        told = {COLUMNS[name]: count for name, count in zip(names, counts, strict=True) if count is not None}
        found.append(None if row is None else long_cost(row.rate, told))
        if row is not None and found[-1] is not None:
            pricing.versions.add(row.rate.version)
    return found


def pricing_of(prices: Prices) -> Pricing:
    """Of many calls; providers by their names in the price list (provider_id)."""
    return Pricing(_Lists(prices).find)


def tier_of(told: object) -> str:
    """The tier that a price list knows, by what a reply or an attribute calls it."""
    name = told.lower() if isinstance(told, str) else ""
    return "" if name in STANDARD_TIERS else name


def override(
    *,
    model: str,
    provider: str | None = None,
    tier: str | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    name: str | None = None,
    like: str | None = None,
    discount: float | str | Decimal | None = None,
    **prices: float | str | Decimal | None,
) -> None:
    """Prices of your own for a model, before those of any list: input_per_million=, output_per_million=,
    cache_read_per_million= and the like (docs/cost.md), in US dollars. Or those of the list: like="gpt-4o" for the name
    of a deployment, discount=0.15 for 15 % less (below 0: more).

    In `model` a * stands for anything. They hold for calls from `since` and before `until`; of two the one given last.
    tier: prices are for the standard one unless told, those of the list for all. Costs carry `name` as their
    price_version. Kept in memory: a file is for load().
    """
    made = own(
        name=name, provider=provider, model=model, tier=tier, since=since, until=until, like=like, discount=discount,
        prices=prices,
    )  # fmt: skip
    _overrides.add([made])


def load(path: str | os.PathLike[str]) -> Loaded:
    """Takes the prices of a file as override() does: of our own TOML or JSON, of LiteLLM, or of Langfuse.

    Raises ValueError with the place of what is wrong; then nothing of the file holds.
    """
    found, loaded = read_file(Path(path))
    _overrides.add(found)
    return loaded


def overrides() -> tuple[Override, ...]:
    """The prices that override() and load() have set, those that are asked first at the beginning."""
    return _overrides.every()


def clear(name: str | None = None) -> int:
    """Takes them back: all of them, or those of a name; the number of them."""
    return _overrides.clear(name)
