"""Model calls over httpx that no instrumentor records: whatever the client, whatever the host."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import spanbox
from spanbox import replies
from spanbox.integrations import _reader
from spanbox.integrations import httpx as any_host

pytest.importorskip("opentelemetry")
openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")
httpx = pytest.importorskip("httpx")

QUESTION = "which apples grow on trees?"
MESSAGES = [{"role": "system", "content": "Context: Apples grow on trees."}, {"role": "user", "content": QUESTION}]
COUNTS = ("input_tokens", "cache_read_tokens", "output_tokens", "cost_usd")


@pytest.fixture
def url() -> Iterator[str]:
    sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
    try:
        loopback = import_module("loopback_llm")
    finally:
        sys.path.pop(0)
    with loopback.serve(scale=0.01, failures=False) as base_url:
        yield base_url


@pytest.fixture
def installed(recorded: Any) -> Iterator[None]:
    any_host.install()
    yield
    any_host.uninstall()


def options(stream: bool) -> dict[str, Any]:
    told = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    return {"model": "gpt-5-mini", "messages": MESSAGES, **told}


def by_openai(url: str, *, stream: bool) -> str:
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        reply = client.chat.completions.create(**options(stream))
        if not stream:
            return str(reply.choices[0].message.content)
        return "".join(chunk.choices[0].delta.content or "" for chunk in reply if chunk.choices)


def by_openai_async(url: str, *, stream: bool) -> str:
    async def ask() -> str:
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            reply = await client.chat.completions.create(**options(stream))
            if not stream:
                return str(reply.choices[0].message.content)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in reply if chunk.choices])

    return asyncio.run(ask())


def by_anthropic(url: str, *, stream: bool) -> str:
    request: Any = {"model": "claude-opus-4-6", "max_tokens": 50, "system": "Context: Apples grow on trees."}
    request |= {"messages": MESSAGES[1:], "stream": stream}
    with anthropic.Anthropic(base_url=url.removesuffix("/v1"), api_key="none", max_retries=0) as client:
        reply = client.messages.create(**request)
        if not stream:
            return str(reply.content[0].text)
        return "".join(event.delta.text for event in reply if event.type == "content_block_delta")


def by_hand(url: str, *, stream: bool) -> str:
    with httpx.stream("POST", f"{url}/chat/completions", json=options(stream)) as reply:
        body = b"".join(reply.iter_bytes())
    return replies.parse(None, body).text


ASK: dict[str, Callable[..., str]] = {
    "openai": by_openai, "openai, async": by_openai_async, "anthropic": by_anthropic, "httpx": by_hand,
}  # fmt: skip


@pytest.mark.parametrize("which", ASK)
def test_a_call_is_a_span_whole_or_streamed(which: str, url: str, installed: None, recorded: Any) -> None:
    answers = []
    with spanbox.span("agent", kind="agent"):
        for stream in (False, False, True):  # the first one fills the server's cache
            answers.append(ASK[which](url, stream=stream))
    model = "claude-opus-4-6" if which == "anthropic" else "gpt-5-mini"
    spans = recorded.spans()
    assert [(span["name"], span["kind"], span["status"], span["depth"]) for span in spans] == [
        ("agent", "agent", "ok", 0), *[(f"chat {model}", "llm", "ok", 1)] * 3,
    ]  # fmt: skip
    whole, streamed = (span["attributes"] for span in spans[2:])
    for span, answer in ((whole, answers[1]), (streamed, answers[2])):
        assert (span["model"], span["otel.kind"], span["server.address"]) == (model, "client", "127.0.0.1")
        assert QUESTION in json.dumps(span["input"])
        assert answer[:40] in json.dumps(span["output"])
        assert span["usage"]  # as the provider said it
    assert {name: streamed[name] for name in COUNTS} == {name: whole[name] for name in COUNTS}
    assert whole["cost_usd"] > 0 < whole["output_tokens"]
    assert 0 < streamed["ttft_ns"] <= spans[3]["duration_ns"]
    assert "ttft_ns" not in whole


def test_a_stream_that_is_left_early_ends_with_what_came(url: str, installed: None, recorded: Any) -> None:
    with openai.OpenAI(base_url=url, api_key="none") as client:
        reply = client.chat.completions.create(**options(True))
        for chunk in reply:
            if chunk.choices and chunk.choices[0].delta.content:
                break
        reply.close()
    span = recorded.only_span()
    assert span["status"] == "ok"
    assert span["attributes"]["output"]


def test_what_fails_is_an_error_with_the_provider_s_words(url: str, installed: None, recorded: Any) -> None:
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client, pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="gpt-5", messages=3)
    with pytest.raises(httpx.ConnectError):
        httpx.post("http://127.0.0.1:1/v1/chat/completions", json=options(False))
    refused, unreachable = (span for span in recorded.spans())
    assert refused["status"] == unreachable["status"] == "error"
    assert refused["attributes"]["error_type"] == "invalid_request_error"
    assert "must be JSON" in str(refused["attributes"]["error_message"])
    assert unreachable["attributes"]["error_type"] == "httpx.ConnectError"


def answering(body: bytes, content_type: str = "application/json") -> Any:
    class Body(httpx.SyncByteStream):  # type: ignore[misc, name-defined]
        def __iter__(self) -> Iterator[bytes]:
            yield body

    def answer(request: Any) -> Any:
        return httpx.Response(200, headers={"content-type": content_type}, stream=Body())

    return httpx.Client(transport=httpx.MockTransport(answer))


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/v1/models", b'{"model": "m", "messages": [1]}'),
        ("/v1/chat/completions", b"no JSON"),
        ("/v1/chat/completions", b'["model"]'),
        ("/v1/chat/completions", b'{"messages": [1]}'),
        ("/v1/chat/completions", b'{"model": {}, "messages": [1]}'),
        ("/v1/chat", b'{"model": "m", "room": "lobby"}'),
    ],
)
def test_other_requests_are_let_pass(path: str, content: bytes, installed: None, recorded: Any) -> None:
    with answering(b"{}") as client:
        assert client.post(f"http://example.test{path}", content=content).content == b"{}"
        client.get("http://example.test/v1/chat/completions")
    assert recorded.spans() == []


@pytest.mark.parametrize("body", [b"", b"\x00\xff", b"[" * 100_000, b'{"choices": {"a": 1}, "usage": [[]]}'])
def test_replies_of_any_shape_go_to_the_program(body: bytes, installed: None, recorded: Any) -> None:
    with answering(body) as client:
        url = "http://example.test/v1/chat/completions"
        assert client.post(url, json=options(False)).content == body
        with client.stream("POST", url, json=options(True)) as reply:
            assert b"".join(reply.iter_raw()) == body
    assert [span["status"] for span in recorded.spans()] == ["ok", "ok"]


def test_a_long_reply_is_read_beside_the_program(
    installed: None, recorded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2,000 pieces take tens of milliseconds to read: an event loop must not stand still for them."""
    piece = {"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "pear "}}]}
    usage = {"id": "c", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2_000}}
    body = b"".join(b"data: %b\n\n" % json.dumps(each).encode() for each in [*[piece] * 2_000, usage])
    has_reply, parse = threading.Event(), replies.parse

    def patient(*args: Any, **options: Any) -> Any:
        assert has_reply.wait(30)
        return parse(*args, **options)

    monkeypatch.setattr(replies, "parse", patient)
    with answering(body, "text/event-stream") as client:
        assert client.post("http://example.test/v1/chat/completions", json=options(True)).content == body
    end_ns = time.time_ns()
    has_reply.set()
    assert spanbox.flush(30)
    span = recorded.only_span()
    assert (span["status"], span["attributes"]["output_tokens"]) == ("ok", 2_000)
    assert span["start_ns"] + span["duration_ns"] <= end_ns


