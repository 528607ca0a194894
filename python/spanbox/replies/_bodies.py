"""Whole bodies: which form one has, and what it says. One reader a form.

Pure functions; a reader takes only what has the type it should have, so that any JSON is safe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from spanbox.replies._fields import get, mapping, mappings, parsed, text
from spanbox.replies._reply import ToolCall

Said = dict[str, Any]  # arguments of Reply
Source = Mapping[str, Any]

_GEMINI_FINISH = ("", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII")
_GEMINI_REFUSALS = {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY"}
_REFUSALS = {"refusal", "content_filter", "content_filtered", "guardrail_intervened", "ERROR_TOXIC"}


class Form(NamedTuple):
    name: str
    is_it: Callable[[Source], bool]
    read: Callable[[Source], Said]
    provider: str | None = None  # who alone has this form


def _refusal(finish: str | None, words: str | None = None) -> str | None:
    return words or (finish if finish in _REFUSALS else None)


def _texts(parts: object, kind: str = "text") -> str:
    """The text of a content that is a text or a list of parts; thinking is none of it."""
    if isinstance(parts, str):
        return parts
    return "".join(
        part["text"]
        for part in mappings(parts)
        if isinstance(part.get("text"), str) and part.get("type", kind) == kind and not part.get("thought")
    )


def _openai_call(call: Source) -> ToolCall:
    function = mapping(call, "function") or mapping(call, "custom") or call
    arguments = function.get("arguments", function.get("input", function.get("parameters")))
    return ToolCall(text(function, "name") or "", parsed(arguments), text(call, "id"))


def _chat(body: Source) -> Said:
    choice: Source = next(mappings(body, "choices"), {})
    message = mapping(choice, "message")
    finish = text(choice, "finish_reason") or text(choice, "stop_reason")
    usage = mapping(body, "usage") or mapping(body, "x_groq", "usage")
    azure = "prompt_filter_results" in body or "content_filter_results" in choice
    calls = [_openai_call(call) for call in mappings(message, "tool_calls")]
    if legacy := mapping(message, "function_call"):
        calls.append(_openai_call(legacy))
    said: Said = {
        "text": _texts(message.get("content")) or text(choice, "text") or "",
        "finish_reason": finish,
        "refusal": _refusal(finish, text(message, "refusal")),
        "tool_calls": tuple(calls),
        "usage": usage,
    }
    if azure or "x_groq" in body:
        said["provider"] = "azure" if azure else "groq"
    return said


def _responses(body: Source) -> Said:
    texts, calls = list[str](), list[ToolCall]()
    words = None
    for item in mappings(body, "output"):
        kind = str(item.get("type"))
        if kind == "message":
            texts.append(_texts(item.get("content"), "output_text"))
            words = next(
                (part["refusal"] for part in mappings(item, "content") if text(part, "refusal")),
                words,
            )
        elif kind.endswith("_call"):
            own = kind in ("function_call", "custom_tool_call")
            name = text(item, "name") or kind.removesuffix("_call")
            arguments = item.get("arguments", item.get("input", item.get("action", item.get("queries"))))
            calls.append(ToolCall(name, parsed(arguments), text(item, "call_id") or text(item, "id"), not own))
    finish = text(body, "incomplete_details", "reason") or text(body, "status")
    return {
        "text": "".join(texts),
        "finish_reason": finish,
        "refusal": _refusal(finish, words),
        "tool_calls": tuple(calls),
        "usage": mapping(body, "usage"),
    }


def _anthropic(body: Source) -> Said:
    blocks = list(mappings(body, "content"))
    calls = tuple(
        ToolCall(text(block, "name") or "", parsed(block.get("input")), text(block, "id"), block["type"] != "tool_use")
        for block in blocks
        if block.get("type") in ("tool_use", "server_tool_use", "mcp_tool_use")
    )
    finish = text(body, "stop_reason")
    words = text(body, "stop_details", "explanation") or text(body, "stop_details", "category")
    return {
        "text": _texts(blocks),
        "finish_reason": finish,
        "refusal": (words or finish) if finish == "refusal" else None,
        "tool_calls": calls,
        "usage": mapping(body, "usage"),
    }


def _gemini(body: Source) -> Said:
    candidate: Source = next(mappings(body, "candidates"), {})
    parts = list(mappings(candidate, "content", "parts"))
    calls = [
        ToolCall(text(call, "name") or "", parsed(get(call, "args")), text(call, "id"))
        for part in parts
        if (call := mapping(part, "function_call"))
    ]
    calls += [
        ToolCall("code_execution", code.get("code"), by_provider=True)
        for part in parts
        if (code := mapping(part, "executable_code"))
    ]
    finish = get(candidate, "finish_reason")
    if isinstance(finish, int) and 0 < finish < len(_GEMINI_FINISH):  # as protobuf has it
        finish = _GEMINI_FINISH[finish]
    blocked = text(body, "prompt_feedback", "block_reason")
    finish = finish if isinstance(finish, str) else blocked
    words = text(candidate, "finish_message") or finish if finish in _GEMINI_REFUSALS else None
    return {
        "text": _texts(parts),
        "finish_reason": finish,
        "refusal": blocked or words,
        "tool_calls": tuple(calls),
        "usage": mapping(body, "usage_metadata"),
        "model": text(body, "model_version"),
        "id": text(body, "response_id"),
    }


def _interaction(body: Source) -> Said:
    steps = [*mappings(body, "steps"), *mappings(body, "outputs")]
    calls = []
    for step in steps:
        kind = str(step.get("type"))
        if kind.endswith("_call"):
            own = kind == "function_call"
            name = text(step, "name") or kind.removesuffix("_call")
            calls.append(ToolCall(name, parsed(step.get("arguments")), text(step, "id"), not own))
    return {
        "text": "".join(
            _texts(step.get("content")) if step.get("type") == "model_output" else text(step, "text") or ""
            for step in steps
            if step.get("type") in ("model_output", "text")
        ),
        "finish_reason": text(body, "status"),
        "tool_calls": tuple(calls),
        "usage": mapping(body, "usage"),
        "model": text(body, "model") or text(body, "agent"),
    }


def _converse(body: Source) -> Said:
    parts = list(mappings(body, "output", "message", "content"))
    calls = tuple(
        ToolCall(text(call, "name") or "", parsed(call.get("input")), text(call, "tool_use_id"))
        for part in parts
        if (call := mapping(part, "tool_use"))
    )
    finish = text(body, "stop_reason")
    return {
        "text": _texts(parts),
        "finish_reason": finish,
        "refusal": _refusal(finish),
        "tool_calls": calls,
        "usage": mapping(body, "usage"),
        "service_tier": text(body, "service_tier", "type"),
    }


def _cohere(body: Source) -> Said:
    message = mapping(body, "message")
    finish = text(body, "finish_reason")
    calls = [_openai_call(call) for call in mappings(message, "tool_calls")]
    calls += [_openai_call(call) for call in mappings(body, "tool_calls")]
    usage = mapping(body, "usage") or {
        key: value for key, value in mapping(body, "meta").items() if key in ("billed_units", "tokens", "cached_tokens")
    }
    return {
        "text": _texts(message.get("content")) or text(body, "text") or "",
        "finish_reason": finish,
        "refusal": _refusal(finish),
        "tool_calls": tuple(calls),
        "usage": usage,
        "id": text(body, "id") or text(body, "response_id"),
    }


def _first_generation(body: Source) -> Said:
    first: Source = next(mappings(body, "generations"), {})
    return {**_cohere(body), "text": text(first, "text") or "", "finish_reason": text(first, "finish_reason")}


def _ollama(body: Source) -> Said:
    message = mapping(body, "message")
    return {
        "text": text(message, "content") or text(body, "response") or "",
        "finish_reason": text(body, "done_reason"),
        "tool_calls": tuple(_openai_call(call) for call in mappings(message, "tool_calls")),
        "usage": {key: body[key] for key in ("prompt_eval_count", "eval_count") if key in body},
    }


def _invoked(body: Source) -> Said:
    """What models of Bedrock answer in forms of their own: Titan, Llama, AI21, the older Claude."""
    result: Source = next(mappings(body, "results"), {}) or next(mappings(body, "completions"), {})
    said = (text(result, "output_text"), text(result, "data", "text"), text(body, "generation"))
    usage = {
        key: body[key]
        for key in ("inputTextTokenCount", "prompt_token_count", "generation_token_count")
        if body.get(key) is not None
    }
    if "tokenCount" in result:
        usage["tokenCount"] = result["tokenCount"]
    return {
        "text": next((each for each in (*said, text(body, "completion"), text(body, "output_text")) if each), ""),
        "finish_reason": text(body, "stop_reason")
        or text(result, "completion_reason")
        or text(result, "finish_reason", "reason"),
        "usage": usage,
    }


def _text_generation(body: Source) -> Said:
    details = mapping(body, "details")
    usage = {key: details[key] for key in ("generated_tokens",) if key in details}
    return {"text": text(body, "generated_text") or "", "finish_reason": text(details, "finish_reason"), "usage": usage}


def _prediction(body: Source) -> Said:
    output = body.get("output")
    if isinstance(output, list):
        output = "".join(each for each in output if isinstance(each, str))
    return {
        "text": output if isinstance(output, str) else "",
        "finish_reason": text(body, "status"),
        "usage": mapping(body, "metrics"),
    }


def _results(body: Source) -> Said:
    return {"usage": mapping(body, "usage") or mapping(body, "meta"), "text": text(body, "text") or ""}


def _has(*names: str) -> Callable[[Source], bool]:
    return lambda body: all(get(body, name) is not None for name in names)


def _is(key: str, value: str) -> Callable[[Source], bool]:
    return lambda body: body.get(key) == value


def _first(name: str) -> Callable[[Source], Source]:
    return lambda body: next(mappings(body, name), {})


def _is_responses(body: Source) -> bool:
    return body.get("object") == "response" or _has("output", "incomplete_details")(body)


def _is_converse(body: Source) -> bool:
    return "stopReason" in body and bool(mapping(body, "output", "message"))


def _is_ollama(body: Source) -> bool:
    return "done" in body and ("message" in body or "response" in body)


def _is_bedrock_result(body: Source) -> bool:
    titan = get(_first("results")(body), "output_text") is not None
    return titan or bool(mapping(_first("completions")(body), "data")) or _has("generation", "stop_reason")(body)


def _is_embedding(body: Source) -> bool:
    values = body.get("embedding") or body.get("embeddings")
    return isinstance(values, list | dict) or get(_first("data")(body), "embedding") is not None


FORMS = (  # the first that fits
    Form("openai.responses", _is_responses, _responses),
    Form("gemini.interactions", _is("object", "interaction"), _interaction, "google"),
    Form("gemini.interactions", _has("steps", "status"), _interaction, "google"),
    Form("openai.chat", lambda body: isinstance(body.get("choices"), list), _chat),
    Form(
        "anthropic.messages", lambda body: body.get("type") == "message" and "content" in body, _anthropic, "anthropic"
    ),
    Form("gemini", lambda body: isinstance(get(body, "candidates"), list), _gemini, "google"),
    Form("gemini", _has("prompt_feedback"), _gemini, "google"),
    Form("bedrock.converse", _is_converse, _converse, "aws"),
    Form("cohere.chat", lambda body: bool(mapping(body, "message")) and "finish_reason" in body, _cohere, "cohere"),
    Form("cohere.chat", _has("response_id", "text"), _cohere, "cohere"),
    Form("cohere.generate", lambda body: isinstance(body.get("generations"), list), _first_generation, "cohere"),
    Form("ollama", _is_ollama, _ollama, "ollama"),
    Form("bedrock.invoke", lambda body: body.get("type") == "completion" and "completion" in body, _invoked),
    Form("bedrock.invoke", _is_bedrock_result, _invoked, "aws"),
    Form("huggingface", _has("generated_text"), _text_generation, "huggingface"),
    Form("replicate", _has("version", "status", "urls"), _prediction, "replicate"),
    Form("rerank", lambda body: get(_first("results")(body), "relevance_score") is not None, _results),
    Form("embedding", _is_embedding, _results),
    Form("images", lambda body: bool({"b64_json", "url"} & _first("data")(body).keys()), _results),
    Form("transcription", lambda body: _has("text")(body) and ("segments" in body or "usage" in body), _results),
)
