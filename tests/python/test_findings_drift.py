"""Columns that have drifted, and facts that need no test, are found; what did not change is not listed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import spanbox
from spanbox import Box
from spanbox._comparisons import Period, _buckets, _slices
from spanbox._facts import facts, silences
from spanbox._finding import Findings
from spanbox._significance import kolmogorov_smirnov

HOUR = 3_600_000_000_000
MINUTE = HOUR // 60
NOW = 1_764_000_000_000_000_000
Row = dict[str, Any]


def traffic(random_: random.Random, count: int = 6_000) -> list[Row]:
    """Twelve hours of calls, each a trace of its own."""
    return [
        {
            "trace_id": f"{number + 1:032x}",
            "span_id": f"{number + 1:016x}",
            "name": "chat",
            "kind": "llm",
            "model": random_.choices(("own-large", "own-small"), (2, 1))[0],
            "start_ns": NOW - 12 * HOUR + number * 12 * HOUR // count,
            "duration_ns": int(random_.lognormvariate(0, 0.5) * 1e9),
            "finish_reason": random_.choices(("stop", "length"), (95, 5))[0],
            "tenant": random_.choices(("acme", "globex", "initech"), (5, 3, 2))[0],
            "input_tokens": int(random_.lognormvariate(7, 0.6)),
            "output_tokens": int(random_.lognormvariate(5, 0.6)),
        }
        for number in range(count)
    ]


def found_after(path: Path, change: Callable[[Row, random.Random], None]) -> Findings:
    """What is found when the calls of the last hour are changed."""
    random_ = random.Random(11)
    rows = traffic(random_)
    for row in rows:
        if row["start_ns"] >= NOW - HOUR:
            change(row, random_)
    box = spanbox.open(path, create=True)
    box._store.append(rows)
    return box.findings(since=NOW - HOUR, until=NOW, vs="11h")


def cut_off(row: Row, random_: random.Random) -> None:
    if random_.random() < 0.2:
        row["finish_reason"] = "length"


def other_model(row: Row, random_: random.Random) -> None:
    row["model"] = "own-new" if row["model"] == "own-large" else row["model"]


def longer(row: Row, random_: random.Random) -> None:
    row["input_tokens"] *= 3


def shorter(row: Row, random_: random.Random) -> None:
    row["output_tokens"] = max(1, row["output_tokens"] // 4)


def one_tenant(row: Row, random_: random.Random) -> None:
    if random_.random() < 0.5:
        row["tenant"] = "initech"


@pytest.mark.parametrize(
    ("change", "what", "now", "before"),
    [
        (cut_off, "finish_reason length", (0.18, 0.30), (0.04, 0.06)),
        (other_model, "model own-new", (0.60, 0.73), (0, 0)),
        (one_tenant, "tenant initech", (0.52, 0.68), (0.18, 0.22)),
        (longer, "input_tokens", (0, 1e9), (0, 1e9)),
        (shorter, "output_tokens", (0, 1e9), (0, 1e9)),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_planted_drift_is_found_and_only_that(
    tmp_path: Path, change: Any, what: str, now: tuple[float, float], before: tuple[float, float]
) -> None:
    found = found_after(tmp_path, change)
    [drifted] = found
    assert drifted.group == "drifted"
    assert drifted.what.startswith(what)
    assert now[0] <= drifted.now <= now[1]
    assert before[0] <= drifted.before <= before[1]
    assert drifted.p is not None
    assert drifted.p < 0.01
    assert found.sentence == "Nothing is worse than in the 11 hours before, but 1 column has drifted."
    box = spanbox.open(tmp_path)
    assert box.spans(drifted.filter, since=NOW - HOUR, until=NOW).count() == drifted.n > 0
    assert drifted.proof is not None
    proof = next(span for span in box.trace(drifted.proof.trace_id) if span.span_id == drifted.proof.span_id)
    if drifted.unit == "count":
        name = drifted.what.split()[0]
        of_all = [row[name] for row in box.spans(since=NOW - HOUR, until=NOW).columns(name)]
        extreme = max(of_all) if change is longer else min(of_all)
        assert proof.attributes[name] == drifted.proof.value == extreme
        assert drifted.proof.why == ("highest" if change is longer else "lowest")
        assert drifted.change == pytest.approx(3 if change is longer else 0.25, rel=0.25)
    else:
        column, value = drifted.what.split()
        assert proof.attributes[column] == value
    assert drifted.since_ns is not None
    assert abs(drifted.since_ns - (NOW - HOUR)) < HOUR


def test_comparisons_are_counted_as_they_are_made(tmp_path: Path) -> None:
    """Of two models the duration, of calls their failures and of traces theirs, three columns of words, two of
    numbers: TTFT, TPOT, cost, scores and features there are none of."""
    found = found_after(tmp_path, lambda row, random_: None)
    assert found.sentence == "Nothing is worse than in the 11 hours before."
    assert found.checked == 2 + 2 + 3 + 2
    assert found.detail == "9 comparisons."


def test_a_long_time_before_is_read_in_slices_of_all_of_it(tmp_path: Path) -> None:
    """A window of ten minutes against twelve hours in which prompts of every second hour are ten times as long."""
    rows = traffic(random.Random(4), 40_000)
    for row in rows:
        row["input_tokens"] *= 10 if row["start_ns"] // HOUR % 2 else 1
    box = spanbox.open(tmp_path, create=True)
    box._store.append(rows)
    begin = (NOW - HOUR) // HOUR * HOUR
    period = Period(box._store, "", (begin, begin + 10 * MINUTE), (begin - 10 * HOUR, begin))
    slices = _slices(period)
    assert len(slices) == 24
    assert all(b - a == 10 * MINUTE for a, b in slices)
    assert (slices[0][0], slices[-1][1]) == period.before
    hours = {a // HOUR for a, _ in slices}
    assert len(hours) >= 9
    whole, sliced = (_buckets(period, times)["input_tokens"] for times in ([period.before], slices))
    assert kolmogorov_smirnov(whole, sliced)[0] < 0.05


def test_a_rare_change_of_words_is_no_finding(tmp_path: Path) -> None:
    """5 % that were cut off are 6 % now: if it is more than chance, it does not matter."""
    random_ = random.Random(5)
    rows = traffic(random_, 60_000)
    for row in rows:
        if row["start_ns"] >= NOW - HOUR and random_.random() < 0.02:
            row["finish_reason"] = "length"
    box = spanbox.open(tmp_path, create=True)
    box._store.append(rows)
    assert not box.findings(since=NOW - HOUR, until=NOW, vs="11h")


# --- facts -----------------------------------------------------------------------------------------------------------


def test_a_span_that_runs_for_longer_than_nearly_all_is_found(box: Box) -> None:
    rows = traffic(random.Random(1))
    stuck = {"trace_id": "e" * 32, "kind": "llm", "status": "running"}
    agent = {**stuck, "span_id": "1" * 16, "name": "answer", "kind": "agent", "start_ns": NOW - 2 * HOUR}
    call = {**stuck, "span_id": "2" * 16, "parent_id": "1" * 16, "name": "chat", "start_ns": NOW - HOUR // 2}
    young = {**stuck, "span_id": "3" * 16, "parent_id": "1" * 16, "name": "chat", "start_ns": NOW - 1_000}
    box._store.append([*rows, agent, call, young])
    [found] = box.findings(since=NOW - HOUR, until=NOW, vs="11h")
    assert (found.label, found.what, found.n, found.of, found.p) == ("Slow", "llm running", 1, 2, None)
    assert found.now == HOUR / 2
    ended = sorted(row["duration_ns"] for row in rows)
    assert found.before == pytest.approx(ended[int(0.999 * len(ended))], rel=0.05)
    assert found.proof is not None
    assert found.proof.span_id == "2" * 16
    assert [row["span_id"] for row in box.spans(found.filter).columns("span_id")] == ["2" * 16]


def test_a_gap_in_the_window_is_found_by_everybody_who_asks_for_all(week: Any) -> None:
    made = week.made
    window = {"since": made.end_ns - 225 * MINUTE, "until": made.end_ns - 195 * MINUTE}
    found = week.box.findings(**window)
    assert not [each for each in week.box.findings('tenant == "acme"', **window) if each.group == "recording"]
    [gap] = [finding for finding in found if finding.group == "recording"]
    assert gap.since_ns is not None
    assert abs(gap.since_ns - made.gap_ns[0]) <= 3 * MINUTE
    assert abs(gap.now - (made.gap_ns[1] - made.gap_ns[0])) <= 4 * MINUTE


def test_an_end_of_recording_is_a_gap(box: Box) -> None:
    box._store.append([row for row in traffic(random.Random(2), 12_000) if row["start_ns"] < NOW - 20 * MINUTE])
    [gap] = silences(box._store, (NOW - 6 * HOUR, NOW), NOW)
    assert gap[1] == NOW
    assert abs(gap[0] - (NOW - 20 * MINUTE)) <= 2 * MINUTE
    assert silences(box._store, (NOW - 6 * HOUR, NOW - 30 * MINUTE), NOW) == []


def test_a_gap_is_the_same_whichever_time_is_asked_about(box: Box) -> None:
    """A day was read in buckets of seven minutes, in which a gap of ten did not show, although the last six hours
    showed it. Ten traces a minute, then fewer at night: neither time is judged by the other's traffic."""
    random_ = random.Random(4)
    day = [NOW - int(random_.random() * 8 * HOUR) for _ in range(4_800)]
    night = [NOW - 8 * HOUR - int(random_.random() * 160 * HOUR) for _ in range(1_600)]
    gap = (NOW - 100 * MINUTE, NOW - 90 * MINUTE)
    starts = [at for at in (*day, *night) if not gap[0] <= at < gap[1]]
    box._store.append([call(number, at) for number, at in enumerate(starts)])
    found = [silences(box._store, (NOW - hours * HOUR, NOW), NOW) for hours in (2, 6, 24, 168)]
    assert found == [[gap]] * 4
    assert silences(box._store, (NOW - 24 * HOUR, NOW - 2 * HOUR), NOW) == []