def test_a_child_does_not_wait_for_what_its_parent_reads() -> None:
    may_end = threading.Event()
    _reader.later(lambda: may_end.wait(30) and None)
    assert not _reader.drain(0)
    child = os.fork()
    if child == 0:
        os._exit(0 if _reader.drain(0) else 1)
    may_end.set()
    assert os.waitpid(child, 0)[1] == 0
    assert _reader.drain(30)


def test_vectors_are_not_looked_at_for_their_usage(
    installed: None, recorded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = [{"object": "embedding", "index": i, "embedding": [i / 7] * 256} for i in range(50)]
    usage = {"prompt_tokens": 31, "total_tokens": 31, "prompt_tokens_details": {"audio_tokens": 0}}
    sizes, parse = [], replies.parse

    def watched(provider: Any, content: Any, **options: Any) -> Any:
        sizes.append(len(content))
        return parse(provider, content, **options)

    monkeypatch.setattr(replies, "parse", watched)
    for told in ({"usage": usage}, {}):
        body = json.dumps({"object": "list", "data": vectors, "model": "text-embedding-3-small", **told}).encode()
        with answering(body) as client:
            asked = {"model": "text-embedding-3-small", "input": ["pears", "plums"]}
            assert client.post("http://api.openai.com/v1/embeddings", json=asked).content == body
    assert spanbox.flush(30)
    assert max(sizes) < 1_000
    known, unknown = (span["attributes"] for span in recorded.spans())
    assert known["input_tokens"] == 31
    assert known["cost_usd"] > 0
    assert "input_tokens" not in unknown


NOT_OVER_HTTPX = (
    "posthog",
    "wiki17",
    "replicate",
    "rerank",
    ".endpoints.",
)  # forms of their own


@pytest.mark.realdata
def test_every_recorded_exchange_is_a_span_with_what_its_reply_says(data: Path, installed: None, recorded: Any) -> None:
    expected = []
    for path in sorted((data / "cassettes").glob("*.json")):
        for exchange in json.loads(path.read_text())["interactions"]:
            request, response = exchange["request"], exchange["response"]
            raw = response.get("body")
            body = base64.b64decode(response["body_b64"]) if raw is None else raw.encode()
            packed = ("content-encoding", "content-length", "transfer-encoding")  # it was recorded unpacked
            headers = {
                name: value if isinstance(value, str) else value[0]
                for name, value in response["headers"].items()
                if name.lower() not in packed
            }

            def answer(_: Any, status: int = response["status"], headers: Any = headers, body: bytes = body) -> Any:
                return httpx.Response(status, headers=headers, content=body)

            content = request.get("body") or ""
            method, uri = request["method"].upper(), request["uri"]
            with httpx.Client(transport=httpx.MockTransport(answer)) as client:
                assert client.request(method, uri, content=content).content == body
            if method == "POST" and not any(each in uri for each in NOT_OVER_HTTPX):
                expected.append(replies.parse(None, body, status=response["status"], headers=headers))
    spans = recorded.spans()
    assert len(spans) == len(expected) == 116
    counts = [{name: span["attributes"].get(name) for name in COUNTS[:3]} for span in spans]
    assert counts == [{name: reply.tokens.get(name) for name in COUNTS[:3]} for reply in expected]
    assert {span["status"] for span in spans} == {"ok", "error"}
    assert [span["status"] == "error" for span in spans] == [reply.error is not None for reply in expected]


def test_it_begins_where_instrumentors_end(url: str, recorded: Any) -> None:
    pytest.importorskip("opentelemetry.instrumentation.genai.openai")
    report = spanbox.instrument()
    try:
        assert report["any-host"].startswith("spanbox ")
        by_openai(url, stream=True)
        by_openai_async(url, stream=False)
        by_hand(url, stream=True)
    finally:
        spanbox.uninstrument()
    scopes = [span["attributes"]["scope.name"] for span in recorded.spans()]
    assert [scope.partition(".")[0] for scope in map(str, scopes)] == ["opentelemetry", "opentelemetry", "spanbox"]
    by_hand(url, stream=False)
    assert len(recorded.spans()) == 3


def test_the_report_says_what_to_do_for_what_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"mistralai", "dspy", "chromadb"}
    monkeypatch.setattr("spanbox._instrument._is_installed", lambda module: module in found)
    monkeypatch.setattr("spanbox._instrument._installed", lambda: iter(()))
    try:
        report = spanbox.instrument(block=["chromadb"])
        assert str(report).splitlines() == [
            f"any-host  spanbox {spanbox.__version__}: model calls over httpx that nothing above records",
            "dspy      not recorded: pip install opentelemetry-instrumentation-genai-dspy",
        ]
        assert repr(report) == "<Instrumented any-host; not dspy: print() tells why>"
        monkeypatch.setattr(any_host, "MODULES", ())
        assert spanbox.instrument(block=["any-host", "dspy", "chromadb"]).advice == {
            "mistralai": "pip install openinference-instrumentation-mistralai"
        }
        found.clear()
        assert str(spanbox.instrument()) == "no client library is installed that spanbox knows how to record"
    finally:
        spanbox.uninstrument()


