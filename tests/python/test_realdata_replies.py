"""Every recorded reply is read, or named with the reason; its usage is the one on the wire."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import pytest
from spanbox import cost, replies
from spanbox.replies import Reply

pytestmark = pytest.mark.realdata

NO_REPLIES = {  # what else was recorded beside them
    "(its keys: status)": 6,  # of an analytics service
    "(its keys: latency, topk)": 1,  # of a search in Wikipedia
    "(its keys: cog_version": 1,  # the description of a model
    "a 'skill": 2,
    "display_title": 1,  # a skill too
    "(its keys: body, headers, status)": 1,  # a transcript as plain text
}
WITHOUT_TOKENS = {  # and why; the stream of Azure was not asked for usage, some fixtures were made without it
    "it tells no usage": 22,
    "it is billed by time, not by tokens": 1,
    "it is billed by searches, not by tokens": 1,
    "5 usages of turns, and nothing tells what they add up to": 1,
}
COUNTS = (  # names on the wire, of input and of output; what Anthropic, Bedrock and Gemini count beside it
    (("prompt_tokens", "input_tokens", "inputTokens", "promptTokenCount", "total_input_tokens", "prompt_eval_count"),
     ("cache_read_input_tokens", "cache_creation_input_tokens", "cacheReadInputTokens")),
    (("completion_tokens", "output_tokens", "outputTokens", "candidatesTokenCount", "total_output_tokens",
      "eval_count"),
     ("thoughtsTokenCount", "total_thought_tokens")),
)  # fmt: skip


class Recorded(NamedTuple):
    name: str
    body: bytes
    reply: Reply


PROVIDERS = {"azure-openai": "azure", "amazon-bedrock": "aws", "bedrock": "aws", "gemini": "google", "vertex": "google"}


def provider(name: str) -> str:
    first = name.split("__")[0]
    return PROVIDERS.get(first, first)


def asked_model(request: dict[str, Any]) -> str | None:
    if found := re.search(r"/model/([^/]+)/", request["uri"]):
        return unquote(found[1])
    told = re.search(r'"model": ?"([^"]+)"', request["body"] or "")
    return told[1] if told else None


def recorded(data: Path) -> Iterator[Recorded]:
    for path in sorted((data / "cassettes").glob("*.json")):
        for number, each in enumerate(json.loads(path.read_text())["interactions"]):
            response = each["response"]
            raw = response.get("body")
            body = base64.b64decode(response["body_b64"]) if raw is None else raw.encode()
            about = {"model": asked_model(each["request"]), "status": response["status"]}
            reply = replies.parse(provider(path.name), body, headers=response["headers"], **about)
            yield Recorded(f"{path.name} {number}", body, reply)
    for path in sorted((data / "provider_fixtures").iterdir()):
        body = path.read_bytes()
        yield Recorded(path.name, body, replies.parse(provider(path.name), body))


def test_every_reply_is_read_or_named(data: Path) -> None:
    every = list(recorded(data))
    assert len(every) == 233
    strange = [each for each in every if not each.reply.known]
    assert {part: sum(part in each.reply.reason for each in strange) for part in NO_REPLIES} == NO_REPLIES
    assert len(strange) == sum(NO_REPLIES.values())
    silent = [each for each in every if each.reply.known and not each.reply.tokens and not each.reply.error]
    assert {why: sum(each.reply.reason == why for each in silent) for why in WITHOUT_TOKENS} == WITHOUT_TOKENS
    assert len(silent) == sum(WITHOUT_TOKENS.values())
    failed = [each.reply.error for each in every if each.reply.error]
    assert len(failed) == 15
    assert all(error.message for error in failed)


def last(body: str, name: str) -> int | None:
    found = re.findall(rf'"{name}"\s*:\s*(\d+)', body)
    return int(found[-1]) if found else None


def test_counts_are_the_last_on_the_wire(data: Path) -> None:
    checked = 0
    for name, raw, reply in recorded(data):
        body = raw.decode("utf-8", "replace")
        if not reply.tokens or "iterations" in body or "tool_usage" in body or reply.provider == "cohere":
            continue  # several counts of one name: tested by name below
        for column, (names, beside) in zip(("input_tokens", "output_tokens"), COUNTS, strict=True):
            told = next((count for each in names if (count := last(body, each)) is not None), None)
            if told is None or column not in reply.tokens:
                continue
            more = sum(last(body, each) or 0 for each in beside)
            extra = reply.tokens.get("reasoning_tokens", 0)  # of xAI, beside the answer
            expected = {told + more} | ({told + extra} if "grok" in str(reply.model) else set())
            assert reply.tokens[column] in expected, (name, column, reply)
            checked += 1
    assert checked > 250


def test_counts_of_several_models_in_one_reply(data: Path) -> None:
    found = {name: reply.tokens for name, _, reply in recorded(data)}
    advised = found["anthropic__anthropic-advisor-20250301.1.chunks.txt"]
    compacted = found["anthropic__anthropic-compaction.1.json"]
    assert (advised["input_tokens"], advised["output_tokens"]) == (4_727, 3_391)
    assert (compacted["input_tokens"], compacted["output_tokens"]) == (61_067, 1_912)
    assert found["cohere__cohere-empty-tool-call.chunks.txt"]["input_tokens"] == 46  # billed, of 1,445 read


def told(reply: Reply) -> dict[str, Any]:
    calls = [(call.name, call.arguments, call.by_provider) for call in reply.tool_calls]
    return {**reply.columns(), "text": reply.text, "calls": calls, "usage": reply.usage, "refusal": reply.refusal}


def test_a_stream_costs_what_the_same_reply_costs_whole(data: Path) -> None:
    pytest.importorskip("genai_prices", reason="prices need the extra 'cost'")
    streams = priced = 0
    for name, body, reply in recorded(data):
        if not reply.streamed or not reply.known or reply.format == "error":
            continue
        streams += 1
        joined = replies.join(body)
        assert joined is not None
        sent_whole = json.loads(json.dumps(joined))
        whole = replies.parse(reply.provider, sent_whole, model=reply.model)
        assert told(whole) == told(reply), name
        at = "2026-08-01"
        if not reply.tokens:
            continue
        costs = [
            cost.of(provider=each.provider, model=each.model, usage=usage, at=at)
            for each, usage in ((reply, reply.usage), (whole, whole.usage), (whole, sent_whole))
        ]
        assert len({each.usd for each in costs}) == 1, (name, costs)
        assert costs[0].known or costs[0].reason
        priced += costs[0].known
    assert (streams, priced) == (77, 55)


def test_tool_calls_have_names_and_arguments(data: Path) -> None:
    calls = [(name, call) for name, _, reply in recorded(data) for call in reply.tool_calls]
    assert len(calls) > 60
    for name, call in calls:
        assert call.name, name
        assert call.by_provider or isinstance(call.arguments, dict), (name, call)


def test_rate_limits_are_read(data: Path) -> None:
    limits = {name: {limit.of: limit for limit in reply.rate_limits} for name, _, reply in recorded(data)}
    assert sum(bool(each) for each in limits.values()) == 42
    groq = limits["groq__test_chat_streaming_legacy_1a7b46.json 0"]["requests"]
    assert (groq.limit, groq.remaining, groq.reset_s) == (14_400, 14_399, 6.0)


def test_replies_cut_or_damaged_are_answered(data: Path) -> None:
    for _, body, _ in recorded(data):
        for end in (len(body) // 3, len(body) - 3):
            assert isinstance(replies.parse(None, body[:end]), Reply)
        damaged = bytearray(body[:20_000])
        for at in range(5, len(damaged), 211):
            damaged[at] ^= 0x15
        assert isinstance(replies.parse(None, bytes(damaged)), Reply)
