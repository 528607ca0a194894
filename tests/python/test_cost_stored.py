"""A model call that tells its tokens has its cost in the store from the start, whichever way it came there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import spanbox
from opentelemetry import trace as otel_trace
from spanbox import _core, cost, observe
from spanbox.otel import TracerProvider

USAGE = {"input_tokens": 10_000, "cache_read_tokens": 8_000, "output_tokens": 500}
CALL = {"provider": "openai", "model": "gpt-5", **USAGE}
CENTS = 0.0085
VERSION = cost.of(provider="openai", model="gpt-5", usage=USAGE).price_version


@pytest.fixture
def own_prices() -> Iterator[None]:
    yield
    cost.clear()


@observe(kind="llm")
def call(**columns: Any) -> None:
    span = spanbox.current_span()
    assert span is not None
    span.set(**columns)


def stored(box: Any, filter: str = "kind == llm") -> list[tuple[Any, ...]]:
    names = ("cost_usd", "cost_source", "price_version")
    return [tuple(row.get(name) for name in names) for row in box.spans(filter).columns(*names)]


def test_observed_call(recorded: Any) -> None:
    call(**CALL)
    box = spanbox.open(recorded.path)
    assert stored(box) == [(CENTS, "computed", VERSION)]
    assert box.spans("cost > $0.008").count() == 1
    [row] = box.spans().by("model").agg(usd="sum(cost)")
    assert row["usd"] == CENTS


def test_trace_and_command_line_show_it(recorded: Any) -> None:
    with spanbox.span("agent", kind="agent") as agent:
        call(**CALL)
    box = spanbox.open(recorded.path)
    assert "$0.0085" in repr(box.trace(agent.trace_id))
    for command in (["show", agent.trace_id], ["stats"]):
        program = [sys.executable, "-m", "spanbox", *command, "--json"]
        environment = {**os.environ, "SPANBOX_DIR": str(recorded.path)}
        printed = subprocess.run(program, capture_output=True, text=True, check=True, env=environment).stdout
        assert "0.0085" in printed, command


def test_span_of_opentelemetry(recorded: Any) -> None:
    tracer = TracerProvider(share_context=False).get_tracer("test")
    with tracer.start_as_current_span("chat gpt-5") as span:
        span.set_attribute("gen_ai.operation.name", "chat")
        span.set_attribute("gen_ai.provider.name", "openai")
        span.set_attribute("gen_ai.response.model", "gpt-5")
        span.set_attribute("gen_ai.usage.input_tokens", 10_000)
        span.set_attribute("gen_ai.usage.cache_read.input_tokens", 8_000)
        span.set_attribute("gen_ai.usage.output_tokens", 500)
    assert isinstance(span, otel_trace.Span)
    assert stored(spanbox.open(recorded.path)) == [(CENTS, "computed", VERSION)]


ROW = {
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7", "name": "chat", "kind": "llm",
    "start_ns": time.time_ns(), "duration_ns": 5, **CALL,
}  # fmt: skip


def test_imported_rows(tmp_path: Path) -> None:
    box = spanbox.open(tmp_path, create=True)
    assert box._store.append([ROW]) == 1
    assert stored(box) == [(CENTS, "computed", VERSION)]


def test_ingested_table(tmp_path: Path) -> None:
    box = spanbox.open(tmp_path / "box", create=True)
    lines = tmp_path / "calls.jsonl"
    lines.write_text(json.dumps(ROW) + "\n")
    box.ingest(lines)
    assert stored(box) == [(CENTS, "computed", VERSION)]


def test_received_otlp(tmp_path: Path) -> None:
    box = spanbox.open(tmp_path, create=True)
    body = _core.encode_otlp([ROW], is_json=False, openinference=False)
    assert box._store.receive_otlp(body, is_json=False)[0] == 1
    assert stored(box) == [(CENTS, "computed", VERSION)]


def test_killed_process(tmp_path: Path) -> None:
    script = f"""
import os, signal, spanbox
spanbox.configure({str(tmp_path)!r})
with spanbox.span("chat", kind="llm") as span:
    span.set(**{CALL!r})
open_span = spanbox.span("chat", kind="llm").__enter__()
open_span.set(**{CALL!r})
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    assert stored(spanbox.open(tmp_path)) == [(CENTS, "computed", VERSION)] * 2


def test_running_call(recorded: Any) -> None:
    with spanbox.span("chat", kind="llm") as span:
        span.set(**CALL)
        assert stored(spanbox.open(recorded.path), "status == running") == [(CENTS, "computed", VERSION)]


