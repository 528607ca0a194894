"""A captured input or output as the conversation it was, where it is one. Pure functions; texts stay as they came.

Known are the messages of OpenAI and Anthropic, the parts of OpenTelemetry GenAI, and plain texts; what is not known
is shown as JSON, never left out.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

_LISTS = ("messages", "input", "contents")
_TEXTS = ("text", "content", "input_text", "output_text")


class Message(NamedTuple):
    role: str
    text: str  # several lines


def messages_of(value: Any, *, role: str = "") -> list[Message]:
    """The messages in `value`; empty when it is no conversation. `role`: of a message that does not say it."""
    if isinstance(value, dict):
        for name in _LISTS:
            if isinstance(value.get(name), list) and (found := messages_of(value[name])):
                system = value.get("system")
                return [*([Message("system", text_of(system))] if system else []), *found]
        return [_message(value, role)] if _is_message(value) or (role and _has_text(value)) else []
    if isinstance(value, list) and value and all(map(_is_message, value)):
        return [_message(each, role) for each in value]
    return [Message(role, value)] if isinstance(value, str) and role else []


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str) and _has_text(value)


def _has_text(value: dict[str, Any]) -> bool:
    return any(name in value for name in ("content", "parts", "tool_calls"))


def _message(value: dict[str, Any], role: str) -> Message:
    said = [text_of(value[name]) for name in ("content", "parts") if value.get(name) is not None]
    calls = value.get("tool_calls")
    said += [_call_text(call) for call in calls] if isinstance(calls, list) else []
    return Message(str(value.get("role") or role), "\n".join(each for each in said if each))


def _call_text(call: Any) -> str:
    function = call.get("function", call) if isinstance(call, dict) else call
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return _json(call)
    arguments = function.get("arguments", function.get("input", function.get("args", "")))
    return f"→ {function['name']}({arguments if isinstance(arguments, str) else _json(arguments)})"


def text_of(content: Any) -> str:
    """The text of a message's content: a text, or parts of several types."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list):
        return "\n".join(map(text_of, content))
    if not isinstance(content, dict):
        return _json(content)
    kind = content.get("type")
    if kind in ("tool_use", "tool_call", "function_call"):
        return _call_text(content)
    if kind in ("tool_result", "tool_call_response"):
        return text_of(content.get("content", content.get("response", content.get("result"))))
    if set(content) <= {"type", *_TEXTS, "annotations", "cache_control"}:
        for name in _TEXTS:
            if isinstance(content.get(name), str):
                return str(content[name])
    return _json(content)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def payload_text(value: Any) -> str:
    """Any captured value for reading: texts as they are, everything else as indented JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2, default=str)
