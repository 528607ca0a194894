"""The logger for LiteLLM, told what LiteLLM tells its loggers. LiteLLM itself weighs 200 MB: test_real_litellm.py."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import spanbox
from spanbox.integrations.litellm import SpanboxLogger
from spanbox.otel import TracerProvider

MESSAGES = [{"role": "user", "content": "hi"}]
START = datetime(2026, 11, 1, 12, 0, 0)


def arguments(call: str = "c1", **more: Any) -> dict[str, Any]:
    return {
        "litellm_call_id": call, "model": "gpt-5", "custom_llm_provider": "openai", "call_type": "completion",
        "litellm_params": {"metadata": {"session_id": "s1"}}, "user": "u1", **more,
    }  # fmt: skip


def response(**more: Any) -> Any:
    usage = SimpleNamespace(
        prompt_tokens=100, completion_tokens=7, prompt_tokens_details=SimpleNamespace(cached_tokens=40),
        cache_creation_input_tokens=10, completion_tokens_details={"reasoning_tokens": 2},
    )  # fmt: skip
    message = SimpleNamespace(role="assistant", content="hello", tool_calls=None)
    choice = SimpleNamespace(message=message, finish_reason="stop")
    return SimpleNamespace(id="r1", model="gpt-5-2025", usage=usage, choices=[choice], **more)


def in_thread(act: Callable[[], None]) -> None:
    thread = threading.Thread(target=act)
    thread.start()
    thread.join()


COLUMNS = {
    "provider": "openai", "model": "gpt-5-2025", "model_request": "gpt-5", "input_tokens": 100, "output_tokens": 7,
    "cache_read_tokens": 40, "cache_write_tokens": 10, "reasoning_tokens": 2, "finish_reason": "stop",
    "user_id": "u1", "session_id": "s1", "cost_usd": 0.5, "cost_source": "litellm",
    "output": [{"role": "assistant", "content": "hello"}], "input": MESSAGES,
}  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
def test_call_is_a_span_where_it_was_made(stream: bool, recorded: Any) -> None:
    logger = SpanboxLogger()
    told = arguments(stream=stream, response_cost=0.5)
    with spanbox.span("request"):
        logger.log_pre_api_call("gpt-5", MESSAGES, told)
        told["completion_start_time"] = datetime.now() + timedelta(seconds=900)
        with spanbox.span("meanwhile"):
            pass
    if stream:
        in_thread(lambda: logger.log_success_event(told, SimpleNamespace(choices=[]), START, START))
        told["complete_streaming_response"] = response()
    in_thread(lambda: logger.log_success_event(told, response(), START, START + timedelta(seconds=1)))
    assert recorded.shape() == "request\n  chat gpt-5\n  meanwhile"
    span = next(span for span in recorded.spans() if span["name"] == "chat gpt-5")
    assert (span["kind"], span["status"]) == ("llm", "ok")
    assert {name: span["attributes"].get(name) for name in COLUMNS} == COLUMNS
    ttft_ns = span["attributes"].get("ttft_ns")
    assert 900 <= ttft_ns / 1e9 < 960 if stream else ttft_ns is None


def test_failure_is_an_error(recorded: Any) -> None:
    logger = SpanboxLogger()

    async def call() -> None:
        await logger.async_log_pre_api_call("gpt-5", MESSAGES, arguments())
        told = arguments(exception=ValueError("too fast"))
        await logger.async_log_failure_event(told, None, START, START)

    asyncio.run(call())
    span = recorded.only_span()
    assert (span["status"], span["attributes"]["error_message"]) == ("error", "too fast")


def test_calls_at_once_stay_apart_and_a_retry_is_one_span(recorded: Any) -> None:
    logger = SpanboxLogger()
    for call in ("a", "b", "a"):
        logger.log_pre_api_call("gpt-5", MESSAGES, arguments(call))
    for call in ("b", "a"):
        logger.log_success_event(arguments(call), response(), START, START)
    logger.log_success_event(arguments("never begun"), response(), START, START)
    assert recorded.tree() == "chat gpt-5 [llm] ok\nchat gpt-5 [llm] ok"
    assert spanbox.current_span() is None


def test_it_ends_when_the_call_did_and_not_when_that_is_told(recorded: Any) -> None:
    logger = SpanboxLogger()
    began = time.perf_counter_ns()
    logger.log_pre_api_call("gpt-5", MESSAGES, arguments())
    end_time = datetime.now()
    took_ns = time.perf_counter_ns() - began
    while time.perf_counter_ns() - began < took_ns + 50_000_000:
        pass
    logger.log_success_event(arguments(), response(), START, end_time)
    assert recorded.only_span()["duration_ns"] <= took_ns + 25_000_000


@pytest.mark.parametrize("stream", [False, True])
def test_the_clients_call_is_inside(stream: bool, recorded: Any) -> None:
    """They were siblings where LiteLLM calls a client that is instrumented: tokens and cost counted twice."""
    logger, tracer = SpanboxLogger(), TracerProvider().get_tracer("client")
    attributes: dict[str, Any] = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-5"}
    with spanbox.limit(calls=9, cost_usd=9) as used, spanbox.span("request"):
        logger.log_pre_api_call("gpt-5", MESSAGES, arguments(stream=stream))
        with tracer.start_as_current_span("POST"):
            pass
        with tracer.start_as_current_span("chat gpt-5", attributes=attributes) as span:
            span.set_attributes({"gen_ai.provider.name": "openai", "gen_ai.usage.input_tokens": 1_000_000})
        with spanbox.span("meanwhile"), tracer.start_as_current_span("chat later", attributes=attributes):
            pass
        logger.log_success_event(arguments(), response(response_cost=1.25), START, START)
        with tracer.start_as_current_span("chat after", attributes=attributes):
            pass
    assert recorded.shape() == (
        "request\n  POST\n  chat after\n  chat gpt-5\n    chat gpt-5\n  meanwhile\n    chat later"
    )
    assert used.calls == 3
    assert used.cost_usd == 1.25


def test_embedding_is_one(recorded: Any) -> None:
    logger = SpanboxLogger()
    told = arguments(call_type="aembedding")
    logger.log_pre_api_call("small", ["text"], told)
    logger.log_success_event(told, {"model": "small", "usage": {"prompt_tokens": 3}}, START, START)
    span = recorded.only_span()
    assert (span["kind"], span["attributes"]["input_tokens"]) == ("embedding", 3)
