"""The price list of genai-prices, as it is installed or from a file of its format, turned into Rates.

Thread rule: a PriceTable may be used from any thread; rates found are kept for the next question.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from spanbox._rates import UNITS, Price, Rate, Unit

_SECOND_NS = 1_000_000_000
_DAY_NS = 86_400 * _SECOND_NS
_FOREVER_NS = 1 << 63
_MOST_RATES = 10_000  # kept; prices that change with the hour have many
_MAX_FILE_BYTES = 64_000_000
_MAX_CLAUSE_DEPTH = 16
_MAX_PATTERN = 2_000  # characters

PROVIDER_NAMES = {  # names in OpenTelemetry and in frameworks that the list itself does not know
    "x_ai": "x-ai",
    "xai": "x-ai",
    "mistral_ai": "mistral",
    "moonshot_ai": "moonshotai",
    "fireworks_ai": "fireworks",
}
BEGINNINGS = (  # such as azure.ai.openai, vertex_ai-language-models, bedrock_converse, openai.responses
    (("azure", "az."), "azure"),
    (("gcp.", "vertex", "gemini", "google"), "google"),
    (("aws", "bedrock", "amazon"), "aws"),
    (("openai.", "text-completion-openai"), "openai"),
    (("anthropic.",), "anthropic"),
)
GATEWAY = "litellm"  # names the provider in the model's name, as calls without a provider may
_CONTEXTS = {"batch": {"processing": "batch"}, "fast": {"service_tier": "fast", "speed": "fast"}}


class MissingExtra(ImportError):
    """genai-prices is not installed."""


class Found(NamedTuple):
    """A model, the variants of its price that a tier asks for, and how long a rate of it holds."""

    provider: str
    model: Any
    variants: tuple[Any, ...]
    step_ns: int


def provider_id(name: str | None) -> str | None:
    """The price list's name of a provider."""
    if not name or not isinstance(name, str):  # a store has what a program put there
        return None
    lower = name.strip().lower()
    known = next((id for beginnings, id in BEGINNINGS if lower.startswith(beginnings)), None)
    return known or PROVIDER_NAMES.get(lower, lower)


