"""reprice and reparse: spans stay as they are, what is newer is known beside them, and both can be asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import spanbox
from spanbox import Box, cost

pytest.importorskip("genai_prices", reason="prices need the extra 'cost'")

M = 1_000_000
K = 100_000  # below the longer contexts of the price list
START_NS = 1_780_000_000_000 * M
DAY_NS = 86_400_000 * M


def span(trace: int, number: int, parent: int | None = None, **values: Any) -> dict[str, Any]:
    row = {
        "trace_id": f"{trace:032x}", "span_id": f"{number:016x}", "name": f"s{number}", "kind": "llm",
        "start_ns": START_NS + trace * 1_000 * M + number * M, "duration_ns": M, **values,
    }  # fmt: skip
    return row if parent is None else {**row, "parent_id": f"{parent:016x}"}


def near(value: float) -> Any:
    return pytest.approx(value)


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**{k: v for k, v in os.environ.items() if k != "SPANBOX_DIR"}, "COLUMNS": "80", "TZ": "UTC"}
    return subprocess.run(
        [sys.executable, "-m", "spanbox", *arguments],
        cwd=cwd, env=environment, capture_output=True, encoding="utf-8", timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def contract() -> Iterator[None]:
    old_contract()
    yield
    cost.clear()


def old_contract() -> None:
    cost.override(
        model="gpt-x", name="contract 1", input_per_million=2, cache_read_per_million=1, output_per_million=10
    )


def store_unpriced(box: Box, rows: list[dict[str, Any]]) -> None:
    """Before there were prices."""
    cost.clear()
    box._store.append(rows)
    old_contract()


def new_contract() -> None:
    cost.override(model="gpt-x", name="contract 2", input_per_million=1, cache_read_per_million=1, output_per_million=5)


@pytest.fixture
def calls(box: Box) -> Box:
    store_unpriced(
        box,
        [
            span(1, 1, model="gpt-x", cost_usd=2.0, input_tokens=M, output_tokens=0),
            span(2, 1, model="gpt-x", cost_usd=7.0, input_tokens=M, output_tokens=0),  # was wrong
            span(3, 1, model="gpt-x", input_tokens=M, output_tokens=0),
            span(4, 1, model="nobody-knows", provider="openai", input_tokens=5, output_tokens=5),
            span(5, 1, kind="tool"),
        ],
    )
    return box


def test_what_is_computed_anew_is_kept_beside_what_was_recorded(calls: Box) -> None:
    before = calls.spans().columns("trace_id", "cost_usd").order_by("trace_id")
    recorded = list(before)
    done = calls.reprice()
    assert (done.looked_at, done.changed, done.unpriced) == (4, 2, 1)
    assert (done.before_usd, done.after_usd, done.versions) == (7.0, 4.0, {"contract 1"})
    assert list(before) == recorded
    newest = calls.spans("score.cost_usd != none").columns("trace_id", "score.cost_usd").order_by("trace_id")
    assert [row["score.cost_usd"] for row in newest] == [2.0, 2.0]
    [row] = calls.scores('name == "cost_usd" and before_usd != none')
    assert (row["value"], row["evaluator"], row["version"], row["before_usd"]) == (2.0, "spanbox", "contract 1", 7.0)
    assert calls.spans("score.cost_usd > $1").count() == 2


def test_reports_take_the_newest_cost_and_old_ones_can_be_asked(calls: Box) -> None:
    assert calls.cost().total.cost_usd == 11.0  # 2 and 7 recorded, 2 computed
    calls.reprice()
    first_ns = time.time_ns()
    report = calls.cost()
    assert (report.total.cost_usd, report.total.cost_source, report.total.unpriced_calls) == (6.0, "both", 1)
    new_contract()
    assert calls.reprice("cost == 2.0 or cost == none").changed == 2
    second_ns = time.time_ns()
    assert calls.cost().total.cost_usd == 4.0
    assert calls.cost(as_of=second_ns).total.cost_usd == 4.0
    assert calls.cost(as_of=first_ns).total.cost_usd == 6.0
    cost.clear("contract 2")
    assert calls.cost(as_of=0).total.cost_usd == 11.0
    assert [row.cost_source for row in calls.cost('model == "gpt-x"', as_of=0)] == ["both"]
    assert [row.cost_source for row in calls.cost('model == "gpt-x" and cost == none')] == ["repriced"]


def test_repricing_again_changes_nothing(calls: Box) -> None:
    calls.reprice()
    count = calls.scores().count()
    again = calls.reprice()
    assert (again.looked_at, again.changed, calls.scores().count()) == (4, 0, count)
    assert str(again) == "0 of 4 calls changed; 1 have no known price"


def test_a_dry_run_only_tells(calls: Box) -> None:
    assert calls.reprice(dry_run=True).changed == 2
    assert calls.scores().count() == 0
    assert calls.reprice(since=START_NS + 3_000 * 1_000_000, dry_run=True).looked_at == 2


def test_a_call_inside_another_is_repriced_and_counts_once(box: Box) -> None:
    rows = [span(1, 1, model="gpt-x", cost_usd=9.0), span(1, 2, 1, model="gpt-x", input_tokens=M, output_tokens=0)]
    store_unpriced(box, rows)
    assert box.cost().total.cost_usd == 9.0
    box.reprice()
    assert (box.cost().total.cost_usd, box.cost().total.calls) == (2.0, 1)


def test_a_score_of_somebody_else_is_no_correction(calls: Box) -> None:
    calls.score("input_tokens", 5, trace_id=f"{1:032x}", span_id=f"{1:016x}", evaluator="me")
    assert calls.cost().total.input_tokens == 3 * M + 5


def test_kept_usage_is_priced_with_all_it_tells(box: Box) -> None:
    usage = {"input_tokens": 0, "cache_creation_input_tokens": K, "output_tokens": 0, "cache_read_input_tokens": 0}
    lifetimes = {"cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": K}}
    told = {"provider": "anthropic", "model": "claude-sonnet-4-5", "input_tokens": K, "cache_write_tokens": K}
    box._store.append([span(1, 1, **told, output_tokens=0, usage=json.dumps({**usage, **lifetimes}))])
    assert box.reprice().after_usd == 0.6  # an hour costs twice the input; the columns alone say 0.375


REPLY = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "42"}],
    "usage": {"input_tokens": K // 2, "cache_read_input_tokens": K // 2, "output_tokens": 0},
}  # fmt: skip


def test_what_a_parser_missed_is_read_again(box: Box) -> None:
    """OpenInference 3487: the breakdown of the cache was in the reply, and never recorded."""
    told = {"provider": "anthropic", "model": "claude-sonnet-4-5", "output": json.dumps(REPLY)}
    box._store.append(
        [
            span(1, 1, **told, input_tokens=K // 2, output_tokens=0, cost_usd=0.15),
            span(2, 1, **{**told, "model": None}),
            span(3, 1, **told, input_tokens=K, cache_read_tokens=K // 2, output_tokens=0, cost_usd=0.165),
            span(4, 1, provider="openai", model="gpt-x", output="just text, of usage", input_tokens=5),
        ]
    )
    before = list(box.spans().columns("trace_id", "input_tokens", "cost_usd").order_by("trace_id"))
    done = box.reparse()
    assert (done.looked_at, done.changed) == (4, 2)
    assert (done.before_usd, done.after_usd) == (0.15, near(0.33))
    assert list(box.spans().columns("trace_id", "input_tokens", "cost_usd").order_by("trace_id")) == before
    report = box.cost('provider == "anthropic"', by=["provider"])
    [row] = report
    assert (row.input_tokens, row.cache_read_tokens) == (3 * K, 3 * K // 2)
    assert row.cost_usd == near(3 * 0.165)
    assert row.cache_hit_rate == 0.5
    assert row.saved_usd == near(3 * 0.135)
    assert box.spans('score.model == "claude-sonnet-4-5"').count() == 1
    assert box.spans('score.finish_reason == "end_turn"').count() == 2
    assert box.reparse().changed == 0
    assert box.reprice('provider == "anthropic"').changed == 0
    assert box.cost('provider == "anthropic"', as_of=0).total.cost_usd == near(0.15 + 0.165)


def test_replies_of_streams_and_large_ones_are_read_again(recorded: Any) -> None:
    chunks = [
        {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "x"}}], "model": "gpt-x"},
        {"object": "chat.completion.chunk", "choices": [], "usage": {"prompt_tokens": M, "completion_tokens": 0}},
    ]
    whole = {"object": "chat.completion", "model": "gpt-x", "choices": [{"message": {"content": "é" * 20_000}}]}

    @spanbox.observe(kind="llm")
    def stream() -> Iterator[dict[str, Any]]:
        yield from chunks

    @spanbox.observe(kind="llm")
    def large() -> str:
        return json.dumps({**whole, "usage": {"prompt_tokens": M, "completion_tokens": 0}})

    list(stream())
    large()
    with spanbox.span("kept", kind="llm") as kept:
        kept.set(model="gpt-x", usage={"prompt_tokens": M, "completion_tokens": 0})
    done = recorded.box.reparse()
    assert (done.looked_at, done.changed, done.after_usd) == (3, 3, 6.0)
    assert recorded.box.cost().total.cost_usd == 6.0


def test_outputs_of_any_shape_are_answered(box: Box) -> None:
    outputs = [
        '{"usage": [',
        '{"usage": 5}',
        "[1]",
        '{"$blob": "00"}',
        '{"$blob": 7}',
        "usage",
        '[[{"usage": {}}]]',
        "null",
    ]
    box._store.append([span(at + 1, 1, output=text, usage=text) for at, text in enumerate(outputs)])
    done = box.reparse()
    assert (done.looked_at, done.changed) == (len(outputs), 0)


def test_many_calls_are_read_in_steps(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spanbox._cost_corrections._SPANS_A_STEP", 4)
    output = json.dumps({"object": "chat.completion", "model": "gpt-x", "choices": [], "usage": {"prompt_tokens": M}})
    rows = [span(at + 1, 1, output=output) for at in range(15)]
    same = [{**span(at + 100, 1, output=output), "start_ns": START_NS} for at in range(9)]  # at one moment
    box._store.append([*rows, *same])
    assert (box.reparse().changed, box.reparse(until=START_NS + DAY_NS).looked_at) == (24, 24)


def test_on_the_command_line(calls: Box, tmp_path: Path) -> None:
    pytest.importorskip("typer")
    own = tmp_path / "own.toml"
    own.write_text('[[price]]\nname = "mine"\nmodel = "gpt-x"\ninput_per_million = 4\noutput_per_million = 10\n')
    store = ("--store", str(calls.path), "--prices", str(own))
    told = json.loads(run("reprice", *store, "--dry-run", "--json", cwd=tmp_path).stdout)
    assert (told["changed"], told["versions"], calls.scores().count()) == (3, ["mine"], 0)
    done = run("reprice", *store, cwd=tmp_path)
    assert done.stdout == "3 of 4 calls changed: $9.00 before, $12.00 now, by mine; 1 have no known price\n"
    newest = json.loads(run("cost", "--store", str(calls.path), "--json", cwd=tmp_path).stdout)
    assert newest["total"]["cost_usd"] == 12.0
    recorded = json.loads(run("cost", "--store", str(calls.path), "--as-of", "0", "--json", cwd=tmp_path).stdout)
    assert recorded["total"]["cost_usd"] == 9.0
    assert run("reparse", *store, cwd=tmp_path).stdout == "0 of 0 calls changed\n"
