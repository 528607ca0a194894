"""Scores: recorded beside spans or stored later, asked for by themselves and beside their spans."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import spanbox
from spanbox import _core


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "store"
    spanbox.configure(path)
    yield path
    _core.close()


def ids(n: int) -> tuple[str, str]:
    return f"{n:032x}", f"{n:016x}"


def test_score_is_about_the_current_span(store: Path) -> None:
    @spanbox.observe
    def answer() -> None:
        spanbox.score(
            "helpful",
            0.9,
            label="good",
            explanation="says what was asked",
            source="judge",
            evaluator="judge-7",
            version="3",
            metadata={"top_k": 5, "name": "not the score's"},
        )

    answer()
    box = spanbox.open(store)
    (row,) = box.scores()
    (span,) = box.spans()
    assert row.pop("at") >= span["start"]
    assert row == {
        "trace_id": span["trace_id"],
        "span_id": span["span_id"],
        "name": "helpful",
        "value": 0.9,
        "label": "good",
        "explanation": "says what was asked",
        "source": "judge",
        "evaluator": "judge-7",
        "version": "3",
        "top_k": 5,
        "attributes.name": "not the score's",
    }


def test_score_finds_its_span_by_object_handle_and_ids(store: Path) -> None:
    with spanbox.span("work") as span:
        handle = span.handle()
    span.score("a", 1)
    spanbox.score("b", 2, span=span)
    spanbox.score("c", 3, span=handle)
    spanbox.score("d", 4, trace_id=span.trace_id, span_id=span.span_id)
    spanbox.score("e", 5, trace_id=span.trace_id)
    box = spanbox.open(store)
    rows = {row["name"]: (row["value"], row["span_id"]) for row in box.scores()}
    assert rows == {
        **{name: (number, span.span_id) for number, name in enumerate("abcd", 1)},
        "e": (5, None),
    }
    assert box.scores("span_id == none").count() == 1
    assert box.scores("span_id != none").count() == 4
    assert box.scores(f'span_id == "{span.span_id}"').count() == 4


def test_values_keep_their_type_and_text_is_the_label(store: Path) -> None:
    with spanbox.span("work"):
        for name, value in {"i": 3, "f": 2.5, "b": True, "t": "polite"}.items():
            spanbox.score(name, value)
    box = spanbox.open(store)
    found = {row["name"]: row.get("label") for row in box.scores('name == "t"')}
    assert found == {"t": "polite"}
    trace = box.trace(next(iter(box.scores()))["trace_id"])
    values = {score["name"]: score.get("value") for score in trace.root.scores}
    assert values == {"i": 3, "f": 2.5, "b": True, "t": None}
    assert type(values["i"]) is int
    assert values["b"] is True
    assert box.scores("value == true").count() == 1
    assert box.spans("score.t == 'polite' and score.i == 3 and score.b == true").count() == 1


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"name": "x", "value": 1}, "no current span"),
        ({"name": "x", "value": 1, "span_id": "1" * 16}, "needs the trace_id"),
        ({"name": "x", "value": 1, "trace_id": "1"}, "32 hexadecimal digits"),
        ({"name": "x", "value": 1, "trace_id": "1" * 32, "span_id": "zz"}, "16 hexadecimal digits"),
        ({"name": "x", "value": 1, "span": 7}, "span must be"),
        ({"name": "", "value": 1, "trace_id": "1" * 32}, "the name must have"),
        ({"name": "x", "trace_id": "1" * 32}, "nothing in it"),
        ({"name": "x", "value": [1], "trace_id": "1" * 32}, "value must be"),
        ({"name": "x", "value": 1 << 70, "trace_id": "1" * 32}, "value must be"),
        ({"name": "x", "value": 1, "trace_id": "1" * 32, "source": "me"}, "source must be one of"),
        ({"name": "x", "value": 1, "trace_id": "1" * 32, "label": 7}, "label must be text"),
        ({"name": "x", "value": 1, "trace_id": "1" * 32, "metadata": 7}, "metadata must be a dict"),
    ],
)
def test_what_is_no_score_is_counted_and_not_raised(
    store: Path, caplog: pytest.LogCaptureFixture, arguments: dict[str, Any], why: str
) -> None:
    before = spanbox.health()["rejected_scores"]
    with caplog.at_level(logging.WARNING, logger="spanbox"):
        spanbox.score(**arguments)
        told = [record.message for record in caplog.records]
        spanbox.score(**arguments)
    assert spanbox.health()["rejected_scores"] == before + 2
    assert len(caplog.records) == len(told)  # once is enough
    assert all("score() was ignored" in message for message in told)
    if told:
        assert why in told[0]
    assert spanbox.open(store, create=True).info()["scores"] == 0
    if "span" not in arguments and "trace_id" in arguments:
        with pytest.raises(ValueError, match=why):
            spanbox.open(store).score(**arguments)


def test_score_called_wrongly_is_a_type_error(store: Path) -> None:
    with pytest.raises(TypeError, match="'valeu'"):
        spanbox.score("x", valeu=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="'value'"):
        spanbox.score("x", 1, value=1)  # type: ignore[misc]
    with pytest.raises(TypeError):
        spanbox.score("x", 1, "label")  # type: ignore[misc]


def test_nothing_is_scored_while_recording_is_off(store: Path) -> None:
    spanbox.off()
    try:
        spanbox.score("x", 1, trace_id="1" * 32)
    finally:
        spanbox.on()
    assert spanbox.open(store, create=True).info()["scores"] == 0


def test_feedback_is_a_score_from_its_source(store: Path) -> None:
    spanbox.feedback("thumb", True, trace_id="1" * 32, explanation="nice")
    (row,) = spanbox.open(store).scores()
    assert (row["source"], row["value"], row["explanation"]) == ("feedback", True, "nice")


def test_secrets_in_explanations_are_replaced(store: Path) -> None:
    spanbox.score("x", 1, trace_id="1" * 32, explanation="the key sk-ant-REDACTED leaked")
    (row,) = spanbox.open(store).scores()
    assert "sk-ant-api03" not in row["explanation"]


def test_scores_of_a_killed_process_are_stored_once(tmp_path: Path) -> None:
    program = """
