"""Attribute names of the tracing dialects in use, and the columns they become.

normalise() turns the attributes of one span into columns; restore() gives back exactly the attributes it was given.
What no rule knows stays as it is, under its own name.

Dialects: OpenTelemetry GenAI (today's names first, then older ones), OpenInference, OpenLLMetry/Traceloop, Langfuse,
Vercel AI SDK, Pydantic AI. A rule lists its sources in order of precedence; the first is the name used on export.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from spanbox import _core
from spanbox._time import iso_ns

# The conventions have no release of their own yet: this is the emitter whose names are followed.
CONVENTIONS: Final = "opentelemetry-util-genai 1.3b0"

# The attribute that remembers, as JSON, which key a column came from when it was not the export name.
KEYS: Final = "semconv.keys"
# Before a raw attribute whose own name is that of a column.
RAW_PREFIX: Final = "attributes."

Reader = Callable[[Any], Any]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _whole(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _payload(value: Any) -> Any:
    return None if value is None or value == "" else value


def _first(value: Any) -> str | None:
    return _text(value[0]) if isinstance(value, (list, tuple)) and value else _text(value)


def _nanoseconds(per_unit: int) -> Reader:
    def read(value: Any) -> int | None:
        number = _number(value)
        return round(number * per_unit) if number is not None and 0 <= number < 1e9 else None

    return read


def _detail(pattern: str, read: Reader) -> Reader:
    """Reads a JSON text of details: the first entry whose name matches."""
    compiled = re.compile(pattern)

    def pick(value: Any) -> Any:
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                return None
        if not isinstance(value, dict):
            return None
        return next((read(v) for k, v in value.items() if compiled.fullmatch(k)), None)

    return pick


@dataclass(frozen=True, slots=True)
class Source:
    """An attribute key and how its value becomes the column's. `write` undoes `read`, where that can be."""

    key: str
    read: Reader
    write: Callable[[Any], Any] | None = None

    @property
    def is_list(self) -> bool:
        """Flattened by index: key.0.x, key.1.x, …"""
        return self.key.endswith(".*")


def _same(read: Reader, *keys: str) -> tuple[Source, ...]:
    return tuple(Source(key, read, None if key.endswith(".*") else lambda value: value) for key in keys)


_USAGE = "langfuse.observation.usage_details"
_LF_INPUT, _LF_OUTPUT = "langfuse.observation.input", "langfuse.observation.output"
_PROPERTIES = "traceloop.association.properties"

