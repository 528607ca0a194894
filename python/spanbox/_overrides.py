"""Prices of your own, which come before the price list: contracts, and the price files of others.

Thread rule: everything may be called from any thread; a question sees all prices of a file, or none.
Kept in memory, for this process.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from spanbox import _core
from spanbox._rates import UNITS, Price, Rate

_MOST_ANSWERS = 10_000
_LONGEST_MODEL = 300

PER_MILLION = {  # keyword of override(), and the unit it prices
    "input_per_million": "input_tokens",
    "output_per_million": "output_tokens",
    "cache_read_per_million": "cache_read_tokens",
    "cache_write_per_million": "cache_write_tokens",
    "cache_write_5m_per_million": "cache_write_5m_tokens",
    "cache_write_1h_per_million": "cache_write_1h_tokens",
    "reasoning_per_million": "output_reasoning_tokens",
    "input_audio_per_million": "input_audio_tokens",
    "output_audio_per_million": "output_audio_tokens",
    "cache_audio_read_per_million": "cache_audio_read_tokens",
    "input_image_per_million": "input_image_tokens",
    "output_image_per_million": "output_image_tokens",
}
PER_THOUSAND = {"web_searches_per_thousand": "web_searches", "requests_per_thousand": "requests"}


class Match(NamedTuple):
    """A test of a model's name, and the same as a pattern of RE2, for _core."""

    test: Callable[[str], object]
    pattern: str


class Listed(NamedTuple):
    """Prices that are those of the list for a model, times `share`."""

    share: Decimal
    provider: str | None  # None: the call's
    model: str | None  # None: the call's


@dataclass(frozen=True, slots=True)
class Override:
    """The prices of the models that match, from one moment to another."""

    name: str
    model: str  # as it was written
    matches: Match
    prices: Mapping[str, Price]
    provider: str | None = None  # None: of all
    matches_alone: Match | None = None  # where a call names no provider, if that differs
    tier: str | None = ""  # None: every one
    since_ns: int | None = None
    until_ns: int | None = None
    listed: Listed | None = None  # then `prices` is empty

    def rate(self, provider: str | None) -> Rate:
        return Rate(self.prices, UNITS, provider=provider or self.provider or "", model=self.model, version=self.name)

    def is_for(self, provider: str | None, model: str, tier: str) -> bool:
        if self.tier not in (None, tier) or (provider and self.provider and provider != self.provider):
            return False
        matches = self.matches if provider else self.matches_alone or self.matches
        return len(model) <= _LONGEST_MODEL and bool(matches.test(model))

    def holds(self, at_ns: int) -> bool:
        after = self.since_ns is None or at_ns >= self.since_ns
        return after and (self.until_ns is None or at_ns < self.until_ns)


def glob(model: str) -> Match:
    """Matches a model's name, in which * stands for anything; upper and lower case are the same."""
    return _whole(".*".join(map(re.escape, model.split("*"))))


def one_of(names: set[str]) -> Match:
    """Names in lower case."""
    return Match(lambda model: model.lower() in names, _whole("|".join(map(re.escape, sorted(names)))).pattern)


def _whole(pattern: str) -> Match:
    return Match(re.compile(pattern, re.IGNORECASE | re.DOTALL).fullmatch, rf"(?is)\A(?:{pattern})\z")


_lock = threading.Lock()
_overrides: tuple[Override, ...] = ()  # the newest first
_answers: dict[tuple[str | None, str, str], tuple[tuple[Override, Rate | Override], ...]] = {}


def add(overrides: Sequence[Override]) -> None:
    """Of two for one call the one that was added last holds, or is further down in its file."""
    global _overrides, _answers
    with _lock:
        _overrides, _answers = (*reversed(overrides), *_overrides), {}
        _tell()


def clear(name: str | None) -> int:
    global _overrides, _answers
    with _lock:
        kept = tuple(each for each in _overrides if name is not None and each.name != name)
        gone = len(_overrides) - len(kept)
        _overrides, _answers = kept, {}
        _tell()
    return gone


def _tell() -> None:
    """What is recorded from now on is priced by them, too."""
    from spanbox._price_compile import compile_own

    _core.set_own_prices(compile_own(_overrides))


def every() -> tuple[Override, ...]:
    return _overrides


def find(provider: str | None, model: str, at_ns: int, tier: str) -> Rate | Override | None:
    """The rate of the override for a call; itself where that is to be made of the list."""
    if not _overrides:
        return None
    key = (provider, model, tier)
    answers = _answers
    found = answers.get(key)
    if found is None:
        with _lock:  # answers and overrides of the same time
            answers, overrides = _answers, _overrides
        which = [each for each in overrides if each.is_for(provider, model, tier)]
        found = tuple((each, each.rate(provider) if each.listed is None else each) for each in which)
        if len(answers) >= _MOST_ANSWERS:
            answers.clear()
        answers[key] = found
    return next((rate for override, rate in found if override.holds(at_ns)), None)


def per_million(usd_per_token: Decimal) -> Decimal:
    return usd_per_token.scaleb(6)
