"""Provider replies: what they say is read from any form, and a streamed one says the same as a whole one."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import pytest
from spanbox import replies
from spanbox.replies import RateLimit, Reply, ToolCall

CHAT: dict[str, Any] = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-5",
    "choices": [
        {
            "index": 0, "finish_reason": "tool_calls",
            "message": {
                "role": "assistant", "content": "Let me look.",
                "tool_calls": [{"id": "call_1", "type": "function",
                                "function": {"name": "search", "arguments": '{"userId": "ü", "n": 3}'}}],
            },
        }
    ],
    "usage": {"prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 80}},
}  # fmt: skip
ANTHROPIC: dict[str, Any] = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "stop_reason": "tool_use",
    "content": [
        {"type": "thinking", "thinking": "Hm."},
        {"type": "text", "text": "Let me look."},
        {"type": "tool_use", "id": "toolu_1", "name": "search", "input": {"userId": "ü", "n": 3}},
    ],
    "usage": {"input_tokens": 20, "cache_read_input_tokens": 80, "cache_creation_input_tokens": 0, "output_tokens": 20},
}  # fmt: skip
CONVERSE: dict[str, Any] = {
    "output": {"message": {"role": "assistant", "content": [
        {"text": "Let me look."},
        {"toolUse": {"toolUseId": "t1", "name": "search", "input": {"userId": "ü", "n": 3}}}]}},
    "stopReason": "tool_use",
    "usage": {"inputTokens": 20, "outputTokens": 20, "totalTokens": 120, "cacheReadInputTokens": 80},
}  # fmt: skip
GEMINI: dict[str, Any] = {
    "candidates": [{"content": {"role": "model", "parts": [
        {"text": "Let me "}, {"text": "look."}, {"functionCall": {"name": "search", "args": {"userId": "ü", "n": 3}}}]},
        "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 100, "candidatesTokenCount": 15, "thoughtsTokenCount": 5,
                      "cachedContentTokenCount": 80, "totalTokenCount": 120},
    "modelVersion": "gemini-2.5-flash", "responseId": "r1",
}  # fmt: skip
RESPONSES: dict[str, Any] = {
    "id": "resp_1", "object": "response", "status": "completed", "model": "gpt-5", "error": None,
    "output": [
        {"type": "message", "content": [{"type": "output_text", "text": "Let me look."}]},
        {"type": "function_call", "name": "search", "call_id": "call_1", "arguments": '{"userId": "ü", "n": 3}'},
    ],
    "usage": {"input_tokens": 100, "input_tokens_details": {"cached_tokens": 80}, "output_tokens": 20},
}  # fmt: skip
WHOLE: dict[str, dict[str, Any]] = {
    "chat": CHAT,
    "anthropic": ANTHROPIC,
    "converse": CONVERSE,
    "gemini": GEMINI,
    "responses": RESPONSES,
}


def halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


def chat_events() -> list[dict[str, Any]]:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5"}
    call = CHAT["choices"][0]["message"]["tool_calls"][0]["function"]
    first, second = halves(call["arguments"])
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, {"content": "Let me "}, {"content": "look."}]
    deltas.append({"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "search", "arguments": first}}]})
    deltas.append({"tool_calls": [{"index": 0, "function": {"arguments": second}}]})
    events = [{**head, "choices": [{"index": 0, "delta": each, "finish_reason": None}]} for each in deltas]
    end = {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    return [*events, end, {**head, "choices": [], "usage": CHAT["usage"]}]


def anthropic_events() -> list[dict[str, Any]]:
    started = {**ANTHROPIC, "content": [], "stop_reason": None, "usage": {**ANTHROPIC["usage"], "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": started}, {"type": "ping"}]
    for index, block in enumerate(ANTHROPIC["content"]):
        kind = block["type"]
        key, delta = {"text": ("text", "text_delta"), "thinking": ("thinking", "thinking_delta")}.get(
            kind, ("input", "input_json_delta")
        )
        piece = "partial_json" if kind == "tool_use" else key
        value = json.dumps(block[key]) if kind == "tool_use" else block[key]
        empty: Any = {} if kind == "tool_use" else ""
        events.append({"type": "content_block_start", "index": index, "content_block": {**block, key: empty}})
        events += [
            {"type": "content_block_delta", "index": index, "delta": {"type": delta, piece: half}}
            for half in halves(value)
        ]
        events.append({"type": "content_block_stop", "index": index})
    delta_event = {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 20}}
    return [*events, delta_event, {"type": "message_stop"}]


def converse_events() -> list[dict[str, Any]]:
    first, second = halves(json.dumps({"userId": "ü", "n": 3}))
    return [
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "Let me "}}},
        {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "look."}}},
        {"contentBlockStop": {"contentBlockIndex": 0}},
        {"contentBlockStart": {"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "t1", "name": "search"}}}},
        {"contentBlockDelta": {"contentBlockIndex": 1, "delta": {"toolUse": {"input": first}}}},
        {"contentBlockDelta": {"contentBlockIndex": 1, "delta": {"toolUse": {"input": second}}}},
        {"messageStop": {"stopReason": "tool_use"}},
        {"metadata": {"usage": CONVERSE["usage"], "metrics": {"latencyMs": 1}}},
    ]


def gemini_events() -> list[dict[str, Any]]:
    parts = GEMINI["candidates"][0]["content"]["parts"]
    counted = {"promptTokenCount": 100, "totalTokenCount": 100}
    events: list[dict[str, Any]] = [
        {"candidates": [{"content": {"parts": [part]}}], "usageMetadata": counted, "modelVersion": "gemini-2.5-flash"}
        for part in parts
    ]
    events[-1]["candidates"][0]["finishReason"] = "STOP"
    return [*events[:-1], {**events[-1], "usageMetadata": GEMINI["usageMetadata"], "responseId": "r1"}]


def responses_events() -> list[dict[str, Any]]:
    started = {**RESPONSES, "status": "in_progress", "output": [], "usage": None}
    return [
        {"type": "response.created", "response": started},
        {"type": "response.output_text.delta", "delta": "Let me look.", "output_index": 0},
        *(
            {"type": "response.output_item.done", "output_index": at, "item": item}
            for at, item in enumerate(RESPONSES["output"])
        ),
        {"type": "response.completed", "response": {**RESPONSES, "output": []}},
    ]


STREAMS = {
    "chat": chat_events, "anthropic": anthropic_events, "converse": converse_events, "gemini": gemini_events,
    "responses": responses_events,
}  # fmt: skip


def sse(events: list[dict[str, Any]]) -> str:
    return "".join(f"event: {e.get('type', 'x')}\ndata: {json.dumps(e)}\n\n" for e in events) + "data: [DONE]\n\n"


def said(reply: Reply) -> tuple[Any, ...]:
    calls = [(call.name, call.arguments) for call in reply.tool_calls]
    return (
        reply.format,
        reply.model,
        reply.finish_reason,
        reply.text,
        calls,
        dict(reply.tokens),
        dict(reply.usage or {}),
    )


@pytest.mark.parametrize("form", WHOLE)
def test_a_whole_reply_says_all_of_it(form: str) -> None:
    reply = replies.parse(None, WHOLE[form])
    assert reply.text == "Let me look."
    assert [(call.name, call.arguments) for call in reply.tool_calls] == [("search", {"userId": "ü", "n": 3})]
    assert (reply.tokens["input_tokens"], reply.tokens["cache_read_tokens"]) == (100, 80)
    assert reply.tokens["output_tokens"] == 20
    assert (reply.reason, reply.error, reply.refusal, reply.streamed) == ("", None, None, False)
    assert reply.usage == WHOLE[form].get("usage", WHOLE[form].get("usageMetadata"))


@pytest.mark.parametrize("form", STREAMS)
def test_a_stream_says_what_the_whole_reply_says(form: str) -> None:
    whole = replies.parse(None, WHOLE[form])
    events = STREAMS[form]()
    for body in (events, sse(events), sse(events).encode(), "\n".join(map(json.dumps, events))):
        reply = replies.parse(None, body)
        assert said(reply) == said(whole)
        assert reply.streamed
        assert said(replies.parse(None, replies.join(body))) == said(whole)


def frame(kind: str, payload: dict[str, Any], message: str = "event") -> bytes:
    headers = b""
    name = ":event-type" if message == "event" else ":exception-type"
    for key, value in ((name, kind), (":message-type", message)):
        headers += bytes([len(key)]) + key.encode() + b"\x07" + len(value).to_bytes(2, "big") + value.encode()
    body = json.dumps(payload).encode()
    prelude = (16 + len(headers) + len(body)).to_bytes(4, "big") + len(headers).to_bytes(4, "big")
    rest = prelude + zlib.crc32(prelude).to_bytes(4, "big") + headers + body
    return rest + zlib.crc32(rest).to_bytes(4, "big")


def test_aws_event_streams() -> None:
    frames = b"".join(frame(*next(iter(event.items()))) for event in converse_events())
    assert said(replies.parse(None, frames)) == said(replies.parse(None, CONVERSE))
    broken = bytearray(frames)
    broken[-20] ^= 1
    assert "checksum of the event" in replies.parse(None, bytes(broken)).reason
    assert replies.parse(None, frames[:-7]).text == "Let me look."
    within = [frame("chunk", {"bytes": base64.b64encode(json.dumps(e).encode()).decode()}) for e in anthropic_events()]
    assert said(replies.parse("aws", b"".join(within))) == said(replies.parse("aws", ANTHROPIC))
    failed = replies.parse(None, frame("throttlingException", {"message": "Too many tokens"}, "exception"))
    assert failed.error is not None
    assert (failed.error.message, failed.error.is_rate_limit) == ("Too many tokens", True)


def test_a_stream_that_is_cut_off_says_what_came() -> None:
    text = sse(anthropic_events())
    reply = replies.parse(None, text[: text.index("message_delta")])
    assert (reply.text, reply.finish_reason) == ("Let me look.", None)
    assert reply.tokens["input_tokens"] == 100
    half = replies.parse(None, text[: text.index('"Let me') + 60])
    assert half.format == "anthropic.messages"


def test_what_a_later_event_leaves_out_stays() -> None:
    events = anthropic_events()
    events[-2]["usage"] = {"input_tokens": None, "cache_read_input_tokens": None, "output_tokens": 20}
    assert replies.parse(None, events).tokens == replies.parse(None, ANTHROPIC).tokens


def test_reasoning_that_a_provider_counts_beside_the_answer() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 50, "completion_tokens_details": {"reasoning_tokens": 30}}
    for provider, output in (("xai", 80), ("x_ai", 80), ("openai", 50)):
        assert replies.parse(provider, {**CHAT, "usage": usage}).tokens["output_tokens"] == output


def test_two_messages_in_a_stream_are_not_taken_for_one() -> None:
    reply = replies.parse(None, [*anthropic_events()[:6], *anthropic_events()])
    assert said(reply) == said(replies.parse(None, ANTHROPIC))
    assert reply.reason == "the stream has 2 messages; what is told is of the last, 'msg_1'"


class Client:
    """As the reply objects of client libraries."""

    def model_dump(self) -> dict[str, Any]:
        return CHAT


def test_objects_of_client_libraries() -> None:
    assert said(replies.parse("openai", Client())) == said(replies.parse("openai", CHAT))


ERRORS: dict[str, tuple[Any, int | None, tuple[Any, ...]]] = {
    "openai": ({"error": {"message": "no", "type": "requests", "code": "rate_limit_exceeded"}}, 429,
               ("no", "requests", "rate_limit_exceeded", 429, True)),
    "anthropic": ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, 529,
                  ("Overloaded", "overloaded_error", None, 529, False)),
    "google": ({"error": {"code": 429, "message": "Quota", "status": "RESOURCE_EXHAUSTED"}}, None,
               ("Quota", "RESOURCE_EXHAUSTED", "429", 429, True)),
    "google stream": ([{"error": {"code": 400, "message": "Bad", "status": "INVALID_ARGUMENT"}}], 400,
                      ("Bad", "INVALID_ARGUMENT", "400", 400, False)),
    "cohere": ({"id": "x", "message": "model was removed"}, None, ("model was removed", None, None, None, False)),
    "ollama": ({"error": "model not found"}, 404, ("model not found", None, None, 404, False)),
    "bedrock": ({"__type": "ThrottlingException", "message": "slow down"}, 400,
                ("slow down", "ThrottlingException", None, 400, True)),
    "no body": (b"", 503, ("", None, None, 503, False)),
    "in a stream": ('event: error\ndata: {"type":"error","error":{"type":"api_error","message":"down"}}\n\n', 200,
                    ("down", "api_error", None, 200, False)),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case: str) -> None:
    body, status, told = ERRORS[case]
    error = replies.parse(None, body, status=status).error
    assert error is not None
    assert (error.message, error.type, error.code, error.status, error.is_rate_limit) == told


def test_an_error_after_a_beginning_keeps_both() -> None:
    events = [
        *anthropic_events()[:5],
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
    ]
    reply = replies.parse(None, events)
    assert reply.error is not None
    assert (reply.error.type, reply.tokens["input_tokens"]) == ("overloaded_error", 100)


def test_refusals() -> None:
    chat = {"choices": [{"message": {"content": None, "refusal": "I can't."}, "finish_reason": "stop"}]}
    filtered = {"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]}
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4}}
    unsafe = {"candidates": [{"finishReason": "PROHIBITED_CONTENT"}]}
    part = {"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}
    responses = {"object": "response", "status": "completed", "output": [part]}
    claude = {**ANTHROPIC, "stop_reason": "refusal", "content": []}
    bodies = (chat, filtered, blocked, unsafe, responses, claude)
    assert [replies.parse(None, body).refusal for body in bodies] == [
        "I can't.", "content_filter", "SAFETY", "PROHIBITED_CONTENT", "No.", "refusal",
    ]  # fmt: skip
    assert replies.parse(None, GEMINI).refusal is None


def test_rate_limits_of_headers() -> None:
    headers = {
        "Date": "Sat, 15 Mar 2025 12:57:58 GMT",
        "anthropic-ratelimit-input-tokens-limit": "200000",
        "anthropic-ratelimit-input-tokens-remaining": "126000",
        "anthropic-ratelimit-input-tokens-reset": "2025-03-15T12:58:20Z",
        "X-RateLimit-Limit-Requests": "100",
        "x-ratelimit-reset-requests": "6m0s",
        "x-ratelimit-reset-tokens": "26ms",
        "x-ratelimit-remaining": "7",
        "retry-after": "Sat, 15 Mar 2025 12:58:08 GMT",
    }
    reply = replies.parse(None, CHAT, headers=headers)
    assert reply.retry_after_s == 10
    assert reply.rate_limits == (
        RateLimit("input-tokens", 200_000, 126_000, 22.0),
        RateLimit("requests", 100, 7, 360.0),
        RateLimit("tokens", None, None, 0.026),
    )
    assert replies.parse(None, CHAT, headers={"retry-after-ms": "1500"}).retry_after_s == 1.5


def test_what_tells_nothing_is_named() -> None:
    reasons = {
        "no model's reply of a known form (a 'skill'; its keys: name, object)": {"object": "skill", "name": "x"},
        "no model's reply of a known form (its keys: none)": {},
        "the body is neither JSON nor a stream of events": "<html>",
        "the body is no complete JSON": '{"choices": [',
        "the body is empty": "",
        "there is no body": None,
        "it tells no usage": {**CHAT, "usage": None},
        "prompt_tokens=-5 is no count": {**CHAT, "usage": {"prompt_tokens": -5}},
        "no counts found in the usage (its keys: units)": {**CHAT, "usage": {"units": 3}},
        "it is billed by time, not by tokens": {
            "version": "v", "status": "succeeded", "urls": {}, "metrics": {"predict_time": 2.8},
        },
    }  # fmt: skip
    assert [replies.parse(None, body).reason for body in reasons.values()] == list(reasons)
    assert replies.parse(None, {}).format == ""


def test_what_the_caller_knows_comes_first() -> None:
    reply = replies.parse("azure", CHAT, model="mine")
    assert (reply.provider, reply.model) == ("azure", "gpt-5")
    assert replies.parse("aws", CONVERSE, model="claude-3").model == "claude-3"
    assert replies.parse(None, CHAT, headers={"openai-version": "2020-10-01"}).provider == "openai"
    assert replies.parse(None, CHAT).provider is None  # many have this form
    assert reply.columns() == {
        "provider": "azure", "model": "gpt-5", "finish_reason": "tool_calls", "input_tokens": 100,
        "cache_read_tokens": 80, "output_tokens": 20, "usage": CHAT["usage"],
    }  # fmt: skip


def test_calls_of_the_provider_are_marked() -> None:
    block = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "x"}}
    reply = replies.parse(None, {**ANTHROPIC, "content": [block]})
    assert reply.tool_calls == (ToolCall("web_search", {"query": "x"}, "s1", by_provider=True),)


ODD: tuple[Any, ...] = (
    [], [1, 2], [[]], [None], {"choices": 5}, {"choices": [5]}, {"choices": [{"message": [], "delta": 7}]},
    {"candidates": [{"content": {"parts": [{"functionCall": []}]}}]}, {"object": "response", "output": {}},
    {"type": "message", "content": {"a": 1}}, [{"type": "content_block_delta", "index": [], "delta": 3}],
    [{"type": "content_block_delta", "delta": {"text": 3}}, {"type": "message_start", "message": 1}],
    [{"type": "step.delta", "event_type": "step.delta", "delta": []}], {"output": {"message": 1}, "stopReason": 2},
    [{"candidates": [{"content": {"parts": [{"functionCall": {"name": "f"}}, {"functionCall": {"partialArgs": [
        {"jsonPath": "$.a[999999999].b", "stringValue": "x"}, {"jsonPath": "$", "numberValue": 1},
        {"jsonPath": "$.a.b[2].c", "numberValue": 1}, {"jsonPath": "$.a[0]", "boolValue": True}]}}]}}]}, {}],
    [{"choices": [{"index": "x", "delta": {"content": 5, "tool_calls": [{"index": [1]}]}}]}],
    [{"type": "tool-call-start", "index": {}, "delta": {"message": {"tool_calls": {"id": 1}}}}],
    [{"type": "response.output_item.done", "output_index": {}, "item": 3}],
    [{"contentBlockStart": {"contentBlockIndex": [1], "start": 2}}], "[" * 100_000, "\x00", 3, b"\xff\xfe", object(),
)  # fmt: skip


@pytest.mark.parametrize("at", range(len(ODD)))
def test_bodies_of_any_shape_are_answered(at: int) -> None:
    reply = replies.parse(None, ODD[at], status=200, headers={"x-ratelimit-reset-tokens": "never", "date": "x"})
    assert isinstance(repr(reply), str)
    assert isinstance(reply.text, str)


@pytest.mark.parametrize("form", STREAMS)
def test_bodies_cut_anywhere_are_answered(form: str) -> None:
    for text in (sse(STREAMS[form]()), json.dumps(WHOLE[form])):
        for end in range(0, len(text), 7):
            assert isinstance(replies.parse(None, text[:end]), Reply)
