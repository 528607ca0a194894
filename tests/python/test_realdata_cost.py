"""Every published usage has its published price, to the last digit, by the price list published with it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from spanbox import cost

pytest.importorskip("genai_prices", reason="prices need the extra 'cost'")
pytestmark = pytest.mark.realdata

AT = "2026-08-01T12:00:00Z"  # before the list's prices of September 2026, as the published prices are
# What the list beside the usages does not hold: this model at AWS, and Gemini's own price for tokens of images.
NOT_IN_THE_LIST = {("aws", "openai.gpt-5.6-luna"): 4, ("google", "gemini-2.5-flash-image"): 2}
# The published prices read each usage as every API that could read it: these fields are all that API would tell.
FIELDS = {
    "embeddings": ("prompt_tokens",),
    "responses": ("input_tokens", "output_tokens", "input_tokens_details", "output_tokens_details"),
    "anthropic": (
        "input_tokens", "output_tokens", "cache_creation", "cache_creation_input_tokens", "cache_read_input_tokens",
    ),
}  # fmt: skip


class Priced(NamedTuple):
    provider: str
    model: str
    body: dict[str, Any]  # of the reply
    counts: dict[str, int]  # as published, by unit
    usd: Decimal


def published(data: Path) -> Iterator[Priced]:
    with gzip.open(data / "cost" / "genai_prices_usages.jsonl.gz") as lines:
        for line in map(json.loads, lines):
            body = line["body"]
            for reading in line["extracted"]:
                for price in reading["extractors"]:
                    if "input_price" not in price:
                        continue
                    told = dict(body)
                    if (fields := FIELDS.get(price["api_flavor"])) and "usage" in body:
                        told["usage"] = {key: value for key, value in body["usage"].items() if key in fields}
                    model = body.get("model") or body.get("modelVersion")
                    usd = Decimal(price["input_price"]) + Decimal(price["output_price"])
                    yield Priced(price["provider_id"], model, told, reading["usage"], usd)


def listed(priced: Priced) -> bool:
    return (priced.provider, priced.model) not in NOT_IN_THE_LIST


def test_every_published_price_is_tested(data: Path) -> None:
    rows = list(published(data))
    assert len(rows) == 781
    assert sum(not listed(row) for row in rows) == sum(NOT_IN_THE_LIST.values())


def test_usages_of_replies_cost_what_was_published(data: Path) -> None:
    prices = data / "cost" / "prices_data_slim.json"
    for row in filter(listed, published(data)):
        found = cost.of(provider=row.provider, model=row.model, usage=row.body, at=AT, prices=prices)
        assert (found.usd, found.known) == (row.usd, True), (row, found)
        assert sum(usd for _, usd in found.parts.values()) == row.usd


def test_published_counts_cost_what_was_published(data: Path) -> None:
    prices = data / "cost" / "prices_data_slim.json"
    for row in filter(listed, published(data)):
        found = cost.of(provider=row.provider, model=row.model, usage=row.counts, at=AT, prices=prices)
        assert found.usd == row.usd, (row, found)


def test_a_model_that_is_not_in_the_list_is_not_guessed(data: Path) -> None:
    prices = data / "cost" / "prices_data_slim.json"
    row = next(row for row in published(data) if row.model == "openai.gpt-5.6-luna")
    found = cost.of(provider="aws", model=row.model, usage=row.body, at=AT, prices=prices)
    assert (found.known, found.usd) == (False, None)
    assert "'openai.gpt-5.6-luna' of aws is not in prices_data_slim.json" in found.reason


def test_prices_change_on_their_day(data: Path) -> None:
    prices = data / "cost" / "prices_data_slim.json"
    usage = {"input_tokens": 1_000_000, "output_tokens": 0}
    found = [
        cost.of(provider="anthropic", model="claude-sonnet-5", usage=usage, at=at, prices=prices).usd
        for at in ("2026-08-31T23:59:59Z", "2026-09-01T00:00:00Z")
    ]
    assert found == [2, 3]


NO_USAGE = {"error", "skill", "reranking", "groq-transcription", "openai-image.json", "openai-image-edit"}


def test_replies_on_record_are_read_unless_they_tell_nothing(data: Path) -> None:
    unread = []
    for path in sorted((data / "provider_fixtures").rglob("*.json")):
        found = cost.of(provider="openai", model="gpt-4o", usage=json.loads(path.read_text()), at=AT)
        if not found.known:
            unread.append(path.name)
            assert "no counts found" in found.reason, (path.name, found)
    assert [name for name in unread if not any(part in name for part in NO_USAGE)] == []
    assert len(unread) == 9