RULES: Final[dict[str, tuple[Source, ...]]] = {
    "operation": _same(_text, "gen_ai.operation.name"),
    "provider": _same(
        _text, "gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system", "ai.model.provider"
    ),
    "model_request": _same(
        _text, "gen_ai.request.model", "llm.request.model_name", "llm.model_name", "langfuse.observation.model.name",
        "ai.model.id", "embedding.model_name", "reranker.model_name",
    ),
    "model": _same(
        _text, "gen_ai.response.model", "llm.response.model_name", "ai.response.model", "gen_ai.request.model",
        "llm.request.model_name", "llm.model_name", "langfuse.observation.model.name", "ai.model.id",
        "embedding.model_name", "reranker.model_name",
    ),
    "input_tokens": (
        *_same(_whole, "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt"),
        Source(_USAGE, _detail("input", _whole)),
        *_same(_whole, "ai.usage.inputTokens", "ai.usage.promptTokens"),
    ),
    "cache_read_tokens": (
        *_same(
            _whole, "gen_ai.usage.cache_read.input_tokens", "llm.token_count.prompt_details.cache_read",
            "llm.token_count.prompt_details.cache_input", "gen_ai.usage.cache_read_input_tokens",
            "gen_ai.usage.input_tokens.cached",
        ),
        Source(_USAGE, _detail("cache_read.*|input_cached.*", _whole)),
        *_same(_whole, "ai.usage.cachedInputTokens"),
    ),
    "cache_write_tokens": (
        *_same(
            _whole, "gen_ai.usage.cache_write.input_tokens", "gen_ai.usage.cache_creation.input_tokens",
            "llm.token_count.prompt_details.cache_write", "gen_ai.usage.cache_creation_input_tokens",
            "gen_ai.usage.input_tokens.cache_write",
        ),
        Source(_USAGE, _detail("cache_creation.*", _whole)),
    ),
    "output_tokens": (
        *_same(_whole, "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion"),
        Source(_USAGE, _detail("output", _whole)),
        *_same(_whole, "ai.usage.outputTokens", "ai.usage.completionTokens"),
    ),
    "reasoning_tokens": (
        *_same(
            _whole, "gen_ai.usage.reasoning.output_tokens", "llm.token_count.completion_details.reasoning",
            "gen_ai.usage.reasoning_tokens",
        ),
        Source(_USAGE, _detail(".*reasoning.*", _whole)),
        *_same(_whole, "ai.usage.reasoningTokens"),
    ),
    "cost_usd": (
        *_same(_number, "spanbox.cost.total", "llm.cost.total", "gen_ai.usage.cost"),
        Source("langfuse.observation.cost_details", _detail("total", _number)),
        *_same(_number, "operation.cost"),
    ),
    "cost_source": _same(_text, "spanbox.cost.source"),
    "ttft_ns": (
        Source("gen_ai.response.time_to_first_chunk", _nanoseconds(10**9), lambda ns: ns / 1e9),
        Source("ai.response.msToFirstChunk", _nanoseconds(10**6), lambda ns: ns / 1e6),
    ),
    "input": _same(
        _payload, "gen_ai.input.messages", "gen_ai.tool.call.arguments", "gen_ai.tool.args",
        "gen_ai.retrieval.query.text", "llm.input_messages.*", "input.value", "gen_ai.prompt.*",
        "traceloop.entity.input", _LF_INPUT,
        "ai.prompt.messages", "ai.prompt", "ai.toolCall.args", "tool_arguments", "pydantic_ai.all_messages",
    ),
    "output": _same(
        _payload, "gen_ai.output.messages", "gen_ai.tool.call.result", "gen_ai.output", "gen_ai.retrieval.documents",
        "llm.output_messages.*", "output.value", "gen_ai.completion.*", "traceloop.entity.output", _LF_OUTPUT,
        "ai.response.text", "ai.response.object", "ai.toolCall.result", "tool_response", "final_result",
        "retrieval.documents.*",
    ),
    "finish_reason": (
        Source("gen_ai.response.finish_reasons", _first, lambda value: [value]),
        *_same(
            _text, "llm.finish_reason", "gen_ai.response.finish_reason", "gen_ai.completion.0.finish_reason",
            "ai.response.finishReason",
        ),
    ),
    "session_id": _same(
        _text, "gen_ai.conversation.id", "session.id", f"{_PROPERTIES}.session_id", "ai.telemetry.metadata.sessionId"
    ),
    "user_id": _same(
        _text, "user.id", "enduser.id", f"{_PROPERTIES}.user_id", "llm.user", "ai.telemetry.metadata.userId"
    ),
    "tenant": _same(_text, "spanbox.tenant"),
    "feature": _same(_text, "spanbox.feature"),
    "release": _same(_text, "spanbox.release", "langfuse.release"),
    "environment": _same(_text, "deployment.environment.name", "langfuse.environment"),
    "prompt_name": _same(
        _text, "gen_ai.prompt.name", "prompt.id", "traceloop.prompt.key", "langfuse.observation.prompt.name",
        "ai.telemetry.functionId",
    ),
    "prompt_version": _same(
        _text, "gen_ai.prompt.version", "llm.prompt_template.version", "traceloop.prompt.version",
        "langfuse.observation.prompt.version",
    ),
    "tool_name": _same(_text, "gen_ai.tool.name", "tool.name", "ai.toolCall.name"),
    "tool_call_id": _same(_text, "gen_ai.tool.call.id", "tool.id", "ai.toolCall.id"),
    "agent_name": _same(_text, "gen_ai.agent.name", "agent.name", "agent_name"),
    "error_type": _same(_text, "error.type"),
}  # fmt: skip

_KIND_OF_OPERATION: Final[dict[str, _core.Kind]] = {
    "chat": "llm", "text_completion": "llm", "generate_content": "llm", "call_llm": "llm", "completion": "llm",
    "embeddings": "embedding", "embedding": "embedding", "rerank": "reranker", "retrieval": "retriever",
    "execute_tool": "tool", "invoke_agent": "agent", "create_agent": "agent", "invoke_workflow": "workflow",
    "plan": "chain", "search_memory": "memory", "create_memory": "memory", "update_memory": "memory",
    "upsert_memory": "memory",
    "delete_memory": "memory", "create_memory_store": "memory", "delete_memory_store": "memory",
    "ai.generateText": "agent", "ai.streamText": "agent", "ai.generateObject": "agent", "ai.streamObject": "agent",
    "ai.generateText.doGenerate": "llm", "ai.streamText.doStream": "llm", "ai.generateObject.doGenerate": "llm",
    "ai.streamObject.doStream": "llm", "ai.toolCall": "tool", "ai.embed": "span", "ai.embedMany": "span",
    "ai.embed.doEmbed": "embedding", "ai.embedMany.doEmbed": "embedding",
}  # fmt: skip
_KIND_OF_NAME: Final[dict[str, _core.Kind]] = {
    "llm": "llm", "chain": "chain", "tool": "tool", "agent": "agent", "retriever": "retriever",
    "embedding": "embedding", "reranker": "reranker", "guardrail": "guardrail", "evaluator": "evaluator",
    "prompt": "prompt",
    "workflow": "workflow", "task": "chain", "generation": "llm", "memory": "memory", "chat": "llm",
    "completion": "llm",
}  # fmt: skip
_KIND_KEYS: Final = (
    ("openinference.span.kind", _KIND_OF_NAME),
    ("langfuse.observation.type", _KIND_OF_NAME),
    ("gen_ai.operation.name", _KIND_OF_OPERATION),
    ("traceloop.span.kind", _KIND_OF_NAME),
    ("llm.request.type", _KIND_OF_NAME),
    ("ai.operationId", _KIND_OF_OPERATION),
)


