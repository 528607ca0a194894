"""Prices of one's own, and the price files of others: what holds for which call, and that broken files hold nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from spanbox import Box, cost

pytest.importorskip("genai_prices", reason="prices need the extra 'cost'")

MILLION = {"input_tokens": 1_000_000, "output_tokens": 1_000_000}
CACHED = {"input_tokens": 1_000_000, "cache_read_tokens": 500_000, "cache_write_tokens": 0, "output_tokens": 0}


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    yield
    cost.clear()


def usd(model: str = "gpt-5", usage: Any = MILLION, **about: Any) -> Decimal | None:
    return cost.of(**{"provider": "openai", "model": model, "usage": usage, "at": "2026-06-01T00:00:00Z"} | about).usd


def test_a_contract_comes_before_the_list_and_names_itself() -> None:
    listed = usd()
    cost.override(
        model="gpt-5", provider="openai", input_per_million=1, output_per_million="4.5", cache_read_per_million=0.05,
        name="contract A",
    )  # fmt: skip
    found = cost.of(provider="openai", model="gpt-5", usage=MILLION)
    assert (found.usd, found.price_version, found.provider) == (Decimal("5.5"), "contract A", "openai")
    assert usd(usage=CACHED) == Decimal("0.525")
    assert usd(provider="azure.ai.openai") == listed
    assert usd(model="gpt-5-mini") != Decimal("5.5")
    assert usd(tier="batch") != Decimal("5.5")
    assert cost.clear("contract B") == 0
    assert cost.clear("contract A") == 1
    assert usd() == listed


def test_a_contract_holds_from_one_day_to_another() -> None:
    cost.override(
        model="gpt-5*", provider="openai", input_per_million=1, output_per_million=1,
        since="2026-01-01T00:00:00Z", until="2026-07-01T00:00:00Z",
    )  # fmt: skip
    found = {
        at: usd("GPT-5-mini", at=f"{at}Z") == 2
        for at in ("2025-12-31T23:59:59", "2026-01-01T00:00:00", "2026-06-30T23:59:59", "2026-07-01T00:00:00")
    }
    assert list(found.values()) == [False, True, True, False]


def test_the_last_override_holds_and_others_for_its_tier() -> None:
    cost.override(model="*", input_per_million=1, output_per_million=1)
    cost.override(model="gpt-5", input_per_million=2, output_per_million=2)
    cost.override(model="gpt-5", tier="batch", input_per_million=3, output_per_million=3)
    assert (usd(), usd("gpt-4o"), usd(tier="batch"), usd(provider="a-host-of-mine")) == (4, 2, 6, 4)
    assert [each.model for each in cost.overrides()] == ["gpt-5", "gpt-5", "*"]


def test_a_deployment_costs_what_the_model_in_it_does() -> None:
    asked: dict[str, Any] = {"usage": MILLION, "at": "2026-03-01"}
    listed = cost.of(provider="azure", model="gpt-4o", **asked)
    cost.override(provider="azure", model="our-chat", like="gpt-4o", name="deployments")
    cost.override(model="arn:*:application-inference-profile/ab12", like="bedrock/amazon.nova-lite-v1:0")
    found = cost.of(provider="azure.ai.openai", model="our-chat", **asked)
    assert (found.usd, found.price_version) == (listed.usd, f"deployments, {listed.price_version}")
    assert cost.of(provider="azure", model="our-chat", tier="batch", **asked).known is False  # nor has the list
    arn = "arn:aws:bedrock:eu-west-1:1:application-inference-profile/ab12"
    nova = cost.of(provider="aws", model="amazon.nova-lite-v1:0", **asked)
    assert cost.of(provider="aws.bedrock", model=arn, **asked).usd == nova.usd
    assert cost.of(provider=None, model=arn, **asked).usd == nova.usd
    cost.override(model="x", like="no-such-model")
    assert "'no-such-model'" in cost.of(provider="openai", model="x", **asked).reason


def test_a_discount_is_off_the_list_while_it_holds(box: Box, tmp_path: Path) -> None:
    def costs() -> dict[tuple[str, str], Any]:
        usage = {"input_tokens": 300_001, "output_tokens": 7}
        found = {}
        for at in ("2026-10-31", "2026-11-01"):
            for tier in ("standard", "batch"):
                of = cost.of(provider="anthropic", model="claude-opus-4-5", usage=usage, at=at, tier=tier)
                found[at, tier] = of.usd
        return found

    listed = costs()
    assert None not in listed.values()
    cost.override(provider="anthropic", model="*", discount=0.15, since="2026-11-01", name="contract")
    assert costs() == {key: usd * (1 if key[0] < "2026-11" else Decimal("0.85")) for key, usd in listed.items()}
    rows = [
        {"kind": "llm", "start_ns": 1_800_000_000_000_000_000 + at, "duration_ns": 1, "provider": "anthropic",
         "model": "claude-haiku-4-5", "input_tokens": 1_000 + at, "output_tokens": at, "span_id": f"{at + 1:016x}"}
        for at in range(50)
    ]  # fmt: skip
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    box.ingest(path)
    for row in box.spans().columns("cost_usd", "price_version", "input_tokens", "output_tokens"):
        counts = {name: row[name] for name in ("input_tokens", "output_tokens")}
        expected = cost.of(provider="anthropic", model="claude-haiku-4-5", usage=counts, at="2027-01-15")
        assert expected.usd is not None
        assert (row["cost_usd"], row["price_version"]) == (float(expected.usd), expected.price_version)
        assert expected.price_version.startswith("contract, genai-prices ")
    assert box.cost(by=["model"]).total.cost_usd == pytest.approx(sum(row["cost_usd"] for row in box.spans()))


def test_columns_are_priced_by_overrides_too() -> None:
    cost.override(model="mine", input_per_million=1, output_per_million=2)
    found = cost.of_columns(
        provider=None, model=["mine", "not-mine"], input_tokens=[1_000_000, 1], output_tokens=[1_000_000, 1]
    )
    assert found == [3, None]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"input_per_milion": 1}, TypeError, "'input_per_milion' is no price; there are input_per_million"),
        ({}, ValueError, "given no price"),
        ({"input_per_million": -1}, ValueError, "input_per_million: -1 is no price"),
        ({"input_per_million": float("inf")}, ValueError, "is no price"),
        ({"input_per_million": True}, ValueError, "is no price"),
        ({"input_per_million": 1, "since": "2026-02-01", "until": "2026-01-01"}, ValueError, "is not before"),
        ({"input_per_million": 1, "since": "soon"}, ValueError, "since='soon' is no moment"),
        ({"discount": 1}, ValueError, "discount=1 is no share"),
        ({"discount": -10}, ValueError, "discount=-10 is no share"),
        ({"discount": True}, ValueError, "discount=True is no share"),
        ({"discount": "much"}, ValueError, "discount='much' is no share"),
        ({"discount": 0.1, "input_per_million": 1}, ValueError, "has prices of its own"),
    ],
)
def test_a_wrong_override_is_refused(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        cost.override(model="gpt-5", **given)
    assert cost.overrides() == ()


TOML = """
[[price]]
name = "contract A"
provider = "openai"
model = "gpt-5*"
input_per_million = 1.1
output_per_million = 8
since = 2026-01-01
[[price]]
model = "house-model"
input_per_million = 0
output_per_million = 0
"""


def test_own_prices_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(TOML)
    assert cost.load(path) == ("spanbox", 2, 0)
    assert usd() == Decimal("9.1")
    less = tmp_path / "less.toml"
    less.write_text('[[price]]\nmodel = "our-chat"\nlike = "openai/gpt-4o"\ndiscount = 0.1\n')
    assert cost.load(less) == ("spanbox", 1, 0)
    assert usd("our-chat", provider="azure") == Decimal("0.9") * (usd("gpt-4o") or 0)
    house = cost.of(model="house-model", usage=MILLION)
    assert (house.usd, house.known) == (0, True)
    assert house.price_version.startswith("prices.toml ")
    (tmp_path / "prices.json").write_text(
        '{"price": [{"model": "gpt-5", "input_per_million": 7, "output_per_million": 0}]}'
    )
    assert cost.load(tmp_path / "prices.json") == ("spanbox", 1, 0)
    assert usd() == 7


LITELLM = {
    "sample_spec": {"input_cost_per_token": 0.0, "litellm_provider": "one of ..."},
    "gpt-5": {
        "input_cost_per_token": 1.25e-06,
        "input_cost_per_token_above_272k_tokens": 2.5e-06,
        "input_cost_per_token_batches": 6.25e-07,
        "output_cost_per_token": 1e-05,
        "output_cost_per_token_priority": 2e-05,
        "cache_read_input_token_cost": 1.25e-07,
        "litellm_provider": "openai",
        "max_input_tokens": 400000,
        "mode": "chat",
    },
    "azure/gpt-5": {"input_cost_per_token": 2e-06, "output_cost_per_token": 2e-05, "litellm_provider": "azure"},
    "dall-e-2": {"input_cost_per_pixel": 1.9e-08, "litellm_provider": "openai", "mode": "image_generation"},
    "odd": {"input_cost_per_token": 1e-06, "cost_per_odd_token": 1, "litellm_provider": "openai"},
}


def test_litellms_file(tmp_path: Path) -> None:
    path = tmp_path / "model_prices.json"
    path.write_text(json.dumps(LITELLM))
    assert cost.load(path) == ("litellm", 4, 2)
    small = {"input_tokens": 100_000, "cache_read_tokens": 50_000, "output_tokens": 10_000}
    assert usd(usage=small) == Decimal("0.0625") + Decimal("0.00625") + Decimal("0.1")
    assert usd() == Decimal("12.5")  # above 272,000 tokens of input
    assert usd(usage=small, tier="batch") == Decimal("0.03125") + Decimal("0.00625") + Decimal("0.1")
    assert usd(usage=small, tier="priority") == Decimal("0.0625") + Decimal("0.00625") + Decimal("0.2")
    assert usd(provider="azure.ai.openai") == usd(model="azure/gpt-5", provider=None) == 22
    assert usd(provider=None) == Decimal("12.5")
    assert cost.of(provider="openai", model="odd", usage=MILLION).known is False


LANGFUSE = [
    {
        "modelName": "claude-sonnet-4-5",
        "matchPattern": "(?i)^(anthropic\\/)?(claude-sonnet-4-5(-\\d{8})?)$",
        "pricingTiers": [
            {
                "isDefault": True,
                "conditions": [],
                "prices": {"input": 3e-6, "output": 1.5e-5, "input_cache_read": 3e-7, "input_cache_creation_1h": 6e-6},
            },
            {
                "isDefault": False,
                "conditions": [{"usageDetailPattern": "input", "operator": "gt", "value": 200000}],
                "prices": {"input": 6e-6, "output": 2.25e-5},
            },
        ],
    },
    {"modelName": "old", "matchPattern": "^old$", "prices": {"input": 2e-6, "output": 2e-6}},
    {"modelName": "old", "matchPattern": "^old$", "startDate": "2020-01-01T00:00:00Z", "inputPrice": 1e-6,
     "outputPrice": 1e-6},
    {"modelName": "ada", "matchPattern": "^ada$", "prices": {"total": 1e-7}},
    {"modelName": "strange", "matchPattern": "^strange$", "prices": {"input": 1e-6, "words": 1e-6}},
]  # fmt: skip


def test_langfuses_file(tmp_path: Path) -> None:
    path = tmp_path / "models.json"
    path.write_text(json.dumps(LANGFUSE))
    assert cost.load(path) == ("langfuse", 4, 1)
    model = "anthropic/Claude-Sonnet-4-5-20250929"
    small = {"input_tokens": 100_000, "cache_read_tokens": 50_000, "output_tokens": 10_000}
    assert usd(model, small) == Decimal("0.15") + Decimal("0.015") + Decimal("0.15")
    assert usd(model) == Decimal("28.5")
    assert usd("old") == 2  # the version that began last
    assert usd("ada", {"input_tokens": 1_000_000}) == Decimal("0.1")


GOOD = {"model": "gpt-5", "input_per_million": 99, "output_per_million": 99}
REGEX = {"modelName": "m", "matchPattern": "^(a+)+$", "prices": {"input": 1}}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.toml", "[[price]]\nmodel = ", "a.toml: "),
        ("a.json", "{", "a.json: "),
        ("a.json", "[" * 100_000, "a.json: "),
        ("a.json", '"text"', "neither prices of spanbox"),
        ("a.json", '{"gpt-5": 1}', "neither prices of spanbox"),
        ("a.json", json.dumps({"price": [GOOD, {"model": "x"}]}), "price 2: model 'x' is given no price"),
        ("a.json", json.dumps({"price": [GOOD, {"input_per_million": 1}]}), "price 2: 'model' is missing"),
        ("a.json", json.dumps({"price": [GOOD, 7]}), "price 2: "),
        ("a.json", json.dumps({"price": [GOOD, GOOD | {"input_per_million": "1e999"}]}), "price 2: input_per_million"),
        ("a.json", json.dumps({"price": [GOOD, GOOD | {"colour": 1}]}), "price 2: 'colour' is no price"),
        ("a.json", json.dumps(LITELLM | {"x": {"input_cost_per_token": "lots"}}), "'x': input_cost"),
        ("a.json", json.dumps(LITELLM | {"x": []}), "'x': "),
        ("a.json", json.dumps([*LANGFUSE, {"modelName": "m", "matchPattern": "("}]), "model 6: "),
        ("a.json", json.dumps([*LANGFUSE, REGEX]), "model 6: .* repeats a group"),
        ("a.json", json.dumps([*LANGFUSE, {}]), "model 6: 'modelName' is missing"),
    ],
)  # fmt: skip
def test_of_a_broken_file_nothing_holds(name: str, content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        cost.load(path)
    assert cost.overrides() == ()


def test_many_threads_see_all_prices_of_a_change_or_none() -> None:
    """The threads that ask end by themselves: when they went on until all changes were made, a machine that was busy
    needed minutes, as they kept the GIL from the one that makes them."""
    wrong: list[object] = []

    def ask() -> None:
        try:
            found = {usd("threads-model", provider=None) for _ in range(500)}
            wrong.extend(found - {None, Decimal(2), Decimal(4)})
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    changes = 0
    while changes < 10 or any(thread.is_alive() for thread in threads):
        price = 1 + changes % 2
        cost.override(model="threads-model", input_per_million=price, output_per_million=price)
        changes += 1
        if changes % 10 == 0:
            cost.clear()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_overrides_need_no_price_list() -> None:
    code = "import sys; sys.modules['genai_prices'] = None\nimport spanbox\n"
    code += "spanbox.cost.override(model='m', input_per_million=2)\n"
    code += "print(spanbox.cost.of(model='m', usage={'prompt_tokens': 1_000_000}).usd)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("2.000000\n", "")
