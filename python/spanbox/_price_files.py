"""Prices in files: our own TOML or JSON, LiteLLM's model_prices_and_context_window.json, Langfuse's models.

Thread rule: any thread. A file is read whole before anything of it holds; an error says where in it.
What a file of others prices in ways that are not known here is left out, and counted.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal, NamedTuple

from spanbox._overrides import PER_MILLION, PER_THOUSAND, Listed, Match, Override, glob, one_of, per_million
from spanbox._price_table import GATEWAY, pattern, provider_id, usd
from spanbox._rates import Price
from spanbox._time import moment_ns

_MAX_BYTES = 64_000_000
_ABOUT = {"name", "provider", "model", "tier", "since", "until", "like", "discount"}
_MOST_TIMES = 10  # the price of the list
_SHARE_DIGITS = 9

_LITELLM = {
    "input_cost_per_token": "input_tokens",
    "output_cost_per_token": "output_tokens",
    "cache_read_input_token_cost": "cache_read_tokens",
    "input_cost_per_token_cache_hit": "cache_read_tokens",
    "cache_creation_input_token_cost": "cache_write_tokens",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h_tokens",
    "output_cost_per_reasoning_token": "output_reasoning_tokens",
    "input_cost_per_audio_token": "input_audio_tokens",
    "output_cost_per_audio_token": "output_audio_tokens",
    "cache_read_input_audio_token_cost": "cache_audio_read_tokens",
    "input_cost_per_image_token": "input_image_tokens",
    "output_cost_per_image_token": "output_image_tokens",
}
_LITELLM_TIERS = {"batches": "batch", "flex": "flex", "priority": "priority", "fast": "fast"}
_LITELLM_KEY = re.compile(
    r"(?P<name>.+?)(?:_above_(?P<from>\d+)k_tokens)?(?:_(?P<tier>batches|flex|priority|fast))?"
    r"(?:_above_(?P<late>\d+)k_tokens)?"
)

_LANGFUSE = {
    "input": "input_tokens", "input_tokens": "input_tokens", "prompt_tokens": "input_tokens",
    "output": "output_tokens", "output_tokens": "output_tokens", "completion_tokens": "output_tokens",
    "input_cached_tokens": "cache_read_tokens", "input_cache_read": "cache_read_tokens",
    "cache_read_input_tokens": "cache_read_tokens", "cached_tokens": "cache_read_tokens",
    "input_cached": "cache_read_tokens",
    "cache_creation_input_tokens": "cache_write_tokens", "input_cache_creation": "cache_write_tokens",
    "input_cache_creation_5m": "cache_write_5m_tokens", "input_cache_creation_1h": "cache_write_1h_tokens",
    "output_reasoning_tokens": "output_reasoning_tokens", "output_reasoning": "output_reasoning_tokens",
    "thoughts_token_count": "output_reasoning_tokens", "thoughtsTokenCount": "output_reasoning_tokens",
    "input_audio_tokens": "input_audio_tokens", "input_audio": "input_audio_tokens",
    "output_audio_tokens": "output_audio_tokens", "output_audio": "output_audio_tokens",
    "promptTokenCount": "input_tokens", "prompt_token_count": "input_tokens",
    "candidatesTokenCount": "output_tokens", "candidates_token_count": "output_tokens",
}  # fmt: skip

Format = Literal["spanbox", "litellm", "langfuse"]


class Loaded(NamedTuple):
    """What a file held."""

    format: Format
    prices: int
    left_out: int


def read_file(path: Path) -> tuple[list[Override], Loaded]:
    """The prices of a file; ValueError with the place of what is wrong."""
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"{path}: {path.stat().st_size:,} bytes are no price file")
    content = path.read_bytes()
    version = f"{path.name} {hashlib.sha256(content).hexdigest()[:12]}"
    try:
        if path.suffix == ".toml":
            raw: Any = tomllib.loads(content.decode(), parse_float=Decimal)
        else:
            raw = json.loads(content, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from None
    kind: Format
    read: Callable[[Any, str], Iterator[Override]]
    if isinstance(raw, Mapping) and isinstance(raw.get("price"), list):
        kind, entries = "spanbox", [(f"price {n}", each) for n, each in enumerate(raw["price"], 1)]
        read = _own
    elif isinstance(raw, list) or (isinstance(raw, Mapping) and isinstance(raw.get("data"), list)):
        models = raw if isinstance(raw, list) else raw["data"]
        kind, entries, read = "langfuse", [(f"model {n}", each) for n, each in enumerate(models, 1)], _langfuse
    elif isinstance(raw, Mapping) and any(
        "litellm_provider" in each for each in raw.values() if isinstance(each, dict)
    ):
        kind, read = "litellm", _litellm
        entries = [(repr(key)[:100], (key, each)) for key, each in raw.items() if key != "sample_spec"]
    else:
        raise ValueError(
            f'{path}: neither prices of spanbox ([[price]] in TOML, {{"price": [...]}} in JSON), '
            "nor a price file of LiteLLM or Langfuse"
        )
    overrides: list[Override] = []
    left_out = 0
    for place, entry in entries:
        try:
            found = list(read(entry, version))
        except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, re.error) as error:
            raise ValueError(f"{path}: {place}: {_said(error)}") from None
        overrides += found
        left_out += not found
    if kind == "langfuse":  # of several versions of a model the last one that has begun
        overrides.sort(key=lambda each: each.since_ns or 0)
    return overrides, Loaded(kind, len(overrides), left_out)


def _said(error: Exception) -> str:
    return f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)


def text(what: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{what}={value!r} must be a text")
    return value


def own(
    *,
    name: str | None,
    provider: str | None,
    model: str,
    tier: str | None,
    since: object,
    until: object,
    like: str | None,
    discount: object,
    prices: Mapping[str, object],
) -> Override:
    """An override as a person writes it."""
    units = PER_MILLION | PER_THOUSAND
    if unknown := prices.keys() - units.keys():
        raise TypeError(f"{min(unknown)!r} is no price; there are {', '.join(units)}")
    given = {units[key]: Price(_price(key, value)) for key, value in prices.items() if value is not None}
    listed = _listed(like, discount)
    if not given and listed is None:
        raise ValueError(f"model {model!r} is given no price; there are {', '.join(units)}, like and discount")
    if given and listed is not None:
        raise ValueError(f"model {model!r} has prices of its own: like and discount are of the list's")
    since_ns, until_ns = _moment("since", since), _moment("until", until)
    if since_ns is not None and until_ns is not None and since_ns >= until_ns:
        raise ValueError(f"since={since!r} is not before until={until!r}")
    of = provider_id(None if provider is None else text("provider", provider))
    label = f"override {of or '*'}/{model}" if name is None else text("name", name)
    matches = glob(text("model", model))
    known = None if tier is None and listed is not None else text("tier", tier or "standard").lower()
    asked = "" if known == "standard" else known
    return Override(label, model, matches, given, of, None, asked, since_ns, until_ns, listed)


def _listed(like: str | None, discount: object) -> Listed | None:
    if like is None and discount is None:
        return None
    try:
        less = Decimal(str(discount or 0))
    except InvalidOperation:
        less = Decimal("inf")
    share = 1 - less if less.is_finite() else Decimal(0)
    if isinstance(discount, bool) or not (0 < share <= _MOST_TIMES and share == round(share, _SHARE_DIGITS)):
        raise ValueError(f"discount={discount!r} is no share: 0.15 is 15 % less than the list, -0.1 is 10 % more")
    named = None if like is None else text("like", like)
    return Listed(share, GATEWAY if named and "/" in named else None, named)


def _price(key: str, value: object) -> Decimal:
    try:
        return usd(value)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _moment(what: str, value: object) -> int | None:
    if isinstance(value, date) and not isinstance(value, datetime):  # a date of TOML, local as "2026-01-01" is
        value = datetime.combine(value, time())
    return moment_ns(value, what=what)  # type: ignore[arg-type]


def _own(entry: Mapping[str, Any], version: str) -> Iterator[Override]:
    about = {key: entry.get(key) for key in _ABOUT}
    yield own(
        name=about["name"] or version,
        provider=about["provider"],
        model=entry["model"],
        tier=about["tier"],
        since=about["since"],
        until=about["until"],
        like=about["like"],
        discount=about["discount"],
        prices={key: value for key, value in entry.items() if key not in _ABOUT},
    )


def _litellm(entry: tuple[str, Mapping[str, Any]], version: str) -> Iterator[Override]:
    key, about = entry
    if not isinstance(about, Mapping):
        raise TypeError(f"a {type(about).__name__}, where a model's prices are expected")
    if about.get("input_cost_per_token") is None:
        return  # priced by the image, the second, the query
    steps: dict[str, dict[str, dict[int, Decimal]]] = {}  # tier > unit > from how many tokens of input > price
    for name, value in about.items():
        match = _LITELLM_KEY.fullmatch(name)
        if value is None or "token" not in name or "cost" not in name:
            continue
        if not match or match["name"] not in _LITELLM:
            if value:
                return  # another way to count tokens
            continue
        start = 1_000 * int(match["from"] or match["late"] or 0)
        tier = _LITELLM_TIERS.get(match["tier"] or "", "")
        steps.setdefault(tier, {}).setdefault(_LITELLM[match["name"]], {})[start] = per_million(_price(name, value))
    standard = steps[""]
    provider = provider_id(text("litellm_provider", about["litellm_provider"]))
    prefix, slash, rest = key.partition("/")
    prefixed = bool(slash) and provider_id(prefix) == provider
    names = {key.lower(), rest.lower()} if prefixed else {key.lower()}
    for tier, units in steps.items():
        merged = {unit: {**standard.get(unit, {}), **units.get(unit, {})} for unit in standard.keys() | units.keys()}
        prices = {unit: _tiered(each) for unit, each in merged.items() if 0 in each}
        yield Override(version, key, one_of(names), prices, provider, one_of({key.lower()}), tier)


def _tiered(steps: Mapping[int, Decimal]) -> Price:
    return Price(steps[0], tuple(sorted((start, price) for start, price in steps.items() if start)))


def _langfuse(entry: Mapping[str, Any], version: str) -> Iterator[Override]:
    model = text("modelName", entry["modelName"])
    matching = pattern(text("matchPattern", entry["matchPattern"]))
    if str(entry.get("unit") or "TOKENS") != "TOKENS":
        return
    tiers = entry.get("pricingTiers") or [{"conditions": [], "prices": _plain_prices(entry)}]
    steps: dict[str, dict[int, Decimal]] = {}
    for tier in tiers:
        start = _langfuse_start(tier.get("conditions") or ())
        for key, value in tier["prices"].items():
            units = ("input_tokens", "output_tokens") if key == "total" else (_LANGFUSE.get(key),)
            for unit in units:
                if start is None or unit is None:
                    return  # counted in a way that is not known here
                price = value["price"] if isinstance(value, Mapping) else value
                steps.setdefault(unit, {})[start] = per_million(_price(key, price))
    prices = {unit: _tiered(each) for unit, each in steps.items() if 0 in each}
    if prices:
        since_ns = _moment("startDate", entry.get("startDate"))
        yield Override(version, model, Match(matching.search, matching.pattern), prices, since_ns=since_ns)


def _plain_prices(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(entry.get("prices"), Mapping):
        return dict(entry["prices"])
    named = {"input": "inputPrice", "output": "outputPrice", "total": "totalPrice"}
    return {key: entry[name] for key, name in named.items() if entry.get(name) is not None}


def _langfuse_start(conditions: Any) -> int | None:
    """Above how many tokens of input a tier holds, 0 for the standard one, None when it is about something else."""
    if not conditions:
        return 0
    if len(conditions) > 1:
        return None
    [condition] = conditions
    about_input = re.match(r"[\^(]*(?:input|prompt)", str(condition.get("usageDetailPattern")))
    value = condition.get("value")
    if not about_input or condition.get("operator") not in ("gt", "gte") or not isinstance(value, int) or value < 1:
        return None
    return value if condition["operator"] == "gt" else value - 1
