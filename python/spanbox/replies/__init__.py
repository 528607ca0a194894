"""What a provider's reply says: usage, model, finish reason, tool calls, refusals, errors and rate limits.

    reply = spanbox.replies.parse("openai", body, headers=headers)
    reply.tokens, reply.tool_calls, reply.error, reply.usage
    spanbox.current_span().set(**reply.columns())

Streamed or whole, as bytes, text, JSON or the object of a client library. A stream is first put together to the whole
reply, and read as one. Nothing raises and nothing is guessed: what is not known is named in `reason`.

Thread rule: pure functions, from any thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanbox._price_table import known_units, provider_id
from spanbox._usage import UsageError, read_usage
from spanbox.cost import COLUMNS
from spanbox.replies._bodies import FORMS
from spanbox.replies._errors import error_of, rate_limits, retry_after_s
from spanbox.replies._fields import mapping, text
from spanbox.replies._joins import join as _join
from spanbox.replies._reply import RateLimit, Reply, ReplyError, ToolCall
from spanbox.replies._wire import Body, read_body

__all__ = ["RateLimit", "Reply", "ReplyError", "ToolCall", "join", "parse"]

_PROVIDER_OF_HEADER = {
    "openai-version": "openai",
    "x-groq-region": "groq",
    "mistral-correlation-id": "mistral",
    "x-amzn-bedrock-invocation-latency": "aws",
}
_BEDROCK_COUNTS = {
    "inputTokens": "x-amzn-bedrock-input-token-count",
    "outputTokens": "x-amzn-bedrock-output-token-count",
    "cacheReadInputTokens": "x-amzn-bedrock-cache-read-input-token-count",
    "cacheWriteInputTokens": "x-amzn-bedrock-cache-write-input-token-count",
}
_BILLED_OTHERWISE = {"predict_time", "total_time"}


def parse(
    provider: str | None,
    body: object,
    *,
    model: str | None = None,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """What a reply says. `provider` and `model` (None: what the reply itself tells) are those of the request."""
    told = {str(key).lower(): str(value) for key, value in (headers or {}).items()}
    read = read_body(body)
    whole = _whole(read)
    problems = list(read.problems)
    common: dict[str, Any] = {
        "rate_limits": rate_limits(told),
        "retry_after_s": retry_after_s(told),
        "streamed": read.streamed,
        "provider": provider or next((name for key, name in _PROVIDER_OF_HEADER.items() if key in told), None),
        "model": model,
    }
    error = error_of(read.values, status)
    form = next((form for form in FORMS if form.is_it(whole)), None) if whole else None
    if form is None or whole is None:
        if error is not None:
            return Reply(format="error", error=error, reason="; ".join(problems), **common)
        return Reply(reason="; ".join(problems) or _not_a_reply(read), **common)
    said = form.read(whole)
    about = {**common, **{key: value for key, value in said.items() if value is not None}}
    about["provider"] = provider or common["provider"] or said.get("provider") or form.provider
    about["model"] = said.get("model") or text(whole, "model") or model
    about["id"] = said.get("id") or text(whole, "id")
    usage = said.get("usage") or _counted(told)
    about["tokens"], tier, problem = _tokens(usage, about["provider"], form.name)
    about["usage"] = usage or None
    about["service_tier"] = said.get("service_tier") or text(whole, "service_tier") or tier or None
    problems += _restarts(read) + ([problem] if problem else [])
    return Reply(format=form.name, error=error, **{**about, "reason": "; ".join(problems)})


def join(body: object) -> dict[str, Any] | None:
    """The whole reply of a streamed one, as the provider would have sent it; None where the form is not known."""
    whole = _whole(read_body(body))
    return None if whole is None else dict(whole)


def _whole(read: Body) -> Mapping[str, Any] | None:
    values = [value for value in read.values if isinstance(value, Mapping)]
    if not values:
        return None
    if not read.streamed:
        return values[0]
    return _join(values) or (values[0] if len(values) == 1 else None)


def _not_a_reply(read: Body) -> str:
    first: Mapping[str, Any] = next((value for value in read.values if isinstance(value, Mapping)), {})
    kind = text(first, "object") or text(first, "type")
    keys = ", ".join(sorted(map(str, first))[:8]) or "none"
    return f"no model's reply of a known form ({f'a {kind!r}; ' if kind else ''}its keys: {keys})"


def _counted(headers: Mapping[str, str]) -> dict[str, int]:
    """What Bedrock tells of models that tell nothing themselves."""
    return {key: int(headers[name]) for key, name in _BEDROCK_COUNTS.items() if headers.get(name, "").isdecimal()}


def _tokens(usage: Mapping[str, Any], provider: str | None, form: str) -> tuple[dict[str, int], str, str]:
    """The token columns, the service tier, and what could not be read."""
    if not usage:
        return {}, "", "it tells no usage"
    if "turns" in usage:
        return {}, "", f"{len(usage['turns'])} usages of turns, and nothing tells what they add up to"
    if _BILLED_OTHERWISE & usage.keys() and not any("token" in key for key in usage):
        return {}, "", "it is billed by time, not by tokens"
    try:
        counts, tier = read_usage(usage, provider_id(provider), known_units())
    except UsageError as error:
        return {}, "", str(error)
    columns = {column: counts[unit] for column, unit in COLUMNS.items() if unit in counts}
    if form == "rerank" and not columns:
        return {}, tier, "it is billed by searches, not by tokens"
    return {name: count for name, count in columns.items() if isinstance(count, int)}, tier, ""


def _restarts(read: Body) -> list[str]:
    starts = [mapping(event, "message").get("id") for event in read.values if text(event, "type") == "message_start"]
    if len(starts) < 2:
        return []
    return [f"the stream has {len(starts)} messages; what is told is of the last, {starts[-1]!r}"]
