"""Streams: the events of one reply put together to the body the provider would have sent whole.

So there is one reader a form, and what a streamed reply says it used is read as that of any other. Pure functions.
Of a stream that is cut off the result is what has come.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from spanbox.replies._fields import get, mapping, mappings, place, text

Event = Mapping[str, Any]
Joined = dict[str, Any]

_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d{1,3})\]")
_LONGEST_LIST = 1_000
_TEXT_KEYS = ("content", "reasoning_content", "reasoning", "refusal", "thinking")


def _add(target: Joined, key: str, more: Any) -> None:
    """Appends a piece of text; pieces are put together by _whole()."""
    if isinstance(more, str) and more:
        have = target.setdefault(key, [])
        if isinstance(have, list):
            have.append(more)
    elif isinstance(more, list) and more:  # parts, as Mistral has them
        have = target.setdefault(key, [])
        if isinstance(have, list):
            have.extend(more)


def _whole(value: Any) -> Any:
    """Lists of pieces of text as one text, everywhere they were added."""
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return "".join(value)
    return value


def _keep(target: Joined, event: Event, without: Sequence[str] = ()) -> None:
    """What an event tells and is no empty beginning; later ones decide, mappings grow."""
    for key, value in event.items():
        if key in without or value is None or value == "":
            continue
        have = target.get(key)
        if isinstance(have, Mapping) and isinstance(value, Mapping):
            value = {**have, **{name: each for name, each in value.items() if each is not None}}
        target[key] = value


def _chat(events: Sequence[Event]) -> Joined:
    body: Joined = {}
    choices: dict[int, Joined] = {}
    for event in events:
        _keep(body, event, ("choices", "object") if event.get("created") else ("choices", "object", "created"))
        for at, choice in enumerate(mappings(event, "choices")):
            index = choice.get("index")
            known = choices.setdefault(index if isinstance(index, int) else at, {"message": {}})
            _keep(known, choice, ("delta", "message", "text", "index"))
            _add(known, "text", choice.get("text"))
            _chat_delta(known["message"], mapping(choice, "delta") or mapping(choice, "message"))
    for choice in choices.values():
        message = {key: _whole(value) for key, value in choice["message"].items()}
        if calls := message.pop("tool_calls", None):
            message["tool_calls"] = [_whole_call(call) for call in calls.values()]
        choice["message"] = message
        if "text" in choice:
            choice["text"] = _whole(choice["text"])
    return {**body, "object": "chat.completion", "choices": [choices[index] for index in sorted(choices)]}


def _chat_delta(message: Joined, delta: Event) -> None:
    for key in _TEXT_KEYS:
        _add(message, key, delta.get(key))
    calls: dict[Any, Joined] = message.setdefault("tool_calls", {})
    for call in mappings(delta, "tool_calls"):
        at = call.get("index")
        if not isinstance(at, int):
            at = text(call, "id") or (list(calls)[-1] if calls else 0)
        known = calls.setdefault(at, {"name": [], "arguments": []})
        known["id"] = call.get("id") or known.get("id")
        function = mapping(call, "function")
        _add(known, "name", function.get("name"))
        arguments = function.get("arguments")
        if isinstance(arguments, Mapping):
            known["given"] = arguments
        _add(known, "arguments", arguments)
    if legacy := mapping(delta, "function_call"):
        known = calls.setdefault("legacy", {"name": [], "arguments": []})
        _add(known, "name", legacy.get("name"))
        _add(known, "arguments", legacy.get("arguments"))


def _whole_call(call: Joined) -> Joined:
    arguments = call.get("given") or "".join(call["arguments"])
    return {"id": call.get("id"), "function": {"name": "".join(call["name"]), "arguments": arguments}}


def _responses(events: Sequence[Event]) -> Joined:
    body: Joined = {"object": "response"}
    items: dict[Any, Any] = {}
    for event in events:
        _keep(body, mapping(event, "response"))
        if event.get("type") == "response.output_item.done":
            items[place(event, "output_index")] = event.get("item")
    if not body.get("output"):
        body["output"] = list(items.values())
    return body


def _anthropic(events: Sequence[Event]) -> Joined:
    body: Joined = {"type": "message"}
    blocks: dict[Any, Joined] = {}
    for event in events:
        kind = event.get("type")
        if kind == "message_start":
            body, blocks = {"type": "message"}, {}  # a second one starts over
            _keep(body, mapping(event, "message"))
        elif kind == "content_block_start":
            blocks[place(event, "index")] = {**mapping(event, "content_block"), "pieces": {}}
        elif kind == "content_block_delta":
            block = blocks.setdefault(place(event, "index"), {"pieces": {}})
            delta = mapping(event, "delta")
            for key in ("text", "thinking", "partial_json"):
                _add(block["pieces"], key, delta.get(key))
        elif kind == "message_delta":
            _keep(body, mapping(event, "delta"))
            _keep(body, {"usage": mapping(event, "usage")})
    body["content"] = [_anthropic_block(block) for block in blocks.values()]
    return body


def _anthropic_block(block: Joined) -> Joined:
    pieces = block.pop("pieces")
    for key in ("text", "thinking"):
        if key in pieces:
            block[key] = (block.get(key) or "") + "".join(pieces[key])
    if "partial_json" in pieces:
        block["input"] = "".join(pieces["partial_json"])
    return block


def _gemini(events: Sequence[Event]) -> Joined:
    body: Joined = {}
    parts: list[Any] = []
    last: Joined = {}
    for event in events:
        candidate: Event = next(mappings(event, "candidates"), {})
        _keep(body, event, ("candidates",))
        _keep(last, candidate, ("content",))
        for part in mappings(candidate, "content", "parts"):
            _gemini_part(parts, part)
    for part in parts:
        part.pop("open", None)
    return {**body, "candidates": [{**last, "content": {"parts": parts}}]}


def _gemini_part(parts: list[Any], part: Event) -> None:
    call = get(part, "function_call")
    if not isinstance(call, Mapping):
        parts.append(dict(part))
        return
    if text(call, "name"):
        parts.append({**part, "functionCall": {**call, "args": dict(mapping(call, "args"))}, "open": True})
        return
    if parts and parts[-1].get("open"):  # the call before goes on
        for piece in mappings(call, "partial_args"):
            _put(parts[-1]["functionCall"]["args"], text(piece, "json_path") or "", piece)


def _put(arguments: Joined, path: str, piece: Event) -> None:
    """Sets what a path such as $.places[0].name names; a text grows."""
    steps = [name or int(index) for name, index in _STEP.findall(path)]
    if not steps or not isinstance(steps[0], str):
        return
    target: Any = arguments
    for step, after in zip(steps, [*steps[1:], None], strict=True):
        if isinstance(step, int):
            if not isinstance(target, list) or step > _LONGEST_LIST:
                return
            target.extend([None] * (step + 1 - len(target)))
        elif not isinstance(target, dict):
            return
        if after is None:
            have = target[step] if isinstance(step, int) else target.get(step)
            value = next((piece[key] for key in piece if key.endswith(("Value", "_value"))), None)
            target[step] = have + value if isinstance(have, str) and isinstance(value, str) else value
            return
        inside = target[step] if isinstance(step, int) else target.get(step)
        if inside is None:
            inside = target[step] = [] if isinstance(after, int) else {}
        target = inside


def _interaction(events: Sequence[Event]) -> Joined:
    body: Joined = {"object": "interaction"}
    steps: dict[Any, Joined] = {}
    usage: Mapping[str, Any] = {}
    for event in events:
        _keep(body, mapping(event, "interaction"))
        usage = mapping(event, "metadata", "usage") or usage
        if event.get("event_type") == "step.start":
            steps[place(event, "index")] = {**mapping(event, "step"), "pieces": {}}
        elif event.get("event_type") == "step.delta":
            delta = mapping(event, "delta")
            pieces = steps.setdefault(place(event, "index"), {"pieces": {}})["pieces"]
            if delta.get("type") == "text":
                _add(pieces, "text", delta.get("text"))
            _add(pieces, "arguments", delta.get("arguments") or delta.get("partial_arguments"))
    for step in steps.values():
        pieces = step.pop("pieces")
        if "text" in pieces:
            step["content"] = [{"type": "text", "text": "".join(pieces["text"])}]
        if "arguments" in pieces and not step.get("arguments"):
            step["arguments"] = "".join(pieces["arguments"])
    if not body.get("steps"):
        body["steps"] = list(steps.values())
    if not body.get("usage") and usage:
        body["usage"] = dict(usage)
    return body


def _converse(events: Sequence[Event]) -> Joined:
    body: Joined = {}
    blocks: dict[Any, Joined] = {}
    for event in events:
        start, delta = mapping(event, "content_block_start"), mapping(event, "content_block_delta")
        if start:
            blocks[place(start, "content_block_index")] = {**mapping(start, "start"), "pieces": {}}
        elif delta:
            pieces = blocks.setdefault(place(delta, "content_block_index"), {"pieces": {}})["pieces"]
            _add(pieces, "text", get(delta, "delta", "text"))
            _add(pieces, "input", get(delta, "delta", "tool_use", "input"))
        _keep(body, mapping(event, "message_stop"))
        _keep(body, mapping(event, "metadata"))
    content = []
    for block in blocks.values():
        pieces = block.pop("pieces")
        if "text" in pieces:
            block["text"] = "".join(pieces["text"])
        if call := mapping(block, "tool_use"):
            block = {"toolUse": {**call, "input": "".join(pieces.get("input", ()))}}
        content.append(block)
    return {"stopReason": "", **body, "output": {"message": {"role": "assistant", "content": content}}}


def _cohere(events: Sequence[Event]) -> Joined:
    body: Joined = {"finish_reason": ""}
    texts: list[str] = []
    calls: dict[Any, Joined] = {}
    for event in events:
        message = mapping(event, "delta", "message")
        if isinstance(piece := get(message, "content", "text"), str):
            texts.append(piece)
        if call := mapping(message, "tool_calls"):
            known = calls.setdefault(place(event, "index"), {"name": [], "arguments": []})
            known["id"] = call.get("id") or known.get("id")
            _add(known, "name", get(call, "function", "name"))
            _add(known, "arguments", get(call, "function", "arguments"))
        if event.get("type") == "message-start":
            _keep(body, event, ("type", "delta"))
        elif event.get("type") == "message-end":
            _keep(body, mapping(event, "delta"))
    content = [{"type": "text", "text": "".join(texts)}] if texts else []
    return {**body, "message": {"content": content, "tool_calls": [_whole_call(call) for call in calls.values()]}}


def _cohere_old(events: Sequence[Event]) -> Joined:
    end: Event = next((each for each in reversed(events) if each.get("event_type") == "stream-end"), {})
    if whole := mapping(end, "response"):
        return {**whole, "finish_reason": whole.get("finish_reason") or end.get("finish_reason")}
    pieces = (each["text"] for each in events if isinstance(each.get("text"), str))
    return {"response_id": get(events[0], "generation_id") or "", "text": "".join(pieces)}


def _ollama(events: Sequence[Event]) -> Joined:
    body: Joined = {}
    said: Joined = {}
    calls: list[Any] = []
    for event in events:
        _keep(body, event, ("message", "response"))
        _add(said, "content", get(event, "message", "content"))
        _add(said, "response", event.get("response"))
        calls += list(mappings(event, "message", "tool_calls"))
    content = "".join(said.get("content", ()))
    return {**body, "response": "".join(said.get("response", ())), "message": {"content": content, "tool_calls": calls}}


def _values(events: Sequence[Event]) -> Joined:
    """Writer's completions: nothing but pieces of text."""
    return {"choices": [{"text": "".join(each["value"] for each in events if isinstance(each.get("value"), str))}]}


