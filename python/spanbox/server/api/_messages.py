"""Messages of model calls, of any dialect, as parts of a conversation; and documents that were retrieved.

Whatever is not understood comes as JSON, never as nothing. Pure functions of what was recorded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from spanbox.server.api._frame import Json

TEXT_CHARACTERS = 1 << 16
_DOCUMENT_CHARACTERS = 1 << 12
_MESSAGES = 2_000
_RUN = 8  # words in a row that the answer has from a document: it was used
_RUN_WORDS = 20_000
_DOCUMENT_KEYS = ("gen_ai.retrieval.documents", "retrieval.documents", "documents")
_TEXT_TYPES = {"text", "input_text", "output_text"}
_REASONING_TYPES = {"reasoning", "thinking", "reasoning_content"}
_CALL_TYPES = {"tool_call", "tool_use", "function_call", "tool-call", "function"}
_RESULT_TYPES = {"tool_call_response", "tool_result", "function_call_output", "tool-result"}
_MEDIA_TYPES = {"image", "image_url", "input_image", "audio", "input_audio", "file", "blob", "uri", "media"}


def conversation(input_: Any, output: Any) -> list[Json]:
    """The messages of an input and an output, calls of tools beside their results."""
    messages = [*_messages(input_, "input"), *_messages(output, "output")][:_MESSAGES]
    return _join_results(messages)


def _messages(value: Any, side: str) -> Iterator[Json]:
    value = parsed(value)
    if value is None:
        return
    if isinstance(value, dict) and isinstance(value.get("choices"), list):  # a reply of the OpenAI kind
        value = [_choice(choice) for choice in value["choices"]]
    elif isinstance(value, dict) and len(value) == 1 and isinstance(text := next(iter(value.values())), str):
        value = text  # the only argument of a function, or all that it gave
    elif isinstance(value, dict) and isinstance(value.get("messages"), (list, tuple)):
        head = [{"role": "system", "content": value["system"]}] if value.get("system") else []
        value = [*head, *value["messages"]]
    role = "user" if side == "input" else "assistant"
    if isinstance(value, list) and value and all(_is_message(each) for each in value):
        for each in value:
            yield _message(each, side, role)
    elif _is_message(value):
        yield _message(value, side, role)
    elif (
        isinstance(value, list)
        and value
        and all(isinstance(each, dict) and each.get("type") in _PARTS for each in value)
    ):
        yield {
            "role": role,
            "name": None,
            "from": side,
            "parts": list(_parts(value)),
            "finish_reason": None,
            "same_in": None,
        }
    else:
        yield {
            "role": role,
            "name": None,
            "from": side,
            "parts": list(_parts(value)),
            "finish_reason": None,
            "same_in": None,
        }


_PARTS = _TEXT_TYPES | _REASONING_TYPES | _CALL_TYPES | _RESULT_TYPES | _MEDIA_TYPES


def _choice(value: Any) -> Any:
    """Its message, with the reason why it ended."""
    message = value.get("message") if isinstance(value, dict) else None
    return {"finish_reason": value.get("finish_reason"), **message} if isinstance(message, dict) else value


def parsed(value: Any) -> Any:
    """JSON text as what it says."""
    if isinstance(value, str) and value[:1] in "[{":
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _is_message(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("role"), str)
        and bool(
            value.keys()
            & {"content", "parts", "tool_calls", "function_call", "tool_call_id", "message", "reasoning_content"}
        )
    )


def _message(value: Json, side: str, default_role: str) -> Json:
    role = value["role"] or default_role
    parts = list(_parts(value["parts"] if "parts" in value else value.get("content")))
    if value.get("reasoning_content"):
        parts.insert(0, _text("reasoning", value["reasoning_content"]))
    for call in value.get("tool_calls") or ():
        parts.append(_call(call) if isinstance(call, dict) else _json(call))
    if isinstance(value.get("function_call"), dict):
        parts.append(_call(value["function_call"]))
    if role == "tool" and isinstance(value.get("tool_call_id"), str):
        parts = [_result(value["tool_call_id"], value.get("content"), bool(value.get("is_error")))]
    reason = value.get("finish_reason") or value.get("stop_reason")
    return {
        "role": role,
        "name": value["name"] if isinstance(value.get("name"), str) else None,
        "from": side,
        "parts": parts,
        "finish_reason": None if reason is None else str(reason),
        "same_in": None,
    }


def _parts(value: Any) -> Iterator[Json]:
    if value is None:
        return
    if isinstance(value, (str, int, float, bool)):
        yield _text("text", value)
    elif isinstance(value, list):
        for each in value:
            yield _part(each)
    else:
        yield _part(value)


def _part(value: Any) -> Json:
    if isinstance(value, str):
        return _text("text", value)
    if not isinstance(value, dict):
        return _json(value)
    type_ = value.get("type")
    if type_ in _TEXT_TYPES or (type_ is None and value.keys() == {"text"}):
        text = value.get("text", value.get("content"))
        return _text("text", text) if isinstance(text, str) else _json(value)
    if type_ in _REASONING_TYPES:
        text = value.get("thinking", value.get("text", value.get("content", value.get("reasoning"))))
        return _text("reasoning", text) if isinstance(text, str) else _json(value)
    if type_ in _CALL_TYPES:
        return _call(value)
    if type_ in _RESULT_TYPES:
        id_ = next(
            (value[key] for key in ("id", "tool_use_id", "call_id", "toolCallId") if isinstance(value.get(key), str)),
            None,
        )
        said = next((value[key] for key in ("response", "result", "content", "output") if key in value), None)
        return _result(id_, said, bool(value.get("is_error")))
    if type_ in _MEDIA_TYPES or "$blob" in value:
        return _media(value)
    return _json(value)


def _text(type_: str, value: Any) -> Json:
    text = str(value)
    return {"type": type_, "text": text[:TEXT_CHARACTERS], "size_chars": len(text)}


def _json(value: Any) -> Json:
    text = json.dumps(value, ensure_ascii=False, indent=1, default=str)
    return {"type": "json", "text": text[:TEXT_CHARACTERS], "size_chars": len(text)}


def _call(value: Json) -> Json:
    function = value["function"] if isinstance(value.get("function"), dict) else value
    id_ = next((value[key] for key in ("id", "call_id", "toolCallId") if isinstance(value.get(key), str)), None)
    name = function.get("name", function.get("toolName"))
    given = next((function[key] for key in ("arguments", "input", "args") if key in function), None)
    text = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False, default=str)
    return {
        "type": "tool_call",
        "id": id_,
        "name": str(name or "?"),
        "arguments": text[:TEXT_CHARACTERS],
        "result": None,
    }


def _result(id_: str | None, said: Any, is_error: bool) -> Json:
    if isinstance(said, list):
        texts = [each.get("text") if isinstance(each, dict) else each for each in said]
        said = "\n".join(map(str, texts)) if texts and all(isinstance(each, str) for each in texts) else said
    text = said if isinstance(said, str) else "" if said is None else json.dumps(said, ensure_ascii=False, default=str)
    return {
        "type": "tool_result",
        "id": id_,
        "text": text[:TEXT_CHARACTERS],
        "is_error": is_error,
        "size_chars": len(text),
    }


def _media(value: Json) -> Json:
    """What an image or a file is; where it is elsewhere, its address as text: nothing is fetched."""
    blob = next((found["$blob"] for found in _mappings(value) if isinstance(found.get("$blob"), str)), None)
    type_ = next(
        (
            str(found[key])
            for found in _mappings(value)
            for key in ("media_type", "mime_type", "mimeType")
            if key in found
        ),
        "",
    )
    size = next((found["bytes"] for found in _mappings(value) if isinstance(found.get("bytes"), int)), None)
    source = next(
        (
            found[key]
            for found in _mappings(value)
            for key in ("url", "uri", "file_id")
            if isinstance(found.get(key), str)
        ),
        "",
    )
    return {
        "type": "media",
        "media_type": type_ or str(value.get("type") or ""),
        "size_bytes": size,
        "blob": blob,
        "source": source[:300],
    }


def _mappings(value: Any, depth: int = 0) -> Iterator[Json]:
    if isinstance(value, dict) and depth < 4:
        yield value
        for each in value.values():
            yield from _mappings(each, depth + 1)


def _join_results(messages: list[Json]) -> list[Json]:
    """Results move into the card of their call; messages that are left empty by that go."""
    calls = {
        part["id"]: part
        for message in messages
        for part in message["parts"]
        if part["type"] == "tool_call" and part["id"]
    }
    for message in messages:
        kept = []
        for part in message["parts"]:
            call = calls.get(part["id"]) if part["type"] == "tool_result" else None
            if call is None or call["result"] is not None:
                kept.append(part)
                continue
            call["result"] = {
                "text": part["text"],
                "size_chars": part["size_chars"],
                "is_error": part["is_error"],
                "span_id": None,
                "duration_ns": None,
            }
        if len(kept) < len(message["parts"]):
            message["parts"] = kept
            message["moved"] = True
    return [
        {name: each for name, each in message.items() if name != "moved"}
        for message in messages
        if message["parts"] or not message.get("moved")
    ]


# --- documents ---


def documents(attributes: Json, output: Any, answer: str | None) -> list[Json]:
    """What was retrieved, by rank; `answer`: the text in which it may have been used."""
    found = next((parsed(attributes[key]) for key in _DOCUMENT_KEYS if attributes.get(key) is not None), parsed(output))
    if isinstance(found, dict):
        found = found.get("documents", found.get("matches", found.get("results")))
    if not isinstance(found, list) or not all(isinstance(each, (dict, str)) for each in found):
        return []
    runs = None if answer is None else _runs(answer)
    return [_document(rank, each, answer, runs) for rank, each in enumerate(found[:500], 1)]


def _document(rank: int, given: Any, answer: str | None, runs: set[tuple[str, ...]] | None) -> Json:
    value: Json = {"content": given} if isinstance(given, str) else given
    found = value.get("document")
    inner: Json = found if isinstance(found, dict) else value
    text = next(
        (inner[key] for key in ("content", "text", "page_content", "body") if isinstance(inner.get(key), str)), None
    )
    if text is None:
        text = json.dumps(inner, ensure_ascii=False, default=str)
    id_ = next(
        (str(inner[key]) for key in ("id", "doc_id", "document_id", "source") if inner.get(key) is not None), None
    )
    title = next(
        (str(inner[key]) for key in ("title", "name", "source", "url") if inner.get(key) is not None),
        id_ or f"document {rank}",
    )
    used, why = _used(id_, title, text, answer, runs)
    score = next(
        (value[key] for key in ("score", "relevance", "similarity") if isinstance(value.get(key), (int, float))), None
    )
    tokens = next((inner[key] for key in ("tokens", "token_count") if isinstance(inner.get(key), int)), None)
    return {
        "rank": rank,
        "id": id_,
        "title": title[:300],
        "text": text[:_DOCUMENT_CHARACTERS],
        "size_chars": len(text),
        "score": score,
        "tokens": tokens,
        "used": used,
        "used_why": why,
    }


def _used(id_: str | None, title: str, text: str, answer: str | None, runs: Any) -> tuple[bool | None, str]:
    if answer is None or runs is None:
        return None, ""
    for cited in (id_, title):
        if cited and len(cited) >= 4 and cited in answer:
            return True, f"{cited[:80]} is cited"
    if any(run in runs for run in _runs(text)):
        return True, f"{_RUN} words in a row are in the answer"
    return False, ""


def _runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())[:_RUN_WORDS]
    return {tuple(words[i : i + _RUN]) for i in range(len(words) - _RUN + 1)}


def plain_text(messages: Sequence[Json]) -> str:
    """All text that was said."""
    return "\n".join(part["text"] for message in messages for part in message["parts"] if part["type"] == "text")
