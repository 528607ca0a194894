"""What a store's model calls cost: every cent once, recorded or computed, and what caching saved."""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import spanbox
from spanbox import Box, cost

pytest.importorskip("genai_prices", reason="prices need the extra 'cost'")

MS = 1_000_000
START_NS = 1_780_000_000_000 * MS
M = 1_000_000
DAY_NS = 86_400_000 * MS


@pytest.fixture(autouse=True)
def contract() -> Iterator[None]:
    """Round figures, which no list changes."""
    cost.override(
        model="gpt-x", name="contract X", input_per_million=2, output_per_million=10,
        cache_read_per_million=0.5, cache_write_per_million=3,
    )  # fmt: skip
    yield
    cost.clear()


def span(trace: int, number: int, parent: int | None = None, **values: Any) -> dict[str, Any]:
    row = {
        "trace_id": f"{trace:032x}", "span_id": f"{number:016x}", "name": f"s{number}", "kind": "llm",
        "start_ns": START_NS + trace * 1_000 * MS + number * MS, "duration_ns": MS, **values,
    }  # fmt: skip
    return row if parent is None else {**row, "parent_id": f"{parent:016x}"}


@pytest.fixture
def calls(box: Box) -> Box:
    box._store.append(
        [
            span(1, 1, kind="agent", cost_usd=9.0, input_tokens=5, tenant="acme"),  # repeats its calls
            span(1, 2, 1, model="gpt-x", cost_usd=1.5, input_tokens=M, output_tokens=0, tenant="acme"),
            span(1, 3, 1, model="gpt-x", input_tokens=M, output_tokens=M // 10, tenant="globex"),  # 3.0 computed
            span(2, 1, model="gpt-x", input_tokens=M, cache_read_tokens=M // 2, output_tokens=0, tenant="acme"),  # 1.25
            span(3, 1, model="nobody-knows", provider="openai", input_tokens=10, output_tokens=10, tenant="globex"),
            span(4, 1, kind="tool", tenant="globex"),
        ]
    )
    return box


def by(report: Any, *names: str) -> dict[Any, Any]:
    return {tuple(row.group.values()): tuple(getattr(row, name) for name in names) for row in report}


def test_costs_are_recorded_or_computed_and_say_so(calls: Box) -> None:
    report = calls.cost()
    assert by(report, "calls", "cost_usd", "cost_source", "unpriced_calls") == {
        ("gpt-x",): (3, 5.75, "both", 0),
        ("nobody-knows",): (1, None, None, 1),
    }
    assert (report.total.calls, report.total.cost_usd, report.total.unpriced_calls) == (4, 5.75, 1)
    assert report.price_versions == ["contract X"]
    assert by(calls.cost(by=["tenant"]), "cost_usd", "cost_source") == {
        ("globex",): (3.0, "computed"),
        ("acme",): (2.75, "both"),
    }
    assert by(calls.cost(by=["tenant", "model"]), "calls") == {
        ("globex", "gpt-x"): (1,), ("acme", "gpt-x"): (2,), ("globex", "nobody-knows"): (1,),
    }  # fmt: skip
    [everything] = calls.cost(by=[])
    assert everything.cost_usd == 5.75


def test_calls_that_cannot_be_priced_are_counted_and_their_models_named(box: Box) -> None:
    box._store.append(
        [
            span(1, 1, model="gpt-x", input_tokens=M),
            span(1, 2, model="mystery", provider="openai", input_tokens=5),
            span(1, 3, provider="openai", output_tokens=5),
            span(2, 1, model="gpt-x"),  # tells nothing
            span(2, 2, model="gpt-x", status="error"),  # is not billed
            span(2, 3, model="gpt-x", status="running"),  # may yet tell
            span(2, 4, model="gpt-x", served_from_cache=True),
            span(3, 1, name="wrapper", input_tokens=M, model="gpt-x"),
            span(3, 2, 1),  # what is around it tells
            span(4, 1, name="wrapper"),
            span(4, 2, 1, input_tokens=M, model="gpt-x"),  # it tells for what is around it
        ]
    )
    report = box.cost()
    assert by(report, "untold_calls", "unpriced_calls")[("gpt-x",)] == (1, 0)
    assert (report.total.untold_calls, report.total.unpriced_calls, report.total.cost_usd) == (1, 2, 6.0)
    assert report.as_dict()["unpriced"] == {"mystery of openai": 1, "no model of openai": 1}
    assert report.remarks[1:3] == [
        "2 calls with tokens have no known price: mystery of openai, no model of openai",
        "1 call tells neither tokens nor cost, and cannot be priced",
    ]


def test_ratios_and_savings(calls: Box) -> None:
    report = calls.cost('model == "gpt-x"')
    [row] = report
    assert row.usd_per_1k_calls == pytest.approx(5_750 / 3)
    assert (row.input_tokens, row.cache_read_tokens, row.output_tokens) == (3 * M, M // 2, M // 10)
    assert row.cache_hit_rate == pytest.approx(1 / 6)
    assert row.saved_usd == 0.75
    assert calls.cost('tenant == "globex"').total.saved_usd is None


def test_a_cache_that_is_only_written_loses_money(box: Box) -> None:
    box._store.append([span(1, 1, model="gpt-x", input_tokens=M, cache_write_tokens=M, output_tokens=0)])
    [row] = box.cost()
    assert (row.cost_usd, row.saved_usd) == (3.0, -1.0)


def test_savings_where_cached_tokens_are_counted_beside_the_input(box: Box) -> None:
    box._store.append([span(1, 1, model="gpt-x", input_tokens=M // 2, cache_read_tokens=M, output_tokens=0)])
    [row] = box.cost()
    assert (row.cost_usd, row.saved_usd) == (1.5, 1.5)


WRAPPED: dict[str, tuple[list[dict[str, Any]], float | None, str | None]] = {
    "both tell: the inner one": (
        [{"cost_usd": 1.0, "input_tokens": M}, {"cost_usd": 2.0, "input_tokens": M}], 2.0, "recorded",
    ),
    "a price outside, tokens inside": ([{"cost_usd": 1.0}, {"input_tokens": M}], 2.0, "computed"),
    "the wrapper repeats the tokens": ([{"input_tokens": M}, {"input_tokens": M}], 2.0, "computed"),
    "the wrapper's tokens, and the price inside": ([{"input_tokens": M}, {"cost_usd": 1.0}], 1.0, "recorded"),
    "only the wrapper tells": ([{"input_tokens": M}, {}], 2.0, "computed"),
    "nobody tells": ([{}, {}], None, None),
}  # fmt: skip


@pytest.mark.parametrize("case", WRAPPED)
def test_a_model_call_around_another_counts_once(case: str, box: Box) -> None:
    (outer, inner), usd, source = WRAPPED[case]
    box._store.append(
        [
            span(1, 1, model="gpt-x", **outer),
            span(1, 2, 1, kind="chain"),
            span(1, 3, 2, model="gpt-x", **inner),
        ]
    )
    [row] = box.cost()
    assert (row.calls, row.cost_usd, row.cost_source) == (1, usd, source)
    assert box.trace(f"{1:032x}").cost_usd == usd


def test_odd_values_in_the_columns_have_no_price(box: Box) -> None:
    box._store.append([span(1, 1, model=7, provider=True, input_tokens=5), span(2, 1, model="gpt-x", input_tokens=-5)])
    assert (box.cost().total.calls, box.cost().total.cost_usd, box.cost().total.unpriced_calls) == (2, None, 2)


def test_only_spans_of_the_time_and_the_filter_count(calls: Box) -> None:
    since = START_NS + 2_000 * MS
    assert calls.cost(since=since).total.calls == 2
    assert calls.cost(until=since).total.calls == 2
    assert calls.cost("duration > 1h").total.calls == 0
    assert list(calls.cost("duration > 1h")) == []
    with pytest.raises(spanbox.FilterError):
        calls.cost("no such thing")
    with pytest.raises(spanbox.FilterError):
        calls.cost("model == 1) or (kind == tool")
    with pytest.raises(ValueError, match="is a figure"):
        calls.cost(by=["cost_usd"])
    with pytest.raises(TypeError, match="give a list"):
        calls.cost(by="model")  # type: ignore[arg-type]


def test_the_model_that_was_asked_for_is_priced_where_no_other_is_told(box: Box) -> None:
    box._store.append([span(1, 1, model_request="gpt-x", input_tokens=M, output_tokens=0)])
    assert box.cost(by=["model_request"]).total.cost_usd == 2.0


def test_report_is_readable(calls: Box) -> None:
    assert str(calls.cost()).splitlines() == [
        "model         calls    cost  per 1k     in    out  cached    saved",
        "gpt-x             3  $5.75*  $1,917  3.0 M  100 K    17 %  $0.7500",
        "nobody-knows      1       —       —     10     10       —        —",
        "total             4  $5.75*  $1,438  3.0 M  100 K    17 %  $0.7500",
        "* computed from tokens: contract X",
        "1 call with tokens has no known price: nobody-knows of openai",
    ]
    assert repr(calls.cost()) == "<CostReport 2 rows, 4 calls, $5.75>"
    assert "<td" in calls.cost()._repr_html_()


def test_names_from_outside_do_nothing_to_a_terminal_or_a_page(box: Box) -> None:
    box._store.append([span(1, 1, model="\x1b[2J<script>", cost_usd=1.0)])
    assert "\x1b" not in str(box.cost())
    assert "<script>" not in box.cost()._repr_html_()


def test_costs_by_day(calls: Box) -> None:
    day = START_NS // DAY_NS * DAY_NS
    calls._store.append([{**span(9, 1, model="gpt-x", cost_usd=4.0), "start_ns": day + DAY_NS + 1}])
    report = calls.cost(by=["model"], every="1d")
    assert by(report, "cost_usd") == {
        (day, "gpt-x"): (5.75,), (day, "nobody-knows"): (None,), (day + DAY_NS, "gpt-x"): (4.0,),
    }  # fmt: skip
    assert report.by == ("time", "model")
    assert "2026-05-28" in str(report)
    assert [row.cost_usd for row in calls.cost(by=[], every="1d")] == [5.75, 4.0]


def test_a_call_answered_from_a_cache_of_its_own_costs_nothing(box: Box) -> None:
    box._store.append(
        [
            span(1, 1, model="gpt-x", input_tokens=M, output_tokens=0, served_from_cache=True),
            span(2, 1, model="gpt-x", input_tokens=M, output_tokens=0, cost_usd=2.0, served_from_cache=True),
            span(3, 1, model="gpt-x", input_tokens=M, output_tokens=0, served_from_cache=False),
        ]
    )
    [row] = box.cost()
    assert (row.calls, row.cost_usd, row.cost_source) == (3, 2.0, "computed")
    assert (row.served_calls, row.served_usd) == (2, 4.0)
    assert "2 calls answered from a cache of its own, which saved $4.00" in str(box.cost())


def turn(number: int, tokens: int, read: int, written: int = 0, **values: Any) -> dict[str, Any]:
    told = {"cache_read_tokens": read, "cache_write_tokens": written, "output_tokens": 0, "session_id": "s"}
    row = span(number, 1, model="gpt-x", provider="p", input_tokens=tokens, **{**told, **values})
    return {**row, "start_ns": START_NS + number * 60_000 * MS}


BREAKS: dict[str, tuple[list[dict[str, Any]], float]] = {
    "what was there is read": ([turn(1, M, 0, M), turn(2, 2 * M, M, M)], 0.0),
    "none of it is read": ([turn(1, M, 0, M), turn(2, 2 * M, 0)], 1.5),  # a million at 2.0 and not at 0.5
    "it is written again": ([turn(1, M, 0, M), turn(2, M, 0, M)], 2.5),  # at 3.0 and not at 0.5
    "half of it is read": ([turn(1, M, M), turn(2, M, M // 2)], 0.75),
    "it was no longer there": ([turn(1, M, 0, M), turn(9, M, 0)], 0.0),
    "a shorter input is another conversation": ([turn(1, M, 0, M), turn(2, M // 2, 0), turn(3, M, M)], 0.0),
    "another session": ([turn(1, M, 0, M), turn(2, M, 0, session_id="t")], 0.0),
    "nothing was ever cached": ([turn(1, M, 0), turn(2, M, 0)], 0.0),
}


@pytest.mark.parametrize("case", BREAKS)
def test_money_lost_by_broken_prefixes(case: str, box: Box) -> None:
    rows, lost = BREAKS[case]
    box._store.append(rows)
    assert (box.cost().total.lost_usd or 0.0) == lost


def test_out_in_ratio(calls: Box) -> None:
    assert calls.cost('model == "gpt-x"').total.out_in_ratio == pytest.approx(1 / 30)


def test_tiers_that_spans_tell(box: Box) -> None:
    cost.override(model="gpt-x", tier="batch", input_per_million=1, output_per_million=5)
    box._store.append(
        [
            span(1, 1, model="gpt-x", input_tokens=M, output_tokens=0, service_tier="batch"),
            span(2, 1, model="gpt-x", input_tokens=M, output_tokens=0, service_tier="default"),
            span(3, 1, model="gpt-x", input_tokens=M, output_tokens=0, service_tier="flex"),
        ]
    )
    report = box.cost(by=["service_tier"])
    assert by(report, "cost_usd") == {("default",): (2.0,), ("batch",): (1.0,), ("flex",): (None,)}
    told = {"openai.response.service_tier": "batch"}  # as OpenTelemetry has it
    box._store.append([span(4, 1, model="gpt-x", input_tokens=M, output_tokens=0, tenant="t", **told)])
    assert box.cost('tenant == "t"').total.cost_usd == 1.0


def test_rows_give_what_the_long_way_gives(box: Box) -> None:
    """A rate as a row of whole numbers is the same arithmetic, to the last digit."""
    models = [("openai", "gpt-5"), ("anthropic", "claude-sonnet-4-5"), ("google", "gemini-2.5-pro"),
              ("openai", "text-embedding-3-small"), (None, "gpt-x")]  # fmt: skip
    seed = random.Random(7)
    names = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
    for _ in range(400):
        provider, model = seed.choice(models)
        total, out = seed.choice([0, 7, 199_999, 200_000, 200_001, 10**6]), seed.choice([0, 3, 10**5])
        parts = [total, seed.choice([0, total // 3, total]), seed.choice([0, total // 5]), out, seed.choice([0, out])]
        counts = [None if seed.random() < 0.2 else part for part in parts]
        if all(count is None for count in counts):
            continue
        usage = {name: count for name, count in zip(names, counts, strict=True) if count is not None}
        one = cost.of(provider=provider, model=model, usage=usage, at="2026-08-01")
        columns: Any = {name: [count] for name, count in zip(names, counts, strict=True)}
        [many] = cost.of_columns(provider=provider, model=model, at="2026-08-01", **columns)
        assert many == one.usd, (provider, model, usage, one)


def test_a_report_as_a_file(calls: Box, tmp_path: Path) -> None:
    formula, script = "=HYPERLINK(1)", "<script>alert(1)</script>"
    calls._store.append([span(7, 1, model="gpt-x", cost_usd=1.0, tenant=formula), span(8, 1, tenant=script)])
    report = calls.cost(by=["tenant"], since=START_NS, until=START_NS + DAY_NS)
    text = report.to_csv(tmp_path / "costs.csv")
    assert (tmp_path / "costs.csv").read_text() == text
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["tenant"] for row in rows] == ["globex", "acme", f"'{formula}", script, "total"]
    assert [row["cost_usd"] for row in rows] == ["3.0", "2.75", "1.0", "", "6.75"]
    page = report.to_html(tmp_path / "costs.html", title="Costs of <May>")
    assert (tmp_path / "costs.html").read_text() == page
    assert "<script" not in page
    assert "<h1>Costs of &lt;May&gt;</h1><p>2026-05-28" in page
    assert "contract X" in page
    for start in ("+1", "-1", "@x", "\tx", "\rx", "＝x"):
        calls._store.append([span(20 + ord(start[0]) % 50, 1, cost_usd=1.0, team=start)])
        assert f"'{start}" in calls.cost("team != none", by=["team"]).to_csv()
        calls.erase("team != none")


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**{k: v for k, v in os.environ.items() if k != "SPANBOX_DIR"}, "COLUMNS": "80", "TZ": "UTC"}
    return subprocess.run(
        [sys.executable, "-m", "spanbox", *arguments],
        cwd=cwd, env=environment, capture_output=True, encoding="utf-8", timeout=300, check=False,
    )  # fmt: skip


def test_on_the_command_line(calls: Box, tmp_path: Path) -> None:
    pytest.importorskip("typer")
    own = tmp_path / "own.toml"
    own.write_text(
        '[[price]]\nname = "contract X"\nmodel = "gpt-x"\ninput_per_million = 2\n'
        "cache_read_per_million = 0.5\noutput_per_million = 10\n"
    )
    store = ("--store", str(calls.path), "--prices", str(own))
    shown = run("cost", *store, cwd=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout == f"{calls.cost()}\n"
    told = json.loads(run("cost", 'model == "gpt-x"', *store, "--by", "tenant", "--json", cwd=tmp_path).stdout)
    assert [(row["tenant"], row["cost_usd"], row["cost_source"]) for row in told["rows"]] == [
        ("globex", 3.0, "computed"), ("acme", 2.75, "both"),
    ]  # fmt: skip
    assert told["price_versions"] == ["contract X"]
    assert "no model calls that match" in run("cost", "duration > 1h", *store, cwd=tmp_path).stdout
    own.write_text("[[price]]\nmodel = 1\n")
    wrong = run("cost", *store, cwd=tmp_path)
    assert wrong.returncode == 1
    assert "own.toml: price 1" in wrong.stderr


def test_days_are_told_apart_on_a_narrow_terminal(
    calls: Box, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("typer")
    from spanbox.cli import _money
    from spanbox.cli._output import Output

    monkeypatch.setattr(Output, "width", property(lambda _: 60))
    report = calls.cost(by=["tenant", "model"], every="1d")
    _money._print(Output(), report, len(report.by))
    assert capsys.readouterr().out.splitlines()[1].startswith("2026-05-28  globex")


def test_questions_on_the_command_line(calls: Box, tmp_path: Path) -> None:
    pytest.importorskip("typer")
    own = tmp_path / "own.toml"
    own.write_text('[[price]]\nname = "contract X"\nmodel = "gpt-x"\ninput_per_million = 2\noutput_per_million = 10\n')
    store = ("--store", str(calls.path))
    by_day = run("cost", *store, "--every", "1d", "--prices", str(own), "--by", "tenant", cwd=tmp_path)
    assert by_day.stdout.splitlines()[0].split()[:2] == ["time", "tenant"]
    for name, beginning in (("costs.csv", "model,calls"), ("costs.html", "<!doctype html>")):
        written = run("cost", *store, "--out", name, cwd=tmp_path)
        assert (written.returncode, f"written to {name}" in written.stdout) == (0, True)
        assert (tmp_path / name).read_text().startswith(beginning)
    assert run("cost", *store, "--out", "costs.pdf", cwd=tmp_path).returncode == 2
    projected = json.loads(run("cost", *store, "--project", "--json", cwd=tmp_path).stdout)
    assert projected["total"]["spent_usd"] == 0.0  # this month
    assert "no call with a cost in the last 56 days" in run("cost", *store, "--project", cwd=tmp_path).stdout
    assert run("cost", *store, "--project", "--since", "7d", cwd=tmp_path).returncode == 2
    (tmp_path / "bill.csv").write_text("date,model,cost\n2026-05-28,gpt-x,1.5\n2026-05-27,gpt-x,1\n")
    different = run("reconcile", "bill.csv", *store, cwd=tmp_path)
    assert (different.returncode, "1 missing" in different.stdout) == (1, True)
    told = json.loads(run("runaways", *store, "--json", cwd=tmp_path).stdout)
    assert told == {"traces": 4, "unjudged": 4, "rows": []}
    assert "4 are of kinds too rare" in run("runaways", *store, cwd=tmp_path).stdout


def test_without_the_extra_what_is_stored_is_told(calls: Box) -> None:
    code = "import sys; sys.modules['genai_prices'] = None\nimport spanbox\n"
    code += f"report = spanbox.open({str(calls.path)!r}).cost()\nprint(report.total.cost_usd, report.notes)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.startswith('5.75 ["nothing is computed: prices come from genai-prices: pip install'), done.stderr
