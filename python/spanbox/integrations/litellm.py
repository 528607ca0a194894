"""LiteLLM: a logger that records every call as a span.

    import litellm
    from spanbox.integrations.litellm import SpanboxLogger
    litellm.callbacks = [SpanboxLogger()]

LiteLLM tells of the end of a call later, in a thread or task of its own; the span belongs where the call was made, and
ends when the call did. What an instrumentor records of the client inside it (openai, ...) is its child. A call that
spanbox.limit() does not allow raises where it is made; else nothing does.
"""

from __future__ import annotations

import contextvars
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from spanbox import _core
from spanbox._lend import expect_client
from spanbox._limit import enter
from spanbox._observe import span as new_span

try:
    from litellm.integrations.custom_logger import CustomLogger
except ImportError:  # LiteLLM takes any object that has the methods
    CustomLogger = object

_KINDS: dict[str, _core.Kind] = {"embedding": "embedding", "aembedding": "embedding", "rerank": "reranker"}
_MAX_OPEN = 10_000  # calls whose end is not told are forgotten, the oldest first


class SpanboxLogger(CustomLogger):  # type: ignore[misc]  # not known to the type checker
    """Records the calls of LiteLLM as spans, streamed or not, synchronous or asynchronous."""

    def __init__(self, **options: Any) -> None:
        if CustomLogger is not object:
            super().__init__(**options)
        self._spans: dict[str, tuple[_core.Span, datetime]] = {}  # with their starts, as LiteLLM tells times

    def log_pre_api_call(self, model: str, messages: Any, kwargs: Mapping[str, Any]) -> None:
        call = str(kwargs.get("litellm_call_id"))
        if call in self._spans:  # tried again: one call of the program's, one span
            expect_client(self._spans[call][0])
            return
        told = kwargs.get("litellm_params") or {}
        metadata = told.get("metadata") or {}
        kind = _KINDS.get(str(kwargs.get("call_type")), "llm")
        columns = {
            "provider": kwargs.get("custom_llm_provider") or told.get("custom_llm_provider"),
            "model": model,
            "model_request": model,
            "operation": "embeddings" if kind == "embedding" else "chat",
            "user_id": kwargs.get("user") or metadata.get("user_id"),
            "session_id": metadata.get("session_id"),
        }
        known = {name: value for name, value in columns.items() if value is not None}
        span = new_span(f"{columns['operation']} {model}", kind=kind, **known)
        # Entered in a copy of the context, it is a child of what is around the call and not the parent of what follows.
        contextvars.copy_context().run(enter, span)
        span.input = messages
        while len(self._spans) >= _MAX_OPEN:
            self._spans.pop(next(iter(self._spans)), None)
        self._spans[call] = span, datetime.now()  # without a zone, as LiteLLM's
        expect_client(span)

    def log_success_event(self, kwargs: Mapping[str, Any], response_obj: Any, start_time: Any, end_time: Any) -> None:
        whole = kwargs.get("complete_streaming_response") or kwargs.get("async_complete_streaming_response")
        if kwargs.get("stream") and whole is None and not _field(response_obj, "usage"):
            return  # a chunk: the end is yet to come
        span, began = self._spans.pop(str(kwargs.get("litellm_call_id")), (None, None))
        if span is None:
            return
        response = whole or response_obj
        columns = _columns(kwargs, response)
        first = kwargs.get("completion_start_time")
        if kwargs.get("stream") and isinstance(first, datetime) and began is not None:
            columns["ttft_ns"] = max(0, round((first - began).total_seconds() * 1e9))
        span.set(**columns)
        choices = _field(response, "choices") or []
        span.output = [_plain(_field(choice, "message")) for choice in choices] if choices else None
        _end(span, end_time)

    def log_failure_event(self, kwargs: Mapping[str, Any], response_obj: Any, start_time: Any, end_time: Any) -> None:
        span, _ = self._spans.pop(str(kwargs.get("litellm_call_id")), (None, None))
        if span is None:
            return
        error = kwargs.get("exception")
        _end(span, end_time, error if isinstance(error, BaseException) else RuntimeError(error or "the call failed"))

    async def async_log_pre_api_call(self, model: str, messages: Any, kwargs: Mapping[str, Any]) -> None:
        self.log_pre_api_call(model, messages, kwargs)

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self.log_success_event(kwargs, response_obj, start_time, end_time)

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self.log_failure_event(kwargs, response_obj, start_time, end_time)


def _end(span: _core.Span, end_time: Any, error: BaseException | None = None) -> None:
    if isinstance(end_time, datetime):
        span._ended_at(round(end_time.timestamp() * 1e9))
    span.__exit__(None if error is None else type(error), error, None if error is None else error.__traceback__)


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _plain(message: Any) -> Any:
    if message is None or isinstance(message, Mapping):
        return message
    found = {name: getattr(message, name, None) for name in ("role", "content", "tool_calls")}
    return {name: value for name, value in found.items() if value is not None}


def _columns(kwargs: Mapping[str, Any], response: Any) -> dict[str, Any]:
    usage = _field(response, "usage")
    read, written = _field(usage, "prompt_tokens_details"), _field(usage, "completion_tokens_details")
    choices = _field(response, "choices") or [None]
    columns = {
        "model": _field(response, "model"),
        "input_tokens": _field(usage, "prompt_tokens"),
        "output_tokens": _field(usage, "completion_tokens"),
        "cache_read_tokens": _field(read, "cached_tokens"),
        "cache_write_tokens": _field(usage, "cache_creation_input_tokens"),
        "reasoning_tokens": _field(written, "reasoning_tokens"),
        "finish_reason": _field(choices[0], "finish_reason"),
        "gen_ai.response.id": _field(response, "id"),
        "served_from_cache": True if kwargs.get("cache_hit") else None,
    }
    cost = kwargs.get("response_cost")
    if isinstance(cost, (int, float)):
        columns |= {"cost_usd": float(cost), "cost_source": "litellm"}
    return {name: value for name, value in columns.items() if isinstance(value, (str, int, float))}