import os, signal, spanbox
spanbox.configure(os.environ["STORE"])
with spanbox.span("work") as span:
    for i in range(3000):
        spanbox.score(f"s{i % 3}", i)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    store = tmp_path / "store"
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, "STORE": str(store)}, check=False)
    assert done.returncode == -signal.SIGKILL
    for _ in range(2):
        box = spanbox.open(store)
        assert sorted(row["value"] for row in box.scores()) == list(range(3000))
        assert box.spans("score.s2 == 2999 and status == interrupted").count() == 1


def test_a_score_of_a_sampled_out_trace_is_stored(store: Path) -> None:
    spanbox.configure(store, sampling=spanbox.Sampling(0.0))
    try:
        with spanbox.span("work"):
            spanbox.score("x", 1)
        box = spanbox.open(store)
        assert (box.info()["spans"], box.scores().count()) == (0, 1)
    finally:
        spanbox.configure(store, sampling=spanbox.Sampling())


def test_scores_are_a_question_like_spans(tmp_path: Path) -> None:
    box = spanbox.open(tmp_path / "s", create=True)
    at = 1_700_000_000_000_000_000
    rows = [
        {"name": "q", "value": i / 10, "trace_id": ids(i + 1)[0], "at_ns": at + i, "evaluator": f"e{i % 2}"}
        for i in range(10)
    ]
    assert box.add_scores(rows) == 10
    box.score("other", "label", trace_id=ids(1)[0], span_id=ids(1)[1])
    scores = box.scores('name == "q"')
    assert scores.count() == 10
    assert box.scores("value < 0.25").count() == 3
    assert box.scores("at > 2023-01-01 and at < 2024-01-01").count() == 10
    assert box.scores('name == "q"', since=at + 4, until=at + 6).count() == 2
    assert scores.quantile("value", 0.5, exact=True) == pytest.approx(0.45)
    means = {row["evaluator"]: row["m"] for row in scores.by("evaluator").agg(m="mean(value)")}
    assert means == {"e0": pytest.approx(0.4), "e1": pytest.approx(0.5)}
    assert [row["at"] for row in scores.columns("at").limit(3)] == [at, at + 1, at + 2]
    assert [row["value"] for row in scores.order_by("value", descending=True).limit(2)] == [0.9, 0.8]
    table = scores.to_arrow()
    assert table.num_rows == 10
    assert sorted(table.column_names) == ["at", "evaluator", "name", "source", "trace_id", "value"]
    assert repr(scores).startswith("<Scores 'name == \"q\"'")
    assert "10 scores" in scores._repr_html_()
    with pytest.raises(spanbox.FilterError, match="no relatives"):
        box.scores("any(children)")
    with pytest.raises(ValueError, match="score 1: 'nmae'"):
        box.add_scores([rows[0], {"nmae": "x"}])
    assert box.scores('name == "q"').count() == 10


def some_spans(box: spanbox.Box, random_: random.Random, traces: int) -> list[dict[str, Any]]:
    rows = []
    for trace in range(1, traces + 1):
        for place in range(random_.randint(1, 5)):
            rows.append(
                {
                    "trace_id": ids(trace * 7919)[0],
                    "span_id": f"{trace * 100 + place + 1:016x}",
                    "parent_id": None if place == 0 else f"{trace * 100 + 1:016x}",
                    "name": f"n{place}",
                    "start_ns": 1_700_000_000_000_000_000 + trace * 1_000_000_000 + place,
                    "duration_ns": 5,
                    "prompt_version": f"v{trace % 3}",
                }
            )
    random_.shuffle(rows)
    for begin in range(0, len(rows), 300):
        box._store.append(rows[begin : begin + 300])
    return rows


