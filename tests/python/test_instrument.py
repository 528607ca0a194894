"""spanbox.instrument() with the official instrumentors, and the clients of OpenAI and Anthropic against a loopback
server."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import spanbox
from spanbox import observe

pytest.importorskip("opentelemetry.instrumentation.genai.openai")
anthropic = pytest.importorskip("anthropic")
openai = pytest.importorskip("openai")

CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
FACTS = " ".join(f"Fact number {number} is that apples grow on trees of kind {number}." for number in range(60))
QUESTION = "which apples grow on trees?"


@pytest.fixture(scope="module")
def server() -> ModuleType:
    path = Path(__file__).parents[2] / "examples" / "loopback_llm.py"
    spec = importlib.util.spec_from_file_location("example_loopback", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def base_url(server: ModuleType) -> Iterator[str]:
    with server.serve(scale=0.01, failures=False) as url:
        yield url


@pytest.fixture
def instrumented(recorded: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    monkeypatch.delenv(CONTENT, raising=False)
    yield spanbox.instrument()
    spanbox.uninstrument()


# Each asks QUESTION once, streamed or not, and gives the answer's text.


def ask_openai(url: str, *, stream: bool) -> str:
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        reply = client.chat.completions.create(**chat_request(stream))
        if not stream:
            return str(reply.choices[0].message.content)
        return "".join(chunk.choices[0].delta.content or "" for chunk in reply if chunk.choices)


def ask_openai_async(url: str, *, stream: bool) -> str:
    async def ask() -> str:
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            reply = await client.chat.completions.create(**chat_request(stream))
            if not stream:
                return str(reply.choices[0].message.content)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in reply if chunk.choices])

    return asyncio.run(ask())


def ask_anthropic(url: str, *, stream: bool) -> str:
    with anthropic.Anthropic(base_url=url.removesuffix("/v1"), api_key="none", max_retries=0) as client:
        reply = client.messages.create(**message_request(stream))
        if not stream:
            return str(reply.content[0].text)
        return "".join(event.delta.text for event in reply if event.type == "content_block_delta")


def ask_anthropic_async(url: str, *, stream: bool) -> str:
    async def ask() -> str:
        async with anthropic.AsyncAnthropic(base_url=url.removesuffix("/v1"), api_key="none", max_retries=0) as client:
            reply = await client.messages.create(**message_request(stream))
            if not stream:
                return str(reply.content[0].text)
            return "".join([event.delta.text async for event in reply if event.type == "content_block_delta"])

    return asyncio.run(ask())


def chat_request(stream: bool) -> dict[str, Any]:
    messages = [{"role": "system", "content": f"Context: {FACTS}"}, {"role": "user", "content": QUESTION}]
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    return {"model": "gpt-5-mini", "messages": messages, **options}


def message_request(stream: bool) -> dict[str, Any]:
    messages = [{"role": "user", "content": QUESTION}]
    return {
        "model": "claude-opus-4-6", "max_tokens": 500, "system": f"Context: {FACTS}", "messages": messages,
        "stream": stream,
    }  # fmt: skip


CALLS: dict[str, tuple[Callable[..., str], str, str]] = {
    "openai": (ask_openai, "openai", "gpt-5-mini"),
    "openai, async": (ask_openai_async, "openai", "gpt-5-mini"),
    "anthropic": (ask_anthropic, "anthropic", "claude-opus-4-6"),
    "anthropic, async": (ask_anthropic_async, "anthropic", "claude-opus-4-6"),
}
COUNTS = ("input_tokens", "cache_read_tokens", "output_tokens")


@pytest.mark.parametrize("which", CALLS)
def test_calls_are_whole_whether_streamed_or_not(
    which: str, base_url: str, instrumented: dict[str, str], recorded: Any
) -> None:
    """litellm#9812, openinference#3487: streams lost the cached tokens, and cost another amount."""
    ask, provider, model = CALLS[which]
    answers = []

    @observe(name="agent", kind="agent")
    def agent(stream: bool) -> None:
        answers.append(ask(base_url, stream=stream))

    for stream in (False, False, True):  # the first one fills the server's cache
        agent(stream)
    spans: list[Any] = recorded.spans()
    assert [(span["name"], span["kind"], span["depth"]) for span in spans] == [
        ("agent", "agent", 0),
        (f"chat {model}", "llm", 1),
    ] * 3
    whole, streamed = (span["attributes"] for span in (spans[3], spans[5]))
    for span, answer in ((whole, answers[1]), (streamed, answers[2])):
        assert (span["provider"], span["model"], span["operation"]) == (provider, model, "chat")
        assert QUESTION in json.dumps(span["input"])
        assert answer[:40] in json.dumps(span["output"])
        assert span["otel.kind"] == "client"
    counts = {name: whole[name] for name in COUNTS}
    assert {name: streamed[name] for name in COUNTS} == counts
    assert counts["input_tokens"] > counts["cache_read_tokens"] > 0 < counts["output_tokens"]
    assert 0 < streamed["ttft_ns"] <= spans[5]["duration_ns"]
    costs = [
        spanbox.cost.of(provider=provider, model=model, usage={name: span[name] for name in COUNTS})
        for span in (whole, streamed)
    ]
    assert costs[0].usd == costs[1].usd
    assert costs[0].usd is not None


