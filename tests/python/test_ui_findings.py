"""What got worse is found, what did not is not listed, and the call that proves it is one."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import spanbox
from spanbox import Box, _core
from spanbox._apart import traits
from spanbox._comparisons import Period, compare
from spanbox._finding import Findings
from spanbox._significance import holm

HOUR = 3_600_000_000_000
NOW = 1_764_000_000_000_000_000


@pytest.fixture(scope="module")
def found(week: Any) -> Findings:
    found: Findings = week.box.findings(since=week.made.end_ns - HOUR, until=week.made.end_ns)
    return found


def test_everything_that_was_planted_is_found(found: Findings) -> None:
    assert {finding.group for finding in found} == {"failing", "slow", "worse", "dearer", "drifted"}
    by_what = {finding.what: finding for finding in found}
    assert by_what["tool refund_lookup, http_429"].change > 3
    assert 2 < by_what["gpt-5 TTFT p99"].change < 4
    assert by_what["faithfulness"].change == pytest.approx(-0.13, abs=0.04)
    assert by_what["$ per 1 K requests"].change > 1.5
    [drifted] = [finding for finding in found if finding.group == "drifted"]
    assert drifted.what.startswith("input_tokens p")
    assert 3 < drifted.change < 5
    tested = [finding for finding in found if finding.p is not None]
    assert all(finding.p < 0.01 for finding in tested if finding.p is not None)
    assert [finding.what for finding in found if finding not in tested] == ["llm running"]


def test_what_did_not_change_is_not_listed(found: Findings) -> None:
    listed = " ".join(finding.what for finding in found)
    assert "json_valid" not in listed
    assert "claude" not in listed
    assert "gpt-5-mini" not in listed
    assert "order_lookup" not in listed
    assert found.checked > len(found) + 8


def test_the_sentence_says_since_and_names_the_version(found: Findings) -> None:
    things = f"{len(found) - 1} things are worse and 1 column has drifted"
    assert found.sentence.startswith(f"{things} since prompt_version v7.3 at ")
    assert "because" not in f"{found.sentence} {found.detail}"
    assert found.mark is not None
    assert "began within" in found.detail


def test_when_it_began_is_told_to_a_few_buckets(found: Findings, week: Any) -> None:
    """As far as so few calls a bucket can tell: one of the five may be further off."""
    tested = [finding for finding in found if finding.p is not None]
    near = [abs((finding.since_ns or 0) - week.made.deploy_ns) <= 4 * finding.bucket_ns for finding in tested]
    assert near.count(True) >= len(tested) - 1
    assert {len(finding.spark) for finding in tested} == {72}


def test_what_the_calls_concerned_share_is_what_was_planted(found: Findings) -> None:
    shared = {finding.what: finding.differs for finding in found}
    slow = shared["gpt-5 TTFT p99"]
    assert slow is not None
    assert slow.column in ("input_tokens", "retrieve.top_k", "prompt_version", "release")
    assert slow.of_them > 0.9
    assert slow.of_others < 0.3


def test_the_proof_is_the_extreme_of_the_calls_concerned(found: Findings, week: Any) -> None:
    window = {"since": week.made.end_ns - HOUR, "until": week.made.end_ns}
    for finding in found:
        proof = finding.proof
        assert proof is not None
        trace = week.box.trace(proof.trace_id)
        assert any(span.span_id == proof.span_id for span in trace)
        if finding.what == "gpt-5 TTFT p99":
            rows = week.box.spans('model == "gpt-5" and ttft != none', **window).columns("ttft_ns")
            assert proof.value == max(row["ttft_ns"] for row in rows)
        elif finding.group == "failing":
            rows = week.box.spans('name == "refund_lookup" and status == error', **window).columns("start_ns")
            assert proof.start_ns == max(row["start"] for row in rows)
        assert week.box.spans(finding.filter, **window).count() == finding.n


def test_figures_are_those_of_a_naive_count(found: Findings, week: Any) -> None:
    rows = week.box.spans('name == "refund_lookup"', since=found.now[0], until=found.now[1]).columns("status")
    states = [row["status"] for row in rows]
    [failing] = [finding for finding in found if finding.group == "failing"]
    assert failing.of == len(states)
    assert failing.now == states.count("error") / len(states)
    assert failing.n == states.count("error")


def test_before_the_deploy_nothing_is_worse(week: Any) -> None:
    quiet = week.box.findings(since=week.made.deploy_ns - HOUR, until=week.made.deploy_ns)
    assert list(quiet) == []
    assert quiet.sentence == "Nothing is worse than in the 7 days before."
    assert quiet.checked > 8


def test_too_little_data_is_said_as_such(box: Box) -> None:
    assert box.findings().sentence == "There is nothing to compare."
    box._store.append([row(i, NOW - HOUR // 2 + i, ttft_ns=5) for i in range(5)])
    few = box.findings(since=NOW - HOUR, until=NOW)
    assert few.checked == 0
    assert few.too_few > 0
    assert few.sentence == "There is too little data to compare with."


def test_a_filter_narrows_both_sides(week: Any) -> None:
    window = {"since": week.made.end_ns - HOUR, "until": week.made.end_ns}
    assert not week.box.findings('feature == "search" and kind == embedding', **window)
    with pytest.raises(spanbox.FilterError):
        week.box.findings("ttft >", **window)


def test_people_and_pages_see_the_same(found: Findings) -> None:
    assert found.sentence in str(found)
    assert "refund_lookup" in found._repr_html_()
    assert json.loads(json.dumps(found.as_dict()))["checked"] == found.checked
    assert repr(found) == f"<Findings {len(found)} findings, {found.checked} comparisons>"


def row(number: int, start_ns: int, **values: Any) -> dict[str, Any]:
    ids = {"trace_id": f"{number + 1:032x}", "span_id": f"{number + 1:016x}"}
    return {**ids, "name": "chat", "kind": "llm", "model": "m", "start_ns": start_ns, "duration_ns": 9, **values}


def steady(random_: random.Random, count: int) -> list[dict[str, Any]]:
    """Twelve hours in which nothing changes: latencies with a long tail, failures, costs."""
    rows = []
    for number in range(count):
        start_ns = NOW - 12 * HOUR + number * 12 * HOUR // count
        failed = random_.random() < 0.05
        rows.append(
            row(
                number,
                start_ns,
                model=random_.choice("ab"),
                ttft_ns=int(random_.lognormvariate(0, 1) * 1e9),
                duration_ns=int(random_.lognormvariate(1, 1) * 1e9),
                status="error" if failed else "ok",
                cost_usd=random_.lognormvariate(-6, 1),
                kind=random_.choice(["llm", "llm", "llm", "tool"]),
                input_tokens=int(random_.lognormvariate(7, 1)),
                finish_reason=random_.choices(["stop", "length", "tool_calls"], (90, 7, 3))[0],
                tenant=f"t{min(20, int(random_.expovariate(0.3)))}",
                feature=random_.choice(["chat", "search"]),
            )
        )
    return rows


def test_while_nothing_changes_nothing_is_listed(tmp_path: Path) -> None:
    """40 stores with ten comparisons or more each: Holm at 1 % allows for less than half an alarm."""
    alarms, least = 0, 1.0
    for seed in range(40):
        box = spanbox.open(tmp_path / str(seed), create=True)
        box._store.append(steady(random.Random(seed), 3_000))
        comparisons, _ = compare(Period(box._store, "", (NOW - 2 * HOUR, NOW), (NOW - 12 * HOUR, NOW - 2 * HOUR)))
        assert len(comparisons) >= 10
        least = min(least, *holm([each.p for each in comparisons]))
        alarms += any(p < 0.01 for p in holm([each.p for each in comparisons]))
    assert alarms < 3
    assert least > 1e-6


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_change_is_found_and_only_that(tmp_path: Path, seed: int) -> None:
    box = spanbox.open(tmp_path / "store", create=True)
    rows = steady(random.Random(seed), 6_000)
    for each in rows:
        if each["start_ns"] >= NOW - HOUR and each["kind"] == "llm" and each["model"] == "a":
            each["ttft_ns"] *= 4
    box._store.append(rows)
    found = box.findings(since=NOW - HOUR, until=NOW, vs="11h")
    assert [finding.what for finding in found] == ["a TTFT p99"]


def test_traits_are_those_of_most_of_them_and_few_others(week: Any) -> None:
    box: Box = week.box
    ids = {
        version: [
            row["trace_id"]
            for row in box.spans(f'name == "answer" and prompt_version == "{version}"').columns("trace_id").limit(100)
        ]
        for version in ("v7.2", "v7.3")
    }
    found = traits(box._store, ids["v7.3"], ids["v7.2"])
    by_column = {trait.column: trait for trait in found.items}
    assert by_column["prompt_version"].text == 'prompt_version == "v7.3"'
    assert (by_column["prompt_version"].of_them, by_column["prompt_version"].of_others) == (1.0, 0.0)
    assert by_column["prompt_version"].is_significant
    assert not any(
        trait.is_significant for trait in found.items if trait.column in ("tenant", "environment", "feature")
    )
    same = traits(box._store, ids["v7.2"][::2], ids["v7.2"][1::2])
    assert not any(trait.is_significant for trait in same.items)


def test_times_in_traits_are_written_as_people_write_them(box: Box) -> None:
    # They were `ttft_ns > 1300000000ns`.
    ids = [f"{i:032x}" for i in range(1, 81)]
    waits_ns = [3_000_000_000 + i * 7_000_000 if i < 40 else 1_000_000 + i * 1_000 for i in range(80)]
    box._store.append(
        [
            {"trace_id": i, "span_id": i[16:], "name": "a", "kind": "llm", "start_ns": NOW, "ttft_ns": ns}
            for i, ns in zip(ids, waits_ns, strict=True)
        ]
    )
    [trait] = [each for each in traits(box._store, ids[:40], ids[40:]).items if each.column == "ttft_ns"]
    assert re.fullmatch(r"ttft > \d+(\.\d+)?(ms|s)", trait.text)
    assert box.spans(trait.text).count() == 40


def test_hostile_values_stay_values_in_traits(week: Any) -> None:
    box: Box = week.box
    others = [row["trace_id"] for row in box.spans('name == "answer"').columns("trace_id").limit(50)]
    for trait in traits(box._store, [week.made.hostile_trace], others).items:
        _core.check_filter(trait.text)


def test_check_ends_with_one_when_something_is_worse(week: Any) -> None:
    command = [sys.executable, "-m", "spanbox", "check", "--store", str(week.path), "--json"]
    worse = subprocess.run(command, capture_output=True, text=True, check=False)
    assert worse.returncode == 1, worse.stderr
    assert json.loads(worse.stdout)["items"]
    fine = subprocess.run([*command, "--filter", 'feature == "none"'], capture_output=True, text=True, check=False)
    assert fine.returncode == 0, fine.stderr
    assert json.loads(fine.stdout)["items"] == []
