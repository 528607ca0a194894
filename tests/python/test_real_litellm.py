"""LiteLLM itself against the loopback server: by our logger, by its instrumentor, and with its clients instrumented."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import spanbox

sys.path.insert(0, str(Path(__file__).parent))
from real_frameworks import FACTS, MODEL, QUESTION, framework, loopback

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it asks the network for its prices
litellm = framework("litellm")
framework("openinference.instrumentation.litellm")
SpanboxLogger: Any = framework("spanbox.integrations.litellm").SpanboxLogger

pytestmark = pytest.mark.filterwarnings("ignore")
MESSAGES = [{"role": "system", "content": f"Context: {FACTS}"}, {"role": "user", "content": QUESTION}]
CLAUDE = "claude-opus-4-6"


@pytest.fixture
def url() -> Iterator[str]:
    with loopback().serve(scale=0.01, failures=False) as base_url:
        yield base_url


class Told(SpanboxLogger):  # type: ignore[misc]
    """LiteLLM tells of the end of a call later, from a thread or task of its own: this one can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._told = threading.Semaphore(0)

    def log_success_event(self, *args: Any, **kwargs: Any) -> None:
        super().log_success_event(*args, **kwargs)
        self._told.release()

    def log_failure_event(self, *args: Any, **kwargs: Any) -> None:
        super().log_failure_event(*args, **kwargs)
        self._told.release()

    def wait(self) -> None:
        assert self._told.acquire(timeout=60)


@pytest.fixture
def logger() -> Iterator[Told]:
    made = Told()
    litellm.callbacks = [made]
    yield made
    litellm.callbacks = []
    for name in ("success", "failure", "_async_success", "_async_failure", "input"):
        callbacks = getattr(litellm, f"{name}_callback", [])
        callbacks[:] = [each for each in callbacks if each is not made]


@pytest.fixture
def instrument(recorded: Any) -> Iterator[Callable[..., dict[str, str]]]:
    yield lambda *names: spanbox.instrument(allow=names)
    spanbox.uninstrument()


def options(url: str, model: str, stream: bool) -> dict[str, Any]:
    is_openai = model == MODEL
    base = url if is_openai else url.removesuffix("/v1")
    more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    name = f"openai/{model}" if is_openai else f"anthropic/{model}"
    return {"model": name, "messages": MESSAGES, "api_base": base, "api_key": "none", "num_retries": 0, **more}


def nothing() -> None: ...


def ask(url: str, model: str = MODEL, *, stream: bool, until: Callable[[], None] = nothing) -> str:
    reply = litellm.completion(**options(url, model, stream))
    pieces = [reply.choices[0].message.content] if not stream else [
        chunk.choices[0].delta.content or "" for chunk in reply if chunk.choices
    ]  # fmt: skip
    until()
    return "".join(pieces)


def ask_async(url: str, model: str = MODEL, *, stream: bool, until: Callable[[], None] = nothing) -> str:
    async def run() -> str:
        reply = await litellm.acompletion(**options(url, model, stream))
        if stream:
            said = "".join([chunk.choices[0].delta.content or "" async for chunk in reply if chunk.choices])
        else:
            said = str(reply.choices[0].message.content)
        await asyncio.to_thread(until)  # LiteLLM tells its loggers from a queue of the loop
        return said

    return asyncio.run(run())


ASK = {"plain": ask, "async": ask_async}
COUNTS = ("input_tokens", "cache_read_tokens", "output_tokens")