def test_pauses_that_the_traffic_has_are_no_gaps(box: Box) -> None:
    """Two traces a minute come at random, with many spans each: now and then there are minutes without one. And a job
    that starts fifty every ten minutes pauses in between."""
    random_ = random.Random(8)
    starts = [NOW - int(random_.random() * 6 * HOUR) for _ in range(720)]
    box._store.append([call(number, at) for number, at in enumerate(starts)])
    assert silences(box._store, (NOW - 6 * HOUR, NOW), NOW) == []
    jobs = [NOW - 20 * HOUR + batch * 10 * MINUTE + i for batch in range(60) for i in range(50)]
    box._store.append([call(1_000 + number, at) for number, at in enumerate(jobs)])
    assert silences(box._store, (NOW - 20 * HOUR, NOW - 11 * HOUR), NOW) == []


def call(number: int, at: int) -> Row:
    return {"trace_id": f"{number + 1:032x}", "span_id": "1" * 16, "name": "x", "start_ns": at, "duration_ns": 5}


def test_dropped_spans_are_found_while_they_can_be_told(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dropping:
        def __getattr__(self, name: str) -> Any:
            return getattr(box._store, name)

        def processes(self) -> list[dict[str, int]]:
            return [{"dropped_spans": 3}, {"dropped_spans": 0}, {"dropped_spans": 4}]

    monkeypatch.setattr("spanbox._facts.time", SimpleNamespace(time_ns=lambda: NOW))
    period = Period(Dropping(), "", (NOW - HOUR, NOW), (NOW - 8 * HOUR, NOW - HOUR))  # type: ignore[arg-type]
    [found] = facts(period, (NOW - 6 * HOUR, NOW))
    assert (found.label, found.now, found.unit, found.before) == ("Recording", 7, "count", 0)
    assert "dropped" in found.what
    past = Period(period.store, "", (NOW - 2 * HOUR, NOW - HOUR), period.before)
    assert facts(past, (NOW - 6 * HOUR, NOW - HOUR)) == []
