"""What a model's units cost at one moment, and the arithmetic from counts to US dollars, exact in decimal.

Immutable after construction: any thread may use a Rate.

1. The counts of the parts are disjoint: of a unit its priced parts are taken out (input without what was cached).
2. The usd of the parts add up to the whole, to the last digit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple

from spanbox._usage import Count, UsageError

Dimensions = frozenset[tuple[str, str]]
Part = tuple[Count, Decimal]  # how many, US dollars


class Unit(NamedTuple):
    """Something that is counted. A unit with more dimensions is a part of one with fewer of the same."""

    name: str
    per: int
    dimensions: Dimensions


class Price(NamedTuple):
    """US dollars for `per` of a unit; above a tier's start of input tokens its price holds for all of them."""

    base: Decimal
    tiers: tuple[tuple[int, Decimal], ...] = ()  # ascending


def _token(name: str, *, kind: str = "", **dimensions: str) -> Unit:
    if kind:
        dimensions["token_type"] = kind
    return Unit(name, 1_000_000, frozenset({"family": "tokens", **dimensions}.items()))


UNITS = {  # those that span columns and price files of others know; names are those of genai-prices
    unit.name: unit
    for unit in (
        _token("input_tokens", direction="input"),
        _token("output_tokens", direction="output"),
        _token("cache_read_tokens", direction="input", kind="cache_read"),
        _token("cache_write_tokens", direction="input", kind="cache_write"),
        _token("cache_write_5m_tokens", direction="input", kind="cache_write", cache_ttl="5m"),
        _token("cache_write_1h_tokens", direction="input", kind="cache_write", cache_ttl="1h"),
        _token("input_audio_tokens", direction="input", modality="audio"),
        _token("output_audio_tokens", direction="output", modality="audio"),
        _token("cache_audio_read_tokens", direction="input", modality="audio", kind="cache_read"),
        _token("input_image_tokens", direction="input", modality="image"),
        _token("output_image_tokens", direction="output", modality="image"),
        _token("output_reasoning_tokens", direction="output", kind="reasoning"),
        Unit("web_searches", 1_000, frozenset({("family", "tool_calls"), ("tool_type", "web_search")})),
        Unit("requests", 1_000, frozenset({("family", "requests")})),
    )
}


class _Term(NamedTuple):
    unit: str
    usd: Decimal  # for one, or for `per` where that is no decimal
    tiers: tuple[tuple[int, Decimal], ...]
    per: int
    parts: tuple[int, ...]  # of the terms before this one, those that are a part of it
    finer: frozenset[str]  # units that cannot be there without this one
    crossing: tuple[tuple[str, str], ...]  # pairs of units of which this one is the intersection


class Rate:
    """The prices of one model."""

    __slots__ = ("_covers", "_flat", "_prices", "_terms", "_units", "model", "provider", "version")

    def __init__(
        self, prices: Mapping[str, Price], units: Mapping[str, Unit], *, provider: str, model: str, version: str
    ) -> None:
        self.provider, self.model, self.version = provider, model, version
        self._prices = prices
        self._units = units
        self._covers = {
            name: any(units[priced].dimensions <= unit.dimensions for priced in prices) for name, unit in units.items()
        }
        finest_first = sorted((units[name] for name in prices), key=lambda unit: (-len(unit.dimensions), unit.name))
        self._terms = tuple(
            _Term(
                unit.name,
                *_for_one(prices[unit.name], unit.per),
                tuple(i for i, part in enumerate(finest_first[:at]) if unit.dimensions < part.dimensions),
                frozenset(each.name for each in units.values() if unit.dimensions < each.dimensions),
                tuple(_crossings(unit, units.values())),
            )
            for at, unit in enumerate(finest_first)
        )
        self._flat = not any(term.tiers for term in self._terms)

    def times(self, share: Decimal, version: str) -> Rate:
        """The same prices, each times `share`."""
        prices = {
            name: Price(price.base * share, tuple((start, usd * share) for start, usd in price.tiers))
            for name, price in self._prices.items()
        }
        return Rate(prices, self._units, provider=self.provider, model=self.model, version=version)

    def tier_starts(self) -> set[int]:
        """Numbers of input tokens above which other prices hold."""
        return {start for term in self._terms for start, _ in term.tiers}

    def parts(self, counts: Mapping[str, Count]) -> dict[str, Part]:
        """The parts of the price that are not zero in number; UsageError for counts that contradict each other."""
        found: dict[str, Part] = {}
        alone: list[Count] = []
        whole_input = 0 if self._flat else self._whole_input(counts)
        for term in self._terms:
            if term.unit == "requests":
                count: Count = 1
            else:
                given = counts.get(term.unit)
                count = self._missing(term, counts) if given is None else given
                for i in term.parts:
                    count -= alone[i]
                if count < 0:
                    raise UsageError(self._contradiction(term, counts))
            alone.append(count)
            if count:
                price = term.usd
                for start, tier_price in term.tiers:
                    if whole_input > start:
                        price = tier_price
                found[term.unit] = (count, price * count if term.per == 1 else price * count / term.per)
        return found

    def unpriced(self, counts: Mapping[str, Count]) -> list[str]:
        """The units of a usage that no price of this model covers."""
        return sorted([name for name, count in counts.items() if count and not self._covers.get(name)])

    def _missing(self, term: _Term, counts: Mapping[str, Count]) -> Count:
        """The count of a unit that is not given: none, unless others say that there were some."""
        finer = [] if term.finer.isdisjoint(counts) else sorted(name for name in term.finer if counts.get(name))
        if finer:
            raise UsageError(f"{finer[0]} is given without {term.unit}, of which it is a part")
        for one, other in term.crossing:
            if counts.get(one) and counts.get(other):
                raise UsageError(f"{one} and {other} are given, but not how many are both ({term.unit})")
        return 0

    def _whole_input(self, counts: Mapping[str, Count]) -> Count:
        count = counts.get("input_tokens")
        if count is None and any(
            counts[name] and ("direction", "input") in self._units[name].dimensions
            for name in counts.keys() & self._units.keys()
        ):
            raise UsageError("the price depends on input_tokens, which is not given")
        return count or 0

    def _contradiction(self, term: _Term, counts: Mapping[str, Count]) -> str:
        parts = ", ".join(
            f"{self._terms[i].unit}={counts[self._terms[i].unit]}"
            for i in term.parts
            if counts.get(self._terms[i].unit)
        )
        return f"{parts} is more than {term.unit}={counts.get(term.unit, 0)}, of which it is a part"


def _for_one(price: Price, per: int) -> tuple[Decimal, tuple[tuple[int, Decimal], ...], int]:
    zeros = str(per).count("0")
    if per != 10**zeros:  # seconds of an hour: dividing last keeps every digit that there is
        return price.base, price.tiers, per
    return price.base.scaleb(-zeros), tuple((start, usd.scaleb(-zeros)) for start, usd in price.tiers), 1


def _crossings(unit: Unit, units: Iterable[Unit]) -> Iterable[tuple[str, str]]:
    above = [each for each in units if each.dimensions < unit.dimensions]
    for i, one in enumerate(above):
        for other in above[i + 1 :]:
            nested = one.dimensions <= other.dimensions or other.dimensions <= one.dimensions
            if not nested and one.dimensions | other.dimensions == unit.dimensions:
                yield one.name, other.name
