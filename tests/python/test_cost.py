"""What calls cost: every provider's shape of usage, exact arithmetic, and no guesses."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from spanbox import cost

genai_prices = pytest.importorskip("genai_prices", reason="prices need the extra 'cost'")

LIST = [
    {
        "id": "acme",
        "provider_match": {"contains": "acme"},
        "models": [
            {
                "id": "talker",
                "match": {"starts_with": "talker"},
                "prices": {
                    "input_mtok": {"base": 1, "tiers": [{"start": 200000, "price": 2}]},
                    "cache_read_mtok": 0.1,
                    "cache_write_mtok": 1.25,
                    "output_mtok": 10,
                },
                "price_variants": [{"when": {"processing": "batch"}, "prices": {"input_mtok": 0.5, "output_mtok": 5}}],
            },
            {"id": "night", "match": {"equals": "night"}, "prices": [
                {"prices": {"input_mtok": 4, "output_mtok": 4}},
                {"constraint": {"start_time": "20:00:00Z", "end_time": "06:00:00Z"},
                 "prices": {"input_mtok": 1, "output_mtok": 1}},
            ]},
            {"id": "hearing", "match": {"equals": "hearing"}, "prices": {
                "input_mtok": 2, "input_audio_mtok": 40, "cache_read_mtok": 1, "cache_audio_read_mtok": 2,
                "output_mtok": 8, "output_audio_mtok": 80,
            }},
            {"id": "embedder", "match": {"equals": "embedder"}, "prices": {"input_mtok": 0.02}},
        ],
    }
]  # fmt: skip


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    path = tmp_path / "list.json"
    path.write_text(json.dumps(LIST))
    return path


ALL_IN = {"input_tokens": (900, Decimal("0.0009")), "cache_read_tokens": (1000, Decimal("0.0001"))}
WRITTEN = {"cache_write_tokens": (100, Decimal("0.000125"))}
OUT = {"output_tokens": (50, Decimal("0.0005"))}

SHAPES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "openai chat": (
        "acme",
        {"prompt_tokens": 1900, "completion_tokens": 50, "prompt_tokens_details": {"cached_tokens": 1000}},
        ALL_IN | OUT,
    ),
    "openai responses": (
        "acme",
        {"input_tokens": 1900, "output_tokens": 50, "input_tokens_details": {"cached_tokens": 1000}},
        ALL_IN | OUT,
    ),
    "anthropic counts cached tokens beside the input": (
        "acme",
        {
            "input_tokens": 900,
            "cache_read_input_tokens": 1000,
            "cache_creation_input_tokens": 100,
            "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 50,
        },
        ALL_IN | WRITTEN | OUT,
    ),
    "bedrock": (
        "acme",
        {"inputTokens": 900, "cacheReadInputTokens": 1000, "cacheWriteInputTokens": 100, "outputTokens": 50},
        ALL_IN | WRITTEN | OUT,
    ),
    "gemini thinks beside its answer": (
        "acme",
        {
            "promptTokenCount": 1900,
            "cachedContentTokenCount": 1000,
            "candidatesTokenCount": 20,
            "thoughtsTokenCount": 30,
            "totalTokenCount": 1950,
        },
        ALL_IN | OUT,
    ),
    "deepseek": (
        "acme",
        {"prompt_tokens": 1900, "prompt_cache_hit_tokens": 1000, "prompt_cache_miss_tokens": 900,
         "completion_tokens": 50},
        ALL_IN | OUT,
    ),
    "mistral": ("acme", {"prompt_tokens": 1900, "num_cached_tokens": 1000, "completion_tokens": 50}, ALL_IN | OUT),
    "cohere": (
        "acme",
        {"billed_units": {"input_tokens": 900, "output_tokens": 50}, "tokens": {"input_tokens": 990}},
        {"input_tokens": ALL_IN["input_tokens"]} | OUT,
    ),
    "litellm has both names, and all of it in the input": (
        "acme",
        {
            "prompt_tokens": 2000,
            "completion_tokens": 50,
            "cache_read_input_tokens": 1000,
            "cache_creation_input_tokens": 100,
            "prompt_tokens_details": {"cached_tokens": 1000},
        },
        ALL_IN | WRITTEN | OUT,
    ),
    "vercel": (
        "acme",
        {"inputTokens": 1900, "cachedInputTokens": 1000, "outputTokens": 50, "reasoningTokens": 20},
        ALL_IN | OUT,
    ),
    "columns": (
        "acme",
        {"input_tokens": 2000, "cache_read_tokens": 1000, "cache_write_tokens": 100, "output_tokens": 50,
         "reasoning_tokens": 20},
        ALL_IN | WRITTEN | OUT,
    ),
    "columns that are provably beside each other": (
        "acme",
        {"input_tokens": 900, "cache_read_tokens": 1000, "cache_write_tokens": 100, "output_tokens": 50},
        ALL_IN | WRITTEN | OUT,
    ),
    "xai reasons beside its answer, as its total proves": (
        "acme",
        {"prompt_tokens": 900, "completion_tokens": 20, "total_tokens": 950,
         "completion_tokens_details": {"reasoning_tokens": 30}},
        {"input_tokens": ALL_IN["input_tokens"]} | OUT,
    ),
    "a whole reply": (
        "acme",
        {"model": "talker", "usage": {"prompt_tokens": 900, "completion_tokens": 50, "total_tokens": 950}},
        {"input_tokens": ALL_IN["input_tokens"]} | OUT,
    ),
    "cohere's whole reply": (
        "acme",
        {"message": {"role": "assistant"}, "usage": {"billed_units": {"input_tokens": 900, "output_tokens": 50}}},
        {"input_tokens": ALL_IN["input_tokens"]} | OUT,
    ),
    "gemini's interactions": (
        "acme",
        {"total_tokens": 1950, "total_input_tokens": 1900, "total_cached_tokens": 1000, "total_output_tokens": 20,
         "total_tool_use_tokens": 0, "total_thought_tokens": 30},
        ALL_IN | OUT,
    ),
    "anthropic's compaction is billed besides": (
        "acme",
        {"input_tokens": 100, "output_tokens": 20, "cache_read_input_tokens": 0, "iterations": [
            {"type": "compaction", "input_tokens": 800, "cache_read_input_tokens": 1000, "output_tokens": 30},
            {"type": "message", "input_tokens": 100, "cache_read_input_tokens": 0, "output_tokens": 20},
        ]},
        ALL_IN | OUT,
    ),
    "an embedding that tells its total only": (
        "acme",
        {"total_tokens": 900},
        {"input_tokens": ALL_IN["input_tokens"]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_usage_is_read_as_its_provider_means_it(shape: str, prices: Path) -> None:
    provider, usage, parts = SHAPES[shape]
    found = cost.of(provider=provider, model="talker-2", usage=usage, prices=prices)
    assert found.parts == parts
    assert found.usd == sum(usd for _, usd in parts.values())
    assert (found.known, found.reason, found.provider, found.model) == (True, "", "acme", "talker")
    assert found.price_version.startswith("list.json ")


def test_a_clients_object_is_as_good_as_a_mapping(prices: Path) -> None:
    class Usage:
        def model_dump(self) -> dict[str, Any]:
            return SHAPES["openai chat"][1]

    assert cost.of(provider="acme", model="talker", usage=Usage(), prices=prices).parts == ALL_IN | OUT


def test_above_a_tier_every_token_has_its_price(prices: Path) -> None:
    found = [
        cost.of(provider="acme", model="talker", usage={"input_tokens": tokens, "output_tokens": 0}, prices=prices).usd
        for tokens in (200_000, 200_001)
    ]
    assert found == [Decimal("0.2"), Decimal("0.400002")]


def test_price_by_the_hour(prices: Path) -> None:
    usage = {"input_tokens": 1_000_000, "output_tokens": 1_000_000}
    found = {
        at: cost.of(provider="acme", model="night", usage=usage, at=f"2026-01-01T{at}Z", prices=prices).usd
        for at in ("19:59:59", "20:00:00", "05:59:59", "06:00:00")
    }
    assert found == {"19:59:59": 8, "20:00:00": 2, "05:59:59": 2, "06:00:00": 8}


def test_batch_has_its_price_and_an_unknown_tier_has_none(prices: Path) -> None:
    usage = {"input_tokens": 1_000_000, "output_tokens": 100_000}
    batch = cost.of(provider="acme", model="talker", usage=usage | {"service_tier": "batch"}, prices=prices)
    asked = cost.of(provider="acme", model="talker", usage=usage, tier="batch", prices=prices)
    assert batch.usd == asked.usd == Decimal("1.0")
    standard = cost.of(provider="acme", model="talker", usage=usage | {"service_tier": "standard"}, prices=prices)
    assert standard.usd == 3
    other = cost.of(provider="acme", model="talker", usage=usage, tier="priority", prices=prices)
    assert (other.usd, other.known) == (None, False)
    assert "no price for tier 'priority'" in other.reason


def test_audio_is_priced_apart(prices: Path) -> None:
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 500,
        "prompt_tokens_details": {"audio_tokens": 600, "cached_tokens": 0},
        "completion_tokens_details": {"audio_tokens": 400},
    }
    found = cost.of(provider="acme", model="hearing", usage=usage, prices=prices)
    assert {name: count for name, (count, _) in found.parts.items()} == {
        "input_tokens": 400, "input_audio_tokens": 600, "output_tokens": 100, "output_audio_tokens": 400,
    }  # fmt: skip
    assert found.usd == Decimal("0.0576")


@pytest.mark.parametrize(
    ("model", "usage", "reason"),
    [
        ("nobody", {"input_tokens": 1}, "model 'nobody' of acme is not in list.json"),
        (None, {"input_tokens": 1}, "no model is given"),
        ("talker", {}, "no counts found"),
        ("talker", "12 tokens", "usage is a str"),
        ("talker", {"input_tokens": -1}, "input_tokens=-1 is no count"),
        ("talker", {"input_tokens": 10**5000}, "input_tokens=a number is no count"),
        ("talker", {"input_tokens": 1e300}, "input_tokens=1e+300 is no count"),
        ("talker", {"input_tokens": "12"}, "input_tokens='12' is no count"),
        (7, {"input_tokens": 1}, "no model is given"),
        ("talker", {"input_tokens": True}, "input_tokens=True is no count"),
        ("talker", {"input_tokens": float("nan")}, "input_tokens=nan is no count"),
        ("talker", {"total_tokens": 5, "new_sort_of_tokens": 3}, "no counts found"),
        ("talker", {"words": 5}, "no counts found in the usage (its keys: words)"),
        ("hearing", {"cache_read_tokens": 5}, "cache_read_tokens is given without input_tokens"),
        ("talker", {"cache_read_tokens": 5}, "the price depends on input_tokens, which is not given"),
        (
            "hearing",
            {"input_tokens": 100, "input_audio_tokens": 50, "cache_read_tokens": 60},
            "input_audio_tokens and cache_read_tokens are given, but not how many are both (cache_audio_read_tokens)",
        ),
        ("hearing", {"input_tokens": 10, "input_audio_tokens": 50}, "more than input_tokens=10"),
        ("embedder", {"input_tokens": 10, "output_tokens": 5}, "no price for output_tokens=5"),
    ],
)
def test_what_cannot_be_priced_says_why(model: Any, usage: Any, reason: str, prices: Path) -> None:
    found = cost.of(provider="acme", model=model, usage=usage, prices=prices)
    assert (found.usd, found.known, found.parts) == (None, False, {})
    both_named = sorted(word for word in reason.split() if "_" in word)
    assert reason in found.reason or (both_named and all(word in found.reason for word in both_named)), found.reason


def test_unknown_provider_is_not_guessed() -> None:
    found = cost.of(provider="a-host-of-mine", model="gpt-4o", usage={"input_tokens": 5})
    assert (found.usd, found.known) == (None, False)
    assert "'a-host-of-mine' is not in genai-prices" in found.reason


def test_hostile_usages_are_answered(prices: Path) -> None:
    """Whatever a reply holds, there is an answer."""
    rng = random.Random(11)
    names = [
        "usage",
        "input_tokens",
        "cache_read_input_tokens",
        "prompt_tokens_details",
        "iterations",
        "service_tier",
        "output_tokens",
        "reasoning_tokens",
        "cache_creation",
        "cacheDetails",
        "promptTokensDetails",
    ]

    def value(depth: int) -> Any:
        if depth > 12 or rng.random() < 0.5:
            return rng.choice([None, True, -1, 0, 7, 10**30, 1.5, float("nan"), float("inf"), "", "7", [], {}])
        if rng.random() < 0.3:
            return [value(depth + 1) for _ in range(rng.randint(0, 3))]
        return {rng.choice(names): value(depth + 1) for _ in range(rng.randint(0, 6))}

    for _ in range(5_000):
        usage = value(0)
        found = cost.of(provider="acme", model="talker", usage=usage, prices=prices)
        assert (found.usd is None) is not found.known
        assert found.known or found.reason, usage


def test_a_search_without_a_price_is_named(prices: Path) -> None:
    usage = {"input_tokens": 900, "output_tokens": 50, "server_tool_use": {"web_search_requests": 2}}
    found = cost.of(provider="acme", model="talker", usage=usage, prices=prices)
    assert (found.usd, found.reason) == (Decimal("0.0014"), "no price for web_searches=2")
    usage = {"input_tokens": 900, "output_tokens": 50, "iterations": [{"type": "advisor_message", "model": "other"}]}
    found = cost.of(provider="acme", model="talker", usage=usage, prices=prices)
    assert (found.usd, found.reason) == (Decimal("0.0014"), "no price for advisor_messages=1")


@pytest.mark.parametrize(
    ("provider", "model", "usage", "usd"),
    [
        ("openai", "whisper-1", {"text": "hello", "usage": {"type": "duration", "seconds": 30}}, "0.003"),
        ("openai", "tts-1", {"input_characters": 1_000}, "0.015"),
        ("mistral", "mistral-ocr-2505", {"usage_info": {"pages_processed": 3, "doc_size_bytes": 100}}, "0.003"),
    ],
)
def test_seconds_characters_and_pages(provider: str, model: str, usage: dict[str, Any], usd: str) -> None:
    assert cost.of(provider=provider, model=model, usage=usage).usd == Decimal(usd)


def test_the_figures_checked_by_hand() -> None:
    usage = {"input_tokens": 10_000, "cache_read_tokens": 8_000, "output_tokens": 500}
    at = "2026-03-01T00:00:00Z"
    assert cost.of(provider="anthropic", model="claude-sonnet-4-5", usage=usage, at=at).usd == Decimal("0.0159")
    gpt = cost.of(provider="openai", model="gpt-5", usage=usage, at=at)
    assert gpt.usd == Decimal("0.0085")
    assert gpt.price_version.startswith("genai-prices ")
    assert repr(gpt).startswith("<Cost $0.0085")


@pytest.mark.parametrize(
    ("name", "listed"),
    [("azure.ai.openai", "azure"), ("gcp.vertex_ai", "google"), ("aws.bedrock", "aws"), ("mistral_ai", "mistral")],
)
def test_names_of_opentelemetry_are_understood(name: str, listed: str) -> None:
    model = {
        "azure": "gpt-4o",
        "google": "gemini-2.5-pro",
        "aws": "amazon.nova-lite-v1:0",
        "mistral": "mistral-small-latest",
    }
    assert cost.of(provider=name, model=model[listed], usage={"input_tokens": 5}).provider == listed


@pytest.mark.parametrize(
    ("provider", "model", "listed"),
    [
        (None, "openai/gpt-4o", "openai gpt-4o"),  # as LiteLLM names models
        (None, "vertex_ai/gemini-2.5-pro", "google gemini-2.5-pro"),
        (None, "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0", "aws regional.anthropic.claude-sonnet-4-5-"),
        (None, "openrouter/anthropic/claude-sonnet-4.5", "openrouter anthropic/claude-sonnet-4.5"),
        ("openai", "openai/gpt-4o", "openai gpt-4o"),
        ("gcp.gemini", "models/gemini-2.5-flash", "google gemini-2.5-flash"),
        ("gcp.vertex_ai", "projects/p/locations/l/publishers/google/models/gemini-2.5-pro", "google gemini-2.5-pro"),
        ("aws.bedrock", "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0", "aws amazon.nova-lite"),
        ("azure", "eu/gpt-4o", None),  # has prices of its own
        ("azure", "openai/gpt-4o", None),
        (None, "bedrock/eu-central-1/anthropic.claude-v2:1", None),
        ("aws.bedrock", "arn:aws:bedrock:eu-west-1:1:application-inference-profile/ab12cd34ef56", None),
    ],
)
def test_names_before_a_models_are_read_and_none_is_guessed(provider: str, model: str, listed: str | None) -> None:
    found = cost.of(provider=provider, model=model, usage={"input_tokens": 5})
    assert found.known is (listed is not None), found
    if listed is not None:
        assert f"{found.provider} {found.model}".startswith(listed)


COUNTS = (
    "cache_read_tokens", "cache_write_tokens", "input_audio_tokens", "output_audio_tokens", "output_reasoning_tokens",
    "output_image_tokens",
)  # fmt: skip


def test_every_listed_model_costs_what_genai_prices_says() -> None:
    from genai_prices.data import providers

    rng = random.Random(7)
    compared = refused = 0
    for provider, model in ((each.id, model.id) for each in providers for model in each.models):
        for _ in range(3):
            counts = {"input_tokens": rng.choice([10, 5_000, 250_000, 900_000]) + 3_000, "output_tokens": 4_000}
            counts |= {name: rng.randint(0, 900) for name in COUNTS if rng.random() < 0.3}
            moment = datetime(2026, rng.randint(1, 12), 1, rng.randint(0, 23), tzinfo=UTC)
            found = cost.of(provider=provider, model=model, usage=counts, at=moment)
            try:
                usage = genai_prices.Usage(**counts)
                expected = genai_prices.calc_price(
                    usage, model, provider_id=provider, genai_request_timestamp=moment
                ).total_price
            except (LookupError, ValueError):
                expected = None
            if found.known:
                assert found.usd == expected, (found, counts)
                compared += 1
            else:  # it leaves out what has no price, we say so
                assert expected is None or "no price" in found.reason, (found, expected)
                refused += 1
    assert compared > 5_000
    assert refused < compared / 3


def test_columns_cost_the_same_as_one_call_at_a_time() -> None:
    rng = random.Random(3)
    rows = [
        {
            "provider": rng.choice(["openai", "anthropic", None]),
            "model": rng.choice(["gpt-5", "claude-sonnet-4-5", "no-such-model", None]),
            "at": rng.randint(1_700_000_000, 1_790_000_000) * 1_000_000_000,
            "input_tokens": rng.randint(0, 300_000),
            "cache_read_tokens": rng.choice([None, 0, 700, 400_000]),
            "output_tokens": rng.choice([None, 90]),
        }
        for _ in range(300)
    ]
    columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in rows[0]}
    together = cost.of_columns(**columns)
    for row, usd in zip(rows, together, strict=True):
        usage = {name: count for name, count in row.items() if name.endswith("_tokens")}
        assert cost.of(provider=row["provider"], model=row["model"], at=row["at"], usage=usage).usd == usd
    assert 50 < sum(usd is not None for usd in together) < 300


def test_columns_are_checked() -> None:
    with pytest.raises(TypeError, match="no column 'tokens'"):
        cost.of_columns(provider="openai", model="gpt-5", tokens=[1])
    with pytest.raises(TypeError, match="needs a column"):
        cost.of_columns(provider="openai", model="gpt-5")
    with pytest.raises(ValueError, match="shorter"):
        cost.of_columns(provider="openai", model="gpt-5", input_tokens=[1, 2], output_tokens=[1])


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("{", "the file"),
        ("[1]", "provider 0"),
        ('[{"id": "a", "models": [{"id": "m", "match": {"equals": "m"}, "prices": {"input_mtok": -1}}]}]', "model 0"),
        ('[{"id": "a", "models": [{"id": "m", "match": {"equals": "m"}, "prices": {"input_mtok": NaN}}]}]', "the file"),
        ('[{"id": "a", "models": [{"id": "m", "match": {"regex": "("}, "prices": {}}]}]', "model 0"),
        ('[{"id": "a", "models": [{"id": "m", "match": {"like": "m"}, "prices": {}}]}]', "model 0"),
        (
            '[{"id": "a", "models": [{"id": "m", "match": ' + '{"or": [' * 50 + "]}" * 50 + ', "prices": {}}]}]',
            "model 0",
        ),
    ],
)
def test_a_broken_list_is_refused_with_its_place(content: str, where: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"broken.json: .*{where}"):
        cost.of(provider="a", model="m", usage={"input_tokens": 1}, prices=path)


def test_a_list_that_changes_is_read_again(prices: Path) -> None:
    usage = {"input_tokens": 1_000_000}
    first = cost.of(provider="acme", model="embedder", usage=usage, prices=prices)
    prices.write_text(prices.read_text().replace("0.02}", "0.035}"))
    second = cost.of(provider="acme", model="embedder", usage=usage, prices=prices)
    assert (first.usd, second.usd) == (Decimal("0.02"), Decimal("0.035"))
    assert first.price_version != second.price_version


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_spanbox_imports_no_prices() -> None:
    assert run("import sys, spanbox; print([m for m in sys.modules if 'price' in m or m == 'spanbox.cost'])") == "[]\n"
    assert run("import spanbox; print(spanbox.cost.__name__)") == "spanbox.cost\n"


def test_without_the_extra_the_error_says_what_to_install() -> None:
    code = "import sys; sys.modules['genai_prices'] = None\nimport spanbox\ntry:\n"
    code += "  spanbox.cost.of(model='gpt-5', usage={'input_tokens': 1})\nexcept ImportError as e: print(e)"
    assert "pip install 'spanbox[cost]'" in run(code)