def test_it_is_chosen_by_name_and_keeps_content_only_where_that_is_wanted(url: str, recorded: Any) -> None:
    chosen = spanbox.instrument(allow=["any-host"], capture_content=False)
    try:
        assert list(chosen) == ["any-host"]
        by_openai(url, stream=True)
    finally:
        spanbox.uninstrument()
    assert "apples" not in json.dumps(recorded.spans()).lower()
    assert recorded.only_span()["attributes"]["output_tokens"] > 0


def test_a_limit_counts_and_stops_them(url: str, installed: None, recorded: Any) -> None:
    @spanbox.limit(calls=2)
    def agent() -> None:
        while True:
            by_openai(url, stream=False)

    with pytest.raises(spanbox.LimitExceeded, match="2 calls is all"):
        agent()
    assert len(recorded.spans()) == 2


def test_off_records_nothing(url: str, installed: None, recorded: Any) -> None:
    spanbox.off()
    try:
        assert by_openai(url, stream=True)
    finally:
        spanbox.on()
    assert recorded.spans() == []


def test_uninstall_leaves_httpx_as_it_was() -> None:
    before = httpx.Client.send, httpx.AsyncClient.send
    for _ in range(3):
        any_host.install()
    any_host.uninstall()
    assert (httpx.Client.send, httpx.AsyncClient.send) == before


LATE = """
import sys, spanbox
spanbox.instrument(allow=["any-host"])
assert not {"httpx", "httpx2", "spanbox.replies"} & set(sys.modules)
import httpx
httpx.post(sys.argv[1], json={"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hi"}]})
"""


def test_httpx_is_patched_when_it_is_imported(url: str, recorded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPANBOX_DIR", str(recorded.path))
    subprocess.run([sys.executable, "-c", LATE, f"{url}/chat/completions"], check=True)
    assert recorded.reopened().only_span()["attributes"]["model"] == "gpt-5-mini"
