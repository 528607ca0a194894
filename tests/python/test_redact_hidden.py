"""Inputs and outputs are not kept when a variable of another tracer, or configure(), says so."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import spanbox
from spanbox import _hidden

HIDDEN = "[hidden]"


@pytest.fixture(autouse=True)
def default_settings() -> Iterator[None]:
    yield
    spanbox.configure(hide_inputs=False, hide_outputs=False)


def record(recorded: Any) -> list[dict[str, Any]]:
    @spanbox.observe
    def short(word: str) -> str:
        return f"{word}-canary"

    @spanbox.observe
    def long(text: str, *, table: object) -> object:
        return {"text": text, "rows": table}

    @spanbox.observe
    def stream(word: str) -> Iterator[str]:
        yield "canary"
        yield word

    @spanbox.observe
    def objects(word: str) -> Iterator[object]:
        yield {"canary": word}

    short("canary")
    long("canary " * 20_000, table=[{"canary": 1}])
    list(stream("canary"))
    list(objects("canary"))
    with spanbox.span("block") as span:
        span.input = ["canary"]
        span.set(output="canary")
    return [span["attributes"] for span in recorded.spans()]


def test_both_are_hidden_in_every_kind_of_call(recorded: Any) -> None:
    spanbox.configure(hide_inputs=True, hide_outputs=True)
    for attributes in record(recorded):
        assert attributes["input"] == attributes["output"] == HIDDEN
    content = [path.read_bytes() for path in recorded.path.rglob("*") if path.is_file()]
    assert not any(b"canary" in one for one in content)


@pytest.mark.parametrize("inputs", [True, False])
def test_one_is_hidden_without_the_other(recorded: Any, inputs: bool) -> None:
    spanbox.configure(hide_inputs=inputs, hide_outputs=not inputs)
    for attributes in record(recorded):
        assert (attributes["input"] == HIDDEN) == inputs
        assert (attributes["output"] == HIDDEN) != inputs


@pytest.mark.parametrize(
    ("name", "value", "inputs", "outputs"),
    [
        ("LANGSMITH_HIDE_INPUTS", "true", True, False),
        ("LANGCHAIN_HIDE_OUTPUTS", "1", False, True),
        ("OPENINFERENCE_HIDE_INPUTS", "True", True, False),
        ("OPENINFERENCE_HIDE_OUTPUT_MESSAGES", "true", False, True),
        ("OPENINFERENCE_HIDE_INPUT_IMAGES", "true", True, False),
        ("OPENINFERENCE_HIDE_EMBEDDING_VECTORS", "true", False, True),
        ("TRACELOOP_TRACE_CONTENT", "false", True, True),
        ("TRACELOOP_TRACE_CONTENT", "true", False, False),
        ("OPENINFERENCE_HIDE_INPUTS", "false", False, False),
    ],
)
def test_variables_of_other_tracers_are_understood(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, inputs: bool, outputs: bool
) -> None:
    for known in (*_hidden._INPUTS, *_hidden._OUTPUTS, *_hidden._CONTENT):
        monkeypatch.delenv(known, raising=False)
    monkeypatch.setenv(name, value)
    for_inputs, for_outputs = _hidden.hidden_by_environment()
    assert (for_inputs == (name,), for_outputs == (name,)) == (inputs, outputs)


def test_doctor_says_which_variables_are_set(recorded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("typer", reason="the command line needs typer")
    with spanbox.span("s"):
        pass
    assert spanbox.flush(30)
    monkeypatch.setenv("LANGSMITH_HIDE_INPUTS", "true")
    command = [sys.executable, "-m", "spanbox", "doctor", "--store", str(recorded.path), "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    advice = " ".join(json.loads(ended.stdout)["advice"])
    assert "no inputs: LANGSMITH_HIDE_INPUTS" in advice
    assert "no outputs" not in advice
