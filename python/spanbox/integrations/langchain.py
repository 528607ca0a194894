"""LangChain and LangGraph: a callback handler that records every run as a span.

    from spanbox.integrations.langchain import SpanboxCallbackHandler
    graph.invoke(state, config={"callbacks": [SpanboxCallbackHandler()]})

A run is a child of the run LangChain names as its parent, and a run without one of the span around the call. While it
runs it is current: what is observed inside a tool or a node is its child. One handler serves any number of calls,
threads and tasks at once. Of a run that spanbox.limit() does not allow it raises, and else never.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from langchain_core.callbacks.base import BaseCallbackHandler

from spanbox import _core
from spanbox._limit import enter
from spanbox._observe import span as new_span

_HIDDEN = "langsmith:hidden"  # LangGraph's mark on runs that are its own affair
_COLUMNS = ("user_id", "session_id", "tenant", "feature", "release", "environment", "prompt_name", "prompt_version")
_NOT_TOLD = ("ls_", "langgraph_", "checkpoint", "thread_id", "__", "lc_")  # metadata that is not the program's
_ROLES = {"human": "user", "ai": "assistant"}


class SpanboxCallbackHandler(BaseCallbackHandler):  # type: ignore[misc]  # not known to the type checker
    """Records the runs of LangChain and LangGraph as spans, synchronous and asynchronous ones."""

    run_inline = True  # in the thread and context of the run, also when that is asynchronous
    raise_error = False

    def __init__(self) -> None:
        # Runs to their spans, and those hidden to the span that is around them.
        self._spans: dict[UUID, _core.Span] = {}
        self._hidden: dict[UUID, _core.Span | None] = {}

    # --- starting ---

    def on_chain_start(self, serialized: Any, inputs: Any, *, run_id: UUID, **about: Any) -> None:
        name = _name(serialized, about)
        self._start(run_id, name, "workflow" if name == "LangGraph" else "chain", about, inputs)

    def on_tool_start(self, serialized: Any, input_str: str, *, run_id: UUID, **about: Any) -> None:
        name = _name(serialized, about)
        given = about.get("inputs")
        self._start(run_id, name, "tool", about, input_str if given is None else given, tool_name=name)

    def on_retriever_start(self, serialized: Any, query: str, *, run_id: UUID, **about: Any) -> None:
        self._start(run_id, _name(serialized, about), "retriever", about, query)

    def on_llm_start(self, serialized: Any, prompts: list[str], *, run_id: UUID, **about: Any) -> None:
        prompt = prompts[0] if len(prompts) == 1 else prompts
        self._start_model(run_id, serialized, about, prompt, "text_completion")

    def on_chat_model_start(self, serialized: Any, messages: list[list[Any]], *, run_id: UUID, **about: Any) -> None:
        said = [_message(message) for batch in messages for message in batch]
        self._start_model(run_id, serialized, about, said, "chat")

    def _start_model(self, run_id: UUID, serialized: Any, about: Mapping[str, Any], said: Any, operation: str) -> None:
        told = about.get("metadata") or {}
        parameters = about.get("invocation_params") or {}
        model = told.get("ls_model_name") or parameters.get("model") or parameters.get("model_name")
        columns = {
            "operation": operation,
            "model": model,
            "model_request": model,
            "provider": told.get("ls_provider"),
            "gen_ai.request.temperature": told.get("ls_temperature"),
            "gen_ai.request.max_tokens": told.get("ls_max_tokens"),
        }
        name = f"{operation} {model}" if model else _name(serialized, about)
        self._start(run_id, name, "llm", about, said, **columns)

    def _start(
        self, run_id: UUID, name: str, kind: _core.Kind, about: Mapping[str, Any], given: Any, **columns: Any
    ) -> None:
        parent = self._around(about.get("parent_run_id"))
        if _HIDDEN in (about.get("tags") or ()):
            self._hidden[run_id] = parent
            return
        told = about.get("metadata") or {}
        columns |= {key: told.get(key) for key in (*_COLUMNS, "langgraph_node", "langgraph_step", "thread_id")}
        columns["session_id"] = columns["session_id"] or columns["thread_id"]
        columns |= {
            f"metadata.{key}": value
            for key, value in told.items()
            if key not in _COLUMNS and not key.startswith(_NOT_TOLD)
        }
        tags = [tag for tag in about.get("tags") or () if not tag.startswith(("seq:", "map:", "graph:", "langsmith:"))]
        columns["tags"] = tags or None
        known = {key: value for key, value in columns.items() if value is not None}
        span = new_span(name, kind=kind, parent=parent, **known)
        enter(span)
        span.input = given
        self._spans[run_id] = span

    def _around(self, run_id: UUID | None) -> _core.Span | None:
        if run_id is None:
            return None
        return self._spans.get(run_id) or self._hidden.get(run_id)

    # --- running and ending ---

    def on_llm_new_token(self, token: str, *, run_id: UUID, **about: Any) -> None:
        span = self._spans.get(run_id)
        if span is not None:
            span.first_token()

    def on_retry(self, retry_state: Any, *, run_id: UUID, **about: Any) -> None:
        span = self._spans.get(run_id)
        if span is not None:
            outcome = getattr(retry_state, "outcome", None)
            error = outcome.exception() if outcome is not None and outcome.failed else None
            span.add_event(
                "retry",
                {
                    "attempt": getattr(retry_state, "attempt_number", 0),
                    "error.type": type(error).__name__ if error else "",
                },
            )

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **about: Any) -> None:
        span = self._spans.get(run_id) or self._hidden.get(run_id)
        if span is not None:
            span.add_event(name, data if isinstance(data, Mapping) else {"data": data})

    def on_llm_end(self, response: Any, *, run_id: UUID, **about: Any) -> None:
        span = self._spans.get(run_id)
        if span is not None:
            output, columns = _answer(response)
            span.set(**columns)
            self._end(run_id, output)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **about: Any) -> None:
        self._end(run_id, outputs)

    def on_tool_end(self, output: Any, *, run_id: UUID, **about: Any) -> None:
        span = self._spans.get(run_id)
        call_id = getattr(output, "tool_call_id", None)
        if span is not None and isinstance(call_id, str):
            span.set(tool_call_id=call_id)
        self._end(run_id, getattr(output, "content", output))

    def on_retriever_end(self, documents: Sequence[Any], *, run_id: UUID, **about: Any) -> None:
        self._end(run_id, [_document(document) for document in documents])

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **about: Any) -> None:
        self._fail(run_id, error)

    on_chain_error = on_tool_error = on_retriever_error = on_llm_error

    def _end(self, run_id: UUID, output: Any) -> None:
        self._hidden.pop(run_id, None)
        span = self._spans.pop(run_id, None)
        if span is not None:
            span.output = output
            span.__exit__(None, None, None)

    def _fail(self, run_id: UUID, error: BaseException) -> None:
        self._hidden.pop(run_id, None)
        span = self._spans.pop(run_id, None)
        if span is not None:
            # GraphInterrupt and its like are how a graph waits for somebody.
            waits = any(base.__name__ == "GraphBubbleUp" for base in type(error).__mro__)
            if waits:
                span.set(interrupted=True)
                span.__exit__(None, None, None)
            else:
                span.__exit__(type(error), error, error.__traceback__)


_installed: ContextVar[SpanboxCallbackHandler | None] = ContextVar("spanbox_langchain", default=None)
_handler: list[SpanboxCallbackHandler] = []


def install() -> None:
    """Record every run from now on, without naming the handler: in this context, and in those that descend from it."""
    from langchain_core.tracers.context import register_configure_hook

    if not _handler:
        _handler.append(SpanboxCallbackHandler())
        register_configure_hook(_installed, inheritable=True)
    _installed.set(_handler[0])


def _name(serialized: Any, about: Mapping[str, Any]) -> str:
    told = serialized if isinstance(serialized, Mapping) else {}
    path = told.get("id") or ["run"]
    return str(about.get("name") or told.get("name") or path[-1])


def _message(message: Any) -> dict[str, Any]:
    """As OpenTelemetry's conventions have messages."""
    content = getattr(message, "content", message)
    kind = str(getattr(message, "type", "user"))
    if kind == "tool":
        part = {"type": "tool_call_response", "id": getattr(message, "tool_call_id", None), "response": content}
        return {"role": "tool", "parts": [part]}
    parts = _parts(content)
    for call in getattr(message, "tool_calls", None) or ():
        parts.append(
            {"type": "tool_call", "id": call.get("id"), "name": call.get("name"), "arguments": call.get("args")}
        )
    return {"role": _ROLES.get(kind, kind), "parts": parts}