def test_filters_and_aggregates_over_scores_agree_with_a_plain_join(tmp_path: Path) -> None:
    random_ = random.Random(7)
    box = spanbox.open(tmp_path / "s", create=True)
    spans = some_spans(box, random_, 300)
    scores = []
    for i in range(1500):
        span = random_.choice(spans)
        score: dict[str, Any] = {
            "name": random_.choice(["q", "q.deep", "other"]),
            "trace_id": span["trace_id"] if random_.random() < 0.95 else ids(random_.randrange(1, 10**6))[0],
            "span_id": span["span_id"] if random_.random() < 0.8 else None,
            "at_ns": random_.randrange(1000) * 10_000 + i,
        }
        shape = random_.random()
        if shape < 0.8:
            score["value"] = random_.choice([random_.randrange(4), random_.random() * 3, True, False])
        if shape > 0.6:
            score["label"] = random_.choice(["good", "bad", "so so"])
        scores.append(score)
    for begin in range(0, len(scores), 400):
        box.add_scores(scores[begin : begin + 400])
    box.compact()
    latest: dict[tuple[str, str, str], dict[str, Any]] = {}
    for score in sorted(scores, key=lambda s: s["at_ns"]):
        for span in spans:
            of_it = score["span_id"] == span["span_id"] or (score["span_id"] is None and span["parent_id"] is None)
            if of_it and score["trace_id"] == span["trace_id"]:
                latest[(span["trace_id"], span["span_id"], score["name"])] = score

    def number(span: dict[str, Any], name: str) -> Any:
        value = latest.get((span["trace_id"], span["span_id"], name), {}).get("value")
        return None if isinstance(value, bool) else value

    def said(span: dict[str, Any], name: str) -> Any:
        of_it = latest.get((span["trace_id"], span["span_id"], name), {})
        return of_it.get("label", of_it.get("value"))

    checks = {
        "score.q < 1.5": lambda s: number(s, "q") is not None and number(s, "q") < 1.5,
        "score.q >= 2 and name == 'n0'": lambda s: (
            number(s, "q") is not None and number(s, "q") >= 2 and s["name"] == "n0"
        ),
        "score.q == none": lambda s: said(s, "q") is None,
        "score.q.deep != none": lambda s: said(s, "q.deep") is not None,
        "score.q == 'good'": lambda s: said(s, "q") == "good",
        "score.q in ['good', 'bad']": lambda s: said(s, "q") in ("good", "bad"),
        "'oo' in score.q": lambda s: isinstance(said(s, "q"), str) and "oo" in said(s, "q"),
        "not (score.q ~ '^s')": lambda s: not (isinstance(said(s, "q"), str) and said(s, "q").startswith("s")),
        "score.nobody == 1": lambda s: False,
        "`score.q` < 1 or score.other > 2": lambda s: (
            (number(s, "q") is not None and number(s, "q") < 1)
            or (number(s, "other") is not None and number(s, "other") > 2)
        ),
    }
    for filter_, holds in checks.items():
        expected = sorted(s["span_id"] for s in spans if holds(s))
        found = sorted(row["span_id"] for row in box.spans(filter_).columns("span_id"))
        assert found == expected, filter_
        assert box.spans(filter_).count() == len(expected), filter_

    groups: dict[str, list[float]] = {}
    for span in spans:
        value = latest.get((span["trace_id"], span["span_id"], "q"), {}).get("value")
        if value is not None:
            groups.setdefault(span["prompt_version"], []).append(float(value))
    result = {
        row["prompt_version"]: (row["m"], row["n"])
        for row in box.spans().by("prompt_version").agg(m="mean(score.q)", n="count(score.q)")
    }
    assert {version: mean for version, (mean, _) in result.items()} == {
        version: pytest.approx(sum(values) / len(values)) for version, values in groups.items()
    }
    counted = {row["score.q"]: row["n"] for row in box.spans("score.q == 'good'").by("score.q").agg(n="count()")}
    assert counted == {"good": sum(said(s, "q") == "good" for s in spans)}
    rate = next(iter(box.spans().by().agg(r="rate(score.q < 1.5)")))["r"]
    assert rate == pytest.approx(sum(1 for s in spans if checks["score.q < 1.5"](s)) / len(spans))
    parents = box.spans("any(children, score.q < 1.5)").count()
    with_such = {s["parent_id"] for s in spans if s["parent_id"] and checks["score.q < 1.5"](s)}
    assert parents == len(with_such)