@pytest.mark.parametrize("model", [MODEL, CLAUDE])
@pytest.mark.parametrize("how", ASK)
def test_logger_records_each_call_once_whole_and_streamed(
    how: str, model: str, url: str, logger: Told, recorded: Any
) -> None:
    answers = []
    for stream in (False, False, True):  # the first one fills the server's cache
        with spanbox.span("agent", kind="agent"):
            answers.append(ASK[how](url, model, stream=stream, until=logger.wait))
    spans = recorded.spans()
    assert [(span["name"], span["kind"], span["status"], span["depth"]) for span in spans] == [
        ("agent", "agent", "ok", 0),
        (f"chat {model}", "llm", "ok", 1),
    ] * 3
    whole, streamed = (span["attributes"] for span in (spans[3], spans[5]))
    for span, answer in ((whole, answers[1]), (streamed, answers[2])):
        assert (span["provider"], span["model"]) == ("openai" if model == MODEL else "anthropic", model)
        assert QUESTION in json.dumps(span["input"])
        assert answer[:40] in json.dumps(span["output"])
        assert span["finish_reason"] == "stop"
    counts = {name: whole[name] for name in COUNTS}
    assert {name: streamed[name] for name in COUNTS} == counts
    assert counts["input_tokens"] > counts["cache_read_tokens"] > 0 < counts["output_tokens"]
    assert whole["cost_usd"] == streamed["cost_usd"] > 0
    assert whole["cost_source"] == "litellm"
    assert 0 < streamed["ttft_ns"] <= spans[5]["duration_ns"]
    assert "ttft_ns" not in whole


def test_logger_ends_the_span_when_the_call_did(url: str, logger: Told, recorded: Any) -> None:
    """LiteLLM's first telling comes seconds later."""
    with spanbox.span("agent"):
        ask(url, stream=False)
    logger.wait()
    agent, call = recorded.spans()
    assert call["start_ns"] + call["duration_ns"] <= agent["start_ns"] + agent["duration_ns"] + 20_000_000


def test_logger_records_what_failed(url: str, logger: Told, recorded: Any) -> None:
    with pytest.raises(litellm.NotFoundError):
        ask(f"{url}/nowhere", stream=False)
    logger.wait()
    span = recorded.only_span()
    assert span["status"] == "error"
    assert "NotFoundError" in span["attributes"]["error_type"]


@pytest.mark.parametrize("how", ASK)
@pytest.mark.parametrize("stream", [False, True])
def test_its_instrumentor(how: str, stream: bool, url: str, recorded: Any, instrument: Any) -> None:
    chosen = instrument("litellm")
    assert chosen["litellm"].startswith("openinference-instrumentation-litellm ")
    with spanbox.span("agent", kind="agent"):
        ASK[how](url, stream=stream)
    spans = recorded.spans()
    assert [(span["kind"], span["depth"]) for span in spans] == [("agent", 0), ("llm", 1)]
    span = spans[-1]["attributes"]
    assert span["model"] == MODEL
    assert span["model_request"] == f"openai/{MODEL}"  # as LiteLLM names it
    assert span["input_tokens"] > 0 < span["output_tokens"]
    assert QUESTION in json.dumps(span["input"])
    assert recorded.box.cost().total.calls == 1
    counts = {name: span[name] for name in COUNTS if name in span}
    assert spanbox.cost.of(provider=span["provider"], model=span["model"], usage=counts).known


ALONE = """
import sys, spanbox
spanbox.instrument()
assert "litellm" not in sys.modules, "instrument() loads no client"
import asyncio, litellm
from spanbox.integrations.litellm import SpanboxLogger
litellm.callbacks = [SpanboxLogger()]
messages = [{"role": "user", "content": "hi"}]
call = dict(model="openai/gpt-5-mini", messages=messages, api_base=sys.argv[1], api_key="none")
spanbox.uninstrument()
if sys.argv[2] == "async":
    asyncio.run(litellm.acompletion(**call))
else:
    litellm.completion(**call)
"""


@pytest.mark.parametrize("how", ASK)
def test_a_program_that_ends_at_once_keeps_its_call(how: str, url: str, recorded: Any) -> None:
    environment = {**os.environ, "SPANBOX_DIR": str(recorded.path)}
    subprocess.run([sys.executable, "-W", "ignore", "-c", ALONE, url, how], env=environment, check=True, timeout=300)
    span = recorded.reopened().only_span()
    assert (span["name"], span["status"]) == ("chat gpt-5-mini", "ok")
    assert span["attributes"]["output_tokens"] > 0
