"""A function that sees every text before it is stored: what it makes of it is stored, and nothing it has not seen."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import spanbox
from opentelemetry import trace as otel_trace
from spanbox import _core, _redact_stage, observe
from spanbox.otel import TracerProvider

NAME = "Ann Miller"


def without_ann(text: str) -> str:
    return text.replace(NAME, "<PERSON>")


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    yield
    _redact_stage.use(None)
    _redact_stage._tell.cache_clear()


@observe
def answer(question: str, more: Any = None) -> Any:
    return {"to": [NAME, 7], "question": question}


def texts(box: Any) -> str:
    return json.dumps([[span.input, span.output, span.attributes] for row in box.spans().columns("trace_id")
                       for span in box.trace(row["trace_id"])])  # fmt: skip


def test_what_the_function_makes_of_a_text_is_stored(recorded: Any) -> None:
    spanbox.configure(redact=without_ann)
    answer(f"who is {NAME}?", {"deep": [f"{NAME} again", 1.5, None, True]})
    with pytest.raises(ValueError, match=NAME), spanbox.span("fails", note=f"of {NAME}", number=3) as span:  # noqa: PT012
        span.score("polite", 1.0, explanation=f"{NAME} smiled")
        raise ValueError(f"no {NAME}")
    box = spanbox.open(recorded.path)
    stored = texts(box)
    assert NAME not in stored
    assert stored.count("PERSON") >= 5
    [row] = box.spans('name == "answer"').columns("input", "output")
    assert json.loads(row["output"]) == {"to": ["<PERSON>", 7], "question": "who is <PERSON>?"}
    assert json.loads(row["input"])["more"] == {"deep": ["<PERSON> again", 1.5, None, True]}
    [score] = box.scores().columns("explanation", "source")
    assert (score["explanation"], score["source"]) == ("<PERSON> smiled", "rule")
    assert "redact.stage" not in stored


def test_patterns_come_first(recorded: Any) -> None:
    seen: list[str] = []
    spanbox.configure(redact=("pii", lambda text: seen.append(text) or text.upper()))
    answer("mail ann@example.com")
    box = spanbox.open(recorded.path)
    assert box.grep("[REDACTED:EMAIL_ADDRESS]").matched == 2
    assert seen
    assert not any("ann@" in text for text in seen)
    assert spanbox.redact("ann@example.com").text == "[REDACTED:EMAIL_ADDRESS]"


def test_model_and_cost_columns_are_not_texts(recorded: Any) -> None:
    spanbox.configure(redact=lambda text: "X")
    with spanbox.span("chat", kind="llm") as span:
        span.set(provider="openai", model="gpt-5", user_id="u1", input_tokens=1_000, output_tokens=0)
        span.input = "hello"
    [row] = (
        spanbox.open(recorded.path).spans().columns("model", "user_id", "cost_usd", "input", "name", "price_version")
    )
    assert (row["model"], row["user_id"], row["input"], row["name"]) == ("gpt-5", "u1", "X", "chat")
    assert row["cost_usd"] == 0.00125
    assert row["price_version"].startswith("genai-prices")


def test_what_raises_is_withheld_and_told_once(recorded: Any, caplog: pytest.LogCaptureFixture) -> None:
    def raises(text: str) -> str:
        raise RuntimeError(f"cannot read {text}")

    with caplog.at_level(logging.WARNING, "spanbox"):
        spanbox.configure(redact=raises)
        for _ in range(3):
            answer(f"who is {NAME}?")
        box = spanbox.open(recorded.path)
        stored = texts(box)
    assert NAME not in stored
    assert box.grep("[withheld]").matched == 6
    assert [record.message.count("RuntimeError") for record in caplog.records] == [1]
    assert NAME not in caplog.text


@pytest.mark.parametrize("wrong", [None, 7, b"bytes"])
def test_what_returns_no_text_is_withheld(recorded: Any, wrong: Any) -> None:
    spanbox.configure(redact=lambda text: wrong)
    answer("hello")
    assert spanbox.open(recorded.path).grep("[withheld]").matched == 2


def test_what_hangs_is_withheld_and_holds_up_no_other(recorded: Any) -> None:
    """The collector waits once, and not for what comes after; the function is asked again when it is back."""
    let_go, entered = threading.Event(), threading.Event()

    def slow(text: str) -> str:
        if "wait" in text:
            entered.set()
            assert let_go.wait(60)
        return text.upper()

    spanbox.configure(redact=slow)
    try:
        with spanbox.span("first") as first:
            first.input = "wait here"
        assert entered.wait(60)
        assert spanbox.flush(30)
        with spanbox.span("second") as second:
            second.input = "quick"
        assert spanbox.flush(30)
    finally:
        let_go.set()
    box = spanbox.open(recorded.path)
    assert {row["name"]: row["input"] for row in box.spans().columns("name", "input")} == {
        "first": "[withheld]", "second": "[withheld]",
    }  # fmt: skip
    for _ in range(1_000):
        with spanbox.span("third") as third:
            third.input = "again"
        spanbox.flush(30)
        if box.spans('input == "AGAIN"').count():
            break
    assert box.spans('input == "AGAIN"').count() > 0


def test_running_spans_show_no_text(recorded: Any) -> None:
    spanbox.configure(redact=without_ann)
    with spanbox.span("agent") as span:
        span.input = f"find {NAME}"
        span.set(note=f"for {NAME}")
        assert spanbox.flush(30)
        box = spanbox.open(recorded.path)
        [row] = box.spans("status == running").columns("note")
        assert row["note"] == "[withheld]"
        span.output = NAME
    [row] = box.spans().columns("note", "input", "output")
    assert (row["note"], row["input"], row["output"]) == ("for <PERSON>", "find <PERSON>", "<PERSON>")


def test_spans_of_opentelemetry(recorded: Any) -> None:
    spanbox.configure(redact=without_ann)
    tracer = TracerProvider(share_context=False).get_tracer(NAME)
    with tracer.start_as_current_span("chat") as span:
        assert isinstance(span, otel_trace.Span)
        span.set_attribute("gen_ai.input.messages", json.dumps([{"role": "user", "parts": [{"content": NAME}]}]))
        span.set_attribute("note", NAME)
        span.add_event("said", {"what": NAME})
    [row] = spanbox.open(recorded.path).spans().columns("input", "note", "events", "scope.name")
    assert "PERSON" in row["input"]
    assert (row["note"], row["scope.name"]) == ("<PERSON>", NAME)
    assert NAME not in row["events"]


def test_texts_that_others_made(tmp_path: Path) -> None:
    _redact_stage.use(without_ann)
    box = spanbox.open(tmp_path / "box", create=True)
    row = {"trace_id": "ab" * 16, "span_id": "cd" * 8, "name": "chat", "start_ns": 1, "input": {"who": NAME}}
    assert box._store.append([row]) == 1
    body = _core.encode_otlp([{**row, "span_id": "ce" * 8}], is_json=True, openinference=False)
    assert box._store.receive_otlp(body, is_json=True)[0] == 1
    lines = tmp_path / "x.jsonl"
    lines.write_text(json.dumps({"start_ns": 1, "note": NAME}) + "\n")
    box.ingest(lines)
    box.add_scores([{"name": "n", "value": 1, "trace_id": "ab" * 16, "explanation": NAME}])
    assert NAME not in texts(box)
    assert [row["explanation"] for row in box.scores().columns("explanation")] == ["<PERSON>"]
    assert box.grep("PERSON").matched == 3


def run(script: str, *, check: bool = True) -> int:
    return subprocess.run([sys.executable, "-c", script], check=check, timeout=120).returncode


PROGRAM = """
import os, signal, spanbox
spanbox.configure({path!r}, redact=lambda text: text.replace({name!r}, "<PERSON>"))
@spanbox.observe
def f(text): return text
"""


def test_a_short_program_stores_everything_before_it_ends(tmp_path: Path) -> None:
    run(PROGRAM.format(path=str(tmp_path), name=NAME) + f"for _ in range(50): f({NAME!r})")
    box = spanbox.open(tmp_path)
    assert box.grep("<PERSON>").matched == 100
    assert NAME not in texts(box)


def test_what_a_killed_process_had_not_shown_is_withheld(tmp_path: Path) -> None:
    program = PROGRAM.format(path=str(tmp_path), name=NAME)
    end = "s = spanbox.span('open').__enter__(); s.input = 'x'; os.kill(os.getpid(), signal.SIGKILL)"
    assert run(program + f"for _ in range(50): f({NAME!r})\n{end}", check=False) == -signal.SIGKILL
    box = spanbox.open(tmp_path)
    assert box.spans().count() == 51
    assert NAME not in texts(box)
    assert {row["status"] for row in box.spans().columns("status")} == {"ok", "interrupted"}


def test_a_forked_child_has_a_thread_of_its_own(tmp_path: Path) -> None:
    program = PROGRAM.format(path=str(tmp_path), name=NAME)
    fork = f"""