def test_scores_of_spans_come_as_columns_everywhere(tmp_path: Path) -> None:
    box = spanbox.open(tmp_path / "s", create=True)
    some_spans(box, random.Random(1), 3)
    span = next(iter(box.spans().columns("trace_id", "span_id")))
    box.score("q", 0.5, trace_id=span["trace_id"], span_id=span["span_id"])
    columns = box.spans("score.q != none").columns("name", "score.q")
    assert [row["score.q"] for row in columns] == [0.5]
    assert columns.to_arrow().column("score.q").to_pylist() == [0.5]
    ordered = list(box.spans().columns("score.q").order_by("score.q"))
    assert [row["score.q"] for row in ordered[:2]] == [0.5, None]
    assert box.spans().quantile("score.q", 0.5, exact=True) == 0.5


def test_the_latest_score_counts(tmp_path: Path) -> None:
    box = spanbox.open(tmp_path / "s", create=True)
    some_spans(box, random.Random(1), 2)
    trace_id, span_id = ids(7919)[0], f"{101:016x}"
    for at_ns, value in ((30, 3), (10, 1), (20, 2)):
        box.score("q", value, trace_id=trace_id, span_id=span_id, at_ns=at_ns)
    assert [row["score.q"] for row in box.spans("score.q != none").columns("score.q")] == [3]
    box.score("q", 4, trace_id=trace_id, at_ns=40)  # the whole trace: its root, which this span is
    assert [row["score.q"] for row in box.spans("score.q != none").columns("score.q")] == [4]
    assert box.scores().count() == 4  # the others are still there


def test_an_attribute_named_like_a_score_is_found_while_there_is_no_such_score(store: Path) -> None:
    with spanbox.span("work") as span:
        span.set(**{"score.mine": 3})
    box = spanbox.open(store)
    assert box.spans("score.mine == 3").count() == 1
    span.score("mine", 4)
    assert box.spans("score.mine == 3").count() == 0
    assert box.spans("score.mine == 4").count() == 1


def test_sampling_refuses_filters_over_scores() -> None:
    with pytest.raises(spanbox.FilterError, match="before it has scores"):
        spanbox.configure(sampling=spanbox.Sampling(0.5, keep="score.q < 1"))


def test_the_trace_shows_its_scores(store: Path) -> None:
    with spanbox.span("work") as span:
        span.score("helpful", 0.25)
        span.score("tone", "polite")
        spanbox.score("whole", 1, trace_id=span.trace_id)
    trace = spanbox.open(store).trace(span.trace_id)
    lines = trace.lines(width=200)
    assert "whole=1" in lines[0]
    assert "helpful=0.25  tone=polite" in lines[2]
    assert [score["name"] for score in trace.root.scores] == ["helpful", "tone"]
    assert trace.root.as_dict()["scores"][0]["value"] == 0.25
    assert "helpful=0.25" in trace._repr_html_()


def test_erased_spans_take_their_scores_along(store: Path) -> None:
    for name in ("out", "in"):
        with spanbox.span(name) as span, spanbox.span("child"):
            spanbox.score("a", 1, explanation=f"secret of {name}")
        spanbox.score("b", 2, trace_id=span.trace_id)
    box = spanbox.open(store)
    gone = next(iter(box.spans('name == "out"')))["trace_id"]
    box.erase(f'trace_id == "{gone}"', secure=True)
    assert sorted(row["name"] for row in box.scores()) == ["a", "b"]
    assert box.scores(f'trace_id == "{gone}"').count() == 0
    assert b"secret of out" not in (store / "data.mdb").read_bytes()
    assert box.verify()["problems"] == []


def test_scores_are_merged_verified_and_counted(tmp_path: Path) -> None:
    box = spanbox.open(tmp_path / "s", create=True)
    for i in range(40):
        box.score("q", i, trace_id=ids(i + 1)[0], explanation="because " * 40)
    assert box._store.merge() > 0
    box.compact()
    assert (box.info()["scores"], box.info()["spans"]) == (40, 0)
    verified = box.verify()
    assert (verified["scores"], verified["problems"]) == (40, [])
    assert box.scores().quantile("value", 1.0, exact=True) == 39


def test_command_scores_and_shows(store: Path) -> None:
    with spanbox.span("work") as span:
        pass
    spanbox.flush()

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "spanbox", *arguments, "--store", str(store)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("score", f"{span.trace_id}/{span.span_id[:6]}", "helpful", "0.5", "--explanation", "fine")
    run("score", span.trace_id, "tone", "polite", "--source", "feedback")
    shown = json.loads(run("show", span.trace_id, "--json"))
    assert shown["spans"][0]["scores"][0]["value"] == 0.5
    assert shown["scores"][0] | {"at": 0} == {
        "trace_id": span.trace_id,
        "name": "tone",
        "span_id": None,
        "label": "polite",
        "source": "feedback",
        "at": 0,
    }
    assert "helpful=0.5" in run("show", span.trace_id)