class PriceTable:
    """Finds the Rate of a model at a moment."""

    def __init__(self, providers: list[Any], version: str) -> None:
        from genai_prices.data_snapshot import DataSnapshot, find_provider_by_id
        from genai_prices.data_units import unit_data

        self.version = version
        self.providers = providers
        self.units = {
            name: Unit(name, raw["per"], frozenset(raw["dimensions"].items())) for name, raw in unit_data.items()
        }
        self._unit_of_price = {raw.get("price_key", name): name for name, raw in unit_data.items()}
        self._by_id = find_provider_by_id
        self._snapshot = DataSnapshot(providers=providers, from_auto_update=False)
        self._found: dict[tuple[str | None, str, str], Found | str] = {}
        self._rates: dict[tuple[str | None, str, str, int], Rate | str] = {}

    def rate(self, provider: str | None, model: str, at_ns: int, tier: str = "") -> Rate | str:
        """The prices of a model at a moment, or the reason why there are none. `provider` as of provider_id()."""
        key = (provider, model, tier)
        found = self._found.get(key)
        if found is None:
            found = self._find(provider, model, tier)
            _keep(self._found, key, found)
        if isinstance(found, str):
            return found
        dated = (*key, at_ns // found.step_ns)
        rate = self._rates.get(dated)
        if rate is None:
            rate = self.resolve(found, tier, at_ns)
            _keep(self._rates, dated, rate)
        return rate

    def holds_ns(self, provider: str | None, model: str, tier: str = "") -> int:
        """How long what rate() says of a model stays so: from one multiple of it since 1970 to the next."""
        found = self._found.get((provider, model, tier))
        return found.step_ns if isinstance(found, Found) else _FOREVER_NS

    def _find(self, provider: str | None, model: str, tier: str) -> Found | str:
        id, names = self._names(provider, model)
        for name in names:
            try:
                found, info = self._snapshot.find_provider_model(name, None, id, None)
                break
            except LookupError:
                continue
        else:
            return self._unknown(id, model)
        variants = self.variants(info, tier)
        if tier and not (variants and any(info is each for each in found.models)):
            return f"model {info.id} of {found.id} has no price for tier {tier!r} in {self.version}"
        dated = [*(info.prices if isinstance(info.prices, list) else ()), *variants]
        constraints = [each.constraint for each in dated if each.constraint is not None]
        step_ns = _FOREVER_NS
        if constraints:  # by the day, or by the hour of the day
            step_ns = _DAY_NS if all(hasattr(each, "start_date") for each in constraints) else _SECOND_NS
        return Found(found.id, info, variants, step_ns)

    def _names(self, provider: str | None, model: str) -> tuple[str | None, list[str]]:
        """The provider, and the names under which its model is looked for. Gateways and clouds put names before a
        model's: openai/gpt-5, models/gemini-2.5-pro, publishers/google/models/gemini-2.5-pro."""
        names = [model]
        prefix, _, rest = model.partition("/")
        before = self._provider_named(provider_id(prefix)) if prefix and rest else None
        known = self._provider_named(provider)
        if known is None and provider in (None, GATEWAY):
            if before is not None:
                provider, names = before, [rest]
        elif before is not None and before == known:
            names.append(rest)
        _, path, name = f"/{names[-1]}".lower().rpartition("/models/")
        return provider, [*names, name] if path else names

    def _provider_named(self, id: str | None) -> str | None:
        found = self._by_id(self.providers, id) if id else None
        return None if found is None else str(found.id)

    def variants(self, model: Any, tier: str) -> tuple[Any, ...]:
        """Of a model's prices those that are for the tier only."""
        context = _CONTEXTS.get(tier, {"service_tier": tier})
        return tuple(
            variant
            for variant in (model.price_variants or ())
            if tier and all(context.get(key) == value for key, value in variant.when.items())
        )

    def _unknown(self, provider: str | None, model: str) -> str:
        if provider is None:
            return f"no provider is given, and none in {self.version} is known by the model name {model!r}"
        known = self._provider_named(provider)
        if known is None:
            return f"provider {provider!r} is not in {self.version}"
        return f"model {model!r} of {known} is not in {self.version}"

    def resolve(self, found: Found, tier: str, at_ns: int) -> Rate | str:
        moment = datetime.fromtimestamp(at_ns // _SECOND_NS, UTC)
        variants = [each for each in found.variants if each.constraint is None or each.constraint.active(moment)]
        if tier and not variants:
            return f"model {found.model.id} of {found.provider} has no price for tier {tier!r} at that time"
        listed = dict(found.model.get_prices(moment).__dict__) if found.model.prices else {}
        for variant in reversed(variants):  # the first that names a price decides
            listed.update({key: price for key, price in variant.prices.__dict__.items() if price is not None})
        prices: dict[str, Price] = {}
        for key, value in listed.items():
            if value is None:
                continue
            if key not in self._unit_of_price:
                return f"price {key!r} of {found.model.id} is for a unit that is not known"
            tiers = () if isinstance(value, Decimal) else tuple((each.start, each.price) for each in value.tiers)
            prices[self._unit_of_price[key]] = Price(value if isinstance(value, Decimal) else value.base, tiers)
        if not prices:
            return f"model {found.model.id} of {found.provider} has no price in {self.version}"
        return Rate(prices, self.units, provider=found.provider, model=found.model.id, version=self.version)


def _keep(kept: dict[Any, Any], key: object, value: object) -> None:
    if len(kept) >= _MOST_RATES:
        kept.clear()
    kept[key] = value


@cache
def known_units() -> frozenset[str]:
    """The names of all units, without genai-prices those that spans and overrides know."""
    try:
        from genai_prices.data_units import unit_data
    except ImportError:
        return frozenset(UNITS)
    return frozenset(UNITS) | frozenset(unit_data)


@cache
def installed_prices() -> PriceTable:
    """The list that comes with genai-prices. Nothing is downloaded."""
    try:
        from genai_prices.data import providers
    except ImportError as error:
        raise MissingExtra("prices come from genai-prices: pip install 'spanbox[cost]'") from error
    from importlib.metadata import version

    return PriceTable(providers, f"genai-prices {version('genai-prices')}")


def prices_from(path: str | os.PathLike[str]) -> PriceTable:
    """The list in a JSON file of genai-prices' format, read once as long as the file stays as it is."""
    found = Path(path).absolute()
    about = found.stat()
    if about.st_size > _MAX_FILE_BYTES:
        raise ValueError(f"{found}: {about.st_size:,} bytes are no price list")
    return _read_file(found, about.st_mtime_ns, about.st_size)


@lru_cache(8)
def _read_file(path: Path, _changed_ns: int, _size_bytes: int) -> PriceTable:
    try:
        from genai_prices import types
    except ImportError as error:
        raise MissingExtra("price lists are read with genai-prices: pip install 'spanbox[cost]'") from error
    content = path.read_bytes()
    where = "the file"
    try:
        raw = json.loads(content, parse_float=Decimal, parse_constant=_refuse)
        providers = []
        for at, entry in enumerate(raw):
            where = f"provider {at}"
            models = []
            for place, model in enumerate(entry["models"]):
                where = f"provider {at}, model {place}"
                models.append(_model(types, model))
            where = f"provider {at}"
            providers.append(_provider(types, entry, models))
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, re.error) as error:
        raise ValueError(f"{path}: {where}: not as in a price list of genai-prices: {error!r}") from None
    return PriceTable(providers, f"{path.name} {hashlib.sha256(content).hexdigest()[:12]}")


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no price")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _provider(types: Any, raw: Mapping[str, Any], models: list[Any]) -> Any:
    matches = {key: _clause(types, raw[key]) for key in ("model_match", "provider_match") if raw.get(key)}
    fallback = [_text(each) for each in raw.get("fallback_model_providers") or ()]
    name = _text(raw["id"])
    return types.Provider(name, name, "(?!)", fallback_model_providers=fallback, models=models, **matches)


def _model(types: Any, raw: Mapping[str, Any]) -> Any:
    prices: Any = raw["prices"]
    if isinstance(prices, list):
        prices = [
            types.ConditionalPrice(_constraint(types, each.get("constraint")), prices=_prices(types, each["prices"]))
            for each in prices
        ]
    else:
        prices = _prices(types, prices)
    variants = [
        types.PriceVariant(
            {_text(key): _text(value) for key, value in each["when"].items()},
            _prices(types, each["prices"]),
            _constraint(types, each.get("constraint")),
        )
        for each in raw.get("price_variants") or ()
    ]
    return types.ModelInfo(_text(raw["id"]), _clause(types, raw["match"]), prices=prices, price_variants=variants)


def _constraint(types: Any, raw: Mapping[str, Any] | None) -> Any:
    if raw is None:
        return None
    if "start_date" in raw:
        return types.StartDateConstraint(date.fromisoformat(raw["start_date"]))
    return types.TimeOfDateConstraint(time.fromisoformat(raw["start_time"]), time.fromisoformat(raw["end_time"]))


def _prices(types: Any, raw: Mapping[str, Any]) -> Any:
    return types.ModelPrice(**{key: _price(types, value) for key, value in raw.items() if value is not None})


def _price(types: Any, raw: Any) -> Any:
    if isinstance(raw, Mapping):
        tiers = [types.Tier(int(each["start"]), usd(each["price"])) for each in raw["tiers"]]
        return types.TieredPrices(usd(raw["base"]), tiers)
    return usd(raw)


def usd(value: object) -> Decimal:
    """A price as an exact number; ValueError for what cannot be one."""
    if isinstance(value, int | float | str | Decimal) and not isinstance(value, bool):
        try:
            price = Decimal(str(value))
        except InvalidOperation:
            price = Decimal(-1)
        if price.is_finite() and 0 <= price < 10**9 and price.as_tuple().exponent >= -24:  # type: ignore[operator]
            return price
    raise ValueError(f"{value!r} is no price")


def pattern(text: str) -> re.Pattern[str]:
    """A pattern of a file, compiled; ValueError for one that could take for ever."""
    if len(text) > _MAX_PATTERN:
        raise ValueError(f"a pattern of {len(text):,} characters")
    if re.search(r"\)[*+{]", text):
        raise ValueError(f"pattern {text!r} repeats a group")
    return re.compile(text)


def _clause(types: Any, raw: Mapping[str, Any], depth: int = 0) -> Any:
    if depth > _MAX_CLAUSE_DEPTH:
        raise ValueError("rules within rules without end")
    [(kind, value)] = raw.items()
    if kind in ("or", "and"):
        make = types.ClauseOr if kind == "or" else types.ClauseAnd
        return make([_clause(types, each, depth + 1) for each in value])
    makers = {
        "starts_with": types.ClauseStartsWith,
        "ends_with": types.ClauseEndsWith,
        "contains": types.ClauseContains,
        "equals": types.ClauseEquals,
        "regex": types.ClauseRegex,
    }
    if kind == "regex":
        pattern(value)
    return makers[kind](_text(value))