f({NAME!r})
child = os.fork()
for _ in range(20): f({NAME!r})
if child: assert os.waitpid(child, 0)[1] == 0
"""
    run("import warnings; warnings.simplefilter('ignore')\n" + program + fork)
    box = spanbox.open(tmp_path)
    assert box.grep("<PERSON>").matched == 2 * 41
    assert NAME not in texts(box)
    assert box.grep("[withheld]").matched == 0


def test_presidios_engines_are_a_stage(recorded: Any) -> None:
    """Stand-ins with the methods that Presidio's engines have: the engines themselves are 400 MB."""

    class Analyzer:
        def analyze(self, text: str, language: str) -> list[tuple[int, int]]:
            at = text.find(NAME)
            return [] if at < 0 or language != "en" else [(at, at + len(NAME))]

    class Anonymizer:
        def anonymize(self, text: str, analyzer_results: list[tuple[int, int]]) -> Any:
            for begin, end in analyzer_results:
                text = f"{text[:begin]}<PERSON>{text[end:]}"
            return SimpleNamespace(text=text)

    spanbox.configure(redact=("pii", (Analyzer(), Anonymizer())))
    answer(f"{NAME}, ann@example.com")
    [row] = spanbox.open(recorded.path).spans().columns("input")
    assert json.loads(row["input"])["question"] == "<PERSON>, [redacted:email_address]"


def test_what_is_no_stage_is_refused() -> None:
    for wrong in (("pii", 7), ("pii", "secrets"), ("pii",), (1, 2, 3)):
        with pytest.raises((TypeError, ValueError)):
            spanbox.configure(redact=wrong)  # type: ignore[arg-type]
    assert not _core.has_stage()


def test_other_settings_leave_it_and_redact_takes_it_away(recorded: Any) -> None:
    spanbox.configure(redact=without_ann)
    spanbox.configure(capture_depth=8)
    assert _core.has_stage()
    spanbox.configure(redact="secrets")
    assert not _core.has_stage()
    answer(NAME)
    assert spanbox.open(recorded.path).grep(NAME).matched == 2