def test_what_is_not_known_is_said_and_not_guessed(recorded: Any) -> None:
    call(**CALL | {"model": "a-model-of-tomorrow"})
    call(**CALL | {"output_tokens": -1})
    call(**CALL | {"service_tier": "a-tier-of-tomorrow"})
    call(input_tokens=5)
    assert stored(spanbox.open(recorded.path)) == [(None, "unpriced", None)] * 4


def test_what_a_call_tells_stays(recorded: Any) -> None:
    call(**CALL, cost_usd=7.0)
    call(**CALL, cost_usd=0.0, cost_source="mine")
    call(**CALL, served_from_cache=True)
    call(provider="openai", model="gpt-5")
    with spanbox.span("sum", kind="agent") as agent:
        agent.set(**CALL)
    box = spanbox.open(recorded.path)
    expected = [(7.0, None, None), (0.0, "mine", None), *[(None, None, None)] * 3]
    assert sorted(stored(box, ""), key=str) == sorted(expected, key=str)


def test_prices_of_ones_own_hold_at_once(recorded: Any, own_prices: None) -> None:
    cost.override(model="GPT-5*", name="contract A", since="2026-01-01", input_per_million=1, output_per_million=2)
    call(**CALL)
    cost.override(model="nova", tier="batch", name="contract B", input_per_million=1, output_per_million="0.5")
    call(model="nova", input_tokens=1_000_000, output_tokens=0, service_tier="batch")
    spanbox.flush()
    cost.clear()
    call(**CALL)
    expected = {(0.011, "computed", "contract A"), (1.0, "computed", "contract B"), (CENTS, "computed", VERSION)}
    assert set(stored(spanbox.open(recorded.path))) == expected


def test_report_takes_it_and_computes_it_anew_with_other_prices(recorded: Any, own_prices: None) -> None:
    call(**CALL)
    box = spanbox.open(recorded.path)
    report = box.cost()
    assert (report.total.cost_usd, report.total.cost_source, report.price_versions) == (CENTS, "computed", [VERSION])
    cost.override(model="gpt-5", name="contract A", input_per_million=1, output_per_million=2)
    report = box.cost()
    assert (report.total.cost_usd, report.price_versions) == (0.011, ["contract A"])
    assert box.reprice().changed == 1
    assert box.cost().total.cost_source == "repriced"
    assert stored(box) == [(CENTS, "computed", VERSION)]


COUNTS = [
    {
        "input_tokens": 1_000,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "output_tokens": 77,
        "reasoning_tokens": 0,
    },
    {
        "input_tokens": 999_999,
        "cache_read_tokens": 3,
        "cache_write_tokens": 5,
        "output_tokens": 1,
        "reasoning_tokens": 1,
    },
    {"input_tokens": 10, "cache_read_tokens": 30, "cache_write_tokens": 0, "output_tokens": 9, "reasoning_tokens": 2},
]


def test_every_model_of_the_list_costs_what_the_list_says(tmp_path: Path) -> None:
    """Two implementations of the list's rules: spanbox.cost asks genai-prices, rows are priced by _core."""
    from genai_prices.data import providers

    names = [(provider.id, model.id) for provider in providers for model in provider.models]
    names += [(None, model) for _, model in names] + [(provider, f"{model}-20260301") for provider, model in names]
    listed = [(provider.id, model.id) for provider in providers for model in provider.models]
    names += [(given, f"{provider}/{model}") for provider, model in listed for given in (None, "litellm", provider)]
    names += [(provider, f"x/models/{model}") for provider, model in listed]
    moments = [time.time_ns(), 1_735_689_600_000_000_000, 1_760_000_000_000_000_000]
    asked = [(*name, moments[at % 3], COUNTS[at % 7 % 3]) for at, name in enumerate(names)]
    lines = tmp_path / "calls.jsonl"
    with lines.open("w") as out:
        for at, (provider, model, start_ns, counts) in enumerate(asked):
            row = {"kind": "llm", "start_ns": start_ns, "provider": provider, "model": model, "at": at, **counts}
            print(json.dumps({key: value for key, value in row.items() if value is not None}), file=out)
    box = spanbox.open(tmp_path / "box", create=True)
    box.ingest(lines)
    found = {row["at"]: row["cost_usd"] for row in box.spans().columns("at", "cost_usd")}
    expected = cost.of_columns(
        provider=[each[0] for each in asked], model=[each[1] for each in asked], at=[each[2] for each in asked],
        **{name: [each[3][name] for each in asked] for name in COUNTS[0]},
    )  # fmt: skip
    wrong = [
        (each[:3], found[at], usd)
        for at, (each, usd) in enumerate(zip(asked, expected, strict=True))
        if found[at] != (None if usd is None else float(usd))
    ]
    assert len([usd for usd in expected if usd is not None]) > 2_000
    assert wrong == []
