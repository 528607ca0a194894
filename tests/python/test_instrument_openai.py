"""Every way in which OpenAI's client calls a model, recorded by the official instrumentor and over httpx alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import spanbox

pytest.importorskip("opentelemetry.instrumentation.genai.openai")
openai = pytest.importorskip("openai")
httpx = pytest.importorskip("httpx2")
pydantic = pytest.importorskip("pydantic")

MODEL = "gpt-5-mini"
MESSAGES = [{"role": "user", "content": "how many apples?"}]
CHAT_USAGE = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
CHAT_USAGE |= {"prompt_tokens_details": {"cached_tokens": 4}}  # type: ignore[dict-item]
USAGE = {
    "input_tokens": 10, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 3, "total_tokens": 13,
    "output_tokens_details": {"reasoning_tokens": 0},
}  # fmt: skip
SAID = '{"apples": 3}'


class Apples(pydantic.BaseModel):  # type: ignore[misc, name-defined]
    apples: int


def events(*bodies: Any, named: bool = False) -> bytes:
    lines = (f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" if named else f"data: {json.dumps(each)}\n\n"
             for each in bodies)  # fmt: skip
    return "".join(lines).encode() + (b"" if named else b"data: [DONE]\n\n")


def chat(is_stream: bool) -> bytes:
    about = {"id": "c1", "created": 1, "model": MODEL}
    if not is_stream:
        message = {"role": "assistant", "content": SAID}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return json.dumps({**about, "object": "chat.completion", "choices": choices, "usage": CHAT_USAGE}).encode()
    about["object"] = "chat.completion.chunk"
    first = {"index": 0, "delta": {"role": "assistant", "content": SAID}, "finish_reason": None}
    last = {"index": 0, "delta": {}, "finish_reason": "stop"}
    return events({**about, "choices": [first]}, {**about, "choices": [last], "usage": CHAT_USAGE})


def response(is_stream: bool) -> bytes:
    item: dict[str, Any] = {"type": "message", "id": "m1", "role": "assistant"}
    content = {"type": "output_text", "annotations": []}
    whole = {
        "id": "r1", "object": "response", "created_at": 1, "status": "completed", "model": MODEL, "usage": USAGE,
        "output": [{**item, "status": "completed", "content": [{**content, "text": SAID}]}],
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    }  # fmt: skip
    if not is_stream:
        return json.dumps(whole).encode()
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    where = {"item_id": "m1", "output_index": 0, "content_index": 0}
    steps: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        {"type": "response.content_part.added", **where, "part": {**content, "text": ""}},
        {"type": "response.output_text.delta", **where, "delta": SAID, "logprobs": []},
        {"type": "response.completed", "response": whole},
    ]  # fmt: skip
    return events(*({**step, "sequence_number": n} for n, step in enumerate(steps)), named=True)


def embedding(_: bool) -> bytes:
    data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
    usage = {"prompt_tokens": 10, "total_tokens": 10}
    return json.dumps({"object": "list", "model": MODEL, "data": data, "usage": usage}).encode()


class Pieces(httpx.SyncByteStream):  # type: ignore[misc, name-defined]
    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        for at in range(0, len(self._content), 50):
            yield self._content[at : at + 50]


def answer(request: Any) -> Any:
    is_stream = bool(json.loads(request.content).get("stream"))
    made = {"completions": chat, "responses": response, "embeddings": embedding}[request.url.path.rpartition("/")[2]]
    kind = "text/event-stream" if is_stream else "application/json"
    return httpx.Response(200, headers={"content-type": kind}, stream=Pieces(made(is_stream)))


def read(stream: Any) -> None:
    with stream as chunks:
        for _ in chunks:
            pass


CALLS: dict[str, Callable[[Any], Any]] = {
    "chat": lambda client: client.chat.completions.create(model=MODEL, messages=MESSAGES),
    "chat, streamed": lambda client: read(client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)),
    "chat, stream()": lambda client: read(client.chat.completions.stream(model=MODEL, messages=MESSAGES)),
    "chat, parsed": lambda client: client.chat.completions.parse(
        model=MODEL, messages=MESSAGES, response_format=Apples
    ),
    "chat, raw": lambda client: client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES),
    "responses": lambda client: client.responses.create(model=MODEL, input="how many apples?"),
    "responses, streamed": lambda client: read(client.responses.create(model=MODEL, input="how many?", stream=True)),
    "responses, stream()": lambda client: read(client.responses.stream(model=MODEL, input="how many apples?")),
    "responses, parsed": lambda client: client.responses.parse(model=MODEL, input="how many?", text_format=Apples),
    "embeddings": lambda client: client.embeddings.create(model=MODEL, input=["apples"]),
}  # fmt: skip


@pytest.mark.parametrize("recorder", ["openai", "any-host"])
@pytest.mark.parametrize("way", CALLS)
def test_a_call_is_one_span_with_all_that_was_said(way: str, recorder: str, recorded: Any) -> None:
    spanbox.instrument(allow=[recorder])
    try:
        transport = httpx.MockTransport(answer)
        with openai.OpenAI(api_key="none", max_retries=0, http_client=httpx.Client(transport=transport)) as client:
            CALLS[way](client)
    finally:
        spanbox.uninstrument()
    span = recorded.only_span()
    attributes = span["attributes"]
    assert span["status"] == "ok"
    assert (attributes["provider"], attributes["model"], attributes["input_tokens"]) == ("openai", MODEL, 10)
    if way == "embeddings":
        assert span["kind"] == "embedding"
        return
    assert span["kind"] == "llm"
    assert (attributes["cache_read_tokens"], attributes["output_tokens"]) == (4, 3)
    assert "apples" in json.dumps(attributes["output"])
    assert ("stream" in way) == ("ttft_ns" in attributes)
    assert attributes["cost_usd"] > 0
