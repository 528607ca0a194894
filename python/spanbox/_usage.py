"""What a provider's reply says it used, read into counts of units by the names of the price list.

A reply's own names decide how it is read: OpenAI (chat, responses, realtime), Anthropic, Gemini, Bedrock, Cohere,
Mistral, Groq, DeepSeek, xAI, Perplexity, LiteLLM, the Vercel SDK, or the token columns of a span. A count includes what
is a part of it: input_tokens has the cached ones in it, output_tokens the reasoning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

Count = int | Decimal
_LARGEST_COUNT = 10**15
_MAX_DEPTH = 4  # reply > message > usage, and one to spare

_INSIDE = ("usage", "usage_metadata", "usage_info", "billed_units", "x_groq", "meta", "response", "message")
_INPUT = (
    "input_tokens", "prompt_tokens", "prompt_token_count", "total_input_tokens", "prompt_eval_count",
    "input_text_token_count", "input_token_count",
)  # fmt: skip
_OUTPUT = (
    "output_tokens", "completion_tokens", "candidates_token_count", "response_token_count", "total_output_tokens",
    "eval_count", "generation_token_count", "generated_tokens", "token_count", "output_token_count",
)  # fmt: skip
_INPUT_DETAILS = ("input_tokens_details", "input_token_details", "prompt_tokens_details", "prompt_token_details")
_OUTPUT_DETAILS = ("output_tokens_details", "output_token_details", "completion_tokens_details")
_CACHE_READ = (
    "cache_read_tokens", "cache_read_input_tokens", "cached_input_tokens", "cached_content_token_count",
    "prompt_cache_hit_tokens", "cached_tokens", "cached_prompt_text_tokens", "num_cached_tokens",
    "total_cached_tokens",
)  # fmt: skip
_CACHE_WRITE = (
    "cache_write_tokens",
    "cache_creation_input_tokens",
    "cache_write_input_tokens",
    "cache_creation_tokens",
)
_BESIDE_INPUT = ("cache_read_input_tokens", "cache_creation_input_tokens", "cache_write_input_tokens")
_REASONING = (
    "output_reasoning_tokens",
    "reasoning_tokens",
    "thinking_tokens",
    "thoughts_token_count",
    "total_thought_tokens",
)
_GEMINI_REASONING = ("thoughts_token_count", "total_thought_tokens")  # always beside the output
_MODALITIES = ("text", "audio", "image", "video")
_MODALITY_LISTS = {  # Gemini's lists of {modality, tokenCount}, and the units each entry counts for
    "prompt_tokens_details": ("input_{}_tokens",),
    "tool_use_prompt_tokens_details": ("input_{}_tokens", "input_{}_tool_tokens"),
    "cache_tokens_details": ("cache_{}_read_tokens",),
    "candidates_tokens_details": ("output_{}_tokens",),
    "response_tokens_details": ("output_{}_tokens",),
}
_REASONING_BESIDE_OUTPUT = {"x-ai", "perplexity"}  # unless the total says otherwise
_ON_DEMAND = 1  # as protobuf has Gemini's traffic type, and its modalities
_MODALITY_NUMBERS = ("", "text", "image", "video", "audio", "document")
STANDARD_TIERS = {"standard", "default", "auto", "on_demand", "on-demand", ""}
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class UsageError(ValueError):
    """A usage that cannot be read, and why."""


class Usage(NamedTuple):
    """Counts by unit, and the service tier the reply names (empty for the standard one)."""

    counts: dict[str, Count]
    tier: str


@lru_cache(4096)
def _snake(key: str) -> str:
    return _HUMP.sub("_", key).lower()


def _plain(value: Any, depth: int = 0) -> Any:
    """The same with snake_case keys; models of client libraries become mappings."""
    if depth > 2 * _MAX_DEPTH:
        return None
    if not isinstance(value, Mapping) and callable(getattr(value, "model_dump", None)):
        value = value.model_dump()
    if isinstance(value, Mapping):
        return {_snake(str(key)): _plain(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, depth + 1) for each in value]
    return value


def count_of(key: str, value: object) -> Count:
    """A count as an exact number; UsageError for anything else."""
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool) and 0 <= value <= _LARGEST_COUNT:
        if isinstance(value, float):
            return int(value) if value.is_integer() else Decimal(repr(value))
        return value
    shown = "a number" if isinstance(value, int) and abs(value) > _LARGEST_COUNT else repr(value)[:100]
    raise UsageError(f"{key}={shown} is no count")


def _first(source: Mapping[str, Any], keys: tuple[str, ...]) -> tuple[str, Count] | None:
    for key in keys:
        if (value := source.get(key)) is not None and not isinstance(value, Mapping | list):
            return key, count_of(key, value)
    return None


def _tier(source: Mapping[str, Any]) -> str:
    tier = source.get("service_tier") or source.get("speed") or source.get("traffic_type") or ""
    if tier == _ON_DEMAND:
        tier = ""
    if isinstance(tier, Mapping):  # Bedrock
        tier = tier.get("type") or ""
    name = str(tier).lower().removeprefix("on_demand_")
    return "" if name in STANDARD_TIERS else name


def _usage_within(reply: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """The part of a reply that counts, and the tier that is named on the way."""
    tier = ""
    for _ in range(_MAX_DEPTH):
        tier = _tier(reply) or tier
        inside = next((reply[key] for key in _INSIDE if isinstance(reply.get(key), Mapping) and reply[key]), None)
        if inside is None:
            break
        reply = inside
    return reply, tier


def read_usage(raw: object, provider: str | None, units: frozenset[str]) -> Usage:
    """The counts of a usage object, or of a whole reply. Names in `units` are taken as they are."""
    reply = _plain(raw)
    if not isinstance(reply, Mapping):
        raise UsageError(f"usage is a {type(raw).__name__}, not a mapping")
    source, tier = _usage_within(reply)
    counts = {key: count_of(key, source[key]) for key in units & source.keys() if source[key] is not None}
    _read_input(source, counts)
    _read_output(source, counts, provider)
    counts.update(_modalities(source, counts.keys()))
    _read_tools(source, counts)
    _read_iterations(source, counts)
    total = _first(source, ("total_tokens", "total_token_count"))
    if not counts and total and not any("token" in key for key in source if key != total[0]):
        counts["input_tokens"] = total[1]  # embeddings that tell no more
    if not counts:
        keys = ", ".join(sorted(source)[:8]) or "none"
        raise UsageError(f"no counts found in the usage (its keys: {keys})")
    return Usage(counts, tier)


def _details(source: Mapping[str, Any], keys: tuple[str, ...]) -> Mapping[str, Any]:
    return next((source[key] for key in keys if isinstance(source.get(key), Mapping)), {})


def _read_input(source: Mapping[str, Any], counts: dict[str, Count]) -> None:
    details = _details(source, _INPUT_DETAILS)
    read = _first(source, _CACHE_READ) or _first(details, _CACHE_READ)
    write = _first(source, _CACHE_WRITE) or _first(details, _CACHE_WRITE)
    cached: Count = 0
    for unit, found in (("cache_read_tokens", read), ("cache_write_tokens", write)):
        if found:
            counts[unit] = found[1]
            cached += found[1]
    _read_cache_lifetimes(source, counts)
    given = _first(source, _INPUT)
    if given is None:
        return
    name, tokens = given
    beside = name == "input_tokens" and any(source.get(key) is not None for key in _BESIDE_INPUT)
    if beside or cached > tokens:  # Anthropic and Bedrock count cached tokens beside the input; else it is proven
        tokens += cached
    if tool := _first(source, ("tool_use_prompt_token_count", "total_tool_use_tokens")):
        counts["input_tool_tokens"] = tool[1]
        tokens += tool[1]
    counts["input_tokens"] = tokens


def _read_cache_lifetimes(source: Mapping[str, Any], counts: dict[str, Count]) -> None:
    written = source.get("cache_creation")
    if isinstance(written, Mapping):
        for lifetime in ("5m", "1h"):
            if found := _first(written, (f"ephemeral_{lifetime}_input_tokens",)):
                counts[f"cache_write_{lifetime}_tokens"] = found[1]
    for entry in _mappings(source.get("cache_details")):
        if entry.get("ttl") in ("5m", "1h") and (found := _first(entry, ("input_tokens",))):
            counts[f"cache_write_{entry['ttl']}_tokens"] = found[1]


def _read_output(source: Mapping[str, Any], counts: dict[str, Count], provider: str | None) -> None:
    details = _details(source, _OUTPUT_DETAILS)
    reasoning = _first(source, _REASONING) or _first(details, _REASONING)
    if reasoning:
        counts["output_reasoning_tokens"] = reasoning[1]
    given = _first(source, _OUTPUT)
    if given is None and not (reasoning and reasoning[0] in _GEMINI_REASONING):
        return
    tokens = given[1] if given else 0
    if reasoning and _is_beside(source, counts, tokens, reasoning, provider):
        tokens += reasoning[1]
    if citation := _first(source, ("citation_tokens",)):  # Perplexity
        counts["output_citation_tokens"] = citation[1]
        tokens += citation[1]
    counts["output_tokens"] = tokens


def _is_beside(
    source: Mapping[str, Any],
    counts: Mapping[str, Count],
    output: Count,
    reasoning: tuple[str, Count],
    provider: str | None,
) -> bool:
    """Whether reasoning is counted beside the output, not in it."""
    if reasoning[0] in _GEMINI_REASONING:
        return True
    total = _first(source, ("total_tokens",))
    given_input = counts.get("input_tokens", 0)
    if total and reasoning[1]:
        if total[1] == given_input + output + reasoning[1]:
            return True
        if total[1] == given_input + output:
            return False
    return reasoning[1] > output or (provider in _REASONING_BESIDE_OUTPUT and "completion_tokens" in source)


def _mappings(value: object) -> Iterator[Mapping[str, Any]]:
    return (each for each in value if isinstance(each, Mapping)) if isinstance(value, list) else iter(())


def _modalities(source: Mapping[str, Any], known: Any) -> dict[str, Count]:
    """Counts of text, audio, image and video."""
    found: dict[str, Count] = {}
    inputs, outputs = _details(source, _INPUT_DETAILS), _details(source, _OUTPUT_DETAILS)
    cached = inputs.get("cached_tokens_details")
    for form, part in (
        ("input_{}_tokens", inputs),
        ("output_{}_tokens", outputs),
        ("cache_{}_read_tokens", cached if isinstance(cached, Mapping) else {}),
    ):
        for modality in _MODALITIES:
            if count := _first(part, (f"{modality}_tokens",)):
                found[form.format(modality)] = count[1]
    for key, forms in _MODALITY_LISTS.items():
        for entry in _mappings(source.get(key)):
            modality = _modality(entry.get("modality"))
            count = _first(entry, ("token_count",))
            if count and modality in _MODALITIES:
                for form in forms:
                    unit = form.format(modality)
                    found[unit] = found.get(unit, 0) + count[1]
    return {unit: count for unit, count in found.items() if unit not in known}


def _modality(told: object) -> str:
    if isinstance(told, int) and 0 <= told < len(_MODALITY_NUMBERS):
        told = _MODALITY_NUMBERS[told]
    return str(told or "").lower().replace("document", "image")


def _read_iterations(source: Mapping[str, Any], counts: dict[str, Count]) -> None:
    """Anthropic: compaction is billed besides; an advisor is another model, with prices of its own."""
    for entry in _mappings(source.get("iterations")):
        if entry.get("type") == "compaction":
            more: dict[str, Count] = {}
            _read_input(entry, more)
            _read_output(entry, more, None)
            for unit, count in more.items():
                counts[unit] = counts.get(unit, 0) + count
        elif entry.get("type") == "advisor_message":
            counts["advisor_messages"] = counts.get("advisor_messages", 0) + 1


def _read_tools(source: Mapping[str, Any], counts: dict[str, Count]) -> None:
    tools = source.get("server_tool_use")
    searches = _first(tools if isinstance(tools, Mapping) else {}, ("web_search_requests",))
    searches = searches or _first(source, ("num_search_queries",))
    if searches:
        counts["web_searches"] = searches[1]
    spoken = ("seconds",) if source.get("type") == "duration" else ("prompt_audio_seconds",)  # OpenAI, Mistral
    if seconds := _first(source, spoken):
        counts["audio_seconds"] = counts["input_audio_seconds"] = seconds[1]
    if pages := _first(source, ("pages_processed",)):  # Mistral
        counts["input_document_pages"] = pages[1]
    if reranked := _first(source, ("search_units",)):  # Cohere
        counts["rerank_searches"] = reranked[1]