def kind_of(attributes: Mapping[str, Any]) -> _core.Kind:
    """What kind of work the attributes describe; "span" when they do not say."""
    for key, kinds in _KIND_KEYS:
        value = attributes.get(key)
        if isinstance(value, str) and (kind := kinds.get(value) or kinds.get(value.lower())):
            return kind
    return "span"


def normalise(attributes: Mapping[str, Any], *, start_ns: int | None = None) -> dict[str, Any]:
    """Columns and attributes of a span, as Store.append takes them, from the attributes of any dialect."""
    row: dict[str, Any] = {"kind": kind_of(attributes)}
    keys: dict[str, str | None] = {}  # column -> the key it came from, None when it was computed
    consumed: set[str] = set()
    for column, sources in RULES.items():
        for source in sources:
            raw = _unflatten(attributes, source.key) if source.is_list else attributes.get(source.key)
            value = None if raw is None else source.read(raw)
            if value is None:
                continue
            row[column] = value
            returns = source.write is not None and _identical(source.write(value), raw)
            if returns:
                consumed.add(source.key)
            if not returns or source is not sources[0]:
                keys[column] = source.key if returns else None
            break
    _derive(row, keys, attributes, consumed, start_ns)
    for key, value in attributes.items():
        if key not in consumed and value is not None:
            row[_raw_name(key)] = value
    if keys:
        row[KEYS] = keys
    return row


def columns(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The columns among what normalise() gives, without the attributes that stay as they are."""
    named = (*RULES, "kind", "tokens_dialect", KEYS)
    return {name: value for name, value in normalise(attributes).items() if name in named}


def _derive(
    row: dict[str, Any],
    keys: dict[str, str | None],
    attributes: Mapping[str, Any],
    consumed: set[str],
    start_ns: int | None,
) -> None:
    """Columns that need more than one attribute."""
    cached = row.get("cache_read_tokens", 0) + row.get("cache_write_tokens", 0)
    if "input_tokens" in row and cached > row["input_tokens"]:
        # Provably counted without the cached ones. The column means "all in": the given number stays as it was.
        key = next(s.key for s in RULES["input_tokens"] if attributes.get(s.key) is not None)
        consumed.discard(key)
        row["input_tokens"] += cached
        row["tokens_dialect"] = "exclusive"
        keys["input_tokens"] = keys["tokens_dialect"] = None
    halves = [_number(attributes.get(f"gen_ai.usage.{half}_cost")) for half in ("input", "output")]
    if "cost_usd" not in row and any(half is not None for half in halves):
        row["cost_usd"] = sum(half for half in halves if half is not None)
        keys["cost_usd"] = None
    if "cost_usd" in row and "cost_source" not in row:
        row["cost_source"] = "reported"
        keys["cost_source"] = None
    first_token = attributes.get("langfuse.observation.completion_start_time")
    if "ttft_ns" not in row and start_ns is not None and isinstance(first_token, str):
        try:
            row["ttft_ns"] = max(0, iso_ns(first_token.strip('"')) - start_ns)
            keys["ttft_ns"] = None
        except ValueError:
            pass  # stays as the raw attribute it is


def restore(row: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that normalise() was given, from the row it made; for other rows, today's OpenTelemetry names."""
    given = row.get(KEYS) or {}
    keys: dict[str, str | None] = json.loads(given) if isinstance(given, str) else dict(given)
    attributes: dict[str, Any] = {}
    for name, value in row.items():
        if name in RULES:
            key = keys.get(name, RULES[name][0].key)
            source = next((s for s in RULES[name] if s.key == key), None)
            if source is not None and source.write is not None:
                attributes[source.key] = source.write(value)
        elif name != KEYS and name not in _columns() and name not in keys:
            attributes[name.removeprefix(RAW_PREFIX)] = value
    return attributes


@cache
def _columns() -> frozenset[str]:
    return frozenset(n for name, alias, *_ in _core.columns() for n in (name, alias) if n)


def _raw_name(key: str) -> str:
    reserved = key in _columns() or key in (KEYS, "tokens_dialect") or key.startswith(RAW_PREFIX)
    return RAW_PREFIX + key if reserved or not key else key


def _identical(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and repr(a) == repr(b))  # repr tells 0.0 from -0.0


_INDEXED: Final = re.compile(r"(\d{1,4})\.(.+)", re.ASCII)


def _unflatten(attributes: Mapping[str, Any], pattern: str) -> list[dict[str, Any]] | None:
    """The list of mappings behind keys such as llm.input_messages.0.message.role."""
    prefix = pattern.removesuffix("*")
    items: dict[int, dict[str, Any]] = {}
    for key, value in attributes.items():
        if key.startswith(prefix) and (match := _INDEXED.fullmatch(key[len(prefix) :])):
            items.setdefault(int(match[1]), {})[match[2].removeprefix("message.").removeprefix("document.")] = value
    return [items[i] for i in sorted(items)] or None