def test_spans_of_a_stream_that_is_left_early_end(base_url: str, instrumented: Any, recorded: Any) -> None:
    with openai.OpenAI(base_url=base_url, api_key="none") as client:
        reply = client.chat.completions.create(**chat_request(True))
        next(iter(reply))
        reply.close()
    span = recorded.only_span()
    assert span["status"] != "running"
    assert span["attributes"]["ttft_ns"] > 0


def test_an_error_of_the_provider_is_the_span_s(server: ModuleType, instrumented: Any, recorded: Any) -> None:
    with (
        server.serve(scale=0.01) as url,
        openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client,
        pytest.raises(openai.BadRequestError),
    ):
        client.chat.completions.create(model="gpt-5", messages=3)
    span = recorded.only_span()
    assert span["status"] == "error"
    assert "BadRequestError" in span["attributes"]["error_type"]


def test_content_is_left_out_when_it_is_not_wanted(base_url: str, recorded: Any, monkeypatch: Any) -> None:
    monkeypatch.delenv(CONTENT, raising=False)
    spanbox.instrument(capture_content=False)
    try:
        ask_openai(base_url, stream=False)
        ask_anthropic(base_url, stream=True)
    finally:
        spanbox.uninstrument()
    stored = json.dumps(recorded.spans())
    assert "apples" not in stored
    assert len(recorded.spans()) == 2
    assert CONTENT not in os.environ


def test_the_environment_decides_about_content_when_the_program_does_not(
    base_url: str, recorded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CONTENT, "NO_CONTENT")
    spanbox.instrument()
    try:
        ask_openai(base_url, stream=False)
    finally:
        spanbox.uninstrument()
    assert "apples" not in json.dumps(recorded.spans())
    assert os.environ[CONTENT] == "NO_CONTENT"


def test_secrets_in_messages_are_redacted(base_url: str, instrumented: Any, recorded: Any) -> None:
    key = "sk-proj-" + "A1b2" * 12
    with openai.OpenAI(base_url=base_url, api_key="none") as client:
        client.chat.completions.create(model="steady", messages=[{"role": "user", "content": f"my key is {key}"}])
    assert key not in json.dumps(recorded.spans())


def test_one_instrumentor_of_several_for_a_client_is_taken(
    base_url: str, instrumented: dict[str, str], recorded: Any
) -> None:
    pytest.importorskip("openinference.instrumentation.openai")
    assert instrumented["openai"].startswith("opentelemetry-instrumentation-genai-openai ")
    assert instrumented["anthropic"].startswith("opentelemetry-instrumentation-genai-anthropic ")
    again = spanbox.instrument(allow=["openai"])
    assert again["openai"] == instrumented["openai"]
    ask_openai(base_url, stream=False)
    assert len(recorded.spans()) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_openinference_is_used_where_the_official_one_is_blocked(stream: bool, base_url: str, recorded: Any) -> None:
    pytest.importorskip("openinference.instrumentation.openai")
    chosen = spanbox.instrument(
        allow=["openai"], block=["opentelemetry-instrumentation-genai-openai", "opentelemetry-instrumentation-openai"]
    )
    try:
        assert chosen["openai"].startswith("openinference-instrumentation-openai ")
        with spanbox.span("work"):
            ask_openai(base_url, stream=stream)
    finally:
        spanbox.uninstrument()
    _, span = recorded.spans()
    attributes = span["attributes"]
    assert (span["kind"], span["depth"]) == ("llm", 1)
    assert attributes["model"] == "gpt-5-mini"
    assert attributes["input_tokens"] > 0 < attributes["output_tokens"]
    assert QUESTION in json.dumps(attributes["input"])


def test_uninstrument_leaves_the_clients_as_they_were(base_url: str, recorded: Any) -> None:
    before = openai.resources.chat.completions.Completions.create
    spanbox.instrument()
    spanbox.uninstrument()
    assert openai.resources.chat.completions.Completions.create is before
    ask_openai(base_url, stream=False)
    assert recorded.spans() == []
    assert spanbox.instrument(block=["openai", "anthropic"]).keys().isdisjoint({"openai", "anthropic"})
    spanbox.uninstrument()


def test_a_name_that_is_not_installed_is_told() -> None:
    with pytest.raises(ValueError, match=r"no instrumentor for 'nonesuch' is installed; installed are: .*openai"):
        spanbox.instrument(allow=["nonesuch"])
    with pytest.raises(TypeError, match="lists of names"):
        spanbox.instrument(allow="openai")


def test_what_the_program_has_switched_on_itself_is_left_alone(base_url: str, recorded: Any) -> None:
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument(tracer_provider=spanbox.otel.TracerProvider())
    try:
        spanbox.instrument()
        ask_openai(base_url, stream=False)
        assert len(recorded.spans()) == 1
        spanbox.uninstrument()
        assert OpenAIInstrumentor().is_instrumented_by_opentelemetry
    finally:
        OpenAIInstrumentor().uninstrument()


LATE = """
import sys, spanbox
chosen = spanbox.instrument()
assert "openai" in chosen, chosen
assert "openai" not in sys.modules and "wrapt" not in sys.modules
import openai
with openai.OpenAI(base_url=sys.argv[1], api_key="none") as client:
    client.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": "hello there"}])
"""


def test_a_client_is_patched_when_it_is_imported(base_url: str, recorded: Any) -> None:
    """weave#3441: three to four seconds of patching every library that is known."""
    environment = {**os.environ, "SPANBOX_DIR": str(recorded.path)}
    subprocess.run([sys.executable, "-c", LATE, base_url], env=environment, check=True)
    assert recorded.reopened().only_span()["attributes"]["model"] == "gpt-5-mini"
