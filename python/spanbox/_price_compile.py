"""Price lists as _core reads them (cpp/src/wire/price_list.h): rules for names, and rates as rows of whole numbers.

A rate that is no such row is left out, with its model: its calls are priced when somebody asks (spanbox.cost).
Thread rule: functions; call from any thread.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Any

from spanbox._price_rows import row_of
from spanbox._price_table import BEGINNINGS, PROVIDER_NAMES, Found, PriceTable
from spanbox._rates import Rate
from spanbox._usage import STANDARD_TIERS

if TYPE_CHECKING:
    from spanbox._overrides import Listed, Override

_DAY_S = 86_400
_NS = 1_000_000_000
_TIERS = ("", "batch", "flex", "priority", "fast")
_TEXT_CLAUSES = {"starts_with": "^", "ends_with": "$", "contains": "*", "equals": "="}
_WITHOUT = re.compile(r"\^\(\?!((?:[^()\[\]]|\[[^\]]*\]|\([^()]*\))*)\)")  # ^(?!...): what must not be there


class _Rates:
    """Rows, each once, by number."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._numbers: dict[str, int] = {}

    def number(self, rate: Rate | str) -> int | None:
        row = None if isinstance(rate, str) else row_of(rate)
        if row is None or not row.tiers:
            return None
        tiers = [[tier.start, str(tier.fixed), *map(str, tier.each)] for tier in row.tiers]
        compiled = {"tiers": tiers, "without": list(row.without_price)}
        key = json.dumps(compiled)
        if key not in self._numbers:
            self._numbers[key] = len(self.rows)
            self.rows.append(compiled)
        return self._numbers[key]


def compile_list(table: PriceTable) -> str:
    """The whole list, for a file."""
    rates = _Rates()
    providers = [
        {
            "id": provider.id,
            "matches": _clause(provider.provider_match),
            "matches_models": _clause(provider.model_match),
            "fallbacks": list(provider.fallback_model_providers or ()),
            "models": [
                {"matches": _clause(model.match), "prices": _prices(table, provider.id, model, rates)}
                for model in provider.models
            ],
        }
        for provider in table.providers
    ]
    return _document(table.version, rates, providers=providers)


def compile_own(overrides: Iterable[Override]) -> str:
    """Prices of one's own, those that are asked first at the beginning."""
    rates = _Rates()
    own = []
    for each in overrides:
        rate = rates.number(each.rate(each.provider)) if each.listed is None else None
        bounds = {"since_ns": each.since_ns, "until_ns": each.until_ns, "rate": rate}
        own.append(
            {
                "provider": each.provider or "",
                "matches": ["~", each.matches.pattern],
                "matches_alone": ["~", (each.matches_alone or each.matches).pattern],
                "tier": each.tier or "",
                "every_tier": int(each.tier is None),
                "version": each.name,
                **{key: value for key, value in bounds.items() if value is not None},
                **(_listed(each.listed) if each.listed is not None else {}),
            }
        )
    return _document("", rates, own=own)


def _listed(listed: Listed) -> dict[str, Any]:
    return {
        "billionths": int(listed.share.scaleb(9)),
        "like_provider": listed.provider or "",
        "like": listed.model or "",
    }


def _document(version: str, rates: _Rates, **more: Any) -> str:
    names = {
        "beginnings": [[beginning, id] for beginnings, id in BEGINNINGS for beginning in beginnings],
        "names": [list(pair) for pair in PROVIDER_NAMES.items()],
        "standard_tiers": sorted(STANDARD_TIERS),
    }
    empty: dict[str, Any] = {"providers": [], "own": []}
    return json.dumps({"version": version, **names, "rates": rates.rows, **empty, **more}, separators=(",", ":"))


def _clause(clause: Any) -> list[Any] | None:
    """As NameTest has it: a kind of test, and a text or tests."""
    if clause is None:
        return None
    for name, kind in (("or_", "|"), ("and_", "&")):
        if hasattr(clause, name):
            return [kind, *map(_clause, getattr(clause, name))]
    if hasattr(clause, "regex"):
        return _pattern(clause.regex)
    [(name, text)] = vars(clause).items()
    return [_TEXT_CLAUSES[name], text.lower()]


def _pattern(text: str) -> list[Any]:
    """RE2 knows no lookahead: one at the beginning becomes a test of its own."""
    without = _WITHOUT.match(text)
    if without is None:
        return ["~", text]
    rest = text[without.end() :]
    not_there: list[Any] = ["!", ["~", f"^(?:{without[1]})"]]
    return ["&", not_there, ["~", f"^(?:{rest})"]] if rest else not_there


def _prices(table: PriceTable, provider: str, model: Any, rates: _Rates) -> list[dict[str, Any]]:
    variants = tuple(model.price_variants or ())
    dated = [*(model.prices if isinstance(model.prices, list) else ()), *variants]
    constraints = [each.constraint for each in dated if each.constraint is not None]
    days = sorted({_midnight_s(each.start_date) for each in constraints if hasattr(each, "start_date")})
    clocks = sorted({0, *(s for each in constraints if hasattr(each, "start_time") for s in _clock_s(each))})
    found = []
    for tier in _TIERS:
        fitting = table.variants(model, tier)
        if tier and not fitting:
            continue
        for since_s, until_s in zip([None, *days], [*days, None], strict=True):
            at_s = since_s if since_s is not None else (until_s - _DAY_S if until_s is not None else 0)
            for from_s, to_s in zip(clocks, [*clocks[1:], _DAY_S], strict=True):
                rate = table.resolve(Found(provider, model, fitting, 1), tier, (at_s + from_s) * _NS)
                price = {
                    "tier": tier,
                    "since_ns": None if since_s is None else since_s * _NS,
                    "until_ns": None if until_s is None else until_s * _NS,
                    "from_s": from_s or None,
                    "to_s": None if to_s == _DAY_S else to_s,
                    "rate": rates.number(rate),
                }
                if price["rate"] is not None:
                    found.append({key: value for key, value in price.items() if value is not None and value != ""})
    return found


def _midnight_s(day: Any) -> int:
    return int(datetime.combine(day, time(), UTC).timestamp())


def _clock_s(constraint: Any) -> list[int]:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    moments = (constraint.start_time, constraint.end_time)
    aware = [each if each.tzinfo else each.replace(tzinfo=UTC) for each in moments]
    return [int(datetime.combine(epoch.date(), each).timestamp()) % _DAY_S for each in aware]