def _prediction(events: Sequence[Event]) -> Joined:
    done = any(event.get("event") == "done" for event in events)
    said = [str(event.get("data")) for event in events if event.get("event") == "output"]
    return {"version": "", "urls": {}, "status": "succeeded" if done else "processing", "output": "".join(said)}


def _live(events: Sequence[Event]) -> Joined:
    """Gemini's live sessions: usages are of the turns, and what they add up to is not told."""
    heard = (text(event, "server_content", "output_transcription", "text") or "" for event in events)
    usages = [dict(usage) for event in events if (usage := mapping(event, "usage_metadata"))]
    usage = usages[0] if len(usages) == 1 else {"turns": usages}
    return {"candidates": [{"content": {"parts": [{"text": "".join(heard)}]}}], "usageMetadata": usage}


def _kind(*beginnings: str) -> Callable[[Event], bool]:
    return lambda event: str(event.get("type") or event.get("event_type") or "").startswith(beginnings)


def _names(*names: str) -> Callable[[Event], bool]:
    return lambda event: any(get(event, name) is not None for name in names)


JOINS: tuple[tuple[Callable[[Event], bool], Callable[[Sequence[Event]], Joined]], ...] = (
    (_kind("response."), _responses),
    (_kind("message_start", "content_block", "message_delta"), _anthropic),
    (_kind("interaction.", "step."), _interaction),
    (_kind("message-start", "content-", "tool-", "message-end"), _cohere),
    (_kind("stream-", "text-generation"), _cohere_old),
    (_names("choices"), _chat),
    (_names("server_content", "setup_complete"), _live),
    (_names("candidates", "usage_metadata"), _gemini),
    (_names("message_start", "content_block_start", "content_block_delta", "message_stop"), _converse),
    (lambda event: "done" in event, _ollama),
    (_names("event"), _prediction),
    (lambda event: isinstance(event.get("value"), str), _values),
)


def join(events: Sequence[Event]) -> Joined | None:
    """The whole body of a stream; None where its form is not known."""
    for event in events[:5]:  # the first may be a greeting
        for is_it, together in JOINS:
            if is_it(event):
                return together(events)
    return None