def _parts(content: Any) -> list[Any]:
    if isinstance(content, str):
        return [{"type": "text", "content": content}] if content else []
    parts = content if isinstance(content, list) else [content]
    return [
        {"type": "text", "content": part["text"]}
        if isinstance(part, dict) and part.get("type") == "text" and "text" in part
        else {"type": "text", "content": part}
        if isinstance(part, str)
        else part
        for part in parts
        if not (isinstance(part, dict) and part.get("type") == "tool_use")  # told as a tool call
    ]


def _answer(response: Any) -> tuple[Any, dict[str, Any]]:
    """Output and columns of an LLMResult."""
    generations = [generation for batch in response.generations for generation in batch]
    output: list[Any] = []
    columns: dict[str, Any] = {}
    for generation in generations:
        message = getattr(generation, "message", None)
        output.append(generation.text if message is None else _message(message))
        usage = getattr(message, "usage_metadata", None) or {}
        told = getattr(message, "response_metadata", None) or getattr(generation, "generation_info", None) or {}
        for column, count in _counts(usage).items():
            columns[column] = columns.get(column, 0) + count
        columns |= {
            column: told[key]
            for column, key in (
                ("model", "model"), ("model", "model_name"), ("finish_reason", "stop_reason"),
                ("finish_reason", "finish_reason"),
            )
            if isinstance(told.get(key), str)
        }  # fmt: skip
    if not columns.get("input_tokens"):
        columns |= _counts((response.llm_output or {}).get("token_usage") or {})
    return (output[0] if len(output) == 1 and isinstance(output[0], str) else output), columns


def _counts(usage: Mapping[str, Any]) -> dict[str, int]:
    """LangChain's input includes what was cached."""
    read = usage.get("input_token_details") or usage.get("prompt_tokens_details") or {}
    written = usage.get("output_token_details") or usage.get("completion_tokens_details") or {}
    counts = {
        "input_tokens": usage.get("input_tokens", usage.get("prompt_tokens")),
        "output_tokens": usage.get("output_tokens", usage.get("completion_tokens")),
        "cache_read_tokens": read.get("cache_read", read.get("cached_tokens")),
        "cache_write_tokens": read.get("cache_creation"),
        "reasoning_tokens": written.get("reasoning", written.get("reasoning_tokens")),
    }
    return {name: count for name, count in counts.items() if isinstance(count, int)}


def _document(document: Any) -> dict[str, Any]:
    content = getattr(document, "page_content", None)
    return {"content": content, "metadata": getattr(document, "metadata", None), "id": getattr(document, "id", None)}
